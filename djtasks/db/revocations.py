"""Revocations: tasks, workflows and stamps that are not to run any more, and the messages that this means.

A revocation is written and committed first; then whoever wrote it ends what waits, and tells the workers that hold
the rest. A claim sees by one flag whether there are revocations at all, and asks `matching` only then: what was
claimed a moment before the revocation was committed is found by its writer, which waits for the claim's row locks.
"""

from collections.abc import Collection, Sequence
from typing import Any, LiteralString, NamedTuple

from djtasks.db.arrays import Texts, Uuids
from djtasks.db.claims import CLAIMED
from djtasks.db.connections import Connection, rows
from djtasks.messages import Claimed


class Revoked(NamedTuple):
    """What has been said of a task: whether it is to be ended where it runs, too, and by which signal."""

    terminate: bool
    signal: int | None


class Stamp(NamedTuple):
    """A stamped header that is revoked; `value` is JSON."""

    name: str
    value: str
    terminate: bool
    signal: int | None


class Standing(NamedTuple):
    """Where a task stands."""

    id: str
    #: The incarnation that holds its message; None when it has none, or waits.
    owner: int | None
    #: The pool of that worker; None when it has no row.
    pool: str | None
    #: The state in which it has ended, else None.
    state: str | None
    waits: bool


REVOKE_TASKS: LiteralString = """
    INSERT INTO djtasks_revocation (task_id, terminate, signal, expires, by)
    SELECT id, %(terminate)s, %(signal)s, statement_timestamp() + %(seconds)s * interval '1 second', %(by)s
    FROM unnest(%(ids)s::uuid[]) AS id
    ON CONFLICT (task_id) WHERE task_id IS NOT NULL DO UPDATE SET
        terminate = djtasks_revocation.terminate OR excluded.terminate,
        signal = coalesce(excluded.signal, djtasks_revocation.signal), expires = excluded.expires
    RETURNING id
"""
REVOKE_ROOTS: LiteralString = """
    INSERT INTO djtasks_revocation (root_id, terminate, signal, expires, by)
    SELECT id, %(terminate)s, %(signal)s, statement_timestamp() + %(seconds)s * interval '1 second', %(by)s
    FROM unnest(%(ids)s::uuid[]) AS id
    ON CONFLICT (root_id) WHERE root_id IS NOT NULL DO UPDATE SET
        terminate = djtasks_revocation.terminate OR excluded.terminate,
        signal = coalesce(excluded.signal, djtasks_revocation.signal), expires = excluded.expires
    RETURNING id
"""
REVOKE_STAMPS: LiteralString = """
    INSERT INTO djtasks_revocation (stamp, value, terminate, signal, expires, by)
    SELECT stamp, value, %(terminate)s, %(signal)s,
        statement_timestamp() + %(seconds)s * interval '1 second', %(by)s
    FROM unnest(%(stamps)s::text[], %(values)s::text[]) AS stamped (stamp, value)
    ON CONFLICT (stamp, value) WHERE stamp IS NOT NULL DO UPDATE SET
        terminate = djtasks_revocation.terminate OR excluded.terminate,
        signal = coalesce(excluded.signal, djtasks_revocation.signal), expires = excluded.expires
    RETURNING id
"""


def _said(terminate: bool, signal: int | None, seconds: float, by: str) -> dict[str, Any]:
    return {"terminate": terminate, "signal": signal, "seconds": seconds, "by": by}


def revoke_tasks(
    conn: Connection, ids: Collection[str], *, terminate: bool, signal: int | None, seconds: float, by: str
) -> None:
    """These tasks are not to run, for so many seconds from now. Needs a private connection."""
    rows(conn, REVOKE_TASKS, {"ids": Uuids(sorted(ids)), **_said(terminate, signal, seconds, by)})


