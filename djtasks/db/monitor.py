"""What the monitor's overview shows: who is there, how queues stand, what is wrong. Two statements, and the samples.

Each part is bounded: a count ends at a number, a list has a most, and the long tables are read by their indexes.
"""

import json
from typing import Any, LiteralString, NamedTuple

from djtasks.db.connections import Connection, rows

#: More workers, beats or queues than this are not listed.
MOST = 1000
#: Counts end here: "10,000+".
COUNTED = 10_000


class Picture(NamedTuple):
    """How it stands at one moment. Times are seconds since the epoch, by the database's clock; ages are in seconds."""

    now: float
    #: incarnation (a text), name, host, pid, pool, concurrency, queues, counters, state, idle, started, age.
    workers: list[dict[str, Any]]
    #: name, age, embedded, sent.
    beats: list[dict[str, Any]]
    #: name, paused, since, by, note: what was said about queues.
    queues: list[dict[str, Any]]
    #: The queues in which something stands.
    filled: list[str]
    #: How many periodic tasks are enabled, and how many are over a minute late; both end at 1,001.
    schedules: int
    late: int
    #: Dead letters; ends at COUNTED + 1.
    letters: int
    #: FAILURE in the last hour; ends at COUNTED + 1.
    failures: int
    #: By reason, what may not run now; each ends at COUNTED + 1.
    parked: dict[str, int]
    #: who (a process's number, or "prepared"), name, age: the transaction that has held back the vacuum longest, as far
    #: as we may see.
    oldest: dict[str, Any] | None
    #: How many rows there are, by the server's statistics.
    messages: int
    #: The same, where that is over COUNTED + 1; else counted, up to there.
    results: int


PICTURE: LiteralString = """
    SELECT
        extract(epoch FROM statement_timestamp())::float8,
        (
            SELECT coalesce(json_agg(w), '[]')::text FROM (
                SELECT incarnation::text, name, host, pid, pool, concurrency, queues, counters, state, idle,
                    extract(epoch FROM started)::float8 AS started,
                    extract(epoch FROM statement_timestamp() - heartbeat)::float8 AS age
                FROM djtasks_worker ORDER BY name, started, incarnation LIMIT %(most)s
            ) AS w
        ),
        (
            SELECT coalesce(json_agg(b), '[]')::text FROM (
                SELECT name, embedded, sent, extract(epoch FROM statement_timestamp() - heartbeat)::float8 AS age
                FROM djtasks_beat ORDER BY heartbeat DESC LIMIT %(most)s
            ) AS b
        ),
        (
            SELECT coalesce(json_agg(q), '[]')::text FROM (
                SELECT name, paused, extract(epoch FROM since)::float8 AS since, by, note
                FROM djtasks_queue ORDER BY NOT paused, name LIMIT %(most)s
            ) AS q
        ),
        (
            WITH RECURSIVE lanes AS (
                (SELECT lane FROM djtasks_message WHERE lane IS NOT NULL ORDER BY lane LIMIT 1)
                UNION ALL
                SELECT (SELECT m.lane FROM djtasks_message AS m WHERE m.lane > lanes.lane ORDER BY m.lane LIMIT 1)
                FROM lanes WHERE lanes.lane IS NOT NULL
            )
            SELECT coalesce(json_agg(lane), '[]')::text
            FROM (SELECT lane FROM lanes WHERE lane IS NOT NULL LIMIT %(most)s) AS filled
        ),
        (
            SELECT count(*) FROM (
                SELECT FROM djtasks_periodic_task WHERE enabled LIMIT 1001
            ) AS enabled
        ),
        (
            SELECT count(*) FROM (
                SELECT FROM djtasks_tick AS t JOIN djtasks_periodic_task AS p ON p.id = t.periodic_task_id AND p.enabled
                WHERE t.next_run_at < statement_timestamp() - interval '1 minute' LIMIT 1001
            ) AS late
        ),
        (
            SELECT count(*) FROM (
                SELECT FROM djtasks_result WHERE dead IS NOT NULL ORDER BY done DESC, id DESC LIMIT %(counted)s
            ) AS letters
        ),
        (
            SELECT count(*) FROM (
                SELECT FROM djtasks_result
                WHERE done IS NOT NULL AND state <> 'SUCCESS' AND state >= 'FAILURE' AND state <= 'FAILURE'
                    AND done > statement_timestamp() - interval '1 hour'
                ORDER BY state DESC, done DESC, id DESC LIMIT %(counted)s
            ) AS failures
        ),
        (
            SELECT json_object_agg(r.reason, (
                SELECT count(*) FROM (
                    SELECT FROM djtasks_message AS m WHERE m.lane IS NULL AND m.reason = r.reason
                    ORDER BY m.eta LIMIT %(counted)s
                ) AS counted
            ))::text
            FROM unnest('{eta,name,limit,rate}'::text[]) AS r (reason)
        ),
        (
            SELECT row_to_json(a)::text FROM (
                SELECT pid::text AS who, application_name AS name,
                    extract(epoch FROM statement_timestamp() - xact_start)::float8 AS age
                FROM pg_stat_activity
                WHERE datname = current_database() AND backend_xmin IS NOT NULL AND xact_start IS NOT NULL
                    AND pid <> pg_backend_pid()
                UNION ALL
                SELECT 'prepared', gid, extract(epoch FROM statement_timestamp() - prepared)::float8
                FROM pg_prepared_xacts WHERE database = current_database()
                ORDER BY age DESC LIMIT 1
            ) AS a
        ),
        (SELECT greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = 'djtasks_message'::regclass),
        (
            SELECT CASE WHEN reltuples > %(counted)s THEN reltuples::bigint ELSE (
                SELECT count(*) FROM (SELECT FROM djtasks_result ORDER BY id LIMIT %(counted)s) AS few
            ) END
            FROM pg_class WHERE oid = 'djtasks_result'::regclass
        )
"""


