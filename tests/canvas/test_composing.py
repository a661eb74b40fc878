"""Putting workflows together: what `|` and the classes make, how it looks, and what is refused.

The whole table of `|` is compared with Celery's in tests/differential/test_canvas.py.
"""

import copy
import json
import pickle
from collections.abc import Iterator
from typing import Any

import pytest
from celery.utils.abstract import CallableSignature

import djtasks
from djtasks import chain, chord, chunks, group, maybe_signature, shared_task, signature, xmap, xstarmap
from djtasks.canvas import Signature, _chain, _chord, composite
from djtasks.canvas.types import NESTING_MAX, TYPES, Lazy, check_nesting
from djtasks.ids import as_task_id
from tests.calling.conftest import Configure


@shared_task(name="shop.add")
def add(x: Any, y: Any = 0) -> Any:
    return x + y


@shared_task(name="shop.total")
def total(numbers: list[int], more: int = 0) -> int:
    return sum(numbers) + more


@shared_task(name="shop.told")
def told(*args: Any) -> None: ...


@pytest.fixture(autouse=True)
def known(registry: dict[str, Any]) -> None:
    registry.update({task.name: task for task in (add, total, told)})


def numbers(count: int) -> Iterator[Any]:
    return (add.s(number, number) for number in range(count))


# -- what is made -----------------------------------------------------------------------------------------------------


def test_tasks_make_a_chain_and_a_group_before_a_task_makes_a_chord() -> None:
    assert (add.s(1) | add.s(2) | add.s(3)).tasks == [add.s(1), add.s(2), add.s(3)]
    made = group(add.s(1), add.s(2)) | total.s()
    assert type(made) is chord
    assert (list(made.tasks), made.body) == ([add.s(1), add.s(2)], total.s())
    made = add.s(1) | group([add.s(2), add.s(3)]) | total.s()
    assert made.tasks == [add.s(1), chord([add.s(2), add.s(3)], total.s())]


def test_a_chain_is_one_however_it_was_made() -> None:
    for made in (add.s(1) | add.s(2), chain(add.s(1), add.s(2)), chain(numbers(2)), chain(add.s(1))):
        assert isinstance(made, chain)
        assert isinstance(made, _chain)
    assert not isinstance(add.s(1), chain)
    assert not isinstance(group(add.s(1), add.s(2)), chain)
    assert type(chain(group(add.s(1), add.s(2)), total.s())) is _chord


def test_a_dict_is_a_signature_wherever_one_may_stand() -> None:
    plain = dict(add.s(2))
    assert (add.s(1) | plain).tasks == [add.s(1), add.s(2)]
    assert (plain | add.s(1)).tasks == [add.s(2), add.s(1)]
    assert chain(plain, plain).tasks == [add.s(2), add.s(2)]
    assert all(type(task) is Signature for task in group(plain, [plain][0]).tasks)
    assert type(chord([plain], dict(total.s())).body) is Signature


def test_ten_thousand_tasks_make_one_chain() -> None:
    made = chain(add.s(number) for number in range(10_000))
    assert len(made.tasks) == 10_000
    assert len((made | add.s(1)).tasks) == 10_001
    assert len((made | made).tasks) == 20_000


def test_chunks_in_a_workflow_are_the_group_that_they_stand_for() -> None:
    made = add.chunks([(1, 2), (3, 4), (5, 6)], 2) | total.s()
    assert type(made) is chord
    assert [task.kwargs["it"] for task in made.tasks] == [[(1, 2), (3, 4)], [(5, 6)]]
    assert [repr(task) for task in add.chunks([(1, 2)], 1).group().tasks] == ["[shop.add(*x) for x in [(1, 2)]]"]


def test_maps_are_tasks_of_their_own() -> None:
    assert type(add.map([1])) is xmap
    assert type(add.starmap([(1, 2)])) is xstarmap
    assert type(add.chunks([(1, 2)], 1)) is chunks
    assert json.loads(json.dumps(add.map(iter([1, 2])))) == {
        "task": "celery.map",
        "args": [],
        "kwargs": {"task": json.loads(json.dumps(add.s())), "it": [1, 2]},
        "options": {},
        "subtask_type": None,
        "immutable": True,
    }


def test_the_public_names_are_celerys() -> None:
    for name in ("chain", "chord", "group", "chunks", "xmap", "xstarmap", "StampingVisitor", "uuid"):
        assert name in djtasks.__all__
    first, second = djtasks.uuid(), djtasks.uuid()
    assert first == as_task_id(first) != second


def test_a_signature_is_what_celery_takes_for_one() -> None:
    for made in (add.s(1), add.s(1) | add.s(2), group(add.s(1)), chord([add.s(1)], total.s())):
        assert isinstance(made, CallableSignature)


