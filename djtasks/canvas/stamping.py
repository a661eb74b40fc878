"""Stamps: headers that a workflow's tasks get on top of their own, by which they can be found and revoked."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from copy import copy
from typing import Any

from djtasks.canvas.linked import Linked, signature_of
from djtasks.canvas.types import TYPES

_NAMES = "stamped_headers"


class StampingVisitor(ABC):
    """Says what each part of a workflow is stamped with: `signature.stamp(visitor)`.

    A method returns a dict of stamps for what it is shown, and for all that is in it or follows it; None is none. With
    the key `stamped_headers`, a list of names, only these are stamps. `headers` are the stamps it has already.
    """

    @abstractmethod
    def on_signature(self, sig: Any, **headers: Any) -> dict[str, Any] | None:
        """For the call of one task."""

    def on_group_start(self, group: Any, **headers: Any) -> dict[str, Any] | None:
        """For a group, before its members."""
        return {}

    def on_group_end(self, group: Any, **headers: Any) -> None:  # noqa: B027 -- may be left as it is
        """After the members of a group."""

    def on_chain_start(self, chain: Any, **headers: Any) -> dict[str, Any] | None:
        """For a chain, before its tasks."""
        return {}

    def on_chain_end(self, chain: Any, **headers: Any) -> None:  # noqa: B027
        """After the tasks of a chain."""

    def on_chord_header_start(self, sig: Any, **header: Any) -> dict[str, Any] | None:
        """For a chord, before its header; by default what a group gets. The header is a group from now on."""
        if not isinstance(sig.tasks, TYPES["group"]):
            sig.tasks = TYPES["group"](sig.tasks)
        return self.on_group_start(sig.tasks, **header)

    def on_chord_header_end(self, sig: Any, **header: Any) -> None:
        """After the header of a chord; by default as after a group."""
        self.on_group_end(sig.tasks, **header)

    def on_chord_body(self, sig: Any, **header: Any) -> dict[str, Any] | None:
        """For the body of the chord `sig`."""
        return {}

    def on_callback(self, callback: Any, **header: Any) -> dict[str, Any] | None:
        """For what is linked to a success."""
        return {}

    def on_errback(self, errback: Any, **header: Any) -> dict[str, Any] | None:
        """For what is linked to a failure."""
        return {}


def stamps(
    headers: Mapping[str, Any], visited: Mapping[str, Any] | None, append: bool, own: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """`headers` with the stamps of a visitor's answer and then those among the `own` options of a signature.

    Where two name the same one, the first stays, or with `append` both are kept as a list.
    """
    said = {key: _plain(value) for key, value in headers.items()}
    said[_NAMES] = list(headers.get(_NAMES, headers))
    if visited:
        named = list(visited.get(_NAMES, visited))
        visited = {**{key: _plain(value) for key, value in visited.items()}, _NAMES: named}
        said = _merged(said, visited, append)
    if own is not None:
        said[_NAMES] = [*said[_NAMES], *(own.get(_NAMES) or ())]
        said = _merged(said, {key: value for key, value in own.items() if key in said[_NAMES]}, append)
    said[_NAMES] = _unique(said[_NAMES])
    return said


def _plain(value: Any) -> Any:
    """Stamps travel as JSON, and a set as a list."""
    return list(value) if isinstance(value, set | frozenset) else value


def _unique(names: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(names))


def _merged(first: Mapping[str, Any], second: Mapping[str, Any], append: bool) -> dict[str, Any]:
    merged = dict(first)
    for key, more in second.items():
        merged[key] = _both(merged[key], more, append) if key in merged else copy(more)
    return merged


def _both(value: Any, more: Any, append: bool) -> Any:
    if isinstance(value, Mapping):
        return _merged(value, more, append) if isinstance(more, Mapping) else value
    if append and isinstance(value, int | float | str):
        value = [value]
    if isinstance(value, list) and isinstance(more, list):
        return [*value, *more]
    if not append:
        return value
    return [more] if value is None else [*value, more]


class Stamped(Linked):
    """What can be stamped."""

    __slots__ = ()

    def stamp(self, visitor: StampingVisitor | None = None, append_stamps: bool = False, **headers: Any) -> Any:
        """Stamp this signature, and all that is in it or linked to it, with what the visitor says and with `headers`.

        A stamp that is there already is replaced, or with `append_stamps` becomes a list of both.
        """
        self.stamp_links(visitor, append_stamps, **headers)
        visited = None if visitor is None else visitor.on_signature(self, **headers)
        return self.set(**stamps(headers, visited, append_stamps, self["options"]))

    def stamp_links(self, visitor: StampingVisitor | None, append_stamps: bool = False, **headers: Any) -> None:
        """Stamp what is linked to this signature, and not the signature itself."""
        said = headers
        for callback in self._links("link"):
            visited = None if visitor is None else visitor.on_callback(callback, **said)
            said = stamps(said, visited, append_stamps)
            callback.stamp(visitor, append_stamps, **said)
        said = headers
        for errback in self._links("link_error"):
            visited = None if visitor is None else visitor.on_errback(errback, **said)
            said = stamps(said, visited, append_stamps)
            errback.stamp(visitor, append_stamps, **said)

    @staticmethod
    def _stamper(visitor: StampingVisitor | None, append: bool, headers: dict[str, Any]) -> Callable[[Any], Any]:
        """Stamps the member of a workflow, and returns it as a signature."""

        def stamped(task: Any) -> Any:
            made = signature_of(task)
            made.stamp(visitor, append, **headers)
            return made

        return stamped
