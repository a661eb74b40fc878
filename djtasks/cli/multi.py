"""`djtasks multi`: many workers in the background, started, stopped and shown with one line, as `celery multi`.

A node runs while its pid file is locked: the number in a file that nobody locks says nothing, and is never signalled.
"""

import argparse
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from django.core.management import load_command_class
from django.core.management.base import CommandError

import djtasks
from djtasks.cli import daemon, worker
from djtasks.cli.exits import EX_FAILURE, EX_OK, Refusal
from djtasks.cli.nodes import Line, Node, is_signal, nodes_of, read
from djtasks.cli.output import Say
from djtasks.cli.running import Found, look
from djtasks.exceptions import ImproperlyConfigured

HELP = "Many workers in the background: start, restart, stop, stopwait, kill, show, get, names, expand."
USAGE: Final = """\
usage: djtasks multi start <node1 node2 nodeN|count> [options of runworker]
       djtasks multi restart <n1 n2 nN|count> [-SIG] [options of runworker]
       djtasks multi stop <n1 n2 nN|count> [-SIG (default: -TERM)] [--pidfile=FILE]
       djtasks multi stopwait <n1 n2 nN|count> [-SIG] [--pidfile=FILE]
       djtasks multi kill <n1 n2 nN|count> [--pidfile=FILE]

       djtasks multi show <n1 n2 nN|count> [options of runworker]
       djtasks multi get NODE <n1 n2 nN|count> [options of runworker]
       djtasks multi names <n1 n2 nN|count>
       djtasks multi expand TEMPLATE <n1 n2 nN|count>
       djtasks multi help

Options of runworker are for all nodes (-c 3), or for some: -c:1 10, -c:1-3 10, -c:1,2 10, -c:image 10. A short one
takes the next word as its value; a long one has it behind =. What stands behind -- goes to all as it is.

    --pidfile=%n.pid --logfile=%n%I.log    where they are, if not here; stop needs the same --pidfile as start
    --range-prefix=celery                  what counted nodes are called
    --prefix= --suffix= --hostname=        what comes before and after names
    --executable=PYTHON                    the Python that runs them
    --nosplash --quiet --verbose           say less, or more
"""
#: How often a node that ends is looked at, in seconds.
LOOK_EVERY: Final = 0.1
#: How long the lock of a process that is gone may be held by what it has started, in seconds.
LOCK_END: Final = 15.0
_QUIET: Final = ("--nosplash", "--quiet", "-q", "--verbose", "--no-color")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What follows is read by `nodes`."""
    parser.add_argument("words", nargs=argparse.REMAINDER, metavar="...", help="`multi help` says more")


def run(given: Mapping[str, Any], say: Say) -> int:
    """Do it; returns Celery's exit codes. Raises Refusal."""
    words = list(given["words"])
    said = {word for word in _QUIET if word in words}
    words = [word for word in words if word not in _QUIET]
    multi = Multi(
        say, quiet=bool({"--quiet", "-q"} & said), verbose="--verbose" in said, splash="--nosplash" not in said
    )
    if {"--help", "-h"} & set(words):
        return multi.help([])
    if not words or words[0] not in multi.verbs:
        what = f"there is no `multi {words[0]}`" if words else "multi: say what to do"
        raise Refusal(f"{what}; there are {', '.join(sorted(multi.verbs))}, and `multi help` says more")
    return multi.verbs[words[0]](words[1:])


