"""What stands in a signature beside its task and arguments: its options, and among them what follows it."""

from collections.abc import Iterator
from typing import Any, Self

from djtasks.canvas.types import TYPES, as_list


def _item(key: str, help: str) -> Any:
    def get(self: Any) -> Any:
        return self.get(key)

    def put(self: Any, value: Any) -> None:
        self[key] = value

    return property(get, put, doc=help)


def _option(key: str, help: str) -> Any:
    def put(self: Any, value: Any) -> None:
        self["options"][key] = value

    return property(lambda self: self["options"].get(key), put, doc=help)


class Linked(dict[str, Any]):
    """A dict with a signature's keys."""

    __slots__ = ()

    task = _item("task", "The name of the task.")
    args = _item("args", "The positional arguments.")
    kwargs = _item("kwargs", "The named arguments.")
    options = _item("options", "The options of the call, those of `apply_async`.")
    subtask_type = _item("subtask_type", "None for the call of one task, else group, chain, chord and so on.")
    immutable = _item("immutable", "Whether it takes no other arguments than its own.")
    id = _option("task_id", "The id that the call will have, once it is frozen.")
    parent_id = _option("parent_id", "The id of the task that called it.")
    root_id = _option("root_id", "The id of the call that everything began with.")

    def set(self, immutable: bool | None = None, **options: Any) -> Self:
        """Set options of this very signature, and return it."""
        if immutable is not None:
            self.set_immutable(immutable)
        self["options"].update(options)
        return self

    def set_immutable(self, immutable: bool) -> None:
        """Whether it takes no other arguments than its own."""
        self["immutable"] = bool(immutable)

    def link(self, callback: Any) -> Any:
        """Have `callback`, a signature, sent with what the task returned before its own arguments; returns it."""
        return self.append_to_list_option("link", callback)

    def link_error(self, errback: Any) -> Any:
        """Have `errback`, a signature, called when the task has failed; returns it."""
        return self.append_to_list_option("link_error", errback)

    def on_error(self, errback: Any) -> Self:
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
        self._list(key).extend(as_list(value))

    def _list(self, key: str) -> list[Any]:
        items = self["options"].get(key)
        if not isinstance(items, list):
            items = self["options"][key] = list(items) if type(items) is tuple else [] if items is None else [items]
        return items

    def take_links(self, options: dict[str, Any]) -> None:
        """Take what is to follow out of the options of a call: it is linked to this one, beside what is already."""
        for key in ("link", "link_error"):
            for each in as_list(options.pop(key, None)):
                self.append_to_list_option(key, each)

    def flatten_links(self) -> list[Self]:
        """This one, and all that its links lead to."""
        found = [self]
        for each in self._links("link"):
            found.extend(each.flatten_links())
        return found

    def _links(self, key: str) -> Iterator[Any]:
        """What follows, as signatures; they stand in the option as what they are from now on."""
        if self["options"].get(key) is None:
            return
        items = self._list(key)
        for number, each in enumerate(items):
            if not isinstance(each, Linked):
                items[number] = signature_of(each)
            yield items[number]


def signature_of(value: Any) -> Any:
    """A signature, or the one that a dict describes. Raises TypeError for what is neither."""
    return value if isinstance(value, Linked) else TYPES["signature"].from_dict(value)
