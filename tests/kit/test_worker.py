"""A worker in a thread of the tests."""

import os
import signal
import threading
import time

import pytest
from django.db import connection
from django.test import TestCase, TransactionTestCase, override_settings

from djtasks import shared_task
from djtasks.exceptions import ImproperlyConfigured
from djtasks.testing import assert_no_tasks, start_worker
from tests.kit import shop
from tests.waits import wait_until


@pytest.fixture(autouse=True)
def _nothing_is_done() -> None:
    shop.done.clear()


def sessions() -> int:
    """How many other sessions the database has."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        return int(cursor.fetchone()[0])


class TestInATransactionTestCase(TransactionTestCase):
    def test_it_runs_what_is_committed(self) -> None:
        with start_worker() as worker:
            assert shop.register("ada").pk
            assert shop.count.delay().get(timeout=20) == 1
            assert shop.acount.delay().get(timeout=20) == 1
            assert repr(shop.fail.delay("no").get(timeout=20, propagate=False)) == "ValueError('no')"
            assert worker.options.pool == "solo"
        assert shop.done == ["ada"]


class TestInATestCase(TestCase):
    def test_it_refuses_to_work_where_it_would_see_nothing(self) -> None:
        with pytest.raises(RuntimeError, match="TransactionTestCase"), start_worker():
            pass


@pytest.mark.django_db(transaction=True)
def test_it_leaves_nothing_behind() -> None:
    threads, handler = threading.active_count(), signal.getsignal(signal.SIGTERM)
    others = sessions()
    with start_worker():
        assert shop.greet.delay("ada").get(timeout=20) == "ada"
        assert signal.getsignal(signal.SIGTERM) is handler
    assert threading.active_count() == threads
    # The server takes its time to see that one has gone.
    wait_until(lambda: sessions() <= others, "its sessions have ended")
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM djtasks_worker")
        assert cursor.fetchone() == (0,)


@pytest.mark.django_db(transaction=True)
def test_threads_run_tasks_side_by_side() -> None:
    meeting = threading.Barrier(3)

    @shared_task(name="shop.meet")
    def meet() -> int:
        return meeting.wait(20)

    with start_worker(pool="threads", concurrency=3):
        results = [meet.delay() for _ in range(3)]
        assert sorted(result.get(timeout=20) for result in results) == [0, 1, 2]


@pytest.mark.django_db(transaction=True)
def test_children_run_tasks_in_processes_of_their_own() -> None:
    @shared_task(name="shop.pid")
    def pid() -> int:
        return os.getpid()

    with start_worker(pool="prefork", concurrency=1):
        assert pid.delay().get(timeout=20) != os.getpid()
        assert shop.acount.delay().get(timeout=20) == 0


@pytest.mark.django_db(transaction=True)
def test_it_works_for_the_queues_it_is_told() -> None:
    with start_worker(queues="quick,other", hostname="kit@here", perform_ping_check=False) as worker:
        assert worker.options.queues == ("quick", "other")
        result = shop.greet.apply_async(("ada",), queue="quick")
        assert result.get(timeout=20) == "ada"
        assert result.worker == "kit@here"


@pytest.mark.django_db(transaction=True)
def test_retries_and_what_tasks_enqueue_run_too() -> None:
    with start_worker():
        shop.cascade.delay(2)
        wait_until(lambda: shop.done == [2, 1, 0], "all have run")
    assert_no_tasks()


@pytest.mark.django_db(transaction=True)
def test_a_task_that_does_not_end_is_said_to_be_the_reason() -> None:
    gate = threading.Event()

    @shared_task(name="shop.hold")
    def hold() -> None:
        began.set()
        gate.wait(20)

    began = threading.Event()
    started = start_worker(shutdown_timeout=0.1)
    started.__enter__()
    hold.delay()
    assert began.wait(20)
    with pytest.raises(RuntimeError, match="a task of it does not end"):
        started.__exit__(None, None, None)
    gate.set()
    until = time.monotonic() + 20
    for thread in threading.enumerate():
        if thread.name == "djtasks-test-worker":
            thread.join(until - time.monotonic())


@pytest.mark.django_db(transaction=True)
@override_settings(DJTASKS={"TASK_TIME_LIMIT": 300, "TASK_SOFT_TIME_LIMIT": 200, "WORKER_MAX_TASKS_PER_CHILD": 5})
@pytest.mark.parametrize("pool", ["solo", "threads"])
def test_limits_of_production_that_it_cannot_keep_are_no_reason_not_to_start(pool: str) -> None:
    with start_worker(pool=pool):
        assert shop.greet.delay("ada").get(timeout=20) == "ada"


@pytest.mark.django_db(transaction=True)
def test_options_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ImproperlyConfigured, match="no pool 'thread'"), start_worker(pool="thread"):
        pass
