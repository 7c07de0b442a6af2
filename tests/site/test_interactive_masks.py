"""The figure of a sentence under masks, against the package."""

import itertools
import math

import numpy as np
import pytest
from interactive_figures import running, same, shown, values
from playwright.sync_api import expect

from attn_tutorial import attention, causal_mask, padding_mask, scaled_dot_product, window_mask
from attn_tutorial.positions import alibi_bias, rotate, sinusoidal_positions

START = "we eat honey with lemon"
POSITIONS = ("none", "sinusoidal", "rotary", "alibi")


def made_up_vector(word, width=8):
    """As in the chapter: the same word always gets the same vector."""
    z = sum(t * ord(letter) for t, letter in enumerate(word, start=1))
    return np.sin(np.arange(1, width + 1) * z)


def truth(words, *, padded=0, causal=False, window=None, hide=False, positions="none"):
    """The package's mask and weights."""
    n = len(words) + padded
    x = np.array([made_up_vector(word) for word in [*words, *["[pad]"] * padded]])  # (n, d_k)
    mask = np.ones((n, n), dtype=bool)
    if causal:
        mask &= causal_mask(n, n)
    if window is not None:
        mask &= window_mask(n, n, *window)
    if hide:
        mask &= padding_mask(len(words), n)
    if positions == "sinusoidal":
        x = x + sinusoidal_positions(n, x.shape[-1])
    query = key = rotate(x) if positions == "rotary" else x
    added = np.where(mask, alibi_bias(8, n, n)[0] if positions == "alibi" else 0.0, -math.inf)
    scores = scaled_dot_product(query, key)
    output, weights = attention(query, key, x, mask=added)
    return mask, scores, weights, output


def compare(place, words, **options):
    """What the figure shows is what the package computes for this sentence."""
    mask, _, weights, output = truth(words, **options)
    found = values(place)
    padded = options.get("padded", 0)
    assert found["tokens"] == [*words, *["[pad]"] * padded]
    assert np.array_equal(found["mask"], mask)
    same(found["weights"], weights)
    same(found["output"], output)

    rows = place.locator("tbody tr").all()
    assert len(rows) == len(mask)
    for i, row in enumerate(rows):
        assert row.locator("th").inner_text() == f"{i} {found['tokens'][i]}"
    cells = place.locator("tbody td").evaluate_all(
        "cells => cells.map(cell => [cell.className, cell.innerText])"
    )
    for (kind, text), allowed, weight, empty in zip(
        cells, mask.ravel(), weights.ravel(), np.repeat(~mask.any(axis=-1), len(mask)), strict=True
    ):
        assert kind == ("allowed" if allowed else "hidden-key")
        if allowed:
            assert math.isclose(shown(text), weight, abs_tol=0.0051)
        else:
            assert text.startswith("0" if empty else "×")
    note = place.locator(".note").last.inner_text()
    assert f"{mask.sum()} of {mask.size} pairs" in note
    empty_rows = ", ".join(str(i) for i in np.flatnonzero(~mask.any(axis=-1)))
    assert (f"{empty_rows} may attend to nothing" in note) == bool(empty_rows)
    assert ("convention" in note) == bool(empty_rows)


def field(place, name):
    return place.get_by_label(name, exact=True)


def by_mouse(place):
    words = START.split()
    compare(place, words)
    field(place, "causal").check()
    compare(place, words, causal=True)
    field(place, "window").check()
    compare(place, words, causal=True, window=(1, 1))
    field(place, "causal").uncheck()
    compare(place, words, window=(1, 1))
    field(place, "left").fill("3")
    field(place, "right").fill("0")
    compare(place, words, window=(3, 0))
    field(place, "padded places").fill("2")
    compare(place, words, window=(3, 0), padded=2)
    field(place, "hide the padding").check()
    compare(place, words, window=(3, 0), padded=2, hide=True)
    field(place, "left").fill("0")  # the rows of the padding are empty now
    compare(place, words, window=(0, 0), padded=2, hide=True)
    field(place, "window").uncheck()
    compare(place, words, padded=2, hide=True)


def by_keyboard(place):
    press = place.page.keyboard.press
    field(place, "Sentence, of 2 to 12 words").focus()
    press("Control+a")
    place.page.keyboard.type("To be or  not to be ")
    words = ["To", "be", "or", "not", "to", "be"]
    compare(place, words)
    press("Tab")
    press("ArrowUp")
    compare(place, words, padded=1)
    press("Tab")
    for positions in POSITIONS[1:]:
        press("ArrowDown")
        compare(place, words, padded=1, positions=positions)
    press("Tab")
    press("Space")
    compare(place, words, padded=1, positions="alibi", causal=True)
    press("Tab")
    press("Space")
    compare(place, words, padded=1, positions="alibi", causal=True, window=(1, 1))
    press("Tab")
    press("ArrowUp")
    compare(place, words, padded=1, positions="alibi", causal=True, window=(2, 1))
    press("Tab")
    press("ArrowDown")
    compare(place, words, padded=1, positions="alibi", causal=True, window=(2, 0))
    press("Tab")
    press("Space")
    compare(place, words, padded=1, positions="alibi", causal=True, window=(2, 0), hide=True)


