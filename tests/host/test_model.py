# SPDX-License-Identifier: GPL-2.0
"""The request engine under a model checker: see tests/hosted/model."""

import pytest
from harness import hosted

PATIENCE_SECONDS = 240

# How often each scenario runs, each time in another order of events.
SCENARIOS = {
    "map_and_unmap": 600,
    "one_domain": 600,
    "refused_maps": 600,
    "outdated_refusals": 600,
    "refused_unmaps": 600,
    "many_refusals": 30,
    "calls": 600,
    "interrupts": 300,
    "smallest_ring": 600,
    "last_endpoint": 1000,
    "denied_but_there": 100,
    "all_leave": 300,
    "broken": 600,
    "reset": 600,
    "reset_while_collecting": 2000,
    # The driver looks at the device ten thousand times before it gives up.
    "silent": 3,
    "late": 10,
    "end_of_silence": 20,
    "refused_at_the_end": 20,
    "end_of_shortage": 20,
    "nonsense": 600,
    "unmappable": 400,
    "unmappable_for_long": 3,
    # Of the model itself
    "messages_arrive": 1000,
    "loads_are_weak": 20,
    "interrupts_respect_locks": 500,
}

# The exit status of the program when the source has no place for a mutant any more.
NOT_APPLICABLE = 77

# Errors in the engine, and the scenario that has to notice.
MUTANTS = {
    "owed-notification": "interrupts",
    "early-sync": "map_and_unmap",
    "early-progress": "map_and_unmap",
    "unnotified": "map_and_unmap",
    "forgotten-kick": "map_and_unmap",
    "any-answer": "reset",
    "no-turns": "calls",
    "slot-kept": "calls",
    "unnoticed-break": "broken",
    "no-end": "silent",
    "impatient": "late",
    "forgiven-early": "late",
    "never-forgiven": "late",
    "mapped-late": "late",
    "refused-late": "late",
    "unmapped-never": "late",
    "unbarred": "late",
    "endless-end": "end_of_silence",
    "numbers-restart": "reset",
    "unforgiven": "last_endpoint",
    "forgets-early": "last_endpoint",
    "believed": "denied_but_there",
    "believed-map": "denied_but_there",
    "hasty-end": "all_leave",
    "lost-report": "refused_at_the_end",
    "hot-loop": "end_of_shortage",
    "endless-shortage": "end_of_shortage",
    "one-ring-full": "all_leave",
    "silent-end": "all_leave",
    "unforgiven-end": "all_leave",
    "lost-failure": "refused_maps",
    "lost-stale": "refused_unmaps",
    "never-outdated": "outdated_refusals",
    "told-twice": "refused_maps",
    "uncounted": "refused_maps",
    "common-account": "refused_unmaps",
    "no-cover": "many_refusals",
    "hope-for-ever": "unmappable_for_long",
    "no-hope": "unmappable",
}

# Errors in what the engine builds on, and the same.
DEFECTS = {
    "notify-lost": "map_and_unmap",
    "break-hidden": "broken",
    "clock-stands": "silent",
    "acquire-ignored": "messages_arrive",
    "early-pop": "map_and_unmap",
}


def model(*words):
    return hosted.run("model", *words, timeout=PATIENCE_SECONDS)


def assert_found(status, printed):
    assert status == 1, f"not found to be wrong:\n{printed}"
    assert "FAILED with --seed" in printed, printed


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_scenario(scenario):
    status, printed = model(scenario, "--runs", SCENARIOS[scenario])
    assert status == 0, f"to run it again: model {scenario} --runs 1 --seed N, with the seed below\n{printed}"


@pytest.mark.long
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_scenario_at_length(scenario):
    status, printed = model(scenario, "--runs", 30 * SCENARIOS[scenario], "--seed", 1_000_000)
    assert status == 0, f"to run it again: model {scenario} --runs 1 --seed N, with the seed below\n{printed}"


@pytest.mark.parametrize("mutant", MUTANTS)
def test_wrong_engine_is_found(mutant):
    status, printed = model(MUTANTS[mutant], "--mutant", mutant, "--runs", 3000)
    assert status != NOT_APPLICABLE, "the source has changed: adapt tests/hosted/model/src/mutants.rs"
    assert_found(status, printed)


@pytest.mark.parametrize("defect", DEFECTS)
def test_wrong_world_is_found(defect):
    assert_found(*model(DEFECTS[defect], "--defect", defect, "--runs", 3000))


def test_nothing_is_left_out():
    _, printed = model("--list")
    listed = set(printed.splitlines())
    here = {f"scenario {name}" for name in SCENARIOS}
    here |= {f"mutant {name}" for name in MUTANTS} | {f"defect {name}" for name in DEFECTS}
    assert listed == here
