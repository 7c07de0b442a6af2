"""From scores to weights, otherwise than by the softmax: with exact zeros, a span or a sink.

A normaliser is a function of scores (…, n_k) that returns weights (…, n_k), none of them negative.
A score of −inf excludes its key. Where all keys are excluded the weights are zero, never NaN.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from attn_tutorial.core import apply_mask
from attn_tutorial.scores import Score, scaled_dot_product

Scores = Float[Tensor, "*batch n_k"]
Weights = Float[Tensor, "*batch n_k"]
Normaliser = Callable[[Tensor], Tensor]


def attend(
    query: Float[Tensor, "*#batch n_q d_k"],
    key: Float[Tensor, "*#batch n_k d_k"],
    value: Float[Tensor, "*#batch n_k d_v"],
    *,
    normalise: Normaliser,
    score: Score = scaled_dot_product,
    mask: Bool[Tensor, "..."] | Float[Tensor, "..."] | None = None,
) -> tuple[Float[Tensor, "... n_q d_v"], Float[Tensor, "... n_q n_k"]]:
    """Attention with a normaliser of one's choice; with `softmax` it is `attention`.

    Parameters
    ----------
    query, key, value : float tensors, shapes (…, n_q, d_k), (…, n_k, d_k) and (…, n_k, d_v)
    normalise : function (scores) -> weights
    score : function (query, key) -> scores (…, n_q, n_k)
    mask : bool or float tensor, broadcastable to (…, n_q, n_k), optional
        As in `attention`: True where a query may attend, or what is added to the scores.

    Returns
    -------
    output : float tensor, shape (…, n_q, d_v)
    weights : float tensor, shape (…, n_q, n_k)

    Raises
    ------
    TypeError
        Where the normaliser is no function.
    """
    if not callable(normalise):
        raise TypeError(f"normalise must be a function of scores; got {type(normalise).__name__}")
    dtype = query.dtype
    wide = torch.promote_types(dtype, torch.float32)
    scores = score(query.to(wide), key.to(wide))  # (…, n_q, n_k)
    if mask is not None:
        scores = apply_mask(scores, mask)
    weights = normalise(scores)  # (…, n_q, n_k)
    output = weights @ value.to(wide)  # (…, n_q, d_v)
    batch = torch.broadcast_shapes(weights.shape[:-2], value.shape[:-2])
    return output.to(dtype), weights.expand(*batch, *weights.shape[-2:]).to(dtype)


def sparsemax(scores: Scores) -> Weights:
    """The point among all possible weights that is nearest to the scores: often with many zeros.

    The weights are max(score − τ, 0), with the τ that makes them sum to one, found by sorting.

    Parameters
    ----------
    scores : float tensor, shape (…, n_k)

    Returns
    -------
    float tensor, shape (…, n_k), of the dtype of the scores

    Raises
    ------
    TypeError
        Where the scores are no floating-point tensor.
    ValueError
        Where they have no axis, or no key.

    References
    ----------
    Martins and Astudillo (2016), "From Softmax to Sparsemax: A Sparse Model of Attention and
    Multi-Label Classification", ICML.
    """
    return _weights(scores, 2.0, _sparsemax_threshold)


def entmax15(scores: Scores) -> Weights:
    """The entmax for α = 1.5, half way between softmax and sparsemax; exact, by sorting.

    The weights are max(score / 2 − τ, 0)², with the τ that makes them sum to one.

    Parameters, errors and the result are those of `sparsemax`.

    References
    ----------
    Peters, Niculae and Martins (2019), "Sparse Sequence-to-Sequence Models", ACL.
    """
    return _weights(scores, 1.5, _entmax15_threshold)


def entmax(scores: Scores, alpha: float | Tensor, *, iterations: int = 30) -> Weights:
    """The α-entmax, by bisection: α = 2 is the sparsemax, and α → 1 the softmax.

    The weights are max((α − 1) score − τ, 0) ** (1 / (α − 1)).

    Parameters
    ----------
    scores : float tensor, shape (…, n_k)
    alpha : float, or float tensor that broadcasts to (…, 1)
        Above 1. A tensor gets a gradient.
    iterations : int
        Each halves the interval of length 1 at most in which τ lies. At the end the weights are
        divided by their sum.

    Returns
    -------
    float tensor, shape (…, n_k), of the dtype of the scores

    Raises
    ------
    TypeError
        Where the scores are no floating-point tensor.
    ValueError
        Where they have no axis or no key, α is not above 1 or does not broadcast, or there is no
        iteration.

    References
    ----------
    Peters, Niculae and Martins (2019), "Sparse Sequence-to-Sequence Models", ACL.
    Correia, Niculae and Martins (2019), "Adaptively Sparse Transformers", EMNLP, for the
    gradient of α.
    """
    if iterations < 1:
        raise ValueError(f"iterations must be at least 1; got {iterations}")

    def threshold(shifted: Tensor, alpha: Tensor) -> Tensor:
        return _bisection_threshold(shifted, alpha, iterations)

    return _weights(scores, alpha, threshold)


def softmax_with_sink(scores: Scores, sink: float | Tensor = 0.0) -> Weights:
    """A softmax in which one more score takes part that belongs to no key.

    It is attention with one more key whose value is zero: the weights of the real keys sum to less
    than one, and may all be near zero. With `sink=0` this is the softmax "off by one", and what
    `torch.nn.MultiheadAttention(add_zero_attn=True)` computes; −inf gives the softmax.

    Parameters
    ----------
    scores : float tensor, shape (…, n_k)
    sink : float, or float tensor that broadcasts to (…, 1)

    Returns
    -------
    float tensor, shape (…, n_k), of the dtype of the scores

    Raises
    ------
    TypeError, ValueError
        As `sparsemax`, and where the sink does not broadcast.

    References
    ----------
    Miller (2023), "Attention Is Off By One", for a sink of 0.
    """
    _check(scores)
    wide = scores.to(_wide(scores))
    sink = _beside("sink", sink, wide)
    peak = _finite(torch.maximum(wide.amax(dim=-1, keepdim=True), sink)).detach()  # (…, 1)
    exponentials = torch.exp(wide - peak)
    total = exponentials.sum(dim=-1, keepdim=True) + torch.exp(sink - peak)
    return (exponentials / total.masked_fill(total == 0, 1)).to(scores.dtype)


def span_factors(
    distance: Float[Tensor, "*#batch"], span: float | Tensor, ramp: float
) -> Float[Tensor, "*#batch"]:
    """1 up to a distance of `span`, then a straight line down to 0 at `span + ramp`.

    Parameters
    ----------
    distance : float tensor
        How many positions a key lies behind its query.
    span : float, or float tensor that broadcasts with the distance
        It gets its gradient from the keys on the ramp.
    ramp : float
        Above 0.

    Raises
    ------
    ValueError
        Where the ramp is not above 0.

    References
    ----------
    Sukhbaatar et al. (2019), "Adaptive Attention Span in Transformers", ACL.
    """
    if not ramp > 0:
        raise ValueError(f"ramp must be above 0; got {ramp}")
    return ((ramp + span - distance) / ramp).clamp(0, 1)


def softmax_with_factors(scores: Scores, factors: Float[Tensor, "..."]) -> Weights:
    """A softmax of which each exponential is multiplied by a factor from 0 to 1.

    Parameters
    ----------
    scores : float tensor, shape (…, n_k)
    factors : float tensor that broadcasts to the scores
        A factor of 0 excludes its key: how high it scores does not matter.

    Raises
    ------
    TypeError, ValueError
        As `sparsemax`, and where the factors do not broadcast.

    References
    ----------
    Sukhbaatar et al. (2019), "Adaptive Attention Span in Transformers", ACL.
    """
    _check(scores)
    wide = scores.to(_wide(scores))
    factors = _fitting("factors", factors.to(wide.dtype), tuple(scores.shape))
    kept = wide.masked_fill(factors == 0, -math.inf)
    peak = _finite(kept.amax(dim=-1, keepdim=True)).detach()
    # The excluded get exp(−inf), and no gradient from an overflow.
    exponentials = factors * torch.exp(kept - peak)
    total = exponentials.sum(dim=-1, keepdim=True)
    return (exponentials / total.masked_fill(total == 0, 1)).to(scores.dtype)


class _Entmax(torch.autograd.Function):
    """Weights from a threshold, and their gradient in closed form."""

    @staticmethod
    def forward(context, scores, alpha, threshold):
        peak = _finite(scores.amax(dim=-1, keepdim=True))
        # The best key stands at 0 and the threshold at −1 or above: what lies below gets nothing.
        shifted = ((alpha - 1) * (scores - peak)).clamp(min=-1)  # (…, n_k)
        margin = (shifted - threshold(shifted, alpha)).clamp(min=0)
        weights = (margin ** (1 / (alpha - 1))).masked_fill(scores == -math.inf, 0)
        total = weights.sum(dim=-1, keepdim=True)
        weights = weights / total.masked_fill(total == 0, 1)
        context.save_for_backward(weights, alpha)
        return weights

    @staticmethod
    def backward(context, d_weights):
        weights, alpha = context.saved_tensors
        support = weights > 0
        slopes = torch.where(support, weights ** (2 - alpha), 0)  # (…, n_k)
        total = slopes.sum(dim=-1, keepdim=True)
        shares = slopes / total.masked_fill(total == 0, 1)
        mean = (shares * d_weights).sum(dim=-1, keepdim=True)
        d_scores = slopes * (d_weights - mean)
        d_alpha = None
        if context.needs_input_grad[1]:
            surprise = -torch.xlogy(weights, weights)  # (…, n_k)
            entropy = surprise.sum(dim=-1, keepdim=True)
            change = (weights - shares) / (alpha - 1) ** 2
            change = change + (surprise - shares * entropy) / (alpha - 1)
            d_alpha = (change * d_weights).sum(dim=-1, keepdim=True)  # (…, 1)
        return d_scores, d_alpha, None


def _weights(scores: Tensor, alpha: float | Tensor, threshold: Callable) -> Tensor:
    _check(scores)
    wide = scores.to(_wide(scores))
    alpha = _beside("alpha", alpha, wide)
    if not (alpha > 1).all():
        raise ValueError(f"alpha must be above 1 (the softmax is at 1); got {alpha.min().item()}")
    return _Entmax.apply(wide, alpha, threshold).to(scores.dtype)


def _sparsemax_threshold(shifted: Tensor, alpha: Tensor) -> Tensor:
    """The τ for α = 2: the mean of the scores that get something, less what they have to share."""
    ordered = shifted.sort(dim=-1, descending=True).values  # (…, n_k)
    counts = torch.arange(1, shifted.shape[-1] + 1, device=shifted.device, dtype=shifted.dtype)
    sums = ordered.cumsum(dim=-1)
    size = (1 + counts * ordered > sums).sum(dim=-1, keepdim=True)  # (…, 1)
    return (sums.gather(-1, size - 1) - 1) / size


def _entmax15_threshold(shifted: Tensor, alpha: Tensor) -> Tensor:
    """The τ for α = 1.5: a root of a quadratic equation in the scores that get something."""
    ordered = shifted.sort(dim=-1, descending=True).values  # (…, n_k)
    counts = torch.arange(1, shifted.shape[-1] + 1, device=shifted.device, dtype=shifted.dtype)
    mean = ordered.cumsum(dim=-1) / counts
    spread = (ordered**2).cumsum(dim=-1) - counts * mean**2  # the sum of squared deviations
    candidates = mean - ((1 - spread) / counts).clamp(min=0).sqrt()  # (…, n_k)
    fits = (candidates <= ordered) & (ordered > -1)
    return candidates.gather(-1, fits.sum(dim=-1, keepdim=True).clamp(min=1) - 1)


def _bisection_threshold(shifted: Tensor, alpha: Tensor, iterations: int) -> Tensor:
    """The τ between −1, where the best key alone gets everything, and where all would get 1 / n."""
    power = 1 / (alpha - 1)
    low = torch.full_like(shifted[..., :1], -1.0)  # (…, 1)
    width = 1 - (1 / shifted.shape[-1]) ** (alpha - 1)
    for _ in range(iterations):
        width = width / 2
        middle = low + width
        total = ((shifted - middle).clamp(min=0) ** power).sum(dim=-1, keepdim=True)
        low = torch.where(total >= 1, middle, low)
    return low


def _wide(scores: Tensor) -> torch.dtype:
    """In which dtype to compute."""
    return torch.promote_types(scores.dtype, torch.float32)


def _finite(peak: Tensor) -> Tensor:
    """Zero for −inf, so that no −inf is taken from another."""
    return peak.masked_fill(peak == -math.inf, 0)


def _beside(name: str, number: float | Tensor, scores: Tensor) -> Tensor:
    """A number for each row of scores, (…, 1)."""
    number = torch.as_tensor(number, dtype=scores.dtype, device=scores.device)
    return _fitting(name, number, (*scores.shape[:-1], 1))


def _fitting(name: str, tensor: Tensor, wanted: tuple[int, ...]) -> Tensor:
    try:
        return tensor.expand(wanted)
    except RuntimeError:
        raise ValueError(
            f"{name} must broadcast to {wanted} beside the scores; got {tuple(tensor.shape)}"
        ) from None


def _check(scores: Tensor) -> None:
    if not isinstance(scores, Tensor) or not scores.is_floating_point():
        kind = scores.dtype if isinstance(scores, Tensor) else type(scores).__name__
        raise TypeError(f"scores must be a floating-point tensor; got {kind}")
    if scores.ndim == 0 or scores.shape[-1] == 0:
        raise ValueError(
            f"scores must have shape (…, n_k) with one key or more; got {tuple(scores.shape)}"
        )
