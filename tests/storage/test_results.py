"""Results: what is known of a task, states that are no end, forgetting and pruning."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from djtasks.db import finish, messages, results
from djtasks.db.connections import borrow
from djtasks.ids import new_task_id
from djtasks.messages import Again, Progress, Stored
from tests.storage.rows import NODE, Table, ended, fences, hire, put, take

Connect = Callable[..., psycopg.Connection]


@pytest.fixture
def owner(conn: psycopg.Connection) -> int:
    """The incarnation of a worker that lives."""
    return hire(conn)


def finished(conn: psycopg.Connection, owner: int, count: int = 1, **fields: Any) -> list[str]:
    """Tasks that have ended."""
    ids = put(conn, count)
    finish.finish(conn, owner, [ended(each, **fields) for each in take(conn, owner)], NODE)
    return ids


# -- fetch --------------------------------------------------------------------------------------------------------


def test_a_message_that_waits_or_runs_is_pending_and_says_the_rest_about_itself(
    conn: psycopg.Connection, owner: int
) -> None:
    [task_id] = put(conn, retries=1, headers="{}", body=b"b", content_encoding="gzip")
    for _ in range(2):
        stored = results.fetch(conn, [task_id])[task_id]
        assert (stored.state, stored.result, stored.done, stored.worker) == ("PENDING", None, None, None)
        assert (stored.name, stored.queue, stored.retries, stored.headers) == ("tests.add", "celery", 1, "{}")
        assert (stored.body, stored.body_content_type, stored.body_content_encoding) == (
            b"b",
            "application/json",
            "gzip",
        )
        take(conn, owner)


def test_an_id_that_no_row_has_is_not_in_the_answer(conn: psycopg.Connection, owner: int) -> None:
    [task_id] = finished(conn, owner)
    assert set(results.fetch(conn, [task_id, new_task_id()])) == {task_id}
    assert results.fetch(conn, []) == {}


def test_one_query_answers_for_waiting_reported_and_ended_tasks(conn: psycopg.Connection, owner: int) -> None:
    [over] = finished(conn, owner)
    [running] = put(conn)
    [held] = take(conn, owner)
    results.report(conn, [Progress(held.claim, running, "HALFWAY", b"50")], owner, NODE)
    [waits] = put(conn)
    found = results.fetch(conn, [over, running, waits])
    assert {task_id: stored.state for task_id, stored in found.items()} == {
        over: "SUCCESS",
        running: "HALFWAY",
        waits: "PENDING",
    }
    assert found[running].result == b"50"
    assert set(results.fetch_ended(conn, [over, running, waits])) == {over}


def test_django_s_connection_and_a_private_one_read_the_same(conn: psycopg.Connection, owner: int) -> None:
    [task_id] = finished(conn, owner, result=bytes(range(256)), keep=True)
    [other] = put(conn)
    assert results.fetch(borrow(), [task_id, other]) == results.fetch(conn, [task_id, other])
    assert results.fetch_ended(borrow(), [task_id]) == results.fetch_ended(conn, [task_id])


def test_a_waiting_retry_is_fetched_as_retry(conn: psycopg.Connection, owner: int) -> None:
    [task_id] = put(conn)
    [held] = take(conn, owner)
    messages.again(conn, owner, [ended(held, "RETRY", result=b"why", again=Again(countdown=60))], NODE)
    stored = results.fetch(conn, [task_id])[task_id]
    assert (stored.state, stored.result, stored.retries) == ("RETRY", b"why", 1)


def test_exists_knows_waiting_running_and_ended_tasks(conn: psycopg.Connection, owner: int) -> None:
    [over] = finished(conn, owner)
    [waits] = put(conn)
    assert results.exists(conn, over)
    assert results.exists(conn, waits)
    assert not results.exists(conn, new_task_id())


def test_a_state_that_a_task_gave_itself_is_not_taken_for_an_end_while_it_runs(
    conn: psycopg.Connection, owner: int
) -> None:
    [task_id] = put(conn)
    [held] = take(conn, owner)
    results.report(conn, [Progress(held.claim, task_id, "FAILURE", b"own words")], owner, NODE)
    assert results.fetch_ended(conn, [task_id]) == {}
    # It then raised Ignore: what it said of itself is the last word.
    finish.finish(conn, owner, [ended(held, "IGNORED", store=False)], NODE)
    assert results.fetch_ended(conn, [task_id])[task_id].result == b"own words"


def test_a_task_that_started_and_ended_without_a_result_never_counts_as_ended_well(
    conn: psycopg.Connection, owner: int
) -> None:
    [task_id] = put(conn)
    [held] = take(conn, owner)
    results.report(conn, [Progress(held.claim, task_id, "STARTED", b"{}")], owner, NODE)
    finish.finish(conn, owner, [ended(held, "IGNORED", store=False)], NODE)
    assert results.fetch_ended(conn, [task_id]) == {}


# -- report -------------------------------------------------------------------------------------------------------


def test_a_report_of_the_run_itself_is_fenced(conn: psycopg.Connection, owner: int, table: Table) -> None:
    put(conn)
    [first] = take(conn, owner)
    messages.release(conn, owner, fences([first]))
    [second] = take(conn, owner)
    late = Progress(first.claim, first.id, "LATE", None)
    assert results.report(conn, [late], owner, NODE) == set()
    assert results.report(conn, [Progress(second.claim, second.id, "MINE", None)], hire(conn), NODE) == set()
    assert table.results() == 0
    assert results.report(conn, [Progress(second.claim, second.id, "MINE", None)], owner, NODE) == {second.id}


def test_a_report_from_outside_needs_only_a_message(conn: psycopg.Connection, owner: int, table: Table) -> None:
    [task_id] = put(conn)
    unknown = new_task_id()
    reports = [Progress(0, task_id, "OUTSIDE", b"1"), Progress(0, unknown, "OUTSIDE", b"1")]
    assert results.report(conn, reports) == {task_id}
    assert table.result(unknown) is None
    row = table.result(task_id)
    assert row is not None
    assert (row["state"], row["worker"], row["done"]) == ("OUTSIDE", None, None)


def test_a_report_never_replaces_an_end(conn: psycopg.Connection, owner: int, table: Table) -> None:
    [task_id] = finished(conn, owner)
    assert results.report(conn, [Progress(0, task_id, "LATE", None)]) == set()
    put(conn, id=task_id)
    assert results.report(conn, [Progress(0, task_id, "LATE", None)]) == set()
    row = table.result(task_id)
    assert row is not None
    assert row["state"] == "SUCCESS"


def test_the_last_report_counts_and_started_is_when_the_first_one_came(
    conn: psycopg.Connection, owner: int, table: Table
) -> None:
    put(conn)
    [held] = take(conn, owner)
    results.report(conn, [Progress(held.claim, held.id, "ONE", b"1")], owner, NODE)
    before = table.result(held.id)
    results.report(conn, [Progress(held.claim, held.id, "TWO", b"2", "text/x", "gzip")], owner, NODE)
    after = table.result(held.id)
    assert before is not None
    assert after is not None
    assert (after["state"], after["result"], after["content_type"]) == ("TWO", b"2", "text/x")
    assert after["started"] == before["started"]


def test_a_report_that_meets_the_end_of_a_task_without_a_result_leaves_nothing(
    conn: psycopg.Connection, connect: Connect, table: Table, owner: int
) -> None:
    [task_id] = put(conn)
    [held] = take(conn, owner)
    finisher, reporter = connect(), connect()
    with ThreadPoolExecutor(1) as pool:
        with finisher.transaction():
            finish.finish(finisher, owner, [ended(held, store=False)], NODE)
            late = pool.submit(results.report, reporter, [Progress(0, task_id, "LATE", None)])
            table.wait_until_blocked(reporter)
        assert late.result(20) == set()
    assert table.results() == table.messages() == 0


def test_a_report_that_meets_an_end_leaves_the_end(
    conn: psycopg.Connection, connect: Connect, table: Table, owner: int
) -> None:
    [task_id] = put(conn)
    [held] = take(conn, owner)
    finisher, reporter = connect(), connect()
    with ThreadPoolExecutor(1) as pool:
        with reporter.transaction():
            results.report(reporter, [Progress(held.claim, task_id, "HALFWAY", None)], owner, NODE)
            end = pool.submit(finish.finish, finisher, owner, [ended(held)], NODE)
            table.wait_until_blocked(finisher)
        assert end.result(20) == {task_id}
    row = table.result(task_id)
    assert row is not None
    assert row["state"] == "SUCCESS"


# -- forget, prune ------------------------------------------------------------------------------------------------


def test_a_forgotten_result_is_gone_and_its_number_told(conn: psycopg.Connection, owner: int, table: Table) -> None:
    ids = finished(conn, owner, 3)
    assert results.forget(conn, [*ids[:2], new_task_id()]) == 2
    assert table.results() == 1
    assert results.forget(conn, []) == 0


def test_forgetting_leaves_a_task_that_still_waits_alone(conn: psycopg.Connection, table: Table) -> None:
    [task_id] = put(conn)
    assert results.forget(conn, [task_id]) == 0
    assert table.waiting() == [task_id]


def test_pruning_takes_the_oldest_first_and_only_what_has_ended_long_ago(
    conn: psycopg.Connection, owner: int, table: Table
) -> None:
    ids = finished(conn, owner, 6)
    for hours, task_id in enumerate(ids):
        conn.execute("UPDATE djtasks_result SET done = now() - %s * interval '1 hour' WHERE id = %s", [hours, task_id])
    conn.execute("UPDATE djtasks_result SET done = NULL WHERE id = %s", [ids[5]])
    age = 1.5 * 3600
    assert results.prune(conn, age, 2) == 2
    assert {str(row["id"]) for row in table.rows("SELECT id FROM djtasks_result")} == {*ids[:3], ids[5]}
    assert results.prune(conn, age, 2) == 1
    assert results.prune(conn, age, 2) == 0
    assert table.results() == 3


def test_two_that_prune_at_once_do_not_wait_for_each_other(
    conn: psycopg.Connection, connect: Connect, owner: int, table: Table
) -> None:
    finished(conn, owner, 10)
    other = connect()
    with conn.transaction():
        assert results.prune(conn, -60, 6) == 6
        assert results.prune(other, -60, 6) == 4
    assert table.results() == 0


def test_an_eager_result_is_stored_once_and_never_over_another(
    conn: psycopg.Connection, owner: int, table: Table
) -> None:
    [task_id] = finished(conn, owner)
    assert results.store_eager(conn, Stored(task_id, "FAILURE")) is False
    stored = Stored(new_task_id(), "SUCCESS", b"\x001", name="n", queue="q", body=b"\xff", headers="{}", retries=2)
    assert results.store_eager(conn, stored) is True
    assert results.store_eager(conn, stored._replace(state="FAILURE")) is False
    found = results.fetch_ended(conn, [stored.id])[stored.id]
    assert (found.state, found.result, found.name, found.retries) == ("SUCCESS", b"\x001", "n", 2)
    assert (found.body, found.headers) == (b"\xff", "{}")
