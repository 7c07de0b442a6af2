"""Multi-head attention of which the score and the normaliser can be exchanged, and learned ones."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attn_tutorial.core import softmax
from attn_tutorial.frontier.adaptive.normalisers import (
    Normaliser,
    attend,
    entmax,
    softmax_with_factors,
    softmax_with_sink,
    span_factors,
)
from attn_tutorial.layers import MultiHeadAttention
from attn_tutorial.scores import Score, scaled_dot_product

Query = Float[Tensor, "batch n_heads n_q d_head"]
Key = Float[Tensor, "batch n_heads n_k d_head"]
Scores = Float[Tensor, "batch n_heads n_q n_k"]


class AdaptiveAttention(MultiHeadAttention):
    """`MultiHeadAttention` with another score and another way from scores to weights.

    Parameters
    ----------
    d_model, n_heads : int
    score : module or function (query, key) -> scores, optional
        On tensors (batch, n_heads, n, d_head). By default the scaled dot product.
    normalise : module or function (scores) -> weights
        By default the softmax, which makes this layer equal to `MultiHeadAttention`.

    Raises
    ------
    TypeError
        Where score or normalise is no function.
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        *,
        score: Score = scaled_dot_product,
        normalise: Normaliser = softmax,
    ) -> None:
        super().__init__(d_model, n_heads)
        for name, given in (("score", score), ("normalise", normalise)):
            if not callable(given):
                raise TypeError(f"{name} must be a function; got {type(given).__name__}")
        self.score = score if isinstance(score, nn.Module) else Plain(score)
        self.normalise = normalise if isinstance(normalise, nn.Module) else Plain(normalise)

    def _attend(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None):
        return self._attend_and_show(query, key, value, mask)[0], None

    def _attend_and_show(self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None):
        return attend(query, key, value, score=self.score, normalise=self.normalise, mask=mask)


class Plain(nn.Module):
    """A function without parameters, as a module that hooks can watch."""

    def __init__(self, function: Callable) -> None:
        super().__init__()
        self.function = function

    def forward(self, *given: Tensor) -> Tensor:
        return self.function(*given)


class Scaled(nn.Module):
    """A score times a positive factor that each head learns.

    With the scaled dot product this is a learned temperature. With the cosine it is query-key
    normalization, and with Pearson's correlation the same after centring.

    Parameters
    ----------
    n_heads : int
    score : function (query, key) -> scores
    initial : float
        The factor at the beginning, above 0.

    Raises
    ------
    ValueError
        Where the factor is not above 0.

    References
    ----------
    Henry et al. (2020), "Query-Key Normalization for Transformers", Findings of EMNLP.
    """

    def __init__(self, n_heads: int, score: Score, *, initial: float = 1.0) -> None:
        super().__init__()
        if not initial > 0:
            raise ValueError(f"initial must be above 0; got {initial}")
        self.score = score
        self.logarithm = nn.Parameter(torch.full((n_heads,), initial).log())

    @property
    def factor(self) -> Float[Tensor, " n_heads"]:
        """The factor of each head."""
        return self.logarithm.exp()

    def forward(self, query: Query, key: Key) -> Scores:
        """Scores (batch, n_heads, n_q, n_k)."""
        return self.factor[:, None, None] * self.score(query, key)


class LayerNormScore(nn.Module):
    """The scaled dot product of queries and keys that a layer normalization has standardised.

    Parameters
    ----------
    d_head : int

    References
    ----------
    Dehghani et al. (2023), "Scaling Vision Transformers to 22 Billion Parameters", ICML.
    """

    def __init__(self, d_head: int) -> None:
        super().__init__()
        self.query_norm = nn.LayerNorm(d_head, bias=False)
        self.key_norm = nn.LayerNorm(d_head, bias=False)

    def forward(self, query: Query, key: Key) -> Scores:
        """Scores (batch, n_heads, n_q, n_k)."""
        return scaled_dot_product(self.query_norm(query), self.key_norm(key))


