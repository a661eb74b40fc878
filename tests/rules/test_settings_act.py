"""Settings that are the defaults of options: what is not said elsewhere, they say."""

from collections.abc import Callable
from typing import Any

import pytest
from django.conf import LazySettings

from djtasks import Task, acks
from djtasks.cli.worker import option_names, worker_options
from djtasks.conf import load
from djtasks.exceptions import ImproperlyConfigured
from djtasks.payload import pack_call
from djtasks.publisher import retried
from djtasks.worker.options import WorkerOptions

Given = Callable[..., WorkerOptions]


@pytest.fixture
def options(settings: LazySettings) -> Given:
    """The options of a worker that nothing was given, with these settings."""

    def found(**values: Any) -> WorkerOptions:
        settings.DJTASKS = values
        return worker_options({})

    return found


@pytest.mark.parametrize(
    ("setting", "value", "option", "read"),
    [
        ("WORKER_CONCURRENCY", 7, "concurrency", 7),
        ("WORKER_POOL", "threads", "pool", "threads"),
        ("WORKER_PREFETCH_MULTIPLIER", 4, "prefetch_multiplier", 4),
        ("WORKER_DISABLE_PREFETCH", True, "prefetch_multiplier", 1),
        ("WORKER_MAX_TASKS_PER_CHILD", 10, "max_tasks_per_child", 10),
        ("WORKER_MAX_MEMORY_PER_CHILD", 2_000_000, "max_memory_per_child", 2_000_000),
        ("WORKER_SOFT_SHUTDOWN_TIMEOUT", 2.5, "soft_shutdown_timeout", 2.5),
        ("WORKER_SEND_TASK_EVENTS", True, "events", True),
        ("TASK_TIME_LIMIT", 60, "time_limit", 60),
        ("TASK_SOFT_TIME_LIMIT", 50, "soft_time_limit", 50),
        ("TASK_DEFAULT_QUEUE", "mail", "queues", ("mail",)),
    ],
)
def test_a_worker_is_started_with_what_the_settings_say(
    options: Given, setting: str, value: Any, option: str, read: Any
) -> None:
    assert getattr(options(), option) != read
    assert getattr(options(**{setting: value}), option) == read


def test_an_option_beats_its_setting(settings: LazySettings) -> None:
    settings.DJTASKS = {"WORKER_DISABLE_PREFETCH": True, "WORKER_CONCURRENCY": 7, "WORKER_POOL": "solo"}
    found = worker_options({"prefetch_multiplier": 3, "concurrency": 2, "pool": "threads"})
    assert (found.prefetch_multiplier, found.concurrency, found.pool) == (3, 2, "threads")


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"disable_prefetch": True, "prefetch_multiplier": 4}, "contradict each other; drop one"),
        ({"queues": ["a"], "exclude_queues": ["a"]}, "no queue is left to consume"),
        ({"time_limit": 5.0, "soft_time_limit": 6.0}, "would never be reached"),
        ({"pool": "solo", "concurrency": 4}, "runs one task at a time"),
    ],
)
def test_flags_that_contradict_each_other_are_refused(given: dict[str, Any], why: str) -> None:
    assert given.keys() <= option_names()
    with pytest.raises(ImproperlyConfigured, match=why):
        worker_options(given)


@pytest.mark.parametrize("late", [True, False])
@pytest.mark.parametrize("again", [True, False, None])
def test_tasks_that_say_nothing_are_acknowledged_as_the_settings_say(
    settings: LazySettings, late: bool, again: bool | None
) -> None:
    settings.DJTASKS = {"TASK_ACKS_LATE": late, "TASK_REJECT_ON_WORKER_LOST": again}
    task: Any = type("silent", (Task,), {"name": "silent", "run": lambda self: None})()
    assert acks.late(task) is late
    assert acks.runs_again(task) is (late and again is not False)


def test_calls_are_compressed_and_retried_as_the_settings_say(settings: LazySettings) -> None:
    args = ["x" * 10_000]
    assert len(pack_call("shop.send", args, {}, None, None)[2]) > 10_000
    assert (retried(None), retried(False)) == (True, False)
    settings.DJTASKS = {"TASK_COMPRESSION": "zlib", "TASK_PUBLISH_RETRY": False}
    assert len(pack_call("shop.send", args, {}, None, None)[2]) < 1_000
    assert (retried(None), retried(True)) == (False, True)


def test_celerys_own_autoscaler_is_ours() -> None:
    found = load({"WORKER_AUTOSCALER": "celery.worker.autoscale:Autoscaler"})
    assert found == load({})
    assert load({"WORKER_AUTOSCALER": "shop.scaling:Mine"}).WORKER_AUTOSCALER == "shop.scaling:Mine"


def test_what_is_read_so_that_it_can_stay_is_read() -> None:
    load({"BEAT_SCHEDULER": "django_celery_beat.schedulers:DatabaseScheduler", "EVENT_SERIALIZER": "json"})
    load({"WORKER_DEDUPLICATE_SUCCESSFUL_TASKS": True})
    with pytest.raises(ImproperlyConfigured, match="must be 'json'"):
        load({"EVENT_SERIALIZER": "pickle"})
