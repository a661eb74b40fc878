"""The pages: the form, and a scan's progress, which becomes its census."""

from pathlib import Path

from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_http_methods

from djtasks import chord
from testproject.census.forms import ScanForm
from testproject.census.models import Scan, SourceFile
from testproject.census.report import census
from testproject.census.source import plain, printable
from testproject.census.tasks import census_file, summarise


@require_http_methods(["GET", "POST"])
def index(request: HttpRequest) -> HttpResponse:
    """Ask for a folder; start its scan, a task for each file, when it is given."""
    form = ScanForm(request.POST or None)
    if form.is_valid():
        return redirect(start_scan(Path(form.cleaned_data["folder"]), form.cleaned_data["paths"]))
    return render(request, "census/index.html", {"form": form, "scans": Scan.objects.all()[:20]})


def start_scan(folder: Path, paths: list[str]) -> Scan:
    """Store a scan and its files; call a task for each, and one behind them all. They are there when the rows are."""
    with transaction.atomic():
        scan = Scan.objects.create(folder=plain(str(folder), 1000))
        files = SourceFile.objects.bulk_create([_row(scan, path) for path in paths], batch_size=1000)
        waiting = [file.pk for file in files if file.state == SourceFile.State.WAITING]
        chord(census_file.s(pk) for pk in waiting)(summarise.s(scan.pk))
    return scan


def _row(scan: Scan, path: str) -> SourceFile:
    name = printable(path)
    if name != path:
        return SourceFile(scan=scan, path=name, state=SourceFile.State.FAILED, error="its name is not UTF-8")
    return SourceFile(scan=scan, path=path)


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
