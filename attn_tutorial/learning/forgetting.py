"""A measured forgetting curve, formulas for it, and how far the data can tell them apart.

References
----------
Ebbinghaus (1913), "Memory: A Contribution to Experimental Psychology", chapter VII. (Written 1885.)
Murre and Dros (2015), "Replication and Analysis of Ebbinghaus' Forgetting Curve", PLoS ONE.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.optimize import least_squares

# Minutes since the end of learning, as Ebbinghaus' table has them.
MINUTES = np.array([20, 64, 526, 1440, 2 * 1440, 6 * 1440, 31 * 1440], dtype=float)
# The part of the work that relearning saves. Mack and Seitz repeated the experiment.
SAVINGS = {
    "Ebbinghaus": np.array([0.582, 0.442, 0.358, 0.337, 0.278, 0.254, 0.211]),
    "Mack": np.array([0.544, 0.432, 0.285, 0.316, 0.365, 0.309, 0.258]),
    "Seitz": np.array([0.442, 0.325, 0.270, 0.270, 0.286, 0.205, 0.201]),
}
# What Ebbinghaus' own formula gave him, by hand, with k = 1.84 and c = 1.25.
CALCULATED = np.array([0.570, 0.467, 0.345, 0.304, 0.281, 0.249, 0.212])


def exponential(t: Float[np.ndarray, " n"], a: float, b: float) -> Float[np.ndarray, " n"]:
    """The same share is lost in every minute."""
    return a * np.exp(-b * t)


def power(t: Float[np.ndarray, " n"], a: float, b: float) -> Float[np.ndarray, " n"]:
    """The same share is lost by every doubling of the time."""
    return a * t**-b


def logarithmic(t: Float[np.ndarray, " n"], a: float, b: float) -> Float[np.ndarray, " n"]:
    """The same amount is lost by every doubling of the time; below zero in the end."""
    return a - b * np.log(t)


def ebbinghaus(t: Float[np.ndarray, " n"], k: float, c: float) -> Float[np.ndarray, " n"]:
    """His own formula: k / ((log10 t)^c + k), t in minutes."""
    return k / (np.log10(t) ** c + k)


@dataclass(frozen=True)
class Curve:
    """A formula with two parameters, and from where its fit begins."""

    formula: Callable[..., np.ndarray]
    start: tuple[float, float]


CURVES = {
    "exponential": Curve(exponential, (0.4, 1e-4)),
    "power": Curve(power, (0.8, 0.1)),
    "logarithmic": Curve(logarithmic, (0.7, 0.05)),
    "Ebbinghaus' own": Curve(ebbinghaus, (1.84, 1.25)),
}


def fit(
    curve: Curve, minutes: Float[np.ndarray, " n"], savings: Float[np.ndarray, " n"]
) -> Float[np.ndarray, " 2"]:
    """The two parameters with the least sum of squares."""
    result = least_squares(
        lambda p: curve.formula(minutes, *p) - savings,
        curve.start,
        x_scale=np.abs(curve.start),
        method="lm",
    )
    return result.x


def left_out_error(
    curve: Curve, minutes: Float[np.ndarray, " n"], savings: Float[np.ndarray, " n"]
) -> float:
    """The root mean square error on each point, of a curve that was fitted without it."""
    errors = []
    for i in range(len(minutes)):
        others = np.arange(len(minutes)) != i
        parameters = fit(curve, minutes[others], savings[others])
        errors.append(curve.formula(minutes[i], *parameters) - savings[i])
    return float(np.sqrt(np.mean(np.square(errors))))


def bootstrap(
    curve: Curve,
    minutes: Float[np.ndarray, " n"],
    savings: Float[np.ndarray, " n"],
    *,
    n: int,
    seed: int,
) -> Float[np.ndarray, "n 2"]:
    """Parameters fitted anew to the curve with residuals drawn from its own, n times.

    The residuals of a fit with two parameters are too small by the factor √(1 − 2/n_points), so
    they are made larger by as much.
    """
    parameters = fit(curve, minutes, savings)
    drawn_from = curve.formula(minutes, *parameters)
    residuals = (savings - drawn_from) / np.sqrt(1 - 2 / len(minutes))
    generator = np.random.default_rng(seed)
    drawn = generator.choice(residuals, (n, len(minutes)))
    return np.array([fit(curve, minutes, drawn_from + noise) for noise in drawn])
