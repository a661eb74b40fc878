"""Trees of signatures, as dicts: made ready for the compiler, and taken apart.

A tree is the call of a task, or a chain, a group or a chord of trees. What it hands on (the number of a part, its
group) goes to its terminals, the calls with which it ends: of a chain its last step, of a group all its members, of a
chord its body.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from djtasks.canvas.types import NESTING_MAX, Lazy
from djtasks.exceptions import safe_repr
from djtasks.ids import as_task_id, new_task_id
from djtasks.messages import Fallen

CHAIN, GROUP, CHORD = "chain", "group", "chord"
COMPOSITES = frozenset({CHAIN, GROUP, CHORD})
Node = dict[str, Any]

#: What one call of a workflow has for itself.
OWN = frozenset({"task_id", "group_id", "group_index", "chord", "part", "chain", "root_id", "parent_id"})
LINKS = ("link", "link_error")


class Leaf(dict[str, Any]):
    """The call of a task."""

    __slots__ = ("_type",)
    #: The task, where whoever made the signature had it.
    _type: Any


_LEAF: Node = {"task": None, "args": (), "kwargs": {}, "options": {}, "subtask_type": None, "immutable": False}


def kind_of(node: Mapping[str, Any]) -> str | None:
    """chain, group or chord; None for the call of a task."""
    kind = node.get("subtask_type")
    return kind if kind in COMPOSITES else None


def thaw(given: Any, level: int = 0, *, lazy: bool = False) -> Node:
    """A copy of a tree as the compiler wants it: all calls have ids, chains hold no chains, groups hold no groups.

    What it is made of is made of plain dicts. With `lazy` the members of a group (or of the header of a chord) are made
    when they are asked for, once. Raises TypeError for what is no signature, RecursionError for what is nested too
    deeply.
    """
    if not isinstance(given, Mapping) or not isinstance(given.get("task"), str):
        raise TypeError(f"workflows are made of signatures, not of {safe_repr(given, 200)}")
    if level > NESTING_MAX:
        raise RecursionError(
            f"chains, groups and chords stand more than {NESTING_MAX} deep in one another: does one hold itself?"
            " Make the tree flatter, or start what is further in from a task"
        )
    kind = kind_of(given)
    options = {**(given.get("options") or {})}
    if kind is None:
        leaf = Leaf(_LEAF)
        leaf.update(given)
        leaf["options"] = options
        leaf._type = getattr(given, "_type", None)
        if options.get("task_id") is None:
            options["task_id"] = new_task_id()
        return leaf
    node: Node = {**given, "options": options}
    inner: Node = {**(given.get("kwargs") or {})}
    node["kwargs"] = inner
    if kind == CHAIN:
        inner["tasks"] = _steps(inner.get("tasks") or (), node["options"], level)
    elif kind == GROUP:
        _thaw_group(node, level, lazy)
    else:
        inner["header"] = _header(inner.get("header"), level, lazy)
        if inner.get("body") is not None:
            inner["body"] = thaw(inner["body"], level + 1)
            for key in LINKS:
                link_body(inner["body"], key, node["options"].pop(key, None))
    return node


def _steps(given: Iterable[Any], options: dict[str, Any], level: int) -> list[Node]:
    """The steps of a chain: links are those of its last one, errbacks those of each, all other options the first's."""
    steps: list[Node] = []
    for each in given:
        node = thaw(each, level + 1)
        kind = kind_of(node)
        if kind == CHAIN:
            steps.extend(node["kwargs"]["tasks"])
        elif kind != GROUP or node["kwargs"]["tasks"]:
            steps.append(node)
    if steps:
        link(steps[-1], "link", options.pop("link", None))
        for step in steps:
            link(step, "link_error", options.get("link_error"))
        options.pop("link_error", None)
        steps[0]["options"].update({key: value for key, value in options.items() if key not in OWN})
    return steps


def _thaw_group(node: Node, level: int, lazy: bool) -> None:
    options = node["options"]
    if options.get("task_id") is None:
        options["task_id"] = new_task_id()
    given = node["kwargs"].get("tasks")
    given = given.stream() if isinstance(given, Lazy) else given or ()
    members = _members(given, options["task_id"], level)
    node["kwargs"]["tasks"] = members if lazy else list(members)


def _members(given: Iterable[Any], group: str, level: int) -> Iterator[Node]:
    """The members of a group and of the groups in it, in their order."""
    index = 0
    chosen: set[str] = set()
    for each in _flat(given, level):
        node = thaw(each, level + 1)
        if type(node) is Leaf and (own := (each.get("options") or {}).get("task_id")) is not None:
            if own in chosen:
                raise RuntimeError(
                    f"two tasks of a group have the same id, {own}: clone() a signature before its freeze()"
                )
            chosen.add(own)
        for terminal in (node,) if type(node) is Leaf else terminals(node):
            own = terminal["options"]
            if own.get("group_id") is None:
                own["group_id"], own["group_index"] = group, index
            index += 1
        yield node


