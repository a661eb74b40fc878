"""Workflows that must look the same, and give the same when they run where they are called. See `cases.py`."""

import importlib
import itertools
import json
from collections.abc import Callable
from random import Random
from typing import Any

from tests.differential.cases import LIBRARY, add, app, errback, fail, maybe_signature, note, old_errback

_lib = importlib.import_module(LIBRARY)
chain, group, chord = _lib.chain, _lib.group, _lib.chord
Visitor: Any = importlib.import_module("celery.canvas" if LIBRARY == "celery" else "djtasks").StampingVisitor


@app.task(name="cases.total")
def total(numbers: Any, more: Any = 0) -> Any:
    return sum(_leaves(numbers)) + more


@app.task(name="cases.spread")
def spread(number: Any) -> list[Any]:
    return [number, number + 1]


def _leaves(value: Any) -> list[Any]:
    return [leaf for each in value for leaf in _leaves(each)] if isinstance(value, list | tuple) else [value]


def _linked(made: Any) -> Any:
    made.link(add.s(7))
    made.link_error(errback.s())
    return made


#: What stands left and right of `|`.
OPERANDS: dict[str, Callable[[], Any]] = {
    "task": lambda: add.s(1),
    "immutable": lambda: add.si(1, 2),
    "linked task": lambda: _linked(add.s(1).set(queue="slow")),
    "map": lambda: add.map([1, 2]),
    "chain": lambda: add.s(1) | add.s(2),
    "chain of one": lambda: chain(add.s(1)),
    "empty chain": lambda: chain(),
    "linked chain": lambda: _linked(add.s(1) | add.s(2)),
    "chain to a group": lambda: add.s(1) | group(add.s(2), add.s(3)),
    "chain to a chord": lambda: add.s(1) | group(add.s(2), add.s(3)) | total.s(),
    "chain with a chord in it": lambda: chain(add.s(1), chord([add.s(2)], total.s()), add.s(4)),
    "group": lambda: group(add.s(1), add.s(2)),
    "group of a list": lambda: group([add.s(1), add.s(2)]),
    "group of one": lambda: group(add.s(1)),
    "empty group": lambda: group([]),
    "group of groups": lambda: group(add.s(1), group(add.s(2), add.s(3))),
    "group of chains": lambda: group(add.s(1) | add.s(2), add.s(3)),
    "chord": lambda: chord([add.s(1), add.s(2)], total.s()),
    "chord with a chain": lambda: chord([add.s(1)], total.s() | add.s(3)),
    "chord with a group": lambda: chord([add.s(1)], group(total.s(), total.s(1))),
    "chord of a chord": lambda: chord([chord([add.s(1)], total.s()), add.s(2)], total.s()),
}


def shape(made: Any) -> Any:
    """The dict form of a signature; of an error its class."""
    return json.loads(json.dumps(made))


def tried(function: Callable[[], Any]) -> Any:
    """What it returns, or the class of what it raises."""
    try:
        return function()
    except Exception as error:
        return f"raised {type(error).__name__}"


def _or(left: str, right: str) -> Any:
    return OPERANDS[left]() | OPERANDS[right]()


TABLE: dict[str, Callable[[], Any]] = {
    f"{left} | {right}": lambda left=left, right=right: tried(lambda: shape(_or(left, right)))  # type: ignore[misc]
    for left, right in itertools.product(OPERANDS, OPERANDS)
}
TABLE |= {
    f"({left} | {right}) | task": lambda left=left, right=right: tried(  # type: ignore[misc]
        lambda: shape(_or(left, right) | total.s(5))
    )
    for left, right in itertools.product(OPERANDS, OPERANDS)
}
TABLE |= {
    f"chain({left}, {right}, group, task)": lambda left=left, right=right: tried(  # type: ignore[misc]
        lambda: shape(chain(OPERANDS[left](), OPERANDS[right](), OPERANDS["group"](), total.s(5)))
    )
    for left, right in itertools.product(OPERANDS, OPERANDS)
}


# -- what else can be done with one --------------------------------------------------------------------------------


