"""The verbs as a shell sees them: what they exit with, and where they say it."""

import json
import os
import subprocess
import sys

from testproject.postgres.shared import CHECKOUT


def run(*args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """One `manage.py djtasks`."""
    return subprocess.run(
        [sys.executable, "manage.py", "djtasks", *args],
        cwd=CHECKOUT,
        env={**os.environ, "DATABASE_URL": "postgres://nobody@127.0.0.1:1/none", "EXTRA_APPS": "", **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_what_makes_no_sense_exits_with_64_and_a_sentence() -> None:
    unknown = run("nonsense")
    assert (unknown.returncode, unknown.stdout) == (64, "")
    assert "invalid choice: 'nonsense'" in unknown.stderr
    question = run("check")
    assert (question.returncode, "say what to check" in question.stderr) == (64, True)
    assert "Traceback" not in unknown.stderr + question.stderr


def test_without_a_database_it_exits_with_69_and_says_so() -> None:
    for verb in (("check", "--worker"), ("purge", "-f")):
        found = run("--skip-checks", *verb)
        assert (found.returncode, found.stdout) == (69, ""), found.stderr
        assert "the database does not answer" in found.stderr
        assert "Traceback" not in found.stderr


def test_json_stands_alone_on_stdout() -> None:
    found = run("-b", "redis://", "upgrade", "settings", "tests/cli/test_exit_codes.py", "--json")
    assert (found.returncode, json.loads(found.stdout)["DJTASKS"]) == (0, {})
    assert found.stderr.startswith("--broker does nothing: ")
