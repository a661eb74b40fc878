"""The log: loggers that know the task they are called from, and how a worker sets logging up.

Loggers: "djtasks" (all of it), "djtasks.worker", "djtasks.task" (what tasks themselves write, through
`get_task_logger`), "djtasks.redirected" (what they print). A project may configure them in Django's LOGGING, with
WORKER_HIJACK_ROOT_LOGGER off, or connect to the signal `setup_logging` and do everything itself.
"""

import io
import logging
import logging.handlers
import multiprocessing
import os
import sys
import threading
import time
from typing import Any, TextIO

from djtasks import current, signals
from djtasks.conf import settings

logger = logging.getLogger("djtasks")
worker_logger = logging.getLogger("djtasks.worker")
task_logger = logging.getLogger("djtasks.task")
redirected_logger = logging.getLogger("djtasks.redirected")

#: What a record says of its task when it comes from none.
NO_TASK = "???"
_RESERVED = frozenset({"djtasks", "djtasks.task", "djtasks.worker", "djtasks.redirected"})
#: A line that is printed is logged when it ends, or when it has this many characters.
_LINE_MAX = 8192


def get_task_logger(name: str) -> logging.Logger:
    """The logger of this name, below "djtasks.task": its records carry `task_id` and `task_name`.

    Raises RuntimeError when the name is one of djtasks' own.
    """
    if name in _RESERVED:
        raise RuntimeError(f"the logger {name!r} is djtasks' own; use get_task_logger(__name__)")
    # A logger made later, between this one and the root, would be put in between: make them now.
    for end in (index for index, letter in enumerate(name) if letter == "."):
        logging.getLogger(name[:end])
    made = logging.getLogger(name)
    if not name.startswith("djtasks.task."):
        made.parent = task_logger
    return made


def level_of(level: int | str) -> int:
    """The number of a logging level, given by number or by name in any case. Raises ValueError."""
    if isinstance(level, int):
        return level
    try:
        return logging.getLevelNamesMapping()[level.upper()]
    except (KeyError, AttributeError):
        names = ", ".join(name for name in logging.getLevelNamesMapping() if name != "NOTSET")
        raise ValueError(f"{level!r} is no logging level; there are {names}") from None


def set_process_name(name: str) -> None:
    """Call this process `name` in its log lines."""
    multiprocessing.current_process().name = name


