"""Which features matter: what attention, permutations and coefficients say, and do they agree?"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from jaxtyping import Float
from scipy.stats import spearmanr

from attn_tutorial.applications.medicine.data import Features, Labels, log_losses
from attn_tutorial.applications.medicine.models import Scaled, attention_to_features

N_HIDDEN = 10


def permutation_importance(
    fitted: Scaled,
    features: Features,
    malignant: Labels,
    groups: Sequence[Sequence[int]],
    *,
    seed: int = 0,
    repeats: int = 3,
) -> Float[np.ndarray, " n_groups"]:
    """By how much the log loss grows where features are exchanged between patients.

    Parameters
    ----------
    fitted : Scaled
    features : float array, shape (n, n_features)
    malignant : int array, shape (n,)
    groups : lists of feature numbers
        The features of a group move together.
    seed, repeats : int

    Returns
    -------
    float array, shape (n_groups,)

    References
    ----------
    Breiman (2001), "Random Forests", Machine Learning 45, for the idea.
    """
    generator = np.random.default_rng(seed)
    plain = log_losses(malignant, fitted(features)).mean()
    found = np.zeros(len(groups))
    for number, group in enumerate(groups):
        for _ in range(repeats):
            moved = features.copy()
            moved[:, group] = features[generator.permutation(len(features))][:, group]
            found[number] += log_losses(malignant, fitted(moved)).mean() - plain
    return found / repeats


def hide_by(
    order: Float[np.ndarray, "n n_features"], features: Features, n_hidden: int = N_HIDDEN
) -> Features:
    """A copy in which each patient lacks the features with the largest numbers in their row."""
    ranks = (-order).argsort(axis=1).argsort(axis=1)  # 0 is the largest
    return np.where(ranks < n_hidden, np.nan, features)


def agreement(
    one: Float[np.ndarray, "n n_features"], other: Float[np.ndarray, "n n_features"]
) -> float:
    """Spearman's rank correlation between two lists of importance, the mean over the rows."""
    return float(np.mean([spearmanr(a, b).statistic for a, b in zip(one, other, strict=True)]))


def stability(profiles: Float[np.ndarray, "n n_features"]) -> float:
    """The rank correlation between the rows of one array, the mean over all pairs."""
    first, second = zip(*combinations(profiles, 2), strict=True)
    return agreement(np.array(first), np.array(second))


def size_features(names: Sequence[str]) -> list[int]:
    """The numbers of the features that measure size: radius, perimeter and area."""
    return [
        number
        for number, name in enumerate(names)
        if any(word in name for word in ("radius", "perimeter", "area"))
    ]


def profile(network: Scaled, features: Features) -> Float[np.ndarray, " n_features"]:
    """The mean attention of the class token to each feature, over patients and heads."""
    return attention_to_features(network.inner, network.scale(features)).mean(axis=0)


def coefficients(linear: Scaled) -> Float[np.ndarray, " n_features"]:
    """By how much the logit grows with each scaled feature, for a system that is linear."""
    n_features = len(linear.mean)
    steps = np.vstack([np.zeros(n_features), np.eye(n_features)])
    logits = linear.inner(steps)
    return logits[1:] - logits[0]
