"""The tasks of the census: one for each file, and one for all of them when they have been read; and a scan's start."""

import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models.functions import Now

from djtasks import chord, shared_task
from testproject.census.models import Scan, SourceFile
from testproject.census.source import Unreadable, find_files, plain, printable, read


@shared_task(acks_late=True)
def census_file(file_id: int) -> str:
    """Read one file and store what it holds; harmless to repeat, so it may run again after a worker's death."""
    file = SourceFile.objects.select_related("scan").filter(pk=file_id).first()
    if file is None:
        return "gone"
    if settings.CENSUS_PAUSE:
        time.sleep(settings.CENSUS_PAUSE)
    outcome: dict[str, Any]
    try:
        outcome = {**asdict(read(Path(file.scan.folder, file.path))), "state": SourceFile.State.COUNTED, "error": ""}
    except Unreadable as error:
        outcome = {"state": SourceFile.State.FAILED, "error": str(error)}
    SourceFile.objects.filter(pk=file_id).update(**outcome, read_at=Now())
    return str(outcome["state"])


@shared_task(acks_late=True)
def summarise(outcomes: list[str], scan_id: int) -> dict[str, int]:
    """Sum up a scan, when each of its files has been read: this is the body of a chord, and these are its results."""
    summed = dict(Counter(outcomes))
    Scan.objects.filter(pk=scan_id).update(outcomes=summed, finished_at=Now())
    return summed


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


@shared_task
def take_census(folder: str) -> int:
    """Start the scan of a folder, as the form does; the number of the scan. Beat sends this one again and again."""
    return start_scan(Path(folder), list(find_files(Path(folder)))).pk
