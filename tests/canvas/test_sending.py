"""Sending workflows: which rows are written, when, in which transactions, and in how much memory."""

import gc
import json
import tracemalloc
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest
from django.db import connection, transaction

from djtasks import AsyncResult, shared_task, signals
from djtasks.canvas import chain, chord, group, types
from djtasks.canvas.send import CHUNK
from djtasks.db.connections import open_private
from djtasks.exceptions import EncodeError, NotEnqueuedYet
from djtasks.testing import drain
from tests.calling.conftest import Configure, connected

pytestmark = pytest.mark.django_db(transaction=True, available_apps=["djtasks"])

ONE_ID = "6c1b2f0e-93d4-4a55-8f0a-0c5d2b7e9a11"


@shared_task
def add(x: int, y: int = 0) -> int:
    return x + y


@shared_task
def total(values: list[int]) -> int:
    return sum(values)


@shared_task(bind=True)
def sends(self: Any) -> list[Any]:
    group(add.s(1), add.s(2)).apply_async()
    chord([add.s(1), add.s(2)])(total.s())
    chain(add.s(1), add.s(2)).apply_async(add_to_parent=False)
    return [len(self.request.children), self.request.children[0].results[1].id]


@pytest.fixture(autouse=True)
def known(registry: dict[str, Any]) -> None:
    registry.update({task.name: task for task in (add, total, sends)})


@pytest.fixture
def onlooker(db: None) -> Iterator[psycopg.Connection]:
    """A connection that sees what is committed."""
    with open_private("test onlooker") as conn:
        yield conn


def count(conn: psycopg.Connection, table: str = "message") -> int:
    (found,) = conn.execute(f"SELECT count(*) FROM djtasks_{table}".encode()).fetchone() or (0,)
    return int(found)


