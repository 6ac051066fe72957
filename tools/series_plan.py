# SPDX-License-Identifier: GPL-2.0
"""What each patch of the series holds, as tools/series.d/ says: worked out here, written by tools/series.

A patch gets whole files. Some files list others, of which a part comes with later patches: the root of a Rust
module, a Makefile, a table of contents. Until these are there, such a file is without the lines that name them,
so that what there is builds.
"""

import fnmatch
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from common import PROJECT, ToolError
from integration import insertions, join_lines, planned, pristine

PARTS = PROJECT / "tools/series.d"
# More than this in one patch is more than is read in one go.
MOST_LINES = 800
WIDTH = 75

UNFINISHED = '#![expect(dead_code, reason = "what calls it comes with the next patches")]'


@dataclass
class Patch:
    name: str
    message: str
    globs: list
    # Pages that it begins, and the heading at which the patch that takes the page goes on
    begins: dict
    # What it writes: path in the tree to content
    files: dict = field(default_factory=dict)

    @property
    def subject(self):
        return self.message.split("\n", maxsplit=1)[0]

    def takes(self, name):
        return any(fnmatch.fnmatchcase(name, glob) for glob in self.globs)


def described():
    """The patches as tools/series.d/ describes them, in their order."""
    patches = []
    for part in sorted(PARTS.glob("*.toml")):
        for table in tomllib.loads(part.read_text(encoding="utf-8"))["patch"]:
            message = table["message"].strip() + "\n"
            patches.append(Patch(table["name"], message, table.get("files", []), table.get("begins", {})))
    return patches


def _faults(patches):
    """What is wrong with the descriptions."""
    names = [patch.name for patch in patches]
    yield from (f"two patches are named {name}" for name in sorted(set(names)) if names.count(name) > 1)
    for patch in patches:
        lines = patch.message.split("\n")
        if len(lines) < 3 or lines[1]:
            yield f"patch {patch.name}: after the subject comes an empty line, and then why"
        yield from (f"patch {patch.name}: more than {WIDTH} columns: {line}" for line in lines if len(line) > WIDTH)
    wanted = {insertion.patch for insertion in insertions() if insertion.patch}
    yield from (f"insertions.toml: there is no patch {name} in tools/series.d/" for name in sorted(wanted - set(names)))


def raise_if(faults):
    if faults:
        raise ToolError("the series is not fit to be sent; see tools/series.d/:\n  " + "\n  ".join(faults))


# --- Files that list others ------------------------------------------------------------------------------


def _without_examples(text):
    """Without the examples in the documentation, which use what is not there yet."""
    kept, lines = [], text.split("\n")
    while lines:
        if not re.match(r"\s*//[/!] # Examples?$", lines[0]):
            kept.append(lines.pop(0))
            continue
        # The section ends with the last fence before another heading, or the end of the comment.
        end, fenced = 0, False
        for i, line in enumerate(lines):
            if not re.match(r"\s*//[/!]", line) or (i and not fenced and re.match(r"\s*//[/!] # ", line)):
                break
            if re.match(r"\s*//[/!] ```", line):
                fenced, end = not fenced, i
        del lines[: end + 1]
        if kept and re.fullmatch(r"\s*//[/!]", kept[-1]):
            kept.pop()
    return "\n".join(kept)


def _without_modules(text, modules):
    """A Rust file without the declarations of submodules, and what is reexported from them."""
    for name in modules:
        text = re.sub(rf"^(#\[cfg[^\n]*\n)*mod {name};\n", "", text, flags=re.M)
        text = re.sub(rf"^pub use self::{name}::(\w+|\{{[^}}]*\}});\n", "", text, flags=re.M)
        text = re.sub(rf"^    {name}::(\w+|\{{[^}}]*\}}),( //)?\n", "", text, flags=re.M)
    # The comment that keeps rustfmt from joining lines, behind what is the last one now
    return re.sub(r",\n\};", ", //\n};", text)


