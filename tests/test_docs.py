"""What the documentation shows is run."""

import importlib.util
import os
import pathlib
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.management import load_command_class
from django.test import override_settings

from djtasks import AsyncResult, appstate, codeschedules, shared_task
from djtasks.backends.compat import PACKAGE
from djtasks.conf import layers, problems, reread
from djtasks.ids import new_task_id
from djtasks.registry import tasks

ROOT = pathlib.Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(page: pathlib.Path, language: str) -> list[str]:
    """The code blocks of a page in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


class Order:
    """Stands in a snippet for a model of the reader's."""

    class objects:
        @staticmethod
        def create(**_: Any) -> "Order":
            return Order()

    pk = 1


def made_by(name: str) -> Any:
    """One of the programs that write pages."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "docs" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_settings_page_says_what_the_settings_say() -> None:
    assert (ROOT / "docs/reference/settings.md").read_text() == made_by("make_settings").page()


def test_the_reference_says_what_the_code_says() -> None:
    for name, text in made_by("make_reference").pages().items():
        assert (ROOT / "docs/reference" / name).read_text() == text, f"run docs/make_reference.py: {name} has changed"


def test_the_page_of_statements_says_what_the_code_says() -> None:
    assert (ROOT / "docs/explanation/statements.md").read_text() == made_by("make_statements").page()


def test_every_page_is_found_from_the_readme() -> None:
    linked = set(re.findall(r"\]\((docs/[^)#:]+)\)", PAGES[0].read_text()))
    decisions = ROOT / "docs/explanation/decisions"
    linked |= {
        f"docs/explanation/decisions/{name}"
        for name in re.findall(r"\]\((\S+)\)", (decisions / "index.md").read_text())
    }
    assert [name for page in PAGES[1:] if (name := str(page.relative_to(ROOT))) not in linked] == []


def test_every_page_is_a_part_of_the_site() -> None:
    index = (ROOT / "docs/index.md").read_text()
    pages = [str(page.relative_to(ROOT / "docs").with_suffix("")) for page in PAGES[1:]]
    assert [name for name in pages if "decisions/" not in name and name not in {"index", *index.splitlines()}] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_of_the_documentation_leads_to_a_file(page: pathlib.Path) -> None:
    targets = list(re.findall(r"\]\(([^)#:]+)\)", page.read_text()))
    assert [target for target in targets if not (page.parent / target).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_line_of_the_documentation_is_understood(page: pathlib.Path) -> None:
    for block in blocks(page, "console"):
        for line in block.splitlines():
            if match := re.match(r"python manage\.py (runworker|runbeat|djtasks)\b([^#]*)", line):
                parser = load_command_class("djtasks", match[1]).create_parser("manage.py", match[1])
                parser.parse_args(match[2].split())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_settings_snippet_is_free_of_problems(page: pathlib.Path) -> None:
    for block in blocks(page, "python"):
        if block.startswith("DJTASKS"):
            found: dict[str, Any] = {}
            exec(block, found)  # noqa: S102 -- our own documentation
            assert problems(found["DJTASKS"]) == []


@pytest.fixture
def registry() -> Iterator[None]:
    """What a page defines and sets is forgotten after it."""
    before, state, periodic = dict(tasks), layers.state(), codeschedules.state()
    yield
    codeschedules.restore(periodic)
    tasks.clear()
    tasks.update(before)
    appstate.set_current(None)
    layers.restore(state)
    reread()


@pytest.fixture
def space() -> dict[str, Any]:
    """What the snippets speak of without having made it: models, tasks and functions of the reader's."""
    said: list[tuple[str, int]] = []

    def task(name: str) -> Any:
        return shared_task(name=f"reader.{name}")(lambda *args, **kwargs: said.append((name, len(args))))

    return {
        "__name__": "reader",
        "said": said,
        "AsyncResult": AsyncResult,
        "Order": Order,
        "download": lambda *args, **kwargs: b"",
        "first": AsyncResult(new_task_id()),
        "second": AsyncResult(new_task_id()),
        **{name: task(name) for name in ("audit", "export", "page_somebody", "send_receipt")},
    }


def run(page: pathlib.Path, space: dict[str, Any]) -> int:
    """Run the snippets of a page one after the other, as one module; returns how many there are."""
    found = [block for block in blocks(page, "python") if not block.startswith("DJTASKS")]
    ours = {"default": {"BACKEND": "djtasks.backends.PostgresBackend", "QUEUES": []}}
    with override_settings(DJTASKS={"TASK_ALWAYS_EAGER": True, "TASK_STORE_EAGER_RESULT": True}, TASKS=ours):
        for block in found:
            block = block.replace("range(100_000)", "range(100)").replace("from django.tasks", f"from {PACKAGE}")
            # The name of the page in tracebacks.
            exec(compile(block, str(page), "exec"), space)  # noqa: S102
    return len(found)


@pytest.mark.usefixtures("registry")
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("page", PAGES[1:], ids=lambda page: page.name)
def test_the_snippets_of_a_page_run(page: pathlib.Path, space: dict[str, Any]) -> None:
    run(page, space)


@pytest.mark.usefixtures("registry")
@pytest.mark.django_db(transaction=True)
def test_the_snippets_of_the_calling_guide_call_what_they_say(space: dict[str, Any]) -> None:
    assert run(ROOT / "docs/guide/calling.md", space) >= 3
    assert sorted(space["said"]) == [("audit", 1), ("page_somebody", 0), ("send_receipt", 1)]


@pytest.mark.django_db(transaction=True)
def test_the_quick_start_of_the_readme_works_in_a_new_project(tmp_path: pathlib.Path, database_url: str) -> None:
    settings, tasks = re.split(r"# shop/tasks\.py.*\n", blocks(ROOT / "README.md", "python")[0])
    tasks, view = re.split(r"# shop/views\.py\n", tasks)
    run = lambda *command: subprocess.run(  # noqa: E731
        command, cwd=tmp_path, env=env, check=True, capture_output=True, text=True, timeout=60
    )
    env = {key: value for key, value in os.environ.items() if key not in {"DJANGO_SETTINGS_MODULE", "EXTRA_APPS"}}
    run(sys.executable, "-m", "django", "startproject", "mysite", ".")
    run(sys.executable, "-m", "django", "startapp", "shop")
    config = tmp_path / "mysite" / "settings.py"
    config.write_text(
        config.read_text()
        + "\nimport environ\nDATABASES = {'default': environ.Env().db('DATABASE_URL')}\n"
        + settings.replace("...", "*INSTALLED_APPS, 'shop'")
    )
    (tmp_path / "shop" / "tasks.py").write_text(tasks.replace("...", "return f'receipt {order_id}'"))
    run(sys.executable, "manage.py", "migrate", "djtasks")
    worker = subprocess.Popen(
        [sys.executable, "manage.py", "runworker", "-l", "INFO"], cwd=tmp_path, env=env, stdout=subprocess.DEVNULL
    )
    try:
        call = view.splitlines()[0].partition("#")[0].replace("order.pk", "7").strip()
        answer = run(
            sys.executable,
            "manage.py",
            "shell",
            "-c",
            f"from shop.tasks import send_receipt; print({call}.get(timeout=30))",
        )
        assert "receipt 7" in answer.stdout
    finally:
        worker.terminate()
        assert worker.wait(timeout=30) == 0
