"""The completer: batches in, and no bad row, lost answer or late outcome takes the others along."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from django.db import connection

from djtasks import tracer
from djtasks.db import messages, notify
from djtasks.messages import Again, Claimed, Outcome, Progress
from djtasks.worker import completer as completing
from djtasks.worker import flights
from djtasks.worker.completer import BATCH_AGE, BATCH_SIZE, Completer
from djtasks.worker.state import State
from tests.storage.proxy import Cut, Proxy
from tests.storage.rows import NODE, Table, counting, ended, fences, hire, message, put, take

Connect = Callable[..., psycopg.Connection]


class Hands:
    """A worker's hands: what it holds, and its completer."""

    def __init__(self, conn: psycopg.Connection) -> None:
        self.conn = conn
        self.state = State(hire(conn))
        self.completer = Completer(self.state, NODE, tracer.failure)

    def take(self, count: int = 1, **fields: Any) -> list[Claimed]:
        """Enqueue and claim."""
        put(self.conn, count, **fields)
        found = take(self.conn, self.state.incarnation)
        self.state.take(found)
        return found

    def flush(self, conn: psycopg.Connection | None = None) -> dict[str, int]:
        """Write everything; return the counters."""
        self.completer.flush(conn or self.conn)
        return dict(+self.state.counters)


@pytest.fixture
def hands(conn: psycopg.Connection) -> Hands:
    """A worker's hands."""
    return Hands(conn)


def again(held: Claimed, **plan: Any) -> Outcome:
    """The outcome of a run that is to run again."""
    return ended(held, "RETRY", again=Again(**plan))


# -- batches ------------------------------------------------------------------------------------------------------


def test_everything_a_worker_has_to_say_is_written_by_one_flush(hands: Hands, table: Table) -> None:
    good, failed, retried, released, crashed, parked = hands.take(6)
    completer = hands.completer
    completer.report(Progress(good.claim, good.id, "STARTED", b"{}"))
    completer.add(ended(good))
    completer.add(ended(failed, "FAILURE"))
    completer.add(again(retried, countdown=60))
    completer.release([released.claim])
    completer.crash(crashed.claim)
    completer.park(parked.claim)
    assert hands.flush() == {"SUCCESS": 1, "FAILURE": 1, "RETRY": 1, "released": 1, "lost": 1, "unknown": 1}
    assert not completer.pending
    assert hands.state.held == {}
    assert sorted(table.waiting()) == sorted([released.id, crashed.id])
    states = {str(row["id"]): row["state"] for row in table.rows("SELECT id, state FROM djtasks_result")}
    assert states == {good.id: "SUCCESS", failed.id: "FAILURE", retried.id: "RETRY"}
    reasons = {str(row["id"]): row["reason"] for row in table.rows("SELECT id, reason FROM djtasks_message")}
    assert reasons[parked.id] == "name"


def test_a_batch_of_outcomes_is_one_statement(hands: Hands) -> None:
    for held in hands.take(100):
        hands.completer.add(ended(held))
    with counting(hands.conn) as statements:
        hands.flush()
    assert len(statements) == 2
    assert statements[1] == notify.RING_WAITERS


def test_results_that_are_too_large_together_go_in_parts(
    hands: Hands, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flights, "BATCH_BYTES", 1000)
    for held in hands.take(5):
        hands.completer.add(ended(held, result=b"x" * 600))
    flushes = 0
    while hands.completer.pending:
        hands.flush()
        flushes += 1
    assert flushes == 5
    assert table.results() == 5


