"""Release, park, adopt, promote, retry, crash: fenced, and harmless to repeat."""

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
import pytest

from djtasks.db import claims, finish, messages, results
from djtasks.messages import Again, Claimed, Progress
from tests.storage.rows import NODE, Table, counting, ended, fences, hire, message, put, shuffled, take
from tests.waits import wait_until

Connect = Callable[..., psycopg.Connection]
Fenced = Callable[[Any, int, Iterable[tuple[int, str]]], set[str]]

FENCED = [messages.release, messages.park_unknown, messages.crashed]


@pytest.fixture
def owner(conn: psycopg.Connection) -> int:
    """The incarnation of a worker that lives."""
    return hire(conn)


def again(held: Claimed, plan: Again, **fields: Any) -> Any:
    """The outcome of a run that is to run again."""
    return ended(held, "RETRY", **{"result": b"why", "again": plan, **fields})


# -- fences -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("write", FENCED)
def test_only_the_owner_with_the_right_claim_may_let_a_message_go(
    conn: psycopg.Connection, owner: int, table: Table, write: Fenced
) -> None:
    put(conn, 3)
    held = take(conn, owner)
    before = [table.message(each.id) for each in held]
    assert write(conn, hire(conn), fences(held)) == set()
    assert write(conn, owner, [(each.claim + 1_000, each.id) for each in held]) == set()
    assert [table.message(each.id) for each in held] == before
    assert write(conn, owner, fences(held[:2])) == {held[0].id, held[1].id}
    # Said twice, because an answer was lost, it changes nothing.
    assert write(conn, owner, fences(held[:2])) == set()


@pytest.mark.parametrize("write", FENCED)
def test_what_was_let_go_cannot_be_finished_and_what_was_finished_not_be_let_go(
    conn: psycopg.Connection, owner: int, table: Table, write: Fenced
) -> None:
    put(conn, 2)
    gone, over = take(conn, owner)
    write(conn, owner, fences([gone]))
    assert finish.finish(conn, owner, [ended(gone), ended(over)], NODE) == {over.id}
    assert write(conn, owner, fences([over])) == set()
    assert table.message(gone.id) is not None
    assert table.message(over.id) is None


@pytest.mark.parametrize("write", FENCED)
def test_of_two_who_let_go_exactly_one_does(
    conn: psycopg.Connection, connect: Connect, owner: int, write: Fenced
) -> None:
    put(conn, 100)
    held = take(conn, owner)
    links = [connect(), connect()]
    start = threading.Barrier(2)

    def work(number: int) -> set[str]:
        start.wait(20)
        return write(links[number], owner, fences(held if number else held[::-1]))

    with ThreadPoolExecutor(2) as pool:
        one, two = pool.map(work, range(2))
    assert one.isdisjoint(two)
    assert len(one | two) == 100


def test_a_released_message_stands_where_it_stood(conn: psycopg.Connection, owner: int, table: Table) -> None:
    ids = put(conn, 5)
    held = take(conn, owner, 3)
    put(conn)
    messages.release(conn, owner, fences(shuffled(held)))
    assert table.waiting()[:5] == ids
    row = table.message(ids[0])
    assert row is not None
    assert (row["owner"], row["claim"], row["crashes"], row["retries"]) == (None, None, 0, 0)


def test_a_crash_is_counted_and_a_release_is_not(conn: psycopg.Connection, owner: int, table: Table) -> None:
    [task_id] = put(conn)
    for number in range(3):
        held = take(conn, owner)
        assert held[0].crashes == number
        messages.crashed(conn, owner, fences(held))
    held = take(conn, owner)
    messages.release(conn, owner, fences(held))
    assert take(conn, owner)[0].crashes == 3
    conn.execute("UPDATE djtasks_message SET crashes = 32767")
    messages.crashed(conn, owner, fences([held[0]._replace(claim=_claim(table, task_id))]))
    row = table.message(task_id)
    assert row is not None
    assert row["crashes"] == 32767


def _claim(table: Table, task_id: str) -> int:
    row = table.message(task_id)
    assert row is not None
    return int(row["claim"])


# -- names that are not known -------------------------------------------------------------------------------------


