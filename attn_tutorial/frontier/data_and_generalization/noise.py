"""Columns that mean nothing: attention over columns, and logistic regression with a penalty."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from sklearn.datasets import load_breast_cancer
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn
from torch.nn import functional as F

from attn_tutorial.applications.medicine.models import FeatureTransformer
from attn_tutorial.training import evaluating, train

N_NOISE = (0, 100, 300, 1000)
N_TRAINING, N_VALIDATION = 100, 100
STRENGTHS = (0.001, 0.01, 0.1, 1.0, 10.0, 100.0)
DECAYS = (0.01, 1.0)
D_MODEL, N_HEADS = 16, 4
STEPS, BATCH, PEAK, WARM_UP = 150, 32, 5e-3, 15
SEEDS = (0, 1, 2)
LINEAR = ("logistic regression, squares", "logistic regression, sizes")


class Table(NamedTuple):
    """Rows of numbers with a label each, 0 or 1."""

    columns: Float[np.ndarray, "n n_columns"]
    labels: Int[np.ndarray, " n"]


class ColumnReader(FeatureTransformer):
    """A Transformer over columns of one layer, of which only the class token is computed.

    In a model of one layer nothing else is read. So the cost grows with the number of columns and
    not with its square, and the result is that of `FeatureTransformer`.
    """

    def __init__(self, n_columns: int) -> None:
        super().__init__(n_columns, d_model=D_MODEL, n_heads=N_HEADS, n_layers=1)

    def forward(self, columns: Float[Tensor, "batch n_columns"]) -> Float[Tensor, " batch"]:
        """Logits (batch,) of columns (batch, n_columns), scaled; none may be missing."""
        layer = self.layers[0]
        reader = self.reader.expand(len(columns), 1, -1)  # (batch, 1, d_model)
        entered = layer.around_attention.enter(torch.cat([reader, self.tokens(columns)], dim=1))
        got, _ = layer.attention(entered[:, :1], entered)
        x = layer.around_attention.leave(reader, got)
        got = layer.feed_forward(layer.around_feed_forward.enter(x))
        x = layer.around_feed_forward.leave(x, got)  # (batch, 1, d_model)
        return self.head(F.relu(self.norm(x[:, 0])))[:, 0]


def tables(n_noise: int, seed: int) -> dict[str, Table]:
    """The patients in three parts, with columns of noise behind the thirty that were measured.

    Parameters
    ----------
    n_noise, seed : int
        The seed draws the parts and the noise. More columns of noise include fewer.

    Returns
    -------
    dict of Table
        "training" and "validation" with 100 rows each, "test" with 369. Each column has mean 0 and
        standard deviation 1 in the training part.
    """
    data = load_breast_cancer()
    order = np.random.default_rng(seed).permutation(len(data.target))
    noise = np.random.default_rng((seed, 1)).normal(size=(max(n_noise, 1), len(order)))[:n_noise]
    columns = np.concatenate([data.data, noise.T], axis=1)[order]  # (569, 30 + n_noise)
    labels = data.target[order]
    own = columns[:N_TRAINING]
    columns = (columns - own.mean(axis=0)) / own.std(axis=0)
    edges = {
        "training": (0, N_TRAINING),
        "validation": (N_TRAINING, N_TRAINING + N_VALIDATION),
        "test": (N_TRAINING + N_VALIDATION, len(order)),
    }
    return {
        name: Table(columns[begin:end], labels[begin:end]) for name, (begin, end) in edges.items()
    }


def fit_linear(name: str, parts: dict[str, Table]) -> LogisticRegression:
    """Logistic regression, its strength chosen by the validation loss.

    Parameters
    ----------
    name : string
        One of `LINEAR`: the penalty is on the squares of the coefficients, or on their sizes.
    parts : dict of Table

    Raises
    ------
    ValueError
        Where there is no such penalty.
    """
    if name not in LINEAR:
        raise ValueError(f"name must be one of {', '.join(LINEAR)}; got {name!r}")
    ratio = LINEAR.index(name)
    fitted = []
    for strength in STRENGTHS:
        model = LogisticRegression(C=strength, l1_ratio=ratio, solver="liblinear", random_state=0)
        fitted.append(model.fit(*parts["training"]))
    held_out = parts["validation"]
    signs = 2 * held_out.labels - 1  # (n,)

    def loss(model: LogisticRegression) -> float:
        return float(np.logaddexp(0, -signs * model.decision_function(held_out.columns)).mean())

    return min(fitted, key=loss)


def column_loss(model: nn.Module, columns: Tensor, labels: Tensor) -> Float[Tensor, ""]:
    """The mean cross-entropy, in nats."""
    return F.binary_cross_entropy_with_logits(model(columns), labels)


def as_tensors(table: Table) -> tuple[Tensor, Tensor]:
    """Columns (n, n_columns) and labels (n,), float32."""
    return torch.from_numpy(table.columns).float(), torch.from_numpy(table.labels).float()


def fit_attention(parts: dict[str, Table], seed: int, *, steps: int = STEPS) -> nn.Module:
    """Attention over columns; validation chooses weight decay and the number of steps."""
    training, held_out = as_tensors(parts["training"]), as_tensors(parts["validation"])
    fitted = []
    for decay in DECAYS:
        torch.manual_seed(seed)
        model = ColumnReader(training[0].shape[1])
        history = train(
            model,
            column_loss,
            training,
            steps=steps,
            batch_size=BATCH,
            peak=PEAK,
            warm_up=WARM_UP,
            weight_decay=decay,
            validate=lambda model: column_loss(model, *held_out).item(),
            validate_every=10,
            seed=seed,
        )
        fitted.append((min(loss for _, loss in history.validations), model))
    return min(fitted, key=lambda pair: pair[0])[1]


def weight_on_noise(model: ColumnReader, table: Table) -> float:
    """The share of the class token's weight on columns that lies on columns of noise."""
    columns, _ = as_tensors(table)
    layer = model.layers[0]
    with evaluating(model):
        reader = model.reader.expand(len(columns), 1, -1)
        entered = layer.around_attention.enter(torch.cat([reader, model.tokens(columns)], dim=1))
        _, weights = layer.attention(entered[:, :1], entered, need_weights=True)
    on_columns = weights.mean(dim=(0, 1, 2))[1:]  # (n_columns,)
    return (on_columns[30:].sum() / on_columns.sum()).item()


def accuracy(model: nn.Module | LogisticRegression, table: Table) -> float:
    """The share of rows whose label a model says rightly."""
    if isinstance(model, nn.Module):
        with evaluating(model):
            guesses = (model(as_tensors(table)[0]) > 0).numpy()
    else:
        guesses = model.predict(table.columns)
    return float((guesses == table.labels).mean())


def over_noise() -> dict[str, dict[str, list[float]]]:
    """Accuracies by the number of noise columns and system, and the weight that lies on noise."""
    found: dict[str, dict[str, list[float]]] = {}
    for n_noise in N_NOISE:
        here: dict[str, list[float]] = {
            name: [] for name in ("attention", *LINEAR, "weight on noise", "attention, training")
        }
        for seed in SEEDS:
            parts = tables(n_noise, seed)
            model = fit_attention(parts, seed)
            here["attention"].append(accuracy(model, parts["test"]))
            here["attention, training"].append(accuracy(model, parts["training"]))
            here["weight on noise"].append(weight_on_noise(model, parts["test"]))
            for name in LINEAR:
                here[name].append(accuracy(fit_linear(name, parts), parts["test"]))
        found[str(n_noise)] = here
        print(n_noise, {name: np.mean(here[name]).round(3) for name in here}, flush=True)
    return found
