"""A language model: the decoder of a Transformer without an encoder, and how to write with it.

A sequence of tokens is a row of whole numbers. At every position the model gives each token a score
to be the next one, and it sees nothing of what follows. Where sequences differ in length, the
shorter are filled up behind their end with the padding's number.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from attn_tutorial.layers import KeyValueCache, MultiHeadAttention
from attn_tutorial.masks import causal_mask
from attn_tutorial.models import Embedding, FeedForward, Residual
from attn_tutorial.training import evaluating

Tokens = Int[Tensor, "batch n"]
Vectors = Float[Tensor, "batch n d_model"]
Logits = Float[Tensor, "batch n n_tokens"]
Weights = Float[Tensor, "batch n_heads n_q n_k"]


class CausalLayer(nn.Module):
    """Self-attention to what came before, then a feed-forward network, unless it has no width.

    Both stand in pre-norm residual frames.

    Parameters
    ----------
    d_model, n_heads, d_hidden : int
        The width of the vectors, the number of heads, the width inside the feed-forward network.
        With d_hidden = 0 there is none: the layer only attends.
    dropout : float
        Of the weights, inside the feed-forward network and after each sublayer.
    """

    def __init__(self, d_model: int, n_heads: int, d_hidden: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(d_model, n_heads, dropout=dropout)
        self.around_attention = Residual(d_model, dropout=dropout, norm_first=True)
        self.feed_forward = None
        if d_hidden:
            self.feed_forward = FeedForward(d_model, d_hidden, dropout=dropout)
            self.around_feed_forward = Residual(d_model, dropout=dropout, norm_first=True)

    def forward(
        self, x: Vectors, *, cache: KeyValueCache | None = None, need_weights: bool = False
    ) -> tuple[Vectors, Weights | None]:
        """Vectors (batch, n, d_model) to vectors of that shape, and the weights if needed."""
        offset, n = 0 if cache is None else cache.offset, x.shape[1]
        mask = torch.from_numpy(causal_mask(n, offset + n, offset)).to(x.device)  # (n_q, n_k)
        output, weights = self.attention(
            self.around_attention.enter(x), mask=mask, cache=cache, need_weights=need_weights
        )
        x = self.around_attention.leave(x, output)  # (batch, n, d_model)
        if self.feed_forward is not None:
            output = self.feed_forward(self.around_feed_forward.enter(x))
            x = self.around_feed_forward.leave(x, output)
        return x, weights


class CausalLanguageModel(nn.Module):
    """Predicts each token of a sequence from those before it.

    Parameters
    ----------
    n_tokens : int
        How many different tokens there are, padding included.
    d_model, n_heads, n_layers, d_hidden : int
        The width of the vectors, the number of heads and of layers, and the width inside the
        feed-forward networks, by default 4 times d_model. With d_hidden = 0 the model is
        attention-only.
    dropout : float
    pad : int, optional
        The number of the padding token, if there is one.
    max_length : int
        The longest sequence.
    positions : "sinusoidal" or "learned"

    References
    ----------
    Radford et al. (2019), "Language Models are Unsupervised Multitask Learners", OpenAI, section
    2.3, for the order of the parts. Elhage et al. (2021), "A Mathematical Framework for Transformer
    Circuits", Anthropic, for models that only attend.
    """

    def __init__(
        self,
        n_tokens: int,
        *,
        d_model: int = 64,
        n_heads: int = 4,
        n_layers: int = 2,
        d_hidden: int | None = None,
        dropout: float = 0.1,
        pad: int | None = None,
        max_length: int = 512,
        positions: Literal["sinusoidal", "learned"] = "sinusoidal",
    ) -> None:
        super().__init__()
        if pad is not None and not 0 <= pad < n_tokens:
            raise ValueError(f"pad must be a token, from 0 to {n_tokens - 1}; got {pad}")
        self.pad, self.max_length = pad, max_length
        self.embedding = Embedding(
            n_tokens, d_model, max_length=max_length, positions=positions, dropout=dropout
        )
        d_hidden = 4 * d_model if d_hidden is None else d_hidden
        self.layers = nn.ModuleList(
            CausalLayer(d_model, n_heads, d_hidden, dropout=dropout) for _ in range(n_layers)
        )
        self.norm = nn.LayerNorm(d_model)
        self.output = nn.Linear(d_model, n_tokens)

    def forward(
        self,
        tokens: Tokens,
        *,
        caches: list[KeyValueCache] | None = None,
        need_weights: bool = False,
    ) -> tuple[Logits, list[Weights] | None]:
        """Predict, at every position, the token that follows.

        Padding needs no mask: it stands behind the tokens, so that the causal mask hides it from
        them.

        Parameters
        ----------
        tokens : int tensor, shape (batch, n)
            With caches only the tokens that are new.
        caches : list of KeyValueCache, optional
            From `new_caches`; changed in place.
        need_weights : bool

        Returns
        -------
        logits : float tensor, shape (batch, n, n_tokens)
            The scores of each token to be next. Position i depends on tokens 0 to i.
        weights : list of float tensors, shape (batch, n_heads, n_q, n_k), or None
            Layer by layer.

        Raises
        ------
        TypeError
            Where the tokens are no whole numbers.
        ValueError
            Where they have not two axes, one is out of range, there are too many, or there is not
            one cache for each layer.
        """
        if tokens.ndim != 2:
            raise ValueError(f"tokens must have shape (batch, n); got {tuple(tokens.shape)}")
        if tokens.dtype not in (torch.int32, torch.int64):
            raise TypeError(f"tokens must hold whole numbers, int32 or int64; got {tokens.dtype}")
        if caches is not None and len(caches) != len(self.layers):
            raise ValueError(
                f"caches must be one for each of the {len(self.layers)} layers; got {len(caches)}"
            )
        x = self.embedding(tokens, offset=caches[0].offset if caches else 0)  # (batch, n, d_model)
        all_weights = []
        for i, layer in enumerate(self.layers):
            cache = caches[i] if caches else None
            x, weights = layer(x, cache=cache, need_weights=need_weights)
            all_weights.append(weights)
        logits = self.output(self.norm(x))  # (batch, n, n_tokens)
        return logits, all_weights if need_weights else None

    def new_caches(self) -> list[KeyValueCache]:
        """Empty caches, one for each layer."""
        return [KeyValueCache() for _ in self.layers]


def next_token_loss(model: CausalLanguageModel, tokens: Tokens) -> Float[Tensor, ""]:
    """The mean loss of all tokens but the first, in nats; padding does not count.

    Parameters
    ----------
    model : CausalLanguageModel
    tokens : int tensor, shape (batch, n), n >= 2

    Returns
    -------
    float tensor, a single number
    """
    logits, _ = model(tokens[:, :-1])  # (batch, n - 1, n_tokens)
    ignored = -100 if model.pad is None else model.pad  # -100 is no token
    return F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten(), ignore_index=ignored)


def generate(
    model: CausalLanguageModel,
    prompt: Tokens,
    *,
    n_new: int,
    end: int | None = None,
    temperature: float = 0.0,
    generator: torch.Generator | None = None,
    use_cache: bool = True,
) -> Tokens:
    """Go on with a prompt token by token, in evaluation mode.

    Parameters
    ----------
    model : CausalLanguageModel
    prompt : int tensor, shape (batch, n), n >= 1
        Without padding: all of one length.
    n_new : int
        How many tokens to write at most.
    end : int, optional
        The token after which a sequence is finished; behind it stands padding.
    temperature : float
        With 0 the likeliest token is written. Above, one is drawn from the softmax of the scores
        divided by it.
    generator : torch.Generator, optional
        Draws the tokens.
    use_cache : bool
        Whether to keep keys and values, or to compute them again at every step.

    Returns
    -------
    int tensor, shape (batch, n + n_new) or less
        The prompt and what follows; padding is never written before the end.

    Raises
    ------
    ValueError
        Where the prompt is empty or holds padding, the sequence would become too long, the
        temperature is negative, or there is an end and the model has no padding.
    """
    _check_generating(model, prompt, n_new, end, temperature)
    with evaluating(model):
        caches = model.new_caches() if use_cache else None
        tokens, new = prompt, prompt
        finished = torch.zeros_like(prompt[:, 0], dtype=torch.bool)  # (batch,)
        for _ in range(n_new):
            logits, _ = model(new if use_cache else tokens, caches=caches)
            scores = logits[:, -1]  # (batch, n_tokens)
            if model.pad is not None:
                scores[:, model.pad] = -torch.inf
            if temperature:
                chances = (scores / temperature).softmax(dim=-1)  # (batch, n_tokens)
                new = torch.multinomial(chances, 1, generator=generator)  # (batch, 1)
            else:
                new = scores.argmax(dim=-1, keepdim=True)  # (batch, 1)
            if end is not None:
                new = new.masked_fill(finished[:, None], model.pad)
                finished |= new[:, 0] == end
            tokens = torch.cat([tokens, new], dim=1)
            if finished.all():
                break
    return tokens


def _check_generating(
    model: CausalLanguageModel, prompt: Tokens, n_new: int, end: int | None, temperature: float
) -> None:
    padded = model.pad is not None and bool((prompt == model.pad).any())
    if prompt.ndim != 2 or not prompt.shape[1] or padded:
        raise ValueError(
            "prompt must have shape (batch, n) with one token or more and no padding; "
            f"got {tuple(prompt.shape)}"
        )
    if n_new < 0 or prompt.shape[1] + n_new > model.max_length:
        raise ValueError(
            f"n_new must lie between 0 and {model.max_length - prompt.shape[1]}, what max_length = "
            f"{model.max_length} leaves; got {n_new}"
        )
    if not temperature >= 0:
        raise ValueError(f"temperature must not be negative; got {temperature}")
    if end is not None and (model.pad is None or end == model.pad):
        raise ValueError(
            f"end needs padding to stand behind it, another token than end; got end = {end} and "
            f"pad = {model.pad}"
        )
