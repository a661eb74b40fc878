"""The language of the search for tasks, which is flower's: `state:FAILURE args:anna kwargs:id=5 report`.

A word with a filter's name before a colon is a filter; quotes hold blanks together; all other words are looked for in
names, queues, workers and states. All of it must hold.
"""

import json
import re
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple
from uuid import UUID

from django.utils import timezone
from django.utils.translation import gettext as _

from djtasks.conf.kinds import is_storable
from djtasks.ids import as_task_id
from djtasks.monitor.respond import Problem
from djtasks.states import FAILURE, REVOKED

#: The longest search, and the most words in one.
LONGEST: Final = 500
MOST: Final = 20
_QUOTED = r'"((?:[^"\\]|\\.)*)"'
_TOKEN = re.compile(r'(?:([A-Za-z_]+):)?((?:"(?:[^"\\]|\\.)*"|\S)+)')
_SPAN = re.compile(r"(\d{1,6})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
#: States that a message has, as people call them; and why it may not run now.
_WAITING = ("PENDING", "WAITING")
_RUNNING = ("STARTED", "RUNNING", "ACTIVE", "RECEIVED")
_PARKED = ("PARKED", "SCHEDULED")
_REASONS = ("ETA", "NAME", "LIMIT", "RATE")


class Search(NamedTuple):
    """What is looked for."""

    #: As `djtasks.db.tasklists.listed` wants it.
    wanted: dict[str, Any]
    #: The id of one task, and nothing else.
    uuid: UUID | None
    #: Whether arguments or results are looked through.
    payload: bool
    #: Whether those come first that have ended last, where nobody says otherwise.
    by_end: bool


def read(text: str) -> Search:
    """What a search means. Raises Problem, with a sentence, for what means nothing."""
    text = text.strip()
    if len(text) > LONGEST:
        raise Problem(_("The search is too long: it has %(count)d characters, and may have %(most)d.")
                      % {"count": len(text), "most": LONGEST})  # fmt: skip
    if not is_storable(text):
        raise Problem(_("The search has characters that no text in the database has: a NUL, or half a pair."))
    tokens = [(key.lower(), _unquoted(word)) for key, word in _TOKEN.findall(text)]
    if len(tokens) > MOST:
        raise Problem(_("The search has more than %d words.") % MOST)
    wanted: dict[str, Any] = {}
    words: list[str] = []
    for key, word in tokens:
        if not key:
            words.append(word)
        elif key not in FILTERS:
            known = ", ".join(f"{name}:" for name in FILTERS)
            raise Problem(_("There is no filter %(name)s: in a search; there are %(known)s. Put a text with a colon in "
                            "quotes.") % {"name": key, "known": known})  # fmt: skip
        else:
            found = FILTERS[key](word)
            if twice := wanted.keys() & found.keys():
                raise Problem(_("The search says twice what is to be: %s.") % ", ".join(sorted(twice)))
            wanted.update(found)
    uuid = wanted.pop("uuid", None)
    if uuid is not None and (wanted or words):
        raise Problem(_("uuid: is one task; nothing else can be asked for beside it."))
    if len(words) == 1 and not wanted and uuid is None:
        uuid = _a_uuid(words[0])
    if words and uuid is None:
        wanted["words"] = words
    payload = any(key in wanted for key in ("args", "kwargs", "result"))
    return Search(wanted, uuid, payload, wanted.get("state") in (FAILURE, REVOKED) or "dead" in wanted)


def phrase(name: str, text: str) -> str:
    """A filter as one writes it, with whatever text."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'{name}:"{escaped}"'


def _unquoted(word: str) -> str:
    return re.sub(_QUOTED, lambda quoted: re.sub(r"\\(.)", r"\1", quoted[1]), word)


def _a_uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _id(key: str) -> Callable[[str], dict[str, Any]]:
    def read(word: str) -> dict[str, Any]:
        try:
            return {key: UUID(as_task_id(word))}
        except (TypeError, ValueError):
            raise Problem(_("%(word)r is no id of a task.") % {"word": word[:50]}) from None

    return read


def _text(key: str) -> Callable[[str], dict[str, Any]]:
    return lambda word: {key: word}


def _state(word: str) -> dict[str, Any]:
    name = word.upper()
    if name in _WAITING:
        return {"waiting": True}
    if name in _RUNNING:
        return {"running": True}
    if name in _PARKED:
        return {"parked": True}
    if name in _REASONS:
        return {"reason": name.lower()}
    known = (FAILURE, REVOKED, "SUCCESS", "RETRY", "IGNORED", "REJECTED")
    return {"state": name if name in known else word}


def _args(word: str) -> dict[str, Any]:
    return {"args": _as_stored(word)}


def _result(word: str) -> dict[str, Any]:
    return {"result": _as_stored(word)}


def _kwargs(word: str) -> dict[str, Any]:
    """`name=value`: the argument of this name has this value; a name alone: it is given."""
    name, equals, value = word.partition("=")
    if not name:
        raise Problem(_("kwargs: takes the name of an argument and its value, as in kwargs:user=5."))
    key = json.dumps(name)
    needles: list[str] = []
    for colon in (":", ": "):
        if not equals:
            needles.append(f"{key}{colon}")
            continue
        needles.append(f"{key}{colon}{json.dumps(value)}")
        try:
            plain = json.dumps(json.loads(value))
        except (ValueError, RecursionError):
            plain = {"True": "true", "False": "false", "None": "null"}.get(value, "")
        # A number goes on unless something ends it.
        needles += [f"{key}{colon}{plain}{end}" for end in (",", "}") if plain and plain[0] != '"']
    return {"kwargs": [each.encode() for each in needles]}


def _as_stored(word: str) -> list[bytes]:
    """A text as it may stand in bytes: as it is, and as JSON writes it."""
    return list({word.encode(), json.dumps(word)[1:-1].encode()})


def _dead(word: str) -> dict[str, Any]:
    return {"dead": word.lower()}


def _since(word: str) -> dict[str, Any]:
    return {"low": _first_id(_moment(word))}


def _until(word: str) -> dict[str, Any]:
    return {"high": _first_id(_moment(word))}


def _moment(word: str) -> datetime:
    """A time, or how long ago: 10m, 2h, 3d."""
    try:
        if span := _SPAN.fullmatch(word):
            return timezone.now() - timedelta(**{_UNITS[span[2]]: int(span[1])})
        found = datetime.fromisoformat(word)
        found = timezone.make_aware(found) if timezone.is_naive(found) else found
        found.timestamp()
    except (ValueError, OverflowError):
        raise Problem(_("%(word)r is no time: write 2026-01-31T12:00, or how long ago it is, 10m, 2h or 3d.")
                      % {"word": word[:50]}) from None  # fmt: skip
    return found


def _first_id(moment: datetime) -> UUID:
    """The first id that a call of this time can have."""
    return UUID(int=min(max(0, int(moment.timestamp() * 1000)), 2**48 - 1) << 80)


#: What reads the word behind a filter's name.
FILTERS: Final[Mapping[str, Callable[[str], dict[str, Any]]]] = {
    "state": _state,
    "name": _text("name"),
    "uuid": _id("uuid"),
    "args": _args,
    "kwargs": _kwargs,
    "result": _result,
    "root_id": _id("root_id"),
    "parent_id": _id("parent_id"),
    "worker": _text("worker"),
    "queue": _text("queue"),
    "dead": _dead,
    "since": _since,
    "until": _until,
}
