"""The glossary page, rendered from its YAML file.

``{terms}`` shows every term with its Chinese equivalent, its definition and a link to what shows
it; a chapter links to one with ``{term}`softmax` ``. ``{document-words}`` is a table of what the
documents call these things. The terms are also written into the site as flash cards. Setting:
``glossary``, the YAML file.
"""

from __future__ import annotations

from pathlib import Path

from docutils import nodes
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from _ext.cells import anchor as cell_anchor
from tools import flash_cards
from tools.glossary import Term, load, titles

logger = logging.getLogger(__name__)

FLASH_CARDS = "flash_cards.apkg"


class FromGlossary(SphinxDirective):
    """Content made of all terms, as MyST text."""

    def run(self) -> list[nodes.Node]:
        path = Path(self.env.srcdir) / self.config.glossary
        self.env.note_dependency(str(path))
        try:
            terms = load(path)
        except ValueError as error:
            logger.warning("%s", error, location=self.get_location(), type="glossary")
            return []
        self.titles = titles(terms, Path(self.env.srcdir))
        return self.parse_text_to_nodes(self.text(terms))

    def text(self, terms: list[Term]) -> str:
        raise NotImplementedError


class Terms(FromGlossary):
    """Every term, in alphabetical order."""

    def text(self, terms: list[Term]) -> str:
        entries = "\n\n".join(self.entry(term) for term in terms)
        return f"````{{glossary}}\n:sorted:\n\n{entries}\n````\n"

    def entry(self, term: Term) -> str:
        names = f"**{term.chinese}**" + (f"; also {term.also}" if term.also else "")
        path, cell = term.shown.path, term.shown.cell
        link = f"[{self.titles[path]}](/{path}{f'#{cell_anchor(cell)}' if cell else ''})"
        return f"{term.term}\n  {names}. {term.says} → {link}"


class DocumentWords(FromGlossary):
    """What the documents call these things."""

    def text(self, terms: list[Term]) -> str:
        rows = sorted(
            (words.document, words.words, term) for term in terms for words in term.documents
        )
        lines = ["| document | its words | usual term |", "|---|---|---|"]
        lines += [
            f"| {document} | {words} | {{term}}`{term.term}`, {term.chinese} |"
            for document, words, term in rows
        ]
        return "\n".join(lines) + "\n"


def write_flash_cards(app, exception) -> None:
    """Put the deck beside the landing page."""
    if exception is None and app.builder.name == "html":
        root = Path(app.srcdir)
        terms = load(root / app.config.glossary)
        flash_cards.write(terms, titles(terms, root), Path(app.outdir) / FLASH_CARDS)


def setup(app):
    app.connect("build-finished", write_flash_cards)
    app.add_config_value("glossary", "chapters/faq/glossary.yml", "env", str)
    app.add_directive("terms", Terms)
    app.add_directive("document-words", DocumentWords)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
