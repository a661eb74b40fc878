"""Beats: one row for each that runs, for people to see. Nothing depends on them: a beat holds nothing."""

from typing import LiteralString, NamedTuple

from djtasks.db.connections import Connection, rows


class Registration(NamedTuple):
    """What a beat says of itself."""

    incarnation: int
    #: "beat@host"
    name: str
    host: str
    pid: int
    #: It is a part of a worker.
    embedded: bool


BEAT: LiteralString = """
    INSERT INTO djtasks_beat (incarnation, name, host, pid, embedded, started, heartbeat, sent)
    VALUES (
        %(incarnation)s, %(name)s, %(host)s, %(pid)s, %(embedded)s, statement_timestamp(), statement_timestamp(),
        %(sent)s
    )
    ON CONFLICT (incarnation) DO UPDATE SET heartbeat = excluded.heartbeat, sent = excluded.sent
    RETURNING incarnation
"""


def beat(conn: Connection, registration: Registration, sent: int) -> None:
    """Say that a beat lives, and how many tasks it has sent; its row is made if there is none (any more)."""
    rows(conn, BEAT, {**registration._asdict(), "sent": sent})


REMOVE: LiteralString = "DELETE FROM djtasks_beat WHERE incarnation = %(incarnation)s RETURNING incarnation"


def remove(conn: Connection, incarnation: int) -> None:
    """Delete a beat's row: it ends."""
    rows(conn, REMOVE, {"incarnation": incarnation})


PRUNE: LiteralString = """
    DELETE FROM djtasks_beat
    WHERE incarnation IN (
        SELECT incarnation FROM djtasks_beat
        WHERE heartbeat < statement_timestamp() - %(age)s * interval '1 second'
        FOR UPDATE SKIP LOCKED
    )
    RETURNING name
"""


def prune(conn: Connection, age: float) -> list[str]:
    """Delete the rows of beats that have been silent for so many seconds; their names."""
    return [row[0] for row in rows(conn, PRUNE, {"age": age})]
