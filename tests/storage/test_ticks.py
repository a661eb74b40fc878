"""Ticks: what is due is sent once, by whoever comes first, and is due again later; what is bad says so on its row."""

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from django.test import override_settings
from psycopg.types.json import Jsonb

from djtasks import shared_task, signals
from djtasks.beat.scheduler import BATCH, Scheduler
from djtasks.db import schedules
from djtasks.registry import tasks
from djtasks.runs import run_now
from tests.storage.periodic import due_since, many, messages, periodic, tick
from tests.storage.rows import put

Connect = Callable[..., psycopg.Connection]


@pytest.fixture
def scheduler() -> Scheduler:
    """A scheduler."""
    return Scheduler()


@pytest.fixture
def raising() -> Iterator[Any]:
    """A task that refuses what is called while another call of it waits."""

    @shared_task(name="tests.raising", unique=True, on_conflict="raise")
    def raising_task() -> None:
        pass

    yield raising_task
    tasks.unregister("tests.raising")


def test_a_new_one_is_due_one_interval_after_it_was_written(conn: psycopg.Connection, scheduler: Scheduler) -> None:
    task = periodic(conn, every=60)
    assert tick(conn, task)["stale"]
    assert scheduler.tick(conn) == 0.0
    found = tick(conn, task)
    assert not found["stale"]
    assert found["next_run_at"] - found["since"] == timedelta(seconds=60)
    assert scheduler.tick(conn) == pytest.approx(60, abs=5)


def test_what_is_due_is_sent_with_its_name_and_is_due_again_in_its_phase(
    conn: psycopg.Connection, scheduler: Scheduler
) -> None:
    task = periodic(conn, name="sums", args=[2, 3], kwargs={"z": 1}, queue="q", priority=7, expire_seconds=30)
    due = due_since(conn, task, 1)
    scheduler.tick(conn)
    (sent,) = messages(conn, task)
    assert (sent["name"], sent["queue"], sent["priority"], sent["lane"]) == ("tests.add", "q", 7, "q")
    assert b"[2, 3]" in bytes(sent["body"]) or b"[2,3]" in bytes(sent["body"])
    assert '"periodic_task_name"' in str(sent["headers"])
    assert sent["expires"] == due + timedelta(seconds=30)
    found = tick(conn, task)
    assert (found["last_run_at"], found["next_run_at"]) == (due, due + timedelta(seconds=10))
    assert (found["total_run_count"], found["last_task_id"], found["error"]) == (1, sent["id"], "")


def test_nothing_is_sent_before_it_is_due(conn: psycopg.Connection, scheduler: Scheduler) -> None:
    task = periodic(conn)
    due_since(conn, task, -30)
    assert scheduler.tick(conn) == pytest.approx(30, abs=3)
    assert messages(conn, task) == []


def test_nothing_is_sent_of_one_that_is_switched_off(conn: psycopg.Connection, scheduler: Scheduler) -> None:
    task = periodic(conn)
    due_since(conn, task, 1)
    conn.execute("UPDATE djtasks_periodic_task SET enabled = false")
    while scheduler.tick(conn) == 0.0:
        pass
    assert messages(conn, task) == []
    assert tick(conn, task)["next_run_at"] is None
    conn.execute("UPDATE djtasks_periodic_task SET enabled = true")
    scheduler.tick(conn)
    assert tick(conn, task)["next_in"] == pytest.approx(10, abs=3)
    assert messages(conn, task) == []


def test_a_new_description_moves_no_time(conn: psycopg.Connection) -> None:
    task = periodic(conn)
    due = due_since(conn, task, 1)
    conn.execute("UPDATE djtasks_periodic_task SET description = 'new', args = '[1]', queue = 'q'")
    assert (tick(conn, task)["next_run_at"], tick(conn, task)["stale"]) == (due, False)


def test_two_schedulers_send_each_due_time_once(connect: Connect) -> None:
    conn = connect()
    count = 3 * BATCH
    for _ in range(count):
        periodic(conn)
    conn.execute("UPDATE djtasks_tick SET stale = false, next_run_at = statement_timestamp() - interval '1 second'")
    barrier = threading.Barrier(3)

    def work() -> None:
        own, scheduler = connect(), Scheduler()
        barrier.wait()
        while (wait := scheduler.tick(own)) is not None and wait < 1:
            pass

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = conn.execute("SELECT count(*), count(DISTINCT periodic) FROM djtasks_message").fetchone()
    assert found == (count, count)


