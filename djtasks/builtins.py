"""The tasks that Celery brings: every worker knows them. Listings leave them out."""

from collections.abc import Iterable, Sequence
from typing import Any

from djtasks.canvas.signature import Signature, maybe_signature
from djtasks.conf import settings
from djtasks.db.connections import borrow
from djtasks.db.results import prune
from djtasks.decorators import shared_task

_BATCH = 1000


@shared_task(name="celery.ping")
def ping() -> str:
    """Say "pong": somebody is there."""
    return "pong"


@shared_task(name="celery.backend_cleanup")
def backend_cleanup() -> int:
    """Delete the results that have expired now, rather than when a worker next does it; how many there were."""
    if settings.RESULT_EXPIRES is None:
        return 0
    age, deleted = settings.RESULT_EXPIRES.total_seconds(), 0
    while count := prune(borrow(), age, _BATCH):
        deleted += count
    return deleted


@shared_task(name="celery.accumulate")
def accumulate(*args: Any, index: int | None = None) -> Any:
    """The arguments, or the one of them at `index`."""
    return args if index is None else args[index]


@shared_task(name="celery.map")
def xmap(task: Any, it: Iterable[Any]) -> list[Any]:
    """What the task of a signature returns for each of `it`; the signature's own arguments do not count."""
    call = maybe_signature(task).type
    return [call(each) for each in it]


@shared_task(name="celery.starmap")
def xstarmap(task: Any, it: Iterable[Sequence[Any]]) -> list[Any]:
    """As `celery.map`, where each of `it` is a row of arguments."""
    call = maybe_signature(task).type
    return [call(*each) for each in it]


@shared_task(name="celery.chunks")
def chunks(task: Any, it: Iterable[Sequence[Any]], n: int) -> list[str]:
    """Enqueue a `celery.starmap` for every `n` rows of arguments; their ids."""
    rows = list(it)
    if n < 1:
        raise ValueError(f"a chunk holds at least one row, not {n}")
    parts = (rows[start : start + n] for start in range(0, len(rows), n))
    calls = (((), {"task": Signature(maybe_signature(task)["task"]), "it": part}) for part in parts)
    return [result.id for result in xstarmap.bulk_apply_async(calls)]
