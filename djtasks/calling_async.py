"""Calling tasks from coroutines: `await task.adelay(…)`. They do what their names without the `a` do.

Each does its work where Django's asynchronous ORM does its own, so that it is in the same transaction.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, Unpack

from asgiref.sync import sync_to_async

from djtasks.calls import CallOptions
from djtasks.eager import EagerResult
from djtasks.result import AsyncResult

P = ParamSpec("P")
R = TypeVar("R")


class AsyncCalling(Generic[P, R]):
    """What a task offers to coroutines."""

    if TYPE_CHECKING:

        def delay(self, *args: P.args, **kwargs: P.kwargs) -> AsyncResult[R]: ...

        def apply_async(
            self,
            args: Sequence[Any] | None = None,
            kwargs: Mapping[str, Any] | None = None,
            **options: Unpack[CallOptions],
        ) -> AsyncResult[R]: ...

        def apply(
            self,
            args: Sequence[Any] | None = None,
            kwargs: Mapping[str, Any] | None = None,
            throw: bool | None = None,
            **options: Unpack[CallOptions],
        ) -> EagerResult[R]: ...

        def update_state(
            self, task_id: str | None = None, state: str | None = None, meta: Any = None, **kwargs: Any
        ) -> None: ...

    async def adelay(self, *args: P.args, **kwargs: P.kwargs) -> AsyncResult[R]:
        """Enqueue the task with these arguments."""
        return await sync_to_async(self.apply_async)(args, kwargs)

    async def aapply_async(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[CallOptions],
    ) -> AsyncResult[R]:
        """Enqueue the task; `options` are those of CallOptions. Raises as `apply_async` does."""
        return await sync_to_async(self.apply_async)(args, kwargs, **options)

    async def aapply(
        self,
        args: Sequence[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        throw: bool | None = None,
        **options: Unpack[CallOptions],
    ) -> EagerResult[R]:
        """Run the task here and now. Raises as `apply` does."""
        return await sync_to_async(self.apply)(args, kwargs, throw, **options)

    async def aupdate_state(
        self, task_id: str | None = None, state: str | None = None, meta: Any = None, **kwargs: Any
    ) -> None:
        """Store a state of your own. Raises as `update_state` does."""
        await sync_to_async(self.update_state)(task_id, state, meta, **kwargs)
