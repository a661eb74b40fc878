"""The addresses of the census."""

from django.urls import path

from testproject.census import views

urlpatterns = [
    path("", views.index, name="index"),
    path("scans/<int:pk>/", views.scan, name="scan"),
    path("scans/<int:pk>/progress.json", views.progress, name="progress"),
]
