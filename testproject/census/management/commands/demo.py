"""`manage.py demo`: the whole trip, from the form to the census, with a real site, a real worker and a real beat."""

import math
import re
import secrets
import shutil
import signal
import sys
import time
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.urls import reverse

from djtasks import schedule
from djtasks.models import PeriodicTask
from testproject.census.browser import Browser
from testproject.census.forms import default_folder
from testproject.census.models import Scan, SourceFile
from testproject.census.processes import Process, Processes
from testproject.census.report import Census, census
from testproject.census.source import find_files, plain, printable
from testproject.census.tasks import take_census

CHILDREN = 2
#: With fewer files than this the work would be done before it can be disturbed, so each is made to take longer.
ENOUGH_FOR_CHAOS = 2000
CHAOS_SECONDS = 3.0
#: The share of files after which chaos strikes.
CHAOS_AFTER = 0.2
#: What beat sends, and what it takes the census of.
PERIODIC = "census of the demo"
SMALL = Path(__file__).resolve().parents[2]
#: How names of those begin who may look at the live monitor while a demo is kept; and about how long the census then
#: takes, to be watched.
VISITOR = "demo-"
WATCHED_SECONDS = 25.0
LONGEST_PAUSE = 0.05
#: How often a small census is taken then.
KEPT_EVERY = 5


class Command(BaseCommand):
    """Migrate, start a worker and a site, send the form, watch, and print the census."""

    help = "Take the census of a folder with a real site and a real worker, and print it."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--dir", default="", help="the folder to scan (default: the installed Django)")
        parser.add_argument("--chaos", action="store_true", help="kill the worker mid-way and start another")
        parser.add_argument(
            "--keep", action="store_true", help="leave everything running until Ctrl-C, with a link to watch it live"
        )
        parser.add_argument("--deadline", type=float, default=110, help="give up after so many seconds")

    def handle(self, *args: Any, **options: Any) -> None:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
        folder = Path(options["dir"] or default_folder()).expanduser().resolve()
        trip = Trip(self, folder, options["chaos"], options["keep"])
        trip.deadline = time.monotonic() + options["deadline"]
        try:
            trip.run()
        except KeyboardInterrupt:
            self.stderr.write("\nInterrupted; everything that was started has been stopped.")
            sys.exit(128 + signal.SIGINT)


