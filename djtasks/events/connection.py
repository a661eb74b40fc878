"""What `app.connection()` returns: a stand-in for Celery's connection to a broker, which here is the database."""

from types import TracebackType
from typing import Any, Self

from djtasks.conf import settings
from djtasks.db.connections import borrow, open_private


class BrokerConnection:
    """To be handed to `app.events.Receiver` and the like, which open what they need themselves: it holds nothing."""

    def as_uri(self, include_password: bool = False) -> str:
        """Where the tasks are, without a password."""
        said = borrow().settings_dict
        host, port = said["HOST"] or "", f":{said['PORT']}" if said["PORT"] else ""
        return f"postgresql://{host}{port}/{said['NAME']}"

    def connect(self) -> Self:
        """See that the database can be reached. Raises psycopg.OperationalError."""
        open_private("connection").close()
        return self

    def ensure_connection(self, *args: Any, **kwargs: Any) -> Self:
        """As `connect`."""
        return self.connect()

    def clone(self, **kwargs: Any) -> "BrokerConnection":
        """Another one."""
        return BrokerConnection()

    def close(self) -> None:
        """There is nothing to be closed."""

    release = close

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Connection: the database {settings.DATABASE!r}>"
