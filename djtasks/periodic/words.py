"""A schedule in plain words: "at 04:00, Monday to Friday (Europe/Paris)"."""

from collections.abc import Collection, Sequence
from datetime import UTC

from djtasks.conf import settings
from djtasks.periodic.entries import Entry, schedule_of
from djtasks.schedules import clocked, crontab, schedule, solar

_MONTHS = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
_DAYS = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
#: So many times of a day are listed one by one.
_TIMES_MAX = 6
_STEPS = (2, 3, 4, 5, 6, 10, 12, 15, 20, 30)


def words(entry: Entry) -> str:
    """What the entry's schedule says. Raises as `schedule_of` does."""
    when = schedule_of(entry)
    if isinstance(when, crontab):
        return f"{_crontab(when)} ({when.tz})"
    if isinstance(when, clocked):
        zone = settings.TIMEZONE or UTC
        return f"once, on {when.clocked_time.astimezone(zone):%Y-%m-%d at %H:%M:%S} ({zone})"
    if isinstance(when, solar):
        north = f"{abs(when.lat):g}° {'N' if when.lat >= 0 else 'S'}"
        east = f"{abs(when.lon):g}° {'E' if when.lon >= 0 else 'W'}"
        event = "solar noon" if when.event == "solar_noon" else " ".join(reversed(when.event.split("_")))
        return f"at {event} at {north}, {east}"
    return _interval(entry, when) if isinstance(when, schedule) else repr(when)


def _interval(entry: Entry, when: schedule) -> str:
    unit = entry.period.removesuffix("s")
    text = f"every {unit}" if entry.every == 1 else f"every {entry.every} {entry.period}"
    if not when.relative or when.seconds < 60:
        return text
    grain = "day" if when.seconds >= 86400 else "hour" if when.seconds >= 3600 else "minute"
    return f"{text}, when a {grain} of the clock begins" if grain != "hour" else f"{text}, on the hour"


# -- crontabs -----------------------------------------------------------------------------------------------------


def _crontab(when: crontab) -> str:
    time, days = _time(when.minute, when.hour), _days(when)
    if not days:
        return time if time.startswith("every") and len(when.hour) == 24 else f"{time}, every day"
    return f"{time}, {days}"


def _time(minutes: Collection[int], hours: Collection[int]) -> str:
    if len(hours) == 24:
        return _minutes(minutes)
    if len(minutes) * len(hours) <= _TIMES_MAX:
        return f"at {_listed([f'{hour:02}:{minute:02}' for hour in sorted(hours) for minute in sorted(minutes)])}"
    if len(minutes) == 1 and (step := _step(hours, 24)):
        minute = min(minutes)
        return f"every {step} hours, at {minute} minutes past" if minute else f"every {step} hours"
    of = f"of the hour{'' if len(hours) == 1 else 's'} {_ranges(hours, [str(hour) for hour in range(24)])}"
    if len(minutes) == 60:
        return f"every minute {of}"
    if step := _step(minutes, 60):
        return f"every {step} minutes {of}"
    return f"at minute{'' if len(minutes) == 1 else 's'} {_ranges(minutes, [str(each) for each in range(60)])} {of}"


def _minutes(minutes: Collection[int]) -> str:
    """Those of every hour."""
    if len(minutes) == 60:
        return "every minute"
    if step := _step(minutes, 60):
        return f"every {step} minutes"
    if set(minutes) == {0}:
        return "every hour, on the hour"
    s = "" if set(minutes) == {1} else "s"
    return f"every hour, at {_ranges(minutes, [str(each) for each in range(60)])} minute{s} past"


def _days(when: crontab) -> str:
    every_weekday, every_day = len(when.day_of_week) == 7, len(when.day_of_month) == 31
    weekdays = _ranges(_from_monday(when.day_of_week), [*_DAYS, _DAYS[0]])
    days = _ranges(when.day_of_month, [str(day) for day in range(32)])
    said = []
    if not every_day:
        said.append(f"on day{'' if len(when.day_of_month) == 1 else 's'} {days} of the month")
    if not every_weekday:
        on = weekdays if " to " in weekdays else f"on {weekdays}"
        said.append(on if every_day else f"but only if it is {weekdays}")
    if len(when.month_of_year) < 12:
        if not said and len(when.hour) < 24:
            said.append("every day")
        said.append(f"in {_ranges(when.month_of_year, ['', *_MONTHS])}")
    return ", ".join(said)


def _from_monday(weekdays: Collection[int]) -> set[int]:
    """Sunday as the last day of the week, unless it is the day before Monday that a range begins with."""
    return {7 if day == 0 and 6 in weekdays else day for day in weekdays}


def _step(numbers: Collection[int], of: int) -> int | None:
    """The step of numbers that begin with 0 and part an hour or a day evenly."""
    return next((step for step in _STEPS if not of % step and set(numbers) == set(range(0, of, step))), None)


def _ranges(numbers: Collection[int], names: Sequence[str]) -> str:
    """Numbers by their names, three and more in a row as "x to y"."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    shown: list[str] = []
    for run in runs:
        if len(run) > 2:
            shown.append(f"{names[run[0]]} to {names[run[-1]]}")
        else:
            shown.extend(names[number] for number in run)
    return _listed(shown)


def _listed(texts: Sequence[str]) -> str:
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"
