"""What follows a task, written with its end in one statement: behind the fence, and perhaps in the same hands."""

from typing import Any

import psycopg
import pytest

from djtasks.db import claims, workers
from djtasks.db.pipe import ask
from djtasks.messages import Claimed, Message, Outcome
from djtasks.registry import tasks
from djtasks.worker.births import Births
from djtasks.worker.completer import Completer
from djtasks.worker.state import State
from tests.storage.rows import NODE, Table, ended, hire, message, put, take


class Hands:
    """A worker's hands with room for `room` births, and its pipe."""

    def __init__(self, conn: psycopg.Connection, room: int = 9) -> None:
        self.conn = conn
        self.room = room
        self.open = True
        self.born: list[Claimed] = []
        self.rings = 0
        self.state = State(hire(conn))
        births = Births(
            self.state,
            lambda: self.room,
            lambda following: self.open,
            ["tests.late"],
            lambda found, asked: self.born.extend(found),
            self.ring,
        )
        self.completer = Completer(self.state, NODE, lambda held, error: ended(held, "FAILURE", keep=True), births)

    def ring(self) -> None:
        self.rings += 1

    def take(self, count: int = 1) -> list[Claimed]:
        """Enqueue and claim."""
        put(self.conn, count)
        found = take(self.conn, self.state.incarnation)
        self.state.take(found)
        self.state.last_claim = max(self.state.held)
        return found

    def launch(self) -> bool:
        """Write a batch as a consumer does; whether one went."""
        if questions := self.completer.launch():
            ask(self.conn, *questions)
        return bool(questions)


@pytest.fixture
def hands(conn: psycopg.Connection, monkeypatch: pytest.MonkeyPatch) -> Hands:
    for name in ("tests.next", "tests.late"):
        monkeypatch.setitem(tasks, name, object())
    return Hands(conn)


def following(held: Claimed, *successors: Message, **fields: Any) -> Outcome:
    return ended(held, successors=tuple(map(tuple, successors)), **fields)


def test_what_follows_is_born_in_the_hands_that_have_room(hands: Hands, table: Table) -> None:
    (held,) = hands.take()
    first, late = message(name="tests.next", priority=3, headers='{"root_id":"x"}'), message(name="tests.late")
    hands.completer.add(following(held, first, late))
    assert hands.launch()
    assert [each.id for each in hands.born] == [first.id, late.id]
    assert [each.rerun for each in hands.born] == [False, True]
    assert hands.born[0].priority == 3
    assert hands.born[0].headers == first.headers
    assert set(hands.state.held) == {each.claim for each in hands.born}
    rows = table.rows("SELECT id::text, owner, claim, rerun, lane FROM djtasks_message ORDER BY claim")
    assert [tuple(row.values()) for row in rows] == [
        (each.id, hands.state.incarnation, each.claim, each.rerun, "celery") for each in hands.born
    ]
    assert (table.results(), hands.rings, hands.completer.pending) == (1, 0, False)


def test_without_room_what_follows_waits_in_its_lane(hands: Hands, table: Table) -> None:
    hands.room = 1
    one, two = hands.take(2)
    for held in (one, two):
        hands.completer.add(following(held, message(name="tests.next")))
    assert hands.launch()
    assert (len(hands.born), len(table.waiting()), hands.rings) == (1, 1, 1)


def test_what_is_not_known_here_or_may_not_start_is_not_born_here(hands: Hands, table: Table) -> None:
    one, two = hands.take(2)
    hands.completer.add(following(one, message(name="tests.elsewhere")))
    assert hands.launch()
    hands.open = False
    hands.completer.add(following(two, message(name="tests.next")))
    assert hands.launch()
    assert (hands.born, len(table.waiting())) == ([], 2)


def test_nothing_follows_where_the_fence_is_gone(hands: Hands, table: Table) -> None:
    good, gone = hands.take(2)
    claims.reclaim(hands.conn, hands.state.incarnation, [good.claim])
    hands.completer.add(following(gone, message(name="tests.next")))
    hands.completer.add(following(good, message(name="tests.next")))
    assert hands.launch()
    assert len(hands.born) == 1
    assert hands.state.counters["refused"] == 1
    assert table.results() == 1


def test_a_worker_that_was_declared_dead_gives_birth_to_nothing(hands: Hands, table: Table) -> None:
    (held,) = hands.take()
    workers.remove(hands.conn, hands.state.incarnation)
    hands.completer.add(following(held, message(name="tests.next")))
    assert hands.launch()
    assert (hands.born, len(table.waiting())) == ([], 1)


def test_what_was_born_and_never_heard_of_is_given_back(hands: Hands, table: Table) -> None:
    (held,) = hands.take()
    hands.completer.add(following(held, message(name="tests.next")))
    questions = hands.completer.launch()
    questions[0].answered = None
    ask(hands.conn, *questions)
    assert hands.born == []
    assert len(claims.reclaim(hands.conn, hands.state.incarnation, [held.claim])) == 1
    assert len(table.waiting()) == 1


def test_the_result_of_an_earlier_task_of_the_same_id_is_forgotten(hands: Hands, table: Table) -> None:
    first, second = hands.take(2)
    hands.completer.add(ended(first))
    assert hands.launch()
    hands.completer.add(following(second, message(id=first.id, name="tests.next")))
    assert hands.launch()
    assert [row["id"] for row in table.rows("SELECT id::text FROM djtasks_result")] == [second.id]


def test_plain_ends_and_those_with_successors_go_one_after_the_other(hands: Hands, table: Table) -> None:
    held = hands.take(4)
    for number, each in enumerate(held):
        hands.completer.add(following(each, message(name="tests.next")) if number % 2 else ended(each))
    assert hands.launch()
    assert hands.launch()
    assert not hands.launch()
    assert (table.results(), len(hands.born), hands.completer.pending) == (4, 2, False)


@pytest.mark.parametrize("more", [{"countdown": 60.0}, {"expires_in": 60.0}, {"limit_key": "k"}, {"unique_key": "k"}])
def test_what_may_not_run_at_once_is_written_in_a_transaction(hands: Hands, more: dict[str, Any]) -> None:
    (held,) = hands.take()
    hands.completer.add(following(held, message(name="tests.next", **more)))
    assert not hands.launch()
    assert hands.completer.pending
