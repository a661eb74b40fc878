"""What becomes of times that have come or passed: the table of catch-up and overlap."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from djtasks.beat.due import decide
from djtasks.periodic import Entry, schedule_of

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


def entry(**fields: Any) -> Entry:
    """A periodic task of every minute, unless said otherwise."""
    return Entry(**{"name": "n", "task": "t", "kind": "interval", "every": 1, "period": "minutes", **fields})


def minutes(*moments: datetime) -> list[float]:
    """Minutes after noon."""
    return [(moment - NOON) / MINUTE for moment in moments]


@pytest.mark.parametrize(
    ("fields", "late", "deadline", "unfinished", "runs", "following", "skipped"),
    [
        # In time.
        ({}, 0.001, None, False, [0], 1, 0),
        ({"catch_up": "all"}, 0.001, None, False, [0], 1, 0),
        ({"catch_up": "none"}, 0.001, None, False, [0], 1, 0),
        # Three times were missed: the last of them was half a minute ago.
        ({}, 3.5, None, False, [3], 4, 0),
        ({"catch_up": "all"}, 3.5, None, False, [0, 1, 2, 3], 4, 0),
        ({"catch_up": "none"}, 3.5, None, False, [], 4, 0),
        # The last of them has only just come.
        ({"catch_up": "none"}, 3.05, None, False, [3], 4, 0),
        # Only what was missed in the last two minutes counts; in the last ten seconds nothing was.
        ({}, 3.5, 120, False, [3], 4, 0),
        ({"catch_up": "all"}, 3.5, 120, False, [2, 3], 4, 0),
        ({}, 3.5, 10, False, [], 4, 0),
        ({"catch_up": "all"}, 3.5, 10, False, [], 4, 0),
        # Very much was missed.
        ({}, 60 * 24 * 365.0, None, False, [60 * 24 * 365], 60 * 24 * 365 + 1, 0),
        ({"catch_up": "all"}, 60 * 24 * 365.0, None, False, list(range(100)), 100, 0),
        # The last run has not ended.
        ({"overlap": "skip"}, 0.001, None, True, [], 1, 1),
        ({"overlap": "skip"}, 3.5, None, True, [], 4, 1),
        ({"overlap": "skip", "catch_up": "all"}, 3.5, None, True, [], 4, 4),
        ({"overlap": "skip", "catch_up": "all"}, 3.5, None, False, [3], 4, 3),
        ({"overlap": "allow"}, 0.001, None, True, [0], 1, 0),
        # It runs once, however much was missed.
        ({"one_off": True, "catch_up": "all"}, 3.5, None, False, [3], None, 0),
        ({"one_off": True, "overlap": "skip"}, 0.001, None, True, [], 1, 1),
        # It expires before the next time.
        ({"expires": NOON + 4 * MINUTE}, 3.5, None, False, [3], None, 0),
        ({"expires": NOON + 3.2 * MINUTE}, 3.5, None, False, [], None, 0),
    ],
)
def test_what_was_missed_is_caught_up_with_as_the_row_says(
    fields: dict[str, Any],
    late: float,
    deadline: float | None,
    unfinished: bool,
    runs: list[float],
    following: float | None,
    skipped: int,
) -> None:
    given = entry(**fields)
    found = decide(
        given, schedule_of(given), NOON, NOON + late * MINUTE, deadline=deadline, unfinished=unfinished, most=100
    )
    assert minutes(*found.runs) == runs
    assert (None if found.next_run_at is None else minutes(found.next_run_at)[0]) == following
    assert found.skipped == skipped
    assert found.over == (
        bool(given.one_off and runs) or NOON + late * MINUTE >= (given.expires or datetime.max.replace(tzinfo=UTC))
    )


def test_a_crontab_that_was_missed_for_a_year_is_decided_at_once() -> None:
    given = entry(kind="crontab", every=None, period="", minute="*/5")
    found = decide(given, schedule_of(given), NOON, NOON + timedelta(days=365))
    assert found.runs == [NOON + timedelta(days=365)]
