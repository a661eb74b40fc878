"""The service: a scheduler that ticks, sleeps until something is due or written, and outlives its database's absence.

Any number of services may run, in processes of their own (`runbeat`) or in a thread of a worker (`runworker -B`).
"""

import logging
import math
import os
import random
import selectors
import socket
import threading
import time
from contextlib import suppress
from typing import NamedTuple

import psycopg
from django.db import connections

from djtasks import signals
from djtasks.beat import sync
from djtasks.beat.scheduler import Scheduler
from djtasks.conf import settings
from djtasks.db import beats, notify, schedules
from djtasks.db.beats import Registration
from djtasks.db.connections import CONFLICTS, LOST, Link, listens, reason
from djtasks.worker.identity import new_incarnation

logger = logging.getLogger("djtasks.beat")

#: What BEAT_MAX_LOOP_INTERVAL is when it is 0, in seconds.
MAX_INTERVAL = 5.0
#: How long a lost database is left alone, at first and at most (seconds).
BACKOFF = (0.1, 5.0)
#: Heartbeats that a beat may miss before others delete its row.
MISSED = 12


class BeatOptions(NamedTuple):
    """What a beat is started with."""

    #: The longest sleep, in seconds; None or 0: that of the settings.
    max_interval: float | None = None
    #: It is a part of a worker.
    embedded: bool = False

    @property
    def longest(self) -> float:
        """The longest sleep, in seconds."""
        return self.max_interval or settings.BEAT_MAX_LOOP_INTERVAL or MAX_INTERVAL


class Beat:
    """One beat. `run` it in any thread; `stop` it from any other, or from a signal handler."""

    def __init__(self, options: BeatOptions | None = None) -> None:
        self.options = options or BeatOptions()
        host = socket.gethostname()
        self.registration = Registration(new_incarnation(), f"beat@{host}", host, os.getpid(), self.options.embedded)
        self.scheduler = Scheduler()
        self.link = Link(self.registration.name)
        self._stopping = threading.Event()
        self._ear, self._voice = socket.socketpair()
        for end in (self._ear, self._voice):
            end.setblocking(False)
        self._conn: psycopg.Connection | None = None
        self._synced = False
        self._beat_at = 0.0
        self._backoff = BACKOFF[0]

    def stop(self) -> None:
        """Let it end after what it is doing."""
        self._stopping.set()
        self._ring()

    def run(self) -> None:
        """Tick, sleep, and again, until `stop`."""
        self._announce()
        logger.info("beat: Starting...")
        try:
            while not self._stopping.is_set():
                self._sleep(self._turn())
        finally:
            self._close()

    def _announce(self) -> None:
        signal = signals.beat_embedded_init if self.options.embedded else signals.beat_init
        if signal.receivers:
            signal.send(sender=self)

    # -- work -----------------------------------------------------------------------------------------------------

    def _turn(self) -> float:
        """Do what there is to do; in how many seconds there is more."""
        try:
            conn = self._connection()
            if time.monotonic() >= self._beat_at:
                self._synced = self._synced or sync.sync(conn)
                self._beat(conn)
            wait = self.scheduler.tick(conn)
        except CONFLICTS as error:
            logger.warning("beat: %s; once more", reason(error))
            return BACKOFF[0]
        except LOST as error:
            logger.warning("beat: Lost the database (%s); trying again in %.1f s", reason(error), self._backoff)
            self._lost()
            return self._delay()
        except Exception:
            logger.exception("beat: a tick failed")
            self._lost()
            return self._delay()
        self._backoff = BACKOFF[0]
        return min(math.inf if wait is None else wait, self._beat_at - time.monotonic(), self.options.longest)

    def _delay(self) -> float:
        delay = self._backoff * random.uniform(0.5, 1.0)
        self._backoff = min(BACKOFF[1], self._backoff * 2)
        return delay

    def _connection(self) -> psycopg.Connection:
        """The connection, which listens."""
        conn = self.link.connection()
        if conn is not self._conn:
            conn.add_notify_handler(lambda _: self._ring())
            if listens():
                conn.execute(f"LISTEN {notify.BEAT}".encode())
            self._conn = conn
        return conn

    def _ring(self) -> None:
        """Do not sleep, or sleep no longer: it is to stop, or something was written while a statement ran."""
        # One that is full, or closed: nobody sleeps.
        with suppress(OSError):
            self._voice.send(b"\0")

    def _lost(self) -> None:
        self._conn = None
        self.link.lost()

    def _beat(self, conn: psycopg.Connection) -> None:
        """Say that it lives; sweep up."""
        every = settings.WORKER_HEARTBEAT_INTERVAL
        self._beat_at = time.monotonic() + every * random.uniform(0.9, 1.0)
        beats.beat(conn, self.registration, self.scheduler.sent)
        for name in beats.prune(conn, max(settings.WORKER_DEAD_AFTER, MISSED * every)):
            logger.warning("beat: %s has not been heard of for a while, and is taken off the list", name)
        for name in schedules.expire(conn):
            logger.info("Scheduler: %s has expired, and is switched off", name)

    # -- sleep ----------------------------------------------------------------------------------------------------

    def _sleep(self, seconds: float) -> None:
        """Until something is due, is written, or `stop` is called."""
        if seconds <= 0 or self._stopping.is_set():
            return
        logger.debug("beat: Waking up in %.2f seconds.", seconds)
        conn = self._conn
        with selectors.DefaultSelector() as selector:
            selector.register(self._ear, selectors.EVENT_READ)
            if conn is not None and not conn.closed:
                selector.register(conn.fileno(), selectors.EVENT_READ)
            woken = {key.fileobj for key, _ in selector.select(seconds)}
        if self._ear in woken:
            self._drain()
        if conn is not None and conn.fileno() in woken:
            self._hear(conn)

    def _drain(self) -> None:
        with suppress(BlockingIOError):
            while self._ear.recv(4096):
                pass

    def _hear(self, conn: psycopg.Connection) -> None:
        """Take in what the server says between two statements: rings, or that it goes."""
        try:
            conn.pgconn.consume_input()
            while conn.pgconn.notifies():
                pass
        except psycopg.Error as error:
            logger.warning("beat: Lost the database (%s)", reason(error))
            self._lost()

    def _close(self) -> None:
        try:
            if self._conn is not None and not self._conn.closed:
                beats.remove(self._conn, self.registration.incarnation)
        except psycopg.Error as error:
            logger.warning("beat: could not take itself off the list (%s)", reason(error))
        self.link.close()
        self._ear.close()
        self._voice.close()
        logger.info("beat: Shut down.")


class BeatThread(threading.Thread):
    """A beat in a thread of its own, for a worker."""

    def __init__(self, options: BeatOptions) -> None:
        super().__init__(name="djtasks-beat", daemon=True)
        self.beat = Beat(options)

    def run(self) -> None:
        """Beat until `stop`."""
        try:
            self.beat.run()
        finally:
            # What routers and receivers have opened in this thread.
            connections.close_all()

    def stop(self, seconds: float) -> None:
        """Let it end, and wait for that for so long."""
        self.beat.stop()
        self.join(seconds)
