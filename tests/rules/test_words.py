"""States and errors under the names that Celery's users know."""

from itertools import pairwise

import pytest

from djtasks import exceptions, states
from djtasks.states import state


def test_states_are_ordered_by_how_much_they_say() -> None:
    order = ["SUCCESS", "FAILURE", "PROGRESS", "REVOKED", "STARTED", "RECEIVED", "REJECTED", "RETRY", "PENDING"]
    for stronger, weaker in pairwise(order):
        assert state(stronger) > weaker
        assert state(weaker) < stronger
        assert state(stronger) >= stronger
        assert state(weaker) <= weaker
    assert state("PROGRESS") == "PROGRESS"
    assert state("ONE") >= state("OTHER") >= state("ONE")


def test_the_sets_are_celerys() -> None:
    assert {"PENDING", "RECEIVED", "STARTED", "RETRY", "REJECTED"} == states.UNREADY_STATES
    assert {"SUCCESS", "FAILURE", "REVOKED"} == states.READY_STATES
    assert {"PENDING", "RECEIVED", "STARTED", "SUCCESS", "FAILURE", "RETRY", "REVOKED"} == states.ALL_STATES
    assert {"RETRY", "FAILURE", "REVOKED"} == states.EXCEPTION_STATES
    assert {"FAILURE", "REVOKED"} == states.PROPAGATE_STATES


#: What `celery.exceptions` (5.7) has, and what each is caught as.
CELERYS = {
    "AlreadyRegistered": "TaskError",
    "AlwaysEagerIgnored": "CeleryWarning",
    "BackendGetMetaError": "BackendError",
    "BackendStoreError": "BackendError",
    "CDeprecationWarning": DeprecationWarning,
    "CPendingDeprecationWarning": PendingDeprecationWarning,
    "CeleryError": Exception,
    "CeleryWarning": UserWarning,
    "CeleryCommandException": Exception,
    "ChordError": Exception,
    "DuplicateNodenameWarning": "CeleryWarning",
    "DuplicateTaskNameWarning": "CeleryWarning",
    "FixupWarning": "CeleryWarning",
    "Ignore": "TaskPredicate",
    "ImproperlyConfigured": "CeleryError",
    "IncompleteStream": "TaskError",
    "InvalidTaskError": "TaskError",
    "MaxRetriesExceededError": "TaskError",
    "NotConfigured": "CeleryWarning",
    "NotRegistered": KeyError,
    "QueueNotFound": KeyError,
    "Reject": "TaskPredicate",
    "Retry": "TaskPredicate",
    "SecurityError": "CeleryError",
    "SecurityWarning": "CeleryWarning",
    "SoftTimeLimitExceeded": Exception,
    "TaskError": "CeleryError",
    "TaskPredicate": "CeleryError",
    "TaskRevokedError": "TaskError",
    "Terminated": Exception,
    "TimeLimitExceeded": Exception,
    "TimeoutError": "TaskError",
    "WorkerLostError": Exception,
    "WorkerShutdown": SystemExit,
    "WorkerTerminate": SystemExit,
}


@pytest.mark.parametrize(("name", "kin"), CELERYS.items())
def test_celerys_errors_are_there_and_are_caught_as_there(name: str, kin: str | type[BaseException]) -> None:
    kin = getattr(exceptions, kin) if isinstance(kin, str) else kin
    assert issubclass(getattr(exceptions, name), kin)


def test_an_exception_can_be_raised_again_with_a_traceback() -> None:
    error = KeyError("x")
    try:
        raise ValueError
    except ValueError as other:
        tb = other.__traceback__
    with pytest.raises(KeyError) as caught:
        exceptions.reraise(KeyError, error, tb)
    assert caught.value is error
    with pytest.raises(KeyError):
        exceptions.reraise(KeyError, error, error.__traceback__)
