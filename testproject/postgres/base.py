"""Django's PostgreSQL backend, on the server that the site brings along.

The server starts when the parameters of a connection are asked for: commands that need no database need no server.
"""

import os
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db.backends.postgresql import base, client

from testproject.postgres.cluster import embedded
from testproject.postgres.shared import SharedServer


@cache
def server_of(folder: Path) -> SharedServer:
    """This process's hold on the server of a folder."""
    return SharedServer(folder)


class DatabaseClient(client.DatabaseClient):
    """`dbshell` with the server's own psql where the machine has none."""

    def runshell(self, parameters: Iterable[str]) -> None:
        self.connection.get_connection_params()
        os.environ["PATH"] = f"{os.environ.get('PATH', os.defpath)}{os.pathsep}{embedded()}"
        super().runshell(parameters)


class DatabaseWrapper(base.DatabaseWrapper):
    """A connection to the embedded server."""

    client_class = DatabaseClient

    def get_connection_params(self) -> dict[str, Any]:
        cluster = server_of(Path(settings.POSTGRES_FOLDER)).ensure()
        self.settings_dict["HOST"] = str(cluster.socket_folder)
        self.settings_dict["PORT"] = str(cluster.socket_port)
        return super().get_connection_params()
