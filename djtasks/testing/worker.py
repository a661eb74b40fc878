"""A worker in a thread of the process that tests: what a test has committed is run as in production.

It has connections of its own, so it sees nothing of a test that runs in a transaction: use TransactionTestCase, or
pytest-django's `transactional_db`.
"""

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from django.db import connections

from djtasks import delivery, waiting
from djtasks.awaiting import allow_join_result
from djtasks.cli.worker import names, worker_options
from djtasks.db.connections import borrow
from djtasks.exceptions import ImproperlyConfigured
from djtasks.registry import tasks
from djtasks.testing.inline import configured
from djtasks.worker.options import WorkerOptions
from djtasks.worker.pools.registry import pool_class
from djtasks.worker.worker import Worker

#: A task that answers; see `start_worker`.
PING = "celery.ping"
#: A TransactionTestCase empties all tables, the worker's row among them: it is to learn of that soon.
LIVELY: dict[str, Any] = {"WORKER_HEARTBEAT_INTERVAL": 0.2, "WORKER_POLL_INTERVAL": 0.2}

#: What the settings ask of production's workers, and a pool in a thread of the tests cannot keep.
_OF_CHILDREN = {"WORKER_MAX_TASKS_PER_CHILD": None, "WORKER_MAX_MEMORY_PER_CHILD": None}
UNKEPT: dict[str, dict[str, Any]] = {
    "solo": {**_OF_CHILDREN, "TASK_TIME_LIMIT": None, "TASK_SOFT_TIME_LIMIT": None},
    "threads": _OF_CHILDREN,
    "asyncio": _OF_CHILDREN,
}


class _Thread(threading.Thread):
    """Runs the worker, and keeps what it raised."""

    def __init__(self, worker: Worker) -> None:
        super().__init__(name="djtasks-test-worker", daemon=True)
        self.worker = worker
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            self.worker.run()
        except BaseException as error:
            self.error = error
        finally:
            self.worker.ready.set()
            delivery.close()
            connections.close_all()


@contextmanager
def start_worker(
    app: Any = None,
    concurrency: int = 1,
    pool: str = "solo",
    loglevel: str | int = "error",
    logfile: str | None = None,
    perform_ping_check: bool = True,
    ping_task_timeout: float = 10.0,
    shutdown_timeout: float = 10.0,
    *,
    queues: str | Sequence[str] | None = None,
    hostname: str | None = None,
    **options: Any,
) -> Iterator[Worker]:
    """A worker that runs inside; it is stopped, when what it runs has ended, at the end.

    `pool` is solo (one task at a time), threads, prefork or asyncio (whose children know the tasks of this moment).
    With `perform_ping_check` a task has to be answered first. Other `options` are those of `runworker`, and what is
    none of them means nothing, as do `app`, `loglevel` and `logfile`: logging is the tests'. What the settings limit
    production's workers to, and this pool cannot keep, is not kept.

    Raises RuntimeError inside of a transaction (which the worker could not see), when the worker does not answer within
    `ping_task_timeout` seconds, and when it does not end within `shutdown_timeout` seconds; what its own start raises.
    """
    if borrow().in_atomic_block:
        raise RuntimeError(
            "a worker sees nothing of what this test does in its transaction: use TransactionTestCase, or the fixture"
            " transactional_db; or run the tasks inside of the transaction, with drain()"
        )
    given = {
        **options,
        "concurrency": 1 if pool == "solo" else concurrency,
        "pool": pool,
        "queues": names(queues) if isinstance(queues, str) else queues,
        "hostname": hostname or "test@%h",
    }
    with configured(LIVELY):
        with configured(UNKEPT.get(pool, {})):
            chosen = worker_options(given)
        if pool_class(pool).fresh:
            raise ImproperlyConfigured(
                f"the {pool} pool runs tasks in a fresh interpreter, which knows neither the test's database nor its"
                " settings; take solo, threads, prefork or asyncio here"
            )
        yield from _running(chosen, perform_ping_check, ping_task_timeout, shutdown_timeout)


def _running(options: WorkerOptions, ping: bool, ping_timeout: float, shutdown_timeout: float) -> Iterator[Worker]:
    worker = Worker(options, embedded=True)
    thread = _Thread(worker)
    thread.start()
    try:
        _await_start(thread, ping_timeout)
        if ping and PING in tasks:
            with allow_join_result():
                tasks[PING].delay().get(timeout=ping_timeout)
        yield worker
    finally:
        worker.stop()
        thread.join(shutdown_timeout)
        waiting.close()
        if thread.is_alive():
            raise RuntimeError(
                f"the worker runs on after {shutdown_timeout:g} s: a task of it does not end. Wait for your tasks"
                " before the test ends, or allow more with shutdown_timeout="
            )


def _await_start(thread: _Thread, seconds: float) -> None:
    if not thread.worker.ready.wait(seconds):
        raise RuntimeError(f"the worker did not start within {seconds:g} s")
    if thread.error is not None:
        raise thread.error
