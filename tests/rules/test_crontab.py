"""`crontab`: Celery's grammar, its AND of days, and dates that there are not."""

import copy
import pickle
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import celery
import celery.schedules
import pytest
from django.test import override_settings
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

import djtasks
from djtasks.schedules import ParseException, crontab, crontab_parser, schedstate
from djtasks.schedules.fields import expand

NOON = datetime(2026, 5, 6, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


# -- the grammar ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "spec", "expected"),
    [
        ("minute", "*/15", {0, 15, 30, 45}),
        ("minute", "1,13,30-32", {1, 13, 30, 31, 32}),
        ("minute", "50-59/2", {50, 52, 54, 56, 58}),
        ("minute", "1, 2", {1, 2}),
        ("minute", 7, {7}),
        ("minute", [3, 4], {3, 4}),
        ("minute", (3, 4), {3, 4}),
        ("minute", {5}, {5}),
        ("hour", "22-2", {22, 23, 0, 1, 2}),
        ("hour", "22-2/2", {22, 0, 2}),
        ("hour", "jan", {1}),
        ("day_of_month", "*/3", {1, 4, 7, 10, 13, 16, 19, 22, 25, 28, 31}),
        ("month_of_year", "*/4", {1, 5, 9}),
        ("month_of_year", "oct-feb", {10, 11, 12, 1, 2}),
        ("month_of_year", "January", {1}),
        ("day_of_week", "mon-fri", {1, 2, 3, 4, 5}),
        ("day_of_week", "sat-mon", {6, 0, 1}),
        ("day_of_week", "SUNDAY", {0}),
        ("day_of_week", "7", {0}),
        ("day_of_week", 7, {0}),
        ("day_of_week", "5-7", {5, 6, 0}),
        ("day_of_week", "0-7", {0, 1, 2, 3, 4, 5, 6}),
        ("day_of_week", "7-2", {0, 1, 2}),
        ("day_of_week", [6, 7], {6, 0}),
        ("day_of_week", "*/2", {0, 2, 4, 6}),
    ],
)
def test_a_field_means_these_numbers(field: str, spec: Any, expected: set[int]) -> None:
    assert getattr(crontab(**{field: spec}), field) == expected


@pytest.mark.parametrize(
    ("field", "spec", "error", "text"),
    [
        ("minute", "60", ValueError, "minute: 60 is out of range: it goes from 0 to 59"),
        ("minute", 60, ValueError, "60 is out of range"),
        ("minute", -1, ValueError, "-1 is out of range"),
        ("minute", "5/10", ValueError, "a step comes after"),
        ("minute", "*/0", ValueError, "a step is a whole number"),
        ("minute", "*/", ParseException, "no number after the '/'"),
        ("minute", "1,,2", ParseException, "nothing between two commas"),
        ("minute", "1,", ParseException, "nothing between two commas"),
        ("minute", "", ParseException, "nothing"),
        ("minute", "-5", ParseException, "no negative numbers"),
        ("minute", "5-", ParseException, "neither a number"),
        ("minute", "*/5-3", ParseException, "neither a number"),
        ("minute", "@daily", ParseException, "neither a number"),
        ("minute", "L", ValueError, "neither a number nor the name"),
        ("minute", "soon", ValueError, "neither a number nor the name"),
        ("minute", "٣", ParseException, "neither a number"),
        ("minute", "9" * 500, ValueError, "neither a number nor the name"),
        ("minute", [], ValueError, "it would never run"),
        ("minute", ["1"], TypeError, "set or list"),
        ("minute", 1.5, TypeError, "set or list"),
        ("minute", b"1", TypeError, "set or list"),
        ("hour", "24", ValueError, "0 to 23"),
        ("day_of_month", "0", ValueError, "1 to 31"),
        ("month_of_year", "13", ValueError, "1 to 12"),
        ("day_of_week", "8", ValueError, "0 to 6"),
        ("day_of_week", "funday", ValueError, "weekday"),
    ],
)
def test_a_field_that_cannot_be_read_is_refused_and_named(
    field: str, spec: Any, error: type[Exception], text: str
) -> None:
    with pytest.raises(error, match=text) as raised:
        crontab(**{field: spec})
    assert str(raised.value).startswith(f"{field}: ")


def test_the_parser_of_fields_is_there_under_its_own_name() -> None:
    assert crontab_parser(24).parse("*/6") == {0, 6, 12, 18}
    assert crontab_parser(31, 1).parse("1-3") == {1, 2, 3}
    with pytest.raises(crontab_parser.ParseException):
        crontab_parser(60).parse("")


@pytest.mark.parametrize(("day", "months"), [(31, 2), (30, 2), ("31", "4,6,9,11"), (31, "feb-feb")])
def test_a_date_that_there_is_not_is_refused(day: Any, months: Any) -> None:
    with pytest.raises(ValueError, match="would never run"):
        crontab(0, 0, day_of_month=day, month_of_year=months)


