"""Every page: in a wide window, in both themes, as narrow as a phone; some without scripts."""

import pytest
from checks import (
    PHONE,
    THIN_ENTRIES,
    accessibility,
    contrast_of_kinds,
    images,
    mathematics,
    overflow,
    readable,
    scrolling,
    targets,
    theme_follows,
    visit,
    weight,
)

# One page of each kind: what surrounds the article is the same on all pages of a kind.
KINDS = ("index.html", "search.html", "chapters/math/masks.html", "chapters/faq/errata.html")


def test_page(browser, site, address, page_name):
    source = (site / page_name).read_text(encoding="utf8")
    with visit(browser, address + page_name) as visited:
        page = visited.page
        problems = [*weight(visited.responses), *overflow(page), *theme_follows(page, "light")]
        problems += images(source) + mathematics(page, source)
        if page_name != "search.html":
            problems += readable(page)
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


@pytest.mark.parametrize("name", KINDS)
def test_each_kind_of_page_without_scripts(browser, site, address, name):
    """On a phone. The formulas are typeset when the site is built, so one page stands for all."""
    source = (site / name).read_text(encoding="utf8")
    with visit(browser, address + name, width=PHONE, scripts=False) as visited:
        problems = [*visited.problems, *overflow(visited.page)]
        problems += mathematics(visited.page, source)
        if name != "search.html":  # which says that it needs scripts
            problems += readable(visited.page)
    assert not problems, "\n".join(problems)
