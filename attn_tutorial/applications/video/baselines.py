"""What somebody would try first: a linear model, and a program that looks for changes.

The program is told how the clips are made: three digits in nine cells, two moves. It finds the two
frames with the greatest change, the cell that somebody left there, and gives the picture that stood
in it to a classifier of single digits.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Int
from sklearn.linear_model import LogisticRegression
from sklearn.svm import SVC
from torch import Tensor

from attn_tutorial.applications.digits import Digits
from attn_tutorial.applications.video.data import CELL, NOISE, Clips, cells_of

Frames = Float[Tensor, "n t 24 24"]
Guesses = Int[np.ndarray, "n 2"]


def mean_frame(frames: Frames) -> Float[np.ndarray, "n 576"]:
    """The mean over time of each pixel: what the order cannot change."""
    return frames.mean(dim=1).flatten(1).numpy()


def differences(frames: Frames) -> Float[np.ndarray, "n features"]:
    """Each frame less the one before, pixel by pixel."""
    return frames.diff(dim=1).flatten(1).numpy()


class LinearReader:
    """Two logistic regressions on some features of a clip: the first mover, and the second.

    Parameters
    ----------
    features : function of frames
    penalty : float
        The inverse strength of the squared penalty, scikit-learn's C.
    """

    def __init__(self, features: Callable[[Frames], np.ndarray], penalty: float) -> None:
        self.features, self.penalty = features, penalty
        self.setting = f"C={penalty}"

    def fit(self, clips: Clips) -> LinearReader:
        """Fit both to clips."""
        features = self.features(clips.frames)
        self.readers = [
            LogisticRegression(C=self.penalty, max_iter=300).fit(features, answers.numpy())
            for answers in (clips.first, clips.second)
        ]
        return self

    def predict(self, frames: Frames) -> Guesses:
        """The first and the second mover of each clip."""
        features = self.features(frames)
        return np.stack([reader.predict(features) for reader in self.readers], axis=1)


def cells_left(frames: Frames) -> tuple[Int[Tensor, "n 2"], Int[Tensor, "n 2"]]:
    """When the two moves happen, by the greatest changes, and which cells are left.

    Parameters
    ----------
    frames : float tensor, shape (n, t, 24, 24)

    Returns
    -------
    times : int64 tensor, shape (n, 2)
        The two frames that differ most from those before them, the earlier one first.
    cells : int64 tensor, shape (n, 2)
        Which cell loses the most ink in each.
    """
    change = frames.diff(dim=1).square().mean(dim=(2, 3))  # (n, t - 1)
    steps = change.topk(2, dim=1).indices.sort(dim=1).values  # (n, 2)
    ink = cells_of(frames).mean(dim=(3, 4))  # (n, t, 9)
    lost = -ink.diff(dim=1)  # (n, t - 1, 9)
    clip = torch.arange(len(frames))[:, None]
    return steps + 1, lost[clip, steps].argmax(dim=2)


def pictures_left(frames: Frames) -> Float[Tensor, "n 2 8 8"]:
    """The mean of what stood in each of the two cells before it was left."""
    times, where = cells_left(frames)
    clip = torch.arange(len(frames))[:, None]
    history = cells_of(frames).transpose(1, 2)[clip, where]  # (n, 2, t, 8, 8)
    before = torch.arange(frames.shape[1]) < times[..., None]  # (n, 2, t)
    total = (history * before[..., None, None]).sum(dim=2)  # (n, 2, 8, 8)
    return total / times[..., None, None]


class ChangeProgram:
    """Finds the cells that are left, and tells the digits in them by a support vector machine.

    Parameters
    ----------
    penalty, gamma : float
        scikit-learn's C and gamma.
    copies : int
        How many copies of each picture it is fitted to, each with noise as a clip has.
    """

    def __init__(self, penalty: float, gamma: float, copies: int = 3) -> None:
        self.classifier, self.copies = SVC(C=penalty, gamma=gamma), copies
        self.setting = f"C={penalty}, gamma={gamma}"

    def fit(self, part: Digits) -> ChangeProgram:
        """Fit the classifier to single pictures; the moves need no fitting."""
        generator = torch.Generator().manual_seed(0)
        images = part.images.repeat(self.copies, 1, 1)
        images = images + NOISE * torch.randn(images.shape, generator=generator)
        self.classifier.fit(images.flatten(1).numpy(), part.labels.repeat(self.copies).numpy())
        return self

    def predict(self, frames: Frames) -> Guesses:
        """The first and the second mover of each clip."""
        pictures = pictures_left(frames).reshape(-1, CELL**2).numpy()  # (2 n, 64)
        return self.classifier.predict(pictures).reshape(-1, 2)
