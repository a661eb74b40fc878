"""The options of a call: which there are, what they may be, and what of them travels in a message's headers."""

import difflib
import logging
import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from json.encoder import encode_basestring_ascii as quoted
from typing import Any, TypedDict

from djtasks import masking, steps
from djtasks.conf import settings
from djtasks.conf.kinds import SECONDS_MAX, is_limit
from djtasks.current import Frame
from djtasks.exceptions import safe_repr
from djtasks.serializers import dumps

logger = logging.getLogger("djtasks")

Seconds = float | timedelta | Decimal
#: In 9999 the calendar ends; Celery's own bound below is that of a 32-bit int.
_SECONDS_MIN, _SECONDS_MAX = -(2.0**31), 2.5e11
#: A day from the calendar's ends, so that every zone can show it. Who says `datetime.max` means «never».
_INSTANT_MIN = datetime(1, 1, 2, tzinfo=UTC).timestamp()
_INSTANT_MAX = datetime(9999, 12, 31, tzinfo=UTC).timestamp()
#: What an integer column holds, with room for more retries.
_RETRIES_MAX = 10**9


class CallOptions(TypedDict, total=False):
    """The options of `apply_async`. None is the same as leaving the option out.

    Times are seconds, or datetimes; a naive one is UTC.
    """

    task_id: str | None
    countdown: Seconds | None
    eta: datetime | str | None
    expires: Seconds | datetime | str | None
    queue: Any
    priority: int | None
    serializer: str | None
    compression: str | None
    ignore_result: bool | None
    headers: Mapping[str, Any] | None
    shadow: str | None
    time_limit: float | None
    soft_time_limit: float | None
    #: "on_commit", "in_transaction" or "immediately".
    enqueue: str | None
    #: The alias of the database whose transaction the call waits for, or is written in.
    using: str | None
    retry: bool | None
    retry_policy: Mapping[str, Any] | None
    argsrepr: str | None
    kwargsrepr: str | None
    root_id: str | None
    parent_id: str | None
    retries: int
    add_to_parent: bool
    #: See the attributes of `Task`.
    unique: bool | None
    unique_key: str | Callable[..., str] | None
    on_conflict: str | None
    concurrency_key: str | Callable[..., str] | None
    # A message broker's: `routing_key` finds the queue, some become `request.properties`, the rest mean nothing here.
    routing_key: str | None
    exchange: Any
    exchange_type: str | None
    delivery_mode: Any
    declare: Any
    mandatory: bool
    immediate: bool
    connection: Any
    producer: Any
    publisher: Any
    origin: str | None
    app_id: str | None
    cluster_id: str | None
    correlation_id: str | None
    message_id: str | None
    reply_to: str | None
    timestamp: Any
    type: str | None
    user_id: str | None
    #: A signature, or a list of them: what is sent when the task has succeeded, and when it has failed.
    link: Any
    link_error: Any
    #: The same as `link`.
    callback: Any
    group_id: str | None
    group_index: int | None
    #: The names of the options that are stamps.
    stamped_headers: Sequence[str] | None
    stamps: Mapping[str, Any] | None
    #: What follows in its chain: signatures, the next one last. Workflows write it, and the next two.
    chain: Any
    #: The id of the chord that waits for its end, and which part of it this is.
    chord: str | None
    part: int | None
    replaced_task_nesting: int


#: Options that become `request.properties`.
PROPERTIES = (
    "app_id",
    "cluster_id",
    "correlation_id",
    "message_id",
    "reply_to",
    "timestamp",
    "type",
    "user_id",
)
_SAID = (
    "root_id",
    "parent_id",
    "shadow",
    "ignore_result",
    "argsrepr",
    "kwargsrepr",
    "origin",
    "correlation_id",
    "reply_to",
)
_IDS = ("root_id", "parent_id")
_LINKS = ("link", "link_error", "callback")
_STAMPS = ("stamped_headers", "stamps")
_FLOW = ("group_id", "group_index", "chain", "replaced_task_nesting")
_HEADER_OPTIONS = frozenset(
    {*_SAID, *PROPERTIES, *_LINKS, *_STAMPS, *_FLOW, "headers", "time_limit", "soft_time_limit"}
)
#: Our own: "hooked" are the names of the headers that hooks have added, "periodic" the number of a periodic task.
_OPTIONS = frozenset({*CallOptions.__annotations__, "hooked", "periodic"})


