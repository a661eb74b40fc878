"""Samples: what each worker did, and how each queue stood, in each minute; for charts, whatever is pruned elsewhere.

A row is a minute (by the database's clock), a kind, a name and a flat object of numbers. Written twice in a minute, by
a worker that was restarted in it, say, counts are added up and levels keep the highest.
"""

import json
from collections.abc import Mapping
from typing import Any, LiteralString, NamedTuple

from djtasks.db.connections import Connection, rows

#: Levels, as opposed to counts: of several the highest is told.
LEVELS = ("pool", "busy", "depth", "oldest")
#: The coarse histogram of runtimes: so many ended within so many seconds, each in one of them, as «le_0.1»; longer
#: ones are in «le_inf».
BOUNDS = (0.01, 0.1, 1.0, 10.0, 60.0, 600.0)
BUCKETS = (*(f"le_{bound:g}" for bound in BOUNDS), "le_inf")


class Point(NamedTuple):
    """What one worker, or one queue, has to say of one step of time."""

    #: The step's beginning, in seconds since the epoch.
    at: float
    #: "worker" or "queue".
    kind: str
    #: The node's name, or the queue's.
    name: str
    #: Of a worker, all counts of what happened in the step: ended tasks by state (SUCCESS, FAILURE, RETRY, REVOKED,
    #: IGNORED, REJECTED), `refused`, `released`, `lost`, `rescued`; `runs`, `runtime` (their sum, in seconds) and of
    #: them `le_0.01` … `le_inf` (`BUCKETS`; each run in one); `waited` (the sum of the seconds from when they might
    #: have run until they began); and the levels `pool` (slots) and `busy` (slots that ran something). Of a queue the
    #: levels `depth` (messages that wait or run there) and `oldest` (seconds that the oldest one has waited; missing
    #: where none waits). A count that is missing is 0.
    numbers: dict[str, float]


SERIES: LiteralString = """
    WITH steps AS (
        SELECT
            floor(extract(epoch FROM s.at) / %(step)s) * %(step)s AS at, s.kind, s.name, n.key,
            CASE WHEN n.key = ANY (%(levels)s::text[]) THEN max(n.value::float8) ELSE sum(n.value::float8) END AS value
        FROM djtasks_sample AS s CROSS JOIN LATERAL jsonb_each_text(s.numbers) AS n
        WHERE s.at >= to_timestamp(%(since)s) AND (%(kind)s::text IS NULL OR s.kind = %(kind)s)
            AND (%(name)s::text IS NULL OR s.name = %(name)s)
        GROUP BY 1, 2, 3, 4
    )
    SELECT at::float8, kind, name, jsonb_object_agg(key, value)::text
    FROM steps GROUP BY 1, 2, 3 ORDER BY 2, 3, 1
"""


def series(
    conn: Connection, since: float, step: float = 60.0, *, kind: str | None = None, name: str | None = None
) -> list[Point]:
    """All points since that moment (seconds since the epoch), in steps of so many seconds: by kind, name and time.

    Steps begin at whole multiples of `step` since the epoch; below a minute there is nothing to tell apart. Only
    those of one `kind` ("worker", "queue"), or of one `name`, where that is given.
    """
    params = {"since": since, "step": max(60.0, step), "levels": list(LEVELS), "kind": kind, "name": name}
    return [Point(at, kind, name, json.loads(text)) for at, kind, name, text in rows(conn, SERIES, params)]


#: What was written already stays in it: counts are added up, of levels the highest is kept.
WRITE: LiteralString = """
    INSERT INTO djtasks_sample AS s (at, kind, name, numbers)
    SELECT date_trunc('minute', statement_timestamp() - make_interval(secs => %(ago)s)), %(kind)s, n.name,
        n.numbers::jsonb
    FROM unnest(%(names)s::text[], %(numbers)s::text[]) AS n (name, numbers) ORDER BY n.name
    ON CONFLICT (at, kind, name) DO UPDATE SET numbers = (
        SELECT jsonb_object_agg(
            key,
            CASE
                WHEN key = ANY (%(levels)s::text[]) THEN greatest(old.value::float8, new.value::float8)
                ELSE coalesce(old.value::float8, 0) + coalesce(new.value::float8, 0)
            END
        )
        FROM jsonb_each_text(s.numbers) AS old FULL JOIN jsonb_each_text(excluded.numbers) AS new USING (key)
    )
    RETURNING name
"""


def write(conn: Connection, kind: str, numbers: Mapping[str, Mapping[str, float]], ago: float = 0.0) -> int:
    """Add these numbers, by name, to the minute of so many seconds ago; returns how many rows that are."""
    names = sorted(numbers)
    params = {
        "kind": kind,
        "names": names,
        "numbers": [json.dumps(dict(numbers[name])) for name in names],
        "levels": list(LEVELS),
        "ago": ago,
    }
    return len(rows(conn, WRITE, params))


TRY_LOCK: LiteralString = "SELECT pg_try_advisory_xact_lock(%(key)s)"
#: "djtaskq" as a number: one worker at a time measures queues.
LOCK_KEY = 0x646A_7461_736B_71

#: Whoever had the lock before may have measured this minute already.
MEASURED: LiteralString = """
    SELECT EXISTS (
        SELECT FROM djtasks_sample
        WHERE kind = 'queue' AND at = date_trunc('minute', statement_timestamp())
    )
"""


def try_measure(conn: Connection) -> bool:
    """Take the right to measure the queues until this transaction ends; False where this minute is another's."""
    found: list[tuple[Any, ...]] = rows(conn, TRY_LOCK, {"key": LOCK_KEY})
    return bool(found[0][0]) and not rows(conn, MEASURED)[0][0]


PRUNE: LiteralString = """
    WITH old AS (
        SELECT id FROM djtasks_sample WHERE at < statement_timestamp() - make_interval(secs => %(age)s)
        ORDER BY at, kind, name LIMIT %(most)s FOR UPDATE SKIP LOCKED
    )
    DELETE FROM djtasks_sample AS s USING old WHERE s.id = old.id RETURNING s.id
"""


def prune(conn: Connection, age: float, most: int) -> int:
    """Delete up to `most` samples that are older than so many seconds; returns how many."""
    return len(rows(conn, PRUNE, {"age": age, "most": most}))
