"""`Task.Request`: a class of a task's author that is told, in the worker's own process, what becomes of its calls."""

import logging
import os
import time
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any

from django.utils.module_loading import import_string

from djtasks.einfo import ExceptionInfo
from djtasks.exceptions import TimeLimitExceeded, safe_repr
from djtasks.messages import Claimed, Outcome
from djtasks.payload import unpack_exception, unpack_value
from djtasks.states import FAILURE, RETRY, SUCCESS
from djtasks.worker.pools.base import Job
from djtasks.worker.receiving import Request

logger = logging.getLogger("djtasks.worker")

#: More requests than this are looked through for those that are not held any more.
_MOST = 5_000
Post = Callable[[Callable[[], None]], None]


class Requests:
    """Tells the requests of tasks that have a class for them; `post` runs what it is given, in order, elsewhere."""

    def __init__(self, tasks: Mapping[str, Any], hostname: str, held: Container[int], post: Post) -> None:
        """`held` are the claims in the worker's hands."""
        self._hostname = hostname
        self._held = held
        self._post = post
        self._live: dict[int, Request] = {}
        self.classes: dict[str, type[Request]] = {}
        for name, task in tasks.items():
            if getattr(task, "Request", None) is not None:
                self.classes[name] = _class_of(name, task.Request)

    def accepted(self, jobs: Sequence[Job]) -> None:
        """These are going to the pool."""
        if len(self._live) > _MOST:
            # What was given back has not ended.
            self._live = {claim: request for claim, request in self._live.items() if claim in self._held}
        for job in jobs:
            made = self.classes.get(job.message.name)
            if made is not None:
                request = self._live[job.message.claim] = made(job, self._hostname)
                self._tell(request.on_accepted, os.getpid(), time.time())

    def ended(self, message: Claimed, outcome: Outcome) -> None:
        """A run of `message` has ended."""
        request = self._live.pop(message.claim, None)
        if request is None:
            return
        if outcome.state == SUCCESS:
            # Nothing is kept of a result that is ignored.
            body = outcome.result
            value = None if body is None else unpack_value(body, outcome.content_type, outcome.content_encoding)
            self._tell(request.on_success, (False, safe_repr(value), outcome.runtime))
        elif outcome.state in (FAILURE, RETRY):
            error = _error_of(outcome)
            if isinstance(error, TimeLimitExceeded):
                self._tell(request.on_timeout, False, request.time_limits[0])
            self._tell(request.on_failure if outcome.state == FAILURE else request.on_retry, ExceptionInfo(error))

    def _tell(self, method: Callable[..., Any], *arguments: Any) -> None:
        self._post(lambda: _call(method, arguments))


def _call(method: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    try:
        method(*arguments)
    except Exception as error:
        logger.error("%s of a task's Request raised %s", method.__name__, safe_repr(error), exc_info=True)


def _class_of(name: str, given: Any) -> type[Request]:
    made = import_string(given.replace(":", ".")) if isinstance(given, str) else given
    if not isinstance(made, type) or not issubclass(made, Request):
        raise TypeError(f"the Request of the task {name!r} must be a class made from {Request.__module__}.Request")
    return made


def _error_of(outcome: Outcome) -> BaseException:
    if outcome.result is None:
        return Exception(outcome.traceback or outcome.state)
    error = unpack_exception(outcome.result, outcome.content_type, outcome.content_encoding)
    return error if isinstance(error, BaseException) else Exception(safe_repr(error))
