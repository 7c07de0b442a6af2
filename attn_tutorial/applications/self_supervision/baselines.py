"""Learning from a few labels: which pictures have one, and classifiers for that case."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from sklearn.base import ClassifierMixin
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.semi_supervised import LabelSpreading
from sklearn.svm import SVC
from torch import nn

from attn_tutorial.applications.digits import Digits
from attn_tutorial.applications.image_classification.models import N_CLASSES, Images
from attn_tutorial.training import evaluating

# The settings to choose from, for each baseline on pixels.
BASELINES: dict[str, list[Callable[[], ClassifierMixin]]] = {
    "logistic regression": [
        lambda c=c: LogisticRegression(C=c, max_iter=2000) for c in (0.1, 1.0, 10.0)
    ],
    "nearest neighbours": [lambda k=k: KNeighborsClassifier(k) for k in (1, 3)],
    "SVM": [lambda c=c, g=g: SVC(C=c, gamma=g) for g in (0.01, 0.03, 0.1, 0.3) for c in (1, 10)],
}


def draw_labelled(part: Digits, n: int, draw: int) -> Digits:
    """n pictures of a part whose labels may be known, equally many of each digit.

    Raises
    ------
    ValueError
        Where n is no multiple of ten, or a digit has too few pictures.
    """
    labels = part.labels.numpy()
    each, rest = divmod(n, N_CLASSES)
    if rest or not 0 < each <= np.bincount(labels, minlength=N_CLASSES).min():
        raise ValueError(f"n must be a multiple of 10 that the part has of each digit; got {n}")
    rng = np.random.default_rng(draw)
    chosen = [rng.permutation(np.flatnonzero(labels == digit))[:each] for digit in range(N_CLASSES)]
    indices = torch.from_numpy(np.concatenate(chosen))  # (n,)
    return Digits(part.images[indices], part.labels[indices])


class Probe:
    """Logistic regression on a network's features; the network stays as it is."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self.regression = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=2000))

    def fit(self, pixels: np.ndarray, labels: np.ndarray) -> Probe:
        """Fit to pixels (n, 64) and labels (n,)."""
        self.regression.fit(self._features(pixels), labels)
        return self

    def predict(self, pixels: np.ndarray) -> np.ndarray:
        """The digits of pictures (n, 64), int, shape (n,)."""
        return self.regression.predict(self._features(pixels))

    def _features(self, pixels: np.ndarray) -> np.ndarray:
        with evaluating(self.model):
            return self.model.features(torch.from_numpy(pixels).unflatten(1, (8, 8))).numpy()


class OnComponents:
    """Logistic regression on principal components of all training pictures, labelled or not."""

    def __init__(self, training: Images, n_components: int) -> None:
        self.components = PCA(n_components, whiten=True, random_state=0).fit(
            training.flatten(1).numpy()
        )
        self.regression = LogisticRegression(max_iter=2000)

    def fit(self, pixels: np.ndarray, labels: np.ndarray) -> OnComponents:
        """Fit to pixels (n, 64) and labels (n,)."""
        self.regression.fit(self.components.transform(pixels), labels)
        return self

    def predict(self, pixels: np.ndarray) -> np.ndarray:
        """The digits of pictures (n, 64), int, shape (n,)."""
        return self.regression.predict(self.components.transform(pixels))


class Spreading:
    """Label spreading: labels move along a graph of neighbours among all training pictures.

    References
    ----------
    Zhou et al. (2004), "Learning with Local and Global Consistency", NIPS.
    """

    def __init__(self, training: Images, n_neighbors: int) -> None:
        self.unlabelled = training.flatten(1).numpy()
        self.spreading = LabelSpreading(
            kernel="knn", n_neighbors=n_neighbors, alpha=0.2, max_iter=100
        )

    def fit(self, pixels: np.ndarray, labels: np.ndarray) -> Spreading:
        """Fit to pixels (n, 64) and labels (n,), with all pictures whose labels are not known."""
        nobody = np.full(len(self.unlabelled), -1)
        with np.errstate(invalid="ignore"):  # a picture that no label reaches
            self.spreading.fit(
                np.concatenate([pixels, self.unlabelled]), np.concatenate([labels, nobody])
            )
        return self

    def predict(self, pixels: np.ndarray) -> np.ndarray:
        """The digits of pictures (n, 64), int, shape (n,)."""
        with np.errstate(invalid="ignore"):  # a picture whose neighbours no label has reached
            return self.spreading.predict(pixels)


def baselines(training: Images) -> dict[str, list[Callable[[], ClassifierMixin]]]:
    """All baselines, each with the settings to choose from."""
    return BASELINES | {
        "logistic regression on components": [
            lambda n=n: OnComponents(training, n) for n in (8, 16, 32)
        ],
        "label spreading": [lambda k=k: Spreading(training, k) for k in (5, 7, 10, 20)],
    }
