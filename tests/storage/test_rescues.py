"""What a rescue takes over, and what it meets on the way: finishes, claims, retries and other rescuers."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from django.test import override_settings

from djtasks.db import claims, finish, messages, notify, results, workers
from djtasks.db.workers import Peer
from djtasks.messages import Again, Claimed, Progress
from djtasks.worker.identity import new_incarnation
from djtasks.worker.rescue import Rescuer
from tests.storage.rows import NODE, Table, ended, fences, hire, put, take

Connect = Callable[..., psycopg.Connection]


def peer_of(conn: psycopg.Connection, incarnation: int) -> Peer:
    """The worker as others see it."""
    return next(peer for peer in workers.peers(conn) if peer.incarnation == incarnation)


def rescue(conn: psycopg.Connection, incarnation: int) -> None:
    """Somebody has found this worker dead."""
    Rescuer("celery@rescuer").rescue(conn, peer_of(conn, incarnation), "the test says so")


@pytest.fixture
def owner(conn: psycopg.Connection) -> int:
    """A worker that is about to die."""
    return hire(conn)


# -- what becomes of it -------------------------------------------------------------------------------------------


def test_what_the_dead_held_runs_again_or_ends_as_its_acks_say_and_the_dead_is_gone(
    conn: psycopg.Connection, owner: int, table: Table
) -> None:
    [late] = put(conn, name="tests.late")
    [early] = put(conn, name="tests.early")
    take(conn, owner, rerun=["tests.late"])
    [waits] = put(conn)
    other = hire(conn)
    [others] = put(conn, queue="b")
    take(conn, other, 1, "b")
    rescue(conn, owner)
    assert table.waiting() == [late, waits]
    row = table.message(late)
    assert row is not None
    assert (row["crashes"], row["retries"]) == (1, 0)
    assert table.message(early) is None
    result = table.result(early)
    assert result is not None
    assert result["state"] == "FAILURE"
    assert b"WorkerLostError" in result["result"]
    assert (result["owner"], result["worker"]) == (owner, "celery@test")
    left = [row["incarnation"] for row in table.rows("SELECT incarnation FROM djtasks_worker")]
    assert left == [other]
    kept = table.message(others)
    assert kept is not None
    assert kept["owner"] == other


def test_a_message_that_was_lost_too_often_ends(conn: psycopg.Connection, table: Table) -> None:
    [task_id] = put(conn)
    with override_settings(DJTASKS={"TASK_MAX_CRASHES": 2}):
        for crashes in (1, 2):
            dead = hire(conn)
            take(conn, dead, rerun=["tests.add"])
            rescue(conn, dead)
            row = table.message(task_id)
            assert row is not None
            assert row["crashes"] == crashes
        dead = hire(conn)
        take(conn, dead, rerun=["tests.add"])
        rescue(conn, dead)
    assert table.message(task_id) is None
    row = table.result(task_id)
    assert row is not None
    assert b"TASK_MAX_CRASHES" in row["result"]


def test_the_dead_can_write_nothing_any_more(conn: psycopg.Connection, owner: int, table: Table) -> None:
    put(conn, 2, name="tests.late")
    put(conn, name="tests.early")
    held = take(conn, owner, rerun=["tests.late"])
    rescue(conn, owner)
    before = table.rows("SELECT * FROM djtasks_message ORDER BY id"), table.rows("SELECT * FROM djtasks_result")
    assert finish.finish(conn, owner, [ended(each) for each in held], NODE) == set()
    assert messages.again(conn, owner, [ended(each, "RETRY", again=Again()) for each in held], NODE) == {}
    for write in (messages.release, messages.crashed, messages.park_unknown):
        assert write(conn, owner, fences(held)) == set()
    reports = [Progress(each.claim, each.id, "LATE", None) for each in held]
    assert results.report(conn, reports, owner, NODE) == set()
    assert take(conn, owner) == []
    assert workers.beat(conn, owner, {}, 1, None) is False
    assert workers.set_idle(conn, owner, True) is False
    assert not claims.lock_worker(conn, owner)
    after = table.rows("SELECT * FROM djtasks_message ORDER BY id"), table.rows("SELECT * FROM djtasks_result")
    assert after == before


def test_a_rescue_rings_who_can_go_on_and_who_waits(conn: psycopg.Connection, connect: Connect, owner: int) -> None:
    put(conn, name="tests.late")
    [early] = put(conn, name="tests.early")
    take(conn, owner, rerun=["tests.late"])
    sleeper, listener = hire(conn, idle=True), connect()
    notify.register_waiter(conn, 1, 60.0)
    listener.execute(f"LISTEN {notify.worker_channel(sleeper)}".encode())
    listener.execute(f"LISTEN {notify.RESULTS}".encode())
    rescue(conn, owner)
    rung = {each.channel: each.payload for each in listener.notifies(timeout=20, stop_after=2)}
    assert rung == {notify.worker_channel(sleeper): "", notify.RESULTS: early}


# -- what it meets ------------------------------------------------------------------------------------------------


def test_a_finish_before_the_rescue_counts_and_one_after_it_is_refused(
    conn: psycopg.Connection, connect: Connect, owner: int, table: Table
) -> None:
    put(conn, 400)
    held = take(conn, owner, rerun=["tests.add"])
    worker, rescuer = connect(), connect()
    start = threading.Barrier(2)

    def work() -> set[str]:
        start.wait(20)
        done: set[str] = set()
        for first in range(0, len(held), 10):
            done |= finish.finish(worker, owner, [ended(each) for each in held[first : first + 10]], NODE)
        return done

    with ThreadPoolExecutor(1) as pool:
        finished = pool.submit(work)
        start.wait(20)
        rescue(rescuer, owner)
        done = finished.result(60)
    stored = {str(row["id"]) for row in table.rows("SELECT id FROM djtasks_result")}
    assert stored == done
    assert set(table.waiting()) == {each.id for each in held} - done
    assert {row["crashes"] for row in table.rows("SELECT crashes FROM djtasks_message")} <= {1}


def test_a_rescue_does_not_wait_for_a_finish_in_flight_and_leaves_what_it_ends(
    conn: psycopg.Connection, connect: Connect, owner: int, table: Table
) -> None:
    put(conn, 2)
    done, lost = take(conn, owner, rerun=["tests.add"])
    worker = connect()
    with worker.transaction():
        finish.finish(worker, owner, [ended(done)], NODE)
        rescue(conn, owner)
        assert table.waiting() == [lost.id]
    row = table.result(done.id)
    assert row is not None
    assert row["state"] == "SUCCESS"
    assert table.waiting() == [lost.id]


def test_what_a_finish_in_flight_gives_up_after_all_is_found_by_the_next_sweep(
    conn: psycopg.Connection, connect: Connect, owner: int, table: Table
) -> None:
    put(conn, 2)
    given_up, lost = take(conn, owner, rerun=["tests.add"])
    worker = connect()
    with worker.transaction(force_rollback=True):
        finish.finish(worker, owner, [ended(given_up)], NODE)
        rescue(conn, owner)
        assert table.waiting() == [lost.id]
    Rescuer("celery@rescuer").sweep(conn)
    assert table.waiting() == [given_up.id, lost.id]
    assert table.results() == 0


def test_a_heart_that_beats_after_all_is_left_alone(conn: psycopg.Connection, owner: int, table: Table) -> None:
    put(conn)
    take(conn, owner)
    seen = peer_of(conn, owner)
    workers.beat(conn, owner, {}, 1, None)
    Rescuer("celery@rescuer").rescue(conn, seen, "it looked dead")
    assert table.value("SELECT count(*) FROM djtasks_worker") == 1
    assert table.waiting() == []


def test_a_heartbeat_in_flight_is_not_waited_for(
    conn: psycopg.Connection, connect: Connect, owner: int, table: Table
) -> None:
    put(conn)
    take(conn, owner)
    pulse = connect()
    with pulse.transaction():
        workers.beat(pulse, owner, {}, 1, None)
        rescue(conn, owner)
    assert table.value("SELECT count(*) FROM djtasks_worker") == 1


@pytest.mark.parametrize("rerun", [True, False])
def test_of_several_rescuers_each_message_is_rescued_by_one(
    conn: psycopg.Connection, connect: Connect, table: Table, rerun: bool
) -> None:
    dead = [hire(conn) for _ in range(4)]
    for owner in dead:
        put(conn, 50)
        take(conn, owner, rerun=["tests.add"] if rerun else [])
    peers = [peer_of(conn, owner) for owner in dead]
    links = [connect() for _ in range(3)]
    start = threading.Barrier(len(links))

    def work(link: psycopg.Connection) -> None:
        start.wait(20)
        for peer in peers:
            Rescuer("celery@rescuer").rescue(link, peer, "all say so")

    with ThreadPoolExecutor(len(links)) as pool:
        list(pool.map(work, links))
    assert table.value("SELECT count(*) FROM djtasks_worker") == 0
    if rerun:
        assert len(table.waiting()) == 200
        assert {row["crashes"] for row in table.rows("SELECT crashes FROM djtasks_message")} == {1}
    else:
        assert (table.messages(), table.results()) == (0, 200)


# -- owners without a row -----------------------------------------------------------------------------------------


def orphans(conn: psycopg.Connection, count: int = 1) -> list[Claimed]:
    """Messages whose owner has no row any more, and nobody has looked after them."""
    dead = hire(conn)
    put(conn, count)
    held = take(conn, dead, rerun=["tests.add"])
    workers.remove(conn, dead)
    return held


def test_a_sweep_finds_what_belongs_to_nobody_and_leaves_what_belongs_to_somebody(
    conn: psycopg.Connection, owner: int, table: Table
) -> None:
    put(conn)
    [mine] = take(conn, owner)
    lost = orphans(conn, 2)
    Rescuer("celery@rescuer").sweep(conn)
    assert table.waiting() == [each.id for each in lost]
    row = table.message(mine.id)
    assert row is not None
    assert row["owner"] == owner


def test_one_sweeps_at_a_time_and_nobody_waits_for_it(conn: psycopg.Connection, connect: Connect, table: Table) -> None:
    orphans(conn)
    other = connect()
    with other.transaction():
        assert workers.try_sweep(other)
        Rescuer("celery@rescuer").sweep(conn)
        assert table.waiting() == []
    Rescuer("celery@rescuer").sweep(conn)
    assert len(table.waiting()) == 1


def test_expiring_and_purging_never_look_like_orphans(conn: psycopg.Connection, connect: Connect, table: Table) -> None:
    put(conn, 3, expires_in=-1.0)
    pulse = connect()
    with pulse.transaction():
        assert len(claims.claim_expired(pulse, new_incarnation(), 1)) == 3
        Rescuer("celery@rescuer").sweep(conn)
    assert table.results() == 0
