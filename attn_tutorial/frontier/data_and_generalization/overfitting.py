"""Overfitting: training and held-out mistakes on pictures, a fifth of whose labels are wrong."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from attn_tutorial import attention
from attn_tutorial.applications.digits import Digits, load_parts
from attn_tutorial.applications.image_classification.experiment import (
    class_loss,
    hits,
    shifted_loss,
    some,
)
from attn_tutorial.applications.image_classification.models import (
    N_CLASSES,
    N_PATCHES,
    Convolutional,
    VisionTransformer,
    patches_of,
)
from attn_tutorial.training import train

N_TRAINING, WRONG = 200, 0.2
STEPS, EVERY, BATCH, PEAK, WARM_UP = 400, 40, 32, 3e-3, 40
WIDTHS = {"Vision Transformer": (8, 16, 32, 64), "CNN": (4, 8, 16, 32)}
STANDARD = 32
SEEDS = (0, 1, 2)
N_HEADS_RANDOM = (20, 50, 100, 150, 180, 200, 220, 250, 300, 500, 1000, 2000)
PENALTY = 1.0


class Remedy(NamedTuple):
    """What is done against overfitting, besides nothing."""

    dropout: float = 0.0
    weight_decay: float = 0.0
    shifts: bool = False
    wrong: float = WRONG


REMEDIES = {
    "nothing": Remedy(),
    "dropout": Remedy(dropout=0.3),
    "weight decay": Remedy(weight_decay=3.0),
    "shifts": Remedy(shifts=True),
    "right labels": Remedy(wrong=0.0),
}


def with_wrong_labels(part: Digits, share: float, seed: int) -> Digits:
    """The pictures with a share of their labels moved to another class, drawn at random.

    Parameters
    ----------
    part : Digits
    share : float
        From 0 to 1; exactly this share, rounded, is wrong afterwards.
    seed : int

    Raises
    ------
    ValueError
        Where the share is none.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share must be from 0 to 1; got {share}")
    rng = np.random.default_rng(seed)
    n = len(part.labels)
    chosen = torch.from_numpy(rng.permutation(n)[: round(share * n)])
    moved = torch.from_numpy(rng.integers(1, N_CLASSES, size=len(chosen)))
    labels = part.labels.clone()
    labels[chosen] = (labels[chosen] + moved) % N_CLASSES
    return Digits(part.images, labels)


def build(kind: str, width: int, dropout: float, seed: int) -> nn.Module:
    """A Vision Transformer with vectors of a width, or a CNN with so many channels.

    Raises
    ------
    ValueError
        Where there is no such kind.
    """
    makers: dict[str, Callable[[], nn.Module]] = {
        "Vision Transformer": lambda: VisionTransformer(d_model=width, dropout=dropout),
        "CNN": lambda: Convolutional(n_channels=width, dropout=dropout),
    }
    if kind not in makers:
        raise ValueError(f"kind must be one of {', '.join(makers)}; got {kind!r}")
    torch.manual_seed(seed)
    return makers[kind]()


def watch(
    kind: str, width: int, seed: int, remedy: Remedy = REMEDIES["nothing"], *, steps: int = STEPS
) -> dict[str, list[float]]:
    """Train, and note the mistakes on the way.

    Parameters
    ----------
    kind, width, seed
        As `build` takes them. The seed also draws the pictures and the wrong labels.
    remedy : Remedy
    steps : int

    Returns
    -------
    dict of lists, one entry for each `EVERY` steps
        `steps`; `training`, the share of training labels, wrong ones included, that the network
        does not give; `validation loss`; `test`, the share of mistakes on the test part, whose
        labels are right, like those of the validation part.
    """
    parts = load_parts()
    drawn = some(parts["training"], N_TRAINING, seed)
    training = with_wrong_labels(drawn, remedy.wrong, seed)
    model = build(kind, width, remedy.dropout, seed)
    found: dict[str, list[float]] = {"training": [], "validation loss": [], "test": []}

    def validate(model: nn.Module) -> float:
        found["training"].append(1 - float(hits(model, training).mean()))
        found["test"].append(1 - float(hits(model, parts["test"]).mean()))
        found["validation loss"].append(class_loss(model, *parts["validation"]).item())
        return found["validation loss"][-1]

    train(
        model,
        shifted_loss if remedy.shifts else class_loss,
        training,
        steps=steps,
        batch_size=BATCH,
        peak=PEAK,
        warm_up=WARM_UP,
        weight_decay=remedy.weight_decay,
        validate=validate,
        validate_every=EVERY,
        seed=seed,
    )
    return {"steps": list(range(EVERY, steps + 1, EVERY)), **found}