def test_the_29th_of_february_is_a_date() -> None:
    assert crontab(0, 0, day_of_month=29, month_of_year=2).next_after(NOON) == datetime(2028, 2, 29, tzinfo=UTC)
    on_monday = crontab(0, 0, "mon", 29, 2)
    assert on_monday.next_after(NOON) == datetime(2044, 2, 29, tzinfo=UTC)
    assert on_monday.next_after(datetime(2072, 3, 1, tzinfo=UTC)) == datetime(2112, 2, 29, tzinfo=UTC)


def test_all_fields_of_days_must_hold() -> None:
    friday_13 = crontab(0, 0, day_of_month=13, day_of_week="fri")
    assert friday_13.next_after(NOON) == datetime(2026, 11, 13, tzinfo=UTC)
    first_monday = crontab(0, 0, day_of_month="1-7", day_of_week=1)
    assert first_monday.next_after(NOON) == datetime(2026, 6, 1, tzinfo=UTC)


# -- a line of cron ---------------------------------------------------------------------------------------------------


def test_a_line_is_minute_hour_day_month_and_weekday() -> None:
    rule = crontab.from_string("*/5 3 1 jan fri", tz="Europe/Paris")
    assert rule == crontab("*/5", 3, "fri", 1, "jan", tz="Europe/Paris")
    assert repr(rule) == "<crontab: */5 3 1 jan fri (m/h/dM/MY/d)>"
    assert rule.line == "*/5 3 1 jan fri"
    assert crontab.from_string("0  4 * * *").line == "0 4 * * *"


@pytest.mark.parametrize("line", ["* * * *", "* * * * * *", "", "@daily"])
def test_a_line_has_five_fields(line: str) -> None:
    with pytest.raises(ValueError, match="five fields"):
        crontab.from_string(line)


def test_a_line_is_a_text() -> None:
    with pytest.raises(TypeError, match="a text of five fields"):
        crontab.from_string(5)  # type: ignore[arg-type]


# -- zones ------------------------------------------------------------------------------------------------------------


def test_a_crontab_is_read_in_its_own_zone() -> None:
    rule = crontab(0, 9, tz="Asia/Kathmandu")
    assert rule.next_after(NOON) == datetime(2026, 5, 7, 3, 15, tzinfo=UTC)
    assert crontab(0, 9, tz=ZoneInfo("Asia/Kathmandu")) == rule


def test_without_a_zone_it_is_read_in_that_of_the_settings() -> None:
    rule = crontab(0, 9)
    assert rule.next_after(NOON) == datetime(2026, 5, 7, 9, tzinfo=UTC)
    with override_settings(DJTASKS={"TIMEZONE": "America/New_York"}):
        assert rule.next_after(NOON) == datetime(2026, 5, 6, 13, tzinfo=UTC)


def test_a_zone_that_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match="there is no time zone 'Europe/Atlantis'"):
        crontab(tz="Europe/Atlantis")
    with pytest.raises(ValueError, match="by its name"):
        crontab(tz=5)  # type: ignore[arg-type]


def test_a_zone_of_pytz_is_the_zone_of_its_name() -> None:
    class Theirs(tzinfo):
        zone = "Asia/Kathmandu"

    assert crontab(0, 9, tz=Theirs()) == crontab(0, 9, tz="Asia/Kathmandu")


def test_a_naive_time_is_utc() -> None:
    assert crontab(0, 13).next_after(datetime(2026, 5, 6, 12)) == NOON + HOUR  # noqa: DTZ001


def test_the_end_of_the_calendar_is_the_end() -> None:
    assert crontab(0, 0, day_of_month=1).next_after(datetime(9999, 12, 30, tzinfo=UTC)) is None


# -- as Celery asks ---------------------------------------------------------------------------------------------------


def test_it_is_due_when_a_time_has_come_since_the_last_run() -> None:
    rule = crontab(0, 12, nowfun=lambda: NOON + timedelta(minutes=1))
    assert rule.is_due(NOON - HOUR) == schedstate(True, 86340.0)
    assert rule.is_due(NOON) == schedstate(False, 86340.0)
    assert rule.remaining_estimate(NOON - HOUR) == -timedelta(minutes=1)
    assert rule.remaining_estimate(NOON) == timedelta(seconds=86340)


def test_a_time_that_was_missed_for_longer_than_the_deadline_is_not_due() -> None:
    rule = crontab(0, 12, nowfun=lambda: NOON + 3 * HOUR)
    assert rule.is_due(NOON - timedelta(days=3)).is_due
    with override_settings(DJTASKS={"BEAT_CRON_STARTING_DEADLINE": 3600}):
        assert rule.is_due(NOON - timedelta(days=3)) == schedstate(False, 21 * 3600.0)
    with override_settings(DJTASKS={"BEAT_CRON_STARTING_DEADLINE": 4 * 3600}):
        assert rule.is_due(NOON - timedelta(days=3)).is_due


