"""A function becomes a task."""

import pickle
import subprocess
import sys
from typing import Any

import pytest

from djtasks import Celery, Task, app, current_task, shared_task, task
from djtasks.exceptions import NotRegistered
from djtasks.registry import tasks


def test_a_bare_decorator_makes_a_task_named_by_module_and_function() -> None:
    @shared_task
    def add(x: int, y: int) -> int:
        """Add."""
        return x + y

    assert isinstance(add, Task)
    assert add.name == f"{__name__}.add"
    assert tasks[add.name] is add
    assert (add.__doc__, add.__name__, add.__module__) == ("Add.", "add", __name__)


def test_a_decorator_with_options_makes_them_attributes_of_the_task() -> None:
    @shared_task(name="shop.pay", max_retries=7, queue="money", throws=KeyError)
    def pay() -> None: ...

    assert (pay.name, pay.max_retries, pay.queue, pay.throws) == ("shop.pay", 7, "money", (KeyError,))


def test_empty_parentheses_are_the_same_as_none() -> None:
    @shared_task()
    def add(x: int) -> int:
        return x

    assert add(2) == 2


def test_an_option_of_ones_own_becomes_an_attribute() -> None:
    @shared_task(colour="green")  # type: ignore[call-overload, untyped-decorator]
    def paint() -> None: ...

    assert paint.colour == "green"


def test_a_misspelt_option_is_warned_of() -> None:
    with pytest.warns(RuntimeWarning, match="no option 'max_retrys'; did you mean 'max_retries'"):

        @shared_task(max_retrys=3)  # type: ignore[call-overload, untyped-decorator]
        def add() -> None: ...


@pytest.mark.parametrize("name", ["a\0b", "\ud800", 5])
def test_a_name_that_no_task_can_have_is_refused(name: Any) -> None:
    with pytest.raises(TypeError, match="a task's name must be a text"):
        shared_task(name=name)(lambda: None)
    with pytest.raises(TypeError, match="a task's name must be a text"):
        app.register_task(type("Odd", (Task,), {"name": name}))


@pytest.mark.parametrize("option", ["time_limit", "soft_time_limit"])
@pytest.mark.parametrize("limit", [-1, float("nan"), float("inf"), pytest.param(10**400, id="large"), "5"])
def test_a_time_limit_that_is_none_is_refused(option: str, limit: Any) -> None:
    with pytest.raises(ValueError, match=f"{option} must be a number of seconds above 0"):
        shared_task(**{option: limit})


def test_a_time_limit_of_zero_is_no_limit() -> None:
    assert shared_task(time_limit=0, soft_time_limit=None)(lambda: None)


def test_with_bind_the_first_argument_is_the_task() -> None:
    @shared_task(bind=True)
    def whoami(self: Task[..., Any], x: int) -> tuple[Any, int]:
        return self, x

    assert whoami(3) == (whoami, 3)


def test_task_is_shared_task_under_its_old_name() -> None:
    assert task is shared_task


def test_the_first_definition_of_a_name_wins() -> None:
    @shared_task(name="shop.twice")
    def first() -> int:
        return 1

    @shared_task(name="shop.twice")
    def second() -> int:
        return 2

    assert second is first
    assert tasks["shop.twice"]() == 1


def test_two_modules_that_want_the_same_name_are_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    @shared_task(name="shop.twice")
    def first() -> None: ...

    def second() -> None: ...

    second.__module__ = "elsewhere"
    assert shared_task(name="shop.twice")(second) is first
    assert "two functions want to be the task 'shop.twice'" in caplog.text


def test_two_positional_arguments_are_refused() -> None:
    with pytest.raises(TypeError, match="takes one function, and got 2"):
        app.task(test_empty_parentheses_are_the_same_as_none, "name")  # type: ignore[call-overload]


@pytest.mark.parametrize("wrong", ["shop.pay", 3])
def test_what_is_no_function_is_refused(wrong: Any) -> None:
    with pytest.raises(TypeError, match="takes a function"):
        shared_task(wrong)
    with pytest.raises(TypeError, match="takes a function"):
        shared_task(name="x")(wrong)


def test_base_gives_a_task_the_methods_and_state_of_a_class() -> None:
    class Counting(Task[..., Any]):
        abstract = True
        seen = 0

        def count(self) -> int:
            self.seen += 1
            return self.seen

    @shared_task(bind=True, base=Counting)
    def counted(self: Any) -> int:
        return int(self.count())

    assert isinstance(counted, Counting)
    assert [counted(), counted()] == [1, 2]


