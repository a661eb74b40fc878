"""The end of a message, with what belongs to it: in one transaction, or not at all."""

from typing import Any

import psycopg
import pytest
from django.db import connection, transaction

from djtasks import ending
from djtasks.db import results
from djtasks.messages import Outcome
from djtasks.worker import flights
from djtasks.worker.completer import Completer
from djtasks.worker.state import State
from tests.storage.rows import NODE, Table, ended, hire, message, put, take


def follower(**fields: Any) -> tuple[Any, ...]:
    """What follows a task."""
    return tuple(message(name="tests.next", **fields))


@pytest.fixture
def owner(conn: psycopg.Connection) -> int:
    """A worker."""
    return hire(conn)


def test_what_follows_a_task_is_there_once_it_has_ended(conn: psycopg.Connection, owner: int, table: Table) -> None:
    put(conn)
    (held,) = take(conn, owner)
    outcome = ended(held, successors=(follower(), follower(queue="other", countdown=60.0)))
    assert ending.end(conn, owner, [outcome], NODE).accepted == {held.id}
    assert table.result(held.id) is not None
    assert [row["queue"] for row in table.rows("SELECT queue FROM djtasks_message ORDER BY position")] == [
        "celery",
        "other",
    ]
    assert len(table.waiting()) == 1


def test_nothing_follows_an_end_that_is_refused(conn: psycopg.Connection, owner: int, table: Table) -> None:
    put(conn)
    (held,) = take(conn, owner)
    outcome = ended(held, successors=(follower(),))
    assert ending.end(conn, owner + 1, [outcome], NODE).accepted == set()
    assert (table.messages(), table.results()) == (1, 0)


def test_of_a_batch_only_what_was_accepted_is_followed(conn: psycopg.Connection, owner: int, table: Table) -> None:
    put(conn, 2)
    good, late = take(conn, owner)
    outcomes = [ended(good, successors=(follower(),)), ended(late._replace(claim=1), successors=(follower(),))]
    assert ending.end(conn, owner, outcomes, NODE).accepted == {good.id}
    assert table.value("SELECT count(*) FROM djtasks_message WHERE name = 'tests.next'") == 1


def test_the_same_end_twice_is_followed_once(conn: psycopg.Connection, owner: int, table: Table) -> None:
    put(conn)
    (held,) = take(conn, owner)
    outcome = ended(held, successors=(follower(),))
    ending.end(conn, owner, [outcome], NODE)
    assert ending.end(conn, owner, [outcome], NODE).accepted == set()
    assert table.messages() == 1


def test_what_follows_under_an_id_of_the_callers_forgets_the_earlier_result(
    conn: psycopg.Connection, owner: int, table: Table
) -> None:
    (first,) = put(conn)
    (held,) = take(conn, owner)
    ending.end(conn, owner, [ended(held)], NODE)
    put(conn)
    (held,) = take(conn, owner)
    ending.end(conn, owner, [ended(held, successors=(follower(id=first),))], NODE)
    assert table.message(first) is not None
    assert table.result(first) is None


@pytest.mark.parametrize("policy", ["return", "raise"])
def test_a_follower_whose_unique_key_is_taken_is_not_written(
    policy: str, conn: psycopg.Connection, owner: int, table: Table
) -> None:
    put(conn)
    (held,) = take(conn, owner)
    put(conn, unique_key="k")
    outcome = ended(held, successors=(follower(unique_key="k", on_conflict=policy), follower(unique_key="other")))
    assert ending.end(conn, owner, [outcome], NODE).accepted == {held.id}
    keys = [row["unique_key"] for row in table.rows("SELECT unique_key FROM djtasks_message ORDER BY position")]
    assert keys == ["k", "other"]


def test_a_follower_that_replaces_takes_the_place_of_what_waits(
    conn: psycopg.Connection, owner: int, table: Table
) -> None:
    put(conn)
    (held,) = take(conn, owner)
    (before,) = put(conn, unique_key="k")
    outcome = ended(held, successors=(follower(unique_key="k", on_conflict="replace"),))
    ending.end(conn, owner, [outcome], NODE)
    assert table.message(before) is None
    assert table.messages() == 1


def test_a_dead_letter_says_why(conn: psycopg.Connection, owner: int, table: Table) -> None:
    put(conn)
    (held,) = take(conn, owner)
    ending.end(conn, owner, [ended(held, "FAILURE", dead="rejected", keep=True)], NODE)
    found = table.result(held.id)
    assert found is not None
    assert (found["state"], found["dead"], bytes(found["body"])) == ("FAILURE", "rejected", b"[[], {}]")
    assert results.fetch(conn, [held.id])[held.id].dead == "rejected"


