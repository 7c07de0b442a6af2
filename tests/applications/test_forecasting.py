"""Forecasts of time series: parts in time order, nothing of the future seen, each broken caught."""

import copy
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from statsmodels import datasets
from statsmodels.tsa.ar_model import AutoReg
from statsmodels.tsa.statespace.sarimax import SARIMAX

from attn_tutorial.applications.forecasting import baselines as forecast_baselines
from attn_tutorial.applications.forecasting import data as forecast_data
from attn_tutorial.applications.forecasting import experiment as forecasting
from attn_tutorial.applications.forecasting import models as forecast_models
from attn_tutorial.attribution import recording, uniform_weights
from package.zoo import Zoo, ZooTests, rewritten

SERIES = forecast_data.load_series()
SPOTS, AIR, SEA = SERIES.values()
MODULES = {
    "data": forecast_data,
    "baselines": forecast_baselines,
    "models": forecast_models,
    "fitting": forecasting,
}

CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def small(api, level="last"):
    """An untrained Transformer with large weights, so that its attention is far from equal."""
    torch.manual_seed(0)
    body = api.models.PatchTransformer(48, 12, n_layers=2)
    with torch.no_grad():
        for layer in body.layers:
            layer.attention.query.weight *= 8
    return api.models.Levelled(body, level).eval()


@check
def parts_share_no_value_that_is_forecast(api):
    for series in SERIES.values():
        ends = (0, *series.ends)
        for number, part in enumerate(api.data.PARTS):
            at = api.data.origins(series, part)
            wanted = at[:, None] + np.arange(series.horizon)
            assert ends[number] <= wanted.min()
            assert wanted.max() == ends[number + 1] - 1
            assert (np.diff(at) == 1).all()


@check
def windows_end_where_the_forecast_begins(api):
    counting = SPOTS._replace(values=np.arange(309.0))
    seen, wanted = api.data.windows(counting, np.array([44, 100]))
    np.testing.assert_array_equal(seen, [np.arange(44), np.arange(56, 100)])
    np.testing.assert_array_equal(wanted, [np.arange(44, 55), np.arange(100, 111)])


@check
def scaled_errors_by_hand(api):
    errors = api.data.scaled_errors(np.array([[1.0, 5.0]]), np.array([[3.0, 4.0]]), 2.0)
    np.testing.assert_array_equal(errors, [[1, 0.5]])


@check
def naive_forecasts_by_hand(api):
    series = SPOTS._replace(season=2, values=np.array([3.0, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8]))
    at = np.array([8])  # 5, 9, 2, 6 lie before
    for kind, wanted in {"last": [6, 6], "season": [2, 6], "drift": [-1, 3]}.items():
        np.testing.assert_array_equal(api.baselines.naive(series, at, kind), [wanted])


@check
def no_forecast_sees_the_future(api):
    """Whatever comes at and behind the origin, forecasts from there stay what they are."""
    at = np.array([AIR.ends[1] + 5])
    changed = AIR.values.copy()
    changed[at[0] :] += 100
    other = AIR._replace(values=changed)
    model = small(api)
    np.testing.assert_array_equal(
        api.fitting.forecast(model, AIR, at), api.fitting.forecast(model, other, at)
    )
    regression = AR[api]
    before = regression.forecast(at)
    moved = copy.copy(regression)
    moved.series = other
    np.testing.assert_array_equal(moved.forecast(at), before)


@check
def autoregression_is_that_of_statsmodels(api):
    regression = copy.copy(AR[api])
    regression._fit(13, "ct", True)
    options = {"trend": "ct", "seasonal": True, "period": 12}
    fitted = AutoReg(AIR.values[: AIR.ends[0]], 13, **options).fit()
    for origin in (AIR.ends[1], AIR.ends[1] + 31):
        model = AutoReg(AIR.values[:origin], 13, **options)
        wanted = model.predict(fitted.params, start=origin, end=origin + 11)
        np.testing.assert_allclose(regression.forecast(np.array([origin]))[0], wanted)