def revoke_roots(
    conn: Connection, ids: Collection[str], *, terminate: bool, signal: int | None, seconds: float, by: str
) -> None:
    """These workflows are not to go on: the tasks of these ids, and all that came of them."""
    rows(conn, REVOKE_ROOTS, {"ids": Uuids(sorted(ids)), **_said(terminate, signal, seconds, by)})


def revoke_stamps(
    conn: Connection,
    stamps: Collection[tuple[str, str]],
    *,
    terminate: bool,
    signal: int | None,
    seconds: float,
    by: str,
) -> None:
    """Tasks that have one of these stamps, (name, JSON of a value), are not to run."""
    names, values = zip(*sorted(stamps), strict=True)
    params = {"stamps": Texts(names), "values": Texts(values), **_said(terminate, signal, seconds, by)}
    rows(conn, REVOKE_STAMPS, params)


#: One branch an index: an OR would read the whole table.
TAKE: LiteralString = (
    """
    WITH wanted AS MATERIALIZED (
        SELECT unnest(%(ids)s::uuid[]) AS id
        UNION
        SELECT m.id FROM unnest(%(roots)s::uuid[]) AS root (id) JOIN djtasks_message AS m ON m.root_id = root.id
    ), picked AS MATERIALIZED (
        SELECT waiting.id, row_number() OVER () AS nth
        FROM (
            SELECT m.id FROM wanted JOIN djtasks_message AS m ON m.id = wanted.id
            WHERE m.owner IS NULL
            ORDER BY m.id
            FOR UPDATE OF m
        ) AS waiting
    )
    UPDATE djtasks_message AS m
    SET owner = %(owner)s, claim = %(first)s + picked.nth - 1
    FROM picked
    WHERE m.id = picked.id
    RETURNING """
    + CLAIMED
)


def take(conn: Any, owner: int, first: int, ids: Collection[str], roots: Collection[str] = ()) -> list[Claimed]:
    """Take the waiting messages of these tasks and workflows, to end them.

    Waits for whoever has them locked: a claim in flight is over when this returns. Needs no worker row: finish them in
    the same transaction.
    """
    params = {"owner": owner, "first": first, "ids": Uuids(sorted(ids)), "roots": Uuids(sorted(roots))}
    return sorted(Claimed._make(row) for row in conn.execute(TAKE, params, binary=True))


STANDINGS: LiteralString = """
    WITH wanted AS MATERIALIZED (
        SELECT unnest(%(ids)s::uuid[]) AS id
        UNION
        SELECT m.id FROM unnest(%(roots)s::uuid[]) AS root (id) JOIN djtasks_message AS m ON m.root_id = root.id
    )
    SELECT
        wanted.id::text, m.owner, (SELECT pool FROM djtasks_worker AS w WHERE w.incarnation = m.owner),
        (SELECT state FROM djtasks_result AS r WHERE r.id = wanted.id AND r.done IS NOT NULL),
        m.id IS NOT NULL AND m.owner IS NULL
    FROM wanted LEFT JOIN djtasks_message AS m ON m.id = wanted.id
"""


def standings(conn: Connection, ids: Collection[str], roots: Collection[str] = ()) -> list[Standing]:
    """Where these tasks, and those of these workflows that wait or run, stand."""
    params = {"ids": Uuids(sorted(ids)), "roots": Uuids(sorted(roots))}
    return [Standing._make(row) for row in rows(conn, STANDINGS, params)]


DROP: LiteralString = """
    DELETE FROM djtasks_revocation AS r USING unnest(%(ids)s::uuid[]) AS gone (id)
    WHERE r.task_id = gone.id AND EXISTS (SELECT FROM djtasks_result WHERE id = gone.id AND done IS NOT NULL)
    RETURNING r.id
"""


def drop(conn: Connection, ids: Collection[str]) -> None:
    """Forget the revocations of tasks whose stored end says it all, so that one may be requeued on purpose."""
    rows(conn, DROP, {"ids": Uuids(sorted(ids))})


TELL: LiteralString = (
    "SELECT pg_notify('djtasks_worker_' || owner, 'control') FROM unnest(%(owners)s::bigint[]) AS owner"
)


