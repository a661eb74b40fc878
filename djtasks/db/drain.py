"""What tests do with messages: look at those that wait, and take them one by one through Django's connection.

Whatever is written here belongs to the transaction that is open there, a test's as well.
"""

from collections.abc import Collection
from contextlib import AbstractContextManager
from typing import Any, LiteralString, NamedTuple

import psycopg
from django.db.backends.base.base import BaseDatabaseWrapper

from djtasks.db import arrays
from djtasks.db.arrays import Texts, Uuids
from djtasks.db.connections import Connection, rows


class Lent:
    """Django's connection as the functions of `djtasks.db` want a private one: its cursors take binary arrays."""

    def __init__(self, wrapper: BaseDatabaseWrapper) -> None:
        self.wrapper = wrapper

    @property
    def driver(self) -> psycopg.Connection[Any]:
        """The driver's own connection."""
        self.wrapper.ensure_connection()
        driver: psycopg.Connection[Any] = self.wrapper.connection
        return driver

    def cursor(self) -> psycopg.Cursor[Any]:
        """A cursor of the driver's, in the transaction that is open."""
        cursor = psycopg.Cursor(self.driver)
        arrays.register(cursor)
        return cursor

    def execute(self, query: LiteralString, params: Any = None, *, binary: bool = False, **_: Any) -> Any:
        """As a connection of psycopg does it."""
        return self.cursor().execute(query, params, binary=binary)

    def transaction(self) -> AbstractContextManager[Any]:
        """A transaction, or a savepoint where one is open."""
        return self.driver.transaction()


class Place(NamedTuple):
    """Where the next message stands."""

    lane: str
    priority: int
    position: int


NEXT: LiteralString = """
    SELECT lane, priority, position
    FROM djtasks_message
    WHERE lane IS NOT NULL AND owner IS NULL
        AND (%(queues)s::text[] IS NULL OR lane = ANY (%(queues)s::text[]))
        AND position <= %(last)s AND id <> ALL (%(but)s::uuid[])
        AND lane NOT IN (SELECT name FROM djtasks_queue WHERE paused)
    ORDER BY priority DESC, position
    LIMIT 1
"""


def next_place(conn: Connection, queues: Collection[str] | None, last: int, but: Collection[str]) -> Place | None:
    """The place of the message that is next to run, of those up to position `last` and but for some ids."""
    params = {"queues": None if queues is None else Texts(list(queues)), "last": last, "but": Uuids(list(but))}
    found = rows(conn, NEXT, params)
    return Place._make(found[0]) if found else None


FORWARD: LiteralString = """
    WITH picked AS MATERIALIZED (
        SELECT id, eta
        FROM djtasks_message
        WHERE lane IS NULL AND reason = 'eta' AND eta > statement_timestamp()
            AND (eta <= to_timestamp(%(until)s::float8) OR id = ANY (%(ids)s::uuid[]))
            AND (%(queues)s::text[] IS NULL OR queue = ANY (%(queues)s::text[]))
        ORDER BY eta
        LIMIT 1
        FOR UPDATE
    )
    UPDATE djtasks_message AS m
    SET eta = statement_timestamp()
    FROM picked
    WHERE m.id = picked.id
    RETURNING m.id::text, extract(epoch FROM picked.eta)::float8
"""


def forward(
    conn: Connection, until: float | None, ids: Collection[str], queues: Collection[str] | None
) -> tuple[str, float] | None:
    """Let the time of one message come: the earliest one up to `until` (seconds since the epoch), or of these ids.

    Returns its id and its eta; it still has to be promoted.
    """
    params = {"until": until, "ids": Uuids(list(ids)), "queues": None if queues is None else Texts(list(queues))}
    found = rows(conn, FORWARD, params)
    return (found[0][0], found[0][1]) if found else None


RESTORE: LiteralString = """
    UPDATE djtasks_message SET eta = to_timestamp(%(eta)s::float8) WHERE id = %(id)s::uuid RETURNING id
"""


def restore_eta(conn: Connection, task_id: str, eta: float) -> None:
    """Let a message that has been promoted tell its eta again."""
    rows(conn, RESTORE, {"id": task_id, "eta": eta})


NOW: LiteralString = "SELECT extract(epoch FROM statement_timestamp())::float8"


def now(conn: Connection) -> float:
    """The database's clock, in seconds since the epoch."""
    seconds: float = rows(conn, NOW)[0][0]
    return seconds


LAST: LiteralString = "SELECT coalesce(max(position), 0) FROM djtasks_message"


def last_position(conn: Connection) -> int:
    """The position of the newest message that is there."""
    position: int = rows(conn, LAST)[0][0]
    return position


class Waiting(NamedTuple):
    """A message that waits; times in seconds since the epoch."""

    id: str
    name: str
    queue: str
    priority: int
    retries: int
    reason: str | None
    headers: str | None
    content_type: str
    content_encoding: str
    body: bytes
    eta: float | None
    expires: float | None
    created: float
    position: int


WAITING: LiteralString = """
    SELECT
        id::text, name, queue, priority, retries, reason, headers, content_type, content_encoding, body,
        extract(epoch FROM eta)::float8, extract(epoch FROM expires)::float8, extract(epoch FROM created)::float8,
        position
    FROM djtasks_message
    WHERE owner IS NULL AND position > %(after)s
    ORDER BY position
"""


def waiting(conn: Connection, after: int = 0) -> list[Waiting]:
    """All messages that wait, now or for later, oldest first; those that stand after a position."""
    found = [Waiting._make(row) for row in rows(conn, WAITING, {"after": after})]
    return [each._replace(body=bytes(each.body)) for each in found]
