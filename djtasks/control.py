"""Control: what a person or a program says about tasks that have been called, and to the workers that run them.

A revocation is a row: it is committed first, then the message is looked for. So it holds for a task that is only about
to be enqueued, for one that comes back as a retry, and across restarts, until REVOCATION_EXPIRES has passed.
"""

import random
import signal as signals_of_os
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import psycopg
from django.db import DEFAULT_DB_ALIAS, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from djtasks import broadcasting, commanding, ending, result_actions, stamps, tracer
from djtasks.broadcasting import Replies, check_options, who
from djtasks.conf import settings
from djtasks.db import claims, notify, workers
from djtasks.db.connections import CONFLICTS, borrow, open_private
from djtasks.db.drain import Lent
from djtasks.exceptions import TaskRevokedError, safe_repr
from djtasks.ids import as_task_id
from djtasks.inspecting import Inspect
from djtasks.messages import Claimed, Outcome
from djtasks.requeue import requeue
from djtasks.revoking import NOTED, PENDING, RUNNING, SIGNALLED, TRIES, Order
from djtasks.routing import known_queues
from djtasks.states import IGNORED

#: What the headers say of a call that has a place in a workflow.
_IN_WORKFLOW = ('"chain"', '"group"')
TERM = "SIGTERM"
#: What is said of replies, which here come at once.
_OF_REPLIES = frozenset({"callback", "timeout", "limit", "pattern", "matcher"})


class Revoked(dict[str, str]):
    """What became of each task that was to be revoked, by its id.

    `prevented`: it waited, and is REVOKED now. `signalled`: it runs, and its worker ends it. `running`: it runs, and
    goes on. `done`: it had ended before. `noted`: nobody knows it yet; it is refused when it comes. `pending`: it is
    revoked when the transaction that is open here commits.
    """

    def of(self, *answers: str) -> list[str]:
        """The ids with one of these answers."""
        return [task_id for task_id, answer in self.items() if answer in answers]


def signal_number(signal: Any) -> int:
    """The number of a signal: from its name, with or without SIG, or from the number. Raises TypeError, ValueError."""
    if signal is None:
        return int(signals_of_os.SIGTERM)
    if isinstance(signal, bool) or not isinstance(signal, int | str):
        raise TypeError(f"signal must be the name or the number of a signal, not {safe_repr(signal, 200)}")
    try:
        if isinstance(signal, int) or signal.isdecimal():
            return int(signals_of_os.Signals(int(signal)))
        name = signal.strip().upper()
        return int(signals_of_os.Signals[name if name.startswith("SIG") else f"SIG{name}"])
    except (KeyError, ValueError):
        raise ValueError(
            f"there is no signal {safe_repr(signal, 200)} here; name one as SIGTERM, SIGKILL, INT …, or give its number"
        ) from None


def _named(ids: Any) -> dict[str, str]:
    """The row's id to the caller's own text, of one id or several. Raises TypeError, ValueError."""
    if isinstance(ids, str) or not isinstance(ids, Iterable):
        ids = [ids]
    found = {}
    for each in ids:
        # A result stands for its task.
        text = getattr(each, "id", each)
        found[as_task_id(text)] = str(text)
    return found


def _open_transaction() -> BaseDatabaseWrapper | None:
    """The connection of this thread in whose transaction the caller is, if any."""
    for alias in (DEFAULT_DB_ALIAS, settings.DATABASE):
        if (conn := connections[alias]).in_atomic_block:
            return conn
    return None


def _revoke(order: Order, names: Mapping[str, str], immediately: bool) -> Revoked:
    """Carry out an order, now or at the commit."""
    conn = None if immediately else _open_transaction()
    if conn is not None:
        # A commit that a test only plays leaves the transaction open, and nobody else sees what is in it.
        conn.on_commit(lambda: order.carry_out(conn=Lent(borrow()) if borrow().in_atomic_block else None) and None)
        return Revoked(dict.fromkeys(names.values(), PENDING))
    answers = order.carry_out()
    said = Revoked({text: answers.pop(task_id, NOTED) for task_id, text in names.items()})
    said.update(answers)
    return said


def revoke(
    task_id: Any,
    destination: Collection[str] | None = None,
    terminate: bool = False,
    signal: str | int | None = TERM,
    *,
    workflow: bool = False,
    immediately: bool = False,
    reply: bool = False,
    by: str = "",
    **options: Any,
) -> Any:
    """Let tasks not run: `task_id` is an id, a result, or several of them. Returns a `Revoked`: what became of each.

    A task that waits is REVOKED at once. One that runs goes on, unless `terminate` is true: then its worker ends the
    process it runs in with `signal`, and with SIGKILL half a second later. With `workflow` each id is that of a whole
    workflow's first task, and means all that came and will come of it. Inside `atomic()` it happens after the commit,
    unless `immediately` is true. With `reply` the answer has Celery's shape, `[{node: {"ok": text}}]`.

    Revocations hold for all workers, so `destination` only chooses whose replies are shown. `by` is shown in the admin.
    Raises TypeError and ValueError for a malformed id or an unknown signal.
    """
    check_options({name: value for name, value in options.items() if name not in _OF_REPLIES})
    signum = signal_number(signal)
    names = _named(task_id)
    ids, roots = ((), list(names)) if workflow else (list(names), ())
    order = Order(ids, roots, [], bool(terminate), signum, by or who())
    said = _revoke(order, names, immediately) if names else Revoked()
    return _replies(said, terminate, destination) if reply else said


