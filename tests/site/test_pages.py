"""Every page in both themes, in a wide window, then as narrow as a phone."""

import pytest
from checks import (
    PHONE,
    THIN_ENTRIES,
    accessibility,
    accessibility_on_a_phone,
    contrast,
    overflow,
    theme_follows,
    visit,
    weight,
)


def test_page(browser, address, page_name):
    with visit(browser, address + page_name) as visited:
        page = visited.page
        problems = [*weight(visited.responses), *overflow(page), *theme_follows(page, "light")]
        problems += accessibility(page)
        page.evaluate(THIN_ENTRIES)
        problems += theme_follows(page, "dark")
        problems += [f"dark: {problem}" for problem in contrast(page)]
        page.set_viewport_size({"width": PHONE, "height": 800})
        problems += [f"on a phone: {problem}" for problem in overflow(page)]
        problems += [f"on a phone: {problem}" for problem in accessibility_on_a_phone(page)]
        problems += theme_follows(page, "light")
        problems += [f"on a phone: {problem}" for problem in contrast(page, outside="article")]
        problems += visited.problems
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("width", [1280, PHONE])
def test_a_page_opened_in_the_dark_is_dark(browser, address, width):
    with visit(browser, address + "index.html", scheme="dark", width=width) as visited:
        assert visited.page.evaluate("document.documentElement.dataset.theme") == "dark"
        assert accessibility(visited.page) == overflow(visited.page) == []
