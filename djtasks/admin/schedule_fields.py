"""The fields of the form of a periodic task: texts with suggestions, and JSON that PostgreSQL can store."""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.forms.fields import InvalidJSONInput
from django.utils.html import format_html, format_html_join

from djtasks.conf.kinds import is_storable
from djtasks.periodic.rules import DEPTH_MAX


def storable(value: str) -> None:
    """Raise ValidationError for a text that no column can hold."""
    if not is_storable(value):
        raise ValidationError("This text holds a NUL or half of a surrogate pair, which cannot be stored.")


class Suggesting(forms.TextInput):
    """A line of text with suggestions to choose from, which the browser searches as one types.

    `suggestions` is asked when the page is made, for values and what is said of each.
    """

    def __init__(self, suggestions: Callable[[], Iterable[tuple[str, str]]], attrs: Mapping[str, Any]) -> None:
        super().__init__({"autocomplete": "off", "spellcheck": "false", **attrs})
        self.suggestions = suggestions

    def render(self, name: str, value: Any, attrs: Any = None, renderer: Any = None) -> Any:
        """The input, and beside it the list of suggestions."""
        found = f"{(attrs or {}).get('id') or name}_suggestions"
        line = super().render(name, value, {**(attrs or {}), "list": found}, renderer)
        options = format_html_join("", '<option value="{}">{}</option>', self.suggestions())
        return format_html('{}<datalist id="{}">{}</datalist>', line, found, options)


class _Strict(json.JSONDecoder):
    """JSON without NaN and Infinity, which Python reads but PostgreSQL does not."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "parse_constant": _refuse})


def _refuse(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


class JsonField(forms.JSONField):
    """JSON of one type, `list` or `dict`; empty for an empty one."""

    def __init__(self, holds: type, **options: Any) -> None:
        super().__init__(required=False, decoder=_Strict, initial=holds, **options)
        self.holds = holds

    def to_python(self, value: Any) -> Any:
        """Raise ValidationError for what is no JSON, of another type, or cannot be stored."""
        if value in self.empty_values:
            return self.holds()
        try:
            found = super().to_python(value)
        except (RecursionError, ValueError):
            # Nested too deeply, a number of thousands of digits, NaN.
            raise ValidationError(self.error_messages["invalid"], "invalid", {"value": value}) from None
        if not isinstance(found, self.holds):
            wanted = "a list, like [1, “two”]" if self.holds is list else "an object, like {“name”: 1}"
            raise ValidationError(f"This must be {wanted.replace('“', chr(34)).replace('”', chr(34))}.")
        _check(found)
        return found

    def bound_data(self, data: Any, initial: Any) -> Any:
        """As it was typed: what is shown again is what the reader wrote."""
        return InvalidJSONInput("" if data is None else data)


def _check(value: object) -> None:
    for depth, each in _parts(value, 1):
        if depth > DEPTH_MAX:
            raise ValidationError(f"This is nested too deeply; {DEPTH_MAX} levels are the most.")
        if isinstance(each, str):
            storable(each)
        elif isinstance(each, float) and not math.isfinite(each):
            raise ValidationError("This holds a number that is too large.")


def _parts(value: object, depth: int) -> Iterator[tuple[int, object]]:
    """All that is in a value, each with its depth; no deeper than what is refused."""
    yield depth, value
    if depth > DEPTH_MAX:
        return
    inner: Iterable[object] = ()
    if isinstance(value, dict):
        inner = (*value, *value.values())
    elif isinstance(value, list):
        inner = value
    for each in inner:
        yield from _parts(each, depth + 1)
