"""Calls as data."""

import copy
import json
import pickle
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from djtasks import Celery, Signature, Task, app, current, maybe_signature, shared_task, signature, subtask
from djtasks.current import Context, Frame
from djtasks.exceptions import NotRegistered
from tests.calling.conftest import claimed, message_of, waiting


@pytest.fixture
def add() -> Task[..., Any]:
    @shared_task(name="shop.add")
    def add(x: int, y: int = 0) -> int:
        return x + y

    return add


def test_a_signature_is_a_dict_with_celerys_keys(add: Task[..., Any]) -> None:
    made = add.signature((1,), {"y": 2}, countdown=5)
    assert dict(made) == {
        "task": "shop.add",
        "args": (1,),
        "kwargs": {"y": 2},
        "options": {"countdown": 5},
        "subtask_type": None,
        "immutable": False,
    }
    assert (made.task, made.name, made.args, made.kwargs, made.options, made.type, made.immutable) == (
        *("shop.add", "shop.add", (1,), {"y": 2}, {"countdown": 5}, add),
        False,
    )


def test_it_is_made_of_a_task_a_name_or_a_dict(add: Task[..., Any]) -> None:
    assert add.s(1) == signature("shop.add", (1,)) == subtask("shop.add", args=(1,)) == Signature(add, (1,))
    assert signature(json.loads(json.dumps(add.s(1, y=2)))) == add.s(1, y=2)
    assert signature({"task": "shop.add"}) == add.s()
    assert app.signature("shop.add", (1,)) == Celery("x").signature(add.s(1)) == add.s(1)


@pytest.mark.parametrize(
    "what", [None, 5, {}, {"args": []}, {"task": "x", "args": 5}, {"task": "x", "options": []}, {"task": 5}]
)
def test_what_describes_no_call_is_refused(what: Any) -> None:
    with pytest.raises(TypeError):
        signature(what)


def test_what_may_be_a_signature_is_left_as_it_is_or_becomes_one(add: Task[..., Any]) -> None:
    made = add.s(1)
    assert maybe_signature(None) is None
    assert maybe_signature(made) is made
    assert maybe_signature(made, clone=True) is not made
    assert type(maybe_signature(dict(made))) is Signature


def test_it_survives_being_copied_and_pickled(add: Task[..., Any]) -> None:
    made = add.s(1).set(queue="slow")
    for other in (copy.copy(made), copy.deepcopy(made), pickle.loads(pickle.dumps(made)), made.clone()):
        assert type(other) is Signature
        assert other == made
        other.options["queue"] = "fast"
        other.kwargs["y"] = 1
    assert (made.options, made.kwargs) == ({"queue": "slow"}, {})


def test_it_is_shown_as_the_call_would_be_written(add: Task[..., Any]) -> None:
    assert repr(add.s(1, y="a")) == "shop.add(1, y='a')"
    assert add.si(1).reprcall(0, y=2) == "shop.add(0, 1, y=2)"


def test_a_called_signature_runs_here(add: Task[..., Any]) -> None:
    assert add.s(2)(1) == 3
    assert add.s(2).apply((1,)).get() == 3
    with pytest.raises(NotRegistered):
        signature("shop.nothing")()


# -- what is given when it is sent ------------------------------------------------------------------------------------


def test_what_it_is_sent_with_stands_before_and_over_its_own(add: Task[..., Any]) -> None:
    made = add.s(2, y=3).set(queue="slow", priority=3)
    other = made.clone((1,), {"y": 4}, queue="fast")
    assert (other.args, other.kwargs, other.options) == ((1, 2), {"y": 4}, {"queue": "fast", "priority": 3})
    assert (made.args, made.kwargs, made.options) == ((2,), {"y": 3}, {"queue": "slow", "priority": 3})


def test_an_immutable_one_takes_options_only(add: Task[..., Any]) -> None:
    other = add.si(2).clone((1,), {"y": 4}, queue="fast")
    assert (other.args, other.kwargs, other.options, other.immutable) == ((2,), {}, {"queue": "fast"}, True)
    assert add.s(2).set(immutable=True).clone((1,)).args == (2,)


def test_stamps_are_never_changed_from_outside(add: Task[..., Any]) -> None:
    made = add.s().set(stamped_headers=["tenant"], tenant=5, group_id="g")
    other = made.clone(tenant=6, stamped_headers=[], group_id="h", queue="slow")
    assert other.options == {"stamped_headers": ["tenant"], "tenant": 5, "group_id": "g", "queue": "slow"}


def test_parts_can_be_replaced(add: Task[..., Any]) -> None:
    made = add.s(1, y=2).set(queue="slow")
    other = made.replace(args=(5,), options={})
    assert (other.args, other.kwargs, other.options) == ((5,), {"y": 2}, {})


def test_links_are_kept_once_each(add: Task[..., Any]) -> None:
    made = add.s(1)
    first = add.s(10)
    assert made.link(first) is first
    made.link(add.s(10))
    made.link_error(add.si(0))
    assert made.on_error(add.si(0)) is made
    assert (made.options["link"], made.options["link_error"]) == ([first], [add.si(0)])
    first.link(add.s(100))
    assert made.flatten_links() == [made, first, add.s(100)]


