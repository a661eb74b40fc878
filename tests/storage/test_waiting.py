"""Waiting for results: one connection and one query for all, woken by NOTIFY and, failing that, by the clock."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import psycopg
import pytest
from django.db import connection

from djtasks import waiting
from djtasks.db import finish, messages, notify, results
from djtasks.exceptions import TimeoutError
from djtasks.ids import new_task_id
from djtasks.messages import Again, Progress, Stored
from tests.storage.rows import NODE, Table, ended, hire, put, take
from tests.waits import wait_until

Connect = Callable[..., psycopg.Connection]

#: Longer than any test: who waits with this interval is woken by a ring or not at all.
NEVER = 3600.0


@pytest.fixture(autouse=True)
def _hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No test waits with the hub of another one."""
    yield
    monkeypatch.setattr(waiting, "LINGER", 0.0)
    hub = waiting._hub
    if hub is not None:
        with suppress(OSError):
            hub._nudge()
        hub.join(20)
        assert not hub.is_alive()


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    """Threads to wait in."""
    with ThreadPoolExecutor(8) as threads:
        yield threads


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many ids each query for results has asked for."""
    seen: list[int] = []
    fetch_ended = results.fetch_ended

    def spy(conn: Any, ids: Sequence[str]) -> dict[str, Stored]:
        seen.append(len(ids))
        return fetch_ended(conn, ids)

    monkeypatch.setattr(results, "fetch_ended", spy)
    return seen


def run(conn: psycopg.Connection, *, ring: bool = True, **fields: Any) -> list[str]:
    """Be a worker that runs everything there is, and rings as one does."""
    owner = hire(conn)
    found = take(conn, owner, 5000)
    finish.finish(conn, owner, [ended(each, **fields) for each in found], NODE)
    ids = [each.id for each in found]
    if ring:
        notify.ring_waiters(conn, ids)
    return ids


def sessions(table: Table) -> list[int]:
    """The server's processes that serve a waiting hub."""
    query = "SELECT pid FROM pg_stat_activity WHERE application_name = 'djtasks waiting'"
    return [row["pid"] for row in table.rows(query)]


def wait_until_asked(*ids: str) -> None:
    """Wait until the table has been asked for these at least once."""

    def asked() -> bool:
        hub = waiting._hub
        if hub is None:
            return False
        with hub.lock:
            return all(each.read for task_id in ids for each in hub.waiters.get(task_id, [])) and all(
                task_id in hub.waiters for task_id in ids
            )

    wait_until(asked, "a first look for the results")


# -- waking -------------------------------------------------------------------------------------------------------


def test_a_waiter_is_woken_by_the_ring_of_the_finish(conn: psycopg.Connection, pool: ThreadPoolExecutor) -> None:
    [task_id] = put(conn)
    stored = pool.submit(waiting.wait_for, task_id, 20, NEVER)
    wait_until_asked(task_id)
    run(conn, result=b'"seen"')
    assert stored.result(20).result == b'"seen"'


def test_a_task_that_has_already_ended_is_not_waited_for(conn: psycopg.Connection) -> None:
    [task_id] = put(conn)
    run(conn, ring=False, state="FAILURE")
    assert waiting.wait_for(task_id, 20, NEVER).state == "FAILURE"


