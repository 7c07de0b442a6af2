"""Time series: a Transformer over patches, against linear maps, a GRU and classical forecasts.

Each series has models of its own. They see four seasons and forecast the next one at once. All are
fitted on the training part; the validation part chose the settings and stops the training; the
errors reported are those of the test part, from a rolling origin.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from attn_tutorial.applications.forecasting.baselines import Autoregression, SeasonalArima, naive
from attn_tutorial.applications.forecasting.data import (
    PARTS,
    Origins,
    Series,
    Targets,
    load_series,
    origins,
    random_split,
    scaled_errors,
    windows,
)
from attn_tutorial.applications.forecasting.models import (
    KINDS,
    Batch,
    Forecast,
    Kind,
    Levelled,
    build,
)
from attn_tutorial.applications.measuring import over_seeds
from attn_tutorial.applications.results import Results, System, versions
from attn_tutorial.attribution import attention_modules, recording, uniform_weights
from attn_tutorial.training import evaluating, train

SEEDS = (0, 1, 2)
NAIVE = {"last": "last value", "season": "last season", "drift": "last season with drift"}

# Chosen on the validation part.
PEAKS = {"patch Transformer": 1e-3, "GRU": 5e-3, "DLinear": 3e-3, "NLinear": 3e-3}
STEPS = {"patch Transformer": 600, "GRU": 600, "DLinear": 1500, "NLinear": 1500}


# --- training and forecasting ----------------------------------------------------------------


def tensors(series: Series, at: Origins) -> tuple[Batch, Forecast]:
    """Windows and what follows, float32 in units of the series' scale."""
    return tuple(torch.from_numpy(array / series.scale).float() for array in windows(series, at))


def fit(
    kind: Kind,
    series: Series,
    seed: int,
    *,
    at: dict[str, Origins] | None = None,
    equal_weights: bool = False,
) -> Levelled:
    """Train a forecaster on the training part; the validation part says when to stop.

    Parameters
    ----------
    kind, series, seed
        As in `build`.
    at : dict of int arrays, optional
        The origins of "training" and "validation". By default those of the parts.
    equal_weights : bool
        Whether to train with equal weights in place of attention.

    Returns
    -------
    Levelled
        In evaluation mode.
    """
    at = at or {part: origins(series, part) for part in ("training", "validation")}
    model = build(kind, series, seed)
    held_out = tensors(series, at["validation"])
    with uniform_weights(model) if equal_weights else contextlib.nullcontext():
        train(
            model,
            absolute_loss,
            tensors(series, at["training"]),
            steps=STEPS[kind],
            batch_size=32,
            peak=PEAKS[kind],
            warm_up=50,
            validate=lambda model: absolute_loss(model, *held_out).item(),
            validate_every=20,
            patience=10,
            seed=seed,
        )
    return model.eval()


def absolute_loss(model: nn.Module, seen: Batch, wanted: Forecast) -> Float[Tensor, ""]:
    """The mean absolute error, which is the MASE for windows in units of the scale."""
    return (model(seen) - wanted).abs().mean()


def forecast(model: nn.Module, series: Series, at: Origins) -> Targets:
    """A model's forecasts from some origins, in the series' own units, (origins, horizon)."""
    with evaluating(model):
        return model(tensors(series, at)[0]).double().numpy() * series.scale


def evaluate(models: nn.ModuleDict, series: dict[str, Series]) -> dict[str, float]:
    """The MASE on the test part of each series, and the mean of the three as "MASE"."""
    return mase(
        {name: forecast(models[name], one, origins(one, "test")) for name, one in series.items()},
        series,
    )


def mase(forecasts: dict[str, Targets], series: dict[str, Series]) -> dict[str, float]:
    """The mean absolute scaled error of forecasts from all test origins, by series and in all."""
    scores = {}
    for name, one in series.items():
        _, wanted = windows(one, origins(one, "test"))
        scores[name] = float(scaled_errors(forecasts[name], wanted, one.scale).mean())
    return {"MASE": float(np.mean(list(scores.values()))), **scores}


