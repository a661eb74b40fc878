"""Assertions about what has been enqueued."""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from djtasks.payload import pack_value, unpack_value
from djtasks.testing.calls import Call, enqueued, name_of

#: A countdown was counted from a moment that no test knows exactly, in seconds.
TOLERANCE = 1.0


def assert_enqueued(
    task: Any,
    args: Sequence[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    *,
    queue: str | None = None,
    priority: int | None = None,
    countdown: float | timedelta | None = None,
    eta: datetime | None = None,
    times: int | None = None,
) -> Call:
    """Fail unless a call of `task` (a task or its name) waits that fits all that is given; returns the first one.

    `args` and `kwargs` are compared as the task will get them: a tuple has become a list by then. `countdown` and `eta`
    may be a second off. With `times` there must be exactly so many (0: none, and AssertionError is all there is to be
    had).
    """
    calls = enqueued(task)
    fitting = [
        call
        for call in calls
        if (args is None or _same(list(args), list(call.args)))
        and (kwargs is None or _same(dict(kwargs), call.kwargs))
        and (queue is None or call.queue == queue)
        and (priority is None or call.priority == priority)
        and (countdown is None or _close(_seconds(countdown), call.countdown))
        and (eta is None or (call.eta is not None and abs((call.eta - eta).total_seconds()) <= TOLERANCE))
    ]
    if fitting and times in (None, len(fitting)):
        return fitting[0]
    if times == 0 and not fitting:
        return None  # type: ignore[return-value]
    said = {"args": args, "kwargs": kwargs, "queue": queue, "priority": priority, "countdown": countdown, "eta": eta}
    wanted = ", ".join(f"{name}={value!r}" for name, value in said.items() if value is not None)
    count = "" if times is None else f" {times} times (it was {len(fitting)} times)"
    raise AssertionError(
        f"{name_of(task)} was not enqueued{f' with {wanted}' if wanted else ''}{count}.\n{_listed(calls, task)}"
    )


def assert_no_tasks(task: Any = None) -> None:
    """Fail if anything waits, now or for later; only calls of `task`, where one is named."""
    if calls := enqueued(task):
        raise AssertionError(f"{len(calls)} tasks wait:\n{_lines(calls)}")


def _same(given: Any, got: Any) -> bool:
    """Whether they are equal, or would be once the first one has been serialised as well."""
    return bool(given == got) or bool(unpack_value(*_reordered(pack_value(given))) == got)


def _reordered(packed: tuple[str, str, bytes]) -> tuple[bytes, str, str]:
    content_type, encoding, body = packed
    return body, content_type, encoding


def _seconds(countdown: float | timedelta) -> float:
    return countdown.total_seconds() if isinstance(countdown, timedelta) else countdown


def _close(wanted: float, got: float | None) -> bool:
    return got is not None and abs(wanted - got) <= TOLERANCE


def _listed(calls: Sequence[Call], task: Any) -> str:
    if calls:
        return f"What waits of it:\n{_lines(calls)}"
    others = enqueued()
    return f"What waits instead:\n{_lines(others)}" if others else "Nothing waits."


def _lines(calls: Sequence[Call]) -> str:
    shown = "\n".join(f"  {call}" for call in calls[:20])
    return shown if len(calls) <= 20 else f"{shown}\n  … and {len(calls) - 20} more"