def tell(conn: Connection, owners: Collection[int]) -> None:
    """Have these workers look at what has been revoked. Call it after the commit."""
    rows(conn, TELL, {"owners": sorted(owners)})


STAMPED: LiteralString = """
    SELECT id::text, headers FROM djtasks_message
    WHERE headers LIKE '%%"stamped_headers"%%' AND id > %(after)s::uuid
    ORDER BY id
    LIMIT %(limit)s
"""


def stamped(conn: Connection, after: str, limit: int = 1000) -> list[tuple[str, str]]:
    """The next messages after this id that have stamps, and their headers."""
    return [(row[0], row[1]) for row in rows(conn, STAMPED, {"after": after, "limit": limit})]


MATCHING: LiteralString = """
    SELECT m.id::text, bool_or(said.terminate), max(said.signal)
    FROM unnest(%(ids)s::uuid[]) AS held (id)
    JOIN djtasks_message AS m ON m.id = held.id
    JOIN LATERAL (
        SELECT terminate, signal FROM djtasks_revocation AS r
        WHERE r.task_id = m.id AND r.expires > statement_timestamp()
        UNION ALL
        SELECT terminate, signal FROM djtasks_revocation AS r
        WHERE r.root_id = coalesce(m.root_id, m.id) AND r.expires > statement_timestamp()
    ) AS said ON true
    GROUP BY m.id
"""


def matching(conn: Connection, ids: Sequence[str]) -> dict[str, Revoked]:
    """Which of these messages are revoked, by their own id or as a part of a workflow."""
    found = rows(conn, MATCHING, {"ids": Uuids(sorted(ids))})
    return {task_id: Revoked(terminate, signal) for task_id, terminate, signal in found}


STAMPS: LiteralString = """
    SELECT stamp, value, terminate, signal FROM djtasks_revocation
    WHERE stamp IS NOT NULL AND expires > statement_timestamp()
"""


def stamps(conn: Connection) -> list[Stamp]:
    """The stamps that are revoked."""
    return [Stamp._make(row) for row in rows(conn, STAMPS)]


WAITING: LiteralString = """
    SELECT m.id::text FROM djtasks_revocation AS r JOIN djtasks_message AS m ON m.id = r.task_id
    WHERE m.owner IS NULL AND r.expires > statement_timestamp()
    UNION
    SELECT m.id::text FROM djtasks_revocation AS r JOIN djtasks_message AS m ON m.id = r.root_id
    WHERE m.owner IS NULL AND r.expires > statement_timestamp()
    UNION
    SELECT m.id::text FROM djtasks_revocation AS r JOIN djtasks_message AS m ON m.root_id = r.root_id
    WHERE m.owner IS NULL AND r.expires > statement_timestamp()
    LIMIT %(limit)s
"""


def waiting(conn: Connection, limit: int = 1000) -> list[str]:
    """Messages that wait although they are revoked: those that came, or were put back, after the revocation."""
    return [row[0] for row in rows(conn, WAITING, {"limit": limit})]


PRUNE: LiteralString = "DELETE FROM djtasks_revocation WHERE expires <= statement_timestamp() RETURNING id"


def prune(conn: Connection) -> int:
    """Forget what is past its time; return how many there were."""
    return len(rows(conn, PRUNE))


ANY: LiteralString = "SELECT EXISTS (SELECT FROM djtasks_revocation)"


def any_at_all(conn: Connection) -> bool:
    """Whether there is any revocation."""
    return bool(rows(conn, ANY)[0][0])


ALIASES: LiteralString = """
    SELECT id::text, target::text FROM djtasks_alias WHERE id = ANY (%(ids)s::uuid[])
"""


def aliases(conn: Connection, ids: Collection[str]) -> dict[str, str]:
    """The tasks that stand for calls which were found to be repeats of them."""
    return dict(rows(conn, ALIASES, {"ids": Uuids(sorted(ids))})) if ids else {}
