"""Positions: four ways to tell attention the order of its vectors, which it cannot see by itself.

Added to the vectors (`sinusoidal_positions`), turned into the queries and keys (`rotate`), or added
to the scores (`alibi_bias`, and what `relative_positions` serves to look up).

Query i stands at position i + offset, key j at position j, as in `attn_tutorial.masks`. With a
cache of `p` earlier keys, the first new vector stands at position p: offset=p.
"""

from typing import Any, Literal

import numpy as np
from array_api_compat import is_torch_array
from jaxtyping import Float, Int

from attn_tutorial._arrays import (
    Array,
    check_axes,
    check_floating,
    dtype_name,
    namespace,
    wide_dtype,
)
from attn_tutorial.masks import _count, _integer

LAYOUTS = ("interleaved", "halves")


def sinusoidal_positions(
    n: int, d_model: int, *, base: float = 10000.0, offset: int = 0
) -> Float[np.ndarray, "n d_model"]:
    """Make a vector of sines and cosines for each position, to be added to the vectors there.

    Entry 2i is the sine, and entry 2i + 1 the cosine, of the position times `base ** (-2i / d)`.

    Parameters
    ----------
    n : int
        How many positions.
    d_model : int
        The width of the vectors, even.
    base : float
        What sets the slowest wave, above 1.
    offset : int
        The first position.

    Returns
    -------
    float64 NumPy array, shape (n, d_model)

    References
    ----------
    Vaswani et al. (2017), "Attention Is All You Need", NeurIPS, section 3.5.
    """
    positions = np.arange(_count("n", n)) + _integer("offset", offset)  # (n,)
    angles = _angles(positions, _even("d_model", d_model), base)  # (n, d_model / 2)
    return np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(n, d_model)


