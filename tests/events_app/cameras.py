"""Cameras for the tests of events."""

import threading

from djtasks.events import State
from djtasks.events.snapshot import Polaroid


class Counting(Polaroid):
    """Counts its snapshots."""

    seen = threading.Event()

    def on_shutter(self, state: State) -> None:
        """Note that there is something to be seen."""
        if state.event_count:
            self.seen.set()


def no_camera(state: State) -> None:
    """Is none: it takes no frequency."""
