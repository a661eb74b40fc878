"""Results: fetch, report a state that is no end, forget, prune."""

from collections.abc import Mapping, Sequence
from typing import Any, LiteralString

from djtasks.db import uniques
from djtasks.db.connections import Connection, rows
from djtasks.messages import Progress, Stored

#: A waiting or running message without a result row is PENDING, and says the rest about itself. An id of which nothing
#: is known but that it is revoked is REVOKED, and has no name.
FETCH: LiteralString = """
    SELECT
        id::text, state, result, content_type, content_encoding, traceback, name, queue, worker, retries,
        body, body_content_type, body_content_encoding, headers,
        extract(epoch FROM created)::float8, extract(epoch FROM started)::float8, extract(epoch FROM done)::float8,
        dead
    FROM djtasks_result
    WHERE id = ANY (%(ids)s::uuid[])
    UNION ALL
    SELECT
        m.id::text, 'PENDING', NULL, m.content_type, '', NULL, m.name, m.queue, NULL, m.retries,
        m.body, m.content_type, m.content_encoding, m.headers,
        extract(epoch FROM m.created)::float8, NULL, NULL, NULL
    FROM djtasks_message AS m
    WHERE m.id = ANY (%(ids)s::uuid[]) AND NOT EXISTS (SELECT FROM djtasks_result AS r WHERE r.id = m.id)
    UNION ALL
    SELECT
        v.task_id::text, 'REVOKED', NULL, 'application/json', '', NULL, NULL, NULL, NULL, NULL,
        NULL, NULL, NULL, NULL,
        extract(epoch FROM v.created)::float8, NULL, extract(epoch FROM v.created)::float8, NULL
    FROM djtasks_revocation AS v
    WHERE v.task_id = ANY (%(ids)s::uuid[]) AND v.expires > statement_timestamp()
        AND NOT EXISTS (SELECT FROM djtasks_result AS r WHERE r.id = v.task_id)
        AND NOT EXISTS (SELECT FROM djtasks_message AS m WHERE m.id = v.task_id)
"""


def fetch(conn: Connection, ids: Sequence[str]) -> dict[str, Stored]:
    """What is known of these tasks. An id that no row has, and that stands for no other task, is not in the answer."""
    found = {row[0]: _stored(row) for row in rows(conn, FETCH, {"ids": list(ids)})}
    return found if len(found) == len(ids) else found | _standing_for(conn, FETCH, ids, found)


def _standing_for(
    conn: Connection, query: LiteralString, ids: Sequence[str], found: Mapping[str, Stored]
) -> dict[str, Stored]:
    """What is known of the tasks for which the rest of the ids stand, by these ids."""
    targets = uniques.resolve(conn, [task_id for task_id in ids if task_id not in found])
    if not targets:
        return {}
    known = {row[0]: _stored(row) for row in rows(conn, query, {"ids": list(set(targets.values()))})}
    return {task_id: known[target]._replace(id=task_id) for task_id, target in targets.items() if target in known}


FETCH_ENDED: LiteralString = """
    SELECT
        id::text, state, result, content_type, content_encoding, traceback, name, queue, worker, retries,
        body, body_content_type, body_content_encoding, headers,
        extract(epoch FROM created)::float8, extract(epoch FROM started)::float8, extract(epoch FROM done)::float8,
        dead
    FROM djtasks_result
    WHERE id = ANY (%(ids)s::uuid[]) AND done IS NOT NULL AND state IN ('SUCCESS', 'FAILURE', 'REVOKED')
    UNION ALL
    SELECT
        v.task_id::text, 'REVOKED', NULL, 'application/json', '', NULL, NULL, NULL, NULL, NULL,
        NULL, NULL, NULL, NULL,
        extract(epoch FROM v.created)::float8, NULL, extract(epoch FROM v.created)::float8, NULL
    FROM djtasks_revocation AS v
    WHERE v.task_id = ANY (%(ids)s::uuid[]) AND v.expires > statement_timestamp()
        AND NOT EXISTS (SELECT FROM djtasks_result AS r WHERE r.id = v.task_id)
        AND NOT EXISTS (SELECT FROM djtasks_message AS m WHERE m.id = v.task_id)
"""


