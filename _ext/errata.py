"""The errata page, rendered from the ledger, and the way back from each proof to its entries.

``{errata}`` on the errata page shows the ledger: counts, controls to filter by, and the entries
grouped by document. Under each cell that proves an entry stands a line that links back to it.

Settings: ``errata_ledger``, the YAML file, and ``errata_page``, the page that shows it.
"""

from __future__ import annotations

from collections import Counter
from html import escape
from pathlib import Path

from docutils import nodes
from sphinx.transforms import SphinxTransform
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from _ext.cells import anchor as cell_anchor
from _ext.cells import code_cells, link
from tools.errata import DOCUMENTS, KINDS, VERDICTS, Entry, Place, load

logger = logging.getLogger(__name__)

SCRIPT = "errata.js"


def anchor(entry_id: str) -> str:
    return f"erratum-{entry_id}"


class Errata(SphinxDirective):
    """The whole ledger, as page content."""

    def run(self) -> list[nodes.Node]:
        path = Path(self.env.srcdir) / self.config.errata_ledger
        self.env.note_dependency(str(path))
        try:
            entries = load(path)
        except ValueError as error:
            logger.warning("%s", error, location=self.get_location(), type="errata")
            return []
        groups = {
            document: [entry for entry in entries if entry.places[0].document == document]
            for document in DOCUMENTS
        }
        return [
            *summary(entries),
            nodes.raw("", filter_form(entries), format="html"),
            *(self.group(document, group) for document, group in groups.items() if group),
        ]

    def group(self, document: str, entries: list[Entry]) -> nodes.section:
        title = f"Document {document}"
        section = nodes.section(ids=[f"document-{document}"], classes=["errata-document"])
        section += nodes.title(title, title)
        section += [self.entry(entry) for entry in entries]
        self.make_known(section["ids"][0], title)
        return section

    def entry(self, entry: Entry) -> nodes.section:
        classes = [f"document-{document}" for document in entry.documents]
        block = nodes.section(
            ids=[anchor(entry.id)],
            classes=["erratum", *classes, f"kind-{entry.kind}", f"verdict-{entry.verdict}"],
        )
        block += nodes.title(entry.id, entry.id)
        block += nodes.paragraph(
            "", "", tag(VERDICTS[entry.verdict], "verdict"), tag(KINDS[entry.kind], "kind")
        )
        block[-1]["classes"].append("erratum-tags")
        for place in entry.places:
            block += quotation(place)
        block += self.parse_text_to_nodes(f"**What is wrong.** {entry.wrong}")
        block += self.parse_text_to_nodes(f"**What is right.** {entry.right}")
        if entry.proof:
            block += self.parse_text_to_nodes(f"**Proof.** {proof_links(entry)}")
        if entry.sources:
            block += self.parse_text_to_nodes(f"**Source.** {{cite:p}}`{','.join(entry.sources)}`")
        self.make_known(anchor(entry.id), entry.id)
        return block

    def make_known(self, name: str, title: str) -> None:
        """Let MyST links find the entry, as if it were a heading."""
        # The parser enters the page's own headings into the same dictionary.
        slugs = self.state._renderer._heading_slugs
        slugs[name] = (self.lineno, name, title)


def proof_links(entry: Entry) -> str:
    """MyST links to the cells of each notebook, and to the notebook."""
    cells: dict[str, list[str]] = {}
    for proof in entry.proof:
        link = f"[`{proof.cell}`](/{proof.path}#{cell_anchor(proof.cell)})"
        cells.setdefault(proof.path, []).append(link)
    return "; ".join(f"{', '.join(links)} in [](/{path})" for path, links in cells.items())


def tag(text: str, name: str) -> nodes.inline:
    return nodes.inline(text, text, classes=[name])


def quotation(place: Place) -> nodes.container:
    """The document's own words, marked as such, with their language."""
    where = f"Document {place.document}, §{place.section}"
    quote = nodes.block_quote("", nodes.paragraph(place.quote, place.quote.rstrip("\n")))
    if place.is_chinese:
        quote["classes"].append("language-zh")  # docutils makes this the lang attribute
    return nodes.container(
        "", nodes.paragraph(where, where, classes=["where"]), quote, classes=["quotation"]
    )


def summary(entries: list[Entry]) -> list[nodes.Node]:
    """A table of how many entries there are, by kind and verdict in each document."""
    several = sum(len(entry.documents) > 1 for entry in entries)
    text = f"The ledger has {len(entries)} entries."
    if several:
        text += (
            f" An entry for a mistake that several documents make ({several} of them) counts in"
            " the column of each, and once in the last."
        )
    kinds = Counter(entry.kind for entry in entries)
    rows = [
        (f"{KINDS[kind]} ({kind})", lambda entry, kind=kind: entry.kind == kind)
        for kind in KINDS
        if kinds[kind]
    ]
    verdicts = [
        (f"Verdict “{verdict}”: {words}", lambda entry, verdict=verdict: entry.verdict == verdict)
        for verdict, words in VERDICTS.items()
    ]
    head = ["Kind, verdict", *DOCUMENTS, "All"]
    body = [
        [name, *counts([entry for entry in entries if chosen(entry)])]
        for name, chosen in [*rows, *verdicts, ("All", lambda entry: True)]
    ]
    return [nodes.paragraph(text, text), table(head, body)]


