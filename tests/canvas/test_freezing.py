"""Freezing: the ids that the tasks of a workflow will have, known before anything is sent."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from djtasks import AsyncResult, GroupResult, chain, chord, group, maybe_signature, shared_task
from djtasks.canvas import Signature, _chain
from djtasks.canvas.types import Lazy
from djtasks.ids import new_task_id


@shared_task
def add(x: int, y: int = 0) -> int:
    return x + y


@shared_task
def total(numbers: list[int]) -> int:
    return sum(numbers)


@pytest.fixture(autouse=True)
def known(registry: dict[str, Any]) -> None:
    registry.update({task.name: task for task in (add, total)})


def leaves(made: Any) -> Iterator[Any]:
    """All calls of tasks in a workflow."""
    if made["subtask_type"] is None:
        yield made
        return
    inner = made["kwargs"]
    members = [*(inner.get("tasks") or ()), *([inner["header"], inner["body"]] if "body" in inner else ())]
    for member in members:
        for each in [member] if isinstance(member, Signature) else member:
            yield from leaves(each)


def everything() -> Any:
    header = [add.s(1) | add.s(2), group(add.s(3), group(add.s(4), add.s(5))), chord([add.s(6)], total.s()), add.s(7)]
    return add.s(0) | chord(header, total.s() | group(add.s(8), add.s(9))) | total.s()


def test_all_tasks_have_ids_and_keep_them() -> None:
    made = everything()
    first = made.freeze()
    ids = [leaf.id for leaf in leaves(made)]
    assert len(ids) == len(set(ids)) == 13
    assert all(ids)
    assert made.freeze().as_tuple() == first.as_tuple()
    assert [leaf.id for leaf in leaves(made)] == ids
    again = maybe_signature(json.loads(json.dumps(made)))
    assert again.freeze().as_tuple() == first.as_tuple()
    assert [leaf.id for leaf in leaves(again)] == ids
    assert made.clone().freeze().as_tuple() == first.as_tuple()


def test_an_id_that_is_there_already_stays() -> None:
    first, second, third = new_task_id(), new_task_id(), new_task_id()
    made = add.s(1).set(task_id=first) | add.s(2)
    result = made.freeze(second)
    assert (made.tasks[0].id, result.id, made.id) == (first, second, second)
    assert made.freeze(third).id == second
    assert group(add.s(1)).freeze(third).id == third


def test_the_results_come_after_each_other() -> None:
    made = add.s(1) | add.s(2) | add.s(3)
    result = made.freeze()
    assert [type(each) for each in (result, result.parent, result.parent.parent)] == [AsyncResult] * 3
    assert [each.id for each in made.tasks] == [result.parent.parent.id, result.parent.id, result.id]
    assert result.parent.parent.parent is None


def test_the_result_of_a_chord_is_its_bodys_and_comes_after_its_headers() -> None:
    made = add.s(0) | group(add.s(1), add.s(2)) | total.s() | add.s(3)
    result = made.freeze()
    header = result.parent.parent
    assert type(header) is GroupResult
    assert header.id == made.tasks[1].id == made.tasks[1].tasks.id
    assert [each.id for each in header.results] == [task.id for task in made.tasks[1].tasks.tasks]
    assert header.parent.id == made.tasks[0].id


def test_a_group_gives_its_members_its_id_and_their_places() -> None:
    made = group(add.s(1), group(add.s(2), add.s(3)), chain(add.s(4), add.s(5)))
    result = made.freeze()
    assert [type(each) for each in made.tasks] == [Signature, Signature, Signature, _chain]
    last = [*made.tasks[:3], made.tasks[3].tasks[1]]
    assert [task.options["group_id"] for task in last] == [made.id] * 4
    assert [task.options["group_index"] for task in last] == [0, 1, 2, 3]
    assert [each.id for each in result.results] == [task.id for task in last]
    assert "group_id" not in made.tasks[3].tasks[0].options


def test_the_terminals_of_a_header_have_their_numbers_in_the_order_of_the_header() -> None:
    header = [
        add.s(1) | add.s(2),
        add.s(3) | group(add.s(4), add.s(5)),
        group(add.s(6), add.s(7)),
        chord([add.s(8)], total.s() | add.s(9)),
        chain(group(add.s(10), add.s(11)), total.s(), group(add.s(12), add.s(13))),
        add.s(14),
    ]
    made = chord(header, total.s())
    made.freeze()
    parts = {
        leaf.args[0]: leaf.options["part"]
        for leaf in leaves(made)
        if leaf.options.get("chord") == made.id and leaf.args
    }
    assert parts == {2: 0, 4: 1, 5: 2, 6: 3, 7: 4, 9: 5, 12: 6, 13: 7, 14: 8}
    assert made.__length_hint__() == 9
    assert "chord" not in made.body.options


def test_a_workflow_is_flat_once_it_is_frozen() -> None:
    made = _chain([add.s(1), _chain([group(add.s(2), add.s(3)), total.s()]), group([]), chord([add.s(4)], total.s())])
    made.freeze()
    first, second = made.tasks
    assert (first.args, type(second)) == ((1,), chord)
    assert [type(each) for each in second.body.tasks] == [Signature, chord]


def test_the_same_signature_twice_is_two_tasks() -> None:
    one = add.s(1)
    for made in (group([one, one]), chain([one, one]), chord([one, one], total.s())):
        made.freeze()
        ids = [leaf.id for leaf in leaves(made)]
        assert len(ids) == len(set(ids))


def test_members_of_a_generator_get_their_ids_when_they_are_made() -> None:
    count = 0

    def members() -> Iterator[Any]:
        nonlocal count
        for count in range(1, 4):
            yield add.s(count)

    made = group(members())
    result = made.freeze()
    assert count == 0
    assert isinstance(made.tasks, Lazy)
    assert [task.id for task in made.tasks] == [each.id for each in result.results]
    assert [task.options["group_index"] for task in made.tasks] == [0, 1, 2]


def test_an_empty_group_has_a_result_and_an_empty_chain_has_none() -> None:
    result = group([]).freeze()
    assert (len(result.results), result.ready(), result.get()) == (0, True, [])
    assert group([]).apply_async().get() == []
    assert chain().freeze() is None
    assert chain()() is None
    assert chain().apply_async() is None


@pytest.mark.parametrize(
    ("make", "size"),
    [
        (lambda: add.s(1), 1),
        (lambda: add.s(1) | add.s(2), 1),
        (lambda: group(add.s(1), group(add.s(2), add.s(3))), 3),
        (lambda: add.s(1) | group(add.s(2), add.s(3)), 2),
        (lambda: chord([add.s(1), add.s(2)], group(total.s(), total.s())), 2),
        (lambda: _chain([add.s(1), group([])]), 1),
        (lambda: group([]), 0),
        (lambda: chord([add.s(1)]), 0),
    ],
)
def test_a_workflow_ends_with_so_many_tasks(make: Any, size: int) -> None:
    assert make().terminals() == size


def test_a_group_keeps_its_id_and_its_options_as_a_header() -> None:
    before = group([add.s(1), add.s(2)]).set(queue="slow")
    header = before.freeze()
    made = before | total.s()
    result = made.freeze()
    assert (made.id, result.parent.id) == (header.id, header.id)
    assert made.tasks.options["queue"] == "slow"
    assert [task.id for task in made.tasks.tasks] == [each.id for each in header.results]
