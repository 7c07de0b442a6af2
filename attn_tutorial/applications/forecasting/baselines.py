"""Forecasts of a time series that somebody would try first: naive ones, and two linear models.

Like the networks that they are compared with, they are fitted on the training part, and what has to
be chosen is chosen on the validation part.
"""

from __future__ import annotations

import warnings
from typing import Literal

import numpy as np
from statsmodels.tsa.ar_model import AutoReg
from statsmodels.tsa.statespace.sarimax import SARIMAX

from attn_tutorial.applications.forecasting.data import (
    Origins,
    Series,
    Targets,
    Values,
    origins,
    scaled_errors,
    windows,
)

LONGEST = 3  # seasons of lags that autoregression may use


def naive(series: Series, at: Origins, kind: Literal["last", "season", "drift"]) -> Targets:
    """What nobody has to train: the last value, the last season, or that plus a year's change.

    Parameters
    ----------
    series : Series
    at : int array, shape (origins,)
    kind : "last", "season" or "drift"
        "drift" adds to each value of the last season how much the last value differs from that of
        one season before.

    Returns
    -------
    float64 array, shape (origins, horizon)
    """
    seen, _ = windows(series, at)
    if kind == "last":
        return np.repeat(seen[:, -1:], series.horizon, axis=1)
    season = seen[:, -series.season :]  # (origins, horizon)
    if kind == "season":
        return season
    if kind == "drift":
        return season + seen[:, -1:] - seen[:, -1 - series.season : -series.season]
    raise ValueError(f"kind must be 'last', 'season' or 'drift'; got {kind!r}")


class Autoregression:
    """The next value is a weighted sum of the last ones; longer forecasts go step by step.

    Fitted by least squares (statsmodels). Trend and number of lags are chosen on the validation
    part, and for months whether each month has a constant of its own.

    Parameters
    ----------
    series : Series
    """

    def __init__(self, series: Series) -> None:
        self.series = series
        at = origins(series, "validation")
        _, wanted = windows(series, at)
        season = series.season
        lags = [2, season - 2, season, season + 2, 2 * season, 2 * season + 1, LONGEST * season]
        calendars = (False, True) if season == 12 else (False,)  # the sun has no calendar
        options = [(n, t, c) for n in lags for t in ("c", "ct") for c in calendars]
        errors = []
        for option in options:
            self._fit(*option)
            errors.append(scaled_errors(self.forecast(at), wanted, series.scale).mean())
        self.lags, self.trend, self.by_month = options[int(np.argmin(errors))]
        self._fit(self.lags, self.trend, self.by_month)

    def forecast(self, at: Origins) -> Targets:
        """Forecasts from some origins, (origins, horizon); nothing behind an origin is used."""
        values = self.series.values
        past = values[at[:, None] + np.arange(-len(self.weights), 0)]  # (origins, lags)
        steps = at[:, None] + np.arange(self.series.horizon)  # (origins, horizon)
        made = []
        for step in steps.T:
            new = self._level(step) + past @ self.weights[::-1]  # (origins,)
            made.append(new)
            past = np.column_stack([past[:, 1:], new])
        return np.column_stack(made)

    def _fit(self, lags: int, trend: str, by_month: bool) -> None:
        known = self.series.values[: self.series.ends[0]]
        period = self.series.season if by_month else None
        model = AutoReg(known, lags, trend=trend, seasonal=by_month, period=period)
        named = dict(zip(model.exog_names, model.fit().params, strict=True))
        self.weights = np.array([w for name, w in named.items() if name.startswith("y.L")])
        self.constant, self.slope = named["const"], named.get("trend", 0.0)
        # statsmodels leaves the first month's constant out: it is the constant itself.
        months = [w for name, w in named.items() if name.startswith("s(")]
        self.months = np.array([0.0, *months])

    def _level(self, step: Origins) -> Values:
        month = self.months[step % len(self.months)]
        return self.constant + self.slope * (step + 1) + month


class SeasonalArima:
    """SARIMA(p, 1, 1)(0, 1, 1): differences to the last value and to the last season.

    With p = 0 this is the airline model of Box and Jenkins. p is chosen on the validation part
    among 0, 1 and 2. Fitted once, by maximum likelihood (statsmodels); from each origin its filter
    is run over what lies before.

    Parameters
    ----------
    series : Series
    """

    def __init__(self, series: Series) -> None:
        self.series = series
        at = origins(series, "validation")[::3]  # a third will do to choose p
        _, wanted = windows(series, at)
        fitted, errors = [], []
        for p in (0, 1, 2):
            model = SARIMAX(
                series.values[: series.ends[0]],
                order=(p, 1, 1),
                seasonal_order=(0, 1, 1, series.season),
            )
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about the values that the search begins with
                fitted.append(model.fit(disp=False))
            self.fitted = fitted[-1]
            errors.append(scaled_errors(self.forecast(at), wanted, series.scale).mean())
        self.p = int(np.argmin(errors))
        self.fitted = fitted[self.p]

    def forecast(self, at: Origins) -> Targets:
        """Forecasts from some origins, (origins, horizon)."""
        return np.array(
            [
                self.fitted.apply(self.series.values[:origin]).forecast(self.series.horizon)
                for origin in at
            ]
        )
