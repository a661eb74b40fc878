"""Plans: who asks for a workflow reads its rows, however many others there are."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from djtasks.db import families, groups
from djtasks.db.connections import open_private
from djtasks.ids import new_task_id
from tests.storage.rows import empty
from tests.storage.test_plans import FEW, explain, nodes, read

OTHERS, ROWS = 10_000, 20


@pytest.fixture(scope="module", autouse=True)
def root(django_db_setup: None, django_db_blocker: Any) -> Iterator[str]:
    """The root of a small workflow, half of which has ended, among many tasks that are alone or of other ones."""
    found = new_task_id()
    with django_db_blocker.unblock(), open_private("test set-up") as conn:
        empty(conn)
        for table, column, value in (("message", "body", "'x'"), ("result", "state", "'SUCCESS'")):
            insert = (
                f"INSERT INTO djtasks_{table} (id, name, queue, {column}, root_id, parent_id)"
                f" SELECT gen_random_uuid(), 'tests.add', 'celery', {value}, {{}}, {{}} FROM generate_series(1, {{}}) n"
            )
            others = "CASE WHEN n > 3000 THEN gen_random_uuid() END"
            conn.execute(insert.format(others, "NULL", OTHERS).encode())
            conn.execute(insert.format(f"'{found}'", f"'{found}'", ROWS).encode())
            conn.execute(f"ANALYZE djtasks_{table}".encode())
        yield found
        conn.execute("TRUNCATE djtasks_message, djtasks_result")


@pytest.fixture(autouse=True)
def _empty_tables(db: None) -> None:
    """Instead of the one that empties them: these tests change nothing."""


def scanned(plan: dict[str, Any]) -> set[str]:
    """The tables that a plan reads whole."""
    return {node["Relation Name"] for node in nodes(plan) if node["Node Type"] == "Seq Scan"} - {"djtasks_chord"}


@pytest.mark.parametrize("statement", [families.CHILDREN, families.WORKFLOW, families.SIZE])
def test_a_workflow_is_found_by_its_root(conn: psycopg.Connection, root: str, statement: Any) -> None:
    plan = explain(conn, statement, {"id": root, "limit": 501, "root": root})
    assert scanned(plan) == set()
    assert read(plan) < 2 * FEW


@pytest.mark.parametrize("statement", [groups.ENDS, groups.COUNT_ENDS])
def test_the_states_of_some_tasks_are_read_by_their_ids(conn: psycopg.Connection, statement: Any) -> None:
    ids = [row[0] for row in conn.execute("SELECT id::text FROM djtasks_result LIMIT 100")]
    plan = explain(conn, statement, {"ids": ids})
    assert "djtasks_result" not in scanned(plan)
    assert read(plan) < 10 * 100
