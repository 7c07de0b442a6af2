"""A sliding window computed on its own pairs, and not on all pairs behind a mask."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from attn_tutorial.frontier.fewer_pairs.patterns import at_least


def window_attention(
    query: Float[Tensor, "*batch n d_k"],
    key: Float[Tensor, "*batch n d_k"],
    value: Float[Tensor, "*batch n d_v"],
    *,
    left: int,
    right: int = 0,
    n_sinks: int = 0,
    block: int | None = None,
) -> Float[Tensor, "*batch n d_v"]:
    """Scaled dot-product attention of each position to its neighbours, and to the first positions.

    The queries are cut into blocks. Each block meets only the keys that one of its queries may
    see: `block + left + right` neighbours and `n_sinks` sinks. With `block=1` no pair is computed
    that is not wanted, but neighbouring queries share no work: where there is a batch, each key is
    copied once for every query that sees it. With larger blocks fewer copies are made, and some
    pairs are computed and masked.

    Parameters
    ----------
    query, key, value : float tensors of one dtype
        Shapes (…, n, d_k), (…, n, d_k), (…, n, d_v); leading axes broadcast.
    left, right : int
        How many positions before and after its own a query sees.
    n_sinks : int
        How many of the first positions every later query sees too.
    block : int, optional
        Queries in a block; by default left + right + 1.

    Returns
    -------
    float tensor, shape (…, n, d_v)
        In the dtype of the query; computed in float32 at least. The same as `attention` with the
        mask of these pairs.

    Raises
    ------
    TypeError
        Where the tensors are not floating or of different dtypes, or a number is not whole.
    ValueError
        Where shapes do not fit, or a number is too small.

    References
    ----------
    Beltagy, Peters and Cohan (2020), "Longformer: The Long-Document Transformer",
    arXiv:2004.05150, section 3.1, for the window. Xiao et al. (2024), "Efficient Streaming Language
    Models with Attention Sinks", ICLR, for the sinks.
    """
    left, right = at_least(0, left=left), at_least(0, right=right)
    n_sinks = at_least(0, n_sinks=n_sinks)
    block = left + right + 1 if block is None else at_least(1, block=block)
    check(query, key, value)
    n = query.shape[-2]
    if key.shape[-2] != n:
        raise ValueError(
            f"query and key must be as many, one of each at a position; got {n} and {key.shape[-2]}"
        )
    dtype = query.dtype
    query, key, value = (widened(part) for part in (query, key, value))
    rest, span, n_sinks = -n % block, block + left + right, min(n_sinks, n)

    query = F.pad(query, (0, 0, 0, rest)).unflatten(-2, (-1, block))  # (…, n_blocks, block, d_k)
    near, near_value = (
        F.pad(part, (0, 0, left, right + rest)).unfold(-2, span, block)  # (…, n_blocks, d, span)
        for part in (key, value)
    )
    rows = torch.arange(n + rest, device=query.device).view(-1, block, 1)  # (n_blocks, block, 1)
    columns = rows[:, :1] - left + torch.arange(span, device=query.device)  # (n_blocks, 1, span)
    allowed = (columns >= rows - left) & (columns <= rows + right) & (columns >= 0) & (columns < n)
    allowed = allowed | (rows >= n)  # queries that only fill the last block see zeros

    scores = (query @ near).masked_fill(~allowed, -math.inf)  # (…, n_blocks, block, span)
    if n_sinks:
        sinks = torch.arange(n_sinks, device=query.device)
        far = query @ key[..., None, :n_sinks, :].mT  # (…, n_blocks, block, n_sinks)
        far = far.masked_fill(sinks >= rows - left, -math.inf)  # near ones are counted already
        scores = torch.cat([far, scores], dim=-1)
    weights = (scores / math.sqrt(query.shape[-1])).softmax(dim=-1)
    output = weights[..., n_sinks:] @ near_value.mT  # (…, n_blocks, block, d_v)
    if n_sinks:
        output = output + weights[..., :n_sinks] @ value[..., None, :n_sinks, :]
    return output.flatten(-3, -2)[..., :n, :].to(dtype)


def pairs_computed(
    n: int, *, left: int, right: int = 0, n_sinks: int = 0, block: int | None = None
) -> int:
    """How many pairs of a query and a key `window_attention` multiplies: n · (window + sinks) and a
    margin for the blocks."""
    block = left + right + 1 if block is None else block
    return math.ceil(n / block) * block * (block + left + right + min(n_sinks, n))


def widened(tensor: Tensor) -> Tensor:
    """In float32 at least, so that sums of 16-bit numbers keep their digits."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def check(query: Tensor, key: Tensor, value: Tensor) -> None:
    """The tensors must fit one another, as in `attention`."""
    for name, tensor in (("query", query), ("key", key), ("value", value)):
        if not tensor.is_floating_point() or tensor.dtype != query.dtype:
            raise TypeError(
                f"query, key and value must be floating and of one dtype; {name} is "
                f"{tensor.dtype} and query is {query.dtype}"
            )
        if tensor.ndim < 2:
            raise ValueError(f"{name} must have shape (…, n, d); got {tuple(tensor.shape)}")
    if query.shape[-1] != key.shape[-1] or not query.shape[-1]:
        raise ValueError(
            "query and key must be vectors of one size, at least 1; got shapes "
            f"{tuple(query.shape)} and {tuple(key.shape)}"
        )
    if key.shape[-2] != value.shape[-2]:
        raise ValueError(
            f"key and value must be as many; got shapes {tuple(key.shape)} and {tuple(value.shape)}"
        )