def test_a_flush_is_due_when_the_batch_is_large_or_old_or_there_is_nothing_else_to_do(
    hands: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = hands.take(BATCH_SIZE)
    completer = hands.completer
    assert not completer.due(idle=True)
    assert completer.deadline() is None
    for each in held[:-1]:
        completer.add(ended(each))
    monkeypatch.setattr(completing, "BATCH_AGE", 3600.0)
    assert not completer.due(idle=False)
    assert completer.due(idle=True)
    monkeypatch.setattr(completing, "BATCH_AGE", -1.0)
    assert completer.due(idle=False)
    monkeypatch.setattr(completing, "BATCH_AGE", 3600.0)
    completer.add(ended(held[-1]))
    assert completer.due(idle=False)
    assert BATCH_AGE <= 0.01


def test_of_several_reports_of_a_task_only_the_last_is_written(hands: Hands, table: Table) -> None:
    [held] = hands.take()
    for step in range(5):
        hands.completer.report(Progress(held.claim, held.id, "STEP", str(step).encode()))
    with counting(hands.conn) as statements:
        hands.flush()
    assert len(statements) == 1
    row = table.result(held.id)
    assert row is not None
    assert row["result"] == b"4"


# -- what comes too late ------------------------------------------------------------------------------------------


def test_an_outcome_of_what_is_not_held_is_refused_here_and_now(hands: Hands, table: Table) -> None:
    [held] = hands.take()
    hands.state.held.clear()
    hands.completer.add(ended(held))
    hands.completer.report(Progress(held.claim, held.id, "LATE", None))
    hands.completer.release([held.claim])
    hands.completer.crash(held.claim)
    assert not hands.completer.pending
    assert hands.flush() == {"refused": 1}
    assert table.results() == 0


@pytest.mark.parametrize("state", ["SUCCESS", "RETRY"])
def test_an_outcome_of_what_has_become_another_s_is_refused_and_counted(hands: Hands, table: Table, state: str) -> None:
    kept, lost = hands.take(2)
    messages.crashed(hands.conn, hands.state.incarnation, fences([lost]))
    for held in (kept, lost):
        hands.completer.add(again(held) if state == "RETRY" else ended(held))
    assert hands.flush() == {state: 1, "refused": 1}
    assert hands.state.held == {}
    assert table.result(lost.id) is None
    assert lost.id in table.waiting()


def test_a_worker_that_was_declared_dead_drops_everything_and_counts_its_outcomes(hands: Hands, table: Table) -> None:
    first, second, third = hands.take(3)
    hands.completer.add(ended(first))
    hands.completer.add(again(second))
    hands.completer.release([third.claim])
    assert hands.completer.drop() == 2
    assert not hands.completer.pending
    assert hands.flush() == {"refused": 2}
    assert table.results() == 0


# -- bad rows -----------------------------------------------------------------------------------------------------

BAD: list[dict[str, Any]] = [
    {"traceback": "a\0b"},
    {"traceback": "a\udc80b"},
    {"content_type": "a\0b"},
    {"content_encoding": "\ud800"},
    {"started": 1e300},
    {"result": "no bytes"},
]


@pytest.mark.parametrize("fields", BAD, ids=[ascii(fields) for fields in BAD])
def test_one_bad_outcome_does_not_sink_its_batch_and_ends_as_a_failure_that_says_so(
    hands: Hands, table: Table, fields: dict[str, Any]
) -> None:
    held = hands.take(5)
    for number, each in enumerate(held):
        hands.completer.add(ended(each, **(fields if number == 2 else {})))
    notify.register_waiter(hands.conn, 1, 60.0)
    listener = hands.conn
    listener.execute(f"LISTEN {notify.RESULTS}".encode())
    assert hands.flush() == {"SUCCESS": 4, "FAILURE": 1}
    assert hands.state.held == {}
    assert table.messages() == 0
    row = table.result(held[2].id)
    assert row is not None
    assert row["state"] == "FAILURE"
    assert "could not be stored" in json.dumps(json.loads(row["result"]))
    assert row["body"] == b"[[], {}]"
    rung = [each.payload for each in listener.notifies(timeout=20, stop_after=1)]
    assert sorted(rung[0].split(",")) == sorted(each.id for each in held)


def test_one_bad_retry_does_not_sink_its_batch(hands: Hands, table: Table) -> None:
    plans: list[dict[str, Any]] = [{}, {"queue": "a\0b"}, {"priority": 40_000}, {"body": b"new"}]
    held = hands.take(len(plans))
    for each, plan in zip(held, plans, strict=True):
        hands.completer.add(again(each, **plan))
    assert hands.flush() == {"RETRY": 2, "FAILURE": 2}
    assert table.waiting() == [held[0].id, held[3].id]
    states = {str(row["id"]): row["state"] for row in table.rows("SELECT id, state FROM djtasks_result")}
    assert states == {held[0].id: "RETRY", held[1].id: "FAILURE", held[2].id: "FAILURE", held[3].id: "RETRY"}


def test_one_bad_report_is_left_out_and_its_task_goes_on(hands: Hands, table: Table) -> None:
    held = hands.take(3)
    for each, state in zip(held, ["ONE", "a\0b", "\udc80"], strict=True):
        hands.completer.report(Progress(each.claim, each.id, state, None))
    hands.flush()
    assert [row["state"] for row in table.rows("SELECT state FROM djtasks_result")] == ["ONE"]
    for each in held:
        hands.completer.add(ended(each))
    assert hands.flush() == {"SUCCESS": 3}


def test_a_bad_outcome_of_what_has_become_another_s_is_refused(hands: Hands, table: Table) -> None:
    [held] = hands.take()
    messages.crashed(hands.conn, hands.state.incarnation, fences([held]))
    hands.completer.add(ended(held, traceback="a\0b"))
    assert hands.flush() == {"refused": 1}
    assert table.waiting() == [held.id]
    assert table.results() == 0


# -- what nobody wants to know ------------------------------------------------------------------------------------


def test_an_ignored_result_leaves_nothing_and_counts(hands: Hands, table: Table) -> None:
    [held] = hands.take()
    hands.completer.add(ended(held, store=False))
    assert hands.flush() == {"SUCCESS": 1}
    assert table.messages() == table.results() == 0


def test_a_task_that_reported_its_end_itself_and_raised_ignore_has_ended_so(hands: Hands, table: Table) -> None:
    [held] = hands.take()
    hands.completer.report(Progress(held.claim, held.id, "FAILURE", b"own words"))
    hands.completer.add(ended(held, "IGNORED", result=None, store=False))
    assert hands.flush() == {"IGNORED": 1}
    row = table.result(held.id)
    assert row is not None
    assert (row["state"], row["result"]) == ("FAILURE", b"own words")
    assert row["done"] is not None


# -- lost answers -------------------------------------------------------------------------------------------------


@pytest.fixture
def wire(conn: psycopg.Connection, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """Private connections go through this wire from now on; `conn` does not."""
    proxy = Proxy(conn.info.host, conn.info.port, marker=b"DELETE FROM djtasks_message")
    monkeypatch.setitem(connection.settings_dict, "HOST", "127.0.0.1")
    monkeypatch.setitem(connection.settings_dict, "PORT", proxy.port)
    yield proxy
    proxy.close()


@pytest.mark.parametrize("cut", ["before", "after"])
@pytest.mark.parametrize("store", [True, False])
def test_a_finish_whose_answer_is_lost_is_repeated_and_recognises_its_own_work(
    hands: Hands, wire: Proxy, connect: Connect, table: Table, cut: Cut, store: bool
) -> None:
    held = hands.take(3)
    for each in held:
        hands.completer.add(ended(each, store=store))
    wire.cuts = [cut]
    with pytest.raises(psycopg.OperationalError):
        hands.flush(connect())
    assert hands.completer.pending
    assert set(hands.state.held) == {each.claim for each in held}
    counters = hands.flush(connect())
    # What left no trace is not counted, and not refused either.
    assert counters == ({"SUCCESS": 3} if store or cut == "before" else {})
    assert table.messages() == 0
    assert table.results() == (3 if store else 0)
    assert hands.state.held == {}


def test_after_a_lost_answer_what_has_become_another_s_is_still_refused(
    hands: Hands, wire: Proxy, connect: Connect, table: Table
) -> None:
    mine, lost = hands.take(2)
    wire.marker, wire.cuts = b"DELETE FROM djtasks_message", ["before"]
    wire.meanwhile = lambda: messages.crashed(hands.conn, hands.state.incarnation, fences([lost]))
    for each in (mine, lost):
        hands.completer.add(ended(each))
    with pytest.raises(psycopg.OperationalError):
        hands.flush(connect())
    assert hands.flush(connect()) == {"SUCCESS": 1, "refused": 1}
    assert table.waiting() == [lost.id]


@pytest.mark.parametrize("cut", ["before", "after"])
def test_a_retry_whose_answer_is_lost_is_counted_by_the_table_once(
    hands: Hands, wire: Proxy, connect: Connect, table: Table, cut: Cut
) -> None:
    [held] = hands.take()
    hands.completer.add(again(held))
    wire.marker, wire.cuts = b"retries = m.retries", [cut]
    with pytest.raises(psycopg.OperationalError):
        hands.flush(connect())
    assert "refused" not in hands.flush(connect())
    row = table.message(held.id)
    assert row is not None
    assert row["retries"] == 1
    assert hands.state.held == {}


@pytest.mark.parametrize("cut", ["before", "after"])
def test_a_release_whose_answer_is_lost_is_repeated_harmlessly(
    hands: Hands, wire: Proxy, connect: Connect, table: Table, cut: Cut
) -> None:
    held = hands.take(2)
    hands.completer.release(each.claim for each in held)
    wire.marker, wire.cuts = b"SET owner = NULL, claim = NULL", [cut]
    with pytest.raises(psycopg.OperationalError):
        hands.flush(connect())
    hands.flush(connect())
    assert table.waiting() == [each.id for each in held]
    assert hands.state.held == {}


def test_what_was_written_before_the_connection_was_lost_is_not_written_again(
    hands: Hands, wire: Proxy, connect: Connect, table: Table
) -> None:
    done, retried = hands.take(2)
    hands.completer.add(ended(done))
    hands.completer.add(again(retried))
    wire.marker, wire.cuts = b"retries = m.retries", ["before"]
    with pytest.raises(psycopg.OperationalError):
        hands.flush(connect())
    assert done.claim not in hands.state.held
    assert table.result(done.id) is not None
    assert hands.flush(connect()) == {"SUCCESS": 1, "RETRY": 1}


# -- ringing ------------------------------------------------------------------------------------------------------


def test_what_goes_back_into_a_lane_rings_other_workers(hands: Hands, connect: Connect) -> None:
    listener = connect()
    other = hire(hands.conn, idle=True)
    listener.execute(f"LISTEN {notify.worker_channel(other)}".encode())
    for how in ("release", "crash", "again"):
        [held] = hands.take()
        if how == "release":
            hands.completer.release([held.claim])
        elif how == "crash":
            hands.completer.crash(held.claim)
        else:
            hands.completer.add(again(held))
        hands.flush()
        assert hands.completer.reopened
        assert len(list(listener.notifies(timeout=20, stop_after=1))) == 1
        hands.conn.execute("DELETE FROM djtasks_message")
    hands.take()
    hands.flush()
    assert not hands.completer.reopened


def test_a_message_that_its_worker_does_not_know_rings_nobody(hands: Hands) -> None:
    [held] = hands.take()
    hands.completer.park(held.claim)
    hands.flush()
    assert not hands.completer.reopened


def test_a_task_without_a_name_here_still_ends(hands: Hands, table: Table) -> None:
    messages.enqueue(hands.conn, [message(name="")])
    [held] = take(hands.conn, hands.state.incarnation)
    hands.state.take([held])
    hands.completer.add(ended(held, traceback="\0"))
    assert hands.flush() == {"FAILURE": 1}
    assert table.messages() == 0
