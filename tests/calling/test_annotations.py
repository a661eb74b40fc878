"""TASK_ANNOTATIONS: options of tasks that stand elsewhere."""

from collections.abc import Callable
from typing import Any

import pytest

from djtasks import Task, app, appstate, shared_task
from djtasks.app import set_up
from djtasks.checks import check_settings
from djtasks.exceptions import ImproperlyConfigured
from tests.calling.conftest import Configure, Runner


class Annotations:
    """As a project writes them."""

    def annotate(self, task: Task[..., Any]) -> dict[str, Any] | None:
        return {"max_retries": 7} if task.name.startswith("shop.") else None

    def annotate_any(self) -> dict[str, Any]:
        return {"priority": 4}


def doubled(method: Callable[..., Any]) -> Callable[..., Any]:
    """A wrapper that a project puts around a method."""

    def around(*args: Any, **kwargs: Any) -> Any:
        return 2 * method(*args, **kwargs)

    return around


def test_a_task_gets_what_is_said_of_it_by_name(configure: Configure) -> None:
    configure(TASK_ANNOTATIONS={"shop.pay": {"time_limit": 5, "queue": "slow"}})

    @shared_task(name="shop.pay", time_limit=60)
    def pay() -> None: ...

    @shared_task(name="shop.other")
    def other() -> None: ...

    assert (pay.time_limit, pay.queue, other.time_limit) == (5, "slow", None)


def test_what_is_said_of_all_stands_over_what_is_said_of_one(configure: Configure) -> None:
    configure(TASK_ANNOTATIONS={"shop.pay": {"priority": 5, "max_retries": 1}, "*": {"priority": 9}})

    @shared_task(name="shop.pay")
    def pay() -> None: ...

    assert (pay.priority, pay.max_retries) == (9, 1)


@pytest.mark.parametrize(
    "annotations",
    [Annotations(), Annotations, f"{__name__}.Annotations", f"{__name__}:Annotations", [{}, Annotations()]],
)
def test_an_object_may_say_it(configure: Configure, annotations: Any) -> None:
    configure(TASK_ANNOTATIONS=annotations)

    @shared_task(name="shop.pay")
    def pay() -> None: ...

    assert (pay.max_retries, pay.priority) == (7, 4)


def test_the_first_that_says_something_of_a_task_is_asked(configure: Configure) -> None:
    configure(TASK_ANNOTATIONS=[{"shop.pay": {"max_retries": 1}}, {"shop.pay": {"max_retries": 2, "priority": 1}}])

    @shared_task(name="shop.pay")
    def pay() -> None: ...

    assert (pay.max_retries, pay.priority) == (1, None)


@pytest.mark.parametrize("method", ["run", "__call__"])
@pytest.mark.parametrize("bind", [True, False])
def test_a_method_can_be_wrapped(configure: Configure, run: Runner, method: str, bind: bool) -> None:
    configure(TASK_ANNOTATIONS={"*": {f"@{method}": doubled}})

    @shared_task(name="shop.two", bind=bind)
    def two(*args: Any) -> int:
        return 2

    outcome = run(two)
    assert (outcome.state, outcome.result) == ("SUCCESS", b"4")
    assert two() == 4


def test_exceptions_may_be_given_as_a_list(configure: Configure, run: Runner) -> None:
    configure(TASK_ANNOTATIONS={"shop.pay": {"autoretry_for": [OSError], "throws": ValueError}})

    @shared_task(name="shop.pay")
    def pay() -> None:
        raise FileNotFoundError

    assert (pay.autoretry_for, pay.throws) == ((OSError,), (ValueError,))
    assert run(pay).state == "RETRY"


def test_handlers_can_be_given_to_all_tasks(configure: Configure, run: Runner) -> None:
    seen = []

    def on_success(self: Task[..., Any], retval: Any, *args: Any) -> None:
        seen.append((self.name, retval))

    configure(TASK_ANNOTATIONS={"*": {"on_success": on_success}})

    @shared_task(name="shop.two")
    def two() -> int:
        return 2

    run(two)
    assert seen == [("shop.two", 2)]


def test_a_class_based_task_is_annotated_too(configure: Configure) -> None:
    configure(TASK_ANNOTATIONS={"shop.Pay": {"priority": 3}})

    class Pay(Task[..., Any]):
        name = "shop.Pay"

        def run(self) -> None: ...

    assert app.register_task(Pay()).priority == 3


def test_tasks_that_were_there_before_django_are_annotated_when_it_is_set_up(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(TASK_ANNOTATIONS={"shop.pay": {"priority": 3}})
    monkeypatch.setattr(appstate, "ready", False)

    @shared_task(name="shop.pay")
    def pay() -> None: ...

    assert pay.priority is None
    set_up()
    set_up()
    assert pay.priority == 3


@pytest.mark.parametrize(
    ("annotations", "says"),
    [
        ("shop.nowhere", "No module named 'shop'"),
        ({"*": {"@run": 5}}, "'@run': 5 is no function"),
        ({"*": {"rate_limit": "5/d"}}, "rate_limit"),
        ({"*": {"time_limit": -1}}, "time_limit must be a number of seconds above 0"),
        ({"*": {"@rnu": doubled}}, "there is no method 'rnu'"),
    ],
)
def test_what_cannot_be_applied_is_said_and_found_by_the_checks(
    configure: Configure, monkeypatch: pytest.MonkeyPatch, annotations: Any, says: str
) -> None:
    monkeypatch.setattr(appstate, "problems", [])
    monkeypatch.setattr(appstate, "ready", False)

    @shared_task(name="shop.pay")
    def pay() -> None: ...

    configure(TASK_ANNOTATIONS=annotations)
    with pytest.raises(ImproperlyConfigured, match=says):
        pay.annotate()
    set_up()
    found = [message for message in check_settings() if message.id == "djtasks.E020"]
    assert says in found[0].msg


def test_a_misspelt_task_or_option_is_found_by_the_checks(configure: Configure) -> None:
    @shared_task(name="shop.pay")
    def pay() -> None: ...

    configure(TASK_ANNOTATIONS={"shop.pya": {"time_limit": 5}, "shop.pay": {"time_limt": 5}})
    found = {(message.id, message.hint) for message in check_settings()}
    assert ("djtasks.W020", "Did you mean 'shop.pay'?") in found
    assert ("djtasks.W021", "Did you mean 'time_limit'?") in found


def test_a_soft_limit_above_the_hard_one_of_another_source_is_found_by_the_checks(configure: Configure) -> None:
    @shared_task(name="shop.pay", soft_time_limit=20)
    def pay() -> None: ...

    configure(TASK_TIME_LIMIT=10)
    [text] = [message.msg for message in check_settings() if message.id == "djtasks.W022"]
    assert (
        text == "The soft time limit of the task 'shop.pay', 20 s, is above its hard one, 10 s (own: soft_time_limit)."
    )