def test_a_message_of_an_unknown_name_waits_until_a_worker_that_knows_it_adopts_it(
    conn: psycopg.Connection, owner: int, table: Table
) -> None:
    [task_id] = put(conn, name="tests.strange", queue="q")
    messages.park_unknown(conn, owner, fences(take(conn, owner, 10, "q")))
    row = table.message(task_id)
    assert row is not None
    assert (row["lane"], row["reason"], row["owner"]) == (None, "name", None)
    assert messages.adopt(conn, ["tests.other"], ["q"]) == []
    assert messages.adopt(conn, ["tests.strange"], ["celery"]) == []
    assert messages.adopt(conn, ["tests.strange", "tests.other"], ["celery", "q"]) == ["q"]
    assert messages.adopt(conn, ["tests.strange"], ["q"]) == []
    assert table.waiting("q") == [task_id]
    assert [each.id for each in take(conn, owner, 10, "q")] == [task_id]


def test_adopting_leaves_what_waits_for_its_time(conn: psycopg.Connection, table: Table) -> None:
    put(conn, countdown=60.0)
    assert messages.adopt(conn, ["tests.add"], ["celery"]) == []
    assert table.waiting() == []


def test_adopting_takes_no_more_than_its_limit(conn: psycopg.Connection, owner: int, table: Table) -> None:
    put(conn, 5)
    messages.park_unknown(conn, owner, fences(take(conn, owner)))
    assert len(messages.adopt(conn, ["tests.add"], ["celery"], 3)) == 3
    assert len(table.waiting()) == 3


# -- what waits for its time --------------------------------------------------------------------------------------


def test_a_message_is_promoted_when_its_time_has_come_and_not_before(conn: psycopg.Connection, table: Table) -> None:
    [soon] = put(conn, countdown=0.05, queue="q")
    [late] = put(conn, countdown=3600.0)
    promoted = wait_until(lambda: messages.promote(conn), "the message whose time comes soon")
    assert promoted == ["q"]
    assert table.waiting("q") == [soon]
    row = table.message(late)
    assert row is not None
    assert (row["lane"], row["reason"]) == (None, "eta")


def test_a_promoted_message_keeps_its_place_among_its_priority(conn: psycopg.Connection, table: Table) -> None:
    [first] = put(conn, countdown=0.02)
    [second] = put(conn)
    wait_until(lambda: messages.promote(conn), "the message whose time comes soon")
    assert table.waiting() == [first, second]


def test_the_earliest_are_promoted_first(conn: psycopg.Connection, table: Table) -> None:
    ids = [put(conn, countdown=60.0)[0] for _ in range(4)]
    for seconds, task_id in enumerate(ids):
        conn.execute(
            "UPDATE djtasks_message SET eta = now() - %s * interval '1 second' WHERE id = %s", [seconds, task_id]
        )
    assert len(messages.promote(conn, 2)) == 2
    assert set(table.waiting()) == set(ids[2:])


def test_of_two_that_promote_each_message_is_opened_by_one(conn: psycopg.Connection, connect: Connect) -> None:
    put(conn, 2000, countdown=60.0)
    conn.execute("UPDATE djtasks_message SET eta = now() - interval '1 second'")
    links = [connect(), connect(), connect()]
    start = threading.Barrier(len(links))

    def work(link: psycopg.Connection) -> int:
        start.wait(20)
        count = 0
        while opened := messages.promote(link, 50):
            count += len(opened)
        return count

    with ThreadPoolExecutor(len(links)) as pool:
        opened = sum(pool.map(work, links))
    assert opened + len(messages.promote(conn, 5000)) == 2000


def test_a_promotion_in_flight_is_not_waited_for_nor_done_twice(
    conn: psycopg.Connection, connect: Connect, table: Table
) -> None:
    put(conn, 2, countdown=60.0)
    conn.execute("UPDATE djtasks_message SET eta = now() - interval '1 second'")
    other = connect()
    with conn.transaction():
        assert len(messages.promote(conn, 1)) == 1
        assert len(messages.promote(other)) == 1
    assert messages.promote(other) == []
    assert len(table.waiting()) == 2


def test_the_next_time_is_told_in_seconds_from_now(conn: psycopg.Connection) -> None:
    assert messages.next_eta(conn) is None
    put(conn)
    assert messages.next_eta(conn) is None
    put(conn, countdown=3600.0)
    put(conn, countdown=60.0)
    assert messages.next_eta(conn) == pytest.approx(60, abs=5)
    conn.execute("UPDATE djtasks_message SET eta = eta - interval '2 minutes' WHERE lane IS NULL")
    assert messages.next_eta(conn) == pytest.approx(-60, abs=5)


