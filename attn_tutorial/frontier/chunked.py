"""Attention in chunks: the same output as `attention`, and never all weights at once.

A softmax needs the sum over all keys before it can give the first weight. The online softmax does
without: it keeps a running maximum, a running sum and a running weighted sum, and corrects them
when a larger score turns up (Milakov and Gimelshein, "Online normalizer calculation for softmax",
2018). Rabe and Staats ("Self-attention does not need O(n²) memory", 2021) and Dao and others
("FlashAttention", 2022) build attention on it. The backward pass computes the weights anew from the
scores and one kept number a query, the logarithm of the sum of exponentials.

The states and the forward pass take NumPy arrays and torch tensors; gradients are torch's.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from array_api_compat import is_torch_array
from jaxtyping import Bool, Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from attn_tutorial._arrays import (
    Array,
    broadcast_leading,
    check_axes,
    check_floating,
    namespace,
    wide_dtype,
)
from attn_tutorial.core import _mask_like, apply_mask
from attn_tutorial.masks import causal_mask

Mask = Bool[Array, "..."] | Float[Array, "..."] | Callable[[Array, Array], Array] | None


class State(NamedTuple):
    """What has to be known of a softmax after some of the keys.

    Attributes
    ----------
    maximum : float array, shape (..., n_q)
        The largest score so far; minus infinity where no key was allowed.
    total : float array, shape (..., n_q)
        The sum of exp(score - maximum).
    weighted : float array, shape (..., n_q, d_v)
        The sum of exp(score - maximum) · value.
    """

    maximum: Float[Array, "... n_q"]
    total: Float[Array, "... n_q"]
    weighted: Float[Array, "... n_q d_v"]


def state_of(scores: Float[Array, "... n_q n_k"], value: Float[Array, "... n_k d_v"]) -> State:
    """Summarise the keys of one chunk.

    Parameters
    ----------
    scores : float array, shape (..., n_q, n_k)
        With one key or more; minus infinity excludes a key.
    value : float array, shape (..., n_k, d_v)
        Of the dtype of the scores.

    Returns
    -------
    State

    Raises
    ------
    TypeError
        Where the arguments are no floating-point arrays of one dtype.
    ValueError
        Where there is no key, or not one value for each score.
    """
    check_floating(scores=scores, value=value)
    check_axes("(..., n_q, n_k)", scores=scores)
    check_axes("(..., n_k, d_v)", value=value)
    n_k = scores.shape[-1]
    if n_k == 0 or value.shape[-2] != n_k:
        raise ValueError(
            "scores (..., n_q, n_k) and value (..., n_k, d_v) must agree in n_k, at least 1; got "
            f"shapes {tuple(scores.shape)} and {tuple(value.shape)}"
        )
    xp = namespace(scores=scores)
    maximum = xp.max(scores, axis=-1)  # (..., n_q)
    exponentials = xp.exp(scores - _finite(xp, maximum)[..., None])  # (..., n_q, n_k)
    return State(maximum, xp.sum(exponentials, axis=-1), exponentials @ value)


def merge(one: State, other: State) -> State:
    """Join what two sets of keys say, relative to the larger of their maxima.

    It is associative, and the order does not matter (Milakov and Gimelshein, 2018, for maximum and
    sum; the weighted sum follows the sum).

    Parameters
    ----------
    one, other : State
        For the same queries, and keys that have none in common.

    Returns
    -------
    State
    """
    xp = namespace(one=one.total, other=other.total)
    maximum = xp.maximum(one.maximum, other.maximum)
    kept = xp.exp(one.maximum - _finite(xp, maximum))  # what was summed is made smaller
    added = xp.exp(other.maximum - _finite(xp, maximum))
    return State(
        maximum,
        one.total * kept + other.total * added,
        one.weighted * kept[..., None] + other.weighted * added[..., None],
    )


def finish(state: State) -> tuple[Float[Array, "... n_q d_v"], Float[Array, "... n_q"]]:
    """Divide at the end: the output, and the logarithm of the sum of exponentials.

    Parameters
    ----------
    state : State
        After all keys.

    Returns
    -------
    output : float array, shape (..., n_q, d_v)
    logarithm : float array, shape (..., n_q)
        Where no key was allowed the output is zero, and this is minus infinity.
    """
    xp = namespace(state=state.total)
    total = xp.where(state.total == 0, 1.0, state.total)
    return state.weighted / total[..., None], state.maximum + xp.log(total)


def chunked_attention(
    query: Float[Array, "*#batch n_q d_k"],
    key: Float[Array, "*#batch n_k d_k"],
    value: Float[Array, "*#batch n_k d_v"],
    *,
    mask: Mask = None,
    causal: bool = False,
    offset: int = 0,
    chunk: int | tuple[int, int] = 128,
) -> Float[Array, "... n_q d_v"]:
    """Scaled dot-product attention whose memory grows with n_q + n_k, not with their product.

    Forward and backward hold the scores of some queries and some keys at a time. For the backward
    pass the output and one number a query are kept.

    Parameters
    ----------
    query : float array, shape (..., n_q, d_k)
    key : float array, shape (..., n_k, d_k)
    value : float array, shape (..., n_k, d_v)
        All three of one library (NumPy or torch) and one dtype; leading axes broadcast.
    mask : bool or float array, or function, optional
        As in `attention`: True where a query may attend, or what is added to the scores. It
        broadcasts to (..., n_q, n_k), and may then itself be as large as the scores. A function
        takes the positions of some queries, (n, 1), and of some keys, (1, m), int64 arrays of the
        query's library, and returns that part of the mask: nothing of the full size is ever held.
        A mask gets no gradient.
    causal : bool
        Whether each query may attend to its own position and those before it only, beside what the
        mask says. Chunks of keys that lie wholly in the future are not computed.
    offset : int
        For causal attention the position of the first query among the keys, as in `causal_mask`.
    chunk : int or pair of int
        How many queries, and how many keys, are taken at a time.

    Returns
    -------
    float array, shape (..., n_q, d_v)
        In the dtype of the query; sums are made in float32 at least. Zeros where nothing is
        allowed. It can be differentiated once.

    Raises
    ------
    TypeError
        Where the arrays are not floating, of one library and dtype, the mask is neither boolean nor
        floating, or a chunk is no integer.
    ValueError
        Where shapes do not fit, a chunk is smaller than 1, or the mask wants a gradient.

    References
    ----------
    Rabe and Staats (2021), arXiv:2112.05682; Dao et al. (2022), "FlashAttention", NeurIPS.
    """
    check_floating(query=query, key=key, value=value)
    check_axes("(..., n_q, d_k)", query=query)
    check_axes("(..., n_k, d_k)", key=key)
    check_axes("(..., n_k, d_v)", value=value)
    if query.shape[-1] != key.shape[-1] or query.shape[-1] == 0:
        raise ValueError(
            "query (..., n_q, d_k) and key (..., n_k, d_k) must agree in d_k, at least 1; got "
            f"shapes {tuple(query.shape)} and {tuple(key.shape)}"
        )
    if key.shape[-2] != value.shape[-2]:
        raise ValueError(
            "key (..., n_k, d_k) and value (..., n_k, d_v) must agree in n_k; got shapes "
            f"{tuple(key.shape)} and {tuple(value.shape)}"
        )
    batch = broadcast_leading(query=query, key=key, value=value)
    if mask is not None and not callable(mask):
        mask = _whole_mask(mask, query, key)
        batch = np.broadcast_shapes(batch, tuple(mask.shape[:-2]))
    chunks = _pair(chunk)
    reach = operator.index(offset) if causal else None
    xp = namespace(query=query)
    whole = (xp.broadcast_to(part, (*batch, *part.shape[-2:])) for part in (query, key, value))
    if is_torch_array(query):
        return _Chunked.apply(*whole, mask, chunks, reach)
    with np.errstate(invalid="ignore"):  # NaN and infinity behind a mask, as in `attention`
        return _forward(*whole, mask, chunks, reach)[0]


def _forward(
    query: Array, key: Array, value: Array, mask: Any, chunks: tuple[int, int], reach: int | None
) -> tuple[Array, Array]:
    """The output (..., n_q, d_v) and the logarithm of the sum of exponentials (..., n_q)."""
    xp = namespace(query=query)
    wide = wide_dtype(xp, query)
    shape = (*query.shape[:-1], value.shape[-1])
    output = xp.empty(shape, dtype=query.dtype, device=query.device)
    logarithms = xp.empty(shape[:-1], dtype=wide, device=query.device)
    for rows in _slices(query.shape[-2], chunks[0]):
        state = _empty(xp, query[..., rows, :], value)
        for columns in _columns(rows, key.shape[-2], chunks[1], reach):
            scores = _scores(query, key, mask, rows, columns, reach)
            state = merge(state, state_of(scores, xp.astype(value[..., columns, :], wide)))
        found, logarithms[..., rows] = finish(state)
        output[..., rows, :] = xp.astype(found, query.dtype)
    return output, logarithms


class _Chunked(torch.autograd.Function):
    @staticmethod
    def forward(context, query, key, value, mask, chunks, reach):
        output, logarithms = _forward(query, key, value, mask, chunks, reach)
        # Saved in this way, a mask that was changed in between is noticed.
        held = mask if isinstance(mask, Tensor) else None
        context.save_for_backward(query, key, value, output, logarithms, held)
        context.rest = (None if held is not None else mask, chunks, reach)
        return output

    @staticmethod
    @once_differentiable
    def backward(context, d_output):
        query, key, value, output, logarithms, held = context.saved_tensors
        mask, chunks, reach = context.rest
        mask = mask if held is None else held
        wide = logarithms.dtype
        d_query, d_key, d_value = (
            torch.zeros(part.shape, dtype=wide, device=part.device) for part in (query, key, value)
        )
        scale = 1 / math.sqrt(query.shape[-1])
        for rows in _slices(query.shape[-2], chunks[0]):
            d_rows = d_output[..., rows, :].to(wide)  # (..., n, d_v)
            # A score's gradient loses the mean of its row's, the product of two rows at hand.
            mean = (d_rows * output[..., rows, :].to(wide)).sum(dim=-1, keepdim=True)
            peak = _finite(torch, logarithms[..., rows])[..., None]
            for columns in _columns(rows, key.shape[-2], chunks[1], reach):
                scores = _scores(query, key, mask, rows, columns, reach)
                weights = torch.exp(scores - peak)  # (..., n, m)
                d_value[..., columns, :] += weights.mT @ d_rows
                d_weights = d_rows @ value[..., columns, :].to(wide).mT
                d_scores = scale * weights * (d_weights - mean)
                d_query[..., rows, :] += d_scores @ key[..., columns, :].to(wide)
                d_key[..., columns, :] += d_scores.mT @ query[..., rows, :].to(wide)
        return *(d.to(query.dtype) for d in (d_query, d_key, d_value)), None, None, None


def _scores(
    query: Array, key: Array, mask: Any, rows: slice, columns: slice, reach: int | None
) -> Array:
    """The scores of some queries and some keys, minus infinity where the mask says no."""
    xp = namespace(query=query)
    wide = wide_dtype(xp, query)
    asked = xp.astype(query[..., rows, :], wide) / math.sqrt(query.shape[-1])
    scores = asked @ xp.astype(key[..., columns, :], wide).mT  # (..., n, m)
    if callable(mask):
        part = mask(_positions(xp, rows, query)[:, None], _positions(xp, columns, query)[None, :])
        if np.broadcast_shapes(part.shape, scores.shape) != tuple(scores.shape):
            raise ValueError(
                f"mask must return what broadcasts to {tuple(scores.shape)}; got shape "
                f"{tuple(part.shape)}"
            )
        scores = apply_mask(scores, part)
    elif mask is not None:
        n_q, n_k = mask.shape[-2:]
        part = mask[..., rows if n_q > 1 else slice(None), columns if n_k > 1 else slice(None)]
        scores = apply_mask(scores, part)
    if reach is not None and columns.stop > rows.start + reach + 1:  # crosses the diagonal
        n_q, n_k = scores.shape[-2:]
        earlier = causal_mask(n_q, n_k, offset=rows.start + reach - columns.start)
        scores = apply_mask(scores, earlier)
    return xp.astype(scores, wide)


def _slices(n: int, chunk: int) -> list[slice]:
    return [slice(start, min(start + chunk, n)) for start in range(0, n, chunk)]


def _columns(rows: slice, n_k: int, chunk: int, reach: int | None) -> list[slice]:
    """The chunks of keys that some of these queries may attend to."""
    if reach is not None:
        n_k = max(0, min(n_k, rows.stop + reach))
    return _slices(n_k, chunk)


def _positions(xp: Any, part: slice, query: Array) -> Array:
    return xp.arange(part.start, part.stop, dtype=xp.int64, device=query.device)


def _empty(xp: Any, query: Array, value: Array) -> State:
    """The state before the first key."""
    shape, wide = query.shape[:-1], wide_dtype(xp, query)
    return State(
        xp.full(shape, -math.inf, dtype=wide, device=query.device),
        xp.zeros(shape, dtype=wide, device=query.device),
        xp.zeros((*shape, value.shape[-1]), dtype=wide, device=query.device),
    )


def _finite(xp: Any, x: Array) -> Array:
    """Zero for minus infinity, which cannot be taken from itself."""
    return xp.where(x == -math.inf, 0.0, x)


def _whole_mask(mask: Array, query: Array, key: Array) -> Array:
    """A mask of two axes or more, in the query's library, that fits the scores."""
    if getattr(mask, "requires_grad", False):
        raise ValueError("mask gets no gradient here; got one that wants it")
    xp, leading = namespace(query=query), broadcast_leading(query=query, key=key)
    shape = (*leading, query.shape[-2], key.shape[-2])
    mask = _mask_like(xp, mask, xp.broadcast_to(query[..., :1], shape))  # a view: no memory
    return mask.reshape((1,) * (2 - mask.ndim) + tuple(mask.shape))


def _pair(chunk: int | tuple[int, int]) -> tuple[int, int]:
    """How many queries, and how many keys, are taken at a time."""
    pair = chunk if isinstance(chunk, tuple) else (chunk, chunk)
    if len(pair) != 2 or not all(isinstance(n, int) and not isinstance(n, bool) for n in pair):
        raise TypeError(f"chunk must be an integer or a pair of integers; got {chunk!r}")
    if min(pair) < 1:
        raise ValueError(f"chunk must be at least 1; got {chunk}")
    return pair
