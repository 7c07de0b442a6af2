"""Networks that watch a clip: attention over space and time in three ways, and two rivals without.

Each cuts a frame into its nine cells and makes a vector of each: a clip is 6 times 9 tokens. What
differs is who may attend to whom. All end alike: the mean over the clip, and two linear layers that
read off the digit that moves first and the one that moves second.
"""

from __future__ import annotations

import itertools
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from attn_tutorial.applications.video.data import CELL, N_CELLS, N_CLASSES, N_FRAMES, cells_of
from attn_tutorial.layers import MultiHeadAttention
from attn_tutorial.models import FeedForward, Residual

Scheme = Literal["divided", "joint", "space only"]
SCHEMES = get_args(Scheme)
WITHIN = {"divided": ("time", "space"), "joint": ("clip",), "space only": ("space",)}
# What becomes one sequence of attention. Time: the frames of one cell; space: the cells of a frame.
GROUPED = {
    "time": "batch t s d -> (batch s) t d",
    "space": "batch t s d -> (batch t) s d",
    "clip": "batch t s d -> batch (t s) d",
}
# How widely the first positions are drawn. With a time as faint as a place, training did not find
# the order.
PLACE, TIME = 0.3, 2.0

Frames = Float[Tensor, "batch t 24 24"]
Logits = tuple[Float[Tensor, "batch 10"], Float[Tensor, "batch 10"]]
Grid = Float[Tensor, "batch t s d_model"]


def n_pairs(scheme: Scheme, n_frames: int, n_places: int) -> int:
    """How many pairs of a query and a key one head of one layer computes for a clip.

    Parameters
    ----------
    scheme : "divided", "joint" or "space only"
    n_frames, n_places : int

    Raises
    ------
    ValueError
        Where there is no such scheme.

    References
    ----------
    Bertasius, Wang and Torresani (2021), "Is Space-Time Attention All You Need for Video
    Understanding?", ICML.
    """
    _check_scheme(scheme)
    n_tokens = n_frames * n_places
    n_keys = {"divided": n_frames + n_places, "joint": n_tokens, "space only": n_places}
    return n_tokens * n_keys[scheme]


class Layer(nn.Module):
    """Attention over a clip, divided or joint, and a feed-forward network.

    Divided: each token attends to those in its place in all frames, and then to those in its frame.

    Parameters
    ----------
    scheme : "divided", "joint" or "space only"
    d_model, n_heads : int
    dropout : float

    References
    ----------
    Bertasius, Wang and Torresani (2021), "Is Space-Time Attention All You Need for Video
    Understanding?", ICML. The class token of the paper is left out here.
    """

    def __init__(self, scheme: Scheme, d_model: int, n_heads: int, *, dropout: float) -> None:
        super().__init__()
        frame = {"dropout": dropout, "norm_first": True}
        within = WITHIN[scheme]
        self.attention = nn.ModuleDict({w: MultiHeadAttention(d_model, n_heads) for w in within})
        self.around_attention = nn.ModuleDict({w: Residual(d_model, **frame) for w in within})
        self.feed_forward = FeedForward(d_model, 2 * d_model, dropout=dropout)
        self.around_feed_forward = Residual(d_model, **frame)

    def forward(self, x: Grid) -> Grid:
        """Tokens (batch, t, s, d_model), a row for each frame, to tokens of the same shape."""
        batch, t, s, _ = x.shape
        for within, attention in self.attention.items():
            frame, grouped = self.around_attention[within], GROUPED[within]
            output, _ = attention(rearrange(frame.enter(x), grouped))
            ungrouped = " -> ".join(reversed(grouped.split(" -> ")))
            output = rearrange(output, ungrouped, batch=batch, t=t, s=s)
            x = frame.leave(x, output)  # (batch, t, s, d_model)
        output = self.feed_forward(self.around_feed_forward.enter(x))
        return self.around_feed_forward.leave(x, output)


