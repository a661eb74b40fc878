"""Values as text that a browser can show and that does nothing: bounded in length and depth, invisible things visible.

The text is not HTML yet; whoever puts it into a page escapes it.
"""

import contextlib
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any, Final

from django.utils import timezone

from djtasks.exceptions import safe_repr

#: Characters of one value, of one text in it, and of what stands on one line.
TEXT_MAX: Final = 20_000
STRING_MAX: Final = 4_000
LINE_MAX: Final = 80
#: Items shown of a container, and how deep.
ITEMS_MAX: Final = 200
DEPTH_MAX: Final = 12
LABEL_MAX: Final = 200


def visible(text: str) -> str:
    """`text` with escapes in place of what is invisible or cannot be sent: control characters, marks that turn the
    direction of writing, halves of surrogate pairs. Line breaks and tabs stay.
    """
    if text.isprintable():
        return text
    return "".join([char if char.isprintable() or char in "\n\t" else _escaped(char) for char in text])


def label(text: str | None) -> str:
    """A name, for a line or a cell."""
    if not text:
        return "-"
    shown = visible(text[:LABEL_MAX]).replace("\n", "\\n")
    return shown if len(text) <= LABEL_MAX else shown + "…"


def moment(value: datetime | None) -> str:
    """A time in the current zone, to the second."""
    if value is None:
        return "-"
    if timezone.is_aware(value):
        # The last day of the calendar has no morning after.
        with contextlib.suppress(OverflowError):
            value = timezone.localtime(value)
    return value.replace(tzinfo=None).isoformat(" ", "seconds")


def duration(value: timedelta | None) -> str:
    """A length of time, the more exact the shorter it is: `12 ms`, `3.42 s`, `1:02:03`."""
    if value is None:
        return "-"
    seconds = value.total_seconds()
    if abs(seconds) < 1:
        return f"{seconds * 1000:.0f} ms"
    return f"{seconds:.2f} s" if abs(seconds) < 60 else str(timedelta(seconds=round(seconds)))


def pretty(value: object) -> str:
    """A decoded value as Python writes it, over several lines where it is long, with "…" for what is left out."""
    parts: list[str] = []
    left = TEXT_MAX
    for part in _lines(value, 0):
        if len(part) > left:
            parts += [part[:left], "\n… (more is left out)"]
            break
        parts.append(part)
        left -= len(part)
    return visible("".join(parts))


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode()


def _lines(value: object, depth: int) -> Iterator[str]:
    """The parts of a value's text. A generator: what is beyond the bound is never made."""
    if (short := _short(value)) is not None:
        yield short
    elif type(value) is dict:
        yield from _container("{", "}", len(value), _items(value, depth), depth)
    elif type(value) in _BRACKETS:
        opening, closing = _BRACKETS[type(value)]
        # Sets and the like, too: the types in _BRACKETS are all sized and iterable.
        sized: Any = value
        yield from _container(opening, closing, len(sized), (_lines(each, depth + 1) for each in sized), depth)
    else:
        yield _scalar(value)


def _items(value: Mapping[Any, Any], depth: int) -> Iterator[Iterator[str]]:
    for key, each in value.items():
        yield _pair(key, each, depth)


def _pair(key: object, value: object, depth: int) -> Iterator[str]:
    yield _short(key) or _scalar(key)
    yield ": "
    yield from _lines(value, depth + 1)


def _container(opening: str, closing: str, size: int, items: Iterator[Iterator[str]], depth: int) -> Iterator[str]:
    yield opening
    if depth >= DEPTH_MAX:
        yield f"… ({size:,} inside)"
    else:
        pad = "\n" + "    " * (depth + 1)
        for nth, item in enumerate(items):
            if nth == ITEMS_MAX:
                yield f"{pad}… ({size - nth:,} more)"
                break
            yield pad
            yield from item
            yield ","
        yield "\n" + "    " * depth
    yield closing


def _short(value: object) -> str | None:
    """The value's text if it fits on a line."""
    parts: list[str] = []
    left = LINE_MAX
    for part in _flat(value, 0):
        left -= len(part)
        if left < 0:
            return None
        parts.append(part)
    return "".join(parts)


def _flat(value: object, depth: int) -> Iterator[str]:
    if depth > LINE_MAX:
        yield " " * (LINE_MAX + 1)
    elif type(value) is dict:
        yield "{"
        for nth, (key, each) in enumerate(value.items()):
            yield from (", " if nth else "", _scalar(key), ": ")
            yield from _flat(each, depth + 1)
        yield "}"
    elif type(value) in _BRACKETS and value != set():
        opening, closing = _BRACKETS[type(value)]
        yield opening
        sized: Any = value
        for nth, each in enumerate(sized):
            yield ", " if nth else ""
            yield from _flat(each, depth + 1)
        if type(value) is tuple and len(value) == 1:
            yield ","
        yield closing
    else:
        yield _scalar(value)


def _scalar(value: object) -> str:
    if type(value) in (str, bytes):
        text: Any = value
        if len(text) > STRING_MAX:
            return f"{text[:STRING_MAX]!r}… ({len(text):,} in all)"
        return repr(text)
    return safe_repr(value, STRING_MAX)


_BRACKETS: Final[Mapping[type, tuple[str, str]]] = {
    list: ("[", "]"),
    tuple: ("(", ")"),
    set: ("{", "}"),
    frozenset: ("frozenset({", "})"),
}
