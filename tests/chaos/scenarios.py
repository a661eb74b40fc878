"""The scenarios: what is broken, how often, and what that leaves in doubt.

Each function starts workers and a producer on its ground, breaks something over and over, and leaves the ground with
nothing broken. A fault notes what was in the hands of what it cut off; where no process ends and nobody is cut off,
that is nothing, so no task may run again or end as WorkerLostError.
"""

import random
import signal
import time

import psutil

from tests.chaos.scenario import Scenario, running
from tests.chaos.site import CHILDREN, Ground, send
from tests.chaos.tables import OLDER, TERMINATE, WAITING
from tests.waits import wait_until
from tests.worker.running import RunningWorker

#: Between two ended sessions, and two lost answers of one connection's proxy, in seconds.
SESSIONS_EVERY = 0.5
ANSWERS_EVERY = 0.1
#: How much longer than the death bound a worker is cut off, and the server is away.
CUT, OUTAGE = 1.5, 3.0
#: And how long a task takes that is still being run by a second worker when the first one, which was cut off, has it
#: done, as a share of the death bound.
SLOW = 0.8
#: How long a worker may be cut off, whatever it was about, until what it held goes on, in seconds.
STUFFED = 25.0
#: With so many tasks waiting nobody runs dry, however slow the machine is.
PLENTY = 3000


def children_killed(ground: Ground) -> None:
    """SIGKILL to a child, of those that run a task when there is one. A crowd's takes all that it has begun with it."""
    workers = ground.begin()
    for _ in ground.every(ground.timing.child_every):
        children = {child.pid: child for worker in workers for child in worker.server.children()}
        busy = [pid for pid in running(ground) if pid in children]
        if children:
            send(signal.SIGKILL, [children[random.choice(busy or list(children))]])
            ground.fault("child killed", ground.kind.seats, CHILDREN if ground.kind.seats > 1 else 0)


def fork_servers_killed(ground: Ground) -> None:
    """SIGKILL to a fork server, which takes its children with it; the worker starts another."""
    workers = ground.begin()
    for number in ground.every(ground.timing.crash_every):
        worker = workers[number % 2]
        ground.catch(worker)
        send(signal.SIGKILL, [worker.server])
        ground.fault("fork server killed", ground.kind.slots, CHILDREN)


def workers_killed(ground: Ground) -> None:
    """SIGKILL to all processes of a worker, every third time of both; then others are started."""
    workers = ground.begin()
    for number in ground.every(ground.timing.worker_every):
        killed = workers if number % 3 == 0 else workers[:1]
        for worker in killed:
            ground.kill(worker)
        workers = [*workers[len(killed) :], *[ground.launch() for _ in killed]]
        for worker in workers[-len(killed) :]:
            ground.registered(worker)


def sessions_ended(ground: Ground) -> None:
    """pg_terminate_backend of every session: the workers', the producer's, idle and listening ones."""
    ground.begin()
    for number in ground.every(SESSIONS_EVERY):
        if number % 6 == 0:
            ground.order("rush")
        ground.tables.number(TERMINATE)
        ground.fault("sessions ended")


def server_crashes(ground: Ground) -> None:
    """The server is stopped with `-m immediate` and started again, which makes it recover."""
    ground.begin()
    for _ in ground.every(ground.timing.crash_every):
        ground.server.restart("immediate")
        ground.fault("server crashed")


def outage(ground: Ground) -> None:
    """The server is away for three times the death bound; nobody may be taken for dead when it is back."""
    worker, _ = ground.begin()
    time.sleep(1.0)
    ground.catch(worker)
    ground.server.stop("immediate")
    time.sleep(OUTAGE * ground.timing.dead_after)
    ground.server.start()
    ground.fault("server back")
    time.sleep(1.5 * ground.timing.dead_after)


def zombies(ground: Ground) -> None:
    """SIGSTOP past the death bound: to the whole tree, with the children woken first; then to the worker alone."""
    workers = ground.begin()
    for number in range(ground.timing.cuts):
        time.sleep(1.0)
        worker = workers[number % 2]
        tree = worker.tree()
        alone = number % 3 == 2
        ground.occupy(worker, SLOW * ground.timing.dead_after)
        at = time.time()
        doubt = ground.freeze(worker, tree[:1] if alone else None)
        ground.fault("worker stopped", doubt, CHILDREN, at)
        time.sleep(CUT * ground.timing.dead_after)
        wake(worker, number % 3)
        time.sleep(0.5 * ground.timing.dead_after)


def wake(worker: RunningWorker, order: int) -> None:
    """SIGCONT to all; with `order` 0 to the worker only when its children have had some time by themselves."""
    tree: list[psutil.Process] = worker.tree()
    if order == 0:
        send(signal.SIGCONT, tree[1:])
        time.sleep(0.2)
    send(signal.SIGCONT, tree)


