"""Patients, folds and hidden features; and how good and how honest a probability is.

The data are those of Street, Wolberg and Mangasarian (1993), as scikit-learn has them: thirty
measurements of the cell nuclei in a sample of a breast tumour, from 569 patients. A feature that is
missing is NaN, in every function of this application.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.optimize import minimize_scalar
from scipy.special import expit
from scipy.stats import rankdata
from sklearn.datasets import load_breast_cancer
from sklearn.model_selection import StratifiedKFold, train_test_split

Features = Float[np.ndarray, "n n_features"]
Labels = Int[np.ndarray, " n"]
Logits = Float[np.ndarray, " n"]
Indices = Int[np.ndarray, " m"]

N_FOLDS = 5
VALIDATION = 0.2  # of the patients that are not in the test fold
N_BINS = 10


class Patients(NamedTuple):
    """What is known about every patient.

    Attributes
    ----------
    features : float64 array, shape (569, 30)
        In the units of the measurements.
    malignant : int64 array, shape (569,)
        1 where the tumour was malignant, 0 where it was benign.
    names : tuple of 30 strings
    """

    features: Features
    malignant: Labels
    names: tuple[str, ...]


class Fold(NamedTuple):
    """Which patients a model is fitted to, which stop and tune it, and which test it."""

    fitting: Indices
    validation: Indices
    test: Indices


def load_patients() -> Patients:
    """The breast cancer data of scikit-learn, with malignant as 1, which it codes as 0."""
    data = load_breast_cancer()
    return Patients(
        data.data, (data.target == 0).astype(np.int64), tuple(map(str, data.feature_names))
    )


def folds(malignant: Labels, seed: int) -> list[Fold]:
    """Five folds, each the test part of one; shares of malignant tumours nearly the same in all.

    Parameters
    ----------
    malignant : int array, shape (n,)
    seed : int
        Each seed shuffles the patients anew.

    Returns
    -------
    list of 5 Fold
        A fifth of the patients that are not in the test part are the validation part.

    Raises
    ------
    ValueError
        Where the labels are others than 0 and 1, or one of them is rare.
    """
    if not np.isin(malignant, (0, 1)).all() or np.bincount(malignant, minlength=2).min() < 10:
        raise ValueError("malignant must be zeros and ones, ten or more of each")
    splits = StratifiedKFold(N_FOLDS, shuffle=True, random_state=seed)
    found = []
    for rest, test in splits.split(malignant[:, None], malignant):
        fitting, validation = train_test_split(
            rest, test_size=VALIDATION, stratify=malignant[rest], random_state=seed
        )
        found.append(Fold(np.sort(fitting), np.sort(validation), test))
    return found


def hide(features: Features, share: float, seed: int) -> Features:
    """A copy in which each patient lacks the same number of features, drawn at random.

    Parameters
    ----------
    features : float array, shape (n, n_features)
    share : float
        Of the features that are hidden, from 0 to below 1; one feature at least is left.
    seed : int

    Returns
    -------
    float array, shape (n, n_features)
        NaN where hidden.

    Raises
    ------
    ValueError
        Where the share is out of range.
    """
    if not 0 <= share < 1:
        raise ValueError(f"share must be from 0 to below 1; got {share}")
    n, n_features = features.shape
    n_hidden = min(round(share * n_features), n_features - 1)
    order = np.random.default_rng(seed).random((n, n_features)).argsort(axis=1)
    return np.where(order < n_hidden, np.nan, features)  # (n, n_features)


def with_gaps(features: Features, copies: int, seed: int) -> Features:
    """Several copies, one behind the other, with growing shares of features hidden.

    Parameters
    ----------
    features : float array, shape (n, n_features)
    copies : int
        The first copy is complete, in the last nine features out of ten are hidden.
    seed : int

    Returns
    -------
    float array, shape (copies · n, n_features)
    """
    shares = np.linspace(0, 0.9, copies)
    return np.concatenate(
        [hide(features, share, seed + number) for number, share in enumerate(shares)]
    )


# --- how good, and how honest ----------------------------------------------------------------


def log_losses(malignant: Labels, logits: Logits) -> Float[np.ndarray, " n"]:
    """Minus the logarithm of the probability that each patient's true diagnosis got."""
    return np.logaddexp(0, np.where(malignant == 1, -logits, logits))


def area_under_roc(malignant: Labels, logits: Logits) -> float:
    """How often a malignant tumour gets more than a benign one, over all such pairs."""
    n_malignant = malignant.sum()
    n_pairs = n_malignant * (len(malignant) - n_malignant)
    ranks = rankdata(logits)  # from 1; those that are equal share their mean rank
    return float((ranks[malignant == 1].sum() - n_malignant * (n_malignant + 1) / 2) / n_pairs)


