"""How a measuring process of its own tells its figures: lines of JSON, of which the last one is the answer."""

import json
from typing import Any


def tell_progress(done: int) -> None:
    """So much is done."""
    print(json.dumps({"done": done}), flush=True)


def tell_answer(**answer: Any) -> None:
    """That is what was measured."""
    print(json.dumps({"answer": answer}), flush=True)


def heard(output: str) -> list[dict[str, Any]]:
    """The complete lines that were told; what a library prints between them is passed over."""
    found = []
    for line in output.split("\n")[:-1]:
        if line.startswith(('{"done"', '{"answer"')):
            found.append(json.loads(line))
    return found
