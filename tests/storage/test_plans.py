"""Plans: every hot statement reads its index, and no more of it than it must, however much stands in the way."""

import itertools
import re
from collections.abc import Callable, Iterator
from typing import Any, LiteralString

import psycopg
import pytest
from psycopg import sql

from djtasks.db import claims, finish, messages, results
from djtasks.db.connections import open_private
from tests.storage.rows import HIGHEST, LOWEST, empty, hire

Connect = Callable[..., psycopg.Connection]
Node = dict[str, Any]

DELAYED, WAITING, ENDED = 200_000, 20_000, 20_000
#: Pages that a statement over a few rows may read: the depths of its indexes, and its rows.
FEW = 300

_names = itertools.count()


@pytest.fixture(scope="module", autouse=True)
def _full(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """Delayed messages in front of waiting ones, on which the server has no statistics at all."""
    with django_db_blocker.unblock(), open_private("test set-up") as conn:
        empty(conn)
        conn.execute("ALTER TABLE djtasks_message SET (autovacuum_enabled = off)")
        conn.execute("ALTER TABLE djtasks_result SET (autovacuum_enabled = off)")
        insert = (
            "INSERT INTO djtasks_message (id, name, queue, body, priority, lane, reason, eta, expires)"
            " SELECT ('{:08}-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'tests.add', 'celery', 'body',"
            " {}, {}, {}, {}, {} FROM generate_series(1, {}) n"
        )
        eta, expires = "now() + n * interval '1 second'", "now() + interval '1 day' + n * interval '1 second'"
        conn.execute(insert.format(1, "0", "NULL", "'eta'", eta, "NULL", DELAYED).encode())
        conn.execute(insert.format(2, "n % 3", "'celery'", "NULL", "NULL", expires, WAITING).encode())
        conn.execute(insert.format(3, "0", "'b'", "NULL", "NULL", "NULL", 1000).encode())
        conn.execute(
            "INSERT INTO djtasks_result (id, name, queue, state, done)"
            " SELECT gen_random_uuid(), 'tests.add', 'celery', 'SUCCESS', now() - n * interval '1 second'"
            " FROM generate_series(1, %s) n",
            [ENDED],
        )
        yield
        for table in ("djtasks_message", "djtasks_result"):
            conn.execute(f"TRUNCATE {table}".encode())
            conn.execute(f"ALTER TABLE {table} RESET (autovacuum_enabled)".encode())


@pytest.fixture(autouse=True)
def _empty_tables(db: None) -> None:
    """Instead of the one that empties them: these tests change nothing."""


@pytest.fixture(scope="module", params=["without statistics", "with statistics"])
def planner(request: pytest.FixtureRequest, _full: None, django_db_blocker: Any) -> Iterator[psycopg.Connection]:
    """A worker's session, before and after an ANALYZE."""
    with django_db_blocker.unblock(), open_private("test") as conn:
        if request.param == "with statistics":
            conn.execute("ANALYZE djtasks_message, djtasks_result")
        else:
            conn.execute("DELETE FROM pg_statistic WHERE starelid::regclass::text LIKE 'djtasks%'")
        yield conn


#: A claim asks whether there is any revocation at all.
FLAG = ("djtasks_revocation_expires",)


def explain(conn: psycopg.Connection, statement: LiteralString, params: dict[str, Any]) -> Node:
    """The plan that a worker's session runs this statement with, run and undone: a generic one, as it is prepared."""
    order: list[str] = []

    def number(match: re.Match[str]) -> str:
        if match[1] not in order:
            order.append(match[1])
        return f"${order.index(match[1]) + 1}"

    name = f"plan_{next(_names)}"
    conn.execute(f"PREPARE {name} AS {re.sub(r'%[(](.*?)[)]s', number, statement)}".encode())
    values = sql.SQL(", ").join(sql.Literal(params[key]) for key in order)
    call = sql.SQL("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE {}").format(sql.SQL(name))
    if order:
        call = sql.SQL("{} ({})").format(call, values)
    with conn.transaction(force_rollback=True):
        found = conn.execute(call).fetchone()
    assert found is not None
    plan: Node = found[0][0]["Plan"]
    return plan


def nodes(plan: Node) -> Iterator[Node]:
    """All nodes of a plan."""
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def indexes(plan: Node) -> set[str]:
    """The indexes that a plan reads; AssertionError if it reads one of the large tables without one."""
    found = set()
    for node in nodes(plan):
        kind = node["Node Type"]
        assert kind not in ("Seq Scan", "Bitmap Heap Scan", "Sort", "Incremental Sort", "Hash Join", "Merge Join"), kind
        if "Index Name" in node:
            found.add(node["Index Name"])
    return found


def read(plan: Node) -> int:
    """How many pages it read, and how many rows it threw away."""
    removed = sum(int(node.get("Rows Removed by Filter", 0)) for node in nodes(plan))
    return int(plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]) + removed


