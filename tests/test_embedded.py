"""The embedded server is shared by the processes of a checkout, and gone when the last of them is."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from testproject.postgres.cluster import postmaster, stop
from testproject.postgres.shared import CHECKOUT, DATA
from tests.waits import wait_until

#: Holds the server until its standard input is closed. With an argument it forks, and of the two only the one that is
#: named goes on; the parent waits for a child that ends.
HOLDER = """
import os, sys
from pathlib import Path
from testproject.postgres.shared import SharedServer
SharedServer(Path(sys.argv[1])).ensure()
if survivor := sys.argv[2:]:
    child = os.fork()
    if child and survivor == ["parent"]:
        os.waitpid(child, 0)
    if survivor != ["parent" if child else "child"]:
        sys.exit()
print("ready", flush=True)
sys.stdin.read()
"""


class Holder:
    """A process that uses the server until `end`; or that forks, and only its `survivor` goes on."""

    def __init__(self, folder: Path, survivor: str = "") -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", HOLDER, folder, *([survivor] if survivor else [])],
            cwd=CHECKOUT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ready(self) -> "Holder":
        """Wait until it holds the server."""
        assert self.process.stdout
        assert self.process.stdout.readline()
        return self

    def end(self) -> None:
        """Let it end in the usual way."""
        assert self.process.stdin
        self.process.stdin.close()
        assert self.process.wait(30) == 0

    def kill(self) -> None:
        """End it with no chance to clean up."""
        self.process.kill()
        self.process.wait(30)


@pytest.fixture
def folder(server_folder: Path) -> Iterator[Path]:
    yield server_folder / "postgres"
    for data in server_folder.glob(f"*/{DATA}"):
        stop(data, "immediate")


@pytest.fixture
def hold(folder: Path) -> Iterator[Callable[..., Holder]]:
    made: list[Holder] = []

    def start(survivor: str = "") -> Holder:
        made.append(Holder(folder, survivor))
        return made[-1]

    yield start
    for holder in made:
        holder.kill()


def running(folder: Path) -> bool:
    return postmaster(folder / DATA) is not None


def guards(folder: Path) -> list[psutil.Process]:
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if (process.info["cmdline"] or [])[-2:] == ["testproject.postgres.shared", str(folder)]
    ]


def test_the_last_process_to_end_stops_the_server_and_nothing_is_left(
    folder: Path, hold: Callable[..., Holder]
) -> None:
    first, second = hold(), hold()
    first.ready(), second.ready()
    first.end()
    assert running(folder)
    second.end()
    assert not running(folder)
    assert guards(folder) == []


def test_a_killed_process_does_not_keep_the_server(folder: Path, hold: Callable[..., Holder]) -> None:
    killed, other = hold().ready(), hold().ready()
    killed.kill()
    assert running(folder)
    other.end()
    assert not running(folder)


def test_the_server_stops_when_its_only_user_was_killed(folder: Path, hold: Callable[..., Holder]) -> None:
    hold().ready().kill()
    wait_until(lambda: not running(folder) and not guards(folder), "server and guard are gone")


def test_a_forked_child_that_ends_does_not_stop_its_parents_server(folder: Path, hold: Callable[..., Holder]) -> None:
    parent = hold("parent").ready()
    assert running(folder)
    parent.end()
    assert not running(folder)


def test_a_forked_child_that_outlives_its_parent_still_has_the_server(
    folder: Path, hold: Callable[..., Holder]
) -> None:
    parent = hold("child")
    assert parent.process.wait(30) == 0
    assert running(folder)
    assert parent.process.stdin
    parent.process.stdin.close()
    wait_until(lambda: not running(folder), "the server is gone")


def test_the_server_starts_again_after_everything_was_killed_and_its_number_is_anothers(
    folder: Path, hold: Callable[..., Holder]
) -> None:
    holder = hold().ready()
    server = postmaster(folder / DATA)
    assert server
    for process in [*guards(folder), server]:
        process.kill()
    holder.kill()
    wait_until(lambda: not running(folder), "the server is gone")
    file = folder / DATA / "postmaster.pid"
    _, _, rest = file.read_text().partition("\n")
    file.write_text(f"{os.getpid()}\n{rest}")
    hold().ready().end()
    assert not running(folder)


def test_an_initdb_that_was_killed_half_way_is_begun_anew(folder: Path, hold: Callable[..., Holder]) -> None:
    (folder / f"{DATA}.new").mkdir(parents=True)
    (folder / f"{DATA}.new" / "PG_VERSION").write_text("18\n")
    hold().ready().end()
    assert (folder / DATA / "PG_VERSION").read_text() == "18\n"


def test_a_folder_made_anew_under_the_same_name_is_not_touched_by_the_old_ones_guard(
    folder: Path, hold: Callable[..., Holder]
) -> None:
    old = hold().ready()
    folder.rename(folder.with_name("moved"))
    new = hold().ready()
    old.kill()
    wait_until(lambda: len(guards(folder)) == 1, "the old guard is gone")
    assert running(folder)
    new.end()
    assert not running(folder)


@pytest.mark.parametrize("arguments", [["--help"], ["check"], ["runserver", "--help"]])
def test_a_command_that_needs_no_database_starts_no_server(tmp_path: Path, arguments: list[str]) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    environment["POSTGRES_FOLDER"] = str(tmp_path / "postgres")
    command = [sys.executable, "manage.py", *arguments]
    assert subprocess.run(command, cwd=CHECKOUT, env=environment, capture_output=True).returncode == 0
    assert not (tmp_path / "postgres").exists()
