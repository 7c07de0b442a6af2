"""Scores: how well each key fits each query.

A score is a function `score(query, key)` of arrays `(..., n_q, d_k)` and `(..., n_k, d_k)` that
returns `(..., n_q, n_k)`. Those with parameters are made by a function that takes the parameters.
Vectors are rows, as everywhere in this package: a matrix multiplies from the right.

All of them compute in float32 at least and return the dtype of their arguments. All raise
TypeError where query and key are no floating-point arrays of one library and one dtype, and
ValueError where their shapes do not fit, with the shapes in the message.
"""

import math
from collections.abc import Callable

from jaxtyping import Float

from attn_tutorial._arrays import (
    Array,
    broadcast_leading,
    check_axes,
    check_floating,
    dtype_name,
    namespace,
    wide_dtype,
)

Query = Float[Array, "*#batch n_q d_k"]
Key = Float[Array, "*#batch n_k d_k"]
Scores = Float[Array, "... n_q n_k"]
Score = Callable[[Array, Array], Array]


def dot_product(query: Query, key: Key) -> Scores:
    """Score by the dot product, `query @ key.T`.

    Parameters
    ----------
    query : float array, shape (..., n_q, d_k)
    key : float array, shape (..., n_k, d_k)

    Returns
    -------
    float array, shape (..., n_q, n_k), of the arguments' dtype

    References
    ----------
    Luong, Pham and Manning (2015), "Effective Approaches to Attention-based Neural Machine
    Translation", EMNLP, section 3.1, "dot".
    """
    xp, query, key, dtype = _operands(query, key)
    return xp.astype(query @ xp.matrix_transpose(key), dtype)  # (..., n_q, n_k)


def scaled_dot_product(query: Query, key: Key, *, scale: float | None = None) -> Scores:
    """Score by the dot product times a scale, by default one over the root of d_k.

    Parameters
    ----------
    query : float array, shape (..., n_q, d_k)
    key : float array, shape (..., n_k, d_k)
    scale : float, optional
        What to multiply the dot product with; `1 / sqrt(d_k)` where it is not given. For another
        scale in `attention`, pass `functools.partial(scaled_dot_product, scale=...)`.

    Returns
    -------
    float array, shape (..., n_q, n_k), of the arguments' dtype

    References
    ----------
    Vaswani et al. (2017), "Attention Is All You Need", NeurIPS, equation 1.
    """
    xp, query, key, dtype = _operands(query, key)
    if scale is None:
        scale = 1 / math.sqrt(query.shape[-1])
    scores = (query * scale) @ xp.matrix_transpose(key)  # (..., n_q, n_k)
    return xp.astype(scores, dtype)


def cosine(query: Query, key: Key) -> Scores:
    """Score by the cosine of the angle between query and key, from -1 to 1.

    The cosine with a zero vector is undefined; it counts as 0 here, as in scikit-learn.

    Parameters
    ----------
    query : float array, shape (..., n_q, d_k)
    key : float array, shape (..., n_k, d_k)

    Returns
    -------
    float array, shape (..., n_q, n_k), of the arguments' dtype

    References
    ----------
    Graves, Wayne and Danihelka (2014), "Neural Turing Machines", arXiv:1410.5401, equation 6.
    """
    xp, query, key, dtype = _operands(query, key)
    scores = _unit(xp, query) @ xp.matrix_transpose(_unit(xp, key))  # (..., n_q, n_k)
    return xp.astype(scores, dtype)


def pearson(query: Query, key: Key) -> Scores:
    """Score by Pearson's correlation of query and key along their features, from -1 to 1.

    It is the cosine of the two vectors after each has lost its mean. A row whose entries are all
    equal has no correlation with anything (0/0): its scores are defined as 0 here, so that it
    neither attracts nor repels, where `numpy.corrcoef` gives NaN and a warning.

    Parameters
    ----------
    query : float array, shape (..., n_q, d_k)
    key : float array, shape (..., n_k, d_k)

    Returns
    -------
    float array, shape (..., n_q, n_k), of the arguments' dtype

    References
    ----------
    Pearson (1896), "Mathematical Contributions to the Theory of Evolution. III", Philosophical
    Transactions of the Royal Society A 187, 253-318.
    """
    xp, query, key, dtype = _operands(query, key)
    unit_query = _unit(xp, _centre(xp, query))  # (..., n_q, d_k)
    unit_key = _unit(xp, _centre(xp, key))  # (..., n_k, d_k)
    return xp.astype(unit_query @ xp.matrix_transpose(unit_key), dtype)  # (..., n_q, n_k)