def rows(columns: str) -> list[tuple[Any, ...]]:
    """These columns of the messages, in the order in which they were written."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {columns} FROM djtasks_message ORDER BY position")
        return list(cursor.fetchall())


# -- rows ---------------------------------------------------------------------------------------------------------


def test_a_chain_is_one_row() -> None:
    result = chain(add.s(1, 1), add.s(2), add.s(3)).apply_async(queue="slow", task_id="the last")
    ((own, queue, headers),) = rows("id::text, queue, headers")
    assert queue == "slow"
    assert [each["args"] for each in json.loads(headers)["chain"]] == [[3], [2]]
    assert result.id == "the last"
    assert result.parent.parent.id == own


def test_a_group_is_a_row_a_member_in_their_order_with_the_groups_id() -> None:
    result = group(add.s(1), chain(add.s(2), add.s(3)), add.s(4)).apply_async((1,), task_id="my group", priority=4)
    found = rows("id::text, group_id::text, priority, headers")
    assert result.id == "my group"
    assert [found[0][0], found[2][0]] == [result.results[0].id, result.results[2].id]
    assert len({found[0][1], found[2][1]}) == 1
    assert {row[2] for row in found} == {4}
    assert json.loads(found[2][3]) == {"group": "my group", "group_index": 2}


def test_a_chord_is_the_rows_of_its_header_and_one_of_its_own() -> None:
    result = chord([add.s(1), add.s(2)], total.s()).apply_async(task_id="the body")
    (chords,) = {row[:1] for row in rows("chord::text")}
    assert [row[0] for row in rows("part")] == [0, 1]
    with connection.cursor() as cursor:
        cursor.execute("SELECT id::text, size, ended, body FROM djtasks_chord")
        ((own, size, ended, body),) = cursor.fetchall()
    assert (own, size, ended) == (chords[0], 2, 0)
    assert json.loads(body)["options"]["task_id"] == result.id == "the body"
    assert result.parent.id == own


def test_a_signature_can_be_sent_many_times_and_stays_as_it_was() -> None:
    made = chain(add.s(1, 1), group(add.s(2), add.s(3)), total.s())
    before = json.dumps(made)
    ids = {made.apply_async().id for _ in range(3)}
    assert len(ids) == 3
    assert json.dumps(made) == before


def test_a_frozen_signature_keeps_its_ids_and_may_run_again() -> None:
    made = chain(add.s(1, 1), add.s(2))
    frozen = made.freeze()
    assert made.apply_async().id == frozen.id
    drain()
    assert AsyncResult(frozen.id).get(timeout=0) == 4
    made.tasks[1]["args"] = (5,)
    made.apply_async()
    assert AsyncResult(frozen.parent.id).state == "PENDING"
    drain()
    assert AsyncResult(frozen.id).get(timeout=0) == 7


def test_a_result_that_nobody_keeps_is_not_waited_for() -> None:
    assert chain(add.s(1), add.s(1).set(ignore_result=True)).apply_async().get(timeout=5) is None
    results = group(add.s(1).set(ignore_result=True), add.s(2).set(ignore_result=True), add.s(3)).apply_async().results
    assert [each.ignored for each in results] == [True, True, False]
    assert [each.ignored for each in group(add.s(1), add.s(2)).apply_async(ignore_result=True).results] == [True, True]


def test_empty_workflows() -> None:
    result = group([]).apply_async()
    assert (result.results, rows("id")) == ([], [])
    assert chain().apply_async() is None


def test_an_empty_chain_is_no_member() -> None:
    results = group([chain(), add.s(1, 2)]).apply_async()
    total_of = chord([chain(), add.s(1, 2), chain(group([]))], total.s())()
    frozen = group([chain(), add.s(1, 2)]).freeze()
    drain()
    assert results.get(timeout=1) == [3]
    assert total_of.get(timeout=1) == 3
    assert len(frozen.results) == 1


def test_what_a_task_sends_is_its_child_once_whatever_it_is() -> None:
    result = sends.delay()
    drain()
    children, member = result.get(timeout=0)
    assert children == 2
    assert AsyncResult(member).get(timeout=0) == 2


def test_signals_about_members_are_sent_for_each() -> None:
    before: list[Any] = []
    after: list[Any] = []
    with (
        connected(signals.before_task_publish, lambda sender, headers, **_: before.append(headers["id"])),
        connected(signals.after_task_publish, lambda sender, headers, **_: after.append(headers["id"])),
    ):
        result = chord([add.s(1), add.s(2)], total.s()).apply_async()
    assert before == after == [each.id for each in result.parent.results]


# -- errors -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("made", "error", "text"),
    [
        (lambda: group(add.s(1), add.s(1, 2, 3)), TypeError, "add"),
        (lambda: chord([add.s(1), add.s(object())], total.s()), EncodeError, "object"),
        (lambda: chord([add.s(1)], total.s(object())), EncodeError, "object"),
        (lambda: chain(add.s(1), add.s(object())), EncodeError, "object"),
        (lambda: group(add.s(1), add.s(2).set(kew="x")), TypeError, "no option 'kew'"),
        (lambda: group(add.s(1), add.s(2).set(priority="x")), (TypeError, ValueError), "priority"),
        (lambda: chord([add.s(1)], chain()), TypeError, "a chord needs a body"),
        (lambda: group(add.s(1), add.s(2)) | chain(), TypeError, "a chord needs a body"),
        (lambda: chord([add.s(1).set(task_id=ONE_ID)] * 2, total.s()), RuntimeError, "the same id"),
        (lambda: group(add.s(1).set(task_id=ONE_ID), add.s(2).set(task_id=ONE_ID)), RuntimeError, "the same id"),
    ],
)
def test_what_is_wrong_is_raised_in_the_caller_and_leaves_nothing(made: Any, error: Any, text: str) -> None:
    with pytest.raises(error, match=text):
        made().apply_async()
    assert rows("id") == []


# -- modes --------------------------------------------------------------------------------------------------------


def workflow() -> Any:
    return chain(add.s(1, 1), add.s(2)) | chord([add.s(1), group(add.s(2), add.s(3))], total.s())


def everything(**options: Any) -> list[Any]:
    """A chain, a group and a chord are sent."""
    return [
        chain(add.s(1, 1), add.s(2)).apply_async(**options),
        group(add.s(1), add.s(2)).apply_async(**options),
        chord([add.s(1), add.s(2)], total.s()).apply_async(**options),
    ]


def test_on_commit_nothing_is_there_before_it_and_all_after_it(onlooker: psycopg.Connection) -> None:
    with transaction.atomic():
        results = everything()
        assert rows("id") == []
        with pytest.raises(NotEnqueuedYet):
            results[0].get(timeout=5)
        with pytest.raises(NotEnqueuedYet):
            AsyncResult(results[2].id).get(timeout=5)
    assert (count(onlooker), count(onlooker, "chord")) == (5, 1)


@pytest.mark.parametrize("mode", ["on_commit", "in_transaction"])
def test_a_rollback_leaves_nothing(onlooker: psycopg.Connection, mode: str) -> None:
    with transaction.atomic():
        everything(enqueue=mode)
        with transaction.atomic():
            everything(enqueue=mode)
        transaction.set_rollback(True)
    with transaction.atomic():
        with transaction.atomic():
            everything(enqueue=mode)
            transaction.set_rollback(True)
        add.apply_async((1,), enqueue=mode)
    assert (count(onlooker), count(onlooker, "chord")) == (1, 0)


def test_in_transaction_it_is_there_for_the_transaction_alone(onlooker: psycopg.Connection) -> None:
    with transaction.atomic():
        everything(enqueue="in_transaction")
        assert len(rows("id")) == 5
        assert count(onlooker) == 0
    assert (count(onlooker), count(onlooker, "chord")) == (5, 1)


def test_immediately_it_survives_a_rollback(onlooker: psycopg.Connection) -> None:
    with transaction.atomic():
        everything(enqueue="immediately")
        transaction.set_rollback(True)
    assert (count(onlooker), count(onlooker, "chord")) == (5, 1)


# -- streams ------------------------------------------------------------------------------------------------------


def test_a_group_is_written_while_its_generator_makes_it(onlooker: psycopg.Connection) -> None:
    seen: list[int] = []

    def members() -> Iterator[Any]:
        for number in range(3 * CHUNK):
            if number % CHUNK == CHUNK - 1:
                seen.append(count(onlooker))
            yield add.s(number)

    result = group(members()).apply_async()
    assert seen[-1] >= CHUNK
    assert count(onlooker) == len(result.results) == 3 * CHUNK
    ids = [row[0] for row in rows("id::text")]
    assert ids == [each.id for each in result.results]


def test_a_chord_is_there_as_a_whole_or_not_at_all(onlooker: psycopg.Connection) -> None:
    seen: list[int] = []

    def header(last: int) -> Iterator[Any]:
        for number in range(2 * CHUNK):
            seen.append(count(onlooker)) if number % CHUNK == 0 else None
            yield add.s(number)
        if last:
            raise KeyError(last)

    with pytest.raises(KeyError):
        chord(header(1), total.s()).apply_async()
    assert (count(onlooker), count(onlooker, "chord")) == (0, 0)
    chord(header(0), total.s()).apply_async()
    assert seen == [0, 0, 0, 0]
    assert (count(onlooker), count(onlooker, "chord")) == (2 * CHUNK, 1)


def test_chords_in_a_large_group_are_there_with_their_headers(onlooker: psycopg.Connection) -> None:
    seen: list[bool] = []

    def members() -> Iterator[Any]:
        for number in range(700):
            if number % 100 == 0:
                (parts,) = onlooker.execute("SELECT count(*) FROM djtasks_message").fetchone() or (0,)
                seen.append(parts == 3 * count(onlooker, "chord"))
            yield chord([add.s(1), add.s(2), add.s(number)], total.s())

    result = group(members()).apply_async()
    assert all(seen)
    assert len(result.results) == count(onlooker, "chord") == 700
    assert count(onlooker) == 2100


@pytest.mark.parametrize("mode", ["on_commit", "in_transaction"])
def test_a_large_chord_in_a_transaction_is_there_after_its_commit(onlooker: psycopg.Connection, mode: str) -> None:
    with transaction.atomic():
        chord((add.s(number) for number in range(CHUNK + 5)), total.s()).apply_async(enqueue=mode)
        assert count(onlooker) == 0
    assert (count(onlooker), count(onlooker, "chord")) == (CHUNK + 5, 1)


def test_a_group_is_sent_in_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    # So many members are kept for who sends the group again.
    monkeypatch.setattr(types, "_KEPT", 100)

    def peak(size: int) -> int:
        gc.collect()
        tracemalloc.start()
        group(add.s(number) for number in range(size)).apply_async()
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    small, large = peak(4 * CHUNK), peak(9 * CHUNK)
    assert large - small < 5 * CHUNK * 50


def test_an_eager_workflow_is_not_enqueued(configure: Configure) -> None:
    configure(TASK_ALWAYS_EAGER=True)
    assert workflow().apply_async().get() == 4 + 1 + 4 + 2 + 4 + 3
    assert rows("id") == []
