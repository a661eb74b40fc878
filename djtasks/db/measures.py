"""Measures: what the database knows that a page of metrics shows, and no list does."""

import json
from typing import Any, LiteralString, NamedTuple

from djtasks.db.connections import Connection, rows


class Horizon(NamedTuple):
    """What keeps the server from removing dead rows, as far as this role may see."""

    #: How long the oldest transaction that holds back cleaning has been open, in seconds; None: there is none.
    seconds: float | None
    #: How many transactions ago the oldest row lived that somebody (a session, a slot, a prepared transaction) may
    #: still want to see.
    transactions: int


HORIZON: LiteralString = """
    SELECT
        (
            SELECT extract(epoch FROM max(clock_timestamp() - xact_start))::float8 FROM pg_stat_activity
            WHERE pid <> pg_backend_pid() AND (backend_xmin IS NOT NULL OR backend_xid IS NOT NULL)
                AND (datname = current_database() OR datname IS NULL)
        ),
        (
            SELECT coalesce(max(age), 0) FROM (
                SELECT greatest(age(backend_xmin), age(backend_xid)) AS age FROM pg_stat_activity
                WHERE pid <> pg_backend_pid() AND (datname = current_database() OR datname IS NULL)
                UNION ALL
                SELECT greatest(age(xmin), age(catalog_xmin)) FROM pg_replication_slots
                UNION ALL
                SELECT age(transaction) FROM pg_prepared_xacts WHERE database = current_database()
            ) AS ages
        )
"""


def horizon(conn: Connection) -> Horizon:
    """What holds back cleaning. Of other roles' sessions only members of pg_read_all_stats see anything."""
    return Horizon._make(rows(conn, HORIZON)[0])


class Stand(NamedTuple):
    """A worker, by its row."""

    name: str
    pool: str
    concurrency: int
    #: Seconds since its last heartbeat.
    age: float
    #: Since it started.
    uptime: float
    #: Ended tasks by state, `refused`, `released`, `lost`: since it started.
    counters: dict[str, float]
    #: What it said with its heartbeat: `running`, `prefetched`, `processes`, `load`, `rusage`, `versions` …; any may
    #: be missing.
    state: dict[str, Any]


STANDS: LiteralString = """
    SELECT
        name, pool, concurrency, extract(epoch FROM statement_timestamp() - heartbeat)::float8,
        extract(epoch FROM statement_timestamp() - started)::float8, counters::text, coalesce(state, '{}')::text
    FROM djtasks_worker ORDER BY name, started
"""


def stands(conn: Connection) -> list[Stand]:
    """All workers that have a row, by name; a name may come twice, where one was lost and is there again."""
    return [Stand._make((*row[:5], _object(row[5]), _object(row[6]))) for row in rows(conn, STANDS)]


def _object(text: str) -> dict[str, Any]:
    found = json.loads(text)
    return found if isinstance(found, dict) else {}


BOUND: LiteralString = "SELECT set_config('statement_timeout', %(milliseconds)s, true)"


def bound(conn: Connection, seconds: float) -> None:
    """Let no statement of this transaction take longer than that."""
    rows(conn, BOUND, {"milliseconds": str(int(seconds * 1000))})
