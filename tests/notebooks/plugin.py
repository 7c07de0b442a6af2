"""The pytest plugin around nbval: what kernels inherit, and what was compared.

nbval runs each notebook and compares each cell's outputs with the stored ones. This plugin

- gives the kernels one thread, and a Matplotlib backend that refuses figures that cannot be read;
- counts the cells, tells the exempt ones, and fails a run that compared nothing.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from nbval.plugin import IPyNbCell

from tools.notebook import KERNEL_ENVIRONMENT

BACKEND_FOLDER = Path(__file__).parent / "kernel"
CELL = "notebook cell"
SLOWEST_SHOWN = 3


def kernel_environment() -> dict[str, str]:
    """What a kernel inherits beside the environment of the tests."""
    folders = [str(BACKEND_FOLDER), *filter(None, [os.environ.get("PYTHONPATH")])]
    return KERNEL_ENVIRONMENT | {
        "PYTHONPATH": os.pathsep.join(folders),
        "MPLBACKEND": "module://checked_figures",
    }


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


class CellCount:
    """What became of the notebooks' cells, from the reports of every worker."""

    def __init__(self) -> None:
        self.compared: Counter[str] = Counter()
        self.exempt: list[str] = []
        self.seconds: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        cell = dict(report.user_properties).get(CELL)
        if cell is None:
            return
        path, name, exempt = cell
        self.seconds[path] += report.duration
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
