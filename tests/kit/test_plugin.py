"""The pytest plugin, in a project of its own that is tested with it."""

import pytest

pytest_plugins = ["pytester"]


def passes(project: pytest.Pytester, count: int, tests: str, *options: str) -> None:
    """Run these tests of the project; so many pass, and nothing is warned of."""
    project.makepyfile(test_shop=tests)
    done = project.runpytest_subprocess("-p", "no:cacheprovider", "-W", "error", "--strict-markers", *options)
    done.assert_outcomes(passed=count)
    assert done.ret == 0


def test_a_project_that_uses_its_own_fixtures(project: pytest.Pytester) -> None:
    passes(
        project,
        6,
        """
from django.contrib.auth.models import User
import pytest
from shop.tasks import add, users

def test_drain(djtasks_drain):
    User.objects.create(username="ada")
    results = add.delay(1, 2), users.delay()
    assert djtasks_drain().names == ["shop.tasks.add", "shop.tasks.users"]
    assert [result.get() for result in results] == [3, 1]

def test_what_was_drained_is_rolled_back(djtasks_drain):
    assert djtasks_drain() == []
    assert not User.objects.exists()

def test_enqueued(djtasks_enqueued):
    add.apply_async((1, 2), countdown=5)
    assert djtasks_enqueued(add, [1, 2]).countdown == 5

def test_eager(db, djtasks_eager):
    assert add.delay(1, 2).get() == 3
    assert users.delay().get() == 0

def test_worker(djtasks_worker):
    User.objects.create(username="ada")
    assert add.delay(1, 2).get(timeout=20) == 3
    assert users.delay().get(timeout=20) == 1

@pytest.mark.parametrize("djtasks_worker_options", [{"pool": "threads", "concurrency": 2}])
def test_worker_with_options(djtasks_worker):
    assert djtasks_worker.options.pool == "threads"
    assert [add.delay(n, n).get(timeout=20) for n in range(3)] == [0, 2, 4]
""",
    )


def test_a_project_that_comes_from_celery(project: pytest.Pytester) -> None:
    project.makepyfile(more_tasks="from djtasks import shared_task\n\n@shared_task\ndef more():\n    return 'more'\n")
    passes(
        project,
        7,
        """
import pytest
from djtasks import Task, current_app
from djtasks.conf import settings
from shop.tasks import add

@pytest.fixture(scope="session")
def celery_config():
    return {"broker_url": "memory://", "result_backend": "redis://", "task_default_queue": "tests"}

@pytest.fixture(scope="session")
def celery_includes():
    return ["more_tasks"]

@pytest.fixture(scope="session")
def celery_worker_parameters():
    return {"queues": ("tests", "special"), "without_heartbeat": True}

class Doubles(Task):
    name = "doubles"

    def run(self, x):
        return 2 * x

@pytest.fixture(scope="session")
def celery_class_tasks():
    return [Doubles]

@pytest.fixture(scope="session")
def celery_enable_logging():
    return True

def test_an_app_with_settings(celery_app):
    assert celery_app.conf.task_default_queue == "tests"
    assert current_app == celery_app

@pytest.mark.celery(task_default_queue="special", task_time_limit=7)
def test_the_marker_beats_them(celery_app):
    assert settings.TASK_DEFAULT_QUEUE == "special"
    assert settings.TASK_TIME_LIMIT == 7

def test_it_is_gone(celery_includes):
    assert settings.TASK_DEFAULT_QUEUE != "special"
    assert settings.TASK_TIME_LIMIT is None

def test_a_worker(celery_app, celery_worker):
    @celery_app.task
    def mul(x, y):
        return x * y

    assert mul.delay(4, 4).get(timeout=20) == 16
    assert celery_app.send_task("more_tasks.more").get(timeout=20) == "more"

def test_the_current_app(depends_on_current_app, celery_app):
    assert current_app == celery_app

@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("turn", [1, 2])
def test_a_worker_for_all_tests(celery_session_app, celery_session_worker, turn):
    assert celery_session_app.tasks["doubles"].delay(21).get(timeout=20) == 42
""",
    )


def test_without_workers_where_the_environment_says_so(
    project: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_WORKER", "1")
    passes(project, 1, "def test_none(celery_worker):\n    assert celery_worker is None\n")


def test_it_asks_nothing_of_projects_without_django(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DJANGO_SETTINGS_MODULE", raising=False)
    pytester.makepyfile("import sys\n\ndef test_nothing():\n    assert 'djtasks.testing.running' not in sys.modules\n")
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)


def test_its_marker_is_explained(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DJANGO_SETTINGS_MODULE", raising=False)
    done = pytester.runpytest_subprocess("--markers", "-p", "no:cacheprovider")
    done.stdout.fnmatch_lines(["@pytest.mark.celery(*settings of djtasks*"])
