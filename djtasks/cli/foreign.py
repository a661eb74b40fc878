"""Options of Celery's commands that are not needed here: accepted, so that a script need not be changed, and explained.

Each is said once, in one line: why it does nothing.
"""

import argparse
from collections.abc import Callable, Mapping
from typing import Any

from djtasks.finding import find_app

#: The flags, what stands behind them, and why they are not needed; by their name in the namespace.
Options = Mapping[str, tuple[tuple[str, ...], str | None, str]]

_BROKER = "tasks are rows of the database that the DATABASE key of DJTASKS names"
_RESULTS = "results are rows of the same database"
_LOADER = "Django's settings are the configuration; point DJANGO_SETTINGS_MODULE, or --settings, at them"
_EXECUTABLE = (("--executable",), "FILE", "the interpreter is the one that runs manage.py")
_GOSSIP = "workers see each other in the database"

#: Of every command: the flags, what metavar stands behind them (None: nothing does), and why they are not needed.
EVERYWHERE: Options = {
    "foreign_broker": (("-b", "--broker"), "URL", _BROKER),
    "foreign_backend": (("--result-backend",), "URL", _RESULTS),
    "foreign_loader": (("--loader",), "LOADER", _LOADER),
    "foreign_config": (("--config",), "MODULE", _LOADER),
}
#: Of the verbs.
VERBS: Options = {
    **EVERYWHERE,
    "foreign_workdir": (("--workdir",), "DIR", "manage.py knows where the project is"),
    "foreign_quiet": (("-q", "--quiet"), None, "there is no banner"),
}
#: Of `events`.
EVENTS: Options = {
    "foreign_loglevel": (("-l", "--loglevel"), "LEVEL", "LOGGING of Django's settings says what is logged"),
    "foreign_logfile": (("-f", "--logfile"), "FILE", "LOGGING of Django's settings says where to"),
    "executable": _EXECUTABLE,
}
#: Of a worker.
WORKERS: Options = {
    **EVERYWHERE,
    "statedb": (("-S", "--statedb"), "FILE", "revocations are rows of the database, and outlive every worker"),
    "schedule": (
        ("-s", "--schedule", "--schedule-filename"),
        "FILE",
        "when what has run is in the database, and every beat knows it",
    ),
    "scheduler": (("--scheduler",), "CLASS", "schedules are rows of the database"),
    "optimization": (("-O", "--optimization"), "HOW", "a child is given a task when it is free: scheduling is fair"),
    "without_gossip": (("--without-gossip",), None, _GOSSIP),
    "without_mingle": (("--without-mingle",), None, _GOSSIP + ", and so do those that have just started"),
    "without_heartbeat": (
        ("--without-heartbeat",),
        None,
        "without its heartbeat a worker is taken for dead; WORKER_HEARTBEAT_INTERVAL says how often it beats",
    ),
    "heartbeat_interval": (("--heartbeat-interval",), "SECONDS", "WORKER_HEARTBEAT_INTERVAL says how often it beats"),
    "pool_start_method": (
        ("--pool-start-method",),
        "HOW",
        "children are forked by a small process that has imported the project once",
    ),
    "executable": _EXECUTABLE,
}
#: Of a beat.
BEATS: Options = {
    **EVERYWHERE,
    "foreign_hostname": (("-n", "--hostname"), "NODE", "beats are told apart by their machines and processes"),
    "foreign_remote_control": (
        ("--enable-remote-control", "--no-enable-remote-control"),
        None,
        "`djtasks check --beat` asks the tables, and schedules are changed there",
    ),
    "executable": _EXECUTABLE,
}


def add_arguments(parser: argparse.ArgumentParser, options: Options) -> None:
    """These options; what is not given is not in the namespace."""
    for dest, (flags, metavar, why) in options.items():
        more: dict[str, Any] = {"action": "store_true"} if metavar is None else {"metavar": metavar}
        text = f"accepted, and not needed: {why}".replace("%", "%%")
        parser.add_argument(*flags, dest=dest, default=argparse.SUPPRESS, help=text, **more)


def add_no_color(parser: argparse.ArgumentParser) -> None:
    """`-C`, beside Django's own name for it."""
    parser.add_argument("-C", dest="no_color", action="store_true", default=argparse.SUPPRESS, help="as --no-color")


def add_app(parser: argparse.ArgumentParser) -> None:
    """`-A`."""
    text = "a module with an app in it, or module:attribute, which is imported first"
    parser.add_argument("-A", "--app", metavar="APP", default=argparse.SUPPRESS, help=text)


def explain(given: Mapping[str, Any], options: Options, say: Callable[[str], Any]) -> None:
    """Say of those that were given why they do nothing."""
    for dest, (flags, _, why) in options.items():
        if given.get(dest):
            say(f"{flags[-1]} does nothing: {why}")


def use_app(given: Mapping[str, Any]) -> None:
    """Make the app of `-A`, if there is one, the current one. Raises ImproperlyConfigured."""
    if given.get("app"):
        find_app(given["app"]).set_current()
