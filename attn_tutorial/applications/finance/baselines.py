"""Forecasts of returns and their size that somebody would try first, and boosted trees."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import Ridge

from attn_tutorial.applications.finance.data import WINDOW, Examples

Vector = Float[np.ndarray, " n"]

DECAYS = (0.8, 0.85, 0.9, 0.94, 0.97)
PENALTIES = (1.0, 100.0, 1000.0, 10_000.0)
TREES = (20, 60)


class Guess(NamedTuple):
    """What a system says about each example.

    Attributes
    ----------
    returns : float64 array, shape (n,)
        The return to expect.
    size : float64 array, shape (n,)
        How large it will be, whatever its sign.
    """

    returns: Vector
    size: Vector


def simple_guesses(parts: dict[str, Examples]) -> dict[str, Callable[[Examples], Guess]]:
    """Forecasts without a network; what has to be chosen is chosen on the validation part.

    Returns
    -------
    dict of functions from Examples to Guess
        "random walk": the price stays as it is, and moves by as much as this name did on average.
        "mean return": it goes on as this name did on average. "EWMA": the random walk, and the
        sizes' weighted mean, the latest first. "AR and HAR": a ridge regression on twelve returns,
        and a regression of the size on its means over one, three and twelve months. "boosted
        trees": on all of these.

    References
    ----------
    Corsi (2009), "A Simple Approximate Long-Memory Model of Realized Volatility", Journal of
    Financial Econometrics 7(2), for HAR, there with days, weeks and months.
    """
    known, held_out = parts["training"], parts["validation"]
    names = range(int(known.name.max()) + 1)
    mean = np.array([known.wanted[known.name == name].mean() for name in names])
    usual = np.array([np.abs(known.wanted[known.name == name]).mean() for name in names])
    scaled = known.wanted / known.scale  # (n,)

    def returns_error(model) -> float:
        made = model.predict(_features(held_out)) * held_out.scale
        return float(((made - held_out.wanted) ** 2).mean())

    def size_error(make: Callable[[Examples], Vector]) -> float:
        return float(((make(held_out) - np.abs(held_out.wanted)) ** 2).mean())

    def smoothed(decay: float) -> Callable[[Examples], Vector]:
        ages = decay ** np.arange(WINDOW)[::-1]

        def raw(part: Examples) -> Vector:
            return np.abs(part.windows) @ (ages / ages.sum()) * part.scale

        factor = raw(known) @ np.abs(known.wanted) / (raw(known) @ raw(known))
        return lambda part: factor * raw(part)

    ridges = [Ridge(alpha=penalty).fit(_features(known), scaled) for penalty in PENALTIES]
    ridge = min(ridges, key=returns_error)
    har = np.linalg.lstsq(_sizes(known), np.abs(scaled), rcond=None)[0]  # (4,)
    ewma = min((smoothed(decay) for decay in DECAYS), key=size_error)
    forests = [
        [_trees(n).fit(_all_features(known), wanted) for wanted in (scaled, np.abs(scaled))]
        for n in TREES
    ]

    def trees_error(pair) -> float:
        made = [model.predict(_all_features(held_out)) * held_out.scale for model in pair]
        wanted = (held_out.wanted, np.abs(held_out.wanted))
        return sum(float(((a - b) ** 2).mean()) for a, b in zip(made, wanted, strict=True))

    forest = min(forests, key=trees_error)
    return {
        "random walk": lambda part: Guess(0 * part.wanted, usual[part.name]),
        "mean return": lambda part: Guess(mean[part.name], usual[part.name]),
        "EWMA": lambda part: Guess(0 * part.wanted, ewma(part)),
        "AR and HAR": lambda part: Guess(
            ridge.predict(_features(part)) * part.scale, _sizes(part) @ har * part.scale
        ),
        "boosted trees": lambda part: Guess(
            *(model.predict(_all_features(part)) * part.scale for model in forest)
        ),
    }


def _features(part: Examples) -> Float[np.ndarray, "n 12"]:
    return part.windows[:, -12:]


def _sizes(part: Examples) -> Float[np.ndarray, "n 4"]:
    sizes = np.abs(part.windows)
    means = [sizes[:, -months:].mean(axis=1) for months in (1, 3, 12)]
    return np.column_stack([*means, np.ones(len(sizes))])


def _all_features(part: Examples) -> Float[np.ndarray, "n 52"]:
    return np.column_stack([part.windows, np.abs(part.windows), _sizes(part)])


def _trees(n: int) -> HistGradientBoostingRegressor:
    return HistGradientBoostingRegressor(
        max_iter=n, learning_rate=0.05, max_leaf_nodes=8, random_state=0
    )