def _flat(given: Iterable[Any], level: int) -> Iterator[Any]:
    for each in given:
        if isinstance(each, Mapping) and kind_of(each) == GROUP and level <= NESTING_MAX:
            yield from _flat((each.get("kwargs") or {}).get("tasks") or (), level + 1)
        else:
            yield each


def _header(given: Any, level: int, lazy: bool) -> Node:
    """A chord's header as a group."""
    if isinstance(given, Mapping) and kind_of(given) == GROUP:
        return thaw(given, level + 1, lazy=lazy)
    members = [given] if isinstance(given, Mapping) else given or ()
    return thaw(group_of(members), level + 1, lazy=lazy)


def group_of(members: Any) -> Node:
    return {
        "task": "celery.group",
        "args": (),
        "kwargs": {"tasks": members},
        "options": {},
        "subtask_type": GROUP,
        "immutable": False,
    }


def chain_of(steps: Sequence[Node]) -> Node:
    if len(steps) == 1:
        return steps[0]
    return {**group_of(steps), "task": "celery.chain", "subtask_type": CHAIN}


def link(node: Node, key: str, more: Any) -> None:
    """Link what is to follow a tree: a success leads on from its end, a failure may be anybody's."""
    if not more:
        return
    kind = kind_of(node)
    inner = node["kwargs"]
    if kind is None:
        said = node["options"].get(key)
        own = list(said) if isinstance(said, list | tuple) else [] if said is None else [said]
        new = list(more) if isinstance(more, list | tuple) else [more]
        node["options"][key] = [*own, *(each for each in new if each not in own)]
    elif kind == CHORD:
        if inner.get("body") is not None:
            link_body(inner["body"], key, more)
    elif kind == CHAIN and key == "link":
        for each in inner["tasks"][-1:]:
            link(each, key, more)
    else:
        for each in inner["tasks"]:
            link(each, key, more)


def link_body(body: Node, key: str, more: Any) -> None:
    """Link what is to follow a chord to its body; of a group to the first member, and without what that returns."""
    if not more or key != "link" or kind_of(body) != GROUP:
        link(body, key, more)
        return
    for first in body["kwargs"]["tasks"][:1]:
        link(first, key, [{**each, "immutable": True} for each in (more if isinstance(more, list | tuple) else [more])])


def terminals(node: Mapping[str, Any]) -> Iterator[Any]:
    """The calls with which a tree ends, in their order: those whose ends are its end."""
    while (kind := kind_of(node)) is not None:
        inner = node["kwargs"]
        if kind == CHORD:
            if inner.get("body") is None:
                return
            node = inner["body"]
            continue
        members = list(inner["tasks"]) if kind == GROUP else [each for each in inner["tasks"] if not is_empty(each)]
        if not members:
            return
        if kind == GROUP:
            for each in members:
                yield from terminals(each)
            return
        node = members[-1]
    yield node


def is_empty(node: Mapping[str, Any]) -> bool:
    """Whether there is nothing in it to be called."""
    return kind_of(node) in (CHAIN, GROUP) and all(map(is_empty, node["kwargs"].get("tasks") or ()))


def size(node: Mapping[str, Any]) -> int:
    """How many parts of a chord a tree is: the calls it ends with."""
    return 1 if kind_of(node) is None else sum(1 for _ in terminals(node))


def place(node: Mapping[str, Any], chord: str, number: int) -> int:
    """Make a tree part `number` of a chord, and the parts after it; returns the next number. Changes the tree."""
    if type(node) is Leaf:
        node["options"]["chord"], node["options"]["part"] = chord, number
        return number + 1
    for terminal in terminals(node):
        terminal["options"]["chord"], terminal["options"]["part"] = chord, number
        number += 1
    return number


def calls_of(node: Mapping[str, Any]) -> Iterator[Any]:
    """All calls of a tree, in their order."""
    kind = kind_of(node)
    if kind is None:
        yield node
        return
    inner = node["kwargs"]
    if kind == CHORD:
        header, body = inner.get("header") or (), inner.get("body")
        yield from (
            calls_of(header) if isinstance(header, Mapping) else (call for each in header for call in calls_of(each))
        )
        if body is not None:
            yield from calls_of(body)
        return
    for each in inner.get("tasks") or ():
        yield from calls_of(each)


def fallen(steps: Iterable[Mapping[str, Any]], root: str | None = None, parent: str | None = None) -> list[Fallen]:
    """What never runs of these steps of a chain, which are frozen; `root` and `parent` are the ids of rows."""
    found: list[Fallen] = []
    for step in steps:
        came_of = parent
        for call in calls_of(step):
            options = call.get("options") or {}
            if (task_id := options.get("task_id")) is None:
                continue
            group, queue = options.get("group_id"), options.get("queue")
            parent = as_task_id(task_id)
            found.append(
                Fallen(
                    parent,
                    call["task"],
                    queue if isinstance(queue, str) else "",
                    root,
                    came_of,
                    None if group is None or options.get("group_index") is None else as_task_id(group),
                    options.get("chord"),
                    options.get("part"),
                )
            )
    return found
