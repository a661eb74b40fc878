"""Ageing: what waits long gets a higher priority (QUEUE_AGEING), so that it runs one day.

Only what has others before it is touched: the highest priority that waits in a lane has nothing to gain. `aged` says by
how much a row has risen; its claim takes that back (`claims.CLAIM_AGED`), so that a task, its result and its retries
have the priority of the call.
"""

from typing import Any, LiteralString

from djtasks.db.connections import Connection, rows

#: One pass at a time, by whichever worker gets there first.
TRY_LOCK: LiteralString = "SELECT pg_try_advisory_xact_lock(%(key)s)"
AGEING_KEY = 0x646A_6167_6569

#: From one priority to the next of each lane through the index; of each but a lane's highest the first rows, which are
#: those that run next. Found first and locked then: no claim waits for a pass, and no pass for a claim.
AGE: LiteralString = """
    WITH RECURSIVE levels AS (
        (
            SELECT lane, priority, true AS top FROM djtasks_message
            WHERE lane IS NOT NULL ORDER BY lane, priority DESC LIMIT 1
        )
        UNION ALL
        SELECT next.lane, next.priority, next.lane <> levels.lane
        FROM levels, LATERAL (
            (
                SELECT m.lane, m.priority FROM djtasks_message AS m
                WHERE m.lane = levels.lane AND m.priority < levels.priority ORDER BY m.priority DESC LIMIT 1
            )
            UNION ALL
            (
                SELECT m.lane, m.priority FROM djtasks_message AS m
                WHERE m.lane > levels.lane ORDER BY m.lane, m.priority DESC LIMIT 1
            )
            LIMIT 1
        ) AS next
    ), due AS MATERIALIZED (
        SELECT m.id, m.priority - coalesce(m.aged, 0) AS said, waited.steps
        FROM levels, LATERAL (
            SELECT id, owner, priority, aged, created, eta FROM djtasks_message
            WHERE lane = levels.lane AND priority = levels.priority
            ORDER BY position
            LIMIT %(deep)s
        ) AS m, LATERAL (
            SELECT floor(least(
                extract(epoch FROM statement_timestamp() - greatest(m.created, m.eta))::float8 / %(seconds)s::float8,
                32767
            ))::integer AS steps
        ) AS waited
        WHERE NOT levels.top AND m.owner IS NULL
            AND least(m.priority - coalesce(m.aged, 0) + waited.steps, 32767) > m.priority
        LIMIT %(limit)s
    ), free AS MATERIALIZED (
        SELECT m.id, due.said, due.steps
        FROM due JOIN djtasks_message AS m ON m.id = due.id
        WHERE m.owner IS NULL AND m.lane IS NOT NULL
        FOR UPDATE OF m SKIP LOCKED
    )
    UPDATE djtasks_message AS m
    SET priority = least(free.said + free.steps, 32767), aged = least(free.steps, 32767 - free.said, 32767)
    FROM free
    WHERE m.id = free.id
    RETURNING m.id::text
"""
#: So many of the first rows of a priority are looked at.
DEEP = 1000


def try_lock(conn: Connection) -> bool:
    """Take the right to a pass until this transaction ends; False if another has it."""
    found: list[tuple[Any, ...]] = rows(conn, TRY_LOCK, {"key": AGEING_KEY})
    return bool(found[0][0])


def age(conn: Connection, seconds: float, limit: int, deep: int = DEEP) -> list[str]:
    """Let up to `limit` messages rise that wait in lanes behind others: by one for each `seconds` that they have waited
    since they might have run. Returns their ids. Call it in the transaction of `try_lock`.
    """
    return [row[0] for row in rows(conn, AGE, {"seconds": seconds, "limit": limit, "deep": deep})]
