"""`djtasks events`: what happens to tasks and workers, in the terminal, as lines, or as snapshots for a camera."""

import argparse
import inspect
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, NoReturn

from django.utils.module_loading import import_string

from djtasks.cli import foreign
from djtasks.cli.exits import EX_OK, Unavailable, Usage
from djtasks.cli.output import Say, add_json, as_json
from djtasks.cli.watch import NoTerminal, watch
from djtasks.db import events as table
from djtasks.db.connections import borrow
from djtasks.events import Receiver, State
from djtasks.events.snapshot import record
from djtasks.exceptions import OperationalError, safe_repr
from djtasks.registry import import_default_modules

HELP = "Show what happens to tasks and workers, while it happens."
NOBODY = "No worker tells of its tasks: start workers with -E, or say `manage.py djtasks control enable_events`."
_ALWAYS = ("type", "timestamp", "hostname", "local_received", "utcoffset")
_WORDS = {"worker-online": "started", "worker-offline": "shutdown", "worker-heartbeat": "heartbeat"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Celery's options."""
    add = parser.add_argument
    add("-d", "--dump", action="store_true", help="write a line for each event, instead of a view of the terminal")
    add("-c", "--camera", metavar="CLASS", help="take snapshots with this subclass of djtasks.events.snapshot.Polaroid")
    add("-F", "--frequency", "--freq", type=float, metavar="SECONDS", help="so often (default: 1)")
    add("-r", "--maxrate", metavar="RATE", help="at most so many: 10/m, say")
    add("--replay", action="store_true", help="begin with the events that are still kept")
    add_json(parser)
    foreign.add_arguments(parser, foreign.EVENTS)


def run(given: Mapping[str, Any], say: Say) -> int:
    """Show them until told to stop. Raises Usage and Unavailable."""
    foreign.explain(given, foreign.EVENTS, lambda text: sys.stderr.write(f"{text}\n"))
    camera = given.get("camera")
    if camera and (given["dump"] or given["json"]):
        raise Usage("--camera takes snapshots, and --dump and --json write lines: choose one")
    for option in ("frequency", "maxrate"):
        if given.get(option) is not None and not camera:
            raise Usage(f"--{option} is for --camera, and there is none")
    import_default_modules()
    try:
        if camera:
            _record(str(camera), given)
        elif given["dump"] or given["json"]:
            _dump(say, as_lines=not given["json"], replay=given["replay"])
        else:
            watch(replay=given["replay"], hint="" if table.wanted(borrow()) else NOBODY)
    except NoTerminal as error:
        raise Usage(str(error)) from None
    except OperationalError as error:
        raise Unavailable(str(error)) from None
    return EX_OK


def _record(path: str, given: Mapping[str, Any]) -> None:
    frequency = 1.0 if given.get("frequency") is None else given["frequency"]
    if not 0.01 <= frequency <= 86400:
        raise Usage(f"--frequency must be from 0.01 to 86400 seconds, not {frequency:g}")
    try:
        made = import_string(path.replace(":", "."))
    except ImportError as error:
        raise Usage(f"--camera {path}: {error}") from None
    if not callable(made):
        raise Usage(f"--camera {path} must be a class as djtasks.events.snapshot.Polaroid, not {safe_repr(made, 100)}")
    options = {"freq": frequency, "maxrate": given.get("maxrate")}
    try:
        inspect.signature(made).bind(None, **options)
        camera = made(State(), **options)
    except (TypeError, ValueError) as error:
        raise Usage(f"--camera {path}, --maxrate: {error}") from None
    if not all(hasattr(camera, name) for name in ("__enter__", "__exit__", "state")):
        raise Usage(f"--camera {path} must be a subclass of djtasks.events.snapshot.Polaroid")
    sys.stderr.write(f"-> Taking snapshots with {path} (every {frequency:g} s)\n")
    with _until_told():
        record(camera)


def _dump(say: Say, *, as_lines: bool, replay: bool) -> None:
    names: dict[str, str] = {}

    def show(event: dict[str, Any]) -> None:
        say(line_of(event, names) if as_lines else as_json(event))
        sys.stdout.flush()

    if not table.wanted(borrow()):
        sys.stderr.write(f"{NOBODY}\n")
    with _until_told():
        Receiver(handlers={"*": show}, replay=replay).capture()


def line_of(event: Mapping[str, Any], names: dict[str, str]) -> str:
    """An event as a line: who, when, what, and its fields; `names` remembers which task an id is of."""
    type_ = str(event["type"])
    when = datetime.fromtimestamp(event.get("timestamp") or 0, UTC).isoformat(" ", "milliseconds")
    fields = {name: value for name, value in sorted(event.items()) if name not in _ALWAYS}
    parts = []
    if (uuid := fields.pop("uuid", None)) is not None:
        if name := fields.pop("name", None):
            if len(names) > 10_000:
                names.clear()
            names[uuid] = name
        parts.append(f"{_shown(names.get(uuid, ''))}({_shown(uuid)})")
    parts += [f"{_shown(name)}={_shown(value)}" for name, value in fields.items()]
    what = _WORDS.get(type_, type_.replace("-", " "))
    return f"{_shown(event.get('hostname') or '-')} [{when}] {_shown(what)}: {' '.join(parts)}"


def _shown(value: Any) -> str:
    """A value that stays on its line, and does nothing to a terminal."""
    text = value if isinstance(value, str) else safe_repr(value)
    return text if text.isprintable() else safe_repr(text, len(text) * 4 + 2)


@contextmanager
def _until_told() -> Iterator[None]:
    """Until Ctrl-C, SIGTERM, or nobody reads any more."""

    def stop(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    main = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, stop) if main else None
    try:
        yield
    except KeyboardInterrupt:
        pass
    except BrokenPipeError:
        # So that nothing more is said about it when the process ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    finally:
        if main:
            signal.signal(signal.SIGTERM, before)
