"""The digits in four levels of ink, and generated pictures whose far corners match.

A model that gives probabilities to pictures needs pictures of a finite number of kinds. The digits
have 17 levels of ink; here four neighbouring ones become one.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attn_tutorial.applications import digits

N_LEVELS = 4
SIDE = 8
CORNER = 2  # the side of each of the two corners that match, in pixels

Levels = Int[Tensor, "n height width"]


class Pictures(NamedTuple):
    """Pictures of digits, in few levels and as they are.

    Attributes
    ----------
    levels : int64 tensor, shape (n, 8, 8), from 0 (paper) to 3 (ink)
    images : float32 tensor, shape (n, 8, 8), from 0 to 1, in 17 levels
    labels : int64 tensor, shape (n,), from 0 to 9
    """

    levels: Int[Tensor, "n 8 8"]
    images: Float[Tensor, "n 8 8"]
    labels: Int[Tensor, " n"]


def load_parts() -> dict[str, Pictures]:
    """The digits by part: training, validation and test, contiguous blocks of the file.

    Returns
    -------
    dict of Pictures
        1000, 250 and 547 pictures.
    """
    return {
        name: Pictures(levels_of(part.images), *part) for name, part in digits.load_parts().items()
    }


def levels_of(images: Float[Tensor, "n height width"]) -> Levels:
    """Put ink from 0 to 1 into four levels: 17 steps become 5, 4, 4 and 4 of them.

    Raises
    ------
    ValueError
        Where a pixel is not from 0 to 1.
    """
    if images.numel() and not 0 <= images.min() <= images.max() <= 1:
        raise ValueError(
            f"images must hold ink from 0 to 1; got {images.min():.3g} to {images.max():.3g}"
        )
    return (16 * images).round().long() * N_LEVELS // 17


def ink_of(levels: Levels) -> Float[Tensor, "n height width"]:
    """The ink from 0 to 1 that stands for each level: the middle of the steps that it holds."""
    middle = torch.tensor([2.0, 6.5, 10.5, 14.5]) / 16
    middle[0] = 0  # nearly all pixels of level 0 are paper
    return middle[levels]


def draw_corners(n: int, *, seed: int) -> Levels:
    """Generate pictures of noise in which the corners top left and bottom right are alike.

    Each of the two corners is a square of 2 by 2 pixels of one level, the same in both. It is drawn
    anew for each picture, every level equally often, and so is each of the 56 other pixels.

    Parameters
    ----------
    n, seed : int

    Returns
    -------
    int64 tensor, shape (n, 8, 8)
    """
    generator = torch.Generator().manual_seed(seed)
    levels = torch.randint(N_LEVELS, (n, SIDE, SIDE), generator=generator)
    level = torch.randint(N_LEVELS, (n, 1, 1), generator=generator)
    levels[:, :CORNER, :CORNER] = level
    levels[:, -CORNER:, -CORNER:] = level
    return levels


def least_bits_of_corners() -> float:
    """The entropy of `draw_corners` in bits per pixel: 56 free pixels, and one level for eight."""
    n_free = SIDE**2 - 2 * CORNER**2
    return (n_free + 1) * math.log2(N_LEVELS) / SIDE**2
