"""Claims: how a worker takes messages, and what is known of the ones it holds.

A claim is one statement, in autocommit: no lock or transaction outlives it. It is also the durable mark that the
messages have begun, since whatever is claimed is handed over at once: a worker claims no more than its pool has room
for.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Any, LiteralString, NamedTuple

from djtasks.db.arrays import Bigints, Smallints, Texts
from djtasks.db.connections import Connection, rows
from djtasks.db.pipe import Question, Statement
from djtasks.messages import Claimed

#: The columns of `Claimed`, of a message `m`.
CLAIMED: LiteralString = """
    m.claim, m.id::text, m.name, m.queue, m.priority, m.retries, m.crashes, m.rerun,
    m.body, m.content_type, m.content_encoding, m.headers,
    extract(epoch FROM m.eta)::float8, extract(epoch FROM m.expires)::float8, extract(epoch FROM m.created)::float8,
    m.limit_key, m.redelivered, coalesce(m.expires <= statement_timestamp(), false),
    EXISTS (SELECT FROM djtasks_revocation), m.chord::text, m.part
"""


class Scan(NamedTuple):
    """Where a claim looks: one lane, priorities from `low` to `high`, positions after `after`."""

    lane: str
    low: int
    high: int
    after: int


#: `me` is held FOR KEY SHARE: whoever declares this worker dead locks the row, and so waits out this claim.
CLAIM: LiteralString = (
    """
    WITH me AS (
        SELECT incarnation FROM djtasks_worker WHERE incarnation = %(owner)s FOR KEY SHARE
    ), picked AS MATERIALIZED (
        SELECT waiting.id, waiting.position, row_number() OVER () AS nth
        FROM (
            SELECT candidate.id, candidate.position
            FROM me, unnest(%(lanes)s::text[], %(lows)s::smallint[], %(highs)s::smallint[], %(afters)s::bigint[])
                AS scan (lane, low, high, after),
            LATERAL (
                SELECT id, position
                FROM djtasks_message
                WHERE lane = scan.lane AND priority BETWEEN scan.low AND scan.high AND position > scan.after
                    AND owner IS NULL AND name <> ALL (%(unknown)s::text[])
                ORDER BY priority DESC, position
                FOR UPDATE SKIP LOCKED
            ) AS candidate
            LIMIT %(limit)s
        ) AS waiting
    )
    UPDATE djtasks_message AS m
    SET owner = %(owner)s, claim = %(first)s + picked.nth - 1, rerun = name = ANY (%(rerun)s::text[])
    FROM picked
    WHERE m.id = picked.id
    RETURNING """
    + CLAIMED
    + ", m.position"
)
#: The same where priorities rise (QUEUE_AGEING): what has risen runs with the priority of its call. No mark can be set
#: by it, for that priority is not where it stood: its position is said to be -1.
CLAIM_AGED: LiteralString = (
    CLAIM.replace("SELECT id, position\n", "SELECT id, position, aged\n")
    .replace("candidate.position\n", "candidate.position, candidate.aged\n")
    .replace("waiting.position,", "waiting.position, waiting.aged,")
    .replace(
        "\n    FROM picked\n    WHERE m.id",
        ",\n        priority = m.priority - coalesce(picked.aged, 0), aged = NULL\n    FROM picked\n    WHERE m.id",
    )
    .replace(", m.position", ", CASE WHEN picked.aged IS NULL THEN m.position ELSE -1 END")
)


def claim(
    conn: Any,
    owner: int,
    first: int,
    scans: Sequence[Scan],
    limit: int,
    *,
    rerun: Sequence[str] = (),
    unknown: Sequence[str] = (),
    aged: bool = False,
) -> tuple[list[Claimed], list[int]]:
    """Take up to `limit` messages, in the order of `scans`; within one, higher priority first, then position.

    They get the claim numbers `first`, `first + 1`, … . Names in `rerun` are marked to run again when the worker is
    lost; names in `unknown` are left alone; `aged` says that priorities rise. Returns the messages and their
    positions. A worker without a row of its own gets nothing.
    """
    params = _params(owner, first, scans, limit, rerun, unknown)
    return claimed(conn.execute(CLAIM_AGED if aged else CLAIM, params, binary=True).fetchall())


def claimed(found: list[tuple[Any, ...]]) -> tuple[list[Claimed], list[int]]:
    """The messages and their positions, in the order in which they were claimed."""
    found.sort()
    return [Claimed._make(row[:-1]) for row in found], [row[-1] for row in found]


def _params(
    owner: int, first: int, scans: Sequence[Scan], limit: int, rerun: Sequence[str], unknown: Sequence[str]
) -> dict[str, Any]:
    lanes, lows, highs, afters = zip(*scans, strict=True)
    return {
        "owner": owner,
        "first": first,
        "lanes": Texts(lanes),
        "lows": Smallints(lows),
        "highs": Smallints(highs),
        "afters": Bigints(afters),
        "limit": limit,
        "rerun": Texts(rerun),
        "unknown": Texts(unknown),
    }


_CLAIM, _CLAIM_AGED = Statement(CLAIM), Statement(CLAIM_AGED)


def claiming(
    owner: int,
    first: int,
    scans: Sequence[Scan],
    limit: int,
    answered: Callable[[Question], None],
    *,
    rerun: Sequence[str] = (),
    unknown: Sequence[str] = (),
    aged: bool = False,
) -> Question:
    """`claim` for a pipe; `claimed` reads the rows of the answer."""
    return Question(_CLAIM_AGED if aged else _CLAIM, _params(owner, first, scans, limit, rerun, unknown), answered)


#: Two statements of one transaction: the second one's snapshot is taken when the lock has waited out the lost claim.
LOCK_WORKER: LiteralString = "SELECT incarnation FROM djtasks_worker WHERE incarnation = %(owner)s FOR UPDATE"
RECLAIM: LiteralString = """
    UPDATE djtasks_message
    SET owner = NULL, claim = NULL
    WHERE owner = %(owner)s AND claim <> ALL (%(held)s::bigint[])
    RETURNING id::text
