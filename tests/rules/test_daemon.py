"""What a program does to run on its own, and what a beat refuses to start with."""

import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from djtasks.cli import beat
from djtasks.cli.daemon import Pidfile, settle
from djtasks.exceptions import ImproperlyConfigured


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"loglevel": "LOUD"}, "--loglevel: 'LOUD' is no logging level"),
        ({"max_interval": -1.0}, "--max-interval must be from 0.01 to 86400 seconds"),
        ({"max_interval": float("nan")}, "--max-interval must be from"),
        ({"umask": "9"}, "--umask must be octal digits, as 022"),
        ({"umask": "1000"}, "--umask must be from 000 to 777"),
        ({"workdir": "/no/such/folder"}, "--workdir /no/such/folder: No such file"),
        ({"uid": "no such user"}, "name a user and a group that there are"),
        ({"gid": "999999999"}, "name a user and a group that there are"),
        ({"app": "no_such_module"}, "there is no module"),
        ({"pidfile": "/no/such/folder/beat.pid"}, "--pidfile /no/such/folder/beat.pid: No such file"),
    ],
)
def test_what_it_cannot_start_with_is_said_in_a_sentence(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ImproperlyConfigured) as caught:
        beat.run(given)
    assert said in str(caught.value)


def test_a_pid_file_tells_who_runs_and_lets_no_second_one_start(tmp_path: Path) -> None:
    path = tmp_path / "beat.pid"
    first, second = Pidfile(path), Pidfile(path)
    first.acquire()
    assert path.read_text() == f"{os.getpid()}\n"
    with pytest.raises(ImproperlyConfigured, match=rf"runs already \(pid {os.getpid()}\)"):
        second.acquire()
    first.release()
    assert not path.exists()
    second.acquire()
    second.release()


@pytest.mark.parametrize("text", ["", "no number", "1\n", str(2**40)])
def test_a_pid_file_that_nobody_holds_is_taken_over_whatever_it_says(tmp_path: Path, text: str) -> None:
    path = tmp_path / "beat.pid"
    path.write_text(text)
    pidfile = Pidfile(path)
    pidfile.acquire()
    assert path.read_text() == f"{os.getpid()}\n"
    pidfile.release()


def _hold(path: Path, pipe: Any) -> None:
    Pidfile(path).acquire()
    pipe.send("held")
    signal.pause()


def test_a_pid_file_of_a_process_that_was_killed_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "beat.pid"
    ear, voice = multiprocessing.Pipe()
    process = multiprocessing.get_context("fork").Process(target=_hold, args=(path, voice))
    process.start()
    assert ear.recv() == "held"
    with pytest.raises(ImproperlyConfigured, match=f"pid {process.pid}"):
        Pidfile(path).acquire()
    process.kill()
    process.join()
    assert path.exists()
    Pidfile(path).acquire()


def test_a_link_in_place_of_a_pid_file_is_never_written_through(tmp_path: Path) -> None:
    path, precious = tmp_path / "beat.pid", tmp_path / "precious"
    precious.write_text("precious")
    for target in (precious, tmp_path / "nowhere"):
        path.symlink_to(target)
        pidfile = Pidfile(path)
        pidfile.acquire()
        assert not path.is_symlink()
        assert path.read_text() == f"{os.getpid()}\n"
        pidfile.release()
    assert precious.read_text() == "precious"
    held = Pidfile(precious)
    held.acquire()
    path.symlink_to(precious)
    with pytest.raises(ImproperlyConfigured, match="runs already"):
        Pidfile(path).acquire()


def test_a_pid_file_that_another_has_taken_over_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "beat.pid"
    pidfile = Pidfile(path)
    pidfile.acquire()
    path.unlink()
    path.write_text("another")
    pidfile.release()
    assert path.read_text() == "another"


def test_the_folder_and_the_umask_are_taken_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    before = os.umask(0o22)
    try:
        settle({"workdir": str(tmp_path), "umask": "027", "uid": None, "gid": None})
        assert Path.cwd() == tmp_path.resolve()
        assert os.umask(0o22) == 0o27
    finally:
        os.umask(before)
