"""Models that mask the spectrogram of noisy speech, and differ in how a frame learns of others."""

from __future__ import annotations

import contextlib
from typing import Literal, get_args

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from attn_tutorial.applications.speech_enhancement.filters import N_BINS, Magnitudes
from attn_tutorial.attribution import uniform_weights
from attn_tutorial.models import EncoderLayer, FeedForward, Residual
from attn_tutorial.positions import sinusoidal_positions
from attn_tutorial.training import evaluating, train

STEPS = 300

Context = Literal["attention", "none", "convolution", "recurrent"]


class Convolution(nn.Conv1d):
    """Each frame sees its neighbours: (n, n_frames, d_model) to the same shape."""

    def __init__(self, d_model: int) -> None:
        super().__init__(d_model, d_model, 5, padding=2)

    def forward(self, x: Float[Tensor, "n n_frames d"]) -> Float[Tensor, "n n_frames d"]:
        return super().forward(x.mT).mT


class Recurrent(nn.GRU):
    """Each frame sees a summary of what came before, and one of what follows."""

    def __init__(self, d_model: int) -> None:
        super().__init__(d_model, d_model // 2, bidirectional=True, batch_first=True)

    def forward(self, x: Float[Tensor, "n n_frames d"]) -> Float[Tensor, "n n_frames d"]:
        return super().forward(x)[0]


class Block(nn.Module):
    """What `EncoderLayer` is, with something else in the place of attention."""

    def __init__(self, d_model: int, d_hidden: int, context: nn.Module) -> None:
        super().__init__()
        self.context, self.feed_forward = context, FeedForward(d_model, d_hidden)
        self.around_context = Residual(d_model, dropout=0.0, norm_first=True)
        self.around_feed_forward = Residual(d_model, dropout=0.0, norm_first=True)

    def forward(self, x: Float[Tensor, "n n_frames d"]) -> tuple[Tensor, None]:
        for around, part in (
            (self.around_context, self.context),
            (self.around_feed_forward, self.feed_forward),
        ):
            x = around.leave(x, part(around.enter(x)))
        return x, None


class MaskEstimator(nn.Module):
    """From the magnitudes of noisy speech to the share of each that is speech.

    Parameters
    ----------
    contexts : list of "attention", "none", "convolution" or "recurrent"
        What a frame learns from other frames, layer by layer. Each kind has about 4 d_model²
        parameters; "none" is a second feed-forward network.
    d_model, n_heads : int
    positions : bool
        Whether to add sinusoidal positions to the frames.
    """

    def __init__(
        self,
        contexts: list[Context],
        *,
        d_model: int = 48,
        n_heads: int = 4,
        positions: bool = False,
    ) -> None:
        super().__init__()
        unknown = set(contexts) - set(get_args(Context))
        if unknown or not contexts:
            raise ValueError(f"contexts must be some of {get_args(Context)}; got {contexts}")
        self.positions = positions
        self.enter = nn.Linear(N_BINS, d_model)
        self.layers = nn.ModuleList()
        for context in contexts:
            if context == "attention":
                self.layers.append(EncoderLayer(d_model, n_heads, 2 * d_model))
                continue
            module = {
                "none": lambda: FeedForward(d_model, 2 * d_model),
                "convolution": lambda: Convolution(d_model),
                "recurrent": lambda: Recurrent(d_model),
            }[context]()
            self.layers.append(Block(d_model, 2 * d_model, module))
        self.leave = nn.Sequential(nn.LayerNorm(d_model), nn.Linear(d_model, N_BINS), nn.Sigmoid())

    def forward(self, magnitudes: Magnitudes) -> Magnitudes:
        """Magnitudes (n, n_frames, N_BINS) to a mask of the same shape, from 0 to 1."""
        if magnitudes.ndim != 3 or magnitudes.shape[-1] != N_BINS:
            raise ValueError(
                f"magnitudes must have shape (n, n_frames, {N_BINS}); got {tuple(magnitudes.shape)}"
            )
        x = self.enter((magnitudes + 1e-3).log())  # (n, n_frames, d_model)
        if self.positions:
            x = x + torch.from_numpy(sinusoidal_positions(*x.shape[1:])).to(x.dtype)
        for layer in self.layers:
            x, _ = layer(x)
        return self.leave(x)


def mask_loss(model: nn.Module, noisy: Magnitudes, clean: Magnitudes) -> Float[Tensor, ""]:
    """The mean square of what masking leaves between noisy and clean magnitudes."""
    return ((model(noisy) * noisy - clean) ** 2).mean()


def fit(
    seed: int,
    contexts: list[Context],
    training: tuple[Magnitudes, Magnitudes],
    *,
    equal_weights: bool = False,
    steps: int = STEPS,
    positions: bool = False,
) -> MaskEstimator:
    """Seed, build and train a model.

    Parameters
    ----------
    seed : int
    contexts : list of str
        The layers, as in `MaskEstimator`.
    training : what `magnitudes` returned
    equal_weights : bool
        Whether attention has equal weights in training. The model returned has its own again: enter
        `uniform_weights` to score it.
    steps : int
    positions : bool

    Returns
    -------
    MaskEstimator
    """
    torch.manual_seed(seed)
    model = MaskEstimator(contexts, positions=positions)
    with uniform_weights(model) if equal_weights else contextlib.nullcontext():
        train(
            model,
            mask_loss,
            training,
            steps=steps,
            batch_size=16,
            peak=3e-3,
            warm_up=50,
            seed=seed,
        )
    return model


def predict(
    model: nn.Module, noisy: Magnitudes, *, equal_weights: bool = False, order: Tensor | None = None
) -> Magnitudes:
    """A model's masks; where an order is given, it sees the frames in that order."""
    order = torch.arange(noisy.shape[1]) if order is None else order
    with evaluating(model), uniform_weights(model) if equal_weights else contextlib.nullcontext():
        return model(noisy[:, order])[:, order.argsort()]


def weight_on(
    weights: Float[Tensor, "n n_heads n_q n_k"],
    queries: Bool[np.ndarray, "n n_q"],
    keys: Bool[np.ndarray, "n n_k"],
) -> list[float]:
    """How much weight the chosen queries give to the chosen keys, on average, head by head.

    Parameters
    ----------
    weights : float tensor, shape (n, n_heads, n_frames, n_frames)
    queries, keys : bool arrays, shape (n, n_frames)

    Returns
    -------
    list of float, one for each head
        Attention that does not choose gives `keys.mean(axis=1)`, weighted by the queries.
    """
    onto = torch.einsum("nhqk,nk->nhq", weights, torch.from_numpy(keys).to(weights.dtype))
    chosen = torch.from_numpy(queries).to(weights.dtype)  # (n, n_frames)
    return (torch.einsum("nhq,nq->h", onto, chosen) / chosen.sum()).tolist()
