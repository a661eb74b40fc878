"""Claims: their order, their locks, and two workers at one table."""

import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from djtasks.db import claims, finish, messages, workers
from djtasks.db.claims import Scan
from djtasks.worker.identity import new_incarnation
from tests.storage.rows import Table, ended, fences, hire, message, put, shuffled, take, whole
from tests.waits import wait_until

Connect = Callable[..., psycopg.Connection]


# -- order --------------------------------------------------------------------------------------------------------


def test_a_higher_priority_is_claimed_first_and_within_one_the_older_message(conn: psycopg.Connection) -> None:
    ranks = shuffled([-32768, -1, 0, 0, 0, 5, 32767, 32767])
    made = [message(priority=rank) for rank in ranks]
    for each in made:
        messages.enqueue(conn, [each])
    found = take(conn, hire(conn))
    assert [each.id for each in found] == [each.id for each in sorted(made, key=lambda each: -each.priority)]
    assert [each.claim for each in found] == list(range(found[0].claim, found[0].claim + len(made)))


def test_the_order_of_a_priority_is_the_order_of_the_inserts_not_of_the_ids(conn: psycopg.Connection) -> None:
    made = [message() for _ in range(50)]
    backwards = made[::-1]
    messages.enqueue(conn, backwards)
    assert [each.id for each in take(conn, hire(conn))] == [each.id for each in backwards]


def test_lanes_are_claimed_in_the_order_of_the_scans(conn: psycopg.Connection) -> None:
    urgent = put(conn, 3, queue="b", priority=9)
    plain = put(conn, 3, queue="a")
    put(conn, 3, queue="c")
    owner = hire(conn)
    found = take(conn, owner, 1000, "a", "b")
    assert [each.id for each in found] == plain + urgent
    assert {each.queue for each in found} == {"a", "b"}


def test_a_claim_takes_no_more_than_it_asks_for(conn: psycopg.Connection, table: Table) -> None:
    ids = put(conn, 10)
    found = take(conn, hire(conn), 4)
    assert [each.id for each in found] == ids[:4]
    assert table.waiting() == ids[4:]


def test_the_limit_holds_over_all_lanes_together(conn: psycopg.Connection) -> None:
    put(conn, 3, queue="a")
    put(conn, 3, queue="b")
    assert [each.queue for each in take(conn, hire(conn), 4, "a", "b")] == ["a", "a", "a", "b"]


def test_a_scan_keeps_to_its_priorities_and_starts_after_its_position(conn: psycopg.Connection, table: Table) -> None:
    put(conn, 2, priority=9)
    low = put(conn, 4, priority=1)
    start = table.message(low[1])
    assert start is not None
    found, positions = claims.claim(conn, hire(conn), 1, [Scan("celery", 1, 8, start["position"])], 10)
    assert [each.id for each in found] == low[2:]
    assert positions == [start["position"] + 1, start["position"] + 2]


def test_a_lane_that_is_scanned_by_nobody_is_left_alone(conn: psycopg.Connection, table: Table) -> None:
    put(conn, queue="celery2")
    assert take(conn, hire(conn), 10, "celery") == []
    assert len(table.waiting("celery2")) == 1


@pytest.mark.parametrize("lane", ["", "a b", "ä€😀", "a'b\"c\\d%s%(x)s{}", "*", "A", "a\tb\nc"])
def test_a_queue_may_have_any_name(conn: psycopg.Connection, lane: str) -> None:
    ids = put(conn, queue=lane)
    put(conn, queue=lane.swapcase() + "?")
    assert [each.id for each in take(conn, hire(conn), 10, lane)] == ids


# -- what is left alone -------------------------------------------------------------------------------------------


def test_names_that_the_worker_does_not_know_are_left_to_others(conn: psycopg.Connection, table: Table) -> None:
    strange = put(conn, 2, name="tests.strange")
    known = put(conn, 2)
    found = take(conn, hire(conn), unknown=["tests.strange", "tests.other"])
    assert [each.id for each in found] == known
    assert table.waiting() == strange


def test_what_another_worker_holds_is_not_claimed_again(conn: psycopg.Connection) -> None:
    put(conn, 5)
    assert len(take(conn, hire(conn))) == 5
    assert take(conn, hire(conn)) == []


def test_what_may_not_run_yet_is_not_claimed(conn: psycopg.Connection) -> None:
    put(conn, 3, countdown=3600.0)
    ids = put(conn, countdown=-5.0)
    assert [each.id for each in take(conn, hire(conn))] == ids


def test_a_worker_without_a_row_claims_nothing(conn: psycopg.Connection, table: Table) -> None:
    put(conn, 3)
    assert take(conn, new_incarnation()) == []
    assert len(table.waiting()) == 3


def test_a_worker_whose_row_is_gone_claims_nothing_any_more(conn: psycopg.Connection) -> None:
    put(conn, 3)
    owner = hire(conn)
    assert len(take(conn, owner, 1)) == 1
    workers.remove(conn, owner)
    assert take(conn, owner, 1) == []


