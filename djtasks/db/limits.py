"""Limits: who of those that wait for one may go on.

A message with a limit's key is parked when it becomes due, and no enqueue locks anything for it. Admission opens its
lane. It is two statements of one transaction: the first locks the limits' rows, in the order of their keys; the second,
with a snapshot that sees all that was admitted before, counts who holds a place, and opens lanes for the next. Nothing
is counted up or down elsewhere: a message holds its place as long as it is in a lane, in a worker's hands or parked for
a rate, and whatever ends it, a crash among them, frees it.

Whoever ends or parks such a message, or makes one due, admits afterwards, in a transaction of its own; what a crash
leaves out a worker's maintenance finds within seconds.
"""

from collections.abc import Mapping
from typing import LiteralString

from djtasks.db.connections import Connection, rows
from djtasks.keys import Definition
from djtasks.ratelimits import SLACK

#: How many lanes one admission opens for a key at the most.
BATCH = 1000


#: Keys to what their task limits them to; None where the task is not known here, and the row has to say it.
Definitions = Mapping[str, Definition | None]

#: A row that is as it should be is locked, and not written.
DEFINE: LiteralString = """
    INSERT INTO djtasks_limit AS l (key, most, rate)
    SELECT key, most, rate
    FROM unnest(%(keys)s::text[], %(mosts)s::integer[], %(rates)s::float8[]) AS given (key, most, rate)
    ORDER BY key
    ON CONFLICT (key) DO UPDATE SET most = excluded.most, rate = excluded.rate
    WHERE l.most IS DISTINCT FROM excluded.most OR l.rate IS DISTINCT FROM excluded.rate
    RETURNING key
"""
LOCK: LiteralString = """
    SELECT key FROM djtasks_limit WHERE key = ANY (%(keys)s::text[]) ORDER BY key FOR UPDATE SKIP LOCKED
"""
#: Of a rate no more stand in lanes than may start together: while no worker takes them (all are busy, or gone, or the
#: queue is paused) nothing piles up that would then start at once.
OPEN: LiteralString = """
    WITH place AS MATERIALIZED (
        SELECT
            l.key, l.most, l.rate, l.next_at,
            CASE WHEN l.most IS NOT NULL THEN (
                SELECT count(*) FROM djtasks_message AS h
                WHERE h.limit_key = l.key AND (h.lane IS NOT NULL OR h.reason = 'rate')
            ) END AS held,
            CASE WHEN l.rate IS NOT NULL THEN (
                SELECT count(*) FROM djtasks_message AS h
                WHERE h.limit_key = l.key AND h.lane IS NOT NULL AND h.owner IS NULL
            ) END AS untaken,
            greatest(
                coalesce(l.next_at, statement_timestamp()),
                statement_timestamp() - %(slack)s * interval '1 second'
            ) AS base
        FROM djtasks_limit AS l
        WHERE l.key = ANY (%(keys)s::text[])
    ), room AS MATERIALIZED (
        SELECT
            place.*,
            greatest(0, least(
                %(batch)s::integer,
                most - held,
                CASE
                    WHEN rate IS NULL THEN NULL
                    WHEN base > statement_timestamp() THEN 0
                    ELSE least(
                        1 + floor(extract(epoch FROM statement_timestamp() - base)::float8 * rate + 0.000001),
                        1 + floor(rate * %(slack)s) - untaken
                    )
                END
            ))::integer AS free
        FROM place
    ), picked AS MATERIALIZED (
        SELECT next.id
        FROM room, LATERAL (
            SELECT id FROM djtasks_message
            WHERE lane IS NULL AND reason = 'limit' AND limit_key = room.key
            ORDER BY limit_key, priority DESC, position
            LIMIT room.free
            FOR UPDATE SKIP LOCKED
        ) AS next
    ), opened AS (
        UPDATE djtasks_message AS m SET lane = m.queue, reason = NULL FROM picked WHERE m.id = picked.id
        RETURNING m.limit_key, m.queue
    ), counted AS MATERIALIZED (
        SELECT room.*, (SELECT count(*) FROM opened WHERE opened.limit_key = room.key) AS count FROM room
    ), noted AS (
        UPDATE djtasks_limit AS l
        SET used = coalesce(counted.held, 0) + counted.count,
            changed = statement_timestamp(),
            next_at = CASE
                WHEN counted.rate IS NULL THEN NULL
                WHEN counted.count > 0 THEN counted.base + counted.count / counted.rate * interval '1 second'
                WHEN counted.base > statement_timestamp() THEN counted.base
                WHEN counted.untaken > 0 THEN statement_timestamp() + %(slack)s * interval '1 second'
            END
        FROM counted
        WHERE l.key = counted.key
    )
    SELECT queue FROM opened
"""


