"""Kernels that begin as forks of one process which has imported the large packages already.

To import torch, Matplotlib and IPython takes a kernel some seconds of processor time, and there is
a kernel for each notebook. Linux can copy a process instead. A copy is what a new process with the
same imports would be: no thread runs in it, nothing is drawn or seeded, and a name that a notebook
does not import itself is not there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from functools import cache
from importlib.metadata import EntryPoint
from multiprocessing import forkserver, get_context
from multiprocessing.process import BaseProcess

import pytest
from jupyter_client.provisioning import KernelProvisionerFactory, LocalProvisioner

from notebooks.kernel.forked import run

NAME = "forked-kernels"
MODULE = ["-m", "ipykernel_launcher"]
WORTH_IT = 3  # notebooks; for fewer the one process is more work than it saves


def possible() -> bool:
    """Whether this system copies processes; macOS does, but its libraries forbid it."""
    return sys.platform == "linux"


def use(environment: dict[str, str]) -> None:
    """Let every kernel that this process starts be such a copy.

    The process to copy from is started now, in the kernels' environment. (Python has one such for
    each process; where some test's was first, kernels import as usual.)
    """
    get_context("forkserver").set_forkserver_preload(["preloaded"])
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        # A kernel that is killed leaves its locks behind, and nobody need hear of it.
        patch.setenv("PYTHONWARNINGS", "ignore:resource_tracker")
        forkserver.ensure_running()
    factory = KernelProvisionerFactory.instance()
    factory.provisioners[NAME] = EntryPoint(
        NAME, f"{__name__}:ForkedKernels", KernelProvisionerFactory.GROUP_NAME
    )
    factory.default_provisioner_name = NAME


@cache
def path_of_a_new_process(python: str, more: str) -> list[str]:
    """Where a new Python finds its modules, given PYTHONPATH."""
    command = [python, "-c", "import json, sys; print(json.dumps(sys.path))"]
    environment = os.environ | {"PYTHONPATH": more}
    found = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return [folder for folder in json.loads(found.stdout) if folder]


class ForkedKernels(LocalProvisioner):
    """Starts a kernel as a copy of the process that has the imports."""

    async def launch_kernel(self, cmd, **kwargs):
        assert cmd[1:3] == MODULE, f"this is no command for a Python kernel: {cmd}"
        self.process = Copy(cmd[3:], kwargs["cwd"], dict(kwargs["env"]))
        self.pid = self.pgid = self.process.pid  # it leads a group of its own
        self.cwd = kwargs["cwd"]
        return self.connection_info


class Copy:
    """A process of `multiprocessing` with the part of `subprocess.Popen` that is asked for."""

    stdin = stdout = stderr = None

    def __init__(self, arguments: list[str], folder: str, environment: dict[str, str]) -> None:
        path = path_of_a_new_process(sys.executable, environment.get("PYTHONPATH", ""))
        self._process: BaseProcess = get_context("forkserver").Process(
            target=run, args=(arguments, folder, environment, path)
        )
        self._process.start()
        self.pid = self._process.pid

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self) -> int:
        self._process.join()
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)