"""


def lock_worker(conn: Connection, owner: int) -> bool:
    """Lock the worker's row until the transaction ends; False if it is gone. Waits for a claim still in flight."""
    return bool(rows(conn, LOCK_WORKER, {"owner": owner}))


def reclaim(conn: Connection, owner: int, held: Collection[int]) -> list[str]:
    """Release what the table says is `owner`'s but whose claim is not in `held`: a claim whose answer was lost.

    Call it in the transaction of `lock_worker`.
    """
    return [row[0] for row in rows(conn, RECLAIM, {"owner": owner, "held": list(held)})]


CLAIM_EXPIRED: LiteralString = (
    """
    WITH picked AS MATERIALIZED (
        SELECT past.id, row_number() OVER () AS nth
        FROM (
            SELECT id FROM djtasks_message
            WHERE expires <= statement_timestamp() AND owner IS NULL
            ORDER BY expires
            LIMIT %(limit)s
            FOR UPDATE SKIP LOCKED
        ) AS past
    )
    UPDATE djtasks_message AS m
    SET owner = %(owner)s, claim = %(first)s + picked.nth - 1
    FROM picked
    WHERE m.id = picked.id
    RETURNING """
    + CLAIMED
)


def claim_expired(conn: Any, owner: int, first: int, limit: int = 200) -> list[Claimed]:
    """Take waiting messages that are past their expiry, wherever they stand, to end them as REVOKED.

    Needs no worker row: finish them in the same transaction.
    """
    params = {"owner": owner, "first": first, "limit": limit}
    return sorted(Claimed._make(row) for row in conn.execute(CLAIM_EXPIRED, params, binary=True))


OWNED: LiteralString = (
    "SELECT " + CLAIMED + " FROM djtasks_message AS m WHERE m.owner = %(owner)s ORDER BY m.id FOR UPDATE SKIP LOCKED"
)


def owned(conn: Any, owner: int) -> list[Claimed]:
    """Lock and read what `owner` holds. Reads the whole table: for a death, not for a Tuesday.

    What a statement of its own still locks is left out: nobody who rescues waits for a session that may hang.
    """
    return [Claimed._make(row) for row in conn.execute(OWNED, {"owner": owner}, binary=True)]


CLAIM_WAITING: LiteralString = (
    """
    WITH picked AS MATERIALIZED (
        SELECT waiting.id, row_number() OVER () AS nth
        FROM (
            SELECT id FROM djtasks_message
            WHERE queue = ANY (%(queues)s::text[]) AND owner IS NULL
            LIMIT %(limit)s
            FOR UPDATE SKIP LOCKED
        ) AS waiting
    )
    UPDATE djtasks_message AS m
    SET owner = %(owner)s, claim = %(first)s + picked.nth - 1
    FROM picked
    WHERE m.id = picked.id
    RETURNING """
    + CLAIMED
)


def claim_waiting(conn: Any, owner: int, first: int, queues: Collection[str], limit: int = 1000) -> list[Claimed]:
    """Take whatever waits in these queues, now or for later, to end it without running it (purge).

    Needs no worker row: finish them in the same transaction.
    """
    params = {"owner": owner, "first": first, "queues": list(queues), "limit": limit}
    return sorted(Claimed._make(row) for row in conn.execute(CLAIM_WAITING, params, binary=True))


ORPHANS: LiteralString = """
    SELECT DISTINCT owner FROM djtasks_message AS m
    WHERE owner IS NOT NULL AND NOT EXISTS (SELECT FROM djtasks_worker AS w WHERE w.incarnation = m.owner)
"""


def orphaned_owners(conn: Connection) -> list[int]:
    """The incarnations that hold messages but have no worker row. Reads the whole table."""
    return [row[0] for row in rows(conn, ORPHANS)]
