"""U-Nets in small: with self-attention at the bottom, with gates on the way up, and with neither.

All answer for each pixel: eleven scores for its label, and one for whether it is marked.
"""

import itertools
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from attn_tutorial.applications.segmentation.data import N_LABELS, SIZE, Answers
from attn_tutorial.models import EncoderLayer
from attn_tutorial.training import evaluating

CHANNELS = (12, 24, 48)  # with 24, 12 and 6 pixels a side
CELL = 4  # pixels a side of what one token at the bottom stands for
N_CELLS = SIZE // CELL  # along a side
N_HEADS = 4

Bottom = Literal["convolution", "deeper", "attention"]
Images = Float[Tensor, "batch size size"]
Grid = Float[Tensor, "batch channels height width"]


def _convolutions(*widths: int) -> nn.Sequential:
    """One 3 × 3 convolution for each step from one width to the next; they keep the size."""
    layers: list[nn.Module] = []
    for n_in, n_out in itertools.pairwise(widths):
        convolution = nn.Conv2d(n_in, n_out, 3, padding=1, bias=False)
        layers += [convolution, nn.BatchNorm2d(n_out), nn.ReLU()]
    return nn.Sequential(*layers)


def _doubled(grid: Grid) -> Grid:
    """Each place as a square of 2 × 2 places."""
    return F.interpolate(grid, scale_factor=2)


class AttentionGate(nn.Module):
    """A factor from 0 to 1 for each place of a skip connection, asked for from below.

    Parameters
    ----------
    n_channels : int
        Of the skip connection, of what comes from below, and in between.

    Notes
    -----
    The paper computes the factors on the coarser grid and resamples them; here what comes from
    below is resampled first.

    References
    ----------
    Oktay et al. (2018), "Attention U-Net: Learning Where to Look for the Pancreas",
    arXiv:1804.03999.
    """

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        self.skip = nn.Conv2d(n_channels, n_channels, 1, bias=False)
        self.below = nn.Conv2d(n_channels, n_channels, 1)
        self.score = nn.Conv2d(n_channels, 1, 1)

    def forward(self, skip: Grid, below: Grid) -> Grid:
        """The skip connection (batch, channels, height, width), each place scaled."""
        return skip * self.factors(skip, below)

    def factors(self, skip: Grid, below: Grid) -> Float[Tensor, "batch 1 height width"]:
        """A factor for each place; they do not sum to one, and no place looks at another."""
        together = F.relu(self.skip(skip) + self.below(below))  # (batch, channels, height, width)
        return torch.sigmoid(self.score(together))


class SelfAttention(nn.Module):
    """Every place of a grid of 6 × 6 attends to every place.

    Parameters
    ----------
    n_channels : int

    References
    ----------
    Wang et al. (2018), "Non-local Neural Networks", CVPR, for self-attention over the places of a
    convolutional network.
    """

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        self.positions = nn.Parameter(0.5 * torch.randn(N_CELLS**2, n_channels))
        self.layer = EncoderLayer(n_channels, N_HEADS, 2 * n_channels)

    def forward(self, grid: Grid) -> Grid:
        """A grid (batch, channels, 6, 6) to one of the same shape."""
        tokens = rearrange(grid, "batch channels y x -> batch (y x) channels") + self.positions
        tokens, _ = self.layer(tokens)  # (batch, 36, channels)
        return rearrange(tokens, "batch (y x) channels -> batch channels y x", y=N_CELLS)


class _Deeper(nn.Module):
    """One more step down, to 3 × 3 places, and up again."""

    def __init__(self, n_channels: int) -> None:
        super().__init__()
        self.inner = _convolutions(n_channels, n_channels)
        self.out = _convolutions(2 * n_channels, n_channels)

    def forward(self, grid: Grid) -> Grid:
        inner = self.inner(F.max_pool2d(grid, 2))  # (batch, channels, 3, 3)
        return self.out(torch.cat([grid, _doubled(inner)], dim=1))


