"""Tasks that take and return pydantic's models."""

import json
from datetime import date
from typing import TYPE_CHECKING, Any, Optional

import pydantic
import pytest

from djtasks import Task, shared_task
from djtasks.exceptions import EncodeError, ImproperlyConfigured
from djtasks.payload import unpack_exception
from djtasks.serializers import optional
from tests.calling.conftest import Configure, Runner, message_of, waiting

if TYPE_CHECKING:
    from decimal import Decimal


class Order(pydantic.BaseModel):
    """Something to validate."""

    number: int
    due: date | None = None


class Bill(pydantic.BaseModel):
    """Something to return."""

    total: float
    order: Order


@pytest.fixture
def bill() -> Task[..., Any]:
    @shared_task(name="shop.bill", pydantic=True)
    def bill(order: Order, rate: float = 1.0, extra: Optional[Order] = None) -> Bill | None:  # noqa: UP045
        assert isinstance(order, Order)
        assert extra is None or isinstance(extra, Order)
        return Bill(total=order.number * rate, order=extra or order)

    return bill


def value_of(outcome: Any) -> Any:
    return json.loads(outcome.result)


def test_a_dict_becomes_the_model_and_a_returned_model_a_dict(run: Runner, bill: Task[..., Any]) -> None:
    outcome = run(bill, {"number": 5, "due": "2030-01-01"}, kwargs={"rate": 2})
    assert value_of(outcome) == {"total": 10.0, "order": {"number": 5, "due": "2030-01-01"}}


@pytest.mark.parametrize("extra", [None, {"number": 7}])
def test_a_model_that_may_be_none_is_validated_when_it_is_not(run: Runner, bill: Task[..., Any], extra: Any) -> None:
    assert value_of(run(bill, {"number": 5}, kwargs={"extra": extra}))["order"]["number"] == (7 if extra else 5)


def test_what_does_not_fit_the_model_fails(run: Runner, bill: Task[..., Any]) -> None:
    outcome = run(bill, {"number": "five"})
    error = unpack_exception(outcome.result or b"", outcome.content_type, outcome.content_encoding)
    assert (outcome.state, type(error).__name__) == ("FAILURE", "ValidationError")


@pytest.mark.django_db(transaction=True)
def test_a_model_that_is_passed_travels_as_a_dict(bill: Task[..., Any], run: Runner) -> None:
    order = Order(number=5, due=date(2030, 1, 1))
    bill.delay(order, extra=order)
    bill.bulk_apply_async([((order,), {})])
    bill.s(order).delay()
    assert len(waiting("shop.bill")) == 3
    body = bill.s(order).to_message().body
    assert json.loads(body) == [[{"number": 5, "due": "2030-01-01"}], {}]


def test_a_model_that_would_come_back_as_another_is_left_to_the_serializer(bill: Task[..., Any]) -> None:
    class Special(Order):
        note: str = ""

    with pytest.raises(EncodeError, match="Special is no type that JSON can carry"):
        bill.delay(Special(number=5, note="x"))


def test_pickle_carries_models_as_they_are(bill: Task[..., Any]) -> None:
    order = Order(number=5)
    assert bill.dump_arguments((order,), {}, "pickle") == ((order,), {})


def test_models_without_pydantic_are_refused_by_the_serializer() -> None:
    @shared_task(name="shop.plain")
    def plain(order: Order) -> None: ...

    with pytest.raises(EncodeError):
        message_of(plain, Order(number=5))


def test_options_reach_the_validation_and_the_dump(run: Runner) -> None:
    seen: list[Any] = []

    class Noted(pydantic.BaseModel):
        number: int

        @pydantic.model_validator(mode="after")
        def note(self, info: pydantic.ValidationInfo) -> "Noted":
            seen.append(info.context)
            return self

    @shared_task(
        bind=True,
        name="shop.strict",
        pydantic=True,
        pydantic_strict=True,
        pydantic_context={"tenant": 5},
        pydantic_dump_kwargs={"exclude": {"number"}},
    )
    def strict(self: Task[..., Any], noted: Noted) -> Noted:
        return noted

    assert run(strict, {"number": "5"}).state == "FAILURE"
    assert value_of(run(strict, {"number": 5})) == {}
    assert (seen[-1]["tenant"], seen[-1]["celery_task_name"], seen[-1]["celery_app"]) == (5, "shop.strict", strict.app)


def test_annotations_that_only_type_checkers_know_are_no_hindrance(run: Runner) -> None:
    def total(order: Order, rate: "Decimal") -> Order:
        return order

    task = shared_task(name="shop.total", pydantic=True)(total)
    assert value_of(run(task, {"number": 5}, 2)) == {"number": 5, "due": None}


def test_eager_mode_does_the_same(bill: Task[..., Any], configure: Configure) -> None:
    configure(TASK_ALWAYS_EAGER=True)
    assert bill.delay(Order(number=5)).get() == {"total": 5.0, "order": {"number": 5, "due": None}}


def test_a_call_here_takes_either(bill: Task[..., Any]) -> None:
    assert bill(Order(number=5)) == bill({"number": 5})


def test_without_pydantic_the_decorator_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> Any:
        raise ImportError(f"No module named {name!r}")

    optional.library.cache_clear()
    monkeypatch.setattr(optional, "import_module", missing)
    with pytest.raises(ImproperlyConfigured, match=r"pip install 'djtasks\[pydantic\]'"):
        shared_task(name="shop.bill", pydantic=True)(lambda: None)
    monkeypatch.undo()
    optional.library.cache_clear()
