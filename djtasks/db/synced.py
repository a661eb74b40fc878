"""Periodic tasks that are written down in code: their rows, and what the code says of them.

What the code says is compared with the rows in the form that the database itself gives to both: `to_jsonb` of the row
type, in UTC.
"""

import json
from collections.abc import Collection, Mapping
from typing import Any, LiteralString, NamedTuple

from djtasks.db.connections import Connection, rows


class Row(NamedTuple):
    """A periodic task as it stands in its table; locked."""

    id: int
    name: str
    source: str
    #: What the code said when it was last synced.
    said: dict[str, Any] | None
    overridden: bool
    vanished: bool
    #: Its other columns, by name.
    columns: dict[str, Any]


LOCK: LiteralString = """
    SELECT pg_advisory_xact_lock(%(key)s), set_config('TimeZone', 'UTC', true)
"""
#: "djbeat" as a number: one sync at a time.
SYNC_KEY = 0x646A_6265_6174


def lock(conn: Connection) -> None:
    """Keep other syncs waiting until the transaction ends. Call it before all else here."""
    rows(conn, LOCK, {"key": SYNC_KEY})


#: What is no part of what code can say.
_OWN: LiteralString = "'{id,name,source,said,overridden,vanished,date_changed}'::text[]"
NORMAL: LiteralString = f"""
    SELECT (to_jsonb(r) - {_OWN})::text FROM jsonb_populate_record(NULL::djtasks_periodic_task, %(columns)s::jsonb) AS r
"""


def normal(conn: Connection, columns: Mapping[str, Any]) -> dict[str, Any]:
    """What the code says, by column, in the database's own form. Raises psycopg.DataError for what no column takes."""
    found: dict[str, Any] = json.loads(rows(conn, NORMAL, {"columns": json.dumps(columns)})[0][0])
    return found


_CODED: LiteralString = "source <> 'admin' OR name = ANY (%(names)s::text[])"
READ: LiteralString = f"""
    SELECT id, name, source, said::text, overridden, vanished, (to_jsonb(t) - {_OWN})::text
    FROM djtasks_periodic_task AS t
    WHERE {_CODED}
    ORDER BY id
    FOR NO KEY UPDATE SKIP LOCKED
"""
COUNT: LiteralString = f"SELECT count(*) FROM djtasks_periodic_task WHERE {_CODED}"


def read(conn: Connection, names: Collection[str]) -> tuple[list[Row], bool]:
    """Lock and read the rows that came from code, and those of these names; whether these are all of them.

    Those that somebody is writing are left out.
    """
    params = {"names": list(names)}
    found = [
        Row(task, name, source, None if said is None else json.loads(said), overridden, vanished, json.loads(columns))
        for task, name, source, said, overridden, vanished, columns in rows(conn, READ, params)
    ]
    return found, len(found) == rows(conn, COUNT, params)[0][0]


#: The columns that code says.
_SAID: LiteralString = """
    task, kind, every, period, relative, minute, hour, day_of_month, month_of_year, day_of_week, timezone, clocked,
    event, latitude, longitude, args, kwargs, queue, exchange, routing_key, priority, headers, options, expires,
    expire_seconds, one_off, start_time, enabled, catch_up, deadline, overlap, description
"""
#: A conflict with a row that somebody is writing would wait for that: it is looked for first.
INSERT: LiteralString = f"""
    INSERT INTO djtasks_periodic_task (
        name, source, said, overridden, vanished, date_changed, {_SAID}
    )
    SELECT %(name)s::varchar, %(source)s::varchar, %(said)s::jsonb, false, false, statement_timestamp(), {_SAID}
    FROM jsonb_populate_record(NULL::djtasks_periodic_task, %(said)s::jsonb)
    WHERE NOT EXISTS (SELECT FROM djtasks_periodic_task WHERE name = %(name)s::varchar)
    ON CONFLICT (name) DO NOTHING
    RETURNING id
"""


def insert(conn: Connection, name: str, source: str, said: Mapping[str, Any]) -> bool:
    """Write a new row; False if there is one of this name."""
    return bool(rows(conn, INSERT, {"name": name, "source": source, "said": json.dumps(said)}))


REPLACE: LiteralString = f"""
    UPDATE djtasks_periodic_task
    SET source = %(source)s, said = %(said)s::jsonb, overridden = false, vanished = false,
        date_changed = statement_timestamp(),
        ({_SAID}) = (SELECT {_SAID} FROM jsonb_populate_record(NULL::djtasks_periodic_task, %(said)s::jsonb))
    WHERE id = %(id)s
    RETURNING id
"""


def replace(conn: Connection, task: int, source: str, said: Mapping[str, Any]) -> None:
    """Let the row say what the code does."""
    rows(conn, REPLACE, {"id": task, "source": source, "said": json.dumps(said)})


MARK: LiteralString = """
    UPDATE djtasks_periodic_task
    SET source = %(source)s, said = %(said)s::jsonb, overridden = %(overridden)s, vanished = %(vanished)s,
        enabled = %(enabled)s, date_changed = statement_timestamp()
    WHERE id = %(id)s
    RETURNING id
"""


def mark(
    conn: Connection,
    task: int,
    source: str,
    said: Mapping[str, Any] | None,
    *,
    overridden: bool,
    vanished: bool,
    enabled: bool,
) -> None:
    """Write down how the row stands to the code, and leave the rest of it."""
    params = {
        "id": task,
        "source": source,
        "said": None if said is None else json.dumps(said),
        "overridden": overridden,
        "vanished": vanished,
        "enabled": enabled,
    }
    rows(conn, MARK, params)


RESET: LiteralString = f"""
    UPDATE djtasks_periodic_task AS t
    SET overridden = false, date_changed = statement_timestamp(),
        ({_SAID}) = (SELECT {_SAID} FROM jsonb_populate_record(NULL::djtasks_periodic_task, t.said))
    WHERE id = ANY (%(ids)s::bigint[]) AND overridden AND NOT vanished AND said IS NOT NULL
    RETURNING id
"""


def reset(conn: Connection, tasks: Collection[int]) -> set[int]:
    """Let those of these rows that have been edited say again what the code did when it was last synced; their ids."""
    return {row[0] for row in rows(conn, RESET, {"ids": list(tasks)})}
