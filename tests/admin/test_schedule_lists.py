"""The list of periodic tasks, what is done to many of them at once, their preview, and the beats."""

import re
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from djtasks import shared_task
from djtasks.ids import new_task_id
from djtasks.models import Beat, Message, PeriodicTask, Tick
from djtasks.registry import tasks
from tests.admin.conftest import a_message, a_result, field, words
from tests.admin.periodic import LIST, PREVIEW, a_periodic_task, clocked, crontab, from_code, interval, names

MARKUP = "<script>alert('x')</script>&amp;\u202eevil"


@pytest.fixture(autouse=True)
def _tasks() -> Iterator[None]:
    """A task, and no periodic ones."""
    PeriodicTask.objects.all().delete()
    Beat.objects.all().delete()

    @shared_task(name="tests.schedules.nothing")
    def nothing() -> None: ...

    yield
    tasks.unregister(nothing.name)


def many(count: int, **fields: Any) -> list[PeriodicTask]:
    """So many rows."""
    values = {"task": "tests.schedules.nothing", "kind": "interval", "every": 5, "period": "minutes", **fields}
    return PeriodicTask.objects.bulk_create([PeriodicTask(name=f"task {n:05}", **values) for n in range(count)])


def ran(row: PeriodicTask, **fields: Any) -> UUID:
    """Let a row have run an hour ago; returns the task that it was."""
    task_id = UUID(new_task_id())
    values = {"last_run_at": timezone.now() - timedelta(hours=1), "last_task_id": task_id, "total_run_count": 7}
    Tick.objects.filter(pk=row.pk).update(**{**values, "stale": False, **fields})
    return task_id


def act(client: Client, action: str, *rows: PeriodicTask, **more: str) -> Any:
    """Tick these rows, and do that to them."""
    chosen = [str(row.pk) for row in rows]
    return client.post(LIST, {"action": action, "_selected_action": chosen, "index": "0", **more}, follow=True)


def enabled() -> list[bool]:
    """Which rows are, by name."""
    return list(PeriodicTask.objects.order_by("name").values_list("enabled", flat=True))


# -- the list -----------------------------------------------------------------------------------------------------


def test_the_list_shows_when_each_runs_and_what_came_of_its_last_run(admin_client: Client) -> None:
    row = a_periodic_task()
    task_id = ran(row, next_run_at=datetime(2099, 1, 2, 3, 4, 5, tzinfo=UTC))
    a_result(id=task_id, state="FAILURE")
    page = admin_client.get(LIST)
    assert "often every 5 minutes 2099-01-02 03:04:05" in words(page)
    assert f'<a href="/admin/djtasks/result/{task_id}/change/">FAILURE</a>' in page.content.decode()
    assert "FAILURE" in field(admin_client.get(f"{LIST}{row.pk}/change/"), "last_outcome")


def test_a_run_that_has_not_ended_says_so(admin_client: Client) -> None:
    for name, fields, text in (("a", {}, "waits"), ("b", {"owner": 1, "lane": None}, "runs")):
        a_message(id=ran(a_periodic_task(name=name)), **fields)
        assert f'/change/">{text}</a>' in admin_client.get(LIST, {"q": name}).content.decode()
    ran(a_periodic_task(name="zzz"))
    assert "ended, and kept no result" in words(admin_client.get(LIST, {"q": "zzz"}))


def test_an_outcome_leads_only_where_the_user_may_follow(staff: Callable[..., Client]) -> None:
    row = a_periodic_task()
    a_result(id=ran(row), state="SUCCESS")
    page = staff("view_periodictask").get(LIST)
    assert "SUCCESS" in words(page)
    assert "/admin/djtasks/result/" not in page.content.decode()


def test_a_page_of_many_rows_takes_no_more_queries_than_one_of_one(admin_client: Client) -> None:
    counts = []
    for count in (1, 40):
        PeriodicTask.objects.all().delete()
        for row in many(count):
            a_result(id=ran(row))
        admin_client.get(LIST)
        with CaptureQueriesContext(
            connection,
        ) as queries:
            assert len(names(admin_client.get(LIST))) == count
        counts.append([query["sql"] for query in queries if "djtasks_periodic_task" in query["sql"]])
    assert len(counts[0]) == len(counts[1])
    assert sum("djtasks_result" in sql for sql in counts[1]) == 1


