"""A workflow as the monitor draws it: the tasks around one, and of the others as many as can be read at once."""

from typing import LiteralString

from djtasks.db.connections import Connection, rows
from djtasks.db.families import Relation

#: So many tasks of each table are looked at, however many the workflow has.
WINDOW = 2_000

_MESSAGE: LiteralString = (
    "SELECT m.id, m.name, 'PENDING' AS state, m.root_id, m.parent_id, m.group_id, m.owner IS NOT NULL AS running,"
    " true AS waiting FROM djtasks_message AS m"
)
_RESULT: LiteralString = (
    "SELECT r.id, r.name, r.state, r.root_id, r.parent_id, r.group_id, false AS running, false AS waiting"
    " FROM djtasks_result AS r"
)
#: A range and an order that only one index has.
_OF_ROOT: LiteralString = (
    ", root WHERE X.root_id >= root.id AND X.root_id <= root.id ORDER BY X.root_id LIMIT %(window)s"
)
NEAR: LiteralString = (
    """
    WITH root AS MATERIALIZED (
        SELECT coalesce(
            (SELECT root_id FROM djtasks_message WHERE id = %(id)s::uuid),
            (SELECT root_id FROM djtasks_result WHERE id = %(id)s::uuid),
            %(id)s::uuid
        ) AS id
    ), near AS (
    """
    + " UNION ".join([
        "(" + _MESSAGE + " WHERE m.id = %(id)s::uuid)",
        "(" + _RESULT + " WHERE r.id = %(id)s::uuid)",
        "(" + _MESSAGE + ", root WHERE m.id = root.id)",
        "(" + _RESULT + ", root WHERE r.id = root.id)",
        "(" + _MESSAGE + _OF_ROOT.replace("X", "m") + ")",
        "(" + _RESULT + _OF_ROOT.replace("X", "r") + ")",
    ])
    + """
    )
    SELECT id::text, min(name), coalesce(max(state) FILTER (WHERE NOT waiting), 'PENDING'), min(root_id::text),
        min(parent_id::text), min(group_id::text), bool_or(running), bool_or(waiting)
    FROM near GROUP BY near.id
    ORDER BY near.id = %(id)s::uuid DESC, near.id = (SELECT id FROM root) DESC,
        coalesce(min(parent_id::text) = %(id)s::text, false) DESC, near.id
    LIMIT %(limit)s
    """
)  # fmt: skip


def near(conn: Connection, task_id: str, limit: int) -> list[Relation]:
    """This task, the first one of its workflow, what came of it, and others, by their ids; up to so many."""
    return sorted(Relation._make(row) for row in rows(conn, NEAR, {"id": task_id, "limit": limit, "window": WINDOW}))
