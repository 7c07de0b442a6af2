"""Driving: where will each car be in three seconds, and whom did the forecaster look at?

A car asks, the cars around it answer. The rivals put the same answers together without weights:
by their largest numbers, by their mean, or by taking the nearest car alone. All are trained alike
on scenes of a small simulator; the validation part chose the settings.
"""

from __future__ import annotations

import contextlib
from typing import Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from sklearn.linear_model import Ridge
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import PolynomialFeatures, StandardScaler
from torch import Tensor, nn

from attn_tutorial.applications.driving.data import (
    PARTS,
    Examples,
    influence_on,
    load_parts,
)
from attn_tutorial.applications.driving.models import Forecaster
from attn_tutorial.applications.measuring import over_seeds
from attn_tutorial.applications.results import Results, Role, System, versions
from attn_tutorial.attribution import uniform_weights
from attn_tutorial.training import evaluating, train

Kind = Literal["attention", "equal weights", "largest of all", "nearest car only", "no other car"]
KINDS = get_args(Kind)
ROLES: dict[str, Role] = {"attention": "attention", "equal weights": "ablation"}

SEEDS = (0, 1, 2, 3, 4)
STEPS, BATCH = 1000, 256
# Chosen on the validation part.
PEAK = 1e-2
DEGREE, PENALTY = 4, 30.0

CONFLICT = 1.0  # metres: so much another car has to change for it to count

Forecasts = Float[np.ndarray, "n n_said"]
Others = Bool[np.ndarray, "n n_others"]


# --- training and forecasting ----------------------------------------------------------------


def seen_by(kind: Kind, given: Examples) -> Others:
    """Which others a forecaster of some kind gets to see, shape (n, 7).

    Raises
    ------
    ValueError
        Where there is no such kind.
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {KINDS}; got {kind!r}")
    if kind == "no other car":
        return np.zeros_like(given.there)
    return nearest(given) if kind == "nearest car only" else given.there


def nearest(given: Examples) -> Others:
    """Where the nearest of the others stands, shape (n, 7): one True in each row."""
    distance = np.hypot(given.others[..., 0], given.others[..., 1])
    distance = np.where(given.there, distance, np.inf)
    return np.arange(distance.shape[1]) == distance.argmin(axis=1)[:, None]


def tensors(kind: Kind, given: Examples) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What a forecaster sees, and what it should say: own, others, there, future."""
    arrays = given.own, given.others, seen_by(kind, given), given.future
    return tuple(torch.from_numpy(array) for array in arrays)


def loss(model: nn.Module, own: Tensor, others: Tensor, there: Tensor, future: Tensor) -> Tensor:
    """The error: its square where it is below a metre, from there on in proportion."""
    return F.smooth_l1_loss(model(own, others, there)[0], future)


def as_trained(kind: Kind, model: Forecaster) -> contextlib.AbstractContextManager[None]:
    """The context in which a forecaster of some kind is trained and used."""
    return uniform_weights(model) if kind == "equal weights" else contextlib.nullcontext()


def fit(kind: Kind, given: Examples, seed: int, *, steps: int = STEPS) -> Forecaster:
    """Train a forecaster of some kind.

    Parameters
    ----------
    kind : one of KINDS
    given : Examples
        Of the training part.
    seed : int
    steps : int

    Returns
    -------
    Forecaster
        In evaluation mode.
    """
    torch.manual_seed(seed)
    model = Forecaster(attends=kind in ("attention", "equal weights"))
    with as_trained(kind, model):
        train(
            model,
            loss,
            tensors(kind, given),
            steps=steps,
            batch_size=BATCH,
            peak=PEAK,
            warm_up=100,
            seed=seed,
        )
    return model.eval()


def forecast(kind: Kind, model: Forecaster, given: Examples) -> Forecasts:
    """What a trained forecaster says, in metres beyond constant speed, (n, 6)."""
    with evaluating(model), as_trained(kind, model):
        return model(*tensors(kind, given)[:3])[0].numpy()


def fit_ridge(given: Examples, degree: int = DEGREE, penalty: float = PENALTY) -> Pipeline:
    """Ridge regression on products of a car's own numbers, up to some degree."""
    return make_pipeline(
        StandardScaler(),
        PolynomialFeatures(degree, include_bias=False),
        StandardScaler(),
        Ridge(penalty),
    ).fit(given.own.astype(float), given.future)


# --- what is measured ------------------------------------------------------------------------


def in_conflict(effect: Float[np.ndarray, "n n_others"]) -> Bool[np.ndarray, " n"]:
    """Whose place in three seconds would be another one if one other car were not there."""
    return np.abs(effect).max(axis=1) > CONFLICT


def scores(
    said: dict[str, Forecasts], parts: dict[str, Examples], conflict: Bool[np.ndarray, " n"]
) -> dict[str, float]:
    """Errors in metres: final and mean on the test part, with and without conflict, more cars.

    Parameters
    ----------
    said, parts : dicts
        Forecasts and examples of the parts "test" and "more cars".
    conflict : bool array, shape (n,)
        Of the test part.
    """
    error = {name: np.abs(said[name] - parts[name].future) for name in said}
    final = error["test"][:, -1]
    return {
        "final error": float(final.mean()),
        "mean error": float(error["test"].mean()),
        "with conflict": float(final[conflict].mean()),
        "without": float(final[~conflict].mean()),
        "more cars": float(error["more cars"][:, -1].mean()),
    }


def weights_of(model: Forecaster, given: Examples) -> Float[np.ndarray, "n n_answers"]:
    """How much each car attends to itself and to each other one, the mean over the heads."""
    with evaluating(model):
        weights = model(*tensors("attention", given)[:3], need_weights=True)[1]
    return weights.mean(dim=1).numpy()


