"""What a head does, in numbers: how widely it looks, how far, and at which distance.

Every function takes weights (..., n_q, n_k), rows of which sum to one, as a NumPy array, and
measures each query or each head by itself: for weights (n_layers, n_heads, n_q, n_k) there is one
result for each layer and head. A query that a mask leaves nothing to attend to has a row of zeros,
and no entropy or distance: its result is NaN, so that no mean counts it unseen.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int

from attn_tutorial._arrays import Array, check_axes, check_floating, is_numpy_array, library

Weights = Float[Array, "*batch n_q n_k"]
# Weights in float16 sum to one within a few thousandths.
TOLERANCE = 5e-3


def check_weights(weights: Weights, mask: Bool[Array, "..."] | None = None) -> None:
    """Raise an error unless these are weights, and none lies where the mask excludes it.

    Parameters
    ----------
    weights : float array, shape (..., n_q, n_k)
        Each row sums to one, or is zero throughout.
    mask : bool array, broadcastable to the shape of the weights, optional
        True where the query may attend to the key.

    Raises
    ------
    TypeError
        Where the weights are no NumPy array of floating-point numbers, or the mask no boolean one.
    ValueError
        Where the weights have too few axes or no key, one is negative, or a row has another sum;
        where the mask has another shape, or excludes a weight that is not zero.
    """
    check_floating(weights=weights)
    if not is_numpy_array(weights):
        raise TypeError(f"weights must be a NumPy array; got one of {library(weights)}")
    check_axes("(..., n_q, n_k)", weights=weights)
    if 0 in weights.shape:
        raise ValueError(f"weights must have a query and a key; got shape {weights.shape}")
    if not (weights >= -TOLERANCE).all():
        raise ValueError("weights must be from 0 to 1; got a negative number or NaN")
    sums = weights.sum(axis=-1, dtype=np.float64)  # (..., n_q)
    wrong = (np.abs(sums - 1) > TOLERANCE) & (weights != 0).any(axis=-1)
    if wrong.any():
        raise ValueError(
            f"each row of weights must sum to one; got {sums[wrong][0]:.4g} in row "
            f"{_place(wrong)} of shape {weights.shape}. Are these scores, or do the columns sum "
            "to one?"
        )
    if mask is None:
        return
    mask = np.asarray(mask)
    if mask.dtype != bool:
        raise TypeError(f"mask must be boolean (True = may attend); got dtype {mask.dtype}")
    try:
        allowed = np.broadcast_to(mask, weights.shape)
    except ValueError:
        raise ValueError(
            f"mask must broadcast to (..., n_q, n_k) = {weights.shape}; got shape {mask.shape}"
        ) from None
    leaking = ~allowed & (weights > TOLERANCE)
    if leaking.any():
        raise ValueError(
            "mask must be True where the query may attend; it is False where a weight is "
            f"{weights[leaking][0]:.4g}, at {_place(leaking)}"
        )


def entropy(
    weights: Weights, mask: Bool[Array, "..."] | None = None, *, normalised: bool = False
) -> Float[np.ndarray, "*batch n_q"]:
    """How widely each query spreads its weight: -Σ_j w_ij ln w_ij, in nats.

    Its exponential is a number of keys: m equal weights have the entropy ln m.

    Parameters
    ----------
    weights : float array, shape (..., n_q, n_k)
    mask : bool array, broadcastable to the shape of the weights, optional
        True where the query may attend to the key.
    normalised : bool
        Divide by the logarithm of the number of keys that the mask allows (all, without a mask),
        so that equal weights have 1. With a single key there is no choice, and NaN.

    Returns
    -------
    float array, shape (..., n_q)
        From 0, where one key has all weight, to ln n_k.

    Raises
    ------
    TypeError, ValueError
        As in `check_weights`.

    References
    ----------
    Shannon (1948), "A Mathematical Theory of Communication", Bell System Technical Journal,
    section 6.
    """
    check_weights(weights, mask)
    wide = np.maximum(weights.astype(np.float64), 0)  # (..., n_q, n_k)
    logarithms = np.log(np.where(wide > 0, wide, 1))
    nats = _only_where_there_is_weight(-(wide * logarithms).sum(axis=-1), weights)  # (..., n_q)
    if not normalised:
        return nats
    allowed = np.broadcast_to(True if mask is None else mask, weights.shape).sum(axis=-1)
    return np.where(allowed > 1, nats / np.log(np.maximum(allowed, 2)), np.nan)


def mean_distance(weights: Weights, *, offset: int = 0) -> Float[np.ndarray, "*batch n_q"]:
    """How far each query looks, on average: Σ_j w_ij |i + offset - j|, in positions.

    Queries and keys must be positions of one sequence: between a source and a target there is no
    such distance.

    Parameters
    ----------
    weights : float array, shape (..., n_q, n_k)
    offset : int
        The position of the first query among the keys, as in `causal_mask`.

    Returns
    -------
    float array, shape (..., n_q)

    Raises
    ------
    TypeError, ValueError
        As in `check_weights`.

    References
    ----------
    Vig and Belinkov (2019), "Analyzing the Structure of Attention in a Transformer Language
    Model", BlackboxNLP.
    """
    check_weights(weights)
    distances = np.abs(_offsets(weights, offset))  # (n_q, n_k)
    return _only_where_there_is_weight((weights * distances).sum(axis=-1), weights)


def offset_profile(
    weights: Weights, *, offset: int = 0
) -> tuple[Int[np.ndarray, " n_offsets"], Float[np.ndarray, "*batch n_offsets"]]:
    """The mean weight of the keys at each distance before and behind the query.

    The mean is over the queries that have such a key, so that a head that always looks two
    positions back has a 1 there, though the first two queries have nothing to look at.

    Parameters
    ----------
    weights : float array, shape (..., n_q, n_k)
    offset : int
        The position of the first query among the keys, as in `causal_mask`.

    Returns
    -------
    offsets : int array, shape (n_q + n_k - 1,)
        Position of the key minus position of the query, in rising order: -1 is the key before.
    profile : float array, shape (..., n_q + n_k - 1)

    Raises
    ------
    TypeError, ValueError
        As in `check_weights`.
    """
    check_weights(weights)
    relative = _offsets(weights, offset)  # (n_q, n_k)
    offsets = np.arange(relative.min(), relative.max() + 1)
    columns = [weights[..., relative == distance].mean(axis=-1) for distance in offsets]
    return offsets, np.stack(columns, axis=-1)


def previous_token_score(weights: Weights) -> Float[np.ndarray, "*batch"]:
    """How much weight goes to the key just before the query, on average over all but the first.

    Parameters
    ----------
    weights : float array, shape (..., n, n)
        Of self-attention.

    Returns
    -------
    float array, shape (...)
        From 0 to 1.

    Raises
    ------
    TypeError, ValueError
        As in `check_weights`; also where queries and keys differ in number, or there is only one.

    References
    ----------
    Olsson et al. (2022), "In-context Learning and Induction Heads", Transformer Circuits Thread.
    """
    check_weights(weights)
    n_q, n_k = weights.shape[-2:]
    if n_q != n_k or n_q < 2:
        raise ValueError(f"weights must have shape (..., n, n) with n > 1; got {weights.shape}")
    return np.diagonal(weights, offset=-1, axis1=-2, axis2=-1).mean(axis=-1)


def between_groups(
    weights: Weights, query_groups: Sequence[int], key_groups: Sequence[int]
) -> Float[np.ndarray, "*batch n_query_groups n_key_groups"]:
    """Weights between words from weights between their pieces.

    The weights of a word's pieces as keys are added, since they are shares of one whole. The rows
    of a word's pieces as queries are averaged. So the rows sum to one again.

    Parameters
    ----------
    weights : float array, shape (..., n_q, n_k)
    query_groups, key_groups : whole numbers, n_q and n_k of them
        For each query and key the number of its group, from 0 on, each number at least once.

    Returns
    -------
    float array, shape (..., n_query_groups, n_key_groups)

    Raises
    ------
    TypeError, ValueError
        As in `check_weights`; also where groups do not fit the weights, or a group is empty.

    References
    ----------
    Clark et al. (2019), "What Does BERT Look At? An Analysis of BERT's Attention", BlackboxNLP.
    """
    check_weights(weights)
    n_q, n_k = weights.shape[-2:]
    of_queries = _members("query_groups", query_groups, n_q)  # (n_q, n_query_groups)
    of_keys = _members("key_groups", key_groups, n_k)  # (n_k, n_key_groups)
    mean = of_queries / of_queries.sum(axis=0)
    return mean.T @ weights @ of_keys


def _offsets(weights: Weights, offset: int) -> Int[np.ndarray, "n_q n_k"]:
    """Position of the key minus position of the query."""
    n_q, n_k = weights.shape[-2:]
    return np.arange(n_k) - (np.arange(n_q)[:, None] + offset)


def _only_where_there_is_weight(
    results: Float[np.ndarray, "*batch n_q"], weights: Weights
) -> Float[np.ndarray, "*batch n_q"]:
    return np.where((weights != 0).any(axis=-1), results, np.nan)


def _members(name: str, groups: Sequence[int], n: int) -> Float[np.ndarray, "n n_groups"]:
    """A 1 where an item belongs to a group."""
    groups = np.asarray(groups)
    if groups.shape != (n,):
        raise ValueError(f"{name} must have shape ({n},), as the weights; got {groups.shape}")
    if not np.issubdtype(groups.dtype, np.integer):
        raise TypeError(f"{name} must hold whole numbers; got dtype {groups.dtype}")
    if sorted(set(groups.tolist())) != list(range(groups.max() + 1)):
        raise ValueError(f"{name} must number the groups from 0 on, none left out; got {groups}")
    return (groups[:, None] == np.arange(groups.max() + 1)).astype(np.float64)


def _place(found: Bool[np.ndarray, "..."]) -> tuple[int, ...]:
    """Where the first True stands."""
    return tuple(np.argwhere(found)[0].tolist())
