# SPDX-License-Identifier: GPL-2.0
"""Documentation/soundness.rst has a line for each public function, and types stop what it says that they stop."""

import os
import re
import shlex
import subprocess
from functools import cache

import pytest
from harness import images

from common import PROJECT

DOCUMENT = PROJECT / "Documentation/soundness.rst"
SOURCES = [
    *(PROJECT / "rust/kernel").glob("*.rs"),
    *(PROJECT / "rust/kernel/virtio").rglob("*.rs"),
    *(PROJECT / "rust/kernel/iommu").rglob("*.rs"),
]
# Safe code of others uses nothing of the tests.
SOURCES = [path for path in SOURCES if path.name != "tests.rs"]
SNIPPETS = PROJECT / "tests/hosted/compile_fail"

OWNER = re.compile(r"^(?:impl(?:<[^{]*?>)? (?:\w+ for )?|pub (?:unsafe )?trait )(\w+)")
DESTRUCTOR = re.compile(r"^impl(?:<[^{]*?>)? (?:Pinned)?Drop for (\w+)")
FUNCTION = re.compile(r"^(    )?(pub )?(?:const )?(?:unsafe )?fn (\w+)")
MACRO = re.compile(r"^macro_rules! (\w+)")


def area(path):
    """The part of the kernel crate that a file belongs to, with which the headings of its lines begin."""
    return path.relative_to(PROJECT / "rust/kernel").parts[0].removesuffix(".rs")


def public_functions():
    """Type::function for each public one, Trait::function for each of a public trait, and exported macros.

    Type::drop also for a private type: what safe code lets go of may have one in it.
    """
    found = []
    for path in SOURCES:
        owner, in_trait, exported = None, False, False
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith("}"):
                owner, in_trait = None, False
            elif match := DESTRUCTOR.match(line):
                found.append((area(path), f"{match.group(1)}::drop"))
            elif match := OWNER.match(line):
                owner, in_trait = match.group(1), "trait " in line.split("{", maxsplit=1)[0]
                in_trait = in_trait and " for " not in line
            elif match := FUNCTION.match(line):
                indented, public, name = match.groups()
                if owner and indented and (public or in_trait):
                    found.append((area(path), f"{owner}::{name}"))
                elif not indented and public:
                    found.append((area(path), name))
            elif exported and (match := MACRO.match(line)):
                found.append((area(path), f"{match.group(1)}!"))
            exported = line.strip() == "#[macro_export]"
    return found


def documented():
    """The terms of the document's definition lists, with the area that the heading above begins with."""
    text = DOCUMENT.read_text(encoding="utf-8")
    heading = re.compile(r"^(\w+)\b.*\n===+$", re.M)
    starts = list(heading.finditer(text))
    found = []
    for this, following in zip(starts, [*starts[1:], None], strict=True):
        section = text[this.end() : following.start() if following else None]
        for term in re.findall(r"^((?:``[\w:!]+``(?:, )?)+)\n   \S", section, re.M):
            found += [(this.group(1), name) for name in re.findall(r"``([\w:!]+)``", term)]
    return found


def test_functions_are_found():
    """The search above does find some, of each kind, and tells those apart that have the same name."""
    assert set(public_functions()) >= {
        ("virtio", "Virtqueue::add"),
        ("virtio", "module_virtio_driver!"),
        ("virtio", "ConfigField::new"),
        ("virtio", "Driver::probe"),
        ("virtio", "Queues::drop"),
        ("iommu", "Domain::map"),
        ("iommu", "Driver::probe"),
        ("iommu", "IommuDevice::drop"),
        ("device_link", "DeviceLink::drop"),
    }


def test_each_public_function_is_reviewed():
    missing = set(public_functions()) - set(documented())
    assert not missing, f"Documentation/soundness.rst has no line for {sorted(missing)}"


def test_no_line_is_stale():
    stale = set(documented()) - set(public_functions())
    assert not stale, f"Documentation/soundness.rst has lines for {sorted(stale)}, which do not exist"


@pytest.mark.parametrize("names", [public_functions(), documented()], ids=["functions", "lines"])
def test_names_are_unique(names):
    """No line stands for two functions, and no function has two lines."""
    twice = {name for name in names if names.count(name) > 1}
    assert not twice, f"more than once: {sorted(twice)}"


@cache
def compiler():
    """The command that compiled the driver, and the directory and environment that it needs."""
    objects = (images.kernel().parent / "obj").resolve()
    recorded = (objects / "drivers/iommu/virtio/.virtio_iommu.o.cmd").read_text(encoding="utf-8")
    words = shlex.split(recorded.splitlines()[0].split(":=", maxsplit=1)[1].split(" ; ", maxsplit=1)[0])
    start = next(i for i, word in enumerate(words) if os.path.basename(word) in ("rustc", "clippy-driver"))
    variables = dict(word.split("=", 1) for word in words[:start])
    dropped = ("--emit", "--out-dir", "-Dwarnings", "drivers/iommu/virtio/", "--remap-path-scope")
    command = [word for word in words[start:] if not word.startswith(dropped) and not word.endswith("virtio_iommu.rs")]
    return command, objects, os.environ | variables | {"RUSTC_BOOTSTRAP": "1"}


def compile_snippet(source, directory, *flags):
    """What the compiler says of a program that uses the abstractions."""
    file = directory / "snippet.rs"
    file.write_text(source, encoding="utf-8")
    command, objects, environment = compiler()
    output = f"--emit=metadata={directory}/snippet.rmeta"
    command = [*command, "-Awarnings", "--crate-name=snippet", *flags, output, file]
    options = {"capture_output": True, "text": True, "timeout": 120, "check": False}
    said = subprocess.run(command, cwd=objects, env=environment, **options)
    return said.returncode, said.stderr


@pytest.mark.parametrize("snippet", sorted(SNIPPETS.glob("*.rs")), ids=lambda path: path.stem)
def test_types_stop_it(snippet, tmp_path):
    """A snippet compiles, but not with what it has under cfg(wrong), and then for the reason that it names."""
    source = snippet.read_text(encoding="utf-8")
    expected = re.search(r"^// Error: (.+)$", source, re.M).group(1)
    status, said = compile_snippet(source, tmp_path)
    assert status == 0, f"without the mistake:\n{said}"
    status, said = compile_snippet(source, tmp_path, "--cfg=wrong")
    assert status != 0, "it compiles with the mistake"
    assert expected in said, f"for another reason:\n{said}"
