"""Handwritten digits: scikit-learn's, kept apart in blocks, for all chapters on pictures.

The 1797 pictures are the test part of "Optical Recognition of Handwritten Digits" (Alpaydin and
Kaynak, UCI, 1998), written by 13 people. Who wrote which is not recorded. But the labels show where
a form ends: they are one sequence of 130 digits, repeated fourteen times with a few gaps. More than
half of the pictures have their nearest neighbour on their own form, where chance would give 7 in
100. So a random split, which puts each form into training and test, promises more than new writers
keep: nearest neighbours recognise 98 % there, and 96 % in the blocks below. Blocks are what all
chapters use. The cuts are not at the ends of forms: training and validation share a form, and so do
validation and test; training and test share none.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from sklearn.datasets import load_digits
from torch import Tensor

PARTS = {"training": (0, 1000), "validation": (1000, 1250), "test": (1250, 1797)}


class Digits(NamedTuple):
    """Pictures of digits.

    Attributes
    ----------
    images : float32 tensor, shape (n, 8, 8), from 0 (paper) to 1 (ink)
    labels : int64 tensor, shape (n,), from 0 to 9
    """

    images: Float[Tensor, "n 8 8"]
    labels: Int[Tensor, " n"]


def load_parts() -> dict[str, Digits]:
    """The digits by part: training, validation and test, contiguous blocks of the file.

    Returns
    -------
    dict of Digits
        1000, 250 and 547 pictures.
    """
    data = load_digits()
    images = torch.from_numpy(data.images / 16).float()  # (1797, 8, 8), 17 levels of ink
    labels = torch.from_numpy(data.target).long()
    return {
        name: Digits(images[begin:end], labels[begin:end]) for name, (begin, end) in PARTS.items()
    }
