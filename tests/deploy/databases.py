"""Databases of one's own, and addresses of theirs with options."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import quote

import psycopg
from psycopg import sql

from djtasks import delivery, waiting
from tests.worker.running import django_at


@contextmanager
def database_beside(url: str) -> Iterator[str]:
    """An empty database on the same server; its address."""
    name = f"deploy_{uuid.uuid4().hex}"
    base, _, _ = url.partition("?")
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        try:
            yield f"{base.rpartition('/')[0]}/{name}"
        finally:
            conn.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def with_options(url: str, **options: str) -> str:
    """The address with entries of OPTIONS."""
    return url + "?" + "&".join(f"{name}={quote(value)}" for name, value in options.items())


@contextmanager
def at(url: str) -> Iterator[None]:
    """Point Django at another address, and with it the sessions that djtasks itself keeps in this process."""
    waiting.close()
    delivery.close()
    with django_at(url):
        try:
            yield
        finally:
            waiting.close()
            delivery.close()
