"""The consumer's way to the database: one private connection, which also listens for rings.

While it is lost it is left alone for a while, longer each time, and the consumer goes on with its pool.
"""

import logging
import random
import selectors
import time
from collections.abc import Callable

import psycopg
from psycopg import sql

from djtasks.db.connections import CONFLICTS, LOST, Link, listens, reason
from djtasks.db.pipe import Pipe, Question
from djtasks.worker.patience import HOPELESS, Patience

logger = logging.getLogger("djtasks.worker")

#: The least and the most that a lost database is left alone for, in seconds.
BACKOFF = (0.1, 5.0)


class Database:
    """Does work in the database, or says that it cannot now. Belongs to the consumer's thread."""

    def __init__(self, purpose: str, selector: selectors.BaseSelector, rung: Callable[[str], None]) -> None:
        self.link = Link(purpose)
        self.selector = selector
        self.rung = rung
        #: The channel to listen on; set it before the first attempt.
        self.channel = ""
        #: When the next attempt may be made, in monotonic seconds.
        self.retry_at = 0.0
        #: How often the connection was lost.
        self.losses = 0
        #: Raises Unworkable, out of any of the methods here, for what no waiting cures.
        self.patience = Patience()
        self._backoff = BACKOFF[0]
        self._conn: psycopg.Connection | None = None
        self._pipe: Pipe | None = None
        self._descriptor = -1
        self._channel = ""

    @property
    def down(self) -> bool:
        """Whether it is being left alone."""
        return time.monotonic() < self.retry_at

    @property
    def connected(self) -> bool:
        """Whether there is a session, on which rings are heard."""
        return self._conn is not None

    def attempt(self, work: Callable[[psycopg.Connection], object]) -> bool:
        """Do something; False if it did not happen, or may have: then do it again later."""
        if self.down:
            return False
        try:
            conn = self.connection()
            if self._pipe is not None:
                self._pipe.settle()
            work(conn)
        except CONFLICTS:
            return False
        except (*LOST, *HOPELESS) as error:
            self.lost(error)
            return False
        self._backoff = BACKOFF[0]
        self.patience.worked()
        return True

    def ask(self, *questions: Question) -> None:
        """Send questions on their way; each hears its answer in a later `read`, or that it was lost."""
        try:
            self.connection()
            if self._pipe is not None:
                self._pipe.send(*questions)
        except (*LOST, *HOPELESS) as error:
            self.lost(error)
            for question in questions:
                question.fail(error)

    def connection(self) -> psycopg.Connection:
        """The connection, which listens."""
        conn = self.link.connection()
        if conn is not self._conn:
            pipe = self._pipe
            if self._conn is not None:
                # It had been closed behind our back: what was asked there is in doubt.
                self.losses += 1
            self._unwatch()
            if pipe is not None:
                pipe.fail(psycopg.OperationalError("the connection was closed"))
            conn.add_notify_handler(lambda found: self.rung(found.payload))
            self._conn, self._descriptor, self._channel = conn, conn.fileno(), ""
            self._pipe = Pipe(conn, prepares=listens())
            self.selector.register(self._descriptor, selectors.EVENT_READ, self.read)
        if self._channel != self.channel and listens() and not self._pipe_busy:
            # A channel's name cannot be a parameter; this one is a constant and a number.
            conn.execute(sql.SQL("LISTEN {}").format(sql.Identifier(self.channel)))
            self._channel = self.channel
        return conn

    def lost(self, error: Exception) -> None:
        """The session is broken: its answers and its LISTEN are gone."""
        logger.warning("Lost the database (%s); trying again in %.1f s", reason(error), self._backoff)
        pipe = self._pipe
        self._unwatch()
        self.link.lost()
        self.losses += 1
        self.retry_at = time.monotonic() + self._backoff * random.uniform(0.5, 1.0)
        self._backoff = min(BACKOFF[1], self._backoff * 2)
        if pipe is not None:
            pipe.fail(error)
        self.patience.failed(error)

    def read(self) -> None:
        """Take in answers and rings that have come."""
        if self._conn is None or self._pipe is None:
            return
        try:
            self._pipe.receive()
        except psycopg.Error as error:
            self.lost(error)
        self.hear()

    @property
    def hears(self) -> bool:
        """Whether rings reach this session."""
        return self._conn is not None and self._channel == self.channel

    @property
    def _pipe_busy(self) -> bool:
        return self._pipe is not None and self._pipe.busy

    def hear(self) -> None:
        """Take in the rings that came with the last answer: no selector tells of what has been read already."""
        while self._conn is not None and (found := self._conn.pgconn.notifies()):
            self.rung(found.extra.decode())

    def _unwatch(self) -> None:
        if self._conn is not None:
            self.selector.unregister(self._descriptor)
            self._conn = self._pipe = None

    def close(self) -> None:
        """End the session."""
        self._unwatch()
        self.link.close()
