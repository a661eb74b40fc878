"""`PostgresTask`: what `@task` makes for a backend of ours, and its calls as signatures."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from django.utils.module_loading import import_string

from djtasks.backends.compat import AnyTask
from djtasks.canvas.foreign import signature_of
from djtasks.canvas.signature import Signature


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresTask(AnyTask):
    """A task of `django.tasks`, with what only djtasks has: options of its own, and a place in workflows."""

    #: As OPTIONS of the backend, for this task: `@task(options={"MAX_RETRIES": 5})`.
    options: Mapping[str, Any] | None = field(default=None, hash=False)

    def __reduce__(self) -> tuple[Any, ...]:
        said = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "func"}
        return _restored, (self.module_path, said)

    def s(self, *args: Any, **kwargs: Any) -> Signature:
        """A call with these arguments as data; what it is sent with is put before them. Raises as `signature_of`."""
        return signature_of(self, *args, **kwargs)

    def si(self, *args: Any, **kwargs: Any) -> Signature:
        """As `s`; it takes no other arguments."""
        return signature_of(self, *args, **kwargs).set(immutable=True)


def _restored(path: str, said: dict[str, Any]) -> PostgresTask:
    """A task that was pickled. Raises ValueError when there is no such task."""
    try:
        function = import_string(path).func
    except (ImportError, AttributeError) as error:
        raise ValueError(f"Expected {path!r} to point to a Task instance.") from error
    return PostgresTask(func=function, **said)
