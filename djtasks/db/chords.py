"""Chords: opened with their headers, counted down by the ends of their parts, closed by the last one.

The end of a part is counted in `djtasks.db.finish`, and in `fall` for what never runs. Whoever is told that a chord is
complete closes it in the same transaction.
"""

from collections.abc import Collection, Sequence
from typing import Any, LiteralString, NamedTuple

from djtasks.db.connections import Connection, rows
from djtasks.messages import Chord, Fallen


class Cause(NamedTuple):
    """How something ended, for what stands behind it."""

    #: FAILURE or REVOKED.
    state: str
    #: The encoded exception.
    result: bytes | None
    content_type: str = "application/json"
    content_encoding: str = ""
    traceback: str | None = None


class Complete(NamedTuple):
    """A chord of which all parts have ended."""

    id: str
    #: The body's signature, as JSON.
    body: str
    body_id: str | None
    root_id: str | None
    #: The lowest number of a part that has failed.
    failed: int | None


class Ended(NamedTuple):
    """The end of a part."""

    part: int
    task: str
    failed: bool
    content_type: str
    content_encoding: str
    result: bytes | None


OPEN: LiteralString = """
    INSERT INTO djtasks_chord (id, size, body, body_id, root_id)
    SELECT id, size, body, body_id, root_id
    FROM unnest(
        %(ids)s::uuid[], %(sizes)s::integer[], %(bodies)s::text[], %(body_ids)s::uuid[], %(root_ids)s::uuid[]
    ) AS opened (id, size, body, body_id, root_id)
    ON CONFLICT (id) DO NOTHING
    RETURNING id::text
"""


def open_chords(conn: Connection, chords: Sequence[Chord]) -> set[str]:
    """Write the chords, in the transaction that writes their headers; return the ids that were not there yet."""
    ids, sizes, bodies, body_ids, root_ids = map(list, zip(*chords, strict=True))
    params = {"ids": ids, "sizes": sizes, "bodies": bodies, "body_ids": body_ids, "root_ids": root_ids}
    return {row[0] for row in rows(conn, OPEN, params)}


#: The members of an open chord are none of ours to run: what was said of it is all there is.
#: A row that says STARTED, or a state of the task's own, is that of a run which another task has replaced.
FALL: LiteralString = """
    WITH fallen AS (
        SELECT *
        FROM unnest(
            %(ids)s::uuid[], %(names)s::text[], %(queues)s::text[], %(root_ids)s::uuid[], %(parent_ids)s::uuid[],
            %(group_ids)s::uuid[], %(chords)s::uuid[], %(parts)s::integer[]
        ) AS fallen (id, name, queue, root_id, parent_id, group_id, chord, part)
    ), stored AS (
        INSERT INTO djtasks_result (
            id, done, state, name, queue, root_id, parent_id, group_id, content_type, content_encoding, result,
            traceback
        )
        SELECT
            id, statement_timestamp(), %(state)s, name, queue, root_id, parent_id, group_id, %(content_type)s,
            %(content_encoding)s, %(result)s::bytea, %(traceback)s
        FROM fallen
        ON CONFLICT (id) DO UPDATE SET
            done = excluded.done, state = excluded.state, content_type = excluded.content_type,
            content_encoding = excluded.content_encoding, result = excluded.result, traceback = excluded.traceback
        WHERE djtasks_result.done IS NULL OR djtasks_result.state NOT IN ('SUCCESS', 'FAILURE', 'REVOKED')
    ), part AS (
        INSERT INTO djtasks_part (chord, part, task, failed, content_type, content_encoding, result)
        SELECT fallen.chord, fallen.part, fallen.id, true, %(content_type)s, %(content_encoding)s, %(result)s::bytea
        FROM fallen
        WHERE EXISTS (SELECT FROM djtasks_chord AS c WHERE c.id = fallen.chord)
        ON CONFLICT (chord, part) DO NOTHING
        RETURNING chord, part
    ), counted AS (
        UPDATE djtasks_chord AS c
        SET ended = c.ended + news.ended, failed = least(c.failed, news.failed)
        FROM (
            SELECT chord, count(*) AS ended, min(part) AS failed FROM part GROUP BY chord ORDER BY chord
        ) AS news
        WHERE c.id = news.chord
        RETURNING c.id, c.ended >= c.size AS complete
    )
    SELECT id::text FROM counted WHERE complete
"""


def fall(conn: Connection, cause: Cause, fallen: Sequence[Fallen]) -> list[str]:
    """Store the ends of what never runs; return the chords that are complete by that, to be closed in this transaction.

    Locks are taken in id order.
    """
    names = ("ids", "names", "queues", "root_ids", "parent_ids", "group_ids", "chords", "parts")
    columns = zip(*sorted(set(fallen), key=lambda each: each.id), strict=True)
    params: dict[str, Any] = {name: list(values) for name, values in zip(names, columns, strict=True)}
    return [row[0] for row in rows(conn, FALL, {**params, **cause._asdict()})]


TAKE: LiteralString = """
    DELETE FROM djtasks_chord WHERE id = ANY (%(ids)s::uuid[]) AND ended >= size
    RETURNING id::text, body, body_id::text, root_id::text, failed
"""
ENDED: LiteralString = """
    DELETE FROM djtasks_part WHERE chord = ANY (%(chords)s::uuid[])
    RETURNING chord::text, part, task::text, failed, content_type, content_encoding, result
"""


