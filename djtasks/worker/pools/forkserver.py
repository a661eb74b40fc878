"""The fork server: the parent of all children of a worker.

`runworker` forks it from its main thread before any other thread or database connection exists, so that a child
starts as a copy of a quiet, fully imported process. It runs no task itself. It watches the worker through a pipe
whose other end only the worker holds, and when the worker is gone it kills its whole process group, itself included:
no task outlives its worker by more than moments, whatever C code it is in.

A later one (the first was killed, or the pool begins anew) is a fresh interpreter by exec, never a fork of the
running worker. One that takes over from another joins its process group, so that one group holds all that runs.
"""

import contextlib
import ctypes
import gc
import json
import marshal
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple

from djtasks.worker import titles
from djtasks.worker.pools import packets
from djtasks.worker.pools.child import ChildOptions, run_child
from djtasks.worker.pools.crowd_boot import run_crowd
from djtasks.worker.pools.slots import Slots

PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None, use_errno=True)
_COMMAND_MOST = 4096
#: A fresh interpreter looks for modules where the worker does, wherever that was started.
_BOOT = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from djtasks.worker.pools import forkserver
forkserver.main(sys.argv[2])
"""


def ignore(*_: object) -> None:
    """A handler that does nothing; unlike SIG_IGN it is not inherited by what a task executes."""


class Server:
    """The loop of the fork server's own process."""

    def __init__(self, control: socket.socket, life: int, slots: Slots, options: ChildOptions) -> None:
        self.control = control
        self.life = life
        self.slots = slots
        self.options = options
        self.children: dict[int, int] = {}
        #: Another one has taken over: it ends once its children have.
        self.retired = False
        self.commands: dict[str, Callable[..., None]] = {
            "kill": self.kill,
            "strike": self.strike,
            "soft": self.soft,
            "retire": self.retire,
        }

    def serve(self) -> None:
        """Serve, as the leader or a later member of its process group, until the worker is gone or lets it go."""
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD):
            signal.signal(number, ignore)
        self.wake, wakeup = os.pipe()
        for end in (self.wake, wakeup):
            os.set_blocking(end, False)
        self.wakeup = wakeup
        signal.set_wakeup_fd(wakeup, warn_on_full_buffer=False)
        self.report("ready", os.getpid())
        poll = select.poll()
        for descriptor in (self.control.fileno(), self.life, self.wake):
            poll.register(descriptor, select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _ in poll.poll()}
            if self.life in ready:
                self.end()
            if self.wake in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(self.wake, 4096)
                self.reap()
            if self.control.fileno() in ready:
                self.obey()

    def end(self) -> None:
        """Kill the process group: the children, what they have started, and this very process."""
        os.killpg(0, signal.SIGKILL)

    def report(self, *fields: str | float) -> None:
        try:
            self.control.send(marshal.dumps(fields))
        except OSError:
            self.end()

    def obey(self) -> None:
        """Carry out one command of the worker's."""
        data, descriptors, _, _ = socket.recv_fds(self.control, _COMMAND_MOST, 2)
        if not data:
            self.end()
        verb, *arguments = marshal.loads(data)
        if verb == "spawn":
            self.spawn(arguments[0], descriptors)
        else:
            self.commands[verb](*arguments)

    def spawn(self, slot: int, descriptors: list[int]) -> None:
        """Fork a child into a slot, with the ends of its sockets: returns in the server, never in the child."""
        self.slots.clear(slot)
        parent = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            # No memory, or no process, is left for one more; those that are there go on.
            for descriptor in descriptors:
                os.close(descriptor)
            self.report("refused", slot, str(error))
            return
        if pid:
            for descriptor in descriptors:
                os.close(descriptor)
            self.children[pid] = slot
            self.report("spawned", slot, pid)
            return
        _LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for descriptor in (self.life, self.wake, self.wakeup):
            os.close(descriptor)
        self.control.close()
        ends = [socket.socket(fileno=descriptor) for descriptor in descriptors]
        if self.options.crowd:
            run_crowd(ends[0], ends[1], self.slots, self.options)
        run_child(slot, ends[0], ends[1], self.slots, self.options)

    def reap(self) -> None:
        while self.children:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if not pid:
                break
            slot = self.children.pop(pid, None)
            if slot is not None:
                self.report("exited", slot, pid, os.waitstatus_to_exitcode(status))
        self.leave()

    def retire(self) -> None:
        """Fork no more, and end once nothing is left to be waited for."""
        self.retired = True
        self.leave()

    def leave(self) -> None:
        """End alone, if it is time: the process group goes on with another server."""
        if self.retired and not self.children:
            os._exit(0)

    def kill(self, slot: int, pid: int, number: int) -> None:
        """Signal a child that has not been reaped: its pid cannot have become another process's."""
        if self.children.get(pid) == slot:
            os.kill(pid, number)

    def strike(self, slot: int, pid: int, claim: int, number: int = signal.SIGKILL) -> None:
        """Signal a child if, and only if, it has this very claim in hand: it is stopped while we look."""
        if self.children.get(pid) != slot:
            return
        os.kill(pid, signal.SIGSTOP)
        os.waitid(os.P_PID, pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        if self.slots.in_hand(slot).claim == claim:
            self.slots.ask_end(slot, claim)
            os.kill(pid, number)
        os.kill(pid, signal.SIGCONT)

    def soft(self, slot: int, pid: int, claim: int, limit: float) -> None:
        """Let a child raise SoftTimeLimitExceeded in this claim's run."""
        if self.children.get(pid) == slot:
            self.slots.ask_soft(slot, claim, limit)
            os.kill(pid, signal.SIGUSR1)


class Exited(NamedTuple):
    """A child has ended: `code` is its exit code, or minus the signal that killed it."""

    slot: int
    pid: int
    code: int


class Spawned(NamedTuple):
    """A child has started."""

    slot: int
    pid: int


class Refused(NamedTuple):
    """A child could not be started."""

    slot: int
    why: str


class Ready(NamedTuple):
    """The server itself has started."""

    pid: int


Report = Exited | Spawned | Refused | Ready
_REPORTS: dict[str, type[Report]] = {"exited": Exited, "spawned": Spawned, "refused": Refused, "ready": Ready}


class ForkServer:
    """The worker's handle on its fork server."""

    def __init__(self, slots: Slots, options: ChildOptions) -> None:
        self.slots = slots
        self.options = options
        #: Its process id; 0 while there is none.
        self.pid = 0
        #: Its process group: its own, or that of the one before it.
        self.group = 0
        self._process: subprocess.Popen[bytes] | None = None

    def _ends(self) -> tuple[socket.socket, int]:
        self.control, theirs = packets.pair()
        self.control.setblocking(False)
        life, self._alive = os.pipe()
        return theirs, life

    def fork(self) -> None:
        """Make the server as a copy of this process. Only before threads and connections exist."""
        theirs, life = self._ends()
        # Before the fork, so that neither side's collector ever writes to what they share.
        gc.collect()
        gc.freeze()
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = self.group = os.fork()
        if not self.pid:
            try:
                os.setpgid(0, 0)
                self.control.close()
                os.close(self._alive)
                titles.name(f"{self.options.hostname}:ForkServer")
                Server(theirs, life, self.slots, self.options).serve()
            finally:
                os._exit(1)
        theirs.close()
        os.close(life)

    def execute(self, group: int = 0, modules: Sequence[str] = ()) -> None:
        """Make the server as a fresh interpreter that imports these modules, too.

        It joins that process group if it is still there, else it leads its own. Raises OSError.
        """
        theirs, life = self._ends()
        descriptors = (theirs.fileno(), life, self.slots.descriptor)
        path = json.dumps([os.path.abspath(each) for each in sys.path])
        arguments = json.dumps([*descriptors, self.slots.count, self.options, list(modules)])
        command = [sys.executable, "-c", _BOOT, path, arguments]
        try:
            # Never the worker's own group: a Ctrl-C in its terminal is not meant for it.
            try:
                self._process = subprocess.Popen(command, pass_fds=descriptors, process_group=group)
            except (PermissionError, ProcessLookupError):
                group = 0
                self._process = subprocess.Popen(command, pass_fds=descriptors, process_group=group)
        except OSError:
            self.control.close()
            os.close(self._alive)
            raise
        finally:
            theirs.close()
            os.close(life)
        self.pid = self._process.pid
        self.group = group or self.pid

    def spawn(self, slot: int, tasks: socket.socket, outcomes: socket.socket) -> None:
        """Ask for a child in this slot, which gets these two ends; they are closed here."""
        try:
            # A server that has just died is heard of by its end of the socket.
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                socket.send_fds(self.control, [marshal.dumps(("spawn", slot))], [tasks.fileno(), outcomes.fileno()])
        finally:
            tasks.close()
            outcomes.close()

    def tell(self, *command: str | float) -> None:
        """Give a command: «kill» slot pid signal, «strike» slot pid claim signal, «soft» slot pid claim limit."""
        with contextlib.suppress(OSError):
            self.control.send(marshal.dumps(command))

    def events(self) -> list[Report]:
        """What the server has reported. Raises EOFError when it is gone."""
        found: list[Report] = []
        while True:
            try:
                data = self.control.recv(_COMMAND_MOST)
            except BlockingIOError:
                return found
            except OSError:
                data = b""
            if not data:
                if found:
                    return found
                raise EOFError("the fork server is gone")
            verb, *fields = marshal.loads(data)
            found.append(_REPORTS[verb](*fields))

    def kill(self, *, alone: bool = False) -> None:
        """Kill it and all that came of it: children, and what their tasks have started; or it `alone`.

        Its children end with it in any case. What else is in its group may be another server's.
        """
        if self.pid:
            # It is not reaped yet: neither number can have become another one's.
            for kill, number in ((os.killpg, 0 if alone else self.group), (os.kill, self.pid)):
                if number:
                    with contextlib.suppress(ProcessLookupError):
                        kill(number, signal.SIGKILL)

    def close(self, *, alone: bool = False) -> None:
        """Kill it, and reap it."""
        if not self.pid:
            return
        self.kill(alone=alone)
        self.control.close()
        os.close(self._alive)
        if self._process is not None:
            self._process.wait()
            self._process = None
        else:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(self.pid, 0)
        self.pid = self.group = 0


def main(arguments: str) -> None:
    """A fork server that was executed rather than forked."""
    control, life, memory, count, fields, modules = json.loads(arguments)
    options = ChildOptions._make(fields)
    titles.enable()
    titles.name(f"{options.hostname}:ForkServer")
    options.load(modules)
    gc.collect()
    gc.freeze()
    Server(socket.socket(fileno=control), life, Slots(count, memory), options.with_logging()).serve()
