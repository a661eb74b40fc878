"""What an app is told, and what it tells: settings, signals, other apps."""

import gc
import os
import pickle
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command

from djtasks import Celery, Task, app, appstate, current_app, shared_task
from djtasks.conf import settings
from djtasks.exceptions import ImproperlyConfigured
from djtasks.finding import find_app
from djtasks.registry import import_default_modules
from tests.calling.conftest import Configure

# -- settings ---------------------------------------------------------------------------------------------------------


def test_settings_can_be_changed_under_the_names_of_any_time() -> None:
    app.conf.update(task_time_limit=5, CELERY_TASK_SERIALIZER="yaml", accept_content=["json", "yaml"])
    app.conf.task_default_queue = "slow"
    app.conf["worker_concurrency"] = 3
    assert (settings.TASK_TIME_LIMIT, settings.TASK_SERIALIZER, settings.TASK_DEFAULT_QUEUE) == (5, "yaml", "slow")
    assert settings.WORKER_CONCURRENCY == app.conf.worker_concurrency == 3


def test_changes_stand_over_django_s_settings(configure: Configure) -> None:
    configure(TASK_TIME_LIMIT=5, TASK_SOFT_TIME_LIMIT=2)
    app.conf.update(task_time_limit=6)
    assert (settings.TASK_TIME_LIMIT, settings.TASK_SOFT_TIME_LIMIT) == (6, 2)


def test_a_value_that_does_not_fit_changes_nothing() -> None:
    with pytest.raises(ImproperlyConfigured, match="task_time_limit must be a number of seconds"):
        app.conf.update(task_default_queue="slow", task_time_limit="x")
    with pytest.raises(ImproperlyConfigured, match="TASK_SOFT_TIME_LIMIT"):
        app.conf.update(task_time_limit=5, task_soft_time_limit=10)
    assert (settings.TASK_DEFAULT_QUEUE, settings.TASK_TIME_LIMIT) == ("celery", None)


def test_what_is_no_setting_is_refused_with_the_one_that_was_meant() -> None:
    with pytest.raises(AttributeError, match="'task_time_limits' is not a setting; did you mean 'task_time_limit'"):
        app.conf.task_time_limits = 5


def test_settings_of_a_broker_can_be_set_and_mean_nothing() -> None:
    app.conf.update(broker_url="redis://", result_backend="rpc://", CELERY_RESULT_BACKEND="x", BROKER_URL="y")
    assert (app.conf.broker_url, app.conf.result_backend) == (None, None)


def test_settings_can_be_listed() -> None:
    assert "task_time_limit" in app.conf
    assert "nothing" not in app.conf
    assert "task_serializer" in app.conf.keys()  # noqa: SIM118 -- the method is what is meant
    app.conf.task_time_limit = 7
    assert "task_time_limit: 7" in app.conf.humanize()
    assert "result_expires" not in app.conf.humanize()
    assert "result_expires" in app.conf.humanize(with_defaults=True)


class Source:
    """Settings as an object, in the new style."""

    task_time_limit = 11
    broker_url = "redis://"
    something_else = 5


def test_an_object_s_settings_lie_beneath_django_s(configure: Configure) -> None:
    app.config_from_object(Source)
    app.config_from_object({"task_soft_time_limit": 3})
    assert (settings.TASK_TIME_LIMIT, settings.TASK_SOFT_TIME_LIMIT) == (11, 3)
    configure(TASK_TIME_LIMIT=12)
    assert (settings.TASK_TIME_LIMIT, settings.TASK_SOFT_TIME_LIMIT) == (12, 3)


def test_defaults_lie_beneath_everything() -> None:
    app.config_from_object(Source)
    app.add_defaults({"task_time_limit": 1, "task_default_queue": "slow"})
    app.add_defaults(lambda: {"task_default_priority": 3})
    assert (settings.TASK_TIME_LIMIT, settings.TASK_DEFAULT_QUEUE, settings.TASK_DEFAULT_PRIORITY) == (11, "slow", 3)


def test_a_module_is_read_when_the_first_setting_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    app.config_from_object("shop_config")
    module = types.ModuleType("shop_config")
    module.task_time_limit = 13  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "shop_config", module)
    assert settings.TASK_TIME_LIMIT == 13


@pytest.mark.parametrize("name", [f"{__name__}:Source", f"{__name__}.Source"])
def test_a_dotted_name_may_name_an_object(name: str) -> None:
    app.config_from_object(name, force=True)
    assert settings.TASK_TIME_LIMIT == 11


def test_what_cannot_be_imported_is_raised_unless_it_is_to_be_silent() -> None:
    with pytest.raises(ImportError):
        app.config_from_object("shop.nowhere", force=True)
    app.config_from_object("shop.nowhere", force=True, silent=True)
    assert settings.TASK_TIME_LIMIT is None


