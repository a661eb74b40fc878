"""Broadcasts: what is sent to every worker of a queue is one message, until one of them passes it on."""

from collections.abc import Collection, Sequence
from typing import LiteralString, NamedTuple

from djtasks.db.claims import CLAIMED
from djtasks.db.connections import Connection, rows
from djtasks.messages import Claimed


class Heard(NamedTuple):
    """A message of a broadcast queue, locked by the transaction that is open."""

    message: Claimed
    #: The id of the row that its workflow began with, or None.
    root: str | None
    #: It is not to run any more.
    revoked: bool


HEAR: LiteralString = (
    "SELECT "
    + CLAIMED
    + """, m.root_id::text,
        EXISTS (SELECT FROM djtasks_revocation AS r WHERE r.task_id = m.id OR r.root_id IN (m.id, m.root_id))
    FROM unnest(%(queues)s::text[]) AS q (name), LATERAL (
        SELECT * FROM djtasks_message
        WHERE lane = q.name AND owner IS NULL
        ORDER BY priority DESC, position
        LIMIT %(limit)s
        FOR UPDATE SKIP LOCKED
    ) AS m
    WHERE NOT EXISTS (SELECT FROM djtasks_queue AS p WHERE p.name = q.name AND p.paused)
"""
)


def hear(conn: Connection, queues: Collection[str], limit: int) -> list[Heard]:
    """Lock and read up to `limit` messages of each of these queues that nobody has passed on; not of paused ones."""
    found = rows(conn, HEAR, {"queues": list(queues), "limit": limit})
    # No worker has claimed them.
    return [Heard(Claimed._make((0, *row[1:-2])), row[-2], row[-1]) for row in found]


LISTENERS: LiteralString = """
    SELECT DISTINCT q.name, w.name
    FROM unnest(%(queues)s::text[]) AS q (name)
    JOIN djtasks_worker AS w ON w.queues ? q.name
    WHERE w.heartbeat > statement_timestamp() - %(seconds)s * interval '1 second'
    ORDER BY q.name, w.name
"""


def listeners(conn: Connection, queues: Collection[str], seconds: float) -> list[tuple[str, str]]:
    """The workers that take from each of these queues, and had a heartbeat in so many seconds: (queue, node)."""
    return [(queue, node) for queue, node in rows(conn, LISTENERS, {"queues": list(queues), "seconds": seconds})]


READDRESS: LiteralString = """
    UPDATE djtasks_message AS m
    SET queue = moved.queue, lane = moved.queue,
        expires = coalesce(m.expires, statement_timestamp() + %(seconds)s * interval '1 second')
    FROM unnest(%(ids)s::uuid[], %(queues)s::text[]) AS moved (id, queue)
    WHERE m.id = moved.id
    RETURNING m.id
"""


def readdress(conn: Connection, ids: Sequence[str], queues: Sequence[str], seconds: float) -> None:
    """Move messages, which this transaction has locked, to other queues; one that never expires does in so long."""
    rows(conn, READDRESS, {"ids": list(ids), "queues": list(queues), "seconds": seconds})
