"""What becomes of a time that has come, or has passed: which runs there are, and when the next is. Pure."""

from datetime import datetime, timedelta
from typing import NamedTuple

from djtasks.periodic import Entry
from djtasks.schedules import BaseSchedule

#: A run that begins later than this after its time was missed, for `catch_up` none (beats may be restarted).
ON_TIME = timedelta(seconds=10)
_TINY = timedelta(microseconds=1)


class Decision(NamedTuple):
    """What is to be done about a periodic task that is due."""

    #: The times to run for, in order.
    runs: list[datetime]
    #: When it is due next; None for never.
    next_run_at: datetime | None
    #: Times that are left out because the last run has not ended.
    skipped: int = 0
    #: It has run for the last time, and is switched off.
    over: bool = False


def within(entry: Entry, moment: datetime | None) -> datetime | None:
    """`moment`, if the periodic task has not expired by then."""
    return None if moment is None or (entry.expires is not None and moment >= entry.expires) else moment


def decide(
    entry: Entry,
    schedule: BaseSchedule,
    due: datetime,
    now: datetime,
    *,
    deadline: float | None = None,
    unfinished: bool = False,
    most: int = 100,
) -> Decision:
    """What is to be done at `now` about a periodic task that was due at `due`.

    `deadline`: what was missed longer ago than so many seconds is left out. `unfinished`: its last run has not ended.
    No more than `most` runs are decided at once: with `catch_up` all the rest of them is due at once again.
    """
    if entry.expires is not None and now >= entry.expires:
        return Decision([], None, over=True)
    oldest = due if deadline is None else now - timedelta(seconds=deadline)
    newest = schedule.latest(due, now) or due
    if entry.catch_up == "all" and not entry.one_off:
        runs = _all(schedule, due, now, oldest, most)
        newest = runs[-1] if runs else newest
    else:
        runs = [newest] if newest >= oldest else []
        if entry.catch_up == "none" and now - newest > ON_TIME:
            runs = []
    skipped = 0
    if entry.overlap == "skip" and runs:
        skipped = len(runs) if unfinished else len(runs) - 1
        runs = [] if unfinished else runs[-1:]
    over = entry.one_off and bool(runs)
    return Decision(runs, None if over else within(entry, schedule.next_after(newest)), skipped, over)


def following(entry: Entry, schedule: BaseSchedule, due: datetime, now: datetime) -> datetime | None:
    """The first time after `now`, for what was due at `due` and could not be sent."""
    return within(entry, schedule.next_after(schedule.latest(due, now) or due))


def _all(schedule: BaseSchedule, due: datetime, now: datetime, oldest: datetime, most: int) -> list[datetime]:
    """The due times from `due` on that are not after `now` nor before `oldest`, the first `most` of them."""
    moment: datetime | None = due
    if due < oldest:
        moment = schedule.next_after(schedule.latest(due, oldest - _TINY) or due)
    found: list[datetime] = []
    while moment is not None and moment <= now and len(found) < most:
        found.append(moment)
        moment = schedule.next_after(moment)
    return found
