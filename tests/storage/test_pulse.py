"""The pulse: what it sweeps up, and what it tells the worker of its own life."""

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import psycopg
import pytest
from django.test import override_settings

from djtasks import shared_task
from djtasks.db import finish, messages, notify, workers
from djtasks.registry import tasks
from djtasks.worker import pulse as pulses
from djtasks.worker.clock import since_boot
from djtasks.worker.pulse import News, Pulse
from djtasks.worker.state import State
from tests.storage.rows import NODE, Table, ended, fences, hire, put, take
from tests.waits import wait_until

Connect = Callable[..., psycopg.Connection]


def pulse_of(incarnation: int = 0, *known: str) -> tuple[Pulse, list[News]]:
    """A pulse that does not beat by itself, and what it tells."""
    state = State(incarnation)
    state.registered = incarnation
    news: list[News] = []
    pulse = Pulse(
        state,
        NODE,
        tell=news.append,
        concurrency=lambda: 3,
        process_group=lambda: 77,
        known=lambda: known,
        queues=["celery"],
    )
    return pulse, news


@pytest.fixture
def pulse() -> Pulse:
    """A pulse that does not beat by itself."""
    return pulse_of()[0]


# -- expiry -------------------------------------------------------------------------------------------------------


def test_what_waits_past_its_expiry_ends_as_revoked_wherever_it_stands(
    conn: psycopg.Connection, pulse: Pulse, table: Table
) -> None:
    owner = hire(conn)
    [parked] = put(conn, name="tests.strange", expires_in=0.0)
    messages.park_unknown(conn, owner, fences(take(conn, owner)))
    [running] = put(conn, expires_in=0.0)
    take(conn, owner)
    late = [*put(conn, 2, expires_in=0.0), *put(conn, countdown=60.0, expires_in=0.0)]
    [waits] = put(conn, expires_in=3600.0)
    [never] = put(conn)
    pulse.expire(conn)
    ends = {str(row["id"]): row for row in table.rows("SELECT * FROM djtasks_result")}
    assert set(ends) == {parked, *late}
    assert {row["state"] for row in ends.values()} == {"REVOKED"}
    assert all(b"TaskRevokedError" in row["result"] and row["done"] for row in ends.values())
    left = {str(row["id"]) for row in table.rows("SELECT id FROM djtasks_message")}
    # What runs is past its expiry too, but it has begun.
    assert left == {running, waits, never}


def test_more_than_a_batch_expires_at_once(conn: psycopg.Connection, pulse: Pulse, table: Table) -> None:
    put(conn, 450, expires_in=-1.0)
    pulse.expire(conn)
    assert (table.messages(), table.results()) == (0, 450)


def test_of_several_that_look_each_message_expires_once(
    conn: psycopg.Connection, connect: Connect, table: Table
) -> None:
    put(conn, 1500, expires_in=-1.0)
    links = [connect(), connect(), connect()]
    start = threading.Barrier(len(links))

    def work(link: psycopg.Connection) -> None:
        start.wait(20)
        pulse_of()[0].expire(link)

    with ThreadPoolExecutor(len(links)) as pool:
        list(pool.map(work, links))
    pulse_of()[0].expire(conn)
    assert (table.messages(), table.results()) == (0, 1500)
    owners = table.rows("SELECT owner, count(*) FROM djtasks_result GROUP BY owner HAVING count(*) > 200")
    assert owners == []


def test_a_message_is_claimed_or_expires_and_never_both(
    conn: psycopg.Connection, connect: Connect, table: Table
) -> None:
    ids = put(conn, 600, expires_in=-1.0)
    owner, worker, sweeper = hire(conn), connect(), connect()
    start = threading.Barrier(2)

    def work() -> set[str]:
        start.wait(20)
        done: set[str] = set()
        while found := take(worker, owner, 20):
            done |= finish.finish(worker, owner, [ended(each) for each in found], NODE)
        return done

    with ThreadPoolExecutor(1) as pool:
        worked = pool.submit(work)
        start.wait(20)
        pulse_of()[0].expire(sweeper)
        done = worked.result(60)
    pulse_of()[0].expire(conn)
    states = {str(row["id"]): row["state"] for row in table.rows("SELECT id, state FROM djtasks_result")}
    assert set(states) == set(ids)
    assert {task_id for task_id, state in states.items() if state == "SUCCESS"} == done


