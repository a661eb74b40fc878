"""`djtasks shell`: Python with the app and its tasks at hand."""

import argparse
import code
import sys
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from typing import Any

import djtasks
from djtasks import canvas
from djtasks.appstate import current_app
from djtasks.cli.exits import Unavailable, Usage
from djtasks.cli.output import Say, as_json
from djtasks.registry import import_default_modules, tasks
from djtasks.result import AsyncResult

HELP = "Python with the app and all tasks at hand."
#: The flags of a letter that they have.
SHELLS = {"ipython": ("-I",), "bpython": ("-B",), "python": ()}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Celery's options, and one for scripts."""
    add = parser.add_argument
    for name, short in SHELLS.items():
        add(*short, f"--{name}", dest="shell", action="store_const", const=name, help=f"with {name}")
    add("-T", "--without-tasks", action="store_true", help="without a name for each task")
    add("-c", "--command", metavar="CODE", help="run this, and end")
    add("-j", "--json", action="store_true", help="with --command: what `_` is then, as JSON")
    for name in ("eventlet", "gevent"):
        add(f"--{name}", action="store_true", help="accepted, and not needed: the shell runs no tasks")


def names(with_tasks: bool) -> dict[str, Any]:
    """What is at hand: the app, the words of workflows, and each task under the last part of its name."""
    words = {
        name: getattr(canvas, name)
        for name in ("chain", "chord", "group", "signature", "xmap", "xstarmap", "chunks")
        if hasattr(canvas, name)
    }
    found = {"app": current_app, "celery": current_app, "djtasks": djtasks, "AsyncResult": AsyncResult, **words}
    if with_tasks:
        own = {name.rpartition(".")[2]: tasks[name] for name in reversed(tasks.names())}
        found = {**{name: task for name, task in own.items() if name.isidentifier()}, **found}
    return found


def run(given: Mapping[str, Any], say: Say) -> int:
    """Talk until it ends. Raises Unavailable for a shell that is not installed, Usage for --json without --command."""
    import_default_modules()
    known = names(not given.get("without_tasks"))
    if given.get("json") and given.get("command") is None:
        raise Usage("--json goes with --command")
    if (text := given.get("command")) is not None:
        exec(text, known)  # noqa: S102 -- what the operator wrote on the command line
        if given.get("json"):
            say(as_json(known.get("_")))
        return 0
    wanted = given.get("shell")
    for name in (wanted,) if wanted else SHELLS:
        if _started(name, known):
            return 0
    raise Unavailable(f"{wanted} is not installed; pip install {wanted}, or use --python")


def _started(name: str, known: dict[str, Any]) -> bool:
    """Whether there is that shell; it has ended then."""
    try:
        if name == "ipython":
            import_module("IPython").start_ipython(argv=[], user_ns=known)
            return True
        if name == "bpython":
            import_module("bpython").embed(known)
            return True
    except ImportError:
        return False
    if sys.stdin.isatty():
        with suppress(ImportError):
            import_module("readline").parse_and_bind("tab: complete")
    code.interact(
        f"djtasks {djtasks.__version__}: app, AsyncResult, {len(tasks.names())} tasks …", local=known, exitmsg=""
    )
    return True
