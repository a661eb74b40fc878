"""Type checkers know what a task takes and returns."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_mypy_knows_what_delay_takes_and_what_get_returns() -> None:
    command = [sys.executable, "-m", "mypy", "--strict", "tests/typing/calls.py"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