def test_what_another_beat_holds_is_left_to_it(connect: Connect, scheduler: Scheduler) -> None:
    first, second = connect(), connect()
    task = periodic(first)
    due_since(first, task, 1)
    with first.transaction():
        assert len(schedules.due(first, 10)) == 1
        wait = scheduler.tick(second)
        assert wait is not None
        assert 0 < wait < 1
    assert messages(second, task) == []


def test_an_edit_that_is_not_committed_keeps_its_row_from_being_sent(connect: Connect, scheduler: Scheduler) -> None:
    editor, conn = connect(), connect()
    task = periodic(conn)
    due_since(conn, task, 1)
    with editor.transaction():
        editor.execute("UPDATE djtasks_periodic_task SET args = '[1]'")
        scheduler.tick(conn)
        assert messages(conn, task) == []
    scheduler.tick(conn)
    assert len(messages(conn, task)) == 1


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"options": {"countdown": -5}}, "countdown"),
        ({"args": {"no": "list"}}, "args must be a JSON list"),
        # PostgreSQL reads them, Python does not.
        ({"args": f"[{'9' * 5000}]"}, "args must be a JSON list"),
        ({"kwargs": f'{{"x": {"[" * 3000}{"]" * 3000}}}'}, "kwargs must be a JSON object"),
        ({"options": {"cuontdown": 3}}, "did you mean 'countdown'"),
        ({"task": "tests.unknown", "options": {"priority": "high"}}, "priority"),
    ],
)
def test_what_cannot_be_sent_says_so_on_its_row_and_the_others_go_on(
    conn: psycopg.Connection, scheduler: Scheduler, fields: dict[str, Any], said: str
) -> None:
    good = periodic(conn)
    bad = periodic(conn, args=[1])
    for column, value in fields.items():
        value = value if isinstance(value, str) else Jsonb(value)
        conn.execute(f"UPDATE djtasks_periodic_task SET {column} = %s WHERE id = %s".encode(), [value, bad])
    due_since(conn, bad, 2)
    due_since(conn, good, 1)
    scheduler.tick(conn)
    assert len(messages(conn, good)) == 1
    assert messages(conn, bad) == []
    found = tick(conn, bad)
    assert said in found["error"]
    assert found["error"]
    assert found["error_at"] is not None
    assert found["next_in"] > 0
    assert tick(conn, good)["error"] == ""


def test_a_schedule_that_cannot_be_read_says_so_and_the_others_go_on(
    conn: psycopg.Connection, scheduler: Scheduler
) -> None:
    bad = periodic(conn, kind="crontab", minute="1")
    good = periodic(conn)
    conn.execute("UPDATE djtasks_periodic_task SET minute = 'noon' WHERE id = %s", [bad])
    scheduler.tick(conn)
    assert tick(conn, bad)["next_run_at"] is None
    assert "noon" in tick(conn, bad)["error"]
    assert tick(conn, good)["next_in"] > 0
    conn.execute("UPDATE djtasks_periodic_task SET minute = '5' WHERE id = %s", [bad])
    scheduler.tick(conn)
    assert tick(conn, bad)["next_in"] > 0
    assert tick(conn, bad)["error"] == ""


def test_a_time_that_no_calendar_has_stops_nobody(conn: psycopg.Connection, scheduler: Scheduler) -> None:
    odd = periodic(conn, kind="clocked", clocked=datetime(2030, 1, 1, tzinfo=UTC), one_off=True)
    good = periodic(conn)
    conn.execute("UPDATE djtasks_periodic_task SET clocked = 'infinity', expires = '-infinity' WHERE id = %s", [odd])
    while scheduler.tick(conn) == 0.0:
        pass
    assert tick(conn, good)["next_in"] > 0


