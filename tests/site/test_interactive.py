"""What holds for each interactive figure: it loads late, stands in for a static one, fits."""

import pytest
from checks import ALL_RULES, axe, overflow, theme_follows, visit
from interactive_figures import PAGES, place_of, running, scroll_to
from playwright.sync_api import expect

NAMES = sorted(PAGES)
SMALLEST_TEXT = 12  # px
SMALLEST_TARGET = 24  # px


@pytest.mark.parametrize("name", NAMES)
def test_without_scripts_there_is_the_static_figure(browser, address, name):
    with visit(browser, address + PAGES[name], scripts=False) as visited:
        place = place_of(visited.page, name)
        expect(place).to_be_hidden()
        figure = visited.page.locator("#" + place.get_attribute("data-replaces"))
        figure.locator("img").scroll_into_view_if_needed()
        expect(figure.locator("img")).to_be_visible()
        expect(figure.locator("figcaption")).to_be_visible()


@pytest.mark.parametrize("name", NAMES)
def test_it_loads_only_when_reached(browser, address, name):
    with visit(browser, address + PAGES[name]) as visited:
        page = visited.page

        def loaded():
            addresses = [response.url for response in visited.responses]
            return {a.split("/figures/")[1].split("?")[0] for a in addresses if "/figures/" in a}

        page.wait_for_timeout(200)
        assert loaded() == {"loader.js", "figures.css"}
        expect(place_of(page, name)).to_be_hidden()

        place = scroll_to(page, name)
        wanted = {*place.get_attribute("data-scripts").split(), f"{name}.js"}
        assert loaded() == {"loader.js", "figures.css", *wanted}
        figure = page.locator("#" + place.get_attribute("data-replaces"))
        expect(place.locator(".stage")).to_be_visible()
        expect(figure.locator("img")).to_be_hidden()
        expect(figure.locator("figcaption")).to_be_visible()
        assert not visited.problems, "\n".join(visited.problems)


@pytest.mark.parametrize("name", NAMES)
def test_it_works_from_a_folder(browser, site, name):
    with running(browser, site.resolve().as_uri() + "/", name) as place:
        expect(place.locator(".stage")).to_be_visible()
        assert place.evaluate("place => Object.keys(place.figure.values()).length") > 0


@pytest.mark.parametrize("name", NAMES)
def test_a_figure_that_fails_leaves_the_static_one(browser, figures, name):
    with visit(browser, figures + PAGES[name]) as visited:
        page = visited.page
        page.route(f"**/figures/{name}.js", lambda route: route.fulfill(body="nothing();"))
        place = place_of(page, name)
        place.evaluate("place => document.getElementById(place.dataset.replaces).scrollIntoView()")
        page.wait_for_timeout(300)
        expect(place).to_be_hidden()
        replaced = page.locator("#" + place.get_attribute("data-replaces"))
        expect(replaced.locator("img")).to_be_visible()
        assert any("script error" in problem for problem in visited.problems)


@pytest.mark.parametrize("width", [1280, 375])
@pytest.mark.parametrize("name", NAMES)
def test_it_fits_and_is_accessible(browser, figures, name, width):
    with running(browser, figures, name, width=width) as place:
        for part in place.locator("summary").all():
            part.click()
        for box in place.get_by_role("checkbox").all():
            box.check()
        problems = overflow(place.page) + too_small(place) + overlapping(place)
        whole = {"include": [[f'[data-interactive="{name}"]']]}
        problems += axe(place.page, whole, {"rules": ALL_RULES})
        problems += theme_follows(place.page, "dark")
        problems += axe(place.page, whole, {"rules": ALL_RULES})
        assert not problems, "\n".join(problems)


def too_small(place) -> list[str]:
    """Text that cannot be read, and controls that a finger does not meet."""
    return place.evaluate(
        """(place, [text, target]) => {
            const problems = [];
            for (const element of place.querySelectorAll(".stage *")) {
                const box = element.getBoundingClientRect();
                if (!box.width || element.matches("option, .unseen")) continue;
                const own = [...element.childNodes].some(
                    node => node.nodeType === 3 && node.data.trim());
                const scale = element.ownerSVGElement
                    ? element.getScreenCTM().a : 1;
                const size = parseFloat(getComputedStyle(element).fontSize) * scale;
                if (own && size < text - 0.01)
                    problems.push(`text of ${size} px: ${element.outerHTML.slice(0, 80)}`);
                if (!element.matches("button, select, input, summary, [role=slider]")) continue;
                const area = element.closest("label") ?? element;
                const {width, height} = area.getBoundingClientRect();
                if (Math.min(width, height) < target - 0.01)
                    problems.push(`${width} × ${height} px: ${element.outerHTML.slice(0, 80)}`);
            }
            return problems;
        }""",
        [SMALLEST_TEXT, SMALLEST_TARGET],
    )


def overlapping(place) -> list[str]:
    """Controls that lie on one another, those of a drawing aside: they can be moved apart."""
    return place.evaluate(
        """place => {
            const controls = [...place.querySelectorAll("button, select, input, summary")]
                .filter(element => element.getBoundingClientRect().width);
            const problems = [];
            for (const [i, one] of controls.entries()) for (const other of controls.slice(i + 1)) {
                const [a, b] = [one, other].map(element => element.getBoundingClientRect());
                if (a.left < b.right - 1 && b.left < a.right - 1
                    && a.top < b.bottom - 1 && b.top < a.bottom - 1)
                    problems.push(`${one.outerHTML.slice(0, 80)} on another`);
            }
            return problems;
        }"""
    )


@pytest.mark.parametrize("name", NAMES)
def test_every_control_is_reached_by_the_tab_key(browser, figures, name):
    """In the order of the page, and each shows that it has the focus."""
    with running(browser, figures, name) as place:
        controls = place.locator(
            ":is(button, select, input, summary, [tabindex]):not(:disabled):visible"
        ).all()
        controls[0].focus()
        for control in controls:
            expect(control).to_be_focused()
            marked = control.evaluate(
                """control => [control, ...control.children].some(part => {
                    const style = getComputedStyle(part);
                    return (style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2)
                        || (part.matches(".ring") && style.stroke !== "none");
                })"""
            )
            # A browser shows no focus that the mouse or a script gave; the Tab key's it does.
            assert marked or control is controls[0], control.evaluate("e => e.outerHTML")
            place.page.keyboard.press("Tab")
