"""Settings of the test project. Everything that differs from place to place comes from the environment."""

from pathlib import Path
from typing import Any

import environ

env = environ.Env()

BASE_DIR = Path(__file__).resolve().parent.parent

SECRET_KEY = env.str("SECRET_KEY", default="not a secret: this site is for development on one's own machine")
DEBUG = env.bool("DEBUG", default=True)
ALLOWED_HOSTS = ["localhost", "127.0.0.1", "[::1]"]

INSTALLED_APPS = [
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "djtasks",
    "testproject.census",
    *env.list("EXTRA_APPS", default=[]),
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

ROOT_URLCONF = "testproject.urls"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

# Where no server is named, the site brings its own: an embedded PostgreSQL that starts with the first connection.
DATABASES: dict[str, Any] = {
    "default": env.db("DATABASE_URL")
    if env.str("DATABASE_URL", default="")
    else {"ENGINE": "testproject.postgres", "NAME": "postgres", "USER": "postgres"},
}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

#: Where the embedded PostgreSQL keeps its data; one server serves all processes that use the same folder.
POSTGRES_FOLDER = env.path("POSTGRES_FOLDER", default=str(BASE_DIR / ".postgres"))

USE_TZ = True
TIME_ZONE = "UTC"
USE_THOUSAND_SEPARATOR = True
STATIC_URL = "static/"

DJTASKS: dict[str, Any] = env.json("DJTASKS", default={})

# Only where it is asked for: whoever has no TASKS has no use for django.tasks.
if "TASKS" in env:
    TASKS: dict[str, Any] = env.json("TASKS")

#: Seconds that a census task takes longer than it must, so that there is a middle of the way to stop it in.
CENSUS_PAUSE = env.float("CENSUS_PAUSE", default=0.0)

LOGGING: dict[str, Any] = {"version": 1, "disable_existing_loggers": False}
