"""Models that write a picture pixel by pixel: a Transformer and a PixelCNN.

Pixels come row by row, from the top left. A model maps pictures to the probabilities of the levels
of each pixel, given all pixels before it: their product over the pixels is the probability of the
picture, exactly (the chain rule). All models are called the same way, those of `baselines` too, so
that they share what measures them and what draws from them.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from attn_tutorial.applications.image_generation.data import N_LEVELS, SIDE, Levels
from attn_tutorial.language_model import CausalLanguageModel
from attn_tutorial.training import evaluating

Chances = Float[Tensor, "n height width n_levels"]  # as logarithms to base e
Features = Float[Tensor, "n channels height width"]


class PixelTransformer(nn.Module):
    """A causal language model whose tokens are pixels.

    A token that says "begin" stands before the first pixel.

    Parameters
    ----------
    d_model, n_heads, n_layers : int
    dropout : float
    by_row_and_column : bool
        Whether the vectors of the places begin as a random vector for the row plus one for the
        column. Otherwise they begin near zero, and nothing says that a picture has two axes. In
        both cases all of them are learned.
    side : int
        The height and width of the pictures.

    References
    ----------
    Parmar et al. (2018), "Image Transformer", ICML. Chen et al. (2020), "Generative Pretraining
    from Pixels", ICML.
    """

    def __init__(
        self,
        *,
        d_model: int = 32,
        n_heads: int = 4,
        n_layers: int = 2,
        dropout: float = 0.0,
        by_row_and_column: bool = True,
        side: int = SIDE,
    ) -> None:
        super().__init__()
        self.model = CausalLanguageModel(
            N_LEVELS + 1,
            d_model=d_model,
            n_heads=n_heads,
            n_layers=n_layers,
            d_hidden=2 * d_model,
            dropout=dropout,
            max_length=side**2,
            positions="learned",
        )
        if by_row_and_column:
            row, column = torch.randn(side, 1, d_model), torch.randn(1, side, d_model)
            self.model.embedding.positions.data = (row + column).flatten(0, 1)

    def forward(self, levels: Levels) -> Chances:
        """Pictures (n, height, width) to log-probabilities (n, height, width, 4)."""
        check_levels(levels)
        pixels = levels.flatten(1)  # (n, n_pixels)
        begin = torch.full_like(pixels[:, :1], N_LEVELS)
        logits, _ = self.model(torch.cat([begin, pixels[:, :-1]], dim=1))  # (n, n_pixels, 5)
        chances = logits[..., :N_LEVELS].log_softmax(dim=-1)  # "begin" is never next
        return chances.unflatten(1, levels.shape[1:])


class MaskedConvolution(nn.Conv2d):
    """A convolution that sees only what comes before a pixel, row by row.

    Parameters
    ----------
    n_in, n_out, size : int
        Channels in and out, and the side of the window, which is odd.
    own : bool
        Whether it sees the place itself too: not in a first layer, where that is the pixel to be
        predicted; in later layers, where it is what the layer before knows of the pixels before it.

    References
    ----------
    van den Oord, Kalchbrenner and Kavukcuoglu (2016), "Pixel Recurrent Neural Networks", ICML:
    masks A and B.
    """

    def __init__(self, n_in: int, n_out: int, size: int, *, own: bool) -> None:
        super().__init__(n_in, n_out, size, padding=size // 2)
        self.register_buffer("visible", window(size, own=own))

    def forward(self, x: Features) -> Features:
        """Features (n, n_in, height, width) to (n, n_out, height, width)."""
        return F.conv2d(x, self.weight * self.visible, self.bias, padding=self.padding)


def window(size: int, *, own: bool) -> Bool[Tensor, "size size"]:
    """Which places of a square window come before its middle; the middle itself if wanted."""
    place = torch.arange(size**2).view(size, size)
    middle = size**2 // 2
    return place <= middle if own else place < middle


class PixelCNN(nn.Module):
    """Masked convolutions, and a learned vector for each place, as the Transformer has them.

    Parameters
    ----------
    n_channels, n_layers : int
        n_layers counts the convolutions behind the first one; each is added to what came in.
    size : int
        The side of all windows.
    dropout : float
    side : int
        The height and width of the pictures.

    References
    ----------
    van den Oord, Kalchbrenner and Kavukcuoglu (2016), "Pixel Recurrent Neural Networks", ICML.
    """

    def __init__(
        self,
        *,
        n_channels: int = 24,
        n_layers: int = 3,
        size: int = 3,
        dropout: float = 0.1,
        side: int = SIDE,
    ) -> None:
        super().__init__()
        self.first = MaskedConvolution(N_LEVELS, n_channels, size, own=False)
        self.places = nn.Parameter(0.02 * torch.randn(n_channels, side, side))
        self.layers = nn.ModuleList(
            MaskedConvolution(n_channels, n_channels, size, own=True) for _ in range(n_layers)
        )
        self.mix = nn.Conv2d(n_channels, n_channels, 1)
        self.output = nn.Conv2d(n_channels, N_LEVELS, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, levels: Levels) -> Chances:
        """Pictures (n, height, width) to log-probabilities (n, height, width, 4)."""
        check_levels(levels)
        places = self.places[:, : levels.shape[1]]  # while drawing, the rows so far
        x = self.first(one_hot(levels)) + places  # (n, n_channels, height, width)
        for layer in self.layers:
            x = x + self.dropout(layer(F.relu(x)))
        x = self.output(F.relu(self.mix(F.relu(x))))  # (n, 4, height, width)
        return x.movedim(1, -1).log_softmax(dim=-1)


def one_hot(levels: Levels) -> Float[Tensor, "n 4 height width"]:
    """A channel for each level, 1 where a pixel has it and 0 elsewhere."""
    return F.one_hot(levels, N_LEVELS).movedim(-1, 1).float()


def check_levels(levels: Levels) -> None:
    """Refuse what is no picture in levels.

    Raises
    ------
    ValueError
        Where there are not three axes, or a level is none.
    """
    if levels.ndim != 3:
        raise ValueError(f"levels must have shape (n, height, width); got {tuple(levels.shape)}")
    if levels.numel() and not 0 <= levels.min() <= levels.max() < N_LEVELS:
        raise ValueError(
            f"levels must be numbers from 0 to {N_LEVELS - 1}; "
            f"got {levels.min().item()} to {levels.max().item()}"
        )


# --- measuring and drawing -------------------------------------------------------------------


def bits(
    model: nn.Module, levels: Levels, *, batch_size: int = 256
) -> Float[Tensor, "n height width"]:
    """How many bits each pixel costs a model: minus the base-2 logarithm of its probability.

    Parameters
    ----------
    model : module from pictures to log-probabilities
    levels : int64 tensor, shape (n, height, width)
    batch_size : int

    Returns
    -------
    float32 tensor, shape (n, height, width)
        The mean over a picture's pixels is its bits per pixel, exactly.
    """
    with evaluating(model):
        return torch.cat([-_own(model(batch), batch) for batch in levels.split(batch_size)])


def pixel_loss(model: nn.Module, levels: Levels) -> Float[Tensor, ""]:
    """The mean bits per pixel, a scalar to train with."""
    return -_own(model(levels), levels).mean()


def _own(chances: Chances, levels: Levels) -> Float[Tensor, "n height width"]:
    """The base-2 logarithm of the probability of the level that each pixel has."""
    return chances.gather(-1, levels[..., None])[..., 0] / math.log(2)


def draw(model: nn.Module, n: int, *, seed: int, side: int = SIDE) -> Levels:
    """Draw pictures from a model, pixel by pixel.

    Parameters
    ----------
    model : module from pictures to log-probabilities
    n, seed : int
    side : int
        The height and width of the pictures.

    Returns
    -------
    int64 tensor, shape (n, side, side)
    """
    generator = torch.Generator().manual_seed(seed)
    levels = torch.zeros(n, side, side, dtype=torch.long)
    with evaluating(model):
        for place in range(side**2):
            row, column = divmod(place, side)
            chances = model(levels[:, : row + 1])[:, row, column].exp()  # (n, 4)
            levels[:, row, column] = torch.multinomial(chances, 1, generator=generator)[:, 0]
    return levels
