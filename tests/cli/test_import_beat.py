"""The schedules of django-celery-beat become ours, from its tables alone."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection

from djtasks.models import PeriodicTask

pytestmark = pytest.mark.django_db
Command = Callable[..., tuple[int, str]]
#: As its migrations leave them, but for keys and indexes.
TABLES = (
    "CREATE TABLE django_celery_beat_intervalschedule (id int PRIMARY KEY, every int, period varchar(24))",
    """CREATE TABLE django_celery_beat_crontabschedule (id int PRIMARY KEY, minute varchar(240), hour varchar(96),
        day_of_week varchar(64), day_of_month varchar(124), month_of_year varchar(64), timezone varchar(63))""",
    """CREATE TABLE django_celery_beat_solarschedule (id int PRIMARY KEY, event varchar(24), latitude numeric(9,6),
        longitude numeric(9,6))""",
    "CREATE TABLE django_celery_beat_clockedschedule (id int PRIMARY KEY, clocked_time timestamptz)",
    """CREATE TABLE django_celery_beat_periodictask (
        id serial PRIMARY KEY, name varchar(200) UNIQUE, task varchar(200), args text DEFAULT '[]', kwargs text DEFAULT
        '{}', queue varchar(200), exchange varchar(200), routing_key varchar(200), headers text DEFAULT '{}', priority
        int, expires timestamptz, expire_seconds int, one_off boolean DEFAULT false, start_time timestamptz, enabled
        boolean DEFAULT true, last_run_at timestamptz, total_run_count int DEFAULT 0, date_changed timestamptz DEFAULT
        now(), description text DEFAULT '', interval_id int, crontab_id int, solar_id int, clocked_id int)""",
)
ROWS = (
    "INSERT INTO django_celery_beat_intervalschedule VALUES (1, 10, 'seconds'), (2, 0, 'days')",
    """INSERT INTO django_celery_beat_crontabschedule VALUES
        (1, '30', '4', 'mon-fri', '*', '*', 'Europe/Paris'), (2, '*', '*', '*', '31', '2', 'UTC')""",
    "INSERT INTO django_celery_beat_solarschedule VALUES (1, 'sunset', 48.85, 2.35)",
    "INSERT INTO django_celery_beat_clockedschedule VALUES (1, '2096-01-01 12:00:00+00')",
)


def put(name: str, **columns: Any) -> None:
    """A row of theirs."""
    columns = {"name": name, "task": "shop.tasks.send", **columns}
    names, values = ", ".join(columns), list(columns.values())
    with connection.cursor() as cursor:
        marks = ", ".join(["%s"] * len(values))
        cursor.execute(f"INSERT INTO django_celery_beat_periodictask ({names}) VALUES ({marks})", values)


@pytest.fixture
def _tables() -> None:
    PeriodicTask.objects.all().delete()
    with connection.cursor() as cursor:
        for statement in (*TABLES, *ROWS):
            cursor.execute(statement)


@pytest.mark.usefixtures("_tables")
def test_every_kind_of_schedule_is_imported(djtasks_command: Command) -> None:
    put("every ten", interval_id=1, args='[1, "a"]', kwargs='{"x": null}', headers='{"tenant": "a"}', queue="mail")
    put("workdays", crontab_id=1, enabled=False, expire_seconds=60, description="early")
    put("at sunset", solar_id=1, priority=5)
    put("once", clocked_id=1, one_off=True)
    code, said = djtasks_command("import_celery_beat")
    assert code == 0
    assert "4 imported, 0 there already, 0 not imported." in said
    assert "higher numbers run first here" in said
    rows = {row.name: row for row in PeriodicTask.objects.all()}
    ten, workdays, sunset, once = (rows[name] for name in ("every ten", "workdays", "at sunset", "once"))
    assert (ten.kind, ten.every, ten.period, ten.enabled, ten.queue) == ("interval", 10, "seconds", True, "mail")
    assert (ten.args, ten.kwargs, ten.headers) == ([1, "a"], {"x": None}, {"tenant": "a"})
    assert (workdays.kind, workdays.minute, workdays.hour, workdays.day_of_week) == ("crontab", "30", "4", "mon-fri")
    assert (workdays.timezone, workdays.enabled, workdays.expire_seconds) == ("Europe/Paris", False, 60)
    assert (sunset.event, sunset.latitude, sunset.longitude) == ("sunset", 48.85, 2.35)
    assert (once.clocked, once.one_off) == (datetime(2096, 1, 1, 12, tzinfo=UTC), True)


@pytest.mark.usefixtures("_tables")
def test_what_has_run_there_is_remembered(djtasks_command: Command) -> None:
    put("a", interval_id=1, last_run_at="2026-01-01 00:00:00+00", total_run_count=7)
    djtasks_command("import_celery_beat")
    row = PeriodicTask.objects.select_related("tick").get()
    assert (row.tick.last_run_at, row.tick.total_run_count) == (datetime(2026, 1, 1, tzinfo=UTC), 7)


@pytest.mark.usefixtures("_tables")
def test_what_cannot_be_mapped_is_told_and_the_rest_is_imported(djtasks_command: Command) -> None:
    put("no schedule")
    put("two schedules", interval_id=1, crontab_id=1)
    put("never", crontab_id=2)
    put("no interval", interval_id=2)
    put("no list", interval_id=1, args='{"a": 1}')
    put("no JSON", interval_id=1, kwargs="{")
    put("good", interval_id=1)
    code, said = djtasks_command("import_celery_beat")
    assert code == 1
    assert "1 imported, 0 there already, 6 not imported." in said
    for text in (
        "'no schedule': it has no schedule",
        "'two schedules': it has 2 schedules (interval, crontab)",
        "'no list': its args are no list",
        "'no JSON': its kwargs are no JSON",
    ):
        assert f"NOT IMPORTED   {text}" in said
    assert [row.name for row in PeriodicTask.objects.all()] == ["good"]


@pytest.mark.usefixtures("_tables")
def test_to_import_again_changes_nothing(djtasks_command: Command) -> None:
    put("a", interval_id=1)
    put("celery.backend_cleanup", crontab_id=1, task="celery.backend_cleanup")
    djtasks_command("import_celery_beat")
    PeriodicTask.objects.update(every=77)
    assert "0 imported, 2 there already" in djtasks_command("import_celery_beat")[1]
    assert list(PeriodicTask.objects.values_list("name", "every")) == [("a", 77)]


@pytest.mark.usefixtures("_tables")
def test_a_dry_run_writes_nothing_and_says_the_same(djtasks_command: Command) -> None:
    put("a", interval_id=1)
    put("b")
    code, said = djtasks_command("import_celery_beat", "--dry-run")
    assert code == 1
    assert "1 would be imported, 0 there already, 1 not imported." in said
    assert not PeriodicTask.objects.exists()


@pytest.mark.usefixtures("_tables")
def test_all_may_be_imported_disabled(djtasks_command: Command) -> None:
    put("a", interval_id=1)
    assert "Stop celery beat" not in djtasks_command("import_celery_beat", "--disabled")[1]
    assert not PeriodicTask.objects.get().enabled


@pytest.mark.usefixtures("_tables")
def test_tables_of_older_versions_are_read(djtasks_command: Command) -> None:
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE django_celery_beat_clockedschedule")
        cursor.execute("ALTER TABLE django_celery_beat_crontabschedule DROP COLUMN timezone")
        for column in ("headers", "one_off", "clocked_id", "expire_seconds", "start_time", "priority"):
            cursor.execute(f"ALTER TABLE django_celery_beat_periodictask DROP COLUMN {column}")
    put("a", crontab_id=1)
    assert djtasks_command("import_celery_beat")[0] == 0
    row = PeriodicTask.objects.get()
    assert (row.kind, row.timezone, json.dumps(row.headers)) == ("crontab", "", "{}")


def test_without_the_tables_it_says_so() -> None:
    with pytest.raises(CommandError, match="has no table django_celery_beat_periodictask"):
        call_command("djtasks", "import_celery_beat")
    with pytest.raises(CommandError, match="DATABASES has no 'nowhere'"):
        call_command("djtasks", "import_celery_beat", "--database", "nowhere")


def test_the_command_knows_its_verbs() -> None:
    with pytest.raises(CommandError):
        call_command("djtasks")
    with pytest.raises(CommandError):
        call_command("djtasks", "none_such")
