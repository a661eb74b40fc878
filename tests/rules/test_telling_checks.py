"""System checks of what is told of tasks, and of what is not."""

from typing import Any

import pytest
from django.conf import LazySettings

from djtasks import checks
from djtasks.checks import Message, check_settings
from djtasks.registry import TaskRegistry
from djtasks.task import Task


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch) -> TaskRegistry:
    found = TaskRegistry()
    monkeypatch.setattr(checks, "tasks", found)
    return found


def of(message_id: str) -> list[Message]:
    return [message for message in check_settings() if message.id == message_id]


@pytest.mark.parametrize(("sensitive", "count"), [(("card",), 0), (True, 0), ((), 0), (("crad",), 1), (5, 1)])
def test_a_sensitive_argument_that_is_misspelt_is_an_error(tasks: TaskRegistry, sensitive: Any, count: int) -> None:
    class Pay(Task[..., Any]):
        name = "shop.pay"

        def run(self, card: str) -> None: ...

    pay = Pay()
    pay.sensitive = sensitive
    tasks[pay.name] = pay
    found = of("djtasks.E040")
    assert len(found) == count
    assert all("shop.pay" in message.msg for message in found)


@pytest.mark.parametrize(
    ("said", "admins", "count"),
    [
        ({}, [], 0),
        ({"TASK_ERROR_EMAILS": True}, [], 1),
        ({"TASK_ERROR_EMAILS": True}, [("Ann", "ann@example.org")], 0),
        ({"TASK_ERROR_EMAILS": True, "TASK_ERROR_EMAILS_TO": ["ops@example.org"]}, [], 0),
    ],
)
def test_emails_that_nobody_would_get_are_warned_of(
    settings: LazySettings, said: dict[str, Any], admins: list[Any], count: int
) -> None:
    settings.ADMINS = admins
    settings.DJTASKS = said
    assert len(of("djtasks.W040")) == count