def sensitivity_at(malignant: Labels, logits: Logits, specificity: float = 0.95) -> float:
    """The share of malignant tumours found where that share of the benign ones is left alone.

    A tumour counts as found if its logit is above the threshold, which is the smallest at which
    at least the given share of the benign ones is not above it.
    """
    benign = np.sort(logits[malignant == 0])
    threshold = benign[int(np.ceil(specificity * len(benign))) - 1]
    return float((logits[malignant == 1] > threshold).mean())


def reliability(
    malignant: Labels, logits: Logits
) -> tuple[Int[np.ndarray, " bins"], Float[np.ndarray, " bins"], Float[np.ndarray, " bins"]]:
    """Patients in ten bins by their probability: how many, what was said, what was true.

    Returns
    -------
    counts : int array, shape (10,)
    said : float array, shape (10,)
        The mean probability of each bin; zero where it is empty.
    true : float array, shape (10,)
        The share of malignant tumours; zero where it is empty.
    """
    probability = expit(logits)
    bins = np.minimum((probability * N_BINS).astype(int), N_BINS - 1)
    counts = np.bincount(bins, minlength=N_BINS)
    said, true = (
        np.bincount(bins, what, minlength=N_BINS) / np.maximum(counts, 1)
        for what in (probability, malignant)
    )
    return counts, said, true


def calibration_error(malignant: Labels, logits: Logits) -> float:
    """The expected calibration error: how far what was said lies from what was true.

    The mean over the bins, weighted by their counts. The bins are of the probability of a
    malignant tumour; the paper's are of the probability of the class that was chosen.

    References
    ----------
    Guo, Pleiss, Sun and Weinberger (2017), "On Calibration of Modern Neural Networks", ICML.
    """
    counts, said, true = reliability(malignant, logits)
    return float(counts @ np.abs(said - true) / counts.sum())


def calibration_error_by_chance(logits: Logits, seed: int, draws: int = 300) -> float:
    """The calibration error, in the mean, if every probability were exactly true."""
    generator = np.random.default_rng(seed)
    drawn = generator.random((draws, len(logits))) < expit(logits)
    return float(np.mean([calibration_error(one.astype(int), logits) for one in drawn]))


def temperature(malignant: Labels, logits: Logits) -> float:
    """The number by which logits are divided so that their log loss is smallest, 0.05 to 20.

    References
    ----------
    Guo, Pleiss, Sun and Weinberger (2017), "On Calibration of Modern Neural Networks", ICML.
    """
    found = minimize_scalar(
        lambda power: log_losses(malignant, logits / np.exp(power)).mean(),
        bounds=(-np.log(20), np.log(20)),
        method="bounded",
    )
    return float(np.exp(found.x))


def scores(malignant: Labels, logits: Logits) -> dict[str, float]:
    """All that the chapter asks of a list of logits.

    Raises
    ------
    ValueError
        Where labels and logits are not equally many finite numbers.
    """
    if malignant.shape != logits.shape or not np.isfinite(logits).all():
        raise ValueError(
            f"logits must be finite, of shape {malignant.shape}; got shape {logits.shape}"
        )
    return {
        "AUROC": area_under_roc(malignant, logits),
        "accuracy": float(((logits > 0) == malignant).mean()),
        "log loss": float(log_losses(malignant, logits).mean()),
        "Brier": float(((expit(logits) - malignant) ** 2).mean()),
        "ECE": calibration_error(malignant, logits),
        "sensitivity": sensitivity_at(malignant, logits),
    }


def difference(
    malignant: Labels,
    one: Float[np.ndarray, "n_seeds n"],
    other: Float[np.ndarray, "n_seeds n"],
    score: Callable[[Labels, Logits], float],
    *,
    draws: int = 1000,
    seed: int = 0,
) -> tuple[float, float, float]:
    """By how much one system's score is above another's, with an interval of 95 per cent.

    Patients are drawn with replacement, the same for both systems (a paired bootstrap), malignant
    and benign ones as many as there are.

    Parameters
    ----------
    malignant : int array, shape (n,)
    one, other : float arrays, shape (n_seeds, n)
        Logits of the patients; the score is the mean over the seeds.
    score : function of labels and logits
    draws, seed : int

    Returns
    -------
    found, low, high : float

    References
    ----------
    Efron and Tibshirani (1993), "An Introduction to the Bootstrap", Chapman and Hall, for the
    percentile interval.
    """

    def gap(who: Indices) -> float:
        labels = malignant[who]
        gaps = [
            score(labels, a[who]) - score(labels, b[who]) for a, b in zip(one, other, strict=True)
        ]
        return float(np.mean(gaps))

    generator = np.random.default_rng(seed)
    groups = [np.flatnonzero(malignant == label) for label in (0, 1)]
    drawn = [
        gap(np.concatenate([generator.choice(group, len(group)) for group in groups]))
        for _ in range(draws)
    ]
    low, high = np.quantile(drawn, (0.025, 0.975))
    return gap(np.arange(len(malignant))), float(low), float(high)
