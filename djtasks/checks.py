"""System checks: what is wrong with the settings, said by `manage.py check` before a worker or a call meets it."""

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from django.conf import settings as django_settings
from django.core import checks
from django.db import DEFAULT_DB_ALIAS, connections
from django.utils.connection import ConnectionDoesNotExist

from djtasks import compression, routing, serializers
from djtasks.conf import problems, settings
from djtasks.exceptions import EncodeError, ImproperlyConfigured
from djtasks.registry import tasks

Message = checks.CheckMessage
_TAG = "djtasks"
_ACKS = ("acks_on_failure", "acks_on_timeout", "acks_on_failure_or_timeout")


def register_checks() -> None:
    """Have Django run the checks of this module."""
    checks.register(check_settings, _TAG)
    checks.register(check_deployment, _TAG, deploy=True)


def check_settings(app_configs: object = None, **kwargs: object) -> list[Message]:
    """All that is wrong with DJTASKS. The settings are looked at as a whole only once each one fits."""
    found = list(_problems())
    if any(message.level >= checks.ERROR for message in found):
        return found
    parts: Sequence[Callable[[], Iterator[Message]]] = (_database, _content, _compression, _routes, _limits, _tasks)
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
    return found


def _problems() -> Iterator[Message]:
    ignored = []
    for problem in problems(getattr(django_settings, "DJTASKS", {})):
        if problem.level == "error":
            yield checks.Error(problem.text, hint=problem.hint, id="djtasks.E001")
        elif problem.level == "warning":
            yield checks.Warning(problem.text, hint=problem.hint, id="djtasks.W001")
        else:
            ignored.append(problem.key)
    if ignored:
        text = f"Settings without a meaning here, as PostgreSQL is the only server: {', '.join(sorted(ignored))}."
        yield checks.Info(text, hint="They are ignored; remove them from DJTASKS.", id="djtasks.I001")


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
    if settings.WORKER_POOL != "prefork" and (settings.TASK_TIME_LIMIT or settings.TASK_SOFT_TIME_LIMIT):
        text = f"DJTASKS sets time limits, which the pool {settings.WORKER_POOL!r} cannot keep."
        hint = "Only prefork can stop a running task; take it as WORKER_POOL, or take the limits out."
        yield checks.Warning(text, hint=hint, id="djtasks.W004")


def _tasks() -> Iterator[Message]:
    """Options of Celery's that a task may carry, and that are not kept yet: nobody should rely on them."""
    for name in tasks.names():
        task = tasks[name]
        said = ["rate_limit"] if task.rate_limit else []
        said += [option for option in _ACKS if getattr(task, option) is False]
        if said:
            text = f"The task {name!r} sets {', '.join(said)}, which djtasks does not have yet."
            yield checks.Warning(text, hint="It runs as if nothing had been said.", id="djtasks.W005")
