"""`chain`: tasks that run one after the other, each with what the one before it returned."""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from functools import reduce
from operator import or_
from typing import Any

from djtasks.canvas.chord import _chord as chord
from djtasks.canvas.composite import Composite, inner, value_of
from djtasks.canvas.group import group, is_empty
from djtasks.canvas.linked import signature_of
from djtasks.canvas.signature import Signature, members_of, part_of, said
from djtasks.canvas.stamping import StampingVisitor, stamps
from djtasks.canvas.types import as_list, is_list, without_repetition
from djtasks.states import IGNORED, REJECTED

#: Options of a chain which are not its first task's.
_OF_ITS_END = ("task_id", "group_id", "group_index", "chord", "part", "root_id", "parent_id", "link", "link_error")


class _AnyChain(type):
    def __instancecheck__(cls, made: Any) -> bool:
        # `a | b` is a chain as much as `chain(a, b)` is.
        return type.__instancecheck__(_chain if cls.__dict__.get("_folds") else cls, made)


@Signature.register_type(name="chain")
class _chain(Composite):
    """Tasks that run one after the other, as they were given: see `chain`."""

    __slots__ = ()

    tasks = inner("tasks", "The tasks, the first one first.")

    def __init__(self, *tasks: Any, use_link: Any = None, **options: Any) -> None:
        """`options` are those of the first task, but links, which are the last one's."""
        given = tasks[0] if len(tasks) == 1 and is_list(tasks[0]) else tasks
        super().__init__("celery.chain", (), {"tasks": list(members_of(given))}, **options)
        self["subtask_type"] = "chain"

    @classmethod
    def from_dict(cls, d: dict[str, Any], app: Any = None) -> Any:
        """The chain that a dict describes."""
        return _chain(members_of(part_of(d, "tasks")))._said_by(d)

    # -- sending ------------------------------------------------------------------------------------------------------

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Enqueue it, with these arguments for its first task; None for an empty chain."""
        return self.apply_async(args, kwargs) if self.tasks else None

    def apply_async(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        route_name: str | None = None,
        **options: Any,
    ) -> Any:
        """Enqueue the first task, with all that follows it; the result of the last one, and None for an empty chain.

        `task_id` is the last one's, `link` the last one's too and `link_error` that of each; other options are the
        first one's.
        """
        return super().apply_async(args, kwargs, **options) if self.tasks else None

    def apply(self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any) -> Any:
        """Run the tasks here and now; the result of the last one. Raises what a task before it has raised."""
        more = {**self["options"], **said(options)}
        ending = {key: more.pop(key, None) for key in ("task_id", "group_id", "group_index", "link")}
        for option in ("chord", "part"):
            more.pop(option, None)
        tasks = [task for task in map(signature_of, self.tasks) if not is_empty(task)] or self.tasks[-1:]
        done, value = None, (*(args or ()), *self["args"])
        for number, task in enumerate(tasks):
            task, own = task.clone(), dict(more)
            if number == len(tasks) - 1:
                own.update(said(ending))
            task.take_links(own)
            result = task.apply(value, kwargs if done is None else None, **own)
            _oldest(result).parent, done = done, result
            if getattr(result, "state", None) in (IGNORED, REJECTED):
                break
            if number < len(tasks) - 1:
                value = (value_of(result),)
        return done

    # -- making others of it ------------------------------------------------------------------------------------------

    def _copied(self, args: Any, kwargs: dict[str, Any], options: dict[str, Any]) -> Any:
        kwargs["tasks"] = [signature_of(task).clone() for task in kwargs["tasks"]]
        return super()._copied(args, kwargs, options)

    def _begin_with(self, args: Sequence[Any] | None, kwargs: Mapping[str, Any] | None) -> None:
        self.tasks[:1] = [task.clone(args, kwargs) for task in self.tasks[:1]]

    def __or__(self, other: Any) -> Any:
        """The chain with `other` behind its end. A group before a task makes a chord; see the guide's table."""
        other = self._other(other)
        if other is NotImplemented:
            return NotImplemented
        if isinstance(other, group):
            if is_empty(other):
                return self
            if (only := other.unrolled()) is not other:
                return self | only
            return self._before_group(other)
        if isinstance(other, _chain):
            return self._before_chain(other) if not self["options"] else reduce(or_, other.unchain_tasks(), self)
        last = self.tasks[-1] if self.tasks else None
        if isinstance(last, group) or (isinstance(last, chord) and not isinstance(other, chord)):
            made = self.clone()
            _join(made.tasks, other)
            return made
        return type(self)([*self.unchain_tasks(), other])

    def _before_group(self, other: Any) -> Any:
        tasks = self.unchain_tasks()
        if not tasks:
            return other
        if isinstance(tasks[-1], chord):
            tasks[-1].body = tasks[-1].body | other
            return type(self)(tasks)
        return type(self)([*tasks, other])

    def _before_chain(self, other: Any) -> Any:
        steps = self.unchain_tasks()
        made = _join(steps, other)
        return type(self)(steps) if made is None else made

    def unchain_tasks(self) -> list[Any]:
        """Copies of its tasks; the last one has the chain's links, each has its errbacks."""
        tasks = [signature_of(task).clone() for task in self.tasks]
        for callback in as_list(self["options"].get("link")):
            if tasks:
                tasks[-1].link(callback)
        for errback in as_list(self["options"].get("link_error")):
            for task in tasks:
                task.link_error(errback)
        return tasks

    def freeze(
        self,
        _id: str | None = None,
        group_id: str | None = None,
        chord: Any = None,
        root_id: str | None = None,
        parent_id: str | None = None,
        group_index: int | None = None,
        part: int | None = None,
    ) -> Any:
        """Give all tasks the ids that they will have; the result of the last one, with those before it as parents.

        The chain gets flat by it: no chains are left in it, and a group before a task is a chord. An empty one gives
        None. See `Signature.freeze`.
        """
        steps = self.tasks = list(_settled(self.tasks))
        if not steps:
            return None
        if self["args"]:
            steps[0]["args"], self["args"] = (*self["args"], *steps[0]["args"]), ()
        result = steps[-1].freeze(_id, group_id, chord, root_id, None, group_index, part)
        node = _oldest(result)
        for step in reversed(steps[:-1]):
            node.parent = step.freeze(root_id=root_id)
            node = node.parent
        if parent_id is not None:
            steps[0]["options"].setdefault("parent_id", parent_id)
        self["options"]["task_id"] = result.id
        return result

    _freeze = freeze

    def terminals(self) -> int:
        """With how many tasks it ends."""
        return next((size for each in reversed(self.tasks) if (size := signature_of(each).terminals())), 0)

    def stamp(self, visitor: StampingVisitor | None = None, append_stamps: bool = False, **headers: Any) -> Any:
        """Stamp all tasks, and what is linked to them; see `Signature.stamp`."""
        visited = None if visitor is None else visitor.on_chain_start(self, **headers)
        headers = stamps(headers, visited, append_stamps, self["options"])
        self.stamp_links(visitor, append_stamps, **headers)
        self._change("tasks", self._stamper(visitor, append_stamps, headers))
        if visitor is not None:
            visitor.on_chain_end(self, **headers)

    def __repr__(self) -> str:
        if not self.tasks:
            return f"<{type(self).__name__}@{id(self):#x}: empty>"
        return without_repetition(self.tasks[0]["task"], " | ".join(map(repr, self.tasks)))


