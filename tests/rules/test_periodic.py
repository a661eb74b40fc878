"""The rules of periodic tasks: what code says, what is wrong with it, when it is due, and what it is called with."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from django.test import override_settings

from djtasks import Queue, clocked, crontab, periodic, registry, schedule, shared_task, solar
from djtasks.periodic import Entry, entry_of_code, options_of, problems, schedule_of, upcoming, words
from djtasks.schedules import BaseSchedule

NOON = datetime(2026, 5, 6, 12, tzinfo=UTC)
SECOND, MINUTE, HOUR, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


@pytest.fixture(autouse=True)
def _own_tasks() -> Iterator[None]:
    """Tasks of one test are of that test."""
    before = dict(registry.tasks)
    yield
    registry.tasks.clear()
    registry.tasks.update(before)


def entry(**said: Any) -> Entry:
    return entry_of_code("nightly", {"task": "elsewhere.task", "schedule": 60, **said})


def row(**columns: Any) -> Entry:
    return Entry(
        **{"name": "nightly", "task": "elsewhere.task", "kind": "interval", "every": 1, "period": "hours", **columns}
    )


# -- what code says ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("when", "columns"),
    [
        (30, {"kind": "interval", "every": 30, "period": "seconds"}),
        (0.25, {"kind": "interval", "every": 250_000, "period": "microseconds"}),
        (timedelta(hours=48), {"kind": "interval", "every": 2, "period": "days"}),
        (timedelta(minutes=90), {"kind": "interval", "every": 90, "period": "minutes"}),
        (schedule(3600, relative=True), {"kind": "interval", "every": 1, "period": "hours", "relative": True}),
        (
            crontab([0, 30], "9-17", "mon-fri", tz="Europe/Paris"),
            {"kind": "crontab", "minute": "0,30", "hour": "9-17", "day_of_week": "mon-fri", "timezone": "Europe/Paris"},
        ),
        (crontab(), {"kind": "crontab", "minute": "*", "timezone": ""}),
        (clocked(NOON), {"kind": "clocked", "clocked": NOON, "one_off": True}),
        (solar("sunset", 48, 2), {"kind": "solar", "event": "sunset", "latitude": 48.0, "longitude": 2.0}),
    ],
)
def test_a_schedule_becomes_columns_and_is_itself_again(when: Any, columns: dict[str, Any]) -> None:
    made = entry(schedule=when)
    assert {name: getattr(made, name) for name in columns} == columns
    expected = schedule(when) if isinstance(when, int | float | timedelta) else when
    assert schedule_of(made) == expected
    assert problems(made) == {}


def test_options_that_are_columns_become_columns() -> None:
    made = entry(
        args=(1, "a"),
        kwargs={"b": [2]},
        options={
            "queue": Queue("slow"),
            "priority": 7,
            "exchange": "media",
            "routing_key": "media.video",
            "headers": {"x": 1},
            "expires": 90,
            "time_limit": 30,
        },
        catch_up="all",
        overlap="skip",
        deadline=60,
        description="Every minute.",
    )
    assert (made.args, made.kwargs) == ([1, "a"], {"b": [2]})
    assert (made.queue, made.priority, made.exchange, made.routing_key) == ("slow", 7, "media", "media.video")
    assert (made.headers, made.expires, made.expire_seconds) == ({"x": 1}, None, 90)
    assert made.options == {"time_limit": 30}
    assert (made.catch_up, made.overlap, made.deadline, made.description) == ("all", "skip", 60, "Every minute.")
    assert (made.source, made.id, made.enabled) == ("settings", 0, True)


def test_an_expiry_is_seconds_a_timedelta_or_a_time() -> None:
    assert entry(options={"expires": timedelta(minutes=2)}).expire_seconds == 120
    assert entry(options={"expires": NOON}).expires == NOON
    assert entry(expires=NOON).expires == NOON
    assert entry(expire_seconds=5).expire_seconds == 5
    assert entry(start_time="2026-05-06T14:00+02:00").start_time == NOON


def test_arguments_that_json_lacks_are_themselves_again() -> None:
    said = [Decimal("1.5"), NOON, UUID(int=7), "plain", {"__type__": "x", "__value__": 1}]
    made = entry(args=said, kwargs={"day": NOON.date()})
    assert problems(made) == {}
    assert periodic.arguments_of(made) == (said, {"day": NOON.date()})


class Lunar(BaseSchedule):
    """One of a project's own."""


