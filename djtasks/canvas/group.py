"""`group`: tasks that run side by side."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count, repeat
from typing import Any, Self

from djtasks.canvas.composite import Composite, inner
from djtasks.canvas.linked import signature_of
from djtasks.canvas.signature import Signature, members_of, part_of, said
from djtasks.canvas.stamping import StampingVisitor, stamps
from djtasks.canvas.types import TYPES, Lazy, without_repetition
from djtasks.group_result import GroupResult
from djtasks.ids import new_task_id


@Signature.register_type()
class group(Composite):
    """Tasks that run side by side: `group(add.s(1, 1), add.s(2, 2))`, or a group of any iterable of signatures.

    Those of a generator are made while the group is sent. What the group is called with, all members are called with.
    Its result is a GroupResult, with the members' results in their order.
    """

    __slots__ = ()

    tasks = inner("tasks", "The members.")

    def __init__(self, *tasks: Any, **options: Any) -> None:
        """`options` are those of all members. Raises TypeError for what is no signature."""
        members: Any = tasks
        if len(tasks) == 1:
            (members,) = tasks
            if isinstance(members, dict):
                members = signature_of(members)
            if isinstance(members, group):
                members = members.tasks
            elif isinstance(members, Signature):
                members = members.clone()
        made = members_of(members)
        super().__init__("celery.group", (), {"tasks": tuple(made) if members is tasks else made}, **options)
        self["subtask_type"] = "group"

    @classmethod
    def from_dict(cls, d: dict[str, Any], app: Any = None) -> Any:
        """The group that a dict describes."""
        return cls(members_of(part_of(d, "tasks")))._said_by(d)

    # -- sending ------------------------------------------------------------------------------------------------------

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Enqueue it, with these arguments for all members."""
        return self.apply_async(args, **options)

    def apply_async(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        route_name: str | None = None,
        *,
        link: Any = None,
        link_error: Any = None,
        **options: Any,
    ) -> Any:
        """Enqueue all members; a GroupResult. `task_id` is the group's id, the other options are the members'.

        Raises TypeError for a link: a group has no end of its own that anything could follow.
        """
        if link is not None:
            raise TypeError("a group cannot have a link: make it a chord, group | task")
        if link_error is not None:
            raise TypeError("a group cannot have a link_error: call group.link_error(), or link it to its tasks")
        if not self.tasks:
            return self.freeze(options.get("task_id"))
        return super().apply_async(args, kwargs, **options)

    def apply(self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any) -> Any:
        """Run all members here and now, one after the other; a GroupResult."""
        _, _, options = self._merge(options=said(options))
        own = options.pop("task_id", None) or new_task_id()
        for option in ("group_index", "chord", "part"):
            options.pop(option, None)
        links = {key: options.pop(key, None) for key in ("link", "link_error")}
        options["group_id"] = own
        results = []
        for member in flat(self.tasks):
            member.take_links(dict(links))
            results.append(member.apply(args, kwargs, **options))
        return GroupResult(own, results)

    # -- making others of it ------------------------------------------------------------------------------------------

    def _copied(self, args: Any, kwargs: dict[str, Any], options: dict[str, Any]) -> Any:
        kwargs["tasks"] = copied(kwargs["tasks"])
        return super()._copied(args, kwargs, options)

    def _begin_with(self, args: Sequence[Any] | None, kwargs: Mapping[str, Any] | None) -> None:
        self._change("tasks", lambda task: task.clone(args, kwargs))

    def __or__(self, other: Any) -> Any:
        """A chord with this group as its header."""
        other = self._other(other)
        if other is NotImplemented:
            return NotImplemented
        return self if is_empty(other) else TYPES["chord"](self, body=other)

    def unrolled(self) -> Any:
        """The member, where there is but one; else the group."""
        tasks = self.tasks
        alone = tasks.has(1) and not tasks.has(2) if isinstance(tasks, Lazy) else len(tasks) == 1
        return tasks[0] if alone else self

    def skew(self, start: float = 1.0, stop: float | None = None, step: float = 1.0) -> Self:
        """Let the members begin one after the other: after `start` seconds, `start + step` …; `stop` at the latest."""
        waits = _skewed(start, stop, step)
        self._change("tasks", lambda task: task.set(countdown=next(waits)))
        return self

    def freeze(
        self,
        _id: str | None = None,
        group_id: str | None = None,
        chord: Any = None,
        root_id: str | None = None,
        parent_id: str | None = None,
        group_index: int | None = None,
        part: int | None = None,
    ) -> GroupResult:
        """Give the group and its members the ids that they will have; those of a generator when it makes them.

        Groups among the members are none any more: their members are this group's. See `Signature.freeze`.
        """
        options = self["options"]
        if options.get("task_id") is None:
            options["task_id"] = new_task_id() if _id is None else _id
        named = {"root_id": root_id, "parent_id": parent_id, "group_index": group_index, "group_id": group_id}
        options.update(said(named))
        if chord is not None:
            options.update(chord=chord, part=part or 0)
        frozen = self._frozen(flat(self.tasks), options["task_id"], chord, root_id, parent_id, part or 0)
        if isinstance(self.tasks, Lazy):
            self.tasks = Lazy(frozen)
            results: list[Any] = Lazy(member.freeze() for member in self.tasks)
        else:
            self.tasks = list(frozen)
            # An empty chain has none.
            results = [result for member in self.tasks if (result := member.freeze()) is not None]
        return GroupResult(options["task_id"], results)

    _freeze = freeze

    @staticmethod
    def _frozen(
        members: Iterable[Any], own: str, chord: Any, root_id: str | None, parent_id: str | None, part: int
    ) -> Iterator[Any]:
        for index, member in enumerate(members):
            member.freeze(None, own, chord, root_id, parent_id, index, part)
            part += 0 if chord is None else member.terminals()
            yield member

    def terminals(self) -> int:
        """With how many tasks it ends."""
        return sum(signature_of(each).terminals() for each in self.tasks)

    # -- what is to come after it -------------------------------------------------------------------------------------

    def set_immutable(self, immutable: bool) -> None:
        """Whether its members take no other arguments than their own."""

        def changed(task: Any) -> Any:
            task.set_immutable(immutable)
            return task

        self._change("tasks", changed)

    def link(self, callback: Any) -> Any:
        """Link `callback` to the first member, as an immutable copy. Raises IndexError when there is none."""
        if not self.tasks:
            raise IndexError("an empty group has no task that a callback could be linked to")
        return self.tasks[0].link(signature_of(callback).clone().set(immutable=True))

    def link_error(self, errback: Any) -> Any:
        """Link copies of `errback` to all members; returns them."""
        errback = signature_of(errback)
        if not isinstance(self.tasks, Lazy):
            return tuple(task.link_error(errback.clone()) for task in self.tasks)
        self.tasks.map(lambda task: task.on_error(errback.clone()))
        return (errback,)

    def stamp(self, visitor: StampingVisitor | None = None, append_stamps: bool = False, **headers: Any) -> Any:
        """Stamp all members, and what is linked to them; see `Signature.stamp`."""
        visited = None if visitor is None else visitor.on_group_start(self, **headers)
        headers = stamps(headers, visited, append_stamps, self["options"])
        self.stamp_links(visitor, append_stamps, **headers)
        self._change("tasks", self._stamper(visitor, append_stamps, headers))
        if visitor is not None:
            visitor.on_group_end(self, **headers)

    # -- being one ----------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.tasks)

    def __repr__(self) -> str:
        if not self.tasks:
            return "group(<empty>)"
        return without_repetition(self.tasks[0]["task"], f"group({self.tasks!r})")


def copied(tasks: Any) -> Any:
    """The members of a group or a header for a copy of it; those of a generator when they come."""
    copies = (signature_of(task).clone() for task in tasks)
    return Lazy(copies) if isinstance(tasks, Lazy) else type(tasks)(copies)


def is_empty(made: Any) -> bool:
    """Whether it is a group without members."""
    return isinstance(made, group) and not made.tasks


def flat(tasks: Iterable[Any]) -> Iterator[Any]:
    """Copies of the members of a group, with those of the groups among them in their places."""
    for task in tasks:
        made = signature_of(task)
        if isinstance(made, group):
            yield from flat(made.tasks)
        elif made["subtask_type"] != "chain" or made.tasks:
            yield made.clone()


def _skewed(start: float, stop: float | None, step: float) -> Iterator[float]:
    if not stop:
        yield from count(start * 1.0, step)
    last = start * 1.0
    for number in count():
        if (wait := start + number * step) > stop:  # type: ignore[operator]
            break
        yield (last := wait * 1.0)
    yield from repeat(last)
