"""The translator that the page loads is the chapter's, and as good as is said of it."""

import json

import numpy as np
import pytest
import torch
from babel.dates import format_date

from tools.experiments import export_translator as export
from tools.experiments import transformer_dates as dates

TEXT = export.SCRIPT.read_text(encoding="utf-8")
STORED = export.read_script(TEXT)
RESULTS = json.loads(export.RESULTS.read_text(encoding="utf-8"))
LARGEST = 350_000  # bytes of the script
TOLERANCE = 0.002  # another processor rounds otherwise
NEARLY = 3  # of 500 dates, for the same reason


@pytest.fixture(scope="module")
def parts():
    return dates.split(export.SEED)


@pytest.fixture(scope="module")
def vocabulary(parts):
    return dates.Vocabulary(parts["training"])


def test_the_first_steps_are_the_stored_ones():
    *_, losses = export.trained(steps=dates.SHORT)
    np.testing.assert_allclose(losses, RESULTS["short run"], rtol=TOLERANCE)


def test_the_stored_weights_are_as_accurate_as_stated(parts, vocabulary):
    found = export.measured(export.unpacked(STORED), vocabulary, parts)
    stated = STORED["accuracy"]
    assert found["dates"] == stated["dates"] == dates.EXAMPLES["test"]
    for name in ("right, held out", "right, later"):
        assert abs(found[name] - stated[name]) <= NEARLY
        assert RESULTS[name] == stated[name]
    assert RESULTS["mistake"] == stated["mistake"] == STORED["examples"]["mistake"]


def test_other_weights_are_not_as_accurate(parts, vocabulary):
    """The check above can fail: two parameters of one shape change places."""
    model = export.unpacked(STORED)
    attention = model.decoder[0].cross_attention
    with torch.no_grad():
        key = attention.key.weight.clone()
        attention.key.weight.copy_(attention.value.weight)
        attention.value.weight.copy_(key)
    right = sum(export.which_are_right(model, vocabulary, parts["test"][:100]))
    assert right < 0.5 * 100 < STORED["accuracy"]["right, held out"] / 5


def test_packing_and_unpacking(vocabulary):
    torch.manual_seed(1)
    model = dates.transformer(len(vocabulary))
    unpacked = export.unpacked({"characters": STORED["characters"], **export.packed(model)})
    for name, parameter in unpacked.named_parameters():
        wanted = dict(model.named_parameters())[name].half().float()
        assert torch.equal(parameter, wanted), name
    # what is shared stays so
    assert unpacked.output.weight is unpacked.source_embedding.tokens.weight


def test_wrong_parts_are_refused():
    shapes = dict(STORED["shapes"])
    shapes.pop("decoder_norm.bias")
    with pytest.raises(ValueError, match="not those of the model"):
        export.unpacked({**STORED, "shapes": shapes})
    with pytest.raises(ValueError, match="wanted 120576 numbers for the shapes; got 1205"):
        export.unpacked({**STORED, "weights": STORED["weights"][:-1]})


def test_the_same_model_gives_the_same_bytes():
    again = export.packed(export.unpacked(STORED))
    assert export.as_script({**STORED, **again}) == TEXT
    assert len(TEXT.encode("utf-8")) < LARGEST


def test_what_else_is_stored_is_that_of_the_data(parts, vocabulary):
    assert list(STORED["characters"]) == vocabulary.characters
    assert {str(year) for year in STORED["heldOutYears"]} == {
        english[-4:] for english, _ in parts["test"]
    }
    settings = STORED["settings"]
    model = export.unpacked(STORED)
    assert settings["n_heads"] == model.decoder[0].cross_attention.n_heads
    assert settings["n_layers"] == len(model.encoder) == len(model.decoder) == dates.N_LAYERS
    assert settings["max_length"] == model.max_length
    assert settings["written"] == dates.WRITTEN
    assert [settings[name] for name in ("pad", "begin", "end")] == [
        dates.PAD,
        dates.BEGIN,
        dates.END,
    ]
    assert RESULTS["parameters"] == sum(p.numel() for p in model.parameters())


def test_the_names_make_the_dates(parts):
    """The page puts the right translation together from them."""
    months, weekdays = STORED["names"]["months"], STORED["names"]["weekdays"]
    for english, hungarian in parts["test"]:
        weekday, month_and_day, year = english.split(", ")
        month, day = month_and_day.split(" ")
        assert f"{year}. {months[month]} {day}., {weekdays[weekday]}" == hungarian


def test_the_examples_are_what_they_are_called(parts):
    examples = STORED["examples"]
    assert examples["heldOut"] == format_date(export.SHOWN, "full", "en")
    assert export.SHOWN.year in STORED["heldOutYears"]
    assert examples["mistake"] in {english for english, _ in parts["test"]}
    assert examples["weekday"].partition(" ")[2] == examples["heldOut"].partition(" ")[2]
    assert examples["weekday"] != examples["heldOut"]
    assert examples["later"][-4:] == str(export.SHOWN.year + 100)
    for text in examples.values():
        assert set(text) <= set(STORED["characters"])
