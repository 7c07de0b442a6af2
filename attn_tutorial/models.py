"""The Transformer: encoder, decoder, both; and how to decode with it, greedily or with a beam.

A sequence of tokens is a row of whole numbers. Shorter sequences are filled up behind their end
with the padding's number. A target sequence begins with a token that says "begin" and closes with
one that says "end": the decoder reads it without its last token, and learns to predict it without
its first.
"""

import math
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from attn_tutorial.layers import KeyValueCache, MultiHeadAttention
from attn_tutorial.masks import causal_mask
from attn_tutorial.positions import sinusoidal_positions
from attn_tutorial.training import evaluating

Tokens = Int[Tensor, "batch n"]
Source = Int[Tensor, "batch n_source"]
Target = Int[Tensor, "batch n_target"]
Vectors = Float[Tensor, "batch n d_model"]
Memory = Float[Tensor, "batch n_source d_model"]
Weights = Float[Tensor, "batch n_heads n_q n_k"]
Mask = Bool[Tensor, "..."]


class Embedding(nn.Module):
    """A vector for each token, plus one for its position.

    The token's vector is multiplied by the root of d_model, so that it is not small beside that of
    the position.

    Parameters
    ----------
    n_tokens, d_model : int
        How many different tokens there are, and the width of their vectors.
    max_length : int
        How many positions there are.
    positions : "sinusoidal" or "learned"
    dropout : float

    References
    ----------
    Vaswani et al. (2017), "Attention Is All You Need", NeurIPS, sections 3.4 and 3.5.
    """

    def __init__(
        self,
        n_tokens: int,
        d_model: int,
        *,
        max_length: int = 512,
        positions: Literal["sinusoidal", "learned"] = "sinusoidal",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.tokens = nn.Embedding(n_tokens, d_model)
        nn.init.normal_(self.tokens.weight, std=d_model**-0.5)
        if positions == "sinusoidal":
            table = torch.from_numpy(sinusoidal_positions(max_length, d_model)).float()
            self.register_buffer("positions", table, persistent=False)  # (max_length, d_model)
        elif positions == "learned":
            self.positions = nn.Parameter(0.02 * torch.randn(max_length, d_model))
        else:
            raise ValueError(f"positions must be 'sinusoidal' or 'learned'; got {positions!r}")
        self.scale = math.sqrt(d_model)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tokens, *, offset: int = 0) -> Vectors:
        """Embed tokens (batch, n), the first of which stands at position offset."""
        n, n_tokens = tokens.shape[1], self.tokens.num_embeddings
        if offset + n > len(self.positions):
            raise ValueError(
                f"max_length is {len(self.positions)} positions; "
                f"got {n} tokens from position {offset} on"
            )
        if tokens.numel() and not 0 <= tokens.min() <= tokens.max() < n_tokens:
            raise ValueError(
                f"tokens must be numbers from 0 to {n_tokens - 1}; "
                f"got {tokens.min().item()} to {tokens.max().item()}"
            )
        vectors = self.scale * self.tokens(tokens)  # (batch, n, d_model)
        return self.dropout(vectors + self.positions[offset : offset + n])


class Residual(nn.Module):
    """The frame around a sublayer: layer normalization, dropout, and the sum with what came in.

    With `norm_first` the sublayer sees normalised vectors and the sum stays as it is (pre-norm);
    without, the sum is normalised (post-norm, as in the paper of 2017).

    References
    ----------
    Xiong et al. (2020), "On Layer Normalization in the Transformer Architecture", ICML.
    """

    def __init__(self, d_model: int, *, dropout: float, norm_first: bool) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(d_model)
        self.dropout = nn.Dropout(dropout)
        self.norm_first = norm_first

    def enter(self, x: Vectors) -> Vectors:
        """What the sublayer sees."""
        return self.norm(x) if self.norm_first else x

    def leave(self, x: Vectors, output: Vectors) -> Vectors:
        """What the next sublayer gets, from what came in and what this one made of it."""
        total = x + self.dropout(output)
        return total if self.norm_first else self.norm(total)


