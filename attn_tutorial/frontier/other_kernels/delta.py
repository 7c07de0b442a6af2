"""The delta rule: before it writes a value, the memory takes away what it already holds there.

Linear attention adds: S ← S + k vᵀ. The delta rule corrects: S ← S + β k (v − Sᵀ k)ᵀ, a step of
gradient descent on the squared error of recalling v from k.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from attn_tutorial._arrays import check_floating
from attn_tutorial.frontier.other_kernels.linear import (
    Key,
    Memory,
    Query,
    Value,
    check_memory,
    check_operands,
    chunks,
    joined,
)


def recurrent_delta_rule(
    query: Query,
    key: Key,
    value: Value,
    strength: Float[Tensor, "*#batch n"],
    *,
    memory: Memory | None = None,
) -> tuple[Float[Tensor, "... n d_v"], Memory]:
    """The delta rule, one position after the other: the definition, and how to decode.

    Parameters
    ----------
    query, key : float tensors, shape (..., n, d_k)
        Give the keys unit length: the memory keeps 1 − β|k|² of what it held along a key, and
        grows without bound where that is below −1 again and again.
    value : float tensor, shape (..., n, d_v)
    strength : float tensor, shape (..., n)
        β: 0 writes nothing; 1, with a unit key, replaces what the key held.
    memory : float tensor, shape (..., d_k, d_v), optional
        What an earlier call returned; by default zeros.

    Returns
    -------
    output : float tensor, shape (..., n, d_v)
        What the query finds in the memory after the position's key was written; not divided by
        any sum. In the dtype of the query; sums are made in float32 at least.
    memory : float tensor, shape (..., d_k, d_v)

    Raises
    ------
    TypeError
        Where an argument is no floating-point tensor, or dtypes differ.
    ValueError
        Where shapes do not fit.

    References
    ----------
    Schlag, Irie and Schmidhuber (2021), "Linear Transformers Are Secretly Fast Weight
    Programmers", ICML.
    """
    q, k, v, beta, memory = _prepared(query, key, value, strength, memory)
    rows = []
    for i in range(q.shape[-2]):
        now = slice(i, i + 1)
        error = v[..., now, :] - k[..., now, :] @ memory  # (..., 1, d_v)
        memory = memory + k[..., now, :].mT @ (beta[..., now, :] * error)
        rows.append(q[..., now, :] @ memory)
    return joined(rows, memory).to(query.dtype), memory


def delta_rule(
    query: Query,
    key: Key,
    value: Value,
    strength: Float[Tensor, "*#batch n"],
    *,
    chunk: int = 64,
    memory: Memory | None = None,
) -> tuple[Float[Tensor, "... n d_v"], Memory]:
    """The delta rule in chunks: the same numbers as `recurrent_delta_rule`, in larger products.

    Within a chunk the corrections u solve (I + A) u = β (v − k S), where A holds β_i k_i · k_j for
    j before i and S is the memory before the chunk. That is a triangular system, solved for all
    positions of the chunk at once. The corrections then stand where the values of linear attention
    stand.

    Parameters
    ----------
    query, key, value, strength, memory
        As in `recurrent_delta_rule`.
    chunk : int
        How many positions a chunk has; the last may have fewer.

    Returns
    -------
    output : float tensor, shape (..., n, d_v)
    memory : float tensor, shape (..., d_k, d_v)

    Raises
    ------
    TypeError, ValueError
        As there; and where the chunk is not at least 1.

    References
    ----------
    Yang et al. (2024), "Parallelizing Linear Transformers with the Delta Rule over Sequence
    Length", NeurIPS, appendix B. It finds the two parts of u, from v and from k S, apart from each
    other (the WY representation of a product of Householder matrices), so that all chunks can do it
    at the same time; here they are one system.
    """
    q, k, v, beta, memory = _prepared(query, key, value, strength, memory)
    rows = []
    for here in chunks(q.shape[-2], chunk):
        q_here, k_here, v_here = q[..., here, :], k[..., here, :], v[..., here, :]
        before = (beta[..., here, :] * (k_here @ k_here.mT)).tril(-1)  # A (..., C, C)
        wanted = beta[..., here, :] * (v_here - k_here @ memory)  # (..., C, d_v)
        leading = torch.broadcast_shapes(before.shape[:-2], wanted.shape[:-2])
        corrections = torch.linalg.solve_triangular(
            before.expand(*leading, *before.shape[-2:]),
            wanted.expand(*leading, *wanted.shape[-2:]),
            upper=False,
            unitriangular=True,
        )  # its diagonal counts as ones: I + A
        rows.append((q_here @ k_here.mT).tril() @ corrections + q_here @ memory)
        memory = memory + k_here.mT @ corrections
    return joined(rows, memory).to(query.dtype), memory


def _prepared(query, key, value, strength, memory):
    check_operands(query, key, value, causal=True)
    check_floating(query=query, strength=strength)
    n, d_k = key.shape[-2:]
    if strength.ndim < 1 or strength.shape[-1] != n:
        raise ValueError(
            f"strength must have shape (..., n) = (..., {n}); got {tuple(strength.shape)}"
        )
    wide = torch.promote_types(query.dtype, torch.float32)
    q, k, v, beta = (x.to(wide) for x in (query, key, value, strength[..., None]))
    batch = torch.broadcast_shapes(*(x.shape[:-2] for x in (q, k, v, beta)))
    wanted = (*batch, d_k, v.shape[-1])
    if memory is None:
        memory = k.new_zeros(wanted)
    check_memory(memory, wanted)
    return q, k, v, beta, memory.to(wide)
