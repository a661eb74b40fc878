"""Tasks that are asked to stop."""

from typing import Any

import pytest

from djtasks import Task, shared_task
from djtasks.contrib.abortable import ABORTED, AbortableAsyncResult, AbortableTask
from tests.calling.conftest import Configure, work

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def export() -> Task[..., Any]:
    @shared_task(bind=True, base=AbortableTask, name="shop.export")
    def export(self: AbortableTask[..., Any]) -> str:
        return "stopped" if self.is_aborted() else "done"

    return export


def test_a_task_that_was_asked_to_stop_sees_it(export: Task[..., Any]) -> None:
    result = export.delay()
    assert isinstance(result, AbortableAsyncResult)
    assert not result.is_aborted()
    assert result.abort()
    assert (result.state, result.is_aborted(), result.result) == (ABORTED, True, None)
    work()
    assert (result.state, result.is_aborted(), result.get()) == ("SUCCESS", False, "stopped")


def test_a_task_that_was_not_asked_goes_on(export: Task[..., Any]) -> None:
    result = export.apply_async()
    work()
    assert result.get() == "done"


def test_what_has_ended_or_is_not_known_cannot_be_asked(export: Task[..., Any]) -> None:
    result = export.delay()
    work()
    assert not result.abort()
    assert not AbortableAsyncResult("nobody").abort()
    assert result.state == "SUCCESS"


def test_any_task_can_be_looked_at(export: AbortableTask[..., Any]) -> None:
    result = export.delay()
    result.abort()
    assert export.is_aborted(task_id=result.id)
    assert not export.is_aborted(task_id="another")
    assert not export.is_aborted()


def test_eager_mode_runs_it_as_it_is(export: Task[..., Any], configure: Configure) -> None:
    configure(TASK_ALWAYS_EAGER=True)
    assert export.delay().get() == "done"
