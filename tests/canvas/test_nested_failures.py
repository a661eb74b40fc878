"""What is raised by the result of a workflow in which something has failed far within."""

from typing import Any

import pytest

from djtasks import AsyncResult, chord, group, shared_task
from djtasks.exceptions import ChordError
from djtasks.testing import drain

pytestmark = pytest.mark.django_db(transaction=True)


@shared_task
def boom(*args: Any) -> None:
    raise LookupError("far within")


@shared_task
def one(*args: Any) -> int:
    return 1


@pytest.fixture(autouse=True)
def known(registry: dict[str, Any]) -> None:
    registry.update({task.name: task for task in (boom, one)})


@pytest.mark.parametrize(
    "make",
    [
        lambda: chord([one.s(), boom.s()], one.s()),
        lambda: chord([chord([boom.s()], one.s()), one.s()], one.s()),
        lambda: chord([chord([chord([one.s() | boom.s()], one.s())], one.s()), one.s()], one.s() | one.s()),
        lambda: one.s() | group(one.s(), boom.s()) | one.s() | one.s(),
        lambda: chord([one.s(), boom.s()], group(one.s(), one.s())),
        lambda: group(chord([boom.s()], one.s()), one.s()),
        lambda: chord([one.s(), boom.s()], one.s() | group(one.s(), one.s())),
        lambda: chord([boom.s()], one.s()) | chord([one.s(), one.s()], group(one.s(), one.s())),
    ],
)
def test_the_result_raises_what_was_raised_first(make: Any) -> None:
    result = make().apply_async()
    drain()
    with pytest.raises(LookupError, match="far within"):
        result.get(timeout=5)


def test_without_its_parents_the_result_of_a_body_knows_only_that_something_failed() -> None:
    result = chord([one.s(), boom.s()], one.s()).apply_async()
    drain()
    with pytest.raises(ChordError, match="far within"):
        AsyncResult(result.id).get(timeout=5)
