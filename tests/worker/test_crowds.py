"""Crowds: gevent, eventlet and asyncio, where many tasks wait at the same time in one process."""

import itertools
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from pytest_django import DjangoDbBlocker

from djtasks import AsyncResult
from djtasks.appstate import current_app as default_app
from tests.servers import Server, chosen
from tests.worker.conftest import clean
from tests.worker.running import (
    Audit,
    Gate,
    RunningWorker,
    Workers,
    django_at,
    ended,
    error,
    living,
    migrate,
    query,
    value,
    wait_until,
    waits,
)
from tests.worker.test_signals import launch
from tests.worker_app import crowded, tasks

GREEN = ("gevent", "eventlet")
SEATS = 100
#: A heart that beats fast is missed soon.
MORE: dict[str, Any] = {"IMPORTS": ["tests.worker_app.crowded"], "WORKER_HEARTBEAT_INTERVAL": 0.5}


@pytest.fixture(scope="module", autouse=True)
def database(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[str]:
    """A server of this module's own, with room for a session of each greenlet."""
    server = Server(chosen(), {"max_connections": "400"})
    migrate(server.url)
    with django_db_blocker.unblock(), django_at(server.url):
        clean()
        yield server.url
    server.remove()


@pytest.fixture(scope="module", params=GREEN)
def pool(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def worker(pool: str, shared: Workers) -> RunningWorker:
    return shared.start("-P", pool, "-c", "1000", "-Q", pool, **MORE)


def most_at_once(spans: list[tuple[float, float]]) -> int:
    """How many of these (begin, end) overlap, at the most."""
    steps = sorted([(begin, 1) for begin, _ in spans] + [(end, -1) for _, end in spans])
    return max(itertools.accumulate(step for _, step in steps))


def test_a_hundred_tasks_that_sleep_in_sql_overlap(worker: RunningWorker, pool: str) -> None:
    results: list[AsyncResult[Any]] = crowded.sleep_in_sql.bulk_apply_async(
        (([0.5], {}) for _ in range(SEATS)), queue=pool
    )
    found = [value(result) for result in results]
    # How many exactly is a matter of how long it takes to connect.
    assert most_at_once([(began, ended) for began, ended, _ in found]) > SEATS / 4
    assert max(ended for _, ended, _ in found) - min(began for began, _, _ in found) < SEATS * 0.5 / 4


def test_all_of_them_can_wait_in_sql_at_the_same_time(worker: RunningWorker, pool: str) -> None:
    waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted"
    query("SELECT pg_advisory_lock(7)")
    results = crowded.lock_in_sql.bulk_apply_async((([7], {}) for _ in range(SEATS)), queue=pool)
    wait_until(lambda: query(waiting) == [(SEATS,)], "a hundred wait")
    query("SELECT pg_advisory_unlock(7)")
    assert len({value(result) for result in results}) == SEATS


def test_a_limit_reaches_a_task_that_waits_in_sql_and_leaves_its_session_usable(
    worker: RunningWorker, pool: str
) -> None:
    result = crowded.tidy.apply_async([600], queue=pool, soft_time_limit=0.3)
    assert value(result) == "tidied up after 0.3"
    worker.says(f"Soft time limit (0.3s) exceeded for tests.worker_app.crowded.tidy[{result.id}]")
    assert error(crowded.sleep_in_sql.apply_async([600], queue=pool, soft_time_limit=0.2)) == (
        "SoftTimeLimitExceeded: SoftTimeLimitExceeded(0.2,)"
    )
    assert value(crowded.sleep_in_sql.apply_async([0], queue=pool))


def test_a_hard_limit_ends_one_task_and_leaves_the_others_alone(
    worker: RunningWorker, pool: str, gate: Gate, shared: Workers
) -> None:
    other = crowded.wait_early.apply_async([str(gate)], queue=pool)
    pid = shared.audit.began(other)["pid"]
    over = crowded.overrun.apply_async(queue=pool, time_limit=0.4)
    assert error(over) == "TimeLimitExceeded: 0.4"
    assert query("SELECT count(*) FROM auth_user WHERE username = 'overrun'") == [(0,)]
    hog = crowded.hog.apply_async([600], queue=pool, time_limit=0.4)
    assert error(hog) == "TimeLimitExceeded: 0.4"
    gate.open()
    assert value(other) == "early"
    assert value(tasks.pid.apply_async(queue=pool)) == pid


def test_a_revoked_task_is_ended_where_it_waits(worker: RunningWorker, pool: str, shared: Workers) -> None:
    result = crowded.overrun.apply_async(queue=pool)
    shared.audit.began(result)
    result.revoke(terminate=True)
    assert ended(result) == "REVOKED"
    worker.says(f"Task tests.worker_app.crowded.overrun[{result.id}] is revoked and was terminated (15)")


def test_the_worker_lives_and_answers_while_a_task_lets_nothing_else_run(
    worker: RunningWorker, pool: str, shared: Workers
) -> None:
    result = crowded.hog.apply_async([1.5], queue=pool)
    begun = shared.audit.began(result)
    beat = query("SELECT heartbeat FROM djtasks_worker WHERE pid = %s", worker.pid)
    control = default_app.control.inspect(destination=[f"{worker.name}@here"], timeout=5)
    [active] = control.active()[f"{worker.name}@here"]
    assert (active["id"], active["worker_pid"]) == (result.id, begun["pid"])
    assert control.stats()[f"{worker.name}@here"]["pool"]["processes"] == [begun["pid"]]
    wait_until(lambda: query("SELECT heartbeat FROM djtasks_worker WHERE pid = %s", worker.pid) != beat, "a beat")
    assert not result.ready()
    assert value(result) == "done"


def test_a_thousand_wait_at_once(worker: RunningWorker, pool: str) -> None:
    results = crowded.meet_green.bulk_apply_async((([1000], {}) for _ in range(1000)), queue=pool)
    assert {value(result, 60.0) for result in results} == {1000}


def test_large_arguments_and_results_travel(worker: RunningWorker, pool: str) -> None:
    text = "x" * 300_000
    assert value(tasks.echo.apply_async([text], queue=pool)) == text


def test_each_task_sees_its_own_context(worker: RunningWorker, pool: str) -> None:
    results = crowded.who_am_i.bulk_apply_async((([0.1], {}) for _ in range(50)), queue=pool)
    for result in results:
        assert value(result) == [result.id, result.id, "nothing"]


def test_what_is_atomic_is_so_in_greenlets_that_overlap(worker: RunningWorker, pool: str) -> None:
    good = [crowded.atomically.apply_async([f"{pool}{number}", 0.1], queue=pool) for number in range(10)]
    bad = [crowded.atomically.apply_async([f"{pool}0", 0.0], queue=pool) for _ in range(3)]
    states = [ended(result) for result in (*good, *bad)]
    assert states.count("SUCCESS") == 10
    assert query("SELECT count(*) FROM auth_user WHERE username LIKE %s", f"{pool}%") == [(10,)]


def test_coroutines_are_refused_with_a_sentence(worker: RunningWorker, pool: str) -> None:
    worker.says(f"The {pool} pool runs no async def tasks")
    assert "async def tasks do not run in the" in error(crowded.drowse.apply_async([0], queue=pool))


def test_the_process_of_tasks_is_patched_and_the_workers_is_not(worker: RunningWorker, pool: str) -> None:
    assert value(crowded.patched.apply_async(queue=pool)) == pool
    maps = Path(f"/proc/{worker.pid}/maps").read_text()
    assert "greenlet" not in maps


def test_no_session_is_left_behind(worker: RunningWorker, pool: str) -> None:
    results = crowded.sleep_in_sql.bulk_apply_async((([0.0], {}) for _ in range(60)), queue=pool)
    sessions = [value(result)[2] for result in results]
    left = "SELECT pid FROM pg_stat_activity WHERE pid = ANY (%s)"
    wait_until(lambda: not query(left, sessions), "all are closed, as after a request")


@pytest.fixture(scope="module")
def loop(shared: Workers) -> RunningWorker:
    return shared.start("-P", "asyncio", "-c", "1000", "-Q", "loop", **MORE)


def test_a_thousand_coroutines_sleep_at_once(loop: RunningWorker) -> None:
    results = crowded.meet.bulk_apply_async((([1000], {}) for _ in range(1000)), queue="loop")
    assert {value(result, 60.0) for result in results} == {1000}


def test_tasks_that_are_no_coroutines_have_threads_beside_the_loop(loop: RunningWorker, gate: Gate) -> None:
    waiting = [crowded.wait_early.apply_async([str(gate)], queue="loop") for _ in range(5)]
    assert value(crowded.drowse.apply_async([0.01], queue="loop"))
    gate.open()
    assert [value(result) for result in waiting] == ["early"] * 5
    assert value(crowded.ask_orm.apply_async(queue="loop")) == query("SELECT count(*) FROM auth_user")[0][0]


def test_limits_reach_coroutines(loop: RunningWorker, gate: Gate, shared: Workers) -> None:
    other = crowded.await_early.apply_async([str(gate)], queue="loop")
    pid = shared.audit.began(other)["pid"]
    assert value(crowded.atidy.apply_async([600], queue="loop", soft_time_limit=0.2)) == "tidied up after 0.2"
    assert value(crowded.tidy.apply_async([0.5], queue="loop", soft_time_limit=0.2)) == "tidied up after 0.2"
    assert error(crowded.drowse.apply_async([600], queue="loop", soft_time_limit=0.2)) == (
        "SoftTimeLimitExceeded: SoftTimeLimitExceeded(0.2,)"
    )
    assert error(crowded.aoverrun.apply_async(queue="loop", time_limit=0.3)) == "TimeLimitExceeded: 0.3"
    assert error(crowded.ahog.apply_async([600], queue="loop", time_limit=0.3)) == "TimeLimitExceeded: 0.3"
    revoked = crowded.aoverrun.apply_async(queue="loop")
    shared.audit.began(revoked)
    revoked.revoke(terminate=True)
    assert ended(revoked) == "REVOKED"
    gate.open()
    assert value(other) == "early"
    assert value(tasks.pid.apply_async(queue="loop")) == pid


def test_handlers_signals_and_retries_of_coroutines_are_as_in_other_pools(loop: RunningWorker, shared: Workers) -> None:
    result = crowded.handled.apply_async(queue="loop")
    assert value(result) == 2
    said = [line["event"] for line in shared.audit.lines(result=result)]
    assert said == ["before", "ran", "retry", "before", "ran", "success", "after"]
    failed = crowded.afail.apply_async(queue="loop")
    assert error(failed) == "ValueError: no"
    assert "afail" in str(failed.traceback)


def test_what_cannot_be_ended_is_killed_with_its_process(loop: RunningWorker, gate: Gate, shared: Workers) -> None:
    early = crowded.await_early.apply_async([str(gate)], queue="loop")
    late = crowded.await_late.apply_async([str(gate)], queue="loop")
    shared.audit.began(early)
    shared.audit.began(late)
    # In a thread, which cannot be ended.
    assert error(crowded.overrun.apply_async(queue="loop", time_limit=0.2)) == "TimeLimitExceeded: 0.2"
    loop.says("does not let itself be ended: its process pid:")
    assert error(early).startswith("WorkerLostError: The worker process was lost (signal 9 (SIGKILL)).")
    shared.audit.began(late, runs=2)
    gate.open()
    assert value(late) == "late"


@pytest.mark.parametrize("pool", ["gevent", "asyncio"])
def test_deaths_and_ends(pool: str, workers: Workers, gate: Gate) -> None:
    """A killed child, a killed worker, a cold and a warm shutdown, with one worker after the other."""
    early, late = (
        (crowded.await_early, crowded.await_late) if pool == "asyncio" else (crowded.wait_early, crowded.wait_late)
    )
    worker = workers.start("-P", pool, "-c", "20", "-Q", "ends", **MORE)
    first, second = early.apply_async([str(gate)], queue="ends"), late.apply_async([str(gate)], queue="ends")
    workers.audit.began(second)
    child = psutil.Process(workers.audit.began(first)["pid"])
    # The asyncio pool shows that the end of the fork server comes to the same.
    (worker.server if pool == "asyncio" else child).kill()
    assert error(first).startswith("WorkerLostError: The worker process was lost (signal 9 (SIGKILL)).")
    child = psutil.Process(workers.audit.began(second, runs=2)["pid"])

    worker.process.kill()
    wait_until(lambda: not living([child]), "the child dies with its worker", 1.0)
    again = workers.start("-P", pool, "-c", "20", "-Q", "ends", **MORE)
    workers.audit.began(second, runs=3)

    again.signal(signal.SIGQUIT)
    assert again.wait() == 1
    assert waits(second)

    last = workers.start("-P", pool, "-c", "1", "-Q", "ends", "--prefetch-multiplier", "1", **MORE)
    workers.audit.began(second, runs=4)
    behind = tasks.noop.apply_async(queue="ends")
    last.signal(signal.SIGTERM)
    last.says("Warm shutdown")
    gate.open()
    assert last.wait() == 0
    assert (value(second), waits(behind), last.left()) == ("late", True, [])


def test_a_pool_of_a_projects_own_is_used_by_its_path(workers: Workers, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CELERY_CUSTOM_WORKER_POOL", "tests.worker_app.pools:Inline")
    worker = workers.start("-P", "custom", "-c", "2", "-Q", "own", **MORE)
    results = [tasks.pid.apply_async(queue="own") for _ in range(5)]
    assert {value(result) for result in results} == {worker.pid}
    assert query("SELECT pool FROM djtasks_worker WHERE pid = %s", worker.pid) == [("tests.worker_app.pools:Inline",)]
    assert worker.stop() == 0


def test_beat_and_eventlets_signals_work_beside_greenlets(workers: Workers, audit: Audit) -> None:
    schedule = {"often": {"task": tasks.noted.name, "schedule": 0.5, "options": {"queue": "more"}}}
    worker = launch(workers, "-P", "eventlet", "-B", "-A", "tests.worker_app.named", BEAT_SCHEDULE=schedule, **MORE)
    assert value(crowded.name_of_app.delay()) == "named"
    [ran, *_] = wait_until(lambda: audit.lines("ran"), "beat sends, and a greenlet runs")
    assert worker.stop() == 0
    assert ran["pid"] != worker.pid
    for name in ("started", "apply", "preshutdown", "postshutdown"):
        told = audit.lines(f"eventlet_pool_{name}")
        assert told, name
        assert {line["pid"] for line in told} == {ran["pid"]}