def some(conn: psycopg.Connection, table: str, count: int) -> list[str]:
    """The ids of some rows."""
    return [row[0] for row in conn.execute(f"SELECT id::text FROM {table} LIMIT {count}".encode())]


def claim_of(owner: int, limit: int, *scans: tuple[str, int, int, int]) -> dict[str, Any]:
    """The parameters of CLAIM."""
    lanes, lows, highs, afters = map(list, zip(*scans, strict=True))
    return {
        "owner": owner,
        "first": 1,
        "lanes": lanes,
        "lows": lows,
        "highs": highs,
        "afters": afters,
        "limit": limit,
        "rerun": ["tests.late"],
        "unknown": ["tests.strange"],
    }


# -- the hot ones -------------------------------------------------------------------------------------------------


def test_a_claim_reads_its_index_in_order_and_little_of_it(planner: psycopg.Connection) -> None:
    params = claim_of(hire(planner), 10, ("celery", LOWEST, HIGHEST, -1), ("b", LOWEST, HIGHEST, -1))
    plan = explain(planner, claims.CLAIM, params)
    assert indexes(plan) == {"djtasks_message_claim", "djtasks_message_pkey", "djtasks_worker_pkey", *FLAG}
    assert read(plan) < FEW


def test_a_claim_with_marks_reads_no_more(planner: psycopg.Connection) -> None:
    marks = [("celery", 3, HIGHEST, -1), ("celery", 2, 2, 10**9), ("celery", LOWEST, 1, -1)]
    plan = explain(planner, claims.CLAIM, claim_of(hire(planner), 10, *marks))
    assert indexes(plan) == {"djtasks_message_claim", "djtasks_message_pkey", "djtasks_worker_pkey", *FLAG}
    assert read(plan) < FEW


def test_a_large_claim_reads_in_proportion_to_what_it_takes(planner: psycopg.Connection) -> None:
    plan = explain(planner, claims.CLAIM, claim_of(hire(planner), 200, ("celery", LOWEST, HIGHEST, -1)))
    assert read(plan) < 20 * 200


def test_a_claim_of_an_empty_lane_reads_next_to_nothing(planner: psycopg.Connection) -> None:
    plan = explain(planner, claims.CLAIM, claim_of(hire(planner), 200, ("empty", LOWEST, HIGHEST, -1)))
    assert read(plan) < 30


def test_a_mark_steps_over_the_dead_rows_that_an_old_snapshot_keeps(conn: psycopg.Connection, connect: Connect) -> None:
    owner, keeper = hire(conn), connect()
    keeper.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    keeper.execute("SELECT 1 FROM djtasks_message LIMIT 1")
    with conn.transaction(force_rollback=True):
        found = conn.execute(
            "WITH gone AS (DELETE FROM djtasks_message WHERE lane = 'celery' AND priority = 2 AND position <"
            " (SELECT max(position) - 100 FROM djtasks_message WHERE lane = 'celery') RETURNING position)"
            " SELECT count(*), max(position) FROM gone"
        ).fetchone()
        assert found is not None
        count, last = found
        assert count > 6000
        whole = explain(conn, claims.CLAIM, claim_of(owner, 10, ("celery", LOWEST, HIGHEST, -1)))
        marked = explain(conn, claims.CLAIM, claim_of(owner, 10, ("celery", 2, 2, last)))
    keeper.execute("ROLLBACK")
    assert read(marked) < FEW < read(whole)


def test_a_finish_reads_by_key(planner: psycopg.Connection) -> None:
    ids = sorted(some(planner, "djtasks_message", 20))
    params = {
        "ids": ids,
        "claims": [1] * 20,
        "states": ["SUCCESS"] * 20,
        "results": [b"1"] * 20,
        "content_types": [""] * 20,
        "content_encodings": [""] * 20,
        "tracebacks": [None] * 20,
        "stores": [True] * 10 + [False] * 10,
        "keeps": [False] * 20,
        "starts": [0.0] * 20,
        "owner": 1,
        "worker": "w",
    }
    with planner.transaction(force_rollback=True):
        planner.execute("UPDATE djtasks_message SET owner = 1, claim = 1 WHERE id = ANY (%s::uuid[])", [ids])
        plan = explain(planner, finish.FINISH, params)
    assert indexes(plan) == {"djtasks_message_pkey", "djtasks_result_pkey"}
    assert read(plan) < 20 * 40


@pytest.mark.parametrize("statement", [messages.RELEASE, messages.CRASHED, messages.PARK_UNKNOWN])
def test_letting_go_reads_by_key(planner: psycopg.Connection, statement: LiteralString) -> None:
    ids = some(planner, "djtasks_message", 10)
    plan = explain(planner, statement, {"ids": ids, "claims": [1] * 10, "owner": 1})
    assert indexes(plan) == {"djtasks_message_pkey"}
    assert read(plan) < FEW


