"""What the value of a setting may be, and the one form in which the rest of the code sees it.

A `Kind` reads a value as it stands in `DJTASKS` and returns it in that form (a list becomes a tuple, seconds become a
timedelta …), or raises `Unfit`, whose text says what is wrong with it. Kinds know nothing of the settings themselves.
"""

import logging
import math
import re
from collections.abc import Callable, Mapping
from datetime import timedelta, tzinfo
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from djtasks.exceptions import safe_repr
from djtasks.ratelimits import parse

#: The longest name a queue may have, in characters.
QUEUE_NAME_MAX = 200
PRIORITY_MIN, PRIORITY_MAX = -32768, 32767
#: About 31 years: every timer, of the system and of Python, can be set to it.
SECONDS_MAX = 1e9
#: As far back as PostgreSQL can count from now, with room to spare.
AGE_MAX = timedelta(days=1_000_000)
#: The largest whole number that anything here is counted in: PostgreSQL's integer.
WHOLE_MAX = 2**31 - 1


class Unfit(ValueError):
    """The value is not of this kind."""


class Kind(NamedTuple):
    """One kind of value."""

    #: Completes «must be …».
    wants: str
    #: The value in its one form; raises Unfit.
    read: Callable[[Any], Any]


def _unfit(wants: str, value: object) -> Unfit:
    return Unfit(f"must be {wants}, not {safe_repr(value, 200)}")


def optional(kind: Kind, meaning: str = "none") -> Kind:
    """`kind`, or None, which means `meaning`."""
    return Kind(f"{kind.wants}, or None ({meaning})", lambda value: None if value is None else kind.read(value))


def one_of(*values: str) -> Kind:
    """One of these texts."""
    wants = " or ".join(repr(value) for value in values)

    def read(value: Any) -> str:
        if value not in values:
            raise _unfit(wants, value)
        return str(value)

    return Kind(wants, read)