def test_a_type_of_ones_own_comes_back_as_one() -> None:
    @Signature.register_type("mine")
    class Mine(Signature): ...

    try:
        assert type(maybe_signature({**add.s(1), "subtask_type": "mine"})) is Mine
    finally:
        del TYPES["mine"]


# -- copies -----------------------------------------------------------------------------------------------------------


def deep() -> Any:
    header = [add.s(1) | add.s(2), group([add.s(3), add.s(4)]), chord([add.s(5)], total.s())]
    return add.s(0).on_error(told.s()) | chord(header, total.s() | group([add.s(6), add.s(7).set(link=told.s())]))


def test_any_nesting_comes_back_from_json_and_pickle() -> None:
    made = deep()
    text = json.dumps(made)
    for other in (signature(json.loads(text)), pickle.loads(pickle.dumps(made)), copy.deepcopy(made), made.clone()):
        assert json.dumps(other) == text
        assert repr(other) == repr(made)
        assert [type(task) for task in other.tasks] == [Signature, chord]
        assert type(other.tasks[1].body) is _chain


def test_nothing_done_to_a_copy_is_done_to_the_original() -> None:
    made = deep()
    text = json.dumps(made)
    other = made.clone()
    other.tasks[0].set(queue="slow")
    other.tasks[1].tasks[0].tasks[0].set(queue="slow")
    other.tasks[1].body.tasks[1].tasks[0].args = (9,)
    other.link_error(told.s())
    assert json.dumps(made) == text


def test_arguments_of_a_copy_are_for_what_begins() -> None:
    assert (add.s(1) | add.s(2)).clone((5,)).tasks == [add.s(5, 1), add.s(2)]
    assert list(group(add.s(1), add.si(2, 2)).clone((5,)).tasks) == [add.s(5, 1), add.si(2, 2)]
    assert list(chord([add.s(1)], total.s()).clone((5,), queue="slow").tasks) == [add.s(5, 1)]
    assert (add.s(1) | add.s(2)).set(immutable=True).clone((5,)).tasks == [add.s(1), add.s(2)]


def test_options_of_a_composite_are_its_own() -> None:
    made = group(numbers(2), queue="slow").set(countdown=3)
    assert made.options == {"queue": "slow", "countdown": 3}
    assert made.replace(options={}).options == {}


# -- how they look ----------------------------------------------------------------------------------------------------


def test_their_texts_name_the_module_once() -> None:
    assert repr(add.s(1, 2) | add.s(3)) == "shop.add(1, 2) | add(3)"
    assert repr(group(add.s(1, 2), add.s(3, 4))) == "group((shop.add(1, 2), add(3, 4)))"
    assert repr(chord([add.s(1, 2)], total.s())) == "%shop.total([add(1, 2)])"
    assert repr(chord([add.s(1, 2)], total.s() | add.s(3))) == "%(shop.total([add(1, 2)]) | add(3))"
    assert repr(add.map([1, 2])) == "[shop.add(x) for x in [1, 2]]"
    assert repr(group([])) == "group(<empty>)"
    assert repr(chord([add.s(1)])) == "<chord without body: [shop.add(1)]>"
    assert repr(chain()).endswith(": empty>")


# -- generators -------------------------------------------------------------------------------------------------------


def test_the_members_of_a_generator_are_made_when_they_are_needed() -> None:
    made: list[int] = []

    def members() -> Iterator[Any]:
        for number in range(5):
            made.append(number)
            yield add.s(number)

    lazy = group(members())
    assert made == []
    assert isinstance((lazy | total.s()), chord)
    assert len(made) <= 2
    assert [task.args for task in lazy.tasks] == [(number,) for number in range(5)]
    assert len(lazy) == 5
    assert json.loads(json.dumps(lazy)) == json.loads(json.dumps(group([add.s(number) for number in range(5)])))


def test_what_is_done_to_a_lazy_group_is_done_to_each_member() -> None:
    made = group(numbers(3)).skew(1)
    made.link_error(told.s())
    made.set_immutable(True)
    assert [task.options["countdown"] for task in made.tasks] == [1, 2, 3]
    assert all(task.immutable and task.options["link_error"] == [told.s()] for task in made.tasks)
    assert pickle.loads(pickle.dumps(made)).tasks == list(made.tasks)


def test_a_long_stream_is_not_kept() -> None:
    short, long = Lazy(iter(range(100))), Lazy(iter(range(20_000)))
    assert list(short.stream()) == list(short) == list(range(100))
    assert list(long.stream()) == list(range(20_000))
    with pytest.raises(RuntimeError, match="came from a generator and have been sent"):
        list(long)


