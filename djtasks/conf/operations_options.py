"""The settings of those who run workers: pools and their sizes, events, health, what a worker listens to besides."""

# ruff: noqa: RUF009 -- option() is dataclasses.field() with its metadata put together

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from djtasks.conf.entries import option
from djtasks.conf.kinds import ADDRESS, FLAG, SECONDS_MAX, TERM, TEXT, Kind, number, one_of, optional, whole
from djtasks.conf.worker_options import WorkerSettings

_AUTOSCALER = "djtasks.worker.autoscaler:Autoscaler"


def _read_autoscaler(value: Any) -> str:
    """Celery's own is ours."""
    path: str = TEXT.read(value)
    return _AUTOSCALER if path.replace(":", ".") == "celery.worker.autoscale.Autoscaler" else path


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationsSettings(WorkerSettings):
    """The part of the settings that operators change."""

    # -- pools
    WORKER_AUTOSCALER: str = option(
        _AUTOSCALER,
        Kind("the dotted name of a class", _read_autoscaler),
        "The class that grows and shrinks the pool of a worker with --autoscale.",
        "CELERYD_AUTOSCALER",
    )
    WORKER_POOL_RESTARTS: bool = option(
        False, FLAG, "Whether `control pool_restart` is obeyed.", "CELERYD_POOL_RESTARTS"
    )
    WORKER_PROC_ALIVE_TIMEOUT: float = option(
        4.0,
        number(0.1, 3600),
        "Seconds in which a new child has to be ready, or is replaced.",
        "CELERYD_PROC_ALIVE_TIMEOUT",
    )
    WORKER_ENABLE_SOFT_SHUTDOWN_ON_IDLE: bool = option(
        False,
        FLAG,
        "Whether a cold shutdown waits WORKER_SOFT_SHUTDOWN_TIMEOUT seconds even when nothing runs.",
        "CELERYD_ENABLE_SOFT_SHUTDOWN_ON_IDLE",
    )
    WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS: bool = option(
        False,
        FLAG,
        "Whether tasks with late acknowledgement that run while the database is lost are ended, to run again.",
        "CELERYD_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS",
    )
    WORKER_DEDUPLICATE_SUCCESSFUL_TASKS: bool = option(
        False,
        FLAG,
        "Read, so that it can stay: a task whose success is stored has no message any more, and cannot run again.",
        "CELERYD_DEDUPLICATE_SUCCESSFUL_TASKS",
    )

    WORKER_DISABLE_PREFETCH: bool = option(
        False,
        FLAG,
        "Whether a worker claims a task only when something is free to run it (--disable-prefetch).",
        "CELERYD_DISABLE_PREFETCH",
    )

    # -- events
    WORKER_SEND_TASK_EVENTS: bool = option(
        False,
        FLAG,
        "Whether workers send events of tasks (--task-events).",
        "CELERY_SEND_EVENTS",
        "CELERYD_SEND_EVENTS",
    )
    TASK_SEND_SENT_EVENT: bool = option(
        False, FLAG, "Whether a call sends task-sent, besides.", "CELERY_SEND_TASK_SENT_EVENT"
    )
    EVENT_SERIALIZER: str = option(
        "json", one_of("json"), "How events are written; they are always JSON.", "CELERY_EVENT_SERIALIZER"
    )
    EVENTS_MAX: int = option(100_000, whole(100), "The most events that are kept; the oldest go first.")
    EVENTS_EXPIRES: timedelta = option(
        timedelta(hours=1), TERM, "Seconds or a timedelta after which an event is deleted."
    )

    # -- looking at workers
    WORKER_HTTP: str | None = option(
        None,
        optional(ADDRESS, "it does not listen"),
        "Where a worker answers /healthz and /metrics (--http): a port of the loopback interface, or ADDRESS:PORT.",
    )
    WORKER_GIVE_UP_AFTER: float | None = option(
        300.0,
        optional(number(0, SECONDS_MAX), "for ever"),
        "Seconds for which a worker waits for a database that refuses it (a wrong password, a server that only reads)"
        " before it ends with exit code 69. An outage is waited out for ever.",
    )
    SAMPLES_EXPIRES: timedelta = option(
        timedelta(days=7), TERM, "Seconds or a timedelta for which the numbers of each minute are kept, for charts."
    )

    # -- queues
    WORKER_DIRECT: bool = option(
        False, FLAG, "Whether each worker also takes from a queue of its own, <node>.dq.", "CELERY_WORKER_DIRECT"
    )
    QUEUE_AGEING: float | None = option(
        None,
        optional(number(1, 86400), "priorities never change"),
        "Seconds of waiting after which a message's priority rises by one, up to the highest there is.",
    )
