"""Periodic tasks, put in and looked at."""

import itertools
import json
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg.rows import dict_row

from djtasks.beat.sync import columns
from djtasks.db import synced
from djtasks.periodic import Entry

_numbers = itertools.count(1)


def periodic(conn: psycopg.Connection, **fields: Any) -> int:
    """Write a periodic task, every ten seconds unless said otherwise; returns its id."""
    fields = {"name": f"periodic {next(_numbers)}", "task": "tests.add", "kind": "interval", **fields}
    if fields["kind"] == "interval":
        fields = {"every": 10, "period": "seconds", **fields}
    entry = Entry(**fields)
    assert synced.insert(conn, entry.name, "admin", synced.normal(conn, columns(entry)))
    found = conn.execute("SELECT id FROM djtasks_periodic_task WHERE name = %s", [entry.name]).fetchone()
    assert found is not None
    return int(found[0])


def tick(conn: psycopg.Connection, task: int) -> dict[str, Any]:
    """What beat knows of a periodic task, with `enabled`."""
    with conn.cursor(row_factory=dict_row) as cursor:
        found = cursor.execute(
            "SELECT s.*, t.enabled, extract(epoch FROM s.next_run_at - statement_timestamp())::float8 AS next_in,"
            " s.last_task_id::text AS last_task_id"
            " FROM djtasks_tick s JOIN djtasks_periodic_task t ON t.id = s.periodic_task_id WHERE t.id = %s",
            [task],
        ).fetchone()
    assert found is not None
    return found


def due_since(conn: psycopg.Connection, task: int, seconds: float) -> datetime:
    """Let a periodic task have been due that long ago; returns when."""
    found = conn.execute(
        "UPDATE djtasks_tick SET stale = false, next_run_at = statement_timestamp() - %s * interval '1 second'"
        " WHERE periodic_task_id = %s RETURNING next_run_at",
        [seconds, task],
    ).fetchone()
    assert found is not None
    return found[0].astimezone(UTC)


def messages(conn: psycopg.Connection, task: int) -> list[dict[str, Any]]:
    """The messages of a periodic task, in their order."""
    with conn.cursor(row_factory=dict_row) as cursor:
        query = "SELECT *, id::text AS id FROM djtasks_message WHERE periodic = %s ORDER BY position"
        return cursor.execute(query, [task]).fetchall()


def many(conn: psycopg.Connection, count: int) -> None:
    """Write so many periodic tasks, once a day each."""
    said = synced.normal(conn, columns(Entry("", "tests.add", "interval", every=1, period="days")))
    names = ", ".join(said)
    conn.execute(
        f"INSERT INTO djtasks_periodic_task (name, source, overridden, vanished, {names})"
        f" SELECT 'many ' || n, 'admin', false, false, {names}"
        " FROM jsonb_populate_record(NULL::djtasks_periodic_task, %s::jsonb), generate_series(1, %s) n".encode(),
        [json.dumps(said), count],
    )
