"""Health: whether workers and beats live and queues are emptied, in one statement; and what is where, for lists."""

from collections.abc import Collection
from typing import LiteralString, NamedTuple

from djtasks.db.connections import Connection, rows


class Health(NamedTuple):
    """What a probe asks. Ages are in seconds, by the database's clock; None: there is none."""

    #: Since the last heartbeat of the worker that was asked for.
    worker: float | None
    #: Since the last heartbeat of any beat.
    beat: float | None
    #: Since the one that has waited longest might have run.
    queue: float | None


#: Of each priority of a queue the first that no worker has: one stretch of the index each. What is paused waits because
#: somebody wants it to.
HEALTH: LiteralString = """
    SELECT
        (
            SELECT extract(epoch FROM statement_timestamp() - max(heartbeat))::float8 FROM djtasks_worker
            WHERE (%(node)s::text IS NULL OR name = %(node)s) AND (%(host)s::text IS NULL OR host = %(host)s)
        ),
        (SELECT extract(epoch FROM statement_timestamp() - max(heartbeat))::float8 FROM djtasks_beat),
        (
            WITH RECURSIVE levels AS (
                SELECT q.name, (
                    SELECT m.priority FROM djtasks_message AS m WHERE m.lane = q.name ORDER BY m.priority DESC LIMIT 1
                ) AS priority
                FROM unnest(%(queues)s::text[]) AS q (name)
                WHERE NOT EXISTS (SELECT FROM djtasks_queue AS p WHERE p.name = q.name AND p.paused)
                UNION ALL
                SELECT levels.name, (
                    SELECT m.priority FROM djtasks_message AS m
                    WHERE m.lane = levels.name AND m.priority < levels.priority ORDER BY m.priority DESC LIMIT 1
                )
                FROM levels WHERE levels.priority IS NOT NULL
            )
            SELECT extract(epoch FROM statement_timestamp() - min(first.since))::float8
            FROM levels CROSS JOIN LATERAL (
                SELECT near.since FROM (
                    SELECT greatest(m.created, m.eta) AS since, m.owner FROM djtasks_message AS m
                    WHERE m.lane = levels.name AND m.priority = levels.priority ORDER BY m.position LIMIT 1000
                ) AS near
                WHERE near.owner IS NULL LIMIT 1
            ) AS first
        )
"""


def health(conn: Connection, node: str | None, host: str | None, queues: Collection[str]) -> Health:
    """How it stands: with the worker of this name, or one of this host (both None: any), beats, and these queues."""
    return Health._make(rows(conn, HEALTH, {"node": node, "host": host, "queues": list(queues)})[0])


SERVED: LiteralString = """
    SELECT queue, count(*) FROM djtasks_worker, jsonb_array_elements_text(queues) AS queue GROUP BY queue
"""


def served(conn: Connection) -> dict[str, int]:
    """How many workers consume each queue."""
    return dict(rows(conn, SERVED))


#: From one name to the next through the index, however many messages there are.
FILLED: LiteralString = """
    WITH RECURSIVE lanes AS (
        (SELECT lane FROM djtasks_message WHERE lane IS NOT NULL ORDER BY lane LIMIT 1)
        UNION ALL
        SELECT (SELECT m.lane FROM djtasks_message AS m WHERE m.lane > lanes.lane ORDER BY m.lane LIMIT 1)
        FROM lanes WHERE lanes.lane IS NOT NULL
    )
    SELECT lane FROM lanes WHERE lane IS NOT NULL LIMIT %(most)s
"""


def filled(conn: Connection, most: int = 1000) -> list[str]:
    """The names of the queues in which something waits or runs."""
    return [row[0] for row in rows(conn, FILLED, {"most": most})]


class Server(NamedTuple):
    """The database's server."""

    version: str
    listening: int
    migrations: str


SERVER: LiteralString = """
    SELECT current_setting('server_version'),
        (SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'djtasks %%'),
        (SELECT coalesce(max(name), '-') FROM django_migrations WHERE app = 'djtasks')
"""


def server(conn: Connection) -> Server:
    """Its version, how many of our private connections there are, and the newest migration."""
    return Server._make(rows(conn, SERVER, {})[0])


class Node(NamedTuple):
    """A worker, for lists."""

    name: str
    pool: str
    concurrency: int
    queues: list[str]
    #: Seconds since its last heartbeat.
    age: float


NODES: LiteralString = """
    SELECT name, pool, concurrency, ARRAY(SELECT jsonb_array_elements_text(queues)),
        extract(epoch FROM statement_timestamp() - heartbeat)::float8
    FROM djtasks_worker ORDER BY name
"""


def nodes(conn: Connection) -> list[Node]:
    """All workers that have a row, by name."""
    return [Node._make(row) for row in rows(conn, NODES)]