def test_a_message_that_is_locked_elsewhere_expires_the_next_time(
    conn: psycopg.Connection, connect: Connect, pulse: Pulse, table: Table
) -> None:
    ids = put(conn, 3, expires_in=-1.0)
    other = connect()
    with other.transaction():
        other.execute("SELECT FROM djtasks_message WHERE id = %s FOR UPDATE", [ids[0]])
        pulse.expire(conn)
        assert table.results() == 2
    pulse.expire(conn)
    assert table.results() == 3


def test_who_waits_for_what_expires_is_rung(conn: psycopg.Connection, connect: Connect, pulse: Pulse) -> None:
    ids = put(conn, 2, expires_in=-1.0)
    listener = connect()
    notify.register_waiter(conn, 1, 60.0)
    listener.execute(f"LISTEN {notify.RESULTS}".encode())
    pulse.expire(conn)
    [rung] = listener.notifies(timeout=20, stop_after=1)
    assert sorted(rung.payload.split(",")) == sorted(ids)


@pytest.fixture
def _ignoring() -> Iterator[None]:
    @shared_task(name="tests.ignoring", ignore_result=True)
    def ignoring() -> None:
        return None

    yield
    del tasks["tests.ignoring"]


@pytest.mark.usefixtures("_ignoring")
def test_what_nobody_wants_to_know_expires_without_a_trace(
    conn: psycopg.Connection, pulse: Pulse, table: Table
) -> None:
    put(conn, name="tests.ignoring", expires_in=-1.0)
    pulse.expire(conn)
    assert table.messages() == table.results() == 0


# -- adoption, pruning --------------------------------------------------------------------------------------------


def test_a_sweep_opens_the_lanes_of_what_this_worker_knows_and_rings(
    conn: psycopg.Connection, connect: Connect, table: Table
) -> None:
    owner = hire(conn)
    put(conn, 2, name="tests.strange")
    messages.park_unknown(conn, owner, fences(take(conn, owner)))
    sleeper, listener = hire(conn, idle=True), connect()
    listener.execute(f"LISTEN {notify.worker_channel(sleeper)}".encode())
    pulse_of(0, "tests.other")[0].sweep(conn)
    assert table.waiting() == []
    pulse_of(0, "tests.strange")[0].sweep(conn)
    assert len(table.waiting()) == 2
    assert len(list(listener.notifies(timeout=20, stop_after=1))) == 1


def old_results(conn: psycopg.Connection, count: int) -> None:
    """Tasks that ended two hours ago."""
    put(conn, count)
    owner = hire(conn)
    finish.finish(conn, owner, [ended(each) for each in take(conn, owner, 10_000)], NODE)
    conn.execute("UPDATE djtasks_result SET done = done - interval '2 hours'")


@pytest.mark.parametrize(
    ("expires", "left"),
    [(timedelta(hours=1), 0), (3600, 0), (timedelta(hours=3), 5), (None, 5), (0, 5)],
)
def test_results_are_kept_as_long_as_the_setting_says(
    conn: psycopg.Connection, pulse: Pulse, table: Table, expires: object, left: int
) -> None:
    old_results(conn, 5)
    with override_settings(DJTASKS={"RESULT_EXPIRES": expires}):
        pulse.prune(conn)
    assert table.results() == left


def test_pruning_goes_on_until_nothing_old_is_left(
    conn: psycopg.Connection, pulse: Pulse, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pulses, "PRUNE_BATCH", 10)
    old_results(conn, 35)
    with override_settings(DJTASKS={"RESULT_EXPIRES": 60}):
        pulse.prune(conn)
    assert table.results() == 0


