"""The revoker: keeps what is revoked from beginning here, and ends it where it runs, if that is wanted.

It looks when a claim says that there are revocations at all, and when the worker is told of one; while something runs
it looks every now and then in any case, since what is told can be lost. Belongs to the consumer's thread.
"""

import logging
import math
import signal
from collections.abc import Callable, Collection, Iterable

import psycopg

from djtasks import tracer
from djtasks.db import control, revocations
from djtasks.db.connections import Connection
from djtasks.db.revocations import Revoked
from djtasks.exceptions import TaskRevokedError
from djtasks.messages import Claimed, Outcome
from djtasks.stamps import stamps_of
from djtasks.worker.commands import Commands
from djtasks.worker.pools.base import Pool
from djtasks.worker.state import State

logger = logging.getLogger("djtasks.worker")

#: How often to look while something runs, in seconds: where the worker is told of news, and where it is not.
TOLD, UNTOLD = 5.0, 1.0


class Revoker:
    """Looks for revocations of what one worker holds, and for commands."""

    def __init__(self, state: State, pool: Pool, commands: Commands, end: Callable[[Claimed, Outcome], None]) -> None:
        self.state = state
        self.pool = pool
        self.commands = commands
        #: Takes the outcome of what does not run.
        self.end = end
        #: Claimed, and not begun: there are revocations, and these may be meant. With when they were claimed.
        self.suspects: list[tuple[list[Claimed], float]] = []
        #: When to look next, in monotonic seconds.
        self.look_at = -math.inf
        self._losses = 0
        #: Claims that are being ended, or cannot be, and of which that has been said.
        self._noted: set[int] = set()

    def rung(self) -> None:
        """There is something new."""
        self.look_at = -math.inf

    @property
    def told(self) -> bool:
        """Whether there is something new, and it has not been looked at."""
        return self.look_at == -math.inf

    def due(self, now: float, losses: int) -> bool:
        """Whether to look; `losses` is how often the connection was lost, and with it what was told."""
        if losses != self._losses:
            self._losses = losses
            self.rung()
        return now >= self.look_at

    def look(self, conn: psycopg.Connection, now: float, *, told: bool) -> None:
        """Look for news; `told` is whether the worker hears of them."""
        self.commands.start(conn)
        revoked, commands = control.news(conn, self.commands.seen)
        if commands:
            self.commands.obey(conn)
        if revoked:
            self._look_at_held(conn)
        self.look_at = now + (TOLD if told else UNTOLD)

    def _look_at_held(self, conn: psycopg.Connection) -> None:
        waiting = {message.claim for found, _ in self.suspects for message in found}
        said = said_of(conn, [each for each in self.state.held.values() if each.claim not in waiting])
        if not said:
            return
        for job in self.pool.recall([message.claim for message, _ in said]):
            self.discard(job.message)
            said = [(message, how) for message, how in said if message.claim != job.message.claim]
        running = set(self.pool.running())
        for message, (terminate, number) in said:
            if not terminate or message.claim in self._noted:
                continue
            signum = signal.SIGTERM if number is None else signal.Signals(number)
            if self.pool.terminate(message.claim, int(signum)):
                self._noted.add(message.claim)
                logger.info("Terminating %s[%s] (%s)", message.name, message.id, signum.name)
            elif message.claim in running and not self.pool.terminates:
                self._noted.add(message.claim)
                logger.warning(
                    "Task %s[%s] was to be terminated and goes on: the %s pool can end no task that runs",
                    message.name,
                    message.id,
                    self.pool.name,
                )
        self._noted &= self.state.held.keys()

    def sort(self, conn: psycopg.Connection, found: Collection[Claimed]) -> list[Claimed]:
        """Those of these messages, which have just been claimed, that may begin; the others end."""
        revoked = {message.claim for message, _ in said_of(conn, found)}
        for message in found:
            if message.claim in revoked:
                self.discard(message)
        return [message for message in found if message.claim not in revoked]

    def discard(self, message: Claimed) -> None:
        """It is revoked, and does not begin."""
        tracer.log_discarded(message)
        self.end(message, tracer.failure(message, TaskRevokedError("revoked")))


def said_of(conn: Connection, messages: Collection[Claimed]) -> list[tuple[Claimed, Revoked]]:
    """Which of these messages are revoked."""
    if not messages:
        return []
    by_id = revocations.matching(conn, [message.id for message in messages])
    stamps = revocations.stamps(conn)
    found = []
    for message in messages:
        said = by_id.get(message.id)
        if stamps and (own := stamps_of(message.headers)):
            meant = [stamp for stamp in stamps if (stamp.name, stamp.value) in own]
            said = _all_of([*meant, *([said] if said else [])])
        if said is not None:
            found.append((message, said))
    return found


def _all_of(said: Iterable[Revoked | revocations.Stamp]) -> Revoked | None:
    """What several revocations of a task come to."""
    parts = list(said)
    if not parts:
        return None
    numbers = [part.signal for part in parts if part.signal is not None]
    return Revoked(any(part.terminate for part in parts), max(numbers, default=None))
