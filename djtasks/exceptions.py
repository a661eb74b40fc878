"""Every error a user can meet, in one family tree.

Names are Celery's wherever Celery has the error; the docstring of each class is its default message.
"""

import datetime
from typing import Any, NoReturn


class DjtasksError(Exception):
    """Something went wrong in djtasks."""

    def __str__(self) -> str:
        return super().__str__() or (self.__doc__ or "").strip().splitlines()[0]


#: Celery's name for it.
CeleryError = DjtasksError


class CeleryWarning(UserWarning):
    """Something is probably not meant as it stands."""


class AlwaysEagerIgnored(CeleryWarning, RuntimeWarning):
    """`send_task()` enqueues although TASK_ALWAYS_EAGER is on."""


class DuplicateNodenameWarning(CeleryWarning):
    """Several workers have the same name."""


class DuplicateTaskNameWarning(CeleryWarning):
    """Two functions want to be the task of one name."""


class FixupWarning(CeleryWarning):
    """Something could not be fitted to its surroundings."""


class NotConfigured(CeleryWarning):
    """There are no settings."""


class SecurityWarning(CeleryWarning):
    """Something is done that could be unsafe."""


class CDeprecationWarning(DeprecationWarning):
    """This will go away."""


class CPendingDeprecationWarning(PendingDeprecationWarning):
    """This will go away one day."""


class ImproperlyConfigured(DjtasksError):
    """A setting or an option does not fit."""


class SecurityError(DjtasksError):
    """Something was refused because it could be unsafe."""


class OperationalError(DjtasksError):
    """The database could not be reached or did not answer."""


class EnqueueUncertain(OperationalError):
    """The database's answer to an enqueue was lost, and whether the task was accepted cannot be told."""


# -- what can be wrong with a call --------------------------------------------------------------------------------


class TaskError(DjtasksError):
    """A task could not be called or run."""


class NotRegistered(KeyError, TaskError):
    """No task of this name is registered."""

    def __str__(self) -> str:
        return f"{self.args[0]!r}" if self.args else "No task of this name is registered."


class AlreadyRegistered(TaskError):
    """Another task has this name."""


class InvalidTaskError(TaskError):
    """The message of the task is malformed."""


class IncompleteStream(TaskError):
    """The end of a stream of data was not found."""


class TaskAlreadyQueued(TaskError):
    """A task with this unique key waits or runs already."""

    def __init__(self, name: str = "", key: str = "", task_id: str = "") -> None:
        super().__init__(name, key, task_id)
        self.name, self.key = name, key
        #: The task that has the key.
        self.task_id = task_id

    def __str__(self) -> str:
        return f"{self.name}: the task {self.task_id} has the unique key {self.key!r}, and waits or runs"


class QueueNotFound(KeyError, TaskError):
    """The queue is not in TASK_QUEUES, and TASK_CREATE_MISSING_QUEUES is off."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else str(self.__doc__)


class EncodeError(TaskError):
    """A value could not be turned into bytes by its serializer."""


class DecodeError(TaskError):
    """Bytes could not be turned back into a value."""


class ContentDisallowed(SecurityError, DecodeError):
    """The content type is not in ACCEPT_CONTENT, so the body was not read."""


class PayloadTooLarge(EncodeError):
    """A payload or a result is over the size limit."""


class NotEnqueuedYet(TaskError, RuntimeError):
    """The task waits for this very transaction's commit, so its result can never come while you wait here."""


# -- how a task ends ----------------------------------------------------------------------------------------------


class TaskPredicate(DjtasksError):
    """Raised in a task to steer what becomes of it; not an error."""


class Ignore(TaskPredicate):
    """The task wants no state of its own to be stored."""


class Reject(TaskPredicate):
    """The task does not want its message: `requeue=True` puts it back, False makes it a dead letter."""

    def __init__(self, reason: Any = None, requeue: bool = False) -> None:
        self.reason = reason
        self.requeue = requeue
        super().__init__(reason, requeue)

    def __str__(self) -> str:
        return f"reject requeue={self.requeue}: {self.reason}"


