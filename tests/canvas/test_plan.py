"""Plan: what of a workflow is sent now, what waits in headers and rows, and which numbers and groups it gets. Pure."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from djtasks import shared_task
from djtasks.canvas import chain, chord, group
from djtasks.canvas.plan import Call, Plan
from djtasks.canvas.trees import fallen, place, size, terminals, thaw
from djtasks.messages import Chord


@shared_task
def add(*args: int) -> int:
    return sum(args)


@shared_task
def total(values: list[int]) -> int:
    return sum(values)


@pytest.fixture(autouse=True)
def known(registry: dict[str, Any]) -> None:
    registry.update({task.name: task for task in (add, total)})


def planned(tree: Any, *args: Any, **options: Any) -> tuple[list[Call], list[Chord]]:
    """The calls and the chords of a tree."""
    plan = Plan(thaw(tree), args, {}, options)
    return list(plan.calls), plan.chords


def steps(call: Call) -> list[Any]:
    """The arguments of what stands behind a call, the next one first."""
    return [tuple(each["args"]) for each in reversed(call.options.get("chain", []))]


def places(calls: list[Call]) -> list[tuple[Any, int | None]]:
    """The first argument of each call, and its part."""
    return [(call.args[0], call.options.get("part")) for call in calls]


# -- chains -------------------------------------------------------------------------------------------------------


def test_a_chain_is_the_call_of_its_first_task_which_carries_the_others_the_next_one_last() -> None:
    calls, chords = planned(chain(add.s(1), add.s(2), add.s(3)), 7)
    assert [call.args for call in calls] == [(7, 1)]
    assert [tuple(each["args"]) for each in calls[0].options["chain"]] == [(3,), (2,)]
    assert chords == []


def test_chains_in_chains_are_flat_and_empty_groups_fall_out() -> None:
    tree = {
        **chain(add.s(1), add.s(2)),
        "kwargs": {"tasks": [add.s(1), chain(add.s(2), add.s(3)), group([]), add.s(4)]},
    }
    (call,), _ = planned(tree)
    assert steps(call) == [(2,), (3,), (4,)]


def test_options_of_a_chain_are_its_first_tasks_links_its_lasts_and_errbacks_everybodys() -> None:
    made = chain(add.s(1), add.s(2)).set(queue="slow", link=add.s(9), link_error=[add.s(8)])
    (call,), _ = planned(made)
    (last,) = call.options["chain"]
    assert call.options["queue"] == "slow"
    assert "queue" not in last["options"]
    assert [link["args"] for link in last["options"]["link"]] == [(9,)]
    assert "link" not in call.options
    assert call.options["link_error"] == last["options"]["link_error"] == [add.s(8)]


def test_what_a_chain_is_called_with_is_laid_over_the_options_of_its_first_task() -> None:
    (call,), _ = planned(chain(add.s(1).set(priority=1), add.s(2)), priority=5, countdown=3)
    assert (call.options["priority"], call.options["countdown"]) == (5, 3)
    assert "countdown" not in call.options["chain"][0]["options"]


def test_an_immutable_step_takes_nothing() -> None:
    (call,), _ = planned(chain(add.si(1), add.s(2)), 7)
    assert call.args == (1,)


def test_a_group_with_something_behind_it_is_the_header_of_a_chord() -> None:
    tree = {**chain(add.s(1), add.s(2)), "kwargs": {"tasks": [group(add.s(1), add.s(2)), total.s(), add.s(3)]}}
    calls, (opened,) = planned(tree)
    assert places(calls) == [(1, 0), (2, 1)]
    body = json.loads(opened.body)
    assert [each["task"] for each in body["kwargs"]["tasks"]] == [total.name, add.name]
    assert opened.body_id == body["kwargs"]["tasks"][-1]["options"]["task_id"]


def test_what_stands_behind_a_chord_stands_behind_its_body() -> None:
    tree = {
        **chain(add.s(1), add.s(2)),
        "kwargs": {"tasks": [chord([add.s(1)], total.s()), group(add.s(2), add.s(3)), total.s()]},
    }
    _, (opened,) = planned(tree)
    assert [each["task"] for each in json.loads(opened.body)["kwargs"]["tasks"]] == [
        total.name,
        "celery.group",
        total.name,
    ]


def test_an_empty_chain_is_nothing() -> None:
    assert planned({**chain(add.s(1), add.s(2)), "kwargs": {"tasks": []}}) == ([], [])


# -- groups -------------------------------------------------------------------------------------------------------


def test_the_members_of_a_group_and_of_groups_in_it_are_numbered_in_their_order() -> None:
    calls, chords = planned(group(add.s(1), group(add.s(2), add.s(3)), add.s(4)), 7, priority=2)
    assert [call.args for call in calls] == [(7, 1), (7, 2), (7, 3), (7, 4)]
    assert [call.options["group_index"] for call in calls] == [0, 1, 2, 3]
    assert len({call.options["group_id"] for call in calls}) == 1
    assert [call.options["priority"] for call in calls] == [2, 2, 2, 2]
    assert chords == []


def test_the_members_of_a_group_are_beginnings_of_their_own() -> None:
    calls, _ = planned(group(add.s(1), add.s(2)))
    assert not any("root_id" in call.options for call in calls)


def test_the_group_of_a_chain_is_that_of_its_last_task() -> None:
    (call,), _ = planned(group(chain(add.s(1), add.s(2))))
    assert "group_id" not in call.options
    assert "group_id" in call.options["chain"][0]["options"]


def test_a_group_takes_no_links() -> None:
    with pytest.raises(TypeError, match="a group cannot have a link: make it a chord"):
        planned(group(add.s(1)), link=add.s(2))
    with pytest.raises(TypeError, match="a group cannot have a link_error"):
        planned(group(add.s(1)), link_error=add.s(2))


def test_the_calls_of_a_group_are_made_when_they_are_taken() -> None:
    made: list[int] = []

    def members() -> Iterator[Any]:
        for number in range(5):
            made.append(number)
            yield add.s(number)

    plan = Plan(thaw(group(members()), lazy=True))
    assert next(plan.calls).args == (0,)
    assert len(made) <= 2
    assert len(list(plan.calls)) == 4


# -- chords -------------------------------------------------------------------------------------------------------


def test_the_parts_of_a_chord_are_the_calls_with_which_its_header_ends_in_their_order() -> None:
    header = [add.s(0), chain(add.s(1), add.s(2)), chord([add.s(3), add.s(4)], total.s()), group(add.s(5), add.s(6))]
    tree = thaw(chord(header, total.s()))
    plan = Plan(tree)
    calls = list(plan.calls)
    inner, outer = plan.chords
    assert outer.size == 5
    assert inner.size == 2
    ends = {call.args[0]: call.options["part"] for call in calls if call.options.get("chord") == outer.id}
    assert ends == {0: 0, 5: 3, 6: 4}
    behind = calls[1].options["chain"][0]["options"]
    assert (behind["chord"], behind["part"]) == (outer.id, 1)
    assert json.loads(inner.body)["options"]["part"] == 2


def test_the_size_of_a_tree_is_the_number_of_calls_with_which_it_ends() -> None:
    assert size(add.s(1)) == 1
    assert size(chain(add.s(1), group(add.s(2), add.s(3)))) == 2
    assert size(chord([add.s(1), add.s(2)], group(add.s(1), add.s(2), add.s(3)))) == 3
    assert size(group(add.s(1), chain(add.s(2), add.s(3)))) == 2
    assert size({**group([]), "kwargs": {"tasks": []}}) == 0


def test_a_chord_without_parts_is_its_body_with_an_empty_list() -> None:
    calls, chords = planned({**chord([add.s(1)], total.s()), "kwargs": {"header": [], "body": total.s(), "kwargs": {}}})
    assert [(call.name, call.args) for call in calls] == [(total.name, ([],))]
    assert chords == []


def test_options_of_a_chord_are_those_of_the_header_and_of_the_body_but_its_start_is_the_headers() -> None:
    calls, (opened,) = planned(chord([add.s(1)], total.s()), queue="slow", countdown=5, link=add.s(9))
    assert calls[0].options["queue"] == "slow"
    assert calls[0].options["countdown"] == 5
    assert "link" not in calls[0].options
    body = json.loads(opened.body)["options"]
    assert body["queue"] == "slow"
    assert "countdown" not in body
    assert [each["args"] for each in body["link"]] == [[9]]


def test_the_calls_of_a_chord_have_one_root_and_the_body_is_of_the_headers_group() -> None:
    calls, (opened,) = planned(chord([add.s(1), add.s(2)], total.s()))
    first = calls[0].options["task_id"]
    assert calls[1].options["root_id"] == opened.root_id == first
    assert json.loads(opened.body)["options"]["group_id"] == opened.id == calls[0].options["group_id"]


def test_a_chord_is_open_until_all_of_its_header_has_been_taken() -> None:
    plan = Plan(thaw(chord([add.s(1), add.s(2)], total.s())))
    next(plan.calls)
    assert (plan.open, plan.chords) == (1, [])
    assert len(list(plan.calls)) == 1
    assert plan.open == 0
    assert len(plan.chords) == 1


def test_a_chord_without_a_body_is_refused() -> None:
    with pytest.raises(TypeError, match="a chord needs a body"):
        planned({**chord([add.s(1)], total.s()), "kwargs": {"header": [add.s(1)], "body": None, "kwargs": {}}})


# -- trees --------------------------------------------------------------------------------------------------------


def test_ids_that_are_there_stay_and_the_signature_itself_is_left_alone() -> None:
    made = chain(add.s(1).set(task_id="first"), add.s(2))
    (call,), _ = planned(made)
    assert call.options["task_id"] == "first"
    assert "task_id" not in made.tasks[1].options
    once = thaw(made)
    assert [each["options"] for each in thaw(once)["kwargs"]["tasks"]] == [
        each["options"] for each in once["kwargs"]["tasks"]
    ]


def test_a_tree_that_went_through_json_is_the_same() -> None:
    tree = thaw(chord([chain(add.s(1), add.s(2)), group(add.s(3))], group(total.s(), total.s())))
    again = thaw(json.loads(json.dumps(tree)))
    assert json.dumps(again) == json.dumps(tree)


def test_place_numbers_all_ends_of_a_tree() -> None:
    tree = thaw(group(add.s(1), chain(add.s(2), add.s(3))))
    assert place(tree, "c", 4) == 6
    assert [(each["args"], each["options"]["part"]) for each in terminals(tree)] == [((1,), 4), ((3,), 5)]


def test_what_falls_of_a_chain_are_all_calls_of_its_rest_with_their_places_in_chords() -> None:
    tree = thaw(chord([chain(add.s(1), chord([add.s(2)], total.s()), add.s(3))], total.s()))
    (call,) = list(Plan(tree).calls)
    found = fallen(reversed(call.options["chain"]))
    assert [each.name for each in found] == [add.name, total.name, add.name]
    assert [each.part for each in found][-1] == 0
    assert found[-1].chord == tree["kwargs"]["header"]["options"]["task_id"]


def test_what_is_no_signature_is_refused_with_a_sentence() -> None:
    with pytest.raises(TypeError, match="made of signatures, not of 5"):
        thaw({**group(add.s(1)), "kwargs": {"tasks": [5]}})


def test_a_tree_that_is_too_deep_is_refused_with_a_sentence() -> None:
    tree: Any = add.s(1)
    for _ in range(150):
        tree = {**group(add.s(1)), "subtask_type": "chain", "kwargs": {"tasks": [tree]}}
    with pytest.raises(RecursionError, match="more than 100 deep in one another"):
        thaw(tree)
    loop: dict[str, Any] = {"task": "celery.chain", "subtask_type": "chain", "options": {}, "kwargs": {}}
    loop["kwargs"]["tasks"] = [loop]
    with pytest.raises(RecursionError, match="does one hold itself"):
        thaw(loop)


def test_a_chain_of_ten_thousand_links_is_planned() -> None:
    (call,), _ = planned({**chain(add.s(1), add.s(2)), "kwargs": {"tasks": [add.s(n) for n in range(10_000)]}})
    assert len(call.options["chain"]) == 9999
