"""The claimer: what it gives back after a lost answer, and how it goes to sleep without missing anything."""

import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, LiteralString

import psycopg
import pytest

from djtasks.db import claims, health, notify, workers
from djtasks.db.workers import Registration
from djtasks.worker.claimer import Claimer, Disowned
from djtasks.worker.identity import new_incarnation
from djtasks.worker.lanes import Lanes
from djtasks.worker.state import State
from tests.storage.rows import Table, hire, put, whole
from tests.waits import wait_until

Connect = Callable[..., psycopg.Connection]


def registration() -> Registration:
    """What a worker says of itself."""
    return Registration(0, "celery@test", "here", 1, "", "", "", None, "prefork", 2, ["celery"])


def claimer_of(*queues: str) -> Claimer:
    """A worker's claimer."""
    return Claimer(State(new_incarnation()), Lanes(queues or ["celery"]), registration)


@pytest.fixture
def claimer() -> Claimer:
    """A worker's claimer, of the queue `celery`."""
    return claimer_of()


def ids(found: list[Any]) -> list[str]:
    """Their ids."""
    return [each.id for each in found]


# -- claiming -----------------------------------------------------------------------------------------------------


def test_the_first_claim_writes_the_worker_s_row(conn: psycopg.Connection, claimer: Claimer, table: Table) -> None:
    sent = put(conn, 3)
    assert ids(claimer.claim(conn, 5, 0)) == sent
    rows = table.rows("SELECT incarnation, name, queues FROM djtasks_worker")
    assert rows == [{"incarnation": claimer.state.incarnation, "name": "celery@test", "queues": ["celery"]}]
    assert [each.id for each in claimer.state.held.values()] == sent


def test_no_claim_number_is_used_twice(conn: psycopg.Connection, claimer: Claimer) -> None:
    numbers = []
    for _ in range(5):
        put(conn, 3)
        numbers += [each.claim for each in claimer.claim(conn, 4, 0)]
    assert len(set(numbers)) == len(numbers) == 15
    assert max(numbers) <= claimer.state.last_claim


def test_names_that_the_worker_has_learnt_not_to_know_are_left(
    conn: psycopg.Connection, claimer: Claimer, table: Table
) -> None:
    strange = put(conn, name="tests.strange")
    sent = put(conn)
    claimer.state.unknown.add("tests.strange")
    assert ids(claimer.claim(conn, 5, 0)) == sent
    assert table.waiting() == strange


def test_several_lanes_are_all_emptied_and_none_starves(conn: psycopg.Connection) -> None:
    claimer = claimer_of("a", "b")
    full = put(conn, 20, queue="a")
    rare = put(conn, 1, queue="b")
    first, second = claimer.claim(conn, 2, 0), claimer.claim(conn, 2, 0)
    assert ids(first) == full[:2]
    assert ids(second) == [*rare, full[2]]


def test_a_worker_whose_row_is_gone_learns_it_when_it_wants_to_sleep(
    conn: psycopg.Connection, claimer: Claimer
) -> None:
    put(conn, 3)
    claimer.claim(conn, 1, 0)
    workers.remove(conn, claimer.state.incarnation)
    with pytest.raises(Disowned):
        claimer.claim(conn, 1, 0)


def test_a_worker_that_was_declared_dead_goes_on_as_another_one(
    conn: psycopg.Connection, claimer: Claimer, table: Table
) -> None:
    put(conn, 3)
    claimer.claim(conn, 2, 0)
    before = claimer.state.incarnation
    workers.remove(conn, before)
    assert claimer.reincarnate() == 2
    assert claimer.state.incarnation != before
    assert claimer.state.held == {}
    assert len(claimer.claim(conn, 5, 0)) == 1
    assert table.value("SELECT incarnation FROM djtasks_worker") == claimer.state.incarnation


# -- a lost answer ------------------------------------------------------------------------------------------------


def test_what_a_claim_took_whose_answer_was_lost_is_given_back_and_claimed_anew(
    conn: psycopg.Connection, claimer: Claimer, connect: Connect
) -> None:
    sent = put(conn, 6)
    held = claimer.claim(conn, 2, 0)
    state = claimer.state
    # This one happened, and nobody heard of it.
    claims.claim(conn, state.incarnation, state.last_claim + 1, whole(), 3)
    found = claimer.claim(connect(), 10, 1)
    assert ids(held) == sent[:2]
    assert ids(found) == sent[2:]
    assert len({each.claim for each in found} | {each.claim for each in held}) == 6
    assert sorted(ids(list(state.held.values()))) == sorted(sent)


