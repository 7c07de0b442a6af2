"""The comparison of notebooks, run as `make test` runs it, fails where it should.

One run compares a folder of small notebooks, each with one fault; what became of each is asked in
the tests.
"""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from notebooks import house_rules, samples
from tools.notebook import serialise

ROOT = Path(__file__).resolve().parents[2]


def options_of_make_test() -> list[str]:
    """The options after `pytest` in the Makefile's target `test`."""
    line = re.search(r"\$\(BIN\)/pytest (.*)", (ROOT / "Makefile").read_text(encoding="utf8"))
    return shlex.split(line[1])


def compare(
    folder: Path, n_workers: int, **notebooks
) -> tuple[set[str], subprocess.CompletedProcess]:
    """Run the notebooks in the folder; the names of the cells that failed, and the whole run."""
    for name, notebook in notebooks.items():
        (folder / f"{name}.ipynb").write_text(serialise(notebook), encoding="utf8")
    report = folder / "report.xml"
    command = [sys.executable, "-m", "pytest", "-p", "notebooks.plugin", *options_of_make_test()]
    command += ["-c", ROOT / "pyproject.toml", f"--rootdir={folder}", f"--junitxml={report}"]
    command += [f"-n{n_workers}"]
    environment = {key: value for key, value in os.environ.items() if "PYTEST" not in key}
    run = subprocess.run(
        [*command, folder],
        cwd=ROOT,
        env=environment | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"},
        capture_output=True,
        text=True,
        check=False,
    )
    failed = set()
    by_stem = {name.rpartition("/")[2]: notebook for name, notebook in notebooks.items()}
    for case in ElementTree.parse(report).iter("testcase"):
        if case.find("failure") is not None:
            notebook = by_stem[case.get("classname").split(".")[-2]]
            failed.add(notebook.cells[int(case.get("name").removeprefix("Cell "))].id)
    return failed, run


def from_cells(cells: dict[str, tuple]):
    """A notebook of named cells, each given by its code, its stored outputs and maybe a tag."""
    return samples.notebook(
        *(
            samples.code(name, code, *outputs, tags=tags)
            for name, (code, outputs, *tags) in cells.items()
        )
    )


def html(words):
    """Code that shows a table, and a stored output of it."""
    data = {"text/html": words, "text/plain": "<IPython.core.display.HTML object>"}
    return "display(HTML('<b>one</b>'))", [samples.new_output("display_data", data=data)]


def drawing(code):
    """Code that draws; its stored text is what Matplotlib says of it."""
    data = {"image/png": samples.IMAGE, "text/plain": "<Figure size 640x480 with 1 Axes>"}
    return (
        f"plt.close('all')\nfigure, axes = plt.subplots()\n{code}\nplt.show()",
        [samples.new_output("display_data", data=data)],
    )


IMPORTS = (
    "import os, sys\nimport matplotlib.pyplot as plt\nfrom IPython.display import HTML, display"
)
ZERO = [samples.error("ZeroDivisionError", "division by zero")]
LABELS = "axes.set(xlabel='query', ylabel='score')"

GOOD = {
    "good-imports": (IMPORTS, []),
    "good-text": ("print('one')", [samples.printed("one\n")]),
    "good-table": html("<b>one</b>"),
    "good-error": ("1 / 0", ZERO, "raises-exception"),
    "good-figure": drawing(LABELS),
    "one-thread": ("print(os.environ['OMP_NUM_THREADS'])", [samples.printed("1\n")]),
}
BAD = {
    "text-changed": ("print('one')", [samples.printed("two\n")]),
    "digit-changed": ("print(0.125)", [samples.printed("0.126\n")]),
    "table-changed": html("<b>two</b>"),
    "stderr-appears": ("print('one', file=sys.stderr)", []),
    "output-missing": ("print('one')", []),
    "raises": ("1 / 0", []),
    "no-longer-raises": ("one = 1", ZERO, "raises-exception"),
    "raises-another": ("int('one')", ZERO, "raises-exception"),
    "figure-without-labels": drawing("axes.plot([1, 2])"),
    "figure-with-overlap": drawing(LABELS + "\naxes.text(0, 0, 'one')\naxes.text(0, 0, 'two')"),
}
EXEMPT = {
    "ignored": ("print('one')", [samples.printed("two\n")], "nbval-ignore-output"),
    "skipped": ("1 / 0", [], "nbval-skip"),
}


def never_run():
    notebook = from_cells({"never-run": ("print('one')", [])})
    notebook.cells[0].execution_count = None
    return notebook


@pytest.fixture(scope="module")
def comparison(tmp_path_factory):
    """One notebook with cells of each kind, and one that was never run."""
    folder = tmp_path_factory.mktemp("compared")
    return compare(folder, 1, cells=from_cells(GOOD | BAD | EXEMPT), never_run=never_run())


def test_bad_cells_fail_and_good_ones_pass(comparison):
    failed, run = comparison
    assert failed == BAD.keys(), run.stdout
    assert run.returncode == 1


def test_failures_say_what_is_wrong(comparison):
    _, run = comparison
    assert "has no x label" in run.stdout
    assert "'one' and 'two' overlap" in run.stdout


def test_run_tells_what_it_compared(comparison):
    _, run = comparison
    compared = len(GOOD) + len(BAD) + 1  # and the one that was never run
    assert f"notebook cells: {compared} compared, 2 exempt, in 2 notebooks" in run.stdout
    for name in EXEMPT:
        assert f"exempt: cells.ipynb#{name}" in run.stdout


def test_never_run_notebook_fails_by_the_house_rules(comparison):
    failed, _ = comparison
    assert "never-run" not in failed  # nbval lets it pass
    found = house_rules.notebook_problems(never_run())
    assert any("execution count is None" in problem for problem in found)


def test_run_that_compares_nothing_fails(tmp_path):
    failed, run = compare(tmp_path, 0, exempt=from_cells(EXEMPT))
    assert not failed
    assert run.returncode == 1
    assert "no cell was compared" in run.stdout
