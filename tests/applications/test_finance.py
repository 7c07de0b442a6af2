"""Returns and their size: nothing knows the future, the tests are right, each broken one caught."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from attn_tutorial.applications.finance import baselines as finance_baselines
from attn_tutorial.applications.finance import data as finance_data
from attn_tutorial.applications.finance import experiment as finance
from attn_tutorial.attribution import recording, uniform_weights
from package.zoo import Zoo, ZooTests, rewritten

PRICES = finance_data.load_prices()
MODULES = {"data": finance_data, "baselines": finance_baselines, "fitting": finance}
PARTS = {part: finance_data.examples(PRICES, part) for part in finance_data.PARTS}
GUESSES = {}

CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def simple(api):
    """The baselines, fitted once for each version of their module."""
    if api.baselines not in GUESSES:
        GUESSES[api.baselines] = api.baselines.simple_guesses(PARTS)
    return GUESSES[api.baselines]


def some(part, rows):
    return finance_data.Examples(*(np.array(column)[rows] for column in part))


@check
def examples_by_hand(api):
    part = api.data.examples(PRICES, "test")
    at = 200  # some example
    month, name = part.month[at], part.name[at]
    logs = PRICES.logs[:, name]
    assert part.wanted[at] == pytest.approx(logs[month] - logs[month - 1])
    before = np.diff(logs[month - 25 : month])
    assert part.scale[at] == pytest.approx(before.std())
    np.testing.assert_allclose(part.windows[at] * before.std(), before)


@check
def parts_follow_each_other(api):
    parts = {part: api.data.examples(PRICES, part) for part in finance_data.PARTS}
    months = {part: set(one.month) for part, one in parts.items()}
    assert max(months["training"]) + 1 == min(months["validation"])
    assert max(months["validation"]) + 1 == min(months["test"])
    assert max(months["test"]) == 389


@check
def no_example_knows_its_month_or_later(api):
    part = api.data.examples(PRICES, "test")
    middle = int(np.median(part.month))
    logs = PRICES.logs.copy()
    logs[middle:] += 1
    changed = api.data.examples(PRICES._replace(logs=logs), "test")
    known = part.month <= middle
    np.testing.assert_array_equal(changed.windows[known], part.windows[known])
    np.testing.assert_array_equal(changed.scale[known], part.scale[known])


@check
def diebold_mariano_of_one_step_is_the_paired_t_test(api):
    rng = np.random.default_rng(0)
    first, second = rng.random((2, 30))
    paired = stats.ttest_rel(first, second)
    np.testing.assert_allclose(
        api.data.diebold_mariano(first, second), (paired.statistic, paired.pvalue)
    )


@check
def diebold_mariano_of_three_steps_by_hand(api):
    d = np.convolve(np.random.default_rng(1).standard_normal(42), [1, 1, 1], "valid") + 0.5
    n, mean = 40, d.mean()
    variance = 0.0
    for i in range(n):
        for j in range(n):
            if abs(i - j) < 3:
                variance += (d[i] - mean) * (d[j] - mean) / n**2
    wanted = mean / np.sqrt(variance) * np.sqrt((n + 1 - 6 + 3 * 2 / n) / n)
    found, p = api.data.diebold_mariano(d, np.zeros(n), horizon=3)
    assert found == pytest.approx(wanted)
    assert p == pytest.approx(2 * (1 - stats.t.cdf(abs(wanted), n - 1)))


@check
def crossing_rules_by_brute_force(api):
    logs = finance_data.random_walks(1, 40, seed=5)[0]
    rules, returns = api.data.crossing_rules(logs)
    assert returns.shape == (44, 16)
    for rule in (0, 20, 43):
        short, long = rules[rule]
        for number, month in enumerate(range(24, 40)):
            above = logs[month - short : month].mean() > logs[month - long : month].mean()
            step = logs[month] - logs[month - 1]
            assert returns[rule, number] == pytest.approx(step if above else -step)


@check
def a_rule_knows_nothing_of_its_month(api):
    logs = finance_data.random_walks(1, 60, seed=5)[0]
    other = logs.copy()
    other[-1] += 5
    one, two = (api.data.crossing_rules(each)[1] for each in (logs, other))
    np.testing.assert_array_equal(one[:, :-1], two[:, :-1])
    positions = [r[:, -1] / (w[-1] - w[-2]) for r, w in ((one, logs), (two, other))]
    np.testing.assert_allclose(*positions)


@check
def the_reality_check_of_one_rule_is_close_to_a_t_test(api):
    rng = np.random.default_rng(2)
    for mean in (0.0, 0.15, 0.3):
        returns = rng.standard_normal((1, 120)) + mean
        p = api.data.reality_check(returns, seed=0, n_samples=2000, block=1.0)
        assert p == pytest.approx(api.data.naive_p(returns[0]), abs=0.04)


@check
def the_reality_check_counts_what_was_tried(api):
    rng = np.random.default_rng(3)
    returns = rng.standard_normal((40, 120))
    returns[0] += 0.2
    best = np.argmax(returns.mean(axis=1))
    alone = api.data.reality_check(returns[best : best + 1], seed=0)
    assert api.data.reality_check(returns, seed=0) > alone + 0.02
    # Dependence within blocks makes means vary more.
    slow = np.repeat(rng.standard_normal((1, 20)), 6, axis=1) + 0.25
    short, long = (api.data.reality_check(slow, seed=0, block=b) for b in (1.0, 12.0))
    assert long > short + 0.02
    # Much better than all chance.
    assert api.data.reality_check(returns + 1, seed=0) == 0


@check
def simple_guesses_by_hand(api):
    made = simple(api)
    test, known = PARTS["test"], PARTS["training"]
    apple = PRICES.names.index("AAPL")
    rows = known.name == apple
    of_apple = test.name == apple
    mean = made["mean return"](test)
    assert mean.returns[of_apple] == pytest.approx(known.wanted[rows].mean())
    walk = made["random walk"](test)
    assert (walk.returns == 0).all()
    assert walk.size[of_apple] == pytest.approx(np.abs(known.wanted[rows]).mean())
    # The latest month weighs most, and a wild window says more than a calm one.
    flat = some(test, [0, 0])
    flat.windows[:] = 0.1
    flat.windows[0, -1] = 3
    flat.windows[1, 0] = 3
    late, early = made["EWMA"](flat).size
    assert late > 2 * early
    har = made["AR and HAR"](flat).size
    assert har[0] > har[1]


@check
def what_is_forecast_scales_with_the_window(api):
    test = some(PARTS["test"], np.arange(5))
    wild = test._replace(scale=3 * test.scale)
    for name in ("EWMA", "AR and HAR", "boosted trees"):
        one, three = (simple(api)[name](part) for part in (test, wild))
        np.testing.assert_allclose(three.size, 3 * one.size)
        np.testing.assert_allclose(three.returns, 3 * one.returns)
    model = api.fitting.build("GRU", 0).eval()
    one, three = (api.fitting.guess(model, part) for part in (test, wild))
    np.testing.assert_allclose(three.returns, 3 * one.returns)


@check
def scores_by_hand(api):
    part = finance_data.Examples(
        np.zeros((2, 24)), np.ones(2), np.log([1.1, 0.9]), np.array([3, 4]), np.array([0, 0])
    )
    walk = finance_baselines.Guess(np.zeros(2), np.zeros(2))
    said = finance_baselines.Guess(np.log([1.05, 1.1]), np.abs(part.wanted))
    found = api.fitting.scores(said, part, walk)
    assert found["price error"] == pytest.approx((0.05 + 0.2) / (0.1 + 0.1))
    assert found["sign"] == 0.5
    assert found["volatility R²"] == 1
    assert "sign" not in api.fitting.scores(walk, part, walk)


@check
def months_are_averaged_over_names(api):
    part = some(PARTS["test"], [0, 114, 1, 2])
    found = api.fitting.by_month(np.array([1.0, 3.0, 5.0, 7.0]), part)
    np.testing.assert_array_equal(found, [2, 5, 7])


@check
def attention_is_used_and_knows_positions(api):
    model = api.fitting.build("Transformer", 0).eval()
    with torch.no_grad():
        model.layer.attention.query.weight *= 8
        window = torch.randn(3, 24, generator=torch.manual_seed(1))
        plain = model(window)
        with uniform_weights(model):
            assert (model(window) - plain).abs().max() > 1e-3
        assert (model(window.flip(1)) - plain).abs().max() > 1e-3
        turned = -window
        with recording(model) as record:
            model(window)
        assert record.weights[0].shape == (3, 4, 24, 24)
        assert (model(turned) - plain).abs().max() > 1e-3  # it sees the sign


@check
def weights_by_month_sum_to_one(api):
    model = api.fitting.build("Transformer", 0).eval()
    with torch.no_grad():
        model.layer.attention.query.weight *= 8
    found = api.fitting.weights_by_month(model, some(PARTS["test"], np.arange(4)))
    assert found.shape == (4, 24)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-5)
    assert np.ptp(found) > 1e-3


BROKEN = {
    "the month itself in its window": ("data", "np.arange(-WINDOW, 0)", "np.arange(1 - WINDOW, 1)"),
    "scaled by the whole part": ("data", "scale = windows.std(axis=1)",
                                 "scale = np.full(len(windows), windows.std())"),
    "validation begins in the test part": ("data", '"2008-01", "2013-01"',
                                           '"2008-01", "2014-01"'),
    "covariances forgotten": ("data", "2 * sum(covariances[1:])", "0 * sum(covariances[1:])"),
    "no correction for small samples": ("data", "statistic *= np.sqrt(",
                                        "statistic *= 1 + 0 * np.sqrt("),
    "averages that know the month": ("data", "(sums[ends] - sums[ends - k]) / k",
                                     "(sums[ends + 1] - sums[ends + 1 - k]) / k"),
    "the averages turned round": ("data", "np.sign(average[short] - average[long])",
                                  "np.sign(average[long] - average[short])"),
    "samples not measured from their mean": ("data", "counts @ returns.T / n - means",
                                             "counts @ returns.T / n"),
    "the mean of all rules": ("data", ".max(axis=1)  # (n_samples,)",
                              ".mean(axis=1)  # (n_samples,)"),
    "months without blocks": ("data", "goes_on = rng.random(n_samples) > 1 / block",
                              "goes_on = rng.random(n_samples) > 1"),
    "the oldest weighs most": ("baselines", "np.arange(WINDOW)[::-1]", "np.arange(WINDOW)"),
    "one mean for all names": ("baselines", "known.wanted[known.name == name].mean()",
                               "known.wanted.mean()"),
    "sizes without their scale": ("baselines", "_sizes(part) @ har * part.scale",
                                  "_sizes(part) @ har"),
    "trees without their scale": ("baselines", "_all_features(part)) * part.scale for",
                                  "_all_features(part)) for"),
    "returns for prices": ("fitting", "np.abs(np.exp(said.returns) - np.exp(part.wanted))",
                           "np.abs(said.returns - part.wanted)"),
    "the sum of a month": ("fitting", "losses[part.month == month].mean()",
                           "losses[part.month == month].sum()"),
    "networks without their scale": ("fitting", ".numpy() * part.scale[:, None]", ".numpy()"),
    "no positions": ("fitting", "self.embedding(tokens) + self.positions",
                     "self.embedding(tokens)"),
    "sizes only": ("fitting", "torch.stack([window, window.abs()], dim=-1)  # (batch, window, 2)",
                   "torch.stack([window.abs(), window.abs()], dim=-1)"),
    "who asks for who is asked": ("fitting", "record.weights[0].mean(dim=(0, 2))",
                                  "record.weights[0].mean(dim=(0, 3))"),
}  # fmt: skip


class TestFinance(ZooTests):
    zoo = Zoo(CHECKS, rewritten(MODULES, BROKEN), BROKEN)


def test_the_prices_are_what_matplotlib_has():
    assert PRICES.logs.shape == (390, 8)
    missing = np.isnan(PRICES.logs)
    assert missing[:, PRICES.names.index("AMZN")].sum() == 89
    assert missing.sum() == 89
    assert (np.diff(PRICES.months.astype(int)) == 1).all()
    path = finance_data.matplotlib.get_data_path() + "/sample_data/Stocks.csv"
    table = pd.read_csv(path, comment="#")
    row = table[table["Date"] == "2001-09-01"].iloc[0]
    at = int(np.flatnonzero(PRICES.months == np.datetime64("2001-09"))[0])
    for name, column in (("IBM", "IBM"), ("GSPC", "^GSPC")):
        assert np.exp(PRICES.logs[at, PRICES.names.index(name)]) == pytest.approx(row[column])
    # What is left out holds no price of these eight, but for the unfinished last month.
    rest = table[~table["Date"].str.endswith("-01")].iloc[:-1]
    assert (
        rest[["IBM", "AAPL", "MSFT", "XRX", "AMZN", "ADBE", "^GSPC", "^IXIC"]]
        .isna()
        .to_numpy()
        .all()
    )


def test_training_is_a_function_of_the_seed_and_lowers_the_loss(monkeypatch):
    monkeypatch.setattr(finance, "STEPS", 20)
    held_out = finance.tensors(PARTS["validation"])
    few = {part: some(one, np.arange(200)) for part, one in PARTS.items()}
    one, same, other = (finance.fit("GRU", few, seed) for seed in (1, 1, 2))
    assert torch.equal(one.head.weight, same.head.weight)
    assert not torch.equal(one.head.weight, other.head.weight)
    losses = [
        finance.squared_loss(model, *held_out).item()
        for model in (finance.build("GRU", 1).eval(), one)
    ]
    assert losses[1] < losses[0]


RAISES = {
    "part": (
        lambda: finance_data.examples(PRICES, "future"),
        r"part must be one of \('training', 'validation', 'test'\); got 'future'",
    ),
    "losses": (
        lambda: finance_data.diebold_mariano(np.ones(5), np.ones(4)),
        r"first and second must have one shape \(n,\), n at least 4; got \(5,\) and \(4,\)",
    ),
    "equal losses": (
        lambda: finance_data.diebold_mariano(np.ones(5), np.ones(5)),
        "the variance of the losses' difference must be positive",
    ),
    "few months": (
        lambda: finance_data.crossing_rules(np.zeros(24)),
        "logs must be more than 24 months; got 24",
    ),
    "kind": (
        lambda: finance.build("LSTM", 0),
        "kind must be 'Transformer' or 'GRU'; got 'LSTM'",
    ),
}


@pytest.mark.parametrize("name", RAISES)
def test_errors_name_what_is_wrong(name):
    call, message = RAISES[name]
    with pytest.raises(ValueError, match=f"^{message}$"):
        call()
