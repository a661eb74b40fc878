"""Measuring: one worker's own numbers, for its page of metrics; and the page, which costs nothing to ask for often."""

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

import psycopg

from djtasks import metrics
from djtasks.db import measures
from djtasks.db.connections import Link, reason
from djtasks.metrics import Family, Histogram, counter, gauge
from djtasks.worker.counting import BOUNDS
from djtasks.worker.vitals import Vitals

logger = logging.getLogger("djtasks.worker")

#: A page is good for so many seconds.
GOOD_FOR: Final = 1.0
#: No statement of a page takes longer than that, in seconds.
STATEMENT: Final = 3.0
#: How long a database that did not answer is left alone.
PAUSE: Final = 5.0
#: What is no state of a task, of what a worker counts.
_DEEDS: Final = {
    "refused": "Outcomes that came too late: the message had become another worker's.",
    "released": "Messages that were given back without having begun.",
    "lost": "Messages whose process was lost, and which run again.",
    "rescued": "Messages of lost workers that were put back or ended here.",
}


def of_worker(vitals: Vitals) -> Iterator[Family]:
    """What the worker knows without asking the database."""
    node, running, prefetched = vitals.node, vitals.running(), vitals.prefetched()
    own, worker, task = (node,), ("worker",), ("worker", "task")
    counts = vitals.counts()
    runs = {
        (node, name): Histogram(BOUNDS, counts, total) for name, (total, counts) in vitals.runs.histograms().items()
    }
    ended = {(node, state): count for state, count in counts.items() if state.isupper()}
    yield counter("djtasks_claims", "Messages that were claimed.", worker, {own: vitals.runs.claimed})
    yield counter("djtasks_finishes", "Runs that ended, by state.", ("worker", "state"), ended)
    for deed, text in _DEEDS.items():
        yield counter(f"djtasks_{deed}", text, worker, {own: counts.get(deed, 0.0)})
    yield Family("djtasks_task_runtime_seconds", "histogram", "How long runs took.", task, runs)
    waited = {own: vitals.runs.waited}
    yield counter("djtasks_waited_seconds", "How long runs waited until they began, all together.", worker, waited)
    yield gauge("djtasks_pool_slots", "How many tasks can run at a time.", worker, {own: vitals.pool.concurrency})
    yield gauge("djtasks_pool_busy", "How many run.", worker, {own: vitals.busy()})
    yield gauge("djtasks_pool_processes", "Processes in which tasks run.", worker, {own: len(vitals.pool.processes())})
    yield gauge("djtasks_prefetched", "Tasks taken, and not begun.", worker, {own: prefetched.total()})
    age = {own: vitals.heartbeat_age()}
    yield gauge("djtasks_heartbeat_age_seconds", "Age of the last heartbeat that was written.", worker, age)
    well = {own: float(not vitals.problems())}
    yield gauge("djtasks_healthy", "1 while /healthz says 200.", worker, well)

    yield Family("flower_task_runtime_seconds", "histogram", "As djtasks_task_runtime_seconds.", task, runs)
    lay = {(node, name): seconds for name, seconds in list(vitals.runs.lay.items())}
    yield gauge("flower_task_prefetch_time_seconds", "How long a task lay here before it began.", task, lay)
    taken = {(node, name): prefetched[name] for name in {*prefetched, *vitals.runs.lay}}
    yield gauge("flower_worker_prefetched_tasks", "Tasks taken, and not begun.", task, taken)
    yield gauge("flower_worker_online", "1: it answers.", worker, {own: 1.0})
    executing = {own: running.total()}
    yield gauge("flower_worker_number_of_currently_executing_tasks", "Tasks that run.", worker, executing)
    if vitals.events is not None:
        sent = {(node, kind, name): count for (kind, name), count in vitals.events().items()}
        yield counter("flower_events", "Events that were sent.", ("worker", "type", "task"), sent)


class Page:
    """The page of metrics. Any thread may ask for it; it has a connection of its own, made for the first asker."""

    def __init__(self, vitals: Vitals, queues: Callable[[], Sequence[str]]) -> None:
        self.vitals = vitals
        self.queues = queues
        self._link = Link(f"http {vitals.node}")
        self._lock = threading.Lock()
        self._made = b""
        self._made_at = self._retry_at = -PAUSE

    def read(self) -> bytes:
        """The page, at most a second old. Raises ImproperlyConfigured where prometheus-client is not installed."""
        with self._lock:
            if time.monotonic() - self._made_at >= GOOD_FOR:
                found = self._of_database()
                up = gauge("djtasks_database_up", "1 when the database answered.", (), {(): float(bool(found))})
                self._made = metrics.render([*of_worker(self.vitals), *found, up])
                self._made_at = time.monotonic()
            return self._made

    def _of_database(self) -> list[Family]:
        if time.monotonic() < self._retry_at:
            return []
        try:
            conn = self._link.connection()
            with conn.transaction():
                measures.bound(conn, STATEMENT)
                return metrics.collect(conn, self.queues(), workers=False)
        except psycopg.Error as error:
            logger.warning("The metrics lack what only the database knows: %s", reason(error))
            self._link.lost()
            self._retry_at = time.monotonic() + PAUSE
            return []

    def close(self) -> None:
        """End its session, unless somebody reads just now: then it ends with the process."""
        if self._lock.acquire(timeout=STATEMENT):
            self._link.close()
            self._lock.release()
