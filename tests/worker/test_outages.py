"""The database goes away and comes back: workers outlive it, nothing is lost, nothing runs twice."""

import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence

import pytest
from django.db import connection
from pytest_django import DjangoDbBlocker

from djtasks import AsyncResult
from testproject.postgres.cluster import postmaster
from tests.servers import Server, chosen
from tests.worker.running import (
    Audit,
    Gate,
    RunningWorker,
    Workers,
    django_at,
    ended,
    error,
    migrate,
    query,
    value,
    wait_until,
)
from tests.worker_app import tasks

DEAD_AFTER = 2.0
SHORT = {"WORKER_HEARTBEAT_INTERVAL": 0.5, "WORKER_DEAD_AFTER": DEAD_AFTER}
COUNT = 600


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A server of this module's own, to be stopped at will."""
    found = Server(chosen())
    migrate(found.url)
    yield found
    found.remove()


@pytest.fixture(scope="module")
def database(server: Server, django_db_blocker: DjangoDbBlocker) -> Iterator[str]:
    with django_db_blocker.unblock(), django_at(server.url):
        yield server.url


@pytest.fixture(scope="module")
def pair(shared: Workers) -> list[RunningWorker]:
    """Two workers on the same queue, quick to take each other for dead."""
    pair = [shared.launch("-c", "2", "-l", "INFO", "-Q", "celery", **SHORT) for _ in range(2)]
    return [worker.ready() for worker in pair]


@pytest.fixture(autouse=True)
def live_on(pair: list[RunningWorker]) -> Iterator[None]:
    """No outage ends a worker, or lets one be taken for dead."""
    before = [worker.registered() for worker in pair]
    yield
    assert [worker.process.poll() for worker in pair] == [None, None]
    assert [worker.registered() for worker in pair] == before


def states(results: Sequence[AsyncResult[object]]) -> dict[str, int]:
    """Wait until every one has ended; how many in which state."""
    wait_until(lambda: query("SELECT count(*) FROM djtasks_message") == [(0,)], "all have ended", 60)
    ids = [result.id for result in results]
    return dict(query("SELECT state, count(*) FROM djtasks_result WHERE id = ANY (%s::uuid[]) GROUP BY 1", ids))


def runs(audit: Audit, results: Sequence[AsyncResult[object]]) -> list[int]:
    """How often they ran: each number that occurs."""
    counts = Counter(line["id"] for line in audit.lines("ran"))
    return sorted({counts[result.id] for result in results})


