"""djtasks as an entry of INSTALLED_APPS."""

from importlib import import_module

from django.apps import AppConfig

# Imported here so that tasks have their `app` as soon as Django has been set up.
import djtasks.builtins
import djtasks.errbacks
import djtasks.http  # noqa: F401
from djtasks import appstate
from djtasks.app import set_up
from djtasks.checks import register_checks
from djtasks.registry import autodiscover
from djtasks.routing import backends


class DjtasksConfig(AppConfig):
    """Finds the `tasks` modules of the installed apps, and brings the system checks."""

    name = "djtasks"
    verbose_name = "Tasks"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        """Django has loaded all models."""
        register_checks()
        # Web processes need none of it, so it is imported when an app is told to start something.
        appstate.programs = "djtasks.cli.programs"
        found = autodiscover()
        if backends():
            # Whoever uses no backend of ours does without django.tasks.
            import_module("djtasks.backends.adoption").adopt(found)
        set_up()