def spearman(query: Query, key: Key) -> Scores:
    """Score by Spearman's correlation: Pearson's, of the ranks.

    Ranks do not change when the features change a little, so no gradient reaches query or key.
    Rows whose entries are all equal score 0, as in `pearson`.

    Parameters
    ----------
    query : float array, shape (..., n_q, d_k)
    key : float array, shape (..., n_k, d_k)

    Returns
    -------
    float array, shape (..., n_q, n_k), of the arguments' dtype

    References
    ----------
    Spearman (1904), "The Proof and Measurement of Association between Two Things", The American
    Journal of Psychology 15 (1), 72-101.
    """
    xp, query, key, dtype = _operands(query, key)
    return xp.astype(pearson(ranks(query), ranks(key)), dtype)


def bilinear(W: Float[Array, "d_q d_k"]) -> Score:
    """Make the score `query @ W @ key.T`, where query and key may differ in width.

    Parameters
    ----------
    W : float array, shape (d_q, d_k)

    Returns
    -------
    score(query, key) of arrays (..., n_q, d_q) and (..., n_k, d_k)

    References
    ----------
    Luong, Pham and Manning (2015), "Effective Approaches to Attention-based Neural Machine
    Translation", EMNLP, section 3.1, "general".
    """
    _check_parameter("W", W, ("d_q", "d_k"))

    def bilinear_score(
        query: Float[Array, "*#batch n_q d_q"], key: Float[Array, "*#batch n_k d_k"]
    ) -> Scores:
        xp, query, key, dtype = _operands(query, key, one_width=False)
        _check_library("W", W, query)
        if tuple(W.shape) != (query.shape[-1], key.shape[-1]):
            raise ValueError(
                f"W must have shape (d_q, d_k) = ({query.shape[-1]}, {key.shape[-1]}), as query "
                f"{tuple(query.shape)} and key {tuple(key.shape)} need it; got {tuple(W.shape)}"
            )
        query, key, matrix = _promote(xp, query, key, W)
        return xp.astype(query @ matrix @ xp.matrix_transpose(key), dtype)  # (..., n_q, n_k)

    return bilinear_score


def additive(
    W_q: Float[Array, "d_q d_hidden"],
    W_k: Float[Array, "d_k d_hidden"],
    v: Float[Array, " d_hidden"],
) -> Score:
    """Make the score `tanh(query @ W_q + key @ W_k) @ v`: a small network for each pair.

    Needs memory for (..., n_q, n_k, d_hidden) numbers.

    Parameters
    ----------
    W_q : float array, shape (d_q, d_hidden)
    W_k : float array, shape (d_k, d_hidden)
    v : float array, shape (d_hidden,)

    Returns
    -------
    score(query, key) of arrays (..., n_q, d_q) and (..., n_k, d_k)

    References
    ----------
    Bahdanau, Cho and Bengio (2015), "Neural Machine Translation by Jointly Learning to Align and
    Translate", ICLR, appendix A.1.2.
    """
    _check_parameter("W_q", W_q, ("d_q", "d_hidden"))
    _check_parameter("W_k", W_k, ("d_k", "d_hidden"))
    _check_parameter("v", v, ("d_hidden",))
    if not W_q.shape[1] == W_k.shape[1] == v.shape[0]:
        raise ValueError(
            "W_q (d_q, d_hidden), W_k (d_k, d_hidden) and v (d_hidden,) must agree in d_hidden; "
            f"got shapes {tuple(W_q.shape)}, {tuple(W_k.shape)} and {tuple(v.shape)}"
        )

    def additive_score(
        query: Float[Array, "*#batch n_q d_q"], key: Float[Array, "*#batch n_k d_k"]
    ) -> Scores:
        xp, query, key, dtype = _operands(query, key, one_width=False)
        for name, matrix, side, array in (("W_q", W_q, "query", query), ("W_k", W_k, "key", key)):
            _check_library(name, matrix, array)
            if matrix.shape[0] != array.shape[-1]:
                raise ValueError(
                    f"{name} must have {array.shape[-1]} rows, the width of {side} "
                    f"{tuple(array.shape)}; got shape {tuple(matrix.shape)}"
                )
        _check_library("v", v, query)
        query, key, of_query, of_key, vector = _promote(xp, query, key, W_q, W_k, v)
        projected_query = (query @ of_query)[..., :, None, :]  # (..., n_q, 1, d_hidden)
        projected_key = (key @ of_key)[..., None, :, :]  # (..., 1, n_k, d_hidden)
        return xp.astype(xp.tanh(projected_query + projected_key) @ vector, dtype)

    return additive_score


