"""A task that only workers with this app know."""

from djtasks import shared_task


@shared_task
def elsewhere() -> str:
    """Say that it ran."""
    return "ran elsewhere"