class TaskFilter(logging.Filter):
    """Lets every record pass, with `task_id` and `task_name` of the task it comes from ("???" when from none).

    For handlers of a project's own: `"filters": {"task": {"()": "djtasks.log.TaskFilter"}}` in LOGGING.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        frame = current.top()
        if frame is not None:
            record.task_id = frame.request.id or NO_TASK
            record.task_name = getattr(frame.task, "name", None) or frame.request.task or NO_TASK
        else:
            record.__dict__.setdefault("task_id", NO_TASK)
            record.__dict__.setdefault("task_name", NO_TASK)
        return True


class ColorFormatter(logging.Formatter):
    """A formatter that gives each level above and below INFO its colour, where `use_color`."""

    #: ANSI codes.
    COLORS = {"DEBUG": 34, "WARNING": 33, "ERROR": 31, "CRITICAL": 35}  # noqa: RUF012 -- for subclasses to change

    def __init__(self, fmt: str | None = None, use_color: bool = True, datefmt: str | None = None) -> None:
        super().__init__(fmt, datefmt)
        self.use_color = use_color
        #: The last second that was written, and how: most lines come within the same one.
        self._second: tuple[int, str] = (-1, "")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:
        """The local time with milliseconds, or as `datefmt` says; each second is spelt once."""
        if datefmt or self.converter is not time.localtime or self.default_msec_format is None:
            return super().formatTime(record, datefmt)
        second = int(record.created)
        known, text = self._second
        if known != second:
            text = time.strftime(self.default_time_format, time.localtime(second))
            self._second = (second, text)
        return self.default_msec_format % (text, record.msecs)

    def format(self, record: logging.LogRecord) -> str:
        text = super().format(record)
        color = self.COLORS.get(record.levelname) if self.use_color else None
        return text if color is None else f"\033[1;{color}m{text}\033[0m"


class TaskFormatter(ColorFormatter):
    """A formatter whose format may name `%(task_id)s` and `%(task_name)s`."""

    _filter = TaskFilter()

    def format(self, record: logging.LogRecord) -> str:
        self._filter.filter(record)
        return super().format(record)


def setup_logging(
    level: int | str = "WARNING",
    logfile: str | os.PathLike[str] | TextIO | None = None,
    format: str | None = None,
    colorize: bool | None = None,
    redirect: bool | None = None,
) -> bool:
    """Send the log of this process to a file, or to stderr; whether it was done here.

    `format`, `colorize` (only ever on a terminal) and `redirect` (what is printed becomes log lines) are those of the
    settings when None. Receivers of the signal `setup_logging` take over all but the redirection. Doing it twice, as a
    child does after its worker, replaces the handlers. Raises ValueError for an unknown level, OSError when the file
    cannot be opened, and what a receiver raises.
    """
    number = level_of(level)
    use_color = supports_color(settings.WORKER_LOG_COLOR if colorize is None else colorize, logfile)
    said: dict[str, Any] = {
        "loglevel": number,
        "logfile": logfile,
        "format": format or settings.WORKER_LOG_FORMAT,
        "colorize": use_color,
    }
    answers = signals.setup_logging.send(None, **said) if signals.setup_logging.receivers else []
    for _receiver, answer in answers:
        if isinstance(answer, Exception):
            raise answer
    if not answers:
        _set_up(number, logfile, said)
    if settings.WORKER_REDIRECT_STDOUTS if redirect is None else redirect:
        redirect_stdouts(redirected_logger, settings.WORKER_REDIRECT_STDOUTS_LEVEL)
    return not answers


def supports_color(wanted: bool | None, logfile: object) -> bool:
    """Whether to colour: where it is not unwanted, and the log goes to a terminal. NO_COLOR is heeded."""
    if wanted is False or logfile is not None or (wanted is None and os.environ.get("NO_COLOR")):
        return False
    return sys.__stderr__ is not None and sys.__stderr__.isatty()


def redirect_stdouts(target: logging.Logger, level: int | str = "WARNING") -> "LoggingProxy":
    """Make log lines of what this process prints from now on, to stdout or stderr."""
    proxy = LoggingProxy(target, level)
    sys.stdout = sys.stderr = proxy
    return proxy


class LoggingProxy(io.TextIOBase):
    """A text file whose lines become log records."""

    encoding = "utf-8"
    errors = "replace"

    def __init__(self, target: logging.Logger, level: int | str = "WARNING") -> None:
        super().__init__()
        self._target = target
        self._level = level_of(level)
        self._local = threading.local()

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        """Log the lines that are whole; what follows them waits for its end, or for `flush()`."""
        if not isinstance(text, str):
            raise TypeError(f"write() takes text, not {type(text).__name__}")
        if self.closed:
            return 0
        if getattr(self._local, "busy", False):
            # A handler prints, or prints that it failed: logging this would never end.
            if sys.__stderr__ is not None:
                sys.__stderr__.write(text)
            return len(text)
        *lines, rest = (getattr(self._local, "rest", "") + text).split("\n")
        if len(rest) > _LINE_MAX:
            lines, rest = [*lines, rest], ""
        self._local.rest = rest
        self._log(lines)
        return len(text)

    def flush(self) -> None:
        """Log what was written without an end of line."""
        local = getattr(self, "_local", None)
        if local is not None and (rest := getattr(local, "rest", "")):
            local.rest = ""
            self._log([rest])

    def fileno(self) -> int:
        """That of the process's own stderr, so that a subprocess can be given this file."""
        if sys.__stderr__ is None:
            raise io.UnsupportedOperation("this process has no stderr")
        return sys.__stderr__.fileno()

    def _log(self, lines: list[str]) -> None:
        self._local.busy = True
        try:
            for line in lines:
                if line := line.rstrip():
                    self._target.log(self._level, "%s", line)
        finally:
            self._local.busy = False


class LogFile(logging.handlers.WatchedFileHandler):
    """A log file that may be moved away by logrotate; looks for that once a second, not at each line."""

    _look_at = 0.0

    def reopenIfNeeded(self) -> None:
        if (now := time.monotonic()) >= self._look_at:
            self._look_at = now + 1.0
            super().reopenIfNeeded()


def _set_up(level: int, logfile: Any, said: dict[str, Any]) -> None:
    root = logging.getLogger()
    if settings.WORKER_HIJACK_ROOT_LOGGER:
        for each in (root, logger, worker_logger, task_logger, redirected_logger):
            each.handlers = []
    # A warning is one record then, not two lines on stderr.
    logging.captureWarnings(True)
    datefmt = settings.WORKER_LOG_DATEFMT
    _add_handler(root, logfile, ColorFormatter(said["format"], use_color=said["colorize"], datefmt=datefmt))
    root.setLevel(level)
    if signals.after_setup_logger.receivers:
        signals.after_setup_logger.send(None, logger=root, **said)
    said = {**said, "format": settings.WORKER_TASK_LOG_FORMAT}
    datefmt = settings.WORKER_TASK_LOG_DATEFMT or datefmt
    _add_handler(task_logger, logfile, TaskFormatter(said["format"], use_color=said["colorize"], datefmt=datefmt))
    task_logger.setLevel(level)
    task_logger.propagate = False
    if signals.after_setup_task_logger.receivers:
        signals.after_setup_task_logger.send(None, logger=task_logger, **said)


def _add_handler(target: logging.Logger, logfile: Any, formatter: logging.Formatter) -> None:
    """Give the logger a handler, where a project has not given it one."""
    if any(not isinstance(handler, logging.NullHandler) for handler in target.handlers):
        return
    handler: logging.Handler
    if logfile is None:
        # The real one: sys.stderr may be a proxy that leads back here.
        handler = logging.NullHandler() if sys.__stderr__ is None else logging.StreamHandler(sys.__stderr__)
    elif hasattr(logfile, "write"):
        handler = logging.StreamHandler(logfile)
    else:
        handler = LogFile(logfile, encoding="utf-8")
    handler.setFormatter(formatter)
    target.addHandler(handler)
