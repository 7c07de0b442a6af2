"""The stored translator and its numbers are what the experiment on seeing weights gives."""

import json

import numpy as np
import pytest

from tools.experiments import seeing_weights as seeing
from tools.experiments import transformer_dates as dates

STORED = json.loads(seeing.RESULTS.read_text(encoding="utf-8"))
# Another processor rounds otherwise; within thirty steps that hardly grows.
TOLERANCE = 0.002
PAIR = ("Saturday, May 14, 2039", "2039. május 14., szombat")


def pointing(pair, origins):
    """Weights (1, n_target, n_source) with a single 1 in each row."""
    english, hungarian = pair
    weights = np.zeros((1, len(hungarian) + 1, len(english) + 3))  # padded, as in a batch
    weights[0, np.arange(len(hungarian)), origins] = 1
    return weights


def true_origins(pair):
    """For each character written one of the places that it comes from."""
    english, hungarian = pair
    of_source = seeing.words(english, seeing.ENGLISH)
    of_target = seeing.words(hungarian, seeing.HUNGARIAN)
    origins = np.full(len(hungarian), english.index(","))
    for number, name in enumerate(seeing.ENGLISH):
        places = np.flatnonzero(of_source == number)
        written = np.flatnonzero(of_target == number)
        digits = name in ("day", "year")
        origins[written] = places if digits else places[0]
    return origins


def test_everything_is_stored():
    assert tuple(STORED["seeds"]) == seeing.SEEDS
    assert STORED["steps"] == seeing.STEPS
    assert len(STORED["runs"]) == len(seeing.SEEDS)


def test_the_first_steps_are_the_stored_ones():
    np.testing.assert_allclose(seeing.run_short(), STORED["short run"], rtol=TOLERANCE)


def test_the_stored_translator_gives_the_stored_numbers():
    model, vocabulary, parts = seeing.load()
    found = seeing.measure(seeing.SEEDS[0], model, vocabulary, parts)
    stored = STORED["runs"][0]
    assert found.pop("head") == stored["head"]
    assert found.pop("exact") == pytest.approx(stored["exact"], abs=0.005)
    for name, numbers in found.items():
        for measure, value in numbers.items():
            np.testing.assert_allclose(value, stored[name][measure], atol=0.005, err_msg=name)


def test_the_stored_years_are_those_of_the_split():
    parts = dates.split(seeing.SEEDS[0])
    with np.load(seeing.MODEL) as stored:
        for name in ("test", "training"):
            years = {int(english[-4:]) for english, _ in parts[name]}
            assert set(stored[f"{name}_years"].tolist()) == years
        assert stored["characters"].tolist() == dates.characters(parts["training"])
        assert not set(stored["test_years"].tolist()) & set(stored["training_years"].tolist())


def test_words_are_found():
    english, hungarian = PAIR
    assert seeing.words(english, seeing.ENGLISH).tolist() == (
        [0] * 8 + [4] * 2 + [1] * 3 + [4] + [2] * 2 + [4] * 2 + [3] * 4
    )
    assert seeing.words(hungarian, seeing.HUNGARIAN).tolist() == (
        [3] * 4 + [4] * 2 + [1] * 5 + [4] + [2] * 2 + [4] * 3 + [0] * 7
    )


def test_the_true_alignment_hits_always():
    found = seeing.hits(pointing(PAIR, true_origins(PAIR)), [PAIR])
    assert found == {name: 1.0 for name in ("digits", *seeing.ENGLISH)}


def test_a_digit_is_missed_by_a_place():
    origins = true_origins(PAIR)
    origins[[0, 12]] += 1  # the first digit of the year, and that of the day
    found = seeing.hits(pointing(PAIR, origins), [PAIR])
    assert found["digits"] == 4 / 6
    assert found["year"] == found["day"] == 1.0  # still within the word


def test_a_word_is_missed_by_another():
    origins = true_origins(PAIR)
    origins[6:8] = 0  # two of five letters of the month look at the weekday
    found = seeing.hits(pointing(PAIR, origins), [PAIR])
    assert found["month"] == 3 / 5
    assert found["digits"] == found["weekday"] == 1.0


def test_heads_are_counted_one_by_one():
    right = pointing(PAIR, true_origins(PAIR))
    wrong = np.roll(right, 3, axis=-1)
    heads = np.stack([right, wrong], axis=1)  # (1, n_heads, n_target, n_source)
    found = seeing.hits(heads, [PAIR])["digits"]
    assert found[0] == 1.0
    assert found[1] < 1.0