class LearnedEntmax(nn.Module):
    """The α-entmax with an α from 1.01 to 2 that each head learns.

    Parameters
    ----------
    n_heads : int
    initial : float
        The α at the beginning, between 1.01 and 2.
    iterations : int
        Of the bisection.

    Raises
    ------
    ValueError
        Where the α is out of range.

    References
    ----------
    Correia, Niculae and Martins (2019), "Adaptively Sparse Transformers", EMNLP.
    """

    lowest, highest = 1.01, 2.0  # nearer to 1 the power 1 / (α − 1) grows beyond what floats hold

    def __init__(self, n_heads: int, *, initial: float = 1.5, iterations: int = 20) -> None:
        super().__init__()
        if not self.lowest < initial < self.highest:
            raise ValueError(
                f"initial must lie between {self.lowest} and {self.highest}; got {initial}"
            )
        share = (initial - self.lowest) / (self.highest - self.lowest)
        self.raw = nn.Parameter(torch.full((n_heads,), share).logit())
        self.iterations = iterations

    @property
    def alpha(self) -> Float[Tensor, " n_heads"]:
        """The α of each head."""
        return self.lowest + (self.highest - self.lowest) * self.raw.sigmoid()

    def forward(self, scores: Scores) -> Scores:
        """Weights (batch, n_heads, n_q, n_k)."""
        return entmax(scores, self.alpha[:, None, None], iterations=self.iterations)


class LearnedSink(nn.Module):
    """A softmax with one more score that no key has, which each head learns; it begins at 0.

    Parameters
    ----------
    n_heads : int
    """

    def __init__(self, n_heads: int) -> None:
        super().__init__()
        self.sink = nn.Parameter(torch.zeros(n_heads))

    def forward(self, scores: Scores) -> Scores:
        """Weights (batch, n_heads, n_q, n_k)."""
        return softmax_with_sink(scores, self.sink[:, None, None])


class LearnedSpan(nn.Module):
    """A softmax over the keys that are near enough, at a distance that each head learns.

    For causal attention: the last query stands at the place of the last key.

    Parameters
    ----------
    n_heads : int
    longest : int
        The longest span.
    ramp : float
        How many positions the factor takes to fall from 1 to 0.
    initial : float
        The span at the beginning, as a share of the longest, between 0 and 1.

    Raises
    ------
    ValueError
        Where the share is out of range.

    References
    ----------
    Sukhbaatar et al. (2019), "Adaptive Attention Span in Transformers", ACL. There the span
    itself is learned and cut off at 0 and the longest; here it is a sigmoid times the longest.
    """

    def __init__(self, n_heads: int, longest: int, *, ramp: float, initial: float = 0.5) -> None:
        super().__init__()
        if not 0 < initial < 1:
            raise ValueError(f"initial must lie between 0 and 1; got {initial}")
        self.longest, self.ramp = longest, ramp
        self.raw = nn.Parameter(torch.full((n_heads,), initial).logit())

    @property
    def span(self) -> Float[Tensor, " n_heads"]:
        """The span of each head, in positions."""
        return self.longest * self.raw.sigmoid()

    @property
    def reach(self) -> Float[Tensor, " n_heads"]:
        """How many keys each head has to keep: those with a factor above 0, its own included."""
        return (self.span + self.ramp).ceil().clamp(max=self.longest).detach()

    def forward(self, scores: Scores) -> Scores:
        """Weights (batch, n_heads, n_q, n_k)."""
        n_q, n_k = scores.shape[-2:]
        position = torch.arange(n_k - n_q, n_k, device=scores.device)[:, None]  # (n_q, 1)
        distance = (position - torch.arange(n_k, device=scores.device)).to(scores.dtype)
        factors = span_factors(distance, self.span[:, None, None], self.ramp)
        return softmax_with_factors(scores, factors)  # (batch, n_heads, n_q, n_k)


def span_loss(model: nn.Module, strength: float) -> Float[Tensor, ""]:
    """What long spans cost: the strength times the mean span of the heads, summed over the layers.

    References
    ----------
    Sukhbaatar et al. (2019), "Adaptive Attention Span in Transformers", ACL.

    Raises
    ------
    ValueError
        Where the model has no learned span.
    """
    spans = [part.span.mean() for part in model.modules() if isinstance(part, LearnedSpan)]
    if not spans:
        raise ValueError("model must have a layer with a LearnedSpan; it has none")
    return strength * torch.stack(spans).sum()