# -- again --------------------------------------------------------------------------------------------------------


def test_a_retry_is_the_same_row_with_one_retry_more(conn: psycopg.Connection, owner: int, table: Table) -> None:
    [task_id] = put(conn, priority=3, headers="{}", expires_in=600.0, body=b"b")
    before = table.message(task_id)
    [held] = take(conn, owner)
    assert messages.again(conn, owner, [again(held, Again())], NODE) == {task_id: "celery"}
    after = table.message(task_id)
    assert before is not None
    assert after is not None
    assert after == {**before, "retries": 1, "rerun": False}
    assert table.waiting() == [task_id]


def test_a_retry_with_a_countdown_waits_by_the_database_s_clock(
    conn: psycopg.Connection, owner: int, table: Table
) -> None:
    [task_id] = put(conn)
    [held] = take(conn, owner)
    assert messages.again(conn, owner, [again(held, Again(countdown=60, eta=1.0))], NODE) == {task_id: "celery"}
    row = table.rows("SELECT lane, reason, extract(epoch FROM eta - now())::float8 AS left FROM djtasks_message")[0]
    assert (row["lane"], row["reason"]) == (None, "eta")
    assert row["left"] == pytest.approx(60, abs=5)
    assert take(conn, owner) == []


def test_a_retry_at_a_time_that_is_past_runs_at_once(conn: psycopg.Connection, owner: int, table: Table) -> None:
    [task_id] = put(conn)
    [held] = take(conn, owner)
    messages.again(conn, owner, [again(held, Again(eta=1_000_000_000.0))], NODE)
    assert table.waiting() == [task_id]


def test_a_retry_may_change_everything_but_its_identity(conn: psycopg.Connection, owner: int, table: Table) -> None:
    [task_id] = put(conn)
    before = table.message(task_id)
    [held] = take(conn, owner)
    plan = Again(None, None, b"new", "text/x", "gzip", "other", 9, 4_000_000_000.0, '{"a": 1}')
    assert messages.again(conn, owner, [again(held, plan)], NODE) == {task_id: "other"}
    [got] = take(conn, owner, 10, "other")
    assert (got.body, got.content_type, got.content_encoding, got.queue) == (b"new", "text/x", "gzip", "other")
    assert (got.priority, got.expires, got.headers, got.retries) == (9, 4_000_000_000.0, '{"a": 1}', 1)
    after = table.message(task_id)
    assert before is not None
    assert after is not None
    assert [after[field] for field in ("id", "created", "position", "name")] == [
        before[field] for field in ("id", "created", "position", "name")
    ]


def test_a_requeue_counts_no_retry_and_stores_no_state(conn: psycopg.Connection, owner: int, table: Table) -> None:
    [task_id] = put(conn)
    [held] = take(conn, owner)
    messages.again(conn, owner, [again(held, Again(counts=False), store=False)], NODE)
    row = table.message(task_id)
    assert row is not None
    assert row["retries"] == 0
    assert table.results() == 0


def test_the_state_retry_is_there_exactly_when_the_message_waits_again(
    conn: psycopg.Connection, owner: int, table: Table
) -> None:
    [task_id] = put(conn)
    [held] = take(conn, owner)
    with conn.transaction():
        messages.again(conn, owner, [again(held, Again(), traceback="Traceback …")], NODE)
        assert table.result(task_id) is None
        assert table.waiting() == []
    assert table.waiting() == [task_id]
    row = table.result(task_id)
    assert row is not None
    assert (row["state"], row["result"], row["traceback"], row["retries"]) == ("RETRY", b"why", "Traceback …", 1)
    assert (row["done"], row["worker"], row["claim"]) == (None, NODE, held.claim)
    assert row["body"] is not None


def test_a_retry_is_one_statement(conn: psycopg.Connection, owner: int) -> None:
    put(conn, 3)
    held = take(conn, owner)
    with counting(conn) as statements:
        assert len(messages.again(conn, owner, [again(each, Again()) for each in held], NODE)) == 3
    assert len(statements) == 1