def check(options: Mapping[str, Any]) -> None:
    """Raise TypeError for an option that there is not."""
    if _OPTIONS.issuperset(options):
        return
    stamps = options.get("stamped_headers") or ()
    for name in options.keys() - _OPTIONS:
        if name in stamps:
            continue
        near = difflib.get_close_matches(name, _OPTIONS, n=1)
        raise TypeError(f"apply_async() has no option {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))


# -- time ---------------------------------------------------------------------------------------------------------


def seconds(value: Any, what: str) -> float:
    """`value` as seconds. Raises TypeError, or ValueError when no calendar holds it."""
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise TypeError(f"{what} must be a number of seconds or a timedelta, not {safe_repr(value, 200)}")
    try:
        number = float(value)
    except (OverflowError, ValueError):
        number = math.nan
    if not _SECONDS_MIN <= number <= _SECONDS_MAX:
        raise ValueError(f"{what} is out of range: {safe_repr(value, 200)} seconds")
    return number


def instant(value: Any, what: str) -> float:
    """A datetime, or an ISO 8601 text, as seconds since the epoch; one without a zone is UTC (see ENABLE_UTC).

    What is nearer than a day to an end of the calendar is moved away from it. Raises TypeError, ValueError.
    """
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError as error:
            raise ValueError(f"{what} must be a datetime or an ISO 8601 text: {error}") from None
    if not isinstance(value, datetime):
        hint = "; for a number of seconds use countdown" if isinstance(value, int | float) and what == "eta" else ""
        raise TypeError(f"{what} must be a datetime, not {safe_repr(value, 200)}{hint}")
    if value.tzinfo is None:
        value = value.replace(tzinfo=UTC if settings.ENABLE_UTC else settings.TIMEZONE or UTC)
    try:
        moment: float = value.timestamp()
    except OverflowError:
        raise ValueError(f"{what} is out of range: {value!r}") from None
    return min(max(moment, _INSTANT_MIN), _INSTANT_MAX)


def start(countdown: Any, eta: Any) -> tuple[float | None, float | None]:
    """When to run at the earliest, as (countdown, eta); at most one of them is not None.

    Raises TypeError, and ValueError for what is out of range; a negative countdown is.
    """
    if countdown is not None and (wait := seconds(countdown, "countdown")):
        if wait < 0:
            raise ValueError(f"countdown must not be negative, and is {safe_repr(countdown, 200)} seconds")
        return wait, None
    return (None, None) if eta is None else (None, instant(eta, "eta"))


def expiry(expires: Any, name: str) -> tuple[float | None, float | None]:
    """When it is too late to start, as (seconds from now, seconds since the epoch)."""
    if expires is None:
        return None, None
    if isinstance(expires, datetime | str):
        at = instant(expires, "expires")
        late = time.time() - at
        if late > 0:
            logger.warning("a call of %s expired %.1fs before it was made (%s)", name, late, expires)
        return None, at
    after = seconds(expires, "expires")
    if after < 0:
        logger.warning("a call of %s expired %.1fs before it was made", name, -after)
    return max(after, 0.0), None


def time_limits(options: Mapping[str, Any], task: Any) -> list[float | None] | None:
    """[hard, soft] of this call, or None when it names none.

    Raises ValueError for what is no limit, and when soft is above hard.
    """
    hard, soft = options.get("time_limit"), options.get("soft_time_limit")
    check_limit(hard, "time_limit")
    check_limit(soft, "soft_time_limit")
    in_force = (hard, soft) if task is None else (hard or task.time_limit, soft or task.soft_time_limit)
    if in_force[0] and in_force[1] and in_force[1] > in_force[0]:
        raise ValueError(f"soft_time_limit ({in_force[1]}) must not be above time_limit ({in_force[0]})")
    return None if hard is None and soft is None else [hard, soft]


def check_limit(limit: Any, what: str) -> None:
    """Raise ValueError unless `limit` is a time limit, or None."""
    if limit is not None and not is_limit(limit):
        raise ValueError(
            f"{what} must be a number of seconds above 0, {SECONDS_MAX:.0f} at most, not {safe_repr(limit, 200)}"
        )


def retries(value: Any) -> int:
    """How often a call says that it has been retried; 0 for None. Raises TypeError, ValueError."""
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"retries must be a whole number, not {safe_repr(value, 200)}")
    if not 0 <= value <= _RETRIES_MAX:
        raise ValueError(f"retries must be from 0 to {_RETRIES_MAX}, not {safe_repr(value, 200)}")
    return int(value)


# -- headers ------------------------------------------------------------------------------------------------------


def lineage(frame: Frame | None) -> str | None:
    """The headers of a call that says nothing itself: where it comes from, as JSON; None outside of a task."""
    if frame is None:
        return None
    request = frame.request
    own = quoted(request.id or "")
    return f'{{"root_id":{quoted(request.root_id) if request.root_id else own},"parent_id":{own}}}'


