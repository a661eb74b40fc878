"""`ResultSet`: the results of several tasks as one. It asks the database about all of them in one query."""

import itertools
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableSequence, Sequence
from typing import Any, Self

from djtasks import appstate, outbox, result_actions, thens
from djtasks.awaiting import assert_will_not_block
from djtasks.awaiting_sets import AwaitableSet, task_id_of
from djtasks.db import groups, results
from djtasks.db.connections import borrow
from djtasks.exceptions import ImproperlyConfigured, NotEnqueuedYet
from djtasks.ids import as_task_id
from djtasks.messages import Stored
from djtasks.result import AsyncResult
from djtasks.result_lists import Results
from djtasks.states import FAILURE, PROPAGATE_STATES, SUCCESS
from djtasks.waiting_many import Many

#: So many results are read, and waited for, at a time.
WINDOW = 1000
#: `iter_native` hands results out as they come, among so many.
NATIVE_WINDOW = 10_000


def refuse(on_message: Any) -> None:
    """Raise ImproperlyConfigured for what only a message broker could do."""
    if on_message is not None:
        raise ImproperlyConfigured("on_message needs a message broker; give callback=, or use iter_native()")


def parts(members: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """The members in lists of up to `size`."""
    left = iter(members)
    while part := list(itertools.islice(left, size)):
        yield part


def _state(leaf: AsyncResult[Any], ends: Mapping[str, str]) -> str | None:
    """The state that a task has ended in; None when it has not."""
    return leaf._known_end() or ends.get(as_task_id(leaf.id))


def _well(member: Any, ends: Mapping[str, str]) -> bool:
    leaves = member._leaves() if isinstance(member, ResultSet) else (member,)
    return all(_state(leaf, ends) == SUCCESS for leaf in leaves)


def _keeper(same: Sequence[AsyncResult[Any]]) -> Callable[[Stored], None]:
    def keep(stored: Stored) -> None:
        for each in same:
            each._keep(stored)

    return keep


def _meta(leaf: AsyncResult[Any]) -> dict[str, Any]:
    return {"task_id": leaf.id, "status": leaf.state, "result": leaf.result, "traceback": leaf.traceback}


class ResultSet(AwaitableSet):
    """Several results, in their order: of tasks, and of groups, which count as one each."""

    #: The members. A sequence that cannot be changed becomes a list when members are added or taken out.
    results: Sequence[Any]

    def __init__(self, results: Iterable[Any] | None = None, app: Any = None, ready_barrier: Any = None) -> None:
        """`results` may be a lazy sequence, and is kept as it is. `app` and `ready_barrier` mean nothing here."""
        if results is None:
            results = []
        self.results = results if isinstance(results, Sequence) else list(results)

    # -- its members --------------------------------------------------------------------------------------------

    def add(self, result: Any) -> None:
        """Add a result, unless it is a member."""
        if result not in self.results:
            self._list().append(result)

    def remove(self, result: Any) -> None:
        """Take a result, or the one of this id, out. Raises KeyError when it is no member."""
        try:
            self._list().remove(result)
        except ValueError:
            raise KeyError(result) from None

    def discard(self, result: Any) -> None:
        """Take a result, or the one of this id, out, if it is a member."""
        if result in self.results:
            self.remove(result)

    def update(self, results: Iterable[Any]) -> None:
        """Add those of these results that are no members."""
        known = set(self.results)
        for result in results:
            if result not in known:
                known.add(result)
                self._list().append(result)

    def clear(self) -> None:
        """Take all members out."""
        self._list().clear()

    def _list(self) -> MutableSequence[Any]:
        if not isinstance(self.results, MutableSequence):
            self.results = list(self.results)
        return self.results

    def _leaves(self) -> Iterator[AsyncResult[Any]]:
        """The tasks of it, and of the groups in it."""
        for each in self.results:
            if isinstance(each, ResultSet):
                yield from each._leaves()
            else:
                yield each

    @property
    def app(self) -> Any:
        """The app."""
        return appstate.current()

    @property
    def supports_native_join(self) -> bool:
        """Whether results are handed out as they come; they are."""
        return True

    # -- what is known now --------------------------------------------------------------------------------------

    def states(self) -> dict[str, int]:
        """How many of its tasks have ended in which state; those of groups in it count one by one. One query."""
        count: Counter[str] = Counter()
        ids = self._ids(count)
        distinct = list(dict.fromkeys(ids))
        if len(distinct) == len(ids):
            count.update(groups.count_ends(borrow(), ids) if ids else {})
        else:
            found = groups.ends(borrow(), distinct)
            count.update(found[task_id] for task_id in ids if task_id in found)
        return {str(state): number for state, number in count.items()}

    def _ids(self, known: Counter[str]) -> list[str]:
        """The ids of the tasks that have to be asked for; those of which it is known count in `known`."""
        if isinstance(self.results, Results):
            return self.results.ids()
        ids = []
        for leaf in self._leaves():
            if (state := leaf._known_end()) is None:
                ids.append(as_task_id(leaf.id))
            else:
                known[state] += 1
        return ids

    def _size(self) -> int:
        if isinstance(self.results, Results):
            return len(self.results)
        return sum(1 for _ in self._leaves())

    def ready(self) -> bool:
        """Whether all have ended."""
        return sum(self.states().values()) == self._size()

    def waiting(self) -> bool:
        """Whether any has not ended."""
        return not self.ready()

    def successful(self) -> bool:
        """Whether all have ended well."""
        return self.states().get(SUCCESS, 0) == self._size()

    def failed(self) -> bool:
        """Whether any has ended in an exception; a revoked one has not."""
        return FAILURE in self.states()

    def completed_count(self) -> int:
        """How many members have ended well; a group counts as one, when all of it has. One query."""
        if not any(isinstance(each, ResultSet) for each in self.results):
            return self.states().get(SUCCESS, 0)
        ends = self._ends()
        return sum(_well(each, ends) for each in self.results)

    def _ends(self) -> dict[str, str]:
        """The states of the tasks that have ended, by their ids, of those that have to be asked for."""
        ids = set(self._ids(Counter()))
        return groups.ends(borrow(), list(ids)) if ids else {}

    def maybe_throw(self, callback: Callable[[str, Any], Any] | None = None, propagate: bool = True) -> None:
        """Raise what the first failed one has failed with, if any has; else give `callback(id, value)` the values."""
        if callback is None:
            if propagate:
                self._throw_first()
            return
        for window in self._windows():
            self._read(window)
            for each in window:
                each.maybe_throw(propagate=propagate, callback=callback)

    maybe_reraise = maybe_throw

    def _throw_first(self) -> None:
        ends = self._ends()
        if not isinstance(self.results, Results) or not PROPAGATE_STATES.isdisjoint(ends.values()):
            for leaf in self._leaves():
                if _state(leaf, ends) in PROPAGATE_STATES:
                    # The body of a chord in a header has failed for one of its own header.
                    leaf._throw_for_parents()
                    leaf.maybe_throw()

    # -- waiting ------------------------------------------------------------------------------------------------

    def get(
        self,
        timeout: float | None = None,
        propagate: bool = True,
        interval: float = 0.5,
        callback: Callable[[str, Any], Any] | None = None,
        no_ack: bool = True,
        on_message: Any = None,
        disable_sync_subtasks: bool = True,
        on_interval: Callable[[], Any] | None = None,
        follow_parents: bool = True,
    ) -> list[Any]:
        """Wait until all have ended, and return what they returned, in their order; groups give lists.

        With `propagate` the exception of the first failed one (in their order) is raised, as soon as those before it
        have ended; without it, exceptions stand in the list. With `callback(id, value)` the values are given to that
        instead, and the list is empty. `on_interval()` is called every `interval` seconds.

        Raises djtasks.exceptions.TimeoutError when it takes more than `timeout` seconds; NotEnqueuedYet, at once, when
        one waits for the commit of the transaction that is open here; RuntimeError inside a running task, unless
        `disable_sync_subtasks` is False.
        """
        refuse(on_message)
        if disable_sync_subtasks:
            assert_will_not_block()
        deadline = None if timeout is None else time.monotonic() + timeout
        values = []
        for window in self._windows():
            ids = self._read(window)
            with Many(ids, interval, on_interval) as many:
                for each in window:
                    while (task_id := task_id_of(each)) is not None and task_id in ids:
                        arrived, stored = many.next(deadline)
                        ids.pop(arrived)(stored)
                    left = None if deadline is None else max(0.0, deadline - time.monotonic())
                    value = each.get(
                        timeout=left,
                        propagate=propagate,
                        interval=interval,
                        on_interval=on_interval,
                        follow_parents=follow_parents,
                        disable_sync_subtasks=False,
                    )
                    if callback is None:
                        values.append(value)
                    else:
                        callback(each.id, value)
        return values

    join = get
    join_native = get

    def iter_native(
        self,
        timeout: float | None = None,
        interval: float = 0.5,
        no_ack: bool = True,
        on_message: Any = None,
        on_interval: Callable[[], Any] | None = None,
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """Pairs of an id and its meta, each as soon as it has ended, whichever comes first among ten thousand.

        The meta are a dict of task_id, status, result and traceback. Groups give their tasks. Raises TimeoutError.
        """
        refuse(on_message)
        deadline = None if timeout is None else time.monotonic() + timeout
        for window in parts(self._leaves(), NATIVE_WINDOW):
            leaves: dict[str, list[AsyncResult[Any]]] = {}
            for leaf in window:
                leaves.setdefault(as_task_id(leaf.id), []).append(leaf)
            ids: dict[str, Callable[[Stored], None]] = {}
            for part in parts(window, WINDOW):
                ids |= self._read(part)
            for leaf in window:
                if as_task_id(leaf.id) not in ids:
                    yield leaf.id, _meta(leaf)
            with Many(ids, interval, on_interval) as many:
                for _ in range(len(ids)):
                    arrived, stored = many.next(deadline)
                    ids[arrived](stored)
                    yield from ((leaf.id, _meta(leaf)) for leaf in leaves[arrived])

    def iterate(self, timeout: float | None = None, propagate: bool = True, interval: float = 0.5) -> Iterator[Any]:
        """The values, each as soon as its task has ended; an exception is raised, with `propagate`."""
        for _, meta in self.iter_native(timeout, interval):
            if propagate and meta["status"] in PROPAGATE_STATES:
                raise meta["result"]
            yield meta["result"]

    def then(
        self, callback: Callable[[Any], Any], on_error: Callable[[BaseException], Any] | None = None, weak: bool = False
    ) -> Self:
        """Call `callback(self)` once all have ended; see `AsyncResult.then`."""
        thens.then(self, callback, on_error)
        return self

    def unended(self) -> dict[str, Callable[[Stored], None]]:
        """The ids of its tasks that have not ended, each with what keeps its result."""
        found: dict[str, Callable[[Stored], None]] = {}
        for part in parts(self._leaves(), WINDOW):
            found |= self._read(part, may_wait=False)
        return found

    def _windows(self) -> Iterator[list[Any]]:
        return parts(self.results, WINDOW)

    def _read(self, window: Sequence[Any], may_wait: bool = True) -> dict[str, Callable[[Stored], None]]:
        """Read the results of those that have ended, in one query; the ids of the others, with what keeps theirs.

        Members that are groups are left out. Raises NotEnqueuedYet where the caller may wait for what is left.
        """
        asked: dict[str, list[AsyncResult[Any]]] = {}
        for each in window:
            if (task_id := task_id_of(each)) is not None:
                asked.setdefault(task_id, []).append(each)
        found = results.fetch_ended(borrow(), list(asked)) if asked else {}
        if unknown := [task_id for task_id in asked if task_id not in found]:
            found |= results.fetch_ended_aliases(borrow(), unknown)
        left: dict[str, Callable[[Stored], None]] = {}
        for task_id, same in asked.items():
            if task_id in found:
                _keeper(same)(found[task_id])
            elif may_wait and outbox.is_pending(task_id):
                raise NotEnqueuedYet(
                    f"the task {same[0].id} is enqueued when the transaction that is open here commits: wait for it"
                    " after the commit, or call it with enqueue='immediately'"
                )
            else:
                left[task_id] = _keeper(same)
        return left

    # -- doing something to all of them -------------------------------------------------------------------------

    def forget(self) -> None:
        """Delete the results from the database, and those of the tasks that they came after."""
        for part in parts(self._leaves(), WINDOW):
            results.forget(borrow(), [as_task_id(leaf.id) for leaf in part])
            for leaf in part:
                leaf._unread()
                if leaf.parent is not None and leaf.parent is not self:
                    leaf.parent.forget()

    def revoke(
        self,
        connection: Any = None,
        terminate: bool = False,
        signal: str | int | None = None,
        wait: bool = False,
        timeout: float | None = None,
        *,
        workflow: bool = False,
        immediately: bool = False,
    ) -> Any:
        """Let none of its tasks run, or, with `terminate`, go on; as `AsyncResult.revoke`, for all of them at once."""
        return result_actions.revoke(
            [leaf.id for leaf in self._leaves()],
            terminate=terminate,
            signal=signal or "SIGTERM",
            workflow=workflow,
            immediately=immediately,
            reply=wait,
        )

    # -- being a value ------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Any]:
        return iter(self.results)

    def __getitem__(self, index: Any) -> Any:
        return self.results[index]

    def __len__(self) -> int:
        return len(self.results)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, ResultSet):
            return list(self.results) == list(other.results)
        return NotImplemented

    __hash__: Any = None

    def _shown(self) -> str:
        first = ", ".join(str(each.id) for each in self.results[:10])
        return f"[{first}]" if len(self) <= 10 else f"[{first}, … {len(self)} in all]"

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self._shown()}>"
