"""`runbeat`: Celery's options to a beat that runs."""

import argparse
import logging
import math
import os
import signal
from collections.abc import Mapping
from typing import Any

import djtasks
from djtasks.beat.service import Beat, BeatOptions
from djtasks.cli import daemon, foreign, user_options
from djtasks.conf import settings
from djtasks.db.connections import borrow
from djtasks.exceptions import ImproperlyConfigured
from djtasks.finding import find_app
from djtasks.log import level_of, setup_logging
from djtasks.registry import import_default_modules
from djtasks.worker.banner import say
from djtasks.worker.ready import open_ready

logger = logging.getLogger("djtasks.beat")

#: Bounds of --max-interval, in seconds.
_INTERVALS = (0.01, 86_400.0)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Celery's options of a beat. What is not given comes from the settings."""
    add = parser.add_argument
    add("-A", "--app", metavar="APP", help="a module with an app in it, or module:attribute, which is imported first")
    add("-l", "--loglevel", metavar="LEVEL", default="WARNING", help="DEBUG, INFO, WARNING, ERROR or CRITICAL")
    add("-f", "--logfile", metavar="FILE", help="log there instead of to stderr")
    add("--max-interval", type=float, metavar="SECONDS", help="sleep no longer (default: BEAT_MAX_LOOP_INTERVAL)")
    add("-s", "--schedule", metavar="FILE", help="accepted, and not needed: schedules are rows of the database")
    add("-S", "--scheduler", metavar="CLASS", help="accepted, and not needed: there is one scheduler")
    add("-q", "--quiet", action="store_true", help="no banner")
    daemon.add_arguments(parser)
    foreign.add_arguments(parser, foreign.BEATS)
    foreign.add_no_color(parser)
    user_options.add_arguments(parser, "beat")


def beat_options(given: Mapping[str, Any]) -> BeatOptions:
    """The options of a beat. Raises ImproperlyConfigured."""
    interval = given.get("max_interval")
    if interval and not (math.isfinite(interval) and _INTERVALS[0] <= interval <= _INTERVALS[1]):
        raise ImproperlyConfigured(
            f"--max-interval must be from {_INTERVALS[0]:g} to {_INTERVALS[1]:.0f} seconds (0: the setting"
            f" BEAT_MAX_LOOP_INTERVAL), not {interval:g}"
        )
    return BeatOptions(interval or None)


def run(given: Mapping[str, Any]) -> int:
    """Run a beat until it is told to stop; returns its exit code. Raises ImproperlyConfigured."""
    try:
        level = level_of(given.get("loglevel") or "WARNING")
    except ValueError as error:
        raise ImproperlyConfigured(f"--loglevel: {error}") from error
    options = beat_options(given)
    daemon.settle(given)
    if not given.get("detach"):
        return _run(given, options, level, None)
    birth = daemon.detach()
    try:
        return _run(given, options, level, birth)
    except BaseException as error:
        birth.failed(str(error) or type(error).__name__)
        raise


def _run(given: Mapping[str, Any], options: BeatOptions, level: int, birth: daemon.Birth | None) -> int:
    if given.get("app"):
        find_app(given["app"]).set_current()
    user_options.tell(given)
    pidfile = daemon.Pidfile(given["pidfile"]) if given.get("pidfile") else None
    if pidfile is not None:
        pidfile.acquire()
    try:
        try:
            setup_logging(level, given.get("logfile"))
        except OSError as error:
            raise ImproperlyConfigured(f"the log file cannot be written: {error}") from error
        _explain(given)
        foreign.explain(given, foreign.BEATS, logger.info)
        import_default_modules()
        open_ready("start beat").close()
        if birth is None and not given.get("quiet"):
            say(_banner(options))
        _serve(Beat(options), birth)
    finally:
        if pidfile is not None:
            pidfile.release()
    return 0


def _serve(beat: Beat, birth: daemon.Birth | None) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: beat.stop())
    if birth is not None:
        birth.done()
    beat.run()


def _explain(given: Mapping[str, Any]) -> None:
    """Say of Celery's options that mean nothing here why they do not."""
    if given.get("schedule"):
        logger.info("--schedule does nothing: when what has run is in the database, and every beat knows it")
    if scheduler := given.get("scheduler") or settings.BEAT_SCHEDULER:
        logger.info(
            "--scheduler %s does nothing: schedules are rows of the database, as with django-celery-beat's scheduler",
            scheduler,
        )


def _banner(options: BeatOptions) -> str:
    found = borrow().settings_dict
    return (
        f"djtasks beat v{djtasks.__version__} is starting (pid {os.getpid()}).\n"
        f" .> database:     {settings.DATABASE} ({found['NAME']} at {found['HOST'] or 'the local socket'})\n"
        f" .> max interval: {options.longest:g} s"
    )