def test_nothing_is_given_back_while_no_answer_was_lost(conn: psycopg.Connection, claimer: Claimer) -> None:
    put(conn, 6)
    claimer.claim(conn, 2, 0)
    state = claimer.state
    claims.claim(conn, state.incarnation, state.last_claim + 1, whole(), 3)
    assert len(claimer.claim(conn, 10, 0)) == 1


def test_what_other_workers_hold_is_not_given_back(conn: psycopg.Connection, claimer: Claimer, table: Table) -> None:
    put(conn, 4)
    claimer.claim(conn, 2, 0)
    other = hire(conn)
    claims.claim(conn, other, 1, whole(), 2)
    assert claimer.claim(conn, 10, 1) == []
    assert table.value("SELECT count(*) FROM djtasks_message WHERE owner = %s", other) == 2


def test_a_claim_that_is_still_in_flight_is_waited_for_and_given_back(
    conn: psycopg.Connection, claimer: Claimer, connect: Connect, table: Table
) -> None:
    sent = put(conn, 5)
    held = claimer.claim(conn, 1, 0)
    state = claimer.state
    lost, fresh = connect("the lost session"), connect("the new session")
    with ThreadPoolExecutor(1) as pool:
        with lost.transaction():
            claims.claim(lost, state.incarnation, state.last_claim + 1, whole(), 2)
            found = pool.submit(claimer.claim, fresh, 10, 1)
            table.wait_until_blocked(fresh)
        assert ids(found.result(20)) == sent[1:]
    assert ids(held) == sent[:1]


def test_a_claim_in_flight_that_fails_leaves_nothing_to_give_back(
    conn: psycopg.Connection, claimer: Claimer, connect: Connect, table: Table
) -> None:
    sent = put(conn, 5)
    claimer.claim(conn, 1, 0)
    state = claimer.state
    lost, fresh = connect("the lost session"), connect("the new session")
    with ThreadPoolExecutor(1) as pool:
        with lost.transaction(force_rollback=True):
            claims.claim(lost, state.incarnation, state.last_claim + 1, whole(), 2)
            found = pool.submit(claimer.claim, fresh, 10, 1)
            table.wait_until_blocked(fresh)
        assert ids(found.result(20)) == sent[1:]


def test_a_worker_that_was_declared_dead_while_its_answer_was_lost_learns_it(
    conn: psycopg.Connection, claimer: Claimer
) -> None:
    put(conn, 2)
    claimer.claim(conn, 1, 0)
    workers.remove(conn, claimer.state.incarnation)
    with pytest.raises(Disowned):
        claimer.claim(conn, 1, 1)


@pytest.mark.parametrize(("error", "losses"), [(psycopg.OperationalError, 1), (psycopg.errors.DeadlockDetected, 0)])
def test_when_the_second_look_of_a_claim_fails_the_first_one_s_messages_are_given_back_too(
    conn: psycopg.Connection,
    claimer: Claimer,
    connect: Connect,
    monkeypatch: pytest.MonkeyPatch,
    error: type[Exception],
    losses: int,
) -> None:
    sent = put(conn, 2)
    first_look = claims.claim
    looks: list[Any] = []

    def lose_the_second(*args: Any, **options: Any) -> Any:
        found = first_look(*args, **options)
        looks.append(found)
        if len(looks) == 2:
            raise error("there is no answer")
        return found

    monkeypatch.setattr(claims, "claim", lose_the_second)
    with pytest.raises(error):
        claimer.claim(conn, 5, 0)
    assert [len(found) for found, _ in looks] == [2, 0]
    assert ids(claimer.claim(connect(), 5, losses)) == sent


# -- sleeping -----------------------------------------------------------------------------------------------------


def idle(table: Table, claimer: Claimer) -> bool:
    """What the table says of it."""
    return bool(table.value("SELECT idle FROM djtasks_worker WHERE incarnation = %s", claimer.state.incarnation))


def test_a_worker_that_finds_nothing_says_that_it_sleeps(
    conn: psycopg.Connection, claimer: Claimer, table: Table
) -> None:
    assert claimer.claim(conn, 2, 0) == []
    assert claimer.drained
    assert idle(table, claimer)


