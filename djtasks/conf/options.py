"""Every setting that acts: one entry is its name, its type, its default, what it may be, and its documentation."""

# ruff: noqa: RUF009 -- option() is dataclasses.field() with its metadata put together

from collections.abc import Mapping
from dataclasses import Field, dataclass, fields
from datetime import timedelta, tzinfo
from typing import Any

from djtasks.conf.beat_options import BeatSettings
from djtasks.conf.entries import Entry, option
from djtasks.conf.kinds import (
    ANNOTATIONS,
    EXPIRES,
    FLAG,
    LIMIT,
    NAMES,
    POLICY,
    PRIORITY,
    QUEUE,
    QUEUES,
    RATE,
    RETRY_POLICY,
    ROUTES,
    SOME_NAMES,
    TERM,
    TEXT,
    ZONE,
    Kind,
    one_of,
    optional,
    whole,
)

_BYTES = whole(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings(BeatSettings):
    """The settings of one process, checked and complete."""

    # -- the database and the enqueue
    DATABASE: str = option("default", TEXT, "The alias, in DATABASES, of the PostgreSQL database that holds the tasks.")
    ENQUEUE: str = option(
        "on_commit",
        one_of("on_commit", "in_transaction", "immediately"),
        "When a call made inside a transaction is written: after its commit, as a part of it, or at once whatever"
        " becomes of it. Only in_transaction promises that a crash right after the commit loses no task.",
    )
    READ_CELERY_SETTINGS: bool = option(
        True,
        FLAG,
        "Whether what Django's settings call CELERY_…, CELERYD_… and CELERYBEAT_… is read where DJTASKS says nothing;"
        " False where Celery itself runs in the same project.",
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
        "json",
        TEXT,
        "The serializer of arguments: json, pickle, yaml, msgpack, auth (signed) or your own.",
        "CELERY_TASK_SERIALIZER",
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
        None,
        optional(TEXT),
        "The compression of arguments: gzip, bzip2, lzma, zstd or brotli.",
        "CELERY_MESSAGE_COMPRESSION",
    )
    RESULT_COMPRESSION: str | None = option(
        None,
        optional(TEXT),
        "The compression of results: gzip, bzip2, lzma, zstd or brotli.",
        "CELERY_RESULT_COMPRESSION",
    )
    SECURITY_KEY: str | None = option(
        None,
        optional(TEXT),
        "The file of the private key (PEM, RSA or Ed25519) that signs calls, where TASK_SERIALIZER is auth.",
        "CELERY_SECURITY_KEY",
    )
    SECURITY_KEY_PASSWORD: str | None = option(
        None, optional(TEXT), "The password of that file.", "CELERY_SECURITY_KEY_PASSWORD"
    )
    SECURITY_CERTIFICATE: str | None = option(
        None, optional(TEXT), "The file of that key's X.509 certificate (PEM).", "CELERY_SECURITY_CERTIFICATE"
    )
    SECURITY_CERT_STORE: str | None = option(
        None,
        optional(TEXT),
        "The directory, or glob, of the certificates whose signatures are believed. Two of them while one is replaced.",
        "CELERY_SECURITY_CERT_STORE",
    )
    SECURITY_DIGEST: str = option(
        "sha256", one_of("sha256", "sha384", "sha512"), "The digest that RSA keys sign.", "CELERY_SECURITY_DIGEST"
    )
    SECURITY_SERIALIZER: str = option("json", TEXT, "The serializer of the arguments inside a signed call.")
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

    TASK_ALLOW_ERROR_CB_ON_CHORD_HEADER: bool = option(
        False,
        FLAG,
        "Whether what is linked to the failure of a chord is linked to the tasks of its header, too: it is then called"
        " for each of these that fails, and for the body.",
        "CELERY_ALLOW_ERROR_CB_ON_CHORD_HEADER",
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
    TASK_ACKS_ON_FAILURE: bool | None = option(
        None,
        optional(FLAG, "as TASK_ACKS_ON_FAILURE_OR_TIMEOUT"),
        "False: a late-ack task that fails becomes a dead letter.",
        "CELERY_ACKS_ON_FAILURE",
    )
    TASK_ACKS_ON_TIMEOUT: bool | None = option(
        None,
        optional(FLAG, "as TASK_ACKS_ON_FAILURE_OR_TIMEOUT"),
        "False: a late-ack task that is over its hard time limit runs again, TASK_MAX_CRASHES times at the most.",
        "CELERY_ACKS_ON_TIMEOUT",
    )
    TASK_ACKS_ON_FAILURE_OR_TIMEOUT: bool = option(
        True,
        FLAG,
        "What TASK_ACKS_ON_FAILURE and TASK_ACKS_ON_TIMEOUT are where they say nothing.",
        "CELERY_ACKS_ON_FAILURE_OR_TIMEOUT",
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
    TASK_DEFAULT_RATE_LIMIT: str | float | None = option(
        None,
        optional(RATE, "no limit"),
        "How often a worker starts a task that says nothing itself: '10/s', '10/m', '10/h' or a number a second.",
        "CELERY_DEFAULT_RATE_LIMIT",
    )
    TASK_TRACK_STARTED: bool = option(
        False, FLAG, "Store the state STARTED when a task begins.", "CELERY_TRACK_STARTED"
    )
    TASK_ANNOTATIONS: Any = option(
        None,
        optional(ANNOTATIONS),
        "Values for the options of tasks that are defined elsewhere: a dict of a task's name, or '*', to options; an"
        " object with annotate(task) and annotate_any(), its dotted name, or a list of these.",
        "CELERY_ANNOTATIONS",
    )
    ON_UNKNOWN_TASK: str = option(
        "requeue",
        one_of("requeue", "fail"),
        "What a worker does with a task whose name it does not know: leave it to workers that do, or fail it.",
    )
    IMPORTS: tuple[str, ...] = option((), NAMES, "Modules that a worker imports when it starts.", "CELERY_IMPORTS")
    INCLUDE: tuple[str, ...] = option((), NAMES, "More modules that a worker imports.", "CELERY_INCLUDE")

    HTTP_TASK_HOSTS: tuple[str, ...] = option(
        (),
        NAMES,
        "The hosts that the task djtasks.http.request may call: names, globs (*.example.com), either with a port, and"
        " addresses or networks, which those must be that are not public.",
    )
    HTTP_TASK_MAX_BYTES: int = option(1_000_000, _BYTES, "An answer above this size makes djtasks.http.request fail.")

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
    DEAD_LETTER_EXPIRES: timedelta | None = option(
        None,
        optional(EXPIRES, "never"),
        "How long a dead letter is kept: what was rejected, or could not be run; None or 0 keeps it.",
    )
    REVOCATION_EXPIRES: timedelta = option(
        timedelta(hours=3),
        TERM,
        "How long a revocation is kept, in seconds or as a timedelta: a task that comes, or comes back, later than"
        " that runs.",
    )
    COMMAND_EXPIRES: timedelta = option(
        timedelta(days=7),
        TERM,
        "How long what workers were told, and what they answered, is kept to be read in the admin.",
    )
    RESULT_EXTENDED: bool = option(
        False, FLAG, "Keep the arguments of tasks that succeeded with their results.", "CELERY_RESULT_EXTENDED"
    )
    TASK_REMOTE_TRACEBACKS: bool = option(
        False,
        FLAG,
        "Whether an exception that AsyncResult.get() raises has the traceback of its worker as its cause.",
        "CELERY_REMOTE_TRACEBACKS",
    )

    # -- time
    TIMEZONE: tzinfo | None = option(
        None, optional(ZONE, "UTC"), "The zone in which schedules without one are read.", "CELERY_TIMEZONE"
    )
    ENABLE_UTC: bool = option(True, FLAG, "Whether a datetime without a zone is UTC, rather than in TIMEZONE.")

    def __post_init__(self) -> None:
        if self.RESULT_ACCEPT_CONTENT is None:
            # Calls are signed, results are not.
            names = tuple(name for name in self.ACCEPT_CONTENT if name != "auth") or ("json",)
            object.__setattr__(self, "RESULT_ACCEPT_CONTENT", names)
        if self.TASK_DEFAULT_PRIORITY is None:
            object.__setattr__(self, "TASK_DEFAULT_PRIORITY", 0)


_OWN = [each for each in fields(Settings) if each not in fields(BeatSettings)]
FIELDS: dict[str, Field[Any]] = {each.name: each for each in (*_OWN, *fields(BeatSettings))}
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
