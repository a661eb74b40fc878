"""Lanes: where the next claim looks.

The lanes take turns: the one that has waited longest for its turn comes first, so that a full one does not starve the
others. In each, a low-water mark for every priority remembers how far this worker has seen everything taken; a scan
that starts there does not walk over dead rows again. A mark is good for a second: a row may be committed late,
released, or become runnable, below it.

Of many lanes, few have anything: then a look at the index says which (`due`, `looked`), and only those are scanned
until the next look.
"""

import itertools
import time
from collections.abc import Collection, Iterable, Sequence

from djtasks.db.claims import Scan
from djtasks.messages import Claimed
from djtasks.queuenames import is_broadcast

LOWEST, HIGHEST = -32768, 32767
MARK_SECONDS = 1.0
#: So many lanes are scanned in about the time of a look at which of them have anything.
MANY = 32
#: Seconds from one look to the next while there is work, and how many times as long as the look took at the least.
LOOK_EVERY = 0.05
LOOK_SHARE = 20


class Lanes:
    """The queues of one worker, in the order in which the next claim scans them."""

    def __init__(self, queues: Iterable[str], node: str = "") -> None:
        #: The worker's name.
        self.node = node
        #: Those that are scanned, the one first whose last turn is longest ago.
        self._order: dict[str, None] = {}
        #: Broadcast queues: what comes there is passed on to each worker's own queue, and taken from that.
        self.heard: list[str] = []
        #: (position, when it was set) by priority, by lane.
        self._marks: dict[str, dict[int, tuple[int, float]]] = {}
        self._paused: frozenset[str] = frozenset()
        #: The lanes in which there was something at the last look; None if all are to be scanned.
        self._filled: frozenset[str] | None = None
        #: When to look again, in monotonic seconds.
        self._look_at = 0.0
        for queue in queues:
            self.add(queue)

    @property
    def names(self) -> list[str]:
        """The queues, sorted."""
        return sorted([*self._order, *self.heard])

    @property
    def open(self) -> list[str]:
        """The queues that are not paused, in the order in which the next claim scans them."""
        return [queue for queue in self._order if queue not in self._paused]

    @property
    def listening(self) -> list[str]:
        """The queues that are heard and not paused."""
        return [queue for queue in self.heard if queue not in self._paused]

    def takes(self, queue: str) -> bool:
        """Whether claims scan this queue, and it is not paused."""
        return queue in self._order and queue not in self._paused

    def pause(self, queues: Collection[str]) -> None:
        """Scan these no more, until the next call leaves them out."""
        if self._paused != queues:
            self._paused = frozenset(queues)
            self._marks.clear()

    def add(self, queue: str) -> None:
        """One queue more."""
        if not is_broadcast(queue):
            self._order[queue] = None
        elif queue not in self.heard:
            self.heard.append(queue)
        self._look_at = 0.0

    def remove(self, queue: str) -> None:
        """Scan this one no more."""
        self._order.pop(queue, None)
        self._marks.pop(queue, None)
        if queue in self.heard:
            self.heard.remove(queue)

    @property
    def many(self) -> bool:
        """Whether a look at all of them costs less than scanning each."""
        return len(self._order) > MANY

    def due(self) -> bool:
        """Whether it is time to look which lanes have anything, or what there is to hear."""
        return (self.many or bool(self.heard)) and time.monotonic() >= self._look_at

    def looked(self, filled: Collection[str] | None, took: float = 0.0) -> None:
        """In these lanes there is something, as a look of so many seconds has shown; None: in any of them may be."""
        self._filled = None if filled is None else frozenset(filled)
        self._look_at = time.monotonic() + max(LOOK_EVERY, LOOK_SHARE * took)

    def scans(self, *, from_start: bool = False, most: int | None = None) -> list[Scan]:
        """What the next claim scans; none, if all are paused or empty.

        With `most`, of lanes in which there was something at the last look no more than so many.
        """
        if from_start:
            self._marks.clear()
        oldest = time.monotonic() - MARK_SECONDS
        lanes: Iterable[str] = self._order
        if self._paused:
            lanes = self.open
        if self._filled is not None:
            lanes = itertools.islice((lane for lane in lanes if lane in self._filled), most)
        return [scan for lane in lanes for scan in self._scans_of(lane, oldest)]

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
        """These were claimed, in this order: what stands before the last of each lane and priority is taken. A position
        of -1 says nothing of the others.

        A mark keeps the time of its first setting, so that it is dropped a second later even under load.
        """
        now = time.monotonic()
        for message, position in zip(messages, positions, strict=True):
            if position < 0:
                continue
            marks = self._marks.setdefault(message.queue, {})
            since = marks[message.priority][1] if message.priority in marks else now
            marks[message.priority] = (position, since)
        if len(self._order) > 1:
            # Whose turn it was, waits for the next one behind all others.
            for lane in dict.fromkeys([message.queue for message in messages]):
                if lane in self._order:
                    del self._order[lane]
                    self._order[lane] = None
