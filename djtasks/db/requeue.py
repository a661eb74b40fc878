"""Requeue: what is known of tasks that are to run again, and what is taken out of the way of that.

The rows of messages are written first and the results deleted after: all that enqueue takes their locks in this order.
"""

from collections.abc import Sequence
from typing import LiteralString, NamedTuple

from djtasks.db.connections import Connection, rows


class Ended(NamedTuple):
    """The result of a task that has ended; `body` None: its arguments were not kept."""

    id: str
    #: As PostgreSQL writes it: what has another one is another end.
    done: str
    name: str
    queue: str
    priority: int
    headers: str | None
    body: bytes | None
    content_type: str | None
    content_encoding: str | None


ENDED: LiteralString = """
    SELECT id::text, done::text, name, queue, priority, headers, body, body_content_type, body_content_encoding
    FROM djtasks_result AS r
    WHERE id = ANY (%(ids)s::uuid[]) AND done IS NOT NULL
        AND NOT EXISTS (SELECT FROM djtasks_message AS m WHERE m.id = r.id)
    ORDER BY r.done, r.id
"""


def ended(conn: Connection, ids: Sequence[str]) -> list[Ended]:
    """The results of those of these tasks that have ended, in the order in which they did."""
    found = [Ended._make(row) for row in rows(conn, ENDED, {"ids": list(ids)})]
    return [each._replace(body=None if each.body is None else bytes(each.body)) for each in found]


REMOVE: LiteralString = """
    DELETE FROM djtasks_result AS r
    USING unnest(%(ids)s::uuid[], %(dones)s::text[]) AS seen (id, done)
    WHERE r.id = seen.id AND r.done = seen.done::timestamptz
    RETURNING r.id::text
"""
#: A task that is put back on purpose is not to be revoked for what was said of it before.
FORGIVE: LiteralString = """
    DELETE FROM djtasks_revocation WHERE task_id = ANY (%(ids)s::uuid[]) RETURNING task_id::text
"""
MARK: LiteralString = """
    UPDATE djtasks_message SET redelivered = true WHERE id = ANY (%(ids)s::uuid[]) RETURNING id::text
"""


def replace(conn: Connection, letters: Sequence[Ended]) -> set[str]:
    """Remove these results, in the transaction that has written their messages; return the ids that had not changed."""
    ids = [each.id for each in letters]
    rows(conn, MARK, {"ids": ids})
    rows(conn, FORGIVE, {"ids": ids})
    return {row[0] for row in rows(conn, REMOVE, {"ids": ids, "dones": [each.done for each in letters]})}


HURRY: LiteralString = """
    UPDATE djtasks_message AS m
    SET eta = NULL, lane = CASE WHEN m.limit_key IS NULL THEN m.queue END,
        reason = CASE WHEN m.limit_key IS NOT NULL THEN 'limit' END
    WHERE m.id = ANY (%(ids)s::uuid[]) AND m.owner IS NULL AND m.lane IS NULL AND m.reason = 'eta'
    RETURNING m.id::text, m.queue
"""


def hurry(conn: Connection, ids: Sequence[str]) -> dict[str, str]:
    """Let those of these run now that wait for their time; return the queue of each."""
    return dict(rows(conn, HURRY, {"ids": list(ids)}))


HELD: LiteralString = "SELECT id::text, owner IS NOT NULL FROM djtasks_message WHERE id = ANY (%(ids)s::uuid[])"


def waiting(conn: Connection, ids: Sequence[str]) -> dict[str, bool]:
    """Those of these that have not ended, and whether a worker has them."""
    return dict(rows(conn, HELD, {"ids": list(ids)}))


class Found(NamedTuple):
    """A task that has ended, for lists."""

    id: str
    #: As PostgreSQL writes it.
    done: str
    name: str
    queue: str
    state: str


_FIND: LiteralString = """
    SELECT id::text, done::text, name, queue, state FROM djtasks_result
    WHERE kind AND done IS NOT NULL AND (done, id) > (%(done)s::timestamptz, %(id)s::uuid)
        AND done >= %(since)s::timestamptz AND done < %(until)s::timestamptz
        AND (%(name)s::text IS NULL OR name = %(name)s) AND (%(queue)s::text IS NULL OR queue = %(queue)s)
    ORDER BY done, id LIMIT %(limit)s
"""
#: Each reads an index of its own, in its order.
DEAD: LiteralString = _FIND.replace("kind", "dead IS NOT NULL")
FAILED: LiteralString = _FIND.replace("kind", "state <> 'SUCCESS' AND state = 'FAILURE'")
_FIRST = ("-infinity", "00000000-0000-0000-0000-000000000000")


def find(
    conn: Connection,
    query: LiteralString,
    since: str | None,
    until: str,
    name: str | None,
    queue: str | None,
    after: Found | None,
    limit: int,
) -> list[Found]:
    """Of what DEAD or FAILED means, those that ended in this time, of this task and queue (None: any); after that one.

    `since` and `until` are times as PostgreSQL reads them.
    """
    done, task_id = _FIRST if after is None else (after.done, after.id)
    params = {"done": done, "id": task_id, "since": since or "-infinity", "until": until}
    return [Found._make(row) for row in rows(conn, query, {**params, "name": name, "queue": queue, "limit": limit})]


NOW: LiteralString = "SELECT statement_timestamp()::text"


def now(conn: Connection) -> str:
    """The database's time, as it writes it."""
    return str(rows(conn, NOW)[0][0])
