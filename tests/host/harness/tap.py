# SPDX-License-Identifier: GPL-2.0
"""Reading the results of tests in the TAP of the kernel's selftests and in the KTAP of KUnit."""

import re
from dataclasses import dataclass, field

_CASE = re.compile(r"^( *)(not ok|ok) (\d+)(?: -)? ?(.*?)(?: *# (SKIP|XFAIL|TODO)\b.*)?$")
_PLAN = re.compile(r"^( *)1\.\.(\d+)")
_BAIL = re.compile(r"^ *Bail out!")


@dataclass
class Case:
    """One test, or a suite of them."""

    name: str
    ok: bool
    directive: str | None
    depth: int
    comments: list = field(default_factory=list)


@dataclass
class Report:
    """All results of one run, inner ones before the suite they are part of."""

    cases: list
    planned: int | None
    bailed_out: bool

    @property
    def outermost(self):
        return [case for case in self.cases if case.depth == 0]

    @property
    def failed(self):
        return [case for case in self.cases if not case.ok]

    @property
    def passed(self):
        """Complete, without a failure, and with at least one test that was not skipped."""
        return (
            not self.failed
            and not self.bailed_out
            and self.planned == len(self.outermost)
            and any(case.directive != "SKIP" for case in self.cases)
        )

    def comments(self):
        return [comment for case in self.cases for comment in case.comments]


def parse(text):
    """Read the lines that are TAP; others are passed over. KUnit indents by four spaces per level."""
    cases, comments, planned, bailed_out = [], [], None, False
    for line in text.splitlines():
        if found := _CASE.match(line):
            indent, result, _, name, directive = found.groups()
            cases.append(Case(name.strip(), result == "ok", directive, len(indent) // 4, comments))
            comments = []
        elif (found := _PLAN.match(line)) and not found.group(1):
            planned = int(found.group(2))
        elif _BAIL.match(line):
            bailed_out = True
        elif line.lstrip().startswith("#"):
            comments.append(line.strip())
    if comments and cases:
        cases[-1].comments.extend(comments)
    return Report(cases, planned, bailed_out)
