"""A worker as its commands see it: the first argument of each."""

import resource
import time
from collections import deque
from typing import Any, Final

import psycopg

from djtasks.appstate import current
from djtasks.worker.pools.base import Pool
from djtasks.worker.state import State

#: So many measurements of memory are kept.
SAMPLES: Final = 1000


class NoAnswer(Exception):
    """Raised by a command that was obeyed, and of which nothing is said."""


class Node:
    """One worker. A command has it for as long as it is obeyed."""

    def __init__(self, hostname: str, consumer: Any) -> None:
        self.hostname = hostname
        #: What claims and finishes: Celery's name for it.
        self.consumer = consumer
        #: The worker itself, once it is made.
        self.worker: Any = None
        #: A connection in autocommit, while a command is obeyed.
        self.conn: psycopg.Connection | None = None
        #: The number of the last command.
        self.clock = 0
        #: When it began, in monotonic seconds.
        self.began = time.monotonic()
        #: Measured memory, in bytes, and when: seconds since the epoch.
        self.samples: deque[tuple[float, int]] = deque(maxlen=SAMPLES)

    @property
    def app(self) -> Any:
        """The current app."""
        return current()

    @property
    def pool(self) -> Pool:
        """Where its tasks run."""
        pool: Pool = self.consumer.pool
        return pool

    @property
    def state(self) -> State:
        """What it holds and has counted."""
        state: State = self.consumer.state
        return state

    @property
    def queues(self) -> list[str]:
        """Where it takes from."""
        names: list[str] = self.consumer.claimer.lanes.names
        return names

    @property
    def open_conn(self) -> psycopg.Connection:
        """The connection. Raises RuntimeError where no command is obeyed."""
        if self.conn is None:
            raise RuntimeError("only a command that is being obeyed has a connection")
        return self.conn


def rusage() -> dict[str, float]:
    """What this process has used, as getrusage names it."""
    found = resource.getrusage(resource.RUSAGE_SELF)
    return {name.removeprefix("ru_"): getattr(found, name) for name in dir(found) if name.startswith("ru_")}


def resident() -> int:
    """The memory that this process uses now, in bytes."""
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()
