"""Filters whose choices come from the settings, the registry and the workers: never from the rows of a large table.

A value that is not among the choices may stand in the address all the same, and becomes one.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from typing import Any

from django.contrib.admin import ModelAdmin, SimpleListFilter
from django.contrib.admin.options import IncorrectLookupParameters
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest
from django.utils import timezone

from djtasks.admin.links import workers
from djtasks.admin.text import label
from djtasks.conf import settings
from djtasks.db.pages import DEAD, UNFINISHED
from djtasks.models import Message, PeriodicTask
from djtasks.registry import tasks
from djtasks.routing import known_queues
from djtasks.states import FAILURE, RETRY, REVOKED, STARTED, SUCCESS

#: More are not offered; any of them may stand in the address.
CHOICES_MAX = 200


class Filter(SimpleListFilter):
    """A filter for rows whose `column` has the chosen value."""

    #: The parameter's name in the address.
    parameter_name: str
    column: str

    def __init__(
        self, request: HttpRequest, params: dict[str, list[str]], model: type[Model], model_admin: "ModelAdmin[Any]"
    ) -> None:
        super().__init__(request, params, model, model_admin)
        if "\0" in (self.value() or ""):
            raise IncorrectLookupParameters(f"{self.parameter_name} holds a NUL")

    def known(self, request: HttpRequest) -> Iterable[tuple[str, str]]:
        """The values that are offered, and how each is called."""
        raise NotImplementedError

    def wanted(self) -> Any:
        """The chosen value as the list asks for it; None for no choice."""
        return self.value()

    def lookups(self, request: HttpRequest, model_admin: "ModelAdmin[Any]") -> list[tuple[str, str]]:
        known = dict(self.known(request))
        offered = {value: known[value] for value in list(known)[:CHOICES_MAX]}
        chosen = self.value()
        if chosen is not None and chosen not in offered:
            offered[chosen] = known.get(chosen, label(chosen))
        return list(offered.items())

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        wanted = self.wanted()
        return queryset if wanted is None else queryset.filter(**{self.column: wanted})


class QueueFilter(Filter):
    """By queue: those that the settings and the workers name."""

    title = "queue"
    parameter_name = column = "queue"

    def known(self, request: HttpRequest) -> Iterator[tuple[str, str]]:
        names = {settings.TASK_DEFAULT_QUEUE, *known_queues()}
        for worker in workers(request):
            names.update(name for name in worker.queues if isinstance(name, str))
        return ((name, label(name)) for name in sorted(names))


class NameFilter(Filter):
    """By task: those that are registered here."""

    title = "task"
    parameter_name = column = "name"

    def known(self, request: HttpRequest) -> Iterator[tuple[str, str]]:
        return ((name, label(name)) for name in tasks.names())


class StateFilter(Filter):
    """By state."""

    title = "state"
    parameter_name = column = "state"

    def known(self, request: HttpRequest) -> Iterator[tuple[str, str]]:
        for state in (SUCCESS, FAILURE, REVOKED, UNFINISHED, RETRY, STARTED):
            yield str(state), str(state)

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() == UNFINISHED:
            return queryset.filter(done__isnull=True)
        return super().queryset(request, queryset)


class DeadFilter(Filter):
    """By whether it is a dead letter, and why."""

    title = "dead letter"
    parameter_name = column = "dead"

    def known(self, request: HttpRequest) -> Iterator[tuple[str, str]]:
        yield DEAD, "any"
        for why in ("rejected", "failed", "crashed", "undecodable", "unknown"):
            yield why, why

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() == DEAD:
            return queryset.filter(dead__isnull=False)
        return super().queryset(request, queryset)


class ReasonFilter(DeadFilter):
    """By why it is a dead letter, where all are."""

    title = "reason"

    def known(self, request: HttpRequest) -> Iterator[tuple[str, str]]:
        return ((value, text) for value, text in super().known(request) if value != DEAD)


class WorkerFilter(Filter):
    """By the name of the worker that ran the task."""

    title = "worker"
    parameter_name = column = "worker"

    def known(self, request: HttpRequest) -> Iterator[tuple[str, str]]:
        return ((worker.name, label(worker.name)) for worker in workers(request))


class PeriodicFilter(Filter):
    """By the periodic task that it is a run of."""

    title = "periodic task"
    parameter_name = column = "periodic"

    def known(self, request: HttpRequest) -> Iterator[tuple[str, str]]:
        found = PeriodicTask.objects.using(settings.DATABASE).order_by("name").values_list("pk", "name")
        return ((str(pk), label(name)) for pk, name in found[:CHOICES_MAX])

    def wanted(self) -> int | None:
        return whole_number(self.value(), "periodic")


class TimeFilter(Filter):
    """By when a task ended, or was called. The address also takes "from..to", two times of which one may be missing."""

    title = "time"
    parameter_name = "time"
    column = "done"
    spans = (
        ("10m", "the last ten minutes", timedelta(minutes=10)),
        ("1h", "the last hour", timedelta(hours=1)),
        ("1d", "the last day", timedelta(days=1)),
        ("7d", "the last seven days", timedelta(days=7)),
    )

    def known(self, request: HttpRequest) -> Iterator[tuple[str, str]]:
        return ((value, text) for value, text, _ in self.spans)

    def wanted(self) -> dict[str, datetime] | None:
        """`since` and `until`, for the list. Raises IncorrectLookupParameters."""
        chosen = self.value()
        if chosen is None:
            return None
        for value, _, span in self.spans:
            if value == chosen:
                return {"since": timezone.now() - span}
        since, dots, until = chosen.partition("..")
        if not dots or not (since or until):
            raise IncorrectLookupParameters(f"there is no time {chosen!r}")
        return {key: _instant(text) for key, text in (("since", since), ("until", until)) if text}

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        bounds = self.wanted() or {}
        lookups = {"since": f"{self.column}__gte", "until": f"{self.column}__lt"}
        return queryset.filter(**{lookups[key]: value for key, value in bounds.items()})


class CalledFilter(TimeFilter):
    """By when a task was called."""

    title = "called"
    column = "created"


class EndedFilter(TimeFilter):
    """By when a task ended."""

    title = "ended"


def _instant(text: str) -> datetime:
    """A time in the address; one without a zone is of the current zone. Raises IncorrectLookupParameters."""
    try:
        # A plus sign that nobody has escaped is a blank.
        found = datetime.fromisoformat(text.replace(" ", "+") if text.count(":") > 1 else text)
        if timezone.is_naive(found):
            found = timezone.make_aware(found)
        # What is in no database.
        found.astimezone(timezone.get_default_timezone())
    except (ValueError, OverflowError) as error:
        raise IncorrectLookupParameters(f"no time: {text!r}") from error
    return found


def whole_number(chosen: str | None, what: str) -> int | None:
    """A number that fits into a column. Raises IncorrectLookupParameters."""
    if chosen is None:
        return None
    try:
        number = int(chosen)
    except ValueError as error:
        raise IncorrectLookupParameters(error) from error
    if not -(2**63) <= number < 2**63:
        raise IncorrectLookupParameters(f"{what} is out of range")
    return number


class OwnerFilter(Filter):
    """By the worker that holds the message."""

    title = "worker"
    parameter_name = column = "owner"

    def known(self, request: HttpRequest) -> Iterator[tuple[str, str]]:
        return ((str(worker.incarnation), label(worker.name)) for worker in workers(request))

    def wanted(self) -> int | None:
        return whole_number(self.value(), "owner")


class StatusFilter(Filter):
    """By whether a message waits, runs, or may not run now, and why."""

    title = "status"
    parameter_name = "status"
    choices_of_status = (
        ("waiting", "waiting"),
        ("running", "running"),
        ("parked", "parked"),
        *((str(value), f"parked: {text}") for value, text in Message.Reason.choices),
    )

    def known(self, request: HttpRequest) -> Iterable[tuple[str, str]]:
        return self.choices_of_status

    def wanted(self) -> str | None:
        chosen = self.value()
        if chosen is not None and chosen not in dict(self.choices_of_status):
            raise IncorrectLookupParameters(f"there is no status {chosen!r}")
        return chosen

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        wanted = self.wanted()
        if wanted is None:
            return queryset
        meant = {
            "waiting": Q(lane__isnull=False, owner__isnull=True),
            "running": Q(owner__isnull=False),
            "parked": Q(lane__isnull=True),
        }
        return queryset.filter(meant.get(wanted, Q(lane__isnull=True, reason=wanted)))
