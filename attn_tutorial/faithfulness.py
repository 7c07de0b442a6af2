"""Is an explanation faithful? Words deleted and inserted, and other weights for the same output.

An explanation of a decision ranks the words. It is faithful if the model's own behaviour agrees
with it: without the words that it ranks first the decision should fall, with them alone it should
stand. And if quite other weights give the same output, the weights alone do not explain it.
"""

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from attn_tutorial._arrays import Array, check_axes, check_floating, namespace

Tokens = Int[np.ndarray, " n"]
Ranking = Int[np.ndarray, " n"]
Curve = Float[np.ndarray, " n_points"]
# What a model says of each of m sequences, such as the probability of one kind.
Predict = Callable[[Int[np.ndarray, "m n"]], Float[np.ndarray, " m"]]

ROUNDING = 1e-6
HALVINGS = 12
# Of an output that moves too far, by turns: which one finds most depends on the output.
PENALTIES = (20.0, 80.0, 5.0, 320.0)


def deletion_curve(
    predict: Predict, tokens: Tokens, ranking: Ranking, *, replacement: int
) -> Curve:
    """What a model says while the tokens are replaced, those that are ranked first at first.

    The faster the curve falls, the better the ranking knows what the model's answer depends on.

    Parameters
    ----------
    predict : function, int array (m, n) -> float array (m,)
        What the model says of each of m sequences.
    tokens : int array, shape (n,)
    ranking : int array, shape (n,)
        The positions, the most important first.
    replacement : int
        The token that stands for "nothing is here": the unknown word, say, or the padding where
        the model masks it.

    Returns
    -------
    float array, shape (n + 1,)
        Of the whole sequence, of the sequence without the first of the ranking, and so on; at last
        of a sequence of replacements.

    Raises
    ------
    ValueError
        Where tokens are no row of one or more, the ranking is no order of their positions, or
        predict returns another number of values.

    Notes
    -----
    The first value minus the mean of the others is the comprehensiveness of DeYoung et al., with
    every number of words as a bin of its own.

    References
    ----------
    Samek et al. (2017), "Evaluating the Visualization of What a Deep Neural Network Has Learned",
    IEEE Transactions on Neural Networks and Learning Systems 28.
    DeYoung et al. (2020), "ERASER: A Benchmark to Evaluate Rationalized NLP Models", ACL,
    section 4.
    """
    place = _places(tokens, ranking)
    deleted = place < np.arange(len(tokens) + 1)[:, None]  # (n + 1, n)
    return _asked(predict, np.where(deleted, replacement, tokens))


def insertion_curve(
    predict: Predict, tokens: Tokens, ranking: Ranking, *, replacement: int
) -> Curve:
    """What a model says while tokens are put in place of replacements, the first ranked at first.

    The faster the curve rises, the better the ranking knows what suffices for the model's answer.
    The parameters are those of `deletion_curve`.

    Returns
    -------
    float array, shape (n + 1,)
        Of a sequence of replacements, of one that holds the first of the ranking, and so on; at
        last of the whole sequence.

    Raises
    ------
    ValueError
        As in `deletion_curve`.

    References
    ----------
    DeYoung et al. (2020), "ERASER: A Benchmark to Evaluate Rationalized NLP Models", ACL,
    section 4, where the last value minus the mean of the others is the sufficiency.
    """
    place = _places(tokens, ranking)
    inserted = place < np.arange(len(tokens) + 1)[:, None]  # (n + 1, n)
    return _asked(predict, np.where(inserted, tokens, replacement))


def leave_one_out(predict: Predict, tokens: Tokens, *, replacement: int) -> Float[np.ndarray, " n"]:
    """By how much the model's answer falls when one token is replaced, for each token.

    Parameters
    ----------
    predict, tokens, replacement : as in `deletion_curve`

    Returns
    -------
    float array, shape (n,)
        Negative where the answer rises.

    Raises
    ------
    ValueError
        As in `deletion_curve`.

    References
    ----------
    Li, Monroe and Jurafsky (2016), "Understanding Neural Networks through Representation Erasure",
    arXiv:1612.08220.
    """
    n = len(_row("tokens", tokens))
    left_out = np.eye(n + 1, n, -1, dtype=bool)  # (n + 1, n): the first row leaves out nothing
    answers = _asked(predict, np.where(left_out, replacement, tokens))
    return answers[0] - answers[1:]


