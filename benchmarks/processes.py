"""Processes that the benchmarks start. Each leads a session, which tells its descendants from all others for good."""

import contextlib
import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import psutil

CHECKOUT = Path(__file__).resolve().parent.parent
#: How long a process may take to end when asked, in seconds.
PATIENCE = 15.0
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


class Process:
    """One running command; its output goes to a file."""

    def __init__(self, name: str, command: Sequence[str | Path], log: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        self.log = log
        with log.open("wb") as output:
            self._popen = subprocess.Popen(
                command,
                cwd=CHECKOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_die_with_parent,
            )
        self.pid = self._popen.pid
        self._stopped = False

    def output(self) -> str:
        """What it has printed so far."""
        return self.log.read_text(errors="replace")

    def last_words(self) -> str:
        """The end of what it has printed, as an error message quotes it."""
        return "\n".join([f"{self.name} said:", *(self.output().splitlines()[-20:] or ["(nothing)"])])

    def ended(self) -> bool:
        """Whether it has ended. Its number is kept until `stop`, so that it can be nobody else's."""
        return self._stopped or os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def succeeded(self) -> bool:
        """Whether it has ended by itself with exit code 0."""
        end = None if self._stopped else os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        return self._popen.returncode == 0 if end is None else (end.si_code, end.si_status) == (os.CLD_EXITED, 0)

    def stop(self) -> None:
        """Ask it to end; kill it and whatever it has started when that takes too long."""
        if self._stopped:
            return
        if not self.ended():
            self._popen.terminate()
        deadline = time.monotonic() + PATIENCE
        while not self.ended() or self._descendants():
            if time.monotonic() > deadline:
                self._kill()
            time.sleep(0.02)
        self._popen.wait()
        self._stopped = True

    def _kill(self) -> None:
        for process in self._descendants():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        if not self.ended():
            self._popen.kill()

    def _descendants(self) -> list[psutil.Process]:
        """What runs in its session, whoever its parent is by now; itself left out."""
        found = []
        for pid in psutil.pids():
            with contextlib.suppress(ProcessLookupError, PermissionError, psutil.Error):
                if pid != self.pid and os.getsid(pid) == self.pid:
                    process = psutil.Process(pid)
                    if process.status() != psutil.STATUS_ZOMBIE:
                        found.append(process)
        return found


class Processes:
    """Starts commands; each has ended when its block has."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._count = 0

    @contextmanager
    def running(
        self, name: str, command: Sequence[str | Path], environment: Mapping[str, str] | None = None
    ) -> Iterator[Process]:
        """A process that runs for as long as the block."""
        self._count += 1
        process = Process(name, command, self.folder / f"{self._count:03d}.log", environment or {})
        try:
            yield process
        finally:
            process.stop()


def _die_with_parent() -> None:
    """In the new process: a benchmark that is killed leaves nothing behind that eats CPU."""
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
