"""The form of periodic tasks in the admin: what is stored, and what is refused with a sentence at its field."""

import io
import json
import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.core.management import call_command
from django.test import Client

from djtasks import shared_task
from djtasks.models import PeriodicTask, Tick
from djtasks.registry import tasks
from tests.admin.conftest import field, words
from tests.admin.periodic import (
    LIST,
    a_periodic_task,
    checked,
    clocked,
    crontab,
    errors,
    from_code,
    interval,
    solar,
)

ADD = f"{LIST}add/"


@pytest.fixture(autouse=True)
def _tasks() -> Iterator[None]:
    """Two tasks, and no periodic ones."""
    PeriodicTask.objects.all().delete()

    @shared_task(name="tests.schedules.add")
    def add(x: int, y: int = 0) -> int:
        return x + y

    @shared_task(name="tests.schedules.nothing")
    def nothing() -> None: ...

    yield
    for task in (add, nothing):
        tasks.unregister(task.name)


def page_of(row: PeriodicTask, page: str = "change") -> str:
    """The address of a page of a row."""
    return f"{LIST}{row.pk}/{page}/"


def stored(client: Client, form: dict[str, Any]) -> PeriodicTask:
    """Send the form; the row that it makes."""
    response = client.post(ADD, form)
    assert response.status_code == 302, errors(response)
    return PeriodicTask.objects.get()


# -- what is stored -----------------------------------------------------------------------------------------------


def test_a_periodic_task_is_added_with_its_schedule_and_arguments(admin_client: Client) -> None:
    row = stored(admin_client, interval(kwargs='{"y": "é\\u2603"}', description="often enough", priority="7"))
    assert (row.name, row.kind, row.every, row.period) == ("often", "interval", 5, "minutes")
    assert (row.args, row.kwargs, row.priority, row.description) == ([1], {"y": "é☃"}, 7, "often enough")
    assert (row.source, row.enabled, row.overridden) == ("admin", True, False)
    assert row.tick.stale


def test_a_crontab_is_stored_with_its_zone(admin_client: Client) -> None:
    row = stored(admin_client, crontab(minute="*/15", hour="8-17", day_of_week="mon-fri", timezone="Europe/Paris"))
    assert (row.minute, row.hour, row.day_of_week, row.timezone) == ("*/15", "8-17", "mon-fri", "Europe/Paris")


def test_what_runs_at_one_time_runs_once(admin_client: Client) -> None:
    row = stored(admin_client, clocked("2099-01-31", "08:30:00"))
    assert (row.clocked, row.one_off) == (datetime(2099, 1, 31, 8, 30, tzinfo=UTC), True)


def test_an_event_of_the_sun_is_stored_with_its_place(admin_client: Client) -> None:
    row = stored(admin_client, solar())
    assert (row.event, row.latitude, row.longitude) == ("sunset", 48.86, 2.35)


def test_empty_argument_fields_mean_no_arguments(admin_client: Client) -> None:
    row = stored(admin_client, interval(task="tests.schedules.nothing", args="", kwargs="", headers="", options=""))
    assert (row.args, row.kwargs, row.headers, row.options) == ([], {}, {}, {})


def test_fields_that_a_browser_does_not_send_are_those_of_no_schedule(admin_client: Client) -> None:
    row = a_periodic_task(kind="crontab", every=None, period="", minute="5", hour="4", timezone="Asia/Kathmandu")
    form = interval(task="tests.schedules.nothing", args="[]")
    for name in ("minute", "hour", "day_of_month", "month_of_year", "day_of_week"):
        del form[name]
    assert admin_client.post(page_of(row), form).status_code == 302
    row.refresh_from_db()
    assert (row.kind, row.every, row.minute, row.hour, row.timezone) == ("interval", 5, "*", "*", "")


def test_another_kind_can_be_chosen_without_a_script(admin_client: Client) -> None:
    row = a_periodic_task(kind="solar", every=None, period="", event="sunset", latitude=1.0, longitude=2.0)
    unchanged = {"event": "sunset", "latitude": "1.0", "longitude": "2.0"}
    assert admin_client.post(page_of(row), crontab(args="[1]", hour="4", **unchanged)).status_code == 302
    row.refresh_from_db()
    assert (row.kind, row.hour, row.event, row.latitude, row.longitude) == ("crontab", "4", "", None, None)


