"""Celery itself and djtasks do the same with the same module of tasks."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

#: So that the database is made; what is run in it is in processes of their own.
pytestmark = pytest.mark.django_db(transaction=True)
ROOT = Path(__file__).parents[2]
#: What is meant to be different: the name of the case, and what comes of it here. The page of features says why.
DIFFERENT: dict[str, Any] = {
    "not encodable": [
        "FAILURE",
        [
            "EncodeError",
            [
                "json cannot encode the value: object is no type that JSON can carry;"
                " convert it before the call, or give its class a __json__ method"
            ],
        ],
        [],
    ],
}


def outcome_of(library: str) -> dict[str, Any]:
    command = [sys.executable, "-W", "ignore", "-m", "tests.differential.run", library]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=150)
    assert done.returncode == 0, done.stdout + done.stderr
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


@pytest.fixture(scope="module")
def celerys() -> dict[str, Any]:
    return outcome_of("celery")


@pytest.fixture(scope="module")
def ours(django_db_setup: None) -> dict[str, Any]:
    return outcome_of("djtasks")


@pytest.mark.parametrize("kind", ["calls", "facts"])
def test_the_same_tasks_do_the_same(kind: str, celerys: dict[str, Any], ours: dict[str, Any]) -> None:
    theirs, here = celerys[kind], ours[kind]
    assert theirs.keys() == here.keys()
    different = {name: {"celery": theirs[name], "djtasks": here[name]} for name in theirs if theirs[name] != here[name]}
    unexpected = {name: both for name, both in different.items() if DIFFERENT.get(name) != both["djtasks"]}
    assert not unexpected, "\n".join(f"{name}\n  {both}" for name, both in unexpected.items())
    assert {name for name in DIFFERENT if name in theirs} <= different.keys()