def picture(conn: Connection) -> Picture:
    """How it stands now."""
    found = rows(conn, PICTURE, {"most": MOST, "counted": COUNTED + 1})[0]
    texts = {1, 2, 3, 4, 9, 10}
    return Picture._make(
        (None if value is None else json.loads(value)) if place in texts else value for place, value in enumerate(found)
    )


WORKERS: LiteralString = """
    SELECT row_to_json(w)::text FROM (
        SELECT incarnation::text, name, host, pid, pool, concurrency, queues, counters, state, idle, process_group,
            extract(epoch FROM started)::float8 AS started,
            extract(epoch FROM statement_timestamp() - heartbeat)::float8 AS age
        FROM djtasks_worker WHERE %(incarnation)s::bigint IS NULL OR incarnation = %(incarnation)s
        ORDER BY name, started, incarnation LIMIT %(most)s
    ) AS w
"""


def workers(conn: Connection, incarnation: int | None = None) -> list[dict[str, Any]]:
    """All workers that have a row, by name, or this one; as in `Picture`, and with their `process_group`."""
    return [json.loads(row[0]) for row in rows(conn, WORKERS, {"incarnation": incarnation, "most": MOST})]


class Step(NamedTuple):
    """What happened in one step of time, or how it stood: of all workers, of all queues, or of one queue."""

    #: The step's beginning, in seconds since the epoch.
    at: float
    #: "worker", "queue", or "one queue", whose name stands beside.
    kind: str
    name: str | None
    #: Counts, by name, and means over the step of levels; what is missing is 0.
    numbers: dict[str, float]