def test_a_task_that_is_not_registered_here_is_stored_with_a_warning(admin_client: Client) -> None:
    response = admin_client.post(ADD, interval(task="tests.schedules.ad", args="[1, 2, 3]"), follow=True)
    assert "There is no task 'tests.schedules.ad' here. Did you mean 'tests.schedules.add'?" in words(response)
    assert PeriodicTask.objects.get().args == [1, 2, 3]


def test_registered_tasks_are_offered_with_what_they_take(admin_client: Client) -> None:
    page = admin_client.get(ADD).content.decode()
    assert '<option value="tests.schedules.add">tests.schedules.add(x: int, y: int = 0) -&gt; int</option>' in page
    assert '<option value="Asia/Kathmandu">' in page
    assert 'list="id_task_suggestions"' in page


def test_a_change_is_written_into_the_history(admin_client: Client) -> None:
    row = stored(admin_client, interval())
    assert admin_client.post(page_of(row), interval(every="6", description="x")).status_code == 302
    assert "Changed Description and Every." in words(admin_client.get(page_of(row, "history")))


def test_a_row_can_be_saved_as_a_new_one(admin_client: Client) -> None:
    row = from_code()
    form = interval(name="a copy", _saveasnew="Save as new")
    assert admin_client.post(page_of(row), form).status_code == 302
    assert PeriodicTask.objects.get(name="a copy").source == "admin"


def test_an_edit_of_what_the_code_says_is_marked_as_one(admin_client: Client) -> None:
    row = from_code()
    unchanged = interval(name=row.name, task=row.task, args="[]", every="30", period="seconds")
    assert admin_client.post(page_of(row), unchanged).status_code == 302
    row.refresh_from_db()
    assert not row.overridden
    assert admin_client.post(page_of(row), {**unchanged, "every": "31"}).status_code == 302
    row.refresh_from_db()
    assert row.overridden
    page = admin_client.get(page_of(row))
    assert "from BEAT_SCHEDULE" in field(page, "marks")
    assert "overridden" in field(page, "marks")
    assert "'every': 30" in field(page, "from_code")


def test_a_page_that_stood_open_does_not_switch_on_what_has_run_once_meanwhile(admin_client: Client) -> None:
    row = stored(admin_client, clocked("2030-01-01"))
    page = admin_client.get(page_of(row)).content.decode()
    assert 'name="initial-enabled" value="True"' in page
    PeriodicTask.objects.update(enabled=False)
    edited = clocked("2030-01-01", description="seen", **{"initial-enabled": "True"})
    assert admin_client.post(page_of(row), edited).status_code == 302
    row.refresh_from_db()
    assert (row.description, row.enabled) == ("seen", False)
    assert admin_client.post(page_of(row), clocked("2030-01-01")).status_code == 302
    row.refresh_from_db()
    assert row.enabled


def test_a_row_is_deleted_with_what_beat_keeps_of_it(admin_client: Client) -> None:
    row = a_periodic_task()
    assert Tick.objects.filter(pk=row.pk).exists()
    assert "often" in words(admin_client.get(page_of(row, "delete")))
    assert admin_client.post(page_of(row, "delete"), {"post": "yes"}).status_code == 302
    assert not PeriodicTask.objects.exists()
    assert not Tick.objects.filter(pk=row.pk).exists()


# -- what is refused ----------------------------------------------------------------------------------------------

