"""A very small browser: keeps cookies, and sends forms with the token that protects them."""

import json
from html.parser import HTMLParser
from http.cookiejar import CookieJar
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode, urljoin
from urllib.request import HTTPCookieProcessor, ProxyHandler, Request, build_opener

TIMEOUT = 60


class Browser:
    """Visits the pages of one site."""

    def __init__(self, site: str) -> None:
        self.site = site
        # A proxy of the environment is for the world outside; the site is on this machine.
        self._opener = build_opener(ProxyHandler({}), HTTPCookieProcessor(CookieJar()))

    def get(self, path: str) -> str:
        """The text of a page. Raises OSError when the site cannot be reached or refuses."""
        return self._open(Request(urljoin(self.site, path)))[1]  # noqa: S310 -- the scheme is ours

    def get_json(self, path: str) -> Any:
        """The data behind an address."""
        return json.loads(self.get(path))

    def submit(self, path: str, **fields: str) -> tuple[str, str]:
        """Fill in and send the form of a page; the address that it leads to, and the page there."""
        form = _Form()
        form.feed(self.get(path))
        address = urljoin(self.site, path)
        data = urlencode({**form.hidden, **fields}).encode()
        return self._open(Request(address, data, {"Referer": address}))  # noqa: S310 -- the scheme is ours

    def _open(self, request: Request) -> tuple[str, str]:
        try:
            with self._opener.open(request, timeout=TIMEOUT) as answer:
                return answer.url, answer.read().decode()
        except HTTPError as error:
            raise OSError(f"{request.full_url} answered {error.code}: {error.read(2000).decode()}") from error


class _Form(HTMLParser):
    """The hidden fields of a page, with their values."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden: dict[str, str] = {}

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "input" and found.get("type") == "hidden":
            self.hidden[found.get("name") or ""] = found.get("value") or ""
