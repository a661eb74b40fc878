"""The pytest plugin, on top of pytest-django: fixtures of our own, and Celery's under Celery's names.

It is loaded with every run of pytest, so it imports nothing of Django's until one of its fixtures is asked for.
"""

import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from importlib import import_module
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from djtasks import Celery
    from djtasks.testing import Drained
    from djtasks.worker.worker import Worker

#: As with Celery: no worker is started for its fixtures when this is set.
NO_WORKER = "NO_WORKER"


def _testing() -> Any:
    return import_module("djtasks.testing")


def pytest_configure(config: pytest.Config) -> None:
    """Make Celery's marker known."""
    config.addinivalue_line("markers", "celery(**overrides): settings of djtasks for this test, under Celery's names")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Close what djtasks keeps open, before the last test's end drops the databases."""
    if nextitem is None:
        for name in ("djtasks.waiting", "djtasks.delivery"):
            if name in sys.modules:
                sys.modules[name].close()


# -- djtasks' own -------------------------------------------------------------------------------------------------


@pytest.fixture
def djtasks_eager() -> Iterator[None]:
    """Every call runs its task at once, where it is made."""
    with _testing().eager():
        yield


@pytest.fixture
def djtasks_drain(db: None) -> "Callable[..., Drained]":
    """`djtasks.testing.drain`, in a test that may use the database: runs what waits, inside of its transaction."""
    drain: Callable[..., Drained] = _testing().drain
    return drain


@pytest.fixture
def djtasks_enqueued(db: None) -> Callable[..., Any]:
    """`djtasks.testing.assert_enqueued`, in a test that may use the database."""
    assert_enqueued: Callable[..., Any] = _testing().assert_enqueued
    return assert_enqueued


@pytest.fixture(scope="session")
def djtasks_worker_options() -> Mapping[str, Any]:
    """Override this: arguments of `djtasks.testing.start_worker` for the fixture djtasks_worker."""
    return {}


@pytest.fixture
def djtasks_worker(transactional_db: None, djtasks_worker_options: Mapping[str, Any]) -> "Iterator[Worker]":
    """A worker in a thread, which runs what the test commits."""
    with _testing().start_worker(**djtasks_worker_options) as worker:
        yield worker


# -- Celery's -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def celery_config() -> Mapping[str, Any]:
    """Override this: settings for celery_app, under Celery's names."""
    return {}


@pytest.fixture(scope="session")
def celery_parameters() -> Mapping[str, Any]:
    """Override this: arguments of `Celery` for celery_app."""
    return {}


@pytest.fixture(scope="session")
def celery_includes() -> Sequence[str]:
    """Override this: modules to import before a worker starts."""
    return ()


@pytest.fixture(scope="session")
def celery_class_tasks() -> Sequence[Any]:
    """Override this: task classes for the session's worker."""
    return ()


@pytest.fixture(scope="session")
def celery_enable_logging() -> bool:
    """Override this; it means nothing here: logging is pytest's."""
    return False


@pytest.fixture(scope="session")
def use_celery_app_trap() -> bool:
    """Override this: true to leave the current app alone."""
    return False


@pytest.fixture(scope="session")
def celery_worker_pool() -> str:
    """Override this: solo, threads or prefork."""
    return "solo"


@pytest.fixture(scope="session")
def celery_worker_parameters() -> Mapping[str, Any]:
    """Override this: arguments of `start_worker` for Celery's workers."""
    return {}


@contextmanager
def _app(node: Any, config: Mapping[str, Any], parameters: Mapping[str, Any], current: bool) -> "Iterator[Celery]":
    """An app for a while, with these settings, and those of the marker."""
    marker = node.get_closest_marker("celery")
    appstate = import_module("djtasks.appstate")
    before = appstate.current()
    with import_module("djtasks.testing.inline").configured({**config, **(marker.kwargs if marker else {})}):
        app = import_module("djtasks.app").Celery("celery.tests", **{"set_as_current": False, **parameters})
        if current:
            appstate.set_current(app)
        try:
            yield app
        finally:
            appstate.set_current(before)


@pytest.fixture
def celery_app(
    request: pytest.FixtureRequest,
    celery_config: Mapping[str, Any],
    celery_parameters: Mapping[str, Any],
    celery_enable_logging: bool,
    use_celery_app_trap: bool,
) -> "Iterator[Celery]":
    """An app with the settings of celery_config and of the marker `celery`, for one test."""
    with _app(request.node, celery_config, celery_parameters, not use_celery_app_trap) as app:
        yield app


@pytest.fixture(scope="session")
def celery_session_app(
    request: pytest.FixtureRequest,
    celery_config: Mapping[str, Any],
    celery_parameters: Mapping[str, Any],
    celery_enable_logging: bool,
    use_celery_app_trap: bool,
) -> "Iterator[Celery]":
    """An app with the settings of celery_config, for all tests."""
    with _app(request.node, celery_config, celery_parameters, not use_celery_app_trap) as app:
        yield app


@contextmanager
def _worker(
    app: Any, modules: Sequence[str], classes: Sequence[Any], pool: str, parameters: Mapping[str, Any]
) -> "Iterator[Worker | None]":
    for module in modules:
        import_module(module)
    for each in classes:
        app.register_task(each)
    started = nullcontext() if os.environ.get(NO_WORKER) else _testing().start_worker(app, pool=pool, **parameters)
    with started as worker:
        yield worker


@pytest.fixture
def celery_worker(
    transactional_db: None,
    celery_app: "Celery",
    celery_includes: Sequence[str],
    celery_worker_pool: str,
    celery_worker_parameters: Mapping[str, Any],
) -> "Iterator[Worker | None]":
    """A worker in a thread, for one test."""
    with _worker(celery_app, celery_includes, (), celery_worker_pool, celery_worker_parameters) as worker:
        yield worker


@pytest.fixture(scope="session")
def celery_session_worker(
    django_db_setup: None,
    django_db_blocker: Any,
    celery_session_app: "Celery",
    celery_includes: Sequence[str],
    celery_class_tasks: Sequence[Any],
    celery_worker_pool: str,
    celery_worker_parameters: Mapping[str, Any],
) -> "Iterator[Worker | None]":
    """A worker in a thread, for all tests; those that enqueue must commit, as `transactional_db` lets them."""
    with (
        django_db_blocker.unblock(),
        _worker(
            celery_session_app, celery_includes, celery_class_tasks, celery_worker_pool, celery_worker_parameters
        ) as worker,
    ):
        yield worker


@pytest.fixture
def depends_on_current_app(celery_app: "Celery") -> None:
    """The app of the test is the current one."""
    import_module("djtasks.appstate").set_current(celery_app)
