"""One task, as its page in the monitor shows it: its message, its result and its events, in one statement."""

import json
from types import SimpleNamespace
from typing import Any, LiteralString, NamedTuple
from uuid import UUID

from djtasks.db.connections import Connection, rows

#: Bytes of a payload, and characters of headers and tracebacks; `djtasks.admin.payload` reads as much.
PART = 250_000
TRACEBACK = 50_000

_MESSAGE: tuple[LiteralString, ...] = (
    "id",
    "position",
    "owner",
    "claim",
    "created",
    "eta",
    "expires",
    "retries",
    "priority",
    "crashes",
    "rerun",
    "lane",
    "reason",
    "name",
    "queue",
    "content_type",
    "content_encoding",
    "unique_key",
    "limit_key",
    "root_id",
    "parent_id",
    "group_id",
    "chord",
    "part",
    "periodic",
    "redelivered",
)
_RESULT: tuple[LiteralString, ...] = (
    "id",
    "owner",
    "created",
    "started",
    "done",
    "retries",
    "priority",
    "state",
    "name",
    "queue",
    "worker",
    "content_type",
    "content_encoding",
    "dead",
    "root_id",
    "parent_id",
    "group_id",
    "periodic",
    "body_content_type",
    "body_content_encoding",
)
#: What of a row is not a column as it stands; payload only for who may see it.
_PARTS: dict[str, dict[str, LiteralString]] = {
    "m": {
        "headers_start": "left(m.headers, 250000)",
        "body_start": "CASE WHEN %(payload)s THEN substring(m.body FROM 1 FOR 250000) END",
        "body_size": "length(m.body)",
    },
    "r": {
        "headers_start": "left(r.headers, 250000)",
        "body_start": "CASE WHEN %(payload_of_result)s THEN substring(r.body FROM 1 FOR 250000) END",
        "body_size": "length(r.body)",
        "result_start": "CASE WHEN %(payload_of_result)s THEN substring(r.result FROM 1 FOR 250000) END",
        "result_size": "length(r.result)",
        "traceback_end": "CASE WHEN %(payload_of_result)s THEN right(r.traceback, 50000) END",
        "traceback_size": "length(r.traceback)",
    },
}


def _selected(alias: LiteralString, columns: tuple[LiteralString, ...]) -> LiteralString:
    names: list[LiteralString] = [alias + "." + name for name in columns]
    return ", ".join([*names, *_PARTS[alias].values()])


ONE: LiteralString = (
    "SELECT " + _selected("m", _MESSAGE) + ", " + _selected("r", _RESULT) + ", w.name, w.incarnation, p.name,"
    """
        EXISTS (SELECT FROM djtasks_revocation AS v WHERE v.task_id = asked.id AND v.expires > statement_timestamp()),
        (SELECT target FROM djtasks_alias AS a WHERE a.id = asked.id),
        (
            SELECT coalesce(json_agg(e), '[]')::text FROM (
                SELECT extract(epoch FROM at)::float8 AS at, type, worker, body FROM djtasks_event
                WHERE uuid = asked.id ORDER BY id LIMIT 200
            ) AS e
        ),
        extract(epoch FROM statement_timestamp())::float8
    FROM (SELECT %(id)s::uuid AS id) AS asked
    LEFT JOIN djtasks_message AS m ON m.id = asked.id
    LEFT JOIN djtasks_result AS r ON r.id = asked.id
    LEFT JOIN djtasks_worker AS w ON w.incarnation = coalesce(m.owner, r.owner)
    LEFT JOIN djtasks_periodic_task AS p ON p.id = coalesce(m.periodic, r.periodic)
"""
)


class One(NamedTuple):
    """What is known of a task. Rows have columns as attributes, and payload as `djtasks.admin.payload` reads it."""

    message: Any
    result: Any
    #: The worker that has it, or had it, if that has a row.
    worker: str | None
    incarnation: int | None
    #: The name of the periodic task that it is a run of.
    periodic: str | None
    revoked: bool
    #: The task that stands for it: its unique key was taken.
    alias_of: UUID | None
    #: at (seconds since the epoch), type, worker, body: what workers have told of it, while they sent events.
    events: list[dict[str, Any]]
    now: float


def one(conn: Connection, task_id: UUID, *, payload: bool, payload_of_result: bool) -> One:
    """What is known of a task; without what the user may not see."""
    params = {"id": task_id, "payload": payload, "payload_of_result": payload_of_result}
    row = rows(conn, ONE, params)[0]
    first, second = [*_MESSAGE, *_PARTS["m"]], [*_RESULT, *_PARTS["r"]]
    message = dict(zip(first, row, strict=False))
    result = dict(zip(second, row[len(first) :], strict=False))
    worker, incarnation, periodic, revoked, alias_of, told, now = row[len(first) + len(second) :]
    return One(
        None if message["id"] is None else SimpleNamespace(pk=message["id"], **message),
        None if result["id"] is None else SimpleNamespace(pk=result["id"], **result),
        worker,
        incarnation,
        periodic,
        revoked,
        alias_of,
        json.loads(told),
        now,
    )
