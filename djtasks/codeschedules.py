"""The periodic tasks that code defines: BEAT_SCHEDULE, `app.add_periodic_task`, `@shared_task(schedule=…)`, our own.

They are only collected here. Beat writes them into the table when it starts; no other process does.
"""

import hashlib
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from djtasks.conf import settings
from djtasks.exceptions import DuplicateTaskNameWarning, safe_repr
from djtasks.periodic import Entry, entry_of_code, problems
from djtasks.periodic.code import OWN_KEYS
from djtasks.periodic.rules import NAME_MAX
from djtasks.registry import tasks
from djtasks.schedules import BaseSchedule, crontab

CLEANUP = "celery.backend_cleanup"
#: Where each source is to be found by who has to correct something.
PLACES = {
    "settings": "BEAT_SCHEDULE",
    "code": "add_periodic_task",
    "decorator": "schedule=",
    "builtin": "djtasks",
}


class Fault(NamedTuple):
    """A periodic task of the code that cannot be."""

    name: str
    source: str
    #: What is wrong with it, in sentences.
    text: str


_added: dict[str, Entry] = {}
_refused: dict[str, Fault] = {}


def add_periodic_task(
    schedule: Any,
    sig: Any,
    args: Sequence[Any] | None,
    kwargs: Mapping[str, Any] | None,
    name: str | None,
    opts: Mapping[str, Any],
) -> str:
    """See `app.add_periodic_task`. One that has the name already is replaced, with a warning when it was not given."""
    key, definition = _definition(schedule, sig, args, kwargs, name, opts)
    try:
        entry = entry_of_code(key, definition, "code")
    except (TypeError, ValueError) as error:
        # A receiver's exception is logged and goes no further: the system check is to know of it, too.
        _refused[key] = Fault(key, "code", _sentence(error))
        raise
    if not name and key in _added:
        text = f"two periodic tasks are called {key!r}, and the later one takes the place of the other; give it a name="
        warnings.warn(text, DuplicateTaskNameWarning, stacklevel=3)
    _refused.pop(key, None)
    _added[key] = entry
    return key


def _definition(
    schedule: Any, sig: Any, args: Any, kwargs: Any, name: str | None, opts: Mapping[str, Any]
) -> tuple[str, dict[str, Any]]:
    """The name, and an entry as BEAT_SCHEDULE has it. Raises TypeError for what is no signature."""
    if isinstance(sig, Mapping) and isinstance(sig.get("task"), str):
        if sig.get("subtask_type") is not None:
            raise TypeError(f"{sig!r} is a workflow: write a task that calls it, and let that one run again and again")
        call = sig.clone(args, kwargs) if hasattr(sig, "clone") else sig
    elif hasattr(sig, "apply_async") and hasattr(sig, "name"):
        call = sig.s(*(args or ()), **(kwargs or {}))
    else:
        raise TypeError(f"add_periodic_task() takes a signature, as add.s(2, 2), or a task, not {safe_repr(sig, 200)}")
    own = {key: opts[key] for key in OWN_KEYS if key in opts}
    options = {**(call.get("options") or {}), **{key: value for key, value in opts.items() if key not in own}}
    definition = {key: call.get(key) for key in ("task", "args", "kwargs")}
    return name or _shortened(repr(call)), {**definition, "schedule": schedule, "options": options, **own}


def said() -> dict[str, Entry]:
    """The periodic tasks of the code, by name; without those that cannot be, which `faults` tells."""
    return {each.name: each for each in _all() if isinstance(each, Entry)}


def faults() -> list[Fault]:
    """What is wrong with periodic tasks of the code."""
    return [each for each in _all() if isinstance(each, Fault)]


def state() -> tuple[dict[str, Entry], dict[str, Fault]]:
    """What has been added; for `restore`."""
    return dict(_added), dict(_refused)


def restore(was: tuple[Mapping[str, Entry], Mapping[str, Fault]]) -> None:
    """Go back to what `state()` told."""
    for mine, theirs in ((_added, was[0]), (_refused, was[1])):
        mine.clear()
        mine.update(theirs)  # type: ignore[arg-type]


def _all() -> Iterator[Entry | Fault]:
    """Each one, or what is wrong with it; what comes later in a list of sources leaves earlier names alone."""
    taken: set[str] = set()
    for name, source, definition in _definitions():
        if name in taken:
            continue
        taken.add(name)
        yield _checked(name, source, definition)


def _definitions() -> Iterator[tuple[str, str, Any]]:
    for name, definition in settings.BEAT_SCHEDULE.items():
        yield name, "settings", definition
    for name, entry in _added.items():
        yield name, "code", entry
    for name, fault in _refused.items():
        yield name, "code", fault
    for name, task in sorted(tasks.items()):
        if (given := _of_task(task)) is not None:
            yield name, "decorator", {**(given if isinstance(given, Mapping) else {"schedule": given}), "task": name}
    if settings.RESULT_EXPIRES is not None:
        cleanup = {"task": CLEANUP, "schedule": crontab("0", "4"), "options": {"expires": 12 * 3600}}
        yield CLEANUP, "builtin", {**cleanup, "description": "Deletes results that have expired."}


def _of_task(task: Any) -> Any:
    """Its `schedule`, unless a class of one's own uses the name for a method."""
    given = getattr(task, "schedule", None)
    return None if callable(given) and not isinstance(given, BaseSchedule) else given


def _checked(name: str, source: str, definition: Any) -> Entry | Fault:
    if isinstance(definition, Fault):
        return definition
    try:
        entry = definition if isinstance(definition, Entry) else entry_of_code(name, definition, source)
    except (TypeError, ValueError) as error:
        return Fault(name, source, _sentence(error))
    except Exception as error:
        # What somebody's own object raises when it is looked at.
        return Fault(name, source, f"Looking at it raised {safe_repr(error, 200)}.")
    if found := problems(entry):
        return Fault(name, source, " ".join(f"{field}: {sentence}" for field, sentence in found.items()))
    return entry


def _shortened(text: str) -> str:
    if len(text) <= NAME_MAX:
        return text
    mark = hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:12]
    return f"{text[: NAME_MAX - 14]}… {mark}"


def _sentence(error: BaseException) -> str:
    text = str(error).removesuffix(".")
    return f"{text[:1].upper()}{text[1:]}."
