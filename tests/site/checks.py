"""What is checked on a page. Each check returns a list of problems, in words; empty is good."""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

from axe_playwright_python.sync_playwright import Axe
from lxml import html
from measure import size
from playwright.sync_api import Browser, Page, Response, TimeoutError

WEIGHT_LIMIT = 400_000  # bytes of a page's first view
PHONE = 375  # px
AFTER_RESIZE = 400  # milliseconds until the theme's scripts have looked at a window's new width
PATIENCE = 3000  # milliseconds that a page has to follow the system's theme
LATEX = re.compile(r"\\[a-zA-Z]{2,}|\$[^$\n]+\$|\\\(|\\\[")
ALL_RULES = {"label-content-name-mismatch": {"enabled": True}}  # axe's own, and one more
AXE_SCRIPT = Axe().axe_script
CONTRAST = "color-contrast"
SCROLLING = "scrollable-region-focusable"  # what scrolls in a narrow window only
GENERATED_NAME = re.compile(r"[0-9a-f]{16,}|^[\w./-]+\.(png|svg|jpe?g|gif)$", re.IGNORECASE)


@dataclass
class Visit:
    """A page that a browser has loaded, and what went wrong meanwhile."""

    page: Page
    problems: list[str] = field(default_factory=list)
    responses: list[Response] = field(default_factory=list)


@contextmanager
def visit(browser: Browser, url: str, *, width=1280, scheme="light", scripts=True):
    """Load a page with an empty cache, all its folded parts unfolded."""
    context = browser.new_context(
        viewport={"width": width, "height": 800},
        color_scheme=scheme,
        java_script_enabled=scripts,
        reduced_motion="reduce",  # else a part that fades in is caught half way
    )
    page = context.new_page()
    result = Visit(page)
    watch(result, urlsplit(url))
    page.goto(url, wait_until="load")
    page.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true })")
    page.evaluate("document.fonts.ready.then(() => true)")
    page.wait_for_timeout(50)  # what the page's scripts still do after loading
    try:
        yield result
    finally:
        context.close()


def watch(result: Visit, home) -> None:
    """Write down what goes wrong. (The browser lets no request leave this machine.)"""
    page, problems = result.page, result.problems

    def request(sent):
        parts = urlsplit(sent.url)
        if parts.scheme not in ("data", "blob") and parts.netloc != home.netloc:
            problems.append(f"request to another host: {sent.url}")

    def console(message):
        if message.type in ("error", "warning"):
            problems.append(f"console {message.type}: {message.text}")

    def response(answer):
        result.responses.append(answer)
        if answer.status >= 400:
            problems.append(f"status {answer.status}: {answer.url}")

    page.on("request", request)
    page.on("console", console)
    page.on("pageerror", lambda error: problems.append(f"script error: {error}"))
    page.on("requestfailed", lambda request: problems.append(f"request failed: {request.url}"))
    page.on("response", response)


def parsed(source: str) -> html.HtmlElement:
    return html.document_fromstring(source)


def of_class(name: str) -> str:
    """The condition, in XPath, that an element is of a class."""
    return f'contains(concat(" ", normalize-space(@class), " "), " {name} ")'


def overflow(page: Page) -> list[str]:
    """The page must not be wider than the window."""
    width, window = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
    if width <= window:
        return []
    culprits = page.evaluate(
        """limit => [...document.querySelectorAll("main *")]
            .filter(element => element.getBoundingClientRect().right > limit + 1)
            .slice(0, 3).map(element => element.outerHTML.slice(0, 120))""",
        window,
    )
    return [f"the page is {width} px wide in a window of {window}: {culprits}"]


# Axe takes seconds for the thousands of coloured words of a page's code and for the pieces of its
# formulas. It is enough that it sees each kind of word, and a formula of each colour, once on each
# ground: the other words become plain text, the other formulas one letter.
GROUND = """const ground = element => {
        while (element) {
            const style = getComputedStyle(element);
            if (style.backgroundImage !== "none") return style.backgroundImage;
            if (!/^transparent$|, 0\\)$/.test(style.backgroundColor)) return style.backgroundColor;
            element = element.parentElement;
        }
        return "none";
    };
    const seen = new Set();
    const isNew = kind => seen.size < seen.add(kind).size;"""
