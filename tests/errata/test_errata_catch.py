"""Each check of the errata ledger is shown to fail."""

import copy
from pathlib import Path

import pytest
import yaml

from errata import ledger
from notebooks import samples
from tools import errata
from tools.notebook import serialise

ENTRY = {
    "id": "003-crash-flattened-matrix",
    "places": [
        {"document": "003", "section": "4", "coverage": ["003-21"], "quote": "X.flatten()"},
    ],
    "kind": "crash",
    "verdict": "error",
    "wrong": "The program flattens the matrix.",
    "right": "Correlate the rows.",
    "proof": ["chapters/math/correlation.ipynb#program-crashes"],
    "sources": ["pearson1895"],
}
NOTEBOOK = samples.notebook(
    samples.text("title", "# Correlation"),
    samples.code("program-crashes", "assert 1 + 1 == 2"),
    samples.code("asserts-arrays", "np.testing.assert_allclose(1, 1)"),
    samples.code("asserts-tensors", "torch.testing.assert_close(1, 1)"),
    samples.code("asserts-nothing", "print('assert')"),
    samples.code("ignored", "assert 1 + 1 == 2", tags=["nbval-ignore-output"]),
    samples.code("skipped", "assert 1 + 1 == 2", tags=["nbval-skip"]),
    samples.code("ignored-by-comment", "# NBVAL_IGNORE_OUTPUT\nassert 1 + 1 == 2"),
)
PATH = "chapters/math/correlation.ipynb"
KEYS = {"pearson1895"}
TEXTS = {"003": "r = np.corrcoef(X.flatten())", "004": "nothing of the kind"}
LINES = {"003-21", "004-01"}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A book with one notebook."""
    folder = tmp_path_factory.mktemp("book")
    (folder / PATH).parent.mkdir(parents=True)
    (folder / PATH).write_text(serialise(NOTEBOOK), encoding="utf8")
    return folder


def load(folder: Path, *entries: dict) -> list[errata.Entry]:
    path = folder / "errata.yml"
    path.write_text(yaml.safe_dump(list(entries), allow_unicode=True), encoding="utf8")
    return errata.load(path)


def changed(place=None, **fields) -> dict:
    """The good entry with other fields, and another field of its place."""
    entry = copy.deepcopy(ENTRY) | fields
    entry["places"][0] |= place or {}
    return entry


def problems(root, entries):
    return [
        *ledger.proof_problems(entries, root),
        *ledger.source_problems(entries, KEYS),
        *ledger.quote_problems(entries, TEXTS),
        *ledger.coverage_problems(entries, LINES),
    ]


@pytest.mark.parametrize("cell", ["program-crashes", "asserts-arrays", "asserts-tensors"])
def test_good_entry_has_no_problem(root, cell):
    assert problems(root, load(root, changed(proof=[f"{PATH}#{cell}"]))) == []


BREAKS = {
    "no such notebook": (
        changed(proof=["chapters/math/nothing.ipynb#program-crashes"]),
        "there is no such notebook",
    ),
    "no such cell": (changed(proof=[f"{PATH}#nothing"]), "the notebook has no such cell"),
    "prose": (changed(proof=[f"{PATH}#title"]), "this is a cell of prose"),
    "no assertion": (changed(proof=[f"{PATH}#asserts-nothing"]), "the cell asserts nothing"),
    "ignored": (changed(proof=[f"{PATH}#ignored"]), "nbval does not compare"),
    "skipped": (changed(proof=[f"{PATH}#skipped"]), "nbval does not compare"),
    "ignored by a comment": (
        changed(proof=[f"{PATH}#ignored-by-comment"]),
        "nbval does not compare",
    ),
    "unknown source": (changed(sources=["pearson1985"]), "references.bib has no such key"),
    "wrong quotation": (changed(place={"quote": "X.ravel()"}), "003 does not hold 'X.ravel()'"),
    "quotation of another document": (
        changed(id="004-crash", place={"document": "004", "coverage": ["004-01"]}),
        "004 does not hold",
    ),
    "unknown line": (changed(place={"coverage": ["003-99"]}), "has no line 003-99"),
    "line of another document": (
        changed(place={"coverage": ["004-01"]}),
        "line 004-01 is not of document 003",
    ),
}


@pytest.mark.parametrize("name", BREAKS)
def test_broken_entry_is_told(root, name):
    entry, problem = BREAKS[name]
    found = problems(root, load(root, entry))
    assert len(found) == 1, found
    assert problem in found[0]
    assert found[0].startswith(entry["id"])


@pytest.mark.parametrize(
    ("entries", "problem"),
    [
        ([ENTRY, ENTRY], "the id is used 2 times"),
        ([changed(proof=[], sources=[])], "wanted at least one proof"),
        ([changed(proof=["correlation.ipynb"])], "wanted path#cell-id"),
    ],
)
def test_malformed_ledger_is_refused(root, entries, problem):
    with pytest.raises(ValueError, match=problem):
        load(root, *entries)


def test_documents_and_coverage_are_read(tmp_path):
    (tmp_path / "003_5f.txt").write_text("相关系数", encoding="utf8")
    (tmp_path / "coverage.md").write_text("# 1\n\n- 003-21 代码｜§4\nno 003-22\n", encoding="utf8")
    assert ledger.read_documents(tmp_path) == {"003": "相关系数"}
    assert ledger.read_coverage(tmp_path) == {"003-21"}
