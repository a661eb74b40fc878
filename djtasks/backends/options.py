"""What `OPTIONS` of a backend may say, and the `options` of one of its tasks: how its tasks are enqueued and run."""

import difflib
from collections.abc import Callable, Mapping
from typing import Any

from django.utils.module_loading import import_string

from djtasks.conf.kinds import (
    EXPIRES,
    FLAG,
    LIMIT,
    RATE,
    TEXT,
    Kind,
    Unfit,
    number,
    one_of,
    optional,
    upper_name,
    whole,
)
from djtasks.exceptions import safe_repr

_EXCEPTIONS = "exception classes, or their dotted names"


def _read_exceptions(value: Any) -> tuple[type[BaseException], ...]:
    given = value if isinstance(value, list | tuple | set | frozenset) else (value,)
    found = []
    for each in given:
        if isinstance(each, str):
            try:
                each = import_string(each if "." in each else f"builtins.{each}")
            except ImportError as error:
                raise Unfit(f"must be {_EXCEPTIONS}: {error}") from None
        if not (isinstance(each, type) and issubclass(each, BaseException)):
            raise Unfit(f"must be {_EXCEPTIONS}, not {safe_repr(each, 200)}")
        found.append(each)
    return tuple(found)


def _read_backoff(value: Any) -> bool | float:
    return value if isinstance(value, bool) else _SECONDS.read(value)


def _read_function(value: Any) -> Callable[[], Any]:
    if isinstance(value, str):
        try:
            value = import_string(value)
        except ImportError as error:
            raise Unfit(f"must be a function without arguments, or its dotted name: {error}") from None
    if not callable(value):
        raise Unfit(f"must be a function without arguments, or its dotted name, not {safe_repr(value, 200)}")
    function: Callable[[], Any] = value
    return function


def _read_atomic(value: Any) -> bool | str:
    return value if isinstance(value, bool) else str(TEXT.read(value))


_SECONDS = number()
_EXCEPTION_CLASSES = Kind(_EXCEPTIONS, _read_exceptions)
#: What each option may be. All but ID_FUNCTION are options of a djtasks task, in capitals.
KINDS: dict[str, Kind] = {
    "ENQUEUE": one_of("on_commit", "in_transaction", "immediately"),
    "MAX_RETRIES": optional(whole(), "for ever"),
    "AUTORETRY_FOR": _EXCEPTION_CLASSES,
    "DONT_AUTORETRY_FOR": _EXCEPTION_CLASSES,
    "DEFAULT_RETRY_DELAY": _SECONDS,
    "RETRY_BACKOFF": Kind("True, False, or the seconds of the first wait", _read_backoff),
    "RETRY_BACKOFF_MAX": _SECONDS,
    "RETRY_JITTER": FLAG,
    "TIME_LIMIT": optional(LIMIT),
    "SOFT_TIME_LIMIT": optional(LIMIT),
    "EXPIRES": optional(EXPIRES, "never"),
    "ACKS_LATE": optional(FLAG, "as the settings say"),
    "REJECT_ON_WORKER_LOST": optional(FLAG, "as the settings say"),
    "ACKS_ON_FAILURE": optional(FLAG, "as the settings say"),
    "ACKS_ON_TIMEOUT": optional(FLAG, "as the settings say"),
    "ATOMIC": Kind("True, False, or the alias of a database", _read_atomic),
    "TRACK_STARTED": FLAG,
    "RATE_LIMIT": optional(RATE),
    "COMPRESSION": optional(TEXT),
    "ERROR_EMAILS": optional(FLAG, "as the settings say"),
    "ID_FUNCTION": Kind("a function without arguments, or its dotted name", _read_function),
}
#: Of the backend alone: what makes ids cannot differ from task to task.
_OF_THE_BACKEND = frozenset({"ID_FUNCTION"})
#: What people look for here.
_ELSEWHERE = {
    "RESULT_EXPIRES": "results of all tasks are kept equally long: set RESULT_EXPIRES of DJTASKS",
    "IGNORE_RESULT": "results are always stored, since get_result() promises them",
    "DATABASE": "all tasks are in one database: set DATABASE of DJTASKS",
    "QUEUES": "write QUEUES beside OPTIONS",
    "QUEUE": "say queue_name= to @task",
    "PRIORITY": "say priority= to @task",
}


def problems(given: Any, where: str, of_task: bool = False) -> list[str]:
    """What is wrong with options, a sentence each; `where` is what they are called: `TASKS['default']['OPTIONS']`."""
    if not isinstance(given, Mapping):
        return [f"{where} must be a dict, not {safe_repr(given, 200)}"]
    found = []
    for key, value in given.items():
        if key not in KINDS or (of_task and key in _OF_THE_BACKEND):
            found.append(f"{where} has no {safe_repr(key, 200)}; {_cure(key, of_task)}")
            continue
        try:
            KINDS[key].read(value)
        except Unfit as error:
            found.append(f"{where}[{key!r}] {error}")
    hard, soft = given.get("TIME_LIMIT"), given.get("SOFT_TIME_LIMIT")
    if not found and hard and soft and soft > hard:
        found.append(f"{where}: SOFT_TIME_LIMIT ({soft}) would never be reached before TIME_LIMIT ({hard})")
    return found


def _cure(key: Any, of_task: bool) -> str:
    name = upper_name(str(key))
    if name in _ELSEWHERE:
        return _ELSEWHERE[name]
    if name in _OF_THE_BACKEND:
        return "it is an option of the backend: write it into OPTIONS of TASKS"
    near = difflib.get_close_matches(name, KINDS, n=1)
    return f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(KINDS))}"


def read(given: Mapping[str, Any]) -> dict[str, Any]:
    """Options in their one form, by their names. They are right."""
    return {key: KINDS[key].read(value) for key, value in given.items()}


def attributes(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Options, as `read` made them, as attributes of a djtasks task; what a later layer says beats an earlier one.

    Who says how often to retry, and not after what, wants it after every error: a function of Django's tasks has no
    `retry()` to call.
    """
    said: dict[str, Any] = {}
    for layer in layers:
        said |= layer
    if "MAX_RETRIES" in said and said["MAX_RETRIES"] != 0:
        said.setdefault("AUTORETRY_FOR", (Exception,))
    return {key.lower(): value for key, value in said.items() if key not in _OF_THE_BACKEND}
