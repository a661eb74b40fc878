"""The way in to each address of the API: who asks, how much they send, and what an answer looks like."""

import functools
import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import psycopg
from django.core.exceptions import RequestDataTooBig, SuspiciousOperation
from django.db import DatabaseError, InterfaceError, OperationalError, transaction
from django.http import HttpRequest, HttpResponse, UnreadablePostError
from django.http.multipartparser import MultiPartParserError
from django.utils.encoding import escape_uri_path
from django.views.decorators.csrf import csrf_exempt

from djtasks.conf import settings
from djtasks.conf.kinds import is_storable
from djtasks.db.timeouts import TooSlow
from djtasks.exceptions import OperationalError as Unreachable
from djtasks.exceptions import safe_repr
from djtasks.monitor.api.callers import Caller, caller
from djtasks.monitor.respond import Problem

logger = logging.getLogger("djtasks.monitor")

#: The longest name of a worker, task or queue that is looked for, and the longest id.
LONGEST: Final = 1000
_YES, _NO = ("true", "1", "yes", "on"), ("false", "0", "no", "off", "")


class NotThis(Problem):
    """The method is none of those that an address answers to."""

    def __init__(self, text: str, allowed: str) -> None:
        super().__init__(text, 405)
        self.allowed = allowed


class Answer(NamedTuple):
    """What is answered."""

    data: Any
    status: int = 200
    headers: Mapping[str, str] = {}


class Asked:
    """A request, by whom it is made, and what is said in it: in its address, and in its body."""

    def __init__(self, request: HttpRequest, by: Caller) -> None:
        self.request = request
        self.by = by
        self._said: dict[str, Any] = dict(request.GET.items())
        if request.method == "POST":
            self._said |= self._in_body()

    def _in_body(self) -> Mapping[str, Any]:
        body = _body(self.request)
        # `curl -d '{…}'` says that it sends a form.
        if self.request.content_type == "application/json" or body.lstrip()[:1] == b"{":
            return as_object(body)
        return dict(self.request.POST.items())

    def object(self) -> dict[str, Any]:
        """The body, a JSON object; nothing is an empty one. Raises Problem."""
        return as_object(_body(self.request))

    def text(self, name: str) -> str:
        """What is said of this, as text; empty when nothing is. Raises Problem."""
        found = self._said.get(name)
        if found is None:
            return ""
        if isinstance(found, bool):
            return "true" if found else "false"
        if not isinstance(found, str | int | float):
            raise Problem(f"{name} must be a text, and not an array or an object.")
        return storable(name, str(found))

    def wanted(self, name: str) -> str:
        """The same, of what must be said."""
        if not (found := self.text(name)):
            raise Problem(f"Say {name}: in the address (?{name}=…), in a form or in a JSON object.")
        return found

    def flag(self, name: str) -> bool:
        """Whether it is to be so. Raises Problem."""
        found = self.text(name).lower()
        if found not in _YES and found not in _NO:
            raise Problem(f"{name} must be true or false, not {safe_repr(found, 100)}.")
        return found in _YES

    def whole(self, name: str, default: int, least: int, most: int) -> int:
        """A whole number in this range. Raises Problem."""
        text = self.text(name)
        if not text:
            return default
        digits = text.removeprefix("-")
        if digits.isascii() and digits.isdigit() and len(digits) < 19 and least <= int(text) <= most:
            return int(text)
        raise Problem(f"{name} must be a whole number from {least} to {most}, not {safe_repr(text, 100)}.")

    def seconds(self, name: str) -> float | None:
        """A number; None where nothing is said. Raises Problem."""
        text = self.text(name)
        if not text:
            return None
        try:
            found = float(text)
        except ValueError:
            found = math.nan
        if not math.isfinite(found):
            raise Problem(f"{name} must be a number of seconds, not {safe_repr(text, 100)}.")
        return found

    def must(self, *codenames: str) -> None:
        """Raise Problem unless all of this is permitted."""
        for codename in codenames:
            if not self.by.may(codename):
                raise Problem(f"This needs the permission djtasks.{codename}.", 403)

    def sees(self, model: str) -> bool:
        """Whether the rows of a model may be seen: whoever may change them may, as in the admin."""
        return self.by.may(f"view_{model}") or self.by.may(f"change_{model}")


def storable(name: str, text: str) -> str:
    """A text by which something is looked for. Raises Problem."""
    if len(text) > LONGEST or not is_storable(text):
        raise Problem(f"{name} must be a text of {LONGEST} characters at most, without NUL and halves of pairs.")
    return text


def as_object(body: bytes) -> dict[str, Any]:
    """The JSON object in a body; nothing is an empty one. Raises Problem."""
    try:
        found = json.loads(body) if body.strip() else {}
    except (ValueError, RecursionError) as error:
        raise Problem(f"The body must be a JSON object, and cannot be read: {safe_repr(str(error), 200)}") from None
    if not isinstance(found, dict):
        raise Problem('The body must be a JSON object, as {"args": [1, 2]}.')
    return found


