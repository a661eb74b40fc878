"""What a census stores: a scan of a folder, and a row for each file in it."""

from django.db import models
from django.db.models import Count, Q
from django.urls import reverse


class Scan(models.Model):
    """One reading of a folder."""

    folder = models.TextField()
    created_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True, blank=True, help_text="When all files had been read and summed up.")
    outcomes = models.JSONField(default=dict, blank=True, help_text="How many files ended in which state.")

    class Meta:
        ordering = ("-pk",)

    def __str__(self) -> str:
        return f"Scan {self.pk} of {self.folder}"

    def get_absolute_url(self) -> str:
        """The page that shows the progress, and then the census."""
        return reverse("scan", args=[self.pk])

    def progress(self) -> dict[str, int]:
        """How many files there are, how many have been read, and how many of those could not be counted."""
        return self.files.aggregate(
            total=Count("pk"),
            done=Count("pk", filter=~Q(state=SourceFile.State.WAITING)),
            failed=Count("pk", filter=Q(state=SourceFile.State.FAILED)),
        )


class SourceFile(models.Model):
    """One file of a scan: what it holds, or why it could not be counted."""

    class State(models.TextChoices):
        """How far a file has come."""

        WAITING = "waiting"
        COUNTED = "counted"
        FAILED = "failed"

    scan = models.ForeignKey(Scan, models.CASCADE, related_name="files")
    path = models.TextField(help_text="Relative to the scan's folder.")
    state = models.CharField(max_length=10, choices=State, default=State.WAITING)
    error = models.TextField(blank=True)
    lines = models.PositiveIntegerField(default=0)
    functions = models.PositiveIntegerField(default=0)
    classes = models.PositiveIntegerField(default=0)
    imports = models.JSONField(default=list, blank=True)
    longest_function = models.TextField(blank=True)
    longest_function_lines = models.PositiveIntegerField(default=0)
    documentable = models.PositiveIntegerField(default=0)
    documented = models.PositiveIntegerField(default=0)
    read_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("path",)
        constraints = (models.UniqueConstraint(fields=["scan", "path"], name="census_one_row_a_file"),)

    def __str__(self) -> str:
        return self.path
