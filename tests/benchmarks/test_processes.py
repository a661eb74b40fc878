"""The benchmarks end what they have started, know what it costs, and never wait for ever."""

import os
import sys
from pathlib import Path

import psutil
import pytest

from benchmarks.against.redis import find_redis
from benchmarks.processes import Processes
from benchmarks.timing import BenchmarkError, Deadline
from benchmarks.usage import cpu_seconds, files_alone, tree, weigh
from tests.waits import wait_until

#: Starts a child that leads a process group of its own and does not listen to SIGTERM, says its number, and waits.
PARENT = """
import os, signal, time
child = os.fork()
if not child:
    os.setpgid(0, 0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print(os.getpid(), flush=True)
time.sleep(600)
"""


def test_what_a_process_has_started_ends_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.processes.PATIENCE", 0.1)
    with Processes(tmp_path).running("it", [sys.executable, "-c", PARENT]) as process:
        child = int(wait_until(process.output, "the child says its number"))
        assert [each.pid for each in tree(process.pid)] == [process.pid, child]
    assert not psutil.pid_exists(process.pid)
    assert not psutil.pid_exists(child) or psutil.Process(child).status() == psutil.STATUS_ZOMBIE


def test_an_end_before_its_time_is_told_with_the_last_words(tmp_path: Path) -> None:
    with (
        Processes(tmp_path).running("it", [sys.executable, "-c", "exit('no such thing')"]) as process,
        pytest.raises(BenchmarkError, match=r"it has ended before its time\.\nit said:\nno such thing"),
    ):
        Deadline(20).wait_for(lambda: None, process)
    assert not process.succeeded()


def test_an_end_with_success_is_known_before_and_after_the_stop(tmp_path: Path) -> None:
    with Processes(tmp_path).running("it", [sys.executable, "-c", ""]) as process:
        wait_until(process.ended, "it ends")
        assert process.succeeded()
    assert process.succeeded()


def test_a_phase_is_given_up_when_its_time_is_up() -> None:
    with pytest.raises(BenchmarkError, match=r"not done within 0 s; --deadline allows more"):
        Deadline(0).wait_for(lambda: None)


def test_a_long_loop_looks_at_the_clock() -> None:
    with pytest.raises(BenchmarkError):
        list(Deadline(0).each(range(1000)))


def test_cpu_seconds_grow_with_work_and_are_none_for_who_is_gone(tmp_path: Path) -> None:
    before = cpu_seconds(os.getpid())
    sum(number * number for number in range(10_000))
    assert cpu_seconds(os.getpid()) > before
    with Processes(tmp_path).running("it", [sys.executable, "-c", ""]) as process:
        pass
    assert cpu_seconds(process.pid) == 0


def test_a_weight_is_the_sum_of_its_parts() -> None:
    (weight,) = weigh([os.getpid()])
    assert weight.anonymous > 0
    assert weight.total == pytest.approx(weight.anonymous + weight.file, rel=0.01)


def test_files_that_are_shared_count_once_and_in_full() -> None:
    (weight,) = weigh([os.getpid()])
    alone = files_alone([os.getpid()])
    assert alone >= weight.file * 0.9
    assert files_alone([os.getpid()] * 2) == pytest.approx(alone, rel=0.1)


def test_without_redis_it_is_said_what_to_install() -> None:
    with pytest.raises(BenchmarkError, match="apt-get install redis-server"):
        find_redis(path="/nowhere")
