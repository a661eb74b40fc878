"""A database router for tasks in a database of their own."""

from typing import Any

from django.db.models import Model

from djtasks.conf import settings

_APP = "djtasks"


class TaskRouter:
    """Sends djtasks' own models to the database that the setting DATABASE names, and says nothing of any other.

    `DATABASE_ROUTERS = ["djtasks.router.TaskRouter"]`. djtasks itself finds that database without it; this is for
    `migrate`, for reports, and for tests.
    """

    def db_for_read(self, model: type[Model], **hints: Any) -> str | None:
        """The database of a model."""
        return settings.DATABASE if model._meta.app_label == _APP else None

    db_for_write = db_for_read

    def allow_relation(self, one: Model, other: Model, **hints: Any) -> bool | None:
        """Among our own models, and to no other."""
        return None if _APP not in (one._meta.app_label, other._meta.app_label) else _is_ours(one) and _is_ours(other)

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        """Our tables in their database, and in no other."""
        return db == settings.DATABASE if app_label == _APP else None


def _is_ours(row: Model) -> bool:
    return row._meta.app_label == _APP
