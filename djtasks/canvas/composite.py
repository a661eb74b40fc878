"""What chains, groups and chords have in common: they are sent as a whole, or run here and now."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from typing import Any, Self

from djtasks.awaiting import allow_join_result
from djtasks.calls import check_arguments
from djtasks.canvas.signature import Signature, said, senders
from djtasks.canvas.types import Lazy, check_nesting
from djtasks.conf import settings
from djtasks.exceptions import ImproperlyConfigured
from djtasks.messages import Message


class Composite(Signature):
    """A workflow: a signature that is made of signatures."""

    __slots__ = ()

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Enqueue it."""
        return self.apply_async(args, kwargs)

    def apply_async(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        route_name: str | None = None,
        **options: Any,
    ) -> Any:
        """Enqueue it: all that can begin at once, in one go; the rest follows when its time has come.

        Raises as `Task.apply_async` does, RecursionError when it is nested too deep, RuntimeError when it holds itself.
        """
        args, kwargs = check_arguments(args, kwargs)
        check_nesting(self)
        if settings.TASK_ALWAYS_EAGER:
            with allow_join_result():
                return self.apply(args, kwargs, **said(options))
        for send in senders:
            return send(self, args, kwargs, said(options))
        raise ImproperlyConfigured("nothing sends workflows: djtasks.canvas.send was never imported")

    def clone(self, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None, **options: Any) -> Self:
        """A copy, and of what it is made of, too; what begins in it has these arguments beside its own."""
        _, _, options = self._merge(options=options)
        made = self._copied(self["args"], dict(self["kwargs"]), deepcopy(options))
        if (args or kwargs) and not self["immutable"]:
            made._begin_with(args, kwargs)
        return made

    partial = clone

    def _said_by(self, d: Mapping[str, Any]) -> Self:
        """This signature with the arguments and options of a dict. Raises TypeError when they are none."""
        plain = Signature(d["task"], d.get("args"), None, d.get("options"))
        self.update(task=plain["task"], args=plain["args"], options=plain["options"])
        self["immutable"] = bool(d.get("immutable"))
        return self

    def _begin_with(self, args: Sequence[Any] | None, kwargs: Mapping[str, Any] | None) -> None:
        """Have what begins take these arguments, in front of its own."""

    def to_message(self, *args: Any, **options: Any) -> Message:
        """Raises TypeError: a workflow is more than one message."""
        raise TypeError(f"{self!r} is a workflow, and no single message")

    def _change(self, key: str, change: Callable[[Any], Any]) -> None:
        """Put `change(member)` in the place of each member; of those that a generator makes, when it makes them."""
        members = self["kwargs"][key]
        if isinstance(members, Lazy):
            members.map(change)
        else:
            self["kwargs"][key] = type(members)(map(change, members))


def inner(key: str, help: str) -> Any:
    """What a workflow is made of, as a property."""

    def put(self: Any, value: Any) -> None:
        self["kwargs"][key] = value

    return property(lambda self: self["kwargs"].get(key), put, doc=help)


def value_of(result: Any) -> Any:
    """What has come of something that has run here, of a group a list; raises what it raised."""
    return result.maybe_throw() if not hasattr(result, "results") else list(map(value_of, result.results))
