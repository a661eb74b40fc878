"""Which tasks came of which: what rows say of their workflows."""

from collections.abc import Sequence
from typing import LiteralString, NamedTuple

from djtasks.db.connections import Connection, rows


class Relation(NamedTuple):
    """One task of a workflow."""

    id: str
    name: str
    #: As a result has it; of a message that has no result: "PENDING".
    state: str
    root_id: str | None
    parent_id: str | None
    group_id: str | None
    #: It is a message still, and a worker has it.
    running: bool
    #: It is a message still.
    waiting: bool


#: The root of a task that no row knows is taken to be itself: it may have begun a workflow, and left no result.
CHILDREN: LiteralString = """
    WITH root AS (
        SELECT coalesce(
            (SELECT root_id FROM djtasks_message WHERE id = %(id)s::uuid),
            (SELECT root_id FROM djtasks_result WHERE id = %(id)s::uuid),
            %(id)s::uuid
        ) AS id
    )
    SELECT r.id::text, r.name, r.state, r.root_id::text, r.parent_id::text, r.group_id::text, false, false
    FROM djtasks_result AS r, root
    WHERE r.root_id = root.id AND r.parent_id = %(id)s::uuid
    UNION ALL
    SELECT
        m.id::text, m.name, 'PENDING', m.root_id::text, m.parent_id::text, m.group_id::text, m.owner IS NOT NULL, true
    FROM djtasks_message AS m, root
    WHERE m.root_id = root.id AND m.parent_id = %(id)s::uuid
        AND NOT EXISTS (SELECT FROM djtasks_result AS r WHERE r.id = m.id)
    ORDER BY 1
"""


def children(conn: Connection, task_id: str) -> list[Relation]:
    """The tasks that came of this one, in the order of their ids."""
    return [Relation._make(row) for row in rows(conn, CHILDREN, {"id": task_id})]


#: Two branches, each by an index of its own: an OR between them would be a reading of the whole table on older servers.
WORKFLOW: LiteralString = """
    WITH root AS (
        SELECT coalesce(
            (SELECT root_id FROM djtasks_message WHERE id = %(id)s::uuid),
            (SELECT root_id FROM djtasks_result WHERE id = %(id)s::uuid),
            %(id)s::uuid
        ) AS id
    ), ended AS (
        SELECT id, name, state, root_id, parent_id, group_id
        FROM (
            SELECT r.* FROM djtasks_result AS r, root WHERE r.root_id = root.id
            UNION ALL
            SELECT r.* FROM djtasks_result AS r, root WHERE r.id = root.id AND r.root_id IS DISTINCT FROM root.id
        ) AS r
        ORDER BY id = %(id)s::uuid DESC, id
        LIMIT %(limit)s
    ), waiting AS (
        SELECT id, name, root_id, parent_id, group_id, owner IS NOT NULL AS running
        FROM (
            SELECT m.* FROM djtasks_message AS m, root WHERE m.root_id = root.id
            UNION ALL
            SELECT m.* FROM djtasks_message AS m, root WHERE m.id = root.id AND m.root_id IS DISTINCT FROM root.id
        ) AS m
        ORDER BY id = %(id)s::uuid DESC, id
        LIMIT %(limit)s
    )
    SELECT
        coalesce(e.id, w.id)::text, coalesce(e.name, w.name), coalesce(e.state, 'PENDING'),
        coalesce(e.root_id, w.root_id)::text, coalesce(e.parent_id, w.parent_id)::text,
        coalesce(e.group_id, w.group_id)::text, coalesce(w.running, false), w.id IS NOT NULL
    FROM ended AS e FULL JOIN waiting AS w ON w.id = e.id
    ORDER BY coalesce(e.id, w.id) = %(id)s::uuid DESC, coalesce(e.id, w.id)
    LIMIT %(limit)s
"""


def workflow(conn: Connection, task_id: str, limit: int) -> list[Relation]:
    """The tasks of the workflow that this task is of, in the order of their ids: up to so many, and this one."""
    return sorted(Relation._make(row) for row in rows(conn, WORKFLOW, {"id": task_id, "limit": limit}))


SIZE: LiteralString = """
    SELECT count(*) FROM (
        SELECT id FROM djtasks_result WHERE root_id = %(root)s::uuid
        UNION
        SELECT id FROM djtasks_message WHERE root_id = %(root)s::uuid
        UNION
        SELECT %(root)s::uuid
    ) AS tasks
"""


def size(conn: Connection, root_id: str) -> int:
    """How many tasks the workflow has that began with this one."""
    count: int = rows(conn, SIZE, {"root": root_id})[0][0]
    return count


class Open(NamedTuple):
    """A chord that waits."""

    id: str
    size: int
    ended: int
    failed: int | None
    body_id: str | None
    #: The name of the body's task, where the body is one task.
    body: str


CHORDS: LiteralString = """
    SELECT id::text, size, ended, failed, body_id::text, coalesce(left(body::json ->> 'task', 200), '')
    FROM djtasks_chord
    WHERE root_id = ANY (%(roots)s::uuid[]) OR id = ANY (%(groups)s::uuid[])
    ORDER BY id
    LIMIT %(limit)s
"""


def open_chords(conn: Connection, roots: Sequence[str], groups: Sequence[str], limit: int) -> list[Open]:
    """The chords of these workflows, or of these groups, that wait for their headers, up to so many of them."""
    params = {"roots": list(roots), "groups": list(groups), "limit": limit}
    return [Open._make(row) for row in rows(conn, CHORDS, params)]
