"""What a worker says when it starts."""

import platform
import sys
from collections.abc import Iterable

import djtasks
from djtasks.worker.options import WorkerOptions


def banner(options: WorkerOptions, database: str, tasks: Iterable[str]) -> str:
    """Celery's start-up banner: who, where, how many, which queues, which tasks."""
    limits = f"{options.soft_time_limit or '-'} soft, {options.time_limit or '-'} hard (seconds)"
    size = str(options.concurrency)
    if options.autoscale is not None:
        size = f"{{min={options.autoscale[1]}, max={options.autoscale[0]}}}"
    lines = [
        "",
        f" -------------- {options.hostname} v{djtasks.__version__}",
        f" -- {platform.platform()}, Python {platform.python_version()}",
        "",
        " -- [config]",
        f" .> database:    {database}",
        f" .> concurrency: {size} ({options.pool})",
        f" .> time limits: {limits}",
        "",
        " -- [queues]",
        *(f" .> {queue}" for queue in options.queues),
        "",
        " [tasks]",
        *(f"   . {name}" for name in sorted(tasks) if not name.startswith(("celery.", "djtasks."))),
        "",
    ]
    return "\n".join(lines)


def say(text: str) -> None:
    """To the terminal, whatever is done with the log and the standard streams."""
    stream = sys.__stdout__
    if stream is not None:
        stream.write(f"{text}\n")
        stream.flush()
