"""The claimer: what happens between its statements."""

from collections.abc import Iterator

import psycopg
import pytest

from djtasks.db import messages, workers
from djtasks.db.connections import open_private
from djtasks.db.workers import Registration
from djtasks.ids import new_task_id
from djtasks.messages import Message
from djtasks.worker.claimer import Claimer
from djtasks.worker.identity import new_incarnation
from djtasks.worker.lanes import Lanes
from djtasks.worker.state import State


def registration() -> Registration:
    """A worker of another machine."""
    return Registration(0, "celery@test", "elsewhere", 1, "", "another boot", "", None, "prefork", 1, ["celery"])


@pytest.fixture
def conn(database: str) -> Iterator[psycopg.Connection]:
    with open_private("test") as conn:
        yield conn
        conn.execute("TRUNCATE djtasks_message, djtasks_worker")


@pytest.fixture
def claimer(conn: psycopg.Connection) -> Claimer:
    return Claimer(State(new_incarnation()), Lanes(["celery"]), registration)


def put(conn: psycopg.Connection, **fields: object) -> str:
    """Enqueue a message; returns its id."""
    made = Message(id=new_task_id(), name="tests.add", queue="celery", body=b"[[], {}]", **fields)  # type: ignore[arg-type]
    messages.enqueue(conn, [made])
    return made.id


def between(monkeypatch: pytest.MonkeyPatch, what: object) -> None:
    """Let something happen between the first look and the last one, while the claimer says that it sleeps."""
    say = workers.set_idle

    def set_idle(conn: psycopg.Connection, incarnation: int, idle: bool) -> bool:
        what()  # type: ignore[operator]
        return say(conn, incarnation, idle)

    monkeypatch.setattr(workers, "set_idle", set_idle)


def test_what_a_claim_took_before_a_conflict_is_taken_again(
    conn: psycopg.Connection, claimer: Claimer, monkeypatch: pytest.MonkeyPatch
) -> None:
    task_id = put(conn)

    def conflict() -> None:
        raise psycopg.errors.DeadlockDetected

    between(monkeypatch, conflict)
    with pytest.raises(psycopg.errors.DeadlockDetected):
        claimer.claim(conn, 5, 0)
    monkeypatch.undo()
    assert [message.id for message in claimer.claim(conn, 5, 0)] == [task_id]


def test_what_a_claim_took_whose_answer_was_lost_is_given_back_before_the_end(
    conn: psycopg.Connection, claimer: Claimer, monkeypatch: pytest.MonkeyPatch
) -> None:
    task_id = put(conn)

    def lost() -> None:
        raise psycopg.OperationalError("the server closed the connection")

    between(monkeypatch, lost)
    with pytest.raises(psycopg.OperationalError):
        claimer.claim(conn, 5, 0)
    monkeypatch.undo()
    owners = "SELECT id::text, owner FROM djtasks_message"
    assert conn.execute(owners).fetchall() == [(task_id, claimer.state.incarnation)]
    assert claimer.in_doubt
    claimer.retreat(conn, 1)
    assert conn.execute(owners).fetchall() == [(task_id, None)]
    assert not claimer.in_doubt


def test_a_ring_that_comes_during_a_claim_is_heard(
    conn: psycopg.Connection, claimer: Claimer, monkeypatch: pytest.MonkeyPatch
) -> None:
    between(monkeypatch, claimer.rung)
    assert claimer.claim(conn, 5, 0) == []
    assert not claimer.drained
    assert claimer.claim(conn, 5, 0) == []
    assert claimer.drained


def test_it_sleeps_no_longer_than_until_the_next_eta(conn: psycopg.Connection, claimer: Claimer) -> None:
    claimer.claim(conn, 5, 0)
    put(conn, countdown=0.2)
    claimer.rung()
    claimer.claim(conn, 5, 0)
    assert claimer.looks_ahead
    before = claimer.poll_at
    claimer.poll(conn)
    assert claimer.poll_at < before
    assert not claimer.looks_ahead
