"""Every page: in a wide window, in both themes, and as narrow as a phone."""

import pytest
from checks import (
    PHONE,
    THIN_ENTRIES,
    accessibility,
    contrast_of_kinds,
    overflow,
    scrolling,
    targets,
    theme_follows,
    visit,
    weight,
)

# One page of each kind: what surrounds the article is the same on all pages of a kind.
KINDS = ("index.html", "search.html", "chapters/math/masks.html", "chapters/faq/errata.html")


def test_page(browser, address, page_name):
    with visit(browser, address + page_name) as visited:
        page = visited.page
        problems = [*weight(visited.responses), *overflow(page), *theme_follows(page, "light")]
        problems += accessibility(page)
        page.evaluate(THIN_ENTRIES)
        page.set_viewport_size({"width": PHONE, "height": 800})
        problems += [f"on a phone: {problem}" for problem in overflow(page) + scrolling(page)]
        page.set_viewport_size({"width": 1280, "height": 800})
        problems += theme_follows(page, "dark")
        problems += [f"dark: {problem}" for problem in contrast_of_kinds(page)]
        problems += visited.problems
    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("width", [1280, PHONE])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", KINDS)
def test_each_kind_of_page_in_both_themes_and_widths(browser, address, name, scheme, width):
    with visit(browser, address + name, scheme=scheme, width=width) as visited:
        visited.page.evaluate(THIN_ENTRIES)
        assert visited.page.evaluate("document.documentElement.dataset.theme") == scheme
        assert accessibility(visited.page) == overflow(visited.page) == []
        if visited.page.locator("article").count():
            assert targets(visited.page) == []
