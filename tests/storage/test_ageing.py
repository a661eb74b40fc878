"""Priority ageing: what waits long runs one day, with the priority of its call; and it is free where it is off."""

import re
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from django.test import override_settings

from djtasks.db import ageing, claims, messages
from djtasks.worker import pulse
from djtasks.worker.claimer import Claimer
from djtasks.worker.identity import new_incarnation
from djtasks.worker.lanes import Lanes
from djtasks.worker.state import State
from tests.storage.rows import Table, fences, hire, put, take
from tests.storage.test_claimer import registration

HIGHEST = 32767


def wait_since(conn: psycopg.Connection, seconds: float, *ids: str) -> None:
    """Let these have been called so many seconds ago."""
    conn.execute(
        "UPDATE djtasks_message SET created = statement_timestamp() - %s * interval '1 second' WHERE id = ANY (%s)",
        [seconds, list(ids)],
    )


def priorities(table: Table) -> dict[str, tuple[int, int | None]]:
    """The priority of each message, and by how much it has risen."""
    rows = table.rows("SELECT id::text, priority, aged FROM djtasks_message")
    return {row["id"]: (row["priority"], row["aged"]) for row in rows}


def test_a_message_rises_by_one_for_each_term_that_it_has_waited_behind_others(
    conn: psycopg.Connection, table: Table
) -> None:
    [urgent], [old], [older], [new] = (put(conn, priority=rank) for rank in (5, 0, -3, 0))
    wait_since(conn, 29.5, old)
    wait_since(conn, 45, older, urgent)
    assert sorted(ageing.age(conn, 10, 100)) == sorted([old, older])
    # What stands first in its lane has nothing to gain.
    assert priorities(table) == {urgent: (5, None), old: (2, 2), older: (1, 4), new: (0, None)}
    assert ageing.age(conn, 10, 100) == []
    wait_since(conn, 90, old)
    assert ageing.age(conn, 10, 100) == [old]
    assert priorities(table)[old] == (9, 9)
    # Now it is the first, and the others follow.
    assert ageing.age(conn, 10, 100) == [urgent]
    assert priorities(table)[urgent] == (9, 4)


def test_it_rises_to_the_highest_priority_and_no_further(conn: psycopg.Connection, table: Table) -> None:
    [top], [low], [lowest] = put(conn, priority=HIGHEST), put(conn, priority=HIGHEST - 3), put(conn, priority=-32768)
    wait_since(conn, 1e6, top, low, lowest)
    assert sorted(ageing.age(conn, 1, 100)) == sorted([low, lowest])
    assert priorities(table) == {top: (HIGHEST, None), low: (HIGHEST, 3), lowest: (-1, HIGHEST)}


def test_what_waits_for_its_time_begins_to_age_when_that_has_come(conn: psycopg.Connection, table: Table) -> None:
    put(conn, priority=1)
    [parked], [due] = put(conn, countdown=60.0), put(conn)
    wait_since(conn, 100, parked, due)
    conn.execute("UPDATE djtasks_message SET eta = statement_timestamp() - interval '25 seconds' WHERE id = %s", [due])
    assert ageing.age(conn, 10, 100) == [due]
    assert priorities(table)[due] == (2, 2)
    assert priorities(table)[parked] == (0, None)


def test_each_lane_has_an_order_of_its_own_and_no_pass_takes_more_than_its_batch(
    conn: psycopg.Connection, table: Table
) -> None:
    alone = put(conn, 3, queue="alone", priority=-9)
    first, behind = put(conn, 2, queue="mixed", priority=3), put(conn, 5, queue="mixed")
    wait_since(conn, 50, *alone, *first, *behind)
    assert ageing.age(conn, 10, 2, deep=3) == behind[:2]
    # Of each priority the first rows are looked at; what was the highest no longer is.
    assert sorted(ageing.age(conn, 10, 100, deep=2)) == sorted([*first, *behind[2:4]])
    assert {priorities(table)[each] for each in alone} == {(-9, None)}


def test_what_a_worker_holds_and_what_another_session_locks_is_left_alone(
    conn: psycopg.Connection, connect: Callable[..., psycopg.Connection], table: Table
) -> None:
    owner, other = hire(conn), connect()
    put(conn, priority=9, queue="other")
    held, locked, free = put(conn, 3)
    assert [each.id for each in take(conn, owner, 1)] == [held]
    put(conn, priority=9)
    wait_since(conn, 50, held, locked, free)
    with other.transaction():
        other.execute("SELECT FROM djtasks_message WHERE id = %s FOR UPDATE", [locked])
        assert ageing.age(conn, 10, 100) == [free]
    with other.transaction():
        assert ageing.try_lock(other)
        with conn.transaction():
            assert not ageing.try_lock(conn)


def test_a_claim_takes_what_has_risen_first_and_gives_it_the_priority_of_its_call(
    conn: psycopg.Connection, table: Table
) -> None:
    [low], *urgent = put(conn, priority=-2), *put(conn, 3, priority=4)
    wait_since(conn, 100, low)
    assert ageing.age(conn, 10, 100) == [low]
    owner, where = hire(conn), Lanes(["celery"])
    found, positions = claims.claim(conn, owner, 1, where.scans(), 2, aged=True)
    where.mark(found, positions)
    assert [(each.id, each.priority) for each in found] == [(low, -2), (urgent[0], 4)]
    assert priorities(table)[low] == (-2, None)
    # A mark is set by what stood where its priority says.
    assert [(scan.low, scan.after == -1) for scan in where.scans()] == [(5, True), (4, False), (-32768, True)]
    # Given back, it has waited as long as before.
    messages.release(conn, owner, fences(found[:1]))
    assert ageing.age(conn, 10, 100) == [low]
    assert priorities(table)[low] == (8, 10)


def test_a_worker_ages_where_the_setting_says_so_and_asks_nothing_where_it_does_not(
    conn: psycopg.Connection, table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    [_], old = put(conn, priority=5), put(conn, pulse.AGED_BATCH + 1)
    wait_since(conn, 100, *old)
    heart: Any = pulse.Pulse.__new__(pulse.Pulse)
    heart.has_time = lambda: True
    with monkeypatch.context() as patch:
        patch.setattr(ageing, "age", None)
        heart.age(conn)
    claimer = Claimer(State(new_incarnation()), Lanes(["celery"]), registration)
    with override_settings(DJTASKS={"QUEUE_AGEING": 10}):
        heart.age(conn)
        assert all(priorities(table)[each] == (10, 10) for each in old)
        assert [(each.id, each.priority) for each in claimer.claim(conn, 1, 0)] == [(old[0], 0)]
    assert "aged" not in claims.CLAIM


def test_a_pass_over_a_flood_reads_the_first_rows_of_each_priority_only(conn: psycopg.Connection) -> None:
    conn.execute(
        "INSERT INTO djtasks_message (id, name, queue, lane, priority, body, created)"
        " SELECT gen_random_uuid(), 'tests.add', 'celery', 'celery', n %% 2, '', now() FROM generate_series(1, %s) n",
        [20_000],
    )
    conn.execute("ANALYZE djtasks_message")
    params = {"seconds": 10, "limit": 500, "deep": 100}
    plan = "\n".join(row[0] for row in conn.execute("EXPLAIN (ANALYZE, BUFFERS) " + ageing.AGE, params))
    assert "Seq Scan" not in plan
    read = re.search(r"Buffers: shared hit=(\d+)", plan)
    assert read is not None
    assert int(read[1]) < 100, plan