# --- what attention does ---------------------------------------------------------------------


def mean_weights(model: Levelled, series: Series, at: Origins) -> list[Tensor]:
    """The weights of each layer, averaged over windows.

    Returns
    -------
    list of float tensors, shape (1, n_heads, n, n)
        Rows sum to one.
    """
    with evaluating(model), recording(model) as record:
        model(tensors(series, at)[0])
    return [weights.mean(dim=0, keepdim=True) for weights in record.weights]


@contextlib.contextmanager
def fixed_weights(model: nn.Module, per_layer: list[Tensor]) -> Iterator[None]:
    """Within this context each layer uses the weights given, whatever it sees.

    Parameters
    ----------
    model : module
    per_layer : list of float tensors, shape (1, n_heads, n, n)
        In the order of the layers.

    Raises
    ------
    ValueError
        Where there are not as many as layers.
    """
    layers = list(attention_modules(model).values())
    if len(layers) != len(per_layer):
        raise ValueError(f"per_layer must have {len(layers)} entries; got {len(per_layer)}")
    for layer, weights in zip(layers, per_layer, strict=True):
        layer._attend = lambda query, key, value, mask, weights=weights: (weights @ value, None)
    try:
        yield
    finally:
        for layer in layers:
            vars(layer).pop("_attend", None)


def profile(weights: Tensor) -> list[float]:
    """How much the last patch attends to the patch so many patches before it, itself first.

    Parameters
    ----------
    weights : float tensor, shape (1, n_heads, n, n)

    Returns
    -------
    list of n floats
        The mean over the heads; they sum to one.
    """
    return weights[0, :, -1].mean(dim=0).flip(0).tolist()


def shuffled(model: nn.Module, series: Series, seed: int) -> float:
    """The MASE on the test part where the values of each window come in a random order."""
    at = origins(series, "test")
    seen, wanted = tensors(series, at)
    order = torch.from_numpy(
        np.random.default_rng(seed).permuted(
            np.tile(np.arange(series.window), (len(at), 1)), axis=1
        )
    )
    with evaluating(model):
        return (model(seen.gather(1, order)) - wanted).abs().mean().item()


# --- the whole measurement -------------------------------------------------------------------


def measure() -> Results:
    """Train every system on every series with every seed; score all on the test parts."""
    series = load_series()
    systems, models = {}, {}
    for kind in KINDS:
        systems[kind], models[kind] = _trained(kind, series)
    systems["equal weights, trained so"], _ = _trained(KINDS[0], series, equal_weights=True)
    classical = {
        "AR": {name: Autoregression(one).forecast for name, one in series.items()},
        "SARIMA": {name: SeasonalArima(one).forecast for name, one in series.items()},
    }
    for kind in ("last", "season", "drift"):
        classical[NAIVE[kind]] = {
            name: lambda at, one=one, kind=kind: naive(one, at, kind)
            for name, one in series.items()
        }
    errors = {kind: _errors(models[kind], series) for kind in KINDS}
    for name, ways in classical.items():
        made = {key: ways[key](origins(one, "test")) for key, one in series.items()}
        scores = mase(made, series)
        systems[name] = System("baseline", {key: [value] for key, value in scores.items()})
        errors[name] = {
            key: scaled_errors(made[key], windows(one, origins(one, "test"))[1], one.scale)
            for key, one in series.items()
        }
    systems |= _replaced(models[KINDS[0]], series)
    n = {part: sum(len(origins(one, part)) for one in series.values()) for part in PARTS}
    return Results(
        task="Forecast the next season of a time series",
        data="Yearly sunspots, monthly CO2 and monthly sea temperature, from statsmodels",
        origin="real",
        split="In time order; a window's forecast lies wholly in one part",
        metric="MASE",
        higher_is_better=False,
        n_training=n["training"],
        n_test=n["test"],
        seeds=list(SEEDS),
        systems=systems,
        libraries=versions("statsmodels", "torch"),
        more={
            "by step": {
                name: {key: one.mean(axis=0).tolist() for key, one in by.items()}
                for name, by in errors.items()
            },
            "better than AR": {
                key: float((errors[KINDS[0]][key].mean(1) < errors["AR"][key].mean(1)).mean())
                for key in series
            },
            "profiles": _profiles(models[KINDS[0]], series),
            "shuffled": {
                kind: {
                    key: [
                        shuffled(trained[key], one, seed) for seed, trained in _seeded(models[kind])
                    ]
                    for key, one in series.items()
                }
                for kind in KINDS
            },
            "random split": {
                kind: [careless(kind, series["sunspots"], seed) for seed in SEEDS]
                for kind in ("patch Transformer", "DLinear")
            },
        },
    )


