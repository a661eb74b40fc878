"""What all schedules have in common."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

from djtasks.conf import settings

#: How many due times `count` counts, at most, when it is not told.
MOST = 10_000


class schedstate(NamedTuple):
    """What `is_due` answers: whether to run now, and in how many seconds to ask again (None: never)."""

    is_due: bool
    next: float | None


class BaseSchedule:
    """A schedule. What derives from it defines `next_after`, and `latest` where there is a short way to it."""

    def __init__(self, nowfun: Callable[[], datetime] | None = None, app: Any = None) -> None:
        """`nowfun` tells the time for `is_due` and `remaining_estimate`; `app` means nothing here."""
        self.nowfun = nowfun
        self.app = app

    @property
    def tz(self) -> tzinfo:
        """The zone in which it is read: that of the setting TIMEZONE."""
        return settings.TIMEZONE or UTC

    def now(self) -> datetime:
        """The time, as `nowfun` tells it."""
        return datetime.now(UTC) if self.nowfun is None else aware(self.nowfun())

    # -- when ---------------------------------------------------------------------------------------------------

    def next_after(self, last: datetime) -> datetime | None:
        """The first due time after `last`, in UTC; None when there is none."""
        raise NotImplementedError(f"{type(self).__name__} must define next_after()")

    def latest(self, last: datetime, now: datetime) -> datetime | None:
        """The last due time after `last` and not after `now`; None when there is none."""
        found, after = None, self.next_after(last)
        while after is not None and after <= now:
            found, after = after, self.next_after(after)
        return found

    def count(self, last: datetime, now: datetime, most: int = MOST) -> int:
        """How many due times there are after `last` and not after `now`; it stops counting at `most`."""
        count, after = 0, self.next_after(last)
        while count < most and after is not None and after <= now:
            count, after = count + 1, self.next_after(after)
        return count

    # -- as Celery asks -----------------------------------------------------------------------------------------

    def remaining_estimate(self, last_run_at: datetime) -> timedelta:
        """How long it is until the time that follows `last_run_at`; negative when that has passed."""
        after = self.next_after(aware(last_run_at))
        now = self.now()
        return timedelta.max if after is None else after - now

    def is_due(self, last_run_at: datetime) -> schedstate:
        """Whether a time has come since `last_run_at`, and in how many seconds to ask again."""
        now, last = self.now(), aware(last_run_at)
        after = self.next_after(last)
        if after is None:
            return schedstate(False, None)
        if after > now:
            return schedstate(False, (after - now).total_seconds())
        following = self.next_after(now)
        wait = None if following is None else (following - now).total_seconds()
        return schedstate(self._is_still_due(last, now), wait)

    def _is_still_due(self, last: datetime, now: datetime) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BaseSchedule) and type(other) is type(self) and other._key() == self._key()

    def __hash__(self) -> int:
        return hash((type(self).__name__, self._key()))

    def _key(self) -> tuple[Any, ...]:
        """What two equal schedules have the same."""
        return (self.nowfun,)


def aware(moment: datetime) -> datetime:
    """`moment` in UTC; without a zone it is taken to be in UTC."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)


def zone_of(value: Any) -> tzinfo | None:
    """A zone given as such or by name; None and "" are none. Raises ValueError for what is no zone.

    A zone of pytz becomes the one of its name: what it says of times that are skipped or repeated is its own.
    """
    if value is None or value == "":
        return None
    if isinstance(value, tzinfo) and not isinstance(getattr(value, "zone", None), str):
        return value
    name = getattr(value, "zone", value)
    if not isinstance(name, str):
        raise ValueError(f"a time zone is given by its name, as 'Europe/Paris', not as {value!r}")
    try:
        return ZoneInfo(name)
    except (OSError, KeyError, ValueError):
        raise ValueError(f"there is no time zone {name!r}; write one as 'Europe/Paris'") from None


def zone_name(zone: tzinfo | None) -> str:
    """The name by which `zone_of` finds it; "" for none. Raises ValueError for a zone that has no name."""
    if zone is None:
        return ""
    name = "UTC" if zone is UTC else getattr(zone, "key", None)
    if not isinstance(name, str):
        raise ValueError(f"the time zone {zone!r} has no name; take zoneinfo.ZoneInfo('Europe/Paris')")
    return name
