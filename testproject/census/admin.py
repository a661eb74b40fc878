"""The census in the admin, for looking at."""

from django.contrib import admin

from testproject.census.models import Scan, SourceFile


@admin.register(Scan)
class ScanAdmin(admin.ModelAdmin):  # type: ignore[type-arg] # generic in the stubs only
    """Scans."""

    list_display = ("folder", "created_at")
    date_hierarchy = "created_at"


@admin.register(SourceFile)
class SourceFileAdmin(admin.ModelAdmin):  # type: ignore[type-arg] # generic in the stubs only
    """Files, and what was found in them."""

    list_display = ("path", "scan", "state", "lines", "functions", "classes", "error")
    list_filter = ("state",)
    search_fields = ("path", "error")
    raw_id_fields = ("scan",)
