"""The log."""

import io
import logging
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import pytest
from django.conf import LazySettings

from djtasks import current, log, signals
from djtasks.log import ColorFormatter, LoggingProxy, TaskFilter, TaskFormatter, get_task_logger, setup_logging


class Task:
    name = "shop.tasks.pay"


@pytest.fixture
def inside_a_task() -> Iterator[None]:
    frame = current.Frame(Task(), current.Context(id="1234", task="shop.tasks.pay"))
    current.push(frame)
    yield
    current.pop(frame)


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch, settings: LazySettings) -> Iterator[LazySettings]:
    """Logging that may be set up anew; it is put back afterwards."""
    monkeypatch.setattr(sys, "stdout", sys.stdout)
    monkeypatch.setattr(sys, "stderr", sys.stderr)
    loggers = (logging.getLogger(), log.logger, log.task_logger, log.worker_logger, log.redirected_logger)
    before = [(logger, logger.level, logger.propagate, logger.handlers) for logger in loggers]
    for logger in loggers:
        logger.handlers = []
    settings.DJTASKS = {"WORKER_REDIRECT_STDOUTS": False}
    yield settings
    logging.captureWarnings(False)
    for logger, level, propagate, handlers in before:
        logger.setLevel(level)
        logger.propagate = propagate
        # pytest's own of an earlier phase were to be gone by now.
        logger.handlers = [handler for handler in handlers if type(handler).__name__ != "LogCaptureHandler"]


def record(message: str = "hello", level: int = logging.INFO) -> logging.LogRecord:
    return logging.LogRecord("x", level, "path", 1, message, None, None)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


# -- records ------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("inside_a_task")
def test_a_line_written_in_a_task_names_the_task() -> None:
    formatter = TaskFormatter("%(task_name)s[%(task_id)s]: %(message)s", use_color=False)
    assert formatter.format(record()) == "shop.tasks.pay[1234]: hello"


def test_a_line_written_outside_a_task_says_so() -> None:
    formatter = TaskFormatter("%(task_name)s[%(task_id)s]: %(message)s", use_color=False)
    assert formatter.format(record()) == "???[???]: hello"


@pytest.mark.usefixtures("inside_a_task")
def test_a_projects_own_handler_may_have_the_task_by_a_filter() -> None:
    line = record()
    assert TaskFilter().filter(line) is True
    assert (vars(line)["task_id"], vars(line)["task_name"]) == ("1234", "shop.tasks.pay")


def test_a_record_that_brings_its_task_keeps_it() -> None:
    line = record()
    vars(line)["task_id"] = "brought"
    TaskFilter().filter(line)
    assert vars(line)["task_id"] == "brought"


@pytest.mark.parametrize(
    ("level", "color"),
    [(logging.DEBUG, "34"), (logging.WARNING, "33"), (logging.ERROR, "31"), (logging.CRITICAL, "35")],
)
def test_each_level_has_its_colour(level: int, color: str) -> None:
    assert ColorFormatter("%(message)s").format(record("x", level)) == f"\033[1;{color}mx\033[0m"
    assert ColorFormatter("%(message)s", use_color=False).format(record("x", level)) == "x"


def test_information_is_not_coloured() -> None:
    assert ColorFormatter("%(message)s").format(record("x")) == "x"


# -- loggers ------------------------------------------------------------------------------------------------------


def test_a_tasks_logger_keeps_its_name_and_hangs_below_the_task_logger() -> None:
    logger = get_task_logger("shop_a.tasks")
    assert (logger.name, logger.parent) == ("shop_a.tasks", log.task_logger)


def test_a_logger_made_later_does_not_come_between() -> None:
    logger = get_task_logger("shop_b.sub.tasks")
    above = logging.getLogger("shop_b")
    assert above.parent is logging.getLogger()
    assert logger.parent is log.task_logger