def area_under(curve: Float[np.ndarray, "... n_points"]) -> Float[np.ndarray, "..."]:
    """The area under curves over the share of the words, from 0 to 1: their mean height.

    Parameters
    ----------
    curve : float array, shape (..., n_points)
        Values at equal distances, two or more.

    Returns
    -------
    float array, shape (...)
        By the trapezoidal rule.

    Raises
    ------
    ValueError
        Where there are fewer than two points.
    """
    curve = np.asarray(curve)
    if curve.ndim < 1 or curve.shape[-1] < 2:
        raise ValueError(f"curve must have shape (..., n_points >= 2); got {curve.shape}")
    return ((curve[..., 1:] + curve[..., :-1]) / 2).mean(axis=-1)


def total_variation(p: Float[Array, "... n"], q: Float[Array, "... n"]) -> Float[Array, "..."]:
    """How far two rows are apart: half the sum of the absolute differences.

    It is the share of the mass that would have to move to turn one into the other.

    Parameters
    ----------
    p, q : float arrays of one library, shape (..., n)
        Rows of numbers that are not negative and sum to one; that is not checked.

    Returns
    -------
    float array, shape (...)
        From 0 (equal) to 1 (no element in common).

    Raises
    ------
    TypeError
        Where one is no floating-point array, or they are of two libraries.
    ValueError
        Where their shapes differ.

    References
    ----------
    Jain and Wallace (2019), "Attention Is Not Explanation", NAACL, section 4.
    """
    xp = _check_distributions(p, q)
    return xp.sum(xp.abs(p - q), axis=-1) / 2


def jensen_shannon(p: Float[Array, "... n"], q: Float[Array, "... n"]) -> Float[Array, "..."]:
    """The Jensen-Shannon divergence: how far two rows are from their middle, in nats.

    Parameters
    ----------
    p, q : float arrays of one library, shape (..., n)
        Rows of numbers that are not negative and sum to one; that is not checked.

    Returns
    -------
    float array, shape (...)
        From 0 (equal) to ln 2 = 0.693 (no element in common).

    Raises
    ------
    TypeError
        Where one is no floating-point array, or they are of two libraries.
    ValueError
        Where their shapes differ.

    References
    ----------
    Lin (1991), "Divergence Measures Based on the Shannon Entropy", IEEE Transactions on
    Information Theory 37.
    """
    xp = _check_distributions(p, q)
    return (_relative_entropy(xp, p, (p + q) / 2) + _relative_entropy(xp, q, (p + q) / 2)) / 2


def value_weighted_norms(
    weights: Float[Array, "... n_q n_k"],
    values: Float[Array, "... n_k d_v"],
    output: Float[Array, "d_v d_out"] | None = None,
) -> Float[Array, "... n_q n_k"]:
    """How long the vector is that each key really adds to a query's output.

    Parameters
    ----------
    weights : float array, shape (..., n_q, n_k)
    values : float array, shape (..., n_k, d_v)
    output : float array, shape (d_v, d_out), optional
        What the sum is multiplied with behind the attention, such as a head's rows of W_O.

    Returns
    -------
    float array, shape (..., n_q, n_k)
        The norms of weights[..., i, j] · values[..., j, :] @ output.

    Raises
    ------
    TypeError, ValueError
        Where dtypes, libraries or shapes do not fit.

    References
    ----------
    Kobayashi et al. (2020), "Attention is Not Only a Weight: Analyzing Transformers with Vector
    Norms", EMNLP, sections 2 and 3.
    """
    matrices = {"weights": weights, "values": values}
    if output is not None:
        matrices["output"] = output
    check_floating(**matrices)
    check_axes("(..., n_q, n_k)", weights=weights)
    check_axes("(..., n_k, d_v)", values=values)
    if weights.shape[-1] != values.shape[-2]:
        raise ValueError(
            "weights (..., n_q, n_k) and values (..., n_k, d_v) must agree in n_k; got shapes "
            f"{tuple(weights.shape)} and {tuple(values.shape)}"
        )
    xp = namespace(**matrices)
    if output is not None:
        if output.ndim != 2 or output.shape[0] != values.shape[-1]:
            raise ValueError(
                f"output must have shape (d_v, d_out) with d_v = {values.shape[-1]}; "
                f"got {tuple(output.shape)}"
            )
        values = values @ output  # (..., n_k, d_out)
    norms = xp.sqrt(xp.sum(values * values, axis=-1))  # (..., n_k)
    return xp.abs(weights) * norms[..., None, :]


