"""What the events of a pool mean for its messages: an end, a state, a way back into the queue, a loss."""

import logging
import signal

from djtasks import signals, tracer
from djtasks.exceptions import TaskRevokedError
from djtasks.messages import Claimed, Outcome, Progress
from djtasks.payload import unpack_exception
from djtasks.worker.completer import Completer
from djtasks.worker.hooks import Hooks
from djtasks.worker.losses import outcome_of_limit, outcome_of_loss
from djtasks.worker.pools.base import Event, Lost, Pool, Unstarted
from djtasks.worker.requests import Requests
from djtasks.worker.state import State

logger = logging.getLogger("djtasks.worker")


class Intake:
    """Takes events in, and hands what is to be written to the completer. Belongs to the consumer's thread."""

    def __init__(self, state: State, completer: Completer, hooks: Hooks, requests: Requests, consumer: object) -> None:
        self.state = state
        self.completer = completer
        self.hooks = hooks
        self.requests = requests
        #: The sender of signals.
        self.consumer = consumer
        #: The pool is being killed: what it loses is no crash of the task's.
        self.killing = False
        #: The claims of runs that were ended because the database was lost.
        self.cancelled: set[int] = set()

    def take(self, event: Event) -> None:
        """What an event of the pool means for its message."""
        if isinstance(event, Outcome):
            if self.requests.classes and (held := self.state.held.get(event.claim)) is not None:
                self.requests.ended(held, event)
            if event.reported is None and event.dead is None:
                self.completer.add(event)
            else:
                self._take_failure(event)
        elif isinstance(event, Progress):
            self.completer.report(event)
        elif isinstance(event, Unstarted):
            self.completer.release([event.job.message.claim])
        else:
            self._take_loss(event)

    def _take_failure(self, outcome: Outcome) -> None:
        """Somebody is to hear of it, once it is written."""
        message = self.state.held.get(outcome.claim)
        if message is None:
            self.completer.add(outcome)
            return
        self.completer.add(outcome, lambda: self.hooks.failed(message, outcome))
        if outcome.dead == "undecodable" and signals.task_rejected.receivers:
            error = unpack_exception(outcome.result or b"", outcome.content_type, outcome.content_encoding)
            signals.task_rejected.send(sender=self.consumer, message=message, exc=error)

    def _take_loss(self, loss: Lost) -> None:
        message = loss.job.message
        if message.claim not in self.state.held:
            return
        if loss.revoked is not None and message.claim in self.cancelled:
            logger.warning("Task %s[%s] was ended, and runs again", message.name, message.id)
            self.completer.release([message.claim])
            return
        if loss.revoked is not None:
            self._terminated(message, loss.revoked)
            return
        outcome: Outcome | None
        if loss.hard is not None:
            logger.error("Hard time limit (%ss) exceeded for %s[%s]", loss.hard, message.name, message.id)
            outcome = outcome_of_limit(message, loss.hard)
        else:
            outcome = outcome_of_loss(message, loss.how)
            if outcome is not None:
                logger.error("Task %s[%s] was lost with its process: %s", message.name, message.id, loss.how)
        if outcome is None:
            logger.warning("Task %s[%s] was running in the lost process; it runs again", message.name, message.id)
            if self.killing:
                self.completer.release([message.claim])
            else:
                self.completer.crash(message.claim)
        else:
            self.completer.add(outcome, lambda: self.hooks.ended(message, outcome))
            self.requests.ended(message, outcome)

    def cancel(self, pool: Pool) -> None:
        """End what runs and can run again: with the database lost, it may soon be given to another worker."""
        self.cancelled &= self.state.held.keys()
        self.completer.release([job.message.claim for job in pool.withdraw()])
        late = [self.state.held[claim] for claim in pool.running() if claim in self.state.held]
        late = [message for message in late if message.rerun and message.claim not in self.cancelled]
        if late and not pool.terminates:
            logger.warning("The database is lost, and the %s pool can end no task that runs: they go on", pool.name)
            return
        for message in late:
            if pool.terminate(message.claim, int(signal.SIGTERM)):
                self.cancelled.add(message.claim)
                logger.warning("The database is lost: ending %s[%s], to run again", message.name, message.id)

    def _terminated(self, message: Claimed, signum: int) -> None:
        """Its run was ended because it is revoked."""
        logger.warning("Task %s[%s] is revoked and was terminated (%d)", message.name, message.id, signum)
        outcome = tracer.failure(message, TaskRevokedError("terminated"))
        if self.state.events.on:
            self.state.events.signals[message.claim] = signum
        self.completer.add(outcome, lambda: self.hooks.ended(message, outcome, True, signum))
