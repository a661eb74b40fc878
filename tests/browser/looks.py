"""How a page looks to those who do not see it as its maker did: in the dark, on a telephone, with a screen reader."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.browser.conftest import Visitor

#: What WCAG 2.2 asks for at AA, and what axe calls good practice besides.
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
#: How much of a page its picture shows.
SHOWN = {"overview": 900, "workers": 240, "queues": 400, "tasks": 560, "schedules": 660, "limits": 300, "letters": 420}
SHOWN |= {"worker": 900, "task": 900}
PHONE, DESK, WIDE = 375, 1280, 2560
#: Tells of what the page's Content-Security-Policy has forbidden: a visitor's errors have it then.
WATCH = """
    document.addEventListener("securitypolicyviolation", (event) => {
        console.error("CSP: " + event.violatedDirective + " " + event.blockedURI);
    });
"""


@functools.cache
def _axe() -> str:
    package = pytest.importorskip("axe_playwright_python", reason="NO ACCESSIBILITY TESTS: axe is not installed")
    return (Path(package.__file__).parent / "axe.min.js").read_text("utf-8")


def barriers(page: Any, *rules: str) -> list[str]:
    """What axe finds wrong with the page; by these rules alone, if any are named."""
    if not page.evaluate("Boolean(window.axe)"):
        page.evaluate(_axe())
    only = {"type": "rule", "values": list(rules)} if rules else {"type": "tag", "values": RULES}
    found = page.evaluate(
        "(only) => axe.run(document, {runOnly: only, resultTypes: ['violations']}).then((found) => found.violations)",
        only,
    )
    return [
        f"{each['id']}: {each['help']}: {node['html'][:200]} {' '.join(any_['message'] for any_ in node['any'])[:200]}"
        for each in found
        for node in each["nodes"]
    ]


def too_wide(page: Any) -> list[str]:
    """What makes the page scroll sideways."""
    found: list[str] = page.evaluate("""
        () => {
            const width = document.documentElement.clientWidth;
            if (document.documentElement.scrollWidth <= width) return [];
            return Array.from(document.querySelectorAll("body *"))
                .filter((each) => each.getBoundingClientRect().right > width + 1 && !each.closest(".scroll"))
                .map((each) => each.outerHTML.slice(0, 120));
        }
    """)
    return found


def faults(page: Any) -> dict[str, list[str]]:
    """What is wrong with the page that is open, on any screen and in any light; nothing, if all is well."""
    found = {"light": barriers(page)}
    page.emulate_media(color_scheme="dark")
    found["dark"] = barriers(page, "color-contrast")
    for width in (PHONE, WIDE):
        page.set_viewport_size({"width": width, "height": 900})
        found[f"{width} px"] = too_wide(page)
    page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": DESK, "height": 900})
    return {where: wrong for where, wrong in found.items() if wrong}


def wrong_with(visitor: Visitor, addresses: Mapping[str, str]) -> str:
    """What is wrong with these pages; nothing, if all is well."""
    wrong = {}
    for name, path in addresses.items():
        visitor.go(path)
        if name in SHOWN:
            visitor.picture(f"monitor-{name}", SHOWN[name])
        if found := faults(visitor.page):
            wrong[name] = found
        assert visitor.page.evaluate("window.hit") is None
        assert visitor.page.locator("img[src=x]").count() == 0
    return "\n".join(
        f"{name}, {where}: {each}" for name, found in wrong.items() for where in found for each in found[where]
    )