def adversarial_weights(
    output_of: Callable[[Float[Tensor, "batch n"]], Float[Tensor, "batch n_kinds"]],
    weights: Float[Tensor, "batch n"],
    *,
    epsilon: float = 0.01,
    mask: Bool[Tensor, "batch n"] | None = None,
    starts: int = 8,
    steps: int = 150,
    rate: float = 0.3,
    seed: int = 0,
) -> Float[Tensor, "batch n"]:
    """Weights as different from the given ones as can be found, whose output is hardly another.

    Gradient ascent on the Jensen-Shannon divergence between the weights, with a penalty where the
    output moves by more than epsilon, from random starts. Each end is then drawn back straight
    towards the given weights until the output is within epsilon, so that the bound holds for what
    is returned, and is not only wished for. The given weights themselves are returned where nothing
    else is found.

    Parameters
    ----------
    output_of : function, float tensor (batch, n) -> float tensor (batch, n_kinds)
        The output as probabilities, as a function of the weights; rows are independent.
    weights : float tensor, shape (batch, n)
        The model's own; rows sum to one.
    epsilon : float
        By how much the output may differ, as a total variation.
    mask : bool tensor, shape (batch, n), optional
        True where a position may have weight.
    starts, steps : int
        How often to begin anew, and for how many steps each time.
    rate : float
        Adam's learning rate at the beginning; it falls to zero in a straight line.
    seed : int
        Of the starts.

    Returns
    -------
    float tensor, shape (batch, n)
        What was found is a lower bound: no search shows that there is nothing farther away.

    Raises
    ------
    ValueError
        Where weights are no rows that sum to one, the mask has another shape or excludes a weight,
        or epsilon, starts or steps are not positive.

    References
    ----------
    Jain and Wallace (2019), "Attention Is Not Explanation", NAACL, section 4.
    """
    mask = torch.ones_like(weights, dtype=torch.bool) if mask is None else mask
    _check_search(weights, mask, {"epsilon": epsilon, "starts": starts, "steps": steps})
    own = weights.detach()
    with torch.no_grad():
        wanted = output_of(own)  # (batch, n_kinds)
    generator = torch.Generator().manual_seed(seed)
    best = own
    for start in range(starts):
        penalty = PENALTIES[start % len(PENALTIES)]
        noise = 2 * torch.randn(own.shape, generator=generator, dtype=own.dtype)
        found = _ascend(output_of, own, wanted, noise, mask, penalty, epsilon, steps, rate)
        found = _drawn_back(output_of, own, wanted, found, epsilon)
        farther = jensen_shannon(found, own) > jensen_shannon(best, own)  # (batch,)
        best = torch.where(farther[:, None], found, best)
    return best


def adversary_loss(
    probabilities: Float[Tensor, "batch n_kinds"],
    weights: Float[Tensor, "batch n"],
    base_probabilities: Float[Tensor, "batch n_kinds"],
    base_weights: Float[Tensor, "batch n"],
    *,
    divergence: float,
) -> Float[Tensor, ""]:
    """What a second model is trained on that shall say the same as the first, by other weights.

    Unlike `adversarial_weights`, this looks for parameters: one model that must do it for all
    inputs, unseen ones too.

    Parameters
    ----------
    probabilities, weights : float tensors, shapes (batch, n_kinds) and (batch, n)
        Of the model that is trained.
    base_probabilities, base_weights : float tensors of the same shapes
        Of the first model.
    divergence : float
        How much a difference of the weights counts against one of the outputs; 0 asks for the
        same outputs only.

    Returns
    -------
    float tensor, shape ()
        The mean of the outputs' total variation minus divergence times the relative entropy of the
        weights, KL(weights || base_weights).

    Raises
    ------
    TypeError, ValueError
        Where the arguments do not fit.

    References
    ----------
    Wiegreffe and Pinter (2019), "Attention Is Not Not Explanation", EMNLP, section 4.
    """
    moved = total_variation(probabilities, base_probabilities)  # (batch,)
    xp = _check_distributions(weights, base_weights)
    return (moved - divergence * _relative_entropy(xp, weights, base_weights)).mean()


