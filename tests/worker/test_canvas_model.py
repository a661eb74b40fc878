"""Workflows of any shape on a real worker, whose members fail, retry, are replaced and kill their own process.

What comes of them is what a reference of fifty lines says: every state, every result, and how often each member ran.
"""

import json
import os
from collections import Counter
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from djtasks import chain, chord, group
from djtasks.ids import new_task_id
from tests.worker.running import RunningWorker, Workers, query, wait_until
from tests.worker_app import flows

IMPORTS = ["tests.worker_app.flows"]
#: Most members do what they should.
DEEDS = ["return"] * 8 + ["fail", "retry", "ignore", "replace", "kill"]


class Leaf(NamedTuple):
    """The call of a task."""

    do: str
    stored: bool
    atomic: bool
    link: "Leaf | None"
    errback: "Leaf | None"
    id: str


class Many(NamedTuple):
    """A chain, a group, or a chord, whose body is its last part."""

    kind: str
    parts: list[Any]


# -- the reference ------------------------------------------------------------------------------------------------


class Reference:
    """What is to come of a workflow."""

    def __init__(self, tree: Any) -> None:
        self.runs: Counter[str] = Counter()
        self.states: dict[str, str] = {}
        self.values: dict[str, Any] = {}
        self.walk([tree], [])

    def walk(self, steps: list[Any], args: list[Any]) -> list[Any]:
        """What comes of steps behind one another: for each of their ends a list of its value, or how it failed."""
        first, *behind = steps
        if isinstance(first, Leaf):
            end = self.run(first, args)
            failed = first.do == "fail" or (first.do == "ignore" and behind)
            if failed:
                state = "FAILURE" if first.do == "fail" else "REVOKED"
                return self.fall(behind, state) if behind else [state]
            return self.walk(behind, end) if behind else [end]
        if first.kind == "chain":
            return self.walk([*first.parts, *behind], args)
        if first.kind == "group" and not behind:
            return [end for part in first.parts for end in self.walk([part], args)]
        header, body = (
            (first.parts, behind) if first.kind == "group" else (first.parts[:-1], [first.parts[-1], *behind])
        )
        ends = [end for part in header for end in self.walk([part], args)]
        if not any(isinstance(end, str) for end in ends):
            return self.walk(body, [[end[0] for end in ends]])
        for leaf in terminals(body[-1]):
            self.follow(leaf.errback, leaf.id)
        return self.fall(body, "FAILURE")

    def run(self, leaf: Leaf, args: list[Any]) -> list[Any]:
        value: Any = [leaf.id, *args]
        self.runs[leaf.id] += 2 if leaf.do in ("retry", "kill") else 1
        if leaf.do == "fail":
            self.states[leaf.id] = "FAILURE"
            self.follow(leaf.errback, leaf.id)
        if leaf.do in ("fail", "ignore"):
            return [None]
        if leaf.do == "replace":
            self.runs.update((f"{leaf.id}.1", f"{leaf.id}.2"))
            value = [f"{leaf.id}.2", [f"{leaf.id}.1", *args]]
        self.states[leaf.id], self.values[leaf.id] = "SUCCESS", value
        self.follow(leaf.link, value)
        return [value]

    def follow(self, leaf: Leaf | None, value: Any) -> None:
        if leaf is not None:
            self.run(leaf, [value])

    def fall(self, steps: list[Any], state: str) -> list[Any]:
        for step in steps:
            self.states.update({leaf.id: state for leaf in leaves(step)})
        return [state for _ in terminals(steps[-1])]


def leaves(tree: Any) -> Iterator[Leaf]:
    if isinstance(tree, Leaf):
        yield tree
        return
    for part in tree.parts:
        yield from leaves(part)


def terminals(tree: Any) -> Iterator[Leaf]:
    if isinstance(tree, Leaf):
        yield tree
        return
    for part in tree.parts if tree.kind == "group" else tree.parts[-1:]:
        yield from terminals(part)


# -- workflows ----------------------------------------------------------------------------------------------------


def leaf(link: st.SearchStrategy[Any], deeds: list[str]) -> st.SearchStrategy[Leaf]:
    return st.builds(
        Leaf,
        st.sampled_from(deeds),
        st.sampled_from([True, True, True, False]),
        st.sampled_from([False, False, False, True]),
        link,
        link,
        st.builds(new_task_id),
    )


LINKED = leaf(st.none(), ["return", "retry"])
LEAVES = leaf(st.one_of(st.none(), st.none(), LINKED), DEEDS)
TREES: st.SearchStrategy[Any] = st.recursive(
    LEAVES,
    lambda inner: st.builds(
        Many, st.sampled_from(["chain", "group", "chord"]), st.lists(inner, min_size=2, max_size=4)
    ),
    max_leaves=14,
)


def signature(tree: Any) -> Any:
    """The tree as a signature of ours."""
    if isinstance(tree, Many):
        parts = [signature(part) for part in tree.parts]
        return (
            chord(parts[:-1], parts[-1]) if tree.kind == "chord" else {"chain": chain, "group": group}[tree.kind](parts)
        )
    task = flows.atomic_step if tree.atomic else flows.step
    made = task.s(name=tree.id, do=tree.do).set(task_id=tree.id)
    if not tree.stored:
        made.set(ignore_result=True)
    if tree.link is not None:
        made.link(signature(tree.link))
    if tree.errback is not None:
        made.link_error(signature(tree.errback))
    return made


# -- the real thing -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def worker(shared: Workers) -> RunningWorker:
    return shared.start("-c", "2", IMPORTS=IMPORTS, TASK_MAX_CRASHES=100)


class Notes:
    """What the steps have noted since it was last asked for."""

    def __init__(self, workers: Workers) -> None:
        self.path = workers.audit.path
        self.read = 0

    def new(self) -> Counter[str]:
        if not self.path.exists():
            return Counter()
        with self.path.open("rb") as file:
            file.seek(self.read)
            text = file.read()
        self.read += len(text)
        return Counter(line["name"] for line in map(json.loads, text.splitlines()))


EXAMPLES = int(os.environ.get("CANVAS_EXAMPLES", "40"))


@pytest.mark.usefixtures("worker")
def test_what_comes_of_any_workflow_is_what_the_reference_says(shared: Workers) -> None:
    notes = Notes(shared)

    @settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
    @given(TREES)
    def hold(tree: Any) -> None:
        signature(tree).apply_async()
        wait_until(lambda: query("SELECT count(*) FROM djtasks_message") == [(0,)], f"all has run of {tree}")
        wanted = Reference(tree)
        found = {task_id: (state, result) for task_id, state, result in query(RESULTS)}
        query("DELETE FROM djtasks_result")
        assert notes.new() == wanted.runs
        all_leaves = [each for leaf in leaves(tree) for each in (leaf, leaf.link, leaf.errback) if each is not None]
        for each in all_leaves:
            state, result = found.get(each.id, (None, None))
            expected = wanted.states.get(each.id)
            # What replaces a task, and what never runs, is not asked whether to store it.
            if each.stored or each.do == "replace" or (expected is not None and each.id not in wanted.runs):
                assert state == expected, each
                if state == "SUCCESS":
                    assert json.loads(bytes(result)) == wanted.values[each.id]
            else:
                assert state is None
        assert query(ORPHANS) == [(0,)]

    hold()


RESULTS = "SELECT id::text, state, result FROM djtasks_result"
ORPHANS = "SELECT (SELECT count(*) FROM djtasks_chord) + (SELECT count(*) FROM djtasks_part)"
