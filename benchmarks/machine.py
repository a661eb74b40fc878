"""What the figures were measured on and with: they say nothing without it."""

import inspect
import os
import platform
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

import djtasks
from benchmarks.site import Site
from djtasks.outbox import enqueue_many

#: Where the product keeps the sizes of its batches. A name that has moved shows as None, and fails a test.
SIZES = {
    "outcomes of one finish": ("djtasks.worker.flights", "BATCH_SIZE"),
    "seconds until a finish": ("djtasks.worker.flights", "BATCH_AGE"),
    "messages handed to a child": ("djtasks.worker.pools.base", "HANDED_MOST"),
    "seconds of work handed to a child": ("djtasks.worker.pools.base", "HANDED_SECONDS"),
}


def sizes() -> dict[str, Any]:
    """The sizes of the batches and chunks that djtasks works in."""
    chunk = inspect.signature(enqueue_many).parameters["chunk"].default
    found = {title: getattr(import_module(module), name, None) for title, (module, name) in SIZES.items()}
    return {"messages of one INSERT, in bulk": chunk, **found}


def machine() -> dict[str, Any]:
    """The hardware and the system."""
    return {
        "cpu": _cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": psutil.virtual_memory().total,
        "system": platform.platform(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def versions(site: Site) -> dict[str, str]:
    """Of everything that runs."""
    return {
        "djtasks": djtasks.__version__,
        "python": platform.python_version(),
        "django": version("django"),
        "psycopg": version("psycopg"),
        "postgresql": site.version(),
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
