"""How the child of a crowd begins: for greenlets in a fresh interpreter, whose first act is to patch the library.

The process is forked by the fork server, which watches over it, and becomes another program at once.
"""

import json
import os
import socket
import sys
from typing import Never

from djtasks.worker import titles
from djtasks.worker.hygiene import drop_inherited
from djtasks.worker.pools.child import ChildOptions
from djtasks.worker.pools.crowd_child import Ends, work
from djtasks.worker.pools.greens import GreenCrowd, hub_of
from djtasks.worker.pools.loops import LoopCrowd
from djtasks.worker.pools.slots import Slots

#: What is patched before anything else is imported. psycopg sees by itself that gevent is there, and not eventlet.
_PATCH = {
    "gevent": "from gevent import monkey; monkey.patch_all()",
    "eventlet": "import os, warnings; os.environ['PSYCOPG_WAIT_FUNC'] = 'wait_select';"
    " warnings.filterwarnings('ignore', module='eventlet'); import eventlet; eventlet.monkey_patch()",
}
_BOOT = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
{patch}
from djtasks.worker.pools import crowd_boot
crowd_boot.main(sys.argv[2])
"""


def run_crowd(tasks: socket.socket, outcomes: socket.socket, slots: Slots, options: ChildOptions) -> Never:
    """Be the child of a crowd, from the fork on; never returns."""
    try:
        descriptors = tasks.detach(), outcomes.detach()
        if options.crowd not in _PATCH:
            drop_inherited()
            work(LoopCrowd(Ends(*descriptors), slots, options), options)
        for each in (*descriptors, slots.descriptor):
            os.set_inheritable(each, True)
        path = json.dumps([os.path.abspath(each) for each in sys.path])
        arguments = json.dumps([*descriptors, slots.descriptor, slots.count, options])
        boot = _BOOT.format(patch=_PATCH[options.crowd])
        os.execv(sys.executable, [sys.executable, "-c", boot, path, arguments])  # noqa: S606 -- ourselves
    finally:
        os._exit(1)


def main(arguments: str) -> Never:
    """A child of greenlets, in a patched interpreter."""
    tasks, outcomes, memory, count, fields = json.loads(arguments)
    options = ChildOptions._make(fields)
    for each in (tasks, outcomes, memory):
        os.set_inheritable(each, False)
    titles.enable()
    options.load()
    options.with_logging()
    # psycopg has read it; what tasks execute is to decide for itself.
    os.environ.pop("PSYCOPG_WAIT_FUNC", None)
    work(GreenCrowd(hub_of(options.crowd), Ends(tasks, outcomes), Slots(count, memory), options), options)