def test_djangos_connection_ends_a_message_inside_its_users_transaction(
    conn: psycopg.Connection, owner: int, table: Table, transactional_db: None
) -> None:
    put(conn, 2)
    first, second = take(conn, owner)
    with transaction.atomic():
        outcome = ended(first, result=b"\x00\xff'", successors=(follower(),))
        assert ending.end(connection, owner, [outcome], NODE).accepted == {first.id}
        assert table.result(first.id) is None
    found = table.result(first.id)
    assert found is not None
    assert bytes(found["result"]) == b"\x00\xff'"
    with transaction.atomic():
        ending.end(connection, owner, [ended(second, successors=(follower(),))], NODE)
        transaction.set_rollback(True)
    assert table.message(second.id) is not None
    assert table.value("SELECT count(*) FROM djtasks_message WHERE name = 'tests.next'") == 1


# -- pruning ------------------------------------------------------------------------------------------------------


def test_dead_letters_outlive_results_and_are_pruned_by_their_own_age(
    conn: psycopg.Connection, owner: int, table: Table
) -> None:
    put(conn, 2)
    good, bad = take(conn, owner)
    ending.end(conn, owner, [ended(good), ended(bad, "FAILURE", dead="failed", keep=True)], NODE)
    conn.execute("UPDATE djtasks_result SET done = done - interval '1 hour'")
    assert results.prune(conn, 60) == 1
    assert table.result(bad.id) is not None
    assert results.prune_dead(conn, 7200) == 0
    assert results.prune_dead(conn, 60) == 1
    assert table.results() == 0


# -- the completer ------------------------------------------------------------------------------------------------


class Hands:
    """A worker's hands."""

    def __init__(self, conn: psycopg.Connection) -> None:
        self.conn = conn
        self.state = State(hire(conn))
        self.completer = Completer(self.state, NODE, lambda held, error: ended(held, "FAILURE", keep=True))

    def take(self, count: int = 1) -> list[Any]:
        """Enqueue and claim."""
        put(self.conn, count)
        found = take(self.conn, self.state.incarnation)
        self.state.take(found)
        return found


@pytest.fixture
def hands(conn: psycopg.Connection) -> Hands:
    return Hands(conn)


def test_plain_ends_go_on_their_way_without_waiting_and_others_do_not(hands: Hands) -> None:
    plain, special = hands.take(2)
    hands.completer.add(ended(special, successors=(follower(),)))
    assert hands.completer.launch() == []
    hands.completer.flush(hands.conn)
    hands.completer.add(ended(plain))
    assert hands.completer.launch() != []


def test_a_follower_that_the_database_refuses_is_the_failure_of_its_task_alone(hands: Hands, table: Table) -> None:
    good, bad = hands.take(2)
    hands.completer.add(ended(good, successors=(follower(),)))
    hands.completer.add(ended(bad, successors=(follower(queue="a\0b"),)))
    hands.completer.flush(hands.conn)
    states = {row["id"]: row["state"] for row in table.rows("SELECT id::text, state FROM djtasks_result")}
    assert states == {good.id: "SUCCESS", bad.id: "FAILURE"}
    assert table.messages() == 1
    assert not hands.completer.pending


def test_a_failure_whose_errback_the_database_refuses_is_stored_without_it(hands: Hands, table: Table) -> None:
    (bad,) = hands.take()
    hands.completer.failure = lambda held, error: ended(
        held, "FAILURE", keep=True, successors=(follower(queue="a\0b"),)
    )
    hands.completer.add(ended(bad, successors=(follower(queue="a\0b"),)))
    hands.completer.flush(hands.conn)
    found = table.result(bad.id)
    assert found is not None
    assert (found["state"], table.messages()) == ("FAILURE", 0)


def test_what_has_ended_itself_is_let_go_and_counted_and_not_written(hands: Hands, table: Table) -> None:
    (held,) = hands.take()
    hands.completer.add(ended(held, finished=True))
    assert hands.completer.launch() == []
    hands.completer.flush(hands.conn)
    assert not hands.state.held
    assert hands.state.counters["SUCCESS"] == 1
    assert (table.messages(), table.results()) == (1, 0)


def test_the_bodies_of_what_follows_count_for_the_size_of_a_batch(
    hands: Hands, monkeypatch: pytest.MonkeyPatch, table: Table
) -> None:
    monkeypatch.setattr(flights, "BATCH_BYTES", 1000)
    for held in hands.take(3):
        hands.completer.add(ended(held, successors=(follower(body=b"x" * 900),)))
    hands.completer.flush(hands.conn)
    assert table.results() == 1
    while hands.completer.pending:
        assert hands.completer.launch() == []
        hands.completer.flush(hands.conn)
    assert (table.results(), table.messages()) == (3, 3)


def test_a_worker_that_was_declared_dead_forgets_what_was_special(hands: Hands) -> None:
    (held,) = hands.take()
    hands.completer.add(ended(held, dead="failed"))
    hands.completer.drop()
    assert not hands.completer.pending


def test_a_plain_outcome_is_plain() -> None:
    outcome = Outcome(1, "x", "SUCCESS")
    assert ending.is_plain(outcome)
    assert not ending.is_plain(outcome._replace(dead="failed"))
    assert not ending.is_plain(outcome._replace(successors=(follower(),)))
