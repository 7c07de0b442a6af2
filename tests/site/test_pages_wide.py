"""Every page in a wide window, in both themes."""

import pytest
from checks import accessibility, overflow, visit, weight


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_page(browser, address, page_name, scheme):
    with visit(browser, address + page_name, scheme=scheme) as visited:
        problems = [*visited.problems, *weight(visited.responses), *overflow(visited.page)]
        problems += accessibility(visited.page)
        theme = visited.page.evaluate("document.documentElement.dataset.theme")
    assert not problems, "\n".join(problems)
    assert theme == scheme, "the theme does not follow the system"
