"""The hooks: a thread that runs authors' code about tasks which the worker itself ended, or could not run.

A lost process, a hard time limit, an expiry, a revocation: no child is left to call `on_failure` and the receivers of
signals. It happens here, once the end is committed, and never on the thread that heartbeats or the one that claims.
E-mails about failures are sent from here, too. The thread is started by the first task that needs it.
"""

import logging
import queue
import threading
from collections.abc import Callable
from typing import Any, Final

from django.db import connections

from djtasks import mail, signals
from djtasks.current import Frame, pop, push
from djtasks.described import request_of
from djtasks.einfo import ExceptionInfo
from djtasks.exceptions import safe_repr
from djtasks.messages import Claimed, Outcome
from djtasks.payload import unpack_exception
from djtasks.registry import tasks
from djtasks.states import FAILURE, REVOKED
from djtasks.telling import as_many_as_fit, send_failure, tell
from djtasks.worker.hygiene import clean_connections, clean_up

logger = logging.getLogger("djtasks.worker")

#: How many ended tasks may wait for their hooks; of more, nobody is told.
MOST: Final = 10_000


class Hooks:
    """Tells of ended tasks, one after the other. `ended` and `failed` may be called from any thread."""

    def __init__(self, hostname: str) -> None:
        self.hostname = hostname
        self._inbox: queue.Queue[Callable[[], None] | None] = queue.Queue(MOST)
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._stopped = False

    def ended(self, message: Claimed, outcome: Outcome, terminated: bool = False, signum: int | None = None) -> None:
        """The worker itself has ended `message`, and that is committed. Costs nothing where nobody wants to know.

        `terminated` by the signal `signum`: it was revoked while it ran, and its process killed.
        """
        if outcome.state == REVOKED:
            if signals.task_revoked.receivers:
                self._post(lambda: self._tell_revoked(message, outcome, terminated, signum))
        elif outcome.state == FAILURE:
            task = tasks.get(message.name)
            if task is not None and (signals.task_failure.receivers or _has_handlers(task)):
                self._post(lambda: self._tell_failed(task, message, outcome))
            self.failed(message, outcome)

    def failed(self, message: Claimed, outcome: Outcome) -> None:
        """`message` has failed, and that is committed: send an e-mail if one is wanted."""
        if outcome.reported is not None:
            self._post(lambda: self._mail(message, outcome))

    def post(self, work: Callable[[], None]) -> None:
        """Call `work` on the thread, after what has been posted before."""
        self._post(work)

    def stop(self, seconds: float) -> None:
        """Do what has been posted, for so many seconds at the most, and no more."""
        with self._lock:
            self._stopped = True
            thread = self._thread
        if thread is not None:
            try:
                self._inbox.put(None, timeout=seconds)
            except queue.Full:
                return
            thread.join(seconds)
            if thread.is_alive():
                logger.warning("A hook or an e-mail takes too long; %d are given up", self._inbox.qsize())

    def _post(self, work: Callable[[], None]) -> None:
        with self._lock:
            if self._stopped:
                return
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="djtasks-hooks", daemon=True)
                self._thread.start()
        try:
            self._inbox.put_nowait(work)
        except queue.Full:
            logger.error("More than %d ended tasks wait for their hooks: nobody is told of another one", MOST)

    def _run(self) -> None:
        while (work := self._inbox.get()) is not None:
            try:
                clean_connections()
                work()
                clean_up()
            except BaseException as error:
                # An author's code may raise anything; the next task's is to be called all the same.
                logger.error("The hooks of an ended task raised %s", safe_repr(error), exc_info=True)
        connections.close_all()

    # -- on the thread --------------------------------------------------------------------------------------------

    def _tell_failed(self, task: Any, message: Claimed, outcome: Outcome) -> None:
        """What a child does after a failure: on_failure, after_return, task_failure."""
        request = request_of(message, self.hostname)
        frame = Frame(task, request, message, entered=True)
        push(frame)
        try:
            error = _error_of(outcome)
            einfo = ExceptionInfo(error)
            told = (error, request.id, request.args, request.kwargs, einfo)
            tell(frame, task.on_failure, *as_many_as_fit(task.on_failure, told))
            tell(frame, task.after_return, FAILURE.value, error, request.id, request.args, request.kwargs, None)
            if signals.task_failure.receivers:
                send_failure(frame, einfo)
        finally:
            pop(frame)

    def _tell_revoked(self, message: Claimed, outcome: Outcome, terminated: bool, signum: int | None) -> None:
        expired = not terminated and str(_error_of(outcome)) == "expired"
        signals.task_revoked.send(
            tasks.get(message.name) or message.name,
            request=request_of(message, self.hostname),
            terminated=terminated,
            signum=signum,
            expired=expired,
        )

    def _mail(self, message: Claimed, outcome: Outcome) -> None:
        try:
            mail.send(message, outcome, self.hostname)
        except Exception as error:
            logger.error("The e-mail about task %s[%s] was not sent: %s", message.name, message.id, safe_repr(error))


def _error_of(outcome: Outcome) -> BaseException:
    """The exception of an outcome that the worker made."""
    error = unpack_exception(outcome.result or b"", outcome.content_type, outcome.content_encoding)
    return error if isinstance(error, BaseException) else Exception(safe_repr(error))


def _has_handlers(task: Any) -> bool:
    return not (hasattr(task.on_failure, "does_nothing") and hasattr(task.after_return, "does_nothing"))