class Trip:
    """One demo, step by step."""

    deadline: float

    def __init__(self, command: BaseCommand, folder: Path, chaos: bool, keep: bool = False) -> None:
        self.command = command
        self.folder = folder
        self.chaos = chaos
        self.keep = keep
        self.visitor: User | None = None
        self.files = {printable(path) for path in find_files(folder)}
        self.bar = Bar(command, len(self.files))

    def run(self) -> None:
        """Do it all. Raises CommandError when anything is missing or takes too long."""
        if not self.files:
            raise CommandError(f"There is no Python file in {self.folder}.")
        self.say("Preparing the database …")
        call_command("migrate", verbosity=0, interactive=False)
        try:
            self.travel()
        finally:
            if self.visitor is not None:
                self.visitor.delete()

    def travel(self) -> None:
        """From the first process to the last."""
        with Processes(self.environment()) as processes:
            # Without --insecure a site that is not being debugged serves no files of its own.
            site = processes.start("site", "runserver", "--noreload", "--insecure", "127.0.0.1:0")
            worker = self.start_worker(processes)
            beat = processes.start("beat", "runbeat", "-q")
            self.say(f"Started beat {beat.pid}")
            address = self.address_of(site)
            if self.keep:
                self.invite(address)
            browser = Browser(address)
            self.say(f"Sending the form: {len(self.files):,} Python files in {self.folder}")
            scan = self.send_form(browser)
            if self.chaos:
                self.wait_for(browser, scan, max(1, int(CHAOS_AFTER * len(self.files))), site, worker)
                worker.kill()
                self.bar.done()
                self.say(f"Chaos: killed worker {worker.pid} (kill -9)")
                worker = self.start_worker(processes)
                self.say("What it had in hand is taken over when it is known to be dead, which takes some seconds.")
            self.wait_for(browser, scan, len(self.files), site, worker)
            self.bar.done()
            if "The census" not in browser.get(scan.get_absolute_url()):
                raise CommandError("The site does not show the census.")
            censuses = self.again_and_again(worker, beat)
            self.tell(scan, censuses)
            if self.keep:
                self.stay(address, site, worker, beat)

    def tell(self, scan: Scan, censuses: list[str]) -> None:
        """Print what was found. Raises CommandError unless all of it was."""
        self.judge(scan)
        for line in censuses:
            self.say(line)

    def invite(self, address: str) -> None:
        """Say where the work can be watched, and by whom: a user of this demo's own, who goes with it."""
        name, password = VISITOR + secrets.token_hex(2), secrets.token_urlsafe(9)
        self.visitor = User.objects.create_superuser(name, password=password)
        self.say(f"Watch it live: {address.rstrip('/')}{reverse('djtasks_monitor:overview')}")
        self.say(f"  (name {name}, password {password})")

    def stay(self, address: str, *processes: Process) -> None:
        """Take a small census again and again until somebody has seen enough."""
        self.deadline = math.inf
        made = PeriodicTask.from_schedule(
            schedule(KEPT_EVERY), name=PERIODIC, task=take_census.name, args=[str(SMALL)], description="The demo's own."
        )
        made.save()
        self.say(f"Everything stays as it is until Ctrl-C, and a small census is taken every {KEPT_EVERY} s: {address}")
        try:
            while True:
                self.pause(*processes)
        except KeyboardInterrupt:
            self.say("\nEnough seen.")
        finally:
            made.delete()

    def again_and_again(self, *processes: Process) -> list[str]:
        """Schedule a small census every second, wait until two of them are complete, and end it; a line for each."""
        folder = plain(str(SMALL), 1000)
        PeriodicTask.objects.filter(name=PERIODIC).delete()
        before = set(Scan.objects.filter(folder=folder).values_list("pk", flat=True))
        made = PeriodicTask.from_schedule(
            schedule(1), name=PERIODIC, task=take_census.name, args=[str(SMALL)], description="The demo's own."
        )
        made.save()
        complete = Scan.objects.filter(folder=folder, finished_at__isnull=False).exclude(pk__in=before).order_by("pk")
        try:
            while complete.count() < 2:
                self.pause(*processes)
        finally:
            made.delete()
        return [
            f"Periodic census at {scan.created_at:%H:%M:%S}: {found.files} files, {found.lines:,} lines"
            for scan in complete[:2]
            for found in [census(scan)]
        ]

    def environment(self) -> dict[str, str]:
        """What the processes' environment has beside this one's."""
        slow = self.chaos and len(self.files) < ENOUGH_FOR_CHAOS
        pause = CHILDREN * CHAOS_SECONDS / len(self.files) if slow else 0
        if self.keep:
            pause = max(pause, min(LONGEST_PAUSE, CHILDREN * WATCHED_SECONDS / len(self.files)))
        return {"DEBUG": "0", "CENSUS_PAUSE": str(pause)}

    def start_worker(self, processes: Processes) -> Process:
        """Start a worker; what it is sent is in the queue already, or will be."""
        worker = processes.start("worker", "runworker", "-c", str(CHILDREN), "-l", "WARNING")
        self.say(f"Started worker {worker.pid} with {CHILDREN} children")
        return worker

    def address_of(self, site: Process) -> str:
        """Where the site listens, which it says itself, because it chose a free port."""
        while not (found := re.search(r"http://127\.0\.0\.1:\d+/", site.output())):
            self.pause(site)
        self.say(f"Started the site at {found[0]}")
        return found[0]

    def send_form(self, browser: Browser) -> Scan:
        """Send the form as a browser does. The site redirects to the page of the scan."""
        began = time.monotonic()
        address, page = browser.submit("/", folder=str(self.folder))
        if not (found := re.search(r"/scans/(\d+)/$", address)):
            errors = re.findall(r'class="error">([^<]*)<', page)
            raise CommandError(f"The site refused the form: {' '.join(errors) or 'it does not say why'}")
        self.say(f"The view stored and enqueued everything in {time.monotonic() - began:.2f} s")
        return Scan.objects.get(pk=int(found[1]))

    def wait_for(self, browser: Browser, scan: Scan, files: int, *processes: Process) -> None:
        """Watch the progress until so many files have been read; with all of them, until they have been summed up."""
        while True:
            found = browser.get_json(f"{scan.get_absolute_url()}progress.json")
            self.bar.show(found["done"])
            if found["done"] >= files and (found["finished"] or files < len(self.files)):
                return
            self.pause(*processes)

    def pause(self, *needed: Process) -> None:
        """Wait a moment. Raises CommandError when a process is gone that is needed, or the time is up."""
        for process in needed:
            if process.ended():
                self.bar.done()
                raise CommandError(f"The {process.name} has ended before its time.\n{process.last_words()}")
        if time.monotonic() > self.deadline:
            self.bar.done()
            raise CommandError("\n".join(["Time is up.", *(process.last_words() for process in needed)]))
        time.sleep(0.05)

    def judge(self, scan: Scan) -> None:
        """Print the census. Raises CommandError unless every file is in it."""
        read = scan.files.exclude(state=SourceFile.State.WAITING)
        scan.refresh_from_db()
        missing = sorted(self.files - set(read.values_list("path", flat=True)))
        if missing:
            raise CommandError(f"{len(missing)} files are missing from the census: {', '.join(missing[:10])}")
        self.say(summary(census(scan)))
        states = ", ".join(f"{number:,} {state}" for state, number in sorted(scan.outcomes.items()))
        self.say(f"The body of the chord was handed {sum(scan.outcomes.values()):,} results: {states}")

    def say(self, text: str) -> None:
        """Print a line."""
        self.command.stdout.write(text)
        self.command.stdout.flush()


