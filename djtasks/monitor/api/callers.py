"""Who speaks to the API: somebody who is logged in, or a token."""

import hmac
import logging
from collections.abc import Callable
from typing import Any, NamedTuple

from django.core.exceptions import ObjectDoesNotExist
from django.db import DatabaseError, InterfaceError
from django.http import HttpRequest
from django.middleware.csrf import CsrfViewMiddleware
from django.utils.module_loading import import_string

from djtasks.conf import settings
from djtasks.conf.monitor_tokens import digest, permitted
from djtasks.monitor.respond import Problem

logger = logging.getLogger("djtasks.monitor")
#: The longest header that is looked at.
LONGEST = 1000


class Caller(NamedTuple):
    """Who asks, and what is permitted."""

    name: str
    #: Whether there is this permission of ours, by its codename.
    may: Callable[[str], bool]


def caller(request: HttpRequest) -> Caller:
    """Who asks. Raises Problem: 401 for nobody and for a token that is none, 403 for a form of another site."""
    header = request.headers.get("Authorization", "")
    if header:
        return _of_token(header, request)
    user: Any = getattr(request, "user", None)
    if user is None or not (user.is_active and user.is_staff):
        raise Problem("Log in as staff, or send a token: Authorization: Bearer <token of MONITOR_API_TOKENS>.", 401)
    if request.method not in ("GET", "HEAD") and (why := _Csrf(_no_view).refused(request)) is not None:
        text = "Send the CSRF token of your session in the header X-CSRFToken, or use a token of MONITOR_API_TOKENS"
        raise Problem(f"{text}: {why}", 403)
    return _of_user(user)


def _of_user(user: Any) -> Caller:
    return Caller(str(user), lambda codename: bool(user.has_perm(f"djtasks.{codename}")))


def _of_token(header: str, request: HttpRequest) -> Caller:
    scheme, _blank, token = header.partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or not token or len(header) > LONGEST:
        raise Problem("The header Authorization must be: Bearer <token of MONITOR_API_TOKENS>.", 401)
    tokens = settings.MONITOR_API_TOKENS
    found = _asked(tokens, token) if isinstance(tokens, str) or callable(tokens) else _listed(tokens, token)
    if found is None:
        address = request.META.get("REMOTE_ADDR", "")
        logger.warning("The monitor's API was asked with a token that is none of MONITOR_API_TOKENS, from %s", address)
        raise Problem("This token is none of MONITOR_API_TOKENS: it is wrong, or was taken back.", 401)
    return found


def _listed(tokens: Any, token: str) -> Caller | None:
    """The one of these tokens. All are compared, and each in the same time, whatever was sent."""
    sent, found = digest(token), None
    for name, each in tokens.items():
        if hmac.compare_digest(sent, each.sha256):
            found = Caller(name, each.permissions.__contains__)
    return found


def _asked(tokens: Any, token: str) -> Caller | None:
    """What the project's own function says of a token."""
    try:
        said = (import_string(tokens.replace(":", ".")) if isinstance(tokens, str) else tokens)(token)
        if said is None:
            return None
        if hasattr(said, "has_perm"):
            return _of_user(said) if said.is_active else None
        return Caller(str(said["name"]), permitted(said["permissions"], repr(said["name"])).__contains__)
    except ObjectDoesNotExist:
        # A function that looks for the token in a table.
        return None
    except (DatabaseError, InterfaceError):
        raise
    except Exception as error:
        # Its text may have the token in it.
        logger.error("MONITOR_API_TOKENS is a function that cannot be asked: %s", type(error).__name__)
        text = "MONITOR_API_TOKENS is a function that is not there, fails, or gives no user, dict or None: mend it."
        raise Problem(text, 503) from None


class _Csrf(CsrfViewMiddleware):
    """Django's own check, to be asked where a session and no token speaks."""

    def refused(self, request: HttpRequest) -> str | None:
        """Why the request may be a form of another site; None when it is not."""
        self.process_request(request)
        found: Any = self.process_view(request, _no_view, (), {})
        return None if found is None else str(found)

    def _reject(self, request: HttpRequest, reason: str) -> Any:
        return reason


def _no_view(*args: Any) -> Any:
    """Stands for a view that is not exempt; nobody calls it."""
    return args
