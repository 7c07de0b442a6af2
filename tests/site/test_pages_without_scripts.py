"""Every page on a phone, without scripts."""

from checks import PHONE, images, mathematics, overflow, readable, visit


def test_without_scripts(browser, site, address, page_name):
    source = (site / page_name).read_text(encoding="utf8")
    with visit(browser, address + page_name, width=PHONE, scripts=False) as visited:
        problems = [*visited.problems, *overflow(visited.page), *images(source)]
        problems += mathematics(visited.page, source)
        if page_name != "search.html":  # which says that it needs scripts
            problems += readable(visited.page)
    assert not problems, "\n".join(problems)