def combined(place):
    """Masks and positions with one another."""
    words = ["吃", "honey", "é", "🍋", "honey"]  # beyond 16 bits, too
    field(place, "Sentence, of 2 to 12 words").fill(" ".join(words))
    field(place, "padded places").fill("3")
    field(place, "left").evaluate("e => e.disabled") or pytest.fail("wanted it disabled")
    for causal, window, hide in itertools.product((False, True), repeat=3):
        for name, on in (("causal", causal), ("window", window), ("hide the padding", hide)):
            field(place, name).set_checked(on)
        for positions in POSITIONS:
            field(place, "Positions").select_option(positions)
            compare(
                place,
                words,
                padded=3,
                causal=causal,
                window=(1, 1) if window else None,
                hide=hide,
                positions=positions,
            )


def sentences(place):
    """Too short, too long, and in between."""
    sentence = field(place, "Sentence, of 2 to 12 words")
    problem = place.locator(".note").first
    expect(problem).to_be_empty()
    for short in ("", " ", "one"):
        sentence.fill(short)
        expect(problem).to_contain_text("at least two words")
        compare(place, START.split())  # the last good one
    many = [f"w{i}" for i in range(15)]
    sentence.fill(" ".join(many))
    expect(problem).to_contain_text("first 12 words")
    compare(place, many[:12])
    field(place, "padded places").fill("4")  # there is no room for padding
    compare(place, many[:12])
    sentence.fill(" ".join(many[:10]))
    expect(problem).to_be_empty()
    compare(place, many[:10], padded=2)
    for no_number in ("", "9", "1.5"):
        field(place, "padded places").fill(no_number)
        compare(place, many[:10], padded=2)


@pytest.mark.parametrize("drive", [by_mouse, by_keyboard, combined, sentences])
def test_like_the_package(browser, figures, drive):
    with running(browser, figures, "masks") as place:
        drive(place)


def test_on_a_narrow_screen(browser, figures):
    """A long sentence scrolls in its box, and does not widen the page."""
    with running(browser, figures, "masks", width=375) as place:
        by_mouse(place)
        field(place, "Sentence, of 2 to 12 words").fill("extraordinarily " * 12)
        page = place.page
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        box = place.get_by_role("region")
        assert box.evaluate("box => box.scrollWidth > box.clientWidth")
        box.focus()
        page.keyboard.press("ArrowRight")
        page.wait_for_function("box => box.scrollLeft > 0", arg=box.element_handle())


def test_markup_in_a_sentence_is_text(browser, figures):
    with running(browser, figures, "masks") as place:
        words = ["<b>bold</b>", "<img/src=x>", "&lt;"]
        field(place, "Sentence, of 2 to 12 words").fill(" ".join(words))
        compare(place, words)


BROKEN = {
    "causal without itself": (
        by_mouse,
        "attention.js",
        "(_, j) => j <= i + offset));",
        "(_, j) => j < i + offset));",
    ),
    "causal turned round": (
        by_mouse,
        "attention.js",
        "(_, j) => j <= i + offset));",
        "(_, j) => j >= i + offset));",
    ),
    "mask turned round": (by_mouse, "attention.js", "mask[j] ? Math", "!mask[j] ? Math"),
    "masked scores of zero": (
        by_mouse,
        "attention.js",
        "(mask[j] ? Math.exp(x - largest) : 0)",
        "(mask[j] ? Math.exp(x - largest) : Math.exp(-largest))",
    ),
    "an empty row is uniform": (
        by_mouse,
        "attention.js",
        "row.map(() => 0)",
        "row.map(() => 1 / row.length)",
    ),
    "padding hides queries": (by_mouse, "masks.js", "(_, j) => j < n_real)", "() => i < n_real)"),
    "window's sides exchanged": (
        by_mouse,
        "masks.js",
        "options.left, options.right",
        "options.right, options.left",
    ),
    "masks combined with or": (by_mouse, "masks.js", "masks.every(", "masks.some("),
    "no scale": (by_mouse, "attention.js", "dot(q, k) / scale", "dot(q, k)"),
    "positions from one": (
        by_keyboard,
        "masks.js",
        "const angle = (position, pair) => position",
        "const angle = (position, pair) => (position + 1)",
    ),
    "waves too fast": (by_keyboard, "masks.js", "-2 * pair", "-1 * pair"),
    "sine and cosine exchanged": (
        by_keyboard,
        "masks.js",
        "c % 2 ? Math.cos(turn) : Math.sin(turn)",
        "c % 2 ? Math.sin(turn) : Math.cos(turn)",
    ),
    "keys not turned": (
        by_keyboard,
        "masks.js",
        "attention(rotated(x), rotated(x), x",
        "attention(rotated(x), x, x",
    ),
    "values turned too": (
        by_keyboard,
        "masks.js",
        "rotated(x), x, {mask}",
        "rotated(x), rotated(x), {mask}",
    ),
    "distance rewarded": (by_keyboard, "masks.js", "score - SLOPE", "score + SLOPE"),
    "another slope": (by_keyboard, "masks.js", "SLOPE = 0.5", "SLOPE = 0.25"),
    "letters without order": (by_mouse, "masks.js", "(t + 1) * letter", "letter"),
    "half of a letter": (combined, "masks.js", "codePointAt(0)", "charCodeAt(0)"),
}


@pytest.mark.parametrize("mistake", BROKEN)
def test_mistakes_are_found(browser, figures, mistake):
    drive, *broken = BROKEN[mistake]
    with (
        pytest.raises(AssertionError),
        running(browser, figures, "masks", broken=broken) as place,
    ):
        drive(place)
