"""Pictures, as SVG that stands in the page: a workflow, and when periodic tasks run next."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from django.utils.translation import gettext as _

from djtasks.admin.text import label
from djtasks.db.families import Open, Relation
from djtasks.graph import DependencyGraph
from djtasks.monitor.respond import to

#: So many tasks are drawn, and so many beside each other.
DRAWN: Final = 120
WIDTH, HEIGHT, GAP_X, GAP_Y = 190, 40, 50, 14
#: Characters of a name that fit into a box.
FITS: Final = 26
_KINDS: Final[Mapping[str, str]] = {"SUCCESS": "good", "FAILURE": "bad", "REVOKED": "warn"}


class Box(NamedTuple):
    """A task, or a chord that waits."""

    x: int
    y: int
    title: str
    text: str
    kind: str
    url: str
    own: bool

    @property
    def texts(self) -> list[dict[str, str]]:
        """Its lines, and where they stand."""
        return [
            {"x": str(self.x + 10), "y": str(self.y + 16 + 16 * line), "text": text}
            for line, text in enumerate(self.text.split("\n"))
        ]


class Picture(NamedTuple):
    """A workflow as boxes and lines between them."""

    width: int
    height: int
    boxes: list[Box]
    #: As the `d` of a path.
    lines: list[str]
    #: How many tasks are not drawn.
    left_out: int


def graph_of(tasks: Sequence[Relation], chords: Sequence[Open]) -> DependencyGraph:
    """What came of what: ids of tasks, and of chords that wait for the tasks of their headers."""
    graph = DependencyGraph()
    known = {task.id for task in tasks}
    waiting = {chord.id for chord in chords}
    for task in tasks:
        graph.add_arc(task.id)
        if task.parent_id in known and task.parent_id != task.id:
            graph.add_edge(task.parent_id, task.id)
    for task in tasks:
        if task.group_id in waiting:
            graph.add_edge(task.id, f"chord {task.group_id}")
    for chord in chords:
        graph.add_arc(f"chord {chord.id}")
    return graph


def workflow(tasks: Sequence[Relation], chords: Sequence[Open], own: str) -> Picture:
    """The picture of a workflow: each task to the right of what it came of."""
    drawn = list(tasks[:DRAWN])
    if own not in {task.id for task in drawn}:
        drawn = [*drawn[:-1], *(task for task in tasks if task.id == own)]
    graph = graph_of(drawn, chords)
    columns = _columns(graph)
    by_id: dict[Any, Relation | Open] = {task.id: task for task in drawn}
    by_id |= {f"chord {chord.id}": chord for chord in chords}
    places: dict[Any, tuple[int, int]] = {}
    for column, nodes in enumerate(columns):
        for row, node in enumerate(nodes):
            places[node] = (10 + column * (WIDTH + GAP_X), 10 + row * (HEIGHT + GAP_Y))
    boxes = [_box(by_id[node], *place, own) for node, place in places.items() if node in by_id]
    lines = [
        _line(places[node], places[other]) for node, others in graph.items() for other in others if other in places
    ]
    width = 20 + len(columns) * (WIDTH + GAP_X) - GAP_X
    height = 20 + max([len(nodes) for nodes in columns], default=1) * (HEIGHT + GAP_Y) - GAP_Y
    return Picture(width, height, boxes, lines, len(tasks) - len(drawn))


def _columns(graph: DependencyGraph) -> list[list[Any]]:
    """The nodes by how far they are from where the workflow began."""
    depth: dict[Any, int] = dict.fromkeys(graph, 0)
    try:
        ordered = graph.topsort()
    except ValueError:
        # Nobody but a forger makes tasks that came of each other.
        ordered = []
    for node in ordered:
        for other in graph[node]:
            depth[other] = max(depth[other], depth[node] + 1)
    columns: list[list[Any]] = [[] for _ in range(max(depth.values(), default=0) + 1)]
    for node in ordered or graph:
        columns[depth[node]].append(node)
    return columns


def _box(what: Relation | Open, x: int, y: int, own: str) -> Box:
    if isinstance(what, Open):
        text = _("%(ended)d of %(size)d ended") % {"ended": what.ended, "size": what.size}
        body = label(what.body) if what.body else _("chord")
        return Box(x, y, body, f"{_short(body)}\n{text}", "wait", "", False)
    state, kind = state_of(what)
    name = label(what.name)
    url = "" if what.id == own else to("task", what.id)
    return Box(x, y, f"{name} {what.id}", f"{_short(name)}\n{state}", kind, url, what.id == own)


def state_of(task: Relation) -> tuple[str, str]:
    """The state of a task of a workflow, and what kind of a state it is."""
    if task.waiting and task.state == "PENDING":
        return (_("running"), "run") if task.running else (_("waiting"), "wait")
    return label(task.state), _KINDS.get(task.state, "wait")


def _short(name: str) -> str:
    return name if len(name) <= FITS else "…" + name[1 - FITS :]


def _line(start: tuple[int, int], end: tuple[int, int]) -> str:
    x1, y1 = start[0] + WIDTH, start[1] + HEIGHT // 2
    x2, y2 = end[0], end[1] + HEIGHT // 2
    middle = (x1 + x2) // 2
    return f"M{x1} {y1}C{middle} {y1} {middle} {y2} {x2} {y2}"
