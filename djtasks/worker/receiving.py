"""What is said of messages that have come to this worker: a log line each, and the signal task_received."""

import logging
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from djtasks import masking, signals
from djtasks.conf import settings
from djtasks.current import Context
from djtasks.described import request_of
from djtasks.einfo import ExceptionInfo
from djtasks.exceptions import NotRegistered, safe_repr
from djtasks.messages import Claimed
from djtasks.payload import headers_of
from djtasks.registry import tasks
from djtasks.worker.pools.base import Job

logger = logging.getLogger("djtasks.worker")


class Request:
    """A message in a worker's hands, as the receivers of `task_received` see it.

    What its body and its headers say is decoded when it is first asked for; `args` and `kwargs` are None when they
    cannot be. It has what `self.request` has inside of the task, and the task itself in `task`.
    """

    def __init__(self, job: Job, hostname: str) -> None:
        self.message: Claimed = job.message
        self.hostname = hostname
        #: [hard, soft] seconds that will be kept.
        self.time_limits = (job.hard, job.soft)
        self._context: Context | None = None

    @property
    def context(self) -> Context:
        """What will be `self.request`."""
        if self._context is None:
            self._context = request_of(self.message, self.hostname)
        return self._context

    @property
    def name(self) -> str:
        """The name of the task; a call's `shadow` beats it, as in the log."""
        return str(self.context.shadow or self.message.name)

    @property
    def task(self) -> Any:
        """The task, or None where it is not known here."""
        return tasks.get(self.message.name)

    @property
    def task_name(self) -> str:
        """The name of the task."""
        return self.message.name

    type = task_name

    @property
    def task_id(self) -> str:
        """The id."""
        return str(self.context.id)

    @property
    def app(self) -> Any:
        """The app."""
        return getattr(self.task, "app", None)

    @property
    def eta(self) -> datetime | None:
        """When it may run."""
        return _datetime(self.message.eta)

    @property
    def expires(self) -> datetime | None:
        """When it will be too late to run it."""
        return _datetime(self.message.expires)

    @property
    def request_dict(self) -> dict[str, Any]:
        """All that is known of the request."""
        return dict(vars(self.context))

    @property
    def body(self) -> bytes:
        """The body as it was sent."""
        return self.message.body

    def info(self) -> dict[str, Any]:
        """The request in short, without what is sensitive."""
        context = self.context
        args, kwargs = masking.mask(context.sensitive, context.args, context.kwargs)
        return {
            "id": self.task_id,
            "name": self.name,
            "args": args,
            "kwargs": kwargs,
            "type": self.task_name,
            "hostname": self.hostname,
            "delivery_info": context.delivery_info,
        }

    # -- for the `Request` of a task to override: called in the worker's own process, what they return means nothing

    def on_accepted(self, pid: int, time_accepted: float) -> None:
        """It goes to the pool of the worker `pid`."""

    def on_timeout(self, soft: bool, timeout: float | None) -> None:
        """Its hard time limit of so many seconds is over; `on_failure` follows. Of soft limits nothing is said."""

    def on_success(self, failed__retval__runtime: tuple[bool, str, float], **kwargs: Any) -> None:
        """It has succeeded: False, the repr of what it returned, and seconds."""

    def on_failure(self, exc_info: ExceptionInfo, send_failed_event: bool = True, return_ok: bool = False) -> None:
        """It has failed, or was lost with its process."""

    def on_retry(self, exc_info: ExceptionInfo) -> None:
        """It is to run again."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.context, name)

    def __repr__(self) -> str:
        return f"<Request: {self.message.name}[{self.message.id}]>"


def tell_received(jobs: Sequence[Job], sender: Any, hostname: str) -> None:
    """Log that these have been received, and tell the receivers of the signal; `sender` is the consumer."""
    if logger.isEnabledFor(logging.INFO):
        for job in jobs:
            data = _data(job.message)
            logger.info("Task %(name)s[%(id)s] received", data, extra={"data": data})
    if signals.task_received.receivers:
        for job in jobs:
            signals.task_received.send(sender=sender, request=Request(job, hostname))


def tell_unknown(message: Claimed, sender: Any, stays: bool) -> None:
    """Log that the task of the message is not known here, and tell the receivers of the signal.

    `stays` says that the message stays in its queue.
    """
    logger.error(
        "Received unregistered task of type %r [%s]. Is the module with it imported in this worker? Tasks are found"
        " in the tasks.py of each of INSTALLED_APPS; other modules belong into the IMPORTS setting. %s",
        message.name,
        message.id,
        "It stays in its queue for a worker that knows it." if stays else "It ends as NotRegistered.",
    )
    if signals.task_unknown.receivers:
        unknown = NotRegistered(message.name)
        signals.task_unknown.send(sender=sender, message=message, exc=unknown, name=message.name, id=message.id)


def _data(message: Claimed) -> dict[str, Any]:
    """What the line about a message may name. The body is decoded only where arguments may stand in the log."""
    data: dict[str, Any] = {"id": message.id, "name": message.name, "eta": message.eta}
    text = message.headers
    if text is not None and ('"shadow"' in text or '"argsrepr"' in text or '"kwargsrepr"' in text):
        said = headers_of(text)
        data["name"] = said.get("shadow") or message.name
        data |= {key: said[name] for key, name in (("args", "argsrepr"), ("kwargs", "kwargsrepr")) if name in said}
    if settings.LOG_ARGUMENTS:
        found = request_of(message, "")
        args, kwargs = masking.mask(found.sensitive, found.args, found.kwargs)
        data.setdefault("args", safe_repr(args))
        data.setdefault("kwargs", safe_repr(kwargs))
    return data


def _datetime(moment: float | None) -> datetime | None:
    try:
        return None if moment is None else datetime.fromtimestamp(moment, UTC)
    except (OverflowError, ValueError, OSError):
        return None
