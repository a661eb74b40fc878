"""Who may wait for a result, and how coroutines do it: `await result.aget()`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from asgiref.sync import sync_to_async

from djtasks import waiting
from djtasks.current import running
from djtasks.exceptions import TimeoutError
from djtasks.ids import as_task_id
from djtasks.messages import Stored
from djtasks.states import PROPAGATE_STATES

R_co = TypeVar("R_co", covariant=True)

_joins_allowed: ContextVar[bool] = ContextVar("djtasks_joins_allowed", default=False)


@contextmanager
def allow_join_result() -> Iterator[None]:
    """Inside, tasks may wait for other tasks: know that they hold their worker's place while they do."""
    token = _joins_allowed.set(True)
    try:
        yield
    finally:
        _joins_allowed.reset(token)


def assert_will_not_block() -> None:
    """Raise RuntimeError inside a running task, unless `allow_join_result()` is in force."""
    if not _joins_allowed.get() and running() is not None:
        raise RuntimeError(
            "A task must not wait for another one: it would hold its worker's place until that one found another."
            " Let the other task call what comes next, or say get(disable_sync_subtasks=False) if there is no danger."
        )


class Awaitable(Generic[R_co]):
    """The part of AsyncResult that is for coroutines: what its names without the `a` do, without blocking the loop."""

    __slots__ = ()

    if TYPE_CHECKING:
        _id: Any
        _ignored: bool
        _stored: Stored | None

        def ready(self) -> bool: ...
        def forget(self) -> None: ...
        def revoke(self, *args: Any, **kwargs: Any) -> Any: ...
        def maybe_throw(self, propagate: bool = True, callback: Callable[[str, R_co], Any] | None = None) -> R_co: ...
        def _throw_for_parents(self) -> None: ...
        def _ended_here(self, task_id: str) -> bool: ...
        def _keep(self, stored: Stored) -> None: ...

    async def aget(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        interval: float = 0.5,
        follow_parents: bool = True,
        callback: Callable[[str, R_co], Any] | None = None,
        disable_sync_subtasks: bool = True,
    ) -> R_co:
        """Wait until the task has ended, and return what it returned. Takes, and raises, what `get` does."""
        if self._ignored:
            return None  # type: ignore[return-value]
        if disable_sync_subtasks:
            assert_will_not_block()
        if propagate and follow_parents:
            await sync_to_async(self._throw_for_parents)()
        if self._stored is None:
            await self._await(timeout, interval)
            if propagate and follow_parents and await self.astate() in PROPAGATE_STATES:
                await sync_to_async(self._throw_for_parents)()
        return self.maybe_throw(propagate, callback)

    async def _await(self, timeout: float | None, interval: float) -> None:
        task_id = as_task_id(self._id)
        if await sync_to_async(self._ended_here)(task_id):
            return
        if timeout is not None and timeout <= 0:
            if not await self.aready():
                raise TimeoutError("The operation timed out.")
            return
        self._keep(await waiting.await_for(task_id, timeout, interval))

    async def aready(self) -> bool:
        """Whether it has ended."""
        return await sync_to_async(self.ready)()

    async def astate(self) -> str:
        """PENDING, STARTED, RETRY, SUCCESS, FAILURE, REVOKED, or a state of the task's own."""
        return await sync_to_async(_state_of)(self)

    async def aforget(self) -> None:
        """Delete the result from the database."""
        await sync_to_async(self.forget)()

    async def arevoke(self, *args: Any, **kwargs: Any) -> Any:
        """Let the task not run; takes, and returns, what `revoke` does."""
        return await sync_to_async(self.revoke)(*args, **kwargs)


def _state_of(result: Any) -> str:
    state: str = result.state
    return state
