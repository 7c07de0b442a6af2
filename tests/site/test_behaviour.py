"""What a reader does: follow links, search, switch the theme, filter the errata."""

import re
from contextlib import contextmanager

import pytest
from checks import links, of_class, parsed, visit
from playwright.sync_api import expect

ERRATA = "chapters/faq/errata.html"


def test_links(site):
    problems = links(site)
    assert not problems, "\n".join(problems)


@contextmanager
def quiet(visited):
    """Nothing may go wrong meanwhile."""
    yield visited.page
    assert not visited.problems, "\n".join(visited.problems)


def test_search(browser, address):
    with visit(browser, address + "index.html") as visited, quiet(visited) as page:
        page.keyboard.press("Control+k")
        page.keyboard.type("attention")
        page.keyboard.press("Enter")
        expect(page).to_have_url(re.compile(r"search\.html\?q=attention"))
        expect(page.locator("#search-results li a").first).to_be_visible()


@pytest.mark.parametrize("name", ["index.html", "search.html?q=attention"])
def test_from_a_folder(browser, site, name):
    with visit(browser, site.resolve().as_uri() + "/" + name) as visited, quiet(visited) as page:
        if name == "index.html":
            expect(page.locator("main h1")).to_be_visible()
        else:
            expect(page.locator("#search-results li a").first).to_be_visible()


def test_theme_switch(browser, address):
    """The switch wins over the system, also on the next page."""
    with visit(browser, address + "index.html") as visited, quiet(visited) as page:
        root = page.locator("html")
        for _ in range(3):  # auto, light, dark
            if root.get_attribute("data-theme") == "dark":
                break
            page.locator(".theme-switch-button").first.click()
        expect(root).to_have_attribute("data-theme", "dark")
        page.reload()
        expect(root).to_have_attribute("data-theme", "dark")


def read(page):
    return parsed(page.read_text(encoding="utf8"))


def errata(site):
    """The elements of the entries."""
    return read(site / ERRATA).xpath(f"//*[{of_class('erratum')}]")


@pytest.fixture(scope="module")
def entries(site):
    """The classes of each entry of the errata page, in its order."""
    found = [set(entry.get("class").split()) for entry in errata(site)]
    assert found, "the errata page has no entries"
    return found


def expect_shown(page, entries, *classes):
    """Exactly the entries of these classes are shown, and the count says so."""
    wanted = sum(entry.issuperset(classes) for entry in entries)
    expect(page.locator(".erratum:visible")).to_have_count(wanted)
    status = page.locator(".errata-filter [role=status]")
    expect(status).to_have_text(f"{wanted} of {len(entries)} entries shown")
    for entry in page.locator(".erratum:visible").all():
        assert set(entry.get_attribute("class").split()).issuperset(classes)


def chosen(entries, name):
    """A value of the filter that some entry has."""
    found = sorted(c for entry in entries for c in entry if c.startswith(f"{name}-"))
    return found[0].removeprefix(f"{name}-")


def test_filter_by_mouse(browser, address, entries):
    document, verdict = chosen(entries, "document"), chosen(entries, "verdict")
    with visit(browser, address + ERRATA) as visited, quiet(visited) as page:
        expect_shown(page, entries)
        page.get_by_label("Document").select_option(document)
        expect_shown(page, entries, f"document-{document}")
        page.get_by_label("Verdict").select_option(verdict)
        expect_shown(page, entries, f"document-{document}", f"verdict-{verdict}")
        expect(page).to_have_url(re.compile(rf"\?document={document}&verdict={verdict}$"))
        page.reload()
        expect_shown(page, entries, f"document-{document}", f"verdict-{verdict}")
        page.get_by_role("button", name="Show all").click()
        expect_shown(page, entries)
        expect(page).to_have_url(re.compile(r"errata\.html$"))


def test_filter_by_keyboard(browser, address, entries):
    with visit(browser, address + ERRATA) as visited, quiet(visited) as page:
        kinds = page.get_by_label("Kind")
        page.get_by_label("Document").focus()
        page.keyboard.press("Tab")
        expect(kinds).to_be_focused()
        page.keyboard.press("ArrowDown")
        expect_shown(page, entries, f"kind-{kinds.input_value()}")
        page.keyboard.press("Tab")
        page.keyboard.press("Tab")
        page.keyboard.type("no entry says this")
        expect(page.locator(".erratum:visible")).to_have_count(0)
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        expect_shown(page, entries)


def test_link_to_a_hidden_entry_shows_it(browser, site, address, entries):
    anchor = errata(site)[-1].get("id")
    with visit(browser, f"{address}{ERRATA}?text=nothing-like-it#{anchor}") as visited:
        expect(visited.page.locator(f"[id='{anchor}']")).to_be_visible()


def test_entries_and_proofs_link_to_each_other(site, entries):
    pages = {}
    proofs = 0
    for entry in errata(site):
        anchor = "#" + entry.get("id")
        for link in entry.xpath(".//a/@href[contains(., '#cell-')]"):
            path, cell = link.split("#")
            if path not in pages:
                pages[path] = read((site / ERRATA).parent / path)
            below = pages[path].get_element_by_id(cell).getnext().xpath(".//a/@href")
            back = any(address.endswith(anchor) for address in below)
            assert back, f"{path}: under {cell} no link back to {entry.get('id')}"
            proofs += 1
    assert proofs, "no entry links to a proof"