def test_crontabs_of_the_same_times_are_equal() -> None:
    assert crontab("*/30") == crontab("0,30") == crontab([0, 30])
    assert hash(crontab("*/30")) == hash(crontab("0,30"))
    assert crontab("*/30") != crontab("*/20")
    assert crontab(tz="UTC") != crontab(tz="Europe/Paris")
    assert crontab() != "* * * * *"


def test_a_crontab_can_be_pickled_and_copied() -> None:
    rule = crontab("*/30", {4, 5}, "mon", iter([1, 2]), tz="Europe/Paris")
    for other in (pickle.loads(pickle.dumps(rule)), copy.deepcopy(rule)):
        assert other == rule
        assert (repr(other), other.next_after(NOON)) == (repr(rule), rule.next_after(NOON))


def test_it_is_exported_by_the_package() -> None:
    assert djtasks.crontab is crontab


def test_the_last_due_time_before_now_is_found_at_once() -> None:
    rule = crontab("*")
    assert rule.latest(datetime(2000, 1, 1, tzinfo=UTC), NOON) == NOON
    assert rule.latest(NOON, NOON) is None
    assert rule.latest(NOON, NOON + timedelta(seconds=59)) is None


def test_due_times_are_counted_up_to_a_bound() -> None:
    assert crontab("*/15").count(NOON, NOON + 2 * HOUR) == 8
    assert crontab("*/15").count(NOON, NOON + 2 * HOUR, most=3) == 3


# -- beside Celery's own ----------------------------------------------------------------------------------------------

_APP = celery.Celery("differential", set_as_current=False)
_APP.conf.update(timezone="UTC", enable_utc=True)
_SIZES = {"minute": (0, 59), "hour": (0, 23), "day_of_week": (0, 6), "day_of_month": (1, 31), "month_of_year": (1, 12)}


def _specs(field: str) -> st.SearchStrategy[Any]:
    least, most = _SIZES[field]
    number = st.integers(least, most)
    part = st.one_of(
        number.map(str),
        st.tuples(number, number).map(lambda of: f"{of[0]}-{of[1]}"),
        st.tuples(number, number, st.integers(1, 9)).map(lambda of: f"{of[0]}-{of[1]}/{of[2]}"),
        st.integers(1, 30).map("*/{}".format),
        st.sampled_from(["mon", "Friday", "sat-mon", "jan", "oct-dec"]),
    )
    return st.one_of(st.just("*"), st.lists(part, min_size=1, max_size=3).map(",".join), number)


def _outcome(make: Any) -> Any:
    try:
        return make()
    except (ValueError, TypeError, celery.schedules.ParseException) as error:
        return type(error).__name__


@examples(max_examples=200, deadline=None)
@given(st.fixed_dictionaries({field: _specs(field) for field in _SIZES}), st.integers(0, 10**8))
def test_fields_and_due_times_are_celerys(fields: dict[str, Any], seconds: int) -> None:
    theirs = _outcome(lambda: celery.schedules.crontab(**fields, app=_APP))
    ours = _outcome(lambda: crontab(**fields))
    if isinstance(theirs, str):
        assert ours == theirs
        return
    assert all(getattr(ours, field) == getattr(theirs, field) for field in _SIZES)
    assert repr(ours) == repr(theirs)
    last = NOON + timedelta(seconds=seconds)
    try:
        start, delta, _ = theirs.remaining_delta(last)
    except RuntimeError:
        return  # a 29th of February on a Sunday is further away than Celery looks
    assert ours.next_after(last) == start + delta


@pytest.mark.parametrize("spec", ["*", "*/7", "5-2", "5/10", "1,,2", "*/", "60", "*/0", "-1", "mon", "x", "1-70"])
@pytest.mark.parametrize("field", sorted(_SIZES))
def test_what_celery_refuses_is_refused(field: str, spec: str) -> None:
    theirs = _outcome(lambda: getattr(celery.schedules.crontab(**{field: spec}, app=_APP), field))
    assert _outcome(lambda: expand(field, spec)) == theirs


@examples(max_examples=100, deadline=None)
@given(
    st.sampled_from(["*", "*/15", "0", "5,50"]),
    st.sampled_from(["*", "4", "8-18/2", "22-2"]),
    st.sampled_from(["*", "mon-fri", "sun"]),
    st.integers(-10, 5000),
    st.integers(0, 10**7),
)
def test_is_due_answers_as_celerys(minute: str, hour: str, weekday: str, minutes: int, seconds: int) -> None:
    last = NOON + timedelta(seconds=seconds)
    now = last + timedelta(minutes=minutes, seconds=7)
    ours = crontab(minute, hour, weekday, nowfun=lambda: now)
    theirs = celery.schedules.crontab(minute, hour, weekday, nowfun=lambda: now, app=_APP)
    assert ours.is_due(last) == theirs.is_due(last)
