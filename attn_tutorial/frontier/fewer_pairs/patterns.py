"""Which pairs are left: the patterns of four papers as masks, and how far they reach.

Masks are NumPy arrays, True = may attend, as in `attn_tutorial.masks`. A window counts the query's
own position: a window of 1 sees nothing else.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable

import numpy as np
from jaxtyping import Bool

from attn_tutorial.masks import causal_mask, window_mask

Mask = Bool[np.ndarray, "n n"]


def sink_window_mask(n: int, *, window: int, n_sinks: int = 0) -> Mask:
    """Let each query attend to the last `window` positions, its own included, and to the first few.

    Parameters
    ----------
    n, window, n_sinks : int
        How many positions; how many of the last ones, at least 1; how many of the first ones.

    Returns
    -------
    bool NumPy array, shape (n, n)

    Raises
    ------
    TypeError
        Where a number is not whole.
    ValueError
        Where one is too small.

    References
    ----------
    Xiao et al. (2024), "Efficient Streaming Language Models with Attention Sinks", ICLR,
    section 3.2.
    """
    window, n_sinks = at_least(1, window=window), at_least(0, n_sinks=n_sinks)
    mask = window_mask(n, n, left=window - 1, right=0)
    mask[:, :n_sinks] = True
    return mask & causal_mask(n, n)


def strided_masks(n: int, stride: int) -> Bool[np.ndarray, "2 n n"]:
    """Two heads: one sees the last `stride` positions before its own, one every stride-th position.

    Parameters
    ----------
    n, stride : int
        The stride is at least 1; the paper takes about the root of n.

    Returns
    -------
    bool NumPy array, shape (2, n, n)
        The first head sees `stride` positions and its own.

    References
    ----------
    Child et al. (2019), "Generating Long Sequences with Sparse Transformers", arXiv:1904.10509.
    """
    stride = at_least(1, stride=stride)
    back = np.arange(n)[:, None] - np.arange(n)  # (n, n) how far the key is behind the query
    near = (back >= 0) & (back <= stride)
    return np.stack([near, (back >= 0) & (back % stride == 0)])


def fixed_masks(n: int, stride: int, n_summaries: int = 1) -> Bool[np.ndarray, "2 n n"]:
    """Two heads: one sees its own piece of the sequence, one the last positions of every piece.

    Parameters
    ----------
    n, stride, n_summaries : int
        The length of a piece, and how many of its last positions the second head sees, from 1 to
        the stride.

    Returns
    -------
    bool NumPy array, shape (2, n, n)
        Both look back only.

    References
    ----------
    Child et al. (2019), "Generating Long Sequences with Sparse Transformers", arXiv:1904.10509.
    """
    stride, n_summaries = at_least(1, stride=stride), at_least(1, n_summaries=n_summaries)
    if n_summaries > stride:
        raise ValueError(f"n_summaries must be at most the stride {stride}; got {n_summaries}")
    query, key = np.arange(n)[:, None], np.arange(n)
    own = query // stride == key // stride
    summaries = np.broadcast_to(key % stride >= stride - n_summaries, (n, n))
    return np.stack([own, summaries]) & causal_mask(n, n)


def global_mask(n: int, *, side: int, positions: Iterable[int]) -> Mask:
    """A window to both sides; the global positions see everybody and are seen by everybody.

    Parameters
    ----------
    n, side : int
        How many positions, and how many of them a query sees to each side.
    positions : numbers from 0 to n - 1
        The global ones.

    Returns
    -------
    bool NumPy array, shape (n, n), symmetric

    References
    ----------
    Beltagy, Peters and Cohan (2020), "Longformer: The Long-Document Transformer",
    arXiv:2004.05150, section 3.1.
    """
    mask = window_mask(n, n, left=side, right=side)
    chosen = list(positions)
    if any(not 0 <= position < n for position in chosen):
        raise ValueError(f"positions must be from 0 to {n - 1}; got {chosen}")
    mask[chosen] = mask[:, chosen] = True
    return mask


def bigbird_layout(
    n_blocks: int, *, n_random: int, n_global: int = 1, side: int = 1, seed: int = 0
) -> Mask:
    """Which blocks of queries see which blocks of keys: neighbours, global ones, and random ones.

    Parameters
    ----------
    n_blocks : int
    n_random : int
        How many further blocks each block sees, drawn from those that it does not see yet; all of
        them where there are fewer.
    n_global : int
        How many of the first blocks see all and are seen by all.
    side : int
        How many neighbours a block sees to each side; the paper's window of three blocks is 1.
    seed : int

    Returns
    -------
    bool NumPy array, shape (n_blocks, n_blocks)

    References
    ----------
    Zaheer et al. (2020), "Big Bird: Transformers for Longer Sequences", NeurIPS.
    """
    n_global = at_least(0, n_global=n_global)
    n_random = at_least(0, n_random=n_random)
    layout = global_mask(n_blocks, side=side, positions=range(min(n_global, n_blocks)))
    generator = np.random.default_rng(seed)
    for row in layout:
        unseen = np.flatnonzero(~row)
        row[generator.permutation(unseen)[:n_random]] = True
    return layout


def to_layout(mask: Mask, block: int) -> Mask:
    """Which blocks of a mask hold at least one pair: the blocks that have to be computed.

    Parameters
    ----------
    mask : bool NumPy array, shape (n_q, n_k)
    block : int
        Queries and keys in a block; the last blocks may be smaller.

    Returns
    -------
    bool NumPy array, shape (number of query blocks, number of key blocks)
    """
    block = at_least(1, block=block)
    n_q, n_k = mask.shape
    padded = np.pad(mask, ((0, -n_q % block), (0, -n_k % block)))
    return padded.reshape(len(padded) // block, block, -1, block).any(axis=(1, 3))


def layers_to_reach(masks: Mask | list[Mask], *, query: int, key: int, most: int = 1000) -> int:
    """After how many layers a position may depend on another one: by boolean matrix powers.

    A layer lets its query see what its keys have seen before, and itself (the residual sum).

    Parameters
    ----------
    masks : bool NumPy array, shape (n, n), or a list of them
        Of a list, layer l has number l modulo its length. Heads of one layer: give their union.
    query, key : int
        The position that asks, and the one that it has to hear of.
    most : int
        After so many layers the search is given up.

    Returns
    -------
    int
        The smallest number of layers; 0 where query and key are one position.

    Raises
    ------
    ValueError
        Where the key is not reached.
    """
    in_turn = [masks] if isinstance(masks, np.ndarray) else list(masks)
    n = len(in_turn[0])
    heard = np.eye(n, dtype=bool)  # (query, key)
    for n_layers in range(most + 1):
        if heard[query, key]:
            return n_layers
        mask = in_turn[n_layers % len(in_turn)].astype(np.float32)
        # A product of counts: above zero where some key in between has heard of the other.
        heard = heard | (mask @ heard.astype(np.float32) > 0)
    raise ValueError(f"query {query} does not hear of key {key} within most = {most} layers")


def at_least(smallest: int, **numbers: int) -> int:
    """The one number given by name, once it is whole and not below `smallest`."""
    ((name, number),) = numbers.items()
    try:
        whole = operator.index(number)
    except TypeError:
        raise TypeError(f"{name} must be a whole number; got {number!r}") from None
    if whole < smallest:
        raise ValueError(f"{name} must be at least {smallest}; got {whole}")
    return whole
