"""The translator in the page computes what the package's Transformer computes, weight by weight."""

from __future__ import annotations

import re

import interactive_figures
import numpy as np
import pytest
import torch
from checks import accessibility, overflow, visit
from interactive_figures import TRANSLATOR, break_script, scroll_to
from playwright.sync_api import expect

from attn_tutorial import causal_mask
from attn_tutorial.models import greedy_decode
from tools.experiments import export_translator
from tools.experiments import transformer_dates as dates

PLACE = "[data-interactive=translator]"
STATIC = "#fig-tr-cross-attention img"
SCRIPTS = ("attention.js", "controls.js", "transformer.js", "translator_model.js", "translator.js")
TOLERANCE = 1e-5

STORED = export_translator.read_script(export_translator.SCRIPT.read_text(encoding="utf-8"))
LONG = "Wednesday, September 30, 2099"
TEXTS = (
    *STORED["examples"].values(),  # a right one, a mistake, a weekday, a century, no date
    LONG,
    "S",
    "2100, " * 10,  # which does not end in time, or ends in nonsense
)


class Reference:
    """The package's model with the stored weights, in float64."""

    def __init__(self):
        self.vocabulary = dates.Vocabulary([(STORED["characters"], "")])
        assert "".join(self.vocabulary.characters) == STORED["characters"]
        self.model = export_translator.unpacked(STORED).double()

    def encode(self, text: str) -> torch.Tensor:
        return self.vocabulary.encode([text], framed=False)  # (1, n_source)

    @torch.no_grad()
    def numbers(self, text: str, tokens: list[int]) -> dict[str, np.ndarray]:
        """Everything that the page shows, from the source and the tokens read, all at once.

        The decoder returns the weights of its cross-attention only; those of self-attention come
        from the layer itself, given once more what it was given.
        """
        model, layers = self.model, {}
        hooks = [
            module.register_forward_hook(
                lambda module, given, _, name=name: layers.update({name: (module, given[0])})
            )
            for name, module in (
                ("encoder", model.encoder[0].attention),
                ("own", model.decoder[0].attention),
            )
        ]
        logits, cross = model.decode(
            torch.tensor([tokens]), *model.encode(self.encode(text)), need_weights=True
        )
        for hook in hooks:
            hook.remove()
        n = len(tokens)
        weights = {}
        for name, mask in (("encoder", None), ("own", causal_mask(n, n))):
            module, given = layers[name]
            weights[name] = module(given, mask=mask, need_weights=True)[1][0].numpy()
        return {
            "probabilities": logits[0].softmax(-1).numpy(),  # (n, n_tokens)
            "cross": cross[0][0].numpy(),  # (n_heads, n, n_source)
            **weights,  # (n_heads, n_source, n_source), (n_heads, n, n)
        }

    def translation(self, text: str) -> list[int]:
        """What greedy decoding writes, "end" included."""
        settings = {"begin": dates.BEGIN, "end": dates.END, "max_length": dates.WRITTEN}
        return greedy_decode(self.model, self.encode(text), **settings)[0].tolist()


@pytest.fixture(scope="module")
def reference():
    return Reference()


def reach(page) -> None:
    """Scroll to the figure, and wait until it has started."""
    scroll_to(page, "translator")


def values(page) -> dict:
    return interactive_figures.values(page.locator(PLACE))


def type_source(page, text: str) -> None:
    page.get_by_label("Text to translate").fill(text)


def button(page, name: str):
    return page.locator(PLACE).get_by_role("button", name=name, exact=True)


def step_chooser(page):
    return page.get_by_role("radiogroup", name="Translation").get_by_role("radio")


def source_chooser(page):
    return page.get_by_role("radiogroup", name="choose the character").get_by_role("radio")