class Marks(Visitor):  # type: ignore[misc]
    """Stamps everything with what it is; `where` says which of the methods answer."""

    def __init__(self, *where: str) -> None:
        self.where = where

    def _said(self, what: str, **headers: Any) -> Any:
        return {what: 1, "last": what} if what in self.where else None

    def on_signature(self, sig: Any, **headers: Any) -> Any:
        return {"signature": sig.task} if "signature" in self.where else None

    def on_group_start(self, group: Any, **headers: Any) -> Any:
        return self._said("group")

    def on_chain_start(self, chain: Any, **headers: Any) -> Any:
        return self._said("chain")

    def on_chord_body(self, sig: Any, **header: Any) -> Any:
        return self._said("body")

    def on_callback(self, callback: Any, **header: Any) -> Any:
        return self._said("callback")

    def on_errback(self, errback: Any, **header: Any) -> Any:
        return self._said("errback")


class Named(Visitor):  # type: ignore[misc]
    """Says more than it stamps."""

    def on_signature(self, sig: Any, **headers: Any) -> Any:
        return {"tenant": "a", "priority": 3, "stamped_headers": ["tenant"]}


def _stamped(made: Any, *stampings: tuple[Any, bool, dict[str, Any]]) -> Any:
    for visitor, append, headers in stampings:
        made.stamp(visitor, append, **headers)
    return _sorted_stamps(shape(made))


def _sorted_stamps(value: Any) -> Any:
    if isinstance(value, list):
        return [_sorted_stamps(each) for each in value]
    if not isinstance(value, dict):
        return value
    made = {key: _sorted_stamps(each) for key, each in value.items()}
    if isinstance(names := made.get("stamped_headers"), list):
        made["stamped_headers"] = sorted(set(names))
    return made


STAMPINGS: dict[str, list[tuple[Any, bool, dict[str, Any]]]] = {
    "words": [(Marks(), False, {"tenant": "a"})],
    "words twice": [(Marks(), False, {"tenant": "a"}), (Marks(), False, {"tenant": "b", "more": 1})],
    "words twice, appended": [(Marks(), True, {"tenant": "a"}), (Marks(), True, {"tenant": "b", "more": 1})],
    "signatures": [(Marks("signature"), False, {})],
    "some are no stamps": [(Named(), False, {})],
    "everything": [(Marks("signature", "group", "chain", "body", "callback", "errback"), False, {"tenant": "a"})],
    "links": [(Marks("callback", "errback"), False, {})],
    "groups and chains": [(Marks("group", "chain"), False, {})],
}


def _numbered(value: Any, seen: dict[str, int]) -> Any:
    """Ids as numbers, in the order in which they are met."""
    if isinstance(value, str):
        return seen.setdefault(value, len(seen))
    return [_numbered(each, seen) for each in value] if isinstance(value, list | tuple) else value


def _frozen(made: Any) -> Any:
    return _numbered(made.freeze().as_tuple(), {})


def _eager(made: Any, *args: Any) -> Any:
    result = made.apply(args)
    return result.get(propagate=False) if result is not None else None


def _each(what: Callable[[Any], Any], *but: str) -> dict[str, Callable[[], Any]]:
    return {
        name: lambda make=make: tried(lambda: what(make()))  # type: ignore[misc]
        for name, make in OPERANDS.items()
        if name not in but
    }


def _linked_shape(made: Any) -> Any:
    returned = [made.link(note.s(1)), made.link_error(errback.s())]
    return [shape(made), shape(returned)]


def _immutable_shape(made: Any) -> Any:
    made.set_immutable(True)
    return shape(made)


def _skewed() -> Any:
    tasks = lambda: group(add.si(each) for each in range(5))  # noqa: E731
    return [
        [task.options["countdown"] for task in each.tasks]
        for each in (tasks().skew(), tasks().skew(start=2, step=3), tasks().skew(start=1, stop=3), tasks().skew(0, 2))
    ]


