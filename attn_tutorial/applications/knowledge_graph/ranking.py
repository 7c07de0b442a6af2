"""How well the true answer stands among all entities: filtered ranks, with a rule for ties."""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

Scores = Float[np.ndarray, "n n_entities"]
Ties = Literal["random", "best", "worst"]


def chances(
    scores: Scores,
    answer: Int[np.ndarray, " n"],
    others: Bool[np.ndarray, "n n_entities"],
    *,
    ties: Ties = "random",
) -> tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"]]:
    """The first and the last rank that the true answer may get.

    Filtered: the other true answers to a question are no competitors, as Bordes et al. (2013)
    proposed.

    Parameters
    ----------
    scores : float array, shape (n, n_entities)
    answer : int array, shape (n,)
    others : bool array, shape (n, n_entities)
        Where an entity is another true answer.
    ties : "random", "best" or "worst"
        Where others have the same score as the true answer: any order is as likely as any other;
        the true answer comes first; it comes last. Only the first is fair (Sun et al., 2020).

    Returns
    -------
    first, last : int arrays, shape (n,)
        The best rank is 1. Each rank between the two is as likely as any other.

    Raises
    ------
    ValueError
        Where a score is no finite number, or the rule for ties is unknown.

    References
    ----------
    Bordes et al. (2013), "Translating Embeddings for Modeling Multi-relational Data", NeurIPS.
    Sun et al. (2020), "A Re-evaluation of Knowledge Graph Completion Methods", ACL.
    """
    if ties not in ("random", "best", "worst"):
        raise ValueError(f"ties must be 'random', 'best' or 'worst'; got {ties!r}")
    if not np.isfinite(scores).all():
        raise ValueError("scores must be finite: NaN is above nothing, and would rank first")
    true = np.take_along_axis(scores, answer[:, None], axis=1)  # (n, 1)
    first = 1 + ((scores > true) & ~others).sum(axis=1)
    last = ((scores >= true) & ~others).sum(axis=1)  # counts the answer itself
    if ties == "best":
        return first, first
    if ties == "worst":
        return last, last
    return first, last


def reciprocal_ranks(
    first: Int[np.ndarray, " n"], last: Int[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """The expected 1 / rank, where each rank from first to last is as likely as any other."""
    harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, last.max() + 1))])
    return (harmonic[last] - harmonic[first - 1]) / (last - first + 1)


def hits(
    first: Int[np.ndarray, " n"], last: Int[np.ndarray, " n"], k: int
) -> Float[np.ndarray, " n"]:
    """The probability that the rank is k or better."""
    return np.clip(k - first + 1, 0, last - first + 1) / (last - first + 1)