class UNet(nn.Module):
    """Down to 6 × 6 places, up again, with skip connections between equal sizes.

    Parameters
    ----------
    bottom : "convolution", "deeper" or "attention"
        What stands at the bottom: one more convolution; a step down to 3 × 3 places, from which
        every place sees the whole scene; or self-attention.
    gates : bool
        Whether the skip connections pass through an `AttentionGate`.

    Raises
    ------
    ValueError
        Where there is no such bottom.

    References
    ----------
    Ronneberger, Fischer and Brox (2015), "U-Net: Convolutional Networks for Biomedical Image
    Segmentation", MICCAI.
    """

    def __init__(self, bottom: Bottom = "convolution", *, gates: bool = False) -> None:
        if bottom not in get_args(Bottom):
            raise ValueError(f"bottom must be one of {get_args(Bottom)}; got {bottom!r}")
        super().__init__()
        few, more, most = CHANNELS
        self.first = _convolutions(1, few, few)
        self.second = _convolutions(few, more, more)
        self.third = _convolutions(more, most, most)
        if bottom == "attention":
            self.bottom = SelfAttention(most)
        elif bottom == "deeper":
            self.bottom = _Deeper(most)
        else:
            self.bottom = _convolutions(most, most)
        self.narrow_second = nn.Conv2d(most, more, 1)
        self.narrow_first = nn.Conv2d(more, few, 1)
        self.gates = nn.ModuleList(AttentionGate(n) for n in (more, few)) if gates else None
        self.up_second = _convolutions(2 * more, more)
        self.up_first = _convolutions(2 * few, few)
        self.answer = nn.Conv2d(few, N_LABELS + 1, 1)

    def forward(self, images: Images) -> Float[Tensor, "batch 12 size size"]:
        """Scores for each pixel: eleven for its label, the last for whether it is marked.

        Parameters
        ----------
        images : float tensor, shape (batch, 24, 24)

        Returns
        -------
        float tensor, shape (batch, 12, 24, 24)
        """
        first = self.first(images[:, None])  # (batch, 12, 24, 24)
        second = self.second(F.max_pool2d(first, 2))  # (batch, 24, 12, 12)
        bottom = self.bottom(self.third(F.max_pool2d(second, 2)))  # (batch, 48, 6, 6)
        below = _doubled(self.narrow_second(bottom))  # (batch, 24, 12, 12)
        if self.gates is not None:
            second = self.gates[0](second, below)
        below = self.up_second(torch.cat([below, second], dim=1))  # (batch, 24, 12, 12)
        below = _doubled(self.narrow_first(below))  # (batch, 12, 24, 24)
        if self.gates is not None:
            first = self.gates[1](first, below)
        return self.answer(self.up_first(torch.cat([below, first], dim=1)))


def loss(
    model: nn.Module,
    images: Images,
    labels: Int[Tensor, "batch size size"],
    marks: Bool[Tensor, "batch size size"],
    *,
    marks_count: float = 1.0,
) -> Float[Tensor, ""]:
    """Cross-entropy of the labels, plus that of the marks, the mean over the pixels.

    Parameters
    ----------
    model : UNet
    images : float tensor, shape (batch, 24, 24)
    labels, marks : int64 and bool tensor, shape (batch, 24, 24)
    marks_count : float
        What the marks are multiplied by.

    Returns
    -------
    scalar tensor
    """
    answers = model(images)
    of_labels = F.cross_entropy(answers[:, :N_LABELS], labels)
    of_marks = F.binary_cross_entropy_with_logits(answers[:, N_LABELS], marks.float())
    return of_labels + marks_count * of_marks


def segment(model: nn.Module, images: Images) -> Answers:
    """What a trained model says of each pixel: the likeliest label, and a mark above a half.

    Parameters
    ----------
    model : UNet
    images : float tensor, shape (n, 24, 24)

    Returns
    -------
    Answers
    """
    with evaluating(model):
        answers = model(images)  # (n, 12, 24, 24)
    return Answers(answers[:, :N_LABELS].argmax(dim=1), answers[:, N_LABELS] > 0)