DEEP = "[" * 60 + "]" * 60
WRONG: list[tuple[dict[str, Any], str, str]] = [
    (crontab(minute="61"), "minute", "61"),
    (crontab(minute="1,,2"), "minute", ""),
    (crontab(hour="noon"), "hour", "noon"),
    (crontab(hour="*/0"), "hour", ""),
    (crontab(day_of_week="someday"), "day_of_week", "someday"),
    (crontab(day_of_month="31", month_of_year="2"), "day_of_month", ""),
    (crontab(day_of_month=""), "day_of_month", ""),
    (crontab(timezone="Mars/Olympus"), "timezone", "here is no time zone 'Mars/Olympus'"),
    (crontab(timezone="../../etc/passwd"), "timezone", "time zone"),
    (interval(every="0"), "every", "greater than or equal to 1"),
    (interval(every="99999999999"), "every", "2147483647"),
    (interval(every=""), "every", "needs a number"),
    (interval(period=""), "period", "needs a unit"),
    (interval(kind="weekly"), "kind", "valid choice"),
    (interval(kind=""), "kind", "required"),
    (interval(clocked_0="2099-01-01", clocked_1="00:00"), "clocked", "not of the kind “interval”"),
    (interval(event="sunset"), "event", "not of the kind “interval”"),
    (interval(hour="4"), "hour", "not of the kind “interval”"),
    (crontab(every="5"), "every", "not of the kind “crontab”"),
    (clocked("2020-01-01"), "clocked", "This time has passed"),
    (clocked("31.12.2099"), "clocked", "valid date"),
    (clocked("", ""), "clocked", "needs the time"),
    (solar(event="moonrise"), "event", "valid choice"),
    (solar(event=""), "event", ""),
    (solar(latitude="91"), "latitude", "90"),
    (solar(longitude=""), "longitude", ""),
    (interval(name=""), "name", "required"),
    (interval(name="a\0b"), "name", "holds a NUL"),
    (interval(name="x" * 201), "name", "200"),
    (interval(task=""), "task", "required"),
    (interval(task="a\0b"), "task", "holds a NUL"),
    (interval(description="a\0b"), "description", "holds a NUL"),
    (interval(args="{}"), "args", 'a list, like [1, "two"]'),
    (interval(args="7"), "args", "a list"),
    (interval(args="null"), "args", "a list"),
    (interval(args="[1"), "args", "valid JSON"),
    (interval(args="[NaN]"), "args", "valid JSON"),
    (interval(args="[1e400]"), "args", "too large"),
    (interval(args=f"[{'9' * 5000}]"), "args", "valid JSON"),
    (interval(args='["\\u0000"]'), "args", "NUL"),
    (interval(args='["\\ud800"]'), "args", "surrogate"),
    (interval(args=DEEP), "args", "nested too deeply"),
    (interval(args="[" * 50_000), "args", "valid JSON"),
    (interval(kwargs="[]"), "kwargs", 'an object, like {"name": 1}'),
    (interval(kwargs='{"\\u0000": 1}'), "kwargs", "NUL"),
    (interval(headers="[]"), "headers", "an object"),
    (interval(options='"x"'), "options", "an object"),
    (interval(options='{"no_such_option": 1}'), "options", "no_such_option"),
    (interval(args="[]"), "args", "missing a required argument: 'x'"),
    (interval(args="[1, 2, 3]"), "args", "too many positional arguments"),
    (interval(kwargs='{"z": 1}'), "kwargs", "unexpected keyword argument 'z'"),
    (interval(priority="99999"), "priority", "32767"),
    (interval(queue="x" * 201), "queue", "200"),
    (interval(expires_0="2020-01-01", expires_1="00:00"), "expires", "This time has passed"),
    (interval(expires_0="2099-01-01", expires_1="00:00", expire_seconds="5"), "expire_seconds", "not both"),
    (interval(expire_seconds="-1"), "expire_seconds", "greater than or equal to 0"),
    (interval(start_time_0="2099-01-01", start_time_1="noon"), "start_time", "valid time"),
    (interval(catch_up="sometimes"), "catch_up", "valid choice"),
    (interval(overlap=""), "overlap", "required"),
]


@pytest.mark.parametrize(("form", "name", "text"), WRONG, ids=lambda value: value if isinstance(value, str) else "")
def test_what_is_wrong_is_said_at_its_field(form: dict[str, Any], name: str, text: str) -> None:
    found = checked(form)
    assert set(found) == {name}, found
    (said,) = found[name]
    assert text in said


def test_what_is_wrong_stands_at_its_field_and_nothing_is_stored(admin_client: Client) -> None:
    response = admin_client.post(ADD, crontab(minute="61", args='["\\u0000"]'))
    assert set(errors(response)) == {"minute", "args"}
    assert re.search(r'<ul class="errorlist" id="id_minute_error"><li>[^<]*61', response.content.decode())
    assert not PeriodicTask.objects.exists()


def test_a_name_is_given_once(admin_client: Client) -> None:
    row = a_periodic_task()
    assert errors(admin_client.post(ADD, interval())) == {"name": "There is a periodic task of this name."}
    assert admin_client.post(page_of(row), interval()).status_code == 302


def test_what_was_typed_is_shown_again(admin_client: Client) -> None:
    typed = '["</textarea><script>alert(1)</script>", '
    page = admin_client.post(ADD, interval(args=typed)).content.decode()
    assert "&lt;/textarea&gt;&lt;script&gt;alert(1)" in page
    assert "<script>alert" not in page


def test_a_time_that_has_passed_since_does_not_stand_in_the_way_of_another_edit(admin_client: Client) -> None:
    when = datetime(2020, 1, 1, 12, tzinfo=UTC)
    (row,) = PeriodicTask.objects.bulk_create(
        [PeriodicTask(name="often", task="tests.schedules.add", kind="clocked", one_off=True, clocked=when)]
    )
    form = clocked("2020-01-01", name="often", description="long ago")
    assert admin_client.post(page_of(row), form).status_code == 302
    row.refresh_from_db()
    assert row.description == "long ago"


