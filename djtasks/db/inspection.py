"""What the tables say of workers: who they are, what they hold, what waits for its time in their queues."""

from collections.abc import Collection, Sequence
from typing import LiteralString, NamedTuple

from djtasks.db.arrays import Uuids
from djtasks.db.claims import CLAIMED
from djtasks.db.connections import Connection, rows
from djtasks.messages import Claimed


class Node(NamedTuple):
    """A worker's row, as far as others ask for it."""

    name: str
    incarnation: int
    pid: int
    concurrency: int
    queues: list[str]


NODES: LiteralString = "SELECT name, incarnation, pid, concurrency, queues FROM djtasks_worker ORDER BY name, started"


def nodes(conn: Connection) -> list[Node]:
    """All workers that have a row: also those that have died, and have not been declared dead yet."""
    return [Node._make(row) for row in rows(conn, NODES)]


#: A message that nobody holds has no claim number.
_ANY: LiteralString = CLAIMED.replace("m.claim,", "coalesce(m.claim, 0),", 1)

HELD: LiteralString = (
    "SELECT " + _ANY + " FROM djtasks_message AS m WHERE m.owner = %(owner)s ORDER BY m.claim LIMIT %(limit)s"
)


def held(conn: Connection, owner: int, limit: int) -> list[Claimed]:
    """What a worker holds, in the order in which it took it. Reads the whole table."""
    return [Claimed._make(row) for row in rows(conn, HELD, {"owner": owner, "limit": limit})]


SCHEDULED: LiteralString = (
    "SELECT "
    + _ANY
    + """ FROM djtasks_message AS m
    WHERE m.lane IS NULL AND m.reason = 'eta' AND m.queue = ANY (%(queues)s::text[])
    ORDER BY m.eta, m.position
    LIMIT %(limit)s
"""
)


def scheduled(conn: Connection, queues: Collection[str], limit: int) -> list[Claimed]:
    """What waits for its time in these queues, the next one first; nobody holds it, so its claim is 0."""
    return [Claimed._make(row) for row in rows(conn, SCHEDULED, {"queues": list(queues), "limit": limit})]


BY_ID: LiteralString = (
    "SELECT m.owner, m.reason, " + _ANY + " FROM djtasks_message AS m WHERE m.id = ANY (%(ids)s::uuid[])"
)


class Found(NamedTuple):
    """A message that was asked for by its id."""

    owner: int | None
    #: Why it may not run now, or None.
    reason: str | None
    message: Claimed


def by_id(conn: Connection, ids: Sequence[str]) -> list[Found]:
    """Those of these messages that wait or run."""
    return [Found(row[0], row[1], Claimed._make(row[2:])) for row in rows(conn, BY_ID, {"ids": Uuids(sorted(ids))})]


REVOKED: LiteralString = """
    SELECT coalesce(task_id, root_id)::text FROM djtasks_revocation
    WHERE stamp IS NULL AND expires > statement_timestamp()
    ORDER BY id DESC
    LIMIT %(limit)s
"""


def revoked(conn: Connection, limit: int) -> list[str]:
    """The ids of the tasks, and of the workflows, that are revoked; the last one first."""
    return [row[0] for row in rows(conn, REVOKED, {"limit": limit})]