THIN = f"""() => {{
    {GROUND}
    for (const block of document.querySelectorAll("pre")) {{
        const colour = getComputedStyle(block).backgroundColor;
        for (const word of block.querySelectorAll("span"))
            if (!isNew(`${{colour}} ${{word.className}}`)) word.replaceWith(...word.childNodes);
    }}
    for (const formula of document.querySelectorAll(".katex-html"))
        if (!isNew(`${{ground(formula)}} ${{getComputedStyle(formula).color}}`))
            (formula.closest(".katex") ?? formula).textContent = "x";
}}"""

# The same holds for contrast, which takes longer than all of axe's other rules together: one text
# of each colour, size and weight on each ground is a sample of the page.
SAMPLE = f"""() => {{
    {GROUND}
    const opacity = element => element
        ? getComputedStyle(element).opacity * opacity(element.parentElement) : 1;
    for (const element of document.body.querySelectorAll("*")) {{
        element.removeAttribute("data-sample");
        const hasText = [...element.childNodes].some(
            child => child.nodeType === Node.TEXT_NODE && child.textContent.trim());
        if (!hasText && !element.matches("input, select, textarea")) continue;
        if (!element.checkVisibility({{visibilityProperty: true}})) continue;
        if (element.closest(".katex-mathml") || element.offsetWidth < 2) continue;  // read aloud
        const {{color, fontSize, fontWeight, textShadow}} = getComputedStyle(element);
        const kind = [ground(element), color, fontSize, fontWeight, textShadow, opacity(element)];
        if (isNew(kind.join())) element.setAttribute("data-sample", "");
    }}
}}"""

KEEP_SAMPLES = """() => {
    for (const element of document.querySelectorAll("article *"))
        if (!element.closest("[data-sample]") && !element.querySelector("[data-sample]"))
            element.remove();
}"""

# The entries of the errata are made by one template. Where the page was looked at whole already,
# one entry of each kind and verdict is enough.
THIN_ENTRIES = """() => {
    const seen = new Set();
    for (const entry of document.querySelectorAll("section.erratum")) {
        const kind = [...entry.classList].filter(name => /^kind-|^verdict-/.test(name)).join();
        if (seen.has(kind)) entry.remove();
        seen.add(kind);
    }
}"""


def accessibility(page: Page) -> list[str]:
    """What axe finds on a page."""
    return axe(page, None, {"rules": ALL_RULES})


def scrolling(page: Page) -> list[str]:
    """Whether what scrolls can be scrolled by keyboard."""
    page.wait_for_timeout(AFTER_RESIZE)
    return axe(page, None, {"runOnly": [SCROLLING]})


def targets(page: Page) -> list[str]:
    """Whether a finger meets every control of the article."""
    return axe(page, {"include": [["article"]]}, {"runOnly": ["target-size"]})


def contrast_of_kinds(page: Page) -> list[str]:
    """Whether every colour of text can be told from what is behind it.

    Axe lays a grid over all elements first, so what is no sample is taken from the article before.
    """
    page.evaluate(SAMPLE)
    page.evaluate(KEEP_SAMPLES)
    return axe(page, None, {"runOnly": [CONTRAST]})


def axe(page: Page, context: dict | None, options: dict) -> list[str]:
    """What axe finds, with contrast looked at in a sample of the texts."""
    if not page.evaluate("'axe' in window"):
        page.evaluate(AXE_SCRIPT)
        rule = {"id": CONTRAST, "selector": "[data-sample]"}
        page.evaluate("rule => axe.configure({rules: [rule]})", rule)
        page.evaluate(THIN)
    page.evaluate(SAMPLE)
    options = options | {"resultTypes": ["violations"]}
    violations = page.evaluate(
        "async ([context, options]) => (await axe.run(context ?? document, options)).violations",
        [context, options],
    )
    return [
        f"axe {violation['id']}: {node['html'][:160]} ({node['failureSummary']})"
        for violation in violations
        for node in violation["nodes"]
    ]


def theme_follows(page: Page, scheme: str) -> list[str]:
    """The page must follow the system when it changes from light to dark, or back."""
    page.emulate_media(color_scheme=scheme)
    try:
        page.wait_for_function(
            "scheme => document.documentElement.dataset.theme === scheme",
            arg=scheme,
            timeout=PATIENCE,
        )
    except TimeoutError:
        theme = page.evaluate("document.documentElement.dataset.theme")
        return [f"the theme is {theme} where the system's is {scheme}"]
    return []


