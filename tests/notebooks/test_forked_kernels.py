"""A copied kernel is what a new one is, but for what it has imported already."""

import signal
import time
from pathlib import Path

import nbformat
import pytest
from jupyter_client.provisioning import KernelProvisionerFactory
from nbclient import NotebookClient
from nbclient.exceptions import DeadKernelError
from nbval.kernel import CURRENT_ENV_KERNEL_NAME, RunningKernel

from notebooks import forked_kernels
from notebooks.plugin import kernel_environment

pytestmark = pytest.mark.skipif(not forked_kernels.possible(), reason="kernels are copied on Linux")


@pytest.fixture
def client(monkeypatch, tmp_path):
    """Makes a client that runs cells in a copied kernel in an empty folder."""
    for name, value in kernel_environment().items():
        monkeypatch.setenv(name, value)
    factory = KernelProvisionerFactory.instance()
    monkeypatch.setattr(factory, "default_provisioner_name", factory.default_provisioner_name)
    forked_kernels.use(kernel_environment())

    def make(*cells):
        notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
        return NotebookClient(notebook, resources={"metadata": {"path": str(tmp_path)}})

    return make


@pytest.fixture
def printed(client):
    """What cells print in a copied kernel."""

    def run(*cells):
        notebook = client(*cells).execute()
        return [cell.outputs[0].text.strip() if cell.outputs else "" for cell in notebook.cells]

    return run


def test_its_packages_are_there_and_their_names_are_not(printed):
    (imported, named, tests) = printed(
        "import sys; print('torch' in sys.modules)",
        "print('torch' in globals())",
        "print(any('tests' in name.split('.') or 'notebooks' in name for name in sys.modules))",
    )
    assert (imported, named, tests) == ("True", "False", "False")


def test_it_finds_what_a_new_kernel_finds(printed, tmp_path):
    (tmp_path / "beside.py").write_text("here = 1\n", encoding="utf8")
    (folder, beside, found) = printed(
        "import os; print(os.getcwd())",
        "import beside; print(beside.here)",
        "try:\n    import notebooks\nexcept ImportError:\n    print('not found')",
    )
    assert (folder, beside, found) == (str(tmp_path), "1", "not found")


def test_it_inherits_the_environment_of_its_own_time(printed, monkeypatch):
    seen = "import os; print(os.environ.get('ONLY_NOW'), os.environ.get('PYTHONHASHSEED'))"
    assert printed(seen) == ["None 0"]
    monkeypatch.setenv("ONLY_NOW", "yes")
    monkeypatch.delenv("PYTHONHASHSEED")
    assert printed(seen) == ["yes None"]


def test_what_one_does_another_does_not_see(printed):
    look = "import torch; print(torch.initial_seed(), hasattr(torch, 'changed'))"
    before = printed(look)
    printed("import torch; torch.manual_seed(1); torch.changed = True")
    assert printed(look) == before
    assert before[0].endswith("False")


def test_its_processes_may_have_children(printed):
    assert printed(
        "from multiprocessing import get_context",
        "with get_context('spawn').Pool(1) as pool:\n    print(pool.map(abs, [-1]))",
    ) == ["", "[1]"]


def test_its_death_is_noticed(client):
    with pytest.raises(DeadKernelError):
        client(f"import os; os.kill(os.getpid(), {int(signal.SIGKILL)})").execute()


def test_its_end_is_the_end_of_its_children(client, tmp_path):
    """As with a new kernel: each leads a group of processes, and nbval kills the group."""
    client()
    kernel = RunningKernel(CURRENT_ENV_KERNEL_NAME, cwd=str(tmp_path))
    message = kernel.execute_cell_input(
        "import pathlib, subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "pathlib.Path('child').write_text(str(child.pid))"
    )
    kernel.await_reply(message, timeout=60)
    kernel.stop()
    number = int((tmp_path / "child").read_text())
    for _ in range(100):
        if not alive(number):
            return
        time.sleep(0.05)
    pytest.fail("the child outlives its kernel")


def alive(number: int) -> bool:
    """Whether there is a process of this number that does not only wait to be forgotten."""
    try:
        state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