def test_a_message_that_comes_between_the_last_look_and_the_sleep_rings_or_is_found(
    conn: psycopg.Connection, claimer: Claimer, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    enqueuer, listener = connect("enqueuer"), connect("listener")
    listener.execute(f"LISTEN {notify.worker_channel(claimer.state.incarnation)}".encode())
    look = claims.claim
    for moment in range(1, 4):
        looks: list[None] = []
        sent: list[str] = []
        rung: list[int] = []

        def between(*args: Any, **options: Any) -> Any:
            looks.append(None)  # noqa: B023
            if len(looks) == moment:  # noqa: B023
                sent.extend(put(enqueuer))  # noqa: B023
                rung.append(notify.ring_workers(enqueuer, ["celery"]))  # noqa: B023
            return look(*args, **options)

        monkeypatch.setattr(claims, "claim", between)
        found = claimer.claim(conn, 2, 0)
        if not sent:
            sent = put(enqueuer)
            rung.append(notify.ring_workers(enqueuer, ["celery"]))
        assert ids(found) == sent or rung == [1]
        if ids(found) != sent:
            claimer.rung()
            assert ids(claimer.claim(conn, 2, 0)) == sent


def test_a_message_below_the_mark_is_found_before_the_worker_sleeps(conn: psycopg.Connection, claimer: Claimer) -> None:
    sent = put(conn, 4)
    claimer.claim(conn, 4, 0)
    conn.execute("UPDATE djtasks_message SET owner = NULL, claim = NULL WHERE id = %s", [sent[0]])
    assert ids(claimer.claim(conn, 4, 0)) == sent[:1]
    assert claimer.drained


def test_a_worker_that_has_work_for_long_says_that_it_does_not_sleep_any_more(
    conn: psycopg.Connection, claimer: Claimer, table: Table
) -> None:
    claimer.claim(conn, 2, 0)
    assert idle(table, claimer)

    def busy() -> bool:
        put(conn, 2)
        claimer.rung()
        assert len(claimer.claim(conn, 2, 0)) == 2
        return not idle(table, claimer)

    wait_until(busy, "a worker that says that it is busy", 10)


def test_a_worker_that_was_rung_without_room_passes_the_ring_on(
    conn: psycopg.Connection, claimer: Claimer, connect: Connect, table: Table
) -> None:
    claimer.claim(conn, 2, 0)
    other, listener = hire(conn, "celery", idle=True), connect()
    listener.execute(f"LISTEN {notify.worker_channel(other)}".encode())
    claimer.pass_on(conn)
    assert len(list(listener.notifies(timeout=20, stop_after=1))) == 1
    assert not idle(table, claimer)


# -- what no ring announces ---------------------------------------------------------------------------------------


def test_a_message_whose_time_has_come_is_promoted_and_claimed(conn: psycopg.Connection, claimer: Claimer) -> None:
    sent = put(conn, countdown=0.05)

    def claim() -> list[str]:
        claimer.poll_at = 0.0
        return ids(claimer.claim(conn, 2, 0))

    assert wait_until(claim, "a message whose time has come") == sent


def test_the_next_poll_comes_when_the_next_message_is_due_and_in_a_second_at_the_latest(
    conn: psycopg.Connection, claimer: Claimer
) -> None:
    claimer.claim(conn, 2, 0)
    assert 0.5 < claimer.poll_at - time.monotonic() <= 1.25
    put(conn, countdown=0.3)
    claimer.poll_at = 0.0
    claimer.claim(conn, 2, 0)
    assert claimer.poll_at - time.monotonic() <= 0.3


def test_a_look_at_a_thousand_lanes_and_a_claim_of_the_filled_ones_read_little(conn: psycopg.Connection) -> None:
    conn.execute(
        "INSERT INTO djtasks_message (id, name, queue, lane, body)"
        " SELECT gen_random_uuid(), 'tests.add', lane, lane, ''"
        " FROM generate_series(1, 20000) AS n, LATERAL (SELECT 'tenant ' || (n % 3) AS lane) AS named"
    )
    conn.execute("ANALYZE djtasks_message")
    tenants = [f"tenant {number}" for number in range(1000)]
    claimer = claimer_of(*tenants)
    found = claimer.claim(conn, 9, 0)
    assert len(found) == 9
    assert {scan.lane for scan in claimer.lanes.scans()} == {"tenant 0", "tenant 1", "tenant 2"}
    look = buffers(conn, health.FILLED, {"most": 1000})
    assert look < 40
    owner = claimer.state.incarnation
    params = claims._params(owner, 100, claimer.lanes.scans(), 9, (), ())
    few = buffers(conn, claims.CLAIM, params)
    params = claims._params(owner, 200, whole(*reversed(tenants)), 9, (), ())
    # Where a look did not say which: a descent of the index for each lane.
    assert few + look < buffers(conn, claims.CLAIM, params) / 4


def buffers(conn: psycopg.Connection, query: LiteralString, params: Any) -> int:
    """How many pages a statement reads that finds something."""
    plan = "\n".join(row[0] for row in conn.execute("EXPLAIN (ANALYZE, BUFFERS) " + query, params))
    assert "Seq Scan on djtasks_message" not in plan, plan
    read = re.search(r"Buffers: shared hit=(\d+)", plan)
    assert read is not None
    return int(read[1])
