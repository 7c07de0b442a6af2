"""The figure of queries, keys and values in the plane, against the package."""

import functools

import numpy as np
import pytest
from interactive_figures import running, same, shown, values
from playwright.sync_api import expect

from attn_tutorial import attention, scaled_dot_product

START = {
    "q1": [3, 1], "q2": [-1, 3],
    "k1": [0, 2], "k2": [1, 1], "k3": [2, 0],
    "v1": [-3, 2.5], "v2": [-3, -2], "v3": [2.5, -3],
}  # fmt: skip
NAMES = {"q": "query", "k": "key", "v": "value"}


def compare(place, points, *, queries=1, tied=False, scaled=True):
    """What the figure shows is what the package computes from these points."""
    found = values(place)
    for name, point in points.items():
        np.testing.assert_allclose(found["points"][name], point, atol=1e-9)
    query = np.array([points[f"q{i + 1}"] for i in range(queries)], dtype=float)
    key = np.array([points[f"k{j + 1}"] for j in range(3)], dtype=float)
    value = key if tied else np.array([points[f"v{j + 1}"] for j in range(3)], dtype=float)
    score = scaled_dot_product if scaled else functools.partial(scaled_dot_product, scale=1.0)
    output, weights = attention(query, key, value, score=score)
    same(found["scores"], score(query, key))
    same(found["weights"], weights)
    same(found["output"], output)

    rows = place.locator(".side > table tbody tr")
    for j in range(3):
        cells = [shown(cell.inner_text()) for cell in rows.nth(j).locator("td:visible").all()]
        wanted = np.stack([score(query, key)[:, j], weights[:, j]], axis=-1).ravel()
        np.testing.assert_allclose(cells, wanted, atol=0.0051)
    for i, sum_of_values in enumerate(place.locator(".sum:visible").all()):
        text = sum_of_values.inner_text()
        x, y = text[text.rindex("(") + 1 : -1].split(",")
        np.testing.assert_allclose([shown(x), shown(y)], output[i], atol=0.0051)
    assert place.locator(".sum:visible").count() == queries


def handle(place, name):
    return place.get_by_role("slider", name=f"{NAMES[name[0]]} {name[1]}", exact=True)


def pixel(place, point):
    """Where a point of the plane lies on the screen, from the lines of the drawing's frame."""
    box = place.locator("svg.plane").bounding_box()
    unit = box["width"] * 45 / 400
    centre = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    return centre[0] + unit * point[0], centre[1] - unit * point[1]


def drag(place, start, end):
    mouse = place.page.mouse
    mouse.move(*pixel(place, start))
    mouse.down()
    mouse.move(*pixel(place, np.mean([start, end], axis=0)))
    mouse.move(*pixel(place, end))
    mouse.up()


def by_mouse(place):
    points = {name: list(point) for name, point in START.items()}
    compare(place, points)
    for name, end in {"q1": [-2, 3.5], "k2": [-1.5, -3.3], "v3": [3.5, 3]}.items():
        place.locator("svg.plane").scroll_into_view_if_needed()
        drag(place, points[name], end)
        points[name] = end
        compare(place, points)
    place.get_by_label("Queries", exact=True).select_option("2")
    compare(place, points, queries=2)
    place.get_by_label("divide the scores").uncheck()
    compare(place, points, queries=2, scaled=False)
    place.get_by_label("the values are the keys").check()
    compare(place, points, queries=2, scaled=False, tied=True)
    expect(handle(place, "v1")).to_be_hidden()
    place.get_by_role("button", name="Back to the start").click()
    compare(place, START, queries=2, scaled=False, tied=True)


def by_keyboard(place):
    points = {name: list(point) for name, point in START.items()}
    press = place.page.keyboard.press
    steps = {
        "ArrowLeft": (-0.1, 0), "ArrowRight": (0.1, 0), "ArrowUp": (0, 0.1), "ArrowDown": (0, -0.1),
        "Shift+ArrowLeft": (-1, 0), "Shift+ArrowUp": (0, 1),
    }  # fmt: skip
    for name in ("q1", "k1", "v2"):
        handle(place, name).focus()
        for key, step in steps.items():
            press(key)
            moved = np.clip(np.add(points[name], step), -4, 4)
            points[name] = moved.round(9).tolist()
        compare(place, points)
        x, y = (f"{number:.1f}".replace("-", "−") for number in points[name])
        expect(handle(place, name)).to_have_attribute("aria-valuetext", f"x {x}, y {y}")
    for _ in range(9):  # no further than the plane
        press("Shift+ArrowLeft")
    points["v2"][0] = -4
    compare(place, points)
    queries = place.get_by_label("Queries", exact=True)
    queries.focus()
    press("ArrowDown")
    compare(place, points, queries=2)
    for label, option in (("divide the scores", "scaled"), ("the values are the keys", "tied")):
        place.get_by_label(label).focus()
        press("Space")
        compare(place, points, queries=2, **{"scaled": False, option: option == "tied"})
    place.get_by_role("button", name="Back to the start").focus()
    press("Enter")
    compare(place, START, queries=2, scaled=False, tied=True)


