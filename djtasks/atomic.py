"""`atomic=True`: what a run does in the database, and its end, are one transaction.

The run itself writes its end, under its fence, as the last statement of the transaction in which its task has worked;
then it commits. So either both are there or neither is, whatever is lost in between, and the task runs again where
nothing is. Handlers, signals and the log hear of it after the commit.

    BEGIN · before_start, the task, what it enqueues · result, message gone, what follows it · COMMIT
"""

import functools
import inspect
import logging
import random
import time
from collections.abc import Callable, Iterable
from typing import Any

import psycopg
from django.db import DEFAULT_DB_ALIAS, Error, InterfaceError, OperationalError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from djtasks import ending, rings
from djtasks.conf import settings
from djtasks.current import Frame
from djtasks.db import finish, notify
from djtasks.db.connections import CONFLICTS
from djtasks.einfo import hide_frames_of
from djtasks.exceptions import FATAL, Ignore, ImproperlyConfigured, Reject, Retry, safe_repr
from djtasks.messages import Outcome
from djtasks.states import State

logger = logging.getLogger("djtasks.tracer")
hide_frames_of(__file__)

#: Runs a task: what it returned, or the Ignore it raised, and the outcome of that.
Work = Callable[[Frame], tuple[Any, Outcome]]
#: Errors of the server after which a COMMIT may have happened all the same: the connection was lost, the server was
#: told to end, the completion is unknown.
_IN_DOUBT = ("08", "57", "40003")
#: How long a lost database is left alone, in seconds, at first and at most.
BACKOFF = (0.1, 5.0)


class Refused(Exception):
    """The message is no longer this worker's: what the run did in the database has been undone."""


def alias_of(task: Any) -> str:
    """The alias of the database that the task works in."""
    return DEFAULT_DB_ALIAS if task.atomic is True else str(task.atomic)


def problem(task: Any) -> str | None:
    """Why `atomic` cannot be kept for this task, and what to do about it; None when it can."""
    if not task.atomic:
        return None
    alias = alias_of(task)
    if alias != settings.DATABASE:
        return (
            f"the task {task.name} is atomic in the database {alias!r}, and tasks are kept in {settings.DATABASE!r}:"
            " one transaction cannot hold both. Keep the tasks with the data (DATABASE), or take atomic out; if both"
            f" are one database, say atomic={settings.DATABASE!r} and have the task work through that alias"
        )
    if inspect.iscoroutinefunction(task.run):
        return (
            f"the task {task.name} is atomic and an `async def`, which Django's transactions cannot hold: write it as a"
            " plain function"
        )
    return None


def check(known: Iterable[Any]) -> None:
    """Raise ImproperlyConfigured when `atomic` cannot be kept for one of these tasks."""
    for task in known:
        if (why := problem(task)) is not None:
            raise ImproperlyConfigured(why)


def within(frame: Frame, work: Work) -> tuple[Any, Outcome]:
    """Do `work` in a transaction that also ends the message; in an eager run, in a plain transaction.

    Raises what the task raises, when nothing of it has happened in the database; Ignore when all of it has; Reject with
    requeue when the commit was lost, or met another transaction; Refused; and ImproperlyConfigured when the promise
    cannot be kept.
    """
    check((frame.task,))
    alias = alias_of(frame.task)
    if frame.owner is None:
        with transaction.atomic(using=alias):
            value, outcome = _work(frame, work)
    else:
        value, outcome = _committed(frame, frame.owner, work, connections[alias])
    if outcome.state == State.IGNORED and isinstance(value, Ignore):
        raise value
    return value, outcome


def _work(frame: Frame, work: Work) -> tuple[Any, Outcome]:
    value, outcome = work(frame)
    if frame.again is not None:
        # retry(throw=False): it runs again, so nothing of this run is to stay.
        raise Retry("Task can be retried", None, frame.again.countdown)
    return value, outcome


def _committed(frame: Frame, owner: int, work: Work, conn: BaseDatabaseWrapper) -> tuple[Any, Outcome]:
    outcome: Outcome | None = None
    value: Any = None
    written = False
    try:
        with transaction.atomic(using=conn.alias, durable=True):
            # The first of all callbacks: it says that the commit is done, whatever a later one raises.
            conn.on_commit(functools.partial(_note_commit, frame))
            value, outcome = _work(frame, work)
            _end(frame, owner, outcome, conn)
            written = True
    except FATAL:
        # The process is about to end; the fence tells whoever finds the message.
        raise
    except BaseException as error:
        if outcome is None:
            raise
        if frame.finished:
            logger.exception("A callback of the task's for its commit raised %s; the task has ended", safe_repr(error))
        elif written and _in_doubt(error):
            _settle(frame, owner, outcome, conn, error)
        elif isinstance(error.__cause__, CONFLICTS):
            raise Reject("its transaction met another one's, and was undone", requeue=True) from error
        else:
            raise
    return value, outcome._replace(finished=True, result=None, successors=(), opened=(), fallen=(), replaced=False)


def _note_commit(frame: Frame) -> None:
    frame.finished = True


def _end(frame: Frame, owner: int, outcome: Outcome, conn: BaseDatabaseWrapper) -> None:
    """The last statements of the transaction. Raises Refused when the fence no longer holds."""
    done = ending.end(conn, owner, [outcome], frame.request.hostname)
    if not done.accepted:
        raise Refused(f"the message of task {outcome.id} is no longer this worker's")
    if done.successors:
        rings.ring_later(conn, done.successors)
        rings.admit_later(conn, done.successors)
    if done.fallen:
        conn.on_commit(functools.partial(notify.ring_waiters, conn, done.fallen), robust=True)


def _in_doubt(error: BaseException) -> bool:
    """Whether the transaction may have been committed although its COMMIT raised this."""
    cause = error.__cause__ if isinstance(error, Error) else error
    if not isinstance(error, OperationalError | InterfaceError) and not isinstance(cause, psycopg.Error):
        return False
    state = getattr(cause, "sqlstate", None)
    return state is None or state.startswith(_IN_DOUBT)


def _settle(frame: Frame, owner: int, outcome: Outcome, conn: BaseDatabaseWrapper, error: BaseException) -> None:
    """Find out whether the lost commit has happened, however long that takes.

    Raises Reject when it has not: the task runs again. Raises Refused when the task has become another worker's.
    """
    logger.warning("The commit of task %s was lost with its connection: %s", outcome.id, safe_repr(error))
    wait = BACKOFF[0]
    while True:
        try:
            conn.close()
            held = finish.is_held(conn, owner, outcome.claim, outcome.id)
            written = not held and (not outcome.store or bool(finish.confirm(conn, owner, [outcome])))
            break
        except Error as lost:
            logger.warning("The database does not answer (%s); asking again in %.1f s", safe_repr(lost), wait)
            time.sleep(wait * random.uniform(0.5, 1.0))
            wait = min(BACKOFF[1], wait * 2)
    if held:
        raise Reject("its commit was lost, and has not happened", requeue=True) from error
    if not written:
        raise Refused(f"the message of task {outcome.id} is no longer this worker's") from error
    frame.finished = True
