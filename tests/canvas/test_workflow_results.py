"""The results of workflows that were sent and run: who came before, what came after, what failed."""

from typing import Any

import pytest

from djtasks import AsyncResult, GroupResult, chain, chord, group, result_from_tuple, shared_task
from djtasks.db import families
from djtasks.db.connections import borrow
from djtasks.exceptions import ChordError
from djtasks.testing import drain

pytestmark = pytest.mark.django_db(transaction=True)


@shared_task(name="flows.add")
def add(x: int, y: int) -> int:
    return x + y


@shared_task(name="flows.total")
def total(numbers: list[int]) -> int:
    return sum(numbers)


@shared_task(name="flows.fail")
def fail(*args: Any) -> None:
    raise LookupError("original")


@pytest.fixture(autouse=True)
def defined(registry: dict[str, Any]) -> None:
    for task in (add, total, fail):
        registry[task.name] = task


def test_a_chain_knows_what_came_before_and_after() -> None:
    last = chain(add.s(1, 1), add.s(2), add.s(3)).delay()
    middle, first = last.parent, last.parent.parent
    assert first.parent is None
    drain()
    assert (first.get(), middle.get(), last.get()) == (2, 4, 7)
    assert (list(first.children), list(middle.children), list(last.children)) == ([middle], [last], [])
    assert first.get_leaf() == 7
    assert [node for _, node in first.iterdeps()] == [first, middle, last]
    assert first.graph.topsort() == [first, middle, last]
    assert result_from_tuple(last.as_tuple()).parent.parent == first


def test_a_group_behind_a_task_is_its_child_and_the_body_behind_the_group_too() -> None:
    body = (add.s(1, 1) | group(add.s(number) for number in range(10)) | total.s()).delay()
    header = body.parent
    first = header.parent
    assert header.completed_count() == 0
    drain()
    assert body.get(timeout=10) == 65
    assert (header.completed_count(), header.ready()) == (10, True)
    children = list(first.children)
    assert children == [GroupResult(header.id, header.results), body]
    assert list(first.collect())[1][1] == list(range(2, 12))


def test_a_group_can_be_saved_while_it_runs_and_joined_elsewhere() -> None:
    sent = group(add.s(number, number) for number in range(5)).delay()
    sent.save()
    found = GroupResult.restore(sent.id)
    assert found is not None
    drain()
    assert found.join(timeout=10) == [0, 2, 4, 6, 8]


def test_a_failed_chord_raises_what_its_member_has_failed_with() -> None:
    body = chord([add.s(1, 1), fail.s(), fail.s(2)])(total.s())
    drain()
    with pytest.raises(LookupError, match="original"):
        body.get(timeout=10)
    with pytest.raises(ChordError, match="LookupError"):
        AsyncResult(body.id).get(timeout=10)
    with pytest.raises(LookupError):
        body.parent.get(timeout=10)
    assert body.parent.states() == {"SUCCESS": 1, "FAILURE": 2}


def test_the_rows_of_a_chord_that_is_no_ones_child_are_one_workflow() -> None:
    body = chord([add.s(1, 1), add.s(2, 2)])(total.s())
    first, second = body.parent
    for each in (first, second):
        assert [found.id for found in families.workflow(borrow(), each.id, 100)] == sorted([first.id, second.id])
    (waiting,) = families.open_chords(borrow(), [first.id], [], 10)
    assert (waiting.size, waiting.ended, waiting.body_id, waiting.body) == (2, 0, body.id, "flows.total")
    drain()
    found = {each.id: each for each in families.workflow(borrow(), body.id, 100)}
    assert set(found) == {first.id, second.id, body.id}
    assert {each.group_id for each in found.values() if each.id != body.id} == {body.parent.id}
    assert found[body.id].group_id is None
    assert families.open_chords(borrow(), [first.id], [body.parent.id], 10) == []
    assert families.size(borrow(), first.id) == 3
