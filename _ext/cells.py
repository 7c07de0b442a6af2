"""Every code cell, and every cell that begins with a heading, gets an anchor from its id.

The cell ``pearson-weights-are-uniform`` gets ``cell-pearson-weights-are-uniform``.

A link to a cell is an ordinary MyST link, on the same page ``[text](#cell-<id>)`` and from another
``[text](../math/correlation.ipynb#cell-<id>)`` (or ``/chapters/math/…``, from the book's root). A
link to a cell that does not exist is a warning.
"""

from __future__ import annotations

import json
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.transforms import SphinxTransform

# So MyST-NB numbers the lines of the first cell: 10002, 10003 and so on.
LINES_A_CELL = 10_000
FIRST_LINE = 2


def anchor(cell_id: str) -> str:
    return f"cell-{cell_id}"


def link(document: str, page: str, target: str, content: nodes.inline) -> addnodes.pending_xref:
    """A link from one page of the book to an anchor of another."""
    reference = addnodes.pending_xref(
        refdoc=document,
        refdomain="doc",
        reftype="myst",
        reftarget=page,
        reftargetid=target,
        refexplicit=True,
    )
    reference += content
    return reference


def code_cells(document: nodes.document) -> list[nodes.container]:
    """The document's nodes that stand for code cells."""
    return [
        node for node in document.findall(nodes.container) if node.get("nb_element") == "cell_code"
    ]


def first_headings(document: nodes.document) -> dict[int, nodes.section]:
    """The section with which a cell begins, by the cell's place in the notebook."""
    found: dict[int, nodes.section] = {}
    for node in document.findall(nodes.section):
        index, line = divmod(node.line or 0, LINES_A_CELL)
        if index and line <= FIRST_LINE:
            found.setdefault(index - 1, node)
    return found


class AnchorCells(SphinxTransform):
    """Give cells their anchors, and tell MyST about them so that links resolve."""

    default_priority = 400  # before MyST resolves the links within a page (879)

    def apply(self, **kwargs) -> None:
        path = Path(self.env.doc2path(self.env.docname))
        if path.suffix != ".ipynb":
            return
        notebook = json.loads(path.read_text(encoding="utf8"))
        for node in code_cells(self.document):
            cell_id = notebook["cells"][node["cell_index"]].get("id")
            if cell_id:
                node["cell_id"] = cell_id
                self.make_known(anchor(cell_id), node)
        for index, node in first_headings(self.document).items():
            cell_id = notebook["cells"][index].get("id")
            if cell_id:
                self.make_known(anchor(cell_id), node)

    def make_known(self, name: str, node: nodes.Element) -> None:
        """Give the node the anchor, and enter it where MyST keeps those of headings."""
        node["ids"].append(name)
        if not hasattr(self.document, "myst_slugs"):
            self.document.myst_slugs = {}
        entry = (node.line, name, name)
        self.document.myst_slugs[name] = entry
        self.env.metadata[self.env.docname].setdefault("myst_slugs", {})[name] = entry


def setup(app):
    app.add_transform(AnchorCells)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
