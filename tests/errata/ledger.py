"""Hold the errata ledger to the notebooks, the bibliography and the documents.

`tools/errata.py` has checked each entry's fields by then. Each function here takes the entries and
yields the problems in words.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from notebooks.house_rules import holds_assertion, is_exempt
from tools.concordance import Target
from tools.errata import Entry, Proof

Problems = Iterator[str]

COVERAGE_LINE = re.compile(r"- ((?:00[0-4]|X)-\d+) ")


def proof_problems(entries: list[Entry], root: Path) -> Problems:
    """Each proof is a code cell that asserts and that nbval compares."""
    for entry in entries:
        for proof in entry.proof:
            problem = cell_problem(proof, root)
            if problem:
                yield f"{entry.id}: proof {proof.path}#{proof.cell}: {problem}"


def cell_problem(proof: Proof, root: Path) -> str | None:
    """What keeps the cell from proving anything."""
    path = root / proof.path
    if not path.is_file():
        return "there is no such notebook"
    cells = {cell.id: cell for cell in read_notebook(path).cells}
    cell = cells.get(proof.cell)
    if cell is None:
        return f"the notebook has no such cell; it has {', '.join(cells)}"
    if cell.cell_type != "code":
        return "this is a cell of prose; wanted code"
    if is_exempt(cell):
        return "nbval does not compare the cell"
    if not holds_assertion(cell):
        return "the cell asserts nothing"
    return None


@cache
def read_notebook(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def target_problems(targets: Iterable[tuple[str, Target]], root: Path) -> Problems:
    """Each page that something names is in the book, and each cell is one of its code cells."""
    pages = (root / "_toc.yml").read_text(encoding="utf8")
    for name, target in targets:
        path = root / target.path
        if not path.is_file():
            yield f"{name}: there is no page {target.path}"
        elif f"file: {target.docname}\n" not in pages + "\n":
            yield f"{name}: {target.path} is not in _toc.yml"
        elif target.cell:
            cells = {cell.id for cell in read_notebook(path).cells if cell.cell_type == "code"}
            if target.cell not in cells:
                yield f"{name}: {target.path} has no code cell {target.cell}"


def source_problems(entries: list[Entry], keys: set[str]) -> Problems:
    """Each source is in the bibliography."""
    for entry in entries:
        for source in entry.sources:
            if source not in keys:
                yield f"{entry.id}: source {source}: references.bib has no such key"


def quote_problems(entries: list[Entry], documents: dict[str, str]) -> Problems:
    """Each quotation is in its document, word for word."""
    for entry in entries:
        for place in entry.places:
            if place.quote not in documents[place.document]:
                yield f"{entry.id}: document {place.document} does not hold {place.quote!r}"


def coverage_problems(entries: list[Entry], coverage: set[str]) -> Problems:
    """Each line of the list of contents that a place names exists, and is of its document."""
    for entry in entries:
        for place in entry.places:
            for line in place.coverage:
                if line not in coverage:
                    yield f"{entry.id}: coverage.md has no line {line}"
                elif not line.startswith((place.document, "X-")):
                    yield f"{entry.id}: line {line} is not of document {place.document}"


def read_documents(folder: Path) -> dict[str, str]:
    """The documents' texts by their numbers, the first three digits of their names."""
    return {path.name[:3]: path.read_text(encoding="utf8") for path in folder.glob("00*.txt")}


def read_coverage(folder: Path) -> set[str]:
    """The ids of the lines in the list of what the documents contain."""
    lines = (folder / "coverage.md").read_text(encoding="utf8").splitlines()
    return {match[1] for line in lines if (match := COVERAGE_LINE.match(line))}