def headers(options: Mapping[str, Any], task: Any, frame: Frame | None, own_id: str | None) -> str | None:
    """All that a message says beside its columns, as JSON; None for nothing.

    `own_id` is the caller's own text for an id. Raises EncodeError, TypeError, ValueError.
    """
    sensitive = None if task is None else masking.of(task)
    if own_id is None and sensitive is None and _HEADER_OPTIONS.isdisjoint(options):
        time_limits(options, task)
        return lineage(frame)
    if own_id is None and sensitive is None and _QUICK.issuperset(_HEADER_OPTIONS.intersection(options)):
        time_limits(options, task)
        return _quickly(options, frame)
    # Before all else: who reads only the beginning of long headers finds it there.
    said: dict[str, Any] = {} if sensitive is None else {"sensitive": sensitive}
    if frame is not None:
        said["root_id"] = frame.request.root_id or frame.request.id
        said["parent_id"] = frame.request.id
    for key in _SAID:
        if (value := options.get(key)) is not None:
            if key in _IDS and not isinstance(value, str):
                raise TypeError(f"{key} must be the id of a task, a text, not {safe_repr(value, 200)}")
            said[key] = value
    if (limits := time_limits(options, task)) is not None:
        said["timelimit"] = limits
    if own_id is not None:
        said["task_id"] = own_id
    if properties := {key: options[key] for key in PROPERTIES if options.get(key) is not None}:
        said["properties"] = properties
    if own := options.get("headers"):
        if not isinstance(own, Mapping):
            raise TypeError(f"headers must be a mapping, not {safe_repr(own, 200)}")
        said["headers"] = dict(own)
        if hooked := options.get("hooked"):
            said["hooked"] = hooked
    if not _MORE.isdisjoint(options):
        _say_more(said, options)
    text = dumps(said, "json")[1].decode() if said else None
    return steps.join(text, chain) if (chain := options.get("chain")) else text


#: What the members of groups and of chords say, of which there may be very many.
_QUICK = frozenset({*_IDS, "group_id", "group_index"})


def _quickly(options: Mapping[str, Any], frame: Frame | None) -> str | None:
    """As `headers`, for options that are only these."""
    get = options.get
    root, parent, group, index = get("root_id"), get("parent_id"), get("group_id"), get("group_index")
    if frame is not None:
        root, parent = root or frame.request.root_id or frame.request.id, parent or frame.request.id
    said = []
    for key, value in (("root_id", root), ("parent_id", parent), ("group", group)):
        if value is not None:
            if not isinstance(value, str):
                what = "group_id must be the id of a group" if key == "group" else f"{key} must be the id of a task"
                raise TypeError(f"{what}, a text, not {safe_repr(value, 200)}")
            said.append(f'"{key}":{quoted(value)}')
    if index is not None:
        if isinstance(index, bool) or not isinstance(index, int):
            raise TypeError(f"group_index must be a whole number, not {safe_repr(index, 200)}")
        said.append(f'"group_index":{index:d}')
    return f"{{{','.join(said)}}}" if said else None


_MORE = frozenset({*_LINKS, *_STAMPS, *_FLOW})


def _say_more(said: dict[str, Any], options: Mapping[str, Any]) -> None:
    """What is to follow a call, the group that it is of, and its stamps."""
    if options.get("callback") is not None:
        warnings.warn("the option 'callback' is called 'link'", DeprecationWarning, stacklevel=7)
    if callbacks := [*_signatures(options, "link"), *_signatures(options, "callback")]:
        said["callbacks"] = callbacks
    if errbacks := _signatures(options, "link_error"):
        said["errbacks"] = errbacks
    if (group := options.get("group_id")) is not None:
        said["group"] = group
    if (index := options.get("group_index")) is not None:
        said["group_index"] = index
    if nesting := options.get("replaced_task_nesting"):
        said["replaced_task_nesting"] = nesting
    if names := options.get("stamped_headers"):
        if isinstance(names, str) or not all(isinstance(name, str) for name in names):
            raise TypeError(f"stamped_headers must be a list of names, not {safe_repr(names, 200)}")
        stamps = {**(options.get("stamps") or {}), **{name: options[name] for name in names if name in options}}
        # JSON has no sets.
        said["stamps"] = {
            name: list(value) if isinstance(value, set | frozenset) else value for name, value in stamps.items()
        }
        said["stamped_headers"] = list(names)


def _signatures(options: Mapping[str, Any], option: str) -> list[Any]:
    """The signatures that the option holds, as a list. Raises TypeError for what is none."""
    given = options.get(option)
    if given is None:
        return []
    found = list(given) if isinstance(given, list | tuple | set | frozenset) else [given]
    for each in found:
        if not isinstance(each, Mapping) or not isinstance(each.get("task"), str):
            what = f"; write {each.name}.s()" if hasattr(each, "apply_async") and hasattr(each, "name") else ""
            raise TypeError(f"{option} takes signatures, not {safe_repr(each, 200)}{what}")
        check(each.get("options") or {})
    return found


def check_arguments(args: Any, kwargs: Any) -> tuple[Sequence[Any], Mapping[str, Any]]:
    """The arguments of a call, empty where None. Raises TypeError."""
    if args is None:
        args = ()
    elif not isinstance(args, list | tuple):
        raise TypeError(f"task args must be a list or tuple, not {safe_repr(args, 200)}")
    if kwargs is None:
        kwargs = {}
    elif not isinstance(kwargs, Mapping):
        raise TypeError(f"task keyword arguments must be a mapping, not {safe_repr(kwargs, 200)}")
    return args, kwargs