def test_marks_say_where_a_row_comes_from_and_what_is_wrong_with_it(admin_client: Client) -> None:
    row = from_code(name="a")
    PeriodicTask.objects.filter(pk=row.pk).update(overridden=True, vanished=True, one_off=True)
    ran(row, error="QueueNotFound: nope", error_at=timezone.now())
    page = admin_client.get(LIST)
    for mark in ("from BEAT_SCHEDULE", "overridden", "gone from the code", "once", "could not be sent"):
        assert mark in words(page)
    assert "QueueNotFound: nope" in field(admin_client.get(f"{LIST}{row.pk}/change/"), "error")
    assert names(admin_client.get(LIST, {"trouble": "error"})) == ["a"]
    assert names(admin_client.get(LIST, {"trouble": "vanished"})) == ["a"]


def test_filters_and_the_search_find_rows(admin_client: Client) -> None:
    ran(a_periodic_task(name="one", one_off=True))
    a_periodic_task(name="two", kind="crontab", every=None, period="", task="shop.tasks.send")
    a_periodic_task(name="three", enabled=False)
    from_code(name="four")
    for asked, found in (
        ({"enabled__exact": "0"}, ["three"]),
        ({"kind": "crontab"}, ["two"]),
        ({"one_off__exact": "1"}, ["one"]),
        ({"task": "shop.tasks.send"}, ["two"]),
        ({"source": "settings"}, ["four"]),
        ({"tick__last_run_at__isnull": "False"}, ["one"]),
        ({"q": "thr"}, ["three"]),
        ({"q": "shop.t"}, ["two"]),
        ({"q": MARKUP}, []),
        ({"task": MARKUP}, []),
        ({"o": "4"}, ["four", "one", "three", "two"]),
    ):
        page = admin_client.get(LIST, asked)
        assert sorted(names(page)) == found, asked
    for asked in (
        {"task": "\0"},
        {"q": "\0"},
        {"args__contains": "1"},
        {"kind": "\0"},
        {"tick__last_run_at__gte": "x"},
    ):
        assert admin_client.get(LIST, asked).status_code in (200, 302, 400)


def test_the_days_above_the_list_are_those_of_the_next_runs(admin_client: Client) -> None:
    for name, year in (("a", 2098), ("b", 2099)):
        ran(a_periodic_task(name=name), next_run_at=datetime(year, 1, 2, tzinfo=UTC))
    assert '"?tick__next_run_at__year=2099"' in admin_client.get(LIST).content.decode()
    assert names(admin_client.get(LIST, {"tick__next_run_at__year": "2099"})) == ["b"]


def test_hostile_texts_are_shown_and_do_nothing(admin_client: Client) -> None:
    row = a_periodic_task(name=MARKUP, task=MARKUP, description=MARKUP, headers={MARKUP: MARKUP})
    ran(row, error=MARKUP)
    for url in (LIST, f"{LIST}{row.pk}/change/", f"{LIST}{row.pk}/delete/", f"{LIST}{row.pk}/history/"):
        page = admin_client.get(url).content.decode()
        assert "<script>alert" not in page
        assert "&lt;script&gt;alert" in page
    cells = re.findall(r'<t[dh] class="field.*?</t[dh]>', admin_client.get(LIST).content.decode())
    assert len(cells) == 8
    assert "\u202e" not in "".join(cells)


def test_a_row_that_cannot_be_read_does_not_hide_the_others(admin_client: Client) -> None:
    many(1, kind="crontab", every=None, period="", minute="99")
    a_periodic_task()
    page = admin_client.get(LIST)
    assert names(page) == ["often", "task 00000"]
    assert "unreadable: " in words(page)
    assert admin_client.get(f"{LIST}{PeriodicTask.objects.get(minute='99').pk}/change/").status_code == 200


def test_the_list_says_when_no_beat_runs(admin_client: Client) -> None:
    assert "No beat is running" in words(admin_client.get(LIST))
    beat = Beat.objects.create(incarnation=1, name="beat@here", host="here", pid=7, embedded=True, sent=1234)
    assert "No beat is running" not in words(admin_client.get(LIST))
    page = words(admin_client.get("/admin/djtasks/beat/"))
    assert "beat@here" in page
    assert "1,234" in page
    assert admin_client.get("/admin/djtasks/beat/1/change/").status_code == 200
    assert admin_client.post("/admin/djtasks/beat/1/delete/", {"post": "yes"}).status_code == 403
    beat.heartbeat = timezone.now() - timedelta(days=1)
    beat.save()
    assert "No beat is running" in words(admin_client.get(LIST))


