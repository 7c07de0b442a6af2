"""Every page on a phone, in both themes, and without scripts."""

from checks import (
    THIN_ENTRIES,
    accessibility,
    contrast,
    images,
    mathematics,
    overflow,
    readable,
    theme_follows,
    visit,
)

PHONE = 375


def test_page(browser, address, page_name):
    with visit(browser, address + page_name, width=PHONE) as visited:
        page = visited.page
        problems = overflow(page)
        page.evaluate(THIN_ENTRIES)
        problems += accessibility(page, seen_wide=True)
        problems += theme_follows(page, "dark")
        problems += [f"dark: {problem}" for problem in contrast(page)]
        problems += visited.problems
    assert not problems, "\n".join(problems)


def test_without_scripts(browser, site, address, page_name):
    source = (site / page_name).read_text(encoding="utf8")
    with visit(browser, address + page_name, width=PHONE, scripts=False) as visited:
        problems = [*visited.problems, *overflow(visited.page), *images(source)]
        problems += mathematics(visited.page, source)
        if page_name != "search.html":  # which says that it needs scripts
            problems += readable(visited.page)
    assert not problems, "\n".join(problems)
