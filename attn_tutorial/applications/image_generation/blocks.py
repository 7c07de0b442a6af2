"""One block in the middle of a network for pictures: self-attention, or a convolution in its place.

The networks of `latent` and `adversarial` are the same but for this block. Both kinds have nearly
as many parameters, and both begin by doing nothing: what they say is multiplied by a number that is
learned, and starts at zero.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from attn_tutorial.layers import MultiHeadAttention

Kind = Literal["attention", "convolution"]
Features = Float[Tensor, "n channels height width"]


class AttentionBlock(nn.Module):
    """Every place of a picture attends to all places; the result is added, times `gain`.

    Parameters
    ----------
    n_channels, n_heads : int

    References
    ----------
    Zhang et al. (2019), "Self-Attention Generative Adversarial Networks", ICML. The paper has
    one head, and projections that are narrower than the channels.
    """

    def __init__(self, n_channels: int, *, n_heads: int = 4) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(n_channels, n_heads)
        self.gain = nn.Parameter(torch.zeros(()))

    def forward(self, x: Features) -> Features:
        """Features (n, n_channels, height, width) to features of the same shape."""
        places = rearrange(x, "n c h w -> n (h w) c")  # (n, n_places, n_channels)
        output, _ = self.attention(places)
        return x + self.gain * rearrange(output, "n (h w) c -> n c h w", h=x.shape[2])


class ConvolutionBlock(nn.Module):
    """Two convolutions with a narrow layer between them; the result is added, times `gain`."""

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        # As many parameters as four projections: 2 · 9 · n_channels · n_narrow = 4 · n_channels²
        n_narrow = round(4 * n_channels / 18)
        self.convolutions = nn.Sequential(
            nn.Conv2d(n_channels, n_narrow, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(n_narrow, n_channels, 3, padding=1),
        )
        self.gain = nn.Parameter(torch.zeros(()))

    def forward(self, x: Features) -> Features:
        """Features (n, n_channels, height, width) to features of the same shape."""
        return x + self.gain * self.convolutions(x)


def block(kind: Kind, n_channels: int) -> nn.Module:
    """A new block.

    Raises
    ------
    ValueError
        Where there is no such kind.
    """
    if kind not in get_args(Kind):
        raise ValueError(f"kind must be one of {get_args(Kind)}; got {kind!r}")
    return AttentionBlock(n_channels) if kind == "attention" else ConvolutionBlock(n_channels)
