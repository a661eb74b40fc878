"""The files of docs/deploy are well formed, and what they start is a command that we have."""

import configparser
import json
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from django.core.management import load_command_class

from testproject.postgres.shared import CHECKOUT

FOLDER = CHECKOUT / "docs" / "deploy"
UNITS = sorted(FOLDER.glob("*.service"))


def ini(path: Path) -> configparser.ConfigParser:
    """A file of sections; systemd, too, writes the same key twice only where both count."""
    found = configparser.ConfigParser(interpolation=None, strict=True, comment_prefixes=("#", ";"))
    found.optionxform = str  # type: ignore[assignment,method-assign]
    found.read_string(path.read_text())
    return found


def values(found: Any, key: str) -> Iterator[Any]:
    """All that stands under this key, however deep."""
    if isinstance(found, dict):
        for name, each in found.items():
            if name == key:
                yield each
            yield from values(each, key)
    elif isinstance(found, list):
        for each in found:
            yield from values(each, key)


def lines() -> list[tuple[str, list[str]]]:
    """All calls of manage.py, as words, with the file they stand in."""
    found: list[tuple[str, list[str]]] = []
    for unit in UNITS:
        found.append((unit.name, shlex.split(ini(unit)["Service"]["ExecStart"])))
    supervisor = ini(FOLDER / "supervisor.conf")
    found += [("supervisor.conf", shlex.split(supervisor[name]["command"])) for name in supervisor.sections()]
    text = (FOLDER / "Containerfile").read_text()
    found += [("Containerfile", json.loads(words)) for words in re.findall(r"CMD (\[.*\])$", text, re.MULTILINE)]
    for name in ("compose.yaml", "kubernetes.yaml"):
        for document in yaml.safe_load_all((FOLDER / name).read_text()):
            found += [(name, words) for words in values(document, "command")]
            found += [(name, words[1:]) for words in values(document, "test")]
    return [(name, words[words.index("manage.py") + 1 :]) for name, words in found if "manage.py" in words]


@pytest.mark.parametrize(("name", "words"), lines(), ids=lambda given: given if isinstance(given, str) else "")
def test_what_is_started_is_a_command_of_ours_with_options_that_it_has(name: str, words: list[str]) -> None:
    if words == ["migrate"]:
        return
    given = [word for word in words[1:] if not word.startswith("$")]
    parser = load_command_class("djtasks", words[0]).create_parser("manage.py", words[0])
    parser.parse_args(given)


def test_every_way_to_start_one_is_there() -> None:
    for command in ("runworker", "runbeat"):
        assert {name for name, words in lines() if words[0] == command} >= {
            "supervisor.conf",
            "compose.yaml",
            "kubernetes.yaml",
        }
    assert len(UNITS) == 2


def test_whoever_stops_a_worker_waits_longer_than_the_worker_does() -> None:
    waits = [int(words[words.index("--shutdown-timeout") + 1]) for _, words in lines() if words[0] == "runworker"]
    assert set(waits) == {280}
    worker = ini(FOLDER / "djtasks-worker@.service")["Service"]
    assert int(worker["TimeoutStopSec"]) > waits[0]
    assert (worker["KillMode"], worker["KillSignal"]) == ("mixed", signal.SIGTERM.name)
    assert int(ini(FOLDER / "supervisor.conf")["program:djtasks-worker"]["stopwaitsecs"]) > waits[0]
    assert yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]["worker"]["stop_grace_period"] == "5m"
    grace = [
        seconds
        for document in yaml.safe_load_all((FOLDER / "kubernetes.yaml").read_text())
        for seconds in values(document, "terminationGracePeriodSeconds")
    ]
    assert grace == [300]


def test_the_container_s_first_process_is_python_and_no_shell() -> None:
    text = (FOLDER / "Containerfile").read_text()
    assert re.findall(r"^CMD (.)", text, re.MULTILINE) == ["["]
    assert "STOPSIGNAL SIGTERM" in text


def test_systemd_understands_its_units(tmp_path: Path) -> None:
    # The programs and users that they name are of the reader's machine.
    made = []
    for unit in UNITS:
        text = unit.read_text().replace("/srv/site/.venv/bin/python", sys.executable).replace("/srv/site", "/")
        assert ini(unit).sections() == ["Unit", "Service", "Install"]
        made.append(tmp_path / unit.name.replace("@", "@1"))
        made[-1].write_text(re.sub(r"^(User|Group)=.*$", "", text, flags=re.MULTILINE))
    if program := shutil.which("systemd-analyze"):
        done = subprocess.run([program, "verify", "--man=no", *made], capture_output=True, text=True, check=False)
        said = [line for line in done.stderr.splitlines() if "djtasks" in line]
        assert said == []
