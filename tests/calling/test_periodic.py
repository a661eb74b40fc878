"""Periodic tasks as code defines them, and as rows that check themselves."""

import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, transaction
from django.test import override_settings
from django.utils import timezone

from djtasks import Celery, Task, app, clocked, codeschedules, crontab, schedule, shared_task, solar
from djtasks.app import set_up
from djtasks.codeschedules import CLEANUP, faults, said
from djtasks.exceptions import DuplicateTaskNameWarning
from djtasks.models import PeriodicTask, Tick

NOON = datetime(2026, 5, 6, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def _own_schedules() -> Iterator[None]:
    """What a test adds is forgotten."""
    before = codeschedules.state()
    codeschedules.restore(({}, {}))
    yield
    codeschedules.restore(before)


@pytest.fixture
def add() -> Any:
    @shared_task(name="shop.add")
    def add(x: int, y: int = 0) -> int:
        return x + y

    return add


# -- BEAT_SCHEDULE ----------------------------------------------------------------------------------------------------


@override_settings(
    DJTASKS={
        "BEAT_SCHEDULE": {
            "each-minute": {"task": "shop.add", "schedule": 60.0, "args": (1, 2), "options": {"queue": "slow"}},
            "at-four": {"task": "shop.add", "schedule": crontab(hour=4, minute=0), "kwargs": {"x": 1}},
        }
    }
)
def test_the_settings_say_what_runs_again_and_again(add: Any) -> None:
    first, second = said()["each-minute"], said()["at-four"]
    assert (first.task, first.args, first.queue, first.every, first.period) == (
        "shop.add",
        [1, 2],
        "slow",
        1,
        "minutes",
    )
    assert (second.kind, second.hour, second.kwargs, second.source) == ("crontab", "4", {"x": 1}, "settings")


def test_the_settings_of_an_app_say_it_under_every_name_of_celerys(add: Any) -> None:
    app.conf.beat_schedule = {"one": {"task": "shop.add", "schedule": 10, "args": [1]}}
    assert said()["one"].every == 10
    app.conf.update(beat_schedule={"two": {"task": "shop.add", "schedule": 20, "args": [1]}})
    assert {"one", "two"} & said().keys() == {"two"}
    app.conf.CELERYBEAT_SCHEDULE = {"three": {"task": "shop.add", "schedule": 30, "args": [1]}}
    assert "three" in said()
    app.conf.beat_schedule["four"] = {"task": "shop.add", "schedule": 40, "args": [1]}
    assert "four" in said()


def test_an_entry_that_cannot_be_is_told_and_stops_no_other(add: Any) -> None:
    class Odd:
        def __getattr__(self, name: str) -> Any:
            raise RuntimeError("no")

    app.conf.beat_schedule = {
        "good": {"task": "shop.add", "schedule": 10, "args": [1]},
        "fields": {"task": "shop.add", "schedule": 10, "shedule": 5},
        "arguments": {"task": "shop.add", "schedule": 10},
        "odd": {"task": "shop.add", "schedule": Odd()},
        "none": {"schedule": 10},
    }
    assert said().keys() == {"good", CLEANUP}
    found = {each.name: each for each in faults()}
    assert found.keys() == {"fields", "arguments", "odd", "none"}
    assert "did you mean 'schedule'" in found["fields"].text
    assert "missing a required argument: 'x'" in found["arguments"].text
    assert {each.source for each in found.values()} == {"settings"}


def test_expired_results_are_deleted_at_four_unless_they_are_kept() -> None:
    cleanup = said()[CLEANUP]
    assert (cleanup.hour, cleanup.minute, cleanup.expire_seconds, cleanup.source) == ("4", "0", 43200, "builtin")
    with override_settings(DJTASKS={"RESULT_EXPIRES": None}):
        assert CLEANUP not in said()
    own = {"task": CLEANUP, "schedule": 3600}
    with override_settings(DJTASKS={"BEAT_SCHEDULE": {CLEANUP: own}}):
        assert (said()[CLEANUP].kind, said()[CLEANUP].source) == ("interval", "settings")


# -- add_periodic_task ------------------------------------------------------------------------------------------------


def test_a_signature_is_run_again_and_again(add: Any) -> None:
    name = app.add_periodic_task(30.0, add.s(1, 2), name="add every 30", expires=10, queue="slow", catch_up="all")
    made = said()[name]
    assert name == "add every 30"
    assert (made.task, made.args, made.every, made.source) == ("shop.add", [1, 2], 30, "code")
    assert (made.expire_seconds, made.queue, made.catch_up) == (10, "slow", "all")


def test_without_a_name_it_has_the_signatures(add: Any) -> None:
    assert app.add_periodic_task(crontab(), add.s(1, y=2)) == repr(add.s(1, y=2)) == "shop.add(1, y=2)"
    long = app.add_periodic_task(10, add.s(1, "x" * 500))
    assert len(long) == 200
    assert said().keys() == {"shop.add(1, y=2)", long, CLEANUP}


def test_arguments_and_options_of_the_call_are_put_to_those_of_the_signature(add: Any) -> None:
    name = app.add_periodic_task(10, add.s(2).set(priority=1, time_limit=5), (1,), {}, "named", priority=7)
    made = said()[name]
    assert (made.args, made.priority, made.options) == ([1, 2], 7, {"time_limit": 5})
    name = app.add_periodic_task(10, add, (1,), {"y": 2})
    made = said()[name]
    assert (made.args, made.kwargs) == ([1], {"y": 2})


def test_a_second_one_of_the_same_signature_takes_the_place_of_the_first_and_is_warned_of(add: Any) -> None:
    app.add_periodic_task(10, add.s(1))
    with pytest.warns(DuplicateTaskNameWarning, match="two periodic tasks are called"):
        app.add_periodic_task(20, add.s(1))
    assert said()["shop.add(1)"].every == 20
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        app.add_periodic_task(10, add.s(1), name="named")
        app.add_periodic_task(20, add.s(1), name="named")


def test_receivers_of_an_app_add_periodic_tasks(add: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("djtasks.appstate.ready", False)
    own = Celery("own", set_as_current=False)

    @own.on_after_configure.connect
    def configured(sender: Any, **kwargs: Any) -> None:
        sender.add_periodic_task(10.0, add.s(1), name="configured")

    @own.on_after_finalize.connect
    def finalized(sender: Any, **kwargs: Any) -> None:
        sender.add_periodic_task(crontab(hour=7, minute=30), add.s(2), name="finalized")

    set_up()
    assert {"configured", "finalized"} <= said().keys()
    own.close()


@pytest.mark.parametrize(
    ("when", "signature", "text"),
    [
        ("soon", {"task": "shop.add"}, "a schedule is a number of seconds"),
        (10, "shop.add", "takes a signature"),
        (10, {"task": "x", "subtask_type": "chain"}, "is a workflow"),
    ],
)
def test_what_cannot_run_again_and_again_is_refused(when: Any, signature: Any, text: str) -> None:
    with pytest.raises(TypeError, match=text):
        app.add_periodic_task(when, signature)


def test_what_a_receiver_gets_wrong_is_told_by_the_check_until_it_is_right(add: Any) -> None:
    with pytest.raises(TypeError):
        app.add_periodic_task("soon", add.s(1), name="mine")
    [fault] = faults()
    assert (fault.name, fault.source) == ("mine", "code")
    app.add_periodic_task(10, add.s(1), name="mine")
    assert faults() == []


# -- schedule= --------------------------------------------------------------------------------------------------------


def test_a_task_says_itself_when_it_runs() -> None:
    @shared_task(name="shop.nightly", schedule=crontab(hour=3, minute=0, tz="Europe/Paris"))
    def nightly() -> None: ...

    @shared_task(
        name="shop.often", schedule={"schedule": 10, "args": [1], "overlap": "skip", "options": {"priority": 3}}
    )
    def often(x: int) -> None: ...

    assert (said()["shop.nightly"].hour, said()["shop.nightly"].timezone) == ("3", "Europe/Paris")
    made = said()["shop.often"]
    assert (made.every, made.args, made.overlap, made.priority, made.source) == (10, [1], "skip", 3, "decorator")
    assert nightly.schedule == crontab(hour=3, minute=0, tz="Europe/Paris")


def test_a_class_of_tasks_says_it_with_an_attribute_and_may_have_a_method_of_the_name() -> None:
    class Report(Task[Any, Any]):
        name = "shop.report"
        schedule = timedelta(hours=1)

        def run(self) -> None: ...

    class Plan(Task[Any, Any]):
        name = "shop.plan"

        def run(self) -> None: ...

        def schedule(self) -> str:
            return "mine"

    app.register_task(Report)
    app.register_task(Plan)
    assert said()["shop.report"].period == "hours"
    assert "shop.plan" not in said()
    assert faults() == []


def test_a_schedule_of_a_task_that_takes_arguments_is_a_fault() -> None:
    @shared_task(name="shop.needy", schedule=10)
    def needy(x: int) -> None: ...

    [fault] = faults()
    assert (fault.name, fault.source, "missing a required argument" in fault.text) == ("shop.needy", "decorator", True)


def test_the_settings_stand_over_code_and_code_over_tasks() -> None:
    @shared_task(name="shop.three", schedule=10)
    def three() -> None: ...

    assert said()["shop.three"].every == 10
    app.add_periodic_task(20, three.s(), name="shop.three")
    assert said()["shop.three"].every == 20
    app.conf.beat_schedule = {"shop.three": {"task": "shop.three", "schedule": 30}}
    assert said()["shop.three"].every == 30


# -- rows -------------------------------------------------------------------------------------------------------------


def hourly(**columns: Any) -> PeriodicTask:
    return PeriodicTask(
        **{"name": "mine", "task": "elsewhere", "kind": "interval", "every": 1, "period": "hours", **columns}
    )


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("when", "text"),
    [
        (60, "every minute"),
        (timedelta(hours=2), "every 2 hours"),
        (crontab(0, 4, "mon-fri", tz="Europe/Paris"), "at 04:00, Monday to Friday (Europe/Paris)"),
        (clocked(datetime(2126, 5, 6, 12, tzinfo=UTC)), "once, on 2126-05-06 at 12:00:00 (UTC)"),
        (solar("sunset", 48.86, 2.35), "at sunset at 48.86° N, 2.35° E"),
    ],
)
def test_a_row_holds_a_schedule(when: Any, text: str) -> None:
    made = PeriodicTask.from_schedule(when, name="mine", task="elsewhere")
    made.save()
    made = PeriodicTask.objects.get()
    assert made.schedule == (schedule(when) if isinstance(when, int | timedelta) else when)
    assert made.human_readable == text
    assert made.entry().id == made.id


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("columns", "field", "text"),
    [
        ({"name": ""}, "name", "cannot be blank"),
        ({"kind": "lunar"}, "kind", "not a valid choice"),
        ({"every": 0}, "every", "greater than or equal to 1"),
        ({"kind": "crontab", "every": None, "period": "", "minute": "61"}, "minute", "61 is out of range"),
        ({"kind": "crontab", "every": None, "day_of_month": "31", "month_of_year": "2"}, "day_of_month", "never run"),
        ({"kind": "crontab", "every": None, "timezone": "Mars"}, "timezone", "no time zone 'Mars'"),
        ({"kind": "crontab"}, "every", "an interval too"),
        ({"kind": "clocked", "every": None, "clocked": NOON - 365 * 24 * HOUR, "one_off": True}, "clocked", "passed"),
        ({"args": {}}, "args", "a list"),
        ({"args": None}, "args", "a list"),
        ({"kind": "crontab", "every": None, "period": "", "minute": None}, "minute", "a text of 1 to 240"),
        ({"args": ["\0"]}, "args", "PostgreSQL cannot keep"),
        ({"kwargs": []}, "kwargs", "an object"),
        ({"expires": NOON - 365 * 24 * HOUR}, "expires", "passed"),
        ({"expires": timezone.now() + HOUR, "expire_seconds": 5}, "expire_seconds", "not both"),
        ({"queue": "a\0"}, "queue", "without NUL"),
    ],
)
def test_saving_says_at_each_field_what_is_wrong(columns: dict[str, Any], field: str, text: str) -> None:
    with pytest.raises(ValidationError) as raised:
        hourly(**columns).save()
    assert text in " ".join(raised.value.message_dict[field])
    assert not PeriodicTask.objects.exists()


