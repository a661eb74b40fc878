"""Stamps: headers that a caller has put on tasks so that they can be told apart, and revoked, later."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from djtasks.exceptions import safe_repr
from djtasks.payload import headers_of

#: A stamp: its name, and the JSON of its value.
Stamp = tuple[str, str]


def _many(value: Any) -> list[Any]:
    """One value, or several."""
    return list(value) if isinstance(value, list | tuple | set | frozenset) else [value]


def _stamp(name: Any, value: Any) -> Stamp:
    try:
        return name, json.dumps(value, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise TypeError(f"the stamp {name!r} must have a value that JSON can carry: {error}") from None


def wanted(headers: Any) -> list[Stamp]:
    """The stamps that are meant by `{name: value or list of values}`, or by a list of `"name=value"`.

    Raises TypeError and ValueError for anything else, and for nothing at all.
    """
    if isinstance(headers, Mapping):
        pairs = [(name, value) for name, values in headers.items() for value in _many(values)]
    elif isinstance(headers, Sequence) and not isinstance(headers, str):
        pairs = []
        for text in headers:
            name, sign, value = text.partition("=") if isinstance(text, str) else ("", "", "")
            if not name or not sign:
                raise ValueError(f"a stamp must be written as name=value, not {safe_repr(text, 200)}")
            pairs.append((name, value))
    else:
        raise TypeError(f"stamps must be a mapping, or a list of name=value, not {safe_repr(headers, 200)}")
    for name, _ in pairs:
        if not isinstance(name, str) or not name:
            raise TypeError(f"the name of a stamp must be a text, not {safe_repr(name, 200)}")
    if not pairs:
        raise ValueError("name at least one stamp and a value of it")
    return sorted({_stamp(name, value) for name, value in pairs})


def stamps_of(headers: str | None) -> set[Stamp]:
    """The stamps of a message, from the JSON of its headers; none where those cannot be read."""
    if headers is None or '"stamped_headers"' not in headers:
        return set()
    said = headers_of(headers)
    names, values = said.get("stamped_headers"), said.get("stamps")
    if not isinstance(names, list) or not isinstance(values, dict):
        return set()
    found = set()
    for name in names:
        if isinstance(name, str) and name in values:
            for value in _many(values[name]):
                # Whatever the headers hold came out of JSON, but a reader may have made other types of it.
                try:
                    found.add(_stamp(name, value))
                except TypeError:
                    continue
    return found
