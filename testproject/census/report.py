"""The census of a scan: what its files add up to."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from django.db.models import Max, Sum

from testproject.census.models import Scan, SourceFile

TOP = 10


@dataclass(frozen=True, slots=True)
class Census:
    """What a scan's files add up to; the lists hold the first ten."""

    files: int
    counted: int
    lines: int
    functions: int
    classes: int
    #: Per cent of modules, classes and functions.
    documented: float
    #: From the scan's creation to the last file read, and files a second in it.
    duration: timedelta
    rate: float
    #: Top-level packages and the number of files that import them.
    imports: Sequence[tuple[str, int]]
    longest: Sequence[SourceFile]
    failed: Sequence[SourceFile]


def census(scan: Scan) -> Census:
    """Add up all files of a scan, of which those still waiting count as files only."""
    files = scan.files.all()
    counted = files.filter(state=SourceFile.State.COUNTED)
    progress = scan.progress()
    sums = counted.aggregate(*map(Sum, ("lines", "functions", "classes", "documentable", "documented")))
    end = files.aggregate(end=Max("read_at"))["end"] or scan.created_at
    seconds = (end - scan.created_at).total_seconds()
    imports = Counter(name for names in counted.values_list("imports", flat=True).iterator() for name in names)
    return Census(
        files=progress["total"],
        counted=progress["done"] - progress["failed"],
        lines=sums["lines__sum"] or 0,
        functions=sums["functions__sum"] or 0,
        classes=sums["classes__sum"] or 0,
        documented=100 * (sums["documented__sum"] or 0) / (sums["documentable__sum"] or 1),
        duration=end - scan.created_at,
        rate=progress["done"] / seconds if seconds > 0 else 0.0,
        imports=imports.most_common(TOP),
        longest=list(counted.filter(longest_function_lines__gt=0).order_by("-longest_function_lines", "path")[:TOP]),
        failed=list(files.filter(state=SourceFile.State.FAILED).order_by("path")),
    )