def counts(entries: list[Entry]) -> list[str]:
    in_document = Counter(document for entry in entries for document in entry.documents)
    numbers = [*(in_document[document] for document in DOCUMENTS), len(entries)]
    return [str(number) if number else "–" for number in numbers]


def table(head: list[str], body: list[list[str]]) -> nodes.table:
    group = nodes.tgroup(cols=len(head))
    group += [nodes.colspec(colwidth=1, stub=number == 0) for number in range(len(head))]
    group += nodes.thead("", row(head))
    group += nodes.tbody("", *(row(cells) for cells in body))
    return nodes.table("", group, classes=["errata-counts"])


def row(cells: list[str]) -> nodes.row:
    return nodes.row("", *(nodes.entry("", nodes.paragraph(text, text)) for text in cells))


def filter_form(entries: list[Entry]) -> str:
    """The controls. They stay hidden until the script that serves them has started."""

    def select(name: str, label: str, options: dict[str, str]) -> str:
        choices = "".join(
            f'<option value="{escape(value)}">{escape(text)}</option>'
            for value, text in options.items()
        )
        return (
            f'<label>{label} <select name="{name}"><option value="">all</option>'
            f"{choices}</select></label>"
        )

    used = {entry.kind for entry in entries}
    documents = {document for entry in entries for document in entry.documents}
    return (
        '<form class="errata-filter" role="search" aria-label="Filter the errata" hidden>'
        + select("document", "Document", {name: name for name in DOCUMENTS if name in documents})
        + select("kind", "Kind", {kind: words for kind, words in KINDS.items() if kind in used})
        + select("verdict", "Verdict", VERDICTS)
        + '<label>Text <input type="search" name="text" autocomplete="off"></label>'
        + '<button type="reset">Show all</button>'
        + '<p role="status" data-template="{shown} of {all} entries shown"></p>'
        + "</form>"
    )


def backlinks(app) -> dict[str, dict[str, list[str]]]:
    """For each notebook and each cell of it, the ids of the entries that the cell proves."""
    try:
        entries = load(Path(app.srcdir) / app.config.errata_ledger)
    except ValueError:
        return {}  # the directive says what is wrong
    links: dict[str, dict[str, list[str]]] = {}
    for entry in entries:
        for proof in entry.proof:
            links.setdefault(proof.docname, {}).setdefault(proof.cell, []).append(entry.id)
    return links


def find_changed(app, env, added, changed, removed) -> list[str]:
    """Read a notebook again if the ledger's links to its cells have changed."""
    before = getattr(env, "errata_backlinks", {})
    env.errata_backlinks = backlinks(app)
    names = before.keys() | env.errata_backlinks.keys()
    return [
        name
        for name in names & env.found_docs
        if before.get(name) != env.errata_backlinks.get(name)
    ]


class LinkBack(SphinxTransform):
    """Put a line under each cell that proves an entry of the ledger."""

    default_priority = 410  # after AnchorCells

    def apply(self, **kwargs) -> None:
        proved = getattr(self.env, "errata_backlinks", {}).get(self.env.docname, {})
        for cell in code_cells(self.document):
            entry_ids = proved.get(cell.get("cell_id"), [])
            if entry_ids:
                position = cell.parent.index(cell) + 1
                cell.parent.insert(position, self.line(entry_ids))

    def line(self, entry_ids: list[str]) -> nodes.paragraph:
        line = nodes.paragraph("", "Corrects: ", classes=["corrects"])
        for number, entry_id in enumerate(entry_ids):
            if number:
                line += nodes.Text(", ")
            shown = nodes.inline("", "", nodes.literal(entry_id, entry_id))
            page = self.config.errata_page
            line += link(self.env.docname, page, anchor(entry_id), shown)
        return line


def add_script(app, pagename, templatename, context, doctree) -> None:
    if pagename == app.config.errata_page:
        app.add_js_file(SCRIPT, loading_method="defer")


def setup(app):
    app.add_config_value("errata_ledger", "chapters/faq/errata.yml", "env", str)
    app.add_config_value("errata_page", "chapters/faq/errata", "env", str)
    app.add_directive("errata", Errata)
    app.add_transform(LinkBack)
    app.connect("env-get-outdated", find_changed)
    app.connect("html-page-context", add_script)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
