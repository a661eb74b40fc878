"""The contract between a worker and the pool in which its tasks run.

A pool belongs to the consumer's thread: only that thread calls it. It never touches the task tables; it takes
messages and hands back events, and the consumer says what they mean for the tables.
"""

import logging
import math
import os
import selectors
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple, Self

from djtasks.messages import Claimed, Outcome, Progress

#: How much work is handed to a child at a time, in seconds, and how many messages at the most. What has been handed
#: over counts as begun, so this also bounds what a killed child or worker leaves in doubt.
HANDED_SECONDS = 0.010
HANDED_MOST = 128
#: A message that lies longer than this behind another one's run is taken back.
STUCK_AFTER = 1.0


class Job(NamedTuple):
    """A message and the time limits of its run, in seconds."""

    message: Claimed
    soft: float | None = None
    hard: float | None = None
    #: When its claim was asked for (`since_boot`); it does not begin once that is `stale`.
    asked: float = math.inf
    #: The incarnation under which it was claimed.
    owner: int | None = None


class Unstarted(NamedTuple):
    """A job that was handed over and did not begin: run it elsewhere, or release it."""

    job: Job


class Lost(NamedTuple):
    """A job whose process ended while it ran."""

    job: Job
    #: What became of the process, in words: «signal 9 (SIGKILL)», «exit code 1».
    how: str
    #: The hard time limit for which we killed it ourselves, or None.
    hard: float | None = None
    #: The signal with which it was ended because its task was revoked, or None.
    revoked: int | None = None


class Begun(NamedTuple):
    """A run that has begun: since when, in monotonic seconds (None: nobody knows), and in which process."""

    since: float | None
    pid: int


Event = Outcome | Progress | Unstarted | Lost


class PoolOptions(NamedTuple):
    """What a worker makes its pool of."""

    #: The node's name.
    hostname: str
    #: How many tasks at a time.
    concurrency: int
    #: At most so many messages a slot; 0 for no bound but how long tasks take.
    prefetch_multiplier: int = 0
    #: None, unless the pool says that it `recycles`.
    max_tasks_per_child: int | None = None
    #: KiB
    max_memory_per_child: int | None = None
    loglevel: int = logging.WARNING
    logfile: str | None = None
    #: Modules that a fresh interpreter imports, besides those of the settings.
    include: tuple[str, ...] = ()
    #: The app that it makes the current one, as `-A` names it.
    app: str = ""


class Pace:
    """How long tasks take, so that the pool knows how many to take at a time.

    Slow runs count at once and fast ones little by little: what is guessed too slow costs a round trip, what is
    guessed too fast makes messages lie behind a long run.
    """

    def __init__(self) -> None:
        self.seconds: float | None = None

    def saw(self, runtime: float) -> None:
        """Learn from one run that took so many seconds."""
        if self.seconds is None:
            self.seconds = runtime
        else:
            weight = 0.5 if runtime > 4 * self.seconds else 0.05
            self.seconds += weight * (runtime - self.seconds)

    def depth(self, seconds: float = HANDED_SECONDS, most: int = HANDED_MOST) -> int:
        """How many runs fill that many seconds: at least 1, and 1 while nothing is known."""
        if self.seconds is None:
            return 1
        return max(1, min(most, int(seconds / max(self.seconds, 1e-6))))


