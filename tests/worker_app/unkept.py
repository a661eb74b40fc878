"""A task that no worker may start with."""

from djtasks import shared_task


@shared_task(atomic="elsewhere")
def torn() -> None:
    """Work in a database in which no tasks are."""