def test_a_namespace_picks_the_names_that_begin_with_it() -> None:
    app.config_from_object({"CELERY_TASK_TIME_LIMIT": 14, "TASK_DEFAULT_QUEUE": "x", "DEBUG": 1}, namespace="CELERY")
    Celery("shop", namespace="SHOP").config_from_object({"SHOP_TASK_SOFT_TIME_LIMIT": 3})
    assert (settings.TASK_TIME_LIMIT, settings.TASK_SOFT_TIME_LIMIT, settings.TASK_DEFAULT_QUEUE) == (14, 3, "celery")


def test_django_s_settings_can_be_the_source() -> None:
    app.config_from_object("django.conf:settings", namespace="CELERY", force=True)
    assert settings.TASK_TIME_LIMIT is None


def test_old_names_are_read() -> None:
    app.config_from_object({"CELERYD_TASK_TIME_LIMIT": 15, "CELERY_TASK_RESULT_EXPIRES": 60, "BROKER_HOST": "x"})
    assert (settings.TASK_TIME_LIMIT, settings.RESULT_EXPIRES.total_seconds()) == (15, 60)  # type: ignore[union-attr]


def test_old_and_new_names_are_not_to_be_mixed() -> None:
    mixed = {"CELERYD_TASK_TIME_LIMIT": 15, "task_serializer": "json"}
    with pytest.raises(ImproperlyConfigured, match="mixed: CELERYD_TASK_TIME_LIMIT is task_time_limit"):
        app.config_from_object(mixed, force=True)


def test_an_environment_variable_may_name_the_module(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ImproperlyConfigured, match="the environment variable 'SHOP_CONFIG' is not set"):
        app.config_from_envvar("SHOP_CONFIG")
    assert not app.config_from_envvar("SHOP_CONFIG", silent=True)
    monkeypatch.setenv("SHOP_CONFIG", f"{__name__}:Source")
    assert app.config_from_envvar("SHOP_CONFIG", force=True)
    assert settings.TASK_TIME_LIMIT == 11


def test_arguments_of_a_command_can_be_settings() -> None:
    app.config_from_cmdline(
        ["worker.concurrency=3", "task_time_limit=7.5", "task_acks_late=yes", "accept_content=json,yaml"]
    )
    assert (settings.WORKER_CONCURRENCY, settings.TASK_TIME_LIMIT, settings.TASK_ACKS_LATE) == (3, 7.5, True)
    assert settings.ACCEPT_CONTENT == ("json", "yaml")
    with pytest.raises(ImproperlyConfigured, match="'loud' is no setting: write name=value"):
        app.config_from_cmdline(["loud"])


def test_an_app_can_be_made_with_its_settings() -> None:
    Celery("shop", config_source=Source, changes={"task_soft_time_limit": 2})
    assert (settings.TASK_TIME_LIMIT, settings.TASK_SOFT_TIME_LIMIT) == (11, 2)


# -- tasks ------------------------------------------------------------------------------------------------------------


class Loud(Task[..., Any]):
    """A base class of one's own."""

    loud = True
    abstract = True


def test_an_app_may_have_a_class_for_its_tasks() -> None:
    first, second, third = Celery("a", task_cls=Loud), Celery("b", task_cls=f"{__name__}:Loud"), Celery("c")
    third.Task = Loud
    made = [each.task(name=f"shop.{each.main}")(lambda: None) for each in (first, second, third)]
    assert all(isinstance(each, Loud) for each in made)
    assert not isinstance(app.task(name="shop.plain")(lambda: None), Loud)
    assert type(first.task(name="shop.own", base=Task)(lambda: None)).__mro__[1] is Task


def test_an_app_may_leave_arguments_unchecked() -> None:
    @Celery("shop", strict_typing=False).task(name="shop.loose")
    def loose(x: int) -> None: ...

    @Celery("shop", strict_typing=False).task(name="shop.strict", typing=True)
    def strict(x: int) -> None: ...

    assert (loose.typing, strict.typing) == (False, True)


def test_the_last_app_is_the_current_one_and_tasks_know_their_own() -> None:
    first = Celery("first")
    second = Celery("second", set_as_current=False)
    assert current_app.main == "first"

    @second.task(name="shop.second")
    def of_second() -> None: ...

    @shared_task(name="shop.shared")
    def shared() -> None: ...

    assert (of_second.app, shared.app) == (second, first)
    second.set_current()
    assert (current_app == second, shared.app) == (True, second)
    second.close()
    assert current_app == app


def test_a_class_hears_of_its_tasks() -> None:
    heard: list[Any] = []

    class Curious(Task[..., Any]):
        abstract = True

        @classmethod
        def on_bound(cls, app: Any) -> None:
            heard.append((cls.__name__, app))

    mine = Celery("mine")

    @mine.task(base=Curious, name="shop.curious")
    def curious() -> None: ...

    assert heard == [("curious", mine)]


def test_modules_of_an_app_are_imported_when_a_worker_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "shop_extra.py").write_text("here = True\n")
    monkeypatch.syspath_prepend(tmp_path)
    made = Celery("shop", include=["shop_extra"])
    assert "shop_extra" not in sys.modules
    import_default_modules()
    assert "shop_extra" in sys.modules
    made.close()


