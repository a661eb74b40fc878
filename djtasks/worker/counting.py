"""Counting runs: how long they took and how long they had waited, by the name of the task.

The consumer's thread counts, a batch at a time and with a few additions a run; others copy.
"""

import time
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Final

from djtasks.db.samples import BOUNDS as COARSE
from djtasks.db.samples import BUCKETS
from djtasks.messages import Claimed, Outcome

#: Runtimes are told apart by these, in seconds; each of COARSE is one of them.
BOUNDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 600.0)
#: What more names than that did is counted under one: a name may come from a message.
MOST_NAMES: Final = 1000
OTHERS: Final = "(others)"
#: So many claims are remembered, to tell how long something lay here.
_CLAIMS: Final = 256


class Runs:
    """What has run here."""

    def __init__(self) -> None:
        #: By name: seconds run, and then how many runs ended within each of BOUNDS, or later.
        self.by_name: dict[str, list[float]] = {}
        #: For how many seconds they all had waited since they might have run, about.
        self.waited = 0.0
        #: How many messages were claimed.
        self.claimed = 0
        #: By name: how long the last one looked at had lain here before it began, in seconds.
        self.lay: dict[str, float] = {}
        #: The last number of each claim, and when its answer came.
        self._claims: deque[tuple[int, float]] = deque(maxlen=_CLAIMS)

    def took(self, messages: list[Claimed]) -> None:
        """These have been claimed."""
        if messages:
            self.claimed += len(messages)
            self._claims.append((max(message.claim for message in messages), time.time()))

    def ended(self, outcomes: Iterable[Outcome], held: Mapping[int, Claimed]) -> None:
        """These runs have ended; what did not run counts for nothing."""
        by_name, last, count = self.by_name, None, 0
        for outcome in outcomes:
            if (runtime := outcome.runtime) and (message := held.get(outcome.claim)) is not None:
                numbers = by_name.get(message.name) or self._new(message.name)
                numbers[0] += runtime
                numbers[bisect_left(BOUNDS, runtime) + 1] += 1
                last, count = (message, outcome), count + 1
        if last is not None:
            self._note_waits(*last, count)

    def _new(self, name: str) -> list[float]:
        if len(self.by_name) >= MOST_NAMES:
            name = OTHERS
        return self.by_name.setdefault(name, [0.0] * (len(BOUNDS) + 2))

    def _note_waits(self, message: Claimed, outcome: Outcome, count: int) -> None:
        """How long the last of a batch waited is taken for what each of them did."""
        began, since, eta = outcome.started, message.created, message.eta
        self.waited += count * max(0.0, began - (since if eta is None or eta < since else eta))
        found = None
        for most, at in reversed(self._claims):
            if most < outcome.claim:
                break
            found = at
        else:
            if len(self._claims) == _CLAIMS:
                # Its claim is older than what is remembered.
                return
        if found is not None:
            self.lay[message.name if message.name in self.by_name else OTHERS] = max(0.0, began - found)

    # -- for others: from any thread ------------------------------------------------------------------------------

    def histograms(self) -> dict[str, tuple[float, list[int]]]:
        """By name: the sum of runtimes, and how many runs ended within each of BOUNDS, or later."""
        return {name: (numbers[0], [int(each) for each in numbers[1:]]) for name, numbers in list(self.by_name.items())}

    def sums(self) -> dict[str, float]:
        """What a sample says of runs, since the start: `runs`, `runtime`, `waited` and coarse buckets."""
        found = {"runs": 0.0, "runtime": 0.0, "waited": self.waited, **dict.fromkeys(BUCKETS, 0.0)}
        for numbers in [list(each) for each in list(self.by_name.values())]:
            found["runtime"] += numbers[0]
            for place, count in enumerate(numbers[1:]):
                # The coarse bound that holds this fine one.
                coarse = bisect_left(COARSE, BOUNDS[place]) if place < len(BOUNDS) else len(COARSE)
                found[BUCKETS[coarse]] += count
                found["runs"] += count
        return found
