"""Rates: messages that were claimed and may not start yet, and how they are taken again.

They keep `reason` rate while they run: whatever puts them back leaves them where their rate is asked for.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, LiteralString

from djtasks.db.arrays import Integers, Texts
from djtasks.db.claims import CLAIMED
from djtasks.db.connections import Connection, rows
from djtasks.messages import Claimed

Fence = tuple[int, str]

PARK: LiteralString = """
    UPDATE djtasks_message AS m
    SET owner = NULL, claim = NULL, lane = NULL, reason = 'rate'
    FROM unnest(%(ids)s::uuid[], %(claims)s::bigint[]) AS held (id, claim)
    WHERE m.id = held.id AND m.owner = %(owner)s AND m.claim = held.claim
    RETURNING m.id::text
"""


def park(conn: Connection, owner: int, fences: Iterable[Fence]) -> set[str]:
    """Set messages aside that may not start yet, for whichever worker's rate allows it first."""
    ordered = sorted(fences, key=lambda fence: fence[1])
    params = {"owner": owner, "claims": [fence[0] for fence in ordered], "ids": [fence[1] for fence in ordered]}
    return {row[0] for row in rows(conn, PARK, params)}


#: What stands at the head of a lane and may not start is moved out of the way, many at a time.
PARK_BACKLOG: LiteralString = """
    WITH head AS MATERIALIZED (
        SELECT id, name FROM djtasks_message
        WHERE lane = %(lane)s AND owner IS NULL
        ORDER BY lane, priority DESC, position
        LIMIT %(limit)s
    ), picked AS MATERIALIZED (
        SELECT m.id
        FROM head JOIN djtasks_message AS m ON m.id = head.id
        WHERE head.name = ANY (%(names)s::text[]) AND m.lane = %(lane)s AND m.owner IS NULL
        FOR UPDATE OF m SKIP LOCKED
    )
    UPDATE djtasks_message AS m
    SET lane = NULL, reason = 'rate'
    FROM picked
    WHERE m.id = picked.id
    RETURNING m.id::text
"""


def park_backlog(conn: Connection, lane: str, names: Collection[str], limit: int = 2000) -> int:
    """Set aside those of the next `limit` messages of a lane that are of these names; return how many."""
    return len(rows(conn, PARK_BACKLOG, {"lane": lane, "names": list(names), "limit": limit}))


#: From name to name along the index, however many messages of each were set aside.
NAMES: LiteralString = """
    WITH RECURSIVE parked AS (
        (
            SELECT name FROM djtasks_message WHERE lane IS NULL AND reason = 'rate'
            ORDER BY name, queue, priority DESC, position LIMIT 1
        )
        UNION ALL
        SELECT next.name
        FROM parked, LATERAL (
            SELECT name FROM djtasks_message WHERE lane IS NULL AND reason = 'rate' AND name > parked.name
            ORDER BY name, queue, priority DESC, position LIMIT 1
        ) AS next
    )
    SELECT name FROM parked
"""


def names(conn: Connection) -> list[str]:
    """The names of which messages were set aside, among them some of which all run by now."""
    return [row[0] for row in rows(conn, NAMES)]


CLAIM: LiteralString = (
    """
    WITH me AS (
        SELECT incarnation FROM djtasks_worker WHERE incarnation = %(owner)s FOR KEY SHARE
    ), picked AS MATERIALIZED (
        SELECT waiting.id, row_number() OVER () AS nth
        FROM (
            SELECT candidate.id
            FROM me, unnest(%(names)s::text[], %(counts)s::integer[]) AS wanted (name, count),
            LATERAL (
                SELECT each.id
                FROM unnest(%(queues)s::text[]) AS served (queue),
                LATERAL (
                    SELECT id, priority, position FROM djtasks_message
                    WHERE lane IS NULL AND reason = 'rate' AND name = wanted.name AND queue = served.queue
                        AND owner IS NULL
                    ORDER BY name, queue, priority DESC, position
                    LIMIT wanted.count
                    FOR UPDATE SKIP LOCKED
                ) AS each
                ORDER BY each.priority DESC, each.position
                LIMIT wanted.count
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
)


def claim(
    conn: Any,
    owner: int,
    first: int,
    counts: Mapping[str, int],
    queues: Sequence[str],
    limit: int,
    *,
    rerun: Sequence[str] = (),
) -> list[Claimed]:
    """Take what was set aside: so many of each name, `limit` in all, higher priority first, then position.

    As `djtasks.db.claims.claim`, which takes what is in a lane.
    """
    params = {
        "owner": owner,
        "first": first,
        "names": Texts(list(counts)),
        "counts": Integers(list(counts.values())),
        "queues": Texts(queues),
        "limit": limit,
        "rerun": Texts(rerun),
    }
    return sorted(Claimed._make(row) for row in conn.execute(CLAIM, params, binary=True))
