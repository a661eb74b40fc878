"""The format of times in the log."""

import io
import logging
import re
from typing import Any

import pytest
from django.conf import LazySettings

from djtasks import log
from djtasks.log import setup_logging
from tests.rules.test_log import clean

__all__ = ["clean"]


@pytest.mark.parametrize(
    ("said", "worker", "task"),
    [
        ({}, r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}", r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}"),
        ({"WORKER_LOG_DATEFMT": "%Hh%M"}, r"\d\dh\d\d", r"\d\dh\d\d"),
        ({"WORKER_TASK_LOG_DATEFMT": "%Hh%M"}, r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}", r"\d\dh\d\d"),
        ({"WORKER_LOG_DATEFMT": "%M", "WORKER_TASK_LOG_DATEFMT": "%Hh%M"}, r"\d\d", r"\d\dh\d\d"),
    ],
)
def test_times_are_written_as_the_settings_say(
    clean: LazySettings, said: dict[str, Any], worker: str, task: str
) -> None:
    clean.DJTASKS = {**said, "WORKER_REDIRECT_STDOUTS": False}
    stream = io.StringIO()
    setup_logging("INFO", stream)  # type: ignore[arg-type]
    logging.getLogger("djtasks.worker").info("of the worker")
    log.task_logger.info("of a task")
    first, second = stream.getvalue().splitlines()
    assert re.match(rf"\[{worker}: INFO/", first)
    assert re.match(rf"\[{task}: INFO/", second)
