"""The pages: the form, and a scan's progress, which becomes its census."""

from pathlib import Path

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_http_methods

from testproject.census.forms import ScanForm
from testproject.census.models import Scan
from testproject.census.report import census
from testproject.census.tasks import start_scan


@require_http_methods(["GET", "POST"])
def index(request: HttpRequest) -> HttpResponse:
    """Ask for a folder; start its scan, a task for each file, when it is given."""
    form = ScanForm(request.POST or None)
    if form.is_valid():
        return redirect(start_scan(Path(form.cleaned_data["folder"]), form.cleaned_data["paths"]))
    return render(request, "census/index.html", {"form": form, "scans": Scan.objects.all()[:20]})


@require_GET
def scan(request: HttpRequest, pk: int) -> HttpResponse:
    """Show how far a scan has come, and its census when all files have been read and summed up."""
    found = get_object_or_404(Scan, pk=pk)
    progress = found.progress()
    context = {"scan": found, "progress": progress, "percent": 100 * progress["done"] // max(1, progress["total"])}
    if found.finished_at is None:
        return render(request, "census/progress.html", context)
    return render(request, "census/census.html", {**context, "census": census(found)})


@require_GET
def progress(request: HttpRequest, pk: int) -> JsonResponse:
    """How far a scan has come, for programs: how many files in total, done and failed, and whether it is summed up."""
    found = get_object_or_404(Scan, pk=pk)
    return JsonResponse({**found.progress(), "finished": found.finished_at is not None})
