"""Attention: score, mask, normalise, weighted sum."""

import math

import numpy as np
from array_api_compat import array_namespace, is_numpy_array
from jaxtyping import Bool, Float

from attn_tutorial._arrays import (
    Array,
    broadcast_leading,
    check_axes,
    check_floating,
    dtype_name,
    library,
    namespace,
    wide_dtype,
)
from attn_tutorial.scores import Score, scaled_dot_product


def attention(
    query: Float[Array, "*#batch n_q d_q"],
    key: Float[Array, "*#batch n_k d_k"],
    value: Float[Array, "*#batch n_k d_v"],
    *,
    score: Score = scaled_dot_product,
    mask: Bool[Array, "..."] | Float[Array, "..."] | None = None,
) -> tuple[Float[Array, "... n_q d_v"], Float[Array, "... n_q n_k"]]:
    """Average the values, each query by its own weights.

    Leading axes broadcast, so that one key may serve many queries.

    Parameters
    ----------
    query : float array, shape (..., n_q, d_k)
    key : float array, shape (..., n_k, d_k)
    value : float array, shape (..., n_k, d_v)
        All three of one library (NumPy or torch) and one dtype, float16 to float64 or bfloat16.
    score : function (query, key) -> scores (..., n_q, n_k)
        How well a key fits a query. A score such as `bilinear(W)` lets query and key differ in
        width.
    mask : bool or float array, broadcastable to (..., n_q, n_k), optional
        Boolean: True where the query may attend to the key. Float: added to the scores, minus
        infinity where it may not attend. A NumPy mask serves torch tensors too.

    Returns
    -------
    output : float array, shape (..., n_q, d_v)
    weights : float array, shape (..., n_q, n_k)
        Each row sums to one, or to zero where the mask leaves the query nothing to attend to (the
        output is zero there). Both have the arguments' dtype and device.

    Raises
    ------
    TypeError
        Where an argument is no floating-point array, or dtypes or libraries differ.
    ValueError
        Where shapes do not fit; the message names the argument, its shape and the shape wanted.

    Notes
    -----
    Computed in float32 at least, so that 16-bit numbers do not overflow on the way. What a key
    holds that the mask excludes does not matter, NaN and infinity included; a NaN in an excluded
    *value* does, since 0 times NaN is NaN (as in torch).

    References
    ----------
    Vaswani et al. (2017), "Attention Is All You Need", NeurIPS, equation 1.

    Examples
    --------
    >>> import numpy as np
    >>> from attn_tutorial import attention
    >>> query, key = np.array([[1.0, 0.0]]), np.array([[1.0, 0.0], [0.0, 1.0]])
    >>> output, weights = attention(query, key, value=np.array([[10.0], [20.0]]))
    >>> weights.round(3)
    array([[0.67, 0.33]])
    """
    check_floating(query=query, key=key, value=value)
    check_axes("(..., n_q, d_k)", query=query)
    check_axes("(..., n_k, d_k)", key=key)
    check_axes("(..., n_k, d_v)", value=value)
    if key.shape[-2] != value.shape[-2]:
        raise ValueError(
            "key (..., n_k, d_k) and value (..., n_k, d_v) must agree in n_k; got shapes "
            f"{tuple(key.shape)} and {tuple(value.shape)}"
        )
    batch = broadcast_leading(query=query, key=key, value=value)
    if not callable(score):
        raise TypeError(f"score must be a function score(query, key); got {type(score).__name__}")

    xp = namespace(query=query, key=key, value=value)
    wide = wide_dtype(xp, query)
    # torch lets NaN and infinity behind a mask pass without a word; so does NumPy here.
    with np.errstate(invalid="ignore"):
        scores = score(xp.astype(query, wide), xp.astype(key, wide))  # (..., n_q, n_k)
        _check_scores(scores, query, key)
        if mask is not None:
            scores = apply_mask(scores, mask)
        weights = softmax(scores)
        weights = xp.broadcast_to(
            weights, (*np.broadcast_shapes(batch, weights.shape[:-2]), *weights.shape[-2:])
        )
        output = weights @ xp.astype(value, weights.dtype)  # (..., n_q, d_v)
    return xp.astype(output, query.dtype), xp.astype(weights, query.dtype)