def test_one_link_that_was_given_as_an_option_becomes_a_list(add: Task[..., Any]) -> None:
    made = add.s(1).set(link=add.s(2))
    made.link(add.s(3))
    assert made.options["link"] == [add.s(2), add.s(3)]


def test_a_frozen_one_knows_its_result(add: Task[..., Any]) -> None:
    made = add.s(1)
    result = made.freeze(root_id="r", parent_id="p", group_id="g", group_index=2)
    assert made.id == result.id == made.freeze("other").id
    assert (made.root_id, made.parent_id) == ("r", "p")
    assert made.options["group_index"] == 2
    assert made.to_message().id == result.id


# -- messages ---------------------------------------------------------------------------------------------------------


def test_its_message_is_that_of_the_call(add: Task[..., Any]) -> None:
    made = add.s(2).set(queue="slow", enqueue="immediately", using="other", retry=False)
    message = made.to_message((1,), priority=5, root_id="r")
    assert (message.name, message.queue, message.priority, message.body) == ("shop.add", "slow", 5, b"[[1,2],{}]")
    assert json.loads(message.headers or "") == {"root_id": "r"}


@pytest.mark.django_db(transaction=True)
def test_a_task_that_is_not_known_here_is_sent_by_its_name() -> None:
    result = signature("elsewhere.add", (1,), countdown=60).delay(2)
    [row] = waiting("elsewhere.add")
    assert row["id"] == result.id
    assert row["wait"] == pytest.approx(60, abs=1)


@pytest.mark.django_db(transaction=True)
def test_it_is_enqueued_with_its_options(add: Task[..., Any]) -> None:
    result = add.s(1).set(queue="slow").apply_async((2,), priority=3, ignore_result=None)
    [row] = waiting("shop.add")
    assert (row["id"], row["queue"], row["priority"]) == (result.id, "slow", 3)


def test_links_travel_in_the_headers_and_are_seen_in_the_request(add: Task[..., Any]) -> None:
    moment = datetime(2030, 1, 1, tzinfo=UTC)
    message = message_of(add, 1, link=add.s(2), link_error=[add.si(3).set(eta=moment), add.s()])
    request = current.context_of(claimed(message), (1,), {}, "here")
    assert [signature(each) for each in request.callbacks] == [add.s(2)]
    assert [signature(each) for each in request.errbacks] == [add.si(3).set(eta=moment), add.s()]


def test_callback_is_another_name_for_link(add: Task[..., Any]) -> None:
    with pytest.warns(DeprecationWarning, match="the option 'callback' is called 'link'"):
        message = message_of(add, 1, callback=add.s(2), link=[add.s(3)])
    assert [each["args"] for each in json.loads(message.headers or "")["callbacks"]] == [[3], [2]]


def test_a_task_in_place_of_a_signature_is_refused_with_the_cure(add: Task[..., Any]) -> None:
    with pytest.raises(TypeError, match=r"link takes signatures, not <@task: shop.add>; write shop.add.s\(\)"):
        message_of(add, 1, link=add)


def test_group_and_stamps_travel(add: Task[..., Any]) -> None:
    message = message_of(add, 1, group_id="g", group_index=3, stamped_headers=["tenant"], tenant=5)
    said = json.loads(message.headers or "")
    assert said == {"group": "g", "group_index": 3, "stamped_headers": ["tenant"], "stamps": {"tenant": 5}}


def test_the_workflow_s_root_has_a_column(add: Task[..., Any]) -> None:
    assert message_of(add, 1).root_id is None
    root = message_of(add, 1).id
    assert message_of(add, 1, root_id=root).root_id == root
    frame = Frame(add, Context(id="x", root_id=root, called_directly=False))
    current.push(frame)
    try:
        assert message_of(add, 1).root_id == message_of(add, 1, priority=1).root_id == root
    finally:
        current.pop(frame)


# -- a request as a signature -----------------------------------------------------------------------------------------


def test_a_request_becomes_the_call_that_it_is() -> None:
    seen: list[Signature] = []

    @shared_task(bind=True, name="shop.look")
    def look(self: Task[..., Any], x: int) -> None:
        seen.append(self.signature_from_request(countdown=3))
        seen.append(self.subtask_from_request(args=(5,), queue="slow"))

    look.apply((1,), task_id="t", priority=4)
    first, second = seen
    assert (first.task, first.args, first.kwargs) == ("shop.look", (1,), {})
    assert (first.id, first.options["retries"], first.options["countdown"], first.options["priority"]) == ("t", 0, 3, 4)
    assert (second.args, second.options["queue"]) == ((5,), "slow")


# -- maps -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda add: add.map([1, 2]), "celery.map"),
        (lambda add: add.starmap([(1, 2)]), "celery.starmap"),
        (lambda add: add.chunks([(1, 2)], 10), "celery.chunks"),
    ],
)
def test_maps_are_calls_of_one_task(add: Task[..., Any], make: Callable[[Any], Signature], name: str) -> None:
    made = make(add)
    assert (made.task, made.immutable, made.kwargs["task"]) == (name, True, add.s())
