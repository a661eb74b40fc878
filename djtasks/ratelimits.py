"""Rate limits: "100/m" to a number of runs per second, and a bucket that says when the next one may start.

The strings are Celery's: a number, and behind a slash its unit: s, m or h. A number alone is per second. None, 0 and an
empty text are no limit.
"""

import math
from typing import Any

from djtasks.exceptions import safe_repr

_UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}
#: Less is a slip of somebody's pen, and more than a clock can count.
_LEAST = 1e-9
#: How much time a late look may make up for, in seconds: a worker looks when it can, not at the very moment.
SLACK = 0.1
#: Times are sums of floats: what is due to within so many seconds is due.
_EPSILON = 1e-6


def parse(rate: Any, what: str = "rate_limit") -> float | None:
    """Runs per second, or None for no limit. Raises TypeError, ValueError; `what` names the option in the error."""
    if rate is None or rate == "":
        return None
    if isinstance(rate, bool) or not isinstance(rate, str | int | float):
        raise TypeError(f"{what} must be a text as '10/m', a number of runs per second or None, not {_shown(rate)}")
    number, _, unit = rate.partition("/") if isinstance(rate, str) else (rate, "", "")
    if unit not in _UNITS:
        raise ValueError(f"{what} {_shown(rate)} has the unit {_shown(unit)}; it takes s, m or h, as in '10/m'")
    try:
        found = float(number)
    except (ValueError, OverflowError):
        found = math.nan
    if not 0 <= found < math.inf:
        raise ValueError(f"{what} must be a number, 0 or more, and a unit s, m or h, as '10/m'; not {_shown(rate)}")
    per_second = found / _UNITS[unit]
    if 0 < per_second < _LEAST:
        raise ValueError(f"{what} {_shown(rate)} is less than one run in a lifetime; 0 is no limit")
    return per_second or None


def _shown(value: object) -> str:
    return safe_repr(value, 100)


class Bucket:
    """Holds one token, and is full at first: the first run starts at once, the others evenly spaced behind it.

    `now` is in seconds of a clock that never goes back.

    Source: the generic cell rate algorithm, https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm
    """

    __slots__ = ("next_at", "rate")

    def __init__(self, rate: float) -> None:
        """`rate` is in runs per second."""
        self.rate = rate
        #: When the next run may start.
        self.next_at = -math.inf

    def tokens(self, now: float, slack: float = 0.0) -> int:
        """How many runs may start now: one, or more where a late look may make up for `slack` seconds."""
        base = max(self.next_at, now - slack)
        return 0 if base > now + _EPSILON else 1 + int((now - base) * self.rate + _EPSILON)

    def take(self, count: int, now: float, slack: float = 0.0) -> None:
        """So many of them start. Call it with the same `now` and `slack` as `tokens`."""
        self.next_at = max(self.next_at, now - slack) + count / self.rate