def test_a_lazy_list_is_a_list() -> None:
    made = Lazy(iter(range(5)))
    assert (made[0], made.has(5), made.has(6), bool(made), made[-1], made[1:3]) == (0, True, False, True, 4, [1, 2])
    assert made == [0, 1, 2, 3, 4]
    assert (3 in made, list(reversed(made)), [*made, 5], made.__add__([5])) == (
        True,
        [4, 3, 2, 1, 0],
        [*range(6)],
        [*range(6)],
    )
    made.append(5)
    made[0] = 7
    assert repr(made) == "[7, 1, 2, 3, 4, 5]"
    assert not Lazy(iter(()))


# -- what follows -----------------------------------------------------------------------------------------------------


def test_what_is_linked_to_a_chain_follows_its_end_and_errbacks_follow_all() -> None:
    made = add.s(1) | add.s(2)
    assert made.link(told.s(1)) == told.s(1)
    made.link_error(told.s(2))
    first, last = made.unchain_tasks()
    assert first.options == {"link_error": [told.s(2)]}
    assert last.options == {"link": [told.s(1)], "link_error": [told.s(2)]}
    assert (made | add.s(3)).tasks == [first, last, add.s(3)]


def test_what_is_linked_to_a_group_follows_its_first_task_as_it_is() -> None:
    made = group(add.s(1), add.s(2))
    made.link(told.s(1))
    made.link_error(told.s(2))
    assert [task.options for task in made.tasks] == [
        {"link": [told.si(1)], "link_error": [told.s(2)]},
        {"link_error": [told.s(2)]},
    ]


@pytest.mark.parametrize("header_too", [False, True])
def test_what_is_linked_to_a_chord_follows_its_body_and_by_the_setting_its_header(
    header_too: bool, configure: Configure
) -> None:
    configure(TASK_ALLOW_ERROR_CB_ON_CHORD_HEADER=header_too)
    made = chord([add.s(1), chord([add.s(2)], total.s())], total.s())
    made.link(told.s(1))
    made.link_error(told.s(2))
    assert made.body.options == {"link": [told.s(1)], "link_error": [told.s(2)]}
    assert made.tasks[0].options == ({"link_error": [told.si(2)]} if header_too else {})
    assert told.s(2) in made.tasks[1].body.options["link_error"]


def test_only_what_begins_gets_immutable() -> None:
    made = chord([add.s(1)], total.s()).set(immutable=True)
    assert (made.tasks[0].immutable, made.body.immutable, made.immutable) == (True, False, False)
    assert all(task.immutable for task in group(add.s(1), add.s(2)).set(immutable=True).tasks)


def test_a_workflow_can_be_what_follows() -> None:
    made = add.s(1)
    made.link(add.s(2) | add.s(3))
    made.link(group(add.s(4), add.s(5)))
    assert [repr(each) for each in signature(json.loads(json.dumps(made))).flatten_links()] == [
        "shop.add(1)",
        "shop.add(2) | add(3)",
        "group([shop.add(4), add(5)])",
    ]


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [chain, group, lambda *tasks: chord(list(tasks), total.s())])
def test_members_that_are_no_signatures_are_refused(make: Any) -> None:
    with pytest.raises(TypeError, match=r"a signature was expected, not .*write shop\.add\.s\(\)"):
        make(add.s(1), add)
    with pytest.raises(TypeError, match="a signature was expected, not 5"):
        make(add.s(1), 5)


def test_the_members_of_a_generator_are_refused_when_they_come() -> None:
    made = group(iter([add.s(1), 5]))
    for _ in range(2):
        with pytest.raises(TypeError, match="a signature was expected, not 5"):
            list(made.tasks)


@pytest.mark.parametrize("made", [lambda: add.s(1) | 5, lambda: group(add.s(1)) | "x", lambda: chord([]) | total.s()])
def test_nothing_but_signatures_stands_right_of_the_bar(made: Any) -> None:
    with pytest.raises(TypeError):
        made()


def test_what_is_no_list_of_signatures_is_refused() -> None:
    for what in (5, None, "shop.add", add):
        with pytest.raises(TypeError, match="signatures were expected"):
            group(what)
    with pytest.raises(TypeError, match="a signature was expected"):
        chord([add.s(1)], add)


def test_a_group_has_no_links_of_its_own() -> None:
    with pytest.raises(TypeError, match="make it a chord"):
        group(add.s(1)).apply_async(link=told.s())
    with pytest.raises(TypeError, match=r"group\.link_error\(\)"):
        group(add.s(1)).apply_async(link_error=told.s())
    with pytest.raises(IndexError, match="an empty group has no task"):
        group([]).link(told.s())


def test_a_chord_needs_a_body() -> None:
    with pytest.raises(TypeError, match=r"a chord needs a body: chord\(header\)\(body\)"):
        chord([add.s(1)])()
    with pytest.raises(TypeError, match="a chord needs a body"):
        chord([add.s(1)]).apply()


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(TypeError, match="no signatures of the type 'other'"):
        signature({"task": "shop.add", "subtask_type": "other"})


