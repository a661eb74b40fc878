"""Plans with 200,000 messages that wait for limits and as many that wait for rates: nobody walks over them."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from djtasks.db import claims, limits, messages, rates, uniques
from djtasks.db.connections import open_private
from tests.storage.rows import HIGHEST, LOWEST, empty, hire
from tests.storage.test_plans import FEW, claim_of, explain, indexes, read, some

LIMITED = 200_000
KEYS = 1000


@pytest.fixture(scope="module", autouse=True)
def _full(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """Half of the limited ones are of one key, and all of the rated ones of one name; behind them something else."""
    with django_db_blocker.unblock(), open_private("test set-up") as conn:
        empty(conn)
        conn.execute("ALTER TABLE djtasks_message SET (autovacuum_enabled = off)")
        insert = (
            "INSERT INTO djtasks_message (id, name, queue, body, lane, reason, limit_key, unique_key)"
            " SELECT ('{:08}-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, {}, 'celery', 'body',"
            " {}, {}, {}, {} FROM generate_series(1, {}) n"
        )
        key = f"CASE WHEN n % 2 = 0 THEN 'big' ELSE 'key-' || n % {KEYS} END"
        conn.execute(insert.format(1, "'tests.limited'", "NULL", "'limit'", key, "NULL", LIMITED).encode())
        conn.execute(insert.format(2, "'tests.rated'", "NULL", "'rate'", "NULL", "NULL", LIMITED).encode())
        conn.execute(insert.format(3, "'tests.add'", "'celery'", "NULL", "NULL", "'u' || n", 1000).encode())
        conn.execute(insert.format(4, "'tests.limited'", "'celery'", "NULL", "'big'", "NULL", 3).encode())
        conn.execute(
            "INSERT INTO djtasks_limit (key, most, rate, next_at) SELECT 'key-' || n, 2, 1, now() + n * interval '1 s'"
            " FROM generate_series(1, 20000) n UNION ALL SELECT 'big', 5, NULL, NULL"
        )
        yield
        conn.execute("TRUNCATE djtasks_message, djtasks_limit")
        conn.execute("ALTER TABLE djtasks_message RESET (autovacuum_enabled)")


@pytest.fixture(autouse=True)
def _empty_tables(db: None) -> None:
    """Instead of the one that empties them: these tests change nothing."""


@pytest.fixture(scope="module", params=["without statistics", "with statistics"])
def planner(request: pytest.FixtureRequest, _full: None, django_db_blocker: Any) -> Iterator[psycopg.Connection]:
    """A worker's session, before and after an ANALYZE."""
    with django_db_blocker.unblock(), open_private("test") as conn:
        if request.param == "with statistics":
            conn.execute("ANALYZE djtasks_message, djtasks_limit")
        else:
            conn.execute("DELETE FROM pg_statistic WHERE starelid::regclass::text LIKE 'djtasks%'")
        yield conn


def test_a_claim_walks_over_none_of_them(planner: psycopg.Connection) -> None:
    plan = explain(planner, claims.CLAIM, claim_of(hire(planner), 10, ("celery", LOWEST, HIGHEST, -1)))
    assert "djtasks_message_claim" in indexes(plan)
    assert read(plan) < FEW


def test_an_admission_reads_only_what_it_lets_in(planner: psycopg.Connection) -> None:
    keys = ["big", *(f"key-{number}" for number in range(1, 20, 2))]
    plan = explain(planner, limits.OPEN, {"keys": keys, "batch": 1000, "slack": 0.1})
    assert read(plan) < FEW * 3


def test_an_admission_of_a_full_limit_reads_next_to_nothing(planner: psycopg.Connection) -> None:
    with planner.transaction(force_rollback=True):
        planner.execute("UPDATE djtasks_limit SET most = 3 WHERE key = 'big'")
        plan = explain(planner, limits.OPEN, {"keys": ["big"], "batch": 1000, "slack": 0.1})
    assert read(plan) < 60


def test_the_next_rate_that_is_due_is_one_row_of_an_index(planner: psycopg.Connection) -> None:
    assert indexes(explain(planner, limits.NEXT_DUE, {})) == {"djtasks_limit_next"}
    assert read(explain(planner, limits.NEXT_DUE, {})) < 20


def test_looking_for_waiting_keys_leaps_from_key_to_key(planner: psycopg.Connection) -> None:
    plan = explain(planner, limits.WAITING, {"after": "", "limit": 200})
    assert indexes(plan) == {"djtasks_message_limited"}
    assert read(plan) < 200 * 12


def test_taking_what_was_set_aside_reads_only_what_it_takes(planner: psycopg.Connection) -> None:
    params = {
        "owner": hire(planner),
        "first": 1,
        "names": ["tests.rated", "tests.other"],
        "counts": [5, 5],
        "queues": ["other", "celery"],
        "limit": 8,
        "rerun": [],
    }
    plan = explain_few(planner, rates.CLAIM, params)
    assert read(plan) < FEW


def explain_few(conn: psycopg.Connection, statement: Any, params: dict[str, Any]) -> dict[str, Any]:
    """As `explain`; a few rows may be sorted."""
    return explain(conn, statement, params)


def test_the_names_of_what_was_set_aside_are_found_by_leaps(planner: psycopg.Connection) -> None:
    plan = explain(planner, rates.NAMES, {})
    assert indexes(plan) == {"djtasks_message_rated"}
    assert read(plan) < 60


def test_setting_aside_what_stands_in_the_way_reads_no_more_than_it_may(planner: psycopg.Connection) -> None:
    plan = explain(planner, rates.PARK_BACKLOG, {"lane": "celery", "names": ["tests.add"], "limit": 100})
    assert read(plan) < 100 * 40


def test_parking_for_a_rate_reads_by_key(planner: psycopg.Connection) -> None:
    ids = some(planner, "djtasks_message", 10)
    plan = explain(planner, rates.PARK, {"ids": ids, "claims": [1] * 10, "owner": 1})
    assert indexes(plan) == {"djtasks_message_pkey"}


@pytest.mark.parametrize("statement", [uniques.HOLDERS, uniques.TAKE])
def test_who_has_a_unique_key_is_found_by_it(planner: psycopg.Connection, statement: Any) -> None:
    plan = explain(planner, statement, {"keys": [f"u{number}" for number in range(1, 11)], "owner": 1})
    assert indexes(plan) <= {"djtasks_message_unique", "djtasks_message_pkey"}
    assert read(plan) < FEW


def test_adopting_and_promoting_walk_over_none_of_them(planner: psycopg.Connection) -> None:
    adopt = explain(planner, messages.ADOPT, {"names": ["tests.x"], "queues": ["celery"], "limit": 1000})
    assert read(adopt) < 60
    assert read(explain(planner, messages.PROMOTE, {"limit": 1000})) < 60