def test_a_retry_reads_by_key(planner: psycopg.Connection) -> None:
    ids = some(planner, "djtasks_message", 5)
    texts, numbers = [None] * 5, [None] * 5
    params: dict[str, Any] = {"ids": ids, "claims": [1] * 5, "owner": 1, "worker": "w"}
    for key in ("bodies", "content_types", "content_encodings", "queues", "headers", "results", "tracebacks", "names"):
        params[key] = texts
    for key in ("countdowns", "etas", "priorities", "expiries", "starts"):
        params[key] = numbers
    params |= {"counts": [True] * 5, "stores": [True] * 5, "result_types": [""] * 5, "result_encodings": [""] * 5}
    plan = explain(planner, messages.AGAIN, params)
    assert indexes(plan) == {"djtasks_message_pkey"}
    assert read(plan) < FEW


def test_a_report_reads_by_key(planner: psycopg.Connection) -> None:
    ids = some(planner, "djtasks_message", 5)
    params: dict[str, Any] = {"ids": ids, "claims": [0] * 5, "states": ["S"] * 5, "metas": [b""] * 5}
    params |= {"content_types": [""] * 5, "content_encodings": [""] * 5, "owner": 1, "worker": "w"}
    plan = explain(planner, results.REPORT, params)
    assert indexes(plan) == {"djtasks_message_pkey"}
    assert read(plan) < FEW


def test_a_promotion_reads_only_what_is_due(planner: psycopg.Connection) -> None:
    plan = explain(planner, messages.PROMOTE, {"limit": 1000})
    assert indexes(plan) == {"djtasks_message_parked", "djtasks_message_pkey"} or indexes(plan) == {
        "djtasks_message_parked"
    }
    assert read(plan) < FEW * 100


def test_the_next_time_is_one_row_of_an_index(planner: psycopg.Connection) -> None:
    plan = explain(planner, messages.NEXT_ETA, {})
    assert indexes(plan) == {"djtasks_message_parked"}
    assert read(plan) < 20


def test_looking_for_what_has_expired_reads_only_what_has(planner: psycopg.Connection) -> None:
    plan = explain(planner, claims.CLAIM_EXPIRED, {"owner": 1, "first": 1, "limit": 200})
    assert indexes(plan) == {"djtasks_message_expires", "djtasks_message_pkey", *FLAG}
    assert read(plan) < 20


def test_results_are_fetched_by_key(planner: psycopg.Connection) -> None:
    ids = some(planner, "djtasks_result", 10) + some(planner, "djtasks_message", 10)
    plan = explain(planner, results.FETCH, {"ids": ids})
    assert indexes(plan) == {"djtasks_message_pkey", "djtasks_result_pkey", "djtasks_revocation_task"}
    assert read(plan) < FEW


@pytest.mark.parametrize("statement", [results.FETCH_ENDED, finish.CONFIRM, results.AGES])
def test_a_thousand_results_are_fetched_by_key(planner: psycopg.Connection, statement: LiteralString) -> None:
    ids = some(planner, "djtasks_result", 1000)
    plan = explain(planner, statement, {"ids": ids, "owner": 1, "claims": [1]})
    revoked = {"djtasks_revocation_task", "djtasks_message_pkey"} if statement == results.FETCH_ENDED else set()
    assert indexes(plan) == {"djtasks_result_pkey", *revoked}
    assert read(plan) < 8 * 1000


def test_pruning_reads_only_what_it_deletes(planner: psycopg.Connection) -> None:
    plan = explain(planner, results.PRUNE, {"age": ENDED - 100.0, "limit": 1000})
    assert indexes(plan) == {"djtasks_result_done", "djtasks_result_pkey"}
    assert read(plan) < 100 * 20
    nothing = explain(planner, results.PRUNE, {"age": 10.0 * ENDED, "limit": 1000})
    assert read(nothing) < 20


# -- in Django's own session --------------------------------------------------------------------------------------


def test_a_caller_looks_up_results_by_key_once_there_are_statistics(conn: psycopg.Connection) -> None:
    conn.execute("ANALYZE djtasks_message, djtasks_result")
    for setting in ("enable_seqscan", "enable_bitmapscan", "enable_hashjoin", "enable_mergejoin"):
        conn.execute(f"SET {setting} = on".encode())
    conn.execute("SET plan_cache_mode = auto")
    ids = some(conn, "djtasks_result", 3) + some(conn, "djtasks_message", 3)
    plan = explain(conn, results.FETCH, {"ids": ids})
    assert read(plan) < FEW
    assert not any(node["Node Type"] == "Seq Scan" for node in nodes(plan))
