"""Monthly prices that come with matplotlib, cut in time order; random walks; and three tests.

The tests say whether a forecast is better than another by more than chance, and whether the best of
many trading rules is better than none by more than the best of many useless ones would be.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

import matplotlib
import numpy as np
import pandas as pd
from jaxtyping import Float, Int
from scipy import stats

Part = Literal["training", "validation", "test"]
Returns = Float[np.ndarray, "n_rules n"]

PARTS = {
    "training": ("1992-02", "2008-01"),
    "validation": ("2008-01", "2013-01"),
    "test": ("2013-01", "2022-07"),
}
WINDOW = 24
SHORT = (1, 2, 3, 4, 6)
LONG = (6, 8, 9, 10, 12, 15, 18, 21, 24)


class Prices(NamedTuple):
    """Prices at the end of each month.

    Attributes
    ----------
    names : list of str
        Six companies and two indices of the American market.
    months : datetime64[M] array, shape (n,)
    logs : float64 array, shape (n, n_names)
        The logarithm of each price. NaN before a company was listed.
    """

    names: list[str]
    months: np.ndarray
    logs: Float[np.ndarray, "n names"]

    @property
    def returns(self) -> Float[np.ndarray, "n names"]:
        """The change of the logarithm since the month before; NaN where there is none."""
        first = np.full((1, len(self.names)), np.nan)
        return np.vstack([first, np.diff(self.logs, axis=0)])


class Examples(NamedTuple):
    """What was known, and what came in the next month.

    Attributes
    ----------
    windows : float64 array, shape (n, 24)
        The returns of the 24 months before, divided by `scale`.
    scale : float64 array, shape (n,)
        The standard deviation of those 24 returns: nothing later enters it.
    wanted : float64 array, shape (n,)
        The return of the month, as it was.
    month, name : int arrays, shape (n,)
        Which month and which price: indices into `Prices`.
    """

    windows: Float[np.ndarray, "n window"]
    scale: Float[np.ndarray, " n"]
    wanted: Float[np.ndarray, " n"]
    month: Int[np.ndarray, " n"]
    name: Int[np.ndarray, " n"]


def load_prices() -> Prices:
    """The prices from January 1990 to June 2022.

    The file has rows of dividends between those of the months; they hold no price and are left
    out. So are two companies that were listed late. The last month ends on its 28th day.

    Returns
    -------
    Prices
        390 months, 8 names.
    """
    path = Path(matplotlib.get_data_path()) / "sample_data" / "Stocks.csv"
    table = pd.read_csv(path, comment="#", parse_dates=["Date"], index_col="Date")
    table = table[table.index.day == 1].drop(columns=["DELL", "GOOGL"])
    names = [name.removeprefix("^") for name in table.columns]
    return Prices(names, table.index.to_numpy().astype("datetime64[M]"), np.log(table.to_numpy()))


def examples(prices: Prices, part: Part) -> Examples:
    """All windows whose next month lies in a part, name by name.

    Parameters
    ----------
    prices : Prices
    part : "training", "validation" or "test"
        By the month that is forecast; its window may reach back into the part before.

    Returns
    -------
    Examples
    """
    if part not in PARTS:
        raise ValueError(f"part must be one of {tuple(PARTS)}; got {part!r}")
    begin, end = (np.datetime64(month, "M") for month in PARTS[part])
    inside = np.flatnonzero((prices.months >= begin) & (prices.months < end))
    returns = prices.returns
    month = np.tile(inside, len(prices.names))
    name = np.repeat(np.arange(len(prices.names)), len(inside))
    before = month[:, None] + np.arange(-WINDOW, 0)  # (n, window)
    windows = returns[before, name[:, None]]
    kept = np.isfinite(windows).all(axis=1)
    windows, month, name = windows[kept], month[kept], name[kept]
    scale = windows.std(axis=1)
    return Examples(windows / scale[:, None], scale, returns[month, name], month, name)


def random_walks(n: int, length: int, seed: int) -> Float[np.ndarray, "n length"]:
    """Logarithms of prices of which nothing can be forecast: sums of independent normal steps.

    The steps have the standard deviation of the S&P 500's months, 0.043, and no drift. What they
    lack of real prices: large steps are too rare, and quiet and wild times do not alternate.
    """
    return 0.043 * np.random.default_rng(seed).standard_normal((n, length)).cumsum(axis=1)


def diebold_mariano(
    first: Float[np.ndarray, " n"], second: Float[np.ndarray, " n"], *, horizon: int = 1
) -> tuple[float, float]:
    """Whether two forecasts of the same series differ in their mean loss.

    Parameters
    ----------
    first, second : float arrays, shape (n,)
        The losses of the two forecasts, in time order.
    horizon : int
        How many steps ahead they forecast. Losses fewer steps apart than that may be correlated.

    Returns
    -------
    statistic : float
        Negative where the first is better.
    p : float
        Two-sided, from Student's distribution with n - 1 degrees of freedom.

    Raises
    ------
    ValueError
        Where the losses have not one shape (n,), there are fewer than three more than the horizon,
        or they do not differ by a varying amount.

    References
    ----------
    Diebold and Mariano (1995), "Comparing Predictive Accuracy", Journal of Business & Economic
    Statistics 13(3). Harvey, Leybourne and Newbold (1997), "Testing the Equality of Prediction Mean
    Squared Errors", International Journal of Forecasting 13(2), for the correction in small
    samples.
    """
    shapes = {np.shape(first), np.shape(second)}
    if len(shapes) > 1 or np.ndim(first) != 1 or len(first) < horizon + 3:
        raise ValueError(
            f"first and second must have one shape (n,), n at least {horizon + 3}; got "
            f"{np.shape(first)} and {np.shape(second)}"
        )
    difference = np.asarray(first, float) - np.asarray(second, float)
    n = len(difference)
    centred = difference - difference.mean()
    covariances = [centred[lag:] @ centred[: n - lag] / n for lag in range(horizon)]
    variance = (covariances[0] + 2 * sum(covariances[1:])) / n
    if not variance > 0:
        raise ValueError("the variance of the losses' difference must be positive")
    statistic = difference.mean() / np.sqrt(variance)
    statistic *= np.sqrt((n + 1 - 2 * horizon + horizon * (horizon - 1) / n) / n)
    return float(statistic), float(2 * stats.t.sf(abs(statistic), df=n - 1))


def crossing_rules(logs: Float[np.ndarray, " n"]) -> tuple[list[tuple[int, int]], Returns]:
    """What rules of crossing moving averages would have earned, without costs.

    A rule holds the price for a month where its short moving average lies above its long one at the
    end of the month before, and bets against it where it lies below.

    Parameters
    ----------
    logs : float array, shape (n,)
        Logarithms of prices.

    Returns
    -------
    rules : list of (short, long)
        Over how many months the averages go.
    returns : float array, shape (n_rules, n - 24)
        Of each month from the 25th on.
    """
    if len(logs) <= max(LONG):
        raise ValueError(f"logs must be more than {max(LONG)} months; got {len(logs)}")
    rules = [(short, long) for short in SHORT for long in LONG if short < long]
    sums = np.concatenate([[0.0], np.cumsum(logs)])
    ends = np.arange(max(LONG), len(logs))  # the averages go up to the month before `ends`
    average = {k: (sums[ends] - sums[ends - k]) / k for k in {*SHORT, *LONG}}
    steps = logs[ends] - logs[ends - 1]
    returns = [np.sign(average[short] - average[long]) * steps for short, long in rules]
    return rules, np.array(returns)


def naive_p(returns: Float[np.ndarray, " n"]) -> float:
    """The one-sided p-value of a t-test that a rule's mean return is above zero."""
    return float(stats.ttest_1samp(returns, 0, alternative="greater").pvalue)


