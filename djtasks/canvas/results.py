"""The results that a workflow is going to have: each knows what comes before it."""

from collections.abc import Iterator
from typing import Any

from djtasks.canvas.trees import CHAIN, CHORD, Leaf, Node, kind_of
from djtasks.group_result import GroupResult
from djtasks.publisher import is_ignored
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
        result.ignored = is_ignored(node["options"].get("ignore_result"), task)
        return result
    if kind == CHAIN:
        result = None
        for step in inner["tasks"]:
            parent = result = result_of(step, parent)
        return result
    if kind == CHORD:
        return result_of(inner["body"], result_of(inner["header"], parent))
    members = [each for each in map(result_of, inner["tasks"]) if each is not None]
    return GroupResult(node["options"]["task_id"], members, parent)


class Members:
    """The results of members that are made one by one: 16 bytes each, as long as they are single calls."""

    def __init__(self, ignore_result: bool | None = None) -> None:
        """`ignore_result` is what is said of all of them."""
        self._said = ignore_result
        self._ids = bytearray()
        #: Whether nobody keeps what those return.
        self._ignored: bool | None = None
        self._results: list[Any] | None = None

    def note(self, members: Iterator[Node]) -> Iterator[Node]:
        """The members, each of which is noted when it is asked for."""
        for member in members:
            if self._results is None and (type(member) is not Leaf or not self._is_short(member)):
                self._results = list(Results(self._ids, bool(self._ignored)))
            if self._results is None:
                self._ids.extend(bytes.fromhex(member["options"]["task_id"].replace("-", "")))
            elif (result := result_of(member)) is not None:
                if self._said is not None and isinstance(result, AsyncResult):
                    result.ignored = bool(self._said)
                self._results.append(result)
            yield member

    def _is_short(self, member: Node) -> bool:
        said = member["options"].get("ignore_result") if self._said is None else self._said
        ignored = is_ignored(said, tasks.get(member["task"]))
        if self._ignored is None:
            self._ignored = ignored
        if ignored is not self._ignored:
            return False
        own = member["options"]["task_id"]
        return isinstance(own, str) and len(own) == 36 and own.count("-") == 4 and _is_hex(own)

    def results(self) -> Any:
        """The results of all of them."""
        return Results(self._ids, bool(self._ignored)) if self._results is None else self._results


def _is_hex(text: str) -> bool:
    try:
        return len(bytes.fromhex(text.replace("-", ""))) == 16
    except ValueError:
        return False
