"""What can be wrong with an entry of TASKS that names a backend of ours: said at once, or by Django's checks."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from django.apps import apps
from django.core import checks
from django.db import DEFAULT_DB_ALIAS

from djtasks.backends import results
from djtasks.backends.compat import DEFAULT_TASK_QUEUE_NAME, PACKAGE, InvalidTaskBackend
from djtasks.conf import settings
from djtasks.conf.kinds import Unfit, queue_name
from djtasks.exceptions import safe_repr
from djtasks.routing import known_queues


def checked(alias: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """An entry of TASKS, if its shape is right. Raises InvalidTaskBackend."""
    queues = params.get("QUEUES", [DEFAULT_TASK_QUEUE_NAME])
    where = f"TASKS[{alias!r}]['QUEUES']"
    if not isinstance(queues, list | tuple | set | frozenset):
        raise InvalidTaskBackend(f"{where} must be a list of names, not {safe_repr(queues, 200)}")
    for each in queues:
        try:
            queue_name(each)
        except Unfit as error:
            raise InvalidTaskBackend(f"{where}: each {error}") from None
    return dict(params)


def problems(alias: str, queues: Collection[str], options: Mapping[str, Any]) -> Iterator[checks.CheckMessage]:
    """What is wrong around the backend `alias`."""
    where = f"TASKS[{alias!r}]"
    if not apps.is_installed("djtasks"):
        text = f"{where} is a backend of djtasks, which is not in INSTALLED_APPS."
        yield checks.Error(text, hint="Add 'djtasks' to INSTALLED_APPS, and migrate.", id="djtasks.E080")
    if PACKAGE == "django_tasks" and not apps.is_installed(PACKAGE):
        text = f"{where} is configured, and 'django_tasks' is not in INSTALLED_APPS."
        yield checks.Warning(text, hint="Add it: it brings the checks and the log.", id="djtasks.W080")
    mode = options.get("ENQUEUE")
    if mode == "in_transaction" and settings.DATABASE != DEFAULT_DB_ALIAS:
        text = f"{where} says ENQUEUE 'in_transaction', but the tasks are in the database {settings.DATABASE!r}."
        hint = "A task is part of the caller's transaction only in the same database: use 'on_commit'."
        yield checks.Error(text, hint=hint, id="djtasks.E081")
    yield from _queues(where, queues)


def _queues(where: str, queues: Collection[str]) -> Iterator[checks.CheckMessage]:
    wanted = {name: results.queue_of(name) for name in sorted(queues)}
    known = known_queues()
    for name, queue in wanted.items():
        if queue in known:
            continue
        if settings.TASK_CREATE_MISSING_QUEUES:
            text = f"{where} has the queue {name!r}, which is not in TASK_QUEUES: a worker without -Q leaves it alone."
            hint = f"Add {queue!r} to TASK_QUEUES of DJTASKS, or start workers with -Q {queue}."
            yield checks.Warning(text, hint=hint, id="djtasks.W081")
        else:
            text = f"{where} has the queue {name!r}, which TASK_CREATE_MISSING_QUEUES=False does not allow."
            yield checks.Error(text, hint=f"Add {queue!r} to TASK_QUEUES of DJTASKS.", id="djtasks.E082")
    if len(set(wanted.values())) < len(wanted):
        default = settings.TASK_DEFAULT_QUEUE
        text = f"{where} has the queues {DEFAULT_TASK_QUEUE_NAME!r} and {default!r}, which are one: TASK_DEFAULT_QUEUE."
        hint = f"Leave one out, or add {DEFAULT_TASK_QUEUE_NAME!r} to TASK_QUEUES of DJTASKS for one of that name."
        yield checks.Warning(text, hint=hint, id="djtasks.W082")
