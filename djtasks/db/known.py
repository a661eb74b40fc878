"""All that is known of a task, wherever it stands: its message and its result as one row."""

from collections.abc import Sequence
from typing import LiteralString, NamedTuple

from djtasks.db.connections import Connection, rows


class Known(NamedTuple):
    """One task. Of its message only what is there while it waits or runs; of its result what was stored by now.

    Times are seconds since the epoch.
    """

    id: str
    name: str
    queue: str
    priority: int
    #: The state that is stored; None where nothing is.
    state: str | None
    #: There is a message: it waits, or runs.
    unended: bool
    #: The message is in a worker's hands.
    held: bool
    created: float
    started: float | None
    done: float | None
    #: The node that ran it last, or runs it.
    worker: str | None
    headers: str | None
    body: bytes | None
    body_content_type: str | None
    body_content_encoding: str | None
    result: bytes | None
    content_type: str | None
    content_encoding: str | None
    traceback: str | None


#: A message that was enqueued anew under the id of a task that has ended counts, not what that one has left.
KNOWN: LiteralString = """
    SELECT
        wanted.id::text, coalesce(m.name, r.name), coalesce(m.queue, r.queue), coalesce(m.priority, r.priority),
        r.state, m.id IS NOT NULL, m.owner IS NOT NULL,
        extract(epoch FROM coalesce(m.created, r.created))::float8, extract(epoch FROM r.started)::float8,
        extract(epoch FROM r.done)::float8, r.worker,
        coalesce(m.headers, r.headers), coalesce(m.body, r.body), coalesce(m.content_type, r.body_content_type),
        coalesce(m.content_encoding, r.body_content_encoding),
        r.result, r.content_type, r.content_encoding, r.traceback
    FROM unnest(%(ids)s::uuid[]) AS wanted (id)
    LEFT JOIN djtasks_message AS m ON m.id = wanted.id
    LEFT JOIN djtasks_result AS r ON r.id = wanted.id AND (m.id IS NULL OR r.done IS NULL)
    WHERE m.id IS NOT NULL OR r.id IS NOT NULL
"""


def known(conn: Connection, ids: Sequence[str]) -> dict[str, Known]:
    """What is known of these tasks, in one statement; an id that no row has is not in the answer."""
    found = [Known._make(row) for row in rows(conn, KNOWN, {"ids": list(ids)})]
    return {
        each.id: each._replace(
            body=None if each.body is None else bytes(each.body),
            result=None if each.result is None else bytes(each.result),
        )
        for each in found
    }
