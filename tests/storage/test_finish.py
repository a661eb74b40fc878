"""Finish: the one exit, fenced; the result and the deletion of the message are one statement."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from djtasks.db import finish, messages, results, workers
from djtasks.messages import Claimed, Progress
from djtasks.worker.identity import new_incarnation
from tests.storage.rows import HOSTILE, NODE, Table, counting, ended, fences, hire, message, put, take

Connect = Callable[..., psycopg.Connection]


@pytest.fixture
def owner(conn: psycopg.Connection) -> int:
    """The incarnation of a worker that lives."""
    return hire(conn)


def test_a_finished_message_is_gone_and_its_result_there(conn: psycopg.Connection, owner: int, table: Table) -> None:
    [task_id] = put(conn, retries=2, priority=5, queue="q")
    [held] = take(conn, owner, 1, "q")
    outcome = ended(held, result=b"\x00\xff", content_type="application/x-any", content_encoding="gzip")
    assert finish.finish(conn, owner, [outcome], NODE) == {task_id}
    assert table.message(task_id) is None
    row = table.result(task_id)
    assert row is not None
    assert (row["state"], row["result"], row["content_type"], row["content_encoding"]) == (
        "SUCCESS",
        b"\x00\xff",
        "application/x-any",
        "gzip",
    )
    assert (row["owner"], row["claim"], row["worker"]) == (owner, held.claim, NODE)
    assert (row["name"], row["queue"], row["retries"], row["priority"]) == ("tests.add", "q", 2, 5)
    assert row["created"].timestamp() == pytest.approx(held.created, abs=1e-5)
    assert row["started"].timestamp() == pytest.approx(outcome.started, abs=1e-5)
    assert row["done"] >= row["created"]
    assert row["traceback"] is None


def test_the_result_is_seen_when_the_message_is_gone_and_not_before(
    conn: psycopg.Connection, owner: int, table: Table
) -> None:
    [task_id] = put(conn)
    [held] = take(conn, owner)
    with conn.transaction():
        finish.finish(conn, owner, [ended(held)], NODE)
        assert table.message(task_id) is not None
        assert table.result(task_id) is None
    assert table.message(task_id) is None
    assert table.result(task_id) is not None


def test_finish_is_one_statement(conn: psycopg.Connection, owner: int) -> None:
    put(conn, 3)
    held = take(conn, owner)
    with counting(conn) as statements:
        finish.finish(conn, owner, [ended(each) for each in held], NODE)
    assert len(statements) == 1


def test_what_did_not_succeed_keeps_its_payload_and_what_did_does_not(
    conn: psycopg.Connection, owner: int, table: Table
) -> None:
    put(conn, 2, body=b"payload", headers='{"root_id": "x"}', content_encoding="zstd")
    good, bad = take(conn, owner)
    outcomes = [ended(good), ended(bad, "FAILURE", keep=True, traceback="Traceback …")]
    finish.finish(conn, owner, outcomes, NODE)
    kept = ("body", "headers", "body_content_type", "body_content_encoding")
    rows = table.result(good.id), table.result(bad.id)
    assert rows[0] is not None
    assert rows[1] is not None
    assert [rows[0][field] for field in kept] == [None] * 4
    assert [rows[1][field] for field in kept] == [b"payload", '{"root_id": "x"}', "application/json", "zstd"]
    assert rows[1]["traceback"] == "Traceback …"


@pytest.mark.parametrize("text", HOSTILE, ids=[ascii(text)[:20] for text in HOSTILE])
def test_any_text_and_any_bytes_come_back_as_they_were(
    conn: psycopg.Connection, owner: int, table: Table, text: str
) -> None:
    put(conn, 2)
    fields = {"traceback": text, "content_type": text, "content_encoding": text, "state": text}
    one, two = take(conn, owner)
    outcome = ended(one, result=text.encode() + bytes(range(256)), **fields)
    finish.finish(conn, owner, [outcome, ended(two)], text)
    row = table.result(one.id)
    assert row is not None
    assert {key: row[key] for key in (*fields, "worker")} == {**fields, "worker": text}
    assert row["result"] == outcome.result


def test_an_ignored_result_leaves_nothing(conn: psycopg.Connection, owner: int, table: Table) -> None:
    [task_id] = put(conn)
    [held] = take(conn, owner)
    assert finish.finish(conn, owner, [ended(held, store=False)], NODE) == {task_id}
    assert table.messages() == table.results() == 0


# -- the fence ----------------------------------------------------------------------------------------------------


def test_another_owner_is_refused(conn: psycopg.Connection, owner: int, table: Table) -> None:
    [task_id] = put(conn)
    [held] = take(conn, owner)
    assert finish.finish(conn, hire(conn), [ended(held)], NODE) == set()
    assert table.message(task_id) is not None
    assert table.results() == 0


def test_an_earlier_claim_of_the_same_owner_is_refused(conn: psycopg.Connection, owner: int, table: Table) -> None:
    put(conn)
    [first] = take(conn, owner)
    messages.release(conn, owner, fences([first]))
    [second] = take(conn, owner)
    assert finish.finish(conn, owner, [ended(first, "FAILURE")], NODE) == set()
    assert table.results() == 0
    assert finish.finish(conn, owner, [ended(second)], NODE) == {second.id}


def test_a_message_that_waits_cannot_be_finished(conn: psycopg.Connection, owner: int, table: Table) -> None:
    put(conn)
    [held] = take(conn, owner)
    messages.release(conn, owner, fences([held]))
    assert finish.finish(conn, owner, [ended(held)], NODE) == set()
    assert len(table.waiting()) == 1


def test_a_second_finish_is_refused_and_changes_nothing(conn: psycopg.Connection, owner: int, table: Table) -> None:
    put(conn)
    [held] = take(conn, owner)
    assert finish.finish(conn, owner, [ended(held)], NODE) == {held.id}
    before = table.result(held.id)
    assert finish.finish(conn, owner, [ended(held, "FAILURE")], NODE) == set()
    assert table.result(held.id) == before


def test_a_batch_ends_what_it_may_and_refuses_the_rest(conn: psycopg.Connection, owner: int, table: Table) -> None:
    put(conn, 4)
    held = take(conn, owner)
    messages.release(conn, owner, fences(held[1:2]))
    outcomes = [ended(each) for each in held]
    outcomes[2] = outcomes[2]._replace(claim=outcomes[2].claim + 7)
    assert finish.finish(conn, owner, outcomes, NODE) == {held[0].id, held[3].id}
    assert table.messages() == table.results() == 2


def test_an_outcome_that_is_given_twice_counts_once(conn: psycopg.Connection, owner: int, table: Table) -> None:
    put(conn)
    [held] = take(conn, owner)
    assert finish.finish(conn, owner, [ended(held), ended(held)], NODE) == {held.id}
    assert table.results() == 1


def test_a_finish_without_a_worker_row_still_counts_while_nobody_has_rescued_the_message(
    conn: psycopg.Connection, owner: int
) -> None:
    put(conn)
    [held] = take(conn, owner)
    workers.remove(conn, owner)
    assert finish.finish(conn, owner, [ended(held)], NODE) == {held.id}


# -- states that stay ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["SUCCESS", "FAILURE", "REVOKED"])
def test_a_terminal_state_is_never_replaced(conn: psycopg.Connection, owner: int, table: Table, state: str) -> None:
    sent = message()
    messages.enqueue(conn, [sent])
    [first] = take(conn, owner)
    finish.finish(conn, owner, [ended(first, state)], NODE)
    before = table.result(sent.id)
    # Not as the outbox writes it, which would have forgotten the result.
    messages.enqueue(conn, [sent])
    [second] = take(conn, owner)
    results.report(conn, [Progress(second.claim, sent.id, "STARTED", b"{}")], owner, NODE)
    assert finish.finish(conn, owner, [ended(second, "FAILURE")], NODE) == {sent.id}
    assert table.result(sent.id) == before


def test_a_reported_state_gives_way_to_the_end(conn: psycopg.Connection, owner: int, table: Table) -> None:
    put(conn)
    [held] = take(conn, owner)
    results.report(conn, [Progress(held.claim, held.id, "HALFWAY", b"50")], owner, NODE)
    finish.finish(conn, owner, [ended(held, started=held.created + 5)], NODE)
    row = table.result(held.id)
    assert row is not None
    assert (row["state"], row["result"]) == ("SUCCESS", b'"done"')
    assert row["started"].timestamp() == pytest.approx(held.created + 5, abs=1e-5)
    assert row["done"] is not None


def test_a_task_that_ends_without_a_result_closes_the_state_it_had_reported(
    conn: psycopg.Connection, owner: int, table: Table
) -> None:
    put(conn)
    [held] = take(conn, owner)
    results.report(conn, [Progress(held.claim, held.id, "SKIPPED", b'"why"')], owner, NODE)
    assert finish.finish(conn, owner, [ended(held, "IGNORED", store=False)], NODE) == {held.id}
    row = table.result(held.id)
    assert row is not None
    assert (row["state"], row["result"]) == ("SKIPPED", b'"why"')
    # Else it would never be pruned, and be taken for a task that still runs.
    assert row["done"] is not None


# -- a lost answer ------------------------------------------------------------------------------------------------


def test_a_repeated_finish_recognises_its_own_work(conn: psycopg.Connection, owner: int, connect: Connect) -> None:
    put(conn, 3)
    mine, stored_by_other, never = take(conn, owner)
    other = hire(conn)
    outcomes = [ended(mine), ended(stored_by_other), ended(never)]
    finish.finish(conn, owner, [outcomes[0]], NODE)
    conn.execute(
        "UPDATE djtasks_message SET owner = %s WHERE id = ANY (%s::uuid[])", [other, [stored_by_other.id, never.id]]
    )
    finish.finish(conn, other, [ended(stored_by_other)], NODE)
    conn.close()
    again = connect()
    assert finish.finish(again, owner, outcomes, NODE) == set()
    assert finish.confirm(again, owner, outcomes) == {mine.id}


def test_a_reported_state_of_ours_is_not_taken_for_a_finish_of_ours(conn: psycopg.Connection, owner: int) -> None:
    put(conn)
    [held] = take(conn, owner)
    results.report(conn, [Progress(held.claim, held.id, "STARTED", b"{}")], owner, NODE)
    assert finish.confirm(conn, owner, [ended(held)]) == set()


# -- races --------------------------------------------------------------------------------------------------------


def test_of_two_finishers_of_one_claim_exactly_one_wins(conn: psycopg.Connection, connect: Connect) -> None:
    put(conn, 200)
    owner = hire(conn)
    held = take(conn, owner)
    links = [connect(), connect()]
    start = threading.Barrier(2)

    def work(number: int) -> set[str]:
        start.wait(20)
        state = "SUCCESS" if number else "FAILURE"
        won: set[str] = set()
        for first in range(0, len(held), 20):
            won |= finish.finish(links[number], owner, [ended(each, state) for each in held[first : first + 20]], NODE)
        return won

    with ThreadPoolExecutor(2) as pool:
        failed, succeeded = pool.map(work, range(2))
    assert failed.isdisjoint(succeeded)
    assert failed | succeeded == {each.id for each in held}
    states: dict[str, str] = dict(conn.execute("SELECT id::text, state FROM djtasks_result").fetchall())
    assert {task_id for task_id, state in states.items() if state == "SUCCESS"} == succeeded


def test_a_finish_waits_for_who_has_the_message_and_sees_what_became_of_it(
    conn: psycopg.Connection, connect: Connect, table: Table, owner: int
) -> None:
    put(conn)
    [held] = take(conn, owner)
    late, rescuer = connect("late"), connect("rescuer")
    with ThreadPoolExecutor(1) as pool:
        with rescuer.transaction():
            messages.crashed(rescuer, owner, fences([held]))
            refused = pool.submit(finish.finish, late, owner, [ended(held)], NODE)
            table.wait_until_blocked(late)
        assert refused.result(20) == set()
    assert table.waiting() == [held.id]
    assert table.results() == 0


def test_batches_in_opposite_orders_do_not_deadlock(conn: psycopg.Connection, connect: Connect, owner: int) -> None:
    put(conn, 400)
    held = take(conn, owner)
    links = [connect(), connect()]
    start = threading.Barrier(2)

    def work(number: int) -> int:
        start.wait(20)
        mine: list[Claimed] = held if number else held[::-1]
        return len(finish.finish(links[number], owner, [ended(each) for each in mine], NODE))

    with ThreadPoolExecutor(2) as pool:
        assert sum(pool.map(work, range(2))) == 400


def test_an_incarnation_that_was_never_hired_can_end_nothing(conn: psycopg.Connection, owner: int) -> None:
    put(conn)
    [held] = take(conn, owner)
    assert finish.finish(conn, new_incarnation(), [ended(held)], NODE) == set()
