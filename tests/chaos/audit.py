"""The audit: what was accepted, what ran, what is stored, and where the three disagree.

What was accepted comes from the producer's ledger, what ran from the file that the tasks write, both outside of the
database. What is stored is read once everything has ended. Nothing here touches a database or a process.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from djtasks.worker.flights import BATCH_SIZE
from djtasks.worker.pools.base import HANDED_MOST

#: What may end a task besides itself.
LOST = "WorkerLostError"
#: What a task may raise itself, by its name: one that asks for more memory than there is.
OWN = {"late_hog": "MemoryError"}
#: How calls are made whose tasks are not among the first to be run.
PATIENT = ("delayed", "slow", "flood")


class Call(NamedTuple):
    """A call as the producer saw it."""

    serial: int
    id: str
    name: str
    mode: str
    #: When its row was committed, at the latest; seconds since the epoch.
    time: float


class Run(NamedTuple):
    """One run of a task, as the task itself saw it."""

    serial: int
    id: str
    retries: int
    worker: str
    pid: int
    claim: int
    token: str
    began: float


class Result(NamedTuple):
    """A row of the result table that has ended."""

    id: str
    state: str
    name: str
    #: What was returned: the token of a run; or the type of the exception.
    value: str | None
    owner: int
    claim: int
    #: None when it was written by a rescue.
    worker: str | None
    done: float


class Stored(NamedTuple):
    """What the database has to say when all is over."""

    results: dict[str, Result]
    #: The ids that still wait or run.
    waiting: set[str]
    #: How often an end was written, by id.
    ends: dict[str, int]
    #: When the row of a worker went, in seconds since the epoch, by incarnation.
    deaths: dict[int, float]
    #: Results as they were first seen by the witness: (id, what they said then).
    seen: dict[str, tuple[str, str | None]]


class Fault(NamedTuple):
    """Something that was broken."""

    what: str
    #: From when on recovery is counted: seconds since the epoch.
    time: float
    #: How many tasks were in doubt: in the hands of what was cut off at that moment.
    doubt: int = 0
    #: How many children the worker had that was cut off; 0 when none was.
    children: int = 0


class Ledger:
    """The producer's file."""

    def __init__(self, *paths: Path) -> None:
        self.tried: set[int] = set()
        self.accepted: dict[int, Call] = {}
        self.dropped: set[int] = set()
        self.unsure: set[int] = set()
        for path in paths:
            for line in path.read_text().splitlines():
                event, serial, task_id, name, mode, time = line.split()
                self._read(event, Call(int(serial), task_id, name, mode, float(time)))

    def _read(self, event: str, call: Call) -> None:
        if event == "accepted":
            self.accepted[call.serial] = call
        else:
            {"try": self.tried, "dropped": self.dropped, "unsure": self.unsure}[event].add(call.serial)


def read_runs(path: Path) -> list[Run]:
    """All runs, in the order in which they began."""
    runs = []
    for line in path.read_text().splitlines() if path.exists() else ():
        event, *words = line.split()
        if event == "begin":
            serial, task_id, retries, worker, pid, claim, token, time = words
            runs.append(Run(int(serial), task_id, int(retries), worker, int(pid), int(claim), token, float(time)))
    return runs


