"""Charts: what happened in the last hour or day, as series that a browser draws and as a table for everybody else."""

import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from djtasks.admin.text import label
from djtasks.db.monitor import Picture, Step
from djtasks.db.queues import Depth
from djtasks.monitor.numbers import at, rate


class Span(NamedTuple):
    """How far charts go back, and in what steps; in seconds."""

    name: str
    title: Promise
    seconds: float
    step: float


SPANS: Final = (
    Span("1h", gettext_lazy("1 hour"), 3600, 60),
    Span("6h", gettext_lazy("6 hours"), 21_600, 300),
    Span("24h", gettext_lazy("24 hours"), 86_400, 1200),
)


class Line(NamedTuple):
    """One line of a chart."""

    title: str
    #: The class of its colour: "good", "bad", "warn", or "c1" to "c6".
    colour: str
    values: list[float | None]


class Chart(NamedTuple):
    """A chart; all lines have a value for each time."""

    name: str
    title: str
    unit: str
    lines: list[Line]

    def data(self, times: Sequence[float]) -> dict[str, Any]:
        """What the browser draws."""
        return {
            "name": self.name,
            "unit": self.unit,
            "times": list(times),
            "lines": [{"title": each.title, "colour": each.colour, "values": each.values} for each in self.lines],
        }

    def table(self, times: Sequence[float]) -> list[tuple[str, list[str]]]:
        """Rows of a table: a time, and what each line has there; the newest first, and no more than can be read."""
        rows = [
            (at(time), ["–" if line.values[place] is None else rate(line.values[place] or 0) for line in self.lines])
            for place, time in enumerate(times)
        ]
        return rows[::-1][:60]


def times_of(span: Span, now: float) -> list[float]:
    """The beginnings of the steps, the present one left out; and now."""
    last = now - now % span.step
    count = round(span.seconds / span.step)
    return [*(last - span.step * back for back in range(count, 0, -1)), now]


def charts(steps: Sequence[Step], span: Span, times: Sequence[float], present: "Present") -> list[Chart]:
    """The charts of the overview."""
    workers = {step.at: step.numbers for step in steps if step.kind == "worker"}
    queues = {step.at: step.numbers for step in steps if step.kind == "queue"}
    named: dict[str, dict[float, dict[str, float]]] = {}
    for step in steps:
        if step.kind == "one queue":
            named.setdefault(step.name or "", {})[step.at] = step.numbers
    past = times[:-1]

    def over(found: Mapping[float, dict[str, float]], value: Callable[[dict[str, float]], float | None]) -> list[Any]:
        return [None if (numbers := found.get(time)) is None else _rounded(value(numbers)) for time in past]

    def a_second(key: str) -> list[Any]:
        return [*over(workers, lambda numbers: numbers.get(key, 0.0) / _seconds(numbers)), present.rates.get(key)]

    def mean(key: str) -> list[Any]:
        return [*over(workers, lambda n: n.get(key, 0.0) / n["runs"] if n.get("runs") else None), None]

    def level(found: Mapping[float, dict[str, float]], key: str, now: float | None) -> list[Any]:
        return [*over(found, lambda numbers: numbers.get(key)), now]

    depth = [Line(_("all queues"), "c1", level(queues, "depth", present.depth))]
    for place, (name, found) in enumerate(named.items() if len(named) > 1 else ()):
        own = present.depths.get(name)
        depth.append(Line(label(name), f"c{place % 5 + 2}", level(found, "depth", own.known if own else 0)))
    return [
        Chart("throughput", _("Throughput"), _("tasks a second"), [
            Line(_("succeeded"), "good", a_second("SUCCESS")),
            Line(_("retried"), "warn", a_second("RETRY")),
        ]),
        Chart("failures", _("Failures"), _("tasks a second"), [
            Line(_("failed"), "bad", a_second("FAILURE")),
            Line(_("revoked"), "c3", a_second("REVOKED")),
        ]),
        Chart("latency", _("Latency"), _("seconds, on average"), [
            Line(_("waited"), "c1", mean("waited")),
            Line(_("ran"), "c2", mean("runtime")),
        ]),
        Chart("depth", _("Depth of queues"), _("tasks"), depth),
        Chart("oldest", _("Age of the oldest"), _("seconds"), [
            Line(_("oldest task that waits"), "c1", level(queues, "oldest", present.oldest or 0.0)),
        ]),
        Chart("busy", _("Places in pools"), _("tasks at a time"), [
            Line(_("busy"), "c1", level(workers, "busy", present.busy)),
            Line(_("all"), "c2", level(workers, "pool", present.pool)),
        ]),
    ]  # fmt: skip


def _seconds(numbers: dict[str, float]) -> float:
    return 60.0 * max(1.0, numbers.get("minutes", 1.0))


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


class Present(NamedTuple):
    """How it stands now: the last point of each line."""

    #: Tasks a second, by state; of the last half minute.
    rates: dict[str, float]
    depth: float
    depths: Mapping[str, Depth]
    oldest: float | None
    busy: float
    pool: float


def present(picture: Picture, depths: Mapping[str, Depth]) -> Present:
    """How it stands now."""
    oldest = [depth.oldest for depth in depths.values() if depth.oldest is not None]
    states = [each["state"] if isinstance(each["state"], dict) else {} for each in picture.workers]
    running = [each.get("running", 0) for each in states]
    return Present(
        pace.rates(picture),
        sum(depth.known for depth in depths.values()),
        depths,
        max(oldest, default=None),
        sum(number for number in running if isinstance(number, int | float)),
        sum(each["concurrency"] for each in picture.workers),
    )


class Pace:
    """How fast tasks end: what workers have counted now, and had counted a little before, as seen by this process."""

    #: Seconds over which it is measured.
    OVER: Final = 30.0

    def __init__(self) -> None:
        self._seen: deque[tuple[float, dict[tuple[str, str], float]]] = deque(maxlen=120)
        self._lock = threading.Lock()

    def rates(self, picture: Picture) -> dict[str, float]:
        """Tasks a second, by state; nothing before the second look."""
        now = {
            (each["incarnation"], str(state)): float(number)
            for each in picture.workers
            if isinstance(each["counters"], dict)
            for state, number in each["counters"].items()
            if isinstance(number, int | float)
        }
        with self._lock:
            while self._seen and not 0 <= picture.now - self._seen[0][0] <= self.OVER:
                self._seen.popleft()
            before = self._seen[0] if self._seen else None
            self._seen.append((picture.now, now))
        if before is None or picture.now - before[0] < 1.0:
            return {}
        found: dict[str, float] = {}
        for (incarnation, state), number in now.items():
            grown = max(0.0, number - before[1].get((incarnation, state), 0.0))
            found[state] = found.get(state, 0.0) + grown / (picture.now - before[0])
        return {state: round(number, 4) for state, number in found.items()}


pace = Pace()
