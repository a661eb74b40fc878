"""`Signature`: one call of a task as data. It is a dict with Celery's keys, so it travels wherever JSON does."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from types import GenericAlias
from typing import Any

from djtasks import appstate
from djtasks.calls import NotSupportedYet
from djtasks.exceptions import safe_repr
from djtasks.ids import new_task_id
from djtasks.messages import Message
from djtasks.publisher import build, publish
from djtasks.registry import check_name, tasks
from djtasks.result import AsyncResult

#: Once a signature has them, nothing that is said later changes them.
_FIXED = frozenset({"group_id", "stamped_headers"})
#: How a call is written, and not what it says: a message that a finish writes has no use for them.
_OF_THE_CALLER = ("enqueue", "using", "retry", "retry_policy", "add_to_parent", "connection", "producer", "publisher")


def _item(key: str, help: str) -> Any:
    def get(self: Any) -> Any:
        return self.get(key)

    def put(self: Any, value: Any) -> None:
        self[key] = value

    return property(get, put, doc=help)


def _option(key: str, help: str) -> Any:
    return property(lambda self: self["options"].get(key), doc=help)


class Signature(dict[str, Any]):
    """A call of a task: its name, arguments and options.

    What is given when it is sent is put before its own positional arguments and over its named ones and its options;
    an immutable one keeps its own arguments. As a dict it has the keys task, args, kwargs, options, subtask_type and
    immutable.
    """

    __slots__ = ("_type",)
    __class_getitem__: Any = classmethod(GenericAlias)

    task = _item("task", "The name of the task.")
    args = _item("args", "The positional arguments.")
    kwargs = _item("kwargs", "The named arguments.")
    options = _item("options", "The options of the call, those of `apply_async`.")
    subtask_type = _item("subtask_type", "None: this is a call of one task.")
    immutable = _item("immutable", "Whether it takes no other arguments than its own.")
    id = _option("task_id", "The id that the call will have, once it is frozen.")
    parent_id = _option("parent_id", "The id of the task that called it.")
    root_id = _option("root_id", "The id of the call that everything began with.")

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
        elif not isinstance(task, str) and hasattr(task, "apply_async") and hasattr(task, "name"):
            self._type, task = task, task.name
        if subtask_type is not None:
            raise NotSupportedYet(f"signatures of the type {safe_repr(subtask_type, 200)} are still to come")
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
    def from_dict(cls, d: dict[str, Any], app: Any = None) -> "Signature":
        """The signature that a dict describes. Raises TypeError when it describes none."""
        return cls(d)

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
        args, kwargs, options = self._merge(args, kwargs, _said(options))
        task = self._known()
        if task is None:
            return publish(self["task"], args, kwargs, options)
        sent: AsyncResult[Any] = task.apply_async(args, kwargs, **options)
        return sent

    def apply(
        self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> AsyncResult[Any]:
        """Run the call here and now; its EagerResult. Raises NotRegistered when the task is not known here."""
        args, kwargs, options = self._merge(args, kwargs, _said(options))
        done: AsyncResult[Any] = self.type.apply(args, kwargs, **options)
        return done

    def to_message(
        self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> Message:
        """The message that `apply_async` would write, for who writes it himself. Raises as `apply_async` does.

        Inside of a run its root and parent are that run's, where `options` do not say otherwise.
        """
        args, kwargs, options = self._merge(args, kwargs, _said(options))
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

    def clone(
        self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any
    ) -> "Signature":
        """A copy, with these arguments and options beside its own; nothing done to its options changes this one."""
        args, kwargs, options = self._merge(args, kwargs, options)
        copy = type(self)({**self, "args": args, "kwargs": dict(kwargs), "options": deepcopy(options)})
        copy._type = self._type
        return copy

    partial = clone

    def replace(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> "Signature":
        """A copy with other arguments, named arguments or options, where they are not None."""
        copy = self.clone()
        if args is not None:
            copy["args"] = tuple(args)
        if kwargs is not None:
            copy["kwargs"] = dict(kwargs)
        if options is not None:
            copy["options"] = dict(options)
        return copy

    def set(self, immutable: bool | None = None, **options: Any) -> "Signature":
        """Set options of this very signature, and return it."""
        if immutable is not None:
            self.set_immutable(immutable)
        self["options"].update(options)
        return self

    def set_immutable(self, immutable: bool) -> None:
        """Whether it takes no other arguments than its own."""
        self["immutable"] = bool(immutable)

    def freeze(
        self,
        _id: str | None = None,
        group_id: str | None = None,
        chord: Any = None,
        root_id: str | None = None,
        parent_id: str | None = None,
        group_index: int | None = None,
    ) -> AsyncResult[Any]:
        """Give it the id that its call will have, and return the result that the call is going to have."""
        options = self["options"]
        if options.get("task_id") is None:
            options["task_id"] = new_task_id() if _id is None else _id
        said = {"root_id": root_id, "parent_id": parent_id, "chord": chord, "group_index": group_index}
        options.update(_said(said))
        if group_id is not None:
            options.setdefault("group_id", group_id)
        return self.AsyncResult(options["task_id"])

    _freeze = freeze

    # -- what is to come after it -------------------------------------------------------------------------------------

    def link(self, callback: Any) -> Any:
        """Have `callback`, a signature, sent with what the task returned before its own arguments; returns it."""
        return self.append_to_list_option("link", callback)

    def link_error(self, errback: Any) -> Any:
        """Have `errback`, a signature, called when the task has failed; returns it."""
        return self.append_to_list_option("link_error", errback)

    def on_error(self, errback: Any) -> "Signature":
        """As `link_error`, but returns this signature."""
        self.link_error(errback)
        return self

    def append_to_list_option(self, key: str, value: Any) -> Any:
        """Add `value` to the list that this option is, unless it is there already; returns it."""
        items = self._list(key)
        if value not in items:
            items.append(value)
        return value

    def extend_list_option(self, key: str, value: Any) -> None:
        """Add a value, or each of a list, to the list that this option is."""
        self._list(key).extend(value if isinstance(value, list | tuple) else [value])

    def _list(self, key: str) -> list[Any]:
        items = self["options"].get(key)
        if not isinstance(items, list):
            items = self["options"][key] = [] if items is None else list(items) if type(items) is tuple else [items]
        return items

    def flatten_links(self) -> list["Signature"]:
        """This one, and all that its links lead to."""
        found = [self]
        for each in self._links():
            found.extend(each.flatten_links())
        return found

    def _links(self) -> Iterator["Signature"]:
        said = self["options"].get("link") or ()
        for each in said if isinstance(said, list | tuple) else (said,):
            yield each if isinstance(each, Signature) else Signature(each)

    def __or__(self, other: Any) -> Any:
        """Raises NotSupportedYet: chains are still to come."""
        raise NotSupportedYet("chains are still to come; give what is to follow as link=")

    # A dict's own would change this signature.
    __ior__ = __or__

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

    def __copy__(self) -> "Signature":
        return self.clone()

    def __deepcopy__(self, memo: dict[int, Any]) -> "Signature":
        return self.clone()


def _said(options: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in options.items() if value is not None}


def signature(varies: Any, *args: Any, **kwargs: Any) -> Signature:
    """A signature of a task (or of its name), or of a dict that describes one; a copy, of one that is one already.

    Raises TypeError for what is none of these, NotSupportedYet for a chain, a group or a chord.
    """
    if isinstance(varies, Signature):
        return varies.clone()
    if isinstance(varies, dict):
        return Signature.from_dict(varies)
    return Signature(varies, *args, **kwargs)


#: Celery's old name for it.
subtask = signature


def maybe_signature(d: Any, app: Any = None, clone: bool = False) -> Any:
    """A dict as the signature that it describes; a signature (or its copy, with `clone`) and all else as they are."""
    if isinstance(d, Signature):
        return d.clone() if clone else d
    return Signature.from_dict(d) if isinstance(d, dict) else d


maybe_subtask = maybe_signature
