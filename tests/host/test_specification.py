# SPDX-License-Identifier: GPL-2.0
"""Documentation/specification.rst has a row for each statement, and what it names exists."""

import re

import pytest
from harness import fake

from common import PROJECT

PAGE = PROJECT / "Documentation/specification.rst"
# Words in capitals in the driver requirements of virtio 1.4, 5.13
STATEMENTS = 43

CELL = r"     - ((?:.*\n(?:       .*\n)*))"
ROW = re.compile(rf"^   \* - (.*)\n{CELL}{CELL}{CELL}", re.M)
NUMBER = re.compile(r"(\d+) (?:MUST|SHOULD|MAY)(?: NOT)?( \\\*)?")
PLACE = re.compile(r"``((?:[\w]+/)*\w+\.(?:rs|py|c|sh))(?:: (\w+))?``")
CASE = re.compile(r"``(fake_\w+)``")
DEFINES = r"\b(?:fn|const|struct|enum|def) {name}\b"


def text():
    return PAGE.read_text(encoding="utf-8")


def rows():
    """The rows of all tables: number, statement, what keeps it, what shows it."""
    return [row for row in ROW.findall(text()) if row[0] != "number"]


def test_each_statement_has_a_row():
    numbers = [NUMBER.fullmatch(number) for number, *_ in rows()]
    assert all(numbers), [number for number, *_ in rows()]
    assert [int(number.group(1)) for number in numbers] == list(range(1, STATEMENTS + 1))


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0].split()[0])
def test_row_says_what_keeps_it_and_what_shows_it(row):
    _, _, keeps, shows = row
    assert PLACE.search(keeps) or keeps.strip() == "the same"
    assert "Always" in shows or PLACE.search(shows) or CASE.search(shows)


def test_stars_are_those_of_notes():
    starred = {row[0].split()[0] for row in rows() if row[0].endswith("*")}
    noted = set(re.findall(r"\d+", " ".join(re.findall(r"^([\d, ]+)\n  \S", text(), re.M))))
    assert starred == noted


@pytest.mark.parametrize("path, name", sorted(set(PLACE.findall(text()))), ids=":".join)
def test_place_exists(path, name):
    assert (PROJECT / path).is_file()
    if name:
        assert is_defined(path, name)


def is_defined(path, name):
    return re.search(DEFINES.format(name=name), (PROJECT / path).read_text(encoding="utf-8")) is not None


def test_what_does_not_exist_is_missed():
    assert is_defined("uapi/status.rs", "from_tail")
    assert not is_defined("uapi/status.rs", "from_head")


def test_cases_exist():
    known = {case.name for case in fake.cases()}
    assert set(CASE.findall(text())) <= known
