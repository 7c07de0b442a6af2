"""What the tests of the interactive figures share: reach a figure, read it, break it."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path

import numpy as np
from checks import of_class, parsed, visit
from lxml import html
from playwright.sync_api import Browser, Locator, Page, expect

SCRIPTS = Path(__file__).resolve().parents[2] / "_ext/figures"
PAGES = {
    "vectors": "chapters/background/query_key_value.html",
    "softmax": "chapters/math/softmax.html",
    "masks": "chapters/math/masks.html",
}
TRANSLATOR = "chapters/code/transformer.html"


def place_of(page: Page, name: str) -> Locator:
    return page.locator(f'[data-interactive="{name}"]')


def alone(source: str) -> str:
    """A page without what its article holds beside the interactive figure, and its contents.

    To load and lay out a whole chapter takes longer than what is tested. The figure stays below
    the first view.
    """
    tree = parsed(source)
    (place,) = tree.xpath("//article//*[@data-interactive]")
    kept = [place, tree.get_element_by_id(place.get("data-replaces")), tree.find(".//h1")]
    needed = {element for one in kept for element in (*one.iter(), *one.iterancestors())}
    for element in tree.xpath(f"//article//* | //*[{of_class('bd-sidebar-secondary')}]"):
        if element not in needed:
            element.drop_tree()
    kept[-1].addnext(html.fragment_fromstring('<div style="height: 3000px"></div>'))
    return html.tostring(tree, encoding="unicode", doctype="<!DOCTYPE html>")


def write_alone(site: Path, folder: Path) -> None:
    """Into a folder: the pages of the interactive figures, each alone on its page."""
    for part in ("_static", "_images"):
        (folder / part).symlink_to(site.resolve() / part)
    for name in [*PAGES.values(), TRANSLATOR]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        source = (site / name).read_text(encoding="utf8")
        (folder / name).write_text(alone(source), encoding="utf8")


def scroll_to(page: Page, name: str) -> Locator:
    """Scroll to the static figure; gives the place of the interactive one, once it runs."""
    place = place_of(page, name)
    place.evaluate("place => document.getElementById(place.dataset.replaces).scrollIntoView()")
    expect(place).to_have_attribute("data-ready", "yes")
    return place


@contextmanager
def running(browser: Browser, address: str, name: str, broken=None, **options):
    """The place of a figure that runs, maybe with one piece of one script broken.

    ``broken`` is (script, right piece, wrong piece).
    """
    with visit(browser, address + PAGES[name], **options) as visited:
        visited.page.set_default_timeout(5000)
        if broken is not None:
            break_script(visited.page, *broken)
        yield scroll_to(visited.page, name)
        assert not visited.problems, "\n".join(visited.problems)


def break_script(page: Page, script: str, right: str, wrong: str) -> None:
    """Serve the script with a mistake; the page has not come near the figure yet."""
    source = (SCRIPTS / script).read_text(encoding="utf8")
    assert source.count(right) == 1, f"{right!r} is {source.count(right)} times in {script}"
    body = source.replace(right, wrong)
    page.route(
        f"**/figures/{script}",
        lambda route: route.fulfill(body=body, content_type="text/javascript; charset=utf-8"),
    )


def values(place: Locator) -> dict:
    """All numbers that the figure shows."""
    return place.evaluate("place => place.figure.values()")


def same(found, wanted) -> None:
    """Numbers of the browser are those of the package."""
    found = np.array(found, dtype=float)  # null, which is NaN in the browser, becomes NaN
    assert found.shape == np.shape(wanted)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5)


def shown(text: str) -> float:
    """A number that the figure writes, with its true minus sign."""
    return float(text.replace("\N{MINUS SIGN}", "-"))