def _ascend(
    output_of: Callable,
    own: Tensor,
    wanted: Tensor,
    noise: Tensor,
    mask: Tensor,
    penalty: float,
    epsilon: float,
    steps: int,
    rate: float,
) -> Tensor:
    """Weights (batch, n) after some steps away from the model's own."""
    scores = noise.clone().requires_grad_()
    optimizer = torch.optim.Adam([scores], lr=rate)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate * (1 - step / steps)
        candidate = scores.masked_fill(~mask, -torch.inf).softmax(dim=-1)
        excess = (total_variation(output_of(candidate), wanted) - epsilon).clamp(min=0)
        loss = (penalty * excess - jensen_shannon(candidate, own)).sum()
        (scores.grad,) = torch.autograd.grad(loss, [scores])
        optimizer.step()
    return scores.detach().masked_fill(~mask, -torch.inf).softmax(dim=-1)


@torch.no_grad()
def _drawn_back(
    output_of: Callable, own: Tensor, wanted: Tensor, found: Tensor, epsilon: float
) -> Tensor:
    """The farthest weights that bisection finds between own and found, all within epsilon."""

    def allowed(share: Tensor) -> Tensor:
        output = output_of(own + share * (found - own))
        return total_variation(output, wanted)[:, None] <= epsilon  # (batch, 1)

    outside = torch.ones(len(own), 1, dtype=own.dtype)  # shares of the way
    inside = torch.where(allowed(outside), outside, 0 * outside)
    for _ in range(HALVINGS):
        middle = (inside + outside) / 2
        fits = allowed(middle)
        inside, outside = torch.where(fits, middle, inside), torch.where(fits, outside, middle)
    return own + inside * (found - own)


def _relative_entropy(xp, p: Array, q: Array) -> Array:
    """The sum of p ln(p / q) along the last axis, where 0 ln 0 is 0."""
    there = p > 0
    one = xp.ones_like(p)
    return xp.sum(
        p * (xp.log(xp.where(there, p, one)) - xp.log(xp.where(there, q, one))),
        axis=-1,
    )


def _places(tokens: Tokens, ranking: Ranking) -> Int[np.ndarray, " n"]:
    """At which place of the ranking each position stands."""
    tokens, ranking = _row("tokens", tokens), _row("ranking", ranking)
    if not np.array_equal(np.sort(ranking), np.arange(len(tokens))):
        raise ValueError(
            f"ranking must hold each position from 0 to {len(tokens) - 1} once; "
            f"got {ranking.tolist()}"
        )
    return np.argsort(ranking)


def _row(name: str, array: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    array = np.asarray(array)
    if array.ndim != 1 or len(array) == 0:
        raise ValueError(f"{name} must have shape (n,) with n at least 1; got {array.shape}")
    return array


def _asked(predict: Predict, sequences: Int[np.ndarray, "m n"]) -> Float[np.ndarray, " m"]:
    """What predict says of the sequences."""
    answers = np.asarray(predict(sequences))
    if answers.shape != sequences.shape[:1]:
        raise ValueError(
            f"predict must return shape (m,) = ({len(sequences)},) for tokens of shape "
            f"{sequences.shape}; got {answers.shape}"
        )
    return answers


def _check_distributions(p: Array, q: Array):
    """The library of two floating-point arrays, which must have one shape."""
    check_floating(p=p, q=q)
    xp = namespace(p=p, q=q)
    if tuple(p.shape) != tuple(q.shape) or p.ndim < 1:
        raise ValueError(
            "p and q must have one shape (..., n); got shapes "
            f"{tuple(p.shape)} and {tuple(q.shape)}"
        )
    return xp


def _check_search(weights: Tensor, mask: Tensor, positive: dict[str, float]) -> None:
    if weights.ndim != 2 or (abs(weights.sum(dim=-1) - 1) > 1e-3).any() or (weights < 0).any():
        raise ValueError(
            "weights must have shape (batch, n), rows that sum to one and no negative entry; got "
            f"shape {tuple(weights.shape)}"
        )
    if mask.shape != weights.shape:
        raise ValueError(
            f"mask must have the shape of weights, {tuple(weights.shape)}; got {tuple(mask.shape)}"
        )
    if (weights[~mask] > ROUNDING).any():
        raise ValueError("mask must be True wherever weights are positive")
    for name, value in positive.items():
        if not value > 0:
            raise ValueError(f"{name} must be positive; got {value}")
