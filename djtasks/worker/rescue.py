"""Rescue: what the dead held goes on. Any worker does it; two that try at once do it once.

Death is proved where it can be (same machine, process gone) and suspected otherwise: a suspect is rescued only if
this very worker has seen its heartbeat stand still for long enough since its own last reconnect, and without a gap, so
that an outage, a server that hangs, a clock that jumps or a worker that has just started never causes a mass rescue.
"""

import logging
import time
from collections.abc import Callable

import psycopg

from djtasks import ending
from djtasks.conf import settings
from djtasks.db import claims, messages, notify, workers
from djtasks.db.workers import Peer
from djtasks.ending import Ended as Done
from djtasks.messages import Claimed, Outcome
from djtasks.worker.identity import Host
from djtasks.worker.losses import outcome_of_loss

logger = logging.getLogger("djtasks.worker")

#: The whole table is read at most this often for owners that have no row, in seconds.
SWEEP_EVERY = 300.0
#: And while there are such, which may be locked by a session of a worker that hangs.
SWEEP_AGAIN = 5.0


class Rescuer:
    """Watches the other workers. Belongs to one thread and one connection."""

    def __init__(self, name: str, ended: Callable[[Claimed, Outcome], None] = lambda message, outcome: None) -> None:
        self.name = name
        #: Called, once it is committed, with what was ended here and how.
        self.ended = ended
        self._ended: list[tuple[Claimed, Outcome]] = []
        self._done: list[Done] = []
        #: How many messages of others it has put back, or ended.
        self.rescued = 0
        self.host = Host()
        #: By incarnation: the heartbeat last seen, and since when (monotonic) it has not moved.
        self._sightings: dict[int, tuple[float, float]] = {}
        self._looked_at = 0.0
        self._sweep_at = 0.0

    def forget_sightings(self) -> None:
        """There was a gap in what could be seen: standing still is counted from now on."""
        self._sightings.clear()

    def look(self, conn: psycopg.Connection, own: int) -> None:
        """Rescue what the dead hold. `own` is this worker's incarnation."""
        peers = [peer for peer in workers.peers(conn) if peer.incarnation != own]
        now = time.monotonic()
        if now - self._looked_at > settings.WORKER_DEAD_AFTER / 2:
            # The database, or this process, stood still: so may the others have done, and for no other reason.
            self.forget_sightings()
        self._looked_at = now
        seen = {}
        for peer in peers:
            heartbeat, since = self._sightings.get(peer.incarnation, (peer.heartbeat, now))
            seen[peer.incarnation] = (peer.heartbeat, since if heartbeat == peer.heartbeat else now)
        self._sightings = seen
        for peer in peers:
            if self.host.proves_dead(peer):
                self.rescue(conn, peer, "its process is gone")
            elif self._stands_still(peer, now):
                self.rescue(conn, peer, f"no heartbeat for {peer.age:.0f} s")
        if now >= self._sweep_at:
            self._sweep_at = now + SWEEP_EVERY
            self.sweep(conn)

    def _stands_still(self, peer: Peer, now: float) -> bool:
        late = settings.WORKER_DEAD_AFTER
        return peer.age > late and now - self._sightings[peer.incarnation][1] > late

    def rescue(self, conn: psycopg.Connection, peer: Peer, why: str) -> None:
        """Declare a worker dead: its messages run again or end, and its row goes, in one transaction."""
        self._ended, self._done = [], []
        with conn.transaction():
            # A claim still in flight holds the row: then this is for the next look, when it is committed and seen.
            if not workers.try_lock(conn, peer.incarnation):
                return
            if not self.host.proves_dead(peer) and workers.heartbeat_of(conn, peer.incarnation) != peer.heartbeat:
                return
            outcomes, queues = self._take_over(conn, peer.incarnation, f"worker {peer.name} is gone: {why}", peer.name)
            workers.remove(conn, peer.incarnation)
        self._tell(conn, outcomes, queues)
        self.rescued += len(outcomes) + len(queues)
        logger.warning(
            "Worker %s is dead (%s): %d of its tasks run again, %d end", peer.name, why, len(queues), len(outcomes)
        )
        self._sweep_at = 0.0

    def sweep(self, conn: psycopg.Connection) -> None:
        """Rescue messages whose owner has no row at all."""
        self._ended, self._done = [], []
        with conn.transaction():
            if not workers.try_sweep(conn):
                return
            outcomes: list[Outcome] = []
            queues: list[str] = []
            owners = claims.orphaned_owners(conn)
            for owner in owners:
                ended, opened = self._take_over(conn, owner, "its worker is gone")
                outcomes += ended
                queues += opened
        self._tell(conn, outcomes, queues)
        self.rescued += len(outcomes) + len(queues)
        if owners:
            self._sweep_at = time.monotonic() + SWEEP_AGAIN
        if outcomes or queues:
            logger.warning("Found tasks of unknown workers: %d run again, %d end", len(queues), len(outcomes))

    def _take_over(
        self, conn: psycopg.Connection, owner: int, how: str, name: str | None = None
    ) -> tuple[list[Outcome], list[str]]:
        """End, or put back, everything that `owner` holds; in the transaction that has locked its row."""
        held = claims.owned(conn, owner)
        verdicts = [(message, outcome_of_loss(message, how)) for message in held]
        outcomes = [outcome for _, outcome in verdicts if outcome is not None]
        again = [message for message, outcome in verdicts if outcome is None]
        if outcomes:
            self._done.append(ending.end(conn, owner, outcomes, name))
        self._ended += [(message, outcome) for message, outcome in verdicts if outcome is not None]
        if again:
            messages.crashed(conn, owner, [(message.claim, message.id) for message in again])
        return outcomes, [message.queue for message in again]

    def _tell(self, conn: psycopg.Connection, outcomes: list[Outcome], queues: list[str]) -> None:
        ended, self._ended = self._ended, []
        for message, outcome in ended:
            self.ended(message, outcome)
        for done in self._done:
            ending.tell(conn, done)
        if queues:
            notify.ring_workers(conn, set(queues), len(queues))
        if outcomes:
            notify.ring_waiters(conn, [outcome.id for outcome in outcomes])
