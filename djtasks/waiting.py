"""Waiting for results: one thread and one private connection for all that wait in a process.

The thread listens, then registers the process as waiting, commits, and only then reads: a task that ends later sees
the registration and rings. One query a wake asks for all that was rung for; what no ring tells of is found by looking
for everything that is waited for, now and then.
"""

import asyncio
import builtins
import contextlib
import logging
import os
import random
import selectors
import threading
import time
from collections.abc import Callable, Mapping

import psycopg
from psycopg import sql

from djtasks.db import notify, results
from djtasks.db.connections import LOST, Link, listens
from djtasks.exceptions import TimeoutError
from djtasks.messages import Stored

logger = logging.getLogger("djtasks.waiting")

#: How long a registration lasts, and how long before its end it is renewed (seconds).
REGISTERED, RENEWED = 60.0, 30.0
#: Reads that no ring asked for are at least this far apart while nothing ends: twenty a second.
BETWEEN_READS = 0.05
#: After a read that brought something, the next may come after so many times the time it took: who gets the results
#: of many tasks, one after another, gets those that are there at once.
LEFT_ALONE = 4.0
#: How long the connection is kept when nobody waits any more (seconds).
LINGER = 10.0


class LoopEvent:
    """An event that coroutines of one loop wait for, and another thread sets."""

    __slots__ = ("_arrived", "_loop", "clear", "wait")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._arrived = asyncio.Event()
        self.clear = self._arrived.clear
        self.wait = self._arrived.wait

    def set(self) -> None:
        """Let them go on."""
        # The loop may have ended, with all that waited in it.
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._arrived.set)


class Waiter:
    """One `get()`: an event, and what it brought."""

    __slots__ = ("event", "interval", "read", "stored")

    def __init__(self, interval: float, event: "threading.Event | LoopEvent") -> None:
        self.event = event
        self.interval = interval
        self.stored: Stored | None = None
        #: It has been asked for at least once since it began to wait.
        self.read = False

    def arrive(self, stored: Stored) -> None:
        """Here is the result; called by the hub's thread."""
        self.stored = stored
        self.event.set()


class Hub(threading.Thread):
    """The thread of one process. Ends when nobody has waited for a while."""

    def __init__(self) -> None:
        super().__init__(name="djtasks-waiting", daemon=True)
        self.lock = threading.Lock()
        self.waiters: dict[str, list[Waiter]] = {}
        self.ended = False
        #: It is to end as soon as nobody waits.
        self.leaves = False
        self.number = random.SystemRandom().getrandbits(63)
        self.link = Link("waiting")
        self._wake, self._waker = os.pipe()
        for end in (self._wake, self._waker):
            os.set_blocking(end, False)
        #: What was rung for, and is waited for here.
        self._rung: set[str] = set()
        self._renew_at = self._poll_at = self._last_look = 0.0
        #: How long after a look at everything the next one is due, at the soonest (seconds).
        self._pause = BETWEEN_READS
        self._idle_since: float | None = None

    def add(self, waiters: Mapping[str, Waiter]) -> bool:
        """Wait for tasks, by their ids; False when this hub has just ended."""
        with self.lock:
            if self.ended:
                return False
            for task_id, waiter in waiters.items():
                self.waiters.setdefault(task_id, []).append(waiter)
        self._nudge()
        return True

    def discard(self, waiters: Mapping[str, Waiter]) -> None:
        """Wait for these no longer."""
        with self.lock:
            for task_id, waiter in waiters.items():
                found = self.waiters.get(task_id, [])
                if waiter in found:
                    found.remove(waiter)
                if not found:
                    self.waiters.pop(task_id, None)

    def leave(self) -> None:
        """End as soon as nobody waits."""
        self.leaves = True
        self._nudge()

    def _nudge(self) -> None:
        try:
            os.write(self._waker, b"x")
        except BlockingIOError:
            return
        except OSError:
            # It has ended meanwhile.
            if not self.ended:
                raise

    def run(self) -> None:
        """Listen, register, read, wait, and again."""
        backoff = 0.1
        while not self.ended:
            try:
                self._serve(self.link.connection())
                backoff = 0.1
            except LOST as error:
                logger.warning("Lost the database while waiting for results: %s", str(error).strip())
                self.link.lost()
                time.sleep(backoff * random.uniform(0.5, 1.0))
                backoff = min(5.0, backoff * 2)
            except Exception:
                logger.exception("Waiting for results failed; trying again")
                self.link.lost()
                time.sleep(backoff)
        os.close(self._wake)
        os.close(self._waker)

    def _serve(self, conn: psycopg.Connection) -> None:
        """Until nobody waits, or the connection is lost."""
        conn.add_notify_handler(lambda notification: self._on_ring(notification.payload))
        if listens():
            conn.execute(sql.SQL("LISTEN {}").format(sql.Identifier(notify.RESULTS)))
        self._renew_at = self._poll_at = 0.0
        with selectors.DefaultSelector() as selector:
            selector.register(self._wake, selectors.EVENT_READ)
            selector.register(conn.fileno(), selectors.EVENT_READ)
            while not self._ends(conn):
                now = time.monotonic()
                if now >= self._renew_at:
                    notify.register_waiter(conn, self.number, REGISTERED)
                    self._renew_at = now + RENEWED
                if now >= self._read_at():
                    self._read(conn)
                rest = max(0.0, min(self._read_at(), self._renew_at, now + 1.0) - time.monotonic())
                self._drain(conn, nudged=any(key.fd == self._wake for key, _ in selector.select(rest)))

    def _read_at(self) -> float:
        """When to ask the table next, in monotonic seconds."""
        with self.lock:
            return 0.0 if self._rung else self._look_at()

    def _look_at(self) -> float:
        """When to look for everything that is waited for. Call it with the lock."""
        if not self.waiters:
            return float("inf")
        soonest = self._last_look + self._pause
        new = any(not each.read for found in self.waiters.values() for each in found)
        return soonest if new else max(self._poll_at, soonest)

    def _read(self, conn: psycopg.Connection) -> None:
        """One query: for what was rung for or, when it is time, for everything that is waited for."""
        now = time.monotonic()
        with self.lock:
            rung, self._rung = self._rung, set()
            # However often others are rung for, who has just begun to wait is looked for too.
            everything = not rung or now >= self._look_at()
            # A thousand ids take milliseconds to look up, and those few that have ended would wait for it.
            wanted = self.waiters if everything else rung
            asked = {task_id: list(waiters) for task_id in wanted if (waiters := self.waiters.get(task_id))}
        if everything:
            self._last_look = now
        found = results.fetch_ended(conn, list(asked)) if asked else {}
        if everything and len(found) < len(asked):
            # No ring tells of the task for which an id stands.
            found |= results.fetch_ended_aliases(conn, [task_id for task_id in asked if task_id not in found])
        if everything:
            self._pause = min(BETWEEN_READS, LEFT_ALONE * (time.monotonic() - now)) if found else BETWEEN_READS
        with self.lock:
            for waiters in asked.values():
                for waiter in waiters:
                    waiter.read = True
            # Somebody may have begun to wait for the same task during the query.
            for task_id, stored in found.items():
                for waiter in self.waiters.pop(task_id, ()):
                    waiter.arrive(stored)
            if not everything:
                return
            intervals = [each.interval for left in self.waiters.values() for each in left]
        self._poll_at = now + min(intervals, default=1.0) * random.uniform(0.75, 1.0)

    def _drain(self, conn: psycopg.Connection, *, nudged: bool) -> None:
        if nudged:
            # Not otherwise: eventlet's `os.read` waits for what is not there.
            os.read(self._wake, 65536)
        conn.pgconn.consume_input()
        while ring := conn.pgconn.notifies():
            self._on_ring(ring.extra.decode())

    def _on_ring(self, payload: str) -> None:
        """Only what is waited for here is worth a query."""
        with self.lock:
            self._rung.update(task_id for task_id in payload.split(",") if task_id in self.waiters)

    def _ends(self, conn: psycopg.Connection) -> bool:
        """Whether nobody has waited for a while: then the registration and the connection go."""
        now = time.monotonic()
        with self.lock:
            if self.waiters:
                self._idle_since = None
                return False
            self._idle_since = self._idle_since or now
            if now - self._idle_since < LINGER and not self.leaves:
                return False
            self.ended = True
        notify.remove_waiter(conn, self.number)
        self.link.close()
        return True


