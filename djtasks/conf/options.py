"""Every setting that acts: one entry is its name, its type, its default, what it may be, and its documentation."""

# ruff: noqa: RUF009 -- option() is dataclasses.field() with its metadata put together

from collections.abc import Mapping
from dataclasses import Field, dataclass, fields
from datetime import timedelta, tzinfo
from typing import Any

from djtasks.conf.entries import Entry, option
from djtasks.conf.kinds import (
    EXPIRES,
    FLAG,
    LIMIT,
    NAMES,
    POLICY,
    PRIORITY,
    QUEUE,
    QUEUES,
    RETRY_POLICY,
    ROUTES,
    SOME_NAMES,
    TEXT,
    ZONE,
    Kind,
    one_of,
    optional,
    whole,
)
from djtasks.conf.worker_options import WorkerSettings

_BYTES = whole(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(WorkerSettings):
    """The settings of one process, checked and complete."""

    # -- the database and the enqueue
    DATABASE: str = option("default", TEXT, "The alias, in DATABASES, of the PostgreSQL database that holds the tasks.")
    ENQUEUE: str = option(
        "on_commit",
        one_of("on_commit", "in_transaction", "immediately"),
        "When a call made inside a transaction is written: after its commit, as a part of it, or at once whatever"
        " becomes of it. Only in_transaction promises that a crash right after the commit loses no task.",
    )
    TASK_PUBLISH_RETRY: bool = option(
        True, FLAG, "Try an enqueue again when the database could not be reached.", "CELERY_TASK_PUBLISH_RETRY"
    )
    TASK_PUBLISH_RETRY_POLICY: Mapping[str, Any] = option(
        RETRY_POLICY,
        POLICY,
        "How often, and after how many seconds each time. max_retries None means for ever.",
        "CELERY_TASK_PUBLISH_RETRY_POLICY",
    )

    # -- what a message is made of
    TASK_SERIALIZER: str = option(
        "json", TEXT, "The serializer of arguments: json, pickle, yaml, msgpack or your own.", "CELERY_TASK_SERIALIZER"
    )
    RESULT_SERIALIZER: str = option("json", TEXT, "The serializer of what tasks return.", "CELERY_RESULT_SERIALIZER")
    ACCEPT_CONTENT: tuple[str, ...] = option(
        ("json",),
        SOME_NAMES,
        "The serializers, by name or content type, that a worker reads. Add pickle only if everyone who can write to"
        " the database may run code here.",
        "CELERY_ACCEPT_CONTENT",
    )
    RESULT_ACCEPT_CONTENT: tuple[str, ...] = option(
        None, optional(SOME_NAMES, "as ACCEPT_CONTENT"), "The serializers in which results are read."
    )
    TASK_COMPRESSION: str | None = option(
        None, optional(TEXT), "The compression of arguments: gzip, bzip2, lzma or zstd.", "CELERY_MESSAGE_COMPRESSION"
    )
    RESULT_COMPRESSION: str | None = option(
        None, optional(TEXT), "The compression of results: gzip, bzip2, lzma or zstd.", "CELERY_RESULT_COMPRESSION"
    )
    PAYLOAD_WARN_BYTES: int = option(1_000_000, _BYTES, "Arguments above this size, encoded, are logged as a warning.")
    PAYLOAD_MAX_BYTES: int = option(16_000_000, _BYTES, "Arguments above this size, encoded, are refused.")
    RESULT_WARN_BYTES: int = option(1_000_000, _BYTES, "A result above this size, encoded, is logged as a warning.")
    RESULT_MAX_BYTES: int = option(16_000_000, _BYTES, "A result above this size, encoded, makes its task fail.")
    DECOMPRESSED_MAX_BYTES: int = option(
        64_000_000, _BYTES, "What is compressed and would grow over this size is not read."
    )

    # -- where a message goes
    TASK_DEFAULT_QUEUE: str = option(
        "celery", QUEUE, "The queue of a call that nothing routes elsewhere.", "CELERY_DEFAULT_QUEUE"
    )
    TASK_QUEUES: dict[str, dict[str, Any]] | None = option(
        None,
        optional(QUEUES, "only the default queue"),
        "The queues a worker without -Q takes from: a list of names or of Queue objects, or a dict of name to options."
        " A call with a routing_key goes to the queue that has the key.",
        "CELERY_QUEUES",
    )
    TASK_ROUTES: Any = option(
        None,
        optional(ROUTES),
        "Task names to queues: a dict (exact names, globs, regular expressions), a list of pairs, a function, a dotted"
        " name, or a list of those; the first that answers wins.",
        "CELERY_ROUTES",
    )
    TASK_CREATE_MISSING_QUEUES: bool = option(
        True, FLAG, "Whether a call may name a queue that is not in TASK_QUEUES.", "CELERY_CREATE_MISSING_QUEUES"
    )
    TASK_DEFAULT_PRIORITY: int = option(
        None,
        optional(PRIORITY, "0"),
        "The priority of a call that names none; a higher one runs first.",
        "CELERY_DEFAULT_PRIORITY",
    )
    TASK_INHERIT_PARENT_PRIORITY: bool = option(
        False, FLAG, "Whether a task called by a task takes its priority.", "CELERY_INHERIT_PARENT_PRIORITY"
    )

    # -- how a task runs
    TASK_ALWAYS_EAGER: bool = option(
        False, FLAG, "Run each task where it is called instead of enqueueing it.", "CELERY_ALWAYS_EAGER"
    )
    TASK_EAGER_PROPAGATES: bool = option(
        False, FLAG, "Raise what an eager task raises.", "CELERY_EAGER_PROPAGATES_EXCEPTIONS"
    )
    TASK_STORE_EAGER_RESULT: bool = option(
        False, FLAG, "Store the results of eager tasks.", "CELERY_STORE_EAGER_RESULT"
    )
    TASK_ACKS_LATE: bool = option(
        False,
        FLAG,
        "What becomes of a task whose worker is lost while it runs: run again (True) or FAILURE WorkerLostError"
        " (False).",
        "CELERY_ACKS_LATE",
    )
    TASK_REJECT_ON_WORKER_LOST: bool | None = option(
        None,
        optional(FLAG, "as TASK_ACKS_LATE"),
        "False: a late-ack task whose worker is lost fails as WorkerLostError instead of running again.",
        "CELERY_REJECT_ON_WORKER_LOST",
    )
    TASK_MAX_CRASHES: int = option(
        3,
        whole(1),
        "How often a late-ack task is run again after its process was lost; at the next loss it fails as"
        " WorkerLostError.",
    )
    TASK_TIME_LIMIT: float | None = option(
        None, optional(LIMIT), "Seconds after which a task's process is killed.", "CELERYD_TASK_TIME_LIMIT"
    )
    TASK_SOFT_TIME_LIMIT: float | None = option(
        None,
        optional(LIMIT),
        "Seconds after which SoftTimeLimitExceeded is raised in a task.",
        "CELERYD_TASK_SOFT_TIME_LIMIT",
    )
    TASK_TRACK_STARTED: bool = option(
        False, FLAG, "Store the state STARTED when a task begins.", "CELERY_TRACK_STARTED"
    )
    ON_UNKNOWN_TASK: str = option(
        "requeue",
        one_of("requeue", "fail"),
        "What a worker does with a task whose name it does not know: leave it to workers that do, or fail it.",
    )
    IMPORTS: tuple[str, ...] = option((), NAMES, "Modules that a worker imports when it starts.", "CELERY_IMPORTS")
    INCLUDE: tuple[str, ...] = option((), NAMES, "More modules that a worker imports.", "CELERY_INCLUDE")

    # -- what a task leaves
    TASK_IGNORE_RESULT: bool = option(False, FLAG, "Store no results.", "CELERY_IGNORE_RESULT")
    TASK_STORE_ERRORS_EVEN_IF_IGNORED: bool = option(
        False, FLAG, "Store failures of tasks that ignore their results.", "CELERY_STORE_ERRORS_EVEN_IF_IGNORED"
    )
    RESULT_EXPIRES: timedelta | None = option(
        timedelta(days=1),
        optional(EXPIRES, "never"),
        "How long a result is kept, in seconds or as a timedelta; None or 0 keeps it.",
        "CELERY_TASK_RESULT_EXPIRES",
    )
    RESULT_EXTENDED: bool = option(
        False, FLAG, "Keep the arguments of tasks that succeeded with their results.", "CELERY_RESULT_EXTENDED"
    )

    # -- time
    TIMEZONE: tzinfo | None = option(
        None, optional(ZONE, "UTC"), "The zone in which schedules without one are read.", "CELERY_TIMEZONE"
    )
    ENABLE_UTC: bool = option(True, FLAG, "Whether a datetime without a zone is UTC, rather than in TIMEZONE.")

    def __post_init__(self) -> None:
        if self.RESULT_ACCEPT_CONTENT is None:
            object.__setattr__(self, "RESULT_ACCEPT_CONTENT", self.ACCEPT_CONTENT)
        if self.TASK_DEFAULT_PRIORITY is None:
            object.__setattr__(self, "TASK_DEFAULT_PRIORITY", 0)


_OWN = [each for each in fields(Settings) if each not in fields(WorkerSettings)]
FIELDS: dict[str, Field[Any]] = {each.name: each for each in (*_OWN, *fields(WorkerSettings))}
KINDS: dict[str, Kind] = {name: each.metadata["kind"] for name, each in FIELDS.items()}
#: Celery's old names to ours.
FORMERLY: dict[str, str] = {old: name for name, each in FIELDS.items() for old in each.metadata["formerly"]}


def describe() -> list[Entry]:
    """The documentation of every setting, in the order in which they are written."""
    defaults = Settings()
    return [
        Entry(
            name=name,
            type=str(getattr(each.type, "__name__", each.type)) if isinstance(each.type, type) else str(each.type),
            default=getattr(defaults, name),
            wants=KINDS[name].wants,
            help=each.metadata["help"],
            formerly=each.metadata["formerly"],
        )
        for name, each in FIELDS.items()
    ]
