# SPDX-License-Identifier: GPL-2.0
"""What both drivers do with each case of the fake device, and the table in the documentation that says so."""

import re
import textwrap
from dataclasses import dataclass

from common import PROJECT, ToolError, say

from harness import fake
from harness.machine import DEBUG, MODULE

PAGE = PROJECT / "Documentation/robustness.rst"
_BEGIN, _END = ".. The table: written by tools/robustness.\n", ".. The end of the table.\n"

_HEAD = """
.. list-table::
   :header-rows: 1
   :widths: 40 15 45

   * - case
     - this driver
     - the C driver
"""

# How a guest dies is decided by the first of these that its log has.
_DEATHS = {
    r"hard LOCKUP": "hard lockup",
    r"soft lockup": "soft lockup",
    r"general protection fault|BUG: unable to handle|BUG: kernel NULL|KASAN: |invalid opcode": "oops",
    r"rcu: INFO: .* stall": "RCU stall",
}
# A lockup or an oops ends the guest.
_WATCHDOG = "oops=panic " + " ".join(
    f"sysctl.kernel.{name}" for name in ("hardlockup_panic=1", "softlockup_panic=1", "watchdog_thresh=6")
)
# What a guest may take that has one dangerous case to run, in seconds
_BOUND = 90
_ON_DEMAND = "unsafe=1 runs it"
_PARAMETERS = {"slow": 1, "sequences": 20}
_DEBUG_SUITES = ("viommu_fake_memory", "viommu_fake_hotplug")
# The C driver ends these otherwise from run to run: CPUs race there, or wait for each other.
_C_BY_CHANCE = ("answers_late", "gone_meanwhile", "random", "stress", "stress_async")
_CHANCE = "by chance; in this run: "


@dataclass(frozen=True)
class Outcome:
    """What a driver does with a case: "passes", "fails", or how it takes the guest down."""

    verdict: str
    why: str = ""


def _outcome(result):
    if result.verdict == "passed":
        return Outcome("passes")
    if result.verdict == "failed":
        return Outcome("fails", next((why for why in result.why if "Expected" not in why), (result.why or [""])[0]))
    return Outcome("is skipped", "; ".join(result.why))


def death(run):
    """How the guest ended, if it did not end well."""
    if run.error is None:
        return None
    for pattern, name in _DEATHS.items():
        if re.search(pattern, run.console):
            return name
    return "hangs"


def _by_chance(case):
    return str(case) in _C_BY_CHANCE


def _flavour(suite):
    return DEBUG if suite in _DEBUG_SUITES else MODULE


def _suites():
    return list(dict.fromkeys(case.suite for case in fake.cases()))


def _survive(directory, suite, driver, parameters):
    """Run a suite that the driver has to survive, unless it does so by chance; returns the results."""
    run = fake.run(
        directory,
        _flavour(suite),
        driver,
        parameters=_PARAMETERS | parameters,
        timeout=600,
        glob=suite,
        command_line=_WATCHDOG,
    )
    by_chance = driver == fake.C_DRIVER and all(_by_chance(case) for case in fake.cases() if case.suite == suite)
    if run.error and not by_chance:
        raise ToolError(f"{driver} did not survive {suite}: {run.error}")
    return run


def _one_dangerous(directory, driver, case, number, position):
    """Run one of a case's parameters in a guest of its own. Returns the outcome."""
    run = fake.run(
        directory,
        _flavour(case.suite),
        driver,
        parameters=_PARAMETERS | {"unsafe_nth": number},
        timeout=_BOUND,
        glob=f"{case.suite}.{case.name}",
        command_line=_WATCHDOG,
    )
    results, end = run.of(case), death(run)
    if len(results) <= position:
        return Outcome(end or "does not run")
    outcome = _outcome(results[position])
    return Outcome(f"{outcome.verdict}, then {end}", outcome.why) if end else outcome


