"""Processes that measure by themselves and tell their figures, seen from the benchmarks' own process."""

from typing import Any

from benchmarks.bench import Bench
from benchmarks.output import heard
from benchmarks.processes import Process
from benchmarks.timing import BenchmarkError


def answers(bench: Bench, clients: list[Process], total: int) -> list[dict[str, Any]]:
    """Wait until all of them have ended, and show how far they are together; their answers.

    Raises BenchmarkError when one has failed.
    """

    def done() -> bool:
        told = [heard(client.output()) for client in clients]
        bench.screen.show(sum(max((line.get("done", 0) for line in lines), default=0) for lines in told), total)
        return all(client.ended() for client in clients)

    bench.deadline.wait_for(done, every=0.05)
    found = []
    for client in clients:
        told = heard(client.output())
        if not client.succeeded() or not told or "answer" not in told[-1]:
            raise BenchmarkError(f"{client.name} has failed.\n{client.last_words()}")
        found.append(told[-1]["answer"])
    return found
