"""The settings of workers and of their log."""

from dataclasses import dataclass

from djtasks.conf.entries import option
from djtasks.conf.kinds import FLAG, LOG_FORMAT, LOG_LEVEL, SOME_NAMES, TEXT, number, optional, whole
from djtasks.conf.pools import POOL

_LOG = "[%(asctime)s: %(levelname)s/%(processName)s] "


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerSettings:
    """The part of the settings that only workers read."""

    # -- the worker
    WORKER_CONCURRENCY: int | None = option(
        None, optional(whole(1), "one per CPU"), "How many tasks a worker runs at a time.", "CELERYD_CONCURRENCY"
    )
    WORKER_POOL: str = option(
        "prefork",
        POOL,
        "How a worker runs tasks: in child processes, in threads, one at a time in itself, in greenlets or coroutines.",
        "CELERYD_POOL",
    )
    WORKER_PREFETCH_MULTIPLIER: int = option(
        0,
        whole(),
        "How many tasks, at most, a worker holds for each one it runs; 0: no bound but about 10 ms of work.",
        "CELERYD_PREFETCH_MULTIPLIER",
    )
    WORKER_MAX_TASKS_PER_CHILD: int | None = option(
        None, optional(whole(1)), "Tasks after which a child is replaced.", "CELERYD_MAX_TASKS_PER_CHILD"
    )
    WORKER_MAX_MEMORY_PER_CHILD: int | None = option(
        None,
        optional(whole(1)),
        "Resident memory, in KiB, above which a child is replaced after its task.",
        "CELERYD_MAX_MEMORY_PER_CHILD",
    )
    WORKER_SOFT_SHUTDOWN_TIMEOUT: float = option(
        0.0, number(), "Seconds that a cold shutdown gives to running tasks first.", "CELERYD_SOFT_SHUTDOWN_TIMEOUT"
    )
    WORKER_HEARTBEAT_INTERVAL: float = option(5.0, number(0.1, 3600), "Seconds between the heartbeats of a worker.")
    WORKER_DEAD_AFTER: float = option(
        20.0, number(0.2, 86400), "Seconds without a heartbeat after which a worker counts as lost."
    )
    WORKER_POLL_INTERVAL: float = option(
        1.0, number(0.01, 3600), "Seconds, at most about, between two looks for work when nothing wakes the worker."
    )
    WORKER_ENABLE_REMOTE_CONTROL: bool = option(
        True,
        FLAG,
        "Whether a worker obeys commands and answers what it is asked. Revocations hold in any case.",
        "CELERY_ENABLE_REMOTE_CONTROL",
    )

    # -- e-mails
    TASK_ERROR_EMAILS: bool = option(
        False,
        FLAG,
        "Whether ADMINS get an e-mail when a task fails; a task's own error_emails beats this.",
        "CELERY_SEND_TASK_ERROR_EMAILS",
    )
    TASK_ERROR_EMAILS_TO: tuple[str, ...] | None = option(
        None, optional(SOME_NAMES, "ADMINS"), "The addresses that get them."
    )
    TASK_ERROR_EMAILS_EVERY: float = option(
        300.0,
        number(0, 31_536_000),
        "Seconds, over all workers, in which one e-mail is sent about a task and a class of exceptions; 0: all are.",
    )

    WORKER_DISABLE_RATE_LIMITS: bool = option(
        False,
        FLAG,
        "Whether the worker starts tasks as often as it can, whatever their rate limits say. Limits of all workers"
        " together are kept.",
        "CELERY_DISABLE_RATE_LIMITS",
    )

    # -- the log
    LOG_ARGUMENTS: bool = option(False, FLAG, "Whether arguments may stand in log lines.")
    WORKER_HIJACK_ROOT_LOGGER: bool = option(
        True, FLAG, "Whether a worker replaces the handlers of the root logger.", "CELERYD_HIJACK_ROOT_LOGGER"
    )
    WORKER_LOG_FORMAT: str = option(
        _LOG + "%(message)s", LOG_FORMAT, "The format of a worker's log lines.", "CELERYD_LOG_FORMAT"
    )
    WORKER_TASK_LOG_FORMAT: str = option(
        _LOG + "%(task_name)s[%(task_id)s]: %(message)s",
        LOG_FORMAT,
        "The format of log lines written by tasks.",
        "CELERYD_TASK_LOG_FORMAT",
    )
    WORKER_LOG_DATEFMT: str | None = option(
        None,
        optional(TEXT, "as in 2026-01-31 09:30:00,123"),
        "The format of the time in a worker's log lines.",
        "CELERYD_LOG_DATEFMT",
    )
    WORKER_TASK_LOG_DATEFMT: str | None = option(
        None,
        optional(TEXT, "as WORKER_LOG_DATEFMT"),
        "The format of the time in log lines written by tasks.",
        "CELERYD_TASK_LOG_DATEFMT",
    )
    WORKER_LOG_COLOR: bool | None = option(
        None, optional(FLAG, "on a terminal"), "Whether log lines are coloured.", "CELERYD_LOG_COLOR"
    )
    WORKER_REDIRECT_STDOUTS: bool = option(
        True, FLAG, "Whether what tasks print becomes log lines.", "CELERY_REDIRECT_STDOUTS"
    )
    WORKER_REDIRECT_STDOUTS_LEVEL: str = option(
        "WARNING", LOG_LEVEL, "The level of those lines.", "CELERY_REDIRECT_STDOUTS_LEVEL"
    )
