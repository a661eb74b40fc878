"""Real beats in processes of their own."""

import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from testproject.postgres.shared import CHECKOUT
from tests.worker.running import DEADLINE, query, wait_until

_numbers = itertools.count(1)


class RunningBeat:
    """One `manage.py runbeat`, in a session of its own."""

    def __init__(self, folder: Path, options: tuple[str, ...], environment: Mapping[str, str]) -> None:
        self.name = f"beat{next(_numbers)}"
        self.output = folder / f"{self.name}.log"
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "runbeat", *options],
                cwd=CHECKOUT,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.pid = self.process.pid

    @property
    def log(self) -> str:
        """All it has said."""
        return self.output.read_text(errors="replace")

    def says(self, text: str, seconds: float = DEADLINE) -> str:
        """Wait until it has said this; returns all it has said."""
        wait_until(lambda: text in self.log or self.process.poll() is not None, f"{self.name} says {text!r}", seconds)
        assert text in self.log, self.log
        return self.log

    def ready(self) -> "RunningBeat":
        """Wait until it has its row: it has synced, and ticks."""
        wait_until(
            lambda: self.process.poll() is not None or query("SELECT 1 FROM djtasks_beat WHERE pid = %s", self.pid),
            f"{self.name} is ready; it said: {self.log}",
        )
        assert self.process.poll() is None, self.log
        return self

    def wait(self) -> int:
        """Wait for its end; returns the exit code."""
        wait_until(lambda: self.process.poll() is not None, f"{self.name} has ended; it said: {self.log}")
        return int(self.process.returncode)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Signal it, and wait for its end."""
        self.process.send_signal(number)
        return self.wait()


class Beats:
    """Starts beats on one database; none outlives it."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url
        self.started: list[RunningBeat] = []

    def launch(self, *options: str, environment: Mapping[str, str] | None = None, **settings: Any) -> RunningBeat:
        """Start a beat with these options and DJTASKS settings; do not wait for it."""
        given = {
            "DATABASE_URL": self.url,
            "EXTRA_APPS": "tests.worker_app",
            "AUDIT": str(self.folder / "audit"),
            "DJTASKS": json.dumps(settings),
            **(environment or {}),
        }
        beat = RunningBeat(self.folder, options, given)
        self.started.append(beat)
        return beat

    def start(self, *options: str, **settings: Any) -> RunningBeat:
        """Start a beat and wait until it ticks."""
        return self.launch("-l", "INFO", *options, **settings).ready()

    def close(self) -> None:
        """Kill whatever is left of them."""
        for beat in self.started:
            if beat.process.poll() is None:
                beat.process.kill()
            beat.process.wait(DEADLINE)