class FeedForward(nn.Sequential):
    """Two linear layers with a ReLU between, the same for every position.

    References
    ----------
    Vaswani et al. (2017), "Attention Is All You Need", NeurIPS, equation 2.
    """

    def __init__(self, d_model: int, d_hidden: int, *, dropout: float = 0.0) -> None:
        super().__init__(
            nn.Linear(d_model, d_hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(d_hidden, d_model),
        )


class EncoderLayer(nn.Module):
    """Self-attention, then a feed-forward network, each in its residual frame.

    Parameters
    ----------
    d_model, n_heads, d_hidden : int
        The width of the vectors, the number of heads, the width inside the feed-forward network.
    dropout : float
        Of the weights, inside the feed-forward network and after each sublayer.
    norm_first : bool
        Pre-norm, or post-norm where False.
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        d_hidden: int,
        *,
        dropout: float = 0.0,
        norm_first: bool = True,
    ) -> None:
        super().__init__()
        frame = {"dropout": dropout, "norm_first": norm_first}
        self.attention = MultiHeadAttention(d_model, n_heads, dropout=dropout)
        self.feed_forward = FeedForward(d_model, d_hidden, dropout=dropout)
        self.around_attention = Residual(d_model, **frame)
        self.around_feed_forward = Residual(d_model, **frame)

    def forward(
        self, x: Vectors, *, mask: Mask | None = None, need_weights: bool = False
    ) -> tuple[Vectors, Weights | None]:
        """Vectors (batch, n, d_model) to vectors of the same shape, and the weights if needed."""
        output, weights = self.attention(
            self.around_attention.enter(x), mask=mask, need_weights=need_weights
        )
        x = self.around_attention.leave(x, output)  # (batch, n, d_model)
        output = self.feed_forward(self.around_feed_forward.enter(x))
        return self.around_feed_forward.leave(x, output), weights


class LayerCache(NamedTuple):
    """What one decoder layer remembers: of the tokens so far, and of the encoder's memory."""

    own: KeyValueCache
    memory: KeyValueCache


class DecoderLayer(nn.Module):
    """Self-attention, cross-attention to the encoder's memory, then a feed-forward network.

    The parameters are those of `EncoderLayer`.
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        d_hidden: int,
        *,
        dropout: float = 0.0,
        norm_first: bool = True,
    ) -> None:
        super().__init__()
        frame = {"dropout": dropout, "norm_first": norm_first}
        self.attention = MultiHeadAttention(d_model, n_heads, dropout=dropout)
        self.cross_attention = MultiHeadAttention(d_model, n_heads, dropout=dropout)
        self.feed_forward = FeedForward(d_model, d_hidden, dropout=dropout)
        self.around_attention = Residual(d_model, **frame)
        self.around_cross_attention = Residual(d_model, **frame)
        self.around_feed_forward = Residual(d_model, **frame)

    def forward(
        self,
        x: Vectors,
        memory: Memory,
        *,
        mask: Mask | None = None,
        memory_mask: Mask | None = None,
        cache: LayerCache | None = None,
        need_weights: bool = False,
    ) -> tuple[Vectors, Weights | None]:
        """Vectors (batch, n_target, d_model) to vectors of that shape, and the cross-attention's
        weights (batch, n_heads, n_target, n_source) if needed."""
        own, of_memory = (None, None) if cache is None else cache
        output, _ = self.attention(self.around_attention.enter(x), mask=mask, cache=own)
        x = self.around_attention.leave(x, output)  # (batch, n_target, d_model)
        output, weights = self.cross_attention(
            self.around_cross_attention.enter(x),
            memory,
            mask=memory_mask,
            cache=of_memory,
            need_weights=need_weights,
        )
        x = self.around_cross_attention.leave(x, output)  # (batch, n_target, d_model)
        output = self.feed_forward(self.around_feed_forward.enter(x))
        return self.around_feed_forward.leave(x, output), weights


class Transformer(nn.Module):
    """An encoder that reads the source, and a decoder that writes the target token by token.

    Parameters
    ----------
    n_source : int
        How many different tokens the source has.
    n_target : int, optional
        How many the target has. Where it is not given, both share one vocabulary; then the two
        embeddings and the output layer share one matrix, as in the paper, section 3.4.
    d_model, n_heads, n_layers, d_hidden : int
        The width of the vectors, the number of heads, of layers in encoder and decoder each, and
        the width inside the feed-forward networks, by default 4 times d_model.
    dropout : float
    pad : int
        The number of the padding token, in source and target.
    max_length : int
        The longest sequence.
    positions : "sinusoidal" or "learned"
    norm_first : bool
        Pre-norm, or post-norm where False.

    References
    ----------
    Vaswani et al. (2017), "Attention Is All You Need", NeurIPS, section 3.
    """

    def __init__(
        self,
        n_source: int,
        n_target: int | None = None,
        *,
        d_model: int = 64,
        n_heads: int = 4,
        n_layers: int = 2,
        d_hidden: int | None = None,
        dropout: float = 0.1,
        pad: int = 0,
        max_length: int = 512,
        positions: Literal["sinusoidal", "learned"] = "sinusoidal",
        norm_first: bool = True,
    ) -> None:
        super().__init__()
        shared, n_target = n_target is None, n_source if n_target is None else n_target
        if not 0 <= pad < min(n_source, n_target):
            raise ValueError(
                f"pad must be a token of source and target, from 0 to "
                f"{min(n_source, n_target) - 1}; got {pad}"
            )
        self.pad, self.max_length = pad, max_length
        layer = (d_model, n_heads, 4 * d_model if d_hidden is None else d_hidden)
        options = {"dropout": dropout, "norm_first": norm_first}
        embedding = {"max_length": max_length, "positions": positions, "dropout": dropout}
        self.source_embedding = Embedding(n_source, d_model, **embedding)
        self.target_embedding = Embedding(n_target, d_model, **embedding)
        self.encoder = nn.ModuleList(EncoderLayer(*layer, **options) for _ in range(n_layers))
        self.decoder = nn.ModuleList(DecoderLayer(*layer, **options) for _ in range(n_layers))
        # Post-norm layers have normalised their result already.
        self.encoder_norm = nn.LayerNorm(d_model) if norm_first else nn.Identity()
        self.decoder_norm = nn.LayerNorm(d_model) if norm_first else nn.Identity()
        self.output = nn.Linear(d_model, n_target, bias=not shared)
        if shared:
            self.target_embedding.tokens.weight = self.source_embedding.tokens.weight
            self.output.weight = self.source_embedding.tokens.weight

    def forward(self, source: Source, target: Target) -> Float[Tensor, "batch n_target n_tokens"]:
        """Predict, at every position of the target, the token that follows (teacher forcing).

        Parameters
        ----------
        source : int tensor, shape (batch, n_source)
        target : int tensor, shape (batch, n_target)
            From the token "begin" on. Position i of the result depends on tokens 0 to i of it.

        Returns
        -------
        float tensor, shape (batch, n_target, n_tokens)
            The scores (logits) of each token to be next.
        """
        _check_tokens("target", target)
        if source.shape[:1] != target.shape[:1]:
            raise ValueError(
                "source (batch, n_source) and target (batch, n_target) must agree in batch; got "
                f"shapes {tuple(source.shape)} and {tuple(target.shape)}"
            )
        memory, memory_mask = self.encode(source)
        logits, _ = self.decode(target, memory, memory_mask)
        return logits

    def encode(self, source: Source) -> tuple[Memory, Bool[Tensor, "batch 1 1 n_source"]]:
        """Read the source.

        Parameters
        ----------
        source : int tensor, shape (batch, n_source)

        Returns
        -------
        memory : float tensor, shape (batch, n_source, d_model)
            A vector for each token of the source.
        memory_mask : bool tensor, shape (batch, 1, 1, n_source)
            True where there is a token and no padding.
        """
        _check_tokens("source", source)
        mask = (source != self.pad)[:, None, None, :]  # (batch, 1, 1, n_source)
        x = self.source_embedding(source)  # (batch, n_source, d_model)
        for layer in self.encoder:
            x, _ = layer(x, mask=mask)
        return self.encoder_norm(x), mask

    def decode(
        self,
        target: Target,
        memory: Memory,
        memory_mask: Mask,
        *,
        caches: list[LayerCache] | None = None,
        need_weights: bool = False,
    ) -> tuple[Float[Tensor, "batch n_target n_tokens"], list[Weights] | None]:
        """Predict the token after each of the target's.

        Padding in the target needs no mask: it stands behind the tokens, so that the causal mask
        hides it from them.

        Parameters
        ----------
        target : int tensor, shape (batch, n_target)
            With caches only the tokens that are new.
        memory, memory_mask : what `encode` returned
        caches : list of LayerCache, optional
            From `new_caches`; changed in place.
        need_weights : bool

        Returns
        -------
        logits : float tensor, shape (batch, n_target, n_tokens)
        weights : list of float tensors, shape (batch, n_heads, n_target, n_source), or None
            Those of the cross-attention, layer by layer.
        """
        offset = caches[0].own.offset if caches else 0
        n = target.shape[1]
        mask = torch.from_numpy(causal_mask(n, offset + n, offset)).to(target.device)
        x = self.target_embedding(target, offset=offset)  # (batch, n_target, d_model)
        all_weights = []
        for i, layer in enumerate(self.decoder):
            x, weights = layer(
                x,
                memory,
                mask=mask,
                memory_mask=memory_mask,
                cache=caches[i] if caches else None,
                need_weights=need_weights,
            )
            all_weights.append(weights)
        logits = self.output(self.decoder_norm(x))  # (batch, n_target, n_tokens)
        return logits, all_weights if need_weights else None

    def new_caches(self) -> list[LayerCache]:
        """Empty caches, one for each layer of the decoder."""
        return [LayerCache(KeyValueCache(), KeyValueCache()) for _ in self.decoder]


def sequence_loss(
    model: Transformer, source: Source, target: Target, *, label_smoothing: float = 0.0
) -> Float[Tensor, ""]:
    """The mean loss of the target's tokens, in nats; padding does not count.

    Parameters
    ----------
    model : Transformer
    source : int tensor, shape (batch, n_source)
    target : int tensor, shape (batch, n_target)
        From "begin" to "end", then padding.
    label_smoothing : float
        The share of the true token's probability that is spread evenly over all tokens.

    Returns
    -------
    float tensor, a single number

    References
    ----------
    Szegedy et al. (2016), "Rethinking the Inception Architecture for Computer Vision", CVPR,
    section 7, for label smoothing.
    """
    logits = model(source, target[:, :-1])  # (batch, n_target - 1, n_tokens)
    return F.cross_entropy(
        logits.flatten(0, 1),
        target[:, 1:].flatten(),
        ignore_index=model.pad,
        label_smoothing=label_smoothing,
    )


def greedy_decode(
    model: Transformer,
    source: Source,
    *,
    begin: int,
    end: int,
    max_length: int,
    use_cache: bool = True,
) -> Tokens:
    """Write the target with the likeliest token at every step, in evaluation mode.

    Parameters
    ----------
    model : Transformer
    source : int tensor, shape (batch, n_source)
    begin, end : int
        The tokens that begin and close a target.
    max_length : int
        How many tokens to write at most, "end" included.
    use_cache : bool
        Whether to keep keys and values, or to compute them again at every step.

    Returns
    -------
    int tensor, shape (batch, n), n <= max_length
        Without "begin"; padding behind "end". A sequence that did not end in time has no "end".
    """
    _check_decoding(model, begin=begin, end=end, max_length=max_length)
    with evaluating(model):
        memory, memory_mask = model.encode(source)
        caches = model.new_caches() if use_cache else None
        tokens = source.new_full((len(source), 1), begin)  # (batch, 1)
        finished = torch.zeros_like(tokens[:, 0], dtype=torch.bool)  # (batch,)
        while tokens.shape[1] <= max_length and not finished.all():
            scores = _next_log_probabilities(model, tokens, memory, memory_mask, caches, begin)
            choice = scores.argmax(dim=-1).masked_fill(finished, model.pad)  # (batch,)
            tokens = torch.cat([tokens, choice[:, None]], dim=1)
            finished |= choice == end
    return tokens[:, 1:]


def beam_search(
    model: Transformer,
    source: Source,
    *,
    begin: int,
    end: int,
    width: int,
    max_length: int,
    length_penalty: float = 0.0,
    use_cache: bool = True,
) -> tuple[Int[Tensor, "batch width n"], Float[Tensor, "batch width"]]:
    """Write several targets at once and keep the best of them at every step.

    A target of n tokens is ranked by the logarithm of its probability, divided by
    ((5 + n) / 6) ** length_penalty. Those that have ended stay among the others as long as they
    rank high enough. With width 1 this is `greedy_decode`; a width that keeps everything is an
    exhaustive search.

    Parameters
    ----------
    model : Transformer
    source : int tensor, shape (batch, n_source)
    begin, end : int
        The tokens that begin and close a target.
    width : int
        How many targets to keep.
    max_length : int
        How many tokens to write at most, "end" included.
    length_penalty : float
        0 ranks by probability, which favours short targets; the paper of 2017 uses 0.6.
    use_cache : bool
        Whether to keep keys and values, or to compute them again at every step.

    Returns
    -------
    tokens : int tensor, shape (batch, width, n), n <= max_length
        Best first; without "begin"; padding behind "end".
    scores : float tensor, shape (batch, width)
        What they are ranked by; minus infinity (and nothing but padding) where there are fewer
        targets than the width.

    References
    ----------
    Wu et al. (2016), "Google's Neural Machine Translation System: Bridging the Gap between Human
    and Machine Translation", arXiv:1609.08144, section 7, equation 14.
    """
    _check_decoding(model, begin=begin, end=end, max_length=max_length)
    if width < 1:
        raise ValueError(f"width must be at least 1; got {width}")
    batch = len(source)
    with evaluating(model):
        memory, memory_mask = model.encode(source)
        memory = memory.repeat_interleave(width, dim=0)  # (batch · width, n_source, d_model)
        memory_mask = memory_mask.repeat_interleave(width, dim=0)
        caches = model.new_caches() if use_cache else None
        tokens = source.new_full((batch * width, 1), begin)  # (batch · width, 1)
        totals = memory.new_full((batch, width), -math.inf)  # (batch, width)
        totals[:, 0] = 0.0  # one beginning, not `width` equal ones
        lengths = torch.zeros_like(totals)
        finished = totals == -math.inf
        while tokens.shape[1] <= max_length and not finished.all():
            following = _next_log_probabilities(model, tokens, memory, memory_mask, caches, begin)
            following = following.view(batch, width, -1)  # (batch, width, n_tokens)
            candidates = totals[:, :, None] + _only_padding(following, finished, model.pad)
            ranks = _normalised(candidates, lengths + ~finished, length_penalty)
            best = ranks.flatten(1).topk(width, dim=-1).indices  # (batch, width)
            parents, choice = best // following.shape[-1], best % following.shape[-1]
            totals = candidates.flatten(1).gather(1, best)
            lengths = (lengths + ~finished).gather(1, parents)
            finished = (
                finished.gather(1, parents) | (choice == end) | (totals == -math.inf)
            )  # (batch, width)
            rows = (parents + width * torch.arange(batch, device=best.device)[:, None]).flatten()
            tokens = torch.cat([tokens[rows], choice.view(-1, 1)], dim=1)
            _reorder(caches, rows)
        scores = _normalised(totals[:, :, None], lengths, length_penalty)[..., 0]
        tokens = tokens.view(batch, width, -1)[:, :, 1:]
    return tokens.masked_fill((scores == -math.inf)[:, :, None], model.pad), scores


def _next_log_probabilities(
    model: Transformer,
    tokens: Tokens,
    memory: Memory,
    memory_mask: Mask,
    caches: list[LayerCache] | None,
    begin: int,
) -> Float[Tensor, "batch n_tokens"]:
    """The logarithm of each token's probability to be next; "begin" and padding never are."""
    new = tokens if caches is None else tokens[:, -1:]
    logits, _ = model.decode(new, memory, memory_mask, caches=caches)
    log_probabilities = logits[:, -1].log_softmax(dim=-1)  # (batch, n_tokens)
    log_probabilities[:, [model.pad, begin]] = -math.inf
    return log_probabilities


def _only_padding(
    following: Float[Tensor, "batch width n_tokens"],
    finished: Bool[Tensor, "batch width"],
    pad: int,
) -> Float[Tensor, "batch width n_tokens"]:
    """A finished target goes on in one way, with padding, at no cost."""
    padding = torch.full_like(following[0, 0], -math.inf)  # (n_tokens,)
    padding[pad] = 0.0
    return torch.where(finished[:, :, None], padding, following)


def _normalised(
    totals: Float[Tensor, "batch width n"], lengths: Float[Tensor, "batch width"], penalty: float
) -> Float[Tensor, "batch width n"]:
    return totals / ((5 + lengths[:, :, None]) / 6) ** penalty


def _reorder(caches: list[LayerCache] | None, rows: Int[Tensor, " batch"]) -> None:
    for layer in caches or []:
        for cache in layer:
            cache.reorder(rows)


def _check_tokens(name: str, tokens: Tokens) -> None:
    if tokens.ndim != 2:
        raise ValueError(f"{name} must have shape (batch, n); got {tuple(tokens.shape)}")
    if tokens.dtype not in (torch.int32, torch.int64):
        raise TypeError(f"{name} must hold whole numbers, int32 or int64; got {tokens.dtype}")


def _check_decoding(model: Transformer, *, begin: int, end: int, max_length: int) -> None:
    if not 1 <= max_length <= model.max_length:
        raise ValueError(
            f"max_length must lie between 1 and the model's, {model.max_length}; got {max_length}"
        )
    if len({begin, end, model.pad}) < 3:
        raise ValueError(
            "begin, end and the model's pad must be three different tokens; "
            f"got {begin}, {end} and {model.pad}"
        )
