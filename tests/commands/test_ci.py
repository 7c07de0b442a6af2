"""The script of the continuous integration installs what is missing, and hides no failure.

It runs here with nothing on its path but stand-ins, which write down how they were called.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
REAL = ("bash", "dirname", "env", "id")
RECORD = '#!/bin/sh\necho "$(basename "$0") $*" >> "$CALLS"\n'


class Machine:
    """A machine with only the commands in its folder."""

    def __init__(self, folder: Path):
        self.commands = folder / "bin"
        self.calls = folder / "calls"
        self.commands.mkdir()
        for name in (*REAL, "basename", "sh"):
            (self.commands / name).symlink_to(shutil.which(name))
        (self.commands / "python3").symlink_to(sys.executable)
        self.add("make", 'echo "REQUIRE_BROWSER=$REQUIRE_BROWSER" >> "$CALLS"')
        self.add("apt-get")
        self.add("sudo", 'exec "$@"')

    def add(self, name: str, more: str = "") -> None:
        (self.commands / name).write_text(RECORD + more + "\n")
        (self.commands / name).chmod(0o755)

    def run(self) -> subprocess.CompletedProcess:
        return subprocess.run(
            [ROOT / ".ci" / "run"],
            env={"PATH": str(self.commands), "CALLS": str(self.calls)},
            capture_output=True,
            text=True,
            check=False,
        )

    def installed(self) -> list[str]:
        """The packages that apt-get was asked to install."""
        calls = [call.split() for call in self.calls.read_text().splitlines()]
        installs = [call for call in calls if call[:2] == ["apt-get", "install"]]
        return [word for call in installs for word in call[2:] if not word.startswith("-")]


@pytest.fixture
def machine(tmp_path):
    return Machine(tmp_path)


def complete(machine: Machine) -> None:
    """Give the machine a browser, and fonts for every language."""
    machine.add("chromium")
    machine.add("fc-list", "echo 'A font'")


def test_complete_machine_gets_nothing(machine):
    complete(machine)
    run = machine.run()
    assert run.returncode == 0, run.stderr
    assert machine.installed() == []
    assert machine.calls.read_text().endswith("make test\nREQUIRE_BROWSER=1\n")


def test_bare_machine_gets_browser_and_fonts(machine):
    assert machine.run().returncode == 0
    wanted = {"chromium-headless-shell", "fontconfig", "fonts-dejavu-core", "fonts-wqy-zenhei"}
    assert set(machine.installed()) == wanted
    assert machine.calls.read_text().count("apt-get update") == 1


def test_browser_that_does_not_start_is_none(machine):
    complete(machine)
    machine.add("chromium", "exit 1")
    assert machine.run().returncode == 0
    assert machine.installed() == ["chromium-headless-shell"]


def test_a_system_without_the_small_browser_gets_the_large_one(machine):
    complete(machine)
    (machine.commands / "chromium").unlink()
    machine.add("apt-get", 'case "$*" in *headless*) exit 100;; esac')
    assert machine.run().returncode == 0
    assert machine.installed() == ["chromium-headless-shell", "chromium"]


@pytest.mark.parametrize("command", ["make", "apt-get"])
def test_failures_are_not_hidden(machine, command):
    machine.add(command, "exit 3")
    assert machine.run().returncode == 3


def test_missing_python_is_told(machine):
    (machine.commands / "python3").unlink()
    run = machine.run()
    assert run.returncode == 1
    assert "No Python found" in run.stderr