def terminate(
    task_id: Any, destination: Collection[str] | None = None, signal: str | int | None = TERM, **options: Any
) -> Any:
    """`revoke` with `terminate=True`."""
    return revoke(task_id, destination, True, signal, **options)


def revoke_by_stamped_headers(
    headers: Any,
    destination: Collection[str] | None = None,
    terminate: bool = False,
    signal: str | int | None = TERM,
    *,
    immediately: bool = False,
    reply: bool = False,
    by: str = "",
    **options: Any,
) -> Any:
    """Let tasks not run that have one of these stamps: `{name: value or values}`, or a list of `"name=value"`.

    It holds for tasks that come later, too. Returns a `Revoked` of the tasks that are there now. Raises as `revoke`.
    """
    check_options({name: value for name, value in options.items() if name not in _OF_REPLIES})
    order = Order((), (), stamps.wanted(headers), bool(terminate), signal_number(signal), by or who())
    said = _revoke(order, {}, immediately)
    if not reply:
        return said
    how = (
        "revoked"
        if said.of(SIGNALLED)
        else "were not terminated"
        if terminate
        else "flagged as revoked, but not terminated"
    )
    return [{name: {"ok": f"headers {headers} {how}"}} for name in _nodes(destination)]


def _nodes(destination: Collection[str] | None) -> list[str]:
    with open_private("control") as conn:
        names = sorted({peer.name for peer in workers.peers(conn)})
    return [name for name in names if destination is None or name in destination]


def _replies(said: Revoked, terminate: bool, destination: Collection[str] | None) -> list[dict[str, Any]]:
    """What Celery's workers would answer."""
    if terminate:
        hit = said.of(SIGNALLED, RUNNING)
        text = f"terminate: {', '.join(hit)}" if hit else "terminate: tasks unknown"
    else:
        text = f"tasks {set(said)} flagged as revoked"
    return [{name: {"ok": text}} for name in _nodes(destination)]


def purge(queues: Collection[str] | None = None, connection: Any = None) -> int:
    """Throw away what waits in these queues (None: all declared ones), now or for later; returns how many tasks."""
    wanted = tuple(known_queues() if queues is None else queues)
    count = 0
    with open_private("control") as conn:
        while found := purge_batch(conn, random.getrandbits(62) | 1, wanted):
            count += found
    return count


def purge_batch(conn: psycopg.Connection, owner: int, queues: Collection[str]) -> int:
    """End a batch of waiting messages without running them; returns how many."""
    for left in reversed(range(TRIES)):
        try:
            with conn.transaction():
                found = claims.claim_waiting(conn, owner, 1, queues)
                ends = [_purged(each) for each in found]
                done = ending.end(conn, owner, ends, None) if found else None
        except CONFLICTS:
            if not left:
                raise
        else:
            break
    if done is not None:
        ending.tell(conn, done)
        if told := [each.id for each in ends if each.store]:
            notify.ring_waiters(conn, told)
    return len(found)


def _purged(message: Claimed) -> Outcome:
    """How a message ends that is thrown away: without a trace, unless others wait for it in a workflow."""
    if message.chord is None and not any(mark in (message.headers or "") for mark in _IN_WORKFLOW):
        return Outcome(message.claim, message.id, IGNORED, store=False)
    return tracer.failure(message, TaskRevokedError("purged"))


def broadcast(
    command: str,
    arguments: Mapping[str, Any] | None = None,
    destination: Collection[str] | None = None,
    reply: bool = False,
    **options: Any,
) -> Replies | None:
    """As `djtasks.broadcasting.broadcast`; what a revocation would do is done here, and not by a worker."""
    here: dict[str, Callable[..., Any]] = {
        "revoke": revoke,
        "terminate": terminate,
        "revoke_by_stamped_headers": revoke_by_stamped_headers,
    }
    if command in here:
        said = here[command](**dict(arguments or {}), destination=destination, reply=reply, **options)
        return said if reply else None
    return broadcasting.broadcast(command, arguments, destination, reply, **options)


class Control:
    """`app.control`."""

    revoke = staticmethod(revoke)
    terminate = staticmethod(terminate)
    revoke_by_stamped_headers = staticmethod(revoke_by_stamped_headers)
    requeue = staticmethod(requeue)
    purge = staticmethod(purge)
    discard_all = staticmethod(purge)
    broadcast = staticmethod(broadcast)
    inspect = Inspect
    ping = staticmethod(commanding.ping)
    rate_limit = staticmethod(commanding.rate_limit)
    time_limit = staticmethod(commanding.time_limit)
    add_consumer = staticmethod(commanding.add_consumer)
    cancel_consumer = staticmethod(commanding.cancel_consumer)
    enable_events = staticmethod(commanding.enable_events)
    disable_events = staticmethod(commanding.disable_events)
    pool_grow = staticmethod(commanding.pool_grow)
    pool_shrink = staticmethod(commanding.pool_shrink)
    pool_restart = staticmethod(commanding.pool_restart)
    autoscale = staticmethod(commanding.autoscale)
    shutdown = staticmethod(commanding.shutdown)
    heartbeat = staticmethod(commanding.heartbeat)
    election = staticmethod(commanding.election)


result_actions.hand_over(revoke, revoke_by_stamped_headers)
