"""Births: what follows a task runs in the worker that ran it, at once, if that has nothing better to do.

The successor is written with the end of its task, and claimed in the same statement. It is done only while nothing
waits that the worker knows of: what waits has its place before what is new.
"""

from collections.abc import Callable, Collection, Sequence

from djtasks.db.succession import Birth
from djtasks.messages import Claimed, Message, Outcome
from djtasks.registry import tasks
from djtasks.worker.clock import since_boot
from djtasks.worker.state import State


class Births:
    """Gives claim numbers to successors. Belongs to the consumer's thread."""

    def __init__(
        self,
        state: State,
        room: Callable[[], int],
        may_start: Callable[[Message], bool],
        rerun: Collection[str],
        born: Callable[[list[Claimed], float], None],
        rung: Callable[[], None],
    ) -> None:
        """`room` is how many may be born now; `born` starts them; `rung` hears of those that are to be claimed."""
        self.state = state
        self._room = room
        self._may_start = may_start
        self._rerun = frozenset(rerun)
        self._born = born
        self._rung = rung
        self._asked = 0.0
        #: How many are on their way.
        self.unborn = 0

    def plan(self, outcomes: Sequence[Outcome]) -> dict[str, Birth]:
        """Which of the successors are to run here, by their ids."""
        found: dict[str, Birth] = {}
        room = self._room() - self.unborn
        self._asked = since_boot()
        for outcome in outcomes:
            for each in outcome.successors:
                if len(found) >= room:
                    break
                message = Message._make(each)
                if message.name in tasks and self._may_start(message):
                    self.state.last_claim += 1
                    found[message.id] = Birth(self.state.last_claim, message.name in self._rerun)
        self.unborn += len(found)
        return found

    def over(self, planned: int, found: list[Claimed], others: bool = False) -> None:
        """So many were on their way, and these have come; `others` are in their lanes."""
        self.unborn -= planned
        if found:
            self.state.take(found)
            self._born(found, self._asked)
        if others:
            self._rung()
