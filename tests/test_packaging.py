"""The wheel holds the whole package, and nothing else."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
SOURCES = ("djtasks", "setup.cfg", "pyproject.toml", "LICENSE", "README.md")
JUNK = shutil.ignore_patterns("__pycache__", ".*")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names in a wheel built from a copy, so that no earlier build in the checkout can lend it files."""
    copy = tmp_path_factory.mktemp("copy")
    for name in SOURCES:
        if (CHECKOUT / name).is_dir():
            shutil.copytree(CHECKOUT / name, copy / name, ignore=JUNK)
        elif (CHECKOUT / name).exists():
            shutil.copy(CHECKOUT / name, copy / name)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(copy / "dist"), str(copy)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    with zipfile.ZipFile(next((copy / "dist").glob("*.whl"))) as archive:
        return set(archive.namelist())


def test_the_wheel_holds_every_file_of_the_package(wheel: set[str]) -> None:
    package = CHECKOUT / "djtasks"
    files = {
        str(path.relative_to(CHECKOUT))
        for path in package.rglob("*")
        if path.is_file() and not any(part == "__pycache__" or part[0] == "." for part in path.parts[-4:])
    }
    assert files - wheel == set()


def test_the_wheel_holds_the_migrations_and_the_marker_of_types(wheel: set[str]) -> None:
    assert {"djtasks/py.typed", "djtasks/migrations/__init__.py", "djtasks/migrations/0001_initial.py"} <= wheel


def test_the_wheel_holds_nothing_but_the_package(wheel: set[str]) -> None:
    assert {name.partition("/")[0].partition("-")[0] for name in wheel} == {"djtasks"}


def test_the_license_travels_with_the_wheel(wheel: set[str]) -> None:
    assert any(name.endswith("/LICENSE") for name in wheel)
