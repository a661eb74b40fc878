"""`GroupResult`: the results of a group's members, which can be saved and restored by the group's id."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from djtasks import relatives
from djtasks.conf import settings
from djtasks.db import groups
from djtasks.db.connections import borrow
from djtasks.db.families import Relation
from djtasks.exceptions import ChordError, safe_repr
from djtasks.ids import as_task_id
from djtasks.result import AsyncResult
from djtasks.result_lists import Results
from djtasks.result_set import ResultSet

#: From so many members on a restored group keeps 16 bytes for each.
LAZY = 1000


class GroupResult(ResultSet):
    """The results of a group, in the order of its members."""

    def __init__(
        self,
        id: Any = None,
        results: Iterable[Any] | None = None,
        parent: Any = None,
        app: Any = None,
        ready_barrier: Any = None,
    ) -> None:
        """`id` is the group's; `parent` the result of what it came after. See `ResultSet` for the rest."""
        super().__init__(results)
        self._id = id
        self.parent = parent

    @property
    def id(self) -> str:
        """The id of the group."""
        return str(self._id)

    @property
    def children(self) -> Sequence[Any]:
        """Its members."""
        return self.results

    def as_list(self) -> list[str]:
        """Its id, and behind it the ids of what it came after."""
        return [self.id] if self.parent is None else [self.id, *self.parent.as_list()]

    def as_tuple(self) -> tuple[Any, Any]:
        """`((id, parent's tuple or None), [members' tuples])`: what `result_from_tuple` reads."""
        parent = None if self.parent is None else self.parent.as_tuple()
        return (self.id, parent), [each.as_tuple() for each in self.results]

    __json__ = as_tuple

    def get(self, *args: Any, **kwargs: Any) -> list[Any]:
        """As `ResultSet.get`; members that are the body of a chord have failed for what the group came after."""
        try:
            return super().get(*args, **kwargs)
        except ChordError:
            if kwargs.get("follow_parents", True):
                self._throw_for_parents()
            raise

    join = get
    join_native = get

    def _throw_for_parents(self) -> None:
        parents, result = [], self.parent
        while result is not None:
            parents.append(result)
            result = result.parent
        for each in reversed(parents):
            each.maybe_throw()

    # -- saving -------------------------------------------------------------------------------------------------

    def save(self, backend: Any = None) -> None:
        """Keep it in the database, for RESULT_EXPIRES, so that any process can `restore` it by its id.

        What was saved of the group before is replaced.
        """
        data = json.dumps(self.as_tuple()).encode()
        expires = settings.RESULT_EXPIRES
        groups.save(borrow(), as_task_id(self.id), data, None if expires is None else expires.total_seconds())

    @classmethod
    def restore(cls, id: Any, backend: Any = None, app: Any = None) -> "GroupResult | None":
        """The group of this id as it was saved; None when none is."""
        data = groups.restore(borrow(), as_task_id(id))
        if data is None:
            return None
        (own, parent), members = json.loads(data)
        return cls(own, _members(members), parent=None if parent is None else result_from_tuple(parent))

    def delete(self, backend: Any = None) -> None:
        """Delete what was saved of it; its members' results stay."""
        groups.delete(borrow(), [as_task_id(self.id)])

    # -- being a value ------------------------------------------------------------------------------------------

    def __bool__(self) -> bool:
        return self._id is not None or bool(self.results)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, GroupResult):
            return self.id == other.id and self.parent == other.parent and list(self.results) == list(other.results)
        return self.id == other if isinstance(other, str) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.id)

    def __str__(self) -> str:
        return self.id

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.id} {self._shown()}>"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._id, self.results, self.parent)


def result_from_tuple(r: Any, app: Any = None) -> Any:
    """The result that `as_tuple` was asked of, also of the lists that JSON makes of tuples; a result as it is.

    Raises ValueError for what is none of these.
    """
    if isinstance(r, AsyncResult | ResultSet):
        return r
    try:
        own, members = r
        task_id, parent = own if isinstance(own, list | tuple) else (own, None)
    except (TypeError, ValueError):
        raise ValueError(f"a result is ((id, parent), members or None), not {safe_repr(r, 200)}") from None
    before = result_from_tuple(parent) if parent else None
    if members is None:
        return AsyncResult(task_id, parent=before)
    return GroupResult(task_id, _members(members), parent=before)


def _members(tuples: Sequence[Any]) -> Sequence[Any]:
    """The members of a group; as lazy as those of many calls are, where they are tasks with ids of ours and no more."""
    if len(tuples) < LAZY:
        return [result_from_tuple(each) for each in tuples]
    ids = bytearray()
    for each in tuples:
        (own, parent), members = each
        if parent is not None or members is not None or as_task_id(own) != own:
            return [result_from_tuple(each) for each in tuples]
        ids += bytes.fromhex(own.replace("-", ""))
    return Results(ids)


def _children(relations: Sequence[Relation]) -> list[Any]:
    """Those of one group are one GroupResult, in the place of its first member."""
    members: dict[str, list[Relation]] = {}
    for each in relations:
        members.setdefault(each.group_id or each.id, []).append(each)
    return [
        AsyncResult(same[0].id, task_name=same[0].name)
        if len(same) == 1
        else GroupResult(group_id, [AsyncResult(each.id, task_name=each.name) for each in same])
        for group_id, same in members.items()
    ]


relatives.hand_over(_children)