def differences(reference: Reference, shown: dict) -> dict[str, float]:
    """How far the page's numbers are from the package's: the largest difference of each kind."""
    wanted = reference.numbers(shown["source"], shown["tokens"])
    found = {name: [] for name in ("probabilities", "own", "cross", "encoder")}
    for i, step in enumerate(shown["steps"]):
        pairs = {
            "probabilities": (step["probabilities"], wanted["probabilities"][i]),
            "own": (step["own"][0], wanted["own"][:, i, : i + 1]),
            "cross": (step["cross"][0], wanted["cross"][:, i]),
            "encoder": (shown["encoderWeights"][0], wanted["encoder"]),
        }
        for name, (mine, right) in pairs.items():
            assert np.shape(mine) == right.shape
            found[name].append(np.abs(np.array(mine, dtype=float) - right).max())
    return {name: float(np.nan_to_num(max(some), nan=np.inf)) for name, some in found.items()}


def test_the_comparison_compares_what_differs(reference):
    """Numbers of another date are not taken for those of this one."""
    tokens = [dates.BEGIN, *reference.translation(LONG)[:-1]]
    here, there = (reference.numbers(text, tokens) for text in (LONG, LONG.replace("30", "29")))
    for name in ("probabilities", "cross", "encoder"):
        assert np.abs(here[name] - there[name]).max() > 1000 * TOLERANCE


def test_every_number_of_every_step(browser, figures, reference):
    with visit(browser, figures + TRANSLATOR) as visited:
        page = visited.page
        reach(page)
        for text in TEXTS:
            type_source(page, text)
            button(page, "Write to the end").click()
            shown = values(page)
            assert shown["source"] == text
            assert shown["finished"]
            assert max(differences(reference, shown).values()) < TOLERANCE, text
        assert not visited.problems


def test_writes_what_greedy_decoding_writes(browser, figures, reference):
    rng = np.random.default_rng(0)
    pairs = dates.split(dates.SEEDS[0])["test"]
    texts = [pairs[i][0] for i in rng.choice(len(pairs), size=8, replace=False)]
    with visit(browser, figures + TRANSLATOR) as visited:
        page = visited.page
        reach(page)
        for text in [*texts, *TEXTS]:
            type_source(page, text)
            button(page, "Write to the end").click()
            written = reference.translation(text)
            assert (
                values(page)["written"] == reference.vocabulary.decode(torch.tensor([written]))[0]
            )
            ended = dates.END in written
            assert ("Broken off" in page.locator(f"{PLACE} .status").inner_text()) != ended


def test_several_tokens_at_once_equal_steps(browser, figures, reference):
    """With more than one new token the causal mask has something to hide."""
    tokens = [dates.BEGIN, *reference.translation(LONG)[:-1]]
    wanted = reference.numbers(LONG, tokens)
    with visit(browser, figures + TRANSLATOR) as visited:
        reach(visited.page)
        found = visited.page.evaluate(
            """([source, tokens]) => {
                const {transformer, translatorModel} = attentionFigures;
                const model = transformer.unpack(translatorModel);
                const {memory} = transformer.encode(model, source);
                const caches = transformer.newCaches(model, memory);
                const parts = [tokens.slice(0, 4), tokens.slice(4)];
                return parts.map((part) => transformer.decode(model, part, caches).logits);
            }""",
            [reference.encode(LONG)[0].tolist(), tokens],
        )
    logits = torch.tensor(found[0] + found[1], dtype=torch.float64)  # (n, n_tokens)
    np.testing.assert_allclose(logits.softmax(-1), wanted["probabilities"], atol=TOLERANCE)


