"""The settings of those who run workers: pools and their sizes, events, health, what a worker listens to besides."""

# ruff: noqa: RUF009 -- option() is dataclasses.field() with its metadata put together

from dataclasses import dataclass
from datetime import timedelta

from djtasks.conf.entries import option
from djtasks.conf.kinds import FLAG, TERM, TEXT, number, one_of, optional, whole
from djtasks.conf.worker_options import WorkerSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationsSettings(WorkerSettings):
    """The part of the settings that operators change."""

    # -- pools
    WORKER_AUTOSCALER: str = option(
        "djtasks.worker.autoscaler:Autoscaler",
        TEXT,
        "The class that grows and shrinks the pool of a worker with --autoscale.",
        "CELERYD_AUTOSCALER",
    )
    WORKER_POOL_RESTARTS: bool = option(
        False, FLAG, "Whether `control pool_restart` is obeyed.", "CELERYD_POOL_RESTARTS"
    )
    WORKER_PROC_ALIVE_TIMEOUT: float = option(
        4.0, number(0.1, 3600), "Seconds in which a new child has to be ready, or is replaced."
    )
    WORKER_ENABLE_SOFT_SHUTDOWN_ON_IDLE: bool = option(
        False, FLAG, "Whether a cold shutdown waits WORKER_SOFT_SHUTDOWN_TIMEOUT seconds even when nothing runs."
    )
    WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS: bool = option(
        False,
        FLAG,
        "Whether tasks with late acknowledgement that run while the database is lost are ended, to run again.",
    )
    WORKER_DEDUPLICATE_SUCCESSFUL_TASKS: bool = option(
        False,
        FLAG,
        "Read, so that it can stay: a task whose success is stored has no message any more, and cannot run again.",
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
        optional(TEXT, "it does not listen"),
        "Where a worker answers /healthz and /metrics: a port of the loopback interface, or address:port.",
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
