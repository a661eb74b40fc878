"""`solar`: what the sun does at a place. It is reckoned by astral, which is asked for when the first one is made."""

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, timezone
from importlib import import_module
from typing import Any

from djtasks.exceptions import ImproperlyConfigured, safe_repr
from djtasks.schedules.base import BaseSchedule, aware

#: Each event: astral's function, and how many degrees below the horizon the sun stands.
_EVENTS: dict[str, tuple[str, float | None]] = {
    "dawn_astronomical": ("dawn", 18),
    "dawn_nautical": ("dawn", 12),
    "dawn_civil": ("dawn", 6),
    "sunrise": ("sunrise", None),
    "solar_noon": ("noon", None),
    "sunset": ("sunset", None),
    "dusk_civil": ("dusk", 6),
    "dusk_nautical": ("dusk", 12),
    "dusk_astronomical": ("dusk", 18),
}
#: The nine events, in the order of a day.
EVENTS = tuple(_EVENTS)
_MOST_DEGREES = {"latitude": 90, "longitude": 180}
_DAY = timedelta(days=1)
#: Near a pole the sun may neither rise nor set for half a year.
_MOST_DAYS = 400


class solar(BaseSchedule):
    """Due when the sun does something at a place: solar("sunset", 48.86, 2.35), in degrees north and east.

    On days without the event, near the poles, it is not due.
    """

    def __init__(
        self,
        event: str,
        lat: float,
        lon: float,
        nowfun: Callable[[], datetime] | None = None,
        app: Any = None,
    ) -> None:
        """Raises ValueError for an event that there is not and a place that there is not, TypeError for degrees that
        are no numbers, ImproperlyConfigured when astral is not installed.
        """
        super().__init__(nowfun, app)
        if event not in _EVENTS:
            raise ValueError(f"event: there is no {safe_repr(event, 200)}; there are {', '.join(EVENTS)}")
        self.event, self.lat, self.lon = event, check_place("latitude", lat), check_place("longitude", lon)
        function, self._depression = _EVENTS[event]
        self._of_day = getattr(_astral("astral.sun"), function)
        self._observer = _astral("astral").Observer(self.lat, self.lon)
        #: The sun's own time there, in which none of its days has two of an event.
        self._zone = timezone(timedelta(hours=self.lon / 15))

    # -- when ---------------------------------------------------------------------------------------------------

    def next_after(self, last: datetime) -> datetime | None:
        """The first time after `last`, in UTC; None when the calendar ends before."""
        last = aware(last)
        try:
            day = last.astimezone(self._zone).date() - _DAY
            for _ in range(_MOST_DAYS):
                if (at := self._on(day)) is not None and at > last:
                    return at
                day += _DAY
        except OverflowError:
            pass
        return None

    def latest(self, last: datetime, now: datetime) -> datetime | None:
        """The last time after `last` and not after `now`; None when there is none."""
        last, now = aware(last), aware(now)
        day = now.astimezone(self._zone).date() + _DAY
        while day >= last.astimezone(self._zone).date() - _DAY:
            if (at := self._on(day)) is not None and at <= now:
                return at if at > last else None
            day -= _DAY
        return None

    def _on(self, day: date) -> datetime | None:
        """When it happens on a day of the place, to the second; None when it does not."""
        given = {} if self._depression is None else {"depression": self._depression}
        try:
            at: datetime = self._of_day(self._observer, day, tzinfo=self._zone, **given)
        except ValueError:
            return None
        return at.astimezone(UTC).replace(microsecond=0)

    def __repr__(self) -> str:
        return f"<solar: {self.event} at latitude {self.lat}, longitude: {self.lon}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.event, self.lat, self.lon, self.nowfun)

    def _key(self) -> tuple[Any, ...]:
        return (self.event, self.lat, self.lon, self.nowfun)


def check_place(what: str, value: Any) -> float:
    """A latitude or a longitude, when `value` can be one. Raises TypeError, ValueError."""
    most = _MOST_DEGREES[what]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{what}: it is a number of degrees, not {safe_repr(value, 200)}")
    if not -most <= value <= most:
        raise ValueError(f"{what}: it goes from -{most} to {most} degrees, and is {value}")
    return value


def _astral(module: str) -> Any:
    try:
        return import_module(module)
    except ImportError:
        raise ImproperlyConfigured(
            "solar schedules need the library astral: install it with pip install 'djtasks[solar]'"
        ) from None
