"""What the tests of the monitor share: browsers of several people, rows, and pages that nobody has kept."""

import html
import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.urls import reverse

from djtasks.models import Queue, Revocation
from djtasks.monitor import charts, live, views_overview, views_workers
from tests.admin.conftest import _empty_tables as _empty_tables
from tests.admin.conftest import admin_client as admin_client
from tests.admin.conftest import configure as configure
from tests.admin.conftest import staff as staff


@pytest.fixture(autouse=True)
def _nothing_kept(_empty_tables: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No page, no pace and no samples of a test before; and nobody waits for workers that are only rows."""
    for model in (Queue, Revocation):
        model.objects.all().delete()
    for kept in (live.parts, views_overview._history):
        kept.clear()
    charts.pace.__init__()  # type: ignore[misc]
    monkeypatch.setattr(views_workers, "ANSWER_WITHIN", 0.0)
    yield
    live.parts.clear()


def to(name: str, *args: Any) -> str:
    """The address of a page."""
    return reverse(f"djtasks_monitor:{name}", args=args)


def words(response: Any, status: int = 200) -> str:
    """A page without its markup, on one line."""
    assert response.status_code == status, response.content.decode()[:3000]
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", response.content.decode())).split())


def ids(response: Any) -> list[str]:
    """The ids in a list of tasks, in order."""
    return re.findall(r'<th scope="row" class="id"><a href="[^"]*">([^<]*)', response.content.decode())


def following(response: Any) -> str | None:
    """The address of the next page of a list."""
    found = re.search(r'<a href="([^"]*)" rel="next"', response.content.decode())
    return html.unescape(found[1]) if found else None
