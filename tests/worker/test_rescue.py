"""Rescue: who is dead, who only seems so, and what becomes of what they held."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import psycopg
import pytest

from djtasks.conf import settings
from djtasks.db import claims, messages, workers
from djtasks.db.claims import Scan
from djtasks.db.connections import open_private
from djtasks.db.workers import Peer, Registration
from djtasks.ids import new_task_id
from djtasks.messages import Message
from djtasks.worker import rescue
from djtasks.worker.identity import (
    Host,
    boot_id,
    group_is_empty,
    new_incarnation,
    node_name,
    pid_namespace,
    process_start,
)
from djtasks.worker.rescue import Rescuer
from tests.worker.running import query, wait_until

Connect = Callable[[], psycopg.Connection]


@pytest.fixture
def connect(database: str) -> Iterator[Connect]:
    opened: list[psycopg.Connection] = []

    def open_one() -> psycopg.Connection:
        opened.append(open_private("test"))
        return opened[-1]

    yield open_one
    for conn in opened:
        conn.close()
    query("TRUNCATE djtasks_message, djtasks_result, djtasks_worker")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A clock that moves when it is told to."""
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(rescue, "time", SimpleNamespace(monotonic=lambda: clock.now))
    return clock


def hire(conn: psycopg.Connection, age: float = 0.0) -> int:
    """A worker on a machine that cannot be looked at from here; its heart last beat so many seconds ago."""
    incarnation = new_incarnation()
    row = Registration(incarnation, "celery@far", "far", 1, "1", "another boot", "", None, "prefork", 1, ["celery"])
    workers.register(conn, row)
    query(
        "UPDATE djtasks_worker SET heartbeat = heartbeat - %s * interval '1 s' WHERE incarnation = %s", age, incarnation
    )
    return incarnation


def give(conn: psycopg.Connection, owner: int, count: int = 1, rerun: bool = False) -> list[str]:
    """Let this worker hold messages; returns their ids."""
    made = [Message(id=new_task_id(), name="tests.add", queue="celery", body=b"[[], {}]") for _ in range(count)]
    messages.enqueue(conn, made)
    scans = [Scan("celery", -32768, 32767, -1)]
    found, _ = claims.claim(conn, owner, 1, scans, count, rerun=["tests.add"] if rerun else [])
    return [message.id for message in found]


def held_by(owner: int) -> int:
    """How many messages it holds."""
    return int(query("SELECT count(*) FROM djtasks_message WHERE owner = %s", owner)[0][0])


def look_for(rescuer: Rescuer, conn: psycopg.Connection, clock: SimpleNamespace, seconds: float) -> None:
    """Look every two seconds, as the pulse does."""
    for _ in range(int(seconds / 2)):
        clock.now += 2
        rescuer.look(conn, 0)


# -- who only seems dead ------------------------------------------------------------------------------------------


def test_a_worker_that_has_just_started_takes_nobody_for_dead(connect: Connect, clock: SimpleNamespace) -> None:
    conn = connect()
    owner = hire(conn, age=1000)
    give(conn, owner)
    rescuer = Rescuer("me")
    rescuer.look(conn, 0)
    look_for(rescuer, conn, clock, settings.WORKER_DEAD_AFTER)
    assert held_by(owner) == 1
    look_for(rescuer, conn, clock, 4)
    assert held_by(owner) == 0


@pytest.mark.parametrize("gap", ["a lost connection", "a long silence"])
def test_what_was_seen_before_a_gap_does_not_count(connect: Connect, clock: SimpleNamespace, gap: str) -> None:
    conn = connect()
    owner = hire(conn, age=1000)
    give(conn, owner)
    rescuer = Rescuer("me")
    look_for(rescuer, conn, clock, settings.WORKER_DEAD_AFTER)
    if gap == "a lost connection":
        rescuer.forget_sightings()
    else:
        clock.now += settings.WORKER_DEAD_AFTER
    look_for(rescuer, conn, clock, settings.WORKER_DEAD_AFTER)
    assert held_by(owner) == 1


def test_a_heart_that_beats_is_never_taken_for_dead_however_old_it_looks(
    connect: Connect, clock: SimpleNamespace
) -> None:
    conn = connect()
    owner = hire(conn, age=1000)
    give(conn, owner)
    rescuer = Rescuer("me")
    for _ in range(5):
        look_for(rescuer, conn, clock, settings.WORKER_DEAD_AFTER)
        # The database's clock has jumped, say.
        query("UPDATE djtasks_worker SET heartbeat = heartbeat + interval '1 s'")
    assert held_by(owner) == 1


