"""Random features: vectors whose dot product is exp(x · y) on average over their draws.

With them the exponential kernel of softmax attention becomes a dot product, and linear attention
can estimate it. Two kinds: positive ones, and cosines and sines. Their errors differ by orders of
magnitude, in opposite places.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from attn_tutorial._arrays import check_axes, check_floating
from attn_tutorial.frontier.other_kernels.linear import (
    Key,
    Query,
    Value,
    check_operands,
    linear_attention,
)

Kind = Literal["positive", "trigonometric"]


def random_directions(
    n_directions: int, d: int, *, generator: torch.Generator, orthogonal: bool = True
) -> Float[Tensor, "n_directions d"]:
    """Vectors of which each is standard normal; up to d of them at a time are orthogonal.

    Parameters
    ----------
    n_directions, d : int
        How many, and of which width.
    generator : torch.Generator
        What they are drawn from.
    orthogonal : bool
        Whether those of one block of d are orthogonal. Else all are independent.

    Returns
    -------
    float64 tensor, shape (n_directions, d)

    Raises
    ------
    ValueError
        Where a number is not positive.

    References
    ----------
    Choromanski et al. (2021), "Rethinking Attention with Performers", ICLR.
    """
    if n_directions < 1 or d < 1:
        raise ValueError(f"n_directions and d must be at least 1; got {n_directions} and {d}")

    def normal(rows: int) -> Tensor:
        return torch.randn(rows, d, generator=generator, dtype=torch.float64)

    if not orthogonal:
        return normal(n_directions)
    n_blocks = -(-n_directions // d)
    blocks = []
    for _ in range(n_blocks):
        unit, triangle = torch.linalg.qr(normal(d))
        blocks.append((unit * triangle.diagonal().sign()).mT)  # rows: uniform, all orthogonal
    # Each as long as a normal vector would be.
    lengths = normal(n_blocks * d).norm(dim=-1, keepdim=True)  # (n_blocks * d, 1)
    return (torch.cat(blocks) * lengths)[:n_directions]


def positive_features(
    x: Float[Tensor, "*batch n d"], directions: Float[Tensor, "n_directions d"]
) -> Float[Tensor, "*batch n n_directions"]:
    """Features exp(w · x − |x|² / 2) / √m: never negative.

    Parameters
    ----------
    x : float tensor, shape (..., n, d)
    directions : float tensor, shape (m, d)

    Returns
    -------
    float tensor, shape (..., n, m)
        Those of x and of y have the dot product exp(x · y) on average over normal directions.

    Raises
    ------
    TypeError, ValueError
        Where x or the directions are not floating, or their widths differ.

    References
    ----------
    Choromanski et al. (2021), "Rethinking Attention with Performers", ICLR.
    """
    along, half_square = _products(x, directions)
    return (along - half_square).exp() / directions.shape[0] ** 0.5


def trigonometric_features(
    x: Float[Tensor, "*batch n d"], directions: Float[Tensor, "n_directions d"]
) -> Float[Tensor, "*batch n n_features"]:
    """Features exp(|x|² / 2) cos(w · x) / √m and the same with sines: of either sign.

    Parameters
    ----------
    x : float tensor, shape (..., n, d)
    directions : float tensor, shape (m, d)

    Returns
    -------
    float tensor, shape (..., n, 2 m)
        Those of x and of y have the dot product exp(x · y) on average over normal directions.

    Raises
    ------
    TypeError, ValueError
        Where x or the directions are not floating, or their widths differ.

    References
    ----------
    Rahimi and Recht (2007), "Random Features for Large-Scale Kernel Machines", NeurIPS, for the
    Gaussian kernel. Choromanski et al. (2021), "Rethinking Attention with Performers", ICLR.
    """
    along, half_square = _products(x, directions)
    waves = torch.cat([along.cos(), along.sin()], dim=-1)  # (..., n, 2 m)
    return half_square.exp() * waves / directions.shape[0] ** 0.5


def relative_variance(
    x: Float[Tensor, "*batch d"], y: Float[Tensor, "*batch d"], kind: Kind
) -> Float[Tensor, "*batch"]:
    """The variance of a single direction's estimate of exp(x · y), divided by its square.

    With m independent directions it is m times smaller; orthogonal ones do better.

    Parameters
    ----------
    x, y : float tensors, shape (..., d)
    kind : "positive" or "trigonometric"

    Returns
    -------
    float tensor, shape (...)
        exp(|x + y|²) − 1, or (e^δ − 2 + e^−δ) / 2 with δ = |x − y|².

    Raises
    ------
    ValueError
        Where there is no such kind.

    References
    ----------
    Choromanski et al. (2021), "Rethinking Attention with Performers", ICLR.
    """
    check_floating(x=x, y=y)
    _check_kind(kind)
    if kind == "positive":
        return (x + y).square().sum(dim=-1).expm1()
    return (x - y).square().sum(dim=-1).cosh() - 1


def random_feature_attention(
    query: Query,
    key: Key,
    value: Value,
    directions: Float[Tensor, "n_directions d_k"],
    *,
    kind: Kind = "positive",
    chunk: int = 64,
) -> Float[Tensor, "... n d_v"]:
    """Causal softmax attention, estimated with random features in linear time.

    Parameters
    ----------
    query, key : float tensors, shape (..., n, d_k)
    value : float tensor, shape (..., n, d_v)
    directions : float tensor, shape (m, d_k)
    kind : "positive" or "trigonometric"
    chunk : int
        As in `linear_attention`.

    Returns
    -------
    float tensor, shape (..., n, d_v)
        With positive features an average of the values; with trigonometric ones the weights may be
        negative, and their sum near zero.

    Raises
    ------
    TypeError, ValueError
        Where arguments do not fit, or there is no such kind.

    References
    ----------
    Choromanski et al. (2021), "Rethinking Attention with Performers", ICLR.
    """
    check_operands(query, key, value, causal=True)
    _check_kind(kind)
    scale = query.shape[-1] ** -0.25  # half of 1 / √d_k for each side
    if kind == "trigonometric":
        q, k = (trigonometric_features(scale * x, directions) for x in (query, key))
    else:
        # A factor for each query, and one for all keys, change no weight; so nothing overflows.
        along, half_square = _products(scale * query, directions)
        q = (along - along.amax(dim=-1, keepdim=True)).exp()
        along, half_square = _products(scale * key, directions)
        exponent = along - half_square
        k = (exponent - exponent.amax(dim=(-2, -1), keepdim=True)).exp()
    return linear_attention(q, k, value.to(q.dtype), chunk=chunk)[0].to(query.dtype)


def _products(x: Tensor, directions: Tensor) -> tuple[Tensor, Tensor]:
    """w · x for each direction (..., n, m), and |x|² / 2 (..., n, 1); in float32 at least."""
    check_floating(x=x)
    check_floating(directions=directions)
    check_axes("(..., n, d)", x=x)
    if directions.ndim != 2 or directions.shape[-1] != x.shape[-1]:
        raise ValueError(
            f"directions must have shape (m, d) = (m, {x.shape[-1]}), as x {tuple(x.shape)} needs "
            f"them; got {tuple(directions.shape)}"
        )
    wide = torch.promote_types(x.dtype, torch.float32)
    x = x.to(wide)
    return x @ directions.to(wide).mT, x.square().sum(dim=-1, keepdim=True) / 2


def _check_kind(kind: str) -> None:
    if kind not in ("positive", "trigonometric"):
        raise ValueError(f"kind must be 'positive' or 'trigonometric'; got {kind!r}")
