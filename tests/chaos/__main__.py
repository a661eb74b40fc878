"""`python -m tests.chaos [--pool NAME|all] [--only NAME] [--write FILE]`: exits with 1 when a bound is broken."""

import argparse
import shutil
import signal
import sys
import time
from pathlib import Path

from tests.chaos.pools import POOLS, PREFORK, Kind
from tests.chaos.report import Row, nothing, page, rewrite, surroundings, table
from tests.chaos.run import BY_NAME, LIGHTER, LONG, MIDDLE, ORDER, SHORT, play, unfit
from tests.chaos.several import play_all
from tests.chaos.site import Timing, site
from tests.servers import chosen

LENGTHS = {"short": SHORT, "middle": MIDDLE, "long": LONG}


def main() -> int:
    """Play the scenarios, print the table."""
    options = arguments()
    timing = LENGTHS[options.length]
    if timing is MIDDLE and options.pool not in (PREFORK.name, "all"):
        timing = LIGHTER
    if options.seconds is not None:
        timing = timing._replace(seconds=options.seconds)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if options.pool == "all":
        found, server = play_all(sys.argv[1:], options.jobs, options.minutes, options.only or ORDER)
    else:
        rows, server = play_one(options, timing, POOLS[options.pool])
        found = {options.pool: rows}
    for pool, rows in found.items():
        print(f"\n{pool}:\n\n{table(rows)}")
    if options.write:
        part = "faults" if list(found) == [PREFORK.name] else "pools"
        rewrite(options.write, part, page(part, found, timing, server))
    broken = [f"{row.scenario} ({pool})" for pool, rows in found.items() for row in rows if row.problems]
    if broken:
        print(f"Broken: {', '.join(broken)}", file=sys.stderr)
    return 1 if broken else 0


def play_one(options: argparse.Namespace, timing: Timing, kind: Kind) -> tuple[list[Row], str]:
    """The scenarios with one pool, and the server's version."""
    rows: list[Row] = []
    with site(chosen()) as ground:
        server = ground.version
        print(surroundings(timing, server), flush=True)
        for name in options.only or (ORDER if options.rows else BY_NAME):
            began = time.monotonic()
            why = unfit(BY_NAME[name], kind)
            row = nothing(BY_NAME[name], why) if why else play(ground, BY_NAME[name], timing, kind)
            rows.append(row)
            if options.rows:
                options.rows.write_text(Row.as_text(rows, server))
            fine = f"– {why}" if why else "fine" if not row.problems else "BROKEN"
            print(f"{kind.name} {name}: {fine} in {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
            for line in (*row.notes, *row.problems):
                print(f"  {line}", file=sys.stderr, flush=True)
            if options.keep and row.problems:
                shutil.copytree(ground.folder / name, options.keep / f"{kind.name}-{name}", dirs_exist_ok=True)
    return rows, server


def arguments() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    length = parser.add_mutually_exclusive_group()
    parser.set_defaults(length="short")
    for name, text in (
        ("short", "a few seconds each (the default)"),
        ("middle", "the same, with a disk full for 30 s and the like; for all pools"),
        ("long", "about a minute each"),
    ):
        length.add_argument(f"--{name}", dest="length", action="store_const", const=name, help=text)
    parser.add_argument(
        "--pool", choices=[*POOLS, "all"], default=PREFORK.name, help="of the workers (default: %(default)s)"
    )
    parser.add_argument("--jobs", type=int, default=2, help="pools at a time, with --pool all (default: %(default)s)")
    parser.add_argument("--seconds", type=float, help="how long something is broken over and over")
    parser.add_argument("--only", action="append", choices=list(BY_NAME), metavar="NAME", help="one of: %(choices)s")
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the page of the documentation")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep logs and audit of what was broken there")
    parser.add_argument("--minutes", type=float, help="with --pool all: what is not reached by then is left out")
    parser.add_argument("--rows", type=Path, metavar="FILE", help="write the rows as JSON, too, each when it is known")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
