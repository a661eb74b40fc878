"""Celery's signals, as Django signals.

They differ from Django's own in what Celery's users expect of them: `send` never raises what a receiver raises (it is
logged by `django.dispatch`), `connect` is a decorator with or without options, and a sender may be a task's name.
Senders: the task's name for the publish signals, the task for `task_*`, and what the comment says for the others.
"""

import functools
import logging
import time
from collections.abc import Callable, Hashable
from typing import Any, TypeVar, overload

import django.dispatch
from django.dispatch.dispatcher import _make_id  # type: ignore[attr-defined]

from djtasks.exceptions import SoftTimeLimitExceeded

logger = logging.getLogger("djtasks")

#: How long a receiver that is to be called again rests, in seconds.
_WAITS = (2, 4, 6, 8, 10)
Receiver = TypeVar("Receiver", bound=Callable[..., Any])


class Signal(django.dispatch.Signal):
    """A signal whose receivers cannot break its sender."""

    def __init__(self) -> None:
        super().__init__()
        # Django tells senders apart by identity; equal texts have to be one object to be the same sender.
        self._names: dict[str, str] = {}

    @overload  # type: ignore[override]
    def connect(
        self,
        receiver: Receiver,
        sender: object = None,
        weak: bool = True,
        dispatch_uid: Hashable | None = None,
        retry: bool = False,
    ) -> Receiver: ...

    @overload
    def connect(
        self,
        receiver: None = None,
        sender: object = None,
        weak: bool = True,
        dispatch_uid: Hashable | None = None,
        retry: bool = False,
    ) -> Callable[[Receiver], Receiver]: ...

    def connect(
        self,
        receiver: Receiver | None = None,
        sender: object = None,
        weak: bool = True,
        dispatch_uid: Hashable | None = None,
        retry: bool = False,
    ) -> Receiver | Callable[[Receiver], Receiver]:
        """Call `receiver(signal=, sender=, **arguments)` when the signal is sent; it must take **kwargs.

        With `sender`, only when that one sends it. Returns the receiver; without one, a decorator. A function that
        nothing else holds is forgotten unless `weak` is False. The same `dispatch_uid` connects once. With `retry` one
        that raises is called again after 2 seconds, and so on, five times, while its sender waits.
        """
        if isinstance(sender, str):
            sender = self._names.setdefault(sender, sender)

        def connect(receiver: Receiver) -> Receiver:
            if not callable(receiver):
                raise TypeError(f"a signal's receiver must be callable, not {receiver!r}")
            if retry:
                # Under the receiver's own key, so that disconnect() finds it.
                key = _make_id(receiver) if dispatch_uid is None else dispatch_uid
                super(Signal, self).connect(_stubborn(receiver), sender, False, key)
            else:
                super(Signal, self).connect(receiver, sender, weak, dispatch_uid)
            return receiver

        return connect if receiver is None else connect(receiver)

    def disconnect(
        self,
        receiver: Callable[..., Any] | None = None,
        sender: object = None,
        dispatch_uid: Hashable | None = None,
    ) -> bool:
        """Undo a `connect` that was made with the same arguments. Whether there was one."""
        return bool(super().disconnect(receiver, self._sender(sender), dispatch_uid))

    def has_listeners(self, sender: Any = None) -> bool:
        """Whether anything would be called if `sender` sent the signal."""
        return bool(super().has_listeners(self._sender(sender)))

    def send(self, sender: Any, **arguments: Any) -> list[tuple[Callable[..., Any], Any]]:
        """Call the receivers; each with what it returned, or with the exception it raised, which is also logged.

        Raises nothing of theirs but SoftTimeLimitExceeded.
        """
        return self.send_robust(sender, **arguments)

    def send_robust(self, sender: Any, **arguments: Any) -> list[tuple[Callable[..., Any], Any]]:
        """The same as `send`."""
        answers = super().send_robust(self._sender(sender), **arguments)
        for _receiver, answer in answers:
            # It was not the receiver that failed: the task's time was up while it was called.
            if isinstance(answer, SoftTimeLimitExceeded):
                raise answer
        return answers

    def _sender(self, sender: Any) -> Any:
        return self._names.get(sender, sender) if isinstance(sender, str) else sender


