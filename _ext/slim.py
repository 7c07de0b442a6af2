"""Make the theme's pages light and accessible.

- The theme's icons come from a font that holds only the icons that pages use.
- Files that no page uses are left out of the site.
- Parts of the page that can be folded are plain HTML, so they work without a script.
- A page's later images load when the reader comes near them.
- What the accessibility checker finds in the HTML of others is mended here.

The templates beside this file leave out the theme's heavy scripts.
"""

from __future__ import annotations

import logging
import re
import shutil
from pathlib import Path

import pydata_sphinx_theme
from docutils import nodes
from fontTools import subset
from myst_nb.sphinx_ import HideCodeCellNode
from sphinx.locale import admonitionlabels
from sphinx.transforms.post_transforms import SphinxPostTransform

THEME = Path(pydata_sphinx_theme.__file__).parent / "theme/pydata_sphinx_theme/static"
STYLESHEET = "styles/pydata-sphinx-theme.css"
ICON_SOURCE = "vendor/fontawesome/webfonts/fa-solid-900.ttf"
ICON_FONT = "vendor/fontawesome/icons.woff"

UNUSED = [
    "images",
    "locales",
    "sbt-webpack-macros.html",
    "scripts/bootstrap.*",
    "scripts/fontawesome.*",
    "scripts/*.map",
    "styles/*.map",
    "styles/theme.css",
    "vendor/fontawesome/webfonts",
    "webpack-macros.html",
    *("minus.png", "plus.png", "copybutton_funcs.js"),
]


class details(nodes.General, nodes.Element):
    """A block that the reader can unfold."""


class summary(nodes.General, nodes.TextElement):
    """The line of such a block that always shows."""


class FoldAdmonitions(SphinxPostTransform):
    """Make an admonition of the class ``dropdown`` one that the reader can unfold."""

    default_priority = 200
    formats = ("html",)

    def run(self, **kwargs) -> None:
        for node in list(self.document.findall(nodes.Admonition)):
            if "dropdown" not in node["classes"]:
                continue
            if isinstance(node[0], nodes.title):
                title, body = node[0].children, node.children[1:]
            else:
                title, body = [nodes.Text(admonitionlabels[node.tagname])], node.children
            block = details("", classes=["admonition", node.tagname, *node["classes"]])
            block["ids"] = node["ids"]
            block += summary("", "", *title, classes=["admonition-title"])
            block += body
            node.replace_self(block)


def visit_details(translator, node: details) -> None:
    translator.body.append(translator.starttag(node, "details"))


def depart_details(translator, node: details) -> None:
    translator.body.append("</details>\n")


def visit_summary(translator, node: summary) -> None:
    translator.body.append(translator.starttag(node, "summary", ""))


def depart_summary(translator, node: summary) -> None:
    translator.body.append("</summary>\n")


def visit_hidden_cell(translator, node: HideCodeCellNode) -> None:
    """As myst-nb does it, but the summary is named by the words that it shows."""
    translator.body.append(translator.starttag(node, "details", CLASS="hide"))
    prompts = node["prompt_show"], node["prompt_hide"]
    # Only the solutions of exercises are folded whole; elsewhere the source alone is.
    show, hide = (translator.encode(text.replace("content", "solution")) for text in prompts)
    translator.body.append(
        f'<summary><span class="collapsed">{show}</span><span class="expanded">{hide}</span>'
        "</summary>\n"
    )


def visit_citation(translator, node: nodes.citation) -> None:
    """A bibliography's entry, without the ARIA roles that have been withdrawn."""
    translator.body.append(translator.starttag(node, "div", CLASS="citation"))


def depart_citation(translator, node: nodes.citation) -> None:
    translator.body.append("</div>\n")


class MendTables(SphinxPostTransform):
    """An empty header cell, as pandas writes it, is no header."""

    default_priority = 300
    formats = ("html",)

    def run(self, **kwargs) -> None:
        for node in list(self.document.findall(nodes.raw)):
            mended = re.sub(r"<th([^>]*)></th>", r"<td\1></td>", node.astext())
            if node.get("format") == "html" and mended != node.astext():
                node.replace_self(nodes.raw("", mended, format="html"))