@pytest.mark.parametrize(
    ("said", "error", "text"),
    [
        ({"schedule": None}, TypeError, "needs a schedule"),
        ({"schedule": "* * * * *"}, TypeError, "a schedule is a number of seconds"),
        ({"schedule": Lunar()}, TypeError, "Lunar is no schedule that a row can hold"),
        ({"schedule": 0}, ValueError, "more than 0"),
        ({"schedule": timedelta(days=1, microseconds=1)}, ValueError, "more than a row can hold"),
        ({"task": 5}, TypeError, "task is a task or its name"),
        ({"shedule": 5}, TypeError, "no 'shedule'; did you mean 'schedule'"),
        ({"args": "abc"}, TypeError, "task args must be a list"),
        ({"kwargs": [1]}, TypeError, "must be a mapping"),
        ({"args": [lambda: 1]}, TypeError, "What is to be worked out for each run belongs into the task"),
        ({"args": [object()]}, TypeError, "args: it is kept in the database, as JSON"),
        ({"options": {"quueue": "x"}}, TypeError, "did you mean 'queue'"),
        ({"options": {"task_id": "x"}}, ValueError, "'task_id' is of one call"),
        ({"options": {"eta": NOON}}, ValueError, "'eta' is of one call"),
        ({"options": {"queue": 5}}, TypeError, "queue is a name"),
        ({"options": {"headers": [1]}}, TypeError, "headers are a dict"),
        ({"schedule": crontab(tz=NOON.astimezone().tzinfo)}, ValueError, "has no name"),
    ],
)
def test_what_code_gets_wrong_is_said(said: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        entry(**said)


@pytest.mark.parametrize("definition", [None, "add", 5, []])
def test_an_entry_is_a_dict(definition: Any) -> None:
    with pytest.raises(TypeError, match="a dict with task and schedule"):
        entry_of_code("nightly", definition)


@pytest.mark.parametrize("name", ["", None, 5])
def test_an_entry_has_a_name(name: Any) -> None:
    with pytest.raises(TypeError, match="the name of a periodic task"):
        entry_of_code(name, {"task": "x", "schedule": 1})


def test_what_celerys_beat_keeps_in_its_entries_is_passed_over() -> None:
    assert entry(last_run_at=NOON, total_run_count=5) == entry()


# -- what is wrong with it --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("columns", "field", "text"),
    [
        ({"name": ""}, "name", "It needs a name."),
        ({"name": "x" * 201}, "name", "at most 200 characters"),
        ({"name": "a\0"}, "name", "without NUL"),
        ({"task": ""}, "task", "the name of a task"),
        ({"kind": "lunar"}, "kind", "no schedule of the kind 'lunar'"),
        ({"every": None}, "every", "needs a number"),
        ({"every": 0}, "every", "from 1 to"),
        ({"every": 2**31}, "every", "from 1 to"),
        ({"every": "x"}, "every", "whole number"),
        ({"every": 2**31 - 1, "period": "days"}, "every", "longer than the calendar"),
        ({"period": ""}, "period", "needs a unit"),
        ({"kind": "crontab", "every": None, "minute": "60"}, "minute", "60 is out of range: it goes from 0 to 59."),
        ({"kind": "crontab", "every": None, "hour": ""}, "hour", "'\\*' is every one"),
        ({"kind": "crontab", "every": None, "day_of_month": "31", "month_of_year": "2"}, "day_of_month", "never run"),
        ({"kind": "crontab", "every": None, "day_of_week": "8"}, "day_of_week", "out of range"),
        ({"kind": "crontab", "every": None, "timezone": "Mars/Base"}, "timezone", "There is no time zone 'Mars/Base'"),
        ({"kind": "crontab"}, "every", "an interval too"),
        ({"clocked": NOON}, "clocked", "a time at which it runs too"),
        ({"event": "sunset"}, "event", "an event of the sun too"),
        ({"kind": "clocked", "every": None}, "clocked", "needs the time"),
        ({"kind": "clocked", "every": None, "clocked": NOON}, "one_off", "runs once"),
        ({"kind": "solar", "every": None, "event": "tea", "latitude": 1, "longitude": 1}, "event", "one of dawn"),
        ({"kind": "solar", "every": None, "event": "sunset", "longitude": 1}, "latitude", "number of degrees"),
        ({"kind": "solar", "every": None, "event": "sunset", "latitude": 1, "longitude": 200}, "longitude", "-180"),
        ({"args": {}}, "args", "a list"),
        ({"args": "abc"}, "args", "a list"),
        ({"kwargs": []}, "kwargs", "an object"),
        ({"args": ["\0"]}, "args", "PostgreSQL cannot keep"),
        ({"args": ["\ud800"]}, "args", "PostgreSQL cannot keep"),
        ({"kwargs": {"a": float("nan")}}, "kwargs", "PostgreSQL cannot keep"),
        ({"headers": 5}, "headers", "an object"),
        ({"options": {"quueue": 1}}, "options", "did you mean 'queue'"),
        ({"args": json.loads("[" * 51 + "]" * 51)}, "args", "50 levels are the most"),
        ({"options": {"task_id": "x"}}, "options", "'task_id' is of one call"),
        ({"options": {"chord": "x", "part": 1}}, "options", "'chord' is of one call"),
        ({"queue": "q" * 201}, "queue", "1 to 200 characters"),
        ({"priority": 40000}, "priority", "from -32768 to 32767"),
        ({"expires": NOON, "expire_seconds": 5}, "expire_seconds", "not both"),
        ({"expire_seconds": -1}, "expire_seconds", "seconds"),
        ({"deadline": 1.5}, "deadline", "whole number of seconds"),
        ({"start_time": NOON.replace(tzinfo=None)}, "start_time", "a time with a zone"),
        ({"catch_up": "some"}, "catch_up", "one of one, all, none"),
        ({"overlap": "maybe"}, "overlap", "one of allow, skip"),
    ],
)
def test_what_is_wrong_stands_at_its_field(columns: dict[str, Any], field: str, text: str) -> None:
    found = problems(row(**columns))
    assert field in found
    with pytest.raises(AssertionError, match=text):
        raise AssertionError(found[field])


