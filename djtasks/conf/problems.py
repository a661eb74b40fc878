"""What is wrong with a `DJTASKS` dict, said so that it can be put right."""

import difflib
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple

from djtasks.conf.foreign import IGNORED, REASONS
from djtasks.conf.kinds import Unfit, upper_name
from djtasks.conf.layers import Celerys
from djtasks.conf.options import FIELDS, FORMERLY, KINDS, Settings
from djtasks.exceptions import safe_repr

#: An error keeps the settings from being read; a warning and an info do not.
Level = Literal["error", "warning", "info"]


class Problem(NamedTuple):
    """One thing that is wrong with the settings."""

    level: Level
    #: The setting; "" when it is the dict itself.
    key: str
    text: str
    hint: str


def problems(raw: object, names: Mapping[str, str] | None = None) -> list[Problem]:
    """All that is wrong with `raw`, the value of `DJTASKS` as it stands; empty when nothing is. Never raises.

    What stands elsewhere is called by its name there, which `names` tells.
    """
    if not isinstance(raw, Mapping):
        hint = "Write DJTASKS = {'TASK_TIME_LIMIT': 600, …}, or leave it out."
        return [Problem("error", "", f"DJTASKS must be a dict, not {type(raw).__name__}.", hint)]
    found: list[Problem] = []
    good: dict[str, Any] = {}
    for key, value in raw.items():
        if key not in KINDS:
            found.append(_foreign(key))
            continue
        shown, hint = f"DJTASKS[{key!r}]", FIELDS[key].metadata["help"]
        if names and key in names:
            shown = f"The setting {names[key]}, read as {key}, of Django's settings"
            hint += " If it is another program's, set 'READ_CELERY_SETTINGS' to False in DJTASKS."
        try:
            good[key] = KINDS[key].read(value)
        except Unfit as error:
            found.append(Problem("error", key, f"{shown} {error}.", hint))
        except Exception as error:
            # Only a value whose own methods raise when it is looked at.
            text = f"{shown} must be {KINDS[key].wants}; looking at it raised {safe_repr(error, 200)}."
            found.append(Problem("error", key, text, hint))
    found.extend(_contradictions(Settings(**good)))
    return found


def of_celery(found: Celerys) -> list[Problem]:
    """What is wrong with the settings of Celery's among Django's, beside their values."""
    result = []
    for one, other in found.clashes:
        text = f"Django's settings have {one} and {other}, which are one setting, with different values."
        result.append(Problem("error", one, text, "Take one of them out."))
    for key in found.strange:
        bare = key.removeprefix("CELERY_")
        if near := difflib.get_close_matches(bare, [*KINDS, *IGNORED], n=1, cutoff=0.85):
            text = f"Django's settings have {key}, which is no setting of Celery's."
            result.append(Problem("warning", key, text, f"Did you mean {f'CELERY_{near[0]}'!r}?"))
    return result


def did_you_mean(key: str) -> str | None:
    """The setting that `key` was probably meant to be; None when nothing is near."""
    if key in FORMERLY:
        return FORMERLY[key]
    upper: str = upper_name(key).replace("CELERYBEAT_", "BEAT_")
    for prefix in ("", "CELERY_", "CELERYD_", "DJTASKS_"):
        name = upper.removeprefix(prefix)
        if name in KINDS or name in IGNORED:
            return name
    if near := difflib.get_close_matches(upper, KINDS, n=1, cutoff=0.75):
        return str(near[0])
    return None


def _foreign(key: object) -> Problem:
    if not isinstance(key, str):
        shown = safe_repr(key, 200)
        return Problem("error", shown, f"DJTASKS has the key {shown}, which is no text.", "Remove it.")
    if key in IGNORED:
        text = f"DJTASKS[{key!r}] has no meaning here: {REASONS[key]}."
        return Problem("info", key, text, "Remove it when nothing else reads it.")
    text = f"DJTASKS[{key!r}] is not a setting."
    if name := did_you_mean(key):
        return Problem("error", key, text, f"Did you mean {name!r}?")
    return Problem("error", key, text, "Remove it; the documentation lists all settings.")


def _contradictions(settings: Settings) -> Iterator[Problem]:
    """What no value has wrong by itself."""
    soft, hard = settings.TASK_SOFT_TIME_LIMIT, settings.TASK_TIME_LIMIT
    if soft and hard and soft > hard:
        text = (
            f"DJTASKS['TASK_SOFT_TIME_LIMIT'] ({soft:g} s) is above TASK_TIME_LIMIT ({hard:g} s): it could never act."
        )
        yield Problem("error", "TASK_SOFT_TIME_LIMIT", text, "Make the soft limit the smaller one.")
    dead, beat = settings.WORKER_DEAD_AFTER, settings.WORKER_HEARTBEAT_INTERVAL
    if dead < 2 * beat:
        text = f"DJTASKS['WORKER_DEAD_AFTER'] ({dead:g} s) is less than twice WORKER_HEARTBEAT_INTERVAL ({beat:g} s)."
        hint = "A single late heartbeat would make a living worker look dead; four times the interval is a good value."
        yield Problem("error", "WORKER_DEAD_AFTER", text, hint)
    if settings.PAYLOAD_WARN_BYTES > settings.PAYLOAD_MAX_BYTES:
        text = "DJTASKS['PAYLOAD_WARN_BYTES'] is above PAYLOAD_MAX_BYTES: it could never act."
        yield Problem("error", "PAYLOAD_WARN_BYTES", text, "Make it the smaller one.")
    if max(settings.PAYLOAD_MAX_BYTES, settings.RESULT_MAX_BYTES) > settings.DECOMPRESSED_MAX_BYTES:
        text = "DJTASKS['DECOMPRESSED_MAX_BYTES'] is below PAYLOAD_MAX_BYTES or RESULT_MAX_BYTES."
        hint = "What was written within its limit could not be read back; make it at least as large."
        yield Problem("error", "DECOMPRESSED_MAX_BYTES", text, hint)
    queues = settings.TASK_QUEUES
    if queues is not None and not settings.TASK_CREATE_MISSING_QUEUES and settings.TASK_DEFAULT_QUEUE not in queues:
        text = f"DJTASKS['TASK_DEFAULT_QUEUE'], {settings.TASK_DEFAULT_QUEUE!r}, is not in TASK_QUEUES."
        hint = "Add it to TASK_QUEUES, name another one, or set TASK_CREATE_MISSING_QUEUES to True."
        yield Problem("error", "TASK_DEFAULT_QUEUE", text, hint)
