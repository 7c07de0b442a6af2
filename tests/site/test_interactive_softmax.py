"""The figure of five scores and a temperature, against the package."""

import math

import numpy as np
import pytest
from interactive_figures import running, same, shown, values
from playwright.sync_api import expect

from attn_tutorial import softmax

START = [-1, 0, 1, 2, 2.5]


def compare(place, *, scores=START, temperature=1.0, width=1):
    """What the figure shows is what the package computes."""
    found = values(place)
    np.testing.assert_allclose(found["scores"], scores, atol=1e-9)
    assert math.isclose(found["temperature"], temperature)
    assert found["width"] == width
    weights = softmax(np.array(scores, dtype=float) / math.sqrt(width) / temperature)
    entropy = -(weights * np.log(weights)).sum()
    same(found["weights"], weights)
    same(found["entropy"], entropy)

    rows = place.locator("tbody tr").evaluate_all(
        """rows => rows.map(row => {
            const outer = row.querySelector(".weight-bar");
            const bar = outer.firstChild.getBoundingClientRect().width / outer.clientWidth;
            return [row.cells[2].innerText, row.cells[3].innerText, bar];
        })"""
    )
    for (score_text, weight_text, bar), one, weight in zip(rows, scores, weights, strict=True):
        assert math.isclose(shown(score_text), one, abs_tol=0.051)
        assert math.isclose(shown(weight_text), weight, abs_tol=0.00051)
        assert math.isclose(bar, weight, abs_tol=0.01)
    text = place.locator(".sum").first.inner_text()
    assert f"Entropy {entropy:.3f}" in text
    assert f"largest weight {weights.max():.3f}" in text


def score(place, j):
    return place.get_by_label(f"score of key {j + 1}", exact=True)


def temperature(place):
    return place.get_by_label("Temperature T", exact=True)


def by_keyboard(place):
    press = place.page.keyboard.press
    compare(place)
    scores = list(START)
    for j, key, wanted in ((0, "End", 10), (1, "Home", -10), (2, "ArrowRight", 1.1)):
        score(place, j).focus()
        press(key)
        scores[j] = wanted
        compare(place, scores=scores)
    expect(score(place, 1)).to_have_attribute("aria-valuetext", "−10.0")
    temperature(place).focus()
    for key, wanted in (("Home", 1 / 20), ("End", 20), ("ArrowLeft", 20**0.99)):
        press(key)
        compare(place, scores=scores, temperature=wanted)
    place.get_by_label("Scores divided by", exact=True).focus()
    for _ in range(3):
        press("ArrowDown")
    compare(place, scores=scores, temperature=20**0.99, width=64)
    place.get_by_role("button", name="Back to the start").focus()
    press("Enter")
    compare(place)
    for j in range(5):  # as far apart and as cold as it goes
        score(place, j).focus()
        press("End" if j == 2 else "Home")
    temperature(place).focus()
    press("Home")
    compare(place, scores=[-10, -10, 10, -10, -10], temperature=1 / 20)


def by_mouse(place):
    compare(place)
    scores = list(START)
    for j, share in ((0, 0.9), (3, 0.25), (4, 0.5)):
        box = score(place, j).bounding_box()
        score(place, j).click(position={"x": share * box["width"], "y": box["height"] / 2})
        scores[j] = values(place)["scores"][j]
        assert abs(scores[j] - (20 * share - 10)) < 2.5  # the thumb has a width
        compare(place, scores=scores)
    box = temperature(place).bounding_box()
    temperature(place).click(position={"x": 0.25 * box["width"], "y": box["height"] / 2})
    chosen = values(place)["temperature"]
    assert 0.1 < chosen < 0.35  # a quarter of the way from 1/20 to 20, in logarithms
    compare(place, scores=scores, temperature=chosen)
    width = place.get_by_label("Scores divided by", exact=True)
    width.select_option("256")
    compare(place, scores=scores, temperature=chosen, width=256)
    place.get_by_role("button", name="Back to the start").click()
    expect(width).to_have_value("1")
    compare(place)


def shifted(place):
    """The same number for all scores changes no weight, and the figure says so."""
    add = place.get_by_role("button", name="Add 1 to all scores")
    subtract = place.get_by_role("button", name="Subtract 1 from all scores")
    before = values(place)["weights"]
    note = place.locator(".sum").last
    for n in range(1, 8):
        add.click()
        compare(place, scores=[score + n for score in START])
        same(values(place)["weights"], before)
        expect(note).to_contain_text("no weight changed")
    expect(add).to_be_disabled()  # 2.5 + 8 lies beyond the slider
    for _ in range(7 + 9):
        subtract.click()
    compare(place, scores=[score - 9 for score in START])
    same(values(place)["weights"], before)
    expect(subtract).to_be_disabled()
    score(place, 0).focus()
    place.page.keyboard.press("ArrowRight")
    expect(note).to_be_empty()


def at_random(place, seed=0):
    rng = np.random.default_rng(seed)
    for _ in range(4):
        scores = rng.integers(-100, 101, size=5) / 10
        for j, number in enumerate(scores):
            score(place, j).fill(str(number))
        step = int(rng.integers(-100, 101))
        temperature(place).fill(str(step))
        width = int(rng.choice([1, 4, 16, 64, 256, 1024]))
        place.get_by_label("Scores divided by", exact=True).select_option(str(width))
        compare(place, scores=scores, temperature=20 ** (step / 100), width=width)


@pytest.mark.parametrize("drive", [by_keyboard, by_mouse, shifted, at_random])
def test_like_the_package(browser, figures, drive):
    with running(browser, figures, "softmax") as place:
        drive(place)


def test_on_a_narrow_screen(browser, figures):
    with running(browser, figures, "softmax", width=375) as place:
        by_mouse(place)


BROKEN = {
    "weights not normalised": (at_random, "attention.js", "(x) => x / total", "(x) => x"),
    "temperature multiplies": (
        at_random,
        "softmax.js",
        "score / (Math.sqrt(width) * T)",
        "score * T / Math.sqrt(width)",
    ),
    "divided by d_k": (at_random, "softmax.js", "(Math.sqrt(width) * T)", "(width * T)"),
    "not divided": (at_random, "softmax.js", "(Math.sqrt(width) * T)", "T"),
    "temperature not logarithmic": (
        by_keyboard,
        "softmax.js",
        "20 ** (place / STEPS)",
        "0.05 + (place + STEPS) / 10",
    ),
    "entropy in bits": (at_random, "softmax.js", "w * Math.log(w)", "w * Math.log2(w)"),
    "entropy negative": (at_random, "softmax.js", "=> -weights", "=> weights"),
    "one score moves another": (by_keyboard, "softmax.js", "scores[j] =", "scores[4 - j] ="),
    "one score left out of the shift": (
        shifted,
        "softmax.js",
        "scores.map((score) => Math.round(10 * (score + by)) / 10)",
        "scores.map((score, j) => Math.round(10 * (score + (j ? by : 0))) / 10)",
    ),
    "bars of the scores": (by_mouse, "softmax.js", "`${100 * weights[j]}%`", "`${scores[j]}%`"),
}


@pytest.mark.parametrize("mistake", BROKEN)
def test_mistakes_are_found(browser, figures, mistake):
    drive, *broken = BROKEN[mistake]
    with (
        pytest.raises(AssertionError),
        running(browser, figures, "softmax", broken=broken) as place,
    ):
        drive(place)
