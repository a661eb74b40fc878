"""`schedule`: again and again after the same time."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from djtasks.exceptions import safe_repr
from djtasks.schedules.base import MOST, BaseSchedule, aware, schedstate

_UNITS = (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1))
_NONE = timedelta(0)
_MINUTE = timedelta(minutes=1)


class schedule(BaseSchedule):
    """Due every `run_every`: a number of seconds, or a timedelta, more than 0.

    Each due time is reckoned from the one before, so that a late run does not move those that follow. With `relative`
    due times are rounded down to a whole day, hour or minute of the clock, whichever is the largest that the interval
    holds.
    """

    def __init__(
        self,
        run_every: float | timedelta | None = None,
        relative: bool = False,
        nowfun: Callable[[], datetime] | None = None,
        app: Any = None,
    ) -> None:
        """Raises TypeError for what is no time, ValueError for what is not more than 0."""
        super().__init__(nowfun, app)
        self.run_every = _interval(run_every)
        self.relative = bool(relative)

    @property
    def seconds(self) -> float:
        """The interval in seconds."""
        return self.run_every.total_seconds()

    @property
    def human_seconds(self) -> str:
        """The interval as `repr` shows it."""
        for unit, size in _UNITS:
            if self.seconds >= size:
                count = self.seconds / size
                return f"{count:.2f} {unit}{'' if count == 1 else 's'}"
        return f"{self.seconds} seconds"

    # -- when ---------------------------------------------------------------------------------------------------

    def next_after(self, last: datetime) -> datetime | None:
        """`last` and one interval, in UTC; None when the calendar ends before."""
        last = aware(last)
        try:
            if not self._is_rounded:
                return last + self.run_every
            return self._rounded(last)
        except OverflowError:
            return None

    @property
    def _is_rounded(self) -> bool:
        """Whether its times are rounded: what is less than a minute is one interval after the other."""
        return self.relative and self.run_every >= _MINUTE

    def _rounded(self, last: datetime) -> datetime:
        after = last
        while True:
            after += self.run_every
            local = after.astimezone(self.tz)
            if self.run_every >= timedelta(days=1):
                local = local.replace(hour=0, minute=0, second=0, microsecond=0)
            elif self.run_every >= timedelta(hours=1):
                local = local.replace(minute=0, second=0, microsecond=0)
            else:
                local = local.replace(second=0, microsecond=0)
            # On a day of 25 hours, a day later is the same day.
            if (rounded := aware(local)) > last:
                return rounded

    def latest(self, last: datetime, now: datetime) -> datetime | None:
        """The last due time after `last` and not after `now`; None when there is none."""
        if self._is_rounded:
            return super().latest(last, now)
        last, now = aware(last), aware(now)
        steps = (now - last) // self.run_every
        return last + steps * self.run_every if steps > 0 else None

    def count(self, last: datetime, now: datetime, most: int = MOST) -> int:
        """How many due times there are after `last` and not after `now`, up to `most`."""
        if self._is_rounded:
            return super().count(last, now, most)
        return min(max((aware(now) - aware(last)) // self.run_every, 0), most)

    # -- as Celery asks -----------------------------------------------------------------------------------------

    def is_due(self, last_run_at: datetime) -> schedstate:
        """Whether an interval has passed since `last_run_at`, and in how many seconds to ask again."""
        state = super().is_due(last_run_at)
        return schedstate(True, self.seconds) if state.is_due and not self.relative else state

    def __repr__(self) -> str:
        return f"<freq: {self.human_seconds}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.run_every, self.relative, self.nowfun)

    def __eq__(self, other: object) -> bool:
        return self.run_every == (other.run_every if isinstance(other, schedule) else other)

    def __hash__(self) -> int:
        return hash(self.run_every)


def _interval(value: Any) -> timedelta:
    if isinstance(value, bool) or not isinstance(value, int | float | timedelta):
        raise TypeError(f"an interval is a number of seconds, or a timedelta, not {safe_repr(value, 200)}")
    try:
        interval = value if isinstance(value, timedelta) else timedelta(seconds=value)
    except (OverflowError, ValueError):
        raise ValueError(f"an interval of {safe_repr(value, 200)} seconds is out of range") from None
    if interval <= _NONE:
        raise ValueError(f"an interval is more than 0 seconds, not {safe_repr(value, 200)}")
    return interval


def maybe_schedule(s: Any, relative: bool = False, app: Any = None) -> Any:
    """`s`; a number of seconds or a timedelta becomes a `schedule`."""
    if isinstance(s, int | float | timedelta) and not isinstance(s, bool):
        return schedule(s, relative)
    return s
