"""The addresses of the live monitor, where the admin is installed, and of `djtasks.views`, whose names are those of
django-celery-results.
"""

from django.apps import apps
from django.urls import include, path

from djtasks import views

urlpatterns = [
    # Staff log in through the admin, which keeps what they have done.
    *(
        [path("", include("djtasks.monitor.urls")), path("", include("djtasks.monitor.api.urls"))]
        if apps.is_installed("django.contrib.admin")
        else []
    ),
    path("<str:task_id>/done/", views.is_task_successful, name="celery-is_task_successful"),
    path("<str:task_id>/status/", views.task_status, name="celery-task_status"),
    path("registered/", views.registered_tasks, name="celery-registered_tasks"),
]