class chain(_chain, metaclass=_AnyChain):
    """Tasks that run one after the other: `chain(add.s(2, 2), add.s(4))`, the same as `add.s(2, 2) | add.s(4)`.

    Each is called with what the one before it returned, in front of its own arguments. A group is followed by the task
    behind it when all its members have ended, with the list of what they returned: the two make a chord. Chains among
    the tasks are taken apart. One argument may be any iterable of signatures.
    """

    __slots__ = ()
    _folds = True

    def __new__(cls, *tasks: Any, **options: Any) -> Any:
        """What `|` makes of the tasks: a chain, but a chord where the first is a group."""
        if cls is not chain or options or not tasks or (len(tasks) == 1 and not is_list(tasks[0])):
            return super().__new__(cls)
        return _folded(tasks[0] if len(tasks) == 1 else tasks)


def _folded(tasks: Iterable[Any]) -> Any:
    """`tasks`, put together as `|` does it, in one go. They are copied, but the last."""
    given = members_of(list(tasks))
    steps: list[Any] = []
    for number, task in enumerate(given):
        made = _join(steps, task if number == len(given) - 1 else task.clone())
        if made is not None:
            return reduce(or_, given[number + 1 :], made)
    return _chain(steps)


def _join(steps: list[Any], other: Any) -> Any:
    """Put `other` behind the steps of a chain; returns what they are now, where that is no chain any more."""
    if isinstance(other, _chain):
        tasks = other.unchain_tasks()
        for number, task in enumerate(tasks):
            made = _join(steps, task)
            if made is not None:
                return reduce(or_, tasks[number + 1 :], made)
        return None
    if isinstance(other, group):
        if is_empty(other):
            return None
        if (only := other.unrolled()) is not other:
            return _join(steps, only)
        if not steps:
            return other
    last = steps[-1] if steps else None
    if isinstance(last, chord) and not isinstance(other, chord):
        last.body = last.body | other
    elif isinstance(last, group) and not isinstance(other, group):
        steps[-1] = chord(last, other)
        if len(steps) > 1 and isinstance(steps[-2], chord):
            made = steps.pop()
            steps[-1].body = steps[-1].body | made
    else:
        steps.append(other)
    return None