@check
def levels_are_given_back(api):
    """A series that stands higher gets the same forecast, higher; one stretched, stretched."""
    torch.manual_seed(0)
    seen = torch.randn(5, 48)
    for level in ("last", "mean"):
        model = small(api, level)
        with torch.no_grad():
            torch.testing.assert_close(model(seen + 3), model(seen) + 3, atol=1e-4, rtol=1e-4)
            if level == "mean":
                torch.testing.assert_close(model(4 * seen), 4 * model(seen), atol=2e-2, rtol=1e-2)


@check
def every_patch_is_its_neighbouring_values(api):
    model = small(api)
    seen = torch.arange(48.0)[None]
    caught = []
    model.body.embedding.register_forward_pre_hook(lambda _, given: caught.append(given[0]))
    model.body(seen)
    torch.testing.assert_close(caught[0][0, 1], torch.tensor([4.0, 5, 6, 7]))


@check
def attention_is_used_and_knows_positions(api):
    model = small(api)
    torch.manual_seed(1)
    seen = torch.randn(4, 48)
    with torch.no_grad():
        plain = model(seen)
        with uniform_weights(model):
            assert (model(seen) - plain).abs().max() > 1e-2
    swapped = seen.clone()
    swapped[:, :4], swapped[:, 4:8] = seen[:, 4:8], seen[:, :4]
    with recording(model) as record:
        model(seen)
        model(swapped)
    one, other = record.weights[0][:, :, -1], record.weights[2][:, :, -1]  # first layer
    assert one.shape == (4, 4, 12)
    torch.testing.assert_close(one.sum(-1), torch.ones(4, 4))
    exchanged = other[..., [1, 0, *range(2, 12)]]
    assert (one - exchanged).abs().max() > 1e-4  # positions enter the scores


@check
def a_moving_average_and_what_is_left(api):
    model = api.models.DLinear(8, 3, width=3)
    with torch.no_grad():
        for part in (model.trend, model.rest):
            part.weight.zero_()
            part.bias.zero_()
        model.trend.weight[:, 4] = 1  # the average around value 4
        model.rest.weight[1, 4] = 1  # and what it leaves
        seen = torch.tensor([[0.0, 0, 0, 2, 3, 7, 0, 0]])
        torch.testing.assert_close(model(seen), torch.tensor([[4.0, 3.0, 4.0]]))


@check
def fixed_weights_are_used_and_taken_away_again(api):
    model = small(api)
    at = api.data.origins(AIR, "test")[:6]
    plain = api.fitting.forecast(model, AIR, at)
    per_layer = api.fitting.mean_weights(model, AIR, at[:1])
    with api.fitting.fixed_weights(model, per_layer):
        fixed = api.fitting.forecast(model, AIR, at)
    # Of the only window in the mean, nothing changes; of the others, something does.
    np.testing.assert_allclose(fixed[0], plain[0], atol=1e-3)
    assert np.abs(fixed[1:] - plain[1:]).max() > 1e-3
    np.testing.assert_array_equal(api.fitting.forecast(model, AIR, at), plain)


@check
def profiles_count_backwards_from_the_last_patch(api):
    weights = torch.zeros(1, 2, 3, 3)
    weights[0, :, 2] = torch.tensor([[0.0, 0.25, 0.75], [0.5, 0.25, 0.25]])
    weights[0, :, 0, 0] = 1
    assert api.fitting.profile(weights) == [0.5, 0.25, 0.25]


@check
def a_random_split_has_the_same_sizes_and_each_window_once(api):
    at = api.data.random_split(SPOTS, 3)
    wanted = {part: len(forecast_data.origins(SPOTS, part)) for part in forecast_data.PARTS}
    assert {part: len(one) for part, one in at.items()} == wanted
    together = np.concatenate(list(at.values()))
    assert len(set(together)) == len(together)
    # That is what is wrong with it: nearly every test window has a neighbour in training.
    near = np.abs(at["test"][:, None] - at["training"]).min(axis=1)
    assert (near < SPOTS.horizon).all()


