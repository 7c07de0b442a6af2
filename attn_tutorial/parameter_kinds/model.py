"""A classifier that attends: words to words in an encoder, then one learned query to all words."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from attn_tutorial import attention
from attn_tutorial.models import Embedding, EncoderLayer
from attn_tutorial.parameter_kinds.data import KINDS, PADDING, UNKNOWN

LABEL_SMOOTHING = 0.1

Tokens = Int[Tensor, "batch length"]
Logits = Float[Tensor, "batch n_kinds"]


class WordDropout(nn.Module):
    """In training, hide each word with a probability, so that none alone decides.

    A hidden word becomes the unknown word: other libraries use words that these do not.

    References
    ----------
    Iyyer et al. (2015), "Deep Unordered Composition Rivals Syntactic Methods for Text
    Classification", ACL.
    """

    def __init__(self, probability: float) -> None:
        super().__init__()
        self.probability = probability

    def forward(self, tokens: Tokens) -> Tokens:
        if not self.training:
            return tokens
        hidden = torch.rand(tokens.shape, device=tokens.device) < self.probability
        return torch.where(hidden & (tokens != PADDING), UNKNOWN, tokens)


class Attended(NamedTuple):
    """What the model says of a batch, and how it came to say it."""

    logits: Float[Tensor, "batch n_kinds"]
    weights: Float[Tensor, "batch length"]


class AttentionClassifier(nn.Module):
    """Words attend to words, a learned query attends to the result, a linear layer decides.

    The pooling is attention with one query that is a parameter: its weights say which words the
    decision is made from. Padding gets no weight.

    Parameters
    ----------
    n_tokens : int
        How many words the vocabulary has, padding and unknown words included.
    length : int
        The greatest number of words.
    d_model, n_heads, n_layers : int
        Width, heads and layers of the encoder; with no layers only the pooling attends.
    dropout, word_dropout : float
        How much of the vectors, and how many of the words, training hides.

    References
    ----------
    Vaswani et al. (2017), "Attention Is All You Need", NeurIPS, for the layers.
    Yang et al. (2016), "Hierarchical Attention Networks for Document Classification", NAACL,
    equations 5 to 7, for pooling by a learned query.
    """

    def __init__(
        self,
        n_tokens: int,
        *,
        length: int,
        d_model: int = 64,
        n_heads: int = 4,
        n_layers: int = 1,
        dropout: float = 0.3,
        word_dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.hide_words = WordDropout(word_dropout)
        self.embedding = Embedding(n_tokens, d_model, max_length=length, dropout=dropout)
        self.layers = nn.ModuleList(
            EncoderLayer(d_model, n_heads, 4 * d_model, dropout=dropout) for _ in range(n_layers)
        )
        self.norm = nn.LayerNorm(d_model)
        self.query = nn.Parameter(torch.zeros(1, d_model))
        self.key = nn.Linear(d_model, d_model)
        self.dropout = nn.Dropout(dropout)
        self.decide = nn.Linear(d_model, len(KINDS))
        nn.init.normal_(self.query, std=d_model**-0.5)

    def forward(self, tokens: Tokens) -> Logits:
        """Scores of the kinds, before the softmax."""
        return self.attend(tokens).logits

    def attend(self, tokens: Tokens) -> Attended:
        """The scores of the kinds, and the weight of each word in the decision."""
        words = tokens != PADDING  # (batch, length)
        x = self.embedding(self.hide_words(tokens))  # (batch, length, d_model)
        mask = words[:, None, None, :].numpy(force=True)  # (batch, head, n_q, n_k)
        for layer in self.layers:
            x, _ = layer(x, mask=mask)  # (batch, length, d_model)
        x = self.norm(x)
        pooled, weights = attention(
            self.query, self.key(x), x, mask=mask[:, 0]
        )  # (batch, 1, d_model), (batch, 1, length)
        logits = self.decide(self.dropout(pooled[:, 0]))  # (batch, n_kinds)
        return Attended(logits, weights[:, 0])


class MeanClassifier(nn.Module):
    """The same without attention: the mean of the words' vectors, and a linear layer.

    Parameters
    ----------
    n_tokens, d_model : int
    dropout, word_dropout : float

    References
    ----------
    Iyyer et al. (2015), "Deep Unordered Composition Rivals Syntactic Methods for Text
    Classification", ACL.
    """

    def __init__(
        self,
        n_tokens: int,
        *,
        d_model: int = 64,
        dropout: float = 0.3,
        word_dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.hide_words = WordDropout(word_dropout)
        self.embedding = nn.Embedding(n_tokens, d_model)
        self.dropout = nn.Dropout(dropout)
        self.decide = nn.Linear(d_model, len(KINDS))
        nn.init.normal_(self.embedding.weight, std=d_model**-0.5)

    def forward(self, tokens: Tokens) -> Logits:
        """Scores of the kinds, before the softmax."""
        words = (tokens != PADDING)[..., None]  # (batch, length, 1)
        x = self.dropout(self.embedding(self.hide_words(tokens)))  # (batch, length, d_model)
        x = x * words
        return self.decide(x.sum(dim=1) / words.sum(dim=1))


def kind_loss(model: nn.Module, tokens: Tokens, kinds: Int[Tensor, " batch"]) -> Float[Tensor, ""]:
    """The mean cross-entropy of a batch, in nats; in training, with smoothed labels.

    References
    ----------
    Szegedy et al. (2016), "Rethinking the Inception Architecture for Computer Vision", CVPR,
    section 7, for the smoothing.
    """
    smoothing = LABEL_SMOOTHING if model.training else 0.0
    return F.cross_entropy(model(tokens), kinds, label_smoothing=smoothing)