# What is broken: the script, the right piece, the wrong one, and what must differ then.
BROKEN = {
    "no scale": (
        "attention.js",
        "scale = Math.sqrt(key[0].length)",
        "scale = 1",
        ("encoder", "own", "cross", "probabilities"),
    ),
    "mask turned round": (
        "transformer.js",
        "const mask = causalMask(tokens.length, offset + tokens.length, offset);",
        "const mask = causalMask(tokens.length, offset + tokens.length, offset)"
        ".map((row) => row.map((may) => !may));",
        ("own", "cross", "probabilities"),
    ),
    "mask without the offset": (
        "transformer.js",
        "offset + tokens.length, offset);",
        "offset + tokens.length);",
        ("own", "cross", "probabilities"),
    ),
    "positions dropped": (
        "transformer.js",
        "return add(scaled, tokens.map((_, i) => positionVector(offset + i, d)));",
        "return scaled;",
        ("encoder", "own", "cross", "probabilities"),
    ),
    "all new tokens at position 0": (
        "transformer.js",
        "positionVector(offset + i, d)",
        "positionVector(i, d)",
        ("own", "cross", "probabilities"),
    ),
    "sines and cosines exchanged": (
        "transformer.js",
        "c % 2 ? Math.cos(angle) : Math.sin(angle)",
        "c % 2 ? Math.sin(angle) : Math.cos(angle)",
        ("encoder", "own", "cross", "probabilities"),
    ),
    "embedding not scaled": (
        "transformer.js",
        "x * Math.sqrt(d)",
        "x",
        ("encoder", "own", "cross", "probabilities"),
    ),
    "heads permuted": (
        "transformer.js",
        "weights: heads.map((head) => head.weights)",
        "weights: heads.map((head) => head.weights).reverse()",
        ("encoder", "own", "cross"),
    ),
    "heads interleaved": (
        "transformer.js",
        "row.slice(h * d, (h + 1) * d)",
        "row.filter((_, c) => c % nHeads === h)",
        ("encoder", "own", "cross", "probabilities"),
    ),
    "norm left out": (
        "transformer.js",
        'layerNorm(model, "encoder_norm", x)',
        "x",
        ("cross", "probabilities"),
    ),
    "variance of a sample": (
        "transformer.js",
        "const variance = mean(x.map((entry) => (entry - center) ** 2));",
        "const variance = mean(x.map((entry) => (entry - center) ** 2)) * 64 / 63;",
        ("encoder", "own", "cross", "probabilities"),
    ),
    "residual forgotten": (
        "transformer.js",
        "x = add(x, cross.output);",
        "x = cross.output;",
        ("probabilities",),
    ),
    "no ReLU": (
        "transformer.js",
        "Math.max(x, 0)",
        "x",
        ("cross", "probabilities"),
    ),
    "keys and values exchanged": (
        "transformer.js",
        "attention(query[h], key[h], value[h], {mask})",
        "attention(query[h], value[h], key[h], {mask})",
        ("encoder", "own", "cross", "probabilities"),
    ),
    "bits of the numbers lost": (
        "transformer.js",
        "(bits & 1023) / 1024",
        "(bits & 511) / 1024",
        ("encoder", "own", "cross", "probabilities"),
    ),
    "probabilities turned round": (
        "translator.js",
        "probabilities: softmaxRow(logits[0])",
        "probabilities: softmaxRow(logits[0].map((x) => -x))",
        ("probabilities",),
    ),
}


def numbers_with(browser, figures: str, reference: Reference, broken=None) -> dict:
    """The differences after a few steps, with a script broken: (script, right, wrong)."""
    with visit(browser, figures + TRANSLATOR) as visited:
        page = visited.page
        if broken is not None:
            break_script(page, *broken)
        reach(page)
        for _ in range(6):
            button(page, "Write the next character").click()
        return differences(reference, values(page))


def test_the_figure_has_no_mistake(browser, figures, reference):
    assert max(numbers_with(browser, figures, reference).values()) < TOLERANCE


@pytest.mark.parametrize("name", BROKEN)
def test_a_mistake_is_caught(browser, figures, reference, name):
    *broken, affected = BROKEN[name]
    found = numbers_with(browser, figures, reference, broken)
    for kind in affected:
        assert found[kind] > 100 * TOLERANCE, (kind, found)


