"""Tasks for the tests of signed calls: what a child signs itself."""

from typing import Any

from djtasks import shared_task


@shared_task(bind=True)
def count(self: Any, number: int) -> int:
    """Retry with another argument, until it is 3."""
    if number < 3:
        raise self.retry(args=[number + 1], countdown=0)
    return number


@shared_task
def child() -> str:
    """What a task called."""
    return "child"


@shared_task(bind=True)
def note_id(self: Any, task_id: str) -> str:
    """Return the id of the task that failed."""
    return task_id


@shared_task
def parent() -> str:
    """Call another task, and return its id."""
    return str(child.delay().id)
