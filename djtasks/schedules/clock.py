"""`clocked`: once, at one time."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from djtasks.exceptions import safe_repr
from djtasks.schedules.base import BaseSchedule, aware


class clocked(BaseSchedule):
    """Due once, at `clocked_time`: a datetime with a zone; a naive one is UTC."""

    def __init__(self, clocked_time: datetime, nowfun: Callable[[], datetime] | None = None, app: Any = None) -> None:
        """Raises TypeError for what is no datetime."""
        super().__init__(nowfun, app)
        if not isinstance(clocked_time, datetime):
            raise TypeError(f"the time of a clocked schedule is a datetime, not {safe_repr(clocked_time, 200)}")
        self.clocked_time = aware(clocked_time)

    def next_after(self, last: datetime) -> datetime | None:
        """Its time, when that is after `last`."""
        return self.clocked_time if self.clocked_time > aware(last) else None

    def __repr__(self) -> str:
        return f"<clocked: {self.clocked_time}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.clocked_time, self.nowfun)

    def _key(self) -> tuple[Any, ...]:
        return (self.clocked_time, self.nowfun)
