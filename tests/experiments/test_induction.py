"""The stored models are what the program trains, and the text is what it says it is."""

import itertools
import json

import jupytext
import numpy as np
import pytest
import torch

from tools.experiments import induction as experiment

STORED = json.loads(experiment.RESULTS.read_text(encoding="utf8"))
CHAPTER = experiment.FOLDER.parent / "following_information.ipynb"


def test_every_model_is_stored():
    names = {experiment.name_of(n, seed) for n in experiment.LAYERS for seed in experiment.SEEDS}
    assert STORED["models"].keys() == names
    assert STORED["steps"] == experiment.STEPS
    assert experiment.PARAMETERS.stat().st_size < 300_000


@pytest.mark.parametrize("n_layers", experiment.LAYERS)
def test_the_first_steps_are_the_stored_ones(n_layers):
    """Another processor rounds otherwise; within a few steps that hardly grows."""
    _, losses = experiment.train_model(n_layers, seed=0, steps=experiment.SHORT)
    stored = STORED["models"][experiment.name_of(n_layers, 0)]
    np.testing.assert_allclose(losses, stored["first losses"], rtol=0.002)


@pytest.mark.parametrize("n_layers", experiment.LAYERS)
def test_a_stored_model_has_the_stored_accuracy(n_layers):
    """Stored in 16 bits, it is the model that was measured."""
    for seed in experiment.SEEDS:
        model = experiment.load_model(n_layers, seed=seed)
        stored = STORED["models"][experiment.name_of(n_layers, seed)]
        assert experiment.accuracy(model) == pytest.approx(stored["held-out accuracy"], abs=5e-3)


def test_what_is_marked_as_known_stands_in_the_block_before():
    tokens, repeated = experiment.repeated_blocks(50, seed=3)
    assert tokens.shape == repeated.shape == (50, experiment.LENGTH)
    for row, known in zip(tokens.tolist(), repeated.tolist(), strict=True):
        assert not any(known[:8])
        for i in np.flatnonzero(known):
            pairs = set(itertools.pairwise(row[:i]))
            assert (row[i - 1], row[i]) in pairs
    assert 0.4 < repeated.double().mean() < 0.7


def test_the_held_out_sequences_are_no_training_sequences():
    held_out, _ = experiment.repeated_blocks(500, seed=experiment.HELD_OUT_SEED)
    held_out = {tuple(row) for row in held_out.tolist()}
    for seed in experiment.SEEDS:
        tokens, _ = experiment.repeated_blocks(experiment.STEPS * experiment.BATCH, seed=seed)
        assert not held_out & {tuple(row) for row in tokens.tolist()}


def test_the_chapter_draws_the_same_text():
    """Its generator is shown on the page; it is the one that the models were trained with."""
    cells = {cell.id: cell.source for cell in jupytext.read(CHAPTER).cells}
    names = {"np": np, "torch": torch}
    exec(cells["text-with-repeats"], names)
    for mine, theirs in zip(
        names["repeated_blocks"](40, seed=5), experiment.repeated_blocks(40, seed=5), strict=True
    ):
        assert torch.equal(mine, theirs)
