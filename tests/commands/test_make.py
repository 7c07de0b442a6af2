"""The Makefile's commands and the pinned requirements agree with each other."""

import os
import re
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[2]
OUR_PACKAGE = "attn-tutorial"


def make(*arguments, folder=ROOT) -> str:
    """What make prints. Nothing of a make that runs these tests is handed on."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MAKE")}
    run = subprocess.run(
        ["make", "--no-print-directory", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return run.stdout


def requirements(name: str) -> list[Requirement]:
    """The requirements in a file, without comments."""
    lines = (ROOT / name).read_text(encoding="utf8").splitlines()
    return [Requirement(text) for line in lines if (text := line.partition("#")[0].strip())]


def versions(pinned: list[Requirement]) -> dict[str, str]:
    """The one version of each package, by its canonical name."""
    found = {}
    for requirement in pinned:
        (specifier,) = requirement.specifier
        assert specifier.operator == "==", f"{requirement} is not pinned with =="
        found[canonicalize_name(requirement.name)] = specifier.version
    return found


@pytest.fixture(scope="module")
def pins():
    return versions(requirements("requirements.txt"))


def test_help_lists_every_target():
    makefile = (ROOT / "Makefile").read_text(encoding="utf8")
    targets = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[1].split()
    listed = re.findall(r"^  make ([a-z]+) +\S", make("help"), re.MULTILINE)
    assert listed == targets
    assert make() == make("help")


def test_tests_compare_notebooks():
    assert "pytest --nbval " in make("--dry-run", "test")


@pytest.fixture
def installed(tmp_path):
    """A copy in which everything was installed a moment ago."""
    for name in ("Makefile", "requirements.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / ".venv").mkdir()
    for seconds, name in enumerate(("requirements.txt", "pyproject.toml", ".venv/.installed"), 1):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (seconds, seconds))
    return tmp_path


def test_second_build_installs_nothing(installed):
    planned = make("--dry-run", "site", folder=installed)
    assert "jupyter-book build" in planned
    assert "pip install" not in planned


@pytest.mark.parametrize("name", ["requirements.txt", "pyproject.toml"])
def test_changed_requirements_are_installed(installed, name):
    (installed / name).touch()
    assert "pip install" in make("--dry-run", "site", folder=installed)


def test_every_direct_requirement_is_pinned(pins):
    for requirement in requirements("requirements.in"):
        pinned = pins.get(canonicalize_name(requirement.name))
        assert pinned, f"requirements.txt lacks {requirement}; run make pin"
        assert pinned in requirement.specifier, f"{requirement} is pinned at {pinned}"


def test_every_installed_package_is_pinned(pins):
    """The outputs in the notebooks reproduce with these versions and no others."""
    installed = {
        canonicalize_name(distribution.name): Version(distribution.version).public
        for distribution in metadata.distributions()
    }
    del installed[OUR_PACKAGE]
    drifted = {name: version for name, version in installed.items() if pins.get(name) != version}
    assert not drifted, f"installed, but not as in requirements.txt: {drifted}"


def test_unpinned_requirement_is_told():
    with pytest.raises(AssertionError, match="not pinned"):
        versions([Requirement("numpy>=2")])