class VideoTransformer(nn.Module):
    """A Transformer over the cells of all frames; the mean of its tokens is what the answers see.

    Parameters
    ----------
    scheme : "divided", "joint" or "space only"
    d_model, n_heads, n_layers : int
    dropout : float
    times : bool
        Whether each frame's time has a learned vector. Without (and in "space only", where it could
        not be compared) a clip is a bag of frames: their order changes nothing.
    n_frames : int
        How many frames it sees, from the first on.

    Raises
    ------
    ValueError
        Where there is no such scheme.
    """

    def __init__(
        self,
        scheme: Scheme,
        *,
        d_model: int = 32,
        n_heads: int = 4,
        n_layers: int = 2,
        dropout: float = 0.0,
        times: bool = True,
        n_frames: int = N_FRAMES,
    ) -> None:
        super().__init__()
        _check_scheme(scheme)
        self.n_frames = n_frames
        self.embedding = nn.Linear(CELL**2, d_model)
        self.places = nn.Parameter(PLACE * torch.randn(N_CELLS, d_model))
        has_times = times and scheme != "space only"
        vectors = TIME * torch.randn(n_frames, 1, d_model)
        self.times = nn.Parameter(vectors) if has_times else None
        self.layers = nn.ModuleList(
            Layer(scheme, d_model, n_heads, dropout=dropout) for _ in range(n_layers)
        )
        self.norm = nn.LayerNorm(d_model)
        self.head = nn.Linear(d_model, 2 * N_CLASSES)

    def forward(self, frames: Frames) -> Logits:
        """Frames (batch, t, 24, 24) to logits of the first and the second mover, (batch, 10)."""
        x = self.embedding(cells_of(frames[:, : self.n_frames]).flatten(3))  # (batch, t, 9, d)
        x = x + self.places
        if self.times is not None:
            x = x + self.times
        for layer in self.layers:
            x = layer(x)
        return _answers(self.head(self.norm(x).mean(dim=(1, 2))))


class CellGru(nn.Module):
    """A recurrent network over the frames of each cell, the same for all; then their mean.

    Parameters
    ----------
    width : int

    References
    ----------
    Cho et al. (2014), "Learning Phrase Representations using RNN Encoder-Decoder for Statistical
    Machine Translation", EMNLP, for the gated recurrent unit.
    """

    def __init__(self, *, width: int = 48) -> None:
        super().__init__()
        self.embedding = nn.Linear(CELL**2, width)
        self.gru = nn.GRU(width, width, batch_first=True)
        self.mix = nn.Linear(width, width)
        self.head = nn.Linear(width, 2 * N_CLASSES)

    def forward(self, frames: Frames) -> Logits:
        """Frames (batch, t, 24, 24) to logits of the first and the second mover, (batch, 10)."""
        x = F.relu(self.embedding(cells_of(frames).flatten(3)))  # (batch, t, 9, width)
        _, last = self.gru(rearrange(x, "batch t s d -> (batch s) t d"))  # (1, batch · 9, width)
        x = rearrange(last[0], "(batch s) d -> batch s d", s=N_CELLS)
        return _answers(self.head(F.relu(self.mix(x)).mean(dim=1)))


class Convolutional(nn.Module):
    """Three convolutions over space and time at once, the mean over space, a linear layer.

    Kernels are 3 by 3 by 3, as in the paper. Each layer halves height and width and keeps all
    frames; the linear layer sees which frame is which.

    Parameters
    ----------
    n_channels : int
        Of the first convolution; the others have twice as many.

    References
    ----------
    Tran, Bourdev, Fergus, Torresani and Paluri (2015), "Learning Spatiotemporal Features with 3D
    Convolutional Networks", ICCV.
    """

    def __init__(self, *, n_channels: int = 12) -> None:
        super().__init__()
        widths = [1, n_channels, 2 * n_channels, 2 * n_channels]
        self.convolutions = nn.ModuleList(
            nn.Conv3d(n_in, n_out, 3, padding=1, stride=(1, 2, 2))
            for n_in, n_out in itertools.pairwise(widths)
        )
        self.head = nn.Linear(widths[-1] * N_FRAMES, 2 * N_CLASSES)

    def forward(self, frames: Frames) -> Logits:
        """Frames (batch, t, 24, 24) to logits of the first and the second mover, (batch, 10)."""
        x = frames[:, None]  # (batch, 1, t, 24, 24)
        for convolution in self.convolutions:
            x = F.relu(convolution(x))
        return _answers(self.head(x.mean(dim=(3, 4)).flatten(1)))  # from (batch, channels, t, 3, 3)


def _answers(logits: Float[Tensor, "batch 20"]) -> Logits:
    return logits[:, :N_CLASSES], logits[:, N_CLASSES:]


def _check_scheme(scheme: str) -> None:
    if scheme not in SCHEMES:
        raise ValueError(f"scheme must be one of {SCHEMES}; got {scheme!r}")
