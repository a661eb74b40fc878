"""Periodic tasks: which are due, and when they are next. Beat's own row of each, its tick, is what is locked.

Due is what the database's clock says. Whoever locks a row locks its periodic task, too: the two are read as they are
together, and an edit that is not committed yet keeps its row from being run.
"""

import json
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString, NamedTuple

from djtasks.db.connections import Connection, rows
from djtasks.periodic import Entry

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: A day from the calendar's ends, so that every zone can show it: 'infinity' in SQL is no error here.
_FIRST, _LAST = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)


class Due(NamedTuple):
    """A periodic task whose time has come, or is to be computed; locked until the transaction ends."""

    entry: Entry
    #: When it is due; None where that is to be computed.
    next_run_at: datetime | None
    last_run_at: datetime | None
    last_task_id: str | None
    #: When its schedule was last changed.
    since: datetime
    #: The database's time.
    now: datetime


class Advance(NamedTuple):
    """What becomes of a tick."""

    id: int
    #: None for never.
    next_run_at: datetime | None
    #: The time that its last run was for; None when it has not run.
    ran_at: datetime | None = None
    task_id: str | None = None
    runs: int = 0
    skipped: int = 0
    #: None leaves what is there, "" says that all is well.
    error: str | None = None


#: Columns of texts, numbers and flags, of JSON, and of instants.
_PLAIN = (
    *("id", "name", "task", "kind", "every", "period", "relative", "minute", "hour", "day_of_month"),
    *("month_of_year", "day_of_week", "timezone", "event", "latitude", "longitude", "queue", "exchange"),
    *("routing_key", "priority", "expire_seconds", "one_off", "enabled", "catch_up", "deadline", "overlap"),
    *("description", "source"),
)
_JSON = ("args", "kwargs", "headers", "options")
_INSTANTS = ("clocked", "expires", "start_time")
_COLUMNS: LiteralString = """
    SELECT
        t.id, t.name, t.task, t.kind, t.every, t.period, t.relative, t.minute, t.hour, t.day_of_month,
        t.month_of_year, t.day_of_week, t.timezone, t.event, t.latitude, t.longitude, t.queue, t.exchange,
        t.routing_key, t.priority, t.expire_seconds, t.one_off, t.enabled, t.catch_up, t.deadline, t.overlap,
        t.description, t.source,
        t.args::text, t.kwargs::text, t.headers::text, t.options::text,
        extract(epoch FROM t.clocked)::float8, extract(epoch FROM t.expires)::float8,
        extract(epoch FROM t.start_time)::float8,
        extract(epoch FROM s.next_run_at)::float8, extract(epoch FROM s.last_run_at)::float8, s.last_task_id::text,
        extract(epoch FROM s.since)::float8, extract(epoch FROM statement_timestamp())::float8
    FROM djtasks_tick AS s JOIN djtasks_periodic_task AS t ON t.id = s.periodic_task_id
"""


def _instant(seconds: float | None) -> datetime | None:
    if seconds is None:
        return None
    try:
        return min(max(_EPOCH + timedelta(microseconds=round(seconds * 1_000_000)), _FIRST), _LAST)
    except (OverflowError, ValueError):
        return _LAST if seconds > 0 else _FIRST


def _json(text: str) -> Any:
    """What a column with JSON holds; as a text where PostgreSQL can read it and Python cannot.

    That is nested too deeply, or has a number of thousands of digits; whose row it is finds out when it is sent.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _read(row: Sequence[Any]) -> Due:
    """A row of _COLUMNS."""
    plain, texts, instants = len(_PLAIN), len(_JSON), len(_INSTANTS)
    said: dict[str, Any] = dict(zip(_PLAIN, row[:plain], strict=True))
    said |= {name: _json(text) for name, text in zip(_JSON, row[plain : plain + texts], strict=True)}
    times = row[plain + texts : plain + texts + instants]
    said |= {name: _instant(at) for name, at in zip(_INSTANTS, times, strict=True)}
    next_run_at, last_run_at, last_task_id, since, now = row[plain + texts + instants :]
    return Due(
        Entry(**said),
        _instant(next_run_at),
        _instant(last_run_at),
        last_task_id,
        _instant(since) or _EPOCH,
        _instant(now) or _EPOCH,
    )


DUE: LiteralString = f"""{_COLUMNS}
    WHERE s.next_run_at <= statement_timestamp() AND NOT s.stale
    ORDER BY s.next_run_at
    LIMIT %(limit)s
    FOR NO KEY UPDATE OF s, t SKIP LOCKED
