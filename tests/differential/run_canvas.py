"""Prints what one of the two libraries makes of the workflows, as JSON: `python run_canvas.py celery|djtasks`."""

import json
import logging
import os
import sys
from importlib import import_module
from typing import Any

if __name__ == "__main__":
    os.environ["DIFFERENTIAL"] = sys.argv[1]
    if sys.argv[1] == "djtasks":
        import_module("django").setup()

from tests.differential import canvas, cases
from tests.differential.run import celery_worker, djtasks_worker, wait_for


def worked() -> dict[str, Any]:
    """What came of the workflows that a worker runs, and what was told meanwhile."""
    cases.told.clear()
    cases.app.conf.update(result_chord_retry_interval=0.1)
    with (celery_worker if cases.LIBRARY == "celery" else djtasks_worker)() as run:
        sent = {name: make().apply_async(args) for name, (make, args) in canvas.WORKED.items()}
        run(None)
        found = {name: None if result is None else canvas.ended(result) for name, result in sent.items()}
        wait_for(canvas.TELLINGS)
    return {**found, "told": sorted(cases.told, key=repr)}


def main() -> None:
    """Print all facts."""
    logging.disable(logging.CRITICAL)
    kinds = {"table": canvas.TABLE, "facts": canvas.FACTS, "random": canvas.RANDOM}
    found = {kind: {name: fact() for name, fact in facts.items()} for kind, facts in kinds.items()}
    found["worked"] = worked()
    print(json.dumps(found, default=repr, sort_keys=True))


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)
