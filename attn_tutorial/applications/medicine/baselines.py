"""What somebody would try first: logistic regression and trees, and ways to fill gaps."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Literal

import numpy as np
from scipy.special import logit
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression

from attn_tutorial.applications.medicine.data import (
    Features,
    Fold,
    Labels,
    Patients,
    log_losses,
)
from attn_tutorial.applications.medicine.models import COPIES, Scaled, prepared

Baseline = Literal["logistic regression", "random forest", "boosting", "one feature"]


class ConditionalMean:
    """Missing features filled with what the others let expect, if all are jointly normal.

    Parameters
    ----------
    features : float array, shape (n, n_features)
        Complete, and scaled to a standard deviation of one.
    ridge : float
        Added to the variances, so that features that nearly repeat each other do no harm.

    References
    ----------
    Little and Rubin (2002), "Statistical Analysis with Missing Data", 2nd edition, Wiley, for
    regression imputation.
    """

    def __init__(self, features: Features, ridge: float = 0.01) -> None:
        if not np.isfinite(features).all():
            raise ValueError("features must be complete to learn how they go together")
        self.mean = features.mean(axis=0)  # (n_features,)
        self.covariance = np.cov(features.T) + ridge * np.eye(features.shape[1])

    def __call__(self, features: Features) -> Features:
        """Fill the gaps of features (n, n_features)."""
        filled = features - self.mean
        for row in filled:
            gone = np.isnan(row)
            if gone.any():
                known = self.covariance[np.ix_(~gone, ~gone)]
                across = self.covariance[np.ix_(gone, ~gone)]
                row[gone] = across @ np.linalg.solve(known, row[~gone])
        return filled + self.mean


def fit_baseline(
    kind: Baseline, patients: Patients, fold: Fold, seed: int, *, gaps: bool = False
) -> Scaled:
    """Fit a baseline with each of its settings; the validation part chooses among them.

    Parameters
    ----------
    kind : "logistic regression", "random forest", "boosting" or "one feature"
        The last is a logistic regression on the feature that does best.
    patients, fold, seed
    gaps : bool
        Whether to fit it to ten copies of the patients with growing shares of features hidden.

    Returns
    -------
    Scaled
        Missing features get their mean; boosting takes them as they are.

    Raises
    ------
    ValueError
        Where there is no such kind.
    """
    fits = {
        "logistic regression": _logistic,
        "random forest": _forests,
        "boosting": _boosted,
        "one feature": _single,
    }
    if kind not in fits:
        raise ValueError(f"kind must be one of {tuple(fits)}; got {kind!r}")
    fitted, (known, labels), (held_out, wanted) = prepared(patients, fold, gaps, COPIES)
    candidates = fits[kind](known, labels, seed)
    fitted.inner = min(candidates, key=lambda inner: log_losses(wanted, inner(held_out)).mean())
    return fitted


def with_conditional_mean(fitted: Scaled, patients: Patients, fold: Fold) -> Scaled:
    """A fitted system whose missing features are filled by `ConditionalMean`, not by the mean."""
    fill = ConditionalMean(fitted.scale(patients.features[fold.fitting]))
    filled = Scaled(patients.features[fold.fitting])
    filled.inner = lambda scaled: fitted.inner(fill(scaled))
    return filled


def _logistic(features: Features, labels: Labels, seed: int) -> list[Callable]:
    filled = np.nan_to_num(features)
    models = [LogisticRegression(C=10.0**power, max_iter=1000) for power in range(-3, 3)]
    return [_of_filled(model.fit(filled, labels).decision_function) for model in models]


def _single(features: Features, labels: Labels, seed: int) -> list[Callable]:
    found = []
    for one in range(features.shape[1]):
        model = LogisticRegression().fit(np.nan_to_num(features[:, [one]]), labels)
        found.append(
            lambda scaled, model=model, one=one: model.decision_function(
                np.nan_to_num(scaled[:, [one]])
            )
        )
    return found


def _forests(features: Features, labels: Labels, seed: int) -> list[Callable]:
    found = []
    for leaf in (1, 3):
        for share in ("sqrt", 0.5):
            forest = RandomForestClassifier(
                100, min_samples_leaf=leaf, max_features=share, random_state=seed
            ).fit(np.nan_to_num(features), labels)
            found.append(
                _of_filled(
                    lambda scaled, forest=forest: logit(
                        forest.predict_proba(scaled)[:, 1].clip(0.005, 0.995)
                    )
                )
            )
    return found


def _boosted(features: Features, labels: Labels, seed: int) -> list[Callable]:
    """Trees on top of trees, of two sizes, each stopped after so many."""
    found = []
    for leaves in (4, 15):
        model = HistGradientBoostingClassifier(
            max_iter=200, max_leaf_nodes=leaves, early_stopping=False, random_state=seed
        ).fit(features, labels)
        for n_trees in (25, 50, 100, 200):
            found.append(
                lambda scaled, model=model, n_trees=n_trees: next(
                    islice(model.staged_decision_function(scaled), n_trees - 1, None)
                )
            )
    return found


def _of_filled(inner: Callable) -> Callable:
    """Put the mean, which is zero, where a scaled feature is missing."""
    return lambda scaled: inner(np.nan_to_num(scaled))
