"""Three measured time series, cut in time order; and how wrong a forecast of them is.

All three come with statsmodels: the yearly numbers of sunspots from 1700 to 2008, the carbon
dioxide in the air over Mauna Loa from 1958 to 2001, and the temperature of the sea off Peru from
1950 to 2010. They are small, they are real, and they have a season.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from statsmodels import datasets

Values = Float[np.ndarray, " n"]
Windows = Float[np.ndarray, "origins window"]
Targets = Float[np.ndarray, "origins horizon"]
Origins = Int[np.ndarray, " origins"]
Part = Literal["training", "validation", "test"]

PARTS = ("training", "validation", "test")


class Series(NamedTuple):
    """A time series, and how it is cut.

    Attributes
    ----------
    name : str
    values : float64 array, shape (n,)
        At equal distances in time, no value missing.
    years : float64 array, shape (n,)
        When each value was measured; January is a whole number.
    season : int
        After how many steps the series about repeats itself. How many steps are forecast, too.
    ends : tuple of three ints
        Where the training, the validation and the test part end: the first index behind them.
    filled : bool array, shape (n,)
        True where nothing was measured and the value lies on a line between its neighbours.
    """

    name: str
    values: Values
    years: Values
    season: int
    ends: tuple[int, int, int]
    filled: Bool[np.ndarray, " n"]

    @property
    def horizon(self) -> int:
        """How many steps are forecast at once: one season."""
        return self.season

    @property
    def window(self) -> int:
        """How many values a model sees: four seasons."""
        return 4 * self.season

    @property
    def scale(self) -> float:
        """The mean absolute difference to one season before, in the training part."""
        known = self.values[: self.ends[0]]
        return float(np.abs(known[self.season :] - known[: -self.season]).mean())


def load_series() -> dict[str, Series]:
    """The three series.

    The CO2 series is weekly, and 59 of its weeks are missing. Its monthly means are taken over the
    weeks that are there; five months without any lie on a line between their neighbours, all of
    them in the training part.

    Returns
    -------
    dict of Series
        "sunspots" (309 years), "CO2" (526 months) and "sea temperature" (732 months).
    """
    spots = datasets.sunspots.load_pandas().data
    months = datasets.co2.load_pandas().data["co2"].resample("MS").mean()
    sea = datasets.elnino.load_pandas().data
    sea_years = sea["YEAR"].to_numpy()
    none = np.zeros(len(spots), dtype=bool), np.zeros(12 * len(sea), dtype=bool)
    series = [
        Series(
            "sunspots",
            spots["SUNACTIVITY"].to_numpy(float),
            spots["YEAR"].to_numpy(float),
            season=11,
            ends=_ends(spots["YEAR"], 1900, 1950),
            filled=none[0],
        ),
        Series(
            "CO2",
            months.interpolate().to_numpy(float),
            _in_years(months.index),
            season=12,
            ends=_ends(_in_years(months.index), 1986, 1992),
            filled=months.isna().to_numpy(),
        ),
        Series(
            "sea temperature",
            sea.drop(columns="YEAR").to_numpy(float).ravel(),
            (sea_years[:, None] + np.arange(12) / 12).ravel(),
            season=12,
            ends=_ends(np.repeat(sea_years, 12), 1986, 1996),
            filled=none[1],
        ),
    ]
    return {one.name: one for one in series}


def origins(series: Series, part: Part) -> Origins:
    """From where one can forecast so that all that is forecast lies in one part.

    An origin is the index of the first value that is forecast. What the model sees lies before it;
    it may reach back into an earlier part, which by then is known.

    Parameters
    ----------
    series : Series
    part : "training", "validation" or "test"

    Returns
    -------
    int array, shape (origins,)
        Every step: a rolling origin.
    """
    if part not in PARTS:
        raise ValueError(f"part must be one of {PARTS}; got {part!r}")
    number = PARTS.index(part)
    begin = series.ends[number - 1] if number else series.window
    return np.arange(begin, series.ends[number] - series.horizon + 1)


def windows(series: Series, at: Origins) -> tuple[Windows, Targets]:
    """What a model sees before each origin, and what comes after.

    Parameters
    ----------
    series : Series
    at : int array, shape (origins,)

    Returns
    -------
    seen : float64 array, shape (origins, window)
    wanted : float64 array, shape (origins, horizon)

    Raises
    ------
    ValueError
        Where the series does not reach from the first seen to the last wanted value.
    """
    at = np.asarray(at)
    if at.size and not series.window <= at.min() <= at.max() <= len(series.values) - series.horizon:
        raise ValueError(
            f"origins must lie from {series.window} to {len(series.values) - series.horizon}; "
            f"got {at.min()} to {at.max()}"
        )
    seen = series.values[at[:, None] + np.arange(-series.window, 0)]  # (origins, window)
    wanted = series.values[at[:, None] + np.arange(series.horizon)]  # (origins, horizon)
    return seen, wanted


def random_split(series: Series, seed: int) -> dict[str, Origins]:
    """The careless split: all windows shuffled, then cut into parts of the same sizes."""
    sizes = [len(origins(series, part)) for part in PARTS]
    everything = np.arange(series.window, series.ends[-1] - series.horizon + 1)
    mixed = np.random.default_rng(seed).permutation(everything)
    cuts = np.cumsum(sizes)
    return dict(zip(PARTS, np.split(mixed[: cuts[-1]], cuts[:-1]), strict=True))


def scaled_errors(forecast: Targets, wanted: Targets, scale: float) -> Targets:
    """Absolute errors, divided by the scale of the series; their mean is the MASE.

    The scale is the error that the seasonal naive forecast makes in the training part: 1 means "as
    wrong as to say what was one season ago". Hyndman and Koehler scale by the naive forecast of one
    step; for a season their error is taken as here.

    Parameters
    ----------
    forecast, wanted : float arrays, shape (origins, horizon)
    scale : float
        `Series.scale`.

    Returns
    -------
    float array, shape (origins, horizon)

    Raises
    ------
    ValueError
        Where the shapes differ, or the scale is not positive.

    References
    ----------
    Hyndman and Koehler (2006), "Another Look at Measures of Forecast Accuracy", International
    Journal of Forecasting 22(4).
    """
    if np.shape(forecast) != np.shape(wanted):
        raise ValueError(
            f"forecast and wanted must have one shape; got {np.shape(forecast)} and "
            f"{np.shape(wanted)}"
        )
    if not scale > 0:
        raise ValueError(f"scale must be positive; got {scale}")
    return np.abs(np.asarray(forecast) - np.asarray(wanted)) / scale


def _in_years(index: pd.DatetimeIndex) -> Values:
    return index.year.to_numpy(float) + (index.month.to_numpy(float) - 1) / 12


def _ends(years: Values, validation: int, test: int) -> tuple[int, int, int]:
    years = np.asarray(years)
    return int((years < validation).sum()), int((years < test).sum()), len(years)
