"""The beginning of what tasks were called with, and of what they left: for the lists of those who may see that."""

from collections.abc import Sequence
from typing import LiteralString, NamedTuple
from uuid import UUID

from djtasks.db.connections import Connection, rows


class Glimpse(NamedTuple):
    """The beginning of what a task was called with, and of what it left."""

    id: UUID
    body: bytes | None
    body_size: int
    content_type: str
    content_encoding: str
    headers: str | None
    result: bytes | None
    result_size: int
    result_type: str
    result_encoding: str


#: Bytes of a payload that stand in a list.
GLIMPSE = 2_000
GLIMPSES: LiteralString = """
    SELECT id, substring(body FROM 1 FOR 2000), length(body), content_type, content_encoding, left(headers, 250000),
        NULL, 0, '', ''
    FROM djtasks_message WHERE id = ANY (%(messages)s::uuid[])
    UNION ALL
    SELECT id, substring(body FROM 1 FOR 2000), coalesce(length(body), 0), coalesce(body_content_type, ''),
        coalesce(body_content_encoding, ''), left(headers, 250000),
        substring(result FROM 1 FOR 2000), coalesce(length(result), 0), content_type, content_encoding
    FROM djtasks_result WHERE id = ANY (%(results)s::uuid[])
"""


def glimpses(conn: Connection, messages: Sequence[UUID], results: Sequence[UUID]) -> dict[UUID, Glimpse]:
    """The payload of these messages and of these results, by their ids; a task's message comes before its result."""
    found = rows(conn, GLIMPSES, {"messages": list(messages), "results": list(results)})
    made = [Glimpse._make(row) for row in found]
    return {each.id: each for each in reversed(made)}
