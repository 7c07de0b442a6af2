"""The concordance names every line of the documents once, and what it says is treated is there."""

from pathlib import Path

import pytest
import yaml

from errata import ledger
from errata.test_errata import DOCUMENTS, ROOT, assert_none, needs_documents
from tools import concordance

PATH = ROOT / "chapters" / "faq" / "concordance.yml"


@pytest.fixture(scope="module")
def lines():
    return concordance.load(PATH)


def targets(lines):
    """Each line's id with each of the places that treat it."""
    return [(line.id, target) for line in lines for target in line.treated]


def test_every_target_is_there(lines):
    assert_none(ledger.target_problems(targets(lines), ROOT))


@needs_documents
def test_the_lines_are_those_of_the_documents():
    assert set(concordance.wanted_ids()) == ledger.read_coverage(DOCUMENTS)


# Each check is shown to fail.


def content() -> list[dict]:
    return yaml.safe_load(PATH.read_text(encoding="utf8"))


def load(folder: Path, raw: list[dict]):
    path = folder / "concordance.yml"
    path.write_text(yaml.safe_dump(raw, allow_unicode=True), encoding="utf8")
    return concordance.load(path)


def with_first(**fields) -> list[dict]:
    """The concordance with other fields in its first line; None takes a field away."""
    raw = content()
    raw[0] = {key: value for key, value in (raw[0] | fields).items() if value is not None}
    return raw


REFUSED = {
    "missing": (lambda: content()[1:], "000-01: the line is missing"),
    "twice": (lambda: [content()[0], *content()], "not each there once"),
    "in another order": (lambda: content()[::-1], "not each there once, in order"),
    "no such line": (lambda: with_first(id="000-99"), "there is no line '000-99'"),
    "no such kind": (lambda: with_first(kind="poem"), "kind: wanted one of"),
    "not treated": (lambda: with_first(treated=None), "treated: the field is missing"),
    "treated nowhere": (lambda: with_first(treated=[]), "treated: wanted at least one page"),
    "no path": (lambda: with_first(treated=["softmax"]), "wanted a page or a cell"),
    "no cell": (
        lambda: with_first(kind="formula", treated=["chapters/math/softmax.ipynb"]),
        "a line of kind formula needs a cell",
    ),
    "unknown field": (lambda: with_first(done=True), "done: no such field"),
    "says nothing": (lambda: with_first(says=" "), "says: wanted a text"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_malformed_concordance_is_refused(tmp_path, name):
    make, problem = REFUSED[name]
    with pytest.raises(ValueError, match=problem):
        load(tmp_path, make())


@pytest.mark.parametrize(
    ("target", "problem"),
    [
        ("chapters/math/nothing.ipynb", "there is no page"),
        ("chapters/math/softmax.ipynb#nothing-here", "has no code cell nothing-here"),
        ("chapters/math/softmax.ipynb#title", "has no code cell title"),
    ],
)
def test_missing_target_is_told(tmp_path, target, problem):
    lines = load(tmp_path, with_first(treated=[target]))
    found = list(ledger.target_problems(targets(lines), ROOT))
    assert len(found) == 1
    assert problem in found[0]


def test_page_outside_the_book_is_told(tmp_path):
    (tmp_path / "chapters").mkdir()
    (tmp_path / "chapters" / "draft.md").write_text("# Draft\n", encoding="utf8")
    (tmp_path / "_toc.yml").write_text("root: index\n", encoding="utf8")
    line = load(tmp_path, with_first(treated=["chapters/draft.md"]))[0]
    assert list(ledger.target_problems(targets([line]), tmp_path)) == [
        "000-01: chapters/draft.md is not in _toc.yml"
    ]