class Retry(TaskPredicate):
    """The task is to be run again later."""

    def __init__(
        self,
        message: str | None = None,
        exc: BaseException | str | None = None,
        when: float | datetime.datetime | None = None,
        is_eager: bool = False,
        sig: Any = None,
        **kwargs: Any,
    ) -> None:
        self.message = message
        self.exc = None if isinstance(exc, str) else exc
        self.excs = exc if isinstance(exc, str) else (None if exc is None else safe_repr(exc))
        self.when = when
        self.is_eager = is_eager
        self.sig = sig
        super().__init__(message, exc, when, **kwargs)

    def humanize(self) -> str:
        """When the task is to run: «in 5s» or «at 2030-01-01 00:00:00+00:00»."""
        return f"in {self.when}s" if isinstance(self.when, int | float) else f"at {self.when}"

    def __str__(self) -> str:
        if self.message:
            return self.message
        return f"Retry {self.humanize()}" + (f": {self.excs}" if self.excs else "")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.message, self.exc or self.excs, self.when)


class MaxRetriesExceededError(TaskError):
    """The task has been retried as often as it may."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.task_args = kwargs.pop("task_args", [])
        self.task_kwargs = kwargs.pop("task_kwargs", {})
        super().__init__(*args)


class TaskRevokedError(TaskError):
    """The task was revoked; its code never ran, or was stopped."""


class WorkerLostError(DjtasksError):
    """The process that ran the task ended too early: the task may or may not have run."""


class Terminated(DjtasksError):
    """The process that ran the task was told to end."""


class TimeLimitExceeded(DjtasksError):
    """The task ran longer than its hard time limit and was killed."""


class SoftTimeLimitExceeded(Exception):
    """The task ran longer than its soft time limit; clean up and return."""

    def __str__(self) -> str:
        return f"SoftTimeLimitExceeded{self.args}"


class BackendError(DjtasksError):
    """The database of the results could not do what it was asked."""


class BackendGetMetaError(BackendError):
    """The state of the task could not be read."""


class BackendStoreError(BackendError):
    """The state of the task could not be stored."""


class RemoteTraceback(Exception):
    """What the traceback was where a task ran: the cause of its exception here, with TASK_REMOTE_TRACEBACKS."""

    def __str__(self) -> str:
        return f"in the worker\n{self.args[0]}"


class TimeoutError(TaskError):  # noqa: A001 -- Celery's name
    """The operation timed out."""


class ChordError(DjtasksError):
    """A task of the chord's header failed, so its body did not run."""


# -- how a worker ends --------------------------------------------------------------------------------------------


class CeleryCommandException(DjtasksError):
    """A command failed; `exit_code` is what its process ends with."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        self.exit_code = exit_code
        super().__init__(message)


class WorkerShutdown(SystemExit):
    """The worker is to stop after what it has in hand."""


class WorkerTerminate(SystemExit):
    """The worker is to stop at once."""


#: What ends the process rather than the task, wherever it is raised.
FATAL = (KeyboardInterrupt, WorkerShutdown, WorkerTerminate)


def reraise(tp: type[BaseException], value: BaseException, tb: Any = None) -> NoReturn:
    """Raise `value`, with this traceback where it has another one."""
    raise value if value.__traceback__ is tb else value.with_traceback(tb)


def safe_repr(value: object, limit: int = 1024) -> str:
    """`repr(value)`, cut to `limit` characters, for objects whose `__repr__` may raise. Raises what is FATAL."""
    try:
        text = repr(value)
    except FATAL:
        raise
    except BaseException as error:
        text = f"<{type(value).__name__} object: its repr raised {type(error).__name__}>"
    return text if len(text) <= limit else text[: limit - 3] + "..."
