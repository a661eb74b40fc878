"""The Celery-shaped facade."""

from typing import Any

import pytest

from djtasks import AsyncResult, Celery, Task, app, shared_task
from djtasks.exceptions import NotRegistered
from djtasks.registry import tasks
from tests.calling.conftest import Configure


def test_an_app_takes_a_broker_and_a_backend_and_means_nothing_by_them() -> None:
    made = Celery("shop", broker="redis://localhost", backend="rpc://", include=["shop.tasks"])
    assert (made.main, repr(made)) == ("shop", "<Celery shop>")


def test_an_apps_decorator_makes_tasks_of_the_one_registry() -> None:
    made = Celery("shop")

    @made.task(bind=True, name="shop.add")
    def add(self: Task[..., Any], x: int) -> int:
        return x

    assert made.tasks["shop.add"] is app.tasks["shop.add"] is tasks["shop.add"] is add


def test_a_task_that_is_not_there_is_not_registered() -> None:
    with pytest.raises(NotRegistered, match=r"shop\.nothing"):
        app.tasks["shop.nothing"]


def test_an_app_may_name_tasks_its_own_way() -> None:
    class Loud(Celery):
        def gen_task_name(self, name: str, module: str) -> str:
            return name.upper()

    @Loud().task
    def pay() -> None: ...

    assert pay.name == "PAY"


def test_a_task_knows_the_app() -> None:
    @shared_task
    def pay() -> None: ...

    assert pay.app is app


def test_settings_are_read_under_the_names_of_any_time(configure: Configure) -> None:
    configure(TASK_TIME_LIMIT=5)
    assert app.conf.task_time_limit == app.conf.TASK_TIME_LIMIT == app.conf["task_time_limit"] == 5
    assert app.conf.CELERYD_TASK_TIME_LIMIT == 5
    assert app.conf.get("task_time_limits", "none") == "none"
    with pytest.raises(AttributeError, match="did you mean"):
        _ = app.conf.task_time_limits


def test_no_task_is_current_outside_of_one_and_one_is_inside() -> None:
    assert app.current_task is None

    @shared_task
    def look() -> Any:
        return app.current_task, app.current_worker_task

    assert look() == (look, None)
    assert look.apply().get() == (look, look)


def test_results_can_be_had_by_id() -> None:
    assert app.AsyncResult("x") == AsyncResult("x")


def test_modules_of_packages_are_found() -> None:
    found = app.autodiscover_tasks(["tests.calling"], related_name="test_app")
    assert [module.__name__ for module in found] == ["tests.calling.test_app"]
    assert app.autodiscover_tasks(["tests.calling"], related_name="nowhere") == []


@pytest.mark.parametrize("name", ["", "a\0b", None, 3])
def test_a_name_that_no_task_can_have_is_refused(name: Any) -> None:
    with pytest.raises(TypeError, match="a task's name must be a text"):
        app.send_task(name)


def test_send_task_checks_options_though_not_arguments() -> None:
    with pytest.raises(TypeError, match="task args must be a list or tuple"):
        app.send_task("shop.add", 1)  # type: ignore[arg-type]