@pytest.mark.django_db
def test_a_name_is_given_once() -> None:
    hourly().save()
    with pytest.raises(ValidationError, match="already exists"):
        hourly().save()


@pytest.mark.django_db
def test_arguments_must_fit_a_task_that_is_known(add: Any) -> None:
    with pytest.raises(ValidationError, match="missing a required argument: 'x'"):
        hourly(task="shop.add").save()
    hourly(task="shop.add", args=[1]).save()


@pytest.mark.django_db
def test_a_row_whose_time_has_passed_can_be_edited_but_not_switched_on_again() -> None:
    made = hourly(expires=timezone.now() + HOUR)
    made.save()
    PeriodicTask.objects.update(expires=NOON - 365 * 24 * HOUR)
    made = PeriodicTask.objects.get()
    made.description = "It is over."
    made.save()
    made.enabled = False
    made.save()
    made.enabled = True
    with pytest.raises(ValidationError, match="passed"):
        made.save()


@pytest.mark.django_db
def test_the_database_refuses_two_schedules_and_none() -> None:
    for columns in ({"clocked": NOON}, {"every": None}, {"kind": "crontab"}, {"period": ""}, {"kind": "solar"}):
        with pytest.raises(IntegrityError), transaction.atomic():
            PeriodicTask.objects.bulk_create([hourly(**columns)])


