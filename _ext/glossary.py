"""The glossary page, rendered from its YAML file.

``{terms}`` shows every term with its Chinese equivalent, its definition and a link to what shows
it; a chapter links to one with ``{term}`softmax` ``. ``{document-words}`` is a table of what the
documents call these things. Setting: ``glossary``, the YAML file.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from docutils import nodes
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from _ext.cells import anchor as cell_anchor
from tools.glossary import Term, load

logger = logging.getLogger(__name__)


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
        return self.parse_text_to_nodes(self.text(terms))

    def text(self, terms: list[Term]) -> str:
        raise NotImplementedError

    def title(self, path: str) -> str:
        """A chapter's title, which the link to one of its cells shows."""
        if not (Path(self.env.srcdir) / path).is_file():
            return path  # the link will be told to lead nowhere
        source = (Path(self.env.srcdir) / path).read_text(encoding="utf8")
        if path.endswith(".ipynb"):
            source = "".join(json.loads(source)["cells"][0]["source"])
        return re.search(r"^# (.+)$", source, flags=re.MULTILINE)[1]


class Terms(FromGlossary):
    """Every term, in alphabetical order."""

    def text(self, terms: list[Term]) -> str:
        entries = "\n\n".join(self.entry(term) for term in terms)
        return f"````{{glossary}}\n:sorted:\n\n{entries}\n````\n"

    def entry(self, term: Term) -> str:
        names = f"**{term.chinese}**" + (f"; also {term.also}" if term.also else "")
        path, cell = term.shown.path, term.shown.cell
        link = f"[{self.title(path)}](/{path}{f'#{cell_anchor(cell)}' if cell else ''})"
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


def setup(app):
    app.add_config_value("glossary", "chapters/faq/glossary.yml", "env", str)
    app.add_directive("terms", Terms)
    app.add_directive("document-words", DocumentWords)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
