"""Signals of a worker that are not only about its end, and what it is to be the first process of a container."""

import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from types import FrameType

from djtasks.exceptions import ImproperlyConfigured

logger = logging.getLogger("djtasks.worker")

Handler = Callable[[int, FrameType | None], object]
#: What the first process hands on to its worker.
_FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)


def install(handlers: Mapping[signal.Signals, Handler]) -> None:
    """Take these signals, and USR1, which shows what every thread does. From the main thread."""
    for number, handler in {signal.SIGUSR1: show_stacks, **handlers}.items():
        signal.signal(number, handler)


def term_is_quit() -> bool:
    """Whether REMAP_SIGTERM=SIGQUIT is in the environment: TERM is a QUIT then. Raises ImproperlyConfigured."""
    wanted = os.environ.get("REMAP_SIGTERM", "")
    if wanted not in ("", "SIGTERM", "SIGQUIT"):
        raise ImproperlyConfigured(f"REMAP_SIGTERM can be SIGQUIT, not {wanted!r}; correct the environment")
    return wanted == "SIGQUIT"


def hup_is_ours() -> bool:
    """Whether HUP can be sent only by who means it: no terminal sends it when it is closed, and no nohup forbids it."""
    terminal = sys.__stdin__ is not None and not sys.__stdin__.closed and sys.__stdin__.isatty()
    return not terminal and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN


def show_stacks(_: int, frame: FrameType | None) -> None:
    """Log what every thread does now. The main one may hold a lock of the log at this moment, so another one writes."""
    text = stacks(frame)
    threading.Thread(target=logger.warning, args=("%s", text), name="djtasks-stacks", daemon=True).start()


def stacks(main: FrameType | None = None) -> str:
    """The stack of every thread of this process; `main` is where the main thread was."""
    found = sys._current_frames()
    if main is not None and threading.main_thread().ident is not None:
        found[threading.main_thread().ident or 0] = main
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    parts = [f"Stacks of the process {os.getpid()}:"]
    for ident, frame in found.items():
        parts.append(f"-- {names.get(ident, ident)}")
        parts.append("".join(traceback.format_stack(frame)).rstrip())
    return "\n".join(parts)


def leave_first_place() -> None:
    """In the first process of a container: go on in a child, and let this one do what the first must.

    It hands signals on (the kernel keeps from a first process what it has no handler for), reaps whatever becomes its
    child (what tasks have started and left), and ends with the exit code of the worker. Before threads and connections.
    """
    if os.getpid() != 1:
        return
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    signal.pthread_sigmask(signal.SIG_BLOCK, _FORWARDED)
    if child := os.fork():
        _be_first(child)
    # A Ctrl-C at its terminal is the first one's to hand on, and comes once.
    os.setpgid(0, 0)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _FORWARDED)


def _be_first(child: int) -> None:
    def forward(number: int, _: FrameType | None) -> None:
        # It is not reaped yet, so its number is its own.
        os.kill(child, number)

    for number in _FORWARDED:
        signal.signal(number, forward)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _FORWARDED)
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == child and not os.WIFSTOPPED(status):
            code = os.waitstatus_to_exitcode(status)
            os._exit(code if code >= 0 else 128 - code)
