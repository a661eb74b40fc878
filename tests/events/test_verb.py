"""`manage.py djtasks events`: lines, snapshots, and the view of the terminal, in a real one."""

import fcntl
import json
import os
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import uuid
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from djtasks.events import Dispatcher
from testproject.postgres.shared import CHECKOUT
from tests.events_app.cameras import Counting
from tests.waits import wait_until

pytestmark = pytest.mark.usefixtures("no_events")


@pytest.fixture
def task() -> str:
    """A task of which something is known."""
    found = str(uuid.uuid4())
    send = Dispatcher(hostname="w1@here").send
    send("task-received", uuid=found, name="shop.pay", args="('\x1b[2J',)", kwargs="{}", retries=0, eta=None)
    send("task-started", uuid=found)
    send(
        "task-failed", uuid=found, exception="ValueError('no money')", traceback="Traceback\n  in the shop\nValueError"
    )
    send("worker-heartbeat", freq=60, active=1, processed=7, loadavg=[0.1, 0.2, 0.3])
    return found


class Lines:
    """An output that has enough after so many lines."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.lines: list[str] = []

    def write(self, text: str) -> None:
        self.lines += text.splitlines()
        if len(self.lines) >= self.most:
            raise KeyboardInterrupt


def shown(most: int, *options: str) -> list[str]:
    out = Lines(most)
    call_command("djtasks", "events", "--replay", *options, stdout=out)
    return out.lines


def test_each_event_is_a_line(task: str, capsys: pytest.CaptureFixture[str]) -> None:
    received, started, failed, beat = shown(4, "--dump")
    assert received.startswith("w1@here [20")
    assert f"task received: shop.pay({task}) args=" in received
    assert "\x1b" not in received
    assert f"task started: shop.pay({task})" in started
    assert "exception=ValueError('no money')" in failed
    assert r"traceback='Traceback\n  in the shop" in failed
    assert "heartbeat: active=1" in beat
    assert "No worker tells of its tasks: start workers with -E" in capsys.readouterr().err


def test_each_event_is_an_object(task: str) -> None:
    found = [json.loads(line) for line in shown(4, "--json")]
    assert [event["type"] for event in found] == ["task-received", "task-started", "task-failed", "worker-heartbeat"]
    assert {event.get("uuid") for event in found} == {task, None}


def test_a_camera_is_run_until_it_is_told_to_end() -> None:
    def end() -> None:
        def heard() -> bool:
            Dispatcher(hostname="w1@here").send("custom-thing")
            return Counting.seen.is_set()

        wait_until(heard, "the camera has seen something")
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=end)
    thread.start()
    call_command("djtasks", "events", "--camera", "tests.events_app.cameras:Counting", "-F", "0.02", "-r", "1000/s")
    thread.join()


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ([], "this is no terminal: use --dump"),
        (["--camera", "nowhere.Camera"], "--camera nowhere.Camera: "),
        (["--camera", "tests.events_app.cameras.no_camera"], "--camera tests.events_app.cameras.no_camera"),
        (["--camera", "tests.events_app.cameras.Counting", "-F", "0"], "--frequency must be from 0.01 to 86400"),
        (["--camera", "tests.events_app.cameras.Counting", "-r", "often"], "maxrate must be a number"),
        (["--camera", "tests.events_app.cameras.Counting", "--dump"], "choose one"),
        (["--dump", "-F", "3"], "--frequency is for --camera"),
    ],
)
def test_what_makes_no_sense_is_refused(options: list[str], why: str) -> None:
    with pytest.raises(CommandError, match=why) as refused:
        call_command("djtasks", "events", *options)
    assert refused.value.returncode == 64


class Terminal:
    """A process in a terminal of its own."""

    def __init__(self, *command: str, lines: int, columns: int) -> None:
        self.said = b""
        self.end, theirs = os.openpty()
        self._size(lines, columns)
        # What says how large the terminal of the tests is says nothing of this one.
        environment = {key: value for key, value in os.environ.items() if key not in {"COLUMNS", "LINES"}}
        self.process = subprocess.Popen(
            [sys.executable, *command],
            cwd=CHECKOUT,
            env={**environment, "TERM": "xterm"},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)

    def _size(self, lines: int, columns: int) -> None:
        fcntl.ioctl(self.end, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def resize(self, lines: int, columns: int) -> None:
        self._size(lines, columns)
        self.process.send_signal(signal.SIGWINCH)

    def press(self, keys: str) -> None:
        os.write(self.end, keys.encode())

    def read(self) -> bool:
        """Take in what it says; False once it has ended."""
        if select.select([self.end], [], [], 0.05)[0]:
            try:
                more = os.read(self.end, 65536)
            except OSError:
                return False
            self.said += more
            return bool(more)
        return True

    def shows(self, text: str) -> None:
        try:
            wait_until(lambda: self.read() and text.encode() in self.said, f"the terminal shows {text!r}", 60)
        except AssertionError:
            raise AssertionError(f"the terminal does not show {text!r}, but {self.said!r}") from None

    def code(self) -> int:
        wait_until(lambda: not self.read(), "it has ended")
        return self.process.wait(20)


def test_the_terminal_shows_tasks_and_what_is_known_of_one(task: str, database: str, monkeypatch: Any) -> None:
    monkeypatch.setenv("DATABASE_URL", database)
    terminal = Terminal("manage.py", "djtasks", "events", "--replay", lines=24, columns=120)
    try:
        terminal.shows(task)
        terminal.shows("shop.pay")
        terminal.shows("FAILURE")
        terminal.shows("1/1")
        for key, text in (("t", "in the shop"), ("r", "no money"), ("i", "exception: ValueError")):
            terminal.press(key)
            terminal.shows(text)
            terminal.said = b""
            terminal.press("x")
            terminal.shows("Selected")
        terminal.press("c")
        terminal.shows("Revoke")
        terminal.press("y\r")
        terminal.shows("revoke " + task[:8])
        # Too small for anything, and it goes on all the same.
        for lines, columns in ((2, 10), (1, 1)):
            terminal.resize(lines, columns)
            terminal.press("jkGi")
            terminal.said = b""
            wait_until(lambda: terminal.read() and terminal.said, "it is drawn")
            terminal.press("x")
        terminal.press("q")
        assert terminal.code() == 0, terminal.said
    finally:
        terminal.process.kill()
        terminal.process.wait()
        os.close(terminal.end)