class Verdict:
    """How it all fits together. What must be empty is in `problems`."""

    def __init__(self, ledger: Ledger, runs: Sequence[Run], stored: Stored, faults: Sequence[Fault]) -> None:
        self.ledger = ledger
        self.runs = runs
        self.stored = stored
        self.faults = faults
        self.by_token = {run.token: run for run in runs}
        self.by_id: dict[str, list[Run]] = defaultdict(list)
        for run in runs:
            self.by_id[run.id].append(run)

    # -- every accepted id ends -----------------------------------------------------------------------------------

    @property
    def accepted(self) -> int:
        """How many calls were accepted."""
        return len(self.ledger.accepted)

    @cached_property
    def lost(self) -> list[str]:
        """Accepted, and not ended: no result, or, for a task that leaves none, no run or still a message."""
        return [call.id for call in self.ledger.accepted.values() if not self._has_ended(call)]

    def _has_ended(self, call: Call) -> bool:
        if call.id in self.stored.waiting:
            return False
        if call.name.endswith("_silent"):
            return call.id in self.by_id
        return call.id in self.stored.results

    # -- results --------------------------------------------------------------------------------------------------

    @cached_property
    def stale(self) -> list[str]:
        """Results that are not what they must be, with the reason."""
        found = [f"{result.id}: {why}" for result in self.stored.results.values() if (why := self._wrong(result))]
        found += [f"{task_id}: ended {count} times" for task_id, count in self.stored.ends.items() if count > 1]
        for task_id, was in self.stored.seen.items():
            result = self.stored.results.get(task_id)
            if result is None or (result.state, result.value) != was:
                found.append(f"{task_id}: was seen as {was}, and is now {result and (result.state, result.value)}")
        return found

    def _wrong(self, result: Result) -> str:
        """Why this result cannot be right, or nothing."""
        if result.state == "FAILURE":
            return "" if result.value in (LOST, OWN.get(result.name)) else f"failed with {result.value}"
        if result.state != "SUCCESS":
            return f"ended as {result.state}"
        if result.name.endswith("_silent"):
            return ""
        run = self.by_token.get(result.value or "")
        if run is None or run.id != result.id:
            return f"its value {result.value} comes from no run of this task"
        if (run.claim, run.worker) != (result.claim, result.worker):
            return f"its run had the claim {run.claim} of {run.worker}, its writer {result.claim} of {result.worker}"
        died = self.stored.deaths.get(result.owner)
        if died is not None and result.worker is not None and result.done > died:
            return f"written {result.done - died:.3f} s after its worker {result.worker} had been declared dead"
        return ""

    # -- runs -----------------------------------------------------------------------------------------------------

    @cached_property
    def runs_again(self) -> int:
        """How often a late task ran that had run before: the second run, the third … of one and the same attempt."""
        return sum(count - 1 for name, count in self._attempts if name.startswith("late"))

    @cached_property
    def early_again(self) -> int:
        """The same for early tasks."""
        return sum(count - 1 for name, count in self._attempts if not name.startswith("late"))

    @cached_property
    def _attempts(self) -> list[tuple[str, int]]:
        """How often each attempt (an id, and how often it had been retried) was run, with the task's name."""
        names = {call.id: call.name for call in self.ledger.accepted.values()}
        names |= {result.id: result.name for result in self.stored.results.values()}
        counts = Counter((run.id, run.retries) for run in self.runs)
        return [(names.get(task_id, "late"), count) for (task_id, _), count in counts.items()]

    @cached_property
    def worker_lost(self) -> list[Result]:
        """Tasks that ended because their worker was lost."""
        return [result for result in self.stored.results.values() if result.value == LOST and result.state == "FAILURE"]

    @property
    def never_began(self) -> int:
        """How many of those had never begun."""
        return sum(1 for result in self.worker_lost if result.id not in self.by_id)

    @property
    def doubt(self) -> int:
        """How many tasks may have run again, or ended with their worker."""
        return sum(fault.doubt for fault in self.faults)

    # -- calls ----------------------------------------------------------------------------------------------------

    @cached_property
    def phantoms(self) -> list[int]:
        """Calls whose transaction was rolled back, and which ran all the same."""
        return sorted({run.serial for run in self.runs} & self.ledger.dropped)

    @cached_property
    def doubles(self) -> list[int]:
        """Calls that were enqueued under two ids."""
        ids: dict[int, set[str]] = defaultdict(set)
        for run in self.runs:
            ids[run.serial].add(run.id)
        for call in self.ledger.accepted.values():
            ids[call.serial].add(call.id)
        return sorted(serial for serial, found in ids.items() if len(found) > 1)

    # -- time -----------------------------------------------------------------------------------------------------

    @cached_property
    def recovery(self) -> float:
        """The longest time from a fault until all had ended that had been accepted before it, in seconds."""
        plain = [
            (call.time, self.stored.results[call.id].done)
            for call in self.ledger.accepted.values()
            if call.mode not in PATIENT and not call.name.endswith("_again") and call.id in self.stored.results
        ]
        waits = (
            max((done - fault.time for accepted, done in plain if accepted <= fault.time), default=0.0)
            for fault in self.faults
        )
        return max(0.0, *waits) if self.faults else 0.0

    def picked_up(self, since: float, until: float) -> list[float]:
        """How long those waited that were accepted in that time, and are no patient ones; infinite for one that still
        does. In seconds, the shortest first.
        """
        return sorted(
            max(0.0, self.by_id[call.id][0].began - call.time) if call.id in self.by_id else math.inf
            for call in self.ledger.accepted.values()
            if call.mode not in PATIENT and since <= call.time < until
        )

    # -- judgement ------------------------------------------------------------------------------------------------

    @property
    def problems(self) -> list[str]:
        """What is broken, in words."""
        found = [
            *_some("lost", self.lost),
            *_some("stale", self.stale),
            *_some("rolled back, and run", self.phantoms),
            *_some("enqueued under two ids", self.doubles),
            *_some("left in the queue", sorted(self.stored.waiting)),
        ]
        if self.early_again:
            found.append(f"early tasks ran {self.early_again} times too often")
        hurt = self.runs_again + len(self.worker_lost)
        if hurt > self.doubt:
            found.append(f"{hurt} ran again or ended with their worker, but only {self.doubt} were in doubt")
        for fault in self.faults:
            if fault.doubt > most_in_doubt(fault.children):
                found.append(f"{fault.what}: {fault.doubt} were in doubt, over {most_in_doubt(fault.children)}")
        if not self.accepted:
            found.append("nothing was accepted")
        return found


def most_in_doubt(children: int) -> int:
    """What one fault may leave in doubt: what has been handed over, and two batches that are not yet committed."""
    return children * HANDED_MOST + 2 * BATCH_SIZE if children else 1


def _some(what: str, found: Iterable[object]) -> list[str]:
    """One line for the first few of them."""
    found = list(found)
    return [f"{len(found)} {what}: {', '.join(map(str, found[:3]))}"] if found else []
