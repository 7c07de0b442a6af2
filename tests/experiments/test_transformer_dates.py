"""The stored results of the experiment on dates are what its program gives."""

import json
import re

import numpy as np
import pytest

from tools.experiments import transformer_dates as dates

STORED = json.loads(dates.RESULTS.read_text(encoding="utf-8"))
# Another processor rounds otherwise; within thirty steps that hardly grows.
TOLERANCE = 0.002


def test_everything_is_stored():
    assert tuple(STORED["seeds"]) == dates.SEEDS
    assert STORED["steps"] == dates.STEPS
    assert STORED["examples"] == dates.EXAMPLES
    assert set(STORED["scores"]) == {*dates.BASELINES, *dates.VARIANTS}
    for runs in STORED["scores"].values():
        assert len(runs) == len(dates.SEEDS)


def test_the_first_steps_are_the_stored_ones():
    np.testing.assert_allclose(dates.run_short(), STORED["short run"], rtol=TOLERANCE)


@pytest.mark.parametrize("name", dates.BASELINES)
def test_the_baselines_are_the_stored_ones(name):
    for seed, stored in zip(dates.SEEDS, STORED["scores"][name], strict=True):
        assert dates.BASELINES[name](seed) == pytest.approx(stored, abs=1e-3)


@pytest.mark.parametrize("seed", dates.SEEDS)
def test_the_parts_share_no_year_and_no_date(seed):
    parts = dates.split(seed)
    years = {
        name: {re.search(r"\d{4}", english)[0] for english, _ in pairs}
        for name, pairs in parts.items()
    }
    assert {name: len(pairs) for name, pairs in parts.items()} == dates.EXAMPLES
    assert len(years["training"] | years["validation"] | years["test"]) == 200
    assert sum(map(len, years.values())) == 200
    for pairs in parts.values():
        assert len(set(pairs)) == len(pairs)


def test_scores_count_texts_and_places():
    assert dates.scores(["ab", "xyz"], ["ab", "xb"]) == {"exact": 0.5, "characters": 3 / 5}


@pytest.mark.parametrize("variant", dates.VARIANTS)
def test_every_variant_trains_and_writes(variant, monkeypatch):
    monkeypatch.setitem(dates.EXAMPLES, "training", 64)
    make, options = dates.VARIANTS[variant]
    monkeypatch.setitem(dates.VARIANTS, variant, (make, options | {"steps": 2}))
    parts = dates.split(0)
    vocabulary = dates.Vocabulary(parts["training"] + parts["test"] + parts["validation"])
    model, history = dates.fit(variant, 0, parts, vocabulary)
    assert len(history.losses) == 2
    assert np.isfinite(history.losses).all()
    assert len(dates.translate(model, vocabulary, [english for english, _ in parts["test"]])) == 500