"""
DUE_ONE: LiteralString = f"""{_COLUMNS}
    WHERE s.periodic_task_id = %(id)s AND s.next_run_at <= statement_timestamp() AND NOT s.stale
    FOR NO KEY UPDATE OF s, t SKIP LOCKED
"""


def due(conn: Connection, limit: int) -> list[Due]:
    """Lock periodic tasks whose time has come, the longest due first, but those that somebody else holds."""
    return [_read(row) for row in rows(conn, DUE, {"limit": limit})]


def due_one(conn: Connection, task: int) -> list[Due]:
    """The same for the periodic task of this id alone."""
    return [_read(row) for row in rows(conn, DUE_ONE, {"id": task})]


#: Without statistics a plain join would begin with all periodic tasks.
STALE: LiteralString = f"""
    WITH written AS MATERIALIZED (
        SELECT periodic_task_id FROM djtasks_tick WHERE stale LIMIT %(limit)s FOR NO KEY UPDATE SKIP LOCKED
    )
    {_COLUMNS} JOIN written USING (periodic_task_id)
    WHERE s.stale
    FOR NO KEY UPDATE OF s, t SKIP LOCKED
"""


def stale(conn: Connection, limit: int) -> list[Due]:
    """Lock periodic tasks that have been written, and whose time is to be computed."""
    return [_read(row) for row in rows(conn, STALE, {"limit": limit})]


CHOSEN: LiteralString = f"""{_COLUMNS}
    WHERE s.periodic_task_id = ANY (%(ids)s::bigint[])
    ORDER BY s.periodic_task_id
    FOR NO KEY UPDATE OF s
"""


def chosen(conn: Connection, ids: Collection[int]) -> list[Due]:
    """Lock the periodic tasks of these ids, whenever they are due; waits for a beat that sends one of them."""
    return [_read(row) for row in rows(conn, CHOSEN, {"ids": list(ids)})]


ADVANCE: LiteralString = """
    UPDATE djtasks_tick AS s
    SET next_run_at = a.next_run_at, last_run_at = coalesce(a.ran_at, s.last_run_at),
        last_task_id = coalesce(a.task_id, s.last_task_id), total_run_count = s.total_run_count + a.runs,
        skipped = s.skipped + a.skipped, error = coalesce(a.error, s.error),
        error_at = CASE
            WHEN a.error IS NULL THEN s.error_at
            WHEN a.error <> '' THEN statement_timestamp()
        END,
        stale = false
    FROM unnest(
        %(ids)s::bigint[], %(nexts)s::timestamptz[], %(rans)s::timestamptz[], %(tasks)s::uuid[], %(runs)s::integer[],
        %(skippeds)s::integer[], %(errors)s::text[]
    ) AS a (id, next_run_at, ran_at, task_id, runs, skipped, error)
    WHERE s.periodic_task_id = a.id
    RETURNING s.periodic_task_id