class Multi:
    """The verbs."""

    def __init__(self, say: Say, *, quiet: bool = False, verbose: bool = False, splash: bool = True) -> None:
        self.say = say
        self.quiet = quiet
        self.verbose = verbose
        self._splash = splash and not quiet
        self.verbs: dict[str, Callable[[list[str]], int]] = {
            "start": self.start,
            "restart": self.restart,
            "stop": self.stop,
            "stopwait": self.stopwait,
            "stop_verify": self.stopwait,
            "kill": self.kill,
            "show": self.show,
            "get": self.get,
            "names": self.names,
            "expand": self.expand,
            "help": self.help,
        }

    def note(self, text: str) -> None:
        """Say it, unless nobody wants to hear it."""
        if not self.quiet:
            self.say(text)

    def splash(self) -> None:
        """Who speaks."""
        if self._splash:
            self.say(f"djtasks multi v{djtasks.__version__}")

    # -- what changes nothing -------------------------------------------------------------------------------------

    def show(self, words: list[str]) -> int:
        """The command lines."""
        for node in nodes_of(read(words)):
            self.say(shlex.join(command(node)))
        return EX_OK

    def get(self, words: list[str]) -> int:
        """That of one node, without the Python; 1 when there is no such node."""
        for node in nodes_of(read(words[1:])):
            if node.name == words[0]:
                self.say(shlex.join(command(node)[1:]))
                return EX_OK
        return EX_FAILURE

    def names(self, words: list[str]) -> int:
        """The nodes' names."""
        for node in nodes_of(read(words)):
            self.say(node.name)
        return EX_OK

    def expand(self, words: list[str]) -> int:
        """A text, filled in for each node."""
        if not words:
            raise Refusal("multi expand: say what to expand, as `multi expand %n.log 3`")
        for node in nodes_of(read(words[1:])):
            self.say(node.expand(words[0]))
        return EX_OK

    def help(self, words: list[str]) -> int:
        """How it is used."""
        self.say(USAGE)
        return EX_OK

    # -- starting -------------------------------------------------------------------------------------------------

    def start(self, words: list[str]) -> int:
        """Start them, one after the other; 1 when one of them did not start."""
        self.splash()
        nodes = checked(nodes_of(read(words)))
        self.note("> Starting nodes...")
        return max([self._start(node, f"\t> {node.name}: ") for node in nodes])

    def _start(self, node: Node, before: str) -> int:
        words = command(node)
        if self.verbose:
            self.note(f"  {shlex.join(words)}")
        # A file: what the worker leaves in the background may keep a pipe open.
        with tempfile.TemporaryFile() as output:
            try:
                done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False)
            except OSError as error:
                self.say(f"{before}FAILED\n* {words[0]}: {error.strerror}; look at --executable")
                return EX_FAILURE
            output.seek(0)
            said = output.read().decode(errors="replace").strip()
        if done.returncode == 0:
            self.note(f"{before}OK")
            return EX_OK
        how = (
            f"terminated by signal {-done.returncode}"
            if done.returncode < 0
            else f"terminated with exit code {done.returncode}"
        )
        # Said, however quiet: which one it was, and why.
        self.say(f"{before}FAILED\n* Child {how}" + (f": {said}" if said else ""))
        return EX_FAILURE

    # -- stopping -------------------------------------------------------------------------------------------------

    def stop(self, words: list[str]) -> int:
        """Signal those that run, and do not wait."""
        self.splash()
        line = read(words)
        nodes = nodes_of(line)
        _, code = self._signal(nodes, signal_of(line), "> Stopping nodes...")
        return code

    def kill(self, words: list[str]) -> int:
        """End them at once: what they run is rescued by others."""
        self.splash()
        _, code = self._signal(nodes_of(read(words)), signal.SIGKILL, "> Killing nodes...")
        return code

    def stopwait(self, words: list[str]) -> int:
        """Signal those that run, and wait until they have ended."""
        self.splash()
        line = read(words)
        signalled, code = self._signal(nodes_of(line), signal_of(line), "> Stopping nodes...")
        self._wait(signalled)
        return code

    def restart(self, words: list[str]) -> int:
        """Signal those that run, wait for their end, and start all; 1 when one did not start."""
        self.splash()
        line = read(words)
        nodes = checked(nodes_of(line))
        signalled, code = self._signal(nodes, signal_of(line), "> Stopping nodes...", down=False)
        if code:
            return code
        self._wait(signalled)
        return max([self._start(node, f"> Restarting node {node.name}: ") for node in nodes])

    def _signal(
        self, nodes: Iterable[Node], number: int, title: str, *, down: bool = True
    ) -> tuple[list[tuple[Node, Found]], int]:
        """Signal those of them that run; returns those, and 1 when one of them could not be."""
        self.note(title)
        code, signalled = EX_OK, []
        for node in nodes:
            found = look(node)
            if found.problem:
                self.say(f"> {node.name}: {found.problem}")
                code = EX_FAILURE
            elif not found.pid:
                if down:
                    self.note(f"> {node.name}: DOWN")
            else:
                self.note(f"\t> {node.name}: {_name_of(number)} -> {found.pid}")
                try:
                    os.kill(found.pid, number)
                except ProcessLookupError:
                    self.note(f"Could not signal {node.name} ({found.pid}): No such process")
                except PermissionError:
                    self.say(
                        f"> {node.name}: its process {found.pid} is another user's; stop it as that user, or as root"
                    )
                    code = EX_FAILURE
                    continue
                signalled.append((node, found))
        return signalled, code

    def _wait(self, signalled: Sequence[tuple[Node, Found]]) -> None:
        """Until they have ended, and let go of their pid files."""
        left = list(signalled)
        gone_at: dict[str, float] = {}
        if left:
            count = f"{len(left)} node{'s' if len(left) > 1 else ''}"
            self.note(f"> Waiting for {count} -> {', '.join(str(found.pid) for _, found in left)}...")
        while left:
            for node, found in list(left):
                if found.lives():
                    continue
                since = gone_at.setdefault(node.name, time.monotonic())
                if not daemon.is_held(node.pidfile) or time.monotonic() - since > LOCK_END:
                    self.note(f"\t> {node.name}: OK")
                    left.remove((node, found))
            if left:
                time.sleep(LOOK_EVERY)


