"""The app's configuration."""

from django.apps import AppConfig


class CensusConfig(AppConfig):
    """Code census."""

    name = "testproject.census"
    verbose_name = "Code census"