def fetch_ended(conn: Connection, ids: Sequence[str]) -> dict[str, Stored]:
    """The results of those of these tasks that have ended."""
    return {row[0]: _stored(row) for row in rows(conn, FETCH_ENDED, {"ids": list(ids)})}


def fetch_ended_aliases(conn: Connection, ids: Sequence[str]) -> dict[str, Stored]:
    """`fetch_ended` for ids that stand for other tasks: the results of those, by these ids."""
    return _standing_for(conn, FETCH_ENDED, ids, {})


def _stored(row: tuple[Any, ...]) -> Stored:
    """Django's connection hands out memoryviews for bytea, psycopg's bytes."""
    found = Stored._make(row)
    return found._replace(
        result=None if found.result is None else bytes(found.result),
        body=None if found.body is None else bytes(found.body),
    )


EXISTS: LiteralString = """
    SELECT 1 FROM djtasks_result WHERE id = %(id)s::uuid
    UNION ALL
    SELECT 1 FROM djtasks_message WHERE id = %(id)s::uuid
"""


def exists(conn: Connection, task_id: str) -> bool:
    """Whether any row knows this id: waiting, running or ended."""
    return bool(rows(conn, EXISTS, {"id": task_id}))


AGES: LiteralString = """
    SELECT id::text, extract(epoch FROM statement_timestamp() - created)::float8
    FROM djtasks_result WHERE id = ANY (%(ids)s::uuid[])
"""


def ages(conn: Connection, ids: Sequence[str]) -> dict[str, float]:
    """How many seconds ago the tasks of these ids were called, for those that have a result row."""
    return dict(rows(conn, AGES, {"ids": list(ids)}))


#: `claim` 0 stands for a report from outside the task's own run: it needs no fence, but an id that is known. The
#: message is locked against its end, so that no report comes after a finish which stores nothing.
REPORT: LiteralString = """
    WITH report AS (
        SELECT *
        FROM unnest(
            %(claims)s::bigint[], %(ids)s::uuid[], %(states)s::text[], %(metas)s::bytea[],
            %(content_types)s::text[], %(content_encodings)s::text[]
        ) AS reported (claim, id, state, meta, content_type, content_encoding)
    ), unended AS MATERIALIZED (
        SELECT
            m.id, m.owner, m.claim, m.created, m.retries, m.priority, m.name, m.queue,
            report.state, report.meta, report.content_type, report.content_encoding
        FROM report JOIN djtasks_message AS m ON m.id = report.id
        WHERE report.claim = 0 OR (m.owner = %(owner)s AND m.claim = report.claim)
        FOR KEY SHARE OF m
    )
    INSERT INTO djtasks_result (
        id, owner, claim, created, started, retries, priority, state, name, queue, worker,
        content_type, content_encoding, result
    )
    SELECT
        id, owner, claim, created, statement_timestamp(), retries, priority, state, name, queue, %(worker)s,
        content_type, content_encoding, meta
    FROM unended
    ON CONFLICT (id) DO UPDATE SET
        started = CASE
            WHEN excluded.claim IS NOT NULL
                AND (excluded.owner, excluded.claim) IS DISTINCT FROM (djtasks_result.owner, djtasks_result.claim)
            THEN excluded.started
            ELSE djtasks_result.started
        END,
        owner = excluded.owner, claim = excluded.claim, retries = excluded.retries, state = excluded.state,
        worker = coalesce(excluded.worker, djtasks_result.worker), content_type = excluded.content_type,
        content_encoding = excluded.content_encoding, result = excluded.result, traceback = NULL
    WHERE djtasks_result.done IS NULL
    RETURNING id::text
"""


def report(
    conn: Connection, reports: Sequence[Progress], owner: int | None = None, worker: str | None = None
) -> set[str]:
    """Store states that are no end, one for each id; return the ids that took it.

    With a claim number the fence must hold; with 0 the message need only be there. A terminal state stays.
    """
    ordered = sorted(reports, key=lambda each: each.id)
    claims, ids, states, metas, content_types, encodings = map(list, zip(*ordered, strict=True))
    params = {
        "claims": claims,
        "ids": ids,
        "states": states,
        "metas": metas,
        "content_types": content_types,
        "content_encodings": encodings,
        "owner": owner,
        "worker": worker,
    }
    return {row[0] for row in rows(conn, REPORT, params)}