def weights_drawn(page, title: str) -> np.ndarray:
    """The heights of the bars in a part of the figure, (n_heads, n); NaN where there is none."""
    part = page.locator(f"{PLACE} .part").filter(has=page.get_by_text(title))
    columns = part.locator(".column").evaluate_all(
        """columns => columns.map(column => [...column.querySelectorAll(".cell")].map(cell => {
            const box = cell.getBoundingClientRect();
            const bar = cell.firstChild.getBoundingClientRect();
            const seen = getComputedStyle(cell).visibility === "visible";
            return seen ? bar.height / (box.height - 1) : null; // 1 px is the line below
        }))"""
    )
    return np.array(columns, dtype=float).T


def check_drawn(page, shown: dict) -> None:
    """The bars, the candidates and the tables show the numbers of the chosen step."""
    step, looking = shown["steps"][shown["shown"]], shown["looking"]
    cross, own = np.array(step["cross"][0]), np.array(step["own"][0])
    encoder = np.array(shown["encoderWeights"][0])[:, looking]
    assert weights_drawn(page, "Cross-attention: where") == pytest.approx(cross, abs=0.01)
    drawn = weights_drawn(page, "Self-attention of the decoder: where")
    assert drawn[:, : own.shape[1]] == pytest.approx(own, abs=0.01)
    assert np.isnan(drawn[:, own.shape[1] :]).all()
    assert weights_drawn(page, "Self-attention of the encoder: where") == pytest.approx(
        encoder, abs=0.01
    )
    likeliest = sorted(step["probabilities"], reverse=True)[:5]
    texts = page.locator(f"{PLACE} .probability").all_inner_texts()
    for text, probability in zip(texts, likeliest, strict=True):
        if text == "< 0.1 %":
            assert probability < 0.0005
        else:
            assert float(text.removesuffix(" %")) == pytest.approx(100 * probability, abs=0.051)
    tables = page.locator(f"{PLACE} table").evaluate_all(
        """tables => tables.map(table => [...table.tBodies[0].rows].map(row =>
            [...row.cells].slice(2).map(cell => Number(cell.textContent))))"""
    )
    for table, weights in zip(tables, (cross, own, encoder), strict=True):
        np.testing.assert_allclose(np.transpose(table), weights, atol=0.00051)


def test_by_mouse(browser, figures, reference):
    with visit(browser, figures + TRANSLATOR) as visited:
        page = visited.page
        reach(page)
        page.get_by_text("All weights of this step in numbers").click()
        # an example
        page.get_by_label("Examples").select_option(label="a mistake: 11 becomes 1")
        assert values(page)["source"] == STORED["examples"]["mistake"]
        expect(page.get_by_label("Text to translate")).to_have_value(STORED["examples"]["mistake"])
        # character by character
        for n in (1, 2):
            button(page, "Write the next character").click()
            assert len(values(page)["written"]) == n
            check_drawn(page, values(page))
        # to the end
        button(page, "Write to the end").click()
        shown = values(page)
        status = page.locator(f"{PLACE} .status")
        expect(status).to_contain_text("wrong: 1954. december 1., szombat.")
        expect(status).to_contain_text("Right is: 1954. december 11., szombat")
        expect(button(page, "Write the next character")).to_have_attribute("aria-disabled", "true")
        button(page, "Write the next character").click(force=True)
        assert values(page)["tokens"] == shown["tokens"]  # nothing more to write
        # back to earlier steps, by pointing and by a click
        step_chooser(page).nth(3).hover()
        assert values(page)["shown"] == 3
        check_drawn(page, values(page))
        step_chooser(page).nth(0).click()
        assert values(page)["shown"] == 0
        # where a character of the source looks
        source_chooser(page).nth(12).hover()
        assert values(page)["looking"] == 12
        check_drawn(page, values(page))
        assert max(differences(reference, values(page)).values()) < TOLERANCE
        # back to the start
        button(page, "Back to the start").click()
        assert values(page)["tokens"] == [dates.BEGIN]
        expect(status).to_have_text("Nothing is written yet.")
        assert not visited.problems