_hub: Hub | None = None
_hub_lock = threading.Lock()


def _forget_hub() -> None:
    """A forked child has neither the thread nor the session, and perhaps a lock that nobody will release."""
    global _hub, _hub_lock
    _hub, _hub_lock = None, threading.Lock()


os.register_at_fork(after_in_child=_forget_hub)


def close(seconds: float = 5.0) -> None:
    """End the thread, and its session, if nobody waits; gives it so long. The next one who waits starts another."""
    with _hub_lock:
        hub = _hub
    if hub is not None and not hub.ended:
        hub.leave()
        hub.join(seconds)


def join_hub(waiters: Mapping[str, Waiter]) -> Hub:
    """Put the waiters into this process's hub; where there is none, or it has ended, into a new one."""
    global _hub
    while True:
        with _hub_lock:
            if _hub is None or _hub.ended:
                _hub = Hub()
                _hub.start()
            hub = _hub
        if hub.add(waiters):
            return hub


def wait_for(
    task_id: str,
    timeout: float | None = None,
    interval: float = 0.5,
    on_interval: Callable[[], None] | None = None,
) -> Stored:
    """The result of a task, when it has ended.

    `timeout` is in seconds, None for ever. `interval` is how often the table is asked when no ring comes (there is a
    transaction-pooling proxy, say), and how often `on_interval` is called. Raises djtasks' TimeoutError.
    """
    event = threading.Event()
    waiter = Waiter(interval, event)
    deadline = None if timeout is None else time.monotonic() + timeout
    hub = join_hub({task_id: waiter})
    try:
        while True:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            slices = [each for each in (left, interval if on_interval else None) if each is not None]
            if event.wait(min(slices, default=None)):
                break
            if left is not None and left <= 0:
                raise TimeoutError("The operation timed out.")
            if on_interval is not None:
                on_interval()
    finally:
        hub.discard({task_id: waiter})
    assert waiter.stored is not None  # noqa: S101 -- the event is only set with it
    return waiter.stored


async def await_for(task_id: str, timeout: float | None = None, interval: float = 0.5) -> Stored:
    """As `wait_for`, for a coroutine: its loop goes on meanwhile."""
    event = LoopEvent()
    waiter = Waiter(interval, event)
    hub = join_hub({task_id: waiter})
    try:
        async with asyncio.timeout(timeout):
            await event.wait()
    except builtins.TimeoutError as error:
        raise TimeoutError("The operation timed out.") from error
    finally:
        hub.discard({task_id: waiter})
    assert waiter.stored is not None  # noqa: S101 -- the event is only set with it
    return waiter.stored