def typed(place, seed=0):
    """All numbers by their fields, at random."""
    rng = np.random.default_rng(seed)
    points = {name: rng.uniform(-4, 4, size=2).round(2).tolist() for name in START}
    place.get_by_label("Queries", exact=True).select_option("2")
    place.locator("summary").click()
    for name, point in points.items():
        for axis, number in zip("xy", point, strict=True):
            place.get_by_label(f"{name}, {axis}", exact=True).fill(str(number))
    compare(place, points, queries=2)
    field = place.get_by_label("q1, x", exact=True)
    for no_number in ("", "17"):  # changes nothing
        field.fill(no_number)
        compare(place, points, queries=2)


def test_by_mouse(browser, figures):
    with running(browser, figures, "vectors") as place:
        by_mouse(place)


def test_by_mouse_on_a_narrow_screen(browser, figures):
    with running(browser, figures, "vectors", width=375) as place:
        by_mouse(place)


def test_by_keyboard(browser, figures):
    with running(browser, figures, "vectors") as place:
        by_keyboard(place)


@pytest.mark.parametrize("seed", range(3))
def test_typed(browser, figures, seed):
    with running(browser, figures, "vectors") as place:
        typed(place, seed)


def test_by_touch(browser, figures):
    """A finger on a handle moves it, and does not scroll the page."""
    with running(browser, figures, "vectors", width=375) as place:
        place.locator("svg.plane").scroll_into_view_if_needed()
        page = place.page
        scrolled = page.evaluate("scrollY")
        session = page.context.new_cdp_session(page)
        end = [1, -2.5]
        for kind, point in (
            ("touchStart", START["q1"]),
            ("touchMove", [2, -1]),
            ("touchMove", end),
            ("touchEnd", None),
        ):
            at = [] if point is None else [pixel(place, point)]
            touches = [{"x": x, "y": y} for x, y in at]
            session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})
        page.wait_for_timeout(100)  # moves come with the next picture
        compare(place, START | {"q1": end})
        assert page.evaluate("scrollY") == scrolled


def test_the_summary_waits_for_a_pause(browser, figures):
    with running(browser, figures, "vectors") as place:
        status = place.get_by_role("status")
        expect(status).to_be_empty()
        handle(place, "q1").focus()
        place.page.keyboard.press("Shift+ArrowLeft")
        place.page.keyboard.press("Shift+ArrowLeft")
        assert status.inner_text() == ""
        expect(status).to_have_text(
            "Query 1: the largest weight is 0.33, that of key 1. Output (−1.17, −0.83)."
        )


BROKEN = {
    "no scale": (typed, "attention.js", "dot(q, k) / scale", "dot(q, k)"),
    "multiplied by the scale": (typed, "attention.js", "dot(q, k) / scale", "dot(q, k) * scale"),
    "scores transposed": (
        typed,
        "attention.js",
        "query.map((q) => key.map((k) =>",
        "key.map((k) => query.map((q) =>",
    ),
    "weights not normalised": (typed, "attention.js", "(x) => x / total", "(x) => x"),
    "one feature for all": (typed, "attention.js", "w * value[j][c]", "w * value[j][0]"),
    "values for keys": (by_mouse, "vectors.js", "options.tied ? key", "!options.tied ? key"),
    "scale by d_k": (typed, "vectors.js", "options.scaled ? Math.SQRT2", "options.scaled ? 2"),
    "scale turned round": (by_keyboard, "vectors.js", "options.scaled ?", "!options.scaled ?"),
    "y downwards": (by_mouse, "vectors.js", "(200 - at.y) / UNIT", "(at.y - 200) / UNIT"),
    "x and y exchanged": (typed, "vectors.js", "points[name][c] = x;", "points[name][1 - c] = x;"),
    "up is down": (by_keyboard, "vectors.js", "ArrowUp: [0, 1]", "ArrowUp: [0, -1]"),
    "scores of the first query": (typed, "vectors.js", "scores[i][j])", "scores[0][j])"),
}


@pytest.mark.parametrize("mistake", BROKEN)
def test_mistakes_are_found(browser, figures, mistake):
    drive, *broken = BROKEN[mistake]
    with (
        pytest.raises(AssertionError),
        running(browser, figures, "vectors", broken=broken) as place,
    ):
        drive(place)
