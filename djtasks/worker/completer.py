"""The completer: outcomes in, one transaction a batch out.

It keeps what it is given until the database has taken it, however long that takes, and never lets one bad row sink
its batch. What the fence refuses is dropped and counted: it has become somebody else's.
"""

import logging
import time
from collections.abc import Callable, Iterable
from typing import Any

import psycopg

from djtasks import ending
from djtasks.db import finish, limits, messages, notify, rates, results
from djtasks.exceptions import EncodeError, safe_repr
from djtasks.keys import definition
from djtasks.messages import Claimed, Outcome, Progress
from djtasks.worker.births import Births
from djtasks.worker.flights import BATCH_AGE, BATCH_SIZE, Flights
from djtasks.worker.mending import REFUSED, write_each
from djtasks.worker.state import State

logger = logging.getLogger("djtasks.worker")

Failure = Callable[[Claimed, BaseException], Outcome]


class Completer(Flights):
    """Batches what a worker has to say about the messages it holds."""

    def __init__(self, state: State, worker: str, failure: Failure, births: Births | None = None) -> None:
        super().__init__(state, worker, births)
        #: Makes the outcome of a message whose own outcome cannot be stored.
        self.failure = failure
        #: What has been written with the ends of others, and nobody was rung for yet.
        self._followed: list[ending.Ended] = []
        #: Outcomes of runs that have written their ends themselves.
        self.finished: list[Outcome] = []
        #: By claim number: what is to be done once its end is written.
        self.then: dict[int, Callable[[], None]] = {}
        self.again: list[Outcome] = []
        self.progress: dict[str, Progress] = {}
        self.releases: list[int] = []
        self.crashes: list[int] = []
        self.parked: list[int] = []
        #: May not start yet.
        self.rated: list[int] = []
        #: By the key of a limit: the name of a task that may have left a place in it.
        self.freed: dict[str, str] = {}
        #: The last flush has put messages back into lanes.
        self.reopened = False

    @property
    def pending(self) -> bool:
        """Whether anything waits to be written."""
        return bool(self.outcomes or self.flight or self._unusual)

    @property
    def _unusual(self) -> bool:
        """Whether anything but plain outcomes waits to be written."""
        return bool(
            self.again
            or self.progress
            or self.releases
            or self.crashes
            or self.parked
            or self.special
            or self.finished
            or self.rated
            or self.freed
        )

    def add(self, outcome: Outcome, then: Callable[[], None] | None = None) -> None:
        """A run has ended; `then` is called once that is written, unless it is refused.

        One whose message is not held any more is refused here and now.
        """
        message = self.state.held.get(outcome.claim)
        if message is None:
            self.refuse([outcome.id])
            return
        self._started()
        if then is not None and outcome.again is None:
            self.then[outcome.claim] = then
        if outcome.again is not None:
            self.again.append(outcome)
        elif outcome.finished:
            self.finished.append(outcome)
        else:
            self.outcomes.append(outcome)
            # What `is_plain` says, without a call: this is done for every task.
            if outcome.dead is not None or outcome.successors or outcome.fallen:
                self._note(outcome)
            if message.chord is not None:
                self.parts = True

    def report(self, progress: Progress) -> None:
        """A state that is no end; only the last of several is written."""
        if progress.claim == 0 or progress.claim in self.state.held:
            self._started()
            self.progress[progress.id] = progress

    def release(self, claims: Iterable[int]) -> None:
        """These never began: back into their lanes."""
        self._started()
        self.releases.extend(claim for claim in claims if claim in self.state.held)

    def crash(self, claim: int) -> None:
        """The process was lost while it ran this one, which is to run again."""
        if claim in self.state.held:
            self._started()
            self.crashes.append(claim)

    def hold(self, claim: int) -> None:
        """This one may not start yet: its rate does not allow it."""
        self._started()
        self.rated.append(claim)

    def park(self, claim: int) -> None:
        """This worker does not know the task."""
        self._started()
        self.parked.append(claim)

    def _started(self) -> None:
        if not self.pending:
            self._since = time.monotonic()

    def due(self, idle: bool) -> bool:
        """Whether it is time to write: the batch is large, old, or there is nothing else to do."""
        if self.flight or not self.pending:
            return False
        return idle or len(self.outcomes) >= BATCH_SIZE or time.monotonic() - self._since >= BATCH_AGE

    def deadline(self) -> float | None:
        """When it is time at the latest, in monotonic seconds."""
        return self._since + BATCH_AGE if self.pending and not self.flight else None

    def drop(self) -> int:
        """Forget everything: the worker has been declared dead. Returns how many outcomes were dropped."""
        dropped = [outcome.id for outcome in (*self.outcomes, *self.flight, *self.again)]
        self.flight = []
        self.special = self.parts = self.followed_by = False
        self.then.clear()
        lists = (self.finished, self.outcomes, self.again, self.releases, self.crashes, self.parked, self.rated)
        for each in (*lists, self.progress):
            each.clear()
        self.freed.clear()
        self.refuse(dropped)
        return len(dropped)

    def refuse(self, ids: Iterable[str]) -> None:
        """Count and log outcomes that came too late."""
        for task_id in ids:
            self.state.counters["refused"] += 1
            logger.warning("The outcome of task %s was refused: its message is no longer this worker's", task_id)

    def _end(self, ends: list[Outcome], accepted: set[str], late: list[Outcome]) -> None:
        """These are written, but for what was refused."""
        self.state.runs.ended(ends, self.state.held)
        if self.state.events.on:
            self.state.events.ended(ends, self.state.held, accepted)
        self._let_go(outcome.claim for outcome in ends)
        if self.then:
            for outcome in ends:
                if (then := self.then.pop(outcome.claim, None)) is not None and outcome.id in accepted:
                    then()
        self.refuse(outcome.id for outcome in late)
        self.state.counters.update(outcome.state for outcome in ends if outcome.id in accepted)

    def flush(self, conn: psycopg.Connection) -> None:
        """Write everything. Raises psycopg.OperationalError when the database is lost; then call it again."""
        uncertain, self.uncertain = self.uncertain, True
        self.reopened = False
        if self.progress:
            self._each(conn, list(self.progress.values()), self._write_progress)
            self.progress.clear()
        if self.outcomes:
            self._finish(conn, uncertain)
        if self.finished:
            self._note_finished(conn)
        if self.again:
            self._run_again(conn, uncertain)
        self._write_fences(conn)
        if self.freed:
            self._admit(conn)
        self.uncertain = self.suspicious = False

    def _finish(self, conn: psycopg.Connection, uncertain: bool) -> None:
        batch = self._batch()
        accepted: set[str] = set()
        mended = self._each(conn, batch, lambda conn, part: accepted.update(self._write_outcomes(conn, part)))
        accepted.update(mended)
        ends = [mended.get(outcome.id, outcome) for outcome in batch]
        late = [outcome for outcome in ends if outcome.id not in accepted]
        if late and uncertain:
            accepted |= finish.confirm(conn, self.state.incarnation, late)
            # A result that is not stored leaves no trace to recognise; its message is gone, which is all it asked.
            late = [outcome for outcome in late if outcome.id not in accepted and outcome.store]
        del self.outcomes[: len(batch)]
        self.special = self.followed_by = False
        for outcome in self.outcomes:
            if not ending.is_plain(outcome):
                self._note(outcome)
        self.parts = self.parts and bool(self.outcomes)
        self._end(ends, accepted, late)
        followed, self._followed = self._followed, []
        for done in followed:
            self.freed.update((each.limit_key, each.name) for each in done.successors if each.limit_key is not None)
            self.reopened = self.reopened or bool(done.successors)
            ending.tell(conn, done, but=self.state.incarnation)
        self._ring_waiters(conn, ending.awaited(ends))

    def _is_special(self, outcome: Outcome) -> bool:
        """Whether its end is more than the one statement of a finish."""
        return not ending.is_plain(outcome) or self._chord_of(outcome) is not None

    def _note_finished(self, conn: psycopg.Connection) -> None:
        """These have been written already: who waits for them is to hear of it."""
        self._end(self.finished, {outcome.id for outcome in self.finished}, [])
        awaited = ending.awaited(self.finished)
        self.finished = []
        self._ring_waiters(conn, awaited)

    def _write_outcomes(self, conn: psycopg.Connection, part: list[Outcome]) -> set[str]:
        if not any(map(self._is_special, part)):
            return finish.finish(conn, self.state.incarnation, part, self.worker)
        done = ending.end(conn, self.state.incarnation, part, self.worker)
        self._followed.append(done)
        return done.accepted

    def _write_progress(self, conn: psycopg.Connection, part: list[Progress]) -> None:
        results.report(conn, part, self.state.incarnation, self.worker)

    def _run_again(self, conn: psycopg.Connection, uncertain: bool) -> None:
        queues: dict[str, str] = {}
        batch = self.again
        mended = self._each(
            conn,
            batch,
            lambda conn, part: queues.update(messages.again(conn, self.state.incarnation, part, self.worker)),
        )
        self.again = []
        self.state.runs.ended(batch, self.state.held)
        if self.state.events.on:
            written = [mended.get(outcome.id, outcome) for outcome in batch]
            self.state.events.ended(written, self.state.held, {*queues, *mended})
        self._let_go(outcome.claim for outcome in batch)
        self.state.counters.update(outcome.state for outcome in batch if outcome.id in queues)
        self.state.counters.update(outcome.state for outcome in mended.values())
        if not uncertain:
            # A repeated statement finds that its own work was done, and cannot tell it from another's.
            self.refuse(outcome.id for outcome in batch if outcome.id not in queues and outcome.id not in mended)
        self._ring(conn, list(queues.values()))
        self._ring_waiters(conn, list(mended))

    def _write_fences(self, conn: psycopg.Connection) -> None:
        for claims, write, counter in (
            (self.releases, messages.release, "released"),
            (self.crashes, messages.crashed, "lost"),
            (self.parked, messages.park_unknown, "unknown"),
            (self.rated, rates.park, "rated"),
        ):
            fences = [(claim, self.state.held[claim].id) for claim in claims if claim in self.state.held]
            if fences:
                write(conn, self.state.incarnation, fences)
                self.state.counters[counter] += len(fences)
                if claims is self.releases or claims is self.crashes:
                    self._ring(conn, [self.state.held[claim].queue for claim, _ in fences])
                self._let_go(claim for claim, _ in fences)
            claims.clear()

    def _ring(self, conn: psycopg.Connection, queues: list[str]) -> None:
        if queues:
            self.reopened = True
            notify.ring_workers(conn, set(queues), len(queues), but=self.state.incarnation)

    def _ring_waiters(self, conn: psycopg.Connection, ids: list[str]) -> None:
        if ids:
            notify.ring_waiters(conn, ids)

    def _let_go(self, claims: Iterable[int]) -> None:
        for claim in claims:
            message = self.state.held.pop(claim, None)
            if message is not None and message.limit_key is not None:
                self.freed[message.limit_key] = message.name

    def _admit(self, conn: psycopg.Connection) -> None:
        """Places of limits have become free: let the next ones go on."""
        with conn.transaction():
            queues = limits.admit(conn, {key: definition(name) for key, name in self.freed.items()})
        self.freed.clear()
        self._ring(conn, queues)

    def _each(
        self, conn: psycopg.Connection, batch: list[Any], write: Callable[[psycopg.Connection, list[Any]], object]
    ) -> dict[str, Outcome]:
        """Write a batch; returns what was written in the place of bad rows, by id."""
        return write_each(conn, batch, write, self._mend)

    def _mend(self, conn: psycopg.Connection, bad: Outcome | Progress, error: Exception) -> Outcome | None:
        """End a message whose outcome the database does not take as a FAILURE that says so; None if it is not ours."""
        message = self.state.held.get(bad.claim)
        if message is None or isinstance(bad, Progress):
            return None
        why = f"the outcome ({bad.state}) could not be stored: {safe_repr(error)}"
        outcome = self.failure(message, EncodeError(why))._replace(traceback=None)
        # It may be what follows it that the database does not take, or what stands behind it.
        alone = outcome._replace(successors=(), opened=())
        for each in (outcome, alone):
            try:
                return each if self._write_outcomes(conn, [each]) else None
            except REFUSED:
                if conn.broken or conn.closed:
                    raise
        alone = alone._replace(fallen=())
        return alone if self._write_outcomes(conn, [alone]) else None
