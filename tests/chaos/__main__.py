"""`python -m tests.chaos [--short|--long] [--only NAME] [--write FILE]`: exits with 1 when a bound is broken."""

import argparse
import shutil
import signal
import sys
import time
from pathlib import Path

from tests.chaos.report import Row, page, rewrite, surroundings, table
from tests.chaos.run import LONG, SHORT, play
from tests.chaos.scenarios import BY_NAME, SCENARIOS
from tests.chaos.site import site
from tests.servers import chosen


def main() -> int:
    """Play the scenarios, print the table."""
    options = arguments()
    timing = LONG if options.long else SHORT
    names = options.only or [scenario.name for scenario in SCENARIOS]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    rows: list[Row] = []
    with site(chosen()) as ground:
        server = ground.version
        print(surroundings(timing, server), flush=True)
        for name in names:
            began = time.monotonic()
            row = play(ground, BY_NAME[name], timing)
            rows.append(row)
            fine = "fine" if not row.problems else "BROKEN"
            print(f"{name}: {fine} in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
            for problem in row.problems:
                print(f"  {problem}", file=sys.stderr, flush=True)
            if options.keep and row.problems:
                shutil.copytree(ground.folder / name, options.keep / name, dirs_exist_ok=True)
    print(table(rows))
    if options.write:
        rewrite(options.write, "faults", page(rows, timing, server))
    broken = [row.scenario.name for row in rows if row.problems]
    if broken:
        print(f"Broken: {', '.join(broken)}", file=sys.stderr)
    return 1 if broken else 0


def arguments() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--short", action="store_true", help="a few seconds each (the default)")
    length.add_argument("--long", action="store_true", help="about a minute each")
    parser.add_argument("--only", action="append", choices=list(BY_NAME), metavar="NAME", help="one of: %(choices)s")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the page of the documentation")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep logs and audit of what was broken there")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
