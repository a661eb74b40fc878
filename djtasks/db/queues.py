"""Queues: which are paused. One that has no row is open."""

from collections.abc import Collection
from typing import LiteralString, NamedTuple

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


USED: LiteralString = """
    SELECT queue FROM djtasks_message
    UNION
    SELECT queue FROM djtasks_periodic_task WHERE queue <> ''
"""


def used(conn: Connection) -> list[str]:
    """The queues that any message or schedule names. Reads the whole table."""
    return [row[0] for row in rows(conn, USED)]


class Depth(NamedTuple):
    """What stands in a queue's lane."""

    #: How many messages wait there or run, up to the bound that was asked for.
    known: int
    #: How long ago the one that has waited longest was called, in seconds; None when none waits.
    oldest: float | None


#: One stretch of the index a queue, up to a bound; and of each priority the first that no worker has.
DEPTHS: LiteralString = """
    SELECT
        q.name,
        (
            SELECT count(*) FROM (
                SELECT FROM djtasks_message WHERE lane = q.name ORDER BY priority DESC, position LIMIT %(most)s
            ) AS counted
        ),
        (
            WITH RECURSIVE levels AS (
                (SELECT priority FROM djtasks_message WHERE lane = q.name ORDER BY priority DESC LIMIT 1)
                UNION ALL
                SELECT (
                    SELECT m.priority FROM djtasks_message AS m
                    WHERE m.lane = q.name AND m.priority < levels.priority ORDER BY m.priority DESC LIMIT 1
                )
                FROM levels WHERE levels.priority IS NOT NULL
            )
            SELECT extract(epoch FROM statement_timestamp() - min(first.created))::float8
            FROM (SELECT priority FROM levels WHERE priority IS NOT NULL LIMIT 20) AS level
            CROSS JOIN LATERAL (
                SELECT near.created FROM (
                    SELECT created, owner FROM djtasks_message
                    WHERE lane = q.name AND priority = level.priority ORDER BY position LIMIT 1000
                ) AS near
                WHERE near.owner IS NULL LIMIT 1
            ) AS first
        )
    FROM unnest(%(names)s::text[]) AS q (name)
"""


def depths(conn: Connection, names: Collection[str], most: int) -> dict[str, Depth]:
    """How much stands in the lanes of these queues, counted up to `most` in each, and how old it is."""
    found = rows(conn, DEPTHS, {"names": list(names), "most": most})
    return {name: Depth(count, oldest) for name, count, oldest in found}


#: One stretch of the index a queue; no more is read than is asked for.
WAITING: LiteralString = """
    SELECT count(*) FROM (
        SELECT FROM unnest(%(names)s::text[]) AS q (name)
        CROSS JOIN LATERAL (
            SELECT FROM djtasks_message AS m
            WHERE m.lane = q.name AND m.owner IS NULL ORDER BY m.priority DESC, m.position LIMIT %(most)s
        ) AS found
        LIMIT %(most)s
    ) AS counted
"""


def waiting(conn: Connection, names: Collection[str], most: int) -> int:
    """How many messages wait in the lanes of these queues, in nobody's hands, counted up to `most`."""
    found: int = rows(conn, WAITING, {"names": list(names), "most": most})[0][0]
    return found
