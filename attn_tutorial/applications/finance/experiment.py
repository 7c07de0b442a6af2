"""Next month's return, and how large it is: attention against forecasts that need no training.

Every system says two things about each price and month: the return to expect, and how far from zero
it will be, up or down (the volatility). It sees the 24 returns before, divided by their own
standard deviation.
"""

from __future__ import annotations

import contextlib
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from attn_tutorial.applications.finance.baselines import Guess, Vector, simple_guesses
from attn_tutorial.applications.finance.data import (
    WINDOW,
    Examples,
    Prices,
    crossing_rules,
    diebold_mariano,
    examples,
    load_prices,
    naive_p,
    random_walks,
    reality_check,
)
from attn_tutorial.applications.measuring import over_seeds
from attn_tutorial.applications.results import Results, System, versions
from attn_tutorial.attribution import recording, uniform_weights
from attn_tutorial.models import EncoderLayer
from attn_tutorial.training import evaluating, train

Kind = Literal["Transformer", "GRU"]

SEEDS = (0, 1, 2, 3, 4)
STEPS = 400


# --- models ----------------------------------------------------------------------------------


class Transformer(nn.Module):
    """An encoder in which each token is a month, given as its return and the size of it.

    Every month attends to every month; the mean of their vectors says both things. Two sizes, two
    rates of dropout and two learning rates, and the last month's vector in place of the mean, were
    compared on the validation part.
    """

    def __init__(self, *, d_model: int = 32, n_heads: int = 4, dropout: float = 0.1) -> None:
        super().__init__()
        self.embedding = nn.Linear(2, d_model)
        self.positions = nn.Parameter(0.1 * torch.randn(WINDOW, d_model))
        self.layer = EncoderLayer(d_model, n_heads, 2 * d_model, dropout=dropout)
        self.norm = nn.LayerNorm(d_model)
        self.head = nn.Linear(d_model, 2)

    def forward(self, window: Float[Tensor, "batch window"]) -> Float[Tensor, "batch 2"]:
        """The return to expect and its size, both in units of the window's scale."""
        tokens = torch.stack([window, window.abs()], dim=-1)  # (batch, window, 2)
        x, _ = self.layer(self.embedding(tokens) + self.positions)  # (batch, window, d_model)
        return self.head(self.norm(x.mean(dim=1)))  # (batch, 2)


class GRU(nn.Module):
    """A recurrent network that reads the same tokens; its last state says both things."""

    def __init__(self, *, d_model: int = 32) -> None:
        super().__init__()
        self.gru = nn.GRU(2, d_model, batch_first=True)
        self.dropout = nn.Dropout(0.3)
        self.head = nn.Linear(d_model, 2)

    def forward(self, window: Float[Tensor, "batch window"]) -> Float[Tensor, "batch 2"]:
        """The return to expect and its size, both in units of the window's scale."""
        states, _ = self.gru(torch.stack([window, window.abs()], dim=-1))
        return self.head(self.dropout(states[:, -1]))  # (batch, 2)


def build(kind: Kind, seed: int) -> nn.Module:
    """An untrained model."""
    if kind not in ("Transformer", "GRU"):
        raise ValueError(f"kind must be 'Transformer' or 'GRU'; got {kind!r}")
    torch.manual_seed(seed)
    return Transformer() if kind == "Transformer" else GRU()


def tensors(part: Examples) -> tuple[Float[Tensor, "n window"], Float[Tensor, "n 2"]]:
    """The windows, and the return and its size in units of the window's scale; float32."""
    wanted = part.wanted / part.scale  # (n,)
    both = np.column_stack([wanted, np.abs(wanted)])  # (n, 2)
    return torch.from_numpy(part.windows).float(), torch.from_numpy(both).float()


def squared_loss(model: nn.Module, window: Tensor, wanted: Tensor) -> Float[Tensor, ""]:
    """The mean squared error of both numbers."""
    return ((model(window) - wanted) ** 2).mean()


