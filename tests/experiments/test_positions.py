"""The stored results of the experiment on positions are what its program gives."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tools.experiments import positions

STORED = json.loads(positions.RESULTS.read_text(encoding="utf-8"))
# Another processor rounds otherwise, and 1200 steps of training let that grow.
TOLERANCE = 0.05


@pytest.fixture(scope="module", autouse=True)
def fresh_texts():
    """The docstrings as a new process has them: SciPy, once imported, adds to one of NumPy's."""
    program = (
        "import json; from tools.experiments import positions; "
        "print(json.dumps(positions.docstrings()))"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=root, check=True, capture_output=True, text=True
    )
    texts = json.loads(done.stdout)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(positions, "docstrings", lambda: texts)
        yield


def test_everything_is_stored():
    assert tuple(STORED["lengths"]) == positions.LENGTHS
    assert tuple(STORED["seeds"]) == positions.SEEDS
    assert STORED["trained length"] == positions.TRAINED_LENGTH
    assert tuple(STORED["losses"]) == (*positions.SCHEMES, *positions.BASELINES)
    for losses in STORED["losses"].values():
        assert np.shape(losses) == (len(positions.SEEDS), len(positions.LENGTHS))


def test_the_text_is_the_stored_one():
    texts = positions.docstrings()
    assert STORED["docstrings"] == len(texts)
    assert STORED["characters"] == sum(map(len, texts))


def test_no_paragraph_is_in_both_parts():
    train, test = positions.train_and_test_texts()
    paragraphs = [
        {part for text in texts for part in text.split("\n\n")} for texts in (train, test)
    ]
    assert not paragraphs[0] & paragraphs[1]
    assert min(map(len, paragraphs)) > 500


def test_the_first_steps_are_the_stored_ones():
    again = positions.first_loss("ALiBi")
    apart = {name: abs(again - loss) for name, loss in STORED["first losses"].items()}
    assert apart.pop("ALiBi") < 4e-3
    assert min(apart.values()) > 4e-3  # no other scheme begins like this one


@pytest.mark.parametrize("scheme", positions.BASELINES)
def test_a_run_gives_the_stored_losses(scheme):
    again = positions.run(scheme, seed=0)
    assert np.allclose(again, STORED["losses"][scheme][0], rtol=0, atol=TOLERANCE)


def test_the_tolerance_tells_schemes_apart():
    means = {scheme: np.mean(runs, axis=0) for scheme, runs in STORED["losses"].items()}
    for scheme, mean in means.items():
        others = [other for name, other in means.items() if name != scheme]
        assert all(np.abs(mean - other).max() > TOLERANCE for other in others)


@pytest.mark.parametrize("scheme", positions.SCHEMES)
def test_no_model_looks_ahead(scheme):
    torch.manual_seed(0)
    model = positions.LanguageModel(scheme)
    text = torch.randint(positions.N_SYMBOLS, (1, 20))
    other = text.clone()
    other[0, 12:] = 5
    with torch.no_grad():
        assert torch.allclose(model(text)[:, :12], model(other)[:, :12], atol=1e-5)
