"""`DependencyGraph`: what came of what, as a graph that can be drawn."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TextIO


class DependencyGraph:
    """Nodes, and for each the nodes that came of it, in the order in which they were added.

    A node is anything that can be hashed; results draw as their ids. Iterating gives the nodes.
    """

    def __init__(self, it: Iterable[tuple[Any, Iterable[Any]]] | None = None, formatter: Any = None) -> None:
        """`it` are pairs of a node and the nodes that came of it. `formatter` may have `label(node)`: its text."""
        self.formatter = formatter
        self.adjacent: dict[Any, list[Any]] = {}
        if it is not None:
            self.update(it)

    def add_arc(self, obj: Any) -> None:
        """Add a node, unless it is there."""
        self.adjacent.setdefault(obj, [])

    def add_edge(self, A: Any, B: Any) -> None:
        """Say that `B` came of `A`; both are added where they are not there."""
        self.add_arc(A)
        self.add_arc(B)
        if B not in self.adjacent[A]:
            self.adjacent[A].append(B)

    def connect(self, graph: "DependencyGraph") -> None:
        """Add the nodes and edges of another graph."""
        self.update(graph.adjacent.items())

    def update(self, it: Iterable[tuple[Any, Iterable[Any]]]) -> None:
        """Add pairs of a node and the nodes that came of it."""
        for node, others in it.items() if isinstance(it, Mapping) else it:
            self.add_arc(node)
            for other in others:
                self.add_edge(node, other)

    def edges(self) -> list[Any]:
        """The nodes that something came of."""
        return [node for node, others in self.adjacent.items() if others]

    def valency_of(self, obj: Any) -> int:
        """How many edges lead on from a node, and from those behind it. Raises KeyError for one that is not there."""
        seen, left, count = {obj}, deque([obj]), 0
        while left:
            for other in self.adjacent[left.popleft()]:
                count += 1
                if other not in seen:
                    seen.add(other)
                    left.append(other)
        return count

    def topsort(self) -> list[Any]:
        """The nodes, each before what came of it (Kahn 1962). Raises ValueError when there is a circle."""
        coming = dict.fromkeys(self.adjacent, 0)
        for others in self.adjacent.values():
            for other in others:
                coming[other] += 1
        ready = deque(node for node, count in coming.items() if not count)
        ordered = []
        while ready:
            ordered.append(node := ready.popleft())
            for other in self.adjacent[node]:
                coming[other] -= 1
                if not coming[other]:
                    ready.append(other)
        if len(ordered) < len(self.adjacent):
            raise ValueError("a graph with a circle has no order")
        return ordered

    def to_dot(self, fh: TextIO, formatter: Any = None) -> None:
        """Write it to a text file in the language of Graphviz: `dot -Tsvg` draws it."""
        numbers = {node: f"n{number}" for number, node in enumerate(self.adjacent)}
        fh.write("digraph {\n    rankdir=LR;\n    node [shape=box, style=rounded];\n")
        for node, number in numbers.items():
            text = self._text(node, formatter).replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
            fh.write(f'    {number} [label="{text}"];\n')
        fh.writelines(f"    {numbers[node]} -> {numbers[other]};\n" for node, other in self._pairs())
        fh.write("}\n")

    def to_mermaid(self, formatter: Any = None) -> str:
        """It in the language of Mermaid, which Markdown pages of many sites draw."""
        numbers = {node: f"n{number}" for number, node in enumerate(self.adjacent)}
        lines = ["graph LR"]
        lines += [f'    {number}["{_entities(self._text(node, formatter))}"]' for node, number in numbers.items()]
        lines += [f"    {numbers[node]} --> {numbers[other]}" for node, other in self._pairs()]
        return "\n".join(lines) + "\n"

    def _pairs(self) -> Iterator[tuple[Any, Any]]:
        return ((node, other) for node, others in self.adjacent.items() for other in others)

    def _text(self, node: Any, formatter: Any) -> str:
        formatter = formatter or self.formatter
        return str(node if formatter is None else formatter.label(node))

    def format(self, obj: Any) -> str:
        """The text of a node."""
        return self._text(obj, None)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.adjacent)

    def items(self) -> Iterable[tuple[Any, list[Any]]]:
        """Pairs of a node and the nodes that came of it."""
        return self.adjacent.items()

    iteritems = items

    def __getitem__(self, node: Any) -> list[Any]:
        return self.adjacent[node]

    def __len__(self) -> int:
        return len(self.adjacent)

    def __contains__(self, obj: Any) -> bool:
        return obj in self.adjacent

    def __repr__(self) -> str:
        lines = []
        for node, others in self.adjacent.items():
            lines.append(f"{self.format(node)}({self.valency_of(node)})")
            lines += [f"     {self.format(other)}({self.valency_of(other)})" for other in others]
        return "\n".join(lines)


def _entities(text: str) -> str:
    """What Mermaid takes for its own, written so that it shows."""
    for character in '#"<>&;\n':
        text = text.replace(character, f"\0{ord(character)}\1")
    return text.replace("\0", "#").replace("\1", ";")