def soft_capped(cap: float, *, score: Score = scaled_dot_product) -> Score:
    """Make the score `cap * tanh(score / cap)`: close to `score` near 0, never beyond the cap.

    Parameters
    ----------
    cap : float
        The bound, above 0.
    score : function
        The score to bound.

    Returns
    -------
    score(query, key), between -cap and cap

    References
    ----------
    Gemma Team (2024), "Gemma 2: Improving Open Language Models at a Practical Size",
    arXiv:2408.00118, section 2, "Logit soft-capping".
    """
    if not cap > 0:
        raise ValueError(f"cap must be a number above 0; got {cap!r}")
    if not callable(score):
        raise TypeError(f"score must be a function score(query, key); got {type(score).__name__}")

    def soft_capped_score(query: Array, key: Array) -> Array:
        xp = namespace(query=query, key=key)
        return cap * xp.tanh(score(query, key) / cap)  # (..., n_q, n_k)

    return soft_capped_score


def ranks(array: Float[Array, "... d"]) -> Float[Array, "... d"]:
    """The rank of each entry along the last axis, from 1; equal entries share their mean rank.

    Compares all pairs, so it needs memory for d numbers an entry. A row that holds a NaN has no
    order: its ranks are NaN.

    Parameters
    ----------
    array : float array, shape (..., d)

    Returns
    -------
    float array, shape (..., d), of the argument's dtype (float32 for the 16-bit ones)
    """
    check_floating(array=array)
    xp = namespace(array=array)
    array = xp.astype(array, wide_dtype(xp, array))
    this, other = array[..., :, None], array[..., None, :]  # (..., d, 1), (..., 1, d)
    smaller = xp.sum(xp.astype(other < this, array.dtype), axis=-1)  # (..., d)
    equal = xp.sum(xp.astype(other == this, array.dtype), axis=-1)  # (..., d), itself included
    has_nan = xp.any(xp.isnan(array), axis=-1, keepdims=True)  # (..., 1)
    return xp.where(has_nan, math.nan, smaller + (equal + 1) / 2)


def _operands(query: Array, key: Array, *, one_width: bool = True) -> tuple:
    """Check query and key; return the library, both in the dtype to compute in, and their own."""
    check_floating(query=query, key=key)
    check_axes("(..., n_q, d_k)", query=query)
    check_axes("(..., n_k, d_k)", key=key)
    broadcast_leading(query=query, key=key)
    if one_width and query.shape[-1] != key.shape[-1]:
        raise ValueError(
            "query (..., n_q, d_k) and key (..., n_k, d_k) must agree in d_k; got shapes "
            f"{tuple(query.shape)} and {tuple(key.shape)}"
        )
    if 0 in (query.shape[-1], key.shape[-1]):
        raise ValueError(
            "query and key need at least one feature, d_k > 0; got shapes "
            f"{tuple(query.shape)} and {tuple(key.shape)}"
        )
    xp = namespace(query=query, key=key)
    wide = wide_dtype(xp, query)
    return xp, xp.astype(query, wide), xp.astype(key, wide), query.dtype


def _centre(xp, array: Array) -> Array:
    """Take the mean off each row; a row of equal entries becomes exactly zero."""
    centred = array - xp.mean(array, axis=-1, keepdims=True)
    # In floating point the mean of 0.1, 0.1 and 0.1 is not 0.1: compare the entries instead.
    constant = xp.all(array == array[..., :1], axis=-1, keepdims=True)
    return xp.where(constant, xp.zeros_like(array), centred)


def _unit(xp, array: Array) -> Array:
    """Divide each row by its length; a zero row stays zero."""
    # Dividing by the largest entry first keeps the squares from overflowing or vanishing.
    largest = xp.max(xp.abs(array), axis=-1, keepdims=True)
    array = array / xp.where(largest == 0, xp.ones_like(largest), largest)
    squared = xp.sum(array * array, axis=-1, keepdims=True)
    return array / xp.sqrt(xp.where(squared == 0, xp.ones_like(squared), squared))


def _promote(xp, *arrays: Array) -> tuple:
    """All arrays in the widest of their dtypes."""
    dtype = xp.result_type(*arrays)
    return tuple(xp.astype(array, dtype) for array in arrays)


def _check_parameter(name: str, parameter: Array, axes: tuple[str, ...]) -> None:
    xp = namespace(**{name: parameter})
    wanted = f"({', '.join(axes)}{',' if len(axes) == 1 else ''})"
    if parameter.ndim != len(axes):
        raise ValueError(f"{name} must have shape {wanted}; got {tuple(parameter.shape)}")
    if not xp.isdtype(parameter.dtype, "real floating"):
        raise TypeError(
            f"{name} must hold floating-point numbers; got dtype {dtype_name(parameter)}"
        )


def _check_library(name: str, parameter: Array, array: Array) -> None:
    namespace(**{name: parameter, "query and key": array})
