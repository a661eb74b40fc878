"""The states a task can be in, and the sets Celery's users know.

See https://docs.celeryq.dev/en/stable/reference/celery.states.html for the reference list.
"""

from enum import StrEnum


class State(StrEnum):
    """Celery's built-in states. A custom state is any other string."""

    PENDING = "PENDING"
    RECEIVED = "RECEIVED"
    STARTED = "STARTED"
    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"
    REVOKED = "REVOKED"
    RETRY = "RETRY"
    #: Never stored: the task raised `Ignore` or `Reject`.
    IGNORED = "IGNORED"
    REJECTED = "REJECTED"


PENDING = State.PENDING
RECEIVED = State.RECEIVED
STARTED = State.STARTED
SUCCESS = State.SUCCESS
FAILURE = State.FAILURE
REVOKED = State.REVOKED
RETRY = State.RETRY
IGNORED = State.IGNORED
REJECTED = State.REJECTED

#: Ended: a result in one of these is never replaced, except by an explicit retry or requeue.
READY_STATES: frozenset[str] = frozenset({SUCCESS, FAILURE, REVOKED})
UNREADY_STATES: frozenset[str] = frozenset({PENDING, RECEIVED, STARTED, REJECTED, RETRY})
#: The stored result is an exception.
EXCEPTION_STATES: frozenset[str] = frozenset({RETRY, FAILURE, REVOKED})
#: `get()` raises what is stored.
PROPAGATE_STATES: frozenset[str] = frozenset({FAILURE, REVOKED})
#: What can be read as the state of a task.
ALL_STATES: frozenset[str] = (UNREADY_STATES | READY_STATES) - {REJECTED}

#: From the strongest to the weakest; a custom state stands where `None` does.
PRECEDENCE: tuple[str | None, ...] = (SUCCESS, FAILURE, None, REVOKED, STARTED, RECEIVED, REJECTED, RETRY, PENDING)
_RANK = {name: rank for rank, name in enumerate(PRECEDENCE)}


def precedence(state: str) -> int:
    """How far `state` is from the strongest one: 0 for SUCCESS; a custom state ranks between FAILURE and REVOKED."""
    return _RANK.get(state, _RANK[None])


class state(str):
    """A state that is compared by its precedence: `state("STARTED") < state("SUCCESS")`."""

    __slots__ = ()

    def __gt__(self, other: str) -> bool:
        return precedence(self) < precedence(other)

    def __ge__(self, other: str) -> bool:
        return precedence(self) <= precedence(other)

    def __lt__(self, other: str) -> bool:
        return precedence(self) > precedence(other)

    def __le__(self, other: str) -> bool:
        return precedence(self) >= precedence(other)