def _stubborn(receiver: Callable[..., Any]) -> Callable[..., Any]:
    """Calls the receiver again when it raises, a little later each time; raises what it raises in the end."""

    @functools.wraps(receiver)
    def call(**arguments: Any) -> Any:
        for wait in _WAITS:
            try:
                return receiver(**arguments)
            except SoftTimeLimitExceeded:
                raise
            except Exception as error:
                logger.warning("The receiver %s raised %r; it is called again in %s s", receiver, error, wait)
            time.sleep(wait)
        return receiver(**arguments)

    return call


# -- a call, in the process that makes it; the sender is the task's name ------------------------------------------

#: body, headers (may be changed), properties, exchange, routing_key, declare, retry_policy
before_task_publish = Signal()
#: headers, body, exchange, routing_key; once the call has been handed on, which may be before its commit
after_task_publish = Signal()
#: Celery's old name for after_task_publish: task_id, task, args, kwargs, eta, taskset
task_sent = Signal()

# -- a task, in the process that runs it; the sender is the task --------------------------------------------------

#: task_id, task, args, kwargs
task_prerun = Signal()
#: task_id, task, args, kwargs, retval, state
task_postrun = Signal()
#: result
task_success = Signal()
#: request, reason, einfo
task_retry = Signal()
#: task_id, exception, args, kwargs, traceback, einfo; sent by the worker itself when the process was lost
task_failure = Signal()
#: task_id, args, kwargs, request, exception, traceback, einfo
task_internal_error = Signal()

# -- a task, in the worker's own process --------------------------------------------------------------------------

#: request (`djtasks.worker.receiving.Request`); the sender is the consumer
task_received = Signal()
#: request, terminated, signum, expired; the sender is the task, or its name where it is not known
task_revoked = Signal()
#: message (`djtasks.messages.Claimed`), exc: it cannot be read; the sender is the consumer
task_rejected = Signal()
#: message, exc, name, id; the sender is the consumer
task_unknown = Signal()

# -- a worker -----------------------------------------------------------------------------------------------------

#: instance, conf, options; the sender is the worker's name, before anything is set up
celeryd_init = Signal()
#: instance, conf; the sender is the worker's name, once its queues are known
celeryd_after_setup = Signal()
#: the sender is whoever has modules imported; what a receiver raises is raised
import_modules = Signal()
#: the sender is the worker, before it starts
worker_init = Signal()
#: the sender is the pool, in the worker's process, before its fork server is told to make a child
worker_before_create_process = Signal()
#: in each child, when it starts
worker_process_init = Signal()
#: pid, exitcode; in each child, when it ends
worker_process_shutdown = Signal()
#: the sender is the consumer
worker_ready = Signal()
#: sig, how ("Warm" or "Cold"), exitcode; the sender is the worker's name
worker_shutting_down = Signal()
#: the sender is the worker
worker_shutdown = Signal()
#: the sender is the consumer, when it hears that the heartbeat was written
heartbeat_sent = Signal()

# -- the log; the sender is None ----------------------------------------------------------------------------------

#: loglevel, logfile, format, colorize; a receiver takes the place of the worker's own set-up
setup_logging = Signal()
#: logger, loglevel, logfile, format, colorize
after_setup_logger = Signal()
#: logger, loglevel, logfile, format, colorize
after_setup_task_logger = Signal()

# -- beat; the sender is the service ------------------------------------------------------------------------------

beat_init = Signal()
beat_embedded_init = Signal()

# -- green pools; the sender is the pool --------------------------------------------------------------------------

eventlet_pool_started = Signal()
eventlet_pool_preshutdown = Signal()
eventlet_pool_postshutdown = Signal()
#: target, args, kwargs
eventlet_pool_apply = Signal()

# -- the command line ---------------------------------------------------------------------------------------------

#: app, options; the sender is the app
user_preload_options = Signal()