@check
def shuffling_reorders_each_window(api):
    class Counting(torch.nn.Module):
        def forward(self, seen):
            self.seen = seen
            return seen[:, :12]

    model = Counting()
    api.fitting.shuffled(model, AIR, 0)
    straight, _ = api.fitting.tensors(AIR, forecast_data.origins(AIR, "test"))
    torch.testing.assert_close(model.seen.sort(1).values, straight.sort(1).values)
    assert (model.seen != straight).any(dim=1).all()
    assert not torch.equal(model.seen[0].argsort(), model.seen[40].argsort())


BROKEN = {
    "the window reaches one step too far": ("data", "np.arange(-series.window, 0)",
                                            "np.arange(1 - series.window, 1)"),
    "training reaches into validation": ("data", "series.ends[number] - series.horizon + 1)",
                                         "series.ends[number] + 1)"),
    "errors are not scaled": ("data", "np.asarray(wanted)) / scale", "np.asarray(wanted))"),
    "a random split that is none": ("data", ".permutation(everything)",
                                    ".choice(everything, len(everything))"),
    "the drift turned round": ("baselines", "season + seen[:, -1:] - seen[:, -1 - series.season",
                               "season - seen[:, -1:] + seen[:, -1 - series.season"),
    "the lags turned round": ("baselines", "past @ self.weights[::-1]", "past @ self.weights"),
    "the month of the step before": ("baselines", "self.months[step %", "self.months[(step - 1) %"),
    "the future in the past": ("baselines", "np.arange(-len(self.weights), 0)]",
                               "np.arange(1 - len(self.weights), 1)]"),
    "the level is not given back": ("models", "self.body(seen - level) + level",
                                    "self.body(seen - level)"),
    "the spread is not given back": ("models", "/ spread) * spread + level", "/ spread) + level"),
    "patches of every fourth value": ("models", "seen.unflatten(1, (-1, self.patch))",
                                      "seen.unflatten(1, (self.patch, -1)).mT"),
    "no positions": ("models", "self.embedding(patches) + self.positions",
                     "self.embedding(patches)"),
    "nothing attends": ("models", "x, _ = layer(x)", "x = x + 0 * layer(x)[0]"),
    "an average that leads": ("models", "self.width // 2, self.width - 1 - self.width // 2",
                              "self.width - 1, 0"),
    "weights over the wrong axis": ("fitting", "(weights @ value, None)",
                                    "(weights.mT @ value, None)"),
    "weights that stay fixed": ("fitting", 'vars(layer).pop("_attend", None)', "pass"),
    "the profile of the first patch": ("fitting", "weights[0, :, -1]", "weights[0, :, 0]"),
    "shuffling that shuffles nothing": ("fitting", "(len(at), 1)), axis=1",
                                        "(len(at), 1)), axis=0"),
}  # fmt: skip


class _Regressions(dict):
    def __missing__(self, api):
        self[api] = api.baselines.Autoregression(AIR)
        return self[api]


AR = _Regressions()


class TestForecasting(ZooTests):
    zoo = Zoo(CHECKS, rewritten(MODULES, BROKEN), BROKEN)


def test_the_series_are_what_statsmodels_has():
    assert {name: len(one.values) for name, one in SERIES.items()} == {
        "sunspots": 309,
        "CO2": 526,
        "sea temperature": 732,
    }
    for series in SERIES.values():
        assert np.isfinite(series.values).all()
        np.testing.assert_allclose(np.diff(series.years), 1 if series is SPOTS else 1 / 12)
    weeks = datasets.co2.load_pandas().data["co2"]
    assert weeks.isna().sum() == 59
    march = weeks["1970-03"].mean()
    assert AIR.values[np.isclose(AIR.years, 1970 + 2 / 12)] == pytest.approx(march)
    assert SEA.values[13] == datasets.elnino.load_pandas().data["FEB"][1]
    # Five months are filled in, all of them where training may see what comes after.
    assert AIR.filled.sum() == 5
    assert np.flatnonzero(AIR.filled).max() < AIR.ends[0] - AIR.horizon
    months = pd.Series(AIR.values).mask(AIR.filled)
    np.testing.assert_allclose(months.interpolate(), AIR.values)
    for series in SERIES.values():
        known = series.values[: series.ends[0]]
        by_hand = [
            abs(known[i] - known[i - series.season]) for i in range(series.season, len(known))
        ]
        assert series.scale == pytest.approx(np.mean(by_hand))


