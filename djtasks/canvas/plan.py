"""The compiler of workflows: a tree of signatures in, calls and chords out. Pure.

A chain is the call of its first step, which carries the others in its headers, the next one last. A group is the calls
of its members, made one by one. A chord is the calls of its header, each a part with a number, and a row with the body
for the last of them to find. A group with something behind it in a chain is the header of a chord, and what stands
behind a chord is behind its body. So whatever a workflow is, some of it is sent now, and all else waits in headers and
in rows.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

from djtasks.canvas.signature import Signature
from djtasks.canvas.trees import (
    CHAIN,
    CHORD,
    GROUP,
    LINKS,
    OWN,
    Leaf,
    Node,
    calls_of,
    chain_of,
    kind_of,
    link,
    link_body,
    place,
    terminals,
    thaw,
)
from djtasks.ids import as_task_id
from djtasks.messages import Chord
from djtasks.payload import pack_body
from djtasks.registry import tasks
from djtasks.serializers import dumps
from djtasks.steps import Steps, opened, raw

#: How a call is made, and not what it says: only a call that is made now has a use for them.
OF_THE_CALLER = ("enqueue", "using", "retry", "retry_policy", "add_to_parent", "connection", "producer", "publisher")
#: What a chord is called with, and its body is not: that begins when the header has ended.
_OF_THE_HEADER = frozenset({*OWN, *LINKS, *OF_THE_CALLER, "countdown", "eta"})
Options = Mapping[str, Any]


class Call(NamedTuple):
    """A call that is to be made; its id is among its options."""

    name: str
    args: Sequence[Any]
    kwargs: Mapping[str, Any]
    options: dict[str, Any]
    #: The task, where it is known here.
    task: Any


class Scope:
    """What the calls of a workflow have in common."""

    __slots__ = ("parent", "root")

    def __init__(self, root: str | None = None, parent: str | None = None) -> None:
        #: The id of the call that it began with; None until that is made.
        self.root = root
        #: The id of the task that sends it.
        self.parent = parent


class Plan:
    """What is to be written for a tree, which `trees.thaw` has made.

    `calls` are made while they are taken, once. `chords` are those whose headers have been taken whole; while `open` is
    not 0 the calls taken last belong to a chord that is not among them yet.
    """

    def __init__(
        self,
        tree: Node,
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        options: Options | None = None,
        *,
        root: str | None = None,
        parent: str | None = None,
        behind: Sequence[Node] = (),
    ) -> None:
        """`options` are laid over those of what is sent now. `root` and `parent` are the ids of tasks.

        `behind` is what comes after the tree, in this order; of a chain that runs it may still be JSON.
        """
        said = {key: value for key, value in (options or {}).items() if value is not None}
        self.chords: list[Chord] = []
        self.open = 0
        #: The headers that hooks have added to what comes before this, or to its first call: they travel on.
        self.hooked: dict[str, Any] = {}
        self.calls = self._steps([tree, *behind], args, kwargs or {}, said, Scope(root, parent))

    def _steps(
        self, steps: Sequence[Node], args: Sequence[Any], kwargs: Mapping[str, Any], said: Options, scope: Scope
    ) -> Iterator[Call]:
        """The calls of a tree with others behind it."""
        if not steps:
            return
        first, *behind = steps
        kind = kind_of(first)
        if kind is None:
            yield _call(first, args, kwargs, said, behind, scope)
            return
        args, kwargs = _arguments(first, args, kwargs)
        said = {**first["options"], **said}
        if kind == CHAIN:
            yield from self._chain(first["kwargs"]["tasks"], args, kwargs, said, behind, scope)
        elif kind == GROUP and not behind:
            yield from self._group(first, args, kwargs, said, scope)
        elif kind == GROUP:
            yield from self._chord(first, chain_of([*map(opened, behind)]), args, kwargs, _without(said, OWN), scope)
        else:
            body = first["kwargs"].get("body")
            if body is None or (kind_of(body) == CHAIN and not body["kwargs"]["tasks"]):
                raise TypeError("a chord needs a body before it is sent: chord(header)(body), or chord(header, body)")
            _link(body, said)
            kwargs = {**(first["kwargs"].get("kwargs") or {}), **kwargs}
            body = chain_of([body, *map(opened, behind)]) if behind else body
            yield from self._chord(first["kwargs"]["header"], body, args, kwargs, said, scope)

    def _chain(
        self,
        steps: Sequence[Node],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        said: Options,
        behind: Sequence[Node],
        scope: Scope,
    ) -> Iterator[Call]:
        if links := said.get("link"):
            link(steps[-1], "link", links)
        if errbacks := said.get("link_error"):
            for step in steps:
                link(step, "link_error", errbacks)
        # A group of the chain's beginning hands its own on to its members.
        said = _without(said, (*OWN, *LINKS))
        yield from self._steps([*steps, *behind], args, kwargs, said, scope)

    def _group(
        self, group: Node, args: Sequence[Any], kwargs: Mapping[str, Any], said: Options, scope: Scope
    ) -> Iterator[Call]:
        for key, what in zip(LINKS, _NO_LINKS, strict=True):
            if said.get(key):
                raise TypeError(what)
        said = _without(said, OWN)
        for member in group["kwargs"]["tasks"]:
            # Where nothing came before, each member is a beginning.
            own = scope if scope.root is not None else Scope(None, scope.parent)
            if type(member) is Leaf:
                yield _call(member, args, kwargs, said, (), own)
            else:
                yield from self._steps([member], args, kwargs, said, own)

    def _chord(
        self,
        header: Node,
        body: Node,
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        said: Options,
        scope: Scope,
    ) -> Iterator[Call]:
        name = header["options"]["task_id"]
        chord, number = as_task_id(name), 0
        _options_of(body, {key: value for key, value in said.items() if key not in _OF_THE_HEADER})
        said = {**_without(header["options"], OWN), **_without(said, (*OWN, *LINKS))}
        self.open += 1
        for member in header["kwargs"]["tasks"]:
            number = place(member, chord, number)
            if type(member) is Leaf:
                yield _call(member, args, kwargs, said, (), scope)
            else:
                yield from self._steps([member], args, kwargs, said, scope)
        self.open -= 1
        _options_of(body, {"group_id": name}, beneath=True)
        if number == 0:
            yield from self._steps([body], ([],), {}, {}, scope)
            return
        if scope.parent is not None:
            body["options"]["parent_id"] = scope.parent
        if self.hooked:
            _hook(body, self.hooked)
        self.chords.append(
            Chord(
                chord, number, pack_body(chord, body["task"], _text(body)), _id_of(body), as_task_id(scope.root or name)
            )
        )


_NO_LINKS = (
    "a group cannot have a link: make it a chord, group | task",
    "a group cannot have a link_error: call group.link_error(), or link it to its tasks",
)


def _call(
    leaf: Node, args: Sequence[Any], kwargs: Mapping[str, Any], said: Options, behind: Sequence[Node], scope: Scope
) -> Call:
    if said or args or kwargs:
        if "task_id" in said:
            said = _without(said, ("task_id",))
        args, kwargs, options = Signature._merge(cast(Signature, leaf), args, kwargs, cast(dict[str, Any], said))
    else:
        args, kwargs, options = leaf["args"], leaf["kwargs"], dict(leaf["options"])
    own = options["task_id"]
    if behind:
        # What the call says itself comes before what stands behind it.
        for step in behind:
            if not isinstance(step, str):
                _dump_models(step)
        options["chain"] = Steps([*reversed(behind), *raw(options.get("chain") or ())])
    if scope.root is None:
        scope.root = str(own)
    elif scope.root != own:
        options["root_id"] = scope.root
    if scope.parent is not None:
        options["parent_id"] = scope.parent
    task = getattr(leaf, "_type", None)
    if task is None:
        task = tasks.get(leaf["task"])
    return Call(leaf["task"], args, kwargs, options, task)


def _arguments(node: Node, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[Sequence[Any], Mapping[str, Any]]:
    """What a chain, a group or a chord is called with, before its own arguments."""
    own = node.get("args") or ()
    return (own, {}) if node.get("immutable") else ((*args, *own), kwargs)


def _link(body: Node, said: Options) -> None:
    for key in LINKS:
        link_body(body, key, said.get(key))


def _options_of(node: Node, options: Options, *, beneath: bool = False) -> None:
    """Options of what a tree begins with: over its own, or beneath them."""
    if not options:
        return
    kind = kind_of(node)
    if kind == CHAIN:
        _options_of(node["kwargs"]["tasks"][0], options, beneath=beneath)
    elif kind is None:
        node["options"] = {**options, **node["options"]} if beneath else {**node["options"], **options}
    elif not beneath:
        node["options"] = {**node["options"], **options}


def _hook(node: Node, hooked: Options) -> None:
    """Give headers to what a tree begins with."""
    kind = kind_of(node)
    if kind is None:
        own = node["options"]
        own["headers"] = {**hooked, **(own.get("headers") or {})}
        own["hooked"] = sorted({*hooked, *(own.get("hooked") or ())})
        return
    inner = node["kwargs"]
    if kind == CHORD:
        _hook(inner["header"], hooked)
        return
    for each in inner["tasks"] if kind == GROUP else inner["tasks"][:1]:
        _hook(each, hooked)


def _id_of(body: Node) -> str | None:
    """The id of the row of the task that a body will be; None for several."""
    kind = kind_of(body)
    if kind == GROUP:
        return None
    if kind == CHAIN:
        return _id_of(body["kwargs"]["tasks"][-1])
    if kind == CHORD:
        return _id_of(body["kwargs"]["body"])
    return as_task_id(body["options"]["task_id"])


def _dump_models(node: Node) -> None:
    """Put dicts in the place of models among the arguments of what waits, for tasks that make models of them again."""
    for call in calls_of(node):
        task = tasks.get(call["task"])
        if task is None or not task.dumps_models:
            continue
        # What it waits for comes before its own arguments.
        before = () if call.get("immutable") else (None,)
        args, kwargs = task.dump_arguments((*before, *call["args"]), call["kwargs"], "json")
        call["args"], call["kwargs"] = args[len(before) :], kwargs


def _text(node: Node) -> str:
    _dump_models(node)
    return dumps(node, "json")[1].decode()


def _without(options: Options, names: Any) -> dict[str, Any]:
    dropped = set(names)
    return {key: value for key, value in options.items() if key not in dropped}


__all__ = ["Call", "Plan", "Scope", "place", "terminals", "thaw"]