def test_a_task_that_ends_while_the_hub_begins_to_listen_is_seen(
    conn: psycopg.Connection, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = put(conn, 2)
    register = notify.register_waiter

    def end_just_before(link: Any, waiter: int, seconds: float) -> None:
        # Nobody is registered yet, so this finish rings nobody.
        run(conn)
        register(link, waiter, seconds)

    monkeypatch.setattr(notify, "register_waiter", end_just_before)
    stored = [pool.submit(waiting.wait_for, task_id, 20, NEVER) for task_id in ids]
    assert [each.result(20).state for each in stored] == ["SUCCESS"] * 2


def test_only_an_end_wakes_a_waiter(conn: psycopg.Connection, pool: ThreadPoolExecutor, reads: list[int]) -> None:
    [task_id] = put(conn)
    stored = pool.submit(waiting.wait_for, task_id, 20, NEVER)
    wait_until_asked(task_id)
    owner = hire(conn)
    [held] = take(conn, owner)
    results.report(conn, [Progress(held.claim, task_id, "HALFWAY", b"50")], owner, NODE)
    messages.again(conn, owner, [ended(held, "RETRY", again=Again())], NODE)
    before = len(reads)
    notify.ring_waiters(conn, [task_id])
    wait_until(lambda: len(reads) > before, "a look for the result")
    assert not stored.done()
    run(conn)
    assert stored.result(20).state == "SUCCESS"


def test_all_who_wait_for_one_task_are_woken(conn: psycopg.Connection, pool: ThreadPoolExecutor) -> None:
    [task_id] = put(conn)
    stored = [pool.submit(waiting.wait_for, task_id, 20, NEVER) for _ in range(5)]
    wait_until(lambda: waiting._hub and len(waiting._hub.waiters.get(task_id, [])) == 5, "five that wait")
    run(conn)
    assert {each.result(20).id for each in stored} == {task_id}


def test_who_begins_to_wait_during_the_very_query_that_finds_the_result_is_woken_too(
    conn: psycopg.Connection, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    [task_id] = put(conn)
    late: list[Future[Stored]] = []
    fetch_ended = results.fetch_ended

    def wait_meanwhile(link: Any, ids: Sequence[str]) -> dict[str, Stored]:
        found = fetch_ended(link, ids)
        if found and not late:
            late.append(pool.submit(waiting.wait_for, task_id, 20, NEVER))
            wait_until(lambda: waiting._hub and len(waiting._hub.waiters[task_id]) == 2, "a second one that waits")
        return found

    monkeypatch.setattr(results, "fetch_ended", wait_meanwhile)
    first = pool.submit(waiting.wait_for, task_id, 20, NEVER)
    wait_until_asked(task_id)
    run(conn)
    assert first.result(20).id == task_id
    assert late[0].result(20).id == task_id


def test_who_begins_to_wait_while_others_are_rung_without_a_pause_is_served_too(
    conn: psycopg.Connection, connect: Connect, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    [over] = put(conn)
    run(conn)
    [busy] = put(conn)
    bell, fetch_ended = connect(), results.fetch_ended

    def ring_on(link: Any, ids: Sequence[str]) -> dict[str, Stored]:
        # Each look meets the next ring, for a task that has not ended.
        notify.ring_waiters(bell, [busy])
        return fetch_ended(link, ids)

    first = pool.submit(waiting.wait_for, busy, 20, NEVER)
    wait_until_asked(busy)
    monkeypatch.setattr(results, "fetch_ended", ring_on)
    notify.ring_waiters(bell, [busy])
    assert waiting.wait_for(over, 5, NEVER).id == over
    monkeypatch.setattr(results, "fetch_ended", fetch_ended)
    run(conn)
    assert first.result(20).id == busy


# -- giving up ----------------------------------------------------------------------------------------------------


def test_who_waits_too_long_is_told_so_and_forgotten(conn: psycopg.Connection) -> None:
    [task_id] = put(conn)
    with pytest.raises(TimeoutError, match="timed out"):
        waiting.wait_for(task_id, 0.05, NEVER)
    assert waiting._hub is not None
    assert waiting._hub.waiters == {}


def test_a_callback_is_called_at_every_interval(conn: psycopg.Connection) -> None:
    [task_id] = put(conn)
    calls = []

    def tick() -> None:
        calls.append(time.monotonic())
        if len(calls) == 3:
            run(conn)

    assert waiting.wait_for(task_id, 20, 0.02, tick).id == task_id
    assert len(calls) >= 3


def test_what_the_callback_raises_ends_the_waiting(conn: psycopg.Connection) -> None:
    [task_id] = put(conn)

    def tick() -> None:
        raise LookupError

    with pytest.raises(LookupError):
        waiting.wait_for(task_id, 20, 0.01, tick)
    assert waiting._hub is not None
    assert waiting._hub.waiters == {}


def test_one_who_gives_up_does_not_take_the_others_along(conn: psycopg.Connection, pool: ThreadPoolExecutor) -> None:
    [task_id] = put(conn)
    stored = pool.submit(waiting.wait_for, task_id, 20, NEVER)
    wait_until_asked(task_id)
    with pytest.raises(TimeoutError):
        waiting.wait_for(task_id, 0.01, NEVER)
    run(conn)
    assert stored.result(20).id == task_id


# -- what it costs ------------------------------------------------------------------------------------------------


def test_a_thousand_waiters_share_a_connection_and_a_query_a_wake(
    conn: psycopg.Connection, table: Table, reads: list[int]
) -> None:
    crowd, batch = 1000, 200
    ids = put(conn, crowd)
    got: list[Stored] = []
    size = threading.stack_size(256 * 1024)
    threads = [
        threading.Thread(target=lambda task_id=task_id: got.append(waiting.wait_for(task_id, 60, NEVER)), daemon=True)
        for task_id in ids
    ]
    threading.stack_size(size)
    for thread in threads:
        thread.start()
    wait_until_asked(*ids)
    assert len(sessions(table)) == 1
    before = len(reads)
    owner = hire(conn)
    found = take(conn, owner, crowd)
    for first in range(0, crowd, batch):
        part = found[first : first + batch]
        finish.finish(conn, owner, [ended(each) for each in part], NODE)
        notify.ring_waiters(conn, [each.id for each in part])
        wait_until(lambda done=first + batch: len(got) == done, "the waiters of this batch", 60)  # type: ignore[misc]
    assert len(reads) - before <= crowd // batch
    # To look for all of them each time would take longer than a waiter may be kept waiting.
    assert max(reads[before:]) <= batch
    assert sorted(each.id for each in got) == sorted(ids)
    for thread in threads:
        thread.join(20)


def test_while_nothing_ends_the_table_is_asked_no_more_than_twenty_times_a_second(
    conn: psycopg.Connection, reads: list[int]
) -> None:
    [task_id] = put(conn)
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        waiting.wait_for(task_id, 0.6, 0.001)
    assert len(reads) <= (time.monotonic() - began) * 20 + 1


def test_newcomers_do_not_ask_more_often_either(conn: psycopg.Connection, reads: list[int]) -> None:
    ids = put(conn, 100)
    began = time.monotonic()
    for task_id in ids:
        with pytest.raises(TimeoutError):
            waiting.wait_for(task_id, 0.005, NEVER)
    assert len(reads) <= (time.monotonic() - began) * 20 + 1


def test_those_that_have_ended_are_had_one_after_another_without_a_pause(conn: psycopg.Connection) -> None:
    ids = put(conn, 60)
    run(conn, ring=False)
    began = time.monotonic()
    for task_id in ids:
        assert waiting.wait_for(task_id, 20, NEVER).state == "SUCCESS"
    assert time.monotonic() - began < 60 * waiting.BETWEEN_READS * 0.7


def test_a_ring_for_others_costs_no_query(conn: psycopg.Connection, pool: ThreadPoolExecutor, reads: list[int]) -> None:
    [mine] = put(conn)
    stored = pool.submit(waiting.wait_for, mine, 20, NEVER)
    wait_until_asked(mine)
    before = len(reads)
    for _ in range(20):
        notify.ring_waiters(conn, [new_task_id() for _ in range(50)])
    run(conn)
    stored.result(20)
    assert len(reads) - before == 1


def test_a_process_says_that_it_waits_and_takes_it_back_when_it_does_not(
    conn: psycopg.Connection, pool: ThreadPoolExecutor, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "LINGER", 0.0)
    [task_id] = put(conn)
    stored = pool.submit(waiting.wait_for, task_id, 20, NEVER)
    wait_until(lambda: table.value("SELECT count(*) FROM djtasks_waiter WHERE expires > now()"), "a waiter's row")
    run(conn)
    stored.result(20)
    wait_until(lambda: table.value("SELECT count(*) FROM djtasks_waiter") == 0, "the end of the waiter's row")
    wait_until(lambda: not sessions(table), "the end of the waiter's session")
    [task_id] = put(conn)
    run(conn)
    assert waiting.wait_for(task_id, 20, NEVER).id == task_id


# -- losses -------------------------------------------------------------------------------------------------------


def test_a_lost_connection_is_opened_again_and_what_ended_meanwhile_is_seen(
    conn: psycopg.Connection, pool: ThreadPoolExecutor, table: Table
) -> None:
    ids = put(conn, 2)
    stored = [pool.submit(waiting.wait_for, task_id, 30, NEVER) for task_id in ids]
    wait_until_asked(*ids)
    [pid] = sessions(table)
    owner = hire(conn)
    held = take(conn, owner)
    # Its ring is one of those that a lost session does not hear.
    finish.finish(conn, owner, [ended(held[0])], NODE)
    conn.execute("SELECT pg_terminate_backend(%s, 5000)", [pid])
    assert stored[0].result(30).id == ids[0]
    wait_until(lambda: sessions(table) not in ([], [pid]), "a new session")
    finish.finish(conn, owner, [ended(held[1])], NODE)
    notify.ring_waiters(conn, [ids[1]])
    assert stored[1].result(30).id == ids[1]


def test_without_notifications_the_interval_is_the_net(
    conn: psycopg.Connection, table: Table, pool: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As behind a proxy which gives each statement another session.
    monkeypatch.setitem(connection.settings_dict, "DISABLE_SERVER_SIDE_CURSORS", True)
    [task_id] = put(conn)
    stored = pool.submit(waiting.wait_for, task_id, 20, 0.05)
    wait_until_asked(task_id)
    run(conn, ring=False)
    assert stored.result(20).id == task_id


FORKS = """
import os, sys, threading
import django
django.setup()
from djtasks import waiting

mine, childs = sys.argv[1:]
first = threading.Thread(target=lambda: print("parent", waiting.wait_for(mine, 60, 3600.0).state, flush=True))
first.start()
while not (waiting._hub and waiting._hub.waiters.get(mine, [None])[0] and waiting._hub.waiters[mine][0].read):
    first.join(0.01)
# The moment at which a fork hurts the most: another thread is just about to change the hub.
waiting._hub_lock.acquire()
pid = os.fork()
if not pid:
    print("child", waiting.wait_for(childs, 60, 3600.0).state, flush=True)
    os._exit(0)
waiting._hub_lock.release()
first.join(60)
print("exit", os.waitpid(pid, 0)[1], flush=True)
"""


def test_a_forked_child_waits_by_itself_and_leaves_its_parent_s_session_alone(
    conn: psycopg.Connection, table: Table
) -> None:
    ids = put(conn, 2)
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "testproject.settings"}
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", FORKS, *ids], env=environment, stdout=subprocess.PIPE, text=True
    )
    with process:
        wait_until(lambda: len(sessions(table)) == 2, "two processes that wait")
        wait_until(lambda: table.value("SELECT count(*) FROM djtasks_waiter") == 2, "two registrations")
        owner = hire(conn)
        child_s = [each for each in take(conn, owner) if each.id == ids[1]]
        finish.finish(conn, owner, [ended(each) for each in child_s], NODE)
        notify.ring_waiters(conn, [ids[1]])
        assert process.stdout is not None
        assert process.stdout.readline() == "child SUCCESS\n"
        # The parent's session has outlived the child that had inherited it.
        conn.execute("UPDATE djtasks_message SET owner = NULL, claim = NULL")
        run(conn)
        rest, _ = process.communicate(timeout=60)
    assert sorted(rest.splitlines()) == ["exit 0", "parent SUCCESS"]