def everyone_stopped(ground: Ground) -> None:
    """SIGSTOP to all workers past the death bound, as when a machine is paused: nobody may be taken for dead."""
    workers = ground.begin()
    for _ in range((ground.timing.cuts + 2) // 3):
        time.sleep(1.0)
        ground.catch(workers[0])
        for worker in reversed(workers):
            ground.freeze(worker)
            # The second one to fall asleep has seen the first one's last heartbeat.
            time.sleep(ground.timing.heartbeat)
        time.sleep(CUT * ground.timing.dead_after)
        for worker in workers:
            send(signal.SIGCONT, worker.tree())
            # The first one awake finds the other one's last heartbeat as old as its own sleep was long.
            time.sleep(0.3 * ground.timing.dead_after)
        ground.fault("all workers stopped")
        time.sleep(ground.timing.dead_after)


def rolling_restarts(ground: Ground) -> None:
    """A new worker is started, and an old one ended with TERM, over and over: nothing at all may be noticed."""
    workers = ground.begin()
    for _ in range(ground.timing.rolling_restarts):
        workers.append(ground.launch())
        ground.registered(workers[-1])
        code = workers.pop(0).stop()
        assert code == 0, f"a worker ended with the exit code {code}"
        ground.fault("worker restarted")


def answers_lost(ground: Ground) -> None:
    """Statements are carried out and committed, and the connection closed before anybody hears of it."""
    proxies = [ground.proxy() for _ in range(3)]
    ground.begin(proxies[:2], producer=proxies[2])
    for proxy, every in zip(proxies, (ANSWERS_EVERY, ANSWERS_EVERY, 4 * ANSWERS_EVERY), strict=True):
        proxy.lose_answers(every)
    for number in ground.every(1.0):
        # For the most part a claim finds a few tasks, and then looks again: each of the two may be lost.
        if number % 4 == 0:
            ground.order("rush")
    for proxy in proxies:
        proxy.lose_answers(None)
    at = time.time()
    for _ in range(sum(proxy.lost for proxy in proxies)):
        ground.fault("answer lost", at=at)


def partition(ground: Ground) -> None:
    """A worker is cut off from the server past the death bound: both ways; its answers only; and with a reset."""
    proxies = [ground.proxy(), ground.proxy()]
    workers = ground.begin(proxies)
    for number in range(ground.timing.cuts):
        time.sleep(1.0)
        worker, proxy = workers[number % 2], proxies[number % 2]
        ground.occupy(worker, SLOW * ground.timing.dead_after)
        at = time.time()
        proxy.freeze(answers_only=number % 3 == 1)
        ground.fault("partition", ground.held(worker), CHILDREN, at)
        time.sleep(CUT * ground.timing.dead_after)
        if number % 3 == 2:
            proxy.sever()
        proxy.heal()
        time.sleep(0.5 * ground.timing.dead_after)


def pulse_cut_off(ground: Ground) -> None:
    """One of a worker's two sessions hangs, the one for its heartbeat: it stops claiming before it counts as dead."""
    proxy = ground.proxy()
    ground.begin([proxy, None])
    time.sleep(1.0)
    proxy.freeze(only="djtasks pulse")
    for _ in ground.every(0.5, OUTAGE * ground.timing.dead_after):
        if ground.tables.number(WAITING) < PLENTY:
            ground.order("rush")
    proxy.heal()
    ground.fault("pulse cut off")
    time.sleep(ground.timing.dead_after)


def stuffed(ground: Ground) -> None:
    """A worker is cut off while megabytes are on their way to it: the server waits in the middle of an answer."""
    proxy = ground.proxy()
    worker, _ = ground.begin([proxy, None])
    proxy.freeze_over = 1 << 20
    ground.order("large")
    wait_until(lambda: proxy.freeze_over is None, "a large answer is on its way")
    ground.fault("partition", ground.held(worker), CHILDREN)
    time.sleep(STUFFED)
    overdue = ground.tables.number(OLDER, STUFFED)
    proxy.heal()
    assert not overdue, f"{overdue} tasks still wait for a worker that was cut off {STUFFED:g} s ago"


def idle_transaction(ground: Ground) -> None:
    """A transaction stays open with its snapshot, and another one that has enqueued a task, under load."""
    with ground.tables.connect() as conn:
        conn.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        conn.execute("SELECT count(*) FROM djtasks_message")
        ground.begin(hold=True)
        time.sleep(ground.timing.seconds)
        conn.execute("ROLLBACK")
    ground.fault("transaction ended")


USUAL = (
    Scenario("child", "a child killed", children_killed),
    Scenario("forkserver", "a fork server killed", fork_servers_killed, essential=False),
    Scenario("worker", "a worker killed with all its children, and restarted", workers_killed),
    Scenario("sessions", "every database session ended, twice a second", sessions_ended),
    Scenario("crash", "the server stopped with `-m immediate`, and started", server_crashes),
    Scenario("outage", "the server away for three times the death bound", outage, essential=False),
    Scenario("zombie", "a worker under SIGSTOP past the death bound", zombies),
    Scenario("pause", "all workers under SIGSTOP past the death bound", everyone_stopped, essential=False),
    Scenario("rolling", "rolling restarts with TERM", rolling_restarts, essential=False),
    Scenario("answers", "answers to committed statements lost", answers_lost),
    Scenario("partition", "a worker cut off past the death bound", partition),
    Scenario("pulse", "a worker's heartbeat cut off, and nothing else", pulse_cut_off, essential=False),
    Scenario("stuffed", "a worker cut off in the middle of a large answer", stuffed, essential=False),
    Scenario("idle", "an idle transaction held open under load", idle_transaction, essential=False),
)