def test_a_queue_that_is_not_there_is_wrong_where_queues_are_closed() -> None:
    with override_settings(DJTASKS={"TASK_QUEUES": ["celery", "slow"], "TASK_CREATE_MISSING_QUEUES": False}):
        assert "did you mean 'slow'?" in problems(row(queue="slwo"))["queue"]


def test_times_that_have_passed_are_wrong_where_they_are_to_come() -> None:
    once = row(kind="clocked", every=None, period="", clocked=NOON, one_off=True, expires=NOON)
    assert problems(once) == {}
    assert problems(once, NOON) == {"clocked": "This time has passed.", "expires": "This time has passed."}
    assert problems(once, NOON - SECOND) == {}


def test_arguments_must_fit_the_task_where_it_is_known() -> None:
    @shared_task(name="rules.add", bind=True)
    def add(self: Any, x: int, y: int = 1) -> int:
        return x + y

    assert add.name == "rules.add"
    assert problems(row(task="rules.add", args=[1])) == {}
    assert "missing a required argument: 'x'" in problems(row(task="rules.add"))["args"]
    assert "unexpected keyword argument 'z'" in problems(row(task="rules.add", args=[1], kwargs={"z": 1}))["kwargs"]
    assert periodic.warnings(row(task="rules.add")) == {}
    assert periodic.warnings(row(task="rules.ad")) == {
        "task": "There is no task 'rules.ad' here. Did you mean 'rules.add'?"
    }


def test_no_value_whatever_makes_the_rules_raise() -> None:
    for value in (None, 5, -1, 1.5, "x", "\0", [], {}, {"a": 1}, [[]], object(), b"x", NOON, True, 10**40):
        for field in periodic.FIELDS:
            for kind in ("interval", "crontab", "clocked", "solar"):
                changed: dict[str, Any] = {field: value}
                problems(row(kind=kind)._replace(**changed), NOON)


# -- when it is due ---------------------------------------------------------------------------------------------------


def test_an_interval_is_due_first_one_interval_after_it_was_made() -> None:
    assert upcoming(row(), NOON, 3) == [NOON + HOUR, NOON + 2 * HOUR, NOON + 3 * HOUR]


def test_an_interval_keeps_the_phase_of_its_last_run_and_of_its_start() -> None:
    assert upcoming(row(), NOON, 2, last=NOON - 90 * MINUTE) == [NOON + 30 * MINUTE, NOON + 90 * MINUTE]
    assert upcoming(row(start_time=NOON - 20 * MINUTE), NOON, 2) == [NOON + 40 * MINUTE, NOON + 100 * MINUTE]


def test_the_start_time_is_the_first_time_of_an_interval() -> None:
    assert upcoming(row(start_time=NOON + 5 * DAY), NOON, 2) == [NOON + 5 * DAY, NOON + 5 * DAY + HOUR]
    assert upcoming(row(start_time=NOON + DAY), NOON, 1, last=NOON - MINUTE) == [NOON + DAY]


def test_a_crontab_is_due_first_at_a_time_that_is_not_before_its_start() -> None:
    daily = row(kind="crontab", every=None, period="", minute="0", hour="12")
    assert upcoming(daily, NOON, 1) == [NOON + DAY]
    assert upcoming(daily._replace(start_time=NOON + 3 * DAY), NOON, 1) == [NOON + 3 * DAY]
    assert upcoming(daily._replace(start_time=NOON + 3 * DAY + SECOND), NOON, 1) == [NOON + 4 * DAY]