def test_one_that_its_unique_key_refuses_stops_nobody(
    conn: psycopg.Connection, scheduler: Scheduler, raising: Any
) -> None:
    refused = periodic(conn, task="tests.raising")
    good = periodic(conn)
    due_since(conn, refused, 1)
    scheduler.tick(conn)
    due_since(conn, refused, 1)
    due_since(conn, good, 1)
    scheduler.tick(conn)
    assert len(messages(conn, refused)) == len(messages(conn, good)) == 1
    assert "TaskAlreadyQueued" in tick(conn, refused)["error"]
    assert tick(conn, refused)["next_in"] > 0


def test_a_run_that_its_unique_key_leaves_out_is_that_of_the_one_that_waits(
    conn: psycopg.Connection, scheduler: Scheduler
) -> None:
    task = periodic(conn, options={"unique_key": "only one"})
    due_since(conn, task, 1)
    scheduler.tick(conn)
    (waiting,) = messages(conn, task)
    due_since(conn, task, 1)
    scheduler.tick(conn)
    assert [each["id"] for each in messages(conn, task)] == [waiting["id"]]
    assert tick(conn, task)["last_task_id"] == waiting["id"]


def test_a_run_is_left_out_while_the_last_one_has_not_ended(conn: psycopg.Connection, scheduler: Scheduler) -> None:
    task = periodic(conn, overlap="skip")
    due_since(conn, task, 1)
    scheduler.tick(conn)
    due_since(conn, task, 1)
    scheduler.tick(conn)
    found = tick(conn, task)
    assert (len(messages(conn, task)), found["skipped"], found["total_run_count"]) == (1, 1, 1)
    assert found["next_in"] > 0
    conn.execute("DELETE FROM djtasks_message")
    due_since(conn, task, 1)
    scheduler.tick(conn)
    assert (len(messages(conn, task)), tick(conn, task)["skipped"]) == (1, 1)


def test_one_that_is_to_run_once_is_switched_off_with_its_run(conn: psycopg.Connection, scheduler: Scheduler) -> None:
    task = periodic(conn, one_off=True)
    due_since(conn, task, 1)
    while scheduler.tick(conn) == 0.0:
        pass
    found = tick(conn, task)
    assert (len(messages(conn, task)), found["enabled"], found["next_run_at"], found["stale"]) == (
        1,
        False,
        None,
        False,
    )


def test_a_clocked_one_whose_time_came_while_no_beat_ran_runs_once(
    conn: psycopg.Connection, scheduler: Scheduler
) -> None:
    moment = datetime.now(UTC) - timedelta(hours=1)
    task = periodic(conn, kind="clocked", clocked=moment, one_off=True)
    late = periodic(conn, kind="clocked", clocked=moment, one_off=True)
    conn.execute("UPDATE djtasks_tick SET since = since - interval '2 hours' WHERE periodic_task_id = %s", [task])
    while scheduler.tick(conn) == 0.0:
        pass
    assert (len(messages(conn, task)), messages(conn, late)) == (1, [])
    assert tick(conn, task)["last_run_at"] == moment
    assert "had passed" in tick(conn, late)["error"]
    conn.execute("UPDATE djtasks_periodic_task SET enabled = true")
    while scheduler.tick(conn) == 0.0:
        pass
    assert len(messages(conn, task)) == 1


def test_one_that_has_expired_is_switched_off_and_not_run(conn: psycopg.Connection, scheduler: Scheduler) -> None:
    task = periodic(conn, expires=datetime.now(UTC) - timedelta(seconds=1))
    due_since(conn, task, 5)
    scheduler.tick(conn)
    assert (messages(conn, task), tick(conn, task)["enabled"]) == ([], False)
    other = periodic(conn, name="other", expires=datetime.now(UTC) - timedelta(seconds=1))
    assert schedules.expire(conn) == ["other"]
    assert not tick(conn, other)["enabled"]


def test_nothing_runs_before_its_start_time(conn: psycopg.Connection, scheduler: Scheduler) -> None:
    start = (datetime.now(UTC) + timedelta(hours=1)).replace(microsecond=0)
    task = periodic(conn, start_time=start, every=7)
    scheduler.tick(conn)
    assert tick(conn, task)["next_run_at"] == start


