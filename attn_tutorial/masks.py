"""Masks: which query may attend to which key. True means that it may; `&` combines them.

Query i stands at position i + offset, key j at position j. With a cache of `p` earlier keys, the
first new query stands at position p: offset=p.

Masks are NumPy arrays whatever they are for: they combine with one another, and `attention` takes
them to the library and the device of its tensors.
"""

import operator

import numpy as np
from array_api_compat import is_torch_array
from jaxtyping import Bool, Int

from attn_tutorial._arrays import Array, dtype_name


def causal_mask(n_q: int, n_k: int, offset: int = 0) -> Bool[np.ndarray, "n_q n_k"]:
    """Let each query attend to its own position and those before it.

    Parameters
    ----------
    n_q, n_k : int
        How many queries and keys.
    offset : int
        The position of the first query among the keys.

    Returns
    -------
    bool NumPy array, shape (n_q, n_k)
        True where key j is not in the future of query i: j <= i + offset.

    References
    ----------
    Vaswani et al. (2017), "Attention Is All You Need", NeurIPS, section 3.2.3.
    """
    return window_mask(n_q, n_k, left=None, right=0, offset=offset)


def window_mask(
    n_q: int, n_k: int, left: int | None, right: int | None, offset: int = 0
) -> Bool[np.ndarray, "n_q n_k"]:
    """Let each query attend to the keys near its position.

    Parameters
    ----------
    n_q, n_k : int
        How many queries and keys.
    left, right : int or None
        How many positions before and after its own a query may attend to; None sets no bound.
    offset : int
        The position of the first query among the keys.

    Returns
    -------
    bool NumPy array, shape (n_q, n_k)
        True where i + offset - left <= j <= i + offset + right.

    References
    ----------
    Beltagy, Peters and Cohan (2020), "Longformer: The Long-Document Transformer",
    arXiv:2004.05150, section 3.1.
    """
    n_q, n_k = _count("n_q", n_q), _count("n_k", n_k)
    position = np.arange(n_q)[:, None] + _integer("offset", offset)  # (n_q, 1)
    key = np.arange(n_k)[None, :]  # (1, n_k)
    mask = np.ones((n_q, n_k), dtype=bool)
    if left is not None:
        mask &= key >= position - _count("left", left)
    if right is not None:
        mask &= key <= position + _count("right", right)
    return mask


def padding_mask(lengths: Int[Array, "..."] | list, n_k: int) -> Bool[np.ndarray, "... 1 n_k"]:
    """Let every query of a sequence attend to its real keys, not to the padding behind them.

    Parameters
    ----------
    lengths : (nested) list of int, or int array of NumPy or torch, shape (...)
        How many real keys each sequence has, from 0 to n_k.
    n_k : int
        How many keys the padded sequences have.

    Returns
    -------
    bool NumPy array, shape (..., 1, n_k)
        True where j < length. For queries (batch, n_heads, n_q, d_k) give lengths[:, None].
    """
    n_k = _count("n_k", n_k)
    if is_torch_array(lengths):
        lengths = lengths.cpu()
    lengths = np.asarray(lengths)
    if not np.issubdtype(lengths.dtype, np.integer):
        raise TypeError(f"lengths must hold whole numbers; got dtype {dtype_name(lengths)}")
    outside = lengths[(lengths < 0) | (lengths > n_k)]
    if outside.size:
        raise ValueError(
            f"lengths must lie between 0 and n_k = {n_k}; got {np.unique(outside).tolist()}"
        )
    return np.arange(n_k) < lengths[..., None, None]  # (..., 1, n_k)


def _integer(name: str, number: int) -> int:
    try:
        return operator.index(number)
    except TypeError:
        raise TypeError(f"{name} must be a whole number; got {number!r}") from None


def _count(name: str, number: int) -> int:
    number = _integer(name, number)
    if number < 0:
        raise ValueError(f"{name} must not be negative; got {number}")
    return number