#: The samples of the time, the newest first, up to a bound; of a level the mean over the step's minutes is told, of the
#: age of the oldest message the greatest.
HISTORY: LiteralString = """
    WITH near AS MATERIALIZED (
        SELECT at, floor(extract(epoch FROM at) / %(step)s)::float8 * %(step)s AS step, kind, name, numbers
        FROM djtasks_sample WHERE at >= to_timestamp(%(since)s) ORDER BY at DESC LIMIT %(most)s
    ), top AS (
        SELECT name FROM near WHERE kind = 'queue'
        GROUP BY name ORDER BY max((numbers ->> 'depth')::float8) DESC NULLS LAST, name LIMIT %(queues)s
    )
    SELECT step, kind, NULL, json_build_object(
        'SUCCESS', sum((numbers ->> 'SUCCESS')::float8),
        'FAILURE', sum((numbers ->> 'FAILURE')::float8),
        'RETRY', sum((numbers ->> 'RETRY')::float8),
        'REVOKED', sum((numbers ->> 'REVOKED')::float8),
        'runs', sum((numbers ->> 'runs')::float8),
        'runtime', sum((numbers ->> 'runtime')::float8),
        'waited', sum((numbers ->> 'waited')::float8),
        'busy', sum((numbers ->> 'busy')::float8) / count(DISTINCT at),
        'pool', sum((numbers ->> 'pool')::float8) / count(DISTINCT at),
        'depth', sum((numbers ->> 'depth')::float8) / count(DISTINCT at),
        'oldest', max((numbers ->> 'oldest')::float8),
        'minutes', count(DISTINCT at)
    )::text
    FROM near GROUP BY step, kind
    UNION ALL
    SELECT step, 'one queue', name, json_build_object(
        'depth', sum((numbers ->> 'depth')::float8) / count(DISTINCT at), 'oldest', max((numbers ->> 'oldest')::float8)
    )::text
    FROM near WHERE kind = 'queue' AND name IN (SELECT name FROM top) GROUP BY step, name
    ORDER BY 2, 3, 1
"""


def history(conn: Connection, since: float, step: float, *, queues: int = 6, most: int = 40_000) -> list[Step]:
    """What the samples since that moment say, in steps of so many seconds, and of the fullest queues by name."""
    params = {"since": since, "step": step, "queues": queues, "most": most}
    return [
        Step(at, kind, name, {key: value for key, value in json.loads(text).items() if value is not None})
        for at, kind, name, text in rows(conn, HISTORY, params)
    ]


class Limited(NamedTuple):
    """A limit, and how it stands."""

    key: str
    most: int | None
    rate: float | None
    #: Seconds until the next one may start; None where nothing is to wait for.
    next_in: float | None
    #: How many hold a place, and how many wait for one; both end at 1,001.
    held: int
    waiting: int
    changed: float


LIMITS: LiteralString = """
    SELECT l.key, l.most, l.rate, extract(epoch FROM l.next_at - statement_timestamp())::float8,
        (
            SELECT count(*) FROM (
                SELECT FROM djtasks_message AS m
                WHERE m.limit_key = l.key AND (m.lane IS NOT NULL OR m.reason = 'rate') LIMIT 1001
            ) AS held
        ),
        (
            SELECT count(*) FROM (
                SELECT FROM djtasks_message AS m
                WHERE m.lane IS NULL AND m.reason = 'limit' AND m.limit_key = l.key
                ORDER BY m.priority DESC, m.position LIMIT 1001
            ) AS waiting
        ),
        extract(epoch FROM l.changed)::float8
    FROM (
        SELECT * FROM djtasks_limit WHERE key > %(after)s AND starts_with(key, %(prefix)s) ORDER BY key LIMIT %(limit)s
    ) AS l
    ORDER BY l.key
"""


def limits(conn: Connection, after: str = "", prefix: str = "", limit: int = 100) -> list[Limited]:
    """The limits whose keys come after this one, and begin so, by their keys."""
    return [Limited._make(row) for row in rows(conn, LIMITS, {"after": after, "prefix": prefix, "limit": limit})]


class Active(NamedTuple):
    """A message that a worker holds."""

    id: str
    name: str
    queue: str
    priority: int
    created: float
    retries: int


#: What workers hold lies at the front of each lane.
ACTIVE: LiteralString = """
    SELECT near.id::text, near.name, near.queue, near.priority, extract(epoch FROM near.created)::float8, near.retries
    FROM unnest(%(queues)s::text[]) AS q (name) CROSS JOIN LATERAL (
        SELECT m.id, m.name, m.queue, m.priority, m.created, m.retries, m.owner, m.claim FROM djtasks_message AS m
        WHERE m.lane = q.name ORDER BY m.priority DESC, m.position LIMIT %(window)s
    ) AS near
    WHERE near.owner = %(owner)s
    ORDER BY near.claim
    LIMIT %(limit)s
"""


def active(conn: Connection, owner: int, queues: list[str], limit: int = 200, window: int = 20_000) -> list[Active]:
    """What a worker holds of the first messages of these queues, in the order in which it took it."""
    params = {"owner": owner, "queues": queues, "limit": limit, "window": max(100, window // max(1, len(queues)))}
    return [Active._make(row) for row in rows(conn, ACTIVE, params)]
