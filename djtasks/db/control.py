"""Commands: what workers are told to do at once, and what they answer."""

import json
from collections.abc import Collection, Mapping
from typing import Any, LiteralString, NamedTuple

from djtasks.db.connections import Connection, rows


class Command(NamedTuple):
    """A command, as a worker reads it."""

    id: int
    name: str
    arguments: dict[str, Any]
    #: The nodes it is for; None for all.
    destination: list[str] | None


SEND: LiteralString = """
    INSERT INTO djtasks_command (name, arguments, destination, expires, by)
    VALUES (
        %(name)s, %(arguments)s::jsonb, %(destination)s::jsonb,
        statement_timestamp() + %(seconds)s * interval '1 second', %(by)s
    )
    RETURNING id
"""


def send(
    conn: Connection,
    name: str,
    arguments: Mapping[str, Any],
    destination: Collection[str] | None,
    *,
    seconds: float,
    by: str = "",
) -> int:
    """Write a command that is good for so many seconds; returns its number. Commit, then `ring`."""
    params = {
        "name": name,
        "arguments": json.dumps(dict(arguments)),
        "destination": None if destination is None else json.dumps(list(destination)),
        "seconds": seconds,
        "by": by,
    }
    number: int = rows(conn, SEND, params)[0][0]
    return number


RING: LiteralString = """
    SELECT name, pg_notify('djtasks_worker_' || incarnation, 'control') FROM djtasks_worker
    WHERE (%(all)s OR name = ANY (%(destination)s::text[]))
        AND heartbeat > statement_timestamp() - %(alive)s * interval '1 second'
"""


def ring(conn: Connection, destination: Collection[str] | None, alive: float) -> list[str]:
    """Have these workers look at their commands; returns the names of those whose heart has beaten lately."""
    params = {"all": destination is None, "destination": list(destination or ()), "alive": alive}
    return [row[0] for row in rows(conn, RING, params)]


NEWS: LiteralString = """
    SELECT
        EXISTS (SELECT FROM djtasks_revocation),
        EXISTS (SELECT FROM djtasks_command WHERE expires > statement_timestamp() AND id <> ALL (%(seen)s::bigint[]))
"""


def news(conn: Connection, seen: Collection[int]) -> tuple[bool, bool]:
    """Whether there are revocations, and commands that are not in `seen`."""
    revocations, commands = rows(conn, NEWS, {"seen": list(seen)})[0]
    return revocations, commands


INBOX: LiteralString = """
    SELECT id, name, arguments, destination FROM djtasks_command
    WHERE expires > statement_timestamp() AND id <> ALL (%(seen)s::bigint[])
    ORDER BY id
"""


def inbox(conn: Connection, seen: Collection[int]) -> list[Command]:
    """The commands that are good now and not in `seen`, in the order in which they were given."""
    return [Command._make(row) for row in rows(conn, INBOX, {"seen": list(seen)})]


REPLY: LiteralString = """
    INSERT INTO djtasks_reply (command_id, worker, body)
    SELECT id, %(worker)s, %(body)s::jsonb FROM djtasks_command WHERE id = %(command)s
    RETURNING id
"""


def reply(conn: Connection, command: int, worker: str, body: Any) -> None:
    """Answer a command with what JSON can say; to one that is gone nobody listens."""
    rows(conn, REPLY, {"command": command, "worker": worker, "body": json.dumps(body)})


REPLIES: LiteralString = "SELECT worker, body FROM djtasks_reply WHERE command_id = %(command)s ORDER BY id"


def replies(conn: Connection, command: int) -> list[tuple[str, Any]]:
    """What workers have answered so far."""
    return [(row[0], row[1]) for row in rows(conn, REPLIES, {"command": command})]


PRUNE: LiteralString = """
    WITH old AS (
        SELECT id FROM djtasks_command
        WHERE expires < statement_timestamp() - interval '1 minute'
            AND (name = ANY (%(reading)s::text[]) OR expires < statement_timestamp() - %(keep)s * interval '1 second')
        LIMIT %(limit)s
        FOR UPDATE SKIP LOCKED
    ), answers AS (
        DELETE FROM djtasks_reply USING old WHERE command_id = old.id
    )
    DELETE FROM djtasks_command AS c USING old WHERE c.id = old.id RETURNING c.id
"""


def prune(conn: Connection, keep: float = 0.0, limit: int = 1000, reading: Collection[str] = ("ping",)) -> int:
    """Forget commands and their answers that have been over for `keep` seconds, and for a minute at least.

    Those of `reading`, which change nothing, are forgotten after a minute. Returns how many commands there were,
    `limit` at most.
    """
    return len(rows(conn, PRUNE, {"keep": keep, "limit": limit, "reading": list(reading)}))
