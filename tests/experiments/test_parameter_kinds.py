"""The stored results of the project are what its program gives."""

import json

import numpy as np
import pytest
import torch

from attn_tutorial.parameter_kinds.baselines import baselines, fit_baselines, score_baselines
from attn_tutorial.parameter_kinds.data import PADDING, PARTS, load_examples, split, versions
from tools.experiments import parameter_kinds as experiment

STORED = json.loads(experiment.RESULTS.read_text(encoding="utf8"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("examples")
    load_examples(folder / experiment.CACHE)
    return folder


def test_everything_is_stored():
    assert STORED["seeds"] == list(experiment.SEEDS)
    assert STORED["versions"] == versions()
    assert STORED["baselines"].keys() == baselines().keys()
    assert STORED["models"].keys() == experiment.VARIANTS.keys()
    for runs in STORED["models"].values():
        assert len(runs) == len(experiment.SEEDS)
        for one in runs:
            assert one["by library"].keys() == set(PARTS["test"])
            assert one["steps"] >= one["best step"] > 0


def test_the_data_are_the_stored_ones(folder):
    examples = split(load_examples(folder / experiment.CACHE))
    assert experiment.describe(examples) == STORED["data"]


def test_the_first_steps_are_the_stored_ones(folder):
    """Another processor rounds otherwise; within twenty steps that hardly grows."""
    np.testing.assert_allclose(experiment.short_losses(folder), STORED["short run"], rtol=0.002)


def test_a_baseline_is_the_stored_one(folder, monkeypatch):
    from attn_tutorial.parameter_kinds import baselines as module

    name = "naive Bayes, words"
    chosen = {name: baselines()[name]}
    monkeypatch.setattr(module, "baselines", lambda: chosen)
    parts = split(load_examples(folder / experiment.CACHE))
    scores = score_baselines(fit_baselines(parts), parts)
    for part in ("validation", "test"):
        assert scores[name][part] == pytest.approx(STORED["baselines"][name][part], abs=2e-3)


def test_the_paired_counts_agree_with_the_scores():
    """What only one of the two gets right is the difference of what each gets right."""
    n = STORED["data"]["test"]["examples"]
    rival = STORED["baselines"][STORED["rival"]]["test"]["accuracy"]
    for runs in STORED["models"].values():
        for one in runs:
            lead = one["only this is right"] - one["only the rival is right"]
            assert lead / n == pytest.approx(one["test"]["accuracy"] - rival, abs=1e-9)


def test_shuffling_keeps_the_words_and_the_padding():
    tokens = torch.tensor([[5, 6, 7, 8, PADDING, PADDING], [9, PADDING, *[PADDING] * 4]])
    mixed = experiment.shuffled(tokens, seed=0)
    assert mixed.sort(dim=1).values.equal(tokens.sort(dim=1).values)
    assert (mixed == PADDING).equal(tokens == PADDING)
    assert not mixed.equal(tokens)