def careless(kind: Kind, series: Series, seed: int) -> float:
    """What a random split promises: the MASE on its test windows."""
    at = random_split(series, seed)
    model = fit(kind, series, seed, at=at)
    _, wanted = windows(series, at["test"])
    made = forecast(model, series, at["test"])
    return float(scaled_errors(made, wanted, series.scale).mean())


def _trained(
    kind: Kind, series: dict[str, Series], *, equal_weights: bool = False
) -> tuple[System, list[nn.ModuleDict]]:
    def fit_all(seed: int) -> nn.ModuleDict:
        return nn.ModuleDict(
            {
                name: fit(kind, one, seed, equal_weights=equal_weights)
                for name, one in series.items()
            }
        )

    def evaluate_all(trained: nn.ModuleDict) -> dict[str, float]:
        with uniform_weights(trained) if equal_weights else contextlib.nullcontext():
            return evaluate(trained, series)

    attends = kind == "patch Transformer"
    role = "ablation" if equal_weights else "attention" if attends else "rival"
    return over_seeds(role, SEEDS, fit_all, evaluate_all)


def _replaced(models: list[nn.ModuleDict], series: dict[str, Series]) -> dict[str, System]:
    """The trained Transformers with their weights made equal, or fixed to their mean."""
    found = {"weights made equal after training": [], "weights fixed to their mean": []}
    for trained in models:
        with uniform_weights(trained):
            found["weights made equal after training"].append(evaluate(trained, series))
        with contextlib.ExitStack() as stack:
            for name, one in series.items():
                mean = mean_weights(trained[name], one, origins(one, "training"))
                stack.enter_context(fixed_weights(trained[name], mean))
            found["weights fixed to their mean"].append(evaluate(trained, series))
    return {
        name: System("ablation", {key: [score[key] for score in scores] for key in scores[0]})
        for name, scores in found.items()
    }


def _errors(models: list[nn.ModuleDict], series: dict[str, Series]) -> dict[str, Targets]:
    """The scaled errors of every test origin and step, the mean over the seeds."""
    found = {}
    for name, one in series.items():
        at = origins(one, "test")
        _, wanted = windows(one, at)
        per_seed = [
            scaled_errors(forecast(trained[name], one, at), wanted, one.scale) for trained in models
        ]
        found[name] = np.mean(per_seed, axis=0)  # (origins, horizon)
    return found


def _profiles(models: list[nn.ModuleDict], series: dict[str, Series]) -> dict[str, list]:
    """For each series and layer the profile of the last patch, the mean over the seeds."""
    found = {}
    for name, one in series.items():
        per_seed = [
            [profile(layer) for layer in mean_weights(trained[name], one, origins(one, "test"))]
            for trained in models
        ]
        found[name] = np.mean(per_seed, axis=0).tolist()  # (n_layers, n)
    return found


def _seeded(models: list[nn.ModuleDict]) -> list[tuple[int, nn.ModuleDict]]:
    return list(zip(SEEDS, models, strict=True))