def reality_check(
    returns: Returns, *, seed: int, n_samples: int = 500, block: float = 6.0
) -> float:
    """The p-value of the best of many rules, which knows that it is the best of many.

    The months are drawn again in blocks of random length (the stationary bootstrap). In each sample
    the best rule's mean, each rule measured from its own true mean, says how good the best looks
    where no rule is any good.

    Parameters
    ----------
    returns : float array, shape (n_rules, n)
        All rules that were tried, not only those that are shown.
    seed, n_samples : int
    block : float
        The mean length of a block.

    Returns
    -------
    float

    References
    ----------
    White (2000), "A Reality Check for Data Snooping", Econometrica 68(5). Sullivan, Timmermann and
    White (1999), "Data-Snooping, Technical Trading Rule Performance, and the Bootstrap", The
    Journal of Finance 54(5).
    """
    rng = np.random.default_rng(seed)
    n = returns.shape[1]
    index = rng.integers(n, size=(n_samples, n))
    for step in range(1, n):
        goes_on = rng.random(n_samples) > 1 / block
        index[goes_on, step] = (index[goes_on, step - 1] + 1) % n
    means = returns.mean(axis=1)  # (n_rules,)
    # How often each month was drawn makes the sample's mean one product.
    counts = np.zeros((n_samples, n))
    np.add.at(counts, (np.arange(n_samples)[:, None], index), 1)
    best = (counts @ returns.T / n - means).max(axis=1)  # (n_samples,)
    return float((best >= means.max()).mean())
