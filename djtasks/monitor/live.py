"""Live parts of pages: made once a second at the most, whoever and however many ask for the same, and not sent again to
a browser that has it.
"""

import hashlib
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Generic, TypeVar

from django.http import HttpRequest, HttpResponse, HttpResponseNotModified
from django.urls import get_script_prefix
from django.utils.timezone import get_current_timezone_name
from django.utils.translation import get_language

#: Seconds for which a part is good.
GOOD_FOR = 1.0
#: More parts are not kept.
MOST = 256

T = TypeVar("T")


class Kept(Generic[T]):
    """Values by key, each good for so many seconds; one thread at a time makes one, and the others wait for it."""

    def __init__(self, seconds: float, most: int = MOST) -> None:
        self.seconds = seconds
        self.most = most
        self._values: OrderedDict[Hashable, tuple[float, T]] = OrderedDict()
        self._locks: dict[Hashable, threading.Lock] = {}
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The value of this key; made if there is none that is good. Raises what `make` raises."""
        with self._lock:
            if (found := self._fresh(key)) is not None:
                return found[1]
            lock = self._locks.setdefault(key, threading.Lock())
        try:
            with lock:
                with self._lock:
                    if (found := self._fresh(key)) is not None:
                        return found[1]
                made = make()
                with self._lock:
                    self._values[key] = (time.monotonic() + self.seconds, made)
                    self._values.move_to_end(key)
                    while len(self._values) > self.most:
                        self._values.popitem(last=False)
                return made
        finally:
            with self._lock:
                self._locks.pop(key, None)

    def clear(self) -> None:
        """Forget all: for tests, and after something was done here."""
        with self._lock:
            self._values.clear()

    def _fresh(self, key: Hashable) -> tuple[float, T] | None:
        found = self._values.get(key)
        return found if found is not None and found[0] > time.monotonic() else None


parts: Kept[tuple[str, bytes]] = Kept(GOOD_FOR)


def permissions(request: HttpRequest) -> Hashable:
    """What the user may do with us: who may do the same sees the same."""
    user: Any = request.user
    if user.is_superuser:
        return "all"
    return frozenset(name for name in user.get_all_permissions() if name.startswith("djtasks."))


def answer(request: HttpRequest, make: Callable[[], HttpResponse]) -> HttpResponse:
    """The live part, or that the browser has it."""
    key = (
        request.path,
        request.GET.urlencode(),
        permissions(request),
        get_language(),
        get_current_timezone_name(),
        get_script_prefix(),
    )

    def made() -> tuple[str, bytes]:
        body = make().content
        return f'"{hashlib.sha256(body).hexdigest()[:32]}"', body

    tag, body = parts.get(key, made)
    found = HttpResponseNotModified() if tag in request.headers.get("If-None-Match", "") else HttpResponse(body)
    found["ETag"] = tag
    # A browser keeps it, and asks each time whether it is still right.
    found["Cache-Control"] = "private, no-cache"
    found["Vary"] = "Cookie, Accept-Language"
    return found
