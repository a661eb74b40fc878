"""Many tasks at once: how they stand, in one query, and the saved results of groups."""

from collections.abc import Sequence
from typing import LiteralString

from djtasks.db.connections import Connection, rows

#: An id of which nothing is known but that it is revoked is REVOKED; one that stands for another task is as that is.
#: The ids are one text and are named once: there may be a hundred thousand.
_ENDED: LiteralString = """
    WITH asked AS MATERIALIZED (
        SELECT id FROM unnest(%(ids)s::uuid[]) AS given (id)
    ), ended AS (
        SELECT r.id, r.state
        FROM asked JOIN djtasks_result AS r ON r.id = asked.id
        WHERE r.state IN ('SUCCESS', 'FAILURE', 'REVOKED')
        UNION ALL
        SELECT v.task_id, 'REVOKED'
        FROM asked JOIN djtasks_revocation AS v ON v.task_id = asked.id
        WHERE v.expires > statement_timestamp()
            AND NOT EXISTS (SELECT FROM djtasks_result AS r WHERE r.id = v.task_id)
            AND NOT EXISTS (SELECT FROM djtasks_message AS m WHERE m.id = v.task_id)
        UNION ALL
        SELECT a.id, r.state
        FROM asked JOIN djtasks_alias AS a ON a.id = asked.id JOIN djtasks_result AS r ON r.id = a.target
        WHERE r.state IN ('SUCCESS', 'FAILURE', 'REVOKED')
            AND NOT EXISTS (SELECT FROM djtasks_result AS own WHERE own.id = a.id)
            AND NOT EXISTS (SELECT FROM djtasks_message AS m WHERE m.id = a.id)
    )
"""
ENDS: LiteralString = _ENDED + "SELECT id::text, state FROM ended"
COUNT_ENDS: LiteralString = _ENDED + "SELECT state, count(*) FROM ended GROUP BY state"


def ends(conn: Connection, ids: Sequence[str]) -> dict[str, str]:
    """The states of those of these tasks that have ended."""
    return dict(rows(conn, ENDS, {"ids": _array(ids)}))


def count_ends(conn: Connection, ids: Sequence[str]) -> dict[str, int]:
    """How many of these tasks have ended in which state; each id is given once."""
    return dict(rows(conn, COUNT_ENDS, {"ids": _array(ids)}))


def _array(ids: Sequence[str]) -> str:
    return f"{{{','.join(ids)}}}"


SAVE: LiteralString = """
    INSERT INTO djtasks_group (id, result, expires)
    VALUES (%(id)s::uuid, %(result)s::bytea, statement_timestamp() + %(seconds)s::float8 * interval '1 second')
    ON CONFLICT (id) DO UPDATE SET result = excluded.result, expires = excluded.expires
    RETURNING id::text
"""


def save(conn: Connection, group_id: str, result: bytes, seconds: float | None) -> None:
    """Keep the result of a group for so long; None: for ever."""
    rows(conn, SAVE, {"id": group_id, "result": result, "seconds": seconds})


RESTORE: LiteralString = """
    SELECT result FROM djtasks_group
    WHERE id = %(id)s::uuid AND (expires IS NULL OR expires > statement_timestamp())
"""


def restore(conn: Connection, group_id: str) -> bytes | None:
    """What was saved of this group; None when nothing is."""
    found = rows(conn, RESTORE, {"id": group_id})
    return bytes(found[0][0]) if found else None


DELETE: LiteralString = "DELETE FROM djtasks_group WHERE id = ANY (%(ids)s::uuid[]) RETURNING id::text"


def delete(conn: Connection, ids: Sequence[str]) -> int:
    """Delete what was saved of these groups; return of how many there was something."""
    return len(rows(conn, DELETE, {"ids": list(ids)}))


PRUNE: LiteralString = """
    WITH old AS MATERIALIZED (
        SELECT id FROM djtasks_group
        WHERE expires < statement_timestamp()
        ORDER BY expires
        LIMIT %(limit)s
        FOR UPDATE SKIP LOCKED
    )
    DELETE FROM djtasks_group AS g USING old WHERE g.id = old.id RETURNING g.id::text
"""


def prune(conn: Connection, limit: int = 1000) -> int:
    """Delete up to `limit` saved groups whose time is over, the oldest first; return how many."""
    return len(rows(conn, PRUNE, {"limit": limit}))