def test_a_logger_that_is_below_the_task_logger_by_name_stays_there() -> None:
    get_task_logger("djtasks.task.sub.deep")
    assert logging.getLogger("djtasks.task.sub.deep").parent is logging.getLogger("djtasks.task.sub")


@pytest.mark.parametrize("name", ["djtasks", "djtasks.task", "djtasks.worker"])
def test_the_names_of_djtasks_own_loggers_are_reserved(name: str) -> None:
    with pytest.raises(RuntimeError, match=r"get_task_logger\(__name__\)"):
        get_task_logger(name)


@pytest.mark.parametrize(("level", "number"), [("info", 20), ("INFO", 20), ("Warning", 30), (5, 5)])
def test_a_level_is_named_in_any_case_or_by_its_number(level: Any, number: int) -> None:
    assert log.level_of(level) == number


def test_an_unknown_level_is_an_error_that_names_those_there_are() -> None:
    with pytest.raises(ValueError, match="'loud' is no logging level; there are CRITICAL"):
        log.level_of("loud")


# -- a worker's set-up --------------------------------------------------------------------------------------------


def test_the_log_goes_to_the_file_in_celerys_formats(clean: LazySettings, tmp_path: Path) -> None:
    assert setup_logging("info", tmp_path / "worker.log")
    logging.getLogger("anything").info("one")
    get_task_logger("shop_c.tasks").info("two")
    logging.getLogger("anything").debug("not at this level")
    one, two = (tmp_path / "worker.log").read_text().splitlines()
    assert one.endswith(": INFO/MainProcess] one")
    assert two.endswith(": INFO/MainProcess] ???[???]: two")


def test_the_formats_are_those_of_the_settings(clean: LazySettings, tmp_path: Path) -> None:
    clean.DJTASKS = {"WORKER_LOG_FORMAT": "A %(message)s", "WORKER_TASK_LOG_FORMAT": "B %(task_name)s %(message)s"}
    assert setup_logging("info", tmp_path / "worker.log")
    logging.getLogger("anything").info("one")
    get_task_logger("shop_c.tasks").info("two")
    assert (tmp_path / "worker.log").read_text().splitlines() == ["A one", "B ??? two"]


def test_the_log_goes_to_a_stream(clean: LazySettings) -> None:
    stream = io.StringIO()
    setup_logging("WARNING", stream, format="%(levelname)s %(message)s")
    log.worker_logger.warning("x")
    assert stream.getvalue() == "WARNING x\n"


def test_a_warning_is_one_record(clean: LazySettings) -> None:
    stream = io.StringIO()
    setup_logging("INFO", stream, format="%(name)s %(levelname)s %(message)s")
    with warnings.catch_warnings():
        logging.captureWarnings(False)
        logging.captureWarnings(True)
        warnings.simplefilter("always")
        warnings.warn("old", UserWarning, stacklevel=1)
    assert stream.getvalue().startswith("py.warnings WARNING ")


def test_doing_it_again_does_not_write_lines_twice(clean: LazySettings) -> None:
    stream = io.StringIO()
    for _ in range(2):
        setup_logging("INFO", stream, format="%(message)s")
    logging.getLogger("x").info("once")
    assert stream.getvalue() == "once\n"


def test_handlers_of_the_project_are_replaced(clean: LazySettings) -> None:
    theirs, ours = io.StringIO(), io.StringIO()
    logging.getLogger().addHandler(logging.StreamHandler(theirs))
    setup_logging("INFO", ours, format="%(message)s")
    logging.getLogger("x").info("x")
    assert (theirs.getvalue(), ours.getvalue()) == ("", "x\n")


def test_handlers_of_the_project_are_kept_when_the_root_logger_is_not_to_be_hijacked(clean: LazySettings) -> None:
    clean.DJTASKS = {"WORKER_HIJACK_ROOT_LOGGER": False, "WORKER_REDIRECT_STDOUTS": False}
    theirs, ours = io.StringIO(), io.StringIO()
    logging.getLogger().addHandler(logging.StreamHandler(theirs))
    setup_logging("INFO", ours, format="%(message)s")
    logging.getLogger("x").info("x")
    assert (theirs.getvalue(), ours.getvalue()) == ("x\n", "")


