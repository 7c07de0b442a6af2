"""Figures to drag and type in, in the place of a static figure.

    :::{interactive} softmax
    :replaces: fig-softmax-temperature

    What the reader can do here.
    :::

The static figure, which a cell of the page has drawn, shows where scripts are off. Where they are
on, the interactive one takes the place of its image once the reader comes near; only then are its
scripts loaded. The text in the directive tells what can be done; it shows with the figure.

A figure NAME is the script ``_ext/figures/NAME.js``, which registers itself with the loader (see
``_ext/figures/loader.js``). Other scripts that it needs are named in the option ``scripts``, in
their order. They are plain scripts and no modules, and data come as scripts too, since a page that
was opened from a folder may load nothing else.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

logger = logging.getLogger(__name__)

FOLDER = Path(__file__).parent / "figures"
LOADER = "loader.js"


class Interactive(SphinxDirective):
    """The place of an interactive figure."""

    required_arguments = 1
    has_content = True
    option_spec: ClassVar[dict] = {
        "replaces": directives.unchanged_required,
        "scripts": directives.unchanged,
    }

    def run(self) -> list[nodes.Node]:
        name = self.arguments[0]
        scripts = [*self.options.get("scripts", "").split(), f"{name}.js"]
        missing = [script for script in scripts if not (FOLDER / script).is_file()]
        if missing or "replaces" not in self.options:
            problem = f"no script {', '.join(missing)}" if missing else "wanted the option replaces"
            logger.warning("%s", problem, location=self.get_location(), type="interactive")
            return []
        place = Place(
            replaces=nodes.make_id(self.options["replaces"]), scripts=scripts, figure=name
        )
        self.state.nested_parse(self.content, self.content_offset, place)
        return [place]


class Place(nodes.General, nodes.Element):
    """Where the interactive figure appears."""


def visit_place(translator, node: Place) -> None:
    translator.body.append(
        f'<div class="interactive" data-interactive="{node["figure"]}" '
        f'data-replaces="{node["replaces"]}" data-scripts="{" ".join(node["scripts"])}" hidden>'
        '<div class="instructions">'
    )


def depart_place(translator, node: Place) -> None:
    translator.body.append('</div><div class="stage"></div></div>')


def leave_out(translator, node: Place) -> None:
    """Other formats show the static figure only."""
    raise nodes.SkipNode


def add_loader(app, pagename, templatename, context, doctree) -> None:
    places = [] if doctree is None else list(doctree.findall(Place))
    if not places:
        return
    figures = {name for figure in doctree.findall(nodes.figure) for name in figure["ids"]}
    for place in places:
        if place["replaces"] not in figures:
            problem = f"the page has no figure {place['replaces']} to replace"
            logger.warning("%s", problem, location=pagename, type="interactive")
    app.add_js_file(f"figures/{LOADER}", loading_method="defer")
    app.add_css_file("figures/figures.css")


def copy_scripts(app) -> None:
    """Put the scripts where pages find them; each page asks only for its own.

    Before the pages are written: their links hold a checksum of what lies there.
    """
    if app.builder.format != "html":
        return
    target = Path(app.outdir) / "_static" / "figures"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for path in [*FOLDER.glob("*.js"), *FOLDER.glob("*.css")]:
        shutil.copyfile(path, target / path.name)


def setup(app):
    app.add_directive("interactive", Interactive)
    app.add_node(
        Place,
        html=(visit_place, depart_place),
        latex=(leave_out, None),
        text=(leave_out, None),
    )
    app.connect("html-page-context", add_loader)
    app.connect("builder-inited", copy_scripts)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