class Bar:
    """A progress bar; where there is no terminal to draw it on, a line now and then."""

    def __init__(self, command: BaseCommand, total: int) -> None:
        self.out = command.stdout
        self.total = total
        self.terminal = self.out.isatty()
        self._shown = -1
        self._at = 0.0

    def show(self, done: int) -> None:
        """Show how many of the files have been read."""
        if done == self._shown or (not self.terminal and done < self.total and time.monotonic() - self._at < 1):
            return
        self._shown, self._at = done, time.monotonic()
        share = min(1.0, done / self.total)
        width = max(10, min(50, shutil.get_terminal_size().columns - 30))
        blocks = "█" * int(share * width)
        line = f"{blocks:░<{width}} {100 * share:3.0f} %  {done:,}/{self.total:,}"
        self.out.write(f"\r{line}" if self.terminal else line, ending="" if self.terminal else "\n")
        self.out.flush()

    def done(self) -> None:
        """End the line."""
        if self.terminal and self._shown >= 0:
            self.out.write("\n")
        self._shown = -1


def summary(census: Census) -> str:
    """The census as text."""
    width = max((len(module) for module, _ in census.imports), default=0)
    lines = [
        "",
        f"The census: {census.files:,} files, {census.lines:,} lines, {census.functions:,} functions,"
        f" {census.classes:,} classes, {census.documented:.0f} % documented",
        "",
        "Most imported modules:",
        *(f"  {module:<{width}} {files:6,} files" for module, files in census.imports),
        "",
        "Longest functions:",
        *(f"  {f.longest_function_lines:6,} lines  {f.longest_function}  ({f.path})" for f in census.longest),
        "",
        f"Not countable: {len(census.failed)}",
        *(f"  {file.path}: {file.error}" for file in census.failed[:20]),
        *(["  …"] if len(census.failed) > 20 else []),
        "",
        f"Complete: all {census.files:,} files in {census.duration.total_seconds():.1f} s,"
        f" {census.rate:,.0f} files a second",
    ]
    return "\n".join(lines)
