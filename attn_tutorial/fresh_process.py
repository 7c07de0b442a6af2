"""What a module prints when a fresh process runs it as a program, remembered on this machine.

The data of several chapters are docstrings, and a library may change another's once both are
imported. So they are read by a process that did nothing else, which takes some ten seconds, and the
next reader gets what that process printed.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path

import joblib
import platformdirs

MOST_REMEMBERED = 20


def printed_by(module_name: str) -> str:
    """What a module prints when a fresh process runs it as a program.

    It is remembered in the user's folder for caches until anything changes that it may depend on:
    the version of Python or of a package installed, or the source of this one.

    Parameters
    ----------
    module_name : str
        A module whose output is a function of what is installed.

    Raises
    ------
    RuntimeError
        Where the process fails; that is not remembered.
    """
    memory = _memory()
    printed = memory.cache(_printed_by)(module_name, _what_it_depends_on())
    memory.reduce_size(items_limit=MOST_REMEMBERED)
    return printed


def _printed_by(module_name: str, depends_on: str) -> str:
    process = subprocess.run(
        [sys.executable, "-m", module_name],
        capture_output=True,
        text=True,
        encoding="utf8",
        env={**os.environ, "PYTHONIOENCODING": "utf8"},
        check=False,
    )
    if process.returncode != 0:
        raise RuntimeError(f"{module_name} could not be run:\n{process.stderr[-2000:]}")
    return process.stdout


def _memory() -> joblib.Memory:
    """Where it is remembered; nowhere, if the folder cannot be written."""
    folder = platformdirs.user_cache_path("attn_tutorial")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return joblib.Memory(None, verbose=0)
    return joblib.Memory(folder if os.access(folder, os.W_OK) else None, verbose=0)


def _what_it_depends_on() -> str:
    digest = hashlib.sha256(sys.version.encode())
    for name in sorted(f"{one.name} {one.version}" for one in distributions()):
        digest.update(name.encode())
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