@pytest.mark.parametrize(
    ("terminal", "wanted", "logfile", "environment", "colored"),
    [
        (True, None, None, {}, True),
        (True, True, None, {}, True),
        (True, False, None, {}, False),
        (True, None, "x.log", {}, False),
        (True, True, "x.log", {}, False),
        (False, None, None, {}, False),
        (False, True, None, {}, False),
        (True, None, None, {"NO_COLOR": "1"}, False),
        (True, True, None, {"NO_COLOR": "1"}, True),
    ],
)
def test_only_a_terminal_is_coloured(
    monkeypatch: pytest.MonkeyPatch,
    terminal: bool,
    wanted: bool | None,
    logfile: str | None,
    environment: dict[str, str],
    colored: bool,
) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    for key, value in environment.items():
        monkeypatch.setenv(key, value)
    stream: TextIO = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "__stderr__", stream)
    assert log.supports_color(wanted, logfile) is colored


def test_a_receiver_of_setup_logging_takes_it_over(clean: LazySettings) -> None:
    seen: list[dict[str, Any]] = []

    @signals.setup_logging.connect
    def mine(**kwargs: Any) -> None:
        seen.append(kwargs)

    before = list(logging.getLogger().handlers)
    assert setup_logging("INFO", "worker.log", format="%(message)s") is False
    signals.setup_logging.disconnect(mine)
    assert logging.getLogger().handlers == before
    assert {key: seen[0][key] for key in ("loglevel", "logfile", "format", "colorize")} == {
        "loglevel": 20,
        "logfile": "worker.log",
        "format": "%(message)s",
        "colorize": False,
    }


def test_what_a_receiver_of_setup_logging_raises_is_raised(clean: LazySettings) -> None:
    @signals.setup_logging.connect
    def broken(**kwargs: Any) -> None:
        raise LookupError("broken")

    with pytest.raises(LookupError, match="broken"):
        setup_logging()
    signals.setup_logging.disconnect(broken)


def test_receivers_are_told_of_both_loggers_once_they_are_set_up(clean: LazySettings) -> None:
    told: list[tuple[str, str]] = []

    def hear(logger: logging.Logger, format: str, **kwargs: Any) -> None:
        told.append((logger.name, format))

    signals.after_setup_logger.connect(hear)
    signals.after_setup_task_logger.connect(hear)
    clean.DJTASKS = {"WORKER_REDIRECT_STDOUTS": False, "WORKER_TASK_LOG_FORMAT": "%(task_id)s"}
    setup_logging("INFO", io.StringIO(), format="%(message)s")
    signals.after_setup_logger.disconnect(hear)
    signals.after_setup_task_logger.disconnect(hear)
    assert told == [("root", "%(message)s"), ("djtasks.task", "%(task_id)s")]


# -- what is printed ----------------------------------------------------------------------------------------------


@pytest.fixture
def lines() -> Iterator[list[str]]:
    """What the logger "printed" was given."""
    found: list[str] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(f"{record.levelname} {record.getMessage()}")

    handler = Collect()
    logger = logging.getLogger("printed")
    logger.addHandler(handler)
    logger.propagate = False
    yield found
    logger.removeHandler(handler)


@pytest.fixture
def proxy(lines: list[str]) -> LoggingProxy:
    return LoggingProxy(logging.getLogger("printed"))


def test_what_is_printed_becomes_one_record_a_line(proxy: LoggingProxy, lines: list[str]) -> None:
    print("one", 2, "three", file=proxy)
    print("two\nlines", file=proxy)
    assert lines == ["WARNING one 2 three", "WARNING two", "WARNING lines"]


