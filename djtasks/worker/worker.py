"""The worker: starts a pool, a consumer and a pulse, and stops them again.

    TERM         warm: takes nothing more, ends what runs, exits 0
    INT          warm the first time (exit 1), cold the second time
    QUIT         cold: gives what runs WORKER_SOFT_SHUTDOWN_TIMEOUT seconds, then kills it, exits 1
    HUP          warm, then starts anew in the same process; not on a terminal
    USR1         logs what every thread does

Whatever has not begun is given back at once; what is killed runs again or fails by its acknowledgement.
"""

import logging
import math
import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from types import FrameType

import psycopg
from django.db import connections

from djtasks import control, log, signals
from djtasks.appstate import current_app
from djtasks.beat.service import BeatOptions, BeatThread
from djtasks.conf import settings
from djtasks.conf.kinds import queue_name
from djtasks.db import workers
from djtasks.db.connections import borrow
from djtasks.db.workers import Registration
from djtasks.exceptions import WorkerShutdown, WorkerTerminate
from djtasks.registry import tasks
from djtasks.worker import signalling
from djtasks.worker.banner import banner, say
from djtasks.worker.claimer import Claimer
from djtasks.worker.consumer import Consumer
from djtasks.worker.identity import boot_id, indexed, new_incarnation, pid_namespace, process_start
from djtasks.worker.lanes import Lanes
from djtasks.worker.limits import Limits
from djtasks.worker.options import WorkerOptions
from djtasks.worker.pools.base import Pool
from djtasks.worker.pools.child import ChildOptions
from djtasks.worker.pools.prefork import PreforkPool
from djtasks.worker.pools.solo import SoloPool
from djtasks.worker.pools.threads import ThreadsPool
from djtasks.worker.pulse import Pulse
from djtasks.worker.ready import open_ready
from djtasks.worker.state import State

logger = logging.getLogger("djtasks.worker")

EX_OK, EX_FAILURE = 0, 1
#: The worker has ended what it could, and its process is to be replaced by a new one.
EX_REPLACE = 157
#: How long idle children are given to end, and a lost database to come back, when the worker stops (seconds).
CHILDREN_END = 5.0
DATABASE_END = 30.0
#: A task of the solo pool that takes longer than this lets the pulse answer commands (seconds).
AT_A_TASK = 0.2


