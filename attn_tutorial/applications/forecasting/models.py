"""Forecasters of a time series: a Transformer over patches, a GRU, and two linear maps."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from attn_tutorial.applications.forecasting.data import Series
from attn_tutorial.models import EncoderLayer

Batch = Float[Tensor, "batch window"]
Forecast = Float[Tensor, "batch horizon"]
Kind = Literal["patch Transformer", "GRU", "DLinear", "NLinear"]

KINDS = ("patch Transformer", "GRU", "DLinear", "NLinear")
PATCH = 4

# Chosen on the validation part, for each model and series: the level that is taken away from what
# a model sees and given back to its forecast.
LEVELS = {
    "patch Transformer": {"sunspots": "mean", "CO2": "last", "sea temperature": "last"},
    "GRU": {"sunspots": "mean", "CO2": "mean", "sea temperature": "mean"},
    "DLinear": {"sunspots": "last", "CO2": "last", "sea temperature": "last"},
    "NLinear": {"sunspots": "last", "CO2": "last", "sea temperature": "last"},
}


class Levelled(nn.Module):
    """A forecaster that does not see how high the series stands.

    Parameters
    ----------
    body : module, from (batch, window) to (batch, horizon)
    level : "last" or "mean"
        Take the last value away and give it back to the forecast (as NLinear does), or take the
        mean away and divide by the standard deviation of the window, and undo both (instance
        normalization, as PatchTST does).

    References
    ----------
    Zeng et al. (2023), "Are Transformers Effective for Time Series Forecasting?", AAAI.
    Nie et al. (2023), "A Time Series is Worth 64 Words: Long-term Forecasting with Transformers",
    ICLR.
    """

    def __init__(self, body: nn.Module, level: Literal["last", "mean"]) -> None:
        super().__init__()
        if level not in ("last", "mean"):
            raise ValueError(f"level must be 'last' or 'mean'; got {level!r}")
        self.body, self.level = body, level

    def forward(self, seen: Batch) -> Forecast:
        """What comes after each window."""
        if self.level == "last":
            level = seen[:, -1:]  # (batch, 1)
            return self.body(seen - level) + level
        level = seen.mean(dim=1, keepdim=True)  # (batch, 1)
        spread = seen.std(dim=1, keepdim=True) + 1e-3
        return self.body((seen - level) / spread) * spread + level


class PatchTransformer(nn.Module):
    """An encoder over patches: each token is a few neighbouring values.

    Every patch attends to every patch of the window. There is no causal mask, because all that is
    seen lies before all that is forecast. One linear layer reads the forecast off all patches.

    Parameters
    ----------
    window, horizon : int
    patch : int
        How many values make a token; it divides the window.
    d_model, n_heads, n_layers : int
    dropout : float

    References
    ----------
    Nie et al. (2023), "A Time Series is Worth 64 Words: Long-term Forecasting with Transformers",
    ICLR. Theirs has patches that overlap, batch normalization and one model for many series.
    """

    def __init__(
        self,
        window: int,
        horizon: int,
        *,
        patch: int = PATCH,
        d_model: int = 32,
        n_heads: int = 4,
        n_layers: int = 2,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        if window % patch:
            raise ValueError(f"patch must divide the window of {window} values; got {patch}")
        self.patch = patch
        self.embedding = nn.Linear(patch, d_model)
        self.positions = nn.Parameter(0.02 * torch.randn(window // patch, d_model))
        self.layers = nn.ModuleList(
            EncoderLayer(d_model, n_heads, 2 * d_model, dropout=dropout) for _ in range(n_layers)
        )
        self.norm = nn.LayerNorm(d_model)
        self.dropout = nn.Dropout(dropout)
        self.head = nn.Linear(window // patch * d_model, horizon)

    def forward(self, seen: Batch) -> Forecast:
        """What comes after each window."""
        patches = seen.unflatten(1, (-1, self.patch))  # (batch, n, patch)
        x = self.embedding(patches) + self.positions  # (batch, n, d_model)
        for layer in self.layers:
            x, _ = layer(x)
        return self.head(self.dropout(self.norm(x)).flatten(1))  # (batch, horizon)


class GRU(nn.Module):
    """A recurrent network that reads value by value; its last state is the forecast's source."""

    def __init__(self, window: int, horizon: int, *, d_model: int = 32) -> None:
        super().__init__()
        self.gru = nn.GRU(1, d_model, batch_first=True)
        self.dropout = nn.Dropout(0.2)
        self.head = nn.Linear(d_model, horizon)

    def forward(self, seen: Batch) -> Forecast:
        """What comes after each window."""
        states, _ = self.gru(seen[..., None])  # (batch, window, d_model)
        return self.head(self.dropout(states[:, -1]))  # (batch, horizon)


class DLinear(nn.Module):
    """Two linear maps: of the moving average of the window, and of what is left.

    References
    ----------
    Zeng et al. (2023), "Are Transformers Effective for Time Series Forecasting?", AAAI.
    """

    def __init__(self, window: int, horizon: int, *, width: int) -> None:
        super().__init__()
        self.width = width
        self.trend = nn.Linear(window, horizon)
        self.rest = nn.Linear(window, horizon)

    def forward(self, seen: Batch) -> Forecast:
        """What comes after each window."""
        before, after = self.width // 2, self.width - 1 - self.width // 2
        padded = F.pad(seen[:, None], (before, after), mode="replicate")
        average = F.avg_pool1d(padded, self.width, stride=1)[:, 0]  # (batch, window)
        return self.trend(average) + self.rest(seen - average)


def build(kind: Kind, series: Series, seed: int) -> Levelled:
    """An untrained forecaster of one series.

    Parameters
    ----------
    kind : "patch Transformer", "GRU", "DLinear" or "NLinear"
    series : Series
    seed : int
        For torch.

    Returns
    -------
    Levelled
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {KINDS}; got {kind!r}")
    torch.manual_seed(seed)
    size = (series.window, series.horizon)
    body = {
        "patch Transformer": lambda: PatchTransformer(*size),
        "GRU": lambda: GRU(*size),
        "DLinear": lambda: DLinear(*size, width=series.season),
        "NLinear": lambda: nn.Linear(*size),
    }[kind]()
    return Levelled(body, LEVELS[kind][series.name])
