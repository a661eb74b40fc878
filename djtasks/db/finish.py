"""Finish: the one exit. A message leaves its table only here.

One statement deletes the messages whose fence still holds and writes their results; what it does not return was
refused, because the message has meanwhile become somebody else's.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, LiteralString

import psycopg

from djtasks.db.arrays import Bigints, Blobs, Booleans, Floats, Texts, Uuids
from djtasks.db.connections import Connection, rows
from djtasks.db.pipe import Question, Statement
from djtasks.messages import Outcome

FINISH: LiteralString = """
    WITH ended AS (
        SELECT *
        FROM unnest(
            %(ids)s::uuid[], %(claims)s::bigint[], %(states)s::text[], %(results)s::bytea[],
            %(content_types)s::text[], %(content_encodings)s::text[], %(tracebacks)s::text[], %(stores)s::boolean[],
            %(keeps)s::boolean[], %(starts)s::float8[]
        ) AS run (
            id, claim, state, result, content_type, content_encoding, traceback, store, keep, started
        )
    ), gone AS (
        DELETE FROM djtasks_message AS m
        USING ended
        WHERE m.id = ended.id AND m.owner = %(owner)s AND m.claim = ended.claim
        RETURNING
            m.id, m.claim, m.created, m.retries, m.priority, m.name, m.queue,
            m.root_id, m.parent_id, m.group_id, m.periodic,
            ended.state, ended.content_type, ended.content_encoding, ended.result, ended.traceback, ended.store,
            ended.started,
            CASE WHEN ended.keep THEN m.headers END AS headers,
            CASE WHEN ended.keep THEN m.body END AS body,
            CASE WHEN ended.keep THEN m.content_type END AS body_content_type,
            CASE WHEN ended.keep THEN m.content_encoding END AS body_content_encoding
    ), stored AS (
        INSERT INTO djtasks_result (
            id, owner, claim, created, started, done, retries, priority, state, name, queue, worker,
            root_id, parent_id, group_id, periodic,
            content_type, content_encoding, result, traceback, headers, body, body_content_type, body_content_encoding
        )
        SELECT
            id, %(owner)s, claim, created, CASE WHEN started > 0 THEN to_timestamp(started) END,
            statement_timestamp(), retries, priority, state, name, queue, %(worker)s,
            root_id, parent_id, group_id, periodic,
            content_type, content_encoding, result, traceback, headers, body, body_content_type, body_content_encoding
        FROM gone
        WHERE store
        ON CONFLICT (id) DO UPDATE SET
            owner = excluded.owner, claim = excluded.claim, started = excluded.started, done = excluded.done,
            retries = excluded.retries, priority = excluded.priority, state = excluded.state, name = excluded.name,
            queue = excluded.queue, worker = excluded.worker, root_id = excluded.root_id,
            parent_id = excluded.parent_id, group_id = excluded.group_id, periodic = excluded.periodic,
            content_type = excluded.content_type, content_encoding = excluded.content_encoding,
            result = excluded.result, traceback = excluded.traceback,
            headers = excluded.headers, body = excluded.body, body_content_type = excluded.body_content_type,
            body_content_encoding = excluded.body_content_encoding
        WHERE djtasks_result.done IS NULL
    ), closed AS (
        UPDATE djtasks_result AS r SET done = coalesce(r.done, statement_timestamp())
        FROM gone
        WHERE r.id = gone.id AND NOT gone.store
    )
    SELECT id::text FROM gone
"""


#: What counts a part of a chord: its row is there once, and so counts once. The chord's row is locked at the very end,
#: for the commit alone.
_PARTS: LiteralString = """
    ), part AS (
        INSERT INTO djtasks_part (chord, part, task, failed, content_type, content_encoding, result)
        SELECT
            gone.chord, gone.part, gone.id, gone.state NOT IN ('SUCCESS', 'IGNORED'),
            gone.content_type, gone.content_encoding, gone.result
        FROM gone
        WHERE gone.counts AND EXISTS (SELECT FROM djtasks_chord AS c WHERE c.id = gone.chord)
        ON CONFLICT (chord, part) DO NOTHING
        RETURNING chord, part, failed
    ), counted AS (
        UPDATE djtasks_chord AS c
        SET ended = c.ended + news.ended, failed = least(c.failed, news.failed)
        FROM (
            SELECT chord, count(*) AS ended, min(part) FILTER (WHERE failed) AS failed
            FROM part GROUP BY chord ORDER BY chord
        ) AS news
        WHERE c.id = news.chord
        RETURNING c.id, c.ended >= c.size AS complete
    )
    SELECT id::text, false FROM gone
    UNION ALL
    SELECT id::text, true FROM counted WHERE complete
