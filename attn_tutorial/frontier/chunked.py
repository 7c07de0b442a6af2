"""Attention in chunks: the same output as `attention`, and never all weights at once.

A softmax needs the sum over all keys before it can give the first weight. The online softmax does
without: it keeps a running maximum, a running sum and a running weighted sum, and corrects them
when a larger score turns up (Milakov and Gimelshein, "Online normalizer calculation for softmax",
2018). Rabe and Staats ("Self-attention does not need O(n²) memory", 2021) and Dao and others
("FlashAttention", 2022) build attention on it. The backward pass computes the weights anew from the
scores and one kept number a query, the logarithm of the sum of exponentials.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

# Which keys may be attended to: (…, n_q, n_k), or a function of the positions of some queries and
# some keys that gives that part of it.
Block = Callable[[Tensor, Tensor], Tensor]
Mask = Bool[Tensor, "*batch n_q n_k"] | Float[Tensor, "*batch n_q n_k"] | Block | None


class State(NamedTuple):
    """What is known of a softmax after some of the keys.

    Attributes
    ----------
    maximum : float tensor, shape (…, n_q)
        The largest score so far; −inf where no key was allowed.
    total : float tensor, shape (…, n_q)
        The sum of exp(score − maximum).
    weighted : float tensor, shape (…, n_q, d_v)
        The sum of exp(score − maximum) · value.
    """

    maximum: Float[Tensor, "*batch n_q"]
    total: Float[Tensor, "*batch n_q"]
    weighted: Float[Tensor, "*batch n_q d_v"]


def state_of(scores: Float[Tensor, "*batch n_q n_k"], value: Float[Tensor, "*batch n_k d_v"]) -> State:
    """The state after all keys of one chunk; a score of −inf excludes its key."""
    maximum = scores.amax(dim=-1)
    exponentials = torch.exp(scores - _finite(maximum)[..., None])
    return State(maximum, exponentials.sum(dim=-1), exponentials @ value)


def merge(one: State, other: State) -> State:
    """The state after the keys of both; associative, and the order does not matter.

    Milakov and Gimelshein (2018) merge maxima and sums so; here is a weighted sum beside them.
    """
    maximum = torch.maximum(one.maximum, other.maximum)
    kept = torch.exp(one.maximum - _finite(maximum))  # what was summed is made smaller
    added = torch.exp(other.maximum - _finite(maximum))
    return State(
        maximum,
        one.total * kept + other.total * added,
        one.weighted * kept[..., None] + other.weighted * added[..., None],
    )


def finish(state: State) -> tuple[Float[Tensor, "*batch n_q d_v"], Float[Tensor, "*batch n_q"]]:
    """The output, and the logarithm of the sum of exponentials.

    Where no key was allowed the output is zero and the logarithm −inf.
    """
    empty = state.total == 0
    output = state.weighted / state.total.masked_fill(empty, 1)[..., None]
    return output, state.maximum + torch.log(state.total)


def chunked_attention(
    query: Float[Tensor, "*batch n_q d_k"],
    key: Float[Tensor, "*batch n_k d_k"],
    value: Float[Tensor, "*batch n_k d_v"],
    *,
    mask: Mask = None,
    chunk: int = 128,
) -> Float[Tensor, "*batch n_q d_v"]:
    """Scaled dot-product attention whose memory grows with n_q + n_k, not with their product.

    Forward and backward hold the scores of `chunk` queries and `chunk` keys at a time.

    Parameters
    ----------
    query, key, value : float tensors of one dtype
        Shapes (…, n_q, d_k), (…, n_k, d_k) and (…, n_k, d_v); leading axes broadcast.
    mask : bool tensor, float tensor, or function, optional
        As in `attention`: True where a query may attend, or what is added to the scores. It
        broadcasts to (…, n_q, n_k), and is then itself as large as the scores. A function takes the
        positions of some queries (n, 1) and of some keys (1, m), int64, and returns that part of
        the mask: with it nothing of that size is ever held. It gets no gradient.
    chunk : int
        How many queries, and how many keys, are taken at a time.

    Returns
    -------
    float tensor, shape (…, n_q, d_v)
        In the dtype of the query; sums are made in float32 at least. Zeros where nothing is
        allowed.

    Raises
    ------
    TypeError
        Where query, key and value are not floating, or differ in dtype.
    ValueError
        Where shapes do not fit, the chunk is empty, or the mask wants a gradient.
    """
    _check(query, key, value, mask, chunk)
    batch = torch.broadcast_shapes(query.shape[:-2], key.shape[:-2], value.shape[:-2])
    if isinstance(mask, Tensor):
        batch = torch.broadcast_shapes(batch, mask.shape[:-2])
    whole = [part.expand(*batch, *part.shape[-2:]) for part in (query, key, value)]
    return _Chunked.apply(*whole, mask, chunk)


class _Chunked(torch.autograd.Function):
    @staticmethod
    def forward(context, query, key, value, mask, chunk):
        output = query.new_empty(*query.shape[:-1], value.shape[-1])
        logarithms = query.new_empty(query.shape[:-1], dtype=_sums(query.dtype))
        for rows in _chunks(query.shape[-2], chunk):
            state = _empty(query[..., rows, :], value)
            for columns in _chunks(key.shape[-2], chunk):
                scores = _scores(query, key, mask, rows, columns)
                state = merge(state, state_of(scores, value[..., columns, :].to(scores.dtype)))
            found, logarithms[..., rows] = finish(state)
            output[..., rows, :] = found.to(query.dtype)
        context.save_for_backward(query, key, value, output, logarithms)
        context.mask, context.chunk = mask, chunk
        return output

    @staticmethod
    def backward(context, d_output):
        query, key, value, output, logarithms = context.saved_tensors
        mask, chunk = context.mask, context.chunk
        sums = _sums(query.dtype)
        d_query, d_key, d_value = (
            torch.zeros_like(part, dtype=sums, memory_format=torch.contiguous_format)
            for part in (query, key, value)
        )
        scale = 1 / math.sqrt(query.shape[-1])
        for rows in _chunks(query.shape[-2], chunk):
            d_rows = d_output[..., rows, :].to(sums)
            # Each weight's gradient loses the mean of its row's, which is one product of two rows.
            mean = (d_rows * output[..., rows, :].to(sums)).sum(dim=-1, keepdim=True)
            for columns in _chunks(key.shape[-2], chunk):
                scores = _scores(query, key, mask, rows, columns)
                weights = torch.exp(scores - _finite(logarithms[..., rows])[..., None])
                d_value[..., columns, :] += weights.mT @ d_rows
                d_weights = d_rows @ value[..., columns, :].to(sums).mT
                d_scores = scale * weights * (d_weights - mean)
                d_query[..., rows, :] += d_scores @ key[..., columns, :].to(sums)
                d_key[..., columns, :] += d_scores.mT @ query[..., rows, :].to(sums)
        return *(d.to(query.dtype) for d in (d_query, d_key, d_value)), None, None


def _scores(query: Tensor, key: Tensor, mask: Mask, rows: slice, columns: slice) -> Tensor:
    """The scores of some queries and some keys, −inf where the mask says no."""
    sums = _sums(query.dtype)
    scores = query[..., rows, :].to(sums) @ key[..., columns, :].to(sums).mT
    scores = scores / math.sqrt(query.shape[-1])
    if mask is None:
        return scores
    if isinstance(mask, Tensor):
        n_q, n_k = mask.shape[-2:]
        part = mask[..., rows if n_q > 1 else slice(None), columns if n_k > 1 else slice(None)]
    else:
        positions = torch.arange(max(rows.stop, columns.stop), device=query.device)
        part = mask(positions[rows, None], positions[None, columns])
    if part.dtype == torch.bool:
        return scores.masked_fill(~part, -math.inf)
    # A key that is ruled out is out, whatever it holds: NaN − inf would be NaN.
    return torch.where(part == -math.inf, -math.inf, scores + part)


def _chunks(n: int, chunk: int) -> list[slice]:
    return [slice(start, min(start + chunk, n)) for start in range(0, n, chunk)]


def _empty(query: Tensor, value: Tensor) -> State:
    """The state before the first key."""
    sums = _sums(query.dtype)
    total = query.new_zeros(query.shape[:-1], dtype=sums)
    weighted = query.new_zeros(*query.shape[:-1], value.shape[-1], dtype=sums)
    return State(torch.full_like(total, -math.inf), total, weighted)


def _sums(dtype: torch.dtype) -> torch.dtype:
    """In which dtype sums are made."""
    return torch.promote_types(dtype, torch.float32)


def _finite(x: Tensor) -> Tensor:
    """Zero for −inf, so that no −inf is taken from another."""
    return x.masked_fill(x == -math.inf, 0)


def _check(query: Tensor, key: Tensor, value: Tensor, mask: Mask, chunk: int) -> None:
    for name, part in (("query", query), ("key", key), ("value", value)):
        if not part.is_floating_point() or part.dtype != query.dtype:
            raise TypeError(
                f"query, key and value must be floating and of one dtype; {name} is {part.dtype} "
                f"and query is {query.dtype}"
            )
        if part.ndim < 2:
            raise ValueError(f"{name} must have shape (…, n, d); got {tuple(part.shape)}")
    if query.shape[-1] != key.shape[-1] or query.shape[-1] == 0:
        raise ValueError(
            "query and key must have vectors of one size, at least 1; got "
            f"{tuple(query.shape)} and {tuple(key.shape)}"
        )
    if key.shape[-2] != value.shape[-2]:
        raise ValueError(
            "key and value must be as many; got " f"{tuple(key.shape)} and {tuple(value.shape)}"
        )
    if chunk < 1:
        raise ValueError(f"chunk must be at least 1; got {chunk}")
    if isinstance(mask, Tensor):
        if mask.requires_grad:
            raise ValueError("mask gets no gradient here; give one that wants none")
        wanted = (query.shape[-2], key.shape[-2])
        fits = mask.ndim >= 2 and all(
            n in (1, m) for n, m in zip(mask.shape[-2:], wanted, strict=True)
        )
        if not fits:
            raise ValueError(
                f"mask must broadcast to (…, {wanted[0]}, {wanted[1]}); got {tuple(mask.shape)}"
            )
        if mask.dtype != torch.bool and not mask.is_floating_point():
            raise TypeError(f"mask must be boolean or floating; got {mask.dtype}")