def test_a_claim_in_flight_holds_up_the_rescue_of_its_worker(connect: Connect, clock: SimpleNamespace) -> None:
    conn, dying = connect(), connect()
    owner = hire(conn, age=1000)
    rescuer = Rescuer("me")
    with dying.transaction():
        (task_id,) = give(dying, owner, rerun=True)
        look_for(rescuer, conn, clock, settings.WORKER_DEAD_AFTER + 10)
        assert query("SELECT 1 FROM djtasks_worker WHERE incarnation = %s", owner) == [(1,)]
    look_for(rescuer, conn, clock, 4)
    assert query("SELECT id::text, owner FROM djtasks_message") == [(task_id, None)]
    assert query("SELECT 1 FROM djtasks_worker WHERE incarnation = %s", owner) == []


def test_a_session_of_the_dead_one_that_hangs_holds_up_nothing_but_what_it_locks(
    connect: Connect, clock: SimpleNamespace
) -> None:
    conn, hanging = connect(), connect()
    owner = hire(conn, age=1000)
    ids = give(conn, owner, 3, rerun=True)
    rescuer = Rescuer("me")
    with hanging.transaction(force_rollback=True):
        hanging.execute("DELETE FROM djtasks_message WHERE id = %s", [ids[0]])
        look_for(rescuer, conn, clock, settings.WORKER_DEAD_AFTER + 10)
        assert query("SELECT 1 FROM djtasks_worker WHERE incarnation = %s", owner) == []
        assert held_by(owner) == 1
    look_for(rescuer, conn, clock, 10)
    assert held_by(owner) == 0


# -- proof --------------------------------------------------------------------------------------------------------


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """A process that does nothing, in a group of its own."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], process_group=0) as process:
        yield process
        process.kill()


def peer_of(process: subprocess.Popen[bytes], **fields: object) -> Peer:
    """The worker that would have written its row in this process."""
    known = {
        "incarnation": 1,
        "name": "celery@here",
        "host": "here",
        "pid": process.pid,
        "pid_started": process_start(process.pid),
        "boot_id": boot_id(),
        "pid_namespace": pid_namespace(),
        "process_group": process.pid,
        "heartbeat": 0.0,
        "age": 0.0,
    }
    return Peer(**{**known, **fields})  # type: ignore[arg-type]


def test_a_process_that_is_gone_is_proved_dead_and_one_that_lives_is_not(process: subprocess.Popen[bytes]) -> None:
    peer = peer_of(process)
    assert not Host().proves_dead(peer)
    process.kill()
    wait_until(lambda: process_start(process.pid) == "", "it is a zombie")
    assert Host().proves_dead(peer)
    process.wait()
    assert Host().proves_dead(peer)


def test_another_process_under_the_same_number_proves_the_first_one_dead(process: subprocess.Popen[bytes]) -> None:
    assert Host().proves_dead(peer_of(process, pid_started="1", process_group=None))


@pytest.mark.parametrize("field", ["boot_id", "pid_namespace", "pid_started"])
def test_what_cannot_be_known_from_here_proves_nothing(process: subprocess.Popen[bytes], field: str) -> None:
    elsewhere = "" if field == "pid_started" else "another"
    peer = peer_of(process, **{field: elsewhere})
    process.kill()
    process.wait()
    assert not Host().proves_dead(peer)


def test_while_a_child_of_the_dead_lives_nothing_is_proved(process: subprocess.Popen[bytes]) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        peer = peer_of(gone, process_group=process.pid)
        gone.wait()
    assert not Host().proves_dead(peer)
    os.kill(process.pid, signal.SIGSTOP)
    assert not Host().proves_dead(peer)
    process.kill()
    wait_until(lambda: group_is_empty(process.pid), "only a zombie is left")
    assert Host().proves_dead(peer)


def test_a_nodes_name_is_made_as_celery_makes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "web1.example.org")
    assert node_name(None) == "celery@web1.example.org"
    assert node_name("fast@%h") == "fast@web1.example.org"
    assert node_name("fast@%n") == "fast@web1"
    assert node_name("fast@%d") == "fast@example.org"
    assert node_name("box") == "celery@box"
    assert node_name("a%%b@%n") == "a%b@web1"
