"""An app that does, while Django starts, what is not to be done before a fork."""

import threading

from django.apps import AppConfig
from django.db import connection


class CarelessConfig(AppConfig):
    """Leaves a thread running and a database session open."""

    name = "tests.careless_app"

    def ready(self) -> None:
        """Start a thread, open a session."""
        threading.Thread(target=threading.Event().wait, name="careless-thread", daemon=True).start()
        connection.ensure_connection()