def apply_mask(
    scores: Float[Array, "... n_q n_k"], mask: Bool[Array, "..."] | Float[Array, "..."]
) -> Float[Array, "... n_q n_k"]:
    """Set the scores to minus infinity wherever a query may not attend.

    Parameters
    ----------
    scores : float array, shape (..., n_q, n_k)
    mask : bool or float array, broadcastable to (..., n_q, n_k)
        Boolean: True where the query may attend. Float: added to the scores.

    Returns
    -------
    float array, shape (..., n_q, n_k)

    Raises
    ------
    TypeError
        Where the mask is neither boolean nor floating-point: 0 and 1 could mean either.
    ValueError
        Where the mask does not broadcast to the scores.
    """
    check_floating(scores=scores)
    check_axes("(..., n_q, n_k)", scores=scores)
    xp = namespace(scores=scores)
    mask = _mask_like(xp, mask, scores)
    if xp.isdtype(mask.dtype, "bool"):
        return xp.where(mask, scores, -math.inf)
    # Chosen, not only added: a NaN behind the mask would survive the addition.
    return xp.where(mask == -math.inf, -math.inf, scores + mask)


def softmax(scores: Float[Array, "..."], axis: int = -1) -> Float[Array, "..."]:
    """Turn scores into weights that are positive and sum to one along an axis.

    Parameters
    ----------
    scores : float array, with one axis or more
    axis : int
        The axis of the alternatives: for scores (..., n_q, n_k) the last, the keys.

    Returns
    -------
    float array, of the shape and dtype of scores
        Where all scores along the axis are minus infinity there is nothing to choose from, and
        the weights are zero.

    Raises
    ------
    TypeError
        Where scores is no floating-point array.
    ValueError
        Where scores has no such axis.

    References
    ----------
    Bridle (1990), "Probabilistic Interpretation of Feedforward Classification Network Outputs,
    with Relationships to Statistical Pattern Recognition", Neurocomputing, NATO ASI Series 68.
    """
    check_floating(scores=scores)
    if not -scores.ndim <= axis < scores.ndim:
        raise ValueError(
            f"axis must be one of the {scores.ndim} axes of scores, shape {tuple(scores.shape)}; "
            f"got {axis}"
        )
    if scores.shape[axis] == 0:
        return scores  # no alternatives, no weights
    xp = namespace(scores=scores)
    wide = xp.astype(scores, wide_dtype(xp, scores))
    # A shift of all scores changes no weight; this one keeps exp from overflowing.
    peak = xp.max(wide, axis=axis, keepdims=True)
    exponentials = xp.exp(wide - xp.where(peak == -math.inf, xp.zeros_like(peak), peak))
    total = xp.sum(exponentials, axis=axis, keepdims=True)
    weights = exponentials / xp.where(total == 0, xp.ones_like(total), total)
    return xp.astype(weights, scores.dtype)


def _check_scores(scores: Array, query: Array, key: Array) -> None:
    """What a score function returned must be scores for these queries and keys."""
    namespace(**{"the result of score": scores, "query": query})
    leading = broadcast_leading(query=query, key=key)
    wanted = (*leading, query.shape[-2], key.shape[-2])
    if tuple(scores.shape) != wanted:
        raise ValueError(
            f"score must return shape (..., n_q, n_k) = {wanted} for query {tuple(query.shape)} "
            f"and key {tuple(key.shape)}; got {tuple(scores.shape)}"
        )


def _mask_like(xp, mask: Array, scores: Array) -> Array:
    """Check a mask against scores, and bring a NumPy mask to the scores' library and device."""
    mask_xp = namespace(mask=mask)
    if not mask_xp.isdtype(mask.dtype, ("bool", "real floating")):
        raise TypeError(
            "mask must be boolean (True = may attend) or floating-point (added to the scores); "
            f"got dtype {dtype_name(mask)}"
        )
    wanted = tuple(scores.shape)
    try:
        together = np.broadcast_shapes(tuple(mask.shape), wanted)
    except ValueError:
        together = ()
    # A mask may bring leading axes of its own, but not more queries or keys.
    if together[-2:] != wanted[-2:]:
        raise ValueError(
            f"mask must broadcast to (..., n_q, n_k) = {wanted}; got shape {tuple(mask.shape)}"
        )
    if library(mask) == library(scores):
        return mask
    if not is_numpy_array(mask):
        raise TypeError(
            f"mask must come from the library of the scores, {library(scores)}, or from NumPy; "
            f"got {library(mask)}"
        )
    return array_namespace(scores).asarray(mask.copy(), device=scores.device)
