"""Settings for a while, and `eager()`: every call runs where it is made."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from djtasks.conf import layers, overlay, reread


@contextmanager
def configured(changes: Mapping[str, Any]) -> Iterator[None]:
    """Inside, these settings act, under our names or Celery's of any time, whatever stands in `DJTASKS`.

    Raises ImproperlyConfigured for what is no setting, and for a value that does not fit.
    """
    was = layers.state()
    overlay({name: value for key, value in changes.items() if (name := layers.name_of(key)) is not None})
    try:
        yield
    finally:
        layers.restore(was)
        reread()


@contextmanager
def eager(*, propagates: bool = False, stored: bool = False) -> Iterator[None]:
    """Inside, or in a function that it decorates, `delay()` and its kin run the task at once, in this thread.

    Arguments and results pass through their serializers; handlers, signals, retries and links are those of a worker.
    With `propagates` a call raises what its task raises; with `stored` results are found by their id, too, in the
    database, which is asked for nothing else.
    """
    with configured(
        {"TASK_ALWAYS_EAGER": True, "TASK_EAGER_PROPAGATES": propagates, "TASK_STORE_EAGER_RESULT": stored}
    ):
        yield
