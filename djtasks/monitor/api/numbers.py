"""What Prometheus reads of the whole site, and what a probe asks."""

from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.views.decorators.csrf import csrf_exempt

from djtasks import metrics
from djtasks.conf import settings
from djtasks.db import measures
from djtasks.db.connections import borrow
from djtasks.monitor.api.callers import caller
from djtasks.monitor.api.entry import NotThis, check_method, inert, told
from djtasks.monitor.respond import Problem

#: Seconds that a statement of the page may take.
PATIENCE = 3.0
_TEXT = "text/plain; charset=utf-8"


@transaction.non_atomic_requests
@csrf_exempt
def page(request: HttpRequest) -> HttpResponse:
    """The metrics, for anybody with MONITOR_METRICS, else for staff and tokens that may view workers."""
    try:
        with told():
            check_method(request, "GET")
            if not settings.MONITOR_METRICS:
                by = caller(request)
                if not (by.may("view_worker") or by.may("change_worker")):
                    raise Problem("This needs the permission djtasks.view_worker, or MONITOR_METRICS.", 403)
            if (why := metrics.missing()) is not None:
                raise Problem(why, 503)
            conn = borrow()
            with transaction.atomic(using=conn.alias):
                measures.bound(conn, PATIENCE)
                text = metrics.render(metrics.collect(conn))
    except Problem as error:
        return refusal(error)
    return inert(HttpResponse(text, content_type=metrics.CONTENT_TYPE))


@transaction.non_atomic_requests
@csrf_exempt
def healthcheck(request: HttpRequest) -> HttpResponse:
    """OK: the monitor answers. Nobody's database is asked."""
    try:
        check_method(request, "GET")
    except Problem as error:
        return refusal(error)
    return inert(HttpResponse("OK", content_type=_TEXT))


def refusal(error: Problem) -> HttpResponse:
    """What is wrong, as a text."""
    made = inert(HttpResponse(error.text + "\n", status=error.status, content_type=_TEXT))
    if error.status == 401:
        made["WWW-Authenticate"] = 'Bearer realm="djtasks"'
    if isinstance(error, NotThis):
        made["Allow"] = error.allowed
    return made
