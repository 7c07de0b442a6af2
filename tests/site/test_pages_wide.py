"""Every page in a wide window, in the light theme; its colours in the dark one too."""

from checks import THIN_ENTRIES, accessibility, contrast, overflow, theme_follows, visit, weight


def test_page(browser, address, page_name):
    with visit(browser, address + page_name) as visited:
        page = visited.page
        problems = [*weight(visited.responses), *overflow(page), *theme_follows(page, "light")]
        problems += accessibility(page)
        page.evaluate(THIN_ENTRIES)
        problems += theme_follows(page, "dark")
        problems += [f"dark: {problem}" for problem in contrast(page)]
        problems += visited.problems
    assert not problems, "\n".join(problems)


def test_a_page_opened_in_the_dark_is_dark(browser, address):
    with visit(browser, address + "index.html", scheme="dark") as visited:
        assert visited.page.evaluate("document.documentElement.dataset.theme") == "dark"
        assert accessibility(visited.page) == []