def _settled(tasks: Iterable[Any]) -> deque[Any]:
    """Copies of the steps of a chain as they will run: all but the last are calls of one task."""
    steps: deque[Any] = deque()
    for task in reversed(list(tasks)):
        _put_before(signature_of(task).clone(), steps)
    return steps


def _put_before(task: Any, steps: deque[Any]) -> None:
    if len(steps) == 1 and is_empty(steps[0]):
        steps.clear()
    if isinstance(task, _chain):
        for each in reversed(_with_options(task)):
            _put_before(each, steps)
        return
    if isinstance(task, group):
        if steps and is_empty(task):
            return
        if (only := task.unrolled()) is not task:
            _put_before(signature_of(only).clone(), steps)
            return
    if steps and isinstance(task, group):
        made = chord(task, _as_one(steps))
        made.tasks = task
        task = made
        steps.clear()
    elif steps and isinstance(task, chord):
        behind = deque(steps)
        _put_before(task.body, behind)
        task.body = _as_one(behind)
        steps.clear()
    steps.appendleft(task)


def _with_options(task: Any) -> list[Any]:
    """The tasks of a chain in a chain, with what the inner one says of them."""
    tasks: list[Any] = task.unchain_tasks()
    own = {key: value for key, value in task["options"].items() if key not in _OF_ITS_END}
    if tasks:
        tasks[0]["options"].update(own)
        tasks[0]["args"] = (*task["args"], *tasks[0]["args"])
    return tasks


def _as_one(steps: deque[Any]) -> Any:
    return steps[0] if len(steps) == 1 else _chain(list(steps))


def _oldest(result: Any) -> Any:
    """Where the results that a result comes after begin. Raises RuntimeError when they have no beginning."""
    seen = set()
    while result.parent is not None:
        if result.id in seen:
            raise RuntimeError("the results of a workflow come after themselves: two of its tasks have the same id")
        seen.add(result.id)
        result = result.parent
    return result
