"""The tasks that Celery brings: every worker knows them. Listings leave them out."""

from collections.abc import Iterable, Sequence
from typing import Any

from djtasks import canvas
from djtasks.canvas.signature import maybe_signature
from djtasks.conf import settings
from djtasks.db import groups
from djtasks.db.connections import borrow
from djtasks.db.results import prune
from djtasks.decorators import shared_task

_BATCH = 1000
#: How Celery looks whether a header is ready, which nobody has to do here.
_OF_POLLING = frozenset({"interval", "max_retries", "eager", "countdown"})


@shared_task(name="celery.ping")
def ping() -> str:
    """Say "pong": somebody is there."""
    return "pong"


@shared_task(name="celery.backend_cleanup")
def backend_cleanup() -> int:
    """Delete the results that have expired now, rather than when a worker next does it; how many there were.

    Groups that were saved, and have expired, go too.
    """
    while groups.prune(borrow(), _BATCH) == _BATCH:
        pass
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


# The rest is called by messages of other programs, or by its name: a workflow is taken apart before it is sent.


@shared_task(name="celery.chunks")
def chunks(task: Any, it: Iterable[Sequence[Any]], n: int) -> Any:
    """Enqueue a `celery.starmap` for every `n` rows of arguments; their GroupResult."""
    return canvas.chunks.apply_chunks(maybe_signature(task), it, n)


@shared_task(name="celery.group")
def group(
    tasks: Iterable[Any], result: Any = None, group_id: str | None = None, partial_args: Any = (), **options: Any
) -> Any:
    """Enqueue the tasks of a group; their GroupResult."""
    return canvas.group(list(tasks)).apply_async(partial_args, task_id=group_id, **options)


@shared_task(name="celery.chord")
def chord(header: Any, body: Any, partial_args: Any = (), kwargs: Any = None, **options: Any) -> Any:
    """Enqueue a chord; the result of its body."""
    said = {key: value for key, value in options.items() if key not in _OF_POLLING}
    return canvas.chord(header, body).apply_async(partial_args, kwargs, **said)


@shared_task(name="celery.chain")
def chain(*args: Any, **kwargs: Any) -> None:
    """Raises NotImplementedError: a chain is its tasks, and no task."""
    raise NotImplementedError("a chain is no task of its own: send the signature, and not a call of celery.chain")