def signal_of(line: Line) -> int:
    """The last signal among the options, or TERM. Raises Refusal for one that there is not."""
    for word in reversed(line.written):
        if is_signal(word):
            name = word.removeprefix("-")
            try:
                return signal.Signals(int(name)) if name.isdigit() else signal.Signals["SIG" + name.removeprefix("SIG")]
            except (KeyError, ValueError):
                raise Refusal(f"there is no signal {name} here; see `kill -l`") from None
    return signal.SIGTERM


def _name_of(number: int) -> str:
    return signal.Signals(number).name


def command(node: Node) -> list[str]:
    """The whole command line of a node."""
    words = list(node.command) if node.command is not None else [*_program(), "runworker", "--detach"]
    return [node.executable or sys.executable, *words, *node.words()]


def _program() -> list[str]:
    """The words with which this very program was started, up to the command."""
    said = sys.orig_argv[1:]
    if "djtasks" in said[1:]:
        return said[: said.index("djtasks", 1)]
    return [sys.argv[0]]


def checked(nodes: list[Node]) -> list[Node]:
    """These nodes, if they can be started side by side. Raises Refusal with a sentence before any of them is."""
    seen: dict[str, str] = {}
    for node in nodes:
        for what, key in (("the name", node.name), ("the pid file", os.path.abspath(node.pidfile))):
            if key in seen:
                cure = "put %n into --pidfile" if what == "the pid file" else "give each its own"
                raise Refusal(f"{seen[key]} and {node.name} have {what} {key} in common; {cure}")
            seen[key] = node.name
        if node.command is None:
            _check_options(node)
        for path in (node.pidfile, os.path.join(node.options.get("--workdir") or "", _log_of(node))):
            folder = os.path.dirname(os.path.abspath(path))
            try:
                os.makedirs(folder, exist_ok=True)
            except OSError as error:
                raise Refusal(f"{node.name}: the folder {folder} cannot be made ({error.strerror})") from None
    return nodes


def _log_of(node: Node) -> str:
    return node.options.get("--logfile") or node.options.get("-f") or ""


def _check_options(node: Node) -> None:
    """Let runworker read them here, where nothing has been started yet."""
    parser = load_command_class("djtasks", "runworker").create_parser("manage.py", "runworker")
    try:
        worker.worker_options(vars(parser.parse_args(node.words())))
    except (CommandError, ImproperlyConfigured) as error:
        raise Refusal(f"{node.name}: {error}") from None
