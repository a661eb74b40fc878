"""The page about testing does what it says, as tests of a project's."""

import re
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

PAGE = Path(__file__).parents[2] / "docs" / "guide" / "testing.md"
#: What the page speaks of without showing it.
TASKS = """
from djtasks import shared_task
from django.contrib.auth.models import User

@shared_task
def add(x, y):
    return x + y

@shared_task
def send_receipt(pk):
    User.objects.filter(pk=pk).update(is_staff=True)
    return True

@shared_task(bind=True)
def fetch(self, url):
    raise self.retry()

User.receipt_sent = property(lambda user: user.is_staff)

def place_order():
    order = User.objects.create(username="ada")
    send_receipt.apply_async((order.pk,), countdown=60)
    return order
"""
MORE = "\nfrom shop.tasks import *\nfrom shop.tasks import place_order\n"


def test_the_tests_that_the_page_shows_pass(project: pytest.Pytester) -> None:
    page = "\n\n".join(re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE))
    project.path.joinpath("shop", "tasks.py").write_text(TASKS)
    project.makepyfile(test_page=MORE + page)
    done = project.runpytest_subprocess("-p", "no:cacheprovider", "-W", "error")
    done.assert_outcomes(passed=page.count("def test_"))
