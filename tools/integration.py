# SPDX-License-Identifier: GPL-2.0
"""What this project puts into a kernel tree, as insertions.toml says: worked out here, written by its users.

A set of files is a map of path in the tree to content; content None means that there is no such file.
"""

import hashlib
import json
import re
import tomllib
from dataclasses import dataclass
from pathlib import Path

from common import PROJECT, ToolError

MANIFEST = ".virtio-iommu-rust.manifest"


@dataclass(frozen=True)
class Insertion:
    """Lines for an existing file: where, what, and for which file of the project (None: for all of it)."""

    file: str
    where: str
    anchor: str
    lines: tuple
    patch: str | None
    source: str | None

    def apply(self, text):
        """Insert into a list of lines. Returns what undoes it, or None if there is no such place."""
        new = list(self.lines)
        if any(text[i : i + len(new)] == new for i in range(len(text))):
            return {"file": self.file, "old": new, "new": new}
        if self.where == "instead":
            old = self.anchor.strip("\n").split("\n")
            anchors = [i for i in range(len(text)) if text[i : i + len(old)] == old]
        else:
            anchors = [i for i, line in enumerate(text) if re.search(self.anchor, line)]
            old = [text[anchors[0]]] if anchors and self.where == "replace" else []
        if not anchors or (old and len(anchors) > 1):
            return None
        first = anchors[0]
        if old:
            text[first : first + len(old)] = new
        elif self.where == "after":
            text[first + 1 : first + 1] = new
        else:
            smaller = [i for i in anchors if text[i] < new[-1]]
            at = smaller[-1] + 1 if smaller else first
            text[at:at] = new
        return {"file": self.file, "old": old, "new": new}


def _glob(pattern):
    return sorted(path for path in PROJECT.glob(pattern) if path.is_file())


def table():
    return tomllib.loads((PROJECT / "tools/insertions.toml").read_text(encoding="utf-8"))


def insertions():
    """The insertions that apply to what the project holds at present."""
    for rule in table()["insert"]:
        if "when" in rule and not _glob(rule["when"]):
            continue
        where = next(key for key in ("sorted", "after", "replace", "instead") if key in rule)
        for source in _glob(rule["for_each"]) if "for_each" in rule else [None]:
            text = rule["line"].lstrip("\n")
            if source:
                text = text.replace("{name}", source.name).replace("{stem}", source.stem)
            name = str(source.relative_to(PROJECT)) if source else None
            yield Insertion(rule["file"], where, rule[where], tuple(text.split("\n")), rule.get("patch"), name)


def _kbuild_half(makefile):
    """The part of the project's Makefile that kbuild reads: the front door stays at home."""
    found = re.search(rb"^ifneq \(\$\(KERNELRELEASE\),\)\n(.*?)^else\b", makefile, re.M | re.S)
    if not found:
        raise ToolError("Makefile: no `ifneq ($(KERNELRELEASE),)` ... `else` block for kbuild")
    return b"# SPDX-License-Identifier: GPL-2.0-only\n" + found.group(1)


def whole_files():
    """The files that the project brings along."""
    files = {}
    for rule in table()["copy"]:
        for pattern in rule["from"]:
            base = PROJECT / pattern.split("*", 1)[0] if "*" in pattern else PROJECT
            for source in _glob(pattern):
                content = source.read_bytes()
                if source == PROJECT / "Makefile":
                    content = _kbuild_half(content)
                files[f"{rule['to']}/{source.relative_to(base)}"] = content
    return files


def read_lines(path):
    return path.read_bytes().decode().split("\n")


def join_lines(lines):
    return "\n".join(lines).encode()


def manifest_of(tree):
    """What an earlier integration did to a tree."""
    record = tree / MANIFEST
    if not record.exists():
        return {"files": {}, "edits": []}
    return json.loads(record.read_text(encoding="utf-8"))


def _revert(text, edit):
    """Undo one insertion in a list of lines, if it is still there."""
    old, new = edit["old"], edit["new"]
    if old == new:
        return
    for i in range(len(text)):
        if text[i : i + len(new)] == new:
            text[i : i + len(new)] = old
            return


def pristine(tree):
    """The files that an earlier integration touched, as they were before it."""
    manifest, edited = manifest_of(tree), {}
    for edit in reversed(manifest["edits"]):
        path = tree / edit["file"]
        if path.exists():
            _revert(edited.setdefault(edit["file"], read_lines(path)), edit)
    return {name: join_lines(text) for name, text in edited.items()} | {name: None for name in manifest["files"]}


def planned(tree, before):
    """What a tree is to hold, given its pristine files: the files, and the manifest to record.

    Raises an error that names every insertion without a place, and every file in the way.
    """
    files = whole_files()
    for name in [name for name in files if name not in before and (tree / name).exists()]:
        if (tree / name).read_bytes() != files.pop(name):
            raise ToolError(
                f"{tree / name} exists and is not from this project; nothing was changed. "
                "Give a tree without it, or rename the project's file"
            )

    edited, edits, missing = {}, [], []
    for insertion in insertions():
        name = insertion.file
        if name not in edited:
            if not (tree / name).exists():
                missing.append(f"{name}: there is no such file")
                continue
            text = before.get(name)
            edited[name] = text.decode().split("\n") if text is not None else read_lines(tree / name)
        edit = insertion.apply(edited[name])
        if edit is None:
            place = insertion.anchor.strip().splitlines()[0]
            missing.append(f"{name}: no line matches '{place}', to insert `{insertion.lines[0].strip()}`")
        else:
            edits.append(edit)
    if missing:
        raise ToolError(
            f"{tree} has no place for these insertions, and nothing was changed:\n  "
            + "\n  ".join(dict.fromkeys(missing))
            + "\nUse an unmodified Linux 7.3 tree, or adapt tools/insertions.toml to yours"
        )
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())}
    content = {name: join_lines(text) for name, text in edited.items()}
    return before | content | files, {"files": digests, "edits": edits}


def write(tree, files):
    """Bring files to their wanted content. Directories that get empty go."""
    for name, wanted in files.items():
        path = Path(tree) / name
        if wanted is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(wanted)
            if wanted.startswith(b"#!"):
                path.chmod(0o755)
            continue
        path.unlink(missing_ok=True)
        for parent in path.parents:
            if parent == tree or not parent.is_dir() or any(parent.iterdir()):
                break
            parent.rmdir()


def differs(path, wanted):
    return path.exists() if wanted is None else not path.exists() or path.read_bytes() != wanted
