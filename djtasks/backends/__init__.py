"""A backend for Django's own tasks framework: `BACKEND: "djtasks.backends.PostgresBackend"`.

On Django 5.2 the framework is the package django-tasks; who uses no backend needs neither.
"""

from djtasks.backends.backend import PostgresBackend
from djtasks.backends.task import PostgresTask

__all__ = ["PostgresBackend", "PostgresTask"]