@pytest.mark.parametrize(("expires", "left"), [(None, 5), (60, 0), (7200, 5)])
def test_dead_letters_are_kept_for_as_long_as_their_own_setting_says(
    expires: int | None, left: int, conn: psycopg.Connection, pulse: Pulse, table: Table
) -> None:
    old_results(conn, 5)
    conn.execute("UPDATE djtasks_result SET dead = 'failed', done = now() - interval '1 hour'")
    with override_settings(DJTASKS={"RESULT_EXPIRES": 60, "DEAD_LETTER_EXPIRES": expires}):
        pulse.prune(conn)
    assert table.results() == left


def test_pruning_is_for_the_first_sweep_after_its_time(conn: psycopg.Connection, pulse: Pulse, table: Table) -> None:
    old_results(conn, 5)
    with override_settings(DJTASKS={"RESULT_EXPIRES": 60}):
        pulse._prune_at = time.monotonic() + 3600
        pulse.sweep(conn)
        assert table.results() == 5
        pulse._prune_at = 0.0
        pulse.sweep(conn)
        assert table.results() == 0
    assert pulse._prune_at > time.monotonic() + 30


# -- beating ------------------------------------------------------------------------------------------------------


def test_a_beat_moves_the_heartbeat_and_says_how_the_worker_is(conn: psycopg.Connection, table: Table) -> None:
    owner = hire(conn)
    before = table.rows("SELECT * FROM djtasks_worker")[0]
    pulse, news = pulse_of(owner)
    pulse.state.counters["SUCCESS"] = 4
    pulse.beat(conn)
    after = table.rows("SELECT * FROM djtasks_worker")[0]
    assert after["heartbeat"] > before["heartbeat"]
    assert (after["counters"], after["concurrency"], after["process_group"]) == ({"SUCCESS": 4}, 3, 77)
    assert after["started"] == before["started"]
    assert [each[:2] for each in news] == [("beating", owner)]


def test_a_worker_without_a_row_is_told_that_it_has_been_declared_dead(conn: psycopg.Connection) -> None:
    owner = hire(conn)
    pulse, news = pulse_of(owner)
    workers.remove(conn, owner)
    pulse.beat(conn)
    assert [each[:2] for each in news] == [("disowned", owner)]


def test_an_incarnation_that_has_no_row_yet_does_not_beat(conn: psycopg.Connection) -> None:
    pulse, news = pulse_of(4711)
    pulse.state.registered = 0
    pulse.beat(conn)
    assert news == []


def test_a_heartbeat_counts_from_when_it_was_sent(conn: psycopg.Connection) -> None:
    owner = hire(conn)
    pulse, news = pulse_of(owner)
    before = since_boot()
    pulse.beat(conn)
    after = since_boot()
    heartbeat = conn.execute("SELECT extract(epoch FROM now() - heartbeat)::float8 FROM djtasks_worker").fetchone()
    assert heartbeat is not None
    assert before <= news[0].at <= after
    # It is never younger for us than for those who look at the row.
    assert since_boot() - news[0].at >= heartbeat[0] - 0.001


def test_a_pulse_goes_on_after_its_session_was_ended(
    conn: psycopg.Connection, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:

    monkeypatch.setattr(pulses, "BACKOFF", (0.01, 0.02))
    owner = hire(conn)
    settings = {"WORKER_HEARTBEAT_INTERVAL": 0.1, "WORKER_DEAD_AFTER": 20.0}
    with override_settings(DJTASKS=settings):
        pulse, news = pulse_of(owner)
        pulse._wait = 0.01
        pulse.start()
        try:
            beats = "SELECT heartbeat FROM djtasks_worker"
            first = table.value(beats)
            wait_until(lambda: table.value(beats) > first, "a heartbeat")
            query = f"SELECT pid FROM pg_stat_activity WHERE application_name = 'djtasks pulse {NODE}'"
            pid = table.value(query)
            conn.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
            wait_until(lambda: [row["pid"] for row in table.rows(query)] not in ([], [pid]), "a new session")
            second = table.value(beats)
            wait_until(lambda: table.value(beats) > second, "a heartbeat of the new session")
        finally:
            pulse.stop()
            pulse.join(20)
    assert not pulse.is_alive()
    assert {each.kind for each in news} == {"beating"}
