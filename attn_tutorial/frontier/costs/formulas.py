"""What layers cost, by formula: the functions take sizes, and build nothing.

References
----------
Vaswani et al. (2017), "Attention Is All You Need", NeurIPS, section 4 and Table 1.
Williams, Waterman and Patterson (2009), "Roofline: An Insightful Visual Performance Model for
Multicore Architectures", Communications of the ACM 52(4).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import astuple, dataclass

import numpy as np


@dataclass(frozen=True)
class Cost:
    """What a part of a network costs; `+` puts one part behind another.

    Attributes
    ----------
    parameters : int
        How many numbers are learned.
    operations : int
        Multiplications and additions in the matrix products of one forward pass.
    backward : int
        The same in the backward pass, where the part's input needs a gradient too.
    moved : int
        Numbers that the forward pass reads from memory and writes to it, if each operation reads
        all that it takes and writes all that it makes.
    saved : int
        Numbers that the forward pass keeps for the backward pass, parameters not counted.
    chain : int
        Matrix products that have to wait for one another.
    """

    parameters: int = 0
    operations: int = 0
    backward: int = 0
    moved: int = 0
    saved: int = 0
    chain: int = 0

    def __add__(self, other: Cost) -> Cost:
        return Cost(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))

    def intensity(self, bytes_per_number: int = 4) -> float:
        """Operations for each byte moved: the arithmetic intensity of Williams et al. (2009)."""
        return self.operations / (self.moved * bytes_per_number)


def total(parts: dict[str, Cost] | Iterable[Cost]) -> Cost:
    """The cost of parts one behind the other."""
    return sum(parts.values() if isinstance(parts, dict) else parts, Cost())


def attainable(intensity: float, *, peak: float, bandwidth: float) -> float:
    """The roofline: operations a second that a machine can do at most.

    Parameters
    ----------
    intensity : float
        Operations for each byte moved.
    peak : float
        Operations a second that the machine can do.
    bandwidth : float
        Bytes a second that its memory can move.
    """
    for name, value in (("intensity", intensity), ("peak", peak), ("bandwidth", bandwidth)):
        if not value > 0:
            raise ValueError(f"{name} must be positive; got {value}")
    return min(peak, intensity * bandwidth)


def linear(rows: int, d_in: int, d_out: int, *, bias: bool = True) -> Cost:
    """A linear layer: rows (rows, d_in) to (rows, d_out)."""
    _check_sizes(rows=rows, d_in=d_in, d_out=d_out)
    parameters = d_in * d_out + bias * d_out
    operations = 2 * rows * d_in * d_out
    return Cost(
        parameters=parameters,
        operations=operations,
        backward=2 * operations,  # the gradients of the input and of the matrix
        moved=parameters + rows * (d_in + d_out),
        saved=rows * d_in,
        chain=1,
    )


def attention_parts(
    n: int,
    d_model: int,
    n_heads: int,
    *,
    batch: int = 1,
    cached: int = 0,
    n_kv_heads: int | None = None,
    fused: bool = False,
    bias: bool = True,
) -> dict[str, Cost]:
    """The parts of multi-head self-attention.

    Parameters
    ----------
    n : int
        How many tokens come in, in each sequence of the batch.
    d_model, n_heads, n_kv_heads : int
        As in `MultiHeadAttention`; heads have the width d_model / n_heads.
    batch : int
    cached : int
        How many earlier tokens have their keys and values in a cache. In prefill and in training
        none; in decoding n is 1.
    fused : bool
        Whether one kernel computes scores, softmax and weighted sum, and writes only the output
        and, for each query and head, the logarithm of the sum of exponentials. Its backward pass
        computes the scores once more. Plain attention writes scores and weights to memory.
    bias : bool
        Whether the four projections add a bias.

    Returns
    -------
    dict of Cost
        "projections", then "scores", "softmax" and "weighted sum", or "fused attention", then
        "output". Every query attends to all keys; a mask saves nothing by itself.

    Raises
    ------
    TypeError
        Where a size is not a whole number.
    ValueError
        Where one is too small, or does not divide what it has to divide.
    """
    n_kv_heads = n_heads if n_kv_heads is None else n_kv_heads
    _check_sizes(n=n, d_model=d_model, n_heads=n_heads, batch=batch, n_kv_heads=n_kv_heads)
    _check_sizes(least=0, cached=cached)
    if d_model % n_heads:
        raise ValueError(f"n_heads must divide d_model = {d_model}; got {n_heads}")
    if n_heads % n_kv_heads:
        raise ValueError(f"n_kv_heads must divide n_heads = {n_heads}; got {n_kv_heads}")
    n_k = cached + n
    d_kv = n_kv_heads * (d_model // n_heads)
    queries = batch * n * d_model  # as many numbers as the output of all heads
    keys = batch * n_k * d_kv  # as many as the values
    table = batch * n_heads * n * n_k
    product = 2 * batch * n * n_k * d_model  # the same for scores and weighted sum
    into = total(linear(batch * n, d_model, width, bias=bias) for width in (d_model, d_kv, d_kv))
    parts = {
        "projections": Cost(
            parameters=into.parameters,
            operations=into.operations,
            backward=into.backward,
            moved=into.moved,
            saved=queries,  # one input for all three
            chain=1,  # and none waits for another
        )
    }
    if fused:
        logarithms = batch * n_heads * n
        parts["fused attention"] = Cost(
            operations=2 * product,
            backward=5 * product,  # four products, and the scores anew
            moved=2 * queries + 2 * keys + logarithms,
            saved=queries + 2 * keys + logarithms,
            chain=2,
        )
    else:
        parts["scores"] = Cost(
            operations=product,
            backward=2 * product,
            moved=queries + keys + table,
            saved=queries + keys,
            chain=1,
        )
        parts["softmax"] = Cost(moved=2 * table, saved=table)
        parts["weighted sum"] = Cost(
            operations=product,
            backward=2 * product,
            moved=table + keys + queries,
            saved=keys,  # the weights are kept already
            chain=1,
        )
    parts["output"] = linear(batch * n, d_model, d_model, bias=bias)
    return parts


def feed_forward_parts(rows: int, d_model: int, d_hidden: int) -> dict[str, Cost]:
    """The parts of `FeedForward`: two linear layers with a ReLU between."""
    _check_sizes(rows=rows, d_model=d_model, d_hidden=d_hidden)
    return {
        "feed-forward in": linear(rows, d_model, d_hidden),
        "ReLU": Cost(moved=2 * rows * d_hidden),
        "feed-forward out": linear(rows, d_hidden, d_model),
    }


def encoder_layer_parts(
    n: int,
    d_model: int,
    n_heads: int,
    d_hidden: int,
    *,
    batch: int = 1,
    cached: int = 0,
    n_kv_heads: int | None = None,
    fused: bool = False,
) -> dict[str, Cost]:
    """The parts of a pre-norm layer: those of attention and feed-forward, norms and sums.

    The arguments are those of `attention_parts`, and d_hidden, the width inside the feed-forward
    network. With n_kv_heads = n_heads and nothing cached this is `EncoderLayer`.
    """
    attention = attention_parts(
        n, d_model, n_heads, batch=batch, cached=cached, n_kv_heads=n_kv_heads, fused=fused
    )
    rows = batch * n
    numbers = rows * d_model
    norm = Cost(  # a mean and a spread for each row are written, and kept
        parameters=2 * d_model, moved=2 * numbers + 2 * d_model + 2 * rows, saved=numbers + 2 * rows
    )
    added = Cost(moved=3 * numbers)
    return (
        {"first norm": norm}
        | attention
        | {"first sum": added, "second norm": norm}
        | feed_forward_parts(rows, d_model, d_hidden)
        | {"second sum": added}
    )


# How many matrices a cell has for its input and as many for its state, and how many numbers of the
# state's width torch keeps of each step.
CELLS = {"RNN": (1, 1), "GRU": (3, 7), "LSTM": (4, 7)}


def recurrent_layer(kind: str, n: int, d_in: int, d_hidden: int, *, batch: int = 1) -> Cost:
    """A recurrent layer of torch.nn, over n tokens in one direction.

    The input's products are made for all tokens at once, the state's one after the other. What
    gates and states move is left out; the state's matrix is read anew in every step.

    Parameters
    ----------
    kind : "RNN", "GRU" or "LSTM"
    n, d_in, d_hidden, batch : int
    """
    if kind not in CELLS:
        raise ValueError(f"kind must be one of {', '.join(CELLS)}; got {kind!r}")
    _check_sizes(n=n, d_in=d_in, d_hidden=d_hidden, batch=batch)
    n_matrices, kept = CELLS[kind]
    of_input = linear(batch * n, d_in, n_matrices * d_hidden)
    step = linear(batch, d_hidden, n_matrices * d_hidden)
    operations = of_input.operations + n * step.operations
    kept_numbers = n * batch * kept * d_hidden
    if kind == "RNN":
        kept_numbers += batch * d_hidden  # the first state too
    return Cost(
        parameters=of_input.parameters + step.parameters,
        operations=operations,
        backward=2 * operations - step.operations,  # the first state needs no gradient
        moved=of_input.moved + n * step.moved,
        saved=of_input.saved + kept_numbers,
        chain=n,
    )


def convolution(n: int, d_in: int, d_out: int, window: int, *, batch: int = 1) -> Cost:
    """A convolution along n tokens: `torch.nn.Conv1d` with an odd window and as many outputs."""
    _check_sizes(n=n, d_in=d_in, d_out=d_out, window=window, batch=batch)
    if window % 2 == 0:
        raise ValueError(f"window must be odd, to have a middle; got {window}")
    parameters = window * d_in * d_out + d_out
    operations = 2 * batch * n * window * d_in * d_out
    return Cost(
        parameters=parameters,
        operations=operations,
        backward=2 * operations,
        moved=parameters + batch * n * (d_in + d_out),
        saved=batch * n * d_in,
        chain=1,
    )


def _check_sizes(*, least: int = 1, **sizes: int) -> None:
    for name, size in sizes.items():
        if not isinstance(size, int | np.integer) or isinstance(size, bool):
            raise TypeError(f"{name} must be a whole number; got {size!r}")
        if size < least:
            raise ValueError(f"{name} must be at least {least}; got {size}")
