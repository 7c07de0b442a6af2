"""Linear attention: the kernel of a query and a key is a dot product of features.

Then the sum over the keys can be made before the query is known: a memory of shape (d_k, d_v), to
which each key and its value add one product. Three ways lead to the same output: all pairs, one
position after the other, and chunks. Sums are made in float32 at least.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from attn_tutorial._arrays import check_axes, check_floating
from attn_tutorial.core import apply_mask

Query = Float[Tensor, "*#batch n_q d_k"]
Key = Float[Tensor, "*#batch n_k d_k"]
Value = Float[Tensor, "*#batch n_k d_v"]
Memory = Float[Tensor, "... d_k d_memory"]


def elu_plus_one(x: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """The features x + 1 for positive x and exp(x) for the others: positive everywhere.

    Parameters
    ----------
    x : float tensor

    Returns
    -------
    float tensor, of the shape and dtype of x

    References
    ----------
    Katharopoulos et al. (2020), "Transformers are RNNs: Fast Autoregressive Transformers with
    Linear Attention", ICML.
    """
    check_floating(x=x)
    return F.elu(x) + 1


def kernel_attention(
    query: Query,
    key: Key,
    value: Value,
    *,
    mask: Bool[Tensor, "..."] | Float[Tensor, "..."] | None = None,
    normalise: bool = True,
) -> tuple[Float[Tensor, "... n_q d_v"], Float[Tensor, "... n_q n_k"]]:
    """Weight each value by the dot product of two feature vectors; all pairs at once.

    Parameters
    ----------
    query : float tensor, shape (..., n_q, d_k)
        Features of the queries, not the queries themselves.
    key : float tensor, shape (..., n_k, d_k)
        Features of the keys.
    value : float tensor, shape (..., n_k, d_v)
    mask : bool or float array, broadcastable to (..., n_q, n_k), optional
        Boolean: True where the query may attend. Float: added to the logarithm of the kernel, so
        that its exponential multiplies the kernel.
    normalise : bool
        Whether the weights of a query are divided by their sum. With features that may be negative
        the sum may be zero or near it.

    Returns
    -------
    output : float tensor, shape (..., n_q, d_v)
    weights : float tensor, shape (..., n_q, n_k)
        Zero where the mask says no; both are zero where a query's weights sum to zero.

    Raises
    ------
    TypeError
        Where an argument is no floating-point tensor, dtypes differ, or the mask is of integers.
    ValueError
        Where shapes do not fit.

    References
    ----------
    Katharopoulos et al. (2020), "Transformers are RNNs: Fast Autoregressive Transformers with
    Linear Attention", ICML. Tsai et al. (2019), "Transformer Dissection: An Unified Understanding
    for Transformer's Attention via the Lens of Kernel", EMNLP.
    """
    check_operands(query, key, value)
    wide = torch.promote_types(query.dtype, torch.float32)
    kernel = query.to(wide) @ key.to(wide).mT  # (..., n_q, n_k)
    if mask is not None:
        factor = apply_mask(torch.zeros_like(kernel), mask).exp()  # 1, or 0 where it says no
        kernel = torch.where(factor > 0, kernel * factor, 0)
    if normalise:
        kernel = _divided(kernel, kernel.sum(dim=-1, keepdim=True))
    batch = torch.broadcast_shapes(kernel.shape[:-2], value.shape[:-2])
    kernel = kernel.expand(*batch, *kernel.shape[-2:])
    return (kernel @ value.to(wide)).to(query.dtype), kernel.to(query.dtype)


def recurrent_linear_attention(
    query: Query,
    key: Key,
    value: Value,
    *,
    log_decay: Float[Tensor, "..."] | None = None,
    key_mask: Bool[Tensor, "... n"] | None = None,
    normalise: bool = True,
    memory: Memory | None = None,
) -> tuple[Float[Tensor, "... n d_v"], Memory]:
    """Causal linear attention, one position after the other: the definition, and how to decode.

    At each position the memory decays, the key and its value are added, and the query reads.

    Parameters
    ----------
    query, key : float tensors, shape (..., n, d_k)
        Features of the queries and keys.
    value : float tensor, shape (..., n, d_v)
    log_decay : float tensor, broadcastable to (..., n, d_k), optional
        The logarithm, at most 0, of what is left of the memory at each position. A last axis of
        size 1 is one gate for all features; a number that is the same at all positions is the decay
        of a retentive network.
    key_mask : bool tensor, broadcastable to (..., n), optional
        False: this key is not written.
    normalise : bool
        Whether the output is divided by what a value of 1 everywhere would give.
    memory : float tensor, shape (..., d_k, d_memory), optional
        What an earlier call returned; by default zeros.

    Returns
    -------
    output : float tensor, shape (..., n, d_v)
        In the dtype of the query; zeros where nothing has been written yet.
    memory : float tensor, shape (..., d_k, d_memory)
        After the last position; d_memory is d_v, plus 1 for the sum if it normalises.

    Raises
    ------
    TypeError
        Where an argument is no floating-point tensor, or dtypes differ, or key_mask is not boolean.
    ValueError
        Where shapes do not fit, queries and keys differ in number, or a logarithm is above 0.

    References
    ----------
    Katharopoulos et al. (2020), "Transformers are RNNs: Fast Autoregressive Transformers with
    Linear Attention", ICML. Sun et al. (2023), "Retentive Network: A Successor to Transformer for
    Large Language Models", arXiv:2307.08621, for the constant decay. Yang et al. (2024), "Gated
    Linear Attention Transformers with Hardware-Efficient Training", ICML, for gates.
    """
    q, k, v, log_decay, memory = _prepared(
        query, key, value, log_decay, key_mask, normalise, memory
    )
    rows = []
    for i in range(q.shape[-2]):
        now = slice(i, i + 1)
        memory = memory * log_decay[..., now, :].exp().mT + k[..., now, :].mT @ v[..., now, :]
        rows.append(q[..., now, :] @ memory)  # (..., 1, d_memory)
    return _finished(rows, memory, normalise, query.dtype), memory


def linear_attention(
    query: Query,
    key: Key,
    value: Value,
    *,
    chunk: int = 64,
    log_decay: Float[Tensor, "..."] | None = None,
    key_mask: Bool[Tensor, "... n"] | None = None,
    normalise: bool = True,
    memory: Memory | None = None,
) -> tuple[Float[Tensor, "... n d_v"], Memory]:
    """Causal linear attention in chunks: all pairs within a chunk, the memory for what is before.

    The same numbers as `recurrent_linear_attention`, with fewer and larger products: about
    n · (chunk + 2 d_k) · d_v multiplications, and n / chunk steps that wait for each other. With a
    gate for each feature (a last axis of log_decay above 1) a chunk needs memory for
    chunk² · d_k numbers.

    Parameters
    ----------
    query, key, value, log_decay, key_mask, normalise, memory
        As in `recurrent_linear_attention`.
    chunk : int
        How many positions a chunk has; the last may have fewer.

    Returns
    -------
    output : float tensor, shape (..., n, d_v)
    memory : float tensor, shape (..., d_k, d_memory)

    Raises
    ------
    TypeError, ValueError
        As there; and where the chunk is not at least 1.

    References
    ----------
    Sun et al. (2023), "Retentive Network: A Successor to Transformer for Large Language Models",
    arXiv:2307.08621, the chunkwise form. Yang et al. (2024), "Gated Linear Attention Transformers
    with Hardware-Efficient Training", ICML.
    """
    q, k, v, log_decay, memory = _prepared(
        query, key, value, log_decay, key_mask, normalise, memory
    )
    rows = []
    for here in chunks(q.shape[-2], chunk):
        q_here, k_here, v_here = q[..., here, :], k[..., here, :], v[..., here, :]
        so_far = log_decay[..., here, :].cumsum(
            dim=-2
        )  # (..., C, d_k or 1), from the chunk's start
        within = _kernel_within(q_here, k_here, so_far)  # (..., C, C)
        rows.append(within @ v_here + (q_here * so_far.exp()) @ memory)
        to_end = (so_far[..., -1:, :] - so_far).exp()  # what is left of each key at the chunk's end
        memory = memory * so_far[..., -1:, :].exp().mT + (k_here * to_end).mT @ v_here
    return _finished(rows, memory, normalise, query.dtype), memory


def chunks(n: int, chunk: int) -> list[slice]:
    """The positions 0 to n - 1 cut into pieces of `chunk`; the last may be shorter."""
    if chunk < 1:
        raise ValueError(f"chunk must be at least 1; got {chunk}")
    return [slice(start, min(start + chunk, n)) for start in range(0, n, chunk)]


def check_operands(query: Tensor, key: Tensor, value: Tensor, *, causal: bool = False) -> None:
    """Raise unless query, key and value fit together; causal, unless they have the same length."""
    check_floating(query=query, key=key, value=value)
    check_axes("(..., n, d)", query=query, key=key, value=value)
    if query.shape[-1] != key.shape[-1]:
        raise ValueError(
            "query (..., n_q, d_k) and key (..., n_k, d_k) must agree in d_k; got shapes "
            f"{tuple(query.shape)} and {tuple(key.shape)}"
        )
    if key.shape[-2] != value.shape[-2]:
        raise ValueError(
            "key (..., n_k, d_k) and value (..., n_k, d_v) must agree in n_k; got shapes "
            f"{tuple(key.shape)} and {tuple(value.shape)}"
        )
    if causal and query.shape[-2] != key.shape[-2]:
        raise ValueError(
            "query and key must have one row for each position; got shapes "
            f"{tuple(query.shape)} and {tuple(key.shape)}"
        )


def check_memory(memory: Tensor, wanted: tuple[int, ...]) -> None:
    """Raise ValueError unless a memory has the shape that is wanted."""
    if tuple(memory.shape) != wanted:
        raise ValueError(
            f"memory must have shape (..., d_k, d_memory) = {wanted}; got {tuple(memory.shape)}"
        )


def _prepared(query, key, value, log_decay, key_mask, normalise, memory):
    """Everything checked, in the dtype of the sums; the value with a column of ones behind it."""
    check_operands(query, key, value, causal=True)
    wide = torch.promote_types(query.dtype, torch.float32)
    q, k, v = query.to(wide), key.to(wide), value.to(wide)
    if normalise:
        v = torch.cat([v, torch.ones_like(v[..., :1])], dim=-1)  # its average is the sum of weights
    n, d_k = k.shape[-2:]
    if key_mask is not None:
        if key_mask.dtype != torch.bool:
            raise TypeError(f"key_mask must be boolean (True = is written); got {key_mask.dtype}")
        if key_mask.shape[-1] not in (1, n):
            raise ValueError(
                f"key_mask must broadcast to (..., n) = (..., {n}); got {tuple(key_mask.shape)}"
            )
        k = torch.where(key_mask[..., None], k, 0)  # whatever it holds
    if log_decay is None:
        log_decay = k.new_zeros(n, 1)
    elif (
        log_decay.ndim < 2
        or log_decay.shape[-2] not in (1, n)
        or log_decay.shape[-1]
        not in (
            1,
            d_k,
        )
    ):
        raise ValueError(
            f"log_decay must broadcast to (..., n, d_k) = (..., {n}, {d_k}); "
            f"got {tuple(log_decay.shape)}"
        )
    elif (log_decay > 0).any():
        raise ValueError(
            "log_decay must be at most 0, the logarithm of a share; got a number above"
        )
    log_decay = log_decay.to(wide).expand(*log_decay.shape[:-2], n, log_decay.shape[-1])
    batch = torch.broadcast_shapes(*(x.shape[:-2] for x in (q, k, v, log_decay)))
    wanted = (*batch, d_k, v.shape[-1])
    if memory is None:
        memory = k.new_zeros(wanted)
    check_memory(memory, wanted)
    return q, k, v, log_decay, memory.to(wide)


def _kernel_within(query: Tensor, key: Tensor, so_far: Tensor) -> Tensor:
    """The kernel of all pairs of a chunk, decayed between them, and zero for later keys."""
    n = query.shape[-2]
    past = torch.ones(n, n, dtype=torch.bool, device=query.device).tril()[..., None]
    # Differences first: the exponential of each part alone would overflow.
    between = so_far[..., :, None, :] - so_far[..., None, :, :]  # (..., C, C, d_k or 1)
    decay = torch.where(past, between, -torch.inf).exp()
    if decay.shape[-1] == 1:
        return (query @ key.mT) * decay[..., 0]
    return (query[..., :, None, :] * decay * key[..., None, :, :]).sum(dim=-1)


def joined(rows: list[Tensor], memory: Tensor) -> Tensor:
    """The rows of all positions; of none, where there are none."""
    return torch.cat(rows, dim=-2) if rows else memory[..., :0, :]


def _finished(rows: list[Tensor], memory: Tensor, normalise: bool, dtype: torch.dtype) -> Tensor:
    output = joined(rows, memory)
    if normalise:
        output = _divided(output[..., :-1], output[..., -1:])
    return output.to(dtype)


def _divided(x: Tensor, total: Tensor) -> Tensor:
    """x / total, and zero where the total is zero."""
    empty = total == 0
    return torch.where(empty, 0, x / total.masked_fill(empty, 1))
