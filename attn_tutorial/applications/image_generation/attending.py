"""Where a Transformer over pixels looks, and what it says when it looks as on average."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attn_tutorial.applications.image_generation.data import SIDE, Levels
from attn_tutorial.applications.image_generation.pixels import PixelTransformer
from attn_tutorial.attribution import attention_modules, recording, uniform_weights
from attn_tutorial.training import evaluating

Weights = Float[Tensor, "n_heads n_pixels n_pixels"]
Maps = Float[Tensor, "n_heads rows columns"]


def mean_weights(model: PixelTransformer, levels: Levels) -> list[Weights]:
    """The weights of each layer, the mean over pictures.

    Parameters
    ----------
    model : PixelTransformer
    levels : int64 tensor, shape (n, height, width)

    Returns
    -------
    list of float tensors, shape (n_heads, n_pixels, n_pixels)
        Row i is the query of pixel i. Column 0 is "begin", column j is pixel j - 1.
    """
    with evaluating(model), recording(model) as record:
        model(levels)
    return [weights.mean(dim=0) for weights in record.weights]


def by_offset(weights: Weights, *, reach: int, side: int = SIDE) -> Maps:
    """The mean weight on a pixel, by where it lies as seen from the pixel that is predicted.

    Parameters
    ----------
    weights : float tensor, shape (n_heads, n_pixels, n_pixels)
        Of one layer, as `mean_weights` gives them.
    reach : int
        How many rows up, and columns to either side.
    side : int
        The height and width of the pictures.

    Returns
    -------
    float tensor, shape (n_heads, reach + 1, 2 · reach + 1)
        The pixel itself would be in the last row, in the middle. Each mean is over the pixels that
        have a neighbour there, before them; zero where none can be.
    """
    maps = weights.new_zeros(len(weights), reach + 1, 2 * reach + 1)
    for up in range(reach + 1):
        for right in range(-reach, reach + 1 if up else 0):
            row, column = torch.arange(up, side), torch.arange(side)
            column = column[(column + right >= 0) & (column + right < side)]
            query = (row[:, None] * side + column).flatten()
            key = query - up * side + right + 1  # "begin" stands before the pixels
            maps[:, reach - up, reach + right] = weights[:, query, key].mean(dim=1)
    return maps


def near_share(weights: Weights, *, reach: int, side: int = SIDE) -> Float[Tensor, " n_heads"]:
    """How much of its weight a pixel gives to pixels within reach, the mean over pixels.

    Only pixels with all such neighbours count: none at the edge.
    """
    inside = torch.arange(reach, side - reach)
    rows = torch.arange(reach, side)
    query = (rows[:, None] * side + inside).flatten()  # (n,)
    total = weights.new_zeros(len(weights))
    for up in range(reach + 1):
        for right in range(-reach, reach + 1 if up else 0):
            total += weights[:, query, query - up * side + right + 1].mean(dim=1)
    return total


@contextlib.contextmanager
def fixed_weights(model: PixelTransformer, levels: Levels) -> Iterator[None]:
    """Within this context all pictures get the weights that pictures get on average.

    The weights still depend on the place, the layer and the head, and no longer on the picture.

    Parameters
    ----------
    model : PixelTransformer
    levels : int64 tensor, shape (n, height, width)
        The pictures over which the mean is taken.
    """
    means = mean_weights(model, levels)
    with uniform_weights(model), contextlib.ExitStack() as hooks:
        # Scores of zero plus the logarithms of the weights: softmax gives the weights back.
        for module, weights in zip(attention_modules(model).values(), means, strict=True):
            hook = partial(_put_scores, weights.log())
            hooks.callback(module.register_forward_pre_hook(hook, with_kwargs=True).remove)
        yield


def _put_scores(scores: Weights, module: nn.Module, arguments: tuple, options: dict):
    """What a layer is called with instead: the scores as a mask that is added."""
    n = arguments[0].shape[1]  # while drawing, there are only the pixels so far
    return arguments, options | {"mask": scores[None, :, :n, :n]}
