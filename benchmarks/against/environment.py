"""Celery's own environment: made when first needed, beside these files, and used again by later runs."""

import shutil
import sys
from pathlib import Path

from benchmarks.processes import CHECKOUT, Processes
from benchmarks.screen import Screen
from benchmarks.timing import BenchmarkError, Deadline

WANTED = "celery[redis]"
FOLDER = CHECKOUT / "benchmarks" / f".venv-celery-{sys.version_info.major}.{sys.version_info.minor}"
#: Seconds that an installation may take.
PATIENCE = 300.0


def celery_python(processes: Processes, screen: Screen, folder: Path = FOLDER) -> Path:
    """The interpreter of an environment that has Celery. Raises BenchmarkError when it cannot be made."""
    python, ready = folder / "bin" / "python", folder / ".installed"
    if not ready.exists():
        screen.say(f"Installing {WANTED} into {folder}")
        shutil.rmtree(folder, ignore_errors=True)
        _run(processes, "venv", [sys.executable, "-m", "venv", folder])
        _run(processes, "pip", [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", WANTED])
        ready.touch()
    return python


def _run(processes: Processes, name: str, command: list[str | Path]) -> None:
    with processes.running(name, command) as process:
        Deadline(PATIENCE).wait_for(process.ended, every=0.1)
        if not process.succeeded():
            raise BenchmarkError(f"Celery's environment cannot be made.\n{process.last_words()}")