def take(conn: Connection, ids: Collection[str]) -> list[Complete]:
    """Take the complete ones of these chords out of their table; call `ended` for them in the same transaction."""
    return sorted(Complete._make(row) for row in rows(conn, TAKE, {"ids": sorted(ids)}))


def ended(conn: Connection, chords: Sequence[str]) -> dict[str, list[Ended]]:
    """Take the parts of these chords out of their table, in their order.

    A statement of its own, after the one that has counted the last part: that one does not see the others.
    """
    found: dict[str, list[Ended]] = {chord: [] for chord in chords}
    for chord, part, task, failed, kind, encoding, result in rows(conn, ENDED, {"chords": list(chords)}):
        found[chord].append(Ended(part, task, failed, kind, encoding, None if result is None else bytes(result)))
    for parts in found.values():
        parts.sort(key=_by_part)
    return found


def _by_part(ended: Ended) -> int:
    return ended.part


GROW: LiteralString = """
    UPDATE djtasks_chord SET size = size + %(more)s WHERE id = %(chord)s::uuid AND ended < size
    RETURNING size - %(more)s
"""


def grow(conn: Connection, chord: str, more: int) -> int | None:
    """Let the chord wait for more parts; the number of the first of them, or None when it is not open any more."""
    found = rows(conn, GROW, {"chord": chord, "more": more})
    return found[0][0] if found else None


PROGRESS: LiteralString = """
    SELECT id::text, ended, size, failed FROM djtasks_chord WHERE id = ANY (%(ids)s::uuid[])
"""


def progress(conn: Connection, ids: Collection[str]) -> dict[str, tuple[int, int, int | None]]:
    """How many parts of these chords have ended, how many there are, and the lowest failed one; of those still open."""
    return {row[0]: (row[1], row[2], row[3]) for row in rows(conn, PROGRESS, {"ids": sorted(ids)})}


#: One probe of the index for each chord that has parts. A chord and its parts come and go in one transaction, so what
#: one statement sees without the other belongs to nothing.
PRUNE_PARTS: LiteralString = """
    WITH RECURSIVE waiting AS (
        (SELECT chord FROM djtasks_part ORDER BY chord LIMIT 1)
        UNION ALL
        SELECT (SELECT p.chord FROM djtasks_part AS p WHERE p.chord > w.chord ORDER BY p.chord LIMIT 1)
        FROM waiting AS w
        WHERE w.chord IS NOT NULL
    )
    DELETE FROM djtasks_part
    WHERE chord = ANY (ARRAY (
        SELECT w.chord FROM waiting AS w WHERE NOT EXISTS (SELECT FROM djtasks_chord AS c WHERE c.id = w.chord)
    ))
    RETURNING chord::text
"""


def prune_parts(conn: Connection) -> int:
    """Delete parts of chords that are gone; return how many."""
    return len(rows(conn, PRUNE_PARTS))


#: A part may still come of any message of the workflow, or of one that names the chord: as its own, in its chain, or in
#: the body of another chord. Only for old chords of which the workflow's own messages are gone is all of that read.
STALE: LiteralString = """
    SELECT c.id::text FROM djtasks_chord AS c
    WHERE c.created < statement_timestamp() - %(age)s * interval '1 second' AND c.ended < c.size
        AND NOT EXISTS (SELECT FROM djtasks_message AS m WHERE m.root_id = c.root_id)
        AND NOT EXISTS (SELECT FROM djtasks_message AS m WHERE m.id = c.root_id)
        AND NOT EXISTS (
            SELECT FROM djtasks_message AS m
            WHERE m.chord = c.id OR strpos(m.headers, c.id::text) > 0
        )
        AND NOT EXISTS (SELECT FROM djtasks_chord AS outer_one WHERE strpos(outer_one.body, c.id::text) > 0)
    ORDER BY c.created
    LIMIT %(limit)s
"""


def stale(conn: Connection, age: float, limit: int = 20) -> list[str]:
    """The oldest of the chords that are older than so many seconds, and of which no part can come any more."""
    return [row[0] for row in rows(conn, STALE, {"age": age, "limit": limit})]


FORSAKE: LiteralString = """
    WITH forsaken AS MATERIALIZED (
        SELECT id, size FROM djtasks_chord WHERE id = ANY (%(ids)s::uuid[]) AND ended < size ORDER BY id FOR UPDATE
    ), part AS (
        INSERT INTO djtasks_part (chord, part, task, failed, content_type, content_encoding, result)
        SELECT f.id, n, f.id, true, %(content_type)s, %(content_encoding)s, %(result)s::bytea
        FROM forsaken AS f, generate_series(0, f.size - 1) AS n
        ON CONFLICT (chord, part) DO NOTHING
        RETURNING chord, part
    )
    UPDATE djtasks_chord AS c
    SET ended = c.size, failed = least(c.failed, (SELECT min(part) FROM part WHERE part.chord = c.id))
    FROM forsaken
    WHERE c.id = forsaken.id
    RETURNING c.id::text
"""


def forsake(conn: Connection, cause: Cause, ids: Collection[str]) -> list[str]:
    """Let the parts that these chords miss have failed; return the chords that are complete by that."""
    params = cause._asdict()
    del params["state"], params["traceback"]
    return [row[0] for row in rows(conn, FORSAKE, {**params, "ids": sorted(ids)})]
