"""`schedule` and `clocked`: intervals that keep their phase, and one time."""

import copy
import pickle
from datetime import UTC, datetime, timedelta
from typing import Any

import celery
import celery.schedules
import pytest
from django.test import override_settings

import djtasks
from djtasks.schedules import BaseSchedule, clocked, crontab, maybe_schedule, schedstate, schedule

NOON = datetime(2026, 5, 6, 12, tzinfo=UTC)
SECOND, HOUR, DAY = timedelta(seconds=1), timedelta(hours=1), timedelta(days=1)
_APP = celery.Celery("intervals", set_as_current=False)


# -- intervals --------------------------------------------------------------------------------------------------------


def test_an_interval_is_seconds_or_a_timedelta() -> None:
    assert schedule(30).next_after(NOON) == NOON + 30 * SECOND
    assert schedule(0.5).next_after(NOON) == NOON + SECOND / 2
    assert schedule(timedelta(hours=2)).next_after(NOON) == NOON + 2 * HOUR


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (0, ValueError),
        (-5, ValueError),
        (timedelta(0), ValueError),
        (float("nan"), ValueError),
        (float("inf"), ValueError),
        (10**30, ValueError),
        (1e-9, ValueError),
        ("30", TypeError),
        (None, TypeError),
        (True, TypeError),
    ],
)
def test_what_is_no_interval_is_refused(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="an interval"):
        schedule(value)


def test_a_late_look_does_not_move_the_times_that_follow() -> None:
    rule = schedule(30)
    assert rule.latest(NOON, NOON + 95.25 * SECOND) == NOON + 90 * SECOND
    assert rule.next_after(NOON + 90 * SECOND) == NOON + 120 * SECOND
    assert rule.latest(NOON, NOON + 29 * SECOND) is None
    assert rule.latest(NOON, NOON - HOUR) is None


def test_a_year_of_seconds_is_counted_at_once() -> None:
    rule = schedule(1)
    assert rule.count(NOON, NOON + 365 * DAY, most=10**9) == 365 * 86400
    assert rule.latest(NOON, NOON + 365 * DAY) == NOON + 365 * DAY
    assert rule.count(NOON, NOON + 365 * DAY) == 10_000
    assert rule.count(NOON, NOON - DAY) == 0


@pytest.mark.parametrize(
    ("every", "expected"),
    [
        (timedelta(days=1), "2026-05-07T00:00"),
        (timedelta(days=2), "2026-05-08T00:00"),
        (timedelta(hours=2), "2026-05-06T14:00"),
        (timedelta(minutes=15), "2026-05-06T12:49"),
        (timedelta(seconds=15), "2026-05-06T12:35:11.500000"),
    ],
)
def test_a_relative_interval_is_rounded_down_to_its_unit(every: timedelta, expected: str) -> None:
    last = datetime(2026, 5, 6, 12, 34, 56, 500000, tzinfo=UTC)
    assert schedule(every, relative=True).next_after(last) == datetime.fromisoformat(f"{expected}+00:00")


def test_a_relative_interval_of_less_than_a_minute_is_found_at_once() -> None:
    rule = schedule(timedelta(microseconds=1), relative=True)
    assert rule.latest(NOON, NOON + timedelta(days=365)) == NOON + timedelta(days=365)
    assert rule.count(NOON, NOON + timedelta(days=365), 10**20) == 365 * 86400 * 10**6


def test_a_relative_interval_is_rounded_in_the_zone_of_the_settings() -> None:
    with override_settings(DJTASKS={"TIMEZONE": "Europe/Paris"}):
        assert schedule(DAY, relative=True).next_after(NOON) == datetime(2026, 5, 6, 22, tzinfo=UTC)
        # The day that begins then has 25 hours.
        first = datetime(2026, 10, 24, 22, tzinfo=UTC)
        assert schedule(DAY, relative=True).next_after(first) == datetime(2026, 10, 25, 23, tzinfo=UTC)
        assert schedule(DAY, relative=True).count(first, first + 3 * DAY) == 2
        assert schedule(DAY, relative=True).latest(first, first + 2 * DAY) == datetime(2026, 10, 25, 23, tzinfo=UTC)


def test_the_end_of_the_calendar_is_the_end() -> None:
    assert schedule(DAY).next_after(datetime(9999, 12, 31, 12, tzinfo=UTC)) is None