STORE_EAGER: LiteralString = """
    INSERT INTO djtasks_result (
        id, created, started, done, retries, state, name, queue, worker, content_type, content_encoding, result,
        traceback, headers, body, body_content_type, body_content_encoding
    )
    VALUES (
        %(id)s::uuid, coalesce(to_timestamp(%(created)s::float8), statement_timestamp()),
        to_timestamp(%(started)s::float8), statement_timestamp(), coalesce(%(retries)s::integer, 0), %(state)s,
        coalesce(%(name)s, ''), coalesce(%(queue)s, ''), %(worker)s, %(content_type)s, %(content_encoding)s,
        %(result)s::bytea, %(traceback)s, %(headers)s, %(body)s::bytea, %(body_content_type)s,
        %(body_content_encoding)s
    )
    ON CONFLICT (id) DO NOTHING
    RETURNING id::text
"""


def store_eager(conn: Connection, stored: Stored) -> bool:
    """Store the result of a task that ran in its caller's process; False if the id has one already."""
    return bool(rows(conn, STORE_EAGER, stored._asdict()))


FORGET: LiteralString = "DELETE FROM djtasks_result WHERE id = ANY (%(ids)s::uuid[]) RETURNING id::text"


def forget(conn: Connection, ids: Sequence[str]) -> int:
    """Delete these results; return how many there were."""
    return len(rows(conn, FORGET, {"ids": list(ids)}))


FORGET_ENDED: LiteralString = """
    DELETE FROM djtasks_result WHERE id = ANY (%(ids)s::uuid[]) AND done IS NOT NULL RETURNING id::text
"""


def forget_ended(conn: Connection, ids: Sequence[str]) -> int:
    """Delete what earlier tasks of these ids have left; return how many there were.

    Call it in the transaction that has enqueued them anew: the INSERT may have waited for such a task's end, which only
    a later statement sees.
    """
    return len(rows(conn, FORGET_ENDED, {"ids": list(ids)}))


def forget_these(conn: Connection, ids: Sequence[str]) -> set[str]:
    """Delete the results of those of these tasks that have ended; return their ids."""
    return {row[0] for row in rows(conn, FORGET_ENDED, {"ids": list(ids)})}


MARK_DEAD: LiteralString = """
    UPDATE djtasks_result AS r SET dead = letter.dead
    FROM unnest(%(ids)s::uuid[], %(deads)s::text[]) AS letter (id, dead)
    WHERE r.id = letter.id
    RETURNING r.id::text
"""


def mark_dead(conn: Connection, letters: Mapping[str, str]) -> int:
    """Say why these are dead letters, in the transaction that has stored them; return how many there are."""
    ids = sorted(letters)
    return len(rows(conn, MARK_DEAD, {"ids": ids, "deads": [letters[task_id] for task_id in ids]}))


PRUNE: LiteralString = """
    WITH old AS MATERIALIZED (
        SELECT id FROM djtasks_result
        WHERE done < statement_timestamp() - %(age)s * interval '1 second' AND dead IS NULL
        ORDER BY done
        LIMIT %(limit)s
        FOR UPDATE SKIP LOCKED
    )
    DELETE FROM djtasks_result AS r USING old WHERE r.id = old.id RETURNING r.id::text
"""


def prune(conn: Connection, age: float, limit: int = 1000) -> int:
    """Delete up to `limit` results that ended more than `age` seconds ago, the oldest first; return how many."""
    return len(rows(conn, PRUNE, {"age": age, "limit": limit}))


PRUNE_DEAD: LiteralString = """
    WITH old AS MATERIALIZED (
        SELECT id FROM djtasks_result
        WHERE done < statement_timestamp() - %(age)s * interval '1 second' AND dead IS NOT NULL
        ORDER BY done
        LIMIT %(limit)s
        FOR UPDATE SKIP LOCKED
    )
    DELETE FROM djtasks_result AS r USING old WHERE r.id = old.id RETURNING r.id::text
"""


def prune_dead(conn: Connection, age: float, limit: int = 1000) -> int:
    """`prune` for dead letters, which outlive other results."""
    return len(rows(conn, PRUNE_DEAD, {"age": age, "limit": limit}))
