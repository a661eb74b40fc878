"""What is not to be said again too soon, by whichever process."""

from djtasks.db.connections import Connection

MAY_SPEAK = """
    WITH before AS (SELECT held FROM djtasks_throttle WHERE key = %(key)s),
    spoken AS (
        INSERT INTO djtasks_throttle AS throttle (key, until, held)
        VALUES (%(key)s, clock_timestamp() + make_interval(secs => %(every)s), 0)
        ON CONFLICT (key) DO UPDATE
        SET until = CASE WHEN throttle.until <= clock_timestamp() THEN excluded.until ELSE throttle.until END,
            held = CASE WHEN throttle.until <= clock_timestamp() THEN 0 ELSE throttle.held + 1 END
        RETURNING held
    )
    SELECT spoken.held, coalesce(before.held, 0) FROM spoken LEFT JOIN before ON true
"""

# A statement of its own, that waits for nobody: two that hold a key each could otherwise wait for one another.
FORGET = """
    DELETE FROM djtasks_throttle
    WHERE key IN (
        SELECT key FROM djtasks_throttle WHERE until < clock_timestamp() - interval '7 days'
        LIMIT 1000 FOR UPDATE SKIP LOCKED
    )
"""


def may_speak(conn: Connection, key: str, every: float) -> int | None:
    """Whether what `key` names may be said now, which it may once in `every` seconds over all processes.

    The answer is how often it was held back since the last time, or None: it is held back now.
    """
    with conn.cursor() as cursor:
        cursor.execute(MAY_SPEAK, {"key": key, "every": every})
        held, before = cursor.fetchone() or (1, 0)
        if held:
            return None
        cursor.execute(FORGET)
    return int(before)
