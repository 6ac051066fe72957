# SPDX-License-Identifier: GPL-2.0
"""Which modules of the driver may import which: each only from the rooms below its own."""

import re
from graphlib import CycleError, TopologicalSorter

# The rooms, from the top to the bottom. A file, or a folder, of viommu/; uapi is below all of them.
ROOMS = (
    "iommu_ops",
    "debugfs",
    "endpoint",
    "iommu",
    "outside",
    "attached",
    "domain",
    "probe",
    "reserved",
    "device",
    "events",
    "endpoint_table",
    "engine",
    "domain_ids",
    "bypass",
    "config",
    "spans",
)

# What a room may use of the driver's root: the module that it is a part of.
ROOT = {"DriverModule"}


def code_of(source):
    """The source without comments and tests."""
    code = source.split("\n#[cfg(CONFIG_VIRTIO_IOMMU_RUST_KUNIT_TEST)]")[0]
    return "\n".join(line.split("//")[0] for line in code.splitlines())


def expand(tree):
    """The paths that a tree of imports names: `a::{b, c::{self, d}}` is a::b, a::c::self and a::c::d."""
    tree = tree.strip()
    brace = tree.find("{")
    if brace < 0:
        return [tree.split(" as ")[0].strip()] if tree else []
    prefix, inner, depth, start, paths = tree[:brace], tree[brace + 1 : tree.rindex("}")], 0, 0, []
    for at, char in enumerate(inner + ","):
        depth += {"{": 1, "}": -1}.get(char, 0)
        if char == "," and depth == 0:
            paths += [prefix + path for path in expand(inner[start:at])]
            start = at + 1
    return paths


def imports(source):
    """The paths of the driver that a file uses, in `use` and in its code."""
    code = code_of(source)
    uses = re.findall(r"\buse\s+([^;]+);", code)
    paths = [path for use in uses for path in expand(re.sub(r"\s+", "", use.replace(" as ", "\0")).split("\0")[0])]
    paths += re.findall(r"\b(?:crate|super)(?:::\w+)+", re.sub(r"\buse\s+[^;]+;", "", code))
    return [path.split("::") for path in paths if path.split("::")[0] in ("crate", "super", "self")]


def module_of(path, root):
    """What module a file is, from the root of the driver on."""
    parts = path.relative_to(root).with_suffix("").parts
    return parts[:-1] if parts[-1] == "mod" else parts


def absolute(module, path):
    """The module path from the driver's root on that `path` names in `module`."""
    base = () if path[0] == "crate" else module
    rest = path[1:] if path[0] in ("crate", "self") else path
    while rest and rest[0] == "super":
        base, rest = base[:-1], rest[1:]
    return base + tuple(rest)


def check(root):
    """Complaints about imports that go up, or round."""
    files = sorted(root.glob("viommu/**/*.rs")) + sorted(root.glob("uapi/*.rs"))
    complaints, siblings = [], {}
    for path in files:
        module, name = module_of(path, root), path.relative_to(root)
        if module == ("viommu",) or "tests" in module:
            continue
        siblings.setdefault(module[:2], {}).setdefault(module[2:3], set())
        if module[0] == "viommu" and module[1] not in ROOMS:
            complaints.append(f"{name}: a room that tools/rooms.py does not know: where does it belong?")
            continue
        for used in imports(path.read_text(encoding="utf-8")):
            target = absolute(module, used)
            if not target or target[0] in ROOT or (target[0] == "uapi" and module[0] == "viommu"):
                continue
            if target[0] != module[0]:
                complaints.append(f"{name}: must not import {'::'.join(target)}")
            elif module[0] == "viommu" and len(target) > 1 and target[1] in ROOMS and target[1] != module[1]:
                if ROOMS.index(target[1]) < ROOMS.index(module[1]):
                    complaints.append(f"{name}: {module[1]} must not import {'::'.join(target[1:])}, which is above it")
            elif target[:2] == module[:2] and len(module) > 2 and len(target) > 2 and target[2] != module[2]:
                siblings[module[:2]][module[2:3]].add(target[2:3])
    for room, graph in siblings.items():
        known = {file: {other for other in others if other in graph} for file, others in graph.items()}
        try:
            list(TopologicalSorter(known).static_order())
        except CycleError as error:
            circle = " -> ".join(name for name, *_ in error.args[1])
            complaints.append(f"{'/'.join(room)}/: files import each other: {circle}")
    return complaints
