"""Behind a real PgBouncer in transaction mode, with the one setting that the guide names, everything works by polling.

Without PgBouncer all tests here are skipped, and say so; `make browser` installs it.
"""

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection, transaction
from pytest_django import DjangoDbBlocker

from djtasks import AsyncResult, ResultSet, app
from djtasks.canvas import chain, chord, group
from djtasks.exceptions import TaskRevokedError
from djtasks.models import PeriodicTask
from tests.beat.running import Beats
from tests.deploy.bouncer import PROGRAM, Bouncer
from tests.deploy.databases import at
from tests.worker.conftest import clean
from tests.worker.running import Gate, RunningWorker, Workers, ended, query, value, wait_until
from tests.worker_app import limited, tasks, workflows

pytestmark = pytest.mark.skipif(
    not PROGRAM, reason="there is no pgbouncer: `make browser` installs it (apt-get install pgbouncer)"
)


@pytest.fixture(scope="module")
def bouncer(migrated: str) -> Iterator[Bouncer]:
    found = Bouncer(migrated)
    yield found
    found.remove()


@pytest.fixture(scope="module", autouse=True)
def database(bouncer: Bouncer, migrated: str, django_db_blocker: DjangoDbBlocker) -> Iterator[str]:
    """Workers, beats and the calls of the tests reach the database through PgBouncer, all of them."""
    with django_db_blocker.unblock(), at(bouncer.url):
        assert connection.settings_dict["DISABLE_SERVER_SIDE_CURSORS"]
        clean()
        yield bouncer.url


@pytest.fixture(scope="module")
def shared(database: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workers]:
    found = Workers(tmp_path_factory.mktemp("workers"), database)
    yield found
    found.close()


@pytest.fixture(scope="module")
def worker(shared: Workers) -> RunningWorker:
    imports = ["tests.worker_app.workflows", "tests.worker_app.limited"]
    return shared.start("-c", "2", IMPORTS=imports, WORKER_POLL_INTERVAL=0.2)


@pytest.mark.usefixtures("worker")
@pytest.mark.parametrize("mode", ["on_commit", "in_transaction", "immediately"])
def test_each_way_to_enqueue_and_to_wait_works_by_polling(mode: str) -> None:
    with transaction.atomic():
        made = [tasks.echo.apply_async([number], enqueue=mode) for number in range(3)]
    assert [each.get(timeout=10) for each in made] == [0, 1, 2]
    assert tasks.echo.apply_async([mode], enqueue=mode).get(timeout=10) == mode


@pytest.mark.usefixtures("worker")
def test_what_is_rolled_back_is_not_there_and_what_comes_in_bulk_all_runs() -> None:
    with transaction.atomic():
        gone = tasks.echo.apply_async([1], enqueue="in_transaction")
        transaction.set_rollback(True)
    made = tasks.echo.bulk_apply_async(([number], {}) for number in range(2500))
    assert ResultSet(list(made)).get(timeout=20) == list(range(2500))
    assert gone.state == "PENDING"


@pytest.mark.usefixtures("worker")
def test_retries_failures_and_times_work() -> None:
    retried, later = tasks.retried.delay(), tasks.echo.apply_async(["later"], countdown=0.5)
    failed: AsyncResult[Any] = tasks.fail.delay("as told")
    lost = tasks.leave.delay(3)
    assert value(retried) == 2
    assert value(later) == "later"
    assert (ended(failed), ended(lost)) == ("FAILURE", "FAILURE")
    assert "WorkerLostError" in repr(lost.result)


@pytest.mark.usefixtures("worker")
def test_workflows_work() -> None:
    add, gather = workflows.add, workflows.gather
    steps = chain(add.s(1), add.s(1), group(add.s(number) for number in range(10)), gather.s()).apply_async((1,))
    parts = chord((add.s(number) for number in range(300)), gather.s()).apply_async((1,))
    assert steps.get(timeout=20) == [number + 3 for number in range(10)]
    assert parts.get(timeout=20) == [number + 1 for number in range(300)]