def test_a_message_that_cannot_be_claimed_says_why(conn: psycopg.Connection, table: Table) -> None:
    [task_id] = put(conn, countdown=60.0)
    row = table.message(task_id)
    assert row is not None
    assert (row["lane"], row["reason"], row["queue"]) == (None, "eta", "celery")


# -- what a claim says --------------------------------------------------------------------------------------------


def test_a_claim_marks_which_messages_run_again_when_their_worker_is_lost(conn: psycopg.Connection) -> None:
    put(conn, name="tests.late")
    put(conn, name="tests.early")
    found = take(conn, hire(conn), rerun=["tests.late", "tests.other"])
    assert {each.name: each.rerun for each in found} == {"tests.late": True, "tests.early": False}


def test_the_mark_follows_the_last_claim(conn: psycopg.Connection, table: Table) -> None:
    [task_id] = put(conn)
    owner = hire(conn)
    first = take(conn, owner, rerun=["tests.add"])
    messages.release(conn, owner, fences(first))
    take(conn, owner)
    row = table.message(task_id)
    assert row is not None
    assert row["rerun"] is False


def test_a_claim_tells_what_is_past_its_expiry_by_the_database_s_clock(conn: psycopg.Connection) -> None:
    [late] = put(conn, expires_in=-1.0)
    [early] = put(conn, expires_in=3600.0)
    [never] = put(conn)
    assert {each.id: each.expired for each in take(conn, hire(conn))} == {late: True, early: False, never: False}


def test_a_claim_hands_over_every_column_as_it_was_enqueued(conn: psycopg.Connection, table: Table) -> None:
    sent = message(
        name="tests.ä😀",
        body=bytes(range(256)),
        content_type="application/x-any",
        content_encoding="zstd",
        priority=-7,
        eta=1_700_000_000.25,
        expires=4_000_000_000.5,
        retries=3,
        headers='{"ä": "\\u0000"}',
    )
    messages.enqueue(conn, [sent])
    owner = hire(conn)
    [got] = take(conn, owner)
    same = ("id", "name", "queue", "body", "content_type", "content_encoding", "priority", "eta", "expires", "retries")
    assert all(getattr(got, field) == getattr(sent, field) for field in (*same, "headers"))
    row = table.message(sent.id)
    assert row is not None
    assert (row["owner"], row["claim"]) == (owner, got.claim)
    assert got.created == pytest.approx(row["created"].timestamp(), abs=1e-5)
    assert got.crashes == 0


def test_claim_numbers_and_incarnations_use_all_of_63_bits(conn: psycopg.Connection, table: Table) -> None:
    ids = put(conn, 2)
    owner = hire(conn, incarnation=2**63 - 1)
    found, _ = claims.claim(conn, owner, 2**63 - 3, whole(), 2)
    assert [each.claim for each in found] == [2**63 - 3, 2**63 - 2]
    assert messages.release(conn, owner, fences(found)) == set(ids)


# -- two at one table ---------------------------------------------------------------------------------------------


def test_many_claimers_never_share_a_message_and_leave_none(conn: psycopg.Connection, connect: Connect) -> None:
    ids = put(conn, 4000) + put(conn, 500, queue="b", priority=3)
    crowd = 8
    owners = [hire(conn) for _ in range(crowd)]
    links = [connect() for _ in range(crowd)]
    start = threading.Barrier(crowd)

    def work(number: int) -> list[str]:
        start.wait(20)
        taken: list[str] = []
        while found := take(links[number], owners[number], 37, *(("celery", "b") if number % 2 else ("b", "celery"))):
            taken += [each.id for each in found]
        return taken

    with ThreadPoolExecutor(crowd) as pool:
        hands = list(pool.map(work, range(crowd)))
    counted = Counter(task_id for hand in hands for task_id in hand)
    # A claimer may find the last rows locked and give up; no row is ever in two hands.
    assert set(counted.values()) == {1}
    left = {each.id for each in take(conn, owners[0], 5000, "celery", "b")}
    assert left | set(counted) == set(ids)
    assert left.isdisjoint(counted)


def test_a_claim_steps_over_rows_that_another_transaction_has_locked(
    conn: psycopg.Connection, connect: Connect
) -> None:
    ids = put(conn, 4)
    owner, other = hire(conn), connect()
    with other.transaction():
        other.execute("SELECT FROM djtasks_message WHERE id = ANY (%s::uuid[]) FOR UPDATE", [ids[:2]])
        assert [each.id for each in take(conn, owner, 10)] == ids[2:]
    assert [each.id for each in take(conn, owner, 10)] == ids[:2]


def test_a_claim_that_fails_to_commit_leaves_its_messages_to_the_next(
    conn: psycopg.Connection, connect: Connect
) -> None:
    ids = put(conn, 3)
    owner, other = hire(conn), connect()
    with other.transaction(force_rollback=True):
        assert len(take(other, owner)) == 3
    assert [each.id for each in take(conn, owner)] == ids