def weight(responses: list[Response]) -> list[str]:
    """A first view must stay light."""
    sizes = {response.url: size(response) for response in responses}
    if sum(sizes.values()) <= WEIGHT_LIMIT:
        return []
    heaviest = sorted(sizes.items(), key=lambda item: -item[1])[:5]
    return [f"a first view is {sum(sizes.values())} bytes, over {WEIGHT_LIMIT}: {heaviest}"]


def mathematics(page: Page, source: str) -> list[str]:
    """Every formula is typeset: it takes room, its style sheet is there, and no LaTeX shows.

    Those of an interactive figure do not count: they show once it has started.
    """
    outside = f"not(ancestor::*[{of_class('interactive')}])"
    formulas = len(parsed(source).xpath(f"//article//*[{of_class('math')}][{outside}]"))
    typeset = page.evaluate(
        """() => [...document.querySelectorAll("article .math .katex")].filter(formula => {
            if (formula.closest(".interactive")) return false;
            const style = getComputedStyle(formula.querySelector(".katex-mathml"));
            const box = formula.querySelector(".katex-html").getBoundingClientRect();
            return style.position === "absolute" && box.width > 0 && box.height > 0;
        }).length"""
    )
    problems = []
    if typeset != formulas:
        problems.append(f"{formulas} formulas, but {typeset} typeset")
    shown = page.evaluate(
        """() => {
            const copy = document.querySelector("article, main").cloneNode(true);
            copy.querySelectorAll("pre, code, script, style, .katex-mathml, blockquote")
                .forEach(part => part.remove());
            return copy.textContent;
        }"""
    )
    return problems + [f"raw LaTeX shows: {match}" for match in LATEX.findall(shown)]


def readable(page: Page) -> list[str]:
    """Without scripts there still is a title, text, and a way to the other pages."""
    problems = []
    if page.locator("main h1").count() != 1:
        problems.append(f"{page.locator('main h1').count()} titles (h1), wanted one")
    if len(page.locator("article").inner_text()) < 50:
        problems.append("hardly any text in the article")
    if not page.locator("nav a:visible, footer a:visible").count():
        problems.append("no link to other pages to be seen")
    return problems


def images(source: str) -> list[str]:
    """Every image has alternative text that somebody wrote."""
    problems = []
    for image in parsed(source).iter("img"):
        text = (image.get("alt") or "").strip()
        if not text or GENERATED_NAME.search(text):
            shown = html.tostring(image, encoding="unicode", with_tail=False)
            problems.append(f"no written alternative text: {shown[:160]}")
    return problems


def links(site: Path) -> list[str]:
    """Every address within the site leads to a file, and to an anchor that the file has."""
    site = site.resolve()
    pages = sorted(site.rglob("*.html"))
    trees = {page: parsed(page.read_text(encoding="utf8")) for page in pages}
    anchors = {page: set(tree.xpath("//@id")) for page, tree in trees.items()}
    problems = []
    for page, tree in trees.items():
        for address in tree.xpath("//@href | //@src"):
            problem = address_problem(site, page, address, anchors)
            if problem:
                problems.append(f"{page.relative_to(site)}: {address!r} {problem}")
    for sheet in sorted(site.rglob("*.css")):
        text = re.sub(r"/\*.*?\*/", "", sheet.read_text(encoding="utf8"), flags=re.DOTALL)
        for address in re.findall(r"url\(\s*[\"']?([^\"')]+)", text):
            problem = address_problem(site, sheet, address, anchors)
            if problem:
                problems.append(f"{sheet.relative_to(site)}: {address!r} {problem}")
    return problems


def address_problem(site: Path, origin: Path, address: str, anchors: dict) -> str | None:
    """What is wrong with an address in a file, or None."""
    parts = urlsplit(address)
    if parts.scheme or address.startswith("//"):
        return None  # elsewhere: the test run is offline
    if parts.path.startswith("/"):
        return "starts at the host's root, so it breaks in a folder"
    target = (origin.parent / unquote(parts.path)).resolve() if parts.path else origin
    if not target.is_relative_to(site) or not target.is_file():
        return "leads to no file of the site"
    anchor = unquote(parts.fragment)
    if anchor and target in anchors and anchor not in anchors[target]:
        return "names an anchor that is not there"
    return None
