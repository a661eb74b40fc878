"""The fork servers of one pool: the one that makes its children, the one that is to follow it, and former ones.

They share a process group for as long as one of them is there, so that the group in the worker's row stays true, and
a rescue sees all that runs.
"""

import contextlib
import math
import selectors
import time
from collections.abc import Sequence

from djtasks.worker.pools.child import ChildOptions
from djtasks.worker.pools.forkserver import ForkServer
from djtasks.worker.pools.slots import Slots

#: How long after its start a fresh fork server is not followed by another one, in seconds.
TOO_SOON = 5.0
#: A server that is not ready by then never will be, in seconds: some module waits for something as it is imported.
BOOTS_WITHIN = 120.0


class Servers:
    """Belongs to the consumer's thread."""

    def __init__(self, slots: Slots, options: ChildOptions) -> None:
        self.slots = slots
        self.options = options
        self.current = ForkServer(slots, options)
        #: It boots, and takes over when it is ready.
        self.coming: ForkServer | None = None
        #: They end what their children run.
        self.former: list[ForkServer] = []
        #: Those that have something to say.
        self.speaking: set[ForkServer] = set()
        #: When the next one is to be started in place of one that was lost, in monotonic seconds.
        self.start_at: float | None = None
        self._modules: list[str] = []
        self._born = -math.inf
        self._selector: selectors.BaseSelector | None = None

    @property
    def all(self) -> list[ForkServer]:
        """Those that are there."""
        return [each for each in (self.current, self.coming, *self.former) if each is not None and each.pid]

    @property
    def group(self) -> int:
        """The process group in which everything runs; 0 for none."""
        return next((each.group for each in self.all), 0)

    def watch(self, selector: selectors.BaseSelector) -> None:
        """Hear what the first one says."""
        self._selector = selector
        self._hear(self.current)

    def _hear(self, server: ForkServer) -> None:
        if self._selector is not None:
            self._selector.register(server.control, selectors.EVENT_READ, lambda: self.speaking.add(server))

    def start(self) -> None:
        """Start one in place of the lost one. Raises OSError: then it is tried again later."""
        self._born = time.monotonic()
        self.start_at = self._born + TOO_SOON
        self.current = self._execute()
        self.start_at = None

    def call(self, modules: Sequence[str]) -> None:
        """Let one come that takes over; it imports these modules, and so do all after it. Raises OSError."""
        self._born = time.monotonic()
        before, self._modules = self._modules, list(dict.fromkeys([*self._modules, *modules]))
        try:
            self.coming = self._execute()
        except OSError:
            self._modules = before
            raise
        self.start_at = None

    def _execute(self) -> ForkServer:
        server = ForkServer(self.slots, self.options)
        server.execute(self.group, self._modules)
        self._hear(server)
        return server

    def switch(self) -> None:
        """The coming one is ready, and takes over."""
        if self.coming is None:
            return
        before, self.current, self.coming = self.current, self.coming, None
        if before.pid:
            self.former.append(before)
            before.tell("retire")

    def late(self, now: float) -> float:
        """When the coming one has to be ready; it is killed once that is past."""
        if now >= self._born + BOOTS_WITHIN:
            if self.coming is not None:
                self.coming.kill(alone=True)
            return now + 1.0
        return self._born + BOOTS_WITHIN

    def reap(self, server: ForkServer) -> None:
        """It is gone, or is to be: nothing more is heard of it. One that was needed is followed by another."""
        self._unhear(server)
        server.close(alone=len(self.all) > 1)
        self.speaking.discard(server)
        if server is self.coming:
            self.coming = None
        elif server in self.former:
            self.former.remove(server)
        if not self.current.pid and self.coming is None and self.start_at is None:
            # A fresh one that has ended so soon would do so again.
            self.start_at = max(time.monotonic(), self._born + TOO_SOON)

    def _unhear(self, server: ForkServer) -> None:
        if self._selector is not None:
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(server.control)

    def forget_coming(self) -> None:
        """The pool ends: none is to follow."""
        self.start_at = None
        if self.coming is not None:
            self.reap(self.coming)
            self.start_at = None

    def close(self) -> None:
        """Kill them all, and all that came of them."""
        for server in self.all:
            self._unhear(server)
            server.close()
        self.start_at = None
