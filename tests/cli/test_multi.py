"""`djtasks multi`: what it makes of a line is what Celery makes of it; what it starts, it finds again, and ends."""

import fcntl
import json
import os
import shlex
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from djtasks.cli.nodes import nodes_of, read

HOST = ["--hostname=box.example.com"]
#: Lines that Celery and we are to read alike. No option of theirs stands before Celery's command.
LINES = [
    ["3"],
    ["1", "-l", "INFO"],
    ["3", "-c", "3", "-c:1", "10"],
    ["image", "video", "data", "-c", "3", "-c:image", "10"],
    ["image", "video", "data", "-c", "3", "-c:2", "10"],
    ["10", "-l", "INFO", "-Q:1-3", "images,video", "-Q:4,5", "data", "-Q", "default", "-l:4,5", "DEBUG"],
    ["5", "-c", "3", "-c:1-3", "10"],
    ["foo", "bar", "baz", "xuzzy", "-c", "3", "-c:foo,bar,baz", "10"],
    ["foo", "bar", "-c:1,2", "4", "--time-limit:bar=9"],
    ["3", "--range-prefix=worker"],
    ["w1", "w2", "--prefix=pre-", "--suffix=there"],
    ["w1", "--suffix=''"],
    ["foo@worker.example.com", "bar@other", "-c:foo@worker.example.com", "2"],
    ["w1@here", "-E"],
    ["2", "--pidfile=/tmp/none/%n.pid", "--logfile=/tmp/none/%N-%d-%h-%p%I-%i.log"],
    ["a-b", "c.d", "--pidfile=/tmp/none/%n.pid", "-c:a-b", "7"],
    ["2", "-B:1", "-Q:1", "a", "--prefetch-multiplier=4"],
    ["2", "-c:1-9", "3"],
]
TEMPLATES = ["%n", "%N", "%d", "%h", "%p", "%n%I.log", "/run/%n-%i.pid", "plain", "100%"]

CELERYS = """
    import json, sys
    from celery.bin.multi import MultiTool
    from io import StringIO
    def ask(*words):
        out = StringIO()
        tool = MultiTool(stdout=out, stderr=out)
        tool.execute_from_commandline(["celery multi", *words])
        return out.getvalue().splitlines()
    lines, templates = json.load(sys.stdin)
    found = []
    for line in lines:
        with_files = line if any("pidfile" in word for word in line) else [*line, "--pidfile=%n.pid"]
        if not any("logfile" in word for word in with_files):
            with_files = [*with_files, "--logfile=%n%I.log"]
        found.append([ask("names", *line), ask("show", *with_files)])
    print(json.dumps([found, [ask("expand", template, *lines[2]) for template in templates]]))
"""


def djtasks(*words: str) -> tuple[int, str]:
    """The exit code, and what is said."""
    said = StringIO()
    try:
        call_command("djtasks", *words, stdout=said, stderr=said)
    except CommandError as error:
        return error.returncode, f"{said.getvalue()}{error}"
    except SystemExit as error:
        return int(error.code or 0), said.getvalue()
    return 0, said.getvalue()


def multi(*words: str) -> tuple[int, str]:
    """`djtasks multi` with these words."""
    return djtasks("multi", *words)


# -- the line -----------------------------------------------------------------------------------------------------


def options_in(line: str) -> list[str]:
    """The options of a worker in a command line, in groups: each with its value."""
    words = shlex.split(line)
    words = words[words.index("--detach") + 1 :]
    return [word for word in words if not word.startswith("--executable=")]


def test_names_options_and_templates_are_those_of_celery(tmp_path: Path) -> None:
    asked = json.dumps([[[*HOST, *line] for line in LINES], TEMPLATES])
    theirs = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CELERYS)],
        input=asked,
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"]},
    )
    found, expanded = json.loads(theirs.stdout)
    for line, (names, shown) in zip(LINES, found, strict=True):
        nodes = nodes_of(read([*HOST, *line]))
        assert [node.name for node in nodes] == names, line
        ours = [sorted(node.words()) for node in nodes]
        assert ours == [sorted(options_in(each)) for each in shown], line
    nodes = nodes_of(read([*HOST, *LINES[2]]))
    for template, each in zip(TEMPLATES, expanded, strict=True):
        assert [node.expand(template) for node in nodes] == each, template


