"""The options of a task: the attributes that its class may set, and that the decorator takes as arguments."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from djtasks import exceptions


class Options:
    """What a task says of itself. None means as the settings say."""

    #: What its messages say: unique, and the same in the caller and in the worker.
    name: str = ""
    #: Check a call's arguments against the signature, in the caller.
    typing: bool = True
    #: Times it may be run again after the first; None: for ever.
    max_retries: int | None = 3
    #: Seconds before a retry that does not say when.
    default_retry_delay: float = 180
    autoretry_for: tuple[type[BaseException], ...] = ()
    dont_autoretry_for: tuple[type[BaseException], ...] = ()
    retry_kwargs: Mapping[str, Any] = {}
    #: Wait longer each time: True, or the seconds of the first wait.
    retry_backoff: bool | float = False
    #: Seconds, at most.
    retry_backoff_max: float = 600
    #: Wait a random time up to that.
    retry_jitter: bool = True
    #: How often a worker starts it: "10/s", "10/m", "10/h", or a number a second; None: as the settings say.
    rate_limit: str | float | None = None
    #: How often all workers together start it, or those of one key.
    global_rate_limit: str | float | None = None
    #: A text with fields as {0} or {name}, or a function of the arguments: calls of one key share the rate.
    global_rate_key: Any = None
    #: As `global_rate_key`: of the calls of one key only `max_concurrency` run at a time, over all workers.
    concurrency_key: Any = None
    #: None: 1, where there is a key.
    max_concurrency: int | None = None
    #: At most one call with the same arguments waits or runs at a time.
    unique: bool | None = None
    #: As `unique`, with a key of one's own.
    unique_key: Any = None
    #: What becomes of another call: "return" the task that is there, "replace" it, or "raise" TaskAlreadyQueued.
    on_conflict: str | None = None
    #: Seconds.
    time_limit: float | None = None
    soft_time_limit: float | None = None
    ignore_result: bool | None = None
    #: Keep the arguments of its calls with their results, those of successes too; None: as RESULT_EXTENDED.
    result_extended: bool | None = None
    store_errors_even_if_ignored: bool | None = None
    serializer: str | None = None
    compression: str | None = None
    acks_late: bool | None = None
    acks_on_failure: bool | None = None
    acks_on_timeout: bool | None = None
    acks_on_failure_or_timeout: bool | None = None
    reject_on_worker_lost: bool | None = None
    #: Its work in the database and its end are one transaction. True, or the alias of the database of that work.
    atomic: bool | str = False
    track_started: bool | None = None
    #: Exceptions that are no surprise: logged in one line at INFO. The state is FAILURE all the same.
    throws: tuple[type[BaseException], ...] = ()
    #: Parameters whose values nobody may read in logs, mails, tracebacks and the admin; True for all.
    sensitive: Any = ()
    #: Whether ADMINS get an e-mail when it fails; None: as TASK_ERROR_EMAILS says.
    error_emails: bool | None = None
    expires: float | timedelta | datetime | None = None
    priority: int | None = None
    queue: Any = None
    routing_key: str | None = None
    exchange: Any = None
    #: "on_commit", "in_transaction" or "immediately".
    enqueue: str | None = None
    #: When it is to run again and again: seconds, a timedelta, `schedule`, `crontab`, `solar`, `clocked`, or a dict as
    #: an entry of BEAT_SCHEDULE is.
    schedule: Any = None
    trail: bool = True
    send_events: bool = True
    #: Characters of the result in a log line.
    resultrepr_maxsize: int = 1024
    abstract: bool = True

    #: What stores its result: there is one place.
    backend: Any = None
    exchange_type: str | None = None
    delivery_mode: Any = None
    #: A class (or its dotted name) made from `djtasks.worker.receiving.Request`, which is told in the worker itself.
    Request: Any = None
    Strategy: Any = None

    MaxRetriesExceededError = exceptions.MaxRetriesExceededError
    OperationalError = exceptions.OperationalError
