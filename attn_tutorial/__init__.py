"""Attention in four lines, and what is around it: score, mask, normalise, weighted sum.

Every function takes NumPy arrays or torch tensors and returns the same kind. Importing the package
does not import torch.
"""

from attn_tutorial.core import apply_mask, attention, softmax
from attn_tutorial.masks import causal_mask, padding_mask, window_mask
from attn_tutorial.scores import (
    additive,
    bilinear,
    cosine,
    dot_product,
    pearson,
    ranks,
    scaled_dot_product,
    soft_capped,
    spearman,
)

__all__ = [
    "additive",
    "apply_mask",
    "attention",
    "bilinear",
    "causal_mask",
    "cosine",
    "dot_product",
    "padding_mask",
    "pearson",
    "ranks",
    "scaled_dot_product",
    "soft_capped",
    "softmax",
    "spearman",
    "window_mask",
]
