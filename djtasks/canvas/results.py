"""The results that a workflow is going to have: each knows what comes before it."""

from collections.abc import Iterator
from typing import Any

from djtasks.canvas.trees import CHAIN, CHORD, Leaf, Node, kind_of
from djtasks.group_result import GroupResult
from djtasks.registry import tasks
from djtasks.result import AsyncResult
from djtasks.result_lists import Results


def result_of(node: Node, parent: Any = None) -> Any:
    """The result of a tree that `trees.thaw` has made; of a chain its last step's, of a chord its body's.

    None for an empty chain.
    """
    kind = kind_of(node)
    inner = node["kwargs"]
    if kind is None:
        task = tasks.get(node["task"])
        result: Any = (AsyncResult if task is None else task.AsyncResult)(node["options"]["task_id"])
        result.parent = parent
        return result
    if kind == CHAIN:
        result = None
        for step in inner["tasks"]:
            parent = result = result_of(step, parent)
        return result
    if kind == CHORD:
        return result_of(inner["body"], result_of(inner["header"], parent))
    return GroupResult(node["options"]["task_id"], [result_of(each) for each in inner["tasks"]], parent)


class Members:
    """The results of members that are made one by one: 16 bytes each, as long as they are single calls."""

    def __init__(self) -> None:
        self._ids = bytearray()
        self._results: list[Any] | None = None

    def note(self, members: Iterator[Node]) -> Iterator[Node]:
        """The members, each of which is noted when it is asked for."""
        for member in members:
            if self._results is None and (type(member) is not Leaf or not self._is_short(member)):
                self._results = list(Results(self._ids))
            if self._results is None:
                self._ids.extend(bytes.fromhex(member["options"]["task_id"].replace("-", "")))
            else:
                self._results.append(result_of(member))
            yield member

    def _is_short(self, member: Node) -> bool:
        own = member["options"]["task_id"]
        return isinstance(own, str) and len(own) == 36 and own.count("-") == 4 and _is_hex(own)

    def results(self, ignored: bool) -> Any:
        """The results of all of them."""
        if self._results is None:
            return Results(self._ids, ignored)
        for each in self._results:
            if ignored and isinstance(each, AsyncResult):
                each.ignored = True
        return self._results


def _is_hex(text: str) -> bool:
    try:
        return len(bytes.fromhex(text.replace("-", ""))) == 16
    except ValueError:
        return False
