"""`Signature`: one call of a task as data. It is a dict with Celery's keys, so it travels wherever JSON does.

What is made of several calls (chains, groups, chords) is a signature too: see `djtasks.canvas.composite`.
"""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from types import GenericAlias
from typing import Any, Self, TypeVar

from djtasks import appstate
from djtasks.canvas.linked import signature_of
from djtasks.canvas.stamping import Stamped
from djtasks.canvas.types import TYPES, Lazy, is_list
from djtasks.exceptions import safe_repr
from djtasks.ids import new_task_id
from djtasks.messages import Message
from djtasks.publisher import build, publish
from djtasks.registry import check_name, tasks
from djtasks.result import AsyncResult

_Made = TypeVar("_Made", bound=type)

#: Once a signature has them, nothing that is said later changes them.
_FIXED = frozenset({"group_id", "stamped_headers"})
#: How a call is written, and not what it says: a message that a finish writes has no use for them.
_OF_THE_CALLER = ("enqueue", "using", "retry", "retry_policy", "add_to_parent", "connection", "producer", "publisher")


class Signature(Stamped):
    """A call of a task: its name, arguments and options.

    What is given when it is sent is put before its own positional arguments and over its named ones and its options;
    an immutable one keeps its own arguments. As a dict it has the keys task, args, kwargs, options, subtask_type and
    immutable.
    """

    __slots__ = ("_type",)
    __class_getitem__: Any = classmethod(GenericAlias)
    #: The classes by their `subtask_type`.
    TYPES = TYPES

    def __init__(
        self,
        task: Any = None,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        type: Any = None,
        subtask_type: str | None = None,
        immutable: bool = False,
        app: Any = None,
        **more: Any,
    ) -> None:
        """`task` is a task, its name, or a dict with a signature's keys; `more` are options too.

        Raises TypeError for what is none of these.
        """
        self._type = type
        if isinstance(task, dict):
            super().__init__(task)
            task = self.get("task")
            args, kwargs, options = self.get("args"), self.get("kwargs"), self.get("options")
            subtask_type, immutable = self.get("subtask_type"), self.get("immutable", False)
            more = {}
        elif not isinstance(task, str) and hasattr(task, "apply_async") and hasattr(task, "name"):
            self._type, task = task, task.name
        check_name(task)
        if not isinstance(args, list | tuple | None) or not isinstance(kwargs, Mapping | None):
            raise TypeError(f"a signature of {task} takes a list of arguments and a dict of named ones")
        if not isinstance(options, Mapping | None):
            raise TypeError(f"the options of a signature must be a mapping, not {safe_repr(options, 200)}")
        self.update(
            task=task,
            args=tuple(args or ()),
            kwargs={} if kwargs is None else kwargs,
            options={**(options or {}), **more},
            subtask_type=subtask_type,
            immutable=bool(immutable),
        )

    @classmethod
    def register_type(cls, name: str | None = None) -> Callable[[_Made], _Made]:
        """Make the decorated class that of the signatures whose `subtask_type` is `name` (None: its own name)."""

        def registered(made: _Made) -> _Made:
            TYPES[name or made.__name__] = made
            return made

        return registered

    @classmethod
    def from_dict(cls, d: dict[str, Any], app: Any = None) -> Any:
        """The signature that a dict describes, of the class of its `subtask_type`.

        Raises TypeError when it describes none, RecursionError when it is nested too deep.
        """
        if not isinstance(d, dict):
            raise TypeError(f"a signature was expected, not {safe_repr(d, 200)}{hint_for(d)}")
        kind = d.get("subtask_type")
        if kind is None:
            return Signature(d)
        if not isinstance(kind, str) or kind not in TYPES:
            raise TypeError(f"there are no signatures of the type {safe_repr(kind, 200)}; see Signature.register_type")
        made = TYPES[kind]
        return made(d) if made is cls else made.from_dict(d)

    # -- sending ------------------------------------------------------------------------------------------------------

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the task as the function it is. Raises NotRegistered when it is not known here."""
        args_, kwargs_, _ = self._merge(args, kwargs)
        return self.type(*args_, **kwargs_)

    def delay(self, *args: Any, **kwargs: Any) -> AsyncResult[Any]:
        """Enqueue the call."""
        return self.apply_async(args, kwargs)

    def apply_async(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        route_name: str | None = None,
        **options: Any,
    ) -> AsyncResult[Any]:
        """Enqueue the call, with these arguments and options beside its own. Raises as `Task.apply_async` does.

        The task need not be known here.
        """
        args, kwargs, options = self._merge(args, kwargs, said(options))
        task = self._known()
        if task is None:
            return publish(self["task"], args, kwargs, options)
        sent: AsyncResult[Any] = task.apply_async(args, kwargs, **options)
        return sent

    def apply(
        self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> AsyncResult[Any]:
        """Run the call here and now; its EagerResult. Raises NotRegistered when the task is not known here."""
        args, kwargs, options = self._merge(args, kwargs, said(options))
        done: AsyncResult[Any] = self.type.apply(args, kwargs, **options)
        return done

    def to_message(
        self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Message:
        """The message that `apply_async` would write, for who writes it himself. Raises as `apply_async` does.

        Inside of a run its root and parent are that run's, where `options` do not say otherwise.
        """
        args, kwargs, options = self._merge(args, kwargs, said(options))
        for option in _OF_THE_CALLER:
            options.pop(option, None)
        task = self._known()
        if task is not None:
            args, kwargs = task.dump_arguments(args, kwargs, options.get("serializer"))
        return build(self["task"], args, kwargs, options, task)

    def _known(self) -> Any:
        """The task, where it is known here."""
        return tasks.get(self["task"]) if self._type is None else self._type

    def _merge(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        force: bool = False,
    ) -> tuple[Any, Any, dict[str, Any]]:
        own = self["options"]
        fixed = _FIXED.union(own.get("stamped_headers") or ())
        said = {**own, **{key: value for key, value in (options or {}).items() if key not in fixed or key not in own}}
        if self["immutable"] and not force:
            return self["args"], self["kwargs"], said
        merged = {**self["kwargs"], **kwargs} if kwargs else self["kwargs"]
        return ((*args, *self["args"]) if args else self["args"]), merged, said

    # -- making others of it ------------------------------------------------------------------------------------------

    def clone(self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any) -> Self:
        """A copy, with these arguments and options beside its own; nothing done to its options changes this one."""
        args, kwargs, options = self._merge(args, kwargs, options)
        return self._copied(args, dict(kwargs), deepcopy(options))

    def _copied(self, args: Any, kwargs: dict[str, Any], options: dict[str, Any]) -> Self:
        copy = type(self).__new__(type(self))
        dict.__init__(copy, {**self, "args": args, "kwargs": kwargs, "options": options})
        copy._type = self._type
        return copy

    partial = clone

    def replace(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> Self:
        """A copy with other arguments, named arguments or options, where they are not None."""
        copy = self.clone()
        if args is not None:
            copy["args"] = tuple(args)
        if kwargs is not None:
            copy["kwargs"] = dict(kwargs)
        if options is not None:
            copy["options"] = dict(options)
        return copy

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
        """Give it the id that its call will have, and return the result that the call is going to have.

        `chord` is the id of the chord that waits for it, `part` its number there. An id that it has already stays.
        """
        options = self["options"]
        if options.get("task_id") is None:
            options["task_id"] = new_task_id() if _id is None else _id
        named = {"root_id": root_id, "parent_id": parent_id, "group_index": group_index}
        options.update(said(named))
        if chord is not None:
            options.update(chord=chord, part=part or 0)
        if group_id is not None:
            options.setdefault("group_id", group_id)
        return self.AsyncResult(options["task_id"])

    _freeze = freeze

    def terminals(self) -> int:
        """With how many tasks it ends: one for a task, of a chain those of its end, of a group those of all members."""
        return 1

    def election(self) -> Any:
        """Raises NotImplementedError: workers elect nobody here."""
        raise NotImplementedError(
            "workers do not elect one of them: a task that is enqueued once runs once; call delay() or apply_async()"
        )

    # -- what is to come after it -------------------------------------------------------------------------------------

    def __or__(self, other: Any) -> Any:
        """A chain of both."""
        other = self._other(other)
        if other is NotImplemented:
            return NotImplemented
        if isinstance(other, TYPES["chain"]):
            return TYPES["chain"]([self, *other.unchain_tasks()])
        return TYPES["chain"]([self, other.unrolled() if isinstance(other, TYPES["group"]) else other])

    def _other(self, other: Any) -> Any:
        """What stands right of `|`: a signature, or NotImplemented. A dict is one, too, and not to be merged."""
        return member_of(other) if isinstance(other, dict) else NotImplemented

    def __ior__(self, other: Any) -> Any:
        # A dict's own would change this signature.
        return self.__or__(other)

    def __ror__(self, other: Any) -> Any:
        other = self._other(other)
        return NotImplemented if other is NotImplemented else other | self

    # -- being one ----------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """The name of the task."""
        name: str = self["task"]
        return name

    @property
    def type(self) -> Any:
        """The task. Raises NotRegistered when it is not known here."""
        return tasks[self["task"]] if self._type is None else self._type

    @property
    def app(self) -> Any:
        """The app."""
        return appstate.current()

    @property
    def AsyncResult(self) -> Callable[..., AsyncResult[Any]]:
        """The class of its result."""
        task = self._known()
        return AsyncResult if task is None else task.AsyncResult

    def reprcall(self, *args: Any, **kwargs: Any) -> str:
        """The call as it would be written down, with these arguments beside its own."""
        merged, named, _ = self._merge(args, kwargs, force=True)
        shown = [safe_repr(each, 256) for each in merged]
        shown += [f"{key}={safe_repr(value, 256)}" for key, value in named.items()]
        return f"{self['task']}({', '.join(shown)})"

    def __repr__(self) -> str:
        return self.reprcall()

    def __invert__(self) -> Any:
        """Enqueue the call and wait for its result."""
        return self.apply_async().get()

    def __json__(self) -> dict[str, Any]:
        return dict(self)

    def __reduce__(self) -> tuple[Any, ...]:
        # The task itself is found again by its name.
        return signature, (dict(self),)

    def __copy__(self) -> Self:
        return self.clone()

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self.clone()


TYPES["signature"] = Signature


Sender = Callable[[Any, Sequence[Any], Mapping[str, Any], dict[str, Any]], Any]
#: Sends workflows; stands above, and puts itself here.
senders: list[Sender] = []


def hand_over_sender(send: Sender) -> None:
    """This sends a workflow: `send(signature, args, kwargs, options)`, with what the call said; its result."""
    senders[:] = [send]


def said(options: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in options.items() if value is not None}


def hint_for(value: Any) -> str:
    """What to write instead of a task where a signature is wanted."""
    return f"; write {value.name}.s()" if hasattr(value, "apply_async") and hasattr(value, "name") else ""


def part_of(d: Mapping[str, Any], name: str) -> Any:
    """What a dict says that a signature is made of. Raises TypeError when it says nothing of the kind."""
    kwargs = d.get("kwargs")
    if not isinstance(kwargs, Mapping) or name not in kwargs:
        raise TypeError(f"a signature of the type {d.get('subtask_type')} has its {name!r} among its kwargs")
    return kwargs[name]


def members_of(tasks: Any) -> list[Any]:
    """The members of a workflow as signatures; those of a generator when they are needed.

    Raises TypeError for what is none.
    """
    if isinstance(tasks, Signature):
        return [member_of(tasks)]
    if not is_list(tasks):
        raise TypeError(f"signatures were expected, not {safe_repr(tasks, 200)}{hint_for(tasks)}")
    if isinstance(tasks, list | tuple | set | frozenset) and not isinstance(tasks, Lazy):
        return list(map(member_of, tasks))
    return Lazy(map(member_of, tasks))


def member_of(value: Any) -> Any:
    """A signature, or the one that a dict describes, for a workflow: there chunks are the group that they stand for."""
    made = signature_of(value)
    return made.group() if isinstance(made, TYPES["chunks"]) else made


def signature(varies: Any, *args: Any, **kwargs: Any) -> Signature:
    """A signature of a task (or of its name), or of a dict that describes one; a copy, of one that is one already.

    Raises TypeError for what is none of these.
    """
    if isinstance(varies, Signature):
        return varies.clone()
    if isinstance(varies, dict):
        made: Signature = Signature.from_dict(varies)
        return made
    return Signature(varies, *args, **kwargs)


#: Celery's old name for it.
subtask = signature


def maybe_signature(d: Any, app: Any = None, clone: bool = False) -> Any:
    """A dict as the signature that it describes; a signature (or its copy, with `clone`) and all else as they are."""
    if isinstance(d, Signature):
        return d.clone() if clone else d
    return Signature.from_dict(d) if isinstance(d, dict) else d


maybe_subtask = maybe_signature
#: Celery's name for it.
uuid = new_task_id
