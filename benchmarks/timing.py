"""Deadlines: no phase goes on for ever, whatever it waits for."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, TypeVar

T = TypeVar("T")


class BenchmarkError(Exception):
    """A phase could not be measured; the text says why."""


class Needed(Protocol):
    """A process without which there is nothing to wait for."""

    name: str

    def ended(self) -> bool:
        """Whether it has ended."""

    def last_words(self) -> str:
        """The end of what it has printed."""


class Deadline:
    """The time that one phase may take."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._at = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds that are left; 0 when there are none."""
        return max(0.0, self._at - time.monotonic())

    def check(self, *needed: Needed) -> None:
        """Raise BenchmarkError when the time is up, or when a process has ended that is needed."""
        for process in needed:
            if process.ended():
                raise BenchmarkError(f"{process.name} has ended before its time.\n{process.last_words()}")
        if not self.left():
            words = "".join(f"\n{process.last_words()}" for process in needed)
            raise BenchmarkError(f"not done within {self.seconds:g} s; --deadline allows more{words}")

    def wait_for(self, found: Callable[[], T | None], *needed: Needed, every: float = 0.01) -> T:
        """Ask every so many seconds until the answer is neither None nor False; the answer. Raises as `check`."""
        while True:
            answer = found()
            if answer is not None and answer is not False:
                return answer
            self.check(*needed)
            time.sleep(every)

    def each(self, items: Iterable[T], stride: int = 100) -> Iterator[T]:
        """The items, with a look at the clock now and then."""
        for number, item in enumerate(items):
            if not number % stride:
                self.check()
            yield item
