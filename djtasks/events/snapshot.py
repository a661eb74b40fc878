"""Snapshots: what is known of workers and tasks, handed to a camera every so many seconds."""

import logging
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, ClassVar, Self

from djtasks.events.receiver import Receiver
from djtasks.events.state import State
from djtasks.exceptions import safe_repr
from djtasks.ratelimits import Bucket, parse
from djtasks.signals import Signal

logger = logging.getLogger("djtasks.events")


class Polaroid:
    """A camera: subclass it and define `on_shutter`. Within `with` it takes a snapshot every `freq` seconds.

    At most `maxrate` of them are taken ("10/m"). `on_cleanup` is called every `cleanup_freq` seconds. What these
    raise is logged, and the next one is taken all the same.
    """

    shutter_signal: ClassVar[Signal] = Signal()
    cleanup_signal: ClassVar[Signal] = Signal()
    #: Whether what was heard is forgotten after each snapshot, but for tasks that have not ended.
    clear_after: bool = False

    def __init__(
        self,
        state: State,
        freq: float = 1.0,
        maxrate: str | float | None = None,
        cleanup_freq: float = 3600.0,
        timer: Any = None,
        app: Any = None,
    ) -> None:
        """Raises ValueError for a rate that cannot be read, or times that are none."""
        if not freq > 0 or not cleanup_freq > 0:
            raise ValueError(f"a snapshot is taken every so many seconds, more than 0, not {safe_repr(freq, 100)}")
        self.state = state
        self.freq = float(freq)
        self.cleanup_freq = float(cleanup_freq)
        self.app = app
        self.logger = logger
        rate = parse(maxrate, "maxrate")
        self.maxrate = None if rate is None else Bucket(rate)
        self._halt = threading.Event()
        self._thread: threading.Thread | None = None

    def on_shutter(self, state: State) -> None:
        """Take the snapshot: nothing is heard meanwhile."""

    def on_cleanup(self) -> None:
        """Remove what is old."""

    def install(self) -> None:
        """Begin to take snapshots, on a thread."""
        self._halt.clear()
        self._thread = threading.Thread(target=self._run, name="djtasks-camera", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        cleanup_at = time.monotonic() + self.cleanup_freq
        while not self._halt.wait(self.freq):
            self._safely(self.capture)
            if time.monotonic() >= cleanup_at:
                cleanup_at += self.cleanup_freq
                self._safely(self.cleanup)

    def _safely(self, work: Callable[[], object]) -> None:
        try:
            work()
        except Exception as error:
            logger.error("The camera raised %s", safe_repr(error), exc_info=True)

    def cleanup(self) -> None:
        """Tell that it is time to remove what is old."""
        self.cleanup_signal.send(sender=self.state)
        self.on_cleanup()

    def shutter(self) -> None:
        """Take a snapshot, unless there were too many."""
        if self.maxrate is not None:
            now = time.monotonic()
            if not self.maxrate.tokens(now):
                return
            self.maxrate.take(1, now)
        self.shutter_signal.send(sender=self.state)
        self.on_shutter(self.state)

    def capture(self) -> None:
        """Take a snapshot while nothing is heard."""
        self.state.freeze_while(self.shutter, clear_after=self.clear_after)

    def cancel(self) -> None:
        """Take a last snapshot, and no more."""
        if self._thread is not None:
            self._halt.set()
            self._thread.join(5.0)
            self._thread = None
            self._safely(self.capture)

    def __enter__(self) -> Self:
        self.install()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.cancel()


def record(camera: Polaroid) -> None:
    """Let the camera see all events, until this is interrupted."""
    with camera:
        Receiver(handlers={"*": camera.state.event}).capture()