class Pool(ABC):
    """Runs jobs. What it can keep is said in its class's attributes: the rest is refused before a worker starts."""

    name: str
    soft_limits = False
    hard_limits = False
    #: Whether it can end what runs.
    terminates = False
    #: Whether it replaces its processes after so many tasks, or so much memory.
    recycles = False
    #: How many tasks it can run at a time; None for as many as are wanted.
    most: int | None = None
    #: How many it runs where nobody says; None for as many as there are CPUs.
    usual: int | None = None
    #: Whether tasks run in the consumer's own thread, which does nothing else meanwhile.
    runs_here = False
    #: Whether tasks run in a fresh interpreter, which knows only what can be imported.
    fresh = False
    #: Whether it can `grow` and `shrink` while it runs, which `--autoscale` needs, too.
    resizes = False
    #: Whether it can `restart`; the process of a worker whose pool cannot is replaced as at a HUP.
    restarts = False

    def __init__(self, concurrency: int, prefetch_multiplier: int = 0) -> None:
        self.concurrency = concurrency
        #: At most so many messages a slot, however fast they are; 0 for no bound but the pace.
        self.prefetch_multiplier = prefetch_multiplier
        self.pace = Pace()
        #: Stores a state at once, for a pool that runs tasks in the consumer's own thread.
        self.tell_now: Callable[[Progress], None] | None = None
        #: It has given up what it cannot end: the worker's process is to be replaced.
        self.worn_out = False

    @classmethod
    def make(cls, options: PoolOptions) -> Self:
        """The pool of a worker; for a pool of one's own whose constructor takes something else."""
        return cls(options.concurrency, options.prefetch_multiplier)

    def prepare(self) -> None:
        """Fork what is to be forked: the worker has neither threads nor connections yet."""
        return

    @property
    def forks(self) -> bool:
        """Whether `prepare` forks, so that threads which run already would be broken."""
        return type(self).prepare is not Pool.prepare

    def depth(self) -> int:
        """How many messages one slot may hold: the one that runs, and what is as good as begun."""
        depth = self.pace.depth()
        return min(depth, self.prefetch_multiplier) if self.prefetch_multiplier else depth

    @property
    @abstractmethod
    def busy(self) -> int:
        """How many jobs it holds."""

    @abstractmethod
    def start(self, selector: selectors.BaseSelector) -> None:
        """Start the slots and register with the selector whatever announces an event."""

    @abstractmethod
    def room(self) -> int:
        """How many more messages it wants now."""

    @abstractmethod
    def submit(self, jobs: Sequence[Job]) -> None:
        """Take these jobs; never blocks."""

    @abstractmethod
    def collect(self) -> list[Event]:
        """What has happened since the last call; never blocks."""

    @abstractmethod
    def tend(self, now: float) -> float | None:
        """Keep limits and slots; `now` and the answer, when it wants to be called next, are monotonic seconds."""

    @abstractmethod
    def running(self) -> list[int]:
        """The claim numbers whose code runs at this moment, as far as the pool can tell."""

    def begun(self) -> dict[int, Begun]:
        """What runs at this moment, by its claim, as far as the pool can tell; to be asked from any thread."""
        return {claim: Begun(None, os.getpid()) for claim in self.running()}

    def processes(self) -> list[int]:
        """The processes in which tasks run."""
        return [os.getpid()]

    @abstractmethod
    def withdraw(self) -> list[Job]:
        """Take back what has not begun."""

    @abstractmethod
    def recall(self, claims: Collection[int]) -> list[Job]:
        """Take these back, as far as they have not begun."""

    @property
    def at_work(self) -> int:
        """How many of its slots have something to run, `concurrency` at the most; for the autoscaler."""
        return min(self.busy, self.concurrency)

    def grow(self, n: int) -> None:
        """Run `n` more at a time from now on: `concurrency` says so at once."""
        raise NotImplementedError(f"the {self.name} pool cannot grow while it runs")

    def shrink(self, n: int) -> int:
        """Run up to `n` less at a time, by slots that have nothing to run; returns how many. One slot stays.

        `concurrency` says so at once, and nothing that runs is ended: 0 is the answer while all are busy.
        """
        raise NotImplementedError(f"the {self.name} pool cannot shrink while it runs")

    def restart(self, modules: Sequence[str]) -> None:
        """Begin anew with freshly imported code and, besides, these modules; what runs ends where it is.

        Raises ValueError, with a sentence, where that may not be now.
        """
        raise NotImplementedError(f"the {self.name} pool cannot restart")

    def terminate(self, claim: int, signum: int) -> bool:
        """End the run of this claim, and nothing else, with a signal; False where that cannot be done.

        It is told as `Lost`, unless the run ends by itself before.
        """
        return False

    @abstractmethod
    def close(self) -> None:
        """Let the slots end once they are idle."""

    @abstractmethod
    def kill(self) -> None:
        """End the slots at once, whatever they do."""

    @abstractmethod
    def join(self, seconds: float) -> None:
        """After `close`: wait until the slots have ended, so many seconds at the most."""

    @property
    def process_group(self) -> int | None:
        """The process group in which all tasks run, if they run in processes."""
        return None