def _body(request: HttpRequest) -> bytes:
    """The body. Raises Problem for a longer one than may be."""
    most = settings.MONITOR_API_MAX_BYTES
    text = f"The request is over {most:,} bytes (MONITOR_API_MAX_BYTES): send less, or raise the setting."
    try:
        if int(request.META.get("CONTENT_LENGTH") or 0) > most or len(request.body) > most:
            raise Problem(text, 413)
        return request.body
    except RequestDataTooBig:
        raise Problem("The request is over DATA_UPLOAD_MAX_MEMORY_SIZE of Django's settings: send less.", 413) from None
    except (UnreadablePostError, ValueError):
        raise Problem("The request ended before its body did: send it again.") from None


def request_path(request: HttpRequest) -> str:
    """What was asked, on one line of the log."""
    return escape_uri_path(request.path)[:500]


View = Callable[..., Answer]


def answers(method: str, *models: str, needs: Sequence[str] = ()) -> Callable[[View], Callable[..., HttpResponse]]:
    """An address that answers to GET, or to POST: to those who may see one of these models, or have all of `needs`."""

    def decorate(view: View) -> Callable[..., HttpResponse]:
        @functools.wraps(view)
        def enter(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            try:
                found = _enter(request, lambda asked: view(asked, *args, **kwargs))
            except Problem as error:
                return _refusal(error)
            return answer(found)

        def _enter(request: HttpRequest, go: Callable[[Asked], Answer]) -> Answer:
            with told():
                if not settings.MONITOR_API:
                    raise Problem("The monitor's API is off: set MONITOR_API to True in DJTASKS.", 404)
                if request.method == "POST":
                    # Before anybody else reads it.
                    _body(request)
                by = caller(request)
                check_method(request, method)
                asked = Asked(request, by)
                asked.must(*needs)
                if models and not any(asked.sees(model) for model in models):
                    names = " or ".join(f"djtasks.view_{model}" for model in models)
                    raise Problem(f"This needs the permission {names}.", 403)
                if method == "POST" and settings.MONITOR_READ_ONLY:
                    raise Problem("The monitor only shows: the setting MONITOR_READ_ONLY is on.", 403)
                found = go(asked)
                if method == "POST":
                    logger.info("%s, by the monitor's API: %s (%d)", by.name, request_path(request), found.status)
                return found

        enter.method, enter.models, enter.needs = method, models, tuple(needs)  # type: ignore[attr-defined]
        # What is called runs in transactions of its own, and a token is sent by no form.
        return transaction.non_atomic_requests(csrf_exempt(enter))

    return decorate


def check_method(request: HttpRequest, method: str) -> None:
    """Raise Problem for another method."""
    allowed = ("GET", "HEAD") if method == "GET" else ("POST",)
    if request.method not in allowed:
        text = f"This address answers to {method}, and not to {safe_repr(request.method, 20)}."
        raise NotThis(text, ", ".join(allowed))


class told:
    """Whatever a database or a client does is told as a Problem."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, TooSlow):
            text = "This search takes too long: narrow it, by received_start, by a state, or by root_id: in the search."
            raise Problem(text) from None
        if isinstance(error, psycopg.OperationalError | OperationalError | InterfaceError | Unreachable):
            logger.warning("The monitor's API cannot reach the database: %s", error)
            raise Problem("The database cannot be reached, or gives up: try again later.", 503) from None
        if isinstance(error, psycopg.DataError | DatabaseError):
            logger.exception("The database refuses a request to the monitor's API", exc_info=error)
            raise Problem("The database refuses this: say it in another way.") from None
        if isinstance(error, SuspiciousOperation | MultiPartParserError | UnreadablePostError):
            raise Problem(f"The request cannot be read: {safe_repr(str(error), 200)}") from None


def _refusal(error: Problem) -> HttpResponse:
    headers = {"Allow": error.allowed} if isinstance(error, NotThis) else {}
    if error.status == 401:
        headers["WWW-Authenticate"] = 'Bearer realm="djtasks"'
    return answer(Answer({"error": error.text}, error.status, headers))


def answer(found: Answer) -> HttpResponse:
    """JSON that nobody keeps, and no browser takes for a page."""
    try:
        body = json.dumps(found.data, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        body = json.dumps(as_json(found.data))
    made = HttpResponse(body, status=found.status, content_type="application/json", headers=dict(found.headers))
    return inert(made)


def inert(made: HttpResponse) -> HttpResponse:
    """An answer that nobody keeps, and no browser takes for a page."""
    made["Cache-Control"] = "private, no-store"
    made["X-Content-Type-Options"] = "nosniff"
    made["Content-Security-Policy"] = "default-src 'none'; frame-ancestors 'none'"
    return made


def as_json(value: Any) -> Any:
    """What JSON can say of this: what it cannot, as its repr."""
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        if isinstance(value, dict):
            return {str(key): as_json(each) for key, each in value.items()}
        return safe_repr(value, 10_000)
    return value
