"""The pytest plugin around nbval: what kernels inherit, and what was compared.

nbval runs each notebook and compares each cell's outputs with the stored ones. This plugin

- gives the kernels one thread, and a Matplotlib backend that refuses figures that cannot be read;
- copies kernels from one process, where there are several (forked_kernels.py);
- counts the cells, tells the exempt ones, and fails a run that compared nothing;
- negates, before it runs a cell that proves an erratum, each of its assertions, and fails the cell
  unless each negated assertion was seen to fail (kernel/negated.py).
"""

from __future__ import annotations

import json
import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
from nbval.plugin import IPyNbCell

from notebooks import forked_kernels
from tools import errata
from tools.notebook import KERNEL_ENVIRONMENT

BACKEND_FOLDER = Path(__file__).parent / "kernel"
CELL = "notebook cell"
NEGATED = "negated assertions"
LEDGER = "chapters/faq/errata.yml"
SLOWEST_SHOWN = 3
SECONDS_A_NEGATION = 150


def kernel_environment() -> dict[str, str]:
    """What a kernel inherits beside the environment of the tests."""
    folders = [str(BACKEND_FOLDER), *filter(None, [os.environ.get("PYTHONPATH")])]
    return KERNEL_ENVIRONMENT | {
        "PYTHONPATH": os.pathsep.join(folders),
        "MPLBACKEND": "module://checked_figures",
    }


def pytest_collection_finish(session: pytest.Session) -> None:
    notebooks = {item.parent for item in session.items if isinstance(item, IPyNbCell)}
    if forked_kernels.possible() and len(notebooks) >= forked_kernels.WORTH_IT:
        forked_kernels.use(kernel_environment())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_setup(item: pytest.Item) -> Iterator[None]:
    """Start the notebook's kernel, which the first cell's setup does, in its environment."""
    if not isinstance(item, IPyNbCell):
        return (yield)
    path = item.nodeid.split("::")[0]
    exempt = item.options["skip"] or not item.options["check"]
    item.user_properties.append((CELL, [path, item.cell.id, bool(exempt)]))
    with pytest.MonkeyPatch.context() as patch:
        for name, value in kernel_environment().items():
            patch.setenv(name, value)
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """See each assertion of a proof fail when it is negated, before the cell itself is run."""
    if not isinstance(item, IPyNbCell) or item.options["skip"]:
        return (yield)
    path = item.nodeid.split("::")[0]
    problems = []
    if (path, item.cell.id) in proofs(item.config.rootpath):
        result = negate(item)
        item.user_properties.append((NEGATED, result["assertions"]))
        problems = result["problems"]
        if not result["assertions"]:
            problems = problems or ["it asserts nothing"]
    outcome = yield
    if problems:
        pytest.fail(
            f"{path}#{item.cell.id} proves an erratum, but of its assertions, negated:\n  "
            + "\n  ".join(problems),
            pytrace=False,
        )
    return outcome


@cache
def proofs(root: Path) -> frozenset[tuple[str, str]]:
    """The path and the name of each cell that the ledger calls a proof."""
    if not (root / LEDGER).exists():
        return frozenset()
    entries = errata.load(root / LEDGER)
    return frozenset((proof.path, proof.cell) for entry in entries for proof in entry.proof)


def negate(item: IPyNbCell) -> dict:
    """What became of the cell's negated assertions, in a fork of its notebook's kernel."""
    kernel = item.parent.kernel
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "negated.json"
        code = f"__import__('negated').report({item.cell.source!r}, {str(path)!r})"
        message = kernel.kc.execute(code, silent=True, store_history=False, allow_stdin=False)
        kernel.await_reply(message, timeout=SECONDS_A_NEGATION)
        if not path.exists():
            return {"assertions": 0, "problems": ["they could not be run"]}
        return json.loads(path.read_text(encoding="utf8"))


class CellCount:
    """What became of the notebooks' cells, from the reports of every worker."""

    def __init__(self) -> None:
        self.compared: Counter[str] = Counter()
        self.exempt: list[str] = []
        self.seconds: Counter[str] = Counter()
        self.proofs = self.negated = 0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        cell = dict(report.user_properties).get(CELL)
        if cell is None:
            return
        path, name, exempt = cell
        self.seconds[path] += report.duration
        if report.when == "call" and report.passed:
            assertions = dict(report.user_properties).get(NEGATED, 0)
            self.proofs += assertions > 0
            self.negated += assertions
        # A skipped cell ends in its setup or its call; no other cell is skipped.
        if exempt and (report.when == "call" or report.skipped):
            self.exempt.append(f"{path}#{name}")
        elif report.when == "call":
            self.compared[path] += 1

    @property
    def compared_nothing(self) -> bool:
        return bool(self.seconds) and not self.compared

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.compared_nothing:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if not self.seconds:
            return
        terminalreporter.section("notebooks")
        terminalreporter.line(
            f"notebook cells: {self.compared.total()} compared, {len(self.exempt)} exempt, "
            f"in {len(self.seconds)} notebooks"
        )
        terminalreporter.line(
            f"proofs of errata: {self.proofs} cells; each of their {self.negated} assertions was "
            "seen to fail when negated"
        )
        for cell in self.exempt:
            terminalreporter.line(f"exempt: {cell}")
        for path, seconds in self.seconds.most_common(SLOWEST_SHOWN):
            terminalreporter.line(f"slowest: {path}, {seconds:.0f} s")
        if self.compared_nothing:
            terminalreporter.line("FAILED: notebooks were run and no cell was compared", red=True)


def pytest_configure(config: pytest.Config) -> None:
    is_worker = hasattr(config, "workerinput")
    if config.option.nbval and not is_worker:
        # The first import of Matplotlib on a machine may write to stderr that it lists the fonts;
        # done here, no notebook's output shows it.
        import matplotlib.font_manager  # noqa: F401

        config.pluginmanager.register(CellCount())
