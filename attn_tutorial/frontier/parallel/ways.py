"""Attention whose sequence, or whose heads, lie on several machines: the same output.

Ring attention: each process keeps its queries, and the keys and values travel (Liu, Zaharia and
Abbeel, "Ring Attention with Blockwise Transformers for Near-Infinite Context", 2023). Striped
(Brandon and others, "Striped Attention: Faster Ring Attention for Causal Transformers", 2023), each
process keeps every size-th position, so that a causal mask leaves all of them the same work.

All-to-all: the processes exchange parts of the sequence for heads, and back (Jacobs and others,
"DeepSpeed Ulysses", 2023).

Tensor parallel: each process has the whole sequence and the parameters of some heads (Shoeybi and
others, "Megatron-LM", 2019).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from attn_tutorial.core import attention
from attn_tutorial.frontier.chunked import (
    State,
    chunked_attention,
    finish,
    merge,
    state_of,
)
from attn_tutorial.frontier.parallel.peers import Peers
from attn_tutorial.layers import MultiHeadAttention

# From the positions of some queries (n, 1) and some keys (1, m): which may attend to which.
Block = Callable[[Tensor, Tensor], Tensor]


@dataclass
class Allowed:
    """A mask as a function of positions: causal or not, and sequences that differ in length.

    Attributes
    ----------
    causal : bool
        Whether only keys up to the query's own position may be attended to.
    lengths : int tensor, shape (batch,), optional
        How many keys each sequence has; what follows is padding. The mask is then that of arrays
        (batch, n_heads, n, d).
    """

    causal: bool = False
    lengths: Int[Tensor, " batch"] | None = None

    def __call__(
        self, rows: Int[Tensor, "n 1"], columns: Int[Tensor, "1 m"]
    ) -> Bool[Tensor, "*batch n m"]:
        allowed = columns <= rows if self.causal else torch.ones_like(columns <= rows)
        if self.lengths is None:
            return allowed
        return allowed & (columns < self.lengths.to(columns.device)[:, None, None, None])


def positions(n: int, rank: int, size: int, *, striped: bool = False) -> Int[Tensor, " n"]:
    """Where the n positions of one process stand in the whole sequence of n · size."""
    return torch.arange(n) * size + rank if striped else torch.arange(n) + rank * n


def cut(
    whole: Float[Tensor, "*batch n d"], rank: int, size: int, *, striped: bool = False
) -> Float[Tensor, "*batch part d"]:
    """A copy of one process's part of a sequence.

    Raises
    ------
    ValueError
        Where the sequence cannot be cut into `size` equal parts.
    """
    n = whole.shape[-2]
    if n % size:
        raise ValueError(f"a sequence of {n} positions has no {size} equal parts; pad it first")
    own = positions(n // size, rank, size, striped=striped)
    return whole[..., own.to(whole.device), :]


def joined(
    parts: Sequence[Float[Tensor, "*batch part d"]], *, striped: bool = False
) -> Float[Tensor, "*batch n d"]:
    """The whole sequence again, from the parts of all processes in order."""
    if striped:
        return torch.stack(list(parts), dim=-2).flatten(-3, -2)
    return torch.cat(list(parts), dim=-2)


# --- the ring --------------------------------------------------------------------------------


def ring_attention(
    query: Float[Tensor, "*batch part d_k"],
    key: Float[Tensor, "*#batch part d_k"],
    value: Float[Tensor, "*#batch part d_v"],
    *,
    peers: Peers,
    mask: Block | None = None,
    striped: bool = False,
    chunk: int = 128,
) -> Float[Tensor, "*batch part d_v"]:
    """Scaled dot-product attention over a sequence that is cut among processes.

    Every process calls it with its own part; parts are equally long. The keys and values travel
    round the ring, and what is known of each query's softmax is merged; in the backward pass they
    travel again, and their gradients with them. No process ever holds more than two parts.

    Parameters
    ----------
    query, key, value : float tensors of one dtype
        Shapes (…, part, d_k), (…, part, d_k) and (…, part, d_v). Leading axes of key and value
        broadcast to those of the query: keys and values that several heads share travel once.
    peers : Peers
    mask : function of positions, optional
        It takes the positions in the whole sequence of some queries (n, 1) and of some keys
        (1, m), int64, and returns whether the query may attend to the key, bool, broadcastable to
        (…, n, m). A piece where nothing is allowed is not computed.
    striped : bool
        Whether rank r has the positions r, r + size, r + 2 size, … (Brandon and others 2023). Else
        it has part · r up to part · (r + 1).
    chunk : int
        How many queries and how many keys are multiplied at a time.

    Returns
    -------
    float tensor, shape (…, part, d_v)
        The output of this process's queries, in their dtype; sums are made in float32 at least.
        Zeros where nothing is allowed.

    Raises
    ------
    TypeError
        Where query, key and value are not floating or differ in dtype, or the mask is no function.
    ValueError
        Where shapes do not fit, or the chunk is empty.
    """
    _check(query, key, value, mask, chunk)
    return _Ring.apply(query, key, value, mask, peers, striped, chunk)


class _Ring(torch.autograd.Function):
    @staticmethod
    def forward(context, query, key, value, mask, peers, striped, chunk):
        ring = _Steps(query.shape[-2], peers, mask, striped, chunk, query.device)
        kept_key, kept_value = key, value
        states = [_empty(query[..., rows, :], value) for rows in ring.chunks]
        for step in range(peers.size):
            # What the next process needs is on its way while this one computes.
            arrived = peers.pass_on(key, value) if step < peers.size - 1 else None
            for number, rows, columns, allowed in ring.pieces(step):
                scores = _scores(query[..., rows, :], key[..., columns, :], allowed)
                piece = state_of(scores, value[..., columns, :].to(scores.dtype))
                states[number] = merge(states[number], piece)
            if arrived is not None:
                key, value = arrived()
        found = [finish(state) for state in states]
        output = torch.cat([one for one, _ in found], dim=-2).to(query.dtype)
        logarithms = torch.cat([one for _, one in found], dim=-1)  # (…, part)
        context.save_for_backward(query, kept_key, kept_value, output, logarithms)
        context.ring, context.peers = ring, peers
        return output

    @staticmethod
    def backward(context, d_output):
        query, key, value, output, logarithms = context.saved_tensors
        ring, peers = context.ring, context.peers
        sums = logarithms.dtype
        d_query, d_key, d_value = (
            torch.zeros_like(one, dtype=sums, memory_format=torch.contiguous_format)
            for one in (query, key, value)
        )
        d_output = d_output.to(sums)
        mean = (d_output * output.to(sums)).sum(dim=-1, keepdim=True)
        scale = 1 / math.sqrt(query.shape[-1])
        for step in range(peers.size):
            arrived = peers.pass_on(key, value) if step < peers.size - 1 else None
            for _, rows, columns, allowed in ring.pieces(step):
                some, its = query[..., rows, :].to(sums), key[..., columns, :].to(sums)
                scores = _scores(some, its, allowed)
                weights = torch.exp(scores - _finite(logarithms[..., rows])[..., None])
                d_weights = d_output[..., rows, :] @ value[..., columns, :].to(sums).mT
                d_scores = scale * weights * (d_weights - mean[..., rows, :])
                d_query[..., rows, :] += d_scores @ its
                _add(d_key[..., columns, :], d_scores.mT @ some)
                _add(d_value[..., columns, :], weights.mT @ d_output[..., rows, :])
            if arrived is not None:
                key, value = arrived()
            # The gradients follow their keys, and the last step brings them home.
            d_key, d_value = peers.pass_on(d_key, d_value)()
        gradients = (one.to(query.dtype) for one in (d_query, d_key, d_value))
        return *gradients, None, None, None, None


class _Steps:
    """Which pieces of the table of scores one process computes, step by step."""

    def __init__(
        self,
        n: int,
        peers: Peers,
        mask: Block | None,
        striped: bool,
        chunk: int,
        device: torch.device | None = None,
    ) -> None:
        self.chunks = [slice(start, min(start + chunk, n)) for start in range(0, n, chunk)]
        self.peers, self.mask, self.striped, self.n = peers, mask, striped, n
        self.device = device

    def pieces(self, step: int) -> Iterator[tuple[int, slice, slice, Tensor | None]]:
        """Number and slice of the queries, slice of the keys, and the mask's part for them."""
        rank, size = self.peers.rank, self.peers.size
        own, others = (
            positions(self.n, one, size, striped=self.striped).to(self.device)
            for one in (rank, (rank - step) % size)
        )
        for number, rows in enumerate(self.chunks):
            for columns in self.chunks:
                if self.mask is None:
                    yield number, rows, columns, None
                    continue
                allowed = self.mask(own[rows, None], others[None, columns])
                if allowed.any():
                    yield number, rows, columns, allowed


