"""Learning curves: the share of mistakes by the number of training examples."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from torch import nn

from attn_tutorial.applications.digits import load_parts
from attn_tutorial.applications.image_classification import experiment as digits
from attn_tutorial.applications.text_classification.models import RecurrentReader
from attn_tutorial.parameter_kinds.baselines import STRENGTHS, WORDS
from attn_tutorial.parameter_kinds.data import (
    KINDS,
    Example,
    Vocabulary,
    labels,
    load_examples,
    split,
)
from attn_tutorial.parameter_kinds.model import (
    AttentionClassifier,
    MeanClassifier,
    WordDropout,
    kind_loss,
)
from attn_tutorial.parameter_kinds.training import Part, encode
from attn_tutorial.training import evaluating, mean_loss, train

FEWEST_PICTURES = 30  # 100, 300 and 1000 are in the chapter on image classification
PICTURE_NETWORKS = ("Vision Transformer", "CNN")
TEXT_SIZES = (300, 1000, 3000, 10_000)
TEXT_NETWORKS = ("learned query", "mean", "GRU")
LENGTH, D_MODEL = 32, 48
STEPS, BATCH, WARM_UP, PATIENCE = 450, 64, 50, 3
PEAKS = {"learned query": 3e-3, "mean": 1e-2, "GRU": 3e-3}
SEEDS = (0, 1, 2)

Accuracies = dict[str, list[float]]


def slope(sizes: list[int], errors: Float[np.ndarray, " n_sizes"]) -> float:
    """The slope of a straight line through the logarithms: -1 where ten times the examples leave
    a tenth of the mistakes, 0 where they change nothing.

    Parameters
    ----------
    sizes : list of int, two or more
    errors : float array, shape (n_sizes,)
        The share of mistakes at each size, above 0.

    Raises
    ------
    ValueError
        Where there are too few points, or a number is not positive.
    """
    errors = np.asarray(errors, dtype=float)
    if len(sizes) < 2 or len(sizes) != len(errors) or min(*sizes, *errors) <= 0:
        raise ValueError(
            f"sizes and errors must be two or more positive numbers each; got {list(sizes)} "
            f"and {errors.tolist()}"
        )
    return float(np.polyfit(np.log(sizes), np.log(errors), 1)[0])


def crossings(
    sizes: list[int], ours: Float[np.ndarray, " n_sizes"], theirs: Float[np.ndarray, " n_sizes"]
) -> list[float]:
    """At how many examples two curves cross, each a straight line between its points, log-log.

    Parameters
    ----------
    sizes : list of int, rising
    ours, theirs : float arrays, shape (n_sizes,)
        The shares of mistakes, above 0.

    Returns
    -------
    list of float
        Empty where one curve stays above the other. A touch at a point is no crossing.
    """
    gap = np.log(np.asarray(ours, dtype=float)) - np.log(np.asarray(theirs, dtype=float))
    places = np.log(sizes)
    found = []
    for i in np.flatnonzero(gap[:-1] * gap[1:] < 0):
        share = gap[i] / (gap[i] - gap[i + 1])
        found.append(float(np.exp(places[i] + share * (places[i + 1] - places[i]))))
    return found


# --- pictures --------------------------------------------------------------------------------


def picture_curves() -> dict[str, Accuracies]:
    """Test accuracies with `FEWEST_PICTURES` training pictures, by system, one for each seed.

    Networks and settings are those of the chapter on image classification, for its seeds.
    """
    parts = load_parts()
    test, n = parts["test"], FEWEST_PICTURES
    found: Accuracies = {}
    for name in PICTURE_NETWORKS:
        fitted = [digits.fit(seed, name, n_training=n) for seed in digits.SEEDS]
        found[name] = [float(digits.hits(model, test).mean()) for model in fitted]
    for name, candidates in digits.BASELINES.items():
        make = digits.choose(candidates, parts["training"], parts["validation"])
        found[name] = [
            float(
                digits.hits(
                    digits.fitted_to(make(), digits.some(parts["training"], n, seed)), test
                ).mean()
            )
            for seed in digits.SEEDS
        ]
    return {str(n): found}


# --- texts -----------------------------------------------------------------------------------


def build(name: str, n_tokens: int, seed: int) -> nn.Module:
    """A classifier of descriptions with fresh parameters.

    Parameters
    ----------
    name : "learned query", "mean" or "GRU"
        Attention with one learned query over the words' vectors; their mean; a recurrent network
        in both directions. All three hide the same share of words in training.
    n_tokens, seed : int

    Raises
    ------
    ValueError
        Where there is no such network.
    """
    makers: dict[str, Callable[[], nn.Module]] = {
        "learned query": lambda: AttentionClassifier(
            n_tokens, length=LENGTH, d_model=D_MODEL, n_layers=0
        ),
        "mean": lambda: MeanClassifier(n_tokens, d_model=D_MODEL),
        "GRU": lambda: nn.Sequential(
            WordDropout(0.2), RecurrentReader(n_tokens, len(KINDS), d_model=D_MODEL // 2)
        ),
    }
    if name not in makers:
        raise ValueError(f"name must be one of {', '.join(makers)}; got {name!r}")
    torch.manual_seed(seed)
    return makers[name]()


def fit_texts(
    name: str,
    training: list[Example],
    validation: list[Example],
    seed: int,
    *,
    steps: int = STEPS,
) -> tuple[nn.Module, Vocabulary]:
    """A network, trained on descriptions; validation says when to stop and what to keep.

    Parameters
    ----------
    name : string
        As `build` takes it.
    training, validation : list of Example
        The vocabulary is that of the training examples.
    seed, steps : int
    """
    vocabulary = Vocabulary([example.text for example in training])
    parts = encode({"own": training, "held out": validation}, vocabulary, length=LENGTH)
    model = build(name, len(vocabulary), seed)
    train(
        model,
        kind_loss,
        parts["own"].tensors,
        steps=steps,
        batch_size=BATCH,
        peak=PEAKS[name],
        warm_up=WARM_UP,
        validate=lambda model: mean_loss(model, kind_loss, parts["held out"].tensors),
        validate_every=50,
        patience=PATIENCE,
        seed=seed,
    )
    return model, vocabulary


def accuracy_on(model: nn.Module, vocabulary: Vocabulary, examples: list[Example]) -> float:
    """The share of descriptions whose kind a network says rightly."""
    part: Part = encode({"": examples}, vocabulary, length=LENGTH)[""]
    with evaluating(model):
        guesses = torch.cat([model(batch).argmax(dim=-1) for batch in part.tokens.split(500)])
    return (guesses == part.kinds).double().mean().item()


def fit_counts(training: list[Example], validation: list[Example]):
    """Logistic regression on words and pairs, its strength chosen on the validation examples."""
    texts, kinds = [example.text for example in training], labels(training).numpy()
    held_out = [example.text for example in validation], labels(validation).numpy()
    fitted = [
        make_pipeline(
            TfidfVectorizer(**WORDS, ngram_range=(1, 2)), LogisticRegression(C=C, max_iter=500)
        ).fit(texts, kinds)
        for C in STRENGTHS
    ]
    return max(fitted, key=lambda model: model.score(*held_out))


def counts_accuracy(model, examples: list[Example]) -> float:
    """The same share for a classifier of scikit-learn."""
    return float(model.score([example.text for example in examples], labels(examples).numpy()))


def some_examples(examples: list[Example], n: int, seed: int) -> list[Example]:
    """n examples drawn at random; for the same seed more include fewer.

    Raises
    ------
    ValueError
        Where there are fewer.
    """
    if not 0 < n <= len(examples):
        raise ValueError(f"n must be from 1 to {len(examples)}; got {n}")
    order = np.random.default_rng(seed).permutation(len(examples))[:n]
    return [examples[i] for i in order]


def text_curves() -> dict[str, Accuracies]:
    """Test accuracies by the number of training descriptions and system, one for each seed."""
    parts = split(load_examples())
    curves: dict[str, Accuracies] = {}
    for n in TEXT_SIZES:
        found: Accuracies = {name: [] for name in (*TEXT_NETWORKS, "words and pairs")}
        for seed in SEEDS:
            training = some_examples(parts["training"], n, seed)
            for name in TEXT_NETWORKS:
                fitted = fit_texts(name, training, parts["validation"], seed)
                found[name].append(accuracy_on(*fitted, parts["test"]))
            counts = fit_counts(training, parts["validation"])
            found["words and pairs"].append(counts_accuracy(counts, parts["test"]))
        curves[str(n)] = found
        print(n, {name: np.mean(found[name]).round(3) for name in found}, flush=True)
    return curves
