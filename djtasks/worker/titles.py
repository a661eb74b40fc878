"""Titles of processes: what `ps` shows of them, where setproctitle is installed."""

import os
import shlex
import sys

try:
    from setproctitle import setproctitle
except ImportError:  # pragma: no cover -- an extra
    setproctitle = None  # type: ignore[assignment]

_enabled = False


def enable() -> None:
    """Let this process, and what it forks, be called by titles: it is a worker's own."""
    global _enabled
    # The environment stays readable from outside; a title is as long as the command line was, then.
    os.environ.setdefault("SPT_NOENV", "1")
    _enabled = setproctitle is not None


def name(text: str) -> None:
    """Call this process that, with the arguments it was started with."""
    if _enabled:
        arguments = sys.argv[1:]
        setproctitle(f"[djtasks: {text}] {shlex.join(arguments) if arguments[:1] == ['runworker'] else ''}".rstrip())