def stopped(run: dict[str, list[float]]) -> float:
    """The test mistakes at the step with the lowest validation loss: early stopping."""
    return run["test"][int(np.argmin(run["validation loss"]))]


# --- random heads ----------------------------------------------------------------------------


@functools.cache
def places() -> Float[Tensor, "16 8"]:
    """A fixed random vector for each place of a picture."""
    return torch.randn(N_PATCHES, 8, generator=torch.Generator().manual_seed(0))


def random_heads(
    images: Float[Tensor, "n 8 8"], n_heads: int, seed: int
) -> Float[Tensor, "n n_heads"]:
    """What attention heads that nobody trained say of pictures, one number each.

    Each head has a random query, which attends to the patches of a picture with their places, and
    a random vector; its number is the positive part of the product of this vector with what the
    query got. For the same seed more heads include fewer.

    Parameters
    ----------
    images : float tensor, shape (n, 8, 8)
    n_heads, seed : int

    Returns
    -------
    float64 tensor, shape (n, n_heads)
    """
    patches = patches_of(images)  # (n, 16, 4)
    spots = places().expand(len(images), -1, -1)
    x = torch.cat([4 * patches, spots], dim=-1).double()  # (n, 16, 12)
    drawn = np.random.default_rng(seed).normal(size=(n_heads, 2, x.shape[-1]))
    query, reader = torch.from_numpy(drawn).unbind(dim=1)  # (n_heads, 12) each
    got, _ = attention(2 * query, x, x)  # (n, n_heads, 12)
    return (got * reader).sum(dim=-1).relu()


def least_squares_mistakes(
    training: Digits, test: Digits, n_heads: int, seed: int, *, penalty: float = 0.0
) -> float:
    """The share of test mistakes of a linear layer on random heads, fitted by least squares.

    Parameters
    ----------
    training, test : Digits
    n_heads, seed : int
    penalty : float
        Times the sum of squares of the numbers that are fitted. With 0, of all layers that fit the
        labels equally well, the one whose sum of squares is least.

    Raises
    ------
    ValueError
        Where the penalty is negative.
    """
    if not penalty >= 0:
        raise ValueError(f"penalty must not be negative; got {penalty}")
    features = random_heads(training.images, n_heads, seed)  # (n, n_heads)
    wanted = nn.functional.one_hot(training.labels, N_CLASSES).double() - 1 / N_CLASSES
    if penalty:
        gram = features @ features.T + penalty * torch.eye(len(features), dtype=torch.float64)
        fitted = features.T @ torch.linalg.solve(gram, wanted)  # (n_heads, 10)
    else:
        fitted = torch.linalg.pinv(features, rtol=1e-10) @ wanted
    guesses = (random_heads(test.images, n_heads, seed) @ fitted).argmax(dim=1)
    return (guesses != test.labels).double().mean().item()


def double_descent(seed: int) -> dict[str, list[float]]:
    """Test mistakes by the number of random heads, without and with a penalty."""
    parts = load_parts()
    training = with_wrong_labels(some(parts["training"], N_TRAINING, seed), WRONG, seed)
    return {
        name: [
            least_squares_mistakes(training, parts["test"], n, seed, penalty=penalty)
            for n in N_HEADS_RANDOM
        ]
        for name, penalty in (("no penalty", 0.0), ("penalty", PENALTY))
    }


def over_widths() -> dict[str, dict[str, list[dict]]]:
    """What `watch` notes, by kind, width and seed."""
    return {
        kind: {str(width): [watch(kind, width, seed) for seed in SEEDS] for width in widths}
        for kind, widths in WIDTHS.items()
    }


def with_remedies() -> dict[str, list[dict]]:
    """What `watch` notes of the Vision Transformer of width `STANDARD`, by remedy and seed;
    "nothing" is left to `over_widths`."""
    return {
        name: [watch("Vision Transformer", STANDARD, seed, remedy) for seed in SEEDS]
        for name, remedy in REMEDIES.items()
        if name != "nothing"
    }
