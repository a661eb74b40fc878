"""System checks: what is wrong with the settings, said by `manage.py check` before a worker or a call meets it."""

import contextlib
import difflib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from django.conf import settings as django_settings
from django.core import checks
from django.db import DEFAULT_DB_ALIAS, connections
from django.utils.connection import ConnectionDoesNotExist

from djtasks import annotations, appstate, atomic, codeschedules, compression, keys, masking, routing, serializers
from djtasks.codeschedules import PLACES
from djtasks.conf import faults, foreign, layers, settings
from djtasks.exceptions import EncodeError, ImproperlyConfigured
from djtasks.periodic import warnings
from djtasks.registry import tasks
from djtasks.serializers import auth
from djtasks.task import Task

Message = checks.CheckMessage
_TAG = "djtasks"
_GOVERNED = (
    "rate_limit",
    "global_rate_limit",
    "global_rate_key",
    "concurrency_key",
    "max_concurrency",
    "unique_key",
    "on_conflict",
)


def register_checks() -> None:
    """Have Django run the checks of this module."""
    checks.register(check_settings, _TAG)
    checks.register(check_deployment, _TAG, deploy=True)


def check_settings(app_configs: object = None, **kwargs: object) -> list[Message]:
    """All that is wrong with DJTASKS. The settings are looked at as a whole only once each one fits."""
    found = list(_problems())
    if any(message.level >= checks.ERROR for message in found):
        return found
    parts: Sequence[Callable[[], Iterator[Message]]] = (
        _database,
        _content,
        _compression,
        _routes,
        _limits,
        _cancelling,
        _limits_of_tasks,
        _annotations,
        _sensitive,
        _atomic,
        _mails,
        _tasks,
        _periodic,
    )
    return [*found, *(message for part in parts for message in part())]


def check_deployment(app_configs: object = None, **kwargs: object) -> list[Message]:
    """What is right on one's own machine, and wrong in production (`check --deploy`)."""
    if any(message.level >= checks.ERROR for message in _problems()):
        return []
    found: list[Message] = []
    if settings.TASK_ALWAYS_EAGER:
        text = "DJTASKS['TASK_ALWAYS_EAGER'] is on: every task runs inside the request that calls it."
        found.append(checks.Warning(text, hint="Turn it off outside of tests.", id="djtasks.W010"))
    if _accepts("pickle", (*settings.ACCEPT_CONTENT, *settings.RESULT_ACCEPT_CONTENT)):
        text = "DJTASKS accepts pickle: whoever can write to the task tables can run code in workers and callers."
        found.append(checks.Warning(text, hint="Use json, yaml or msgpack.", id="djtasks.W011"))
    if settings.TASK_TIME_LIMIT is None and settings.TASK_SOFT_TIME_LIMIT is None:
        endless = [name for name in tasks.names() if not (tasks[name].time_limit or tasks[name].soft_time_limit)]
        if endless:
            text = f"Nothing ends these tasks when they hang: {', '.join(endless[:5])}{' …' if endless[5:] else ''}."
            hint = "Set TASK_TIME_LIMIT, and another time_limit where a task may take longer."
            found.append(checks.Warning(text, hint=hint, id="djtasks.W012"))
    return found


def _problems() -> Iterator[Message]:
    ignored = dict(layers.celerys().foreign)
    for problem in faults():
        if problem.level == "error":
            yield checks.Error(problem.text, hint=problem.hint, id="djtasks.E001")
        elif problem.level == "warning":
            yield checks.Warning(problem.text, hint=problem.hint, id="djtasks.W001")
        else:
            ignored.setdefault(problem.key, problem.key)
    if ignored:
        parts = [f"{', '.join(names)} ({why})" for why, names in foreign.by_reason(ignored).items()]
        text = f"Settings without a meaning here: {'; '.join(parts)}."
        hint = "They are ignored; remove them when nothing else reads them."
        yield checks.Info(text, hint=hint, id="djtasks.I001")


# -- the database -------------------------------------------------------------------------------------------------


def _database() -> Iterator[Message]:
    alias = settings.DATABASE
    try:
        connection = connections[alias]
    except ConnectionDoesNotExist:
        text = f"DJTASKS['DATABASE'] is {alias!r}, which is not in DATABASES."
        yield checks.Error(text, hint=f"DATABASES has {', '.join(connections)}.", id="djtasks.E002")
        return
    if connection.vendor != "postgresql":
        text = f"The tasks' database, {alias!r}, is {connection.vendor}, not PostgreSQL."
        hint = "Point DJTASKS['DATABASE'] at a PostgreSQL database, or change its ENGINE."
        yield checks.Error(text, hint=hint, id="djtasks.E003")
        return
    if not _has_psycopg3(connection):
        text = "Django uses psycopg2; djtasks needs psycopg 3."
        yield checks.Error(text, hint="Install it with: pip install 'psycopg[binary]'", id="djtasks.E004")
    yield from _transactions(alias, connection.settings_dict)


