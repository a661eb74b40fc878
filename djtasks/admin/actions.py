"""What a person may do to tasks in the admin: run those that have ended again, delete their results, revoke those that
have not, and end those that run. Each needs a permission of its own.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.template.response import TemplateResponse

from djtasks import control, revoking
from djtasks.admin.deeds import Deed, Doing
from djtasks.db import results
from djtasks.db.connections import borrow
from djtasks.models import Message, Result
from djtasks.requeue import HURRIED, NOT_KEPT, REQUEUED, RUNNING, TAKEN, UNKNOWN, WAITING, requeue

FORGOTTEN, GONE = "forgotten", "gone"


def _requeue(request: HttpRequest, ids: Sequence[str]) -> Mapping[str, str]:
    return requeue(ids)


def _forget(request: HttpRequest, ids: Sequence[str]) -> Mapping[str, str]:
    gone = results.forget_these(borrow(), ids)
    return {task_id: FORGOTTEN if task_id in gone else GONE for task_id in ids}


def _revoke(request: HttpRequest, ids: Sequence[str]) -> Mapping[str, str]:
    said: Mapping[str, str] = control.revoke(list(ids), by=str(request.user))
    return {task_id: said[task_id] for task_id in ids}


def _terminate(request: HttpRequest, ids: Sequence[str]) -> Mapping[str, str]:
    said: Mapping[str, str] = control.revoke(list(ids), terminate=True, by=str(request.user))
    return {task_id: said[task_id] for task_id in ids}


REQUEUE = Deed(
    "requeue_selected",
    "Run these tasks again?",
    "is put into its queue as it was called, and its result is removed",
    "Run them again",
    "None of the selected tasks has ended.",
    lambda row: row["done"] is not None,
    _requeue,
    {
        REQUEUED: (True, "put back into their queues"),
        HURRIED: (True, "waited for their time, and may run now"),
        WAITING: (False, "wait anyway"),
        RUNNING: (False, "run anyway"),
        NOT_KEPT: (False, "cannot run again: their arguments were not kept"),
        TAKEN: (False, "cannot run again now: another task has their unique key"),
        UNKNOWN: (False, "are not there any more"),
    },
    {REQUEUED: "Put back into its queue.", HURRIED: "Its time need not come."},
)
FORGET = Deed(
    "forget_selected",
    "Delete these results?",
    "is forgotten: what it left, and its arguments, are deleted",
    "Delete them",
    "None of the selected tasks has ended.",
    lambda row: row["done"] is not None,
    _forget,
    {FORGOTTEN: (True, "are forgotten"), GONE: (False, "had no result any more")},
    {FORGOTTEN: "Deleted its result."},
)
_REVOKED = {
    revoking.PREVENTED: (True, "waited, and will not run"),
    revoking.SIGNALLED: (True, "run, and are being ended"),
    revoking.RUNNING: (False, "run, and go on: they are revoked for when they come back"),
    revoking.DONE: (False, "had ended before"),
    revoking.NOTED: (False, "are not there; they are revoked should they come"),
    revoking.PENDING: (True, "are revoked when this request is over"),
}
_KEPT = dict.fromkeys((revoking.PREVENTED, revoking.SIGNALLED, revoking.RUNNING, revoking.PENDING), "Revoked.")
REVOKE = Deed(
    "revoke_selected",
    "Revoke these tasks?",
    "does not run; one that runs already goes on",
    "Revoke them",
    "None of the selected tasks waits or runs.",
    lambda row: True,
    _revoke,
    _REVOKED,
    _KEPT,
)
TERMINATE = Deed(
    "terminate_selected",
    "End these tasks?",
    "does not run; one that runs already is ended, by SIGTERM to its process, and SIGKILL half a second later",
    "End them",
    "None of the selected tasks waits or runs.",
    lambda row: True,
    _terminate,
    {**_REVOKED, revoking.RUNNING: (False, "run, and go on: their workers' pool can end none")},
    {**_KEPT, revoking.SIGNALLED: "Ended."},
)


HURRY = Deed(
    "hurry_selected",
    "Run these tasks now?",
    "may run at once, whatever its eta is",
    "Run them now",
    "None of the selected tasks waits for its time.",
    lambda row: row["owner"] is None and row["reason"] == "eta",
    _requeue,
    REQUEUE.answers,
    REQUEUE.kept,
)


class Ended(Doing):
    """What may be done to tasks that have ended."""

    actions = ("requeue_selected", "forget_selected")
    history_of = Result

    def has_requeue_permission(self, request: HttpRequest) -> bool:
        """Whether the user may let tasks run again."""
        return _has(request, "requeue_result")

    def has_forget_permission(self, request: HttpRequest) -> bool:
        """Whether the user may delete results."""
        return _has(request, "forget_result")

    @admin.action(description="Put selected tasks back into their queues", permissions=["requeue"])
    def requeue_selected(self, request: HttpRequest, queryset: QuerySet[Any]) -> TemplateResponse | None:
        """Ask, then do it."""
        return self.ask_or_do(request, REQUEUE)

    @admin.action(description="Delete selected results", permissions=["forget"])
    def forget_selected(self, request: HttpRequest, queryset: QuerySet[Any]) -> TemplateResponse | None:
        """Ask, then do it."""
        return self.ask_or_do(request, FORGET)


class Unended(Doing):
    """What may be done to tasks that wait or run."""

    actions = ("revoke_selected", "terminate_selected", "hurry_selected")
    history_of = Message

    def has_requeue_permission(self, request: HttpRequest) -> bool:
        """Whether the user may let tasks run before their time."""
        return _has(request, "requeue_result")

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        """Whether the user may revoke tasks."""
        return _has(request, "revoke_message")

    def has_terminate_permission(self, request: HttpRequest) -> bool:
        """Whether the user may end tasks that run."""
        return _has(request, "terminate_message")

    @admin.action(description="Revoke selected tasks: what runs goes on", permissions=["revoke"])
    def revoke_selected(self, request: HttpRequest, queryset: QuerySet[Any]) -> TemplateResponse | None:
        """Ask, then do it."""
        return self.ask_or_do(request, REVOKE)

    @admin.action(description="Revoke selected tasks, and end what runs", permissions=["terminate"])
    def terminate_selected(self, request: HttpRequest, queryset: QuerySet[Any]) -> TemplateResponse | None:
        """Ask, then do it."""
        return self.ask_or_do(request, TERMINATE)

    @admin.action(description="Run selected tasks now that wait for their time", permissions=["requeue"])
    def hurry_selected(self, request: HttpRequest, queryset: QuerySet[Any]) -> TemplateResponse | None:
        """Ask, then do it."""
        return self.ask_or_do(request, HURRY)


def _has(request: HttpRequest, codename: str) -> bool:
    allowed: bool = request.user.has_perm(f"djtasks.{codename}")
    return allowed