def test_who_declares_a_worker_dead_waits_for_a_claim_of_its_own_in_flight(
    conn: psycopg.Connection, connect: Connect, table: Table
) -> None:
    put(conn, 2)
    owner = hire(conn)
    claimer, rescuer = connect("claimer"), connect("rescuer")
    with ThreadPoolExecutor(1) as pool:
        with claimer.transaction():
            held = take(claimer, owner)
            with rescuer.transaction():
                # SKIP LOCKED comes back at once with nothing.
                assert workers.try_lock(rescuer, owner) is False

            def sweep() -> list[str]:
                with rescuer.transaction():
                    assert claims.lock_worker(rescuer, owner)
                    return [each.id for each in claims.owned(rescuer, owner)]

            swept = pool.submit(sweep)
            table.wait_until_blocked(rescuer)
        # What the claim took is seen by the statement after the lock.
        assert swept.result(20) == sorted(each.id for each in held)


def test_a_claim_waits_for_who_declares_its_worker_dead_and_then_takes_nothing(
    conn: psycopg.Connection, connect: Connect, table: Table
) -> None:
    put(conn, 2)
    owner = hire(conn)
    claimer, rescuer = connect("claimer"), connect("rescuer")
    with ThreadPoolExecutor(1) as pool:
        with rescuer.transaction():
            assert workers.try_lock(rescuer, owner)
            taken = pool.submit(take, claimer, owner)
            table.wait_until_blocked(claimer)
            workers.remove(rescuer, owner)
        assert taken.result(20) == []
    assert len(table.waiting()) == 2


def test_a_claim_goes_on_when_the_rescuer_lets_its_worker_live(
    conn: psycopg.Connection, connect: Connect, table: Table
) -> None:
    put(conn, 2)
    owner = hire(conn)
    claimer, rescuer = connect("claimer"), connect("rescuer")
    with ThreadPoolExecutor(1) as pool:
        with rescuer.transaction():
            assert workers.try_lock(rescuer, owner)
            taken = pool.submit(take, claimer, owner)
            table.wait_until_blocked(claimer)
        assert len(taken.result(20)) == 2


def test_a_heartbeat_does_not_hold_up_a_claim(conn: psycopg.Connection, connect: Connect) -> None:
    put(conn, 2)
    owner, pulse = hire(conn), connect("pulse")
    with pulse.transaction():
        assert workers.beat(pulse, owner, {}, 2, None)
        assert len(take(conn, owner)) == 2


def test_purging_takes_what_waits_now_or_later_and_leaves_what_runs(conn: psycopg.Connection, table: Table) -> None:
    owner = hire(conn)
    put(conn, 4)
    put(conn, countdown=60.0)
    [elsewhere] = put(conn, queue="b")
    running = take(conn, owner, 2)
    purger = 4711
    with conn.transaction():
        found = claims.claim_waiting(conn, purger, 1, ["celery"], 2)
        found += claims.claim_waiting(conn, purger, 10, ["celery"])
        finish.finish(conn, purger, [ended(each, "REVOKED", store=False) for each in found], None)
    assert len(found) == 3
    assert {str(row["id"]) for row in table.rows("SELECT id FROM djtasks_message")} == {
        elsewhere,
        *(each.id for each in running),
    }


# -- cost ---------------------------------------------------------------------------------------------------------


def test_every_claim_and_release_is_a_heap_only_update(conn: psycopg.Connection, table: Table) -> None:
    put(conn, 500, body=b"x" * 300)
    # An index entry of an earlier test must not make a page full.
    conn.execute("VACUUM djtasks_message")
    owner = hire(conn)
    before = _updates(conn, table)
    held = take(conn, owner, 500)
    messages.release(conn, owner, fences(held))
    after = wait_until(lambda: _grown(conn, table, before, 1000), "statistics of the updates")
    assert after == (1000, 1000)


def _updates(conn: psycopg.Connection, table: Table) -> tuple[int, int]:
    """Updates of messages, and how many of them were heap-only."""
    if conn.info.server_version >= 150_000:
        conn.execute("SELECT pg_stat_force_next_flush()")
    row = table.rows("SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'djtasks_message'")[0]
    return row["n_tup_upd"], row["n_tup_hot_upd"]


def _grown(conn: psycopg.Connection, table: Table, before: tuple[int, int], wanted: int) -> tuple[int, int] | None:
    now = _updates(conn, table)
    grown = now[0] - before[0], now[1] - before[1]
    return grown if grown[0] >= wanted else None


def test_a_claim_changes_no_column_that_an_index_holds(table: Table) -> None:
    indexed = {
        row["attname"]
        for row in table.rows(
            "SELECT DISTINCT a.attname FROM pg_index AS i"
            " JOIN pg_attribute AS a ON a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey)"
            " WHERE i.indrelid = 'djtasks_message'::regclass"
        )
    }
    at_rest = {"unique_key", "limit_key", "name", "queue", "root_id", "periodic"}
    assert indexed == {"id", "lane", "priority", "position", "reason", "eta", "expires"} | at_rest
    assert indexed.isdisjoint({"owner", "claim", "rerun", "crashes"})