@pytest.mark.parametrize(
    ("said", "text"),
    [
        ({"subtask_type": "chain"}, "of the type chain has its 'tasks' among its kwargs"),
        ({"subtask_type": "group", "kwargs": []}, "of the type group has its 'tasks' among its kwargs"),
        ({"subtask_type": "group", "kwargs": {"tasks": 5}}, "signatures were expected, not 5"),
        ({"subtask_type": "chord", "kwargs": {"body": None}}, "of the type chord has its 'header' among its kwargs"),
        ({"subtask_type": "chord", "kwargs": {"header": [5]}}, "a signature was expected, not 5"),
        ({"subtask_type": "chord", "kwargs": {"header": [], "body": "x"}}, "a signature was expected, not 'x'"),
        ({"subtask_type": "chunks", "kwargs": {"task": 1}}, "of the type chunks has its 'it' among its kwargs"),
        ({"subtask_type": "group", "kwargs": {"tasks": []}, "options": []}, "options of a signature must be a mapping"),
        ({"subtask_type": "chain", "kwargs": {"tasks": [{"subtask_type": 5}]}}, "no signatures of the type 5"),
    ],
)
def test_dicts_that_describe_no_workflow_are_refused(said: dict[str, Any], text: str) -> None:
    with pytest.raises(TypeError, match=text):
        signature({"task": "celery.x", **said})


def test_nobody_is_elected() -> None:
    with pytest.raises(NotImplementedError, match="a task that is enqueued once runs once"):
        add.s(1).election()


def test_a_workflow_is_no_single_message() -> None:
    with pytest.raises(TypeError, match="is a workflow, and no single message"):
        (add.s(1) | add.s(2)).to_message()


def test_what_holds_itself_is_refused() -> None:
    outer = chord([add.s(1)], total.s())
    outer.tasks.append(group([outer]))
    outer.tasks[1].tasks[0] = outer
    with pytest.raises(RuntimeError, match="holds itself"):
        outer.apply_async()
    linked = group([add.s(1)])
    linked.tasks[0].options["link"] = [linked]
    with pytest.raises(RuntimeError, match="holds itself"):
        linked.delay()


def nested(levels: int) -> Any:
    made: Any = add.s(1)
    for level in range(levels):
        made = _chain([add.s(0), made]) if level % 2 else group([add.s(0), made])
    return made


def test_what_is_nested_too_deep_is_refused_and_all_else_can_be_copied_and_sent_as_json() -> None:
    fits = nested(NESTING_MAX)
    check_nesting(fits)
    assert maybe_signature(json.loads(json.dumps(fits))).clone() == fits.clone()
    with pytest.raises(RecursionError, match=f"more than {NESTING_MAX} deep"):
        nested(NESTING_MAX + 1).apply_async()


def test_the_same_signature_may_stand_in_many_places() -> None:
    made: Any = add.s(1)
    for _ in range(40):
        made = group([made, made])
    check_nesting(made)


# -- being sent -------------------------------------------------------------------------------------------------------


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What is handed to the sender of workflows, instead of being sent."""
    found: list[Any] = []

    def note(made: Any, args: Any, kwargs: Any, options: Any) -> str:
        found.append((repr(made), tuple(args), dict(kwargs), options))
        return "its result"

    monkeypatch.setattr(composite, "senders", [note])
    return found


def test_a_workflow_is_sent_however_it_is_called(sent: list[Any]) -> None:
    made = add.s(1) | add.s(2)
    assert made(5, y=3) == made.delay(5, y=3) == made.apply_async((5,), {"y": 3}) == "its result"
    assert sent == [("shop.add(1) | add(2)", (5,), {"y": 3}, {})] * 3
    group(add.s(1))(5, countdown=3, queue=None)
    assert sent[3] == ("group([shop.add(1)])", (5,), {}, {"countdown": 3})


def test_a_chord_is_sent_with_the_body_that_it_is_called_with(sent: list[Any]) -> None:
    made = chord([add.s(1)])
    assert made(total.s(), queue="slow") == "its result"
    chord([add.s(1)], total.s(1)).apply_async((5,), {"y": 3}, task_id="own")
    assert sent == [
        ("%shop.total([add(1)])", (), {}, {"queue": "slow"}),
        ("%shop.total([add(1)], 1)", (5,), {"y": 3}, {"task_id": "own"}),
    ]
    assert made.body is None


def test_arguments_that_do_not_fit_are_refused() -> None:
    with pytest.raises(TypeError, match="task args must be a list or tuple"):
        (add.s(1) | add.s(2)).apply_async(5)
    with pytest.raises(TypeError, match="task keyword arguments must be a mapping"):
        group(add.s(1)).apply_async((), 5)
