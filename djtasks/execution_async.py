"""One run of an `async def` task on an event loop that many of them share.

As `execution`, but that the task's code is awaited. What is synchronous around it, and may take its time or ask the
database (receivers of signals, handlers), runs aside, in a thread.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from djtasks import signals
from djtasks.aio import Body
from djtasks.conf import settings
from djtasks.current import Frame, pop, push
from djtasks.einfo import hide_frames_of
from djtasks.exceptions import FATAL, SoftTimeLimitExceeded
from djtasks.execution import RETRY, Run, again_after_all, begin, made, raised, succeeded
from djtasks.telling import send_postrun

hide_frames_of(__file__)

#: Runs a function in a thread, in a copy of the caller's context.
Aside = Callable[..., Awaitable[Any]]


async def execute(frame: Frame, aside: Aside, began: Callable[[Body[Any]], None]) -> Run:
    """Run the `async def` task of `frame`; `began` is given its coroutine, for limits to be raised in it."""
    run: Run | None = None
    push(frame)
    try:
        if _begins_loudly(frame):
            await aside(begin, frame)
        try:
            value = await _awaited(frame, aside, began)
            outcome = made(frame, value)
        except FATAL:
            raise
        except BaseException as error:
            run = await aside(raised, frame, error)
        else:
            heard = _is_heard(frame)
            run = await aside(succeeded, frame, value, outcome) if heard else succeeded(frame, value, outcome)
        if frame.again is not None and run.outcome.state != RETRY:
            run = again_after_all(frame, run)
        return run
    finally:
        try:
            if signals.task_postrun.receivers:
                await aside(send_postrun, frame, *((None, None) if run is None else (run.value, run.outcome.state)))
        finally:
            pop(frame)


async def _awaited(frame: Frame, aside: Aside, began: Callable[[Body[Any]], None]) -> Any:
    """What the task returns. The soft limit is raised by its own name."""
    task, request = frame.task, frame.request
    if not hasattr(task.before_start, "does_nothing"):
        said = await aside(task.before_start, request.id, request.args, request.kwargs)
        if asyncio.iscoroutine(said):
            await said
    code = task.run if frame.entered else task
    body: Body[Any] = Body(code(*request.args, **request.kwargs))
    body.begin()
    began(body)
    try:
        return await body
    except asyncio.CancelledError as error:
        if body.struck is None or isinstance(error, FATAL):
            raise
        raise SoftTimeLimitExceeded(body.struck).with_traceback(error.__traceback__) from error.__cause__
    finally:
        body.end()


def _begins_loudly(frame: Frame) -> bool:
    tracked = frame.task.track_started
    return bool(signals.task_prerun.receivers or (settings.TASK_TRACK_STARTED if tracked is None else tracked))


def _is_heard(frame: Frame) -> bool:
    task = frame.task
    silent = hasattr(task.on_success, "does_nothing") and hasattr(task.after_return, "does_nothing")
    return bool(signals.task_success.receivers) or not silent
