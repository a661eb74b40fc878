"""Stamps of workflows. What differs between Celery's and ours is looked for in tests/differential/test_canvas.py."""

import json
from typing import Any

import pytest

from djtasks import StampingVisitor, chain, chord, group, maybe_signature, shared_task
from djtasks.canvas.types import Lazy
from djtasks.payload import headers_of


@shared_task
def add(x: int, y: int = 0) -> int:
    return x + y


@shared_task
def total(numbers: list[int]) -> int:
    return sum(numbers)


@pytest.fixture(autouse=True)
def known(registry: dict[str, Any]) -> None:
    registry.update({task.name: task for task in (add, total)})


class Tenant(StampingVisitor):
    """Stamps every call, and notes what it is shown."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def on_signature(self, sig: Any, **headers: Any) -> dict[str, Any]:
        self.seen.append(repr(sig))
        return {"tenant": "ann"}

    def on_group_start(self, group: Any, **headers: Any) -> dict[str, Any]:
        self.seen.append("group")
        return {"in_group": True}

    def on_group_end(self, group: Any, **headers: Any) -> None:
        self.seen.append("end of group")

    def on_chain_start(self, chain: Any, **headers: Any) -> dict[str, Any]:
        self.seen.append("chain")
        return {"in_chain": True}

    def on_chain_end(self, chain: Any, **headers: Any) -> None:
        self.seen.append("end of chain")


def stamps(made: Any) -> dict[str, Any]:
    return {name: made.options[name] for name in made.options.get("stamped_headers", ())}


def test_a_stamp_travels_in_the_headers_of_the_message() -> None:
    made = add.s(1).stamp(tenant="ann", tags={1})
    said = headers_of(made.to_message().headers)
    assert said["stamped_headers"] == ["tenant", "tags"]
    assert said["stamps"]["tenant"] == "ann"


def test_all_that_is_in_a_workflow_and_linked_to_it_is_stamped() -> None:
    made = add.s(1) | chord([add.s(2), add.s(3) | add.s(4)], total.s())
    made.tasks[0].link(add.s(5))
    made.tasks[1].body.link_error(add.s(6).set(link=[dict(add.s(7))]))
    made.stamp(tenant="ann")
    first, waits = made.tasks
    errback = waits.body.options["link_error"][0]
    everywhere = [
        *(first, first.options["link"][0], waits.tasks[0], *waits.tasks[1].tasks, waits.body, errback),
        errback.options["link"][0],
    ]
    assert [stamps(each) for each in everywhere] == [{"tenant": "ann"}] * 8
    assert "tenant" not in made.options


def test_a_visitor_sees_everything_in_its_order() -> None:
    visitor = Tenant()
    made = add.s(1) | group(add.s(2), add.s(3))
    made.stamp(visitor)
    calls = [f"{add.name}({number})" for number in (1, 2, 3)]
    assert visitor.seen == [*("chain", *calls[:1], "group", *calls[1:], "end of group", "end of chain")]
    assert stamps(made.tasks[0]) == {"in_chain": True, "tenant": "ann"}
    assert stamps(made.tasks[1].tasks[0]) == {"in_chain": True, "in_group": True, "tenant": "ann"}


def test_a_visitor_may_say_what_is_a_stamp_and_what_an_option() -> None:
    class Urgent(StampingVisitor):
        def on_signature(self, sig: Any, **headers: Any) -> dict[str, Any]:
            return {"tenant": "ann", "priority": 9, "stamped_headers": ["tenant"]}

    made = add.s(1).stamp(Urgent())
    assert stamps(made) == {"tenant": "ann"}
    assert made.options["priority"] == 9


def test_a_later_stamp_replaces_an_earlier_one_or_is_appended() -> None:
    made = add.s(1).stamp(tenant="ann").stamp(tenant="bob", more=1)
    assert stamps(made) == {"tenant": "bob", "more": 1}
    made.stamp(None, True, tenant="cid")
    assert stamps(made) == {"tenant": ["cid", "bob"], "more": 1}
    one = add.s(1).stamp(None, True, tags=["a"]).stamp(None, True, tags=["b"]).stamp(None, True, tags=["c"])
    assert stamps(one) == {"tags": ["c", "b", "a"]}


def test_stamps_of_links_are_appended_too() -> None:
    made = add.s(1) | add.s(2)
    made.link(add.s(3))
    made.stamp(tenant="ann")
    made.stamp(None, True, tenant="bob")
    assert stamps(made.options["link"][0]) == {"tenant": ["bob", "ann"]}


def test_nothing_said_later_changes_a_stamp() -> None:
    made = add.s(1).stamp(tenant="ann")
    assert stamps(made.clone(tenant="bob", stamped_headers=["x"])) == {"tenant": "ann"}
    assert stamps(made.clone(stamped_headers=[])) == {"tenant": "ann"}


def test_the_body_of_a_chord_is_stamped_with_or_without_a_visitor() -> None:
    made = chord([add.s(1)], total.s())
    made.stamp(tenant="ann")
    assert stamps(made.body) == {"tenant": "ann"}

    class Bodies(StampingVisitor):
        def on_signature(self, sig: Any, **headers: Any) -> dict[str, Any]:
            return {}

        def on_chord_body(self, sig: Any, **header: Any) -> dict[str, Any]:
            return {"body": True}

    made = chord([add.s(1)], total.s())
    made.stamp(Bodies())
    assert (stamps(made.tasks.tasks[0]), stamps(made.body)) == ({}, {"body": True})


def test_callbacks_and_errbacks_have_stamps_of_their_own() -> None:
    class Links(StampingVisitor):
        def on_signature(self, sig: Any, **headers: Any) -> None:
            return None

        def on_callback(self, callback: Any, **header: Any) -> dict[str, Any]:
            return {"callback": True}

        def on_errback(self, errback: Any, **header: Any) -> dict[str, Any]:
            return {"errback": True}

    made = add.s(1)
    made.link(add.s(2))
    made.link_error(add.s(3))
    made.stamp(Links())
    assert [stamps(made), stamps(made.options["link"][0]), stamps(made.options["link_error"][0])] == [
        {},
        {"callback": True},
        {"errback": True},
    ]


def test_members_of_a_generator_are_stamped_when_they_are_made() -> None:
    made = group(add.s(number) for number in range(3))
    made.stamp(tenant="ann")
    assert isinstance(made.tasks, Lazy)
    assert made.tasks.read == []
    assert [stamps(task) for task in made.tasks] == [{"tenant": "ann"}] * 3
    waits = chord((add.s(number) for number in range(3)), total.s())
    waits.stamp(tenant="ann")
    assert [stamps(task) for task in waits.tasks] == [{"tenant": "ann"}] * 3


def test_stamps_survive_json() -> None:
    made = chain(add.s(1), add.s(2)).clone()
    made.stamp(tenant="ann")
    assert [stamps(task) for task in maybe_signature(json.loads(json.dumps(made))).tasks] == [{"tenant": "ann"}] * 2


def test_a_visitor_must_say_what_a_signature_gets() -> None:
    with pytest.raises(TypeError, match="on_signature"):
        StampingVisitor()  # type: ignore[abstract]