def scores_computed(
    n: int, size: int, *, mask: Block | None = None, striped: bool = False, chunk: int = 128
) -> Int[Tensor, "size size"]:
    """How many scores each process of a ring computes for each sequence and head.

    Parameters
    ----------
    n, size : int
        The length of the whole sequence, and the number of processes.
    mask, striped, chunk
        As in `ring_attention`.

    Returns
    -------
    int tensor, shape (size, size)
        A row for each step, a column for each rank.
    """
    table = torch.zeros(size, size, dtype=torch.int64)
    for rank in range(size):
        steps = _Steps(n // size, Peers(rank, size), mask, striped, chunk)
        for step in range(size):
            for _, rows, columns, _ in steps.pieces(step):
                table[step, rank] += (rows.stop - rows.start) * (columns.stop - columns.start)
    return table


# --- all-to-all ------------------------------------------------------------------------------


def all_to_all_attention(
    query: Float[Tensor, "*batch n_heads part d_k"],
    key: Float[Tensor, "*batch n_kv_heads part d_k"],
    value: Float[Tensor, "*batch n_kv_heads part d_v"],
    *,
    peers: Peers,
    mask: Block | None = None,
    chunk: int = 128,
) -> Float[Tensor, "*batch n_heads part d_v"]:
    """Attention over a sequence that is cut among processes, each of which takes some heads.

    Every process calls it with its own part of the sequence, in order, and all heads. One exchange
    gives it the whole sequence of some heads; another, after attention, brings the outputs back.

    Parameters
    ----------
    query, key, value : float tensors of one dtype
        Shapes (…, n_heads, part, d); key and value may have fewer heads, which divide those of the
        query and are shared by neighbouring heads.
    peers : Peers
        As many as divide all numbers of heads.
    mask : function of positions, optional
        As in `ring_attention`, the same for all heads.
    chunk : int
        As in `chunked_attention`, which attends.

    Returns
    -------
    float tensor, shape (…, n_heads, part, d_v)

    Raises
    ------
    TypeError, ValueError
        As in `ring_attention`, and where the heads do not divide.
    """
    for name, one in (("query", query), ("key", key), ("value", value)):
        if one.ndim < 3 or one.shape[-3] % peers.size:
            raise ValueError(
                f"{name} must have shape (…, n_heads, part, d) with heads that {peers.size} "
                f"processes can share; got {tuple(one.shape)}"
            )
    if query.shape[-3] % key.shape[-3] or key.shape[-3] != value.shape[-3]:
        raise ValueError(
            "the heads of key and value must be as many, and divide those of query; got "
            f"{query.shape[-3]}, {key.shape[-3]} and {value.shape[-3]}"
        )
    query, key, value = (_Swap.apply(one, -3, -2, peers) for one in (query, key, value))
    # (…, n_heads / size, n, d): the whole sequence of some heads
    shared = query.shape[-3] // key.shape[-3]
    key, value = (one.repeat_interleave(shared, dim=-3) for one in (key, value))
    output = chunked_attention(query, key, value, mask=mask, chunk=chunk)
    return _Swap.apply(output, -2, -3, peers)


class _Swap(torch.autograd.Function):
    """Cut along one axis, send each process its piece, and join what comes along another axis."""

    @staticmethod
    def forward(context, tensor, split, join, peers):
        context.split, context.join, context.peers = split, join, peers
        return _swapped(tensor, split, join, peers)

    @staticmethod
    def backward(context, d_output):
        back = _swapped(d_output, context.join, context.split, context.peers)
        return back, None, None, None


def _swapped(tensor: Tensor, split: int, join: int, peers: Peers) -> Tensor:
    return torch.cat(peers.swap(tensor.chunk(peers.size, dim=split)), dim=join)


# --- heads -----------------------------------------------------------------------------------


class TensorParallelAttention(nn.Module):
    """Multi-head self-attention of which each process has some heads, and all of the sequence.

    A process holds the columns of the projections, and the rows of the output's, that belong to
    its heads. The outputs of all heads are a sum, so one sum over the processes makes the output;
    and one more, in the backward pass, the gradient of the input.

    Parameters
    ----------
    whole : MultiHeadAttention
        What is to be cut; its parameters are copied.
    peers : Peers

    Raises
    ------
    ValueError
        Where the processes do not divide the heads.
    """

    def __init__(self, whole: MultiHeadAttention, peers: Peers) -> None:
        super().__init__()
        for name in ("n_heads", "n_kv_heads"):
            if getattr(whole, name) % peers.size:
                raise ValueError(
                    f"{name} must be a multiple of the {peers.size} processes; "
                    f"got {getattr(whole, name)}"
                )
        self.peers, self.d_head = peers, whole.d_head
        self.query, self.key, self.value = (
            _some_rows(linear, peers) for linear in (whole.query, whole.key, whole.value)
        )
        columns = whole.out.weight.chunk(peers.size, dim=1)[peers.rank]
        self.out = nn.Parameter(columns.detach().clone())  # (d_model, heads here · d_head)
        self.bias = (
            None if whole.out.bias is None else nn.Parameter(whole.out.bias.detach().clone())
        )

    def forward(
        self, x: Float[Tensor, "batch n d_model"], *, mask: Tensor | None = None
    ) -> Float[Tensor, "batch n d_model"]:
        """What the whole module returns, on every process."""
        x = _Enter.apply(x, self.peers)
        query, key, value = (
            rearrange(project(x), "batch n (heads d) -> batch heads n d", d=self.d_head)
            for project in (self.query, self.key, self.value)
        )
        shared = query.shape[1] // key.shape[1]
        key, value = (one.repeat_interleave(shared, dim=1) for one in (key, value))
        heads, _ = attention(query, key, value, mask=mask)
        heads = rearrange(heads, "batch heads n d -> batch n (heads d)")
        output = _Leave.apply(heads @ self.out.T, self.peers)
        return output if self.bias is None else output + self.bias


def _some_rows(linear: nn.Linear, peers: Peers) -> nn.Linear:
    """The part of a projection that makes this process's features."""
    own = nn.Linear(
        linear.in_features,
        linear.out_features // peers.size,
        bias=linear.bias is not None,
        device=linear.weight.device,
        dtype=linear.weight.dtype,
    )
    with torch.no_grad():
        own.weight.copy_(linear.weight.chunk(peers.size)[peers.rank])
        if linear.bias is not None:
            own.bias.copy_(linear.bias.chunk(peers.size)[peers.rank])
    return own


class _Enter(torch.autograd.Function):
    """Nothing forward; backward the sum of what all processes say of the input."""

    @staticmethod
    def forward(context, x, peers):
        context.peers = peers
        return x.view_as(x)

    @staticmethod
    def backward(context, d_x):
        return context.peers.sum(d_x), None


class _Leave(torch.autograd.Function):
    """Forward the sum of all processes' outputs; backward nothing."""

    @staticmethod
    def forward(context, output, peers):
        return peers.sum(output)

    @staticmethod
    def backward(context, d_output):
        return d_output, None


# --- shared ----------------------------------------------------------------------------------


def _scores(query: Tensor, key: Tensor, allowed: Tensor | None) -> Tensor:
    sums = torch.promote_types(query.dtype, torch.float32)
    scores = query.to(sums) @ key.to(sums).mT / math.sqrt(query.shape[-1])
    return scores if allowed is None else scores.masked_fill(~allowed, -math.inf)


def _empty(query: Tensor, value: Tensor) -> State:
    """The state before the first key."""
    sums = torch.promote_types(query.dtype, torch.float32)
    total = query.new_zeros(query.shape[:-1], dtype=sums)
    weighted = query.new_zeros(*query.shape[:-1], value.shape[-1], dtype=sums)
    return State(torch.full_like(total, -math.inf), total, weighted)


def _finite(x: Tensor) -> Tensor:
    return x.masked_fill(x == -math.inf, 0)


def _add(place: Tensor, more: Tensor) -> None:
    """Add in place what may have leading axes that were broadcast."""
    place += more.sum_to_size(place.shape)


def _check(query: Tensor, key: Tensor, value: Tensor, mask: Block | None, chunk: int) -> None:
    for name, one in (("query", query), ("key", key), ("value", value)):
        if not one.is_floating_point() or one.dtype != query.dtype:
            raise TypeError(
                f"query, key and value must be floating and of one dtype; {name} is {one.dtype} "
                f"and query is {query.dtype}"
            )
        if one.ndim < 2 or one.shape[-2] != query.shape[-2]:
            raise ValueError(
                f"{name} must have shape (…, part, d) with the part of query, "
                f"{tuple(query.shape)}; got {tuple(one.shape)}"
            )
        if torch.broadcast_shapes(query.shape[:-2], one.shape[:-2]) != query.shape[:-2]:
            raise ValueError(
                f"the leading axes of {name} must broadcast to those of query, "
                f"{tuple(query.shape)}; got {tuple(one.shape)}"
            )
    if query.shape[-1] != key.shape[-1] or query.shape[-1] == 0:
        raise ValueError(
            "query and key must have vectors of one size, at least 1; got "
            f"{tuple(query.shape)} and {tuple(key.shape)}"
        )
    if mask is not None and not callable(mask):
        raise TypeError(f"mask must be a function of positions; got {type(mask).__name__}")
    if chunk < 1:
        raise ValueError(f"chunk must be at least 1; got {chunk}")
