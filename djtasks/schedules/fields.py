"""The fields of a crontab: Celery's grammar, from text to the numbers that it means.

    field  = part ("," part)*
    part   = ("*" | number | number "-" number) ["/" step]      a step only after "*" and after a range
    number = digits | the first three letters, or more, of a month or of a weekday

Ranges wrap: 22-2 is 22, 23, 0, 1, 2. `*/n` counts from the field's least number.
"""

import re
from collections.abc import Collection, Iterable
from typing import Any

from djtasks.exceptions import DjtasksError, safe_repr

_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_PART = re.compile(r"(?:(?P<star>\*)|(?P<first>\w+)(?:-(?P<last>\w+))?)(?P<slash>/(?P<step>\w*))?", re.ASCII)
_NUMBER = re.compile(r"[0-9]{1,9}")
#: The most days that a month has.
_LENGTHS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)


class ParseException(DjtasksError, ValueError):
    """A field of a crontab cannot be read."""


class crontab_parser:
    """Reads one field, whose numbers are the `max_` that begin with `min_`."""

    ParseException = ParseException

    def __init__(self, max_: int = 60, min_: int = 0) -> None:
        self.max_, self.min_ = max_, min_
        self._numbers = range(min_, min_ + max_)

    def parse(self, spec: str) -> set[int]:
        """The numbers that a text means. Raises ParseException, and ValueError for a number that is out of range."""
        return {number for part in spec.split(",") for number in self._part(part.strip())}

    def _part(self, part: str) -> Iterable[int]:
        if not part:
            raise ParseException("there is nothing between two commas, or at an end")
        if part.startswith("-"):
            raise ParseException(f"{part!r}: there are no negative numbers")
        if (match := _PART.fullmatch(part)) is None:
            raise ParseException(f"{part!r} is neither a number, a range, a name nor '*'")
        values: Collection[int]
        if match["star"]:
            values = self._numbers
        elif match["last"] is None:
            if match["slash"]:
                raise ValueError(f"{part!r}: a step comes after '*' or after a range, as in '{match['first']}-…/2'")
            values = (self._number(match["first"]),)
        else:
            values = self._range(self._number(match["first"]), self._number(match["last"]))
        return list(values)[:: self._step(part, match["step"])] if match["slash"] else values

    def _range(self, first: int, last: int) -> list[int]:
        if last < first:
            return [*range(first, self._numbers.stop), *range(self.min_, last + 1)]
        return list(range(first, last + 1))

    def _step(self, part: str, text: str) -> int:
        if not text:
            raise ParseException(f"{part!r}: there is no number after the '/'")
        if not _NUMBER.fullmatch(text) or not int(text):
            raise ValueError(f"{part!r}: a step is a whole number, 1 or more")
        return int(text)

    def _number(self, text: str) -> int:
        if _NUMBER.fullmatch(text):
            number = int(text)
        elif (name := text[:3].lower()) in _MONTHS:
            number = _MONTHS.index(name) + 1
        elif name in _DAYS:
            number = _DAYS.index(name)
        else:
            raise ValueError(f"{text!r} is neither a number nor the name of a month or a weekday")
        self._check(number)
        return number

    def _check(self, number: int) -> None:
        if number not in self._numbers:
            raise ValueError(f"{number} is out of range: it goes from {self.min_} to {self._numbers.stop - 1}")


class _Weekdays(crontab_parser):
    """0 to 6, Sunday to Saturday; and 7, which is Sunday too."""

    def __init__(self) -> None:
        super().__init__(7)

    def parse(self, spec: str) -> set[int]:
        return {number % 7 for number in super().parse(spec)}

    def _range(self, first: int, last: int) -> list[int]:
        return super()._range(first % 7 if last < first else first, last)

    def _check(self, number: int) -> None:
        if number != 7:
            super()._check(number)


PARSERS: dict[str, crontab_parser] = {
    "minute": crontab_parser(60),
    "hour": crontab_parser(24),
    "day_of_month": crontab_parser(31, 1),
    "month_of_year": crontab_parser(12, 1),
    "day_of_week": _Weekdays(),
}


def expand(field: str, spec: Any) -> frozenset[int]:
    """The numbers that `spec` means in `field`: a text, a number, or a set, list or tuple of numbers.

    Raises TypeError for anything else, ParseException, ValueError; each text begins with the field.
    """
    parser = PARSERS[field]
    try:
        if isinstance(spec, str):
            found = parser.parse(spec)
        else:
            found = _numbers(spec)
            for number in found:
                parser._check(number)
            if field == "day_of_week":
                found = {number % 7 for number in found}
    except (TypeError, ValueError) as error:
        raise type(error)(f"{field}: {error}") from None
    if not found:
        raise ValueError(f"{field}: it is empty, so it would never run; '*' is every one")
    return frozenset(found)


def _numbers(spec: Any) -> set[int]:
    if isinstance(spec, int):
        return {int(spec)}
    if isinstance(spec, Iterable) and not isinstance(spec, bytes):
        found = list(spec)
        if all(isinstance(number, int) for number in found):
            return {int(number) for number in found}
    raise TypeError(f"it must be a text, a whole number, or a set or list of those, not {safe_repr(spec, 200)}")


def text_of(spec: Any) -> str:
    """`spec` as a text that means the same: what is no text becomes its numbers, joined by commas."""
    return spec if isinstance(spec, str) else ",".join(str(number) for number in sorted(_numbers(spec)))


def check_dates(days: Collection[int], months: Collection[int]) -> None:
    """Raise ValueError when none of the months has one of the days: the 31st of February."""
    if not any(min(days) <= _LENGTHS[month - 1] for month in months):
        shown = "/".join(name.capitalize() for name in (_MONTHS[month - 1] for month in sorted(months)))
        raise ValueError(f"there is no day {min(days)} in {shown}: it would never run")
