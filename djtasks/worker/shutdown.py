"""How a worker ends: what a signal notes, and what the consumer's turn then makes of it.

    TERM         warm: takes nothing more, ends what runs, exits 0
    INT          warm the first time (exit 1), cold the second time
    QUIT         cold: gives what runs WORKER_SOFT_SHUTDOWN_TIMEOUT seconds, then kills it, exits 1
    HUP          warm, then starts anew in the same process; not on a terminal

Whatever has not begun is given back at once; what is killed runs again or fails by its acknowledgement.
"""

import logging
import math
import signal
import threading
import time
from types import FrameType

from djtasks import signals
from djtasks.conf import settings
from djtasks.exceptions import WorkerTerminate
from djtasks.worker import signalling
from djtasks.worker.banner import say
from djtasks.worker.consumer import Consumer
from djtasks.worker.options import WorkerOptions

logger = logging.getLogger("djtasks.worker")

EX_OK, EX_FAILURE = 0, 1
#: How long a lost database is given to come back while the worker stops (seconds).
DATABASE_END = 30.0


class Shutdown:
    """The end of one worker. Its handlers run in the main thread, between any two steps of the consumer."""

    def __init__(self, options: WorkerOptions, consumer: Consumer, *, embedded: bool = False) -> None:
        self.options = options
        self.consumer = consumer
        self.pool = consumer.pool
        self.embedded = embedded
        self.exitcode = EX_OK
        #: It stops because its pool is worn out, or at a HUP, and for no other reason.
        self.replaces = False
        self._stopping_at: float | None = None
        self._kill_at: float | None = None
        #: It was told to end what runs, not only to wait for it.
        self._cold = False

    @property
    def stopping(self) -> bool:
        """Whether it has been told to stop."""
        return self._stopping_at is not None

    # -- in the consumer's turn -----------------------------------------------------------------------------------

    def over(self) -> bool:
        """Go on with the end, if there is to be one; True once nothing is left to wait for."""
        if self.pool.worn_out and self._stopping_at is None:
            self._replace()
        return self._stopping_at is not None and not self._keeps_waiting()

    def leave(self, code: object) -> None:
        """A task of the solo pool was broken off by WorkerShutdown or WorkerTerminate, with this exit code."""
        self.exitcode = max(self.exitcode, code if isinstance(code, int) else EX_OK)
        self._kill()

    def _replace(self) -> None:
        """The pool holds what it cannot end: this process ends the rest of its tasks, and starts anew."""
        logger.warning("A task runs on past its hard time limit: the worker ends the others, and replaces its process")
        self.replaces = True
        self._stopping_at = time.monotonic()
        self.consumer.accepting = False
        self.consumer.release_unstarted()

    def _keeps_waiting(self) -> bool:
        """While stopping: kill what overruns its time; give up on a database that does not come back."""
        now = time.monotonic()
        if self._kill_at is not None and now >= self._kill_at:
            if not self._cold and self.pool.busy:
                logger.warning("What runs did not end within %g seconds: it is killed", self.options.shutdown_timeout)
                self.exitcode = EX_FAILURE
            self._kill()
        if self.pool.busy or self.consumer.database.connected:
            self._stopping_at = now
        elif self._stopping_at is not None and now - self._stopping_at > DATABASE_END:
            logger.error("The database did not come back; what this worker held is left to another one's rescue")
            self.exitcode = EX_FAILURE
            return False
        return True

    def _kill(self) -> None:
        """End what runs, now."""
        self._kill_at = None
        self.consumer.wake_at, self.consumer.stays_until = math.inf, -math.inf
        self.consumer.accepting = False
        self.consumer.intake.killing = True
        self.pool.kill()

    # -- signals --------------------------------------------------------------------------------------------------

    def handlers(self) -> dict[signal.Signals, signalling.Handler]:
        """What it does at which signal."""
        found: dict[signal.Signals, signalling.Handler] = {
            signal.SIGTERM: self.on_quit if signalling.term_is_quit() else self.on_term,
            signal.SIGINT: self.on_int,
            signal.SIGQUIT: self.on_quit,
        }
        if signalling.hup_is_ours():
            found[signal.SIGHUP] = self.on_hup
        return found

    def on_term(self, *_: int | FrameType | None) -> None:
        """Warm; also from other threads."""
        self._shut("SIGTERM", "Warm", EX_OK)
        self._bound()

    def on_int(self, *_: int | FrameType | None) -> None:
        """Warm the first time, then cold."""
        if self._stopping_at is None:
            self._shut("SIGINT", "Warm", EX_FAILURE)
            self._bound()
        else:
            self.on_quit()

    def on_hup(self, *_: int | FrameType | None) -> None:
        """End what runs, and start anew in the same process; unless it stops anyway."""
        if self._stopping_at is None:
            self._shut("SIGHUP", "Warm", EX_OK)
            self._bound()
            self.replaces = True

    def on_quit(self, *_: int | FrameType | None) -> None:
        """Cold, or softly first; the second time at once."""
        timeout = 0.0 if self._cold else self.options.soft_shutdown_timeout
        self._cold = True
        self._shut("SIGQUIT", "Cold", EX_FAILURE, timeout)
        if settings.WORKER_ENABLE_SOFT_SHUTDOWN_ON_IDLE:
            self.consumer.stays_until = time.monotonic() + timeout
        self._kill_in(timeout)

    def _bound(self) -> None:
        """Let a warm shutdown last no longer than it may."""
        if self.options.shutdown_timeout is not None and self._kill_at is None:
            self._kill_in(self.options.shutdown_timeout)

    def _kill_in(self, timeout: float) -> None:
        self._kill_at = self.consumer.wake_at = time.monotonic() + timeout
        if self.pool.runs_here and self.pool.running() and not self.embedded:
            # The task runs in the main thread: there is nothing else to kill.
            if not timeout:
                raise WorkerTerminate(EX_FAILURE)
            main = threading.main_thread().ident
            timer = threading.Timer(timeout, signal.pthread_kill, (main, signal.SIGQUIT))
            timer.daemon = True
            timer.start()

    def _shut(self, sig: str, how: str, exitcode: int, timeout: float = 0.0) -> None:
        """In a signal handler: only note it, and let the consumer's turn do the rest."""
        self.exitcode = max(self.exitcode, exitcode)
        self.replaces = False
        first = self._stopping_at is None
        self._stopping_at = time.monotonic()
        self.consumer.post(lambda: self._stop_accepting(sig, how, first, timeout))

    def _stop_accepting(self, sig: str, how: str, first: bool, timeout: float) -> None:
        if not self.embedded:
            text = f"soft, terminating in {timeout:g} seconds" if timeout else how.lower()
            say(f"\nworker: {text.capitalize()} shutdown (MainProcess)")
            logger.info("%s shutdown at %s", how, sig)
        if signals.worker_shutting_down.receivers:
            signals.worker_shutting_down.send(sender=self.options.hostname, sig=sig, how=how, exitcode=self.exitcode)
        if first:
            self.consumer.accepting = False
        self.consumer.release_unstarted()
