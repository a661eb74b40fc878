"""What came of a task: its children, and theirs.

Nothing of it is kept with a result: each row names the task that it came of and the call that everything began with,
so one query finds the children of a task.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

from djtasks import thens
from djtasks.db import families
from djtasks.db.connections import borrow
from djtasks.exceptions import IncompleteStream
from djtasks.graph import DependencyGraph
from djtasks.ids import as_task_id

#: Makes the results of children; stands above, and puts itself here.
_makers: list[Callable[[Sequence[families.Relation]], list[Any]]] = []


def hand_over(make: Callable[[Sequence[families.Relation]], list[Any]]) -> None:
    """This makes the results of a task's children."""
    _makers[:] = [make]


class Relative:
    """The part of a result that knows what came of it."""

    __slots__ = ()

    _id: Any
    parent: Any

    @property
    def children(self) -> Sequence[Any]:
        """The results of what came of it, so far: what its code has called, its links, the next of its chain.

        Those of one group are one GroupResult. A task whose result was ignored or pruned is no more a child.
        """
        found = families.children(borrow(), as_task_id(self._id))
        return [result for make in _makers for result in make(found)]

    def iterdeps(self, intermediate: bool = False) -> Iterator[tuple[Any, Any]]:
        """Pairs of a result and what came of it, near ones first; this one itself comes first, of None.

        Raises IncompleteStream at a task that has not ended, unless `intermediate` is true.
        """
        left: deque[tuple[Any, Any]] = deque([(None, self)])
        while left:
            parent, node = left.popleft()
            yield parent, node
            if node.ready():
                left.extend((node, child) for child in node.children or ())
            elif not intermediate:
                raise IncompleteStream(f"{node} has not ended: what comes of it is not known")

    def collect(self, intermediate: bool = False, **options: Any) -> Iterator[tuple[Any, Any]]:
        """Pairs of a result and its value, of this one and of all that came of it; `options` are those of `get`.

        Raises as `iterdeps` and `get` do.
        """
        for _, result in self.iterdeps(intermediate):
            yield result, result.get(**options)

    def get_leaf(self) -> Any:
        """The value of what came last of it: of the end of a chain, say. Raises as `collect` does."""
        value = None
        for _, value in self.collect():  # noqa: B007 -- the last one counts
            pass
        return value

    def build_graph(self, intermediate: bool = False, formatter: Any = None) -> DependencyGraph:
        """What came of it as a graph. Raises as `iterdeps` does."""
        graph = DependencyGraph(formatter=formatter)
        for parent, node in self.iterdeps(intermediate):
            graph.add_arc(node)
            if parent is not None:
                graph.add_edge(parent, node)
        return graph

    @property
    def graph(self) -> DependencyGraph:
        """What came of it as a graph. Raises IncompleteStream while any of it has not ended."""
        return self.build_graph()

    def as_list(self) -> list[str]:
        """Its id, and behind it the ids of what it came after."""
        own = [str(self._id)]
        return own if self.parent is None else own + self.parent.as_list()

    def then(
        self, callback: Callable[[Any], Any], on_error: Callable[[BaseException], Any] | None = None, weak: bool = False
    ) -> Self:
        """Call `callback(result)` once it has ended, in whatever state: at once if it has, else on a thread of its own.

        What the callback raises is given to `on_error`; without one it is raised, or logged by that thread. A process
        that ends meanwhile calls nothing.
        """
        thens.then(self, callback, on_error)
        return self
