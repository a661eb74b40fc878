"""What the admin of every model of ours has in common: it shows, and changes nothing."""

from collections.abc import Callable, Mapping
from typing import Any

from django.contrib import admin
from django.core.exceptions import ValidationError
from django.db.models import Q, QuerySet
from django.http import HttpRequest

from djtasks.admin.lists import PagedChangeList, Source, search_terms, searched_text
from djtasks.admin.text import label, moment
from djtasks.conf import settings
from djtasks.db.pages import TEXT_BYTES, TEXT_WINDOW


def shown(name: str, description: str) -> Callable[[Any, Any], str]:
    """A field on the page of one row that shows what `details` has under this name."""

    @admin.display(description=description)
    def read(self: Any, obj: Any) -> str:
        text: str = obj.details[name]
        return text

    return read


class ReadOnlyAdmin(admin.ModelAdmin):  # type: ignore[type-arg] # generic in the stubs only
    """Rows that djtasks alone writes. Who has Django's view permission sees them."""

    # Counts of what each filter would find are counts over whole tables.
    show_facets = admin.ShowFacets.NEVER
    show_full_result_count = False
    list_per_page = 50
    list_max_show_all = 0
    sortable_by = ()
    view_on_site = False
    #: Columns that only the page of one row fetches, and that within bounds.
    heavy: tuple[str, ...] = ()
    #: The permission to see payload, if there is any, and the titles of the fieldsets that show it.
    payload_permission = ""
    private: tuple[str, ...] = ("Payload",)

    class Media:
        css = {"all": ("djtasks/admin.css",)}  # noqa: RUF012

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def lookup_allowed(self, lookup: str, value: str, request: HttpRequest) -> bool:
        """Only what a filter asks for: no other column can be probed from the address."""
        return lookup in {getattr(each, "parameter_name", None) for each in self.list_filter}

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        """All fields: methods must be named among these."""
        return tuple(str(name) for _, options in self.fieldsets or () for name in options["fields"])

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).using(settings.DATABASE).defer(*self.heavy)

    def get_object(self, request: HttpRequest, object_id: str, from_field: str | None = None) -> Any:
        try:
            pk = self.opts.pk.to_python(object_id)
        except ValidationError:
            return None
        rows = self.get_queryset(request)
        rows = self.detailed(rows) if self.may_see_payload(request) else self.public(rows)
        found = rows.filter(pk=pk).first()
        if found is not None:
            found.details = self.details(request, found)
        return found

    def detailed(self, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """The queryset with what `details` needs beside the columns."""
        return queryset

    def public(self, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """`detailed` for who may not see payload."""
        return queryset

    def may_see_payload(self, request: HttpRequest) -> bool:
        """Whether the user may see what tasks are called with and what they leave."""
        user: Any = request.user
        return not self.payload_permission or bool(user.has_perm(f"djtasks.{self.payload_permission}"))

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        """Without the payload, for who may not see it."""
        if self.may_see_payload(request):
            return self.fieldsets
        return [each for each in self.fieldsets or () if each[0] not in self.private]

    def details(self, request: HttpRequest, row: Any) -> Mapping[str, str]:
        """What the page of one row shows by `shown` fields: text, or HTML that is safe."""
        return {}


class PagedAdmin(ReadOnlyAdmin):
    """A table that may be huge, of tasks."""

    source: Source
    search_help_text = (
        "A task's id (a UUID, or a text of your own), or the beginning of a task's name. args:text looks for the text"
        f" in arguments, as they are stored, of the next {TEXT_WINDOW:,} rows, and in their first {TEXT_BYTES:,} bytes."
    )
    #: Django shows the search where there is one of these; `get_search_results` says what is searched.
    search_fields = ("id", "name")

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[PagedChangeList]:
        return PagedChangeList

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """What the list finds, for what Django does with a list's queryset; nothing runs it to show the list."""
        if search_term.strip() and searched_text(search_term) is None:
            ids, prefix = search_terms(search_term)
            named = Q() if prefix is None else Q(name__startswith=prefix)
            queryset = queryset.filter(Q(pk__in=ids) | named)
        return queryset, False

    @admin.display(description="task")
    def task(self, obj: Any) -> str:
        return label(obj.name)

    @admin.display(description="queue")
    def in_queue(self, obj: Any) -> str:
        return label(obj.queue)

    @admin.display(description="called")
    def called(self, obj: Any) -> str:
        return moment(obj.created)

    @admin.display(description="periodic task")
    def run_of(self, obj: Any) -> str:
        return "-" if obj.periodic is None else label(obj.periodic_name or f"({obj.periodic})")

    own_id = shown("own_id", "the caller's own id")
    parent = shown("parent", "parent task")
    root = shown("root", "root task")
    counterpart = shown("counterpart", "also as")
    periodic_link = shown("periodic_task", "periodic task")
    workflow = shown("workflow", "what came of what")
    args = shown("args", "arguments")
    kwargs = shown("kwargs", "named arguments")
    other_headers = shown("headers", "headers")
    stored_as = shown("stored_as", "stored as")
