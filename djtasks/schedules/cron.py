"""`crontab`: times of the clock on the wall, in a zone.

What the wall shows is walked by croniter, without a zone; which instants it means is said here. Where the clocks go
forward, a time that is skipped means the first instant after. Where they go back, a time that comes twice means the
first of the two; for a schedule whose hours are all 24, which counts minutes rather than days, it means both.
"""

from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

from croniter import CroniterError, croniter

from djtasks.conf import settings
from djtasks.schedules.base import BaseSchedule, aware, zone_of
from djtasks.schedules.fields import check_dates, expand, text_of

Spec = str | int | Iterable[int]

_SECOND = timedelta(seconds=1)
#: A 29th of February on a Monday comes 40 years after another at the latest.
_YEARS = 50
_FULL = {"minute": 60, "hour": 24, "day_of_month": 31, "month_of_year": 12, "day_of_week": 7}


class crontab(BaseSchedule):
    """Due at times of the clock: crontab(minute=30, hour="8-18/2", day_of_week="mon-fri").

    Each field is a text, a number, or a list of numbers. All fields must hold, those of days too: day_of_month=13 with
    day_of_week="fri" is Friday the 13th. `tz` is a zone or its name; None means that of the setting TIMEZONE.
    """

    def __init__(
        self,
        minute: Spec | None = "*",
        hour: Spec | None = "*",
        day_of_week: Spec | None = "*",
        day_of_month: Spec | None = "*",
        month_of_year: Spec | None = "*",
        tz: tzinfo | str | None = None,
        nowfun: Callable[[], datetime] | None = None,
        app: Any = None,
    ) -> None:
        """Raises TypeError for what is no field, ValueError (ParseException) for a field that cannot be read, for a
        date that there is not, and for a zone that there is not.
        """
        super().__init__(nowfun, app)
        self._orig_minute = _kept(minute)
        self._orig_hour = _kept(hour)
        self._orig_day_of_week = _kept(day_of_week)
        self._orig_day_of_month = _kept(day_of_month)
        self._orig_month_of_year = _kept(month_of_year)
        self.minute = expand("minute", self._orig_minute)
        self.hour = expand("hour", self._orig_hour)
        self.day_of_week = expand("day_of_week", self._orig_day_of_week)
        self.day_of_month = expand("day_of_month", self._orig_day_of_month)
        self.month_of_year = expand("month_of_year", self._orig_month_of_year)
        check_dates(self.day_of_month, self.month_of_year)
        self.own_tz = zone_of(tz)
        self._spare: list[croniter] = []

    @classmethod
    def from_string(cls, crontab: str, tz: tzinfo | str | None = None) -> "crontab":
        """The schedule of a line as cron has it: minute, hour, day of month, month, day of week.

        Raises as the class does, and ValueError when there are not five fields.
        """
        if not isinstance(crontab, str):
            raise TypeError(f"a crontab is a text of five fields, as '0 4 * * *', not {crontab!r}")
        fields = crontab.split()
        if len(fields) != 5:
            raise ValueError(f"a crontab has five fields, as '0 4 * * *', and {crontab!r} has {len(fields)}")
        minute, hour, day_of_month, month_of_year, day_of_week = fields
        return cls(minute, hour, day_of_week, day_of_month, month_of_year, tz)

    @property
    def tz(self) -> tzinfo:
        """The zone in which it is read: its own, or that of the setting TIMEZONE."""
        return self.own_tz or super().tz

    @property
    def line(self) -> str:
        """The five fields as cron has them."""
        return " ".join(text_of(spec).replace(" ", "") for spec in self._specs())

    # -- when ---------------------------------------------------------------------------------------------------

    def next_after(self, last: datetime) -> datetime | None:
        """The first due time after `last`, in UTC; None when the calendar ends before."""
        last, zone = aware(last), self.tz
        local = last.astimezone(zone)
        start = local.replace(tzinfo=None, microsecond=0, fold=0)
        found = next((at for wall in self._walls(start) if (at := _first(wall, zone)) > last), None)
        if self._counts_minutes and (turn := _turn(start, zone)) is not None:
            # The clocks are about to go back, or just have: what the second round brings comes before `found`.
            start = start if local.fold else _wall(turn, zone) - _SECOND
            again = next(iter(self._walls(start)), None)
            second = None if again is None else _second(again, zone)
            if second is not None and second > last:
                found = second if found is None else min(found, second)
        return found

    def latest(self, last: datetime, now: datetime) -> datetime | None:
        """The last due time after `last` and not after `now`; None when there is none."""
        now, zone = aware(now), self.tz
        local = now.astimezone(zone)
        start = local.replace(tzinfo=None, microsecond=0, fold=0) + _SECOND
        turn = _turn(start - _SECOND, zone)
        # In the second round, all of the first one has passed.
        end = _wall(turn - _SECOND, zone) + _SECOND if turn is not None and local.fold else start
        walls = self._before(start)
        found = [at for wall in (walls if end == start else self._before(end)) if (at := _first(wall, zone)) <= now]
        if self._counts_minutes:
            seconds = (_second(wall, zone) for wall in walls)
            found.extend(at for at in seconds if at is not None and at <= now)
        due = max(found, default=None)
        return due if due is not None and due > aware(last) else None

    @property
    def _counts_minutes(self) -> bool:
        return len(self.hour) == 24

    def _specs(self) -> tuple[Any, ...]:
        """The fields as they were given, in the order of cron's line."""
        return (
            self._orig_minute,
            self._orig_hour,
            self._orig_day_of_month,
            self._orig_month_of_year,
            self._orig_day_of_week,
        )

    def _walls(self, start: datetime) -> Iterator[datetime]:
        """The times on the wall after `start`."""
        wall = self._walk("get_next", start)
        while wall is not None:
            yield wall
            wall = self._walk("get_next", wall)

    def _before(self, end: datetime) -> list[datetime]:
        """The last time on the wall before `end`, if there is one."""
        wall = self._walk("get_prev", end)
        return [] if wall is None else [wall]

    def _walk(self, step: str, start: datetime) -> datetime | None:
        # Reading the line is most of the work, and a croniter belongs to one thread at a time.
        try:
            walk = self._spare.pop()
        except IndexError:
            walk = croniter(self._plain_line(), start, day_or=False, max_years_between_matches=_YEARS)
        try:
            found: datetime = getattr(walk, step)(datetime, start_time=start)
        except (CroniterError, OverflowError, ValueError):
            return None  # the calendar ends
        self._spare.append(walk)
        return found

    def _plain_line(self) -> str:
        """The five fields as numbers, which mean the same to everybody."""
        return " ".join(
            "*" if len(numbers := getattr(self, field)) == size else ",".join(map(str, sorted(numbers)))
            for field, size in _FULL.items()
        )

    # -- as Celery asks -----------------------------------------------------------------------------------------

    def _is_still_due(self, last: datetime, now: datetime) -> bool:
        deadline = settings.BEAT_CRON_STARTING_DEADLINE
        due = None if deadline is None else self.latest(last, now)
        return due is None or deadline is None or now - due <= timedelta(seconds=deadline)

    def __repr__(self) -> str:
        return "<crontab: {} {} {} {} {} (m/h/dM/MY/d)>".format(*self._specs())

    def __reduce__(self) -> tuple[Any, ...]:
        minute, hour, day, month, weekday = self._specs()
        return type(self), (minute, hour, weekday, day, month, self.own_tz, self.nowfun)

    def _key(self) -> tuple[Any, ...]:
        zone = None if self.own_tz is None else str(self.own_tz)
        fields = (self.minute, self.hour, self.day_of_month, self.month_of_year, self.day_of_week)
        return (*fields, zone, self.nowfun)