FACTS: dict[str, Callable[[], Any]] = {
    **{f"repr of {name}": fact for name, fact in _each(repr, "empty chain").items()},
    **{f"round trip of {name}": fact for name, fact in _each(lambda made: shape(maybe_signature(shape(made)))).items()},
    **{f"copy of {name}": fact for name, fact in _each(lambda made: shape(made.clone(queue="q"))).items()},
    **{f"links of {name}": fact for name, fact in _each(_linked_shape, "empty group").items()},
    **{f"immutable {name}": fact for name, fact in _each(_immutable_shape).items()},
    **{f"frozen {name}": fact for name, fact in _each(_frozen, "empty chain").items()},
    **{f"eager {name}": fact for name, fact in _each(lambda made: _eager(made, 10)).items()},
    **{
        f"stamped {name} with {how}": fact
        for how, stampings in STAMPINGS.items()
        for name, fact in _each(lambda made, stampings=stampings: _stamped(made, *stampings)).items()  # type: ignore[misc]
    },
    "skewed": _skewed,
    "unchained": lambda: shape((_linked(add.s(1) | add.s(2))).unchain_tasks()),
    "chunks": lambda: [repr(each) for each in add.chunks([(1, 2), (3, 4), (5, 6)], 2).group().tasks],
    "map": lambda: shape(add.starmap(iter([(1, 2)]))),
    "links of groups": lambda: [
        tried(lambda: group(add.s(1)).apply_async(link=add.s())),
        tried(lambda: group(add.s(1)).apply_async(link_error=add.s())),
        tried(lambda: group([]).link(add.s())),
    ],
    "what fails": lambda: [
        tried(lambda: (fail.s("x") | add.s(1)).apply()),
        tried(lambda: _eager(add.s(1) | fail.s(2), 1)),
        [str(each) for each in group(add.s(1), fail.s("x")).apply((1,)).get(propagate=False)],
        tried(lambda: chord([fail.s("x")], total.s()).apply()),
    ],
}


# -- workflows by chance ---------------------------------------------------------------------------------------------


def _random(chance: Random, depth: int) -> Any:
    kinds = ["task", "immutable", "failing"] if depth == 0 else ["task", "chain", "chain", "group", "chord", "or"]
    kind = chance.choices(kinds, [10, 3, 1] if depth == 0 else None)[0]
    some = lambda least: [_random(chance, depth - 1) for _ in range(chance.randint(least, 3))]  # noqa: E731
    if kind == "task":
        return total.s(chance.randint(0, 9))
    if kind == "immutable":
        return total.si([chance.randint(0, 9)])
    if kind == "failing":
        return fail.s("broken")
    if kind == "chain":
        return chain(some(1))
    if kind == "group":
        return group(some(1))
    if kind == "chord":
        return chord(some(0), _random(chance, depth - 1))
    return _random(chance, depth - 1) | _random(chance, depth - 1)


def _by_chance(seed: int) -> Any:
    """The dict form of a random workflow, and what comes of it when it is run here."""
    chance = Random(seed)
    made = tried(lambda: _random(chance, 3))
    if isinstance(made, str):
        return made
    return [shape(made), tried(lambda: _eager(made, 1))]


RANDOM: dict[str, Callable[[], Any]] = {f"by chance {seed}": lambda seed=seed: _by_chance(seed) for seed in range(300)}  # type: ignore[misc]


# -- workflows that run on workers -----------------------------------------------------------------------------------


@app.task(name="cases.listed")
def listed(numbers: Any, *more: Any) -> list[Any]:
    return [*numbers, *more]


