"""The settings: `DJTASKS`, read once, checked, and documented."""

import copy
import dataclasses
import logging
import subprocess
import sys
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.conf import LazySettings
from django.test import override_settings

from djtasks.conf import Settings, describe, load, problems
from djtasks.conf import settings as djtasks_settings
from djtasks.conf.foreign import IGNORED
from djtasks.conf.kinds import Unfit, retry_policy
from djtasks.conf.options import FORMERLY, KINDS
from djtasks.conf.pools import POOL
from djtasks.exceptions import ImproperlyConfigured


class Shy:
    """Cannot be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no repr")


class Shier(Shy):
    """Cannot be compared either, nor called, nor asked for anything."""

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("no comparison")

    __hash__ = None  # type: ignore[assignment]

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError("no attributes")


def hints(raw: Any) -> list[str]:
    return [problem.hint for problem in problems(raw)]


def texts(raw: Any) -> list[str]:
    return [problem.text for problem in problems(raw)]


def test_no_settings_at_all_are_good_settings() -> None:
    assert problems({}) == []
    assert load({}) == Settings()


def test_importing_the_settings_needs_no_configured_django() -> None:
    code = "import djtasks.conf, djtasks.routing, djtasks.registry, djtasks.log, djtasks.serializers, djtasks.signals"
    subprocess.run([sys.executable, "-c", code], check=True, env={"PATH": "", "PYTHONPATH": ":".join(sys.path)})


def test_a_test_that_overrides_djangos_settings_sees_its_own(settings: LazySettings) -> None:
    settings.DJTASKS = {"DATABASE": "outer"}
    with override_settings(DJTASKS={"DATABASE": "inner"}):
        assert djtasks_settings.DATABASE == "inner"
    assert djtasks_settings.DATABASE == "outer"


def test_a_django_without_djtasks_settings_means_the_defaults(settings: LazySettings) -> None:
    del settings.DJTASKS
    assert timedelta(days=1) == djtasks_settings.RESULT_EXPIRES


def test_a_read_setting_costs_a_dict_look_up(settings: LazySettings) -> None:
    settings.DJTASKS = {}
    assert djtasks_settings.TASK_SERIALIZER == "json"
    assert vars(djtasks_settings)["TASK_SERIALIZER"] == "json"


def test_a_setting_cannot_be_set_in_passing() -> None:
    with pytest.raises(AttributeError, match="change DJTASKS in Django's settings"):
        djtasks_settings.TASK_SERIALIZER = "yaml"  # type: ignore[misc]


def test_an_attribute_that_is_no_setting_says_which_one_was_meant() -> None:
    with pytest.raises(AttributeError, match="did you mean 'TASK_TIME_LIMIT'"):
        djtasks_settings.TASK_TIMELIMIT  # type: ignore[attr-defined]  # noqa: B018


def test_the_settings_object_can_be_looked_at_like_any_other() -> None:
    assert repr(djtasks_settings) == "<djtasks settings>"
    assert not hasattr(djtasks_settings, "__wrapped__")
    assert isinstance(copy.copy(djtasks_settings), type(djtasks_settings))


def test_settings_are_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().TASK_SERIALIZER = "yaml"  # type: ignore[misc]


def test_reading_bad_settings_raises_with_every_error_and_its_cure(settings: LazySettings) -> None:
    settings.DJTASKS = {"TASK_SERIALISER": "json", "TASK_MAX_CRASHES": 0}
    with pytest.raises(ImproperlyConfigured) as raised:
        djtasks_settings.DATABASE  # noqa: B018
    assert "'TASK_SERIALISER'] is not a setting. Did you mean 'TASK_SERIALIZER'?" in str(raised.value)
    assert "'TASK_MAX_CRASHES'] must be a whole number, 1 or more, not 0." in str(raised.value)


@pytest.mark.parametrize("raw", [None, [], "x", 5])
def test_settings_that_are_no_dict_are_one_error(raw: Any) -> None:
    assert texts(raw) == [f"DJTASKS must be a dict, not {type(raw).__name__}."]


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("TASK_TIME_LIMT", "TASK_TIME_LIMIT"),
        ("task_serializer", "TASK_SERIALIZER"),
        ("CELERY_TASK_SERIALIZER", "TASK_SERIALIZER"),
        ("CELERY_RESULT_EXPIRES", "RESULT_EXPIRES"),
        ("taskRoutes", "TASK_ROUTES"),
        ("DJTASKS_DATABASE", "DATABASE"),
        ("broker_url", "BROKER_URL"),
        ("CELERYBEAT_SCHEDULE", "BEAT_SCHEDULE"),
    ],
)
def test_a_misspelt_setting_says_which_one_was_meant(key: str, meant: str) -> None:
    assert hints({key: "x"}) == [f"Did you mean {meant!r}?"]


@pytest.mark.parametrize("old", sorted(FORMERLY))
def test_celerys_old_name_of_a_setting_leads_to_its_new_one(old: str) -> None:
    assert hints({old: "x"}) == [f"Did you mean {FORMERLY[old]!r}?"]


def test_a_setting_like_no_other_is_an_error_without_a_guess() -> None:
    [problem] = problems({"FLUX_CAPACITOR": 1})
    assert problem.level == "error"
    assert "Did you mean" not in problem.hint


def test_a_key_that_is_no_text_is_an_error() -> None:
    assert [problem.level for problem in problems({5: 1})] == ["error"]


@pytest.mark.parametrize("key", ["BROKER_URL", "REDIS_HOST", "RESULT_BACKEND", "BROKER_TRANSPORT_OPTIONS"])
def test_settings_of_other_servers_are_accepted_and_do_nothing(key: str) -> None:
    assert [problem.level for problem in problems({key: "redis://"})] == ["info"]
    assert load({key: "redis://"}) == Settings()


def test_no_name_is_both_a_setting_and_foreign() -> None:
    assert not KINDS.keys() & IGNORED


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("TASK_ALWAYS_EAGER", 1),
        ("TASK_ALWAYS_EAGER", "yes"),
        ("DATABASE", ""),
        ("DATABASE", None),
        ("ENQUEUE", "later"),
        ("TASK_MAX_CRASHES", True),
        ("TASK_MAX_CRASHES", 2.5),
        ("TASK_TIME_LIMIT", -1),
        ("TASK_TIME_LIMIT", "60"),
        ("TASK_TIME_LIMIT", float("nan")),
        ("TASK_TIME_LIMIT", float("inf")),
        pytest.param("TASK_TIME_LIMIT", 10**400, id="TASK_TIME_LIMIT-large"),
        pytest.param("TASK_TIME_LIMIT", 10**5000, id="TASK_TIME_LIMIT-too long to be shown"),
        ("TASK_TIME_LIMIT", 1e10),
        pytest.param("TASK_MAX_CRASHES", 10**400, id="TASK_MAX_CRASHES-large"),
        pytest.param("RESULT_EXPIRES", 10**400, id="RESULT_EXPIRES-large"),
        ("RESULT_EXPIRES", timedelta.max),
        ("PAYLOAD_MAX_BYTES", 0),
        pytest.param("WORKER_CONCURRENCY", 10**5000, id="WORKER_CONCURRENCY-too long to be shown"),
        ("WORKER_HEARTBEAT_INTERVAL", 0.05),
        pytest.param("WORKER_HEARTBEAT_INTERVAL", 10**400, id="WORKER_HEARTBEAT_INTERVAL-large"),
        ("WORKER_POLL_INTERVAL", 3601),
        ("WORKER_DEAD_AFTER", 86401),
        ("WORKER_PREFETCH_MULTIPLIER", -1),
        pytest.param("WORKER_SOFT_SHUTDOWN_TIMEOUT", 10**400, id="WORKER_SOFT_SHUTDOWN_TIMEOUT-large"),
        pytest.param(
            "WORKER_REDIRECT_STDOUTS_LEVEL", 10**5000, id="WORKER_REDIRECT_STDOUTS_LEVEL-too long to be shown"
        ),
        ("TASK_PUBLISH_RETRY_POLICY", {"interval_start": 10**400}),
        ("TASK_PUBLISH_RETRY_POLICY", {Shy(): 1}),
        ("TASK_QUEUES", {"a": Shy()}),
        ("TASK_DEFAULT_QUEUE", "a\ud800"),
        ("TASK_DEFAULT_QUEUE", Shy()),
        ("TASK_DEFAULT_PRIORITY", 32768),
        ("TASK_DEFAULT_PRIORITY", -32769),
        ("TASK_DEFAULT_QUEUE", "q" * 201),
        ("TASK_DEFAULT_QUEUE", "a\0b"),
        ("TASK_DEFAULT_QUEUE", ""),
        ("TASK_QUEUES", "celery"),
        ("TASK_QUEUES", [5]),
        ("TASK_QUEUES", {"a": "b"}),
        ("TASK_QUEUES", 5),
        ("TASK_QUEUES", (name for name in ["a"])),
        ("TASK_ROUTES", 5),
        ("ACCEPT_CONTENT", "json"),
        ("ACCEPT_CONTENT", []),
        ("ACCEPT_CONTENT", [1]),
        ("IMPORTS", "proj.tasks"),
        ("RESULT_EXPIRES", -1),
        ("RESULT_EXPIRES", timedelta(seconds=-1)),
        ("RESULT_EXPIRES", "1 day"),
        ("RESULT_EXPIRES", 1e20),
        ("TIMEZONE", "Europe/Atlantis"),
        ("TIMEZONE", "../etc/passwd"),
        ("TIMEZONE", 5),
        ("WORKER_POOL", "eventlets"),
        ("WORKER_POOL", 5),
        ("WORKER_CONCURRENCY", 0),
        ("WORKER_REDIRECT_STDOUTS_LEVEL", "LOUD"),
        ("WORKER_REDIRECT_STDOUTS_LEVEL", 25),
        ("WORKER_LOG_FORMAT", "%(message"),
        ("TASK_PUBLISH_RETRY_POLICY", {"max_tries": 3}),
        ("TASK_PUBLISH_RETRY_POLICY", {"interval_start": -1}),
        ("TASK_PUBLISH_RETRY_POLICY", 5),
    ],
)
def test_a_value_that_does_not_fit_is_an_error_that_names_the_setting(key: str, value: Any) -> None:
    [problem] = problems({key: value})
    assert problem.level == "error"
    assert problem.text.startswith(f"DJTASKS[{key!r}] ")
    assert problem.hint


@pytest.mark.parametrize("key", KINDS)
@pytest.mark.parametrize("kind", [object, Shy, Shier])
def test_no_setting_takes_just_anything(key: str, kind: type) -> None:
    [problem] = problems({key: kind()})
    assert (problem.level, problem.key) == ("error", key)
    assert problem.text.startswith(f"DJTASKS[{key!r}] ")


def test_problems_says_what_is_wrong_with_a_key_that_cannot_be_shown() -> None:
    [problem] = problems({Shy(): 1})
    assert problem.text == "DJTASKS has the key <Shy object: its repr raised RuntimeError>, which is no text."


@pytest.mark.parametrize(
    ("key", "value", "read"),
    [
        ("ACCEPT_CONTENT", ["json", "yaml"], ("json", "yaml")),
        ("RESULT_EXPIRES", 60, timedelta(minutes=1)),
        ("RESULT_EXPIRES", timedelta(hours=1), timedelta(hours=1)),
        ("RESULT_EXPIRES", 0, None),
        ("RESULT_EXPIRES", None, None),
        ("TASK_TIME_LIMIT", 0, None),
        ("TASK_TIME_LIMIT", 90, 90.0),
        ("TASK_DEFAULT_PRIORITY", None, 0),
        ("TASK_DEFAULT_PRIORITY", -32768, -32768),
        ("TASK_QUEUES", ["a", "b"], {"a": {}, "b": {}}),
        ("TASK_QUEUES", {"a": {"routing_key": "x"}, "b": None}, {"a": {"routing_key": "x"}, "b": {}}),
        ("TASK_QUEUES", None, None),
        ("TIMEZONE", "Europe/Paris", ZoneInfo("Europe/Paris")),
        ("WORKER_REDIRECT_STDOUTS_LEVEL", "info", "INFO"),
        ("WORKER_REDIRECT_STDOUTS_LEVEL", logging.ERROR, "ERROR"),
        ("IMPORTS", ["proj.tasks"], ("proj.tasks",)),
    ],
)
def test_a_value_is_read_in_one_form(key: str, value: Any, read: Any) -> None:
    assert getattr(load({key: value}), key) == read


def test_results_are_read_in_what_tasks_are_unless_something_else_is_said() -> None:
    assert load({"ACCEPT_CONTENT": ["yaml"]}).RESULT_ACCEPT_CONTENT == ("yaml",)
    assert load({"RESULT_ACCEPT_CONTENT": ["yaml"]}).RESULT_ACCEPT_CONTENT == ("yaml",)
    assert load({}).RESULT_ACCEPT_CONTENT == ("json",)


def test_a_list_written_as_a_text_is_told_how_to_write_it() -> None:
    assert texts({"IMPORTS": "proj.tasks"}) == ["DJTASKS['IMPORTS'] must be a list of texts; write ['proj.tasks']."]


def test_a_retry_policy_is_filled_up_with_the_defaults() -> None:
    assert load({"TASK_PUBLISH_RETRY_POLICY": {"max_retries": None}}).TASK_PUBLISH_RETRY_POLICY == {
        "max_retries": None,
        "interval_start": 0,
        "interval_step": 0.2,
        "interval_max": 1,
    }
    with pytest.raises(Unfit, match="unknown key 'max_tries'"):
        retry_policy({"max_tries": 5})


@pytest.mark.parametrize(
    ("raw", "key"),
    [
        ({"TASK_SOFT_TIME_LIMIT": 20, "TASK_TIME_LIMIT": 10}, "TASK_SOFT_TIME_LIMIT"),
        ({"WORKER_DEAD_AFTER": 9}, "WORKER_DEAD_AFTER"),
        ({"WORKER_HEARTBEAT_INTERVAL": 11}, "WORKER_DEAD_AFTER"),
        ({"PAYLOAD_WARN_BYTES": 20_000_000}, "PAYLOAD_WARN_BYTES"),
        ({"DECOMPRESSED_MAX_BYTES": 1000}, "DECOMPRESSED_MAX_BYTES"),
        ({"TASK_QUEUES": ["a"], "TASK_CREATE_MISSING_QUEUES": False}, "TASK_DEFAULT_QUEUE"),
    ],
)
def test_settings_that_contradict_each_other_are_an_error(raw: dict[str, Any], key: str) -> None:
    assert [(problem.level, problem.key) for problem in problems(raw)] == [("error", key)]


def test_a_soft_limit_may_equal_the_hard_one() -> None:
    assert problems({"TASK_SOFT_TIME_LIMIT": 10, "TASK_TIME_LIMIT": 10}) == []


def test_every_setting_is_documented() -> None:
    entries = describe()
    assert [entry.name for entry in entries] == list(KINDS)
    assert all(entry.help.endswith(".") and entry.wants for entry in entries)


@pytest.mark.parametrize("name", KINDS)
def test_a_default_is_a_value_that_its_setting_takes(name: str) -> None:
    assert problems({name: getattr(Settings(), name)}) == []


@pytest.mark.parametrize(
    ("given", "means"),
    [
        ("processes", "prefork"),
        ("celery.concurrency.gevent:TaskPool", "gevent"),
        ("celery.concurrency.thread.TaskPool", "threads"),
        ("celery_aio_pool.pool:AsyncIOPool", "asyncio"),
        ("shop.pools:Own", "shop.pools:Own"),
        ("custom", "custom"),
    ],
)
def test_a_pool_has_one_name_whatever_celery_calls_it(given: str, means: str) -> None:
    assert POOL.read(given) == means
