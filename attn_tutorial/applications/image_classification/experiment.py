"""Image classification: which digit is this? A Vision Transformer against CNNs and baselines.

The pictures are those of `digits`. All networks see the same 1000 pictures, in the same order for
the same seed, for the same number of steps; each keeps the parameters with the lowest validation
loss. The baselines' settings are those with the best validation accuracy.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from sklearn.base import ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.svm import SVC
from torch import Tensor, nn

from attn_tutorial.applications.digits import Digits, load_parts
from attn_tutorial.applications.image_classification.models import (
    SIDE,
    Convolutional,
    VisionTransformer,
    constant_gates,
)
from attn_tutorial.applications.measuring import over_seeds
from attn_tutorial.applications.results import Results, Role, System, versions
from attn_tutorial.attribution import uniform_weights
from attn_tutorial.training import evaluating, train

SEEDS = [0, 1, 2, 3]
SIZES = [100, 300, 1000]
STEPS = 700
# Where each of the 14 forms begins. Their labels are one sequence of 130 digits, again and again.
FORMS = [0, 130, 256, 386, 516, 646, 776, 906, 1029, 1157, 1287, 1415, 1545, 1667]
NEIGHBOURS = list(itertools.product((-1, 0, 1), repeat=2))  # shifts by up to one pixel, none too
STRAIGHT = [(0, 1), (1, 0), (0, -1), (-1, 0)]

Images = Float[Tensor, "n 8 8"]


class Kind(NamedTuple):
    """How a network is made and trained.

    Attributes
    ----------
    make : function without arguments
    role : "attention", "rival" or "ablation"
    shifts : bool
        Whether training shifts each picture by up to one pixel, anew in each step.
    equal_weights : bool
        Whether attention gives all patches the same weight, in training and afterwards.
    """

    make: Callable[[], nn.Module]
    role: Role
    shifts: bool = False
    equal_weights: bool = False


KINDS = {
    "Vision Transformer": Kind(VisionTransformer, "attention"),
    "Vision Transformer, shifts": Kind(VisionTransformer, "attention", shifts=True),
    "CNN": Kind(Convolutional, "rival"),
    "CNN, shifts": Kind(Convolutional, "rival", shifts=True),
    "CNN with channel gates (SE)": Kind(lambda: Convolutional("channel"), "rival"),
    "CNN with both gates (CBAM)": Kind(lambda: Convolutional("channel and spatial"), "rival"),
    "trained with equal weights": Kind(VisionTransformer, "ablation", equal_weights=True),
    "without positions": Kind(lambda: VisionTransformer(positions=False), "ablation"),
}


# The settings to choose from, for each baseline.
BASELINES: dict[str, list[Callable[[], ClassifierMixin]]] = {
    "logistic regression": [
        lambda c=c: LogisticRegression(C=c, max_iter=2000) for c in (0.1, 1.0, 10.0)
    ],
    "nearest neighbours": [lambda k=k: KNeighborsClassifier(k) for k in (1, 3, 5)],
    "SVM": [lambda c=c, g=g: SVC(C=c, gamma=g) for g in (0.03, 0.1, 0.3, 1.0) for c in (1, 10)],
}

# --- data ------------------------------------------------------------------------------------


def forms(n: int = 1797) -> Int[np.ndarray, " n"]:
    """The number of the form, from 0 to 13, from which each of the first n pictures comes."""
    return np.searchsorted(FORMS, np.arange(n), side="right") - 1


def shift(images: Images, by: Int[Tensor, "n 2"]) -> Images:
    """Move pictures by whole pixels; what leaves the picture is lost, what comes in is paper.

    Parameters
    ----------
    images : float tensor, shape (n, 8, 8)
    by : int64 tensor, shape (n, 2)
        How far down and to the right, from -1 to 1.

    Returns
    -------
    float tensor, shape (n, 8, 8)

    Raises
    ------
    ValueError
        Where the shapes do not fit, or a shift is longer than one pixel.
    """
    n = len(images)
    if by.shape != (n, 2) or (n and by.abs().max() > 1):
        raise ValueError(
            f"by must have shape (n, 2) = ({n}, 2) and hold numbers from -1 to 1; "
            f"got shape {tuple(by.shape)}, {by.min()} to {by.max()}"
        )
    framed = F.pad(images, (1, 1, 1, 1))  # (n, 10, 10)
    places = torch.arange(SIDE) + 1
    rows, columns = (places - by[:, axis, None] for axis in (0, 1))  # (n, 8), twice
    return framed[torch.arange(n)[:, None, None], rows[:, :, None], columns[:, None, :]]


def shifted_copies(part: Digits, shifts: list[tuple[int, int]]) -> Digits:
    """All pictures shifted in each of the ways, one way after the other, with their labels."""
    n = len(part.images)
    images = [shift(part.images, torch.tensor(way).expand(n, 2)) for way in shifts]
    return Digits(torch.cat(images), part.labels.repeat(len(shifts)))


def some(part: Digits, n: int, seed: int) -> Digits:
    """n pictures of a part, drawn at random; for the same seed more include fewer.

    Raises
    ------
    ValueError
        Where the part has fewer.
    """
    if not 0 < n <= len(part.images):
        raise ValueError(f"n must be from 1 to {len(part.images)}; got {n}")
    chosen = torch.from_numpy(np.random.default_rng(seed).permutation(len(part.images))[:n])
    return Digits(part.images[chosen], part.labels[chosen])


# --- networks --------------------------------------------------------------------------------


def class_loss(model: nn.Module, images: Images, labels: Int[Tensor, " n"]) -> Tensor:
    """The cross-entropy of the labels, a scalar."""
    return F.cross_entropy(model(images), labels)


def shifted_loss(model: nn.Module, images: Images, labels: Int[Tensor, " n"]) -> Tensor:
    """The same, after each picture was shifted by chance, by up to one pixel."""
    by = torch.randint(-1, 2, (len(images), 2))
    return class_loss(model, shift(images, by), labels)


def weights_of(kind: Kind, model: nn.Module) -> contextlib.AbstractContextManager:
    """The context in which a network of this kind is trained and used: equal weights, or none."""
    return uniform_weights(model) if kind.equal_weights else contextlib.nullcontext()


def fit(seed: int, name: str, *, n_training: int = 1000, steps: int = STEPS) -> nn.Module:
    """Make one of the networks in KINDS and train it.

    Parameters
    ----------
    seed : int
        Decides everything: the first parameters, the order of the pictures, shifts and dropout.
    name : string
    n_training, steps : int
        How many pictures of the training part it sees, and for how long.

    Returns
    -------
    module
        With the parameters of the lowest validation loss, which is computed every 50 steps.

    Raises
    ------
    ValueError
        Where there is no network of that name.
    """
    if name not in KINDS:
        raise ValueError(f"name must be one of {list(KINDS)}; got {name!r}")
    kind, parts = KINDS[name], load_parts()
    torch.manual_seed(seed)
    model = kind.make()
    with weights_of(kind, model):
        train(
            model,
            shifted_loss if kind.shifts else class_loss,
            some(parts["training"], n_training, seed),
            steps=steps,
            batch_size=32,
            peak=3e-3,
            warm_up=50,
            validate=lambda model: class_loss(model, *parts["validation"]).item(),
            validate_every=50,
            seed=seed,
        )
    return model


def hits(model: nn.Module | ClassifierMixin, part: Digits) -> Bool[np.ndarray, " n"]:
    """Which pictures a network or a classifier of scikit-learn gets right, bool, shape (n,)."""
    if isinstance(model, nn.Module):
        with evaluating(model):
            guesses = model(part.images).argmax(dim=1).numpy()  # (n,)
    else:
        guesses = model.predict(features(part))
    return guesses == part.labels.numpy()


def evaluate(model: nn.Module | ClassifierMixin, part: Digits) -> dict[str, float]:
    """The share of pictures recognised, as they are and shifted by one pixel in four ways."""
    return {
        "accuracy": float(hits(model, part).mean()),
        "accuracy, shifted": float(hits(model, shifted_copies(part, STRAIGHT)).mean()),
    }


# --- baselines -------------------------------------------------------------------------------


def choose(candidates: list[Callable[[], ClassifierMixin]], training: Digits, validation: Digits):
    """The candidate with the best validation accuracy, the first of them; not yet fitted."""
    return max(
        candidates,
        key=lambda make: float(hits(fitted_to(make(), training), validation).mean()),
    )


def features(part: Digits) -> Float[np.ndarray, "n 64"]:
    """The pixels of each picture in a row, as scikit-learn wants them."""
    return part.images.flatten(1).numpy()


def fitted_to(classifier: ClassifierMixin, part: Digits) -> ClassifierMixin:
    """The classifier, after it was fitted to a part's pictures and labels."""
    return classifier.fit(features(part), part.labels.numpy())