# -- what an app tells ------------------------------------------------------------------------------------------------


def test_receivers_hear_of_the_settings_and_of_the_end_of_the_set_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(appstate, "ready", False)
    made = Celery("shop")
    heard: list[Any] = []

    @made.on_after_configure.connect
    def configured(sender: Any, **kwargs: Any) -> None:
        heard.append(("configured", sender, kwargs["source"] is made.conf))

    @made.on_after_finalize.connect
    def finalized(sender: Any, **kwargs: Any) -> None:
        heard.append(("finalized", sender))

    _ = made.conf.task_serializer
    assert heard == []
    monkeypatch.setattr(appstate, "ready", True)
    made.finalize()
    made.finalize()
    assert heard == [("configured", made, True), ("finalized", made)]


def test_receivers_hear_of_a_fork() -> None:
    made = Celery("shop")
    reading, writing = os.pipe()

    @made.on_after_fork.connect
    def forked(sender: Any, **kwargs: Any) -> None:
        os.write(writing, sender.main.encode())

    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    os.close(writing)
    assert os.read(reading, 100) == b"shop"
    os.close(reading)


# -- one app among others ---------------------------------------------------------------------------------------------


def test_a_pickled_app_is_found_again_by_its_name() -> None:
    made = Celery("pickled")
    assert pickle.loads(pickle.dumps(made)) is made
    made.close()
    data = pickle.dumps(made)
    del made
    gc.collect()
    assert pickle.loads(data) is app


def test_an_app_can_be_used_in_a_with() -> None:
    with Celery("shop") as made:
        assert current_app == made
    assert current_app == app


def test_a_report_of_a_bug_tells_versions_and_no_secrets() -> None:
    app.conf.update(task_time_limit=7, security_key_password="hunter2")
    report = app.bugreport()
    assert "djtasks:" in report
    assert "task_time_limit: 7" in report
    assert "hunter2" not in report


def test_an_app_has_the_time_and_places_for_extensions() -> None:
    assert app.now().tzinfo is not None
    assert (app.steps, app.user_options["preload"]) == ({"worker": set(), "consumer": set()}, set())


def test_what_an_app_does_not_have_is_said() -> None:
    with pytest.raises(AttributeError, match=r"app\.nothing: djtasks does not have it$"):
        _ = app.nothing


# -- finding one ------------------------------------------------------------------------------------------------------


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder on the path, for modules."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("proj"):
            del sys.modules[name]


MAKE = "from djtasks import Celery\n{} = Celery('{}')\n"


@pytest.mark.parametrize(
    ("files", "name", "main"),
    [
        ({"proj1.py": MAKE.format("app", "a") + MAKE.format("celery", "b")}, "proj1", "a"),
        ({"proj2.py": MAKE.format("celery", "b")}, "proj2", "b"),
        ({"proj3.py": MAKE.format("other", "c")}, "proj3", "c"),
        ({"proj4/__init__.py": "", "proj4/celery.py": MAKE.format("app", "d")}, "proj4", "d"),
        ({"proj5/__init__.py": MAKE.format("x", "e"), "proj5/celery.py": MAKE.format("app", "f")}, "proj5", "f"),
        ({"proj6.py": MAKE.format("app", "a") + MAKE.format("mine", "g")}, "proj6:mine", "g"),
        ({"proj7.py": MAKE.format("mine", "h")}, "proj7.mine", "h"),
        ({"proj8/__init__.py": "", "proj8/main.py": MAKE.format("app", "i")}, "proj8.main", "i"),
    ],
)
def test_an_app_is_found_where_celery_finds_it(project: Path, files: dict[str, str], name: str, main: str) -> None:
    for path, text in files.items():
        (project / path).parent.mkdir(exist_ok=True)
        (project / path).write_text(text)
    assert find_app(name).main == main


@pytest.mark.parametrize(
    ("text", "name", "says"),
    [
        ("", "proj9", "there is no app in it; write module:attribute"),
        ("x = 5", "proj9:x", "there is no app in it"),
        ("", "projx", "there is no module 'projx'"),
        ("", "proj9.x", "there is no module 'proj9.x'"),
    ],
)
def test_where_there_is_none_is_said(project: Path, text: str, name: str, says: str) -> None:
    (project / "proj9.py").write_text(text)
    with pytest.raises(ImproperlyConfigured, match=says):
        find_app(name)


def test_a_worker_is_told_its_app(project: Path) -> None:
    (project / "proj11.py").write_text("")
    with pytest.raises(CommandError, match="-A proj11: there is no app in it"):
        call_command("runworker", "-A", "proj11")
    with pytest.raises(CommandError, match="-A projx: there is no module 'projx'"):
        call_command("runworker", "--app=projx")


def test_what_a_module_itself_cannot_import_is_raised(project: Path) -> None:
    (project / "proj10.py").write_text("import nowhere_at_all")
    with pytest.raises(ModuleNotFoundError, match="nowhere_at_all"):
        find_app("proj10")