# -- many at once -------------------------------------------------------------------------------------------------


def test_ten_thousand_rows_are_switched_in_one_statement_and_run_now(admin_client: Client) -> None:
    first, *_ = many(10_000)
    with CaptureQueriesContext(connection) as queries:
        assert "10,000 periodic tasks disabled." in words(
            act(admin_client, "disable_selected", first, select_across="1")
        )
    assert sum('UPDATE "djtasks_periodic_task"' in query["sql"] for query in queries) == 1
    assert PeriodicTask.objects.filter(enabled=False).count() == 10_000
    assert "10,000 periodic tasks sent." in words(act(admin_client, "run_selected", first, select_across="1"))
    assert Message.objects.filter(name="tests.schedules.nothing").count() == 10_000
    assert Tick.objects.filter(total_run_count=1).count() == 10_000
    assert LogEntry.objects.count() == 20_000


def test_only_what_is_ticked_is_switched(admin_client: Client) -> None:
    rows = many(3)
    act(admin_client, "disable_selected", rows[1])
    assert enabled() == [True, False, True]
    act(admin_client, "toggle_selected", rows[0], rows[1])
    assert enabled() == [False, True, True]
    assert LogEntry.objects.count() == 3


def test_rows_are_deleted_with_their_ticks(admin_client: Client) -> None:
    rows = many(150)
    page = act(admin_client, "delete_selected", *rows[:149])
    assert "… and 49 more" in words(page)
    act(admin_client, "delete_selected", *rows[:149], post="yes")
    assert PeriodicTask.objects.get().pk == rows[149].pk
    assert Tick.objects.count() == 1


def test_a_switch_is_an_edit_of_what_the_code_says(admin_client: Client) -> None:
    own, coded = a_periodic_task(), from_code()
    act(admin_client, "disable_selected", own, coded)
    assert dict(PeriodicTask.objects.values_list("name", "overridden")) == {"often": False, "from code": True}


def test_run_now_sends_what_is_chosen_and_says_what_cannot_be_sent(admin_client: Client) -> None:
    good, bad = a_periodic_task(), a_periodic_task(name="bad", task="shop.tasks.send")
    PeriodicTask.objects.filter(pk=bad.pk).update(options={"no_such_option": 1})
    text = words(act(admin_client, "run_selected", good, bad))
    assert "1 periodic task sent." in text
    assert "Could not be sent: bad: TypeError: " in text
    assert Message.objects.get().periodic == good.pk
    assert Tick.objects.get(pk=bad.pk).error != ""


def test_run_now_stands_on_the_page_of_a_row(admin_client: Client) -> None:
    row = a_periodic_task(enabled=False)
    page = admin_client.get(f"{LIST}{row.pk}/change/").content.decode()
    assert f'action="{LIST}{row.pk}/run/"' in page
    assert "1 periodic task sent." in words(admin_client.post(f"{LIST}{row.pk}/run/", follow=True))
    assert admin_client.get(f"{LIST}{row.pk}/run/").status_code == 405
    assert Message.objects.get().name == row.task
    assert LogEntry.objects.get().change_message == "Run now."


def test_what_was_edited_is_reset_to_what_the_code_says(admin_client: Client) -> None:
    row, gone, own = from_code(every=30), from_code("gone"), a_periodic_task()
    PeriodicTask.objects.filter(pk__in=[row.pk, gone.pk]).update(every=31, overridden=True, enabled=False)
    PeriodicTask.objects.filter(pk=gone.pk).update(vanished=True)
    assert "1 periodic task reset." in words(act(admin_client, "reset_selected", row, gone, own))
    row.refresh_from_db()
    assert (row.every, row.enabled, row.overridden) == (30, True, False)
    gone.refresh_from_db()
    assert (gone.every, gone.enabled) == (31, False)
    assert "None of them differs" in words(act(admin_client, "reset_selected", own))