def load(audit: Audit) -> Sequence[AsyncResult[object]]:
    """Many calls, with the workers in the midst of them."""
    before = len(audit.lines("ran"))
    results = tasks.brief.bulk_apply_async(([number, 0.005], {}) for number in range(COUNT))
    wait_until(lambda: len(audit.lines("ran")) - before > COUNT // 10, "they are in the midst of it")
    return results


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_nothing_is_lost_and_nothing_runs_twice_when_the_server_is_restarted_under_load(
    server: Server, shared: Workers, mode: str
) -> None:
    results = load(shared.audit)
    server.restart(mode)  # type: ignore[arg-type]
    connection.close()
    assert states(results) == {"SUCCESS": COUNT}
    assert runs(shared.audit, results) == [1]


def test_nothing_is_lost_and_nothing_runs_twice_when_sessions_are_ended_again_and_again(shared: Workers) -> None:
    results = load(shared.audit)
    for _ in range(15):
        before = len(shared.audit.lines("ran"))
        query(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name LIKE 'djtasks %%' AND pid <> pg_backend_pid()"
        )
        wait_until(
            lambda before=before: len(shared.audit.lines("ran")) > before + 10 or not query("TABLE djtasks_message"),
            "they go on",
        )
    assert states(results) == {"SUCCESS": COUNT}
    assert runs(shared.audit, results) == [1]


def test_an_outage_longer_than_the_death_bound_makes_nobody_dead_and_what_ends_meanwhile_is_stored(
    server: Server, pair: list[RunningWorker], shared: Workers, gate: Gate
) -> None:
    results = [tasks.hold.delay(str(gate)) for _ in range(4)]
    for result in results:
        shared.audit.began(result)
    server.stop()
    began = time.monotonic()
    for worker in pair:
        worker.says("Claiming stops: no heartbeat could be written")
    gate.open()
    wait_until(lambda: time.monotonic() - began > 2 * DEAD_AFTER, "it is longer than the death bound")
    server.start()
    connection.close()
    for worker in pair:
        worker.says("Claiming goes on")
    assert [ended(result) for result in results] == ["SUCCESS"] * 4
    assert [len(shared.audit.lines("begin", result)) for result in results] == [1] * 4
    assert value(tasks.echo.delay("after")) == "after"


def test_late_tasks_that_run_while_the_database_is_lost_are_ended_and_run_again_where_the_settings_say_so(
    server: Server, workers: Workers, gate: Gate
) -> None:
    cancels = {"WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS": True}
    worker = workers.start("-c", "2", "-Q", "patient", "-l", "INFO", **cancels)
    late, early = (task.apply_async([str(gate)], queue="patient") for task in (tasks.hold_late, tasks.hold))
    for result in (late, early):
        workers.audit.began(result)
    server.stop()
    worker.says(f"hold_late[{late.id}], to run again")
    worker.says("was ended, and runs again")
    server.start()
    connection.close()
    wait_until(lambda: len(workers.audit.lines("begin", late)) == 2, "it runs again")
    assert query("SELECT crashes FROM djtasks_message WHERE id = %s", late.id) == [(0,)]
    gate.open()
    assert [ended(late), ended(early)] == ["SUCCESS"] * 2
    assert len(workers.audit.lines("begin", early)) == 1


def test_a_server_that_stands_still_longer_than_the_death_bound_makes_nobody_dead(
    server: Server, shared: Workers, gate: Gate
) -> None:
    results = [tasks.hold.delay(str(gate)) for _ in range(2)]
    for result in results:
        shared.audit.began(result)
    main = postmaster(server.cluster.data)
    assert main is not None
    processes = [main, *main.children()]
    for process in processes:
        process.suspend()
    began = time.monotonic()
    wait_until(lambda: time.monotonic() - began > 2 * DEAD_AFTER, "it is longer than the death bound")
    for process in processes:
        process.resume()
    gate.open()
    assert [ended(result) for result in results] == ["SUCCESS"] * 2
    assert [len(shared.audit.lines("begin", result)) for result in results] == [1] * 2


def test_a_server_that_only_reads_for_a_while_is_waited_for(
    pair: list[RunningWorker], shared: Workers, gate: Gate
) -> None:
    result = tasks.hold.delay(str(gate))
    shared.audit.began(result)
    query("ALTER SYSTEM SET default_transaction_read_only = on")
    query("SELECT pg_reload_conf()")
    gate.open()
    wait_until(lambda: any("cannot execute" in worker.log for worker in pair), "a worker notices")
    query("ALTER SYSTEM RESET default_transaction_read_only")
    query("SELECT pg_reload_conf()")
    assert ended(result) == "SUCCESS"
    wait_until(lambda: query("SHOW default_transaction_read_only") == [("off",)], "it writes again")
    assert value(tasks.echo.delay("after")) == "after"


def test_an_idle_worker_listens_again_after_an_outage(server: Server, workers: Workers) -> None:
    workers.start("-c", "1", "-Q", "rung", WORKER_POLL_INTERVAL=300)
    value(tasks.echo.apply_async([0], queue="rung"))
    server.restart()
    connection.close()
    assert value(tasks.echo.apply_async([1], queue="rung"), 15) == 1
    for _ in range(3):
        asked = time.monotonic()
        result = tasks.noted.apply_async(queue="rung")
        ended(result)
        assert workers.audit.lines("ran", result)[0]["time"] - asked < 1.0


def test_an_idle_worker_can_be_ended_while_the_database_is_away(server: Server, workers: Workers) -> None:
    worker = workers.start("-c", "1", "-Q", "away")
    # No claim of its is left without an answer: one that is has perhaps taken something, and is waited for.
    wait_until(lambda: query("SELECT idle FROM djtasks_worker WHERE pid = %s", worker.pid) == [(True,)], "it sleeps")
    server.stop()
    try:
        worker.signal(signal.SIGTERM)
        assert worker.wait(8) == 0
        assert worker.left() == []
    finally:
        server.start()
        connection.close()


def test_a_worker_that_starts_while_the_database_is_away_says_so_and_leaves_nothing(
    server: Server, workers: Workers
) -> None:
    server.stop()
    try:
        worker = workers.launch("-c", "2")
        assert worker.wait() == 1
    finally:
        server.start()
        connection.close()
    assert "cannot be reached" in worker.log
    assert "Traceback" not in worker.log
    assert worker.left() == []


def test_a_worker_that_is_to_end_gives_up_a_database_that_does_not_come_back(server: Server, workers: Workers) -> None:
    gate = workers.gate()
    impatient = workers.launch("-c", "1", "-l", "INFO", "-Q", "away", program=("-m", "tests.worker.impatient")).ready()
    result = tasks.hold.apply_async([str(gate)], queue="away")
    workers.audit.began(result)
    server.stop()
    try:
        impatient.signal(signal.SIGTERM)
        gate.open()
        assert impatient.wait() == 1
        assert "The database did not come back" in impatient.log
    finally:
        server.start()
        connection.close()
    # Its outcome is lost with it, and the task not: another worker of the host sees to it.
    assert error(result).startswith("WorkerLostError:")
