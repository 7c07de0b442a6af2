"""A language model for streams: rotary positions, any pattern, and a cache that does not grow."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from attn_tutorial.core import softmax
from attn_tutorial.frontier.fewer_pairs.patterns import at_least, sink_window_mask
from attn_tutorial.masks import causal_mask
from attn_tutorial.models import FeedForward, Residual
from attn_tutorial.positions import rotate

Tokens = Int[Tensor, "batch n"]
Vectors = Float[Tensor, "batch n d_model"]
Heads = Float[Tensor, "batch n_heads n d_head"]
Mask = Bool[np.ndarray, "..."]
Counted = Literal["in the cache", "in the text"]


class SinkCache:
    """Keys and values of the first tokens and of the last ones, in a store of constant size.

    The last tokens stand in a ring: a new one overwrites the oldest. Keys are stored as they are
    before they are turned by a position, since their position in the cache changes.

    Parameters
    ----------
    window, n_sinks : int
        How many of the last tokens, at least 1, and how many of the first.

    Attributes
    ----------
    n_seen : int
        How many tokens have been appended.

    References
    ----------
    Xiao et al. (2024), "Efficient Streaming Language Models with Attention Sinks", ICLR,
    section 3.2.
    """

    def __init__(self, window: int, n_sinks: int = 0) -> None:
        self.window, self.n_sinks = at_least(1, window=window), at_least(0, n_sinks=n_sinks)
        self.n_seen = 0
        self._keys: Tensor | None = None
        self._values: Tensor | None = None

    def append(self, key: Heads, value: Heads) -> None:
        """Store key and value of the next token, each (batch, n_heads, 1, d_head)."""
        if key.ndim != 4 or key.shape[-2] != 1 or key.shape != value.shape:
            raise ValueError(
                "key and value must have one shape (batch, n_heads, 1, d_head); got "
                f"{tuple(key.shape)} and {tuple(value.shape)}"
            )
        if self._keys is None:
            size = (*key.shape[:2], self.n_sinks + self.window, key.shape[-1])
            self._keys, self._values = key.new_zeros(size), value.new_zeros(size)
        slot = self.n_seen
        if slot >= self.n_sinks:
            slot = self.n_sinks + (slot - self.n_sinks) % self.window
        self._keys[:, :, slot], self._values[:, :, slot] = key[:, :, 0], value[:, :, 0]
        self.n_seen += 1

    @property
    def length(self) -> int:
        """How many tokens are stored."""
        return min(self.n_seen, self.n_sinks + self.window)

    @property
    def keys(self) -> Heads:
        """The stored keys, slot by slot."""
        return self._keys[:, :, : self.length]

    @property
    def values(self) -> Heads:
        """The stored values, slot by slot."""
        return self._values[:, :, : self.length]

    def positions(self, counted: Counted) -> Int[np.ndarray, " length"]:
        """The position of each slot's token, counted in the cache or in the text."""
        slots = np.arange(self.length)
        newest = self.n_seen - 1
        age = (newest - slots) % self.window  # of the ring's slots: how long ago they were written
        in_text = np.where(slots < self.n_sinks, slots, newest - age)
        return in_text if counted == "in the text" else np.argsort(np.argsort(in_text))

    @property
    def n_bytes(self) -> int:
        """How many bytes the store takes."""
        if self._keys is None:
            return 0
        return self._keys.nbytes + self._values.nbytes


