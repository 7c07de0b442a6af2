"""A diagnosis from thirty numbers: a Transformer over features, and an MLP.

Every system, once fitted, is a function from features (n, n_features), in their own units and with
NaN where one is missing, to logits (n,): above zero, malignant is the likelier of the two.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from attn_tutorial.applications.medicine.data import (
    Features,
    Fold,
    Labels,
    Logits,
    Patients,
    with_gaps,
)
from attn_tutorial.attribution import recording, uniform_weights
from attn_tutorial.models import EncoderLayer
from attn_tutorial.training import evaluating, train

Network = Literal["FT-Transformer", "MLP"]

# Chosen on validation parts.
D_MODEL, N_HEADS, N_LAYERS = 32, 4, 1
PEAKS = {"FT-Transformer": 1e-2, "MLP": 5e-3}
STEPS = 300
DROPOUT = 0.1
COPIES = 10  # of the patients with gaps, for what cannot draw new gaps in every step


class FeatureTransformer(nn.Module):
    """Features as tokens, a class token that reads them, and a diagnosis from what it has read.

    Parameters
    ----------
    n_features : int
    d_model, n_heads, n_layers : int

    References
    ----------
    Gorishniy, Rubachev, Khrulkov and Babenko (2021), "Revisiting Deep Learning Models for Tabular
    Data", NeurIPS: the feature tokenizer and the class token. The mask for missing features is
    added here.
    """

    def __init__(
        self,
        n_features: int,
        *,
        d_model: int = D_MODEL,
        n_heads: int = N_HEADS,
        n_layers: int = N_LAYERS,
    ) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(n_features, d_model) * d_model**-0.5)
        self.bias = nn.Parameter(torch.randn(n_features, d_model) * d_model**-0.5)
        self.reader = nn.Parameter(torch.randn(d_model) * d_model**-0.5)
        self.layers = nn.ModuleList(
            EncoderLayer(d_model, n_heads, 2 * d_model, dropout=DROPOUT) for _ in range(n_layers)
        )
        self.norm = nn.LayerNorm(d_model)
        self.head = nn.Linear(d_model, 1)

    def forward(self, features: Float[Tensor, "batch n_features"]) -> Float[Tensor, " batch"]:
        """Logits (batch,) of features (batch, n_features), scaled, NaN where one is missing."""
        x = torch.cat(
            [self.reader.expand(len(features), 1, -1), self.tokens(features)], dim=1
        )  # (batch, 1 + n_features, d_model)
        mask = present(features)[:, None, None, :]  # (batch, 1, 1, 1 + n_features)
        for layer in self.layers:
            x, _ = layer(x, mask=mask)
        return self.head(F.relu(self.norm(x[:, 0])))[:, 0]  # (batch,)

    def tokens(
        self, features: Float[Tensor, "batch n_features"]
    ) -> Float[Tensor, "batch n_features d_model"]:
        """A vector for each feature: its value times one vector, plus another."""
        return features.nan_to_num(0.0)[:, :, None] * self.weight + self.bias


def present(features: Float[Tensor, "batch n_features"]) -> Bool[Tensor, "batch n_tokens"]:
    """Which tokens may be attended to: the class token, and each feature that is not missing."""
    return F.pad(~features.isnan(), (1, 0), value=True)


class Perceptron(nn.Sequential):
    """Two hidden layers over the values, zero where missing, and over which ones are there."""

    def __init__(self, n_features: int, width: int = 32) -> None:
        super().__init__(
            nn.Linear(2 * n_features, width),
            nn.ReLU(),
            nn.Dropout(DROPOUT),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Dropout(DROPOUT),
            nn.Linear(width, 1),
        )

    def forward(self, features: Float[Tensor, "batch n_features"]) -> Float[Tensor, " batch"]:
        """Logits (batch,) of features (batch, n_features), scaled, NaN where one is missing."""
        there = (~features.isnan()).to(features.dtype)
        return super().forward(torch.cat([features.nan_to_num(0.0), there], dim=1))[:, 0]


class Scaled:
    """A fitted system for features in their own units.

    Attributes
    ----------
    mean, deviation : float arrays, shape (n_features,)
        Of the patients that the system was fitted to.
    inner : function or module
        From scaled features to logits.
    equal_weights : bool
        Whether attention is replaced by equal weights.
    """

    def __init__(self, fitting: Features) -> None:
        self.mean, self.deviation = fitting.mean(axis=0), fitting.std(axis=0)
        self.inner: Callable | None = None
        self.equal_weights = False

    def scale(self, features: Features) -> Features:
        """Features (n, n_features) with mean 0 and standard deviation 1 in the fitting part."""
        return (features - self.mean) / self.deviation

    def __call__(self, features: Features) -> Logits:
        """Logits (n,) of features (n, n_features)."""
        scaled = self.scale(features)
        if isinstance(self.inner, nn.Module):
            with evaluating(self.inner), _weights(self.inner, equal=self.equal_weights):
                return self.inner(torch.from_numpy(scaled).float()).double().numpy()
        return self.inner(scaled)


def prepared(
    patients: Patients, fold: Fold, gaps: bool, copies: int
) -> tuple[Scaled, tuple[Features, Labels], tuple[Features, Labels]]:
    """What a system is fitted to, and what chooses or stops it, both scaled by the former.

    Parameters
    ----------
    patients : Patients
    fold : Fold
    gaps : bool
        Whether features are hidden.
    copies : int
        How many copies the fitting part gets then; one stays complete.

    Returns
    -------
    fitted : Scaled
        Without its inner part.
    fitting, validation : (features, labels)
    """
    fitted = Scaled(patients.features[fold.fitting])
    parts = []
    for number, (part, n) in enumerate(((fold.fitting, copies), (fold.validation, COPIES))):
        features, labels = fitted.scale(patients.features[part]), patients.malignant[part]
        if gaps and n > 1:
            features, labels = with_gaps(features, n, 1000 * number), np.tile(labels, n)
        parts.append((features, labels))
    return fitted, *parts


def build(kind: Network, n_features: int, seed: int) -> nn.Module:
    """A network with fresh parameters.

    Raises
    ------
    ValueError
        Where there is no such kind.
    """
    if kind not in get_args(Network):
        raise ValueError(f"kind must be one of {get_args(Network)}; got {kind!r}")
    torch.manual_seed(seed)
    return FeatureTransformer(n_features) if kind == "FT-Transformer" else Perceptron(n_features)


def fit_network(
    kind: Network,
    patients: Patients,
    fold: Fold,
    seed: int,
    *,
    gaps: bool = False,
    equal_weights: bool = False,
) -> Scaled:
    """Train a network on the fitting part; the validation part says when to stop.

    Parameters
    ----------
    kind, seed
        As in `build`.
    patients : Patients
    fold : Fold
    gaps : bool
        Whether to hide features in training: in each step, from each patient, a share of them
        that is drawn from 0 to 0.9.
    equal_weights : bool
        Whether to train with equal weights in place of attention, and to predict with them.

    Returns
    -------
    Scaled
    """
    fitted, (known, labels), (held_out, wanted) = prepared(patients, fold, gaps, 1)
    model = build(kind, known.shape[1], seed)
    known, held_out = torch.from_numpy(known).float(), torch.from_numpy(held_out).float()
    labels, wanted = torch.from_numpy(labels).float(), torch.from_numpy(wanted).float()

    def loss(model: nn.Module, features: Tensor, labels: Tensor) -> Tensor:
        if gaps and model.training:
            share = 0.9 * torch.rand(len(features), 1)
            features = features.masked_fill(torch.rand_like(features) < share, torch.nan)
        return F.binary_cross_entropy_with_logits(model(features), labels)

    with _weights(model, equal=equal_weights):
        train(
            model,
            loss,
            (known, labels),
            steps=STEPS,
            batch_size=64,
            peak=PEAKS[kind],
            warm_up=30,
            validate=lambda model: loss(model, held_out, wanted).item(),
            validate_every=15,
            patience=6,
            seed=seed,
        )
    fitted.inner, fitted.equal_weights = model.eval(), equal_weights
    return fitted


def made_equal(fitted: Scaled) -> Scaled:
    """A trained system with its attention replaced by equal weights."""
    other = copy.copy(fitted)
    other.equal_weights = True
    return other


def attention_to_features(model: FeatureTransformer, features: Features) -> np.ndarray:
    """How much the class token attends to each feature in the last layer, the mean over heads.

    Parameters
    ----------
    model : FeatureTransformer
    features : float array, shape (n, n_features)
        Scaled.

    Returns
    -------
    float array, shape (n, n_features)
        Rows sum to one less the weight that the class token gives itself.
    """
    with evaluating(model), recording(model) as record:
        model(torch.from_numpy(features).float())
    return record.weights[-1][:, :, 0, 1:].mean(dim=1).numpy()


def _weights(model: nn.Module, *, equal: bool) -> contextlib.AbstractContextManager:
    return uniform_weights(model) if equal else contextlib.nullcontext()