def survey(directory, driver):
    """All outcomes of a driver: for each case, parameter (or None) to Outcome."""
    found = {}
    for suite in _suites():
        dangerous = driver == fake.C_DRIVER
        say(f"{driver}: {suite}")
        run = _survive(directory / suite, suite, driver, {"unsafe": 0 if dangerous else 1})
        for case in (case for case in fake.cases() if case.suite == suite):
            found[case] = {}
            number = 0
            # What its suite's guest did not live to run gets another guest.
            for position, result in enumerate(run.of(case) or [fake.Result(case, None, "skipped", [_ON_DEMAND])]):
                outcome = _outcome(result)
                if _ON_DEMAND in outcome.why:
                    number += 1
                    outcome = _one_dangerous(directory / f"{case}-{number}", driver, case, number, position)
                    say(f"{case}, {result.parameter}: {outcome.verdict}")
                found[case][result.parameter] = outcome
    return found


def _names(parameters, everything):
    """Names for parameters. Where they are "request: answer", the requests that have the same answer together."""
    if not all(": " in name for name in everything):
        return "; ".join(parameters)
    pairs = [name.split(": ", 1) for name in parameters]
    requests = dict.fromkeys(name.split(": ", 1)[0] for name in everything)
    answers = {}
    for request, answer in pairs:
        answers.setdefault(answer, []).append(request)
    return "; ".join(
        answer if len(found) == len(requests) else f"{answer} ({', '.join(found)})" for answer, found in answers.items()
    )


def _cell(outcomes, by_chance=False):
    """What the table says of a driver and a case, as paragraphs. What is by chance is one: verdicts() relies on it."""
    groups = {}
    for parameter, outcome in outcomes.items():
        group = groups.setdefault(outcome.verdict, ([], outcome.why))
        group[0].append(parameter)
    paragraphs = []
    for verdict, (parameters, why) in sorted(groups.items(), key=lambda group: group[0] != "passes"):
        count = f" ({len(parameters)})" if len(outcomes) > 1 else ""
        names = f": {_names(parameters, outcomes)}" if len(groups) > 1 and verdict != "passes" else ""
        example = f" -- ``{why}``" if why else ""
        paragraphs.append(f"{verdict}{count}" if by_chance else f"{verdict}{count}{names}{example}")
    return [_CHANCE + ", ".join(paragraphs)] if by_chance else paragraphs


def _row(case, about, rust, c):
    """A row of a list-table."""
    columns = [[f"``{case}``", about], _cell(rust), _cell(c, _by_chance(case))]
    lines = []
    for column, paragraphs in enumerate(columns):
        for number, paragraph in enumerate(paragraphs):
            first = ("* - " if column == 0 else "  - ") if number == 0 else "    "
            wrapped = textwrap.wrap(paragraph, 84, break_long_words=False, break_on_hyphens=False)
            lines += ["", f"   {first}{wrapped[0]}"] if number else [f"   {first}{wrapped[0]}"]
            lines += [f"       {line}" for line in wrapped[1:]]
    return "\n".join(lines) + "\n"


def table(rust, c):
    """The table, as reStructuredText."""
    rows = "".join(_row(case, about, rust[case], c[case]) for case, about in fake.cases().items())
    return f"{_HEAD}{rows}\n"


def written():
    """The table as the page has it."""
    return PAGE.read_text(encoding="utf-8").split(_BEGIN)[1].split(_END)[0]


def write(text):
    before, rest = PAGE.read_text(encoding="utf-8").split(_BEGIN)
    PAGE.write_text(before + _BEGIN + text + _END + rest.split(_END)[1], encoding="utf-8")


def verdicts(text):
    """A table without what may differ from run to run: examples of what is said when a case fails, and chance."""
    text = re.sub(r" -- ``[^`]*``", "", " ".join(text.split()))
    return re.sub(rf"(?<={_CHANCE}).*?(?= \* - |$)", "", text)
