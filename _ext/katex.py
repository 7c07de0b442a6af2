r"""Mathematics without JavaScript: KaTeX typesets every formula while the site is built.

KaTeX's own script (``_vendor/katex``) runs in an embedded JavaScript engine and gives HTML for the
eye and MathML for screen readers. A formula that KaTeX rejects is a Sphinx warning that names the
page and the line.

Settings: ``katex_macros``, a dictionary such as ``{"\\R": "\\mathbb{R}"}``.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

from docutils import nodes
from py_mini_racer import JSEvalException, MiniRacer
from sphinx.util import logging
from sphinx.util.fileutil import copy_asset_file
from sphinx.util.math import get_node_equation_number

logger = logging.getLogger(__name__)

VENDOR = Path(__file__).parent.parent / "_vendor" / "katex"
STYLESHEET = "katex/katex.css"

# Environments that LaTeX numbers. Sphinx writes the number itself, so KaTeX gets the starred form.
NUMBERED = re.compile(r"\\(begin|end)\{(equation|align|alignat|gather)\}")


class FormulaError(ValueError):
    """KaTeX's reason for rejecting a formula."""


class Typesetter:
    """Turns LaTeX into HTML and remembers what it has already turned."""

    def __init__(self, macros: dict[str, str]):
        self.macros = macros
        self.engine: MiniRacer | None = None  # started by the first formula
        self.results: dict[tuple[str, bool], str] = {}

    def __call__(self, latex: str, display: bool) -> str:
        key = latex, display
        if key not in self.results:
            self.results[key] = self.render(latex, display)
        return self.results[key]

    def render(self, latex: str, display: bool) -> str:
        if self.engine is None:
            self.engine = MiniRacer()
            self.engine.eval((VENDOR / "katex.min.js").read_text(encoding="utf8"))
        # "strict" makes KaTeX reject what only KaTeX would accept.
        options = {"displayMode": display, "macros": self.macros, "strict": "error"}
        call = f"katex.renderToString({json.dumps(latex)}, {json.dumps(options)})"
        try:
            return self.engine.eval(call)
        except JSEvalException as error:
            reason = re.search(r"ParseError: (.*)", str(error)) or re.search(r"(.*)", str(error))
            raise FormulaError(reason.group(1)) from error


def typeset(translator, node: nodes.Node, latex: str, display: bool) -> str:
    """Typeset a formula; where that fails, warn and show the LaTeX itself."""
    try:
        return translator.builder.app.katex(latex, display)
    except FormulaError as error:
        logger.warning(
            "KaTeX rejects the formula %r: %s", latex, error, location=node, type="katex"
        )
        return f'<code class="katex-error">{translator.encode(latex)}</code>'


def display_latex(node: nodes.math_block) -> str:
    """What KaTeX gets for a display formula.

    As in Sphinx's own renderers, lines broken with two backslashes are aligned at ``&``, and parts
    parted by an empty line stand below each other.
    """
    text = node.astext().strip()
    if node["nowrap"]:
        return NUMBERED.sub(r"\\\1{\2*}", text)
    parts = [part.strip() for part in text.split("\n\n") if part.strip()]
    parts = [rf"\begin{{split}}{part}\end{{split}}" if r"\\" in part else part for part in parts]
    if len(parts) == 1:
        return parts[0]
    return r"\begin{gathered}" + r"\\".join(parts) + r"\end{gathered}"


def visit_inline(translator, node: nodes.math) -> None:
    formula = typeset(translator, node, node.astext(), display=False)
    translator.body.append(translator.starttag(node, "span", "", CLASS="math notranslate"))
    translator.body.append(f"{formula}</span>")
    raise nodes.SkipNode


def visit_display(translator, node: nodes.math_block) -> None:
    formula = typeset(translator, node, display_latex(node), display=True)
    body = translator.body
    body.append(translator.starttag(node, "div", CLASS="math notranslate"))
    # The formula scrolls in a box of its own, so that a wide one leaves its number in sight.
    body.append(f'<div class="math-scroll">{formula}</div>')
    if node["number"]:
        body.append(f'<span class="eqno">({get_node_equation_number(translator, node)})')
        translator.add_permalink_ref(node, "Link to this equation")
        body.append("</span>")
    body.append("</div>\n")
    raise nodes.SkipNode


def start(app) -> None:
    app.katex = Typesetter(app.config.katex_macros)


def link_stylesheet(app, pagename, templatename, context, doctree) -> None:
    """Load KaTeX's style sheet only where a formula is."""
    if any('class="katex' in (context.get(part) or "") for part in ("body", "toc", "title")):
        app.add_css_file(STYLESHEET)


def copy_files(app, error) -> None:
    """Copy the fonts, and the style sheet less the font formats that no browser needs any more."""
    if error or app.builder.format != "html":
        return
    target = Path(app.outdir) / "_static" / "katex"
    (target / "fonts").mkdir(parents=True, exist_ok=True)
    css = (VENDOR / "katex.min.css").read_text(encoding="utf8")
    css = re.sub(r',url\([^)]*\.(woff|ttf)\) format\("\w+"\)', "", css)
    (target / "katex.css").write_text(css, encoding="utf8")
    for font in sorted((VENDOR / "fonts").glob("*.woff2")):
        copy_asset_file(font, target / "fonts")


def setup(app):
    app.add_config_value("katex_macros", {}, "html", dict)
    app.add_html_math_renderer("katex", (visit_inline, None), (visit_display, None))
    app.connect("builder-inited", start)
    app.connect("html-page-context", link_stylesheet)
    app.connect("build-finished", copy_files)
    # Forking a process that runs the JavaScript engine would break it.
    return {"parallel_read_safe": True, "parallel_write_safe": False}
