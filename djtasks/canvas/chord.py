"""`chord`: a task that runs when all tasks of a group have ended, with the list of what they returned."""

from collections.abc import Mapping, Sequence
from typing import Any

from djtasks.canvas.composite import Composite, inner, value_of
from djtasks.canvas.group import copied, group
from djtasks.canvas.linked import signature_of
from djtasks.canvas.signature import Signature, members_of, part_of, said
from djtasks.canvas.stamping import StampingVisitor, stamps
from djtasks.canvas.trees import CHAIN, is_empty, kind_of
from djtasks.canvas.types import TYPES, Lazy, as_list, without_repetition
from djtasks.conf import settings
from djtasks.ids import new_task_id

#: Options which are the body's alone, and those which are the header's alone.
_OF_THE_BODY = ("task_id", "group_id", "group_index", "chord", "part", "link", "link_error")
_OF_THE_HEADER = ("countdown", "eta", "parent_id")


@Signature.register_type()
class chord(Composite):
    """A header, the tasks of a group, and a body: `chord([add.s(1, 1), add.s(2, 2)])(total.s())`.

    The body is called with the list of what the header's tasks returned, in their order, when the last of them has
    ended; with an empty list at once when there are none. When one has failed it ends as FAILURE with a ChordError.
    What the chord is called with, the header's tasks are called with. Its result is the body's, with the header's
    GroupResult as its parent.
    """

    __slots__ = ()

    tasks = inner("header", "The tasks of the header; their group, once the chord is frozen.")
    body = inner("body", "The body.")

    @property
    def id(self) -> Any:
        """The id of the header's group, once the chord is frozen; before, what `task_id` says."""
        header = self.tasks
        return (header if isinstance(header, group) else self)["options"].get("task_id")

    def __init__(
        self,
        header: Any,
        body: Any = None,
        task: str = "celery.chord",
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        app: Any = None,
        **options: Any,
    ) -> None:
        """`options` are those of the header's tasks and of the body. Raises TypeError for what is no signature."""
        said_of_both = {
            **(kwargs or {"kwargs": {}}),
            "header": _members(header),
            "body": None if body is None else signature_of(body),
        }
        super().__init__(task, args, said_of_both, **options)
        self["subtask_type"] = "chord"

    @classmethod
    def from_dict(cls, d: dict[str, Any], app: Any = None) -> Any:
        """The chord that a dict describes."""
        header = part_of(d, "header")
        said_of_both = {key: value for key, value in d["kwargs"].items() if key not in ("header", "body")}
        made = cls((), d["kwargs"].get("body"), kwargs=said_of_both)
        made.tasks = _members(header)
        return made._said_by(d)

    # -- sending ------------------------------------------------------------------------------------------------------

    def __call__(self, body: Any = None, **options: Any) -> Any:
        """Enqueue it, with this body if one is given."""
        return self.apply_async((), None if body is None else {"body": body}, **options)

    def apply_async(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        route_name: str | None = None,
        **options: Any,
    ) -> Any:
        """Enqueue the header, which the body follows; the body's result.

        `task_id` is the body's id, links are the body's, `countdown` and `eta` the header's; the other options are
        those of all. Raises TypeError without a body.
        """
        made, kwargs = self._with_body(kwargs)
        return super(chord, made).apply_async(args, kwargs, **options)

    def _with_body(self, kwargs: Mapping[str, Any] | None) -> tuple["chord", dict[str, Any]]:
        """This chord with the body that a call names, and the named arguments of the header."""
        named = {**(self["kwargs"].get("kwargs") or {}), **(kwargs or {})}
        body = named.pop("body", None)
        made = self
        if body is not None:
            made = self._shallow()
            made.body = signature_of(body)
        if made.body is None or (kind_of(made.body) == CHAIN and is_empty(made.body)):
            raise TypeError("a chord needs a body: chord(header)(body)")
        return made, named

    def _shallow(self) -> "chord":
        return super()._copied(self["args"], dict(self["kwargs"]), dict(self["options"]))

    def apply(self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any) -> Any:
        """Run the header and then the body here and now; the body's result. Raises what the header has raised."""
        made, named = self._with_body(kwargs)
        own = {key: value for key, value in self["options"].items() if key != "task_id"}
        more = {**own, **said(options)}
        body = made.body.clone()
        _take_body_links(body, more)
        of_the_header = {key: value for key, value in more.items() if key not in _OF_THE_BODY}
        of_the_body = {key: value for key, value in more.items() if key not in _OF_THE_HEADER}
        header = made.tasks if isinstance(made.tasks, group) else group(made.tasks)
        ended = header.apply((*(args or ()), *self["args"]), named, **of_the_header)
        result = body.apply(([each for one in ended.results for each in _values_of(one)],), **of_the_body)
        node = result
        while node.parent is not None:
            node = node.parent
        node.parent = ended
        return result

    # -- making others of it ------------------------------------------------------------------------------------------

    def _copied(self, args: Any, kwargs: dict[str, Any], options: dict[str, Any]) -> Any:
        header, body = kwargs["header"], kwargs.get("body")
        kwargs["header"] = header.clone() if isinstance(header, Signature) else copied(header)
        kwargs["body"] = None if body is None else signature_of(body).clone()
        return super()._copied(args, kwargs, options)

    def _begin_with(self, args: Sequence[Any] | None, kwargs: Mapping[str, Any] | None) -> None:
        if isinstance(self.tasks, group):
            self.tasks = self.tasks.clone(args, kwargs)
        else:
            self._change("header", lambda task: task.clone(args, kwargs))

    def __or__(self, other: Any) -> Any:
        """The chord with `other` behind its body; a chain, where `other` is a chain or a group of several."""
        other = self._other(other)
        if other is NotImplemented:
            return NotImplemented
        if isinstance(other, group):
            other = other.unrolled()
        if isinstance(other, group | TYPES["chain"]):
            return super().__or__(other)
        if self.body is None:
            raise TypeError("a chord needs a body before something can follow it: chord(header, body)")
        made = self.clone()
        made.body = made.body | other
        return made

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
        """Give the header's tasks and the body the ids that they will have; the body's result, None without a body.

        The chord's own id is that of the header's group. See `Signature.freeze`.
        """
        header = self.tasks if isinstance(self.tasks, group) else group(self.tasks)
        self.tasks = header
        if header["options"].get("task_id") is None:
            header["options"]["task_id"] = new_task_id()
        own = header["options"]["task_id"]
        before = header.freeze(None, None, own, root_id, parent_id)
        if self.body is None:
            return None
        result = self.body.freeze(_id, own if group_id is None else group_id, chord, root_id, None, group_index, part)
        node, seen = result, set()
        while node is not None and node.parent is not None and node.parent.id != before.id:
            if node.id in seen:
                raise RuntimeError("the results of a workflow come after themselves: two of its tasks have the same id")
            seen.add(node.id)
            node = node.parent
        if node is not None:
            node.parent = before
        return result

    _freeze = freeze

    def terminals(self) -> int:
        """With how many tasks it ends."""
        return 0 if self.body is None else signature_of(self.body).terminals()

    # -- what is to come after it -------------------------------------------------------------------------------------

    def set_immutable(self, immutable: bool) -> None:
        """Whether the tasks of its header take no other arguments than their own."""
        for task in self._members():
            task.set_immutable(immutable)

    def link(self, callback: Any) -> Any:
        """Link `callback` to the body."""
        self.body.link(callback)
        return callback

    def link_error(self, errback: Any) -> Any:
        """Link `errback` to the body, and with TASK_ALLOW_ERROR_CB_ON_CHORD_HEADER copies to all of the header."""
        errback = signature_of(errback)
        for task in self._members():
            if settings.TASK_ALLOW_ERROR_CB_ON_CHORD_HEADER:
                task.link_error(errback.clone().set(immutable=True))
            if isinstance(task, chord):
                task.link_error(errback)
        self.body.link_error(errback)
        return errback

    def stamp(self, visitor: StampingVisitor | None = None, append_stamps: bool = False, **headers: Any) -> Any:
        """Stamp the header's tasks and the body, and what is linked to them; see `Signature.stamp`."""
        visited = None if visitor is None else visitor.on_chord_header_start(self, **headers)
        headers = stamps(headers, visited, append_stamps, self["options"])
        self.stamp_links(visitor, append_stamps, **headers)
        stamper = self._stamper(visitor, append_stamps, headers)
        self.tasks._change("tasks", stamper) if isinstance(self.tasks, group) else self._change("header", stamper)
        if visitor is not None:
            visitor.on_chord_header_end(self, **headers)
        if self.body is not None:
            visited = None if visitor is None else visitor.on_chord_body(self, **headers)
            headers = stamps(headers, visited, append_stamps, self["options"])
            self.body.stamp(visitor, append_stamps, **headers)

    def _members(self) -> Any:
        return self.tasks.tasks if isinstance(self.tasks, group) else self.tasks

    # -- being one ----------------------------------------------------------------------------------------------------

    def __length_hint__(self) -> int:
        """How many parts the header has."""
        return sum(signature_of(task).terminals() for task in self._members())

    def __repr__(self) -> str:
        body = self.body
        if not body:
            return f"<chord without body: {self.tasks!r}>"
        if not isinstance(body, TYPES["chain"]) or len(body.tasks) < 2:
            body = body.tasks[0] if isinstance(body, TYPES["chain"]) and body.tasks else body
            return "%" + without_repetition(body["task"], body.reprcall(self.tasks))
        first, *rest = body.tasks
        shown = f"%({first.reprcall(self.tasks)} | {TYPES['chain'](rest)!r})"
        return without_repetition(first["task"], shown)


#: Celery's name for the class.
_chord = chord


def _take_body_links(body: Any, options: dict[str, Any]) -> None:
    """Link what a call of a chord is to be followed by to a copy of its body."""
    if isinstance(body, group) and body.tasks:
        for callback in as_list(options.pop("link", None)):
            body.link(callback)
        for errback in as_list(options.pop("link_error", None)):
            body.link_error(errback)
    else:
        body.take_links(options)


def _members(header: Any) -> Any:
    """The tasks of a header: of a group or a chain its own, of all else copies. A group with options stays one."""
    if isinstance(header, dict):
        header = signature_of(header)
        if isinstance(header, group) and header["options"]:
            return header
        return header.tasks if isinstance(header, group | TYPES["chain"]) else [header]
    made = members_of(header)
    if isinstance(made, Lazy):
        made.map(lambda task: task.clone())
        return made
    return [task.clone() for task in made]


def _values_of(result: Any) -> list[Any]:
    """The values of a part of a header; of one that ends in a group there are several."""
    if hasattr(result, "results"):
        return [value for each in result.results for value in _values_of(each)]
    return [value_of(result)]
