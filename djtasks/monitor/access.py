"""Who may see a page of the monitor, and act there; what everybody else is told."""

import functools
from collections.abc import Callable, Collection
from typing import Any

from django.conf import settings as django_settings
from django.contrib.auth.views import redirect_to_login
from django.db import connections, transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import resolve_url
from django.urls import NoReverseMatch, reverse
from django.utils.translation import gettext as _
from django.views.decorators.csrf import csrf_protect

from djtasks.conf import settings
from djtasks.monitor import live
from djtasks.monitor.respond import Problem, guarded, is_live, problem

View = Callable[..., HttpResponse]
SAFE = ("GET", "HEAD")
#: Whoever may see rows of one of these may enter the overview.
ANY = ("worker", "queue", "message", "result")


def may(request: HttpRequest, codename: str) -> bool:
    """Whether the user has this permission of ours."""
    user: Any = request.user
    return bool(user.has_perm(f"djtasks.{codename}"))


def may_see(request: HttpRequest, model: str) -> bool:
    """Whether the user may see the rows of a model: as in the admin, whoever may change them may see them."""
    return may(request, f"view_{model}") or may(request, f"change_{model}")


def may_do(request: HttpRequest, codename: str) -> bool:
    """Whether the user may do what this permission is for, here."""
    return not settings.MONITOR_READ_ONLY and may(request, codename)


def must_be_able(request: HttpRequest, codename: str) -> None:
    """Raise Problem unless the user may do it."""
    if settings.MONITOR_READ_ONLY:
        raise Problem(_("The monitor only shows: the setting MONITOR_READ_ONLY is on."), 403)
    if not may(request, codename):
        raise Problem(_("This needs the permission djtasks.%(name)s.") % {"name": codename}, 403)


def page(*models: str, methods: Collection[str] = SAFE) -> Callable[[View], View]:
    """A page for staff who may see one of these models; others log in, or are told what is missing."""

    def decorate(view: View) -> View:
        @functools.wraps(view)
        def enter(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
            user: Any = getattr(request, "user", None)
            if user is None or not (user.is_active and user.is_staff):
                return _to_login(request)
            if request.method not in methods:
                found = problem(request, _("This page does not answer to %s.") % request.method, 405)
                found["Allow"] = ", ".join(methods)
                return found
            try:
                if not any(may_see(request, model) for model in models):
                    names = " / ".join(f"djtasks.view_{model}" for model in models)
                    raise Problem(_("This needs the permission %(names)s.") % {"names": names}, 403)
                if is_live(request) and methods == SAFE:
                    return live.answer(request, lambda: view(request, *args, **kwargs))
                return view(request, *args, **kwargs)
            except Problem as error:
                return problem(request, error.text, error.status)

        found = guarded(csrf_protect(enter))
        for alias in connections:
            # The statements of a page are not a transaction, and some have a timeout of their own.
            found = transaction.non_atomic_requests(using=alias)(found)
        return found

    return decorate


def _to_login(request: HttpRequest) -> HttpResponse:
    if is_live(request):
        # The page as a whole is loaded anew, and leads to the form.
        found = HttpResponse(status=403)
        found["HX-Refresh"] = "true"
        return found
    try:
        url = reverse("admin:login")
    except NoReverseMatch:
        url = resolve_url(django_settings.LOGIN_URL)
    return redirect_to_login(request.get_full_path(), url)
