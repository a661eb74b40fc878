"""`djtasks report`: what is worth to be told beside the description of a fault."""

import argparse
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from djtasks.appstate import current_app
from djtasks.cli.output import Say, add_json, age, as_json, table
from djtasks.conf import settings
from djtasks.db import health
from djtasks.db.connections import borrow, listens
from djtasks.registry import tasks

HELP = "Versions, settings without secrets, the database and the workers: for the report of a fault."


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """`--json`."""
    add_json(parser)


def run(given: Mapping[str, Any], say: Say) -> int:
    """Say it."""
    conn = borrow()
    server, nodes = health.server(conn), health.nodes(conn)
    facts = {
        "database": f"{settings.DATABASE} (PostgreSQL {server.version}, {conn.vendor})",
        "connections": server.listening,
        "listens": listens(),
        "migration": server.migrations,
        "tasks": len(tasks.names()),
    }
    if given.get("json"):
        software = {name: version(name) for name in ("djtasks", "Django", "psycopg")}
        workers = [node._asdict() for node in nodes]
        changed = current_app.conf.humanize().splitlines()
        say(as_json({"software": software, **facts, "settings": changed, "workers": workers}))
        return 0
    say(current_app.bugreport())
    for name, value in facts.items():
        say(f"{name} -> {value}")
    say("workers ->")
    shown = [(node.name, node.pool, node.concurrency, age(node.age), ",".join(node.queues)) for node in nodes]
    say(table(("node", "pool", "concurrency", "last heartbeat", "queues"), shown) if shown else "none")
    return 0
