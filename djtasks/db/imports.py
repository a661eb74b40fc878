"""What comes from elsewhere: the tables of django-celery-beat, and the ids of messages from another broker."""

import json
from collections.abc import Collection
from typing import Any, LiteralString, NamedTuple

from djtasks.db.connections import Connection, rows


class Theirs(NamedTuple):
    """A periodic task of django-celery-beat and its schedules, as JSON has the rows; None for what it has none of."""

    task: dict[str, Any]
    interval: dict[str, Any] | None
    crontab: dict[str, Any] | None
    solar: dict[str, Any] | None
    clocked: dict[str, Any] | None


TABLES: LiteralString = """
    SELECT name FROM unnest(%(names)s::text[]) AS name WHERE to_regclass('django_celery_beat_' || name) IS NOT NULL
"""
_KINDS: tuple[LiteralString, ...] = ("interval", "crontab", "solar", "clocked")


def celery_beat(conn: Connection) -> list[Theirs] | None:
    """All periodic tasks of django-celery-beat, by name; None when its tables are not there.

    Rows are read as JSON, whatever columns the installed version has; older ones lack whole tables.
    """
    known = {row[0] for row in rows(conn, TABLES, {"names": ["periodictask", *(f"{kind}schedule" for kind in _KINDS)]})}
    if "periodictask" not in known:
        return None
    columns, joins = [], []
    for kind in _KINDS:
        if f"{kind}schedule" in known:
            columns.append(", to_jsonb(" + kind + ")")
            table = "django_celery_beat_" + kind + "schedule AS " + kind
            # A version that has the table has the column; one that came between is told by to_jsonb.
            joins.append(" LEFT JOIN " + table + " ON " + kind + ".id = (to_jsonb(t) ->> '" + kind + "_id')::bigint")
        else:
            columns.append(", NULL")
    query = (
        "SELECT to_jsonb(t)"
        + "".join(columns)
        + " FROM django_celery_beat_periodictask AS t"
        + "".join(joins)
        + " ORDER BY t.name"
    )
    return [Theirs._make(_read(each) for each in row) for row in rows(conn, query)]


def _read(value: Any) -> Any:
    """Django's connection hands out jsonb as text."""
    return json.loads(value) if isinstance(value, str) else value


NOTE: LiteralString = """
    INSERT INTO djtasks_throttle (key, until)
    SELECT 'imported ' || id, statement_timestamp() + interval '30 days' FROM unnest(%(ids)s::text[]) AS id ORDER BY id
    ON CONFLICT (key) DO NOTHING
    RETURNING substr(key, 10)
"""


def note_imported(conn: Connection, ids: Collection[str]) -> set[str]:
    """Remember that the messages of these ids have come from elsewhere; return those of which it was not known yet.

    Call it in the transaction that writes them: whoever repeats the import after a crash doubles nothing.
    """
    return {row[0] for row in rows(conn, NOTE, {"ids": list(ids)})}
