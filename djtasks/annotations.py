"""TASK_ANNOTATIONS: a project's own values for the options of tasks that are defined elsewhere.

    {"shop.tasks.pay": {"rate_limit": "10/s"}, "*": {"@__call__": logged}}

Or an object with `annotate(task)` and `annotate_any()`, its dotted name, or a list of these.
"""

import contextlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from django.utils.module_loading import import_string

from djtasks import keys
from djtasks.calls import check_limit
from djtasks.exceptions import ImproperlyConfigured, safe_repr

Values = Mapping[str, Any]
_EXCEPTIONS = ("autoretry_for", "dont_autoretry_for", "throws")


def values_for(annotations: Any, task: Any) -> list[Values]:
    """What the annotations say of a task: what is first said of it by name, then what is first said of all.

    The later stands over the earlier. Raises ImproperlyConfigured.
    """
    if annotations is None:
        return []
    given = annotations if isinstance(annotations, list | tuple) else (annotations,)
    sources = [_source(each) for each in given]
    found = (_first(sources, "annotate", task), _first(sources, "annotate_any"))
    return [each for each in found if each]


def named(annotations: Any) -> Iterator[tuple[str, Values]]:
    """What those annotations say that are written as dicts: (name of a task or "*", values)."""
    for each in annotations if isinstance(annotations, list | tuple) else (annotations,):
        if isinstance(each, Mapping):
            yield from each.items()


def apply(cls: type, values: Values) -> None:
    """Set the values at a task's class; a key "@run" wraps the method `run` in its value.

    Raises ImproperlyConfigured when there is no such method, the value is no function, or an option cannot have it.
    """
    try:
        keys.check_options(values)
        for option in ("time_limit", "soft_time_limit"):
            if values.get(option) != 0:
                check_limit(values.get(option), option)
    except (TypeError, ValueError) as error:
        raise ImproperlyConfigured(f"TASK_ANNOTATIONS: {error}") from error
    for key, value in values.items():
        if key.startswith("@"):
            _wrap(cls, key[1:], value)
        elif key in _EXCEPTIONS:
            setattr(cls, key, tuple(value) if isinstance(value, list | tuple | set | frozenset) else (value,))
        else:
            setattr(cls, key, value)


class _Named:
    """Annotations as a dict of names."""

    def __init__(self, values: Mapping[str, Values]) -> None:
        self._values = values

    def annotate(self, task: Any) -> Values | None:
        return self._values.get(task.name)

    def annotate_any(self) -> Values | None:
        return self._values.get("*")


def _source(annotation: Any) -> Any:
    if isinstance(annotation, Mapping):
        return _Named(annotation)
    if isinstance(annotation, str):
        try:
            annotation = import_string(annotation.replace(":", "."))
        except ImportError as error:
            raise ImproperlyConfigured(f"TASK_ANNOTATIONS: {error}") from error
    if isinstance(annotation, type):
        annotation = annotation()
    if not hasattr(annotation, "annotate") and not hasattr(annotation, "annotate_any"):
        shown = safe_repr(annotation, 200)
        raise ImproperlyConfigured(f"TASK_ANNOTATIONS: {shown} is neither a dict nor has it annotate(task)")
    return annotation


def _first(sources: list[Any], method: str, *arguments: Any) -> Values | None:
    for source in sources:
        ask = getattr(source, method, None)
        answer = None if ask is None else ask(*arguments)
        if answer is None:
            continue
        if not isinstance(answer, Mapping) or not all(isinstance(key, str) for key in answer):
            shown = safe_repr(answer, 200)
            raise ImproperlyConfigured(f"TASK_ANNOTATIONS: {shown} is no dict of attributes and values")
        return answer
    return None


def _wrap(cls: type, name: str, around: Callable[..., Any]) -> None:
    method = getattr(cls, name, None)
    if not callable(method) or not callable(around):
        what = f"{safe_repr(around, 200)} is no function" if callable(method) else f"there is no method {name!r}"
        raise ImproperlyConfigured(f"TASK_ANNOTATIONS: '@{name}': {what}")
    made = around(method)
    # A callable object of a class with slots takes no attributes.
    with contextlib.suppress(AttributeError):
        made.__wrapped__ = method
    plain = isinstance(inspect.getattr_static(cls, name), staticmethod)
    setattr(cls, name, staticmethod(made) if plain else made)