def rotate(
    array: Float[Array, "... n d"],
    *,
    offset: int = 0,
    positions: Array | None = None,
    base: float = 10000.0,
    layout: Literal["interleaved", "halves"] = "interleaved",
) -> Float[Array, "... n d"]:
    """Turn queries or keys by angles that grow with their position (rotary positions).

    Pair i of features turns by the position times `base ** (-2i / d)`. Do this to queries and keys
    alike, never to values: then their dot product depends on the distance of their positions only.

    Parameters
    ----------
    array : float array, shape (..., n, d)
        Queries or keys of one head, one in each row; d is even.
    offset : int
        The position of the first row.
    positions : float or int array, broadcastable to (..., n), optional
        The position of each row, where rows do not simply follow one another.
    base : float
        What sets the slowest turn, above 1.
    layout : "interleaved" or "halves"
        Which features make pair i: 2i and 2i + 1 (the paper's choice), or i and i + d/2 (that of
        Llama in the library transformers). Weights trained with one are wrong with the other.

    Returns
    -------
    float array, of the shape, dtype and device of the argument

    Raises
    ------
    TypeError
        Where array is no floating-point array, or positions are not real numbers.
    ValueError
        Where d is odd, positions do not fit, both offset and positions are given, or there is no
        such layout.

    Notes
    -----
    The angles are computed in float64, the turn in float32 at least: 16-bit numbers cannot tell one
    large position from the next.

    References
    ----------
    Su et al. (2021), "RoFormer: Enhanced Transformer with Rotary Position Embedding",
    arXiv:2104.09864, section 3.2.
    """
    check_floating(array=array)
    check_axes("(..., n, d)", array=array)
    width = _even("the last axis of array", array.shape[-1])
    if layout not in LAYOUTS:
        raise ValueError(f"layout must be one of {', '.join(LAYOUTS)}; got {layout!r}")
    if positions is None:
        positions = np.arange(array.shape[-2]) + _integer("offset", offset)  # (n,)
    elif offset != 0:
        raise ValueError(f"give offset or positions, not both; got offset {offset!r} and positions")
    else:
        positions = _positions_of(array, positions)  # (..., n)
    angles = _angles(positions, width, base)  # (..., n, d / 2)

    xp = namespace(array=array)
    wide = wide_dtype(xp, array)
    numbers = xp.astype(array, wide)
    cosine = _like(xp, np.cos(angles), numbers)  # (..., n, d / 2)
    sine = _like(xp, np.sin(angles), numbers)
    if layout == "interleaved":
        first, second = numbers[..., 0::2], numbers[..., 1::2]
    else:
        first, second = numbers[..., : width // 2], numbers[..., width // 2 :]
    turned = [first * cosine - second * sine, first * sine + second * cosine]
    if layout == "interleaved":
        turned = xp.reshape(xp.stack(turned, axis=-1), tuple(array.shape))  # (..., n, d)
    else:
        turned = xp.concat(turned, axis=-1)  # (..., n, d)
    return xp.astype(turned, array.dtype)


def relative_positions(n_q: int, n_k: int, offset: int = 0) -> Int[np.ndarray, "n_q n_k"]:
    """How far each key stands after each query: negative for keys in the past.

    Parameters
    ----------
    n_q, n_k : int
        How many queries and keys.
    offset : int
        The position of the first query among the keys.

    Returns
    -------
    int NumPy array, shape (n_q, n_k)
        j - (i + offset) for query i and key j.

    References
    ----------
    Shaw, Uszkoreit and Vaswani (2018), "Self-Attention with Relative Position Representations",
    NAACL, section 3.2.
    """
    queries = np.arange(_count("n_q", n_q)) + _integer("offset", offset)  # (n_q,)
    keys = np.arange(_count("n_k", n_k))  # (n_k,)
    return keys[None, :] - queries[:, None]


def alibi_slopes(n_heads: int) -> Float[np.ndarray, " n_heads"]:
    """The slopes of ALiBi's penalty on distance: head h of H gets 2 ** (-8 h / H), h from 1.

    That is the paper's rule for any number of heads. Where the number is no power of two, the
    authors' program (and BLOOM) take other slopes, those of two neighbouring powers mixed.

    Parameters
    ----------
    n_heads : int
        How many heads, at least one.

    Returns
    -------
    float64 NumPy array, shape (n_heads,), falling

    References
    ----------
    Press, Smith and Lewis (2022), "Train Short, Test Long: Attention with Linear Biases Enables
    Input Length Extrapolation", ICLR, section 3.
    """
    n_heads = _integer("n_heads", n_heads)
    if n_heads < 1:
        raise ValueError(f"n_heads must be at least 1; got {n_heads}")
    return 2.0 ** (-8.0 * np.arange(1, n_heads + 1) / n_heads)


def alibi_bias(
    n_heads: int, n_q: int, n_k: int, offset: int = 0
) -> Float[np.ndarray, "n_heads n_q n_k"]:
    """A penalty on distance to add to the scores: pass it to `attention` as its mask.

    The paper uses it with a causal mask, `np.where(causal_mask(n_q, n_k, offset), bias, -np.inf)`.
    Here keys in the future get the penalty of their distance too, for attention in both directions.

    Parameters
    ----------
    n_heads, n_q, n_k : int
        How many heads, queries and keys.
    offset : int
        The position of the first query among the keys.

    Returns
    -------
    float64 NumPy array, shape (n_heads, n_q, n_k)
        Minus the head's slope times the distance of key j from query i.

    References
    ----------
    Press, Smith and Lewis (2022), "Train Short, Test Long: Attention with Linear Biases Enables
    Input Length Extrapolation", ICLR, section 3.
    """
    distance = np.abs(relative_positions(n_q, n_k, offset))  # (n_q, n_k)
    return alibi_slopes(n_heads)[:, None, None] * -distance  # (n_heads, n_q, n_k)


def _angles(positions: np.ndarray, width: int, base: float) -> np.ndarray:
    """The angle of each pair of features at each position, shape (..., n, width / 2)."""
    if not base > 1:
        raise ValueError(f"base must be a number above 1; got {base!r}")
    frequencies = float(base) ** (-np.arange(0, width, 2) / width)  # (width / 2,), falling from 1
    return positions[..., None] * frequencies


def _positions_of(array: Array, positions: Array) -> np.ndarray:
    """The given positions as NumPy numbers, once they fit the rows of the array."""
    if is_torch_array(positions):
        positions = positions.detach().cpu()
    positions = np.asarray(positions)
    if positions.dtype.kind not in "iuf":
        raise TypeError(f"positions must hold real numbers; got dtype {dtype_name(positions)}")
    rows = tuple(array.shape[:-1])
    try:
        fits = np.broadcast_shapes(positions.shape, rows) == rows
    except ValueError:
        fits = False
    if not fits:
        raise ValueError(
            f"positions must broadcast to the rows of array, (..., n) = {rows}; "
            f"got shape {positions.shape}"
        )
    return positions.astype(np.float64)


def _like(xp: Any, numbers: np.ndarray, array: Array) -> Array:
    """NumPy numbers in the library, dtype and device of an array."""
    # Narrowed first: some devices have no float64.
    return xp.asarray(numbers.astype(dtype_name(array)), device=array.device)


def _even(name: str, number: int) -> int:
    number = _integer(name, number)
    if number < 2 or number % 2:
        raise ValueError(f"{name} must be even and at least 2, for pairs of features; got {number}")
    return number
