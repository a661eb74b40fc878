"""A list of the admin that is read page by page along an index: no page numbers, no count, no sorting by column.

Django's `p` in the address holds the place where a page begins instead of its number, so that everything in the admin
that starts a list anew (a search, a filter) does so here.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import PAGE_VAR, ChangeList
from django.core.paginator import Paginator
from django.db.models import Model
from django.http import HttpRequest

from djtasks.conf import settings
from djtasks.db import pages, regions
from djtasks.db.connections import borrow
from djtasks.db.pages import Page, Row, Table
from djtasks.db.regions import Place
from djtasks.ids import as_task_id
from djtasks.models import PeriodicTask


class Source(NamedTuple):
    """Where a list comes from."""

    table: Table
    #: `pages.messages` or `pages.results`.
    read: Callable[..., Page]


class Links(NamedTuple):
    """What stands below a list: query strings, None where there is nothing to go to."""

    first: str | None
    previous: str | None
    next: str | None
    #: "next", or what it means to go on after a search of a part of the rows.
    next_text: str
    #: How much there is.
    text: str


class PagedChangeList(ChangeList):
    """One page. The rows have no payload: it is deferred, and nothing in a list asks for it."""

    links: Links
    #: Whether there is more than the page shows.
    goes_on: bool
    may_search_payload: bool

    def get_results(self, request: HttpRequest) -> None:
        """Read the page that the address names. Raises IncorrectLookupParameters."""
        self.may_search_payload = self.model_admin.may_see_payload(request)  # type: ignore[attr-defined]
        wanted = self._wanted()
        start, backward = _read_place(request.GET.get(PAGE_VAR))
        page = self._page(wanted, start, backward)
        self.result_list = [instance(self.model, row) for row in page.rows]
        _name_periodic_tasks(self.result_list)
        self.links = self._links(page, start, backward, bool(wanted))
        complete = start is None and page.rest is None
        self.goes_on = not complete
        self.result_count = len(self.result_list)
        # Django says "5 results (show all)" beside the search where these two differ.
        self.full_result_count = None if complete and (wanted or self.query) else self.result_count
        self.show_full_result_count = False
        self.show_admin_actions = True
        self.can_show_all = self.multi_page = False
        self.paginator = Paginator(self.result_list, self.list_per_page)

    def _wanted(self) -> dict[str, Any]:
        """What the filters ask for. Raises IncorrectLookupParameters."""
        wanted: dict[str, Any] = {}
        for spec in self.filter_specs:
            value = spec.wanted()  # type: ignore[attr-defined]
            if isinstance(value, dict):
                wanted.update(value)
            elif value is not None:
                wanted[spec.parameter_name] = value  # type: ignore[attr-defined]
        return {**getattr(self.model_admin, "always", {}), **wanted}

    def walk(self, size: int, until: datetime) -> Iterator[list[Row]]:
        """All rows that the list finds, in parts, but for those that have come after that time."""
        wanted = self._wanted()
        wanted["until"] = min(until, wanted.get("until", until))
        start: Place | None = None
        while True:
            page = self._page(dict(wanted), start, False, size)
            yield page.rows
            if page.rest is None:
                return
            start = page.rest

    def _page(self, wanted: dict[str, Any], start: Place | None, backward: bool, size: int = 0) -> Page:
        source: Source = self.model_admin.source  # type: ignore[attr-defined]
        conn = borrow()
        size = size or self.list_per_page
        text = searched_text(self.query)
        if text is not None:
            # Where arguments are not shown they cannot be guessed either.
            if not self.may_search_payload:
                return Page([], None, None, None, 0, 0)
            wanted |= {"text": text.encode(), "escaped": json.dumps(text)[1:-1].encode()}
        elif self.query.strip():
            ids, prefix = search_terms(self.query)
            if start is None and (found := pages.by_id(conn, source.table, ids)):
                return Page(found, None, None, None, 0, 0)
            if prefix is None:
                return Page([], None, None, None, 0, 0)
            wanted["prefix"] = prefix
        try:
            return source.read(conn, wanted, start=start, backward=backward, size=size)
        except ValueError as error:
            raise IncorrectLookupParameters(error) from error

    def _links(self, page: Page, start: Place | None, backward: bool, filtered: bool) -> Links:
        before, after = (page.rest, page.last or start) if backward else (page.first or start, page.rest)
        if start is None:
            before = None
        elif not backward and page.first is None:
            # Nothing is shown whose place could be gone back from.
            before = None
        return Links(
            first=self.get_query_string() if start is not None else None,
            previous=self._to(before, backward=True),
            next=self._to(after, backward=False),
            next_text="search on" if page.looked_at and not backward else "next",
            text=self._text(page, start is None and page.rest is None, filtered or bool(self.query)),
        )

    def _to(self, place: Place | None, *, backward: bool) -> str | None:
        if place is None:
            return None
        texts = ["before" if backward else "after", *regions.as_texts(place)]
        return self.get_query_string({PAGE_VAR: json.dumps(texts, separators=(",", ":"))})

    def _text(self, page: Page, complete: bool, narrowed: bool) -> str:
        shown = len(page.rows)
        noun = str(self.opts.verbose_name if shown == 1 else self.opts.verbose_name_plural)
        if page.looked_at:
            return f"{shown:,} {noun} found among the {page.looked_at:,} that were looked at"
        if complete or narrowed or page.estimate <= self.list_per_page:
            return f"{shown:,} {noun}" + ("" if complete else " on this page")
        return f"about {_rounded(page.estimate):,} {self.opts.verbose_name_plural} in all"


#: What a search for arguments begins with.
ARGUMENTS = "args:"


def searched_text(query: str) -> str | None:
    """The text that is looked for in arguments; None when something else is, or when there is none."""
    text = query.strip()
    return text.removeprefix(ARGUMENTS).strip() or None if text.startswith(ARGUMENTS) else None


def search_terms(query: str) -> tuple[list[UUID], str | None]:
    """The ids that a text may stand for, and the beginning of a name; None when it can only be an id."""
    text = query.strip()
    ids = [UUID(as_task_id(text))]
    try:
        return [*ids, UUID(text)], None
    except ValueError:
        return ids, text


def _read_place(text: str | None) -> tuple[Place | None, bool]:
    """The place in the address, and whether the page ends before it. Raises IncorrectLookupParameters."""
    if not text:
        return None, False
    try:
        direction, *texts = json.loads(text)
        if direction not in ("before", "after") or not _all_texts(texts):
            raise ValueError(f"no place: {text!r}")
        return regions.from_texts(texts), direction == "before"
    except (ValueError, TypeError, RecursionError) as error:
        raise IncorrectLookupParameters(error) from error


def _all_texts(values: Sequence[object]) -> bool:
    return bool(values) and all(isinstance(value, str) for value in values)


def instance(model: type[Model], row: Row) -> Model:
    """A model's instance whose columns beside those of `row` are deferred."""
    names = [field.attname for field in model._meta.concrete_fields if field.attname in row]
    return model.from_db(borrow().alias, names, [row[name] for name in names])


def _name_periodic_tasks(rows: Sequence[Any]) -> None:
    """Let the rows of a page know the names of their periodic tasks, as `periodic_name`: one query, or none."""
    numbers = {row.periodic for row in rows if row.periodic is not None}
    names: dict[int, str] = {}
    if numbers:
        found = PeriodicTask.objects.using(settings.DATABASE).filter(pk__in=numbers)
        names = dict(found.values_list("pk", "name"))
    for row in rows:
        row.periodic_name = names.get(row.periodic)


def _rounded(number: int) -> int:
    """To two digits: the statistics know no more."""
    power = max(0, len(str(number)) - 2)
    return round(number, -power)
