"""Unique keys: who has a key already, and whose id stands for which task.

A key is held by the row of a message, from its enqueue to its end. The id of a call that found its key held, and was
not refused, is an alias of the holder's.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import LiteralString, NamedTuple

from djtasks.db.connections import Connection, rows


class Holder(NamedTuple):
    """The message that has a key."""

    key: str
    id: str
    #: A worker has it in its hands.
    runs: bool


HOLDERS: LiteralString = """
    SELECT unique_key, id::text, owner IS NOT NULL FROM djtasks_message WHERE unique_key = ANY (%(keys)s::text[])
"""


def holders(conn: Connection, keys: Collection[str]) -> dict[str, Holder]:
    """Who has these keys, by key."""
    return {row[0]: Holder._make(row) for row in rows(conn, HOLDERS, {"keys": list(keys)})}


class Taken(NamedTuple):
    """A message that was taken out of its queue, to be ended."""

    claim: int
    id: str
    name: str
    headers: str | None


TAKE: LiteralString = """
    WITH picked AS MATERIALIZED (
        SELECT held.id, row_number() OVER () AS nth
        FROM (
            SELECT id FROM djtasks_message
            WHERE unique_key = ANY (%(keys)s::text[]) AND owner IS NULL
            ORDER BY unique_key
            FOR UPDATE SKIP LOCKED
        ) AS held
    )
    UPDATE djtasks_message AS m
    SET owner = %(owner)s, claim = picked.nth
    FROM picked
    WHERE m.id = picked.id
    RETURNING m.claim, m.id::text, m.name, m.headers
"""


def take(conn: Connection, owner: int, keys: Collection[str]) -> list[Taken]:
    """Take the messages that wait under these keys, under an incarnation that is nobody's, to end them.

    What runs, or is just being claimed, is left alone. Finish them in the same transaction.
    """
    return [Taken._make(row) for row in rows(conn, TAKE, {"owner": owner, "keys": list(keys)})]


STORE: LiteralString = """
    INSERT INTO djtasks_alias (id, target, expires)
    SELECT id, target, statement_timestamp() + %(seconds)s * interval '1 second'
    FROM unnest(%(ids)s::uuid[], %(targets)s::uuid[]) AS given (id, target)
    ORDER BY id
    ON CONFLICT (id) DO UPDATE SET target = excluded.target, expires = excluded.expires
    RETURNING id::text
"""


def store_aliases(conn: Connection, targets: Mapping[str, str], seconds: float) -> None:
    """Let these ids stand for those tasks, for so long."""
    rows(conn, STORE, {"ids": list(targets), "targets": list(targets.values()), "seconds": seconds})


RESOLVE: LiteralString = "SELECT id::text, target::text FROM djtasks_alias WHERE id = ANY (%(ids)s::uuid[])"


def resolve(conn: Connection, ids: Sequence[str]) -> dict[str, str]:
    """The tasks for which these ids stand; an id that stands for itself is not in the answer."""
    return {row[0]: row[1] for row in rows(conn, RESOLVE, {"ids": list(ids)})}


FORGET: LiteralString = "DELETE FROM djtasks_alias WHERE id = ANY (%(ids)s::uuid[]) RETURNING id::text"


def forget_aliases(conn: Connection, ids: Sequence[str]) -> None:
    """These ids stand for themselves again."""
    rows(conn, FORGET, {"ids": list(ids)})


PRUNE: LiteralString = """
    WITH old AS MATERIALIZED (
        SELECT id FROM djtasks_alias WHERE expires < statement_timestamp()
        ORDER BY expires LIMIT %(limit)s FOR UPDATE SKIP LOCKED
    )
    DELETE FROM djtasks_alias AS a USING old WHERE a.id = old.id RETURNING a.id::text
"""


def prune_aliases(conn: Connection, limit: int = 1000) -> int:
    """Delete up to so many aliases whose time is over; return how many."""
    return len(rows(conn, PRUNE, {"limit": limit}))