@pytest.mark.parametrize(
    ("codenames", "actions"),
    [
        ((), set()),
        (("change_periodictask",), {"enable_selected", "disable_selected", "toggle_selected", "reset_selected"}),
        (("run_periodictask",), {"run_selected"}),
        (("delete_periodictask",), {"delete_selected"}),
    ],
)
def test_each_action_needs_its_permission(
    staff: Callable[..., Client], codenames: tuple[str, ...], actions: set[str]
) -> None:
    row, client = a_periodic_task(), staff("view_periodictask", *codenames)
    page = client.get(LIST).content.decode()
    known = {
        "enable_selected",
        "disable_selected",
        "toggle_selected",
        "run_selected",
        "reset_selected",
        "delete_selected",
    }
    assert {name for name in known if f'value="{name}"' in page} == actions
    before = PeriodicTask.objects.values().get()
    for action in known - actions:
        act(client, action, row, post="yes")
    assert PeriodicTask.objects.values().get() == before
    assert not Message.objects.exists()


# -- the preview --------------------------------------------------------------------------------------------------


def preview(client: Client, form: dict[str, Any]) -> dict[str, Any]:
    """What is said of what is typed."""
    response = client.get(PREVIEW, form)
    assert response.status_code == 200
    found: dict[str, Any] = response.json()
    return found


def test_the_preview_says_the_schedule_in_words_and_its_next_five_runs(admin_client: Client) -> None:
    typed = crontab(minute="30", hour="2", timezone="Europe/Paris", task="tests.schedules.nothing")
    found = preview(admin_client, typed)
    assert "02:30" in found["words"]
    assert "Europe/Paris" in found["words"]
    assert len(found["runs"]) == 5
    assert all(run["text"][15:23] in ("02:30:00", "03:00:00") for run in found["runs"])
    assert found["runs"][0]["away"].startswith("in ")
    assert found["errors"] == {}
    assert found["task"] == {"warning": "", "takes": "tests.schedules.nothing() -> None"}
    assert not PeriodicTask.objects.exists()


def test_the_preview_says_what_is_wrong_at_its_field(admin_client: Client) -> None:
    found = preview(admin_client, crontab(minute="61", timezone="Nowhere", task="tests.schedules.nothin"))
    assert set(found["errors"]) == {"minute", "timezone"}
    assert (found["words"], found["runs"]) == ("", [])
    assert "Did you mean 'tests.schedules.nothing'?" in found["task"]["warning"]


def test_the_preview_of_a_stored_row_goes_on_from_its_next_run(admin_client: Client) -> None:
    row, at = a_periodic_task(), timezone.now().replace(microsecond=0) + timedelta(seconds=100)
    ran(row, next_run_at=at)
    found = preview(admin_client, {**interval(), "of": str(row.pk)})
    assert [datetime.fromisoformat(run["at"]) for run in found["runs"][:2]] == [at, at + timedelta(minutes=5)]
    other = preview(admin_client, {**interval(every="7"), "of": str(row.pk)})
    assert datetime.fromisoformat(other["runs"][0]["at"]) > at
    assert PeriodicTask.objects.get().every == 5


@pytest.mark.parametrize("text", [MARKUP, "\0", "\ud83d", "9" * 5000, "*/" * 100, "[" * 1000, "-", "%", "٣"])
def test_the_preview_survives_whatever_is_typed(admin_client: Client, text: str) -> None:
    for form in (crontab(minute=text, timezone=text), interval(every=text, period=text), {"kind": text, "of": text}):
        typed = {name: value.encode("utf-8", "surrogatepass") for name, value in form.items()}
        response = admin_client.get(PREVIEW, typed)
        assert response.status_code == 200
        assert response.headers["Content-Type"] == "application/json"
        assert response.json()["runs"] == []


@pytest.mark.parametrize("date", ["9999-12-31", "9999-01-01", "2500-02-28"])
def test_the_preview_goes_to_the_end_of_the_calendar(admin_client: Client, date: str) -> None:
    for zone in ("UTC", "Pacific/Kiritimati", "Pacific/Midway"):
        with timezone.override(zone):
            assert admin_client.get(PREVIEW, clocked(date, "23:59:59")).status_code == 200
    found = preview(admin_client, clocked(date, "12:00:00"))
    assert [run["at"] for run in found["runs"]] == [f"{date}T12:00:00+00:00"]
    assert found["note"] == "It runs once."


def test_the_preview_is_asked_for_and_nothing_else(admin_client: Client, staff: Callable[..., Client]) -> None:
    assert admin_client.post(PREVIEW, interval()).status_code == 405
    assert staff("view_periodictask").get(PREVIEW, interval()).status_code == 200
    assert staff("add_periodictask").get(PREVIEW, interval()).status_code == 200
    assert staff("view_message").get(PREVIEW, interval()).status_code == 403
