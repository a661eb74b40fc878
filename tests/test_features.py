"""The page of Celery's features says of each one whether it works, and names a test that is there."""

import functools
import pathlib
import re
from typing import NamedTuple

import pytest

ROOT = pathlib.Path(__file__).parent.parent
PAGE = ROOT / "docs" / "reference" / "features.md"
#: How many features each part of the page has.
PARTS = {
    "A": 29,
    "O": 29,
    "C": 26,
    "ST": 11,
    "Y": 9,
    "L": 13,
    "Q": 20,
    "RL": 3,
    "Z": 9,
    "G": 9,
    "X": 6,
    "SG": 34,
    "R": 22,
    "V": 19,
    "B": 18,
    "DB": 11,
    "DR": 6,
    "D": 10,
    "I": 20,
    "AD": 10,
    "W": 27,
    "H": 11,
    "E": 17,
    "M": 12,
    "CF": 198,
    # Finer points, and what Celery does not have.
    "F": 16,
    "N": 16,
}
STATE = re.compile(r"works(; \S.*)?|(differs|not done): \S.*")
NO_TEST = "–"


class Row(NamedTuple):
    """One feature, as the page has it."""

    id: str
    feature: str
    state: str
    test: str


def rows() -> list[Row]:
    """The lines of the page's tables."""
    found = []
    for line in PAGE.read_text().splitlines():
        # A bar inside of a cell has a backslash before it.
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if len(cells) == 4 and cells[0] != "id" and not set(cells[0]) <= {"-", ":"}:
            found.append(Row(*cells))
    return found


@functools.cache
def names_in(path: str) -> frozenset[str]:
    """The names of the tests in a file; none when there is no such file."""
    file = ROOT / path
    text = file.read_text() if file.is_file() else ""
    return frozenset(re.findall(r"^(?:async )?def (test_\w+)", text, re.MULTILINE))


def test_every_feature_stands_on_the_page_once() -> None:
    expected = [f"{part}{number}" for part, count in PARTS.items() for number in range(1, count + 1)]
    assert sorted(row.id for row in rows()) == sorted(expected)


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.id)
def test_a_feature_says_whether_it_works_and_names_a_test_that_is_there(row: Row) -> None:
    assert row.feature
    assert STATE.fullmatch(row.state), f"say «works», «differs: how» or «not done: why», not {row.state!r}"
    if row.test == NO_TEST:
        assert row.state.startswith("not done"), "what works is proved by a test"
        return
    match = re.fullmatch(r"`(tests/[\w/]+\.py)::(test_\w+)`", row.test)
    assert match, f"write `tests/…py::test_…`, not {row.test!r}"
    assert match[2] in names_in(match[1]), f"{match[1]} has no test {match[2]!r}"
