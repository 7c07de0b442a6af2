"""What the tests of the interactive figures share: reach a figure, read it, break it."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path

import numpy as np
from checks import visit
from playwright.sync_api import Browser, Locator, Page, expect

SCRIPTS = Path(__file__).resolve().parents[2] / "_ext/figures"
PAGES = {
    "vectors": "chapters/background/query_key_value.html",
    "softmax": "chapters/math/softmax.html",
    "masks": "chapters/math/masks.html",
}


def place_of(page: Page, name: str) -> Locator:
    return page.locator(f'[data-interactive="{name}"]')


# Each change of a figure would lay out the whole chapter anew.
TAKE_THE_REST_AWAY = """place => {
    const needed = [place, document.getElementById(place.dataset.replaces)];
    const title = document.querySelector("h1");
    for (const element of document.querySelectorAll("article *"))
        if (![title, ...needed].some(one => one.contains(element) || element.contains(one)))
            element.remove();
}"""


def scroll_to(page: Page, name: str) -> Locator:
    """Scroll to the static figure; gives the place of the interactive one, once it runs."""
    place = place_of(page, name)
    place.evaluate(TAKE_THE_REST_AWAY)
    place.evaluate("place => document.getElementById(place.dataset.replaces).scrollIntoView()")
    expect(place).to_have_attribute("data-ready", "yes")
    return place


@contextmanager
def running(browser: Browser, address: str, name: str, broken=None, **options):
    """The place of a figure that runs, alone or with one piece of one script broken.

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