def _has_psycopg3(connection: Any) -> bool:
    return int(str(connection.Database.__version__).split(".")[0]) >= 3


def _transactions(alias: str, options: dict[str, Any]) -> Iterator[Message]:
    if settings.ENQUEUE == "in_transaction" and alias != DEFAULT_DB_ALIAS:
        text = f"DJTASKS['ENQUEUE'] is 'in_transaction', but the tasks are in {alias!r}, not {DEFAULT_DB_ALIAS!r}."
        hint = (
            "A task is part of the caller's transaction only in the same database: use ENQUEUE = 'on_commit', or keep"
            " the tasks with the data."
        )
        yield checks.Error(text, hint=hint, id="djtasks.E005")
    if not options.get("AUTOCOMMIT", True):
        text = f"The tasks' database, {alias!r}, has AUTOCOMMIT off."
        hint = "Django runs no on_commit callbacks then, and a worker would never commit: turn it on."
        yield checks.Error(text, hint=hint, id="djtasks.E006")
    if settings.ENQUEUE == "immediately" and options.get("ATOMIC_REQUESTS"):
        text = "DJTASKS['ENQUEUE'] is 'immediately', and ATOMIC_REQUESTS is on."
        hint = (
            "Tasks will start before the request that called them has committed, and run even when it rolls back; use"
            " 'on_commit' or 'in_transaction'."
        )
        yield checks.Warning(text, hint=hint, id="djtasks.W002")


# -- what messages are made of ------------------------------------------------------------------------------------


def _accepts(name: str, accepted: Sequence[str]) -> bool:
    return name in accepted or serializers.find(name).content_type in accepted


def _try(name: str) -> None:
    """Raise ImproperlyConfigured when there is no such serializer, or its library is missing."""
    # What it encodes is not the point: a library that is missing is found out when it is first used.
    with contextlib.suppress(EncodeError):
        serializers.dumps(None, serializers.find(name).name)


def _content() -> Iterator[Message]:
    named = set()
    for written, read in (("TASK_SERIALIZER", "ACCEPT_CONTENT"), ("RESULT_SERIALIZER", "RESULT_ACCEPT_CONTENT")):
        name, accepted = getattr(settings, written), getattr(settings, read)
        if name == auth.NAME and written == "RESULT_SERIALIZER":
            text = "DJTASKS['RESULT_SERIALIZER'] is 'auth', and only calls are signed."
            yield checks.Error(text, hint="Take json, or another one.", id="djtasks.E030")
            continue
        try:
            _try(name)
        except ImproperlyConfigured as error:
            named.add(name)
            yield checks.Error(f"DJTASKS[{written!r}]: {error}.", id="djtasks.E007")
            continue
        if not _accepts(serializers.find(name).name, accepted):
            text = f"DJTASKS[{written!r}] is {name!r}, which {read} does not accept: what is written could not be read."
            yield checks.Error(text, hint=f"Add {name!r} to {read}.", id="djtasks.E008")
    for name in dict.fromkeys((*settings.ACCEPT_CONTENT, *settings.RESULT_ACCEPT_CONTENT)):
        try:
            _try(name)
        except ImproperlyConfigured as error:
            if name not in named:
                hint = "Take it out, or install or register it where every process imports it."
                yield checks.Error(f"DJTASKS['ACCEPT_CONTENT']: {error}.", hint=hint, id="djtasks.E009")
    others = [name for name in settings.ACCEPT_CONTENT if name not in auth.NAMES]
    if settings.TASK_SERIALIZER == auth.NAME and others and len(others) < len(settings.ACCEPT_CONTENT):
        text = f"DJTASKS['TASK_SERIALIZER'] is 'auth', but ACCEPT_CONTENT lets unsigned calls in: {', '.join(others)}."
        hint = "Once no unsigned call waits any more, make it ['auth']: a signature that may be missing proves nothing."
        yield checks.Warning(text, hint=hint, id="djtasks.W030")


def _compression() -> Iterator[Message]:
    for key in ("TASK_COMPRESSION", "RESULT_COMPRESSION"):
        if (name := getattr(settings, key)) is not None:
            try:
                compression.check(name)
            except ImproperlyConfigured as error:
                yield checks.Error(f"DJTASKS[{key!r}]: {error}.", id="djtasks.E010")


# -- where messages go, and how tasks run -------------------------------------------------------------------------


def _routes() -> Iterator[Message]:
    try:
        routing.compile_routes(settings.TASK_ROUTES)
    except Exception as error:
        # A router's module or constructor may raise anything.
        yield checks.Error(f"DJTASKS['TASK_ROUTES']: {error}.", id="djtasks.E011")
        return
    for key, guess in routing.unknown_keys(settings.TASK_ROUTES):
        hint = f"Did you mean {guess!r}?" if guess else f"A route takes {', '.join(routing.ROUTE_KEYS[:3])}."
        yield checks.Warning(f"DJTASKS['TASK_ROUTES']: {key!r} does nothing in a route.", hint=hint, id="djtasks.W003")


