"""The worker: starts a pool, a consumer and a pulse, and stops them again. What signals do: shutdown.py."""

import functools
import importlib
import logging
import os
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import NoReturn

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
from djtasks.messages import Claimed, Outcome
from djtasks.queuenames import with_own
from djtasks.registry import tasks
from djtasks.worker import signalling
from djtasks.worker.autoscaler import autoscaler_of
from djtasks.worker.banner import banner, say
from djtasks.worker.claimer import Claimer
from djtasks.worker.consumer import Consumer
from djtasks.worker.event_writer import EventWriter
from djtasks.worker.extensions import Extensions
from djtasks.worker.http import Site
from djtasks.worker.identity import boot_id, indexed, new_incarnation, pid_namespace, process_start
from djtasks.worker.lanes import Lanes
from djtasks.worker.limits import Limits, rerun_names
from djtasks.worker.options import WorkerOptions
from djtasks.worker.patience import Unworkable
from djtasks.worker.pulse import Pulse
from djtasks.worker.ready import open_ready
from djtasks.worker.sampling import Sampler
from djtasks.worker.shutdown import Shutdown
from djtasks.worker.state import State
from djtasks.worker.vitals import Vitals

logger = logging.getLogger("djtasks.worker")

#: The worker has ended what it could, and its process is to be replaced by a new one.
EX_REPLACE = 157
#: The database is there, and does not let it work.
EX_UNAVAILABLE = 69
#: How long idle children are given to end when the worker stops (seconds).
CHILDREN_END = 5.0
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
        self.options = options = self._announced(options).check().whole()
        self.state = State(new_incarnation())
        self.pool = options.make_pool()
        self.consumer = Consumer(
            self.state,
            self.pool,
            Claimer(self.state, Lanes(options.queues, options.hostname), self._registration),
            Limits(options.soft_time_limit, options.time_limit),
            options.hostname,
        )
        self.vitals = Vitals(options.hostname, self.consumer)
        self.pulse = self.vitals.pulse = Pulse(
            self.state,
            options.hostname,
            tell=self.consumer.post,
            concurrency=lambda: self.pool.concurrency,
            process_group=lambda: self.pool.process_group,
            known=lambda: list(tasks),
            queues=options.queues,
            ended=self._ended_elsewhere,
            answer=self._answer_aside if self.pool.runs_here else None,
            say=self.vitals.say,
            sampler=Sampler(options.hostname, self.vitals.counts, self.vitals.levels),
            give_up=lambda error: self.consumer.post(functools.partial(_give_up, error)),
        )
        self.pulse.accepting = lambda: self.consumer.accepting
        self.pulse.writer = self._event_writer()
        self.vitals.more["events"] = lambda: self.state.events.on
        self.vitals.events = self.pulse.writer.counts
        #: Grows and shrinks the pool, where that is wanted.
        self.autoscaler = autoscaler_of(self.pool, options.autoscale, self)
        if self.autoscaler is not None:
            self.consumer.autoscale = self.autoscaler.turn
            self.vitals.more["autoscaler"] = self.autoscaler.info
        self.site = None if options.http is None else Site(options.http, self.vitals, lambda: self.options.queues)
        self.consumer.commands.node.worker = self
        #: Where it sends periodic tasks, too.
        self.beat: BeatThread | None = None
        self.shutdown = Shutdown(options, self.consumer, embedded=embedded)
        self.extensions = Extensions(self, {**options._asdict(), **(options.user or {})})
        if signals.celeryd_after_setup.receivers:
            signals.celeryd_after_setup.send(sender=options.hostname, instance=self, conf=current_app.conf)

    def _event_writer(self) -> EventWriter:
        return EventWriter(
            self.state.events,
            self.options.hostname,
            begun=self.pool.begun,
            held=self.state.held,
            processed=lambda: sum(self.state.total.values()),
        )

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
            before = self.options.queues
            self.set_queues(list(with_own([*before, name], self.options.hostname)))
            for queue in self.options.queues[len(before) :]:
                self.consumer.claimer.lanes.add(queue)

    def _ended_elsewhere(self, message: Claimed, outcome: Outcome) -> None:
        """The pulse has ended a message that is not in this worker's hands."""
        self.consumer.hooks.ended(message, outcome)
        if self.state.events.on:
            # What an exception is made of may be an author's: not on the pulse's thread.
            self.consumer.hooks.post(lambda: self.state.events.ended_elsewhere(message, outcome))

    def set_queues(self, names: list[str]) -> None:
        """These are the queues that it takes from, from now on."""
        self.options = self.options._replace(queues=tuple(names))
        self.pulse.queues[:] = names

    def reload(self, modules: Sequence[str]) -> None:
        """Let tasks run in freshly imported code; it imports these modules, besides. Raises ValueError, OSError.

        Where only the pool's own process could do that, this very process starts anew, once its tasks have ended.
        """
        if self.pool.restarts:
            for name in modules:
                # What it is to run, this process has to know.
                importlib.import_module(name)
            if modules:
                self.state.unknown.difference_update(tasks)
                self.consumer.claimer.rerun = rerun_names()
                self.consumer.claimer.rung()
            self.pool.restart(modules)
        elif self.embedded:
            raise ValueError("a worker inside of another process cannot begin anew; restart that process")
        elif unknown := [name for name in modules if name not in sys.modules]:
            raise ValueError(
                f"with the {self.pool.name} pool the worker itself starts anew, and imports what INCLUDE and --include"
                f" name; {unknown[0]!r} is none of that"
            )
        else:
            self.shutdown.on_hup()

    def _answer_aside(self, conn: psycopg.Connection) -> None:
        """In the pulse's thread: the consumer itself may be at a task."""
        if any(time.monotonic() - begun.since > AT_A_TASK for begun in self.pool.begun().values() if begun.since):
            self.consumer.commands.answer_aside(conn)

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
            concurrency=self.pool.concurrency,
            queues=self.options.queues,
        )

    # -- start ----------------------------------------------------------------------------------------------------

    def run(self) -> int:
        """Work until told to stop; returns the exit code. Raises ImproperlyConfigured when it cannot start."""
        self._fork_first()
        try:
            if self.site is not None:
                self.site.bind()
            self._check_database()
            self._start()
            self._turn()
        except Unworkable as error:
            logger.critical("%s cannot work, and ends: %s", self.options.hostname, error)
            self.shutdown.exitcode, self.shutdown.replaces = EX_UNAVAILABLE, False
        finally:
            self._stop()
        return EX_REPLACE if self.shutdown.replaces else self.shutdown.exitcode

    def _fork_first(self) -> None:
        """What the pool forks is forked while this process has no threads and no connections."""
        connections.close_all()
        others = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
        if others and self.pool.forks:
            logger.warning(
                "Threads run before the worker forks: %s. What they hold (a lock, a connection) is broken in the"
                " children; start them in the worker_process_init signal instead",
                ", ".join(others),
            )
        self.pool.prepare()

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
            signalling.install(self.shutdown.handlers())
        while not self.shutdown.stopping and not consumer.database.attempt(consumer.claimer.register):
            time.sleep(max(0.0, consumer.database.retry_at - time.monotonic()))
        consumer.start()
        if self.options.events:
            self.state.events.switch(True)
        self.pulse.start()
        if self.site is not None:
            self.site.start()
        if self.options.beat:
            self.beat = BeatThread(BeatOptions(embedded=True))
            self.beat.start()
        self.extensions.start()
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
                self.shutdown.leave(leaving.code)
            if self.shutdown.over():
                return

    # -- stop -----------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Stop as at a SIGTERM; from any thread."""
        self.shutdown.on_term()

    def _stop(self) -> None:
        """Let go of everything. What could not be finished stays under our name, for a rescue."""
        self.extensions.stop(self.consumer.intake.killing)
        if self.beat is not None:
            self.beat.stop(CHILDREN_END)
        if self.site is not None:
            self.site.close()
        self.pulse.stop()
        self.pool.close()
        self.pool.join(CHILDREN_END)
        self.pool.kill()
        if self.pulse.ident is not None:
            self.pulse.join(CHILDREN_END)
        database = self.consumer.database
        if self.state.registered == self.state.incarnation and not self.state.held:
            with suppress(Unworkable):
                database.attempt(self._leave)
        database.close()
        self.consumer.hooks.stop(CHILDREN_END)
        if signals.worker_shutdown.receivers:
            signals.worker_shutdown.send(sender=self)

    def _leave(self, conn: psycopg.Connection) -> None:
        """Remove this worker's row, and nothing that it may hold without knowing: that would be nobody's."""
        incarnation = self.state.incarnation
        self.consumer.retreat(conn)
        if self.state.incarnation == incarnation:
            workers.remove(conn, incarnation)


def _give_up(error: Unworkable) -> NoReturn:
    raise error


def start_logging(options: WorkerOptions) -> None:
    """Set up logging for this process and, by inheritance, for its children."""
    log.setup_logging(options.loglevel, options.logfile and indexed(options.logfile, 0))