"""
FINISH_PARTS: LiteralString = (
    FINISH.replace("%(starts)s::float8[]\n", "%(starts)s::float8[], %(counts)s::boolean[]\n")
    .replace("keep, started\n        )", "keep, started, counts\n        )")
    .replace("m.periodic,\n            ended", "m.periodic, m.chord, m.part, ended.counts,\n            ended")
    .replace("    )\n    SELECT id::text FROM gone\n", _PARTS)
)
#: The same as one transaction, for a pipe: with the last part of a chord much more is to be written, so a chord that
#: this batch may complete is left alone, and returned. That can only be said under the chord's lock.
_LOCKED: LiteralString = """
    WITH locked AS MATERIALIZED (
        SELECT c.id, c.ended + news.parts >= c.size AS last
        FROM unnest(%(chords)s::uuid[], %(parts)s::bigint[]) AS news (id, parts)
        JOIN djtasks_chord AS c ON c.id = news.id
        ORDER BY c.id
        FOR UPDATE OF c
    ), ended AS ("""
_OPEN: LiteralString = """m.claim = ended.claim
            AND (m.chord IS NULL OR m.chord <> ALL (ARRAY (SELECT id FROM locked WHERE last)))
"""
FINISH_OPEN: LiteralString = (
    FINISH_PARTS.replace("\n    WITH ended AS (", _LOCKED, 1)
    .replace("m.claim = ended.claim\n", _OPEN)
    .replace(", %(counts)s::boolean[]\n", "\n")
    .replace(", started, counts\n        )", ", started\n        )")
    .replace("m.part, ended.counts,", "m.part,")
    .replace(
        "WHERE gone.counts AND EXISTS (SELECT FROM djtasks_chord AS c WHERE c.id = gone.chord)",
        "WHERE EXISTS (SELECT FROM locked WHERE locked.id = gone.chord)",
    )
    .replace("SELECT id::text, true FROM counted WHERE complete", "SELECT id::text, true FROM locked WHERE last")
)


def finish_parts(
    conn: Connection, owner: int, outcomes: Sequence[Outcome], worker: str | None
) -> tuple[set[str], list[str]]:
    """As `finish`, for messages that may be parts of chords; returns also the chords of which all parts have ended.

    Call it in a transaction, and close those chords in the same one.
    """
    plain = not isinstance(conn, psycopg.Connection)
    params = finish_params(owner, outcomes, worker, plain=plain)
    counts = [not outcome.replaced for outcome in sorted(outcomes, key=_by_id)]
    found = rows(conn, FINISH_PARTS, {**params, "counts": counts if plain else Booleans(counts)})
    return {row[0] for row in found if not row[1]}, [row[0] for row in found if row[1]]


def finish(conn: Connection, owner: int, outcomes: Sequence[Outcome], worker: str | None) -> set[str]:
    """End the messages and store their results; return the ids whose fence still held.

    `conn` is a private connection, or Django's. `worker` is the name of the node that ran them. Locks are taken in id
    order.
    """
    plain = not isinstance(conn, psycopg.Connection)
    return {row[0] for row in rows(conn, FINISH, finish_params(owner, outcomes, worker, plain=plain))}


def finish_params(
    owner: int, outcomes: Sequence[Outcome], worker: str | None, *, plain: bool = False
) -> dict[str, Any]:
    """The parameters of FINISH; with `plain` as lists, for a cursor of Django's, which does not know binary arrays."""
    ordered = sorted(outcomes, key=_by_id)
    columns = zip(*ordered, strict=True)
    params: dict[str, Any] = {
        name: list(values) if plain else array(values) for (name, array), values in zip(_PARAMS, columns, strict=False)
    }
    params["owner"] = owner
    params["worker"] = worker
    return params


_FINISH, _FINISH_OPEN = Statement(FINISH), Statement(FINISH_OPEN)


def finishing(
    owner: int,
    outcomes: Sequence[Outcome],
    worker: str | None,
    answered: Callable[[Question], None],
    parts: Mapping[str, int] | None = None,
) -> Question:
    """`finish` for a pipe; the first column of the answer are the ids.

    `parts` says how many of the outcomes are of each chord. Those whose chord they might complete are left out, and
    for these the chord's id stands in the answer, with true in the second column.
    """
    if not parts:
        return Question(_FINISH, finish_params(owner, outcomes, worker), answered)
    ordered = sorted(parts)
    counts = Bigints([parts[chord] for chord in ordered])
    params = {**finish_params(owner, outcomes, worker), "chords": Uuids(ordered), "parts": counts}
    return Question(_FINISH_OPEN, params, answered)


#: The parameters of FINISH in the order of Outcome's fields; `runtime` and `again` are not written.
_PARAMS = (
    ("claims", Bigints),
    ("ids", Uuids),
    ("states", Texts),
    ("results", Blobs),
    ("content_types", Texts),
    ("content_encodings", Texts),
    ("tracebacks", Texts),
    ("stores", Booleans),
    ("keeps", Booleans),
    ("starts", Floats),
)


def _by_id(outcome: Outcome) -> str:
    return outcome.id


CONFIRM: LiteralString = """
    SELECT id::text FROM djtasks_result
    WHERE id = ANY (%(ids)s::uuid[]) AND owner = %(owner)s AND claim = ANY (%(claims)s::bigint[]) AND done IS NOT NULL
"""


def confirm(conn: Connection, owner: int, outcomes: Collection[Outcome]) -> set[str]:
    """Which of these an earlier finish of `owner`'s own has stored: its answer was lost, its commit was not."""
    params = {
        "owner": owner,
        "ids": [outcome.id for outcome in outcomes],
        "claims": [outcome.claim for outcome in outcomes],
    }
    return {row[0] for row in rows(conn, CONFIRM, params)}


HELD: LiteralString = """
    SELECT id::text FROM djtasks_message
    WHERE id = %(id)s::uuid AND owner = %(owner)s AND claim = %(claim)s
    FOR UPDATE
"""


def is_held(conn: Connection, owner: int, claim: int, task_id: str) -> bool:
    """Whether the message is still under this fence. Waits for a transaction that may just be ending it."""
    return bool(rows(conn, HELD, {"id": task_id, "owner": owner, "claim": claim}))