def _limits() -> Iterator[Message]:
    if settings.WORKER_POOL == "solo" and settings.TASK_TIME_LIMIT:
        text = f"DJTASKS sets TASK_TIME_LIMIT, which the pool {settings.WORKER_POOL!r} cannot keep."
        hint = "Take prefork, or threads, as WORKER_POOL, or take the limit out."
        yield checks.Warning(text, hint=hint, id="djtasks.W004")


def _cancelling() -> Iterator[Message]:
    if settings.WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS and settings.WORKER_POOL in ("threads", "solo"):
        text = (
            "DJTASKS sets WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS, and the pool"
            f" {settings.WORKER_POOL!r} can end no task that runs."
        )
        yield checks.Warning(text, hint="Take prefork as WORKER_POOL, or take it out.", id="djtasks.W005")


def _limits_of_tasks() -> Iterator[Message]:
    """A soft limit above the hard one, where one is the task's and the other the settings'."""
    for name in tasks.names():
        task = tasks[name]
        hard, soft = task.time_limit or settings.TASK_TIME_LIMIT, task.soft_time_limit or settings.TASK_SOFT_TIME_LIMIT
        if hard and soft and soft > hard:
            own = ", ".join(key for key in ("time_limit", "soft_time_limit") if getattr(task, key))
            text = (
                f"The soft time limit of the task {name!r}, {soft:g} s, is above its hard one, {hard:g} s (own: {own})."
            )
            hint = "The soft one could never act: make it the smaller one."
            yield checks.Warning(text, hint=hint, id="djtasks.W022")


def _annotations() -> Iterator[Message]:
    """What TASK_ANNOTATIONS say that no task can have, or that is no option of a task."""
    for problem in appstate.problems:
        yield checks.Error(f"DJTASKS['TASK_ANNOTATIONS']: {problem}.", id="djtasks.E020")
    for name, values in annotations.named(settings.TASK_ANNOTATIONS):
        if name != "*" and name not in tasks:
            text = f"DJTASKS['TASK_ANNOTATIONS'] names {name!r}, which is no task here."
            near = difflib.get_close_matches(name, tasks.names(), n=1)
            yield checks.Warning(text, hint=f"Did you mean {near[0]!r}?" if near else None, id="djtasks.W020")
        for key in values:
            if not hasattr(Task, key.removeprefix("@")) and (
                near := difflib.get_close_matches(key, dir(Task), n=1, cutoff=0.8)
            ):
                text = f"DJTASKS['TASK_ANNOTATIONS']: {key!r} is no option of a task."
                yield checks.Warning(text, hint=f"Did you mean {near[0]!r}?", id="djtasks.W021")


def _atomic() -> Iterator[Message]:
    """A promise that one transaction cannot keep."""
    for name in tasks.names():
        if (why := atomic.problem(tasks[name])) is not None:
            yield checks.Error(f"{why[:1].upper()}{why[1:]}.", id="djtasks.E050")


def _sensitive() -> Iterator[Message]:
    """A sensitive argument that is misspelt would hide nothing."""
    for name in tasks.names():
        try:
            masking.of(tasks[name])
        except (TypeError, ValueError) as error:
            hint = "Name parameters of the task, or say sensitive=True for all of them."
            yield checks.Error(f"{str(error)[:1].upper()}{str(error)[1:]}.", hint=hint, id="djtasks.E040")


def _mails() -> Iterator[Message]:
    if settings.TASK_ERROR_EMAILS and settings.TASK_ERROR_EMAILS_TO is None and not django_settings.ADMINS:
        text = "DJTASKS['TASK_ERROR_EMAILS'] is on, and nobody is in ADMINS."
        hint = "Put addresses into ADMINS, or into TASK_ERROR_EMAILS_TO."
        yield checks.Warning(text, hint=hint, id="djtasks.W040")


def _tasks() -> Iterator[Message]:
    """What tasks say of their rates and limits, which attributes and annotations say as well as the decorator."""
    for name in tasks.names():
        task = tasks[name]
        said = {option: getattr(task, option) for option in _GOVERNED}
        try:
            keys.check_options(said)
        except (TypeError, ValueError) as error:
            hint = "Correct it where the task is defined, or in TASK_ANNOTATIONS."
            yield checks.Error(f"The task {name!r}: {error}.", hint=hint, id="djtasks.E060")


def _periodic() -> Iterator[Message]:
    """What is wrong with the periodic tasks of the code; those of the table are checked when they are saved."""
    for name, source, text in codeschedules.faults():
        hint = "Beat leaves it out until it is corrected."
        yield checks.Warning(f"The periodic task {name!r} ({PLACES[source]}): {text}", hint=hint, id="djtasks.W071")
    for name, entry in codeschedules.said().items():
        for sentence in () if entry.source == "builtin" else warnings(entry).values():
            text = f"The periodic task {name!r} ({PLACES[entry.source]}): {sentence}"
            hint = "A name of another project's is all right; one that is misspelt waits for ever."
            yield checks.Warning(text, hint=hint, id="djtasks.W070")