def fit(
    kind: Kind, parts: dict[str, Examples], seed: int, *, equal_weights: bool = False
) -> nn.Module:
    """Train a model on the training part; the validation part says when to stop.

    Parameters
    ----------
    kind : "Transformer" or "GRU"
    parts : dict of Examples
    seed : int
    equal_weights : bool
        Whether to train with equal weights in place of attention.

    Returns
    -------
    module
        In evaluation mode.
    """
    model = build(kind, seed)
    held_out = tensors(parts["validation"])
    with uniform_weights(model) if equal_weights else contextlib.nullcontext():
        train(
            model,
            squared_loss,
            tensors(parts["training"]),
            steps=STEPS,
            batch_size=64,
            peak=1e-3,
            warm_up=40,
            validate=lambda model: squared_loss(model, *held_out).item(),
            validate_every=20,
            patience=6,
            seed=seed,
        )
    return model.eval()


def guess(model: nn.Module, part: Examples) -> Guess:
    """What a model says about examples, in the returns' own units."""
    with evaluating(model):
        said = model(tensors(part)[0]).double().numpy() * part.scale[:, None]  # (n, 2)
    return Guess(said[:, 0], np.maximum(said[:, 1], 0))


def weights_by_month(model: Transformer, part: Examples) -> Float[np.ndarray, "n_heads window"]:
    """How much each month of a window is attended to, the mean over who asks and examples."""
    with evaluating(model), recording(model) as record:
        model(tensors(part)[0])
    return record.weights[0].mean(dim=(0, 2)).numpy()  # (n_heads, window)


# --- scores ----------------------------------------------------------------------------------


def price_errors(said: Guess, part: Examples) -> Vector:
    """The absolute error of each forecast price, as a share of the price of the month before."""
    return np.abs(np.exp(said.returns) - np.exp(part.wanted))


def scores(said: Guess, part: Examples, walk: Guess) -> dict[str, float]:
    """How good a system is.

    Parameters
    ----------
    said, walk : Guess
        What the system says, and what the random walk says.
    part : Examples

    Returns
    -------
    dict of float
        "price error": the mean absolute error of the price, divided by that of the random walk.
        "sign": how often the return has the sign that was said; not for a system that never says
        one. "volatility R²": the share of the squared error of the random walk's sizes that the
        system explains.
    """
    found = {
        "price error": float(price_errors(said, part).mean() / price_errors(walk, part).mean())
    }
    if said.returns.any():
        found["sign"] = float((np.sign(said.returns) == np.sign(part.wanted)).mean())
    left = [((np.abs(part.wanted) - one.size) ** 2).sum() for one in (said, walk)]
    return found | {"volatility R²": float(1 - left[0] / left[1])}


def by_month(losses: Vector, part: Examples) -> Vector:
    """The mean loss of each month over the names, which move together; in time order."""
    return np.array([losses[part.month == month].mean() for month in np.unique(part.month)])


def snooping(n_walks: int, *, n_months: int = 114, seed: int = 0) -> dict[str, float]:
    """How often rules look good at the 5 % level on prices of which nothing can be forecast.

    Returns
    -------
    dict of float
        The share of random walks where a rule chosen before looks good, where the best of all does,
        and where it still does by the reality check.
    """
    one, best, checked = [], [], []
    for number, walk in enumerate(random_walks(n_walks, n_months + 24, seed)):
        _, returns = crossing_rules(walk)
        found = [naive_p(rule) for rule in returns]
        one.append(found[0])
        best.append(min(found))
        checked.append(reality_check(returns, seed=number))
    named = {"one rule": one, "best of all": best, "reality check": checked}
    return {name: float((np.array(p) < 0.05).mean()) for name, p in named.items()}


