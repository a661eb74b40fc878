"""Where a soft time limit may strike: in the code of a task, and not while it commits."""

from types import FrameType
from typing import Any

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from djtasks import tracer
from djtasks.exceptions import SoftTimeLimitExceeded

#: How long until a limit that could not strike is tried again, in seconds.
SOFT_AGAIN = 0.05
#: Code that a limit would leave with the question whether the transaction was committed.
_COMMITTING = frozenset(
    {
        transaction.Atomic.__enter__.__code__,
        transaction.Atomic.__exit__.__code__,
        BaseDatabaseWrapper.commit.__wrapped__.__code__,  # type: ignore[attr-defined]
        BaseDatabaseWrapper.run_and_clear_commit_hooks.__code__,
    }
)


class _Soft(SoftTimeLimitExceeded, SystemExit):
    """SoftTimeLimitExceeded, for psycopg one of those at which it cancels its query and keeps its connection."""

    def __reduce__(self) -> Any:
        return SoftTimeLimitExceeded, self.args


_Soft.__name__ = _Soft.__qualname__ = SoftTimeLimitExceeded.__name__
_Soft.__module__ = SoftTimeLimitExceeded.__module__


def soft_limit(limit: float) -> SoftTimeLimitExceeded:
    """What is raised in a run that is over its soft limit of so many seconds."""
    return _Soft(limit)


def may_strike(frame: FrameType | None) -> bool:
    """Whether SoftTimeLimitExceeded may be raised in `frame`, where a signal has just come in."""
    return tracer.soft_limit_window.inside and not commits(frame)


def commits(frame: FrameType | None) -> bool:
    """Whether what runs in `frame` is a part of a commit, or of the beginning of a transaction."""
    while frame is not None:
        if frame.f_code in _COMMITTING:
            return True
        frame = frame.f_back
    return False
