"""`runworker`: Celery's options to a worker that runs."""

import argparse
import logging
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from typing import Any

from djtasks import atomic
from djtasks.cli import autoreload, daemon, foreign, user_options
from djtasks.conf import settings
from djtasks.conf.pools import POOLS
from djtasks.exceptions import ImproperlyConfigured
from djtasks.log import level_of
from djtasks.registry import import_default_modules, tasks
from djtasks.security import check_privileges
from djtasks.worker import signalling, titles
from djtasks.worker.identity import file_name, indexed, node_name
from djtasks.worker.options import WorkerOptions, autoscale_bounds, consumed_queues
from djtasks.worker.pools.registry import pool_class
from djtasks.worker.shutdown import EX_FAILURE
from djtasks.worker.worker import EX_REPLACE, Worker, start_logging

logger = logging.getLogger("djtasks.worker")

_POOLS = f"{', '.join(POOLS)}, or package.module:Class"
#: In the environment of a process that has replaced its program: its own pid.
_REPLACED = "DJTASKS_REPLACED"
#: What only a command can keep.
_OF_COMMAND = frozenset({"app", "autoreload"})


def names(text: str) -> list[str]:
    """A list of names between commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Celery's options of a worker. What is not given comes from the settings."""
    add = parser.add_argument
    foreign.add_app(parser)
    add("-I", "--include", type=names, default=[], metavar="A,B", help="modules to import, beside INCLUDE")
    add("-c", "--concurrency", type=int, metavar="N", help="tasks at a time (default: the CPUs)")
    add("--autoscale", metavar="MAX,MIN", help="from MIN to MAX tasks at a time, by what there is to do")
    add("-Q", "--queues", type=names, metavar="A,B", help="queues to consume (default: TASK_QUEUES)")
    add("-X", "--exclude-queues", type=names, default=[], metavar="A,B", help="queues not to consume")
    add("-P", "--pool", metavar="POOL", help=f"where tasks run: {_POOLS} (default: WORKER_POOL)")
    add("-n", "--hostname", metavar="NODE", help="the node's name; %%h host, %%n its name, %%d its domain")
    add("-l", "--loglevel", metavar="LEVEL", default="WARNING", help="DEBUG, INFO, WARNING, ERROR or CRITICAL")
    add("-f", "--logfile", metavar="FILE", help="log there; %%n node's name, %%h host, %%i, %%I child's index")
    add("--time-limit", type=float, metavar="SECONDS", help="kill a task after so long")
    add("--soft-time-limit", type=float, metavar="SECONDS", help="raise SoftTimeLimitExceeded in it after so long")
    add("--max-tasks-per-child", type=int, metavar="N", help="replace a child after so many tasks")
    add("--max-memory-per-child", type=int, metavar="KIB", help="replace a child that uses more memory than that")
    add("--prefetch-multiplier", type=int, metavar="N", help="at most so many messages a child; 0: 10 ms of work")
    add("--disable-prefetch", action="store_true", help="claim a task only when a child is free for it")
    add("--shutdown-timeout", type=float, metavar="SECONDS", help="at TERM kill what has not ended after so long")
    add("--autoreload", action="store_true", help="start anew when code changes; for development")
    add("--purge", "--discard", action="store_true", help="throw away what waits in the queues first")
    add("-B", "--beat", action="store_true", help="send periodic tasks, too, as runbeat does")
    add("-E", "--task-events", "--events", action="store_true", help="tell of tasks and of this worker: app.events")
    add("-q", "--quiet", action="store_true", help="no banner")
    add("--http", metavar="ADDRESS", help="answer /healthz and /metrics at a port of 127.0.0.1, or ADDRESS:PORT")
    daemon.add_arguments(parser)
    foreign.add_arguments(parser, foreign.WORKERS)
    foreign.add_no_color(parser)
    user_options.add_arguments(parser, "worker")


def option_names() -> frozenset[str]:
    """The names of its options, by which a program can give them: those that are not about its process."""
    parser = argparse.ArgumentParser(add_help=False)
    add_arguments(parser)
    outside = argparse.ArgumentParser(add_help=False)
    daemon.add_arguments(outside)
    return frozenset({each.dest for each in parser._actions} - {each.dest for each in outside._actions} - _OF_COMMAND)


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
        concurrency = pool_class(pool).usual or cpus()
    node = node_name(given.get("hostname"))
    autoscale = None if given.get("autoscale") is None else autoscale_bounds(given["autoscale"])
    return WorkerOptions(
        queues=consumed_queues(given.get("queues"), given.get("exclude_queues") or []),
        hostname=node,
        pool=pool,
        concurrency=concurrency if autoscale is None else max(1, autoscale[1]),
        autoscale=autoscale,
        time_limit=chosen("time_limit", "TASK_TIME_LIMIT"),
        soft_time_limit=chosen("soft_time_limit", "TASK_SOFT_TIME_LIMIT"),
        max_tasks_per_child=chosen("max_tasks_per_child", "WORKER_MAX_TASKS_PER_CHILD"),
        max_memory_per_child=chosen("max_memory_per_child", "WORKER_MAX_MEMORY_PER_CHILD"),
        prefetch_multiplier=_prefetch(given),
        soft_shutdown_timeout=settings.WORKER_SOFT_SHUTDOWN_TIMEOUT,
        shutdown_timeout=given.get("shutdown_timeout"),
        loglevel=loglevel,
        logfile=file_name(given["logfile"], node) if given.get("logfile") else None,
        include=tuple(given.get("include") or ()),
        app=given.get("app") or "",
        user=user_options.chosen(given, "worker"),
        purge=bool(given.get("purge")),
        beat=bool(given.get("beat")),
        events=bool(given.get("task_events")) or settings.WORKER_SEND_TASK_EVENTS,
        quiet=bool(given.get("quiet")),
        http=chosen("http", "WORKER_HTTP"),
    ).check()


