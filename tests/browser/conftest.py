"""A real browser before a real site with a real worker and its beat, all on a database of their own.

The browser is the system's Chromium (CHROMIUM names another one), headless. Where there is none, all tests here are
skipped, and say so; `make browser` installs it.
"""

import json
import os
import shutil
import socket
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from pytest_django import DjangoDbBlocker

from djtasks.models import Beat, PeriodicTask
from testproject.census.processes import Process, Processes
from tests.waits import wait_until
from tests.worker.conftest import migrated
from tests.worker.running import django_at, query

__all__ = ["migrated"]

CHROMIUM = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), "")
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--force-color-profile=srgb"),
)
#: Where pictures for the documentation go; without it none are kept.
PICTURES = os.environ.get("DJTASKS_SCREENSHOTS", "")
#: What the site may load, and run, when it is careful: its own files, and nothing that stands in a page.
POLICY = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'"
#: In seconds: the first page of a site imports and compiles a lot.
PATIENCE = 15.0


class Site:
    """The address of the site, and who is there."""

    def __init__(self, url: str, worker: Process, processes: Processes) -> None:
        self.url = url
        self.worker = worker
        self.processes = processes

    def cookie(self, *codenames: str) -> dict[str, str]:
        """The session of somebody with these permissions of ours; without any, of a superuser."""
        name = ", ".join(codenames) or "admin"
        user, made = User.objects.get_or_create(username=name, is_staff=True, is_superuser=not codenames)
        if made and codenames:
            user.user_permissions.set(Permission.objects.filter(codename__in=codenames))
        client = Client()
        client.force_login(user)
        return {"name": "sessionid", "value": client.cookies["sessionid"].value, "url": self.url}


class Visitor:
    """One person's browser window, and what has gone wrong in it."""

    def __init__(self, page: Any, site: Site) -> None:
        self.page = page
        self.site = site
        self.errors: list[str] = []
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("dialog", lambda dialog: (self.errors.append(f"a dialog: {dialog.message}"), dialog.dismiss()))
        page.on("response", self._answered)

    def _said(self, message: Any) -> None:
        # The test site has no icon.
        if message.type in ("error", "warning") and not message.location["url"].endswith("/favicon.ico"):
            self.errors.append(f"{message.text} ({message.location['url']})")

    def _answered(self, response: Any) -> None:
        if response.status >= 400 and not response.url.endswith("/favicon.ico"):
            self.errors.append(f"{response.status} {response.url}")

    def go(self, path: str) -> None:
        """Open a page of the site."""
        self.page.goto(self.site.url + path)

    def text(self, selector: str) -> str:
        """What stands there."""
        return " ".join(self.page.locator(selector).inner_text().split())

    def picture(self, name: str, height: int = 0) -> None:
        """Keep a picture of the window, or of so much of it, for the documentation, when those are asked for."""
        if PICTURES:
            folder = Path(PICTURES)
            folder.mkdir(parents=True, exist_ok=True)
            size = self.page.viewport_size
            clip = {"x": 0, "y": 0, "width": size["width"], "height": height or size["height"]}
            self.page.screenshot(path=str(folder / f"{name}.png"), clip=clip)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """The browser."""
    playwright = pytest.importorskip("playwright.sync_api", reason="NO BROWSER TESTS: playwright is not installed")
    if not CHROMIUM:
        pytest.skip("NO BROWSER TESTS: there is no chromium here; `make browser` installs it, CHROMIUM=path names one")
    with playwright.sync_playwright() as running, pytest.MonkeyPatch.context() as patch:
        # Playwright's loop runs in this thread, beside Django's queries and not around them.
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
        browser = running.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def site(
    request: pytest.FixtureRequest, chromium: Any, migrated: str, django_db_blocker: DjangoDbBlocker
) -> Iterator[Site]:
    """The site, with one worker that is a beat, too. A module's SETTINGS and WORKER say how they are set up."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    options = getattr(request.module, "WORKER", ("-c", "1"))
    environment = {
        "DATABASE_URL": migrated,
        "EXTRA_APPS": "tests.worker_app",
        "AUDIT": os.devnull,
        "DJTASKS": json.dumps(getattr(request.module, "SETTINGS", {})),
    }
    with django_db_blocker.unblock(), django_at(migrated), Processes(environment) as processes:
        served = processes.start("site", "runserver", "--noreload", "--insecure", address)
        worker = processes.start("worker", "runworker", "-B", "-l", "INFO", *options)
        url = f"http://{address}"
        wait_until(lambda: _answers(url, served), "the site answers", PATIENCE)
        wait_until(lambda: Beat.objects.exists() or worker.ended(), "a beat is there", PATIENCE)
        assert not worker.ended(), worker.output()
        yield Site(url, worker, processes)


def _answers(url: str, served: Process) -> bool:
    assert not served.ended(), served.last_words()
    try:
        with urllib.request.urlopen(f"{url}/admin/login/", timeout=5) as answer:  # noqa: S310 -- ours
            return bool(answer.status == 200)
    except OSError:
        return False


@pytest.fixture(autouse=True)
def _nothing_of_others(site: Site) -> None:
    """No schedule, message or result of another test."""
    PeriodicTask.objects.all().delete()
    query("TRUNCATE djtasks_message, djtasks_result")


@pytest.fixture(scope="module")
def windows(chromium: Any) -> Iterator[dict[bool, Any]]:
    """The browser's windows, with scripts and without: what one test has loaded, the next one need not load again."""
    options = {"timezone_id": "UTC", "locale": "en-GB"}
    found = {script: chromium.new_context(java_script_enabled=script, **options) for script in (True, False)}
    for each in found.values():
        each.set_default_timeout(PATIENCE * 1000)
    yield found
    for each in found.values():
        each.close()


@pytest.fixture
def visit(windows: dict[bool, Any], site: Site) -> Iterator[Callable[..., Visitor]]:
    """`visit("view_periodictask")`: the window of somebody with these permissions; without any, of a superuser.

    Each closes the one before. When the test ends, nothing may have gone wrong in any of them.
    """
    visitors: list[Visitor] = []

    def enter(*codenames: str, color: str = "light", width: int = 1280, script: bool = True) -> Visitor:
        for visitor in visitors:
            visitor.page.close()
        window = windows[script]
        window.clear_cookies()
        window.add_cookies([site.cookie(*codenames)])
        page = window.new_page()
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=color)
        visitors.append(Visitor(page, site))
        return visitors[-1]

    yield enter
    for visitor in visitors:
        visitor.page.close()
    assert [visitor.errors for visitor in visitors] == [[] for _ in visitors]
