"""Commands of manage.py as processes of their own, all of which have ended when the block has."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil
from django.conf import settings

#: How long a process may take to end when asked, and what it leaves when it was killed.
PATIENCE = 15.0


class Process:
    """One running command, leader of a session of its own; its output goes to a file."""

    def __init__(self, name: str, arguments: list[str], environment: Mapping[str, str], log: Path) -> None:
        self.name = name
        self.log = log
        with log.open("wb") as output:
            self._popen = subprocess.Popen(
                [sys.executable, settings.BASE_DIR / "manage.py", *arguments],
                cwd=settings.BASE_DIR,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.pid = self._popen.pid
        self._stopped = False

    def output(self) -> str:
        """What the process has printed so far."""
        return self.log.read_text(errors="replace")

    def last_words(self) -> str:
        """The end of what the process has printed, as an error message quotes it; answered requests are no news."""
        news = [line for line in self.output().splitlines() if '" 200 ' not in line]
        return "\n".join([f"The {self.name} said:", *(news[-30:] or ["(nothing)"])])

    def ended(self) -> bool:
        """Whether the process has ended. Its number is kept until `stop`, so that it can be nobody else's."""
        return self._stopped or os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def kill(self) -> None:
        """End the process without a chance to clean up, and nothing but it."""
        os.kill(self.pid, signal.SIGKILL)

    def stop(self) -> None:
        """Ask the process to end, and wait until it and all it has started have; kill those that take too long."""
        if self._stopped:
            return
        os.kill(self.pid, signal.SIGTERM)
        deadline = time.monotonic() + PATIENCE
        while not (self.ended() and not self._descendants()) and time.monotonic() < deadline:
            time.sleep(0.02)
        self.kill()
        for process in self._descendants():
            process.kill()
        self._popen.wait()
        self._stopped = True

    def _descendants(self) -> list[psutil.Process]:
        """What lives in the session that the process leads; the session's number is its own until it is waited for."""
        return [
            process
            for process in psutil.process_iter(["status"])
            if process.pid != self.pid
            and process.info["status"] != psutil.STATUS_ZOMBIE
            and _session_of(process.pid) == self.pid
        ]


class Processes:
    """Starts commands, and stops all of them, the last one first, when its block is left in whatever way."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = environment
        self._folder = tempfile.TemporaryDirectory(prefix="djtasks-demo-")
        self._started: list[Process] = []

    def start(self, name: str, *arguments: str) -> Process:
        """Start `manage.py` with these arguments."""
        log = Path(self._folder.name) / f"{len(self._started)}-{name}.log"
        self._started.append(Process(name, list(arguments), self.environment, log))
        return self._started[-1]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        # An impatient second Ctrl-C would leave behind what has not been stopped yet.
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
        for process in reversed(self._started):
            process.stop()
        signal.signal(signal.SIGINT, before)
        self._folder.cleanup()


def _session_of(pid: int) -> int | None:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None