def test_a_retry_that_is_refused_stores_no_state(conn: psycopg.Connection, owner: int, table: Table) -> None:
    put(conn)
    [held] = take(conn, owner)
    assert messages.again(conn, hire(conn), [again(held, Again())], NODE) == {}
    assert messages.again(conn, owner, [again(held._replace(claim=held.claim + 1), Again())], NODE) == {}
    assert table.results() == 0
    assert messages.again(conn, owner, [again(held, Again())], NODE) == {held.id: "celery"}
    assert messages.again(conn, owner, [again(held, Again())], NODE) == {}
    row = table.message(held.id)
    assert row is not None
    assert row["retries"] == 1


def test_a_retry_never_replaces_an_end(conn: psycopg.Connection, owner: int, table: Table) -> None:
    sent = message()
    messages.enqueue(conn, [sent])
    finish.finish(conn, owner, [ended(each) for each in take(conn, owner)], NODE)
    messages.enqueue(conn, [sent])
    [held] = take(conn, owner)
    messages.again(conn, owner, [again(held, Again())], NODE)
    row = table.result(sent.id)
    assert row is not None
    assert row["state"] == "SUCCESS"


def test_retries_of_a_batch_each_go_their_own_way(conn: psycopg.Connection, owner: int, table: Table) -> None:
    ids = put(conn, 3)
    held = take(conn, owner)
    plans = [Again(countdown=60), Again(queue="b"), Again(counts=False)]
    outcomes = [again(each, plan) for each, plan in zip(held, plans, strict=True)]
    assert messages.again(conn, owner, shuffled(outcomes), NODE) == {ids[0]: "celery", ids[1]: "b", ids[2]: "celery"}
    assert table.waiting("b") == [ids[1]]
    assert table.waiting() == [ids[2]]
    assert [row["retries"] for row in table.rows("SELECT retries FROM djtasks_message ORDER BY position")] == [1, 1, 0]


def test_a_retry_that_meets_a_rescue_is_refused(
    conn: psycopg.Connection, connect: Connect, table: Table, owner: int
) -> None:
    put(conn)
    [held] = take(conn, owner)
    late, rescuer = connect(), connect()
    with ThreadPoolExecutor(1) as pool:
        with rescuer.transaction():
            assert [each.id for each in claims.owned(rescuer, owner)] == [held.id]
            retried = pool.submit(messages.again, late, owner, [again(held, Again(countdown=60))], NODE)
            table.wait_until_blocked(late)
            messages.crashed(rescuer, owner, fences([held]))
        assert retried.result(20) == {}
    row = table.message(held.id)
    assert row is not None
    assert (row["retries"], row["crashes"], row["lane"]) == (0, 1, "celery")
    assert table.results() == 0


def test_a_rescue_that_meets_a_retry_leaves_it_and_does_not_wait(
    conn: psycopg.Connection, connect: Connect, owner: int
) -> None:
    put(conn, 2)
    held = take(conn, owner)
    worker, rescuer = connect(), connect()
    with worker.transaction():
        messages.again(worker, owner, [again(held[0], Again(countdown=60))], NODE)
        with rescuer.transaction():
            assert [each.id for each in claims.owned(rescuer, owner)] == [held[1].id]
    with rescuer.transaction():
        assert [each.id for each in claims.owned(rescuer, owner)] == [held[1].id]


def test_a_reported_state_survives_a_requeue(conn: psycopg.Connection, owner: int, table: Table) -> None:
    [task_id] = put(conn)
    [held] = take(conn, owner)
    results.report(conn, [Progress(held.claim, task_id, "HALFWAY", b"50")], owner, NODE)
    messages.again(conn, owner, [again(held, Again(counts=False), store=False)], NODE)
    row = table.result(task_id)
    assert row is not None
    assert row["state"] == "HALFWAY"


# -- counting ------------------------------------------------------------------------------------------------------


def test_the_depth_of_a_queue_counts_what_waits_what_is_held_and_what_is_set_aside(
    conn: psycopg.Connection, owner: int
) -> None:
    put(conn, 3)
    put(conn, countdown=60.0)
    put(conn, 2, queue="b")
    put(conn, queue="c")
    take(conn, owner, 2)
    assert messages.depths(conn, ["celery", "b", "empty"]) == {"celery": (4, 2), "b": (2, 0)}
