"""The demo: from a form in a browser to a census made by a real worker, and what is left of it afterwards."""

import os
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import psutil
import psycopg
import pytest
from psycopg import sql

from testproject.census.browser import Browser
from testproject.census.source import MAX_BYTES, Facts, Unreadable, find_files, read
from testproject.postgres.shared import CHECKOUT

MODULE = '''
"""A module."""

import os
import xml.dom
from json import dumps
from . import sibling


class Thing:
    def short(self):
        """Documented."""

    async def long(self):
        return [
            1,
        ]
'''

Demo = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A small tree: thirty modules, and what no census can count."""
    folder = tmp_path / "tree"
    for number in range(30):
        package = folder / f"package{number % 3}"
        package.mkdir(parents=True, exist_ok=True)
        (package / f"module{number}.py").write_text(MODULE)
    (folder / "broken.py").write_text("def broken(:\n")
    (folder / "notes.txt").write_text("not Python")
    return folder


@pytest.fixture
def own_database(server_url: str) -> Iterator[str]:
    """A new database on the server of this run."""
    name = f"demo_{uuid.uuid4().hex}"
    with psycopg.connect(server_url, autocommit=True) as conn:
        conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        base, _, _ = server_url.partition("?")
        yield f"{base.rpartition('/')[0]}/{name}"
        conn.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def marked() -> Iterator[dict[str, str]]:
    """An environment by which all processes of a test are known; none of them may be there when it ends."""
    mark = {"DEMO_TEST": uuid.uuid4().hex}
    yield mark
    left = processes_with(mark)
    for process in left:
        process.kill()
    assert left == []


def processes_with(mark: Mapping[str, str]) -> list[psutil.Process]:
    """All living processes that have these variables in their environment."""
    found = []
    for process in psutil.process_iter():
        try:
            if mark.items() <= process.environ().items() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found


def demo(environment: Mapping[str, str], *arguments: str) -> subprocess.Popen[str]:
    inherited = {name: value for name, value in os.environ.items() if name != "DATABASE_URL"}
    return subprocess.Popen(
        [sys.executable, "manage.py", "demo", *arguments],
        cwd=CHECKOUT,
        env={**inherited, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_the_demo_takes_a_complete_census_with_the_embedded_server_and_leaves_no_process(
    tree: Path, server_folder: Path, marked: dict[str, str]
) -> None:
    running = demo({**marked, "POSTGRES_FOLDER": str(server_folder)}, "--dir", str(tree))
    said, _ = running.communicate()
    assert running.returncode == 0, said
    assert "The census: 31 files, 510 lines, 60 functions, 30 classes" in said
    assert "broken.py: SyntaxError" in said
    assert "all 31 files in" in said
    assert "The body of the chord was handed 31 results: 30 counted, 1 failed" in said
    assert said.count("Periodic census at ") == 2


def test_the_census_is_complete_although_the_worker_was_killed(
    tree: Path, own_database: str, marked: dict[str, str]
) -> None:
    running = demo({**marked, "DATABASE_URL": own_database}, "--dir", str(tree), "--chaos")
    said, _ = running.communicate()
    assert running.returncode == 0, said
    assert said.count("Started worker") == 2
    assert "all 31 files in" in said
    assert "handed 31 results" in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_no_process(
    tree: Path, own_database: str, marked: dict[str, str], number: signal.Signals
) -> None:
    running = demo({**marked, "DATABASE_URL": own_database, "CENSUS_PAUSE": "60"}, "--dir", str(tree), "--chaos")
    assert running.stdout
    while "files" not in running.stdout.readline():
        assert running.poll() is None
    running.send_signal(number)
    said, _ = running.communicate(timeout=60)
    assert running.returncode == 128 + number, said


def test_a_demo_that_is_kept_is_watched_live_by_a_visitor_of_its_own(
    tree: Path, own_database: str, marked: dict[str, str]
) -> None:
    running = demo({**marked, "DATABASE_URL": own_database}, "--dir", str(tree), "--keep")
    assert running.stdout
    said = ""
    while "Everything stays as it is" not in said:
        line = running.stdout.readline()
        assert line, said
        said += line
    found = re.search(r"Watch it live: http://127\.0\.0\.1:(\d+)(/\S+)\s+\(name (\S+), password (\S+)\)", said)
    assert found, said
    port, path, name, password = found.groups()
    browser = Browser(f"http://127.0.0.1:{port}/")
    address, page = browser.submit(f"/admin/login/?next={path}", username=name, password=password)
    assert address.endswith(path)
    assert "What is wrong right now" in page
    assert "testproject.census.tasks.summarise" in browser.get(f"{path}tasks/?q=name:summarise")
    running.send_signal(signal.SIGINT)
    rest, _ = running.communicate(timeout=60)
    assert running.returncode == 0, said + rest
    assert "all 31 files in" in said + rest
    with psycopg.connect(own_database) as conn:
        assert conn.execute("SELECT count(*) FROM auth_user").fetchone() == (0,)


def test_a_demo_that_takes_too_long_fails_and_says_so(tree: Path, own_database: str, marked: dict[str, str]) -> None:
    running = demo({**marked, "DATABASE_URL": own_database}, "--dir", str(tree), "--deadline", "0")
    said, _ = running.communicate()
    assert running.returncode == 1
    assert "Time is up." in said


def test_a_folder_without_python_is_refused(tmp_path: Path, own_database: str, marked: dict[str, str]) -> None:
    running = demo({**marked, "DATABASE_URL": own_database}, "--dir", str(tmp_path))
    said, _ = running.communicate()
    assert running.returncode == 1
    assert "There is no Python file" in said


def test_a_module_is_counted_as_its_reader_would(tmp_path: Path) -> None:
    file = tmp_path / "module.py"
    file.write_text(MODULE)
    assert read(file) == Facts(
        lines=17,
        functions=2,
        classes=1,
        imports=["json", "os", "xml"],
        longest_function="long",
        longest_function_lines=4,
        documentable=4,
        documented=2,
    )


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"x = (", "SyntaxError"),
        (b"a\0b", "null bytes"),
        (b"# coding: nonsense\n", "nonsense"),
        (b"x = " + b"-" * 200_000 + b"1", "MemoryError|RecursionError"),
        (b"#" * (MAX_BYTES + 1), "larger than"),
        (b'# coding: utf-7\nx = "+2AA-"', "surrogates"),
    ],
)
def test_what_cannot_be_counted_says_why_in_text_that_can_be_stored(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    file = tmp_path / "odd.py"
    file.write_bytes(content)
    with pytest.raises(Unreadable, match=reason) as raised:
        read(file)
    text = str(raised.value)
    assert text.encode()
    assert "\0" not in text


def test_only_regular_python_files_are_found_and_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "b.py").touch()
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "c.py").touch()
    (tmp_path / "folder.py").mkdir()
    (tmp_path / "link.py").symlink_to("b.py")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    os.mkfifo(tmp_path / "pipe.py")
    assert list(find_files(tmp_path)) == ["b.py", "a/c.py"]