def is_limit(value: object) -> bool:
    """Whether a task can be given `value` as its time limit: an int or float of seconds, more than 0."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value <= SECONDS_MAX


def is_storable(text: str) -> bool:
    """Whether a text column of PostgreSQL can hold `text`: it has neither NUL nor lone surrogates."""
    if text.isascii():
        return "\0" not in text
    try:
        return b"\0" not in text.encode()
    except UnicodeEncodeError:
        return False


def number(minimum: float = 0, maximum: float = SECONDS_MAX, unit: str = "seconds") -> Kind:
    """An int or float in a range, read as a float."""
    wants = f"a number of {unit}, {minimum:g} or more" + (f", {maximum:g} at most" if maximum != SECONDS_MAX else "")

    def read(value: Any) -> float:
        # Compared before it is converted: an int may be too large for any float.
        if isinstance(value, bool) or not isinstance(value, int | float) or not minimum <= value:
            raise _unfit(wants, value)
        if value > maximum:
            raise _unfit(wants if maximum != SECONDS_MAX else f"{maximum:.0f} {unit} at most", value)
        return float(value)

    return Kind(wants, read)


def whole(minimum: int = 0, maximum: int | None = None) -> Kind:
    """An int in a range; without `maximum` it ends where PostgreSQL's integer does."""
    wants = f"a whole number, {minimum} or more" if maximum is None else f"a whole number from {minimum} to {maximum}"

    def read(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or value < minimum:
            raise _unfit(wants, value)
        if value > (WHOLE_MAX if maximum is None else maximum):
            raise _unfit(wants if maximum is not None else f"{WHOLE_MAX} at most", value)
        return value

    return Kind(wants, read)


def _read_flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _unfit("True or False", value)
    return value


def _read_text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise _unfit("a text", value)
    return value


def _read_names(value: Any) -> tuple[str, ...]:
    if isinstance(value, str):
        raise Unfit(f"must be a list of texts; write [{value!r}]")
    if not isinstance(value, list | tuple | set | frozenset) or not all(isinstance(name, str) for name in value):
        raise _unfit("a list of texts", value)
    return tuple(value)


def _read_some_names(value: Any) -> tuple[str, ...]:
    if not (names := _read_names(value)):
        raise Unfit("must name at least one")
    return names


def queue_name(value: Any) -> str:
    """`value`, when it can name a queue: text of 1 to 200 characters, which PostgreSQL can hold. Raises Unfit."""
    if not isinstance(value, str) or not 0 < len(value) <= QUEUE_NAME_MAX or not is_storable(value):
        wants = f"the name of a queue: a text of 1 to {QUEUE_NAME_MAX} characters, without NUL and lone surrogates"
        raise _unfit(wants, value)
    return value


def _read_queues(value: Any) -> dict[str, dict[str, Any]]:
    """Names to options, from a list of names or objects with a `name` (kombu's Queue), or from a dict."""
    if isinstance(value, Mapping):
        queues = {}
        for name, options in value.items():
            if options is not None and not isinstance(options, Mapping):
                shown, given = safe_repr(name, 200), safe_repr(options, 200)
                raise Unfit(f"must map the queue {shown} to a dict of options, not {given}")
            queues[queue_name(name)] = dict(options or {})
        return queues
    if not isinstance(value, list | tuple | set | frozenset):
        raise _unfit("a list of queues, or a dict of name to options", value)
    queues = {}
    for item in value:
        options = {} if isinstance(item, str) else _queue_options(item)
        name = item if isinstance(item, str) else getattr(item, "name", item)
        if (alias := getattr(item, "alias", None)) and getattr(options.get("exchange"), "type", None) == "fanout":
            # kombu's Broadcast: it is known by its alias, its name is made up.
            name, options["broadcast"] = alias, True
        queues[queue_name(name)] = options
    return queues


def _queue_options(queue: Any) -> dict[str, Any]:
    wanted = ("routing_key", "exchange", "queue_arguments", "max_priority", "broadcast")
    return {key: value for key in wanted if (value := getattr(queue, key, None))}


def _read_routes(value: Any) -> Any:
    router = callable(value) or hasattr(value, "route_for_task")
    if not router and not isinstance(value, str | Mapping | list | tuple):
        raise _unfit("a dict, a list of routes, a function or its dotted name", value)
    return value


def _read_annotations(value: Any) -> Any:
    for each in value if isinstance(value, list | tuple) else (value,):
        if isinstance(each, Mapping):
            if not all(isinstance(name, str) and isinstance(said, Mapping) for name, said in each.items()):
                raise Unfit("must map names of tasks to dicts of options")
        elif not isinstance(each, str | type) and not hasattr(each, "annotate") and not hasattr(each, "annotate_any"):
            raise _unfit("a dict, an object with annotate(task), its dotted name, or a list of these", value)
    return value


def _read_schedule(value: Any) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise _unfit("a dict of names to dicts", value)
    for name, entry in value.items():
        if not isinstance(name, str) or not isinstance(entry, Mapping):
            raise Unfit(f"must map names to dicts with task and schedule, and has {safe_repr(name, 200)}")
    # The dict itself: what is put into `app.conf.beat_schedule` is to stay.
    return value if isinstance(value, dict) else dict(value)


def _read_expires(value: Any) -> timedelta | None:
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds < math.inf:
        raise _unfit("seconds or a timedelta, 0 or more", value)
    if seconds > AGE_MAX.total_seconds():
        raise _unfit(f"{AGE_MAX.days} days at most", value)
    return timedelta(seconds=seconds) if seconds else None


def _read_term(value: Any) -> timedelta:
    term = _read_expires(value)
    if term is None:
        raise _unfit("more than 0 seconds", value)
    return term


def _read_limit(value: Any) -> float | None:
    return POSITIVE.read(value) or None


def _read_zone(value: Any) -> tzinfo:
    if isinstance(value, tzinfo):
        return value
    try:
        return ZoneInfo(_read_text(value))
    except (OSError, KeyError, ValueError) as error:
        raise _unfit("the name of a time zone, as 'Europe/Paris'", value) from error


def _read_log_level(value: Any) -> str:
    name = logging.getLevelName(value) if isinstance(value, int) else value
    if not isinstance(name, str) or name.upper() not in logging.getLevelNamesMapping():
        raise _unfit("the name of a logging level", value)
    return name.upper()


def _read_format(value: Any) -> str:
    text = _read_text(value)
    try:
        logging.Formatter(text)
    except ValueError as error:
        raise Unfit(f"must be a format of the logging module: {error}") from error
    return text


RETRY_POLICY: dict[str, float | None] = {
    "max_retries": 3,
    "interval_start": 0,
    "interval_step": 0.2,
    "interval_max": 1,
}


def retry_policy(value: Any) -> dict[str, Any]:
    """The policy with its missing keys filled in: max_retries (None for ever) and three intervals, in seconds.

    Raises Unfit.
    """
    if not isinstance(value, Mapping):
        raise _unfit(f"a dict with {', '.join(RETRY_POLICY)}", value)
    for key, entry in value.items():
        if key == "retry_errors":
            continue
        if key not in RETRY_POLICY:
            raise Unfit(f"has an unknown key {safe_repr(key, 200)}; it takes {', '.join(RETRY_POLICY)}")
        try:
            (optional(whole()) if key == "max_retries" else POSITIVE).read(entry)
        except Unfit as error:
            raise Unfit(f"has a bad {key!r}: it {error}") from error
    return {**RETRY_POLICY, **value}


def _read_rate(value: Any) -> Any:
    try:
        parse(value)
    except (TypeError, ValueError) as error:
        raise Unfit(f"must be a rate: {error}") from None
    return value or None


def host_and_port(value: Any) -> tuple[str, int]:
    """Where to listen: 8808 and "8808" are ports of the loopback interface; another address is written out, as
    "0.0.0.0:8808" or "[::]:8808". Raises Unfit.
    """
    host, colon, port = str(value).strip().rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    good = isinstance(value, str | int) and not isinstance(value, bool) and port.isascii() and port.isdigit()
    if not good or len(port) > 5 or int(port) > 65535 or (colon and not host) or (":" in host and not bracketed):
        raise _unfit(_ADDRESS, value)
    return (host.strip("[]") if colon else "127.0.0.1"), int(port)


def _read_address(value: Any) -> str:
    host_and_port(value)
    return str(value).strip()


_ADDRESS = "a port of the loopback interface, or ADDRESS:PORT"

FLAG = Kind("True or False", _read_flag)
TEXT = Kind("a text", _read_text)
ADDRESS = Kind(_ADDRESS, _read_address)
NAMES = Kind("a list of texts", _read_names)
SOME_NAMES = Kind("a list of at least one text", _read_some_names)
QUEUE = Kind(f"the name of a queue: 1 to {QUEUE_NAME_MAX} characters", queue_name)
QUEUES = Kind("a list of queues, or a dict of name to options", _read_queues)
ANNOTATIONS = Kind("a dict, an object with annotate(task), its dotted name, or a list of these", _read_annotations)
ROUTES = Kind("a dict, a list of routes, a function or its dotted name", _read_routes)
SCHEDULE = Kind("a dict of names to dicts with task and schedule", _read_schedule)
EXPIRES = Kind("seconds or a timedelta, 0 or more; 0 means never", _read_expires)
TERM = Kind("seconds or a timedelta, more than 0", _read_term)
POSITIVE = number()
RATE = Kind("a rate: a number and a unit s, m or h, as '10/m'", _read_rate)
#: Seconds in which something must be done; 0 is read as None, no limit.
LIMIT = Kind("a number of seconds; 0 means no limit", _read_limit)
ZONE = Kind("the name of a time zone", _read_zone)
LOG_LEVEL = Kind("the name of a logging level", _read_log_level)
LOG_FORMAT = Kind("a format of the logging module", _read_format)
POLICY = Kind(f"a dict with {', '.join(RETRY_POLICY)}", retry_policy)
PRIORITY = whole(PRIORITY_MIN, PRIORITY_MAX)

#: Words of a setting's name, for people who write it in another style.
_WORDS = re.compile(r"[^A-Za-z0-9]+|(?<=[a-z0-9])(?=[A-Z])")


def upper_name(text: str) -> str:
    """`text` as the name of a setting would be written: words in capitals, joined by underlines."""
    return "_".join(word for word in _WORDS.split(text) if word).upper()