# --- all of it -------------------------------------------------------------------------------


def measure() -> Results:
    """Train all networks and baselines, and collect what the chapter shows."""
    parts = load_parts()
    training, test = parts["training"], parts["test"]
    systems, networks = {}, {}
    for name, kind in KINDS.items():

        def score(model: nn.Module, kind: Kind = kind) -> dict[str, float]:
            with weights_of(kind, model):
                return evaluate(model, test)

        systems[name], networks[name] = over_seeds(
            kind.role, SEEDS, lambda seed, name=name: fit(seed, name), score
        )
    systems["equal weights after training"] = _ablation(
        networks["Vision Transformer"], uniform_weights, test
    )
    for name in ("CNN with channel gates (SE)", "CNN with both gates (CBAM)"):
        systems[f"{name}, gates constant"] = _ablation(
            networks[name], lambda model: constant_gates(model, training.images), test
        )

    chosen = {
        name: choose(candidates, training, parts["validation"])
        for name, candidates in BASELINES.items()
    }
    fitted, copies = {}, shifted_copies(training, NEIGHBOURS)
    for name, make in chosen.items():
        fitted[name] = fitted_to(make(), training)
        fitted[f"{name}, shifts"] = fitted_to(make(), copies)
    for name, model in fitted.items():
        scores = {metric: [score] for metric, score in evaluate(model, test).items()}
        systems[name] = System("baseline", scores)

    curves = {name: _curve(networks[name], name) for name in ("Vision Transformer", "CNN")}
    for name, make in chosen.items():
        curves[name] = {
            str(n): [
                float(hits(fitted_to(make(), some(training, n, seed)), test).mean())
                for seed in SEEDS
            ]
            for n in SIZES
        }
    longer = fit(0, "Vision Transformer, shifts", steps=4 * STEPS)
    return Results(
        task="Tell which digit a picture shows",
        data="Handwritten digits of 8 by 8 pixels, from scikit-learn",
        origin="real",
        split="Contiguous blocks of the file; no form is in both training and test part",
        metric="accuracy",
        higher_is_better=True,
        n_training=len(training.images),
        n_test=len(test.images),
        seeds=SEEDS,
        systems=systems,
        libraries=versions("torch", "scikit-learn"),
        more={
            "settings": {name: repr(make()) for name, make in chosen.items()},
            "curves": curves,
            "against the SVM": [
                _apart(hits(model, test), hits(fitted["SVM"], test))
                for model in networks["Vision Transformer"]
            ],
            "four times as long, shifts": evaluate(longer, test),
        },
    )


def _ablation(
    models: list[nn.Module],
    changed: Callable[[nn.Module], contextlib.AbstractContextManager],
    test: Digits,
) -> System:
    scores = []
    for model in models:
        with changed(model):
            scores.append(evaluate(model, test))
    return System("ablation", {name: [s[name] for s in scores] for name in scores[0]})


def _curve(networks: list[nn.Module], name: str) -> dict[str, list[float]]:
    """The test accuracy by the number of training pictures, for each seed."""
    test = load_parts()["test"]
    curve = {n: [fit(seed, name, n_training=n) for seed in SEEDS] for n in SIZES[:-1]}
    curve[SIZES[-1]] = networks
    return {
        str(n): [float(hits(model, test).mean()) for model in models] for n, models in curve.items()
    }


def _apart(one: Bool[np.ndarray, " n"], other: Bool[np.ndarray, " n"]) -> list[int]:
    """How many pictures only the first gets right, and only the second."""
    return [int((one & ~other).sum()), int((other & ~one).sum())]