def believed(kind: Kind, model: Forecaster, given: Examples) -> Float[np.ndarray, "n n_others"]:
    """How much farther each car would get without each other one, as the model has it (m)."""
    said = forecast(kind, model, given)[:, -1]
    found = np.zeros(given.there.shape, dtype=np.float32)
    for taken in range(found.shape[1]):
        there = given.there.copy()
        there[:, taken] = False
        without = forecast(kind, model, given._replace(there=there))[:, -1]
        found[:, taken] = without - said
    return found * given.there


def look(
    weights: Float[np.ndarray, "n n_answers"],
    effect: Float[np.ndarray, "n n_others"],
    given: Examples,
) -> dict[str, float]:
    """Where cars in conflict look: at the car that matters most, at the nearest, at anybody?

    Parameters
    ----------
    weights : float array, shape (n, 1 + n_others)
    effect : float array, shape (n, n_others)
        What the simulator says of taking each other car out.
    given : Examples

    Returns
    -------
    dict of float
        The weight on the car that matters most, on the nearest, on itself, and what equal weights
        would give; how often the most attended, the nearest, and a random other car matters most.
    """
    conflict = in_conflict(effect)
    weights, effect, there = weights[conflict], effect[conflict], given.there[conflict]
    rows = np.arange(len(weights))
    matters = np.abs(effect).argmax(axis=1)
    near = nearest(given)[conflict].argmax(axis=1)
    top = np.where(there, weights[:, 1:], -1).argmax(axis=1)
    return {
        "weight on who matters": float(weights[rows, 1 + matters].mean()),
        "weight on the nearest": float(weights[rows, 1 + near].mean()),
        "weight on itself": float(weights[:, 0].mean()),
        "equal weight": float((1 / (1 + there.sum(axis=1))).mean()),
        "most attended matters": float((top == matters).mean()),
        "nearest matters": float((near == matters).mean()),
        "random one matters": float((1 / there.sum(axis=1)).mean()),
    }


def difference(
    one: Forecasts, other: Forecasts, given: Examples
) -> dict[Literal["mean", "standard error"], float]:
    """How much larger the final error of one forecast is than another's on the same cars.

    The cars of a scene depend on one another; so the standard error is one over scenes.
    """
    final = np.abs(one - given.future)[:, -1] - np.abs(other - given.future)[:, -1]  # (n,)
    mean = float(final.mean())
    by_scene = np.bincount(given.scene, final - mean)  # (n_scenes,), sums
    return {"mean": mean, "standard error": float(np.sqrt((by_scene**2).sum()) / len(final))}


def agreement(
    found: Float[np.ndarray, "n n_others"], effect: Float[np.ndarray, "n n_others"], there: Others
) -> float:
    """The correlation of two numbers over all pairs of a car and another one."""
    return float(np.corrcoef(found[there], effect[there])[0, 1])


# --- the whole measurement -------------------------------------------------------------------


def measure() -> Results:
    """Train every forecaster with every seed; score all on the test parts."""
    parts = load_parts()
    training = parts["training"][1]
    tests = {name: parts[name][1] for name in ("test", "more cars")}
    effect = influence_on(tests["test"], parts["test"][0])
    conflict = in_conflict(effect)

    def score(kind: Kind, model: Forecaster) -> dict[str, float]:
        said = {name: forecast(kind, model, given) for name, given in tests.items()}
        return scores(said, tests, conflict)

    systems, models = {}, {}
    for kind in KINDS:
        systems[kind], models[kind] = over_seeds(
            ROLES.get(kind, "rival"),
            SEEDS,
            lambda seed, kind=kind: fit(kind, training, seed),
            lambda model, kind=kind: score(kind, model),
        )
    after = [score("equal weights", model) for model in models["attention"]]
    systems["equal weights after training"] = System(
        "ablation", {metric: [one[metric] for one in after] for metric in after[0]}
    )
    ridge = fit_ridge(training)
    simple = {
        "ridge on its own numbers": {
            name: ridge.predict(one.own.astype(float)) for name, one in tests.items()
        },
        "constant speed": {name: np.zeros_like(one.future) for name, one in tests.items()},
    }
    for name, said in simple.items():
        found = scores(said, tests, conflict)
        systems[name] = System("baseline", {metric: [value] for metric, value in found.items()})

    given, attending = tests["test"], models["attention"]
    weights = [weights_of(model, given) for model in attending]
    looks = [look(one, effect, given) for one in weights]
    return Results(
        task="Forecast where each car at a crossing is in three seconds",
        data="A simulated crossing with priority, cars of the intelligent driver model",
        origin="generated",
        split="Scenes drawn from seeds of their own; a test part with more cars than in training",
        metric="final error",
        higher_is_better=False,
        n_training=len(training.own),
        n_test=len(given.own),
        seeds=list(SEEDS),
        systems=systems,
        libraries=versions("numpy", "scikit-learn", "torch"),
        more={
            "scenes": {name: part[0] for name, part in PARTS.items()},
            "examples": {name: len(part[1].own) for name, part in parts.items()},
            "in conflict": int(conflict.sum()),
            "difference": {
                kind: [
                    difference(
                        forecast(kind, model, given), forecast("attention", one, given), given
                    )
                    for model, one in zip(models[kind], attending, strict=True)
                ]
                for kind in KINDS[1:]
            },
            "look": {key: [one[key] for one in looks] for key in looks[0]},
            "agreement": {
                **{
                    kind: [
                        agreement(believed(kind, model, given), effect, given.there)
                        for model in models[kind]
                    ]
                    for kind in ("attention", "equal weights", "largest of all")
                },
                "weights": [agreement(one[:, 1:], np.abs(effect), given.there) for one in weights],
            },
        },
    )
