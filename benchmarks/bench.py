"""What a phase works with."""

from typing import NamedTuple

from benchmarks.options import Options
from benchmarks.processes import Processes
from benchmarks.screen import Screen
from benchmarks.site import Site
from benchmarks.timing import Deadline


class Bench(NamedTuple):
    """One phase's surroundings."""

    site: Site
    processes: Processes
    options: Options
    screen: Screen
    #: This phase's own.
    deadline: Deadline
