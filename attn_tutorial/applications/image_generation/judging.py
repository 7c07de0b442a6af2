"""How good are drawn pictures? A distance between crowds, precision and recall, and copying.

The Fréchet distance, precision and recall compare features of pictures: what a classifier that was
trained on the training digits sees in them.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from scipy.linalg import sqrtm
from torch import Tensor, nn

from attn_tutorial.applications.image_classification.experiment import shifted_loss
from attn_tutorial.applications.image_generation.data import Levels, Pictures
from attn_tutorial.training import evaluating, train

N_FEATURES = 24
Images = Float[Tensor, "n height width"]
Features = Float[np.ndarray, "n n_features"]
Others = Float[np.ndarray, "m n_features"]


class Classifier(nn.Module):
    """A small CNN; what its last but one layer says are the features of a picture."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Unflatten(1, (1, 8)),
            nn.Conv2d(1, 16, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, 4, stride=2, padding=1),  # (n, 32, 4, 4)
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(512, N_FEATURES),
        )
        self.head = nn.Linear(N_FEATURES, 10)

    def forward(self, images: Images) -> Float[Tensor, "n 10"]:
        """Pictures (n, 8, 8) to the logits of the ten digits."""
        return self.head(F.relu(self.body(images)))


def fit_classifier(training: Pictures, *, seed: int = 0, steps: int = 600) -> Classifier:
    """Train a classifier on the training digits, shifted by up to one pixel."""
    torch.manual_seed(seed)
    model = Classifier()
    train(
        model,
        shifted_loss,
        (training.images, training.labels),
        steps=steps,
        batch_size=32,
        peak=3e-3,
        warm_up=50,
        seed=seed,
    )
    return model


def features(model: Classifier, images: Images) -> Features:
    """What the last but one layer says of pictures, float64, shape (n, 24)."""
    with evaluating(model):
        return model.body(images).double().numpy()


def frechet_distance(one: Features, other: Others) -> float:
    """The squared Fréchet distance between two normal distributions with these features' moments.

    References
    ----------
    Heusel et al. (2017), "GANs Trained by a Two Time-Scale Update Rule Converge to a Local Nash
    Equilibrium", NeurIPS. There the features are those of a network for photographs.
    """
    gap = one.mean(axis=0) - other.mean(axis=0)
    first, second = np.cov(one, rowvar=False), np.cov(other, rowvar=False)
    between = np.trace(sqrtm(first @ second)).real
    return float(gap @ gap + np.trace(first) + np.trace(second) - 2 * between)


def coverage(real: Features, points: Others, *, k: int = 3) -> float:
    """Which share of points lies in a ball around a real one that reaches its k-th neighbour."""
    radii = np.sort(_distances(real, real), axis=1)[:, k]  # (n_real,); the first is itself
    return float((_distances(points, real) <= radii).any(axis=1).mean())


def precision_and_recall(real: Features, drawn: Others, *, k: int = 3) -> tuple[float, float]:
    """Which share of the drawn pictures is like real ones, and of the real ones like drawn ones.

    References
    ----------
    Kynkäänniemi et al. (2019), "Improved Precision and Recall Metric for Assessing Generative
    Models", NeurIPS.
    """
    return coverage(real, drawn, k=k), coverage(drawn, real, k=k)


def _distances(one: Features, other: Others) -> Float[np.ndarray, "n m"]:
    squares = (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1) - 2 * one @ other.T
    return np.sqrt(np.maximum(squares, 0))


def to_nearest(levels: Levels, known: Int[Tensor, "n_known height width"]) -> Int[Tensor, " n"]:
    """In how many pixels each picture differs from the known one that differs in the fewest."""
    return torch.cat([(one != known).sum(dim=(1, 2)).min()[None] for one in levels])