def test_all_that_was_missed_is_sent_in_batches(conn: psycopg.Connection, scheduler: Scheduler) -> None:
    task = periodic(conn, every=1, catch_up="all")
    due = due_since(conn, task, 250.5)
    rounds = 0
    while scheduler.tick(conn) == 0.0:
        rounds += 1
    found = tick(conn, task)
    assert len(messages(conn, task)) == found["total_run_count"] == 251
    assert found["last_run_at"] == due + timedelta(seconds=250)
    assert rounds >= 2


@override_settings(DJTASKS={"BEAT_CRON_STARTING_DEADLINE": 60})
def test_a_crontab_is_not_caught_up_with_behind_the_deadline_of_the_settings(
    conn: psycopg.Connection, scheduler: Scheduler
) -> None:
    late = periodic(conn, kind="crontab", minute="0", hour="0", day_of_month="1", month_of_year="1")
    own = periodic(conn, kind="crontab", minute="0", hour="0", day_of_month="1", month_of_year="1", deadline=7200)
    interval = periodic(conn, every=1, period="days")
    for task in (late, own, interval):
        due_since(conn, task, 3600)
    scheduler.tick(conn)
    assert [len(messages(conn, task)) for task in (late, own, interval)] == [0, 1, 1]
    assert tick(conn, late)["next_in"] > 0


def test_receivers_are_told_of_each_run(conn: psycopg.Connection, scheduler: Scheduler) -> None:
    heard: list[Any] = []

    def before(sender: str, headers: dict[str, Any], **_: Any) -> None:
        headers["added"] = "by a receiver"
        heard.append(("before", sender, headers["periodic_task_name"]))

    def after(sender: str, headers: dict[str, Any], **_: Any) -> None:
        heard.append(("after", sender, headers["added"]))

    task = periodic(conn, name="told")
    due_since(conn, task, 1)
    signals.before_task_publish.connect(before)
    signals.after_task_publish.connect(after)
    try:
        scheduler.tick(conn)
    finally:
        signals.before_task_publish.disconnect(before)
        signals.after_task_publish.disconnect(after)
    assert heard == [("before", "tests.add", "told"), ("after", "tests.add", "by a receiver")]


# -- run now ------------------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_ten_thousand_run_now_in_few_statements(conn: psycopg.Connection, django_assert_max_num_queries: Any) -> None:
    many(conn, 10_000)
    ids = [row[0] for row in conn.execute("SELECT id FROM djtasks_periodic_task").fetchall()]
    with django_assert_max_num_queries(100):
        assert run_now(ids) == 10_000
    found = conn.execute(
        "SELECT count(*) FROM djtasks_message m JOIN djtasks_tick s ON s.periodic_task_id = m.periodic"
        " WHERE s.last_task_id = m.id AND s.total_run_count = 1 AND s.stale"
    ).fetchone()
    assert found == (10_000,)


@pytest.mark.django_db(transaction=True)
def test_what_cannot_be_run_now_says_why_and_the_others_run(conn: psycopg.Connection, raising: Any) -> None:
    good, bad = periodic(conn), periodic(conn, options={"nonsense": 1})
    refused = periodic(conn, task="tests.raising")
    complaints: dict[int, str] = {}
    assert run_now([good, bad, refused], complaints) == 2
    assert complaints.keys() == {bad}
    assert "nonsense" in tick(conn, bad)["error"]
    assert run_now([good, refused], complaints) == 1
    assert "TaskAlreadyQueued" in complaints[refused]
    assert len(messages(conn, good)) == 2


def test_the_columns_that_are_read_are_those_of_an_entry(conn: psycopg.Connection) -> None:
    said = {
        "args": [1, "ä"],
        "kwargs": {"a": None},
        "headers": {"h": 1},
        "options": {"shadow": "s"},
        "expires": datetime(2030, 5, 6, 7, 8, 9, 123456, tzinfo=UTC),
        "start_time": datetime(2001, 1, 1, tzinfo=UTC),
        "latitude": 48.85,
        "longitude": 2.35,
        "kind": "solar",
        "event": "sunrise",
        "deadline": 5,
        "description": "d",
    }
    task = periodic(conn, **said)
    with conn.transaction():
        (found,) = schedules.stale(conn, 10)
    assert found.entry.id == task
    assert {name: getattr(found.entry, name) for name in said} == said
    assert put(conn)