def admit(conn: Connection, definitions: Definitions) -> list[str]:
    """Open the lanes of those that may go on; return their queues, one for each.

    Call it in a transaction, after the commit of what has freed a place or made a message wait. Waits for others that
    admit for the same keys: what they have not seen, this one does.
    """
    if not definitions:
        return []
    known = {key: said for key, said in definitions.items() if said is not None}
    if known:
        params = {
            "keys": list(known),
            "mosts": [said.most for said in known.values()],
            "rates": [said.rate for said in known.values()],
        }
        rows(conn, DEFINE, params)
    unknown = [key for key in definitions if key not in known]
    keys = list(known)
    if unknown:
        # A row that another one has locked is not waited for: their order would not be that of all keys.
        keys += [row[0] for row in rows(conn, LOCK, {"keys": unknown})]
    return _open(conn, keys)


def _open(conn: Connection, keys: list[str]) -> list[str]:
    if not keys:
        return []
    return [row[0] for row in rows(conn, OPEN, {"keys": keys, "batch": BATCH, "slack": SLACK})]


LOCK_DUE: LiteralString = """
    SELECT key FROM djtasks_limit WHERE next_at <= statement_timestamp()
    ORDER BY next_at LIMIT 200 FOR UPDATE SKIP LOCKED
"""


def admit_due(conn: Connection) -> list[str]:
    """As `admit`, for the keys of which the next may start by now. Waits for nobody. Call it in a transaction."""
    return _open(conn, [row[0] for row in rows(conn, LOCK_DUE)])


NEXT_DUE: LiteralString = """
    SELECT extract(epoch FROM next_at - statement_timestamp())::float8
    FROM djtasks_limit WHERE next_at IS NOT NULL ORDER BY next_at LIMIT 1
"""


def next_due(conn: Connection) -> float | None:
    """Seconds until the next of some key may start (negative when it is past), or None when nothing waits for that."""
    found = rows(conn, NEXT_DUE)
    return found[0][0] if found else None


#: From key to key along the index, however many messages wait for each.
WAITING: LiteralString = """
    WITH RECURSIVE waiting AS (
        (
            SELECT limit_key, name FROM djtasks_message
            WHERE lane IS NULL AND reason = 'limit' AND limit_key > %(after)s::text
            ORDER BY limit_key, priority DESC, position
            LIMIT 1
        )
        UNION ALL
        SELECT next.limit_key, next.name
        FROM waiting, LATERAL (
            SELECT limit_key, name FROM djtasks_message
            WHERE lane IS NULL AND reason = 'limit' AND limit_key > waiting.limit_key
            ORDER BY limit_key, priority DESC, position
            LIMIT 1
        ) AS next
    )
    SELECT limit_key, name FROM waiting LIMIT %(limit)s
"""


def waiting(conn: Connection, after: str = "", limit: int = BATCH) -> list[tuple[str, str]]:
    """The keys behind `after` for which messages wait, in their order, each with the name of the next one's task."""
    return [(row[0], row[1]) for row in rows(conn, WAITING, {"after": after, "limit": limit})]


TRY_SWEEP: LiteralString = "SELECT pg_try_advisory_xact_lock(%(key)s)"
#: "limits" as a number: one sweep at a time.
SWEEP_KEY = 0x6C69_6D69_7473


def try_sweep(conn: Connection) -> bool:
    """Take the right to sweep until this transaction ends; False if another one has it."""
    return bool(rows(conn, TRY_SWEEP, {"key": SWEEP_KEY})[0][0])


PRUNE: LiteralString = """
    WITH idle AS MATERIALIZED (
        SELECT key FROM djtasks_limit AS l
        WHERE changed < statement_timestamp() - %(age)s * interval '1 second'
            AND (next_at IS NULL OR next_at < statement_timestamp())
            AND NOT EXISTS (
                SELECT FROM djtasks_message AS m
                WHERE m.limit_key = l.key AND (m.lane IS NOT NULL OR m.reason = 'rate')
            )
        LIMIT %(limit)s
        FOR UPDATE SKIP LOCKED
    )
    DELETE FROM djtasks_limit AS l USING idle WHERE l.key = idle.key RETURNING l.key
"""


def prune(conn: Connection, age: float, limit: int = BATCH) -> int:
    """Delete the rows of keys that nobody has used for `age` seconds; their next use makes them anew."""
    return len(rows(conn, PRUNE, {"age": age, "limit": limit}))
