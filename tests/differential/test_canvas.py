"""Workflows look as Celery's do, and do the same where they are called."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

#: So that the database is made; what is run in it is in processes of their own.
pytestmark = pytest.mark.django_db(transaction=True)
ROOT = Path(__file__).parents[2]
#: Where Celery's way is a slip of its own, which the page of features names.
DIFFERENT = {
    # Appended stamps replace those of a chain's links.
    "stamped linked chain with words twice, appended",
}


def made_by(library: str) -> dict[str, Any]:
    command = [sys.executable, "-W", "ignore", "-m", "tests.differential.run_canvas", library]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer


@pytest.fixture(scope="module")
def celerys() -> dict[str, Any]:
    return made_by("celery")


@pytest.fixture(scope="module")
def ours(django_db_setup: None) -> dict[str, Any]:
    return made_by("djtasks")


@pytest.mark.parametrize("kind", ["table", "facts", "random", "worked"])
def test_workflows_are_put_together_and_run_as_celerys_are(
    kind: str, celerys: dict[str, Any], ours: dict[str, Any]
) -> None:
    theirs, here = celerys[kind], ours[kind]
    assert theirs.keys() == here.keys()
    different = {name for name in theirs if theirs[name] != here[name]}
    shown = "\n".join(f"{name}\n  celery  {theirs[name]}\n  djtasks {here[name]}" for name in different - DIFFERENT)
    assert different == {name for name in DIFFERENT if name in theirs}, shown
