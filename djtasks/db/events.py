"""Events: what has happened, for whoever looks on. Rows of an unlogged table that stays small.

Their numbers are given out before they are committed, so a reader may see number 8 before number 7: it asks again for
the numbers that it has not seen (see `since`).
"""

from collections.abc import Collection, Sequence
from typing import Final, LiteralString, NamedTuple

import psycopg

from djtasks.db.arrays import Texts
from djtasks.db.connections import Connection, Rows, rows

#: Who reads events listens here; rung once a batch.
CHANNEL: Final = "djtasks_event"
#: So many rows are deleted in one statement.
PRUNE_BATCH: Final = 10_000
#: The advisory lock of who deletes: "djtasks" as a number, and one.
PRUNE_KEY: Final = 0x646A_7461_736C


class Event(NamedTuple):
    """One event, as it is written."""

    #: task-started, worker-heartbeat ...
    type: str
    #: The id of the task's row; None for what is not about a task.
    uuid: str | None
    #: The node that says it.
    worker: str
    #: Its other fields, as JSON text.
    body: str


WRITE: LiteralString = """
    WITH written AS (
        INSERT INTO djtasks_event (type, uuid, worker, body)
        SELECT type, uuid::uuid, worker, body::jsonb
        FROM unnest(%(types)s::text[], %(uuids)s::text[], %(workers)s::text[], %(bodies)s::text[])
            AS event (type, uuid, worker, body)
    )
    SELECT pg_notify('djtasks_event', '')
"""


def write(conn: Connection, events: Sequence[Event]) -> None:
    """Write these in their order, and ring who reads. `conn` is a private connection, or Django's."""
    array = Texts if isinstance(conn, psycopg.Connection) else list
    columns = zip(("types", "uuids", "workers", "bodies"), zip(*events, strict=True), strict=True)
    rows(conn, WRITE, {name: array(column) for name, column in columns})


SINCE: LiteralString = """
    SELECT id, type, uuid::text, worker, body
    FROM djtasks_event
    WHERE id > %(last)s
    ORDER BY id
    LIMIT %(most)s
"""
MISSED: LiteralString = """
    SELECT id, type, uuid::text, worker, body
    FROM djtasks_event
    WHERE id = ANY (%(ids)s::bigint[])
    ORDER BY id
"""


def since(conn: Connection, last: int, most: int) -> Rows:
    """The next events after number `last`: (number, type, the task's id or None, node, fields)."""
    return rows(conn, SINCE, {"last": last, "most": most})


def numbered(conn: Connection, ids: Collection[int]) -> Rows:
    """Those of these numbers that are there, as `since` returns them."""
    return rows(conn, MISSED, {"ids": sorted(ids)})


NEWEST: LiteralString = "SELECT coalesce(max(id), 0) FROM djtasks_event"


def newest(conn: Connection) -> int:
    """The number of the last event that is there; 0 for none."""
    return int(rows(conn, NEWEST)[0][0])


#: The oldest have the lowest numbers: only these are looked at.
PRUNE: LiteralString = """
    WITH mine AS MATERIALIZED (
        SELECT pg_try_advisory_xact_lock(%(key)s) AS mine
    ), oldest AS MATERIALIZED (
        SELECT id, at FROM djtasks_event ORDER BY id LIMIT %(batch)s
    ), old AS MATERIALIZED (
        SELECT oldest.id
        FROM oldest, mine
        WHERE mine.mine AND (
            oldest.id <= (SELECT max(id) FROM djtasks_event) - %(most)s
            OR oldest.at < statement_timestamp() - %(seconds)s * interval '1 second'
        )
    )
    DELETE FROM djtasks_event AS e USING old WHERE e.id = old.id RETURNING e.id
"""


def prune(conn: Connection, most: int, seconds: float, batch: int = PRUNE_BATCH) -> int:
    """Delete events older than that, and all but about the last `most`; one batch, unless another session does."""
    return len(rows(conn, PRUNE, {"key": PRUNE_KEY, "most": most, "seconds": seconds, "batch": batch}))


SENDING: LiteralString = """
    SELECT EXISTS (SELECT FROM djtasks_worker WHERE state @> '{"events": true}')
"""


def wanted(conn: Connection) -> bool:
    """Whether any worker sends events of tasks, as far as it has said with its heartbeat."""
    return bool(rows(conn, SENDING)[0][0])
