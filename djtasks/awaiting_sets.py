"""What coroutines do with several results: `await result.aget()`."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async

from djtasks.awaiting import assert_will_not_block
from djtasks.messages import Stored
from djtasks.waiting_many import AsyncMany


def task_id_of(member: Any) -> str | None:
    """The row that a member of a set is waited for by: None for a group, and where there is nothing to wait for."""
    if isinstance(member, AwaitableSet):
        return None
    task_id: str | None = member._to_wait_for()
    return task_id


class AwaitableSet:
    """The part of ResultSet that is for coroutines: what its names without the `a` do, without blocking the loop."""

    if TYPE_CHECKING:

        def ready(self) -> bool: ...
        def completed_count(self) -> int: ...
        def states(self) -> dict[str, int]: ...
        def forget(self) -> None: ...
        def revoke(self, *args: Any, **kwargs: Any) -> Any: ...
        def _windows(self) -> Iterator[list[Any]]: ...
        def _read(self, window: Sequence[Any]) -> dict[str, Callable[[Stored], None]]: ...

    async def aget(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        interval: float = 0.5,
        callback: Callable[[str, Any], Any] | None = None,
        disable_sync_subtasks: bool = True,
        follow_parents: bool = True,
    ) -> list[Any]:
        """Wait until all have ended, and return what they returned. Takes, and raises, what `get` does."""
        if disable_sync_subtasks:
            assert_will_not_block()
        deadline = None if timeout is None else time.monotonic() + timeout
        values = []
        for window in self._windows():
            ids = await sync_to_async(self._read)(window)
            with AsyncMany(ids, interval) as many:
                for each in window:
                    while (task_id := task_id_of(each)) is not None and task_id in ids:
                        arrived, stored = await many.next(deadline)
                        ids.pop(arrived)(stored)
                    value = await each.aget(
                        timeout=None if deadline is None else max(0.0, deadline - time.monotonic()),
                        propagate=propagate,
                        interval=interval,
                        follow_parents=follow_parents,
                        disable_sync_subtasks=False,
                    )
                    if callback is None:
                        values.append(value)
                    else:
                        callback(each.id, value)
        return values

    ajoin = aget

    async def aready(self) -> bool:
        """Whether all have ended."""
        return await sync_to_async(self.ready)()

    async def acompleted_count(self) -> int:
        """How many members have ended well."""
        return await sync_to_async(self.completed_count)()

    async def astates(self) -> dict[str, int]:
        """How many of its tasks have ended in which state."""
        return await sync_to_async(self.states)()

    async def aforget(self) -> None:
        """Delete the results from the database."""
        await sync_to_async(self.forget)()

    async def arevoke(self, *args: Any, **kwargs: Any) -> Any:
        """Let none of its tasks run; takes, and returns, what `revoke` does."""
        return await sync_to_async(self.revoke)(*args, **kwargs)