class Worker:
    """One worker. `run` it in the main thread of a process that has no other threads yet.

    One that is `embedded` runs in any thread, in silence, until `stop` is called, and leaves the process's signals
    alone.
    """

    def __init__(self, options: WorkerOptions, *, embedded: bool = False) -> None:
        self.embedded = embedded
        #: Set once it takes tasks.
        self.ready = threading.Event()
        #: Called then.
        self.started: Callable[[], object] | None = None
        self.options = options = self._announced(options).check()
        self.exitcode = EX_OK
        self.state = State(new_incarnation())
        self.pool = self._make_pool()
        self.consumer = Consumer(
            self.state,
            self.pool,
            Claimer(self.state, Lanes(options.queues), self._registration),
            Limits(options.soft_time_limit, options.time_limit),
            options.hostname,
        )
        self.pulse = Pulse(
            self.state,
            options.hostname,
            tell=self.consumer.post,
            concurrency=lambda: self.pool.concurrency,
            process_group=lambda: self.pool.process_group,
            known=lambda: list(tasks),
            queues=options.queues,
            ended=self.consumer.hooks.ended,
            answer=self._answer_aside if isinstance(self.pool, SoloPool) else None,
        )
        self.consumer.commands.node.worker = self
        #: Where it sends periodic tasks, too.
        self.beat: BeatThread | None = None
        self._stopping_at: float | None = None
        self._kill_at: float | None = None
        #: It was told to end what runs, not only to wait for it.
        self._cold = False
        #: It stops because its pool is worn out, or at a HUP, and for no other reason.
        self._replaces = False
        if signals.celeryd_after_setup.receivers:
            signals.celeryd_after_setup.send(sender=options.hostname, instance=self, conf=current_app.conf)

    def _announced(self, options: WorkerOptions) -> WorkerOptions:
        """The options as the receivers of celeryd_init want them: they may change the dict they are given."""
        if not signals.celeryd_init.receivers:
            return options
        told = options._asdict()
        signals.celeryd_init.send(sender=options.hostname, instance=self, conf=current_app.conf, options=told)
        return options._replace(**{name: told[name] for name in WorkerOptions._fields if name in told})

    def add_queue(self, name: str) -> None:
        """Consume this queue, too; for receivers of celeryd_after_setup. Raises Unfit for what can name no queue."""
        if queue_name(name) not in self.options.queues:
            self.options = self.options._replace(queues=(*self.options.queues, name))
            self.consumer.claimer.lanes.add(name)
            self.pulse.queues.append(name)

    def set_queues(self, names: list[str]) -> None:
        """These are the queues that it takes from, from now on."""
        self.options = self.options._replace(queues=tuple(names))
        self.pulse.queues[:] = names

    def _answer_aside(self, conn: psycopg.Connection) -> None:
        """In the pulse's thread: the consumer itself may be at a task."""
        if any(time.monotonic() - begun.since > AT_A_TASK for begun in self.pool.begun().values() if begun.since):
            self.consumer.commands.answer_aside(conn)

    def _make_pool(self) -> Pool:
        options = self.options
        if options.pool == "threads":
            return ThreadsPool(options.concurrency, options.hostname, options.prefetch_multiplier)
        if options.pool == "solo":
            return SoloPool(options.hostname, options.prefetch_multiplier)
        child = ChildOptions(
            options.hostname,
            options.max_tasks_per_child,
            options.max_memory_per_child,
            options.loglevel,
            options.logfile,
        )
        return PreforkPool(options.concurrency, child, options.prefetch_multiplier)

    def _registration(self) -> Registration:
        return Registration(
            incarnation=self.state.incarnation,
            name=self.options.hostname,
            host=socket.gethostname(),
            pid=os.getpid(),
            pid_started=process_start(os.getpid()),
            boot_id=boot_id(),
            pid_namespace=pid_namespace(),
            process_group=self.pool.process_group,
            pool=self.options.pool,
            concurrency=self.options.concurrency,
            queues=self.options.queues,
        )

    # -- start ----------------------------------------------------------------------------------------------------

    def run(self) -> int:
        """Work until told to stop; returns the exit code. Raises ImproperlyConfigured when it cannot start."""
        self._fork_first()
        try:
            self._check_database()
            self._start()
            self._turn()
        finally:
            self._stop()
        return EX_REPLACE if self._replaces else self.exitcode

    def _fork_first(self) -> None:
        """The fork server is made while this process has no threads and no connections."""
        connections.close_all()
        others = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
        if others and isinstance(self.pool, PreforkPool):
            logger.warning(
                "Threads run before the worker forks: %s. What they hold (a lock, a connection) is broken in the"
                " children; start them in the worker_process_init signal instead",
                ", ".join(others),
            )
        if isinstance(self.pool, PreforkPool):
            self.pool.fork_server()

    def _check_database(self) -> None:
        """Raises ImproperlyConfigured, with a sentence, if the task database cannot be used."""
        with open_ready(f"start {self.options.hostname}") as conn:
            if self.options.purge:
                self._purge(conn)

    def _purge(self, conn: psycopg.Connection) -> None:
        count = 0
        while found := control.purge_batch(conn, self.state.incarnation, self.options.queues):
            count += found
        logger.warning("Purged %d messages from %s", count, ", ".join(self.options.queues))

    def _start(self) -> None:
        if signals.worker_init.receivers:
            signals.worker_init.send(sender=self)
        if not (self.options.quiet or self.embedded):
            say(banner(self.options, self._database_name(), tasks))
        consumer = self.consumer
        if not self.embedded:
            signalling.install(self._handlers())
        while self._stopping_at is None and not consumer.database.attempt(consumer.claimer.register):
            time.sleep(max(0.0, consumer.database.retry_at - time.monotonic()))
        consumer.start()
        self.pulse.start()
        if self.options.beat:
            self.beat = BeatThread(BeatOptions(embedded=True))
            self.beat.start()
        logger.info("%s ready.", self.options.hostname)
        self.ready.set()
        if self.started is not None:
            self.started()
        if signals.worker_ready.receivers:
            signals.worker_ready.send(sender=consumer)

    def _database_name(self) -> str:
        """Where the tasks are, without a password."""
        found = borrow().settings_dict
        return f"{settings.DATABASE} ({found['NAME']} at {found['HOST'] or 'the local socket'})"

    # -- work -----------------------------------------------------------------------------------------------------

    def _turn(self) -> None:
        consumer = self.consumer
        while consumer.unfinished:
            try:
                consumer.turn()
            except (WorkerShutdown, WorkerTerminate) as leaving:
                # Out of the solo pool's task, which is broken off by it.
                self.exitcode = max(self.exitcode, leaving.code if isinstance(leaving.code, int) else EX_OK)
                self._kill()
            if self.pool.worn_out and self._stopping_at is None:
                self._replace()
            if self._stopping_at is not None and not self._keeps_waiting():
                return

    def _replace(self) -> None:
        """The pool holds what it cannot end: this process ends the rest of its tasks, and starts anew."""
        logger.warning("A task runs on past its hard time limit: the worker ends the others, and replaces its process")
        self._replaces = True
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
        self.consumer.wake_at = math.inf
        self.consumer.accepting = False
        self.consumer.killing = True
        self.pool.kill()

    # -- stop -----------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Stop as at a SIGTERM; from any thread."""
        self._on_term()

    def _handlers(self) -> dict[signal.Signals, signalling.Handler]:
        """What it does at which signal."""
        found: dict[signal.Signals, signalling.Handler] = {
            signal.SIGTERM: self._on_quit if signalling.term_is_quit() else self._on_term,
            signal.SIGINT: self._on_int,
            signal.SIGQUIT: self._on_quit,
        }
        if signalling.hup_is_ours():
            found[signal.SIGHUP] = self._on_hup
        return found

    def _on_term(self, *_: int | FrameType | None) -> None:
        self._shut("SIGTERM", "Warm", EX_OK)
        self._bound()

    def _on_int(self, *_: int | FrameType | None) -> None:
        if self._stopping_at is None:
            self._shut("SIGINT", "Warm", EX_FAILURE)
            self._bound()
        else:
            self._on_quit()

    def _on_hup(self, *_: int | FrameType | None) -> None:
        """End what runs, and start anew in the same process; unless it stops anyway."""
        if self._stopping_at is None:
            self._shut("SIGHUP", "Warm", EX_OK)
            self._bound()
            self._replaces = True

    def _on_quit(self, *_: int | FrameType | None) -> None:
        timeout = 0.0 if self._cold else self.options.soft_shutdown_timeout
        self._cold = True
        self._shut("SIGQUIT", "Cold", EX_FAILURE, timeout)
        self._kill_in(timeout)

    def _bound(self) -> None:
        """Let a warm shutdown last no longer than it may."""
        if self.options.shutdown_timeout is not None and self._kill_at is None:
            self._kill_in(self.options.shutdown_timeout)

    def _kill_in(self, timeout: float) -> None:
        self._kill_at = self.consumer.wake_at = time.monotonic() + timeout
        if self.options.pool == "solo" and self.pool.running() and not self.embedded:
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
        self._replaces = False
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

    def _stop(self) -> None:
        """Let go of everything. What could not be finished stays under our name, for a rescue."""
        if self.beat is not None:
            self.beat.stop(CHILDREN_END)
        self.pulse.stop()
        self.pool.close()
        self.pool.join(CHILDREN_END)
        self.pool.kill()
        if self.pulse.ident is not None:
            self.pulse.join(CHILDREN_END)
        database = self.consumer.database
        if self.state.registered == self.state.incarnation and not self.state.held:
            database.attempt(lambda conn: workers.remove(conn, self.state.incarnation))
        database.close()
        self.consumer.hooks.stop(CHILDREN_END)
        if signals.worker_shutdown.receivers:
            signals.worker_shutdown.send(sender=self)


def start_logging(options: WorkerOptions) -> None:
    """Set up logging for this process and, by inheritance, for its children."""
    log.setup_logging(options.loglevel, options.logfile and indexed(options.logfile, 0))