@pytest.mark.parametrize("passed", [0, 10, 29.5, 30, 31, 95])
def test_is_due_answers_as_celerys(passed: float) -> None:
    now = NOON + passed * SECOND
    ours, theirs = schedule(30, nowfun=lambda: now), celery.schedules.schedule(30, nowfun=lambda: now, app=_APP)
    assert ours.is_due(NOON) == theirs.is_due(NOON)
    assert ours.remaining_estimate(NOON) == theirs.remaining_estimate(NOON)


@pytest.mark.parametrize("every", [5, 30, 60, 90, 3600, 7200, 86400, timedelta(days=2), 0.5])
def test_intervals_are_shown_as_celery_shows_them(every: Any) -> None:
    if every != 0.5:
        assert repr(schedule(every)) == repr(celery.schedules.schedule(every, app=_APP))
    assert schedule(every).seconds == celery.schedules.schedule(every, app=_APP).seconds


def test_intervals_are_equal_by_length_and_can_be_pickled() -> None:
    assert schedule(60) == schedule(timedelta(minutes=1)) == timedelta(minutes=1)
    assert schedule(60) != schedule(61)
    rule = schedule(60, relative=True)
    for other in (pickle.loads(pickle.dumps(rule)), copy.deepcopy(rule)):
        assert (other, other.relative) == (rule, True)
    assert len({schedule(60), schedule(timedelta(minutes=1))}) == 1


def test_a_number_becomes_an_interval_and_a_schedule_stays() -> None:
    assert maybe_schedule(10) == schedule(10)
    assert maybe_schedule(SECOND, relative=True).relative is True
    rule = crontab()
    assert maybe_schedule(rule) is rule
    assert djtasks.schedule is schedule


# -- one time ---------------------------------------------------------------------------------------------------------


def test_a_clocked_schedule_is_due_once() -> None:
    rule = clocked(NOON)
    assert rule.next_after(NOON - HOUR) == NOON
    assert rule.next_after(NOON) is None
    assert rule.latest(NOON - HOUR, NOON) == NOON
    assert rule.latest(NOON - HOUR, NOON - SECOND) is None
    assert (rule.count(NOON - HOUR, NOON + HOUR), rule.count(NOON, NOON + HOUR)) == (1, 0)


def test_a_clocked_schedule_is_asked_as_celerys_are() -> None:
    rule = clocked(NOON, nowfun=lambda: NOON - HOUR)
    assert rule.is_due(NOON - DAY) == schedstate(False, 3600.0)
    assert clocked(NOON, nowfun=lambda: NOON).is_due(NOON - DAY) == schedstate(True, None)
    assert clocked(NOON, nowfun=lambda: NOON).is_due(NOON) == schedstate(False, None)
    assert clocked(NOON).remaining_estimate(NOON) == timedelta.max


def test_clocked_schedules_are_equal_by_their_time_and_can_be_pickled() -> None:
    rule = clocked(datetime(2026, 5, 6, 12))  # noqa: DTZ001 -- a naive one is UTC
    assert rule == clocked(NOON) == pickle.loads(pickle.dumps(rule))
    assert rule != clocked(NOON + HOUR)
    assert repr(rule) == "<clocked: 2026-05-06 12:00:00+00:00>"
    assert len({rule, clocked(NOON)}) == 1
    with pytest.raises(TypeError, match="is a datetime"):
        clocked("tomorrow")  # type: ignore[arg-type]
    assert djtasks.clocked is clocked


# -- one of one's own -------------------------------------------------------------------------------------------------


class EverySecondHour(BaseSchedule):
    """Says only which time follows."""

    def next_after(self, last: datetime) -> datetime | None:
        return last + 2 * HOUR


def test_a_schedule_of_ones_own_needs_only_say_what_follows() -> None:
    rule = EverySecondHour(nowfun=lambda: NOON)
    assert rule.is_due(NOON - 3 * HOUR) == schedstate(True, 7200.0)
    assert rule.latest(NOON - 5 * HOUR, NOON) == NOON - HOUR
    assert rule.count(NOON - 5 * HOUR, NOON) == 2
    assert rule == EverySecondHour(nowfun=rule.nowfun)
    with pytest.raises(NotImplementedError, match="must define next_after"):
        BaseSchedule().next_after(NOON)
