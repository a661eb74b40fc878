"""What a call of a `django.tasks` task says of itself, beside what every message says: it travels in its own headers.

That is who was asked to run it, when it was to run, and what became of its earlier attempts: the row of a message
knows only how many there were.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple, Self

from djtasks.current import Frame
from djtasks.einfo import traceback_text
from djtasks.payload import headers_of

#: The name among the headers of a call.
HEADER: Final = "django_task"
#: So many attempts are remembered, and so many characters of each one's traceback.
MOST: Final = 1000
LONGEST: Final = 20_000
#: So many errors: their tracebacks are long, and are written again with every retry.
MOST_ERRORS: Final = 20


class History(NamedTuple):
    """The header, read."""

    #: The alias of the backend, where it is not the one that the task was defined for.
    backend: str | None = None
    #: ISO 8601.
    run_after: str | None = None
    #: When the first attempt began: seconds since the epoch.
    first: float | None = None
    #: The nodes of all attempts that have ended, in order.
    workers: tuple[str, ...] = ()
    #: The dotted path of the exception's class and the traceback of each.
    errors: tuple[tuple[str, str], ...] = ()

    @classmethod
    def read(cls, headers: Any) -> Self:
        """What the own headers of a call say; of what is no header of ours, nothing."""
        said = headers.get(HEADER) if isinstance(headers, Mapping) else None
        if not isinstance(said, Mapping):
            return cls()
        first, workers, errors = said.get("first"), said.get("workers"), said.get("errors")
        return cls(
            _text(said.get("backend")),
            _text(said.get("run_after")),
            float(first) if isinstance(first, int | float) else None,
            tuple(each for each in workers if isinstance(each, str)) if isinstance(workers, list) else (),
            tuple((str(each[0]), str(each[1])) for each in errors if isinstance(each, list) and len(each) == 2)
            if isinstance(errors, list)
            else (),
        )

    @classmethod
    def of_row(cls, headers: str | None) -> Self:
        """What the headers of a row say."""
        return cls.read(headers_of(headers).get("headers"))

    def as_headers(self) -> dict[str, Any]:
        """The own headers of a call which say this; empty for nothing."""
        said = {key: value for key, value in self._asdict().items() if value}
        return {HEADER: said} if said else {}

    def after(self, frame: Frame, error: BaseException | None) -> Self:
        """With the attempt that `frame` is, which has ended in `error` and is to be repeated."""
        errors = self.errors
        if error is not None:
            errors = (*errors, (path_of(type(error)), traceback_text(error)[-LONGEST:]))[-MOST_ERRORS:]
        workers = (*self.workers, frame.request.hostname or "")[-MOST:]
        return self._replace(first=self.first or frame.began, workers=workers, errors=errors)

    @property
    def moment(self) -> datetime | None:
        """`run_after` as a datetime."""
        try:
            return None if self.run_after is None else datetime.fromisoformat(self.run_after)
        except ValueError:
            return None


def path_of(cls: type) -> str:
    """The dotted path of a class."""
    return f"{cls.__module__}.{cls.__qualname__}"


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None
