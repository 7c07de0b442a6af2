"""The concordance page, rendered from its YAML file: where each line of the documents is treated.

``{concordance}`` shows how many lines each document has, then every line.
Setting: ``concordance``, the YAML file.
"""

from __future__ import annotations

from pathlib import Path

from docutils import nodes
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from _ext.cells import anchor as cell_anchor
from _ext.errata import table, tag
from tools.concordance import Line, documents, load

logger = logging.getLogger(__name__)


class Concordance(SphinxDirective):
    """The whole concordance, as page content."""

    def run(self) -> list[nodes.Node]:
        path = Path(self.env.srcdir) / self.config.concordance
        self.env.note_dependency(str(path))
        try:
            lines = load(path)
        except ValueError as error:
            logger.warning("%s", error, location=self.get_location(), type="concordance")
            return []
        groups = {name: [line for line in lines if line.document == name] for name in documents()}
        return [
            summary(groups),
            *(self.group(name, group) for name, group in groups.items()),
        ]

    def group(self, name: str, lines: list[Line]) -> nodes.section:
        title = "Across the documents" if name == "X" else f"Document {name}"
        section = nodes.section(ids=[f"lines-{name.lower()}"])
        section += nodes.title(title, title)
        items = nodes.bullet_list(classes=["concordance"])
        items += [self.item(line) for line in lines]
        section += items
        return section

    def item(self, line: Line) -> nodes.list_item:
        item = nodes.list_item(ids=[f"line-{line.id.lower()}"])
        item += nodes.paragraph(
            "", "", nodes.strong("", line.id), nodes.Text(" "), tag(line.kind, "kind")
        )
        item[-1] += [nodes.Text(" "), *self.parse_inline(line.says)[0]]
        item += self.parse_text_to_nodes(f"→ {links(line)}")
        return item


def links(line: Line) -> str:
    """MyST links to the pages, with the cells of each."""
    cells: dict[str, list[str]] = {}
    for target in line.treated:
        found = cells.setdefault(target.path, [])
        if target.cell:
            anchor = cell_anchor(target.cell)
            found.append(f"[`{target.cell}`](/{target.path}#{anchor})")
    return "; ".join(
        f"[](/{path})" + (f" ({', '.join(found)})" if found else "")
        for path, found in cells.items()
    )


def summary(groups: dict[str, list[Line]]) -> nodes.table:
    """How many lines each document has, and how many of them a cell shows."""
    head = ["Document", "Lines", "With a cell"]
    rows = [(name, lines) for name, lines in groups.items()]
    rows.append(("All", [line for lines in groups.values() for line in lines]))
    body = []
    for name, lines in rows:
        with_cell = sum(any(target.cell for target in line.treated) for line in lines)
        name = "several" if name == "X" else name
        body.append([name, str(len(lines)), str(with_cell)])
    return table(head, body)


def setup(app):
    app.add_config_value("concordance", "chapters/faq/concordance.yml", "env", str)
    app.add_directive("concordance", Concordance)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
