# SPDX-License-Identifier: GPL-2.0
"""The table of Documentation/robustness.rst says what both drivers do with each case of the fake device."""

import pytest
from harness import fake, robustness
from qemu import GuestError

DRIVERS = (fake.RUST_DRIVER, fake.C_DRIVER)


def test_page_has_a_row_for_every_case():
    missing = [str(case) for case in fake.cases() if f"* - ``{case}``" not in robustness.written()]
    assert not missing, f"{robustness.PAGE} lacks {missing}: run `make robustness`"


@pytest.mark.parametrize(
    "driver, name, same",
    [
        (fake.C_DRIVER, "gone_meanwhile", True),
        (fake.C_DRIVER, "gone_idle", False),
        (fake.C_DRIVER, "gone_suspend", False),
        (fake.RUST_DRIVER, "gone_meanwhile", False),
    ],
)
def test_comparison_leaves_open_what_the_c_driver_does_by_chance(driver, name, same):
    def table(verdict):
        outcomes = {each: dict.fromkeys(fake.cases(), {None: robustness.Outcome("passes")}) for each in DRIVERS}
        case = next(case for case in fake.cases() if str(case) == name)
        outcomes[driver][case] = {"a": robustness.Outcome(verdict), "b": robustness.Outcome("oops", "why")}
        return robustness.table(*outcomes.values())

    one, other = table("hangs"), table("hard lockup")
    assert one != other
    assert (robustness.verdicts(one) == robustness.verdicts(other)) == same


def test_case_that_its_suite_did_not_live_to_gets_a_guest_of_its_own(monkeypatch, tmp_path):
    suite = "viommu_fake_stress"
    first, second = cases = [case for case in fake.cases() if case.suite == suite]
    guests = []

    def run(directory, flavour, driver, *, glob, **options):
        guests.append((driver, glob))
        if glob == suite and driver == fake.C_DRIVER:
            return fake.Run(f"    # Subtest: {suite}\n    ok 1 {first.name}\nhard LOCKUP", GuestError("it died"))
        alone = glob.removeprefix(f"{suite}.")
        ran = [case.name for case in cases if alone in (suite, case.name)]
        return fake.Run("\n".join([f"    # Subtest: {suite}", *(f"    not ok 1 {name}" for name in ran)]), None)

    monkeypatch.setattr(fake, "cases", lambda: dict.fromkeys(cases, ""))
    monkeypatch.setattr(fake, "run", run)

    failed = robustness.Outcome("fails")
    assert robustness.survey(tmp_path, fake.RUST_DRIVER) == {first: {None: failed}, second: {None: failed}}
    assert guests == [(fake.RUST_DRIVER, suite)]
    guests.clear()
    assert robustness.survey(tmp_path, fake.C_DRIVER) == {
        first: {None: robustness.Outcome("passes")},
        second: {None: failed},
    }
    assert guests == [(fake.C_DRIVER, suite), (fake.C_DRIVER, f"{suite}.{second.name}")]


@pytest.mark.long
def test_page_says_what_both_drivers_do(tmp_path):
    outcomes = [robustness.survey(tmp_path / driver, driver) for driver in DRIVERS]
    table = robustness.table(*outcomes)
    same = robustness.verdicts(table) == robustness.verdicts(robustness.written())
    assert same, f"{robustness.PAGE} is out of date: run `make robustness`. It should have\n{table}"
