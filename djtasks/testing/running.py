"""Running what waits, here and now: `drain()`.

Each message is claimed, traced and ended by the very code of a worker, but through Django's connection of this thread:
inside a test's transaction all of it happens in that transaction, and is rolled back with it.
"""

import contextlib
import math
import os
import random
import socket
from collections import Counter
from collections.abc import Collection, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from django.db import Error, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from psycopg.pq import TransactionStatus

from djtasks import ending, tracer
from djtasks.db import claims, limits, messages, notify, results, workers
from djtasks.db import drain as table
from djtasks.db.claims import Scan
from djtasks.db.connections import borrow
from djtasks.db.drain import Lent
from djtasks.db.workers import Registration
from djtasks.exceptions import TaskRevokedError
from djtasks.keys import definition
from djtasks.messages import Claimed, Outcome, Progress
from djtasks.payload import unpack_exception
from djtasks.registry import tasks
from djtasks.result import AsyncResult
from djtasks.states import RETRY, State
from djtasks.testing.commit import as_if_committed, waiting_callbacks
from djtasks.worker.revoker import said_of

#: The last position there can be.
EVERYTHING = 2**63 - 1


class Ran(NamedTuple):
    """One run of a task."""

    id: str
    #: The task's name.
    name: str
    queue: str
    #: How often it had been retried before.
    retries: int
    #: SUCCESS, FAILURE, REVOKED, RETRY, IGNORED or REJECTED.
    state: str
    #: Seconds.
    runtime: float
    #: The traceback of a failure or a retry, as text.
    traceback: str | None

    @property
    def result(self) -> AsyncResult[Any]:
        """What it has left."""
        return AsyncResult(self.id, task_name=self.name)


class Drained(list[Ran]):
    """The runs, in their order."""

    @property
    def states(self) -> Counter[str]:
        """How many runs ended in each state."""
        return Counter(run.state for run in self)

    @property
    def names(self) -> list[str]:
        """The names of the tasks, in the order in which they ran."""
        return [run.name for run in self]

    @property
    def failed(self) -> "Drained":
        """The runs that ended in FAILURE."""
        return Drained(run for run in self if run.state == State.FAILURE)


def drain(
    *,
    queues: Collection[str] | None = None,
    until: datetime | timedelta | float | None = None,
    retries: bool = True,
    limit: int = 1000,
    propagate: bool = False,
    on_commit: bool = False,
) -> Drained:
    """Run everything that waits, and what that enqueues, until nothing is left; returns the runs.

    They run one by one in the order of a worker: highest priority first, then oldest first. What waits for the commit
    of this thread's transaction is enqueued as if it had come; with `on_commit` its other callbacks are called, too.
    A retry runs without waiting for its time (unless `retries` is False). What is to run later stays, but for what is
    due by `until`: a datetime, or a time from now (seconds or timedelta; math.inf: all of it, by its eta). Time limits
    are not kept, and rates are not either. What no task is known for stays.

    `queues` names those to look at (None: all). With `propagate` the exception of the first task that fails is raised,
    when it has been stored. Raises AssertionError when more than `limit` runs were needed: a task that enqueues itself
    goes on for ever.
    """
    runner = _Runner(queues, _moment(until), retries, propagate)
    with runner.registered():
        while True:
            as_if_committed(every=on_commit)
            if not runner.step(EVERYTHING, ()):
                return runner.runs
            if len(runner.runs) > limit:
                names = ", ".join(f"{name} ({count})" for name, count in Counter(runner.runs.names).most_common(5))
                raise AssertionError(
                    f"more than {limit} runs, and tasks still wait: does a task enqueue itself? Ran: {names}."
                    " Allow more with limit=, or run some with run_pending()"
                )


def run_pending(count: int | None = None, *, queues: Collection[str] | None = None, propagate: bool = False) -> Drained:
    """Run what may run at this moment, each once, up to `count`; what it enqueues, and its retries, stay.

    Else as `drain`.
    """
    runner = _Runner(queues, None, False, propagate)
    with runner.registered():
        as_if_committed()
        last = table.last_position(borrow())
        while (count is None or len(runner.runs) < count) and runner.step(last, {run.id for run in runner.runs}):
            as_if_committed()
    return runner.runs


def _moment(until: datetime | timedelta | float | None) -> float | None:
    """Seconds since the epoch."""
    if until is None:
        return None
    if isinstance(until, datetime):
        return (until if until.tzinfo else until.replace(tzinfo=UTC)).timestamp()
    # By the database's clock: that of a test may stand still.
    return table.now(borrow()) + (until.total_seconds() if isinstance(until, timedelta) else float(until))


