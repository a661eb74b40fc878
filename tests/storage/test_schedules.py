"""Schedules as statements: a hundred thousand of them are no slower per tick than a hundred."""

from collections.abc import Iterator
from typing import Any, LiteralString

import psycopg
import pytest

from djtasks.db import schedules
from djtasks.db.connections import open_private
from tests.storage.periodic import many
from tests.storage.rows import empty
from tests.storage.test_plans import explain, indexes, read

COUNT = 100_000
DUE = 20
#: Pages for a few rows: the depths of the indexes, and the rows.
FEW = 20 * DUE


@pytest.fixture(scope="module", autouse=True)
def _full(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """Very many periodic tasks, of which a few are due and a few have just been written."""
    with django_db_blocker.unblock(), open_private("test set-up") as conn:
        empty(conn)
        conn.execute("ALTER TABLE djtasks_tick SET (autovacuum_enabled = off)")
        conn.execute("ALTER TABLE djtasks_periodic_task SET (autovacuum_enabled = off)")
        conn.execute("ALTER TABLE djtasks_periodic_task DISABLE TRIGGER USER")
        many(conn, COUNT)
        conn.execute("ALTER TABLE djtasks_periodic_task ENABLE TRIGGER USER")
        conn.execute(
            "INSERT INTO djtasks_tick (periodic_task_id, next_run_at, stale)"
            " SELECT id, CASE WHEN n > %s THEN now() + n * interval '1 second'"
            " WHEN n > %s THEN now() - n * interval '1 second' END, n <= %s"
            " FROM (SELECT id, row_number() OVER (ORDER BY id) AS n FROM djtasks_periodic_task) AS numbered",
            [2 * DUE, DUE, DUE],
        )
        yield
        conn.execute("TRUNCATE djtasks_periodic_task, djtasks_tick")
        for table in ("djtasks_periodic_task", "djtasks_tick"):
            conn.execute(f"ALTER TABLE {table} RESET (autovacuum_enabled)".encode())


@pytest.fixture(autouse=True)
def _empty_tables(db: None) -> None:
    """Instead of the one that empties them: these tests change nothing."""


@pytest.fixture(scope="module", params=["without statistics", "with statistics"])
def planner(request: pytest.FixtureRequest, _full: None, django_db_blocker: Any) -> Iterator[psycopg.Connection]:
    """A beat's session, before and after an ANALYZE."""
    with django_db_blocker.unblock(), open_private("test") as conn:
        if request.param == "with statistics":
            conn.execute("ANALYZE djtasks_tick, djtasks_periodic_task")
        else:
            conn.execute("DELETE FROM pg_statistic WHERE starelid::regclass::text LIKE 'djtasks%'")
        yield conn


def test_looking_for_what_is_due_reads_only_what_is(planner: psycopg.Connection) -> None:
    plan = explain(planner, schedules.DUE, {"limit": 100})
    assert indexes(plan) == {"djtasks_tick_next", "djtasks_periodic_task_pkey"}
    assert plan["Actual Rows"] == DUE
    assert read(plan) < FEW


def test_looking_for_what_has_been_written_reads_only_what_has(planner: psycopg.Connection) -> None:
    plan = explain(planner, schedules.STALE, {"limit": 100})
    assert indexes(plan) <= {"djtasks_tick_stale", "djtasks_tick_pkey", "djtasks_periodic_task_pkey"}
    assert plan["Actual Rows"] == DUE
    assert read(plan) < FEW


def test_the_next_time_is_one_row_of_an_index(planner: psycopg.Connection) -> None:
    plan = explain(planner, schedules.NEXT, {})
    assert indexes(plan) == {"djtasks_tick_next", "djtasks_tick_stale"}
    assert read(plan) < 20


def test_looking_for_what_has_expired_reads_only_what_has(planner: psycopg.Connection) -> None:
    plan = explain(planner, schedules.EXPIRE, {})
    assert indexes(plan) <= {"djtasks_periodic_task_expires", "djtasks_periodic_task_pkey"}
    assert read(plan) < 20


@pytest.mark.parametrize("statement", [schedules.ADVANCE, schedules.RAN, schedules.DISABLE, schedules.FAILED])
def test_a_batch_is_written_by_key(planner: psycopg.Connection, statement: LiteralString) -> None:
    found = planner.execute("SELECT id FROM djtasks_periodic_task LIMIT 100").fetchall()
    none = [None] * 100
    params: dict[str, Any] = {"ids": [row[0] for row in found], "runs": [1] * 100, "skippeds": [0] * 100}
    params |= {"nexts": none, "rans": none, "tasks": none, "errors": ["no"] * 100}
    plan = explain(planner, statement, params)
    assert indexes(plan) <= {"djtasks_tick_pkey", "djtasks_periodic_task_pkey"}
    assert read(plan) < 100 * 60


def test_chosen_ones_are_read_by_key(planner: psycopg.Connection) -> None:
    found = planner.execute("SELECT id FROM djtasks_periodic_task LIMIT 100").fetchall()
    plan = explain(planner, schedules.CHOSEN, {"ids": [row[0] for row in found]})
    assert indexes(plan) == {"djtasks_tick_pkey", "djtasks_periodic_task_pkey"}
    assert read(plan) < 100 * 20
