"""What a copied process does to become a kernel: see forked_kernels.py in the folder above."""

from __future__ import annotations

import os
import sys


def run(arguments: list[str], folder: str, environment: dict[str, str], path: list[str]) -> None:
    """Be the kernel that `python -m ipykernel_launcher` with these arguments would have been."""
    from ipykernel.kernelapp import launch_new_instance

    os.setsid()
    silence()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.path[:] = path  # not that of the tests
    for name in [name for name in sys.modules if name.partition(".")[0] == "notebooks"]:
        del sys.modules[name]
    sys.argv[:] = ["ipykernel_launcher", *arguments]
    launch_new_instance()


def silence() -> None:
    """Nothing is read from, or written to, where the tests read and write."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in range(3):
        os.dup2(nowhere, number)
    os.close(nowhere)
