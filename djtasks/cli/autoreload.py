"""`runworker --autoreload`: a worker that starts anew when its code changes, for development.

This process only looks at files; the worker is another one, with signals and children of its own.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from importlib import import_module
from types import FrameType

from django.utils import autoreload

from djtasks.registry import import_default_modules

#: How long a worker is given to end what runs, in seconds, before it is told to QUIT.
PATIENCE = 10.0
_PR_SET_PDEATHSIG = 1
_FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1)


class Watcher(autoreload.StatReloader):
    """Django's watcher, which notes what has changed instead of ending the process."""

    def __init__(self) -> None:
        super().__init__()
        self.changed: list[str] = []

    def notify_file_changed(self, path: str | os.PathLike[str]) -> None:
        """A file is not what it was; receivers that see to it themselves (templates) answer with true."""
        answers = autoreload.file_changed.send(sender=self, file_path=path)
        if not any(answer for _, answer in answers):
            self.changed.append(os.fspath(path))


class Supervisor:
    """Keeps one worker, and replaces it."""

    def __init__(self, command: list[str], include: Iterable[str] = ()) -> None:
        self.command = command
        #: Modules to watch beside those that Django's settings name.
        self.include = include
        self.worker: subprocess.Popen[bytes] | None = None
        #: The first signal that ended it all.
        self.told: int | None = None

    def run(self) -> int:
        """Until a signal ends the worker; returns its exit code."""
        import_default_modules()
        for name in self.include:
            import_module(name)
        watcher = Watcher()
        autoreload.autoreload_started.send(sender=watcher)
        for number in _FORWARDED:
            signal.signal(number, self.forward)
        self.start()
        for _ in watcher.tick():
            worker = self.worker
            if worker is not None and worker.poll() is not None:
                if self.told is not None:
                    return worker.returncode if worker.returncode >= 0 else 128 - worker.returncode
                self.say(f"the worker has ended with {worker.returncode}; it starts again when a file changes")
                self.worker = None
            if self.told is not None and self.worker is None:
                return 0
            if watcher.changed and self.told is None:
                self.say(f"{watcher.changed[0]} has changed; starting the worker anew")
                watcher.changed.clear()
                self.stop()
                self.start()
        return 0  # pragma: no cover -- it ticks for ever

    def say(self, text: str) -> None:
        """To whoever develops."""
        sys.stderr.write(f"autoreload: {text}\n")
        sys.stderr.flush()

    def start(self) -> None:
        """Start a worker, unless all is to end."""
        if self.told is None:
            own = os.getpid()
            # A group of its own: a Ctrl-C at the terminal is handed on, and comes once.
            self.worker = subprocess.Popen(self.command, process_group=0, preexec_fn=lambda: _die_with(own))

    def stop(self) -> None:
        """End the worker, and wait for that."""
        worker = self.worker
        if worker is None:
            return
        worker.send_signal(signal.SIGTERM)
        quit_at = time.monotonic() + PATIENCE
        while worker.poll() is None:
            if time.monotonic() >= quit_at:
                worker.send_signal(signal.SIGQUIT)
                quit_at += PATIENCE
            time.sleep(0.05)
        self.worker = None

    def forward(self, number: int, _: FrameType | None) -> None:
        """Hand a signal on to the worker."""
        if number != signal.SIGUSR1:
            self.told = self.told or number
        if self.worker is not None:
            self.worker.send_signal(number)


def _die_with(parent: int) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def supervise(include: Iterable[str]) -> int:
    """Run a worker with the options of this process but for --autoreload."""
    options = [each for each in sys.orig_argv[1:] if each != "--autoreload"]
    return Supervisor([sys.executable, *options], include).run()
