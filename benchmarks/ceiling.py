"""The ceiling: what the server can do for two clients that only claim and finish, with no task and no worker between.

The statements are the least that keeps the tables' meaning: no fence to check, no low-water mark, no result to encode.
`python -m benchmarks.ceiling ADDRESS NUMBER` is one of the clients.
"""

import sys
import time
from contextlib import ExitStack
from typing import Any, LiteralString

import psycopg

from benchmarks.bench import Bench
from benchmarks.clients import answers
from benchmarks.figures import Measured
from benchmarks.output import tell_answer, tell_progress
from benchmarks.phases import load
from benchmarks.timing import BenchmarkError
from benchmarks.usage import cpu_seconds

CLIENTS = 2
#: Messages of one claim, and results of one finish.
BATCH = 100

CLAIM: LiteralString = """
    WITH picked AS MATERIALIZED (
        SELECT id FROM djtasks_message
        WHERE lane = 'celery' AND owner IS NULL
        ORDER BY priority DESC, position
        LIMIT %(batch)s
        FOR UPDATE SKIP LOCKED
    )
    UPDATE djtasks_message AS m SET owner = %(owner)s, claim = 1 FROM picked WHERE m.id = picked.id
    RETURNING m.id, m.name, m.body
"""
FINISH: LiteralString = """
    WITH gone AS (
        DELETE FROM djtasks_message AS m USING unnest(%(ids)s::uuid[]) AS ended (id) WHERE m.id = ended.id
        RETURNING m.id, m.owner, m.claim, m.created, m.name, m.queue
    )
    INSERT INTO djtasks_result (id, owner, claim, created, started, done, state, name, queue, worker, result)
    SELECT id, owner, claim, created, created, statement_timestamp(), 'SUCCESS', name, queue, 'nobody', 'null'
    FROM gone
"""


def ceiling(bench: Bench) -> Measured:
    """Let the clients take and end everything."""
    total = bench.options.tasks
    load(bench, total)
    server = bench.site.pid()
    command = [sys.executable, "-m", "benchmarks.ceiling", bench.site.server.url]
    before = cpu_seconds(server)
    with ExitStack() as stack:
        clients = [
            stack.enter_context(bench.processes.running(f"SQL client {number}", [*command, str(number)]))
            for number in range(1, CLIENTS + 1)
        ]
        told = answers(bench, clients, total)
    server_seconds = cpu_seconds(server) - before
    if bench.site.messages() or sum(each["count"] for each in told) != total:
        raise BenchmarkError(f"the clients have ended {[each['count'] for each in told]} of {total} messages")
    seconds = max(each["ended"] for each in told) - min(each["began"] for each in told)
    return {
        "drain": total / seconds,
        "cpu_worker": 1000 * sum(each["cpu"] for each in told) / total,
        "cpu_server": 1000 * server_seconds / total,
    }


def claim_and_finish(conn: psycopg.Connection[Any], owner: int) -> int:
    """Claim and finish until nothing is left; how many messages that were."""
    count = 0
    while found := conn.execute(CLAIM, {"owner": owner, "batch": BATCH}, binary=True).fetchall():
        conn.execute(FINISH, {"ids": [row[0] for row in found]}, binary=True)
        count += len(found)
        if not count % (20 * BATCH):
            tell_progress(count)
    return count


def main(address: str, owner: str) -> None:
    """Be one client."""
    with psycopg.connect(address, autocommit=True, prepare_threshold=0) as conn:
        cpu, began = time.process_time(), time.time()
        count = claim_and_finish(conn, int(owner))
        tell_answer(count=count, began=began, ended=time.time(), cpu=time.process_time() - cpu)


if __name__ == "__main__":
    main(*sys.argv[1:])
