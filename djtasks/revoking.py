"""One revocation is carried out: written first, then what waits is ended, and who holds the rest is told."""

import random
from collections.abc import Collection
from contextlib import nullcontext
from typing import Any

import psycopg

from djtasks import ending, stamps, tracer
from djtasks.conf import settings
from djtasks.db import notify, revocations
from djtasks.db.connections import CONFLICTS, open_private
from djtasks.events import sent
from djtasks.exceptions import TaskRevokedError
from djtasks.messages import Claimed

#: So many messages are ended in one transaction.
BATCH = 1000
#: A conflict with another session is tried again so often.
TRIES = 5
#: What has been said of a task that is to be revoked.
PREVENTED, SIGNALLED, RUNNING, DONE, NOTED, PENDING = "prevented", "signalled", "running", "done", "noted", "pending"
#: The pools that can end what runs.
_TERMINATING = frozenset({"prefork", "gevent", "eventlet", "asyncio"})
_NO_ID = "00000000-0000-0000-0000-000000000000"


class Order:
    """One revocation: of tasks, of workflows or of stamps."""

    def __init__(
        self,
        ids: Collection[str],
        roots: Collection[str],
        stamped: list[stamps.Stamp],
        terminate: bool,
        signum: int,
        by: str = "",
    ) -> None:
        self.ids = ids
        self.roots = roots
        self.stamps = stamped
        self.terminate = terminate
        self.signum = signum
        self.by = by

    def carry_out(self, conn: Any = None) -> dict[str, str]:
        """Write it, end what waits, tell who holds the rest; the answer by the row's id."""
        with open_private("control") if conn is None else nullcontext(conn) as conn:
            self._write(conn)
            aliases = revocations.aliases(conn, self.ids)
            ids = {*self.ids, *aliases.values()}
            if self.stamps:
                ids |= self._stamped(conn)
            found = self._end(conn, ids)
            left = revocations.standings(conn, {*ids, *self.roots}, self.roots)
            if any(standing.waits for standing in left):
                # A worker has just given it back.
                found += self._end(conn, ids)
                left = revocations.standings(conn, {*ids, *self.roots}, self.roots)
            answers = dict.fromkeys((message.id for message in found), PREVENTED)
            owners = set()
            for standing in left:
                if standing.owner is not None and standing.pool is not None:
                    owners.add(standing.owner)
                    ends = self.terminate and standing.pool in _TERMINATING
                    answers[standing.id] = SIGNALLED if ends else RUNNING
                elif standing.id not in answers:
                    answers[standing.id] = NOTED if standing.state is None else DONE
            if owners:
                revocations.tell(conn, owners)
            if found:
                notify.ring_waiters(conn, [message.id for message in found])
                sent.tell_revoked(conn, found)
            if over := {task_id for task_id, answer in answers.items() if answer in (PREVENTED, DONE)}:
                revocations.drop(conn, over)
        for message in found:
            tracer.tell_revoked(message, "")
        for alias, target in aliases.items():
            answers[alias] = answers[target]
        return answers

    def _write(self, conn: psycopg.Connection) -> None:
        said: dict[str, Any] = {
            "terminate": self.terminate,
            "signal": self.signum if self.terminate else None,
            "seconds": settings.REVOCATION_EXPIRES.total_seconds(),
            "by": self.by,
        }
        if self.ids:
            ids = {*self.ids, *revocations.aliases(conn, self.ids).values()}
            revocations.revoke_tasks(conn, ids, **said)
        if self.roots:
            revocations.revoke_roots(conn, self.roots, **said)
        if self.stamps:
            revocations.revoke_stamps(conn, self.stamps, **said)

    def _stamped(self, conn: psycopg.Connection) -> set[str]:
        """The messages that have one of the stamps."""
        after, found, wanted = _NO_ID, set(), set(self.stamps)
        while part := revocations.stamped(conn, after):
            found |= {task_id for task_id, headers in part if not wanted.isdisjoint(stamps.stamps_of(headers))}
            after = part[-1][0]
        return found

    def _end(self, conn: psycopg.Connection, ids: Collection[str]) -> list[Claimed]:
        """End what waits as REVOKED."""
        ordered = sorted({*ids, *self.roots})
        found: list[Claimed] = []
        for start in range(0, len(ordered), BATCH):
            part = ordered[start : start + BATCH]
            found += end_waiting(conn, part, [root for root in part if root in self.roots])
        return found


def end_waiting(conn: psycopg.Connection, ids: Collection[str], roots: Collection[str] = ()) -> list[Claimed]:
    """End the waiting messages of these tasks and workflows as REVOKED, in one transaction of its own.

    Of their ends nobody is rung or told; of what follows them, everybody.
    """
    for left in reversed(range(TRIES)):
        owner = random.getrandbits(62) | 1
        try:
            with conn.transaction():
                found = revocations.take(conn, owner, 1, ids, roots)
                ends = [tracer.failure(each, TaskRevokedError("revoked")) for each in found]
                done = ending.end(conn, owner, ends, None) if found else None
            if done is not None:
                ending.tell(conn, done)
            return found
        except CONFLICTS:
            if not left:
                raise
    return []
