"""Lanes: where the next claim looks.

The lanes are rotated, so that a full one does not starve the others. In each, a low-water mark for every priority
remembers how far this worker has seen everything taken; a scan that starts there does not walk over dead rows again.
A mark is good for a second: a row may be committed late, released, or become runnable, below it.
"""

import time
from collections import deque
from collections.abc import Collection, Iterable, Sequence

from djtasks.db.claims import Scan
from djtasks.messages import Claimed

LOWEST, HIGHEST = -32768, 32767
MARK_SECONDS = 1.0


class Lanes:
    """The queues of one worker, in the order in which the next claim scans them."""

    def __init__(self, queues: Iterable[str]) -> None:
        self._order = deque(queues)
        #: (position, when it was set) by priority, by lane.
        self._marks: dict[str, dict[int, tuple[int, float]]] = {}
        self._paused: frozenset[str] = frozenset()

    @property
    def names(self) -> list[str]:
        """The queues, sorted."""
        return sorted(self._order)

    @property
    def open(self) -> list[str]:
        """The queues that are not paused, in the order in which the next claim scans them."""
        return [queue for queue in self._order if queue not in self._paused]

    def pause(self, queues: Collection[str]) -> None:
        """Scan these no more, until the next call leaves them out."""
        if self._paused != queues:
            self._paused = frozenset(queues)
            self._marks.clear()

    def add(self, queue: str) -> None:
        """One queue more."""
        self._order.append(queue)

    def remove(self, queue: str) -> None:
        """Scan this one no more."""
        if queue in self._order:
            self._order.remove(queue)
            self._marks.pop(queue, None)

    def scans(self, *, from_start: bool = False) -> list[Scan]:
        """What the next claim scans; the first lane goes to the end for the next one. None, if all are paused."""
        if from_start:
            self._marks.clear()
        oldest = time.monotonic() - MARK_SECONDS
        found = [scan for lane in self._order if lane not in self._paused for scan in self._scans_of(lane, oldest)]
        self._order.rotate(-1)
        return found

    def _scans_of(self, lane: str, oldest: float) -> list[Scan]:
        """One scan for each marked priority, and one for each gap between them, from high to low."""
        marks = self._marks.get(lane, {})
        for priority in [priority for priority, (_, since) in marks.items() if since < oldest]:
            del marks[priority]
        found, high = [], HIGHEST
        for priority in sorted(marks, reverse=True):
            if priority < high:
                found.append(Scan(lane, priority + 1, high, -1))
            found.append(Scan(lane, priority, priority, marks[priority][0]))
            high = priority - 1
        if high >= LOWEST:
            found.append(Scan(lane, LOWEST, high, -1))
        return found

    def mark(self, messages: Sequence[Claimed], positions: Sequence[int]) -> None:
        """These were claimed, in this order: what stands before the last of each lane and priority is taken.

        A mark keeps the time of its first setting, so that it is dropped a second later even under load.
        """
        now = time.monotonic()
        for message, position in zip(messages, positions, strict=True):
            marks = self._marks.setdefault(message.queue, {})
            since = marks[message.priority][1] if message.priority in marks else now
            marks[message.priority] = (position, since)