def test_sarima_is_that_of_statsmodels_from_every_origin():
    made = SimpleNamespace(series=AIR)
    known = AIR.values[: AIR.ends[0]]
    model = SARIMAX(known, order=(0, 1, 1), seasonal_order=(0, 1, 1, 12))
    made.fitted = model.filter([-0.4, -0.8, 0.1])
    at = np.array([AIR.ends[0], AIR.ends[0] + 1])
    found = forecast_baselines.SeasonalArima.forecast(made, at)
    np.testing.assert_allclose(found[0], made.fitted.forecast(12))
    longer = SARIMAX(AIR.values[: at[1]], order=(0, 1, 1), seasonal_order=(0, 1, 1, 12))
    np.testing.assert_allclose(found[1], longer.filter([-0.4, -0.8, 0.1]).forecast(12))


def test_training_is_a_function_of_the_seed(monkeypatch):
    monkeypatch.setitem(forecasting.STEPS, "NLinear", 40)
    one, same, other = (forecasting.fit("NLinear", SPOTS, seed) for seed in (1, 1, 2))
    assert torch.equal(one.body.weight, same.body.weight)
    assert not torch.equal(one.body.weight, other.body.weight)


def test_training_lowers_the_loss(monkeypatch):
    monkeypatch.setitem(forecasting.STEPS, "patch Transformer", 40)
    held_out = forecasting.tensors(SEA, forecast_data.origins(SEA, "validation"))
    for equal in (False, True):
        before = forecasting.build("patch Transformer", SEA, 0)
        after = forecasting.fit("patch Transformer", SEA, 0, equal_weights=equal)
        losses = [
            forecasting.absolute_loss(one.eval(), *held_out).item() for one in (before, after)
        ]
        assert losses[1] < 0.7 * losses[0]


RAISES = {
    "part": (
        lambda: forecast_data.origins(SPOTS, "future"),
        r"part must be one of \('training', 'validation', 'test'\); got 'future'",
    ),
    "too early": (
        lambda: forecast_data.windows(SPOTS, np.array([43])),
        r"origins must lie from 44 to 298; got 43 to 43",
    ),
    "too late": (
        lambda: forecast_data.windows(SPOTS, np.array([60, 299])),
        r"origins must lie from 44 to 298; got 60 to 299",
    ),
    "shapes": (
        lambda: forecast_data.scaled_errors(np.ones((2, 3)), np.ones((2, 1)), 1.0),
        r"forecast and wanted must have one shape; got \(2, 3\) and \(2, 1\)",
    ),
    "scale": (
        lambda: forecast_data.scaled_errors(np.ones((1, 1)), np.ones((1, 1)), 0.0),
        r"scale must be positive; got 0.0",
    ),
    "naive": (
        lambda: forecast_baselines.naive(SPOTS, np.array([50]), "mean"),
        r"kind must be 'last', 'season' or 'drift'; got 'mean'",
    ),
    "level": (
        lambda: forecast_models.Levelled(torch.nn.Identity(), "none"),
        r"level must be 'last' or 'mean'; got 'none'",
    ),
    "patch": (
        lambda: forecast_models.PatchTransformer(44, 11, patch=5),
        r"patch must divide the window of 44 values; got 5",
    ),
    "kind": (
        lambda: forecast_models.build("LSTM", SPOTS, 0),
        r"kind must be one of \('patch Transformer', .*\); got 'LSTM'",
    ),
    "layers": (
        lambda: forecasting.fixed_weights(
            forecast_models.build("patch Transformer", SPOTS, 0), []
        ).__enter__(),
        r"per_layer must have 2 entries; got 0",
    ),
}


@pytest.mark.parametrize("name", RAISES)
def test_errors_name_what_is_wrong(name):
    call, message = RAISES[name]
    with pytest.raises(ValueError, match=f"^{message}$"):
        call()
