"""The benchmarks from end to end, with amounts so small that their figures say nothing."""

import contextlib
import json
import os
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import psutil

from benchmarks.processes import CHECKOUT

MARK = "BENCHMARKS_TEST"
EXPECTED = {
    "djtasks": {
        *(
            "enqueue_single",
            "enqueue_bulk",
            "body_bytes",
            "drain",
            "cpu_worker",
            "cpu_server",
            "drain_info",
            "log_lines",
        ),
        *("pickup_p50", "pickup_p95", "pickup_p99", "pickup_call_p50"),
        *("chain", "chord", "chord_body", "chord_finish", "enqueue_group"),
        *("tick_p50", "tick_p99", "tick_sent_p99", "tick_samples"),
        *("tenants_p50", "tenants_p99", "tenants_worst", "tenants_flood_left", "tenants_drain"),
        *("wal_call", "wal_run", "wal_drain", "wal_single"),
        *("wal_call_hasty", "wal_run_hasty", "wal_drain_hasty", "wal_single_hasty"),
        *("memory", "memory_alone", "memory_anonymous", "memory_file", "memory_processes"),
    },
    "sql": {"drain", "cpu_worker", "cpu_server"},
}


def run(file: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`python -m benchmarks`, in quick."""
    command = [sys.executable, "-m", "benchmarks", "--quick", "--tasks", "300", "--json", str(file), *arguments]
    return subprocess.run(
        command, cwd=CHECKOUT, env={**os.environ, **environment}, capture_output=True, text=True, timeout=150
    )


def marked(mark: str) -> list[str]:
    """The processes that were started by the run of this mark, and are still there."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(MARK) == mark:
                found.append(str(process))
    return found


def test_a_quick_run_measures_everything_and_leaves_nothing_that_runs(tmp_path: Path) -> None:
    file, mark = tmp_path / "figures.json", uuid.uuid4().hex
    done = run(file, "--sql", **{MARK: mark})
    assert done.returncode == 0, done.stdout + done.stderr
    data: dict[str, Any] = json.loads(file.read_text())
    assert {side: set(figures) for side, figures in data["figures"].items()} == EXPECTED
    for side, figures in data["figures"].items():
        for key, figure in figures.items():
            assert figure["median"] > 0, (side, key)
    assert data["figures"]["djtasks"]["body_bytes"]["median"] >= 80
    assert data["figures"]["djtasks"]["memory_processes"]["median"] == 4
    assert data["server"]["fsync"] == data["server"]["synchronous_commit"] == "on"
    assert data["failures"] == {}
    assert "Drain, log level INFO" in done.stdout
    assert "fsync on" in done.stdout
    assert marked(mark) == []


def test_a_run_against_celery_without_redis_says_what_is_missing_and_measures_the_rest(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    done = run(file, "--only", "single", "--against", "celery", PATH="/nowhere")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "apt-get install redis-server" in done.stdout
    data = json.loads(file.read_text())
    assert data["figures"]["djtasks"]["enqueue_single"]["median"] > 0
    assert "redis-server" in data["failures"]["Celery"]


def test_a_phase_that_takes_too_long_is_given_up_and_the_others_count(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    done = run(file, "--only", "single,pickup", "--deadline", "1.5")
    assert done.returncode == 1, done.stdout + done.stderr
    data = json.loads(file.read_text())
    assert set(data["failures"]) == {"pick-up when idle"}
    assert "--deadline allows more" in data["failures"]["pick-up when idle"]
