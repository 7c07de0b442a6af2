"""The stored measurements of explanations are what the program gives."""

import json

import numpy as np
import pytest
import torch

from attn_tutorial.parameter_kinds.data import PADDING, UNKNOWN, Vocabulary, load_examples, split
from attn_tutorial.parameter_kinds.training import Settings, encode
from tools.experiments import faithfulness as experiment

STORED = json.loads(experiment.RESULTS.read_text(encoding="utf8"))
ALONE = "learned query alone"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    load_examples(folder / experiment.CACHE)
    return folder


@pytest.fixture(scope="module")
def vocabulary_and_parts(folder):
    parts = split(load_examples(folder / experiment.CACHE))
    vocabulary = Vocabulary([example.text for example in parts["training"]])
    return vocabulary, encode(parts, vocabulary, length=Settings().length)


def test_everything_is_stored():
    assert STORED["seeds"] == {name: list(seeds) for name, seeds in experiment.SEEDS.items()}
    assert STORED["descriptions"] == experiment.N_DESCRIPTIONS >= 300
    for name, runs in STORED["models"].items():
        assert len(runs) == len(experiment.SEEDS[name]) >= 3
        for one in runs:
            for words in experiment.REPLACEMENTS:
                assert {"random", "weights", "leave one out"} < one[words].keys()
    second = STORED["second models"]
    assert list(second["adversary"]) == [str(number) for number in experiment.DIVERGENCES]
    for runs in (*second["adversary"].values(), *second["guided"].values()):
        assert len(runs) == len(experiment.ADVERSARY_SEEDS)


def test_a_short_run_gives_the_stored_numbers(folder, vocabulary_and_parts):
    """Trained anew: another processor rounds otherwise, and training lets that grow."""
    vocabulary, parts = vocabulary_and_parts
    found, stored = experiment.short_run(folder, parts, vocabulary), STORED["short run"]
    assert found["faithfulness"].keys() == stored["faithfulness"].keys()
    for method, numbers in stored["faithfulness"].items():
        for key, number in numbers.items():
            np.testing.assert_allclose(found["faithfulness"][method][key], number, atol=0.05)
    for name in ("signs", "free weights"):
        assert found[name].keys() == stored[name].keys()
        for key, number in stored[name].items():
            np.testing.assert_allclose(found[name][key], number, atol=0.05)
    assert found["free weights"]["output moved at most"] <= experiment.EPSILON + 1e-4


def test_an_encoder_adds_its_methods():
    torch.manual_seed(0)
    model = experiment.build_model(Settings(d_model=16), 30).eval()
    tokens = np.arange(2, 12)
    found = experiment.rankings(
        model, tokens, kind=2, replacement=UNKNOWN, rng=np.random.default_rng(0)
    )
    alone = experiment.build_model(Settings(d_model=16, n_layers=0), 30).eval()
    fewer = experiment.rankings(
        alone, tokens, kind=2, replacement=UNKNOWN, rng=np.random.default_rng(0)
    )
    assert found.keys() - fewer.keys() == {"rollout", "relevance"}
    assert all(importance.shape == (10,) for importance in found.values())
    assert found["rollout"].sum() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("n_layers", [0, 1])
def test_the_gradients_are_those_of_finite_differences(n_layers):
    torch.manual_seed(0)
    model = experiment.build_model(Settings(d_model=16, n_layers=n_layers), 30).double().eval()
    inside = experiment.Inside(model, np.arange(2, 9), kind=3)
    step = 1e-6

    def moved(place, by):
        def add(module, arguments, output):
            return output + by * torch.eye(7, dtype=torch.double)[:, place, None]

        hook = model.embedding.register_forward_hook(add)
        with torch.no_grad():
            said = model(torch.arange(2, 9)[None]).log_softmax(dim=-1)[0, 3]
        hook.remove()
        return said.item()

    for place in range(7):
        slope = (moved(place, step) - moved(place, -step)) / (2 * step)
        assert inside.gradients[place].sum().item() == pytest.approx(slope, abs=1e-6)
    # by the pooling's weights: the probabilities as a function of them
    weights = inside.weights.double()

    def of_weights(weights):
        return model.decide(weights @ inside.values).log_softmax(dim=-1)[3].item()

    for place in range(7):
        one = torch.eye(7, dtype=torch.double)[place]
        slope = (of_weights(weights + step * one) - of_weights(weights - step * one)) / (2 * step)
        assert inside.weight_gradients[place].item() == pytest.approx(slope, abs=1e-6)


def test_the_first_words_are_removed():
    tokens = torch.tensor([[5, 6, 7, 8, PADDING], [9, 8, 7, 6, 5]])
    importance = torch.tensor([[0.1, 0.4, 0.2, 0.3, 9.0], [0.1, 0.2, 0.3, 0.4, 0.5]])
    importance = importance.masked_fill(tokens == PADDING, -torch.inf)
    less = experiment.without_first(tokens, importance, 0.5)
    # half of four words, and half of five, which rounds to two
    assert less.tolist() == [[5, UNKNOWN, 7, UNKNOWN, PADDING], [9, 8, 7, UNKNOWN, UNKNOWN]]


def test_uniform_weights_leave_out_the_padding():
    weights = experiment.uniform(torch.tensor([[3, 4, PADDING, PADDING], [3, 4, 5, 6]]))
    assert weights.tolist() == [[0.5, 0.5, 0, 0], [0.25] * 4]
