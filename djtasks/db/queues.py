"""Queues: which are paused. One that has no row is open."""

from collections.abc import Collection
from typing import LiteralString

from djtasks.db.connections import Connection, rows

PAUSED: LiteralString = "SELECT name FROM djtasks_queue WHERE paused"


def paused(conn: Connection) -> set[str]:
    """The names of the queues from which nothing is taken now."""
    return {row[0] for row in rows(conn, PAUSED)}


PAUSE: LiteralString = """
    INSERT INTO djtasks_queue AS q (name, paused, since, by, note)
    SELECT name, true, statement_timestamp(), %(by)s, %(note)s FROM unnest(%(names)s::text[]) AS name ORDER BY name
    ON CONFLICT (name) DO UPDATE
    SET paused = true, since = excluded.since, by = excluded.by, note = excluded.note
    WHERE NOT q.paused
    RETURNING name
"""


def pause(conn: Connection, names: Collection[str], by: str = "", note: str = "") -> list[str]:
    """Take nothing more from these queues; return those that were open."""
    return [row[0] for row in rows(conn, PAUSE, {"names": list(names), "by": by, "note": note})]


RESUME: LiteralString = """
    UPDATE djtasks_queue SET paused = false, since = statement_timestamp(), by = %(by)s, note = ''
    WHERE name = ANY (%(names)s::text[]) AND paused
    RETURNING name
"""


def resume(conn: Connection, names: Collection[str], by: str = "") -> list[str]:
    """Take from these queues again; return those that were paused. Ring their workers after the commit."""
    return [row[0] for row in rows(conn, RESUME, {"names": list(names), "by": by})]
