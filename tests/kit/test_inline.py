"""`eager()`: every call runs where it is made."""

import pytest

from djtasks import AsyncResult
from djtasks.conf import settings
from djtasks.exceptions import ImproperlyConfigured
from djtasks.testing import assert_no_tasks, eager
from djtasks.testing.inline import configured
from tests.kit import shop

pytestmark = pytest.mark.django_db


def test_a_call_runs_at_once_and_its_result_is_found_by_its_id() -> None:
    with eager(stored=True):
        result = shop.greet.delay("ada", loud=True)
        assert result.get() == "ADA"
        assert AsyncResult(result.id).result == "ADA"
    assert_no_tasks()
    assert not settings.TASK_ALWAYS_EAGER


def test_coroutines_and_the_tests_own_data_are_seen() -> None:
    with eager():
        shop.register("ada")
        assert shop.acount.delay().get() == 1
        assert shop.count.delay().get() == 1


def test_failures_are_results_unless_they_are_to_be_raised() -> None:
    with eager():
        assert shop.fail.delay("no").state == "FAILURE"
    with eager(propagates=True), pytest.raises(ValueError, match="no"):
        shop.fail.delay("no")


def test_links_and_retries_run_as_well() -> None:
    shop.done.clear()
    with eager():
        shop.greet.apply_async(("ada",), {"loud": True}, link=shop.greet.s())
        assert shop.flaky.delay(2).get() == 2
    assert shop.done == ["ada", "ADA", 0, 1, 2]


@eager()
def test_it_decorates() -> None:
    assert shop.greet.delay("ada").get() == "ada"


def test_settings_under_any_name_act_for_a_while() -> None:
    with configured({"task_always_eager": True, "CELERY_RESULT_BACKEND": "redis://", "WORKER_CONCURRENCY": 7}):
        assert settings.TASK_ALWAYS_EAGER
        assert settings.WORKER_CONCURRENCY == 7
    assert settings.WORKER_CONCURRENCY is None
    with pytest.raises(ImproperlyConfigured, match="is not a setting"), configured({"TASK_NEVER_EAGER": True}):
        pass