def test_a_filter_may_put_another_task_in_its_place() -> None:
    seen = []

    def keep(made: Any) -> Any:
        seen.append(made.name)
        return made

    shared_task(name="shop.filtered", filter=keep)(test_task_is_shared_task_under_its_old_name)
    assert seen == ["shop.filtered"]


def test_a_class_of_ones_own_is_registered_under_module_and_class() -> None:
    class Add(Task[[int, int], int]):
        def run(self, x: int, y: int) -> int:
            return x + y

    made = app.register_task(Add())
    assert made.name == f"{__name__}.Add"
    assert tasks[made.name] is made
    assert made(1, 2) == 3


def test_a_class_may_be_registered_without_being_called() -> None:
    class Named(Task[[], int]):
        name = "shop.named"

        def run(self) -> int:
            return 1

    assert isinstance(app.register_task(Named, max_retries=1), Named)
    assert tasks["shop.named"].max_retries == 1


def test_what_is_no_task_cannot_be_registered() -> None:
    with pytest.raises(TypeError, match="takes a Task"):
        app.register_task(object())


def test_a_class_without_run_says_so_when_it_is_called() -> None:
    class Empty(Task[[], None]):
        name = "shop.empty"

    with pytest.raises(NotImplementedError, match=r"Empty must define run\(\)"):
        app.register_task(Empty)()


def test_main_of_an_app_stands_for_the_script_that_is_run() -> None:
    assert Celery("shop").gen_task_name("pay", "__main__") == "shop.pay"
    assert Celery("shop").gen_task_name("pay", "till") == "till.pay"


def test_a_task_pickles_as_its_name() -> None:
    @shared_task(name="shop.pay")
    def pay() -> None: ...

    assert pickle.loads(pickle.dumps(pay)) is pay


def test_a_pickled_task_that_is_not_here_is_said_to_be_unknown() -> None:
    @shared_task(name="shop.gone")
    def gone() -> None: ...

    text = pickle.dumps(gone)
    del tasks["shop.gone"]
    with pytest.raises(NotRegistered):
        pickle.loads(text)


def test_an_attribute_that_there_is_not_is_named() -> None:
    @shared_task
    def add() -> None: ...

    with pytest.raises(AttributeError, match="has no attribute 'dely'"):
        add.dely()  # type: ignore[attr-defined]


def test_no_task_is_current_outside_of_one() -> None:
    assert not current_task
    assert current_task == None  # noqa: E711


# -- importing ----------------------------------------------------------------------------------------------------

PUBLIC = (
    "AsyncResult, Celery, EagerResult, Signature, Task, allow_join_result, app, current_app, current_task,"
    " maybe_signature, shared_task, signature, subtask, task"
)


def python(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_importing_djtasks_imports_nothing_of_django() -> None:
    assert python("import djtasks, sys; print('django' in sys.modules)") == "False"


def test_tasks_can_be_defined_before_django_has_settings() -> None:
    code = "from djtasks import shared_task\n@shared_task\ndef add(x): return x + 1\nprint(add(1), add.name)"
    assert python(code) == "2 __main__.add"


def test_the_public_names_win_over_the_modules_of_the_same_name() -> None:
    code = (
        "import djtasks.task, djtasks.app, djtasks.current\n"
        f"from djtasks import {PUBLIC}\n"
        "print(callable(task), type(app).__name__, type(djtasks.task).__name__)"
    )
    assert python(code) == "True Celery TaskDecorator"


def test_all_public_names_are_listed() -> None:
    assert python("import djtasks; print(set(djtasks.__all__) <= set(dir(djtasks)))") == "True"


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"autoretry_for": (5,)}, TypeError, "autoretry_for must be exception classes, not 5"),
        ({"throws": "x"}, TypeError, "throws must be exception classes, not 'x'"),
        ({"dont_autoretry_for": int}, TypeError, "dont_autoretry_for must be exception classes"),
        ({"max_retries": "x"}, TypeError, "max_retries must be a number, not 'x'"),
        ({"max_retries": -1}, ValueError, "max_retries must be 0 or more, not -1"),
        ({"default_retry_delay": -4}, ValueError, "default_retry_delay must be 0 or more"),
        ({"retry_backoff": "x"}, TypeError, "retry_backoff must be a number"),
        ({"retry_backoff_max": float("nan")}, ValueError, "retry_backoff_max must be 0 or more"),
        ({"retry_kwargs": 5}, TypeError, r"retry_kwargs must be the keyword arguments of retry\(\), not 5"),
    ],
)
def test_an_option_about_failures_that_no_run_could_heed_is_refused_at_the_definition(
    options: dict[str, Any], error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        shared_task(name="shop.bad", **options)(lambda: None)
    assert "shop.bad" not in tasks
