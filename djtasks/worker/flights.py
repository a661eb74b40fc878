"""Flights: outcomes on their way to the database while the worker goes on.

One batch flies at a time. What it takes is one statement: plain ends, ends of parts of chords that do not complete
them, or ends with successors. All else, and what the database did not take, is for `Completer.flush`.
"""

import functools
import time
from abc import ABC, abstractmethod
from collections import Counter

from djtasks import ending
from djtasks.db import finish, notify
from djtasks.db.connections import LOST
from djtasks.db.pipe import Question
from djtasks.db.succession import Birth, born, is_succession, succeeding
from djtasks.messages import Claimed, Message, Outcome
from djtasks.worker.births import Births
from djtasks.worker.mending import REFUSED
from djtasks.worker.state import State

#: A batch is written when it has this many outcomes, or when its first one has waited this long (seconds).
BATCH_SIZE = 200
BATCH_AGE = 0.005
#: One statement carries results of about so many bytes at the most: PostgreSQL takes an array of 1 GB.
BATCH_BYTES = 64_000_000
#: Where the queue stands, in a message that travels as a tuple.
_QUEUE = Message._fields.index("queue")


class Flights(ABC):
    """The part of a completer that writes without waiting."""

    def __init__(self, state: State, worker: str, births: Births | None) -> None:
        self.state = state
        self.worker = worker
        #: Lets successors begin at once; None: each is claimed.
        self.births = births
        self.outcomes: list[Outcome] = []
        #: Among the outcomes are dead letters, or others that only `flush` can write.
        self.special = False
        #: Among the outcomes are parts of chords.
        self.parts = False
        #: Among the outcomes are some with successors, all of them simple.
        self.followed_by = False
        #: Outcomes that have been sent, and whose answer is still to come.
        self.flight: list[Outcome] = []
        #: The database has refused a batch: look at its outcomes one by one.
        self.suspicious = False
        #: The last attempt's answer was lost: its statements may have happened.
        self.uncertain = False
        self._since = 0.0

    @property
    @abstractmethod
    def _unusual(self) -> bool:
        """Whether anything waits to be written that does not fly."""

    @abstractmethod
    def _end(self, ends: list[Outcome], accepted: set[str], late: list[Outcome]) -> None:
        """These are written, but for what was refused."""

    @abstractmethod
    def _started(self) -> None:
        """Something waits to be written from now on."""

    def launch(self) -> list[Question]:
        """Questions that write the next batch of outcomes, to be sent without waiting; none when it is for `flush`."""
        if self.flight or self._unusual or self.uncertain or self.suspicious or not self.outcomes:
            return []
        batch = self._batch()
        if self.followed_by and (followed := [outcome for outcome in batch if outcome.successors]):
            return self._launch_succession(followed)
        self.followed_by = self.followed_by and len(batch) < len(self.outcomes)
        try:
            landed = functools.partial(self._landed, batch)
            questions = [finish.finishing(self.state.incarnation, batch, self.worker, landed, self._parts_of(batch))]
        except REFUSED:
            self.suspicious = True
            return []
        if ids := ending.awaited(batch):
            questions.append(notify.ringing_waiters(ids))
        self.flight = batch
        del self.outcomes[: len(batch)]
        return questions

    def _launch_succession(self, batch: list[Outcome]) -> list[Question]:
        """The same, for outcomes with successors; those that are also parts of chords are for `flush`."""
        if self.births is None or any(self._chord_of(outcome) is not None for outcome in batch):
            self.special = True
            return []
        births = self.births.plan(batch)
        try:
            landed = functools.partial(self._succeeded, batch, births)
            questions = [succeeding(self.state.incarnation, batch, self.worker, births, landed)]
        except REFUSED:
            self.births.over(len(births), [])
            self.suspicious = True
            return []
        if ids := ending.awaited(batch):
            questions.append(notify.ringing_waiters(ids))
        left = [each[_QUEUE] for outcome in batch for each in outcome.successors if each[0] not in births]
        if left:
            questions.append(notify.ringing(set(left), len(left)))
        self.flight = batch
        taken = set(map(id, batch))
        self.outcomes = [outcome for outcome in self.outcomes if id(outcome) not in taken]
        return questions

    def _succeeded(self, batch: list[Outcome], births: dict[str, Birth], question: Question) -> None:
        """The answer to a batch with successors is there, or lost."""
        found: list[Claimed] = []
        mine = batch is self.flight
        if mine and question.error is None:
            found = born(batch, births, question.answer())
            question.rows = [row[:1] for row in question.answer() if row[1] is None]
        self._landed(batch, question)
        if self.births is not None:
            followers = sum(len(outcome.successors) for outcome in batch) if mine else 0
            self.births.over(len(births), found, others=followers > len(found))

    def _parts_of(self, batch: list[Outcome]) -> Counter[str] | None:
        """How many of these are of each chord."""
        if not self.parts:
            return None
        return Counter(chord for outcome in batch if (chord := self._chord_of(outcome)) is not None)

    def _chord_of(self, outcome: Outcome) -> str | None:
        message = self.state.held.get(outcome.claim)
        return None if message is None else message.chord

    def _landed(self, batch: list[Outcome], question: Question) -> None:
        """The answer to a batch is there, or lost."""
        if batch is not self.flight:
            # This worker has been declared dead meanwhile.
            return
        self.flight = []
        if self.outcomes:
            self._since = time.monotonic()
        if question.error is not None:
            self._started()
            self.outcomes[:0] = batch
            self.uncertain = isinstance(question.error, LOST)
            self.suspicious = not self.uncertain
            return
        found = question.answer()
        accepted = {row[0] for row in found}
        if self.parts:
            batch = self._put_back(batch, {row[0] for row in found if row[1:] == (True,)})
        self._end(batch, accepted, [outcome for outcome in batch if outcome.id not in accepted])

    def _put_back(self, batch: list[Outcome], complete: set[str]) -> list[Outcome]:
        """What may complete one of these chords is for `flush`, at once; returns the others."""
        last = [outcome for outcome in batch if self._chord_of(outcome) in complete]
        if last:
            self.outcomes[:0] = last
            self.special, self._since = True, 0.0
        return [outcome for outcome in batch if self._chord_of(outcome) not in complete]

    def _batch(self) -> list[Outcome]:
        """As many outcomes as one statement may carry."""
        size = 0
        for count, outcome in enumerate(self.outcomes[: BATCH_SIZE * 2]):
            size += ending.size_of(outcome)
            if size > BATCH_BYTES and count:
                return self.outcomes[:count]
        return self.outcomes[: BATCH_SIZE * 2]

    def _note(self, outcome: Outcome) -> None:
        """It is no plain one."""
        if self.births is not None and is_succession(outcome):
            self.followed_by = True
        else:
            self.special = True