def test_empty_lines_are_not_logged(proxy: LoggingProxy, lines: list[str]) -> None:
    print(file=proxy)
    print("  ", file=proxy)
    assert lines == []


def test_a_line_without_an_end_waits_for_it_or_for_a_flush(proxy: LoggingProxy, lines: list[str]) -> None:
    proxy.write("half")
    assert lines == []
    proxy.write(" and half")
    proxy.flush()
    assert lines == ["WARNING half and half"]


def test_a_line_without_an_end_does_not_grow_for_ever(proxy: LoggingProxy, lines: list[str]) -> None:
    for _ in range(100):
        proxy.write("." * 1000)
    assert len(lines) == 11
    proxy.flush()


def test_percent_signs_are_printed_as_they_are(proxy: LoggingProxy, lines: list[str]) -> None:
    print("100 %s", file=proxy)
    assert lines == ["WARNING 100 %s"]


def test_threads_do_not_mix_their_lines(proxy: LoggingProxy, lines: list[str]) -> None:
    proxy.write("mine ")
    other = threading.Thread(target=lambda: proxy.write("other\n"))
    other.start()
    other.join()
    proxy.write("too\n")
    assert lines == ["WARNING other", "WARNING mine too"]


def test_a_handler_that_prints_does_not_log_for_ever(
    proxy: LoggingProxy, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = io.StringIO()
    monkeypatch.setattr(sys, "__stderr__", real)

    class Prints(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            print("handled", file=proxy)

    handler = Prints()
    logging.getLogger("printed").addHandler(handler)
    print("hello", file=proxy)
    logging.getLogger("printed").removeHandler(handler)
    assert (lines, real.getvalue()) == (["WARNING hello"], "handled\n")


def test_a_subprocess_can_be_given_the_file(
    proxy: LoggingProxy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with (tmp_path / "stderr").open("w") as real:
        monkeypatch.setattr(sys, "__stderr__", real)
        stdout: Any = proxy
        subprocess.run([sys.executable, "-c", "print('from below')"], stdout=stdout, check=True)
    assert (tmp_path / "stderr").read_text() == "from below\n"


def test_a_process_without_stderr_can_still_print(
    proxy: LoggingProxy, lines: list[str], monkeypatch: pytest.MonkeyPatch, clean: LazySettings
) -> None:
    monkeypatch.setattr(sys, "__stderr__", None)
    setup_logging("INFO")
    print("x", file=proxy)
    assert lines == ["WARNING x"]
    with pytest.raises(io.UnsupportedOperation, match="no stderr"):
        proxy.fileno()


def test_a_closed_file_logs_no_more(proxy: LoggingProxy, lines: list[str]) -> None:
    proxy.write("rest")
    proxy.close()
    proxy.write("more\n")
    assert lines == ["WARNING rest"]


def test_only_text_can_be_written(proxy: LoggingProxy) -> None:
    with pytest.raises(TypeError, match="takes text"):
        proxy.write(b"bytes")  # type: ignore[arg-type]
    assert (proxy.writable(), proxy.readable(), proxy.isatty(), proxy.encoding) == (True, False, False, "utf-8")


def test_a_worker_logs_what_is_printed(clean: LazySettings) -> None:
    clean.DJTASKS = {"WORKER_REDIRECT_STDOUTS_LEVEL": "ERROR"}
    stream = io.StringIO()
    setup_logging("INFO", stream, format="%(name)s %(levelname)s %(message)s")
    print("printed")
    print("complained", file=sys.stderr)
    assert stream.getvalue() == "djtasks.redirected ERROR printed\ndjtasks.redirected ERROR complained\n"


def test_a_process_is_called_in_the_log_as_it_was_named() -> None:
    code = (
        "import logging; from djtasks import log; log.set_process_name('ForkPoolWorker-1');"
        "logging.basicConfig(format='%(processName)s'); logging.error('x')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, env={"PYTHONPATH": ":".join(sys.path)})
    assert done.stderr == b"ForkPoolWorker-1\n"
