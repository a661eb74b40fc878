"""Waiting for many results at once: they are handed out as they come, and one query a wake asks for all of them."""

import asyncio
import builtins
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Self

from djtasks.exceptions import TimeoutError
from djtasks.messages import Stored
from djtasks.waiting import Hub, LoopEvent, Waiter, join_hub

#: Those that have come, with their ids.
Arrivals = deque[tuple[str, Stored]]


class _OneOfMany(Waiter):
    """A waiter that notes down which task it waited for."""

    __slots__ = ("arrivals", "task_id")

    def __init__(self, task_id: str, interval: float, event: threading.Event | LoopEvent, arrivals: Arrivals) -> None:
        super().__init__(interval, event)
        self.task_id = task_id
        self.arrivals = arrivals

    def arrive(self, stored: Stored) -> None:
        self.arrivals.append((self.task_id, stored))
        self.event.set()


class _Many:
    """Tasks that are waited for together. Use it as a context manager: outside of it nothing comes."""

    def __init__(self, ids: Iterable[str], interval: float, event: threading.Event | LoopEvent) -> None:
        self.arrivals: Arrivals = deque()
        self.waiters: dict[str, Waiter] = {
            task_id: _OneOfMany(task_id, interval, event, self.arrivals) for task_id in ids
        }
        self.hub: Hub | None = None

    def __enter__(self) -> Self:
        if self.waiters:
            self.hub = join_hub(self.waiters)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.hub is not None:
            self.hub.discard(self.waiters)


class Many(_Many):
    """Tasks that a thread waits for together, by their ids.

    `interval` is how often the table is asked when no ring comes, and how often `on_interval` is called, in seconds.
    """

    def __init__(
        self, ids: Iterable[str], interval: float = 0.5, on_interval: Callable[[], object] | None = None
    ) -> None:
        self.event = threading.Event()
        super().__init__(ids, interval, self.event)
        self.interval = interval
        self.on_interval = on_interval

    def next(self, deadline: float | None) -> tuple[str, Stored]:
        """The next that has ended, and its result; waits until `deadline`, in monotonic seconds.

        Raises djtasks' TimeoutError.
        """
        while not self.arrivals:
            self.event.clear()
            if self.arrivals:
                break
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            slices = [each for each in (left, self.interval if self.on_interval else None) if each is not None]
            if self.event.wait(min(slices, default=None)):
                continue
            if left is not None and left <= 0:
                raise TimeoutError("The operation timed out.")
            if self.on_interval is not None:
                self.on_interval()
        return self.arrivals.popleft()


class AsyncMany(_Many):
    """As `Many`, for a coroutine: its loop goes on meanwhile."""

    def __init__(self, ids: Iterable[str], interval: float = 0.5) -> None:
        self.event = LoopEvent()
        super().__init__(ids, interval, self.event)

    async def next(self, deadline: float | None) -> tuple[str, Stored]:
        """As `Many.next`."""
        while not self.arrivals:
            self.event.clear()
            if self.arrivals:
                break
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            try:
                async with asyncio.timeout(left):
                    await self.event.wait()
            except builtins.TimeoutError as error:
                raise TimeoutError("The operation timed out.") from error
        return self.arrivals.popleft()