"""


def advance(conn: Connection, advances: Iterable[Advance]) -> None:
    """Write what has become of ticks that are locked."""
    ordered = sorted(advances)
    params = {
        "ids": [each.id for each in ordered],
        "nexts": [each.next_run_at for each in ordered],
        "rans": [each.ran_at for each in ordered],
        "tasks": [each.task_id for each in ordered],
        "runs": [each.runs for each in ordered],
        "skippeds": [each.skipped for each in ordered],
        "errors": [each.error for each in ordered],
    }
    rows(conn, ADVANCE, params)


RAN: LiteralString = """
    UPDATE djtasks_tick AS s
    SET last_run_at = statement_timestamp(), last_task_id = ran.task_id, total_run_count = s.total_run_count + 1,
        error = '', error_at = NULL
    FROM unnest(%(ids)s::bigint[], %(tasks)s::uuid[]) AS ran (id, task_id)
    WHERE s.periodic_task_id = ran.id
    RETURNING s.periodic_task_id
"""


def ran(conn: Connection, tasks: Sequence[tuple[int, str]]) -> None:
    """Write that periodic tasks have been run now, out of turn: (id, id of the task that it became)."""
    rows(conn, RAN, {"ids": [each for each, _ in tasks], "tasks": [task for _, task in tasks]})


FAILED: LiteralString = """
    UPDATE djtasks_tick AS s
    SET error = failed.error, error_at = statement_timestamp()
    FROM unnest(%(ids)s::bigint[], %(errors)s::text[]) AS failed (id, error)
    WHERE s.periodic_task_id = failed.id
    RETURNING s.periodic_task_id
"""


def failed(conn: Connection, errors: Sequence[tuple[int, str]]) -> None:
    """Write that periodic tasks could not be run out of turn: (id, why)."""
    rows(conn, FAILED, {"ids": [each for each, _ in errors], "errors": [error for _, error in errors]})


UNFINISHED: LiteralString = "SELECT id::text FROM djtasks_message WHERE id = ANY (%(ids)s::uuid[])"


def unfinished(conn: Connection, ids: Collection[str]) -> set[str]:
    """Those of these tasks that have not ended."""
    return {row[0] for row in rows(conn, UNFINISHED, {"ids": list(ids)})}


DISABLE: LiteralString = """
    UPDATE djtasks_periodic_task SET enabled = false, date_changed = statement_timestamp()
    WHERE id = ANY (%(ids)s::bigint[]) AND enabled
    RETURNING id
"""


def disable(conn: Connection, ids: Collection[int]) -> None:
    """Switch off periodic tasks that have run for the last time; call it before `advance`."""
    rows(conn, DISABLE, {"ids": list(ids)})


EXPIRE: LiteralString = """
    UPDATE djtasks_periodic_task SET enabled = false, date_changed = statement_timestamp()
    WHERE id IN (
        SELECT id FROM djtasks_periodic_task
        WHERE enabled AND expires <= statement_timestamp()
        ORDER BY expires
        LIMIT 1000
        FOR NO KEY UPDATE SKIP LOCKED
    )
    RETURNING name
"""


def expire(conn: Connection) -> list[str]:
    """Switch off periodic tasks whose `expires` has come; their names."""
    return [row[0] for row in rows(conn, EXPIRE)]


NEXT: LiteralString = """
    SELECT
        extract(epoch FROM (
            SELECT next_run_at FROM djtasks_tick WHERE next_run_at IS NOT NULL ORDER BY next_run_at LIMIT 1
        ) - statement_timestamp())::float8,
        extract(epoch FROM (
            SELECT next_run_at FROM djtasks_tick WHERE next_run_at > statement_timestamp() ORDER BY next_run_at LIMIT 1
        ) - statement_timestamp())::float8,
        EXISTS (SELECT FROM djtasks_tick WHERE stale)
"""


class Next(NamedTuple):
    """What there is to do, and when."""

    #: Seconds until the first time that anything is due (0 or less: it is), and until the first that is yet to come.
    first: float | None
    coming: float | None
    #: There are times to be computed.
    stale: bool

    @property
    def now(self) -> bool:
        """Whether there is something to do."""
        return self.stale or (self.first is not None and self.first <= 0)


def next_in(conn: Connection) -> Next:
    """What there is to do, and when."""
    return Next._make(rows(conn, NEXT)[0])
