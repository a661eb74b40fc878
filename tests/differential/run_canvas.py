"""Prints what one of the two libraries makes of the workflows, as JSON: `python run_canvas.py celery|djtasks`."""

import json
import logging
import os
import sys
from importlib import import_module

if __name__ == "__main__":
    os.environ["DIFFERENTIAL"] = sys.argv[1]
    if sys.argv[1] == "djtasks":
        import_module("django").setup()

from tests.differential import canvas


def main() -> None:
    """Print all facts."""
    logging.disable(logging.CRITICAL)
    kinds = {"table": canvas.TABLE, "facts": canvas.FACTS, "random": canvas.RANDOM}
    found = {kind: {name: fact() for name, fact in facts.items()} for kind, facts in kinds.items()}
    print(json.dumps(found, default=repr, sort_keys=True))


if __name__ == "__main__":
    main()
    sys.stdout.flush()
    os._exit(0)