def _prefetch(given: Mapping[str, Any]) -> int:
    multiplier: int | None = given.get("prefetch_multiplier")
    if given.get("disable_prefetch") and multiplier is not None:
        raise ImproperlyConfigured("--disable-prefetch and --prefetch-multiplier contradict each other; drop one")
    if multiplier is not None:
        return multiplier
    return (
        1 if given.get("disable_prefetch") or settings.WORKER_DISABLE_PREFETCH else settings.WORKER_PREFETCH_MULTIPLIER
    )


def cpus() -> int:
    """How many CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run(given: Mapping[str, Any]) -> int:
    """Run a worker until it is told to stop; returns its exit code.

    Raises ImproperlyConfigured; SecurityError for root that reads pickle.
    """
    if os.environ.pop(_REPLACED, "") == str(os.getpid()):
        # The same command line, for the second time: it is in the background by now, and what it purged was before.
        given = {**given, "purge": False, "detach": False}
    if given.get("autoreload"):
        return _autoreload(given)
    signalling.leave_first_place()
    signalling.term_is_quit()
    started_in = os.getcwd()
    daemon.settle(given)
    foreign.use_app(given)
    user_options.tell(given)
    check_privileges(settings.ACCEPT_CONTENT)
    options = worker_options(given)
    birth = daemon.detach() if given.get("detach") else None
    if birth is not None:
        # It has no terminal any more, whatever it was started by.
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        code = _run(given, options, birth)
    except BaseException as error:
        if birth is not None:
            birth.failed(str(error) or type(error).__name__)
        raise
    return _replace(started_in) if code == EX_REPLACE else code


def _autoreload(given: Mapping[str, Any]) -> int:
    for option in ("detach", "pidfile"):
        if given.get(option):
            raise ImproperlyConfigured(f"--autoreload is for development, and does not go with --{option}; drop one")
    return autoreload.supervise(given.get("include") or ())


def _run(given: Mapping[str, Any], options: WorkerOptions, birth: daemon.Birth | None) -> int:
    """Run it; a pid file stays where the program is to be replaced."""
    pidfile = None
    if given.get("pidfile"):
        pidfile = daemon.Pidfile(indexed(file_name(given["pidfile"], options.hostname), 0))
        pidfile.acquire()
    code = 0
    try:
        try:
            start_logging(options)
        except OSError as error:
            raise ImproperlyConfigured(f"the log file cannot be written: {error}") from error
        foreign.explain(given, foreign.WORKERS, logger.info)
        if options.autoscale is not None and given.get("concurrency") is not None:
            logger.warning("--concurrency %d is not used: --autoscale says how many", given["concurrency"])
        _load(options)
        titles.enable()
        titles.name(f"{options.hostname}:MainProcess")
        worker = Worker(options._replace(quiet=options.quiet or birth is not None))
        if birth is not None:
            worker.started = birth.done
        code = worker.run()
    finally:
        if pidfile is not None and code != EX_REPLACE:
            pidfile.release()
    return code


def make(options: WorkerOptions, *, embedded: bool = False) -> Worker:
    """A worker for a program of one's own, with its log, unless it is embedded, and its tasks.

    Raises ImproperlyConfigured.
    """
    if not embedded:
        start_logging(options)
    _load(options)
    return Worker(options, embedded=embedded)


def _load(options: WorkerOptions) -> None:
    """Import what it is to run."""
    import_default_modules()
    for name in options.include:
        _include(name)
    atomic.check(tasks.values())


def _include(name: str) -> None:
    try:
        import_module(name)
    except ModuleNotFoundError as error:
        raise ImproperlyConfigured(f"--include {name}: {error}") from error


def _replace(folder: str) -> int:
    """The same process, a new program: whoever watches over it sees nothing, and its threads are gone."""
    if not os.access(sys.executable, os.X_OK):
        logger.error("%s may not be run by the user that --uid names: the worker cannot start anew", sys.executable)
        return EX_FAILURE
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    with suppress(OSError):
        # Where the command line was written for.
        os.chdir(folder)
    os.environ[_REPLACED] = str(os.getpid())
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 -- what we were started with