def best_rule(prices: Prices, name: str, *, n_months: int = 114) -> dict:
    """The best of all rules on a real price's last months, against none, and against holding it.

    Returns
    -------
    dict
        The "rule", what it and "holding" earned a month on average, and p-values that the rule
        earned more than nothing ("naive"), and than holding, by the reality check ("checked").
    """
    logs = prices.logs[-n_months - 24 :, prices.names.index(name)]
    rules, returns = crossing_rules(logs)
    held = np.diff(logs)[-n_months:]
    best = int(returns.mean(axis=1).argmax())
    return {
        "rule": list(rules[best]),
        "earned": float(returns[best].mean()),
        "holding": float(held.mean()),
        "naive": naive_p(returns[best]),
        "checked": reality_check(returns - held, seed=0),
    }


def measure() -> Results:
    """Train every system with every seed, score all on the test part, and repeat the snooping."""
    prices = load_prices()
    parts = {part: examples(prices, part) for part in ("training", "validation", "test")}
    test = parts["test"]
    simple = simple_guesses(parts)
    walk = simple["random walk"](test)
    systems, said = {}, {}
    models = {}
    for kind, role in (("Transformer", "attention"), ("GRU", "rival")):
        systems[kind], models[kind] = over_seeds(
            role,
            SEEDS,
            lambda seed, kind=kind: fit(kind, parts, seed),
            lambda model: scores(guess(model, test), test, walk),
        )
        said[kind] = [guess(model, test) for model in models[kind]]

    def scored_equally(model: nn.Module) -> dict[str, float]:
        with uniform_weights(model):
            return scores(guess(model, test), test, walk)

    systems["equal weights, trained so"], _ = over_seeds(
        "ablation",
        SEEDS,
        lambda seed: fit("Transformer", parts, seed, equal_weights=True),
        scored_equally,
    )
    after = [scored_equally(model) for model in models["Transformer"]]
    systems["weights made equal after training"] = System(
        "ablation", {name: [one[name] for one in after] for name in after[0]}
    )
    for name, make in simple.items():
        said[name] = [make(test)]
        found = scores(said[name][0], test, walk)
        role = "rival" if name == "boosted trees" else "baseline"
        systems[name] = System(role, {key: [value] for key, value in found.items()})
    return Results(
        task="Forecast next month's return and its size",
        data="Monthly prices of six companies and two indices, 1990 to 2022, from matplotlib",
        origin="real",
        split="In time order; the month that is forecast lies in the part",
        metric="price error",
        higher_is_better=False,
        n_training=len(parts["training"].wanted),
        n_test=len(test.wanted),
        seeds=list(SEEDS),
        systems=systems,
        libraries=versions("matplotlib", "scikit-learn", "torch"),
        more={
            "tests": {name: _tests(guesses, said, test) for name, guesses in said.items()},
            "weights": np.mean(
                [weights_by_month(model, test) for model in models["Transformer"]], axis=(0, 1)
            ).tolist(),
            "snooping": snooping(400),
            "best rule": best_rule(prices, "GSPC"),
        },
    )


def _tests(guesses: list[Guess], said: dict[str, list[Guess]], test: Examples) -> dict[str, list]:
    """Diebold and Mariano's statistic and p, against three rivals, of the mean over the seeds."""
    mean = Guess(
        *(np.mean([getattr(one, key) for one in guesses], axis=0) for key in Guess._fields)
    )

    def price(one: Guess) -> Vector:
        return by_month(price_errors(one, test), test)

    def size(one: Guess) -> Vector:
        return by_month((np.abs(test.wanted) - one.size) ** 2, test)

    against = {
        "price, random walk": (price, "random walk"),
        "price, mean return": (price, "mean return"),
        "size, random walk": (size, "random walk"),
        "size, EWMA": (size, "EWMA"),
    }
    found = {}
    for name, (loss, rival) in against.items():
        pair = loss(mean), loss(said[rival][0])
        if not np.allclose(*pair):
            found[name] = list(diebold_mariano(*pair))
    return found
