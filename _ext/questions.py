"""Under each chapter stand the questions of learners whose answers link to it.

The questions are the headings of the third level of one page; a question belongs to the chapters
that its cell links to. Setting: ``questions_page``, that page.
"""

from __future__ import annotations

import json
import posixpath
import re
from pathlib import Path

from docutils import nodes
from sphinx.transforms import SphinxTransform

from _ext.cells import anchor, link

QUESTION = re.compile(r"### (.+)")
DOC = re.compile(r"\{doc\}`(?:[^`<]*<)?([^`>]+)>?`")
PATH = re.compile(r"\]\(/([\w/-]+)\.ipynb[#)]")
LAST_SECTION = "further-reading"


def questions(app) -> dict[str, list[tuple[str, str]]]:
    """For each chapter the questions that link to it, as cell and text."""
    page = app.config.questions_page
    path = Path(app.srcdir) / f"{page}.ipynb"
    if not path.is_file():
        return {}
    found: dict[str, list[tuple[str, str]]] = {}
    for cell in json.loads(path.read_text(encoding="utf8"))["cells"]:
        source = "".join(cell["source"])
        question = QUESTION.match(source)
        if cell["cell_type"] == "markdown" and question:
            for name in chapters(source, posixpath.dirname(page)):
                found.setdefault(name, []).append((cell["id"], question[1]))
    return found


def chapters(source: str, folder: str) -> list[str]:
    """The pages that a text links to, each once."""
    names = [posixpath.normpath(posixpath.join(folder, name)) for name in DOC.findall(source)]
    return list(dict.fromkeys(names + PATH.findall(source)))


def find_changed(app, env, added, changed, removed) -> list[str]:
    """Read a chapter again if the questions that link to it have changed."""
    before = getattr(env, "questions", {})
    env.questions = questions(app)
    names = before.keys() | env.questions.keys()
    return [name for name in names & env.found_docs if before.get(name) != env.questions.get(name)]


class LinkToQuestions(SphinxTransform):
    """Put the links at the end of the chapter's last section."""

    default_priority = 410

    def apply(self, **kwargs) -> None:
        mine = getattr(self.env, "questions", {}).get(self.env.docname, [])
        ends = [
            section
            for section in self.document.findall(nodes.section)
            if LAST_SECTION in section["ids"]
        ]
        if not mine or not ends:
            return
        line = nodes.paragraph("", "Learners ask: ", classes=["questions"])
        for number, (cell, text) in enumerate(mine):
            if number:
                line += nodes.Text(" · ")
            page = self.config.questions_page
            line += link(self.env.docname, page, anchor(cell), nodes.inline("", text))
        ends[-1] += line


def setup(app):
    app.add_config_value("questions_page", "chapters/faq/questions", "env", str)
    app.add_transform(LinkToQuestions)
    app.connect("env-get-outdated", find_changed)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