def icon_css(css: str, pages: list[str]) -> str:
    """The theme's style sheet without the icons that no page uses, and with our icon font."""
    used = {name for page in pages for name in re.findall(r"\bfa-[\w-]+", page)}

    def keep(rule: re.Match) -> str:
        names = re.findall(r"\.(fa-[\w-]+):", rule[0])
        return rule[0] if used.intersection(names) else ""

    css = re.sub(r'(?:\.fa-[\w-]+:{1,2}before,?)+\{content:"[^"]*"\}', keep, css)
    font = f'url(../{ICON_FONT}) format("woff")'
    solid = r"(@font-face\{[^}]*font-weight:900;src:)[^}]*\}"
    css = re.sub(solid, rf"\1{font}}}", css)
    return re.sub(r"@font-face\{[^}]*\.ttf[^}]*\}", "", css)


def write_icon_font(css: str, target: Path) -> None:
    """The part of Font Awesome's font (SIL OFL 1.1) that the style sheet names."""
    points = [ord(icon) for icon in re.findall(r"[\uf000-\uf8ff]", css)]
    points += [int(code, 16) for code in re.findall(r'"\\(f[0-9a-f]{3})"', css)]
    logging.getLogger("fontTools").setLevel(logging.WARNING)
    options = subset.Options(flavor="woff", name_IDs=["*"], notdef_outline=True)
    font = subset.load_font(str(THEME / ICON_SOURCE), options, dontLoadGlyphNames=True)
    subsetter = subset.Subsetter(options)
    subsetter.populate(unicodes=points)
    subsetter.subset(font)
    target.parent.mkdir(parents=True, exist_ok=True)
    subset.save_font(font, str(target), options)


def drop_old_pages(app, error) -> None:
    """Remove pages that earlier builds left behind, so that no link to one seems to be good."""
    if error or app.builder.format != "html":
        return
    kept = {Path(app.builder.get_outfilename(name)) for name in {*app.env.found_docs, "search"}}
    for path in Path(app.outdir).rglob("*.html"):
        if path not in kept:
            path.unlink()


def slim(app, error) -> None:
    if error or app.builder.format != "html":
        return
    static = Path(app.outdir) / "_static"
    pages = [path.read_text(encoding="utf8") for path in Path(app.outdir).rglob("*.html")]
    css = icon_css((THEME / STYLESHEET).read_text(encoding="utf8"), pages)
    (static / STYLESHEET).write_text(css, encoding="utf8")
    write_icon_font(css, static / ICON_FONT)
    for pattern in UNUSED:
        for path in static.glob(pattern):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def forget_failed_build(app, error) -> None:
    """After a build with warnings, read everything again, else they would not come back."""
    if error or app._warncount:
        (Path(app.doctreedir) / "environment.pickle").unlink(missing_ok=True)


class LoadLate(SphinxPostTransform):
    """Let a browser fetch a page's later images when the reader comes near them."""

    default_priority = 200
    formats = ("html",)
    at_once = 3

    def run(self, **kwargs) -> None:
        for image in list(self.document.findall(nodes.image))[self.at_once :]:
            image["loading"] = "lazy"


def setup(app):
    # Jupyter Book sets this for sphinx-comments, which is left out.
    app.add_config_value("comments_config", {}, "", dict)

    app.config.html_static_path.append(str(Path(__file__).parent / "static"))
    app.add_node(details, html=(visit_details, depart_details))
    app.add_node(summary, html=(visit_summary, depart_summary))
    app.add_node(HideCodeCellNode, override=True, html=(visit_hidden_cell, depart_details))
    app.add_node(nodes.citation, override=True, html=(visit_citation, depart_citation))
    app.add_post_transform(FoldAdmonitions)
    app.add_post_transform(MendTables)
    app.add_post_transform(LoadLate)
    app.connect("build-finished", drop_old_pages, priority=700)
    app.connect("build-finished", slim, priority=800)
    app.connect("build-finished", forget_failed_build, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