def _rust_root(path, text, later):
    """The root of a Rust module of which some files come later, or of which the root itself does."""
    folder = path.parent if path.name == "mod.rs" else path.with_suffix("")
    declared = re.findall(r"^mod (\w+);$", text, re.M)
    modules = [
        name for name in declared if later & {str(folder / f"{name}.rs"), str(folder / name / "mod.rs")}
    ]
    if not modules and str(path) not in later:
        return text
    text = _without_examples(_without_modules(text, modules))
    documentation = re.match(r"(//[^\n]*\n|\n(?=//!))*", text).group()
    if str(path) not in later:
        return text.replace(documentation, f"{documentation}\n{UNFINISHED}\n", 1)
    # The root comes later: what it is, and what there is in it.
    documentation = re.split(r"^//! # ", documentation, maxsplit=1, flags=re.M)[0].removesuffix("//!\n")
    inner = re.findall(r"^(?:(?:#\[cfg[^\n]*\n)*mod \w+;\n)+", text, re.M)
    exported = re.findall(r"^pub use self::.*?;\n", text, re.M | re.S)
    return "\n".join([documentation, f"{UNFINISHED}\n", *inner, *exported])


def _makefile(path, text, later):
    """A Makefile without the lines that name objects, programs or sources that come later."""

    def is_later(word):
        word = word.removeprefix("$(OUTPUT)/").removesuffix(":")
        names = {word, f"{word.removesuffix('.o')}.c"} if "." not in word or word.endswith(".o") else {word}
        return any(str(path.parent / name) in later for name in names)

    paragraphs = []
    for paragraph in text.rstrip("\n").split("\n\n"):
        lines = paragraph.split("\n")
        kept = [line for line in lines if not any(map(is_later, line.split()))]
        # A heading whose lines have all gone goes, too.
        if kept == lines or not all(line.startswith("#") for line in kept):
            paragraphs.append("\n".join(kept))
    return "\n\n".join(paragraphs) + "\n"


def _contents(path, text, later):
    """A page without the entries of its table of contents that come later."""

    def kept(entry):
        return "" if str(path.parent / f"{entry[1]}.rst") in later else entry[0]

    return re.sub(r"^   (\S+)\n", kept, text, flags=re.M)


def at_that_time(name, content, later):
    """A file as it is while others are still to come; None if it is not there at all."""
    path = PurePosixPath(name)
    is_root = name.startswith("rust/kernel/") and path.suffix == ".rs"
    if name in later and not is_root:
        return None
    way = {"Makefile": _makefile, "index.rst": _contents}.get(path.name, _rust_root if is_root else None)
    if not way:
        return content
    text = content.decode()
    text = way(path, text, later)
    # Before its own patch, a root is there as soon as there is something in it.
    return text.encode() if name not in later or re.search(r"^mod ", text, re.M) else None


def beginning(name, content, heading):
    """A page up to a heading."""
    first, found, _ = content.partition(f"\n{heading}\n===".encode())
    raise_if([] if found else [f"{name} has no heading '{heading}'"])
    return first


# --- Which patch has what --------------------------------------------------------------------------------


def _owners(patches, names):
    """For each file of the project the index of its patch, and what is wrong with that."""
    owners, faults = {}, []
    for name in names:
        index = next((i for i, patch in enumerate(patches) if patch.takes(name)), None)
        if index is None:
            faults.append(f"no patch takes {name}: add it to one")
        else:
            owners[name] = index
    return owners, faults


def plan(tree):
    """The pristine content of the files that the series touches, and the patches with what each writes."""
    patches, before = described(), pristine(tree)
    files, manifest = planned(tree, before)
    owners, faults = _owners(patches, manifest["files"])
    raise_if([*_faults(patches), *faults])
    # What an insertion stands for is in rust/, and has the same name in the tree.
    places = {patch.name: index for index, patch in enumerate(patches)}
    edits = [(places[edit.patch] if edit.patch else owners[edit.source], edit) for edit in insertions()]
    base = {name: before.get(name) or (tree / name).read_bytes() for name in {edit.file for _, edit in edits}}

    now, lines = dict(base), {name: content.decode().split("\n") for name, content in base.items()}
    for index, patch in enumerate(patches):
        later = {name for name, owner in owners.items() if owner > index}
        state = {name: at_that_time(name, files[name], later) for name in owners}
        for name, heading in patch.begins.items():
            state[name] = beginning(name, files[name], heading)
        for place, edit in edits:
            if place == index:
                edit.apply(lines[edit.file])
                state[edit.file] = join_lines(lines[edit.file])
        patch.files = {name: text for name, text in state.items() if text is not None and text != now.get(name)}
        now |= patch.files
    raise_if([f"patch {patch.name} is empty: no file matches its globs" for patch in patches if not patch.files])
    wrong = [name for name in sorted(now) if now[name] != files[name]]
    raise_if([f"{name} is not complete after the last patch" for name in wrong])
    return base, patches
