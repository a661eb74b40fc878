"""Requeue: what has ended runs again under its own id, once for each time it is asked for."""

import json
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from django.db import connection, transaction

from djtasks import AsyncResult, ending
from djtasks.db import messages
from djtasks.ids import as_task_id, new_task_id
from djtasks.requeue import requeue
from tests.storage.rows import NODE, Table, ended, hire, message, put, take

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def owner(conn: psycopg.Connection) -> int:
    """A worker."""
    return hire(conn)


@pytest.fixture
def fail(conn: psycopg.Connection, owner: int) -> Callable[..., str]:
    """Have a task fail; returns its id."""

    def fail_one(state: str = "FAILURE", keep: bool = True, dead: str | None = None, **fields: Any) -> str:
        (task_id,) = put(conn, **fields)
        (held,) = take(conn, owner, 1, fields.get("queue", "celery"))
        ending.end(conn, owner, [ended(held, state, keep=keep, dead=dead)], NODE)
        return task_id

    return fail_one


def test_a_dead_letter_is_put_back_as_it_was_called(fail: Callable[..., str], table: Table) -> None:
    root = new_task_id()
    headers = json.dumps({"root_id": root, "shadow": "other"})
    task_id = fail(dead="rejected", body=b"[[1], {}]", priority=5, queue="slow", headers=headers, retries=3)
    assert requeue([task_id]) == {task_id: "requeued"}
    found = table.message(task_id)
    assert found is not None
    assert (bytes(found["body"]), found["priority"], found["queue"], found["lane"]) == (b"[[1], {}]", 5, "slow", "slow")
    assert (found["retries"], found["crashes"], found["redelivered"]) == (0, 0, True)
    assert (found["headers"], str(found["root_id"]), found["owner"]) == (headers, root, None)
    assert table.result(task_id) is None


@pytest.mark.parametrize("state", ["FAILURE", "REVOKED", "SUCCESS"])
def test_whatever_has_ended_and_kept_its_call_can_be_put_back(
    state: str, fail: Callable[..., str], table: Table
) -> None:
    task_id = fail(state)
    assert requeue([task_id])[task_id] == "requeued"
    assert table.waiting() == [task_id]


def test_a_success_that_kept_no_arguments_cannot_run_again(fail: Callable[..., str], table: Table) -> None:
    task_id = fail("SUCCESS", keep=False)
    assert requeue([task_id]) == {task_id: "not kept"}
    assert table.result(task_id) is not None


def test_an_id_that_nobody_knows_is_said_to_be_so() -> None:
    assert requeue(["nightly"]) == {"nightly": "unknown"}


def test_what_can_be_no_id_is_an_error() -> None:
    with pytest.raises(TypeError, match="task_id must be a text"):
        requeue([5])


def test_one_id_may_be_given_by_itself_and_by_its_callers_own_name(fail: Callable[..., str], table: Table) -> None:
    fail(id=as_task_id("nightly"))
    assert requeue("nightly") == {"nightly": "requeued"}
    assert table.messages() == 1


def test_what_waits_for_its_time_may_run_now(conn: psycopg.Connection, table: Table) -> None:
    (later,) = put(conn, eta=(datetime.now(UTC) + timedelta(hours=1)).timestamp())
    assert requeue([later]) == {later: "hurried"}
    assert table.waiting() == [later]


def test_what_waits_or_runs_is_left_as_it_is(conn: psycopg.Connection, owner: int, table: Table) -> None:
    (runs,) = put(conn)
    take(conn, owner)
    (waits,) = put(conn)
    before = table.rows("SELECT * FROM djtasks_message ORDER BY id")
    assert requeue([runs, waits]) == {runs: "running", waits: "waiting"}
    assert table.rows("SELECT * FROM djtasks_message ORDER BY id") == before


def test_a_requeue_inside_a_transaction_happens_with_its_commit(fail: Callable[..., str], table: Table) -> None:
    task_id = fail()
    with transaction.atomic():
        assert requeue([task_id]) == {task_id: "requeued"}
        assert table.message(task_id) is None
        transaction.set_rollback(True)
    assert table.message(task_id) is None
    assert table.result(task_id) is not None


def test_a_revocation_of_the_id_is_forgotten(conn: psycopg.Connection, fail: Callable[..., str], table: Table) -> None:
    task_id = fail("REVOKED")
    conn.execute(b"INSERT INTO djtasks_revocation (task_id, expires) VALUES (%s, now() + interval '1 hour')", [task_id])
    requeue([task_id])
    assert table.value("SELECT count(*) FROM djtasks_revocation") == 0


def test_a_task_that_is_put_back_twice_at_once_runs_once(fail: Callable[..., str], table: Table) -> None:
    for _ in range(20):
        task_id = fail()
        answers: list[str] = []
        barrier = threading.Barrier(2)

        def ask(task_id: str = task_id, answers: list[str] = answers, barrier: threading.Barrier = barrier) -> None:
            try:
                barrier.wait(10)
                answers.append(requeue([task_id])[task_id])
            finally:
                connection.close()

        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert sorted(answers) == ["requeued", "waiting"]
        assert table.messages() == 1
        table.conn.execute("DELETE FROM djtasks_message")


def test_a_requeue_that_comes_late_does_not_undo_what_ran_meanwhile(
    conn: psycopg.Connection, connect: Callable[..., psycopg.Connection], fail: Callable[..., str], table: Table
) -> None:
    task_id = fail()
    other = connect()
    # The id has been called anew, and that is not committed yet: the requeue waits for it.
    with other.transaction():
        messages.enqueue(other, [message(id=task_id)])
        answers: dict[str, str] = {}

        def ask() -> None:
            try:
                answers.update(requeue([task_id]))
            finally:
                connection.close()

        thread = threading.Thread(target=ask)
        thread.start()
        waiting = "SELECT count(*) > 0 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        while not table.value(waiting):
            thread.join(0.01)
            assert thread.is_alive()
    thread.join(20)
    assert answers == {task_id: "waiting"}
    assert table.messages() == 1


def test_a_result_puts_its_task_back_and_knows_nothing_of_its_end_then(fail: Callable[..., str]) -> None:
    result = AsyncResult[Any](fail(dead="failed"))
    assert (result.state, result.dead) == ("FAILURE", "failed")
    assert result.requeue() == "requeued"
    assert (result.state, result.dead) == ("PENDING", None)


def test_many_go_back_in_the_order_in_which_they_ended(fail: Callable[..., str], table: Table) -> None:
    ids = [fail() for _ in range(5)]
    assert set(requeue(reversed(ids)).values()) == {"requeued"}
    assert table.waiting() == ids