def test_by_keyboard(browser, figures, reference):
    with visit(browser, figures + TRANSLATOR) as visited:
        page = visited.page
        reach(page)
        text = page.get_by_label("Text to translate")
        text.focus()
        page.keyboard.press("Control+a")
        page.keyboard.type("Monday, June 3, 1985")
        assert values(page)["source"] == "Monday, June 3, 1985"
        expect(page.get_by_label("Examples")).to_have_value("")
        page.keyboard.press("Tab")
        expect(page.get_by_label("Examples")).to_be_focused()
        page.keyboard.press("Tab")
        expect(button(page, "Write the next character")).to_be_focused()
        page.keyboard.press("Enter")
        page.keyboard.press("Space")
        assert len(values(page)["written"]) == 2
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        assert values(page)["finished"]
        expect(button(page, "Write to the end")).to_be_focused()  # though it can do no more
        page.keyboard.press("Tab")
        expect(button(page, "Back to the start")).to_be_focused()
        page.keyboard.press("Tab")
        last = len(values(page)["steps"]) - 1
        expect(step_chooser(page).nth(last)).to_be_focused()
        for key, wanted in (
            ("ArrowLeft", last - 1),
            ("Home", 0),
            ("ArrowUp", 0),
            ("ArrowRight", 1),
            ("End", last),
            ("ArrowRight", last),
        ):
            page.keyboard.press(key)
            assert values(page)["shown"] == wanted
            expect(step_chooser(page).nth(wanted)).to_be_focused()
            expect(step_chooser(page).nth(wanted)).to_have_attribute("aria-checked", "true")
        page.keyboard.press("Home")
        page.keyboard.press("Tab")
        page.keyboard.press("Tab")  # the second candidate of the first step
        second = np.argsort(values(page)["steps"][0]["probabilities"])[-2]
        page.keyboard.press("Enter")
        shown = values(page)
        assert shown["tokens"] == [dates.BEGIN, second]
        assert max(differences(reference, shown).values()) < TOLERANCE
        for _ in range(4):
            page.keyboard.press("Tab")  # over the other candidates
        expect(source_chooser(page).nth(0)).to_be_focused()
        page.keyboard.press("ArrowRight")
        assert values(page)["looking"] == 1
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        check_drawn(page, values(page))
        assert not visited.problems


def test_another_character_than_the_likeliest(browser, figures, reference):
    """What was written before it stays, what came after it is given up, and the model goes on."""
    with visit(browser, figures + TRANSLATOR) as visited:
        page = visited.page
        reach(page)
        button(page, "Write to the end").click()
        before = values(page)
        step_chooser(page).nth(5).click()
        page.locator(f"{PLACE} .candidates button").nth(1).click()
        shown = values(page)
        assert shown["tokens"][:6] == before["tokens"][:6]
        assert shown["tokens"][6] != before["tokens"][6]
        assert len(shown["tokens"]) == 7
        button(page, "Write to the end").click()
        shown = values(page)
        assert len(shown["tokens"]) > 7
        assert max(differences(reference, shown).values()) < TOLERANCE


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "nothing to translate"),
        ("2039-05-14", "has never seen “-”"),
        ("Saturday, May 14, 2039 " * 3, "has 64 positions"),
    ],
)
def test_a_bad_text_is_refused_in_words(browser, figures, text, message):
    with visit(browser, figures + TRANSLATOR) as visited:
        page = visited.page
        reach(page)
        type_source(page, text)
        expect(page.locator(PLACE).get_by_role("alert")).to_contain_text(message)
        expect(page.get_by_label("Text to translate")).to_have_attribute("aria-invalid", "true")
        assert values(page) is None
        for name in ("Write the next character", "Write to the end", "Back to the start"):
            button(page, name).click(force=True)  # nothing happens, and nothing breaks
        type_source(page, LONG)
        expect(page.locator(f"{PLACE} .problem")).to_be_empty()
        assert values(page)["source"] == LONG
        assert not visited.problems