def _kept(spec: Any) -> Any:
    """`spec` in a form that can be read more than once."""
    if spec is None:
        return "*"
    return spec if isinstance(spec, str | int | set | frozenset | list | tuple) or not _is_iterable(spec) else [*spec]


def _is_iterable(spec: Any) -> bool:
    return isinstance(spec, Iterable) and not isinstance(spec, bytes)


# -- the wall and the world ---------------------------------------------------------------------------------------


def _wall(instant: datetime, zone: tzinfo) -> datetime:
    return instant.astimezone(zone).replace(tzinfo=None, fold=0)


def _instants(wall: datetime, zone: tzinfo) -> tuple[datetime, datetime]:
    """The instants at which the clocks show `wall`, by the rules before and after a change; mostly the same one."""
    local = wall.replace(tzinfo=zone)
    return local.astimezone(UTC), local.replace(fold=1).astimezone(UTC)


def _first(wall: datetime, zone: tzinfo) -> datetime:
    """The instant that `wall` means: the first one, or, where it is skipped, the first one after."""
    before, after = _instants(wall, zone)
    return before if before <= after else _change(after, before, zone)


def _second(wall: datetime, zone: tzinfo) -> datetime | None:
    """The second instant at which the clocks show `wall`, where they are put back."""
    before, after = _instants(wall, zone)
    return after if before < after else None


def _turn(wall: datetime, zone: tzinfo) -> datetime | None:
    """The instant at which the clocks are put back, where `wall` comes twice; else None."""
    before, after = _instants(wall, zone)
    return _change(before, after, zone) if before < after else None


def _change(early: datetime, late: datetime, zone: tzinfo) -> datetime:
    """The instant, after `early` and not after `late`, at which the zone's offset changes; to the second."""
    offset = early.astimezone(zone).utcoffset()
    low, high = 0, int((late - early).total_seconds())
    while high - low > 1:
        middle = (low + high) // 2
        if (early + middle * _SECOND).astimezone(zone).utcoffset() == offset:
            low = middle
        else:
            high = middle
    return early + high * _SECOND