# -- who may ------------------------------------------------------------------------------------------------------


def test_who_may_only_look_sees_the_page_and_its_next_runs_and_changes_nothing(staff: Callable[..., Client]) -> None:
    row, client = a_periodic_task(), staff("view_periodictask")
    page = client.get(page_of(row))
    assert "every 5 minutes" in field(page, "next_runs")
    assert 'name="_save"' not in page.content.decode()
    assert "Run now" not in words(page)
    for url in (ADD, page_of(row), page_of(row, "delete"), page_of(row, "run")):
        assert client.post(url, {**interval(every="6"), "post": "yes"}).status_code == 403
    assert PeriodicTask.objects.get().every == 5


@pytest.mark.parametrize("verb", ["add", "change", "delete", "run"])
def test_each_permission_gives_its_own_thing(staff: Callable[..., Client], verb: str) -> None:
    row, client = a_periodic_task(), staff("view_periodictask", f"{verb}_periodictask")
    allowed = {
        "add": client.post(ADD, interval(name="new")).status_code,
        "change": client.post(page_of(row), interval(args="[1]")).status_code,
        "run": client.post(page_of(row, "run")).status_code,
        "delete": client.post(page_of(row, "delete"), {"post": "yes"}).status_code,
    }
    assert {name: status == 302 for name, status in allowed.items()} == {name: name == verb for name in allowed}


def test_strangers_see_nothing(staff: Callable[..., Client]) -> None:
    row, client = a_periodic_task(), staff("view_result")
    for url in (LIST, ADD, page_of(row), f"{LIST}preview/"):
        assert client.get(url).status_code == 403
    assert Client().get(f"{LIST}preview/").status_code == 302


@pytest.mark.parametrize("key", ["x", "-1", "9" * 30, "%00", "1.5", "²"])
def test_a_key_that_is_none_is_no_row(admin_client: Client, key: str) -> None:
    assert admin_client.get(f"{LIST}{key}/change/").status_code == 302
    assert admin_client.post(f"{LIST}{key}/run/").status_code == 404


# -- elsewhere ----------------------------------------------------------------------------------------------------


@pytest.mark.django_db(databases=["default", "other"])
def test_rows_are_written_in_the_database_of_tasks(admin_client: Client, configure: Callable[..., None]) -> None:
    configure(DATABASE="other")
    there = PeriodicTask.objects.using("other")
    here = PeriodicTask(name="often", task="tests.schedules.add", kind="interval", every=1, period="days", args=[1])
    here.save(using="default")
    assert admin_client.post(ADD, interval()).status_code == 302
    row = there.get()
    assert errors(admin_client.post(ADD, interval()))["name"] == "There is a periodic task of this name."
    assert admin_client.post(page_of(row), interval(every="7")).status_code == 302
    assert admin_client.get(page_of(row)).status_code == 200
    assert "1 periodic task" in words(admin_client.get(LIST))
    admin_client.post(LIST, {"action": "disable_selected", "_selected_action": row.pk})
    row = there.get()
    assert (row.every, row.enabled) == (7, False)
    assert admin_client.post(page_of(row, "run")).status_code == 302
    assert there.get().tick.total_run_count == 1
    assert admin_client.post(page_of(row, "delete"), {"post": "yes"}).status_code == 302
    assert not there.exists()
    assert PeriodicTask.objects.using("default").count() == 1
    assert LogEntry.objects.using("default").count() == 5


def test_rows_travel_as_a_fixture(tmp_path: Path) -> None:
    a_periodic_task(headers={"text": "é\u2028<&>"})
    a_periodic_task(name="nightly", kind="crontab", every=None, period="", hour="4", timezone="Europe/Paris")
    from_code()
    before = list(PeriodicTask.objects.values())
    fixture = tmp_path / "schedules.json"
    call_command("dumpdata", "djtasks.periodictask", output=str(fixture), verbosity=0)
    assert len(json.loads(fixture.read_text())) == 3
    PeriodicTask.objects.all().delete()
    call_command("loaddata", str(fixture), verbosity=0, stdout=io.StringIO())
    after = list(PeriodicTask.objects.values())
    assert [{**row, "date_changed": None} for row in after] == [{**row, "date_changed": None} for row in before]
    assert Tick.objects.filter(stale=True).count() == 3
