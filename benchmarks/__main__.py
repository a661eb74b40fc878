"""`python -m benchmarks`: measure djtasks on this machine."""

import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.options import parse
from benchmarks.report import as_data, heading, table, write
from benchmarks.run import Run
from benchmarks.screen import Screen

INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what was asked for; 0 when all of it could be."""
    options = parse(arguments)
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    screen = Screen()
    with tempfile.TemporaryDirectory(prefix="djtasks-bench-") as folder, Run(options, screen, Path(folder)) as run:
        if options.celery:
            run.meet_celery()
        facts = run.facts()
        print(heading(facts), flush=True)
        run.measure()
    print(f"\n{table(run.samples)}\n")
    for title, reason in run.failures.items():
        print(f"Not measured: {title}: {reason}")
    write(options.json, as_data(facts, run.samples, run.failures))
    print(f"All samples are in {options.json}")
    return 1 if run.failures else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("Interrupted; everything that was started has been stopped.", file=sys.stderr)
        sys.exit(INTERRUPTED)
