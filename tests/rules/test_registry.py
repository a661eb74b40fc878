"""Task names to tasks, and finding the modules that define them."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings

from djtasks import signals
from djtasks.exceptions import InvalidTaskError, NotRegistered
from djtasks.registry import TaskRegistry, autodiscover, import_default_modules


class Task:
    def __init__(self, name: Any = "class.task") -> None:
        self.name = name


def test_a_registered_task_is_found_by_its_name() -> None:
    tasks, task = TaskRegistry(), Task("a.b")
    assert tasks.register(task) is task
    assert tasks["a.b"] is task


def test_an_unknown_name_is_not_registered() -> None:
    with pytest.raises(NotRegistered, match=r"a\.b"):
        TaskRegistry()["a.b"]
    assert TaskRegistry().get("a.b") is None
    assert "a.b" not in TaskRegistry()


def test_a_class_is_registered_as_its_instance() -> None:
    tasks = TaskRegistry()
    assert isinstance(tasks.register(Task), Task)
    assert tasks.names() == ["class.task"]


@pytest.mark.parametrize("name", [None, "", 5])
def test_a_task_without_a_name_is_refused(name: Any) -> None:
    with pytest.raises(InvalidTaskError, match="needs a 'name'"):
        TaskRegistry().register(Task(name))


def test_a_later_task_takes_the_place_of_an_earlier_one() -> None:
    tasks, later = TaskRegistry(), Task("a")
    tasks.register(Task("a"))
    tasks.register(later)
    assert tasks["a"] is later


def test_a_task_is_unregistered_by_itself_or_by_its_name() -> None:
    tasks = TaskRegistry()
    tasks.unregister(tasks.register(Task("a")))
    tasks.register(Task("a"))
    tasks.unregister("a")
    assert not tasks
    with pytest.raises(NotRegistered):
        tasks.unregister("a")


def test_listings_are_in_order_and_without_the_machinerys_own() -> None:
    tasks = TaskRegistry()
    for name in ("b.x", "celery.chord", "a.y", "djtasks.map"):
        tasks.register(Task(name))
    assert tasks.names() == ["a.y", "b.x"]
    assert list(tasks.regular()) == ["a.y", "b.x"]
    assert len(tasks) == 4


# -- modules ------------------------------------------------------------------------------------------------------

Make = Callable[[dict[str, str]], None]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Make modules that can be imported, from their names and their texts."""
    monkeypatch.syspath_prepend(tmp_path)
    before = set(sys.modules)

    def write(modules: dict[str, str]) -> None:
        for name, source in modules.items():
            path = tmp_path.joinpath(*name.split(".")).with_suffix(".py")
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.parent != tmp_path:
                (path.parent / "__init__.py").touch()
            path.write_text(source)

    yield write
    for name in set(sys.modules) - before:
        del sys.modules[name]


def names(modules: list[Any]) -> list[str]:
    return [module.__name__ for module in modules]


def test_the_tasks_module_of_each_package_is_imported(make: Make) -> None:
    make({"shop.tasks": "", "blog.tasks": ""})
    assert names(autodiscover(["shop", "blog"])) == ["shop.tasks", "blog.tasks"]


def test_a_package_without_a_tasks_module_is_passed_over(make: Make) -> None:
    make({"shop.views": "", "plain": ""})
    assert autodiscover(["shop", "plain"]) == []


def test_another_module_than_tasks_may_be_looked_for(make: Make) -> None:
    make({"shop.jobs": ""})
    assert names(autodiscover(["shop"], "jobs")) == ["shop.jobs"]
    assert names(autodiscover(["shop"], None)) == ["shop"]


def test_an_import_error_inside_a_tasks_module_is_raised(make: Make) -> None:
    make({"shop.tasks": "import no_such_module_anywhere"})
    with pytest.raises(ModuleNotFoundError, match="no_such_module_anywhere"):
        autodiscover(["shop"])


def test_an_import_error_inside_a_package_is_raised(make: Make) -> None:
    make({"blog.__init__": "import no_such_module_anywhere"})
    with pytest.raises(ModuleNotFoundError, match="no_such_module_anywhere"):
        autodiscover(["blog"])


def test_a_package_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_package"):
        autodiscover(["no_such_package"])


def test_an_entry_of_installed_apps_that_names_its_config_is_understood(make: Make) -> None:
    make({"shop.tasks": "", "shop.apps": "class ShopConfig:\n    name = 'shop'\n"})
    assert names(autodiscover(lambda: ["shop.apps.ShopConfig"])) == ["shop.tasks"]


def test_the_installed_apps_are_looked_through_by_default(make: Make, settings: LazySettings) -> None:
    make({"shop.tasks": ""})
    settings.INSTALLED_APPS = [*settings.INSTALLED_APPS, "shop"]
    assert "shop.tasks" in names(autodiscover())


def test_a_single_text_instead_of_a_list_is_refused() -> None:
    with pytest.raises(TypeError, match=r"write \['shop'\]"):
        autodiscover("shop")


def test_a_worker_imports_what_the_settings_name(make: Make, settings: LazySettings) -> None:
    make({"shop.jobs": "", "blog.jobs": ""})
    settings.DJTASKS = {"IMPORTS": ["shop.jobs"], "INCLUDE": ["blog.jobs"]}
    assert names(import_default_modules()) == ["shop.jobs", "blog.jobs"]


def test_what_a_receiver_of_import_modules_raises_is_raised(settings: LazySettings) -> None:
    settings.DJTASKS = {}

    @signals.import_modules.connect
    def broken(**kwargs: Any) -> None:
        raise LookupError("broken")

    with pytest.raises(LookupError, match="broken"):
        import_default_modules()
    signals.import_modules.disconnect(broken)