def test_a_worker_answers_and_a_running_task_is_ended(worker: RunningWorker, shared: Workers, gate: Gate) -> None:
    assert app.control.ping(timeout=10, destination=[worker.name + "@here"]) == [
        {f"{worker.name}@here": {"ok": "pong"}}
    ]
    held = tasks.hold.delay(str(gate))
    shared.audit.began(held)
    held.revoke(terminate=True)
    with pytest.raises(TaskRevokedError):
        held.get(timeout=20)


@pytest.mark.usefixtures("worker")
def test_what_a_killed_worker_held_runs_again(shared: Workers, gate: Gate) -> None:
    audit = shared.audit
    first = shared.start("-c", "1", "-Q", "rescued")
    held = tasks.hold_late.apply_async([str(gate)], queue="rescued")
    audit.began(held)
    for process in first.tree():
        process.kill()
    second = shared.start("-c", "1", "-Q", "rescued", WORKER_HEARTBEAT_INTERVAL=0.5, WORKER_DEAD_AFTER=2)
    audit.began(held, runs=2)
    gate.open()
    value(held)
    assert second.stop() == 0


@pytest.mark.usefixtures("worker")
def test_a_beat_sends_and_its_runs_end(database: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    beats = Beats(tmp_path_factory.mktemp("beats"), database)
    try:
        beats.start("--max-interval", "0.5")
        made = PeriodicTask.objects.create(
            name="often", task="tests.worker_app.tasks.echo", args=["tick"], kind="interval", every=1, period="seconds"
        )
        found = wait_until(
            lambda: query("SELECT id FROM djtasks_result WHERE state = 'SUCCESS' AND periodic = %s", made.pk),
            "a run of a schedule that was written behind the beat's back has ended",
        )
        assert value(AsyncResult(str(found[0][0]))) == "tick"
    finally:
        beats.close()
        query("TRUNCATE djtasks_periodic_task, djtasks_beat")


@pytest.mark.usefixtures("worker")
def test_limits_over_all_workers_are_kept(shared: Workers) -> None:
    made = [limited.two_of_a_key.delay("key") for _ in range(6)]
    ResultSet(made).get(timeout=20)
    running = 0
    for line in shared.audit.lines():
        running += {"enter": 1, "leave": -1}.get(line["event"], 0)
        assert running <= 2


def test_nothing_is_left_in_the_sessions_that_others_use_next(worker: RunningWorker) -> None:
    value(tasks.echo.delay(1))
    seen = set()
    for _ in range(12):
        with transaction.atomic():
            seen |= set(
                query(
                    "SELECT (SELECT count(*) FROM pg_prepared_statements),"
                    " (SELECT count(*) FROM pg_listening_channels()),"
                    " current_setting('enable_seqscan'), current_setting('synchronous_commit')"
                )
            )
    assert seen == {(0, 0, "on", "on")}


def test_a_worker_at_the_server_itself_is_rung_by_calls_that_come_through_pgbouncer(
    shared: Workers, migrated: str
) -> None:
    options = ("-l", "INFO", "-c", "1", "-Q", "direct")
    worker = shared.launch(*options, environment={"DATABASE_URL": migrated}, WORKER_POLL_INTERVAL=600).ready()
    assert [tasks.echo.apply_async([number], queue="direct").get(timeout=15) for number in range(3)] == [0, 1, 2]
    assert worker.stop() == 0


def test_a_worker_that_was_not_told_of_the_proxy_says_what_to_set(shared: Workers, bouncer: Bouncer) -> None:
    worker = shared.launch(environment={"DATABASE_URL": bouncer.url.partition("?")[0]})
    assert worker.wait() == 1
    assert "set DISABLE_SERVER_SIDE_CURSORS of DATABASES['default'] to True" in worker.log


def test_a_worker_outlives_its_pgbouncer(worker: RunningWorker, bouncer: Bouncer) -> None:
    connection.close()
    bouncer.kill()
    worker.says("Lost the database")
    bouncer.start()
    assert tasks.echo.delay("again").get(timeout=20) == "again"
    assert worker.stop() == 0
