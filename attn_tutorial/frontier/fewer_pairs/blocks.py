"""Block-sparse attention: blocks of pairs are computed or skipped as a whole."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from attn_tutorial.frontier.fewer_pairs.patterns import at_least
from attn_tutorial.frontier.fewer_pairs.windows import check, widened


def block_attention(
    query: Float[Tensor, "*batch n_q d_k"],
    key: Float[Tensor, "*batch n_k d_k"],
    value: Float[Tensor, "*batch n_k d_v"],
    layout: Bool[np.ndarray, "n_rows n_columns"],
    *,
    block: int,
    allowed: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> Float[Tensor, "*batch n_q d_v"]:
    """Scaled dot-product attention that multiplies only the blocks of pairs that a layout names.

    The blocks of one row share a softmax: each has its own maximum and its own sums, and those are
    brought to the row's maximum before they are added.

    Parameters
    ----------
    query, key, value : float tensors of one dtype
        Shapes (…, n_q, d_k), (…, n_k, d_k), (…, n_k, d_v); leading axes broadcast.
    layout : bool NumPy array, shape (⌈n_q / block⌉, ⌈n_k / block⌉)
        True where a block of queries meets a block of keys.
    block : int
        How many queries, and how many keys, are in a block; the last may have fewer.
    allowed : function (query positions, key positions) -> bool tensor, optional
        Which pairs within the blocks count: it gets int64 tensors that broadcast to the pairs.

    Returns
    -------
    float tensor, shape (…, n_q, d_v)
        In the dtype of the query; computed in float32 at least. Zero where a query has nothing to
        attend to.

    Raises
    ------
    TypeError
        Where the tensors are not floating or of different dtypes, or the layout is not boolean.
    ValueError
        Where shapes do not fit.

    References
    ----------
    Child et al. (2019), "Generating Long Sequences with Sparse Transformers", arXiv:1904.10509,
    whose kernels skip blocks too. Dong et al. (2025), "FlexAttention: A Programming Model for
    Generating Fused Attention Variants", MLSys, for layout and function as two arguments.
    """
    block = at_least(1, block=block)
    check(query, key, value)
    n_q, n_k = query.shape[-2], key.shape[-2]
    _check_layout(layout, (math.ceil(n_q / block), math.ceil(n_k / block)))
    dtype = query.dtype
    query, key, value = (_in_blocks(part, block) for part in (query, key, value))
    device = query.device
    rows, columns = (
        torch.from_numpy(part).to(device) for part in np.nonzero(layout)
    )  # (n_blocks,)

    inside = torch.arange(block, device=device)
    q_positions = (rows[:, None] * block + inside)[:, :, None]  # (n_blocks, block, 1)
    k_positions = (columns[:, None] * block + inside)[:, None, :]  # (n_blocks, 1, block)
    pairs = (k_positions < n_k).expand(-1, block, -1)
    if allowed is not None:
        pairs = pairs & allowed(q_positions, k_positions)
    scores = query[..., rows, :, :] @ key[..., columns, :, :].mT  # (…, n_blocks, block, block)
    scores = (scores / math.sqrt(query.shape[-1])).masked_fill(~pairs, -math.inf)

    maximum = _row_maximum(scores.detach(), rows, len(layout))  # (…, n_blocks, block)
    exponentials = torch.exp(scores - maximum[..., None])
    totals = _row_sums(exponentials.sum(dim=-1, keepdim=True), rows, len(layout))
    weighted = _row_sums(exponentials @ value[..., columns, :, :], rows, len(layout))
    output = weighted / totals.masked_fill(totals == 0, 1)  # (…, n_rows, block, d_v)
    return output.flatten(-3, -2)[..., :n_q, :].to(dtype)


def _in_blocks(tensor: Tensor, block: int) -> Tensor:
    """(…, n, d) to (…, number of blocks, block, d), the last filled with zeros."""
    rest = -tensor.shape[-2] % block
    return F.pad(widened(tensor), (0, 0, 0, rest)).unflatten(-2, (-1, block))


def _row_maximum(scores: Tensor, rows: Tensor, n_rows: int) -> Tensor:
    """For each block the largest score that its queries have in any block; zero for all −inf."""
    own = scores.amax(dim=-1)  # (…, n_blocks, block)
    whole = own.new_full((*own.shape[:-2], n_rows, own.shape[-1]), -math.inf)
    whole = whole.scatter_reduce(-2, rows[:, None].expand_as(own), own, "amax")
    return whole.masked_fill(whole == -math.inf, 0)[..., rows, :]


def _row_sums(parts: Tensor, rows: Tensor, n_rows: int) -> Tensor:
    """The sum over the blocks of each row: (…, n_blocks, block, d) to (…, n_rows, block, d)."""
    whole = parts.new_zeros((*parts.shape[:-3], n_rows, *parts.shape[-2:]))
    return whole.index_add(whole.ndim - 3, rows, parts)


def _check_layout(layout: np.ndarray, wanted: tuple[int, int]) -> None:
    if not isinstance(layout, np.ndarray) or layout.dtype != bool:
        raise TypeError(
            "layout must be a boolean NumPy array; got "
            f"{getattr(layout, 'dtype', type(layout).__name__)}"
        )
    if layout.shape != wanted:
        raise ValueError(
            f"layout must have a row for each block of queries and a column for each of keys, "
            f"{wanted}; got shape {layout.shape}"
        )
