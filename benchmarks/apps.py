"""The app of the benchmarks. In a worker that is to be weighed it lets a signal collect garbage."""

import gc
import os
import signal
from types import FrameType

from django.apps import AppConfig

#: The environment's name for the file in which each process notes that it has collected.
NOTES = "BENCHMARKS_COLLECTED"


class BenchmarksConfig(AppConfig):
    """The tasks, and the signal."""

    name = "benchmarks"

    def ready(self) -> None:
        """A handler that is there before the worker forks is there in all of its processes."""
        if NOTES in os.environ:
            signal.signal(signal.SIGUSR2, collect)


def collect(_: int, __: FrameType | None) -> None:
    """Collect garbage, and note this process's id."""
    gc.collect()
    notes = os.open(os.environ[NOTES], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(notes, f"{os.getpid()}\n".encode())
    finally:
        os.close(notes)
