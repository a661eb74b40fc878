"""`runworker`: Celery's options to a worker that runs."""

import argparse
import logging
import os
import sys
from collections.abc import Mapping
from typing import Any

from djtasks import atomic
from djtasks.cli.apps import find_app
from djtasks.conf import settings
from djtasks.exceptions import ImproperlyConfigured
from djtasks.log import level_of
from djtasks.registry import import_default_modules, tasks
from djtasks.security import check_privileges
from djtasks.worker.identity import node_name
from djtasks.worker.options import POOLS, WorkerOptions, consumed_queues
from djtasks.worker.worker import EX_REPLACE, Worker, start_logging

logger = logging.getLogger("djtasks.worker")


def names(text: str) -> list[str]:
    """A list of names between commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Celery's options of a worker. What is not given comes from the settings."""
    add = parser.add_argument
    add("-A", "--app", metavar="APP", help="a module with an app in it, or module:attribute, which is imported first")
    add("-c", "--concurrency", type=int, metavar="N", help="tasks at a time (default: the CPUs)")
    add("-Q", "--queues", type=names, metavar="A,B", help="queues to consume (default: TASK_QUEUES)")
    add("-X", "--exclude-queues", type=names, default=[], metavar="A,B", help="queues not to consume")
    add("-P", "--pool", metavar="POOL", help=f"where tasks run: {', '.join(POOLS)} (default: WORKER_POOL)")
    add("-n", "--hostname", metavar="NODE", help="the node's name; %%h host, %%n its name, %%d its domain")
    add("-l", "--loglevel", metavar="LEVEL", default="WARNING", help="DEBUG, INFO, WARNING, ERROR or CRITICAL")
    add("-f", "--logfile", metavar="FILE", help="log there instead of to stderr")
    add("--time-limit", type=float, metavar="SECONDS", help="kill a task after so long")
    add("--soft-time-limit", type=float, metavar="SECONDS", help="raise SoftTimeLimitExceeded in it after so long")
    add("--max-tasks-per-child", type=int, metavar="N", help="replace a child after so many tasks")
    add("--max-memory-per-child", type=int, metavar="KIB", help="replace a child that uses more memory than that")
    add("--prefetch-multiplier", type=int, metavar="N", help="at most so many messages a child; 0: 10 ms of work")
    add("--disable-prefetch", action="store_true", help="claim a task only when a child is free for it")
    add("-O", "--optimization", metavar="HOW", help="accepted, and not needed: scheduling is always fair")
    add("--purge", "--discard", action="store_true", help="throw away what waits in the queues first")
    add("-B", "--beat", action="store_true", help="send periodic tasks, too, as runbeat does")
    add("-s", "--schedule", metavar="FILE", help="accepted, and not needed: schedules are rows of the database")
    add("-S", "--statedb", metavar="FILE", help="accepted, and not needed: what is revoked is in the database")
    add("-q", "--quiet", action="store_true", help="no banner")


def worker_options(given: Mapping[str, Any]) -> WorkerOptions:
    """The options of a worker: what was given, else the settings. Raises ImproperlyConfigured."""

    def chosen(option: str, setting: str) -> Any:
        return getattr(settings, setting) if given.get(option) is None else given[option]

    try:
        loglevel = level_of(given.get("loglevel") or "WARNING")
    except ValueError as error:
        raise ImproperlyConfigured(f"--loglevel: {error}") from error
    pool = chosen("pool", "WORKER_POOL")
    concurrency = chosen("concurrency", "WORKER_CONCURRENCY")
    if concurrency is None:
        concurrency = 1 if pool == "solo" else cpus()
    return WorkerOptions(
        queues=consumed_queues(given.get("queues"), given.get("exclude_queues") or []),
        hostname=node_name(given.get("hostname")),
        pool=pool,
        concurrency=concurrency,
        time_limit=chosen("time_limit", "TASK_TIME_LIMIT"),
        soft_time_limit=chosen("soft_time_limit", "TASK_SOFT_TIME_LIMIT"),
        max_tasks_per_child=chosen("max_tasks_per_child", "WORKER_MAX_TASKS_PER_CHILD"),
        max_memory_per_child=chosen("max_memory_per_child", "WORKER_MAX_MEMORY_PER_CHILD"),
        prefetch_multiplier=1
        if given.get("disable_prefetch")
        else chosen("prefetch_multiplier", "WORKER_PREFETCH_MULTIPLIER"),
        soft_shutdown_timeout=settings.WORKER_SOFT_SHUTDOWN_TIMEOUT,
        loglevel=loglevel,
        logfile=given.get("logfile"),
        purge=bool(given.get("purge")),
        beat=bool(given.get("beat")),
        quiet=bool(given.get("quiet")),
    ).check()


def cpus() -> int:
    """How many CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run(given: Mapping[str, Any]) -> int:
    """Run a worker until it is told to stop; returns its exit code.

    Raises ImproperlyConfigured; SecurityError for root that reads pickle.
    """
    if given.get("app"):
        find_app(given["app"]).set_current()
    check_privileges(settings.ACCEPT_CONTENT)
    options = worker_options(given)
    try:
        start_logging(options)
    except OSError as error:
        raise ImproperlyConfigured(f"the log file cannot be written: {error}") from error
    if given.get("statedb"):
        logger.info("--statedb does nothing: revocations are rows of the database, and outlive every worker")
    if given.get("schedule"):
        logger.info("--schedule does nothing: when what has run is in the database, and every beat knows it")
    import_default_modules()
    atomic.check(tasks.values())
    code = Worker(options).run()
    if code == EX_REPLACE:
        # The same process, a new program: whoever watches over it sees nothing, and its threads are gone.
        logging.shutdown()
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 -- what we were started with
    return code