def test_the_truth_is_that_of_the_data(browser, figures):
    """For held-out dates the page knows the right translation, and says which are wrong."""
    pairs = dates.split(dates.SEEDS[0])["test"][:16]
    with visit(browser, figures + TRANSLATOR) as visited:
        page = visited.page
        reach(page)
        seen = set()
        for english, hungarian in pairs:
            type_source(page, english)
            expect(page.locator(PLACE)).to_contain_text("The year was held out")
            button(page, "Write to the end").click()
            status = page.locator(f"{PLACE} .status").inner_text()
            assert status.endswith(hungarian)
            right = values(page)["written"] == hungarian
            assert ("and right" if right else "and wrong") in status
            seen.add(right)
        assert seen == {True, False}
        for example, note in (("later", "outside those of training"), ("noDate", None)):
            type_source(page, STORED["examples"][example])
            if note:
                expect(page.locator(PLACE)).to_contain_text(note)
        button(page, "Write to the end").click()
        expect(page.locator(f"{PLACE} .status")).to_contain_text("nothing right to write")


def test_the_note_says_what_was_measured(browser, figures):
    accuracy = STORED["accuracy"]
    with visit(browser, figures + TRANSLATOR) as visited:
        reach(visited.page)
        expect(visited.page.locator(f"{PLACE} .note")).to_contain_text(
            f"translates {accuracy['right, held out']} of {accuracy['dates']} dates of held-out "
            f"years without a mistake, and {accuracy['right, later']} of {accuracy['dates']}"
        )


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 375])
def test_accessible_and_no_wider_than_the_window(browser, figures, width, scheme):
    with visit(browser, figures + TRANSLATOR, width=width, scheme=scheme) as visited:
        page = visited.page
        reach(page)
        type_source(page, LONG)
        button(page, "Write to the end").click()
        step_chooser(page).nth(7).click()
        page.get_by_text("All weights of this step in numbers").click()
        expect(page.locator(f"{PLACE} table")).to_have_count(3)
        small = page.locator(PLACE).evaluate(
            """place => [...place.querySelectorAll("button, input, select, summary")]
                .map(control => [control.getBoundingClientRect(), control.outerHTML])
                .filter(([box]) => box.width < 24 || box.height < 24)
                .map(([box, html]) => `${box.width} × ${box.height}: ${html.slice(0, 80)}`)"""
        )
        tiny = page.locator(PLACE).evaluate(
            """place => [...place.querySelectorAll("*")]
                .filter(part => part.innerText && parseFloat(getComputedStyle(part).fontSize) < 12)
                .map(part => part.outerHTML.slice(0, 80))"""
        )
        assert not small
        assert not tiny
        assert not overflow(page)
        assert not accessibility(page)
        assert not visited.problems


def test_loads_when_reached(browser, address):
    with visit(browser, address + TRANSLATOR) as visited:
        page = visited.page

        def loaded():
            urls = [response.url for response in visited.responses]
            return {
                re.sub(r"\?.*", "", url.rpartition("/")[2]) for url in urls if "figures/" in url
            }

        assert loaded() == {"loader.js", "figures.css"}
        expect(page.locator(STATIC)).to_be_visible()
        reach(page)
        expect(page.locator(f"{PLACE} .translator")).to_be_visible()
        assert loaded() == {"loader.js", "figures.css", "translator.css", *SCRIPTS}
        expect(page.locator(STATIC)).to_be_hidden()
        expect(page.locator("#fig-tr-cross-attention figcaption")).to_be_visible()


def test_without_scripts_the_static_figure_shows(browser, address):
    with visit(browser, address + TRANSLATOR, scripts=False) as visited:
        expect(visited.page.locator(STATIC)).to_be_visible()
        expect(visited.page.locator(PLACE)).to_be_hidden()


def test_from_a_folder(browser, site, reference):
    with visit(browser, (site / TRANSLATOR).resolve().as_uri()) as visited:
        page = visited.page
        reach(page)
        button(page, "Write to the end").click()
        assert max(differences(reference, values(page)).values()) < TOLERANCE
        assert not visited.problems
