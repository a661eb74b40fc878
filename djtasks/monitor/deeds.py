"""What can be done with a task: revoke, terminate, retry, requeue, forget. The permissions are those of the admin."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from django.http import HttpRequest
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from djtasks import control, requeue, revoking
from djtasks.db import results
from djtasks.db.connections import borrow
from djtasks.db.taskpage import One

FORGOTTEN, GONE = "forgotten", "gone"


class Deed(NamedTuple):
    """Something that can be done with a task."""

    title: Promise
    text: Promise
    button: Promise
    permission: str
    #: Whether there is something to do.
    fits: Callable[[One], bool]
    #: Does it; what became of each id.
    do: Callable[[HttpRequest, Sequence[str]], Mapping[str, str]]
    #: What an answer means, and whether that is a success.
    answers: Mapping[str, tuple[bool, Promise]]
    #: What the admin's history says after a success.
    kept: str
    danger: bool = False


def _revoke(request: HttpRequest, ids: Sequence[str]) -> Mapping[str, str]:
    found: Mapping[str, str] = control.revoke(list(ids), by=str(request.user))
    return found


def _terminate(request: HttpRequest, ids: Sequence[str]) -> Mapping[str, str]:
    found: Mapping[str, str] = control.revoke(list(ids), terminate=True, by=str(request.user))
    return found


def _requeue(request: HttpRequest, ids: Sequence[str]) -> Mapping[str, str]:
    return requeue.requeue(ids)


def _forget(request: HttpRequest, ids: Sequence[str]) -> Mapping[str, str]:
    gone = results.forget_these(borrow(), list(ids))
    return {task_id: FORGOTTEN if task_id in gone else GONE for task_id in ids}


_REVOKED: Final[Mapping[str, tuple[bool, Promise]]] = {
    revoking.PREVENTED: (True, _("It waited, and will not run.")),
    revoking.SIGNALLED: (True, _("It runs, and is being ended.")),
    revoking.RUNNING: (False, _("It runs, and goes on: it is revoked for when it comes back.")),
    revoking.DONE: (False, _("It had ended before.")),
    revoking.NOTED: (False, _("It is not there; it is revoked should it come.")),
    revoking.PENDING: (True, _("It is revoked when this request is over.")),
}
_REQUEUED: Final[Mapping[str, tuple[bool, Promise]]] = {
    requeue.REQUEUED: (True, _("It was put back into its queue.")),
    requeue.HURRIED: (True, _("It waited for its time, and may run now.")),
    requeue.WAITING: (False, _("It waits anyway.")),
    requeue.RUNNING: (False, _("It runs anyway.")),
    requeue.NOT_KEPT: (False, _("It cannot run again: its arguments were not kept.")),
    requeue.TAKEN: (False, _("It cannot run again now: another task has its unique key.")),
    requeue.UNKNOWN: (False, _("It is not there any more.")),
}


def _is_ended(found: One) -> bool:
    return found.result is not None and found.result.done is not None and found.message is None


def _to_be_retried(found: One) -> bool:
    if found.message is not None:
        return bool(found.message.owner is None and found.message.reason == "eta")
    return _is_ended(found) and found.result.state != "SUCCESS"


def _is_message(found: Any) -> bool:
    return found.message is not None


DEEDS: Final[Mapping[str, Deed]] = {
    "revoke": Deed(
        _("Revoke"),
        _("It does not run; if it runs already, it goes on."),
        _("Revoke it"),
        "revoke_message",
        _is_message,
        _revoke,
        _REVOKED,
        "Revoked.",
    ),
    "terminate": Deed(
        _("Terminate"),
        _("It does not run; if it runs already, its process gets SIGTERM, and SIGKILL half a second later."),
        _("End it"),
        "terminate_message",
        lambda found: _is_message(found) and found.message.owner is not None,
        _terminate,
        {**_REVOKED, revoking.RUNNING: (False, _("It runs, and goes on: the pool of its worker can end none."))},
        "Ended.",
        danger=True,
    ),
    "retry": Deed(
        _("Retry"),
        _("It runs now: again, as it was called, if it has ended; at once, if it waits for its time."),
        _("Run it"),
        "requeue_result",
        _to_be_retried,
        _requeue,
        _REQUEUED,
        "Put back into its queue.",
    ),
    "requeue": Deed(
        _("Requeue"),
        _("It is put into its queue as it was called, and its result is removed."),
        _("Run it again"),
        "requeue_result",
        _is_ended,
        _requeue,
        _REQUEUED,
        "Put back into its queue.",
    ),
    "forget": Deed(
        _("Forget"),
        _("What it left, and its arguments, are deleted."),
        _("Delete its result"),
        "forget_result",
        _is_ended,
        _forget,
        {
            FORGOTTEN: (True, _("Its result was deleted.")),
            GONE: (False, _("There was no result of an ended task any more.")),
        },
        "Deleted its result.",
        danger=True,
    ),
}