@pytest.mark.django_db
def test_the_first_time_after_the_start_is_known() -> None:
    start = datetime(2126, 5, 6, 12, 30, tzinfo=UTC)
    daily = PeriodicTask.from_schedule(crontab(0, 4), name="a", task="x", start_time=start)
    assert daily.due_start_time() == datetime(2126, 5, 7, 4, tzinfo=UTC)
    assert hourly(start_time=start).due_start_time() == start
    assert hourly().due_start_time() is None


@pytest.mark.django_db
def test_a_row_tells_what_has_come_of_it() -> None:
    made = hourly()
    assert (made.last_run_at, made.next_run_at, made.total_run_count) == (None, None, 0)
    made.save()
    Tick.objects.filter(pk=made.pk).update(last_run_at=NOON, next_run_at=NOON + HOUR, total_run_count=3)
    made = PeriodicTask.objects.get()
    assert (made.last_run_at, made.next_run_at, made.total_run_count) == (NOON, NOON + HOUR, 3)


@pytest.mark.django_db
def test_writing_a_row_by_any_means_makes_its_time_stale() -> None:
    made = hourly()
    made.save()
    Tick.objects.update(stale=False)
    PeriodicTask.objects.update(every=2)
    assert Tick.objects.get().stale
    Tick.objects.update(stale=False)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE djtasks_periodic_task SET every = 3")
    assert Tick.objects.get().stale
    made.delete()
    assert not Tick.objects.exists()


@pytest.mark.django_db(databases=["default", "other"])
def test_rows_are_kept_and_checked_in_the_database_of_the_tasks() -> None:
    with override_settings(DJTASKS={"DATABASE": "other"}):
        made = hourly()
        made.save()
        assert (made._state.db, PeriodicTask.objects.get()) == ("other", made)
        with pytest.raises(ValidationError, match="already exists"):
            hourly().save()
        assert not PeriodicTask.objects.using("default").exists()