#: Random ones that Celery can end.
_WHOLE = tuple(seed for seed in range(90) if seed not in (35,) and "fail" not in repr(_random(Random(seed), 3)))[:20]
#: Names, workflows and what they are called with. Celery's chords that nest reverse their headers' groups, and those
#: whose headers end in groups never end where results are polled for: there are none of these.
WORKED: dict[str, tuple[Callable[[], Any], tuple[Any, ...]]] = {
    "chain": (lambda: add.s(1) | add.s(2) | add.si(3, 4) | add.s(5), (10,)),
    "group": (lambda: group(add.s(n) for n in range(5)), (10,)),
    "group of groups": (lambda: group(add.s(1), group(add.s(2), add.s(3)), add.s(4)), (10,)),
    "group of chains": (lambda: group(add.s(1) | add.s(2), add.s(3)), (10,)),
    "chain to a group": (lambda: add.s(1) | group(add.s(2), add.s(3)), (10,)),
    "chord": (lambda: chord([add.s(n) for n in range(5)], listed.s(7)), (10,)),
    "chord of one": (lambda: chord([add.s(1)], listed.s()), (10,)),
    "chord of none": (lambda: chord([], listed.s(1)), ()),
    "chord with a generator": (lambda: chord((add.s(n) for n in range(5)), listed.s()), (10,)),
    "chord with a chain behind": (lambda: group(add.s(1), add.s(2)) | total.s() | add.s(3) | add.s(4), (10,)),
    "chord with a group behind": (lambda: group(add.s(1), add.s(2)) | total.s() | group(add.s(3), add.s(4)), (10,)),
    "chord with a group as body": (lambda: chord([add.s(1), add.s(2)], group(listed.s(3), listed.s(4))), (10,)),
    "chord of chains": (lambda: chord([add.s(1) | add.s(2), add.s(3)], listed.s()), (10,)),
    "chord of chords": (lambda: chord([chord([add.s(1), add.s(2)], total.s()), add.s(3)], listed.s()), (10,)),
    "chord after chord": (
        lambda: group(add.s(1), add.s(2)) | total.s() | group(add.s(3), add.s(4)) | total.s() | add.s(5),
        (10,),
    ),
    "chord in a chain": (lambda: add.s(1) | group(add.s(2), add.s(3)) | listed.s(4), (10,)),
    "chord in a group": (lambda: group(chord([add.s(1), add.s(2)], total.s()), add.s(3)), (10,)),
    "immutable body": (lambda: chord([add.s(1), add.s(2)], add.si(3, 4)), (10,)),
    "map": (lambda: add.map([1, 2]), ()),
    "map of rows": (lambda: add.starmap([(1, 2), (3, 4)]), ()),
    "chunks": (lambda: add.chunks([(n, n) for n in range(5)], 2), ()),
    "linked chain": (lambda: _told(add.s(1) | add.s(2)), (10,)),
    "linked group": (lambda: _told(group(add.s(1), add.s(2))), (10,)),
    "linked chord": (lambda: _told(chord([add.s(1), add.s(2)], total.s())), (10,)),
    "linked chain to a group": (lambda: _told(add.s(1) | group(add.s(2), add.s(3))), (10,)),
    "linked chain to a chord": (lambda: _told(add.s(1) | group(add.s(2), add.s(3)) | total.s(1)), (10,)),
    "linked chord with a group": (lambda: _told(chord([add.s(1), add.s(2)], group(total.s(2), total.s(3)))), (10,)),
    "chain as a link": (lambda: add.s(1).set(link=add.s(2) | note.s("end of a link")), (10,)),
    "group as a link": (lambda: add.s(1).set(link=group(note.s("a"), note.s("b"))), (10,)),
    "failed chain": (lambda: (add.s(1) | fail.s("x") | add.s(2)).on_error(old_errback.s()), (10,)),
    "failed group": (lambda: group(add.s(1), fail.s("x")), (10,)),
    "failed chord": (lambda: chord([add.s(1), fail.s("x")], total.s()).on_error(note.si("no body")), (10,)),
    **{f"by chance {seed}": (lambda seed=seed: _random(Random(seed), 3), (1,)) for seed in _WHOLE},  # type: ignore[misc]
}
#: How often something is told by all of them.
TELLINGS = 12


def _told(made: Any) -> Any:
    made.link(note.s("link"))
    made.link_error(note.si("errback"))
    return made


def ended(result: Any) -> Any:
    """What came of a workflow, of a group a list; of what failed that it did."""
    if hasattr(result, "results"):
        return [ended(each) for each in result.results]
    value = result.get(timeout=20, propagate=False)
    return "failed" if isinstance(value, BaseException) else value