class _Runner:
    """A worker that holds one message at a time."""

    def __init__(self, queues: Collection[str] | None, until: float | None, retries: bool, propagate: bool) -> None:
        self.queues = queues
        self.until = until
        self.retries = retries
        self.propagate = propagate
        self.owner = random.getrandbits(62) | 1
        self.hostname = f"drain@{socket.gethostname()}"
        self.conn = Lent(borrow())
        self.runs = Drained()
        self._retried: set[str] = set()
        self._claim = 0

    @contextlib.contextmanager
    def registered(self) -> Iterator[None]:
        """A claim needs the row of a worker."""
        workers.register(
            self.conn,
            Registration(
                incarnation=self.owner,
                name=self.hostname,
                host=socket.gethostname(),
                pid=os.getpid(),
                pid_started="",
                boot_id="",
                pid_namespace="",
                process_group=None,
                pool="drain",
                concurrency=1,
                queues=sorted(self.queues or ()),
            ),
        )
        try:
            yield
        finally:
            # A transaction that is broken takes the row with it.
            with contextlib.suppress(Error):
                if self.conn.driver.info.transaction_status != TransactionStatus.INERROR:
                    workers.remove(self.conn, self.owner)

    def step(self, last: int, but: Collection[str]) -> bool:
        """Run the next message; False when there is none."""
        message = self._take(last, but)
        if message is None:
            return False
        if message.name not in tasks:
            messages.park_unknown(self.conn, self.owner, [(message.claim, message.id)])
            return True
        self._run(message)
        return True

    def _take(self, last: int, but: Collection[str]) -> Claimed | None:
        messages.promote(self.conn)
        place = table.next_place(self.conn, self.queues, last, but)
        if place is None and (self._admit() or self._forward()):
            place = table.next_place(self.conn, self.queues, last, but)
        if place is None:
            return None
        self._claim += 1
        scan = Scan(place.lane, place.priority, place.priority, place.position - 1)
        found, _ = claims.claim(self.conn, self.owner, self._claim, [scan], 1)
        return found[0] if found else None

    def _admit(self) -> bool:
        """Let those go on whose limit has room by now; rates are not kept."""
        if not (found := limits.waiting(self.conn)):
            return False
        wanted = {key: said and said._replace(rate=None) for key, name in found for said in [definition(name)]}
        with self.conn.transaction():
            return bool(limits.admit(self.conn, wanted))

    def _forward(self) -> bool:
        """Let the time of the next message come that is not to be waited for."""
        if self.until is None and not self._retried:
            return False
        until = -math.inf if self.until is None else self.until
        found = table.forward(self.conn, until, self._retried, self.queues)
        if found is None:
            return False
        messages.promote(self.conn)
        table.restore_eta(self.conn, *found)
        return True

    def _run(self, message: Claimed) -> None:
        if said_of(self.conn, [message]):
            tracer.log_discarded(message)
            outcome = tracer.failure(message, TaskRevokedError("revoked"))
        else:
            outcome = self._trace(message)
        self._end(message, outcome)
        ran = message.id, message.name, message.queue, message.retries
        self.runs.append(Ran(*ran, outcome.state, outcome.runtime, outcome.traceback))
        if self.propagate and outcome.state == State.FAILURE:
            raise _exception_of(outcome)

    def _trace(self, message: Claimed) -> Outcome:
        before = waiting_callbacks()
        savepoints = [
            (conn, conn.savepoint()) for conn in connections.all(initialized_only=True) if conn.in_atomic_block
        ]
        # An atomic task ends itself in its own transaction; inside of the test's that is no other than ours.
        owner = None if self.conn.wrapper.in_atomic_block else self.owner
        outcome = tracer.trace(message, hostname=self.hostname, reporter=self._report, owner=owner)
        for conn, savepoint in savepoints:
            _go_on(conn, savepoint)
        # In a worker no transaction was open but the task's own: by now its callbacks would have been called.
        as_if_committed(every=True, but=before)
        return outcome

    def _report(self, progress: Progress) -> None:
        results.report(self.conn, [progress], self.owner, self.hostname)

    def _end(self, message: Claimed, outcome: Outcome) -> None:
        self._retried.discard(message.id)
        if outcome.finished:
            return
        if outcome.again is not None:
            messages.again(self.conn, self.owner, [outcome], self.hostname)
            if self.retries and outcome.state == RETRY:
                self._retried.add(message.id)
            return
        done = ending.end(self.conn, self.owner, [outcome], self.hostname)
        notify.ring_waiters(self.conn, [outcome.id])
        ending.tell(self.conn, done)


def _go_on(conn: BaseDatabaseWrapper, savepoint: str | None) -> None:
    """After a task: where it has broken the transaction, which in a worker is its own, undo what it did."""
    if savepoint is None or not conn.in_atomic_block:
        return
    status = conn.connection.info.transaction_status if conn.vendor == "postgresql" else None
    if status == TransactionStatus.INERROR or conn.needs_rollback:
        conn.needs_rollback = False
        conn.savepoint_rollback(savepoint)
    else:
        conn.savepoint_commit(savepoint)


def _exception_of(outcome: Outcome) -> BaseException:
    error: Any = unpack_exception(outcome.result or b"", outcome.content_type, outcome.content_encoding)
    if not isinstance(error, BaseException):
        return AssertionError(f"the task {outcome.id} failed: {error!r}")
    if outcome.traceback:
        error.add_note(outcome.traceback)
    return error