def test_what_is_shown_can_be_run() -> None:
    words = ["-c", "3", "-c:1", "10", "-Q", "a, b", *HOST, "--executable=/opt/python", "--", "--purge"]
    code, said = multi("show", "2", *words)
    first, second = map(shlex.split, said.splitlines())
    assert (code, first[0]) == (0, "/opt/python")
    name, files = "celery1@box.example.com", ["--pidfile=celery1.pid", "--logfile=celery1%I.log"]
    assert first[first.index("runworker") + 1 :] == (
        ["--detach", "-c", "10", "-Q", "a, b", "-n", name, *files, "--purge"]
    )
    options = second[second.index("runworker") :]
    assert options[options.index("-c") + 1] == "3"


def test_one_node_is_got_by_its_name() -> None:
    code, said = multi("get", "w2@here", "w1@here", "w2@here", "-c:w2", "5")
    assert (code, "-c 5 -n w2@here" in said, said.count("\n")) == (0, True, 1)
    assert multi("get", "w3@here", "w1@here")[0] == 1


def test_help_says_how_it_is_used() -> None:
    for words in (["help"], ["start", "--help"]):
        code, said = multi(*words)
        assert (code, "djtasks multi restart" in said) == (0, True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["dance", "3"], "there is no `multi dance`; there are expand, get, help"),
        ([], "multi: say what to do"),
        (["start"], "say which nodes"),
        (["names", "0"], "0 nodes are too many, or none"),
        (["start", "1000000"], "1000000 nodes are too many"),
        (["start", "w1", "-"], "'-' is no option"),
        (["show", "w1", "-c:2", "3"], "there is no node number 2, for -c; there are 1"),
        (["show", "2", "-c:3", "3"], "there is no node number 3, for -c; there are 2"),
        (["show", "3", "-c:1-x", "3"], "'1-x' is no range of nodes"),
        (["expand"], "say what to expand"),
        (["expand", "%q", "2"], "there is no abbreviation %q"),
        (["show", "2", "--pidfile=%z.pid"], "there is no abbreviation %z"),
        (["show", "w%z"], "there is no abbreviation %z in names"),
        (["show", "2", '--append="'], "--append"),
        (["stop", "w1", "-77"], "there is no signal 77"),
        (["start", "a", "a"], "have the name a@"),
        (["start", "2", "--pidfile=/tmp/one.pid"], "have the pid file /tmp/one.pid in common; put %n into --pidfile"),
        (["start", "w1", "--no-such-option"], "unrecognized arguments: --no-such-option"),
        (["start", "w1", "-c", "0"], "--concurrency must be at least 1"),
        (["start", "w1", "-c", "many"], "argument -c/--concurrency: invalid int value"),
        (["start", "w1", "--pidfile=/proc/none/%n.pid"], "the folder /proc/none cannot be made"),
    ],
)
def test_what_makes_no_sense_is_said_before_anything_starts(words: list[str], said: str) -> None:
    code, text = multi(*words)
    assert said in text
    assert code in (1, 64)


# -- pid files ----------------------------------------------------------------------------------------------------


@pytest.fixture
def stranger() -> Iterator[subprocess.Popen[bytes]]:
    """A process that is nobody's worker."""
    with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE) as found:
        yield found
        found.kill()


def test_a_number_that_is_left_over_is_never_signalled(tmp_path: Path, stranger: subprocess.Popen[bytes]) -> None:
    (tmp_path / "w1.pid").write_text(f"{stranger.pid}\n")
    (tmp_path / "w2.pid").write_text("no number\n")
    code, said = multi("stopwait", "w1", "w2", "w3", f"--pidfile={tmp_path}/%n.pid", "-KILL")
    assert code == 0
    assert said.count("DOWN") == 3
    assert stranger.poll() is None


def test_a_link_in_the_place_of_a_pid_file_is_left_alone(tmp_path: Path, stranger: subprocess.Popen[bytes]) -> None:
    (tmp_path / "real").write_text(f"{stranger.pid}\n")
    (tmp_path / "w1.pid").symlink_to(tmp_path / "real")
    code, said = multi("stop", "w1", f"--pidfile={tmp_path}/%n.pid")
    assert (code, "is a link, or no file at all; remove it" in said) == (1, True)
    assert stranger.poll() is None


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give files away")
def test_a_file_of_one_user_that_names_the_process_of_another_is_not_believed(
    tmp_path: Path, stranger: subprocess.Popen[bytes]
) -> None:
    path = tmp_path / "w1.pid"
    path.write_text(f"{stranger.pid}\n")
    os.chown(path, 12345, 12345)
    with path.open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        code, said = multi("stop", "w1", f"--pidfile={path}")
    assert (code, f"names the process {stranger.pid} of another user" in said) == (1, True)
    assert stranger.poll() is None