def test_nothing_is_due_after_it_expires_nor_twice_when_it_runs_once() -> None:
    assert upcoming(row(expires=NOON + 2 * HOUR), NOON) == [NOON + HOUR]
    assert upcoming(row(one_off=True), NOON) == [NOON + HOUR]
    once = row(kind="clocked", every=None, period="", clocked=NOON, one_off=True)
    assert upcoming(once, NOON - DAY) == [NOON]
    assert upcoming(once, NOON) == []


def test_a_crontab_without_a_deadline_has_that_of_the_settings() -> None:
    daily = row(kind="crontab", every=None, period="")
    with override_settings(DJTASKS={"BEAT_CRON_STARTING_DEADLINE": 3600}):
        assert periodic.deadline_of(daily) == 3600
        assert periodic.deadline_of(daily._replace(deadline=5)) == 5
        assert periodic.deadline_of(row()) is None


# -- what it is called with -------------------------------------------------------------------------------------------


def test_a_run_says_which_periodic_task_it_is_of() -> None:
    made = row(queue="slow", priority=0, headers={"x": 1}, options={"time_limit": 9}, id=7)
    assert options_of(made, NOON) == {
        "queue": "slow",
        "priority": 0,
        "headers": {"x": 1, "periodic_task_name": "nightly"},
        "time_limit": 9,
        "periodic": 7,
    }


def test_a_run_expires_so_long_after_it_was_due() -> None:
    assert options_of(row(expire_seconds=90), NOON)["expires"] == NOON + 90 * SECOND
    assert options_of(row(expires=NOON + DAY), NOON)["expires"] == NOON + DAY
    assert "expires" not in options_of(row(), NOON)


# -- in words ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("when", "expected"),
    [
        (1, "every second"),
        (90, "every 90 seconds"),
        (timedelta(days=2), "every 2 days"),
        (schedule(7200, relative=True), "every 2 hours, on the hour"),
        (schedule(86400, relative=True), "every day, when a day of the clock begins"),
        (crontab(), "every minute (UTC)"),
        (crontab("*/15"), "every 15 minutes (UTC)"),
        (crontab(0), "every hour, on the hour (UTC)"),
        (crontab(5), "every hour, at 5 minutes past (UTC)"),
        (crontab(0, 4), "at 04:00, every day (UTC)"),
        (crontab(0, "*/2"), "every 2 hours, every day (UTC)"),
        (crontab(30, "4,16", "mon-fri"), "at 04:30 and 16:30, Monday to Friday (UTC)"),
        (crontab(0, 0, "fri-sun"), "at 00:00, Friday to Sunday (UTC)"),
        (crontab(0, 0, "sun"), "at 00:00, on Sunday (UTC)"),
        (crontab(0, 0, "fri", 13), "at 00:00, on day 13 of the month, but only if it is Friday (UTC)"),
        (crontab(0, 0, "*", "1,15", "1,7"), "at 00:00, on days 1 and 15 of the month, in January and July (UTC)"),
        (crontab(0, 0, month_of_year=2), "at 00:00, every day, in February (UTC)"),
        (crontab("*", "9-17"), "every minute of the hours 9 to 17, every day (UTC)"),
        (crontab("*/30", 9), "at 09:00 and 09:30, every day (UTC)"),
        (crontab("*/10", "9-17"), "every 10 minutes of the hours 9 to 17, every day (UTC)"),
        (crontab("3,9", "1-9"), "at minutes 3 and 9 of the hours 1 to 9, every day (UTC)"),
        (crontab(0, 4, tz="Europe/Paris"), "at 04:00, every day (Europe/Paris)"),
        (clocked(NOON), "once, on 2026-05-06 at 12:00:00 (UTC)"),
        (solar("dusk_civil", -33.8, 151.2), "at civil dusk at 33.8° S, 151.2° E"),
        (solar("solar_noon", 48.86, -2), "at solar noon at 48.86° N, 2° W"),
    ],
)
def test_a_schedule_reads_like_this(when: Any, expected: str) -> None:
    assert words(entry(schedule=when)) == expected


def test_words_name_the_zone_of_the_settings() -> None:
    with override_settings(DJTASKS={"TIMEZONE": "Europe/Paris"}):
        assert words(entry(schedule=crontab(0, 4))) == "at 04:00, every day (Europe/Paris)"
        assert words(entry(schedule=clocked(NOON))) == "once, on 2026-05-06 at 14:00:00 (Europe/Paris)"
