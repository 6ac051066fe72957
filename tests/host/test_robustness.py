# SPDX-License-Identifier: GPL-2.0
"""The table of Documentation/robustness.rst says what both drivers do with each case of the fake device."""

import pytest
from harness import fake, robustness


def test_page_has_a_row_for_every_case():
    missing = [str(case) for case in fake.cases() if f"* - ``{case}``" not in robustness.written()]
    assert not missing, f"{robustness.PAGE} lacks {missing}: run `make robustness`"


@pytest.mark.long
def test_page_says_what_both_drivers_do(tmp_path):
    outcomes = [robustness.survey(tmp_path / driver, driver) for driver in (fake.RUST_DRIVER, fake.C_DRIVER)]
    table = robustness.table(*outcomes)
    same = robustness.verdicts(table) == robustness.verdicts(robustness.written())
    assert same, f"{robustness.PAGE} is out of date: run `make robustness`. It should have\n{table}"
