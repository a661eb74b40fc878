"""Queues that belong to one worker: its own, where WORKER_DIRECT is on, and its own copy of each broadcast queue.

They are queues like all others, with names of this form.
"""

from collections.abc import Iterable

from djtasks.conf import settings

#: What Celery puts behind the name of a node.
DIRECT = ".dq"


def direct_queue(node: str) -> str:
    """The queue of the worker of this name alone."""
    return node + DIRECT


def is_broadcast(queue: str) -> bool:
    """Whether every worker that takes from the queue runs what is sent there."""
    declared = settings.TASK_QUEUES
    return declared is not None and bool(declared.get(queue, {}).get("broadcast"))


def own_queue(queue: str, node: str) -> str:
    """Where the worker of this name finds what is sent to a broadcast queue."""
    return f"{queue}.{node}"


def is_own(queue: str) -> bool:
    """Whether the queue belongs to some one worker, and so is not declared."""
    if settings.WORKER_DIRECT and queue.endswith(DIRECT):
        return True
    return any(is_broadcast(name) and queue.startswith(f"{name}.") for name in settings.TASK_QUEUES or ())


def with_own(queues: Iterable[str], node: str) -> tuple[str, ...]:
    """These queues, each broadcast queue followed by the worker's own copy of it, and the worker's own queue."""
    found: dict[str, None] = {}
    for queue in queues:
        found[queue] = None
        if is_broadcast(queue):
            found[own_queue(queue, node)] = None
    if settings.WORKER_DIRECT:
        found[direct_queue(node)] = None
    return tuple(found)