class RotaryAttention(nn.Module):
    """Multi-head self-attention with rotary positions, over the whole text or from a cache.

    Parameters
    ----------
    d_model, n_heads : int
        The width of what comes in and goes out, and how many heads share it.
    """

    def __init__(self, d_model: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.inward = nn.Linear(d_model, 3 * d_model)
        self.outward = nn.Linear(d_model, d_model)

    def forward(
        self,
        x: Vectors,
        mask: Bool[Tensor, "*batch n n"],
        *,
        window: int | None = None,
        n_sinks: int = 0,
    ) -> tuple[Vectors, Float[Tensor, "batch n_heads n n"]]:
        """Attend by a mask, broadcastable to (batch, n_heads, n, n).

        Where a window is given, the sinks have the distances that they would have in a cache of
        n_sinks + window tokens.
        """
        query, key, value = self.split(x)  # (batch, n_heads, n, d_head)
        scores = rotate(query) @ rotate(key).mT  # (batch, n_heads, n_q, n_k)
        if window is not None and n_sinks:
            places = np.minimum(np.arange(x.shape[1]), n_sinks + window - 1)
            turned = rotate(query, positions=places)  # where the queries stand in the cache
            near = scores[..., n_sinks:]
            scores = torch.cat([turned @ rotate(key[:, :, :n_sinks]).mT, near], dim=-1)
        scores = scores / query.shape[-1] ** 0.5
        # Rows of zeros where a head has nothing to attend to, and no NaN in their gradients.
        weights = softmax(scores.masked_fill(~mask, -torch.inf))
        return self.join(weights @ value), weights

    def step(
        self, x: Float[Tensor, "batch 1 d_model"], cache: SinkCache, counted: Counted
    ) -> Float[Tensor, "batch 1 d_model"]:
        """Attend from the newest token to what is in the cache, itself included."""
        query, key, value = self.split(x)  # (batch, n_heads, 1, d_head)
        cache.append(key, value)
        places = cache.positions(counted)  # (length,)
        keys = rotate(cache.keys, positions=places)
        query = rotate(query, positions=places.max(keepdims=True))
        weights = (query @ keys.mT / query.shape[-1] ** 0.5).softmax(dim=-1)
        return self.join(weights @ cache.values)

    def split(self, x: Tensor) -> Float[Tensor, "3 batch n_heads n d_head"]:
        """Queries, keys and values of all heads, before any turn."""
        return rearrange(
            self.inward(x),
            "batch n (three heads d) -> three batch heads n d",
            three=3,
            heads=self.n_heads,
        )

    def join(self, heads: Heads) -> Vectors:
        """What the heads found, together."""
        return self.outward(rearrange(heads, "batch heads n d -> batch n (heads d)"))


class StreamLayer(nn.Module):
    """Attention, then a feed-forward network unless it has no width, each in a pre-norm frame."""

    def __init__(self, d_model: int, n_heads: int, d_hidden: int) -> None:
        super().__init__()
        self.attention = RotaryAttention(d_model, n_heads)
        self.around_attention = Residual(d_model, dropout=0.0, norm_first=True)
        self.network = FeedForward(d_model, d_hidden) if d_hidden else None
        self.around_network = Residual(d_model, dropout=0.0, norm_first=True)

    def enter(self, x: Vectors) -> Vectors:
        """What the attention sees."""
        return self.around_attention.enter(x)

    def leave(self, x: Vectors, found: Vectors) -> Vectors:
        """What the next layer gets, once the attention has found something."""
        x = self.around_attention.leave(x, found)
        if self.network is None:
            return x
        return self.around_network.leave(x, self.network(self.around_network.enter(x)))


class StreamModel(nn.Module):
    """Predicts each token from those before it that a mask lets it see.

    Parameters
    ----------
    n_tokens : int
        How many different tokens there are.
    d_model, n_heads, n_layers : int
        The width of the vectors, the number of heads and of layers.
    d_hidden : int, optional
        The width inside the feed-forward networks, by default 4 times d_model. With 0 there are
        none: the model only attends.
    """

    def __init__(
        self,
        n_tokens: int,
        *,
        d_model: int = 48,
        n_heads: int = 4,
        n_layers: int = 2,
        d_hidden: int | None = None,
    ) -> None:
        super().__init__()
        if d_model % n_heads or d_model // n_heads % 2:
            raise ValueError(
                f"d_model must be n_heads times an even number; got {d_model} and {n_heads}"
            )
        self.embedding = nn.Embedding(n_tokens, d_model)
        nn.init.normal_(self.embedding.weight, std=0.5)
        d_hidden = 4 * d_model if d_hidden is None else d_hidden
        self.layers = nn.ModuleList(
            StreamLayer(d_model, n_heads, d_hidden) for _ in range(n_layers)
        )
        self.norm = nn.LayerNorm(d_model)
        self.output = nn.Linear(d_model, n_tokens)

    def forward(
        self,
        tokens: Tokens,
        mask: Mask | None = None,
    ) -> Float[Tensor, "batch n n_tokens"]:
        """The scores of each token to be next, everywhere.

        Parameters
        ----------
        tokens : int tensor, shape (batch, n)
        mask : bool NumPy array, broadcastable to (batch, n_heads, n, n), optional
            By default the causal mask.
        """
        n = tokens.shape[1]
        logits, _ = self.run(tokens, causal_mask(n, n) if mask is None else mask)
        return logits

    def run(
        self,
        tokens: Tokens,
        mask: Mask,
        *,
        window: int | None = None,
        n_sinks: int = 0,
    ) -> tuple[Float[Tensor, "batch n n_tokens"], list[Float[Tensor, "batch n_heads n n"]]]:
        """The scores of each token to be next, and the weights layer by layer."""
        allowed = torch.from_numpy(np.ascontiguousarray(mask)).to(tokens.device)
        x, all_weights = self.embedding(tokens), []
        for layer in self.layers:
            found, weights = layer.attention(
                layer.enter(x), allowed, window=window, n_sinks=n_sinks
            )
            x = layer.leave(x, found)
            all_weights.append(weights)
        return self.output(self.norm(x)), all_weights

    def stream(
        self, tokens: Tokens, *, window: int, n_sinks: int = 0, counted: Counted = "in the cache"
    ) -> tuple[Float[Tensor, "batch n n_tokens"], list[SinkCache]]:
        """Read tokens one by one, each layer with a cache of n_sinks + window tokens.

        Parameters
        ----------
        tokens : int tensor, shape (batch, n)
        window, n_sinks : int
        counted : "in the cache" or "in the text"
            Which positions turn queries and keys.

        Returns
        -------
        logits : float tensor, shape (batch, n, n_tokens)
        caches : list of SinkCache
            As the last token left them.
        """
        caches = [SinkCache(window, n_sinks) for _ in self.layers]
        found = []
        for token in tokens.split(1, dim=1):
            x = self.embedding(token)  # (batch, 1, d_model)
            for layer, cache in zip(self.layers, caches, strict=True):
                x = layer.leave(x, layer.attention.step(layer.enter(x), cache, counted))
            found.append(self.output(self.norm(x)))
        return torch.cat(found, dim=1), caches

    def at_once(
        self, tokens: Tokens, *, window: int, n_sinks: int = 0, counted: Counted = "in the cache"
    ) -> Float[Tensor, "batch n n_tokens"]:
        """What `stream` gives, computed for all positions together behind a mask."""
        mask = sink_window_mask(tokens.shape[1], window=window, n_sinks=n_sinks)
        places = {"window": window, "n_sinks": n_sinks} if counted == "in the cache" else {}
        logits, _ = self.run(tokens, mask, **places)
        return logits
