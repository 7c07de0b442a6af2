"""Readers of short sentences: an encoder with attention pooling, a GRU, and counts of words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn

from attn_tutorial.applications.text_classification.data import Text
from attn_tutorial.layers import MultiHeadAttention
from attn_tutorial.models import Embedding, EncoderLayer

PAD, UNKNOWN = 0, 1
MAX_LENGTH = 40

Tokens = Int[Tensor, "batch n"]
Logits = Float[Tensor, "batch n_classes"]
Probabilities = Float[np.ndarray, "n n_classes"]


class Vocabulary:
    """The words of some texts by number; 0 is padding, 1 every word that was not among them."""

    def __init__(self, texts: Sequence[Text]) -> None:
        words = sorted({word for text in texts for word in text.words})
        self.numbers = {word: number for number, word in enumerate(words, start=2)}

    def __len__(self) -> int:
        return 2 + len(self.numbers)

    def encode(self, texts: Sequence[Text]) -> Tokens:
        """The numbers of the words, int64 (n, longest), padded behind."""
        longest = max((len(text.words) for text in texts), default=0)
        if not 0 < longest <= MAX_LENGTH:
            raise ValueError(f"texts must have 1 to {MAX_LENGTH} words; got {longest}")
        tokens = torch.full((len(texts), longest), PAD)
        for row, text in enumerate(texts):
            for at, word in enumerate(text.words):
                tokens[row, at] = self.numbers.get(word, UNKNOWN)
        return tokens


class AttentionReader(nn.Module):
    """Encoder layers, one learned query that attends to all words, and a linear layer.

    Parameters
    ----------
    n_tokens, n_classes : int
    d_model, n_heads, n_layers : int
    positions : bool
        Without them the logits are the same for every order of the words.

    References
    ----------
    Yang et al. (2016), "Hierarchical Attention Networks for Document Classification", NAACL, for a
    learned query that pools the words.
    """

    def __init__(
        self,
        n_tokens: int,
        n_classes: int,
        *,
        d_model: int = 48,
        n_heads: int = 4,
        n_layers: int = 2,
        positions: bool = True,
    ) -> None:
        super().__init__()
        self.embedding = Embedding(n_tokens, d_model, max_length=MAX_LENGTH)
        if not positions:
            self.embedding.positions.zero_()
        self.layers = nn.ModuleList(
            EncoderLayer(d_model, n_heads, 2 * d_model) for _ in range(n_layers)
        )
        self.norm = nn.LayerNorm(d_model)
        self.query = nn.Parameter(torch.randn(d_model))
        self.pooling = MultiHeadAttention(d_model, n_heads)
        self.classes = nn.Linear(d_model, n_classes)

    def forward(self, tokens: Tokens) -> Logits:
        """Logits (batch, n_classes) of tokens (batch, n)."""
        mask = _words(tokens)[:, None, None]  # (batch, 1, 1, n)
        x = self.embedding(tokens)  # (batch, n, d_model)
        for layer in self.layers:
            x, _ = layer(x, mask=mask)
        query = self.query.expand(len(tokens), 1, -1)  # (batch, 1, d_model)
        pooled, _ = self.pooling(query, self.norm(x), mask=mask)  # (batch, 1, d_model)
        return self.classes(pooled[:, 0])


class RecurrentReader(nn.Module):
    """A GRU in both directions, the maximum over the words, and a linear layer."""

    def __init__(self, n_tokens: int, n_classes: int, *, d_model: int = 48) -> None:
        super().__init__()
        self.embedding = nn.Embedding(n_tokens, d_model)
        self.recurrent = nn.GRU(d_model, d_model, batch_first=True, bidirectional=True)
        self.classes = nn.Linear(2 * d_model, n_classes)

    def forward(self, tokens: Tokens) -> Logits:
        """Logits (batch, n_classes) of tokens (batch, n)."""
        words = _words(tokens)
        packed = nn.utils.rnn.pack_padded_sequence(
            self.embedding(tokens), words.sum(1), batch_first=True, enforce_sorted=False
        )
        states, _ = nn.utils.rnn.pad_packed_sequence(
            self.recurrent(packed)[0],
            batch_first=True,
            padding_value=-torch.inf,
            total_length=tokens.shape[1],
        )
        return self.classes(states.amax(dim=1))  # (batch, 2 · d_model) to (batch, n_classes)


class Counts:
    """Logistic regression, or the nearest neighbour, on weighted counts of words.

    Parameters
    ----------
    kind : "words", "words and pairs" or "neighbour"
    training, validation : list of Text
        The validation part chooses the strength of the regularisation.

    Attributes
    ----------
    strength : float
        The chosen C of scikit-learn; zero for the neighbour.
    """

    STRENGTHS = (0.01, 0.1, 1.0, 10.0, 100.0)

    def __init__(
        self,
        kind: Literal["words", "words and pairs", "neighbour"],
        training: Sequence[Text],
        validation: Sequence[Text],
    ) -> None:
        if kind not in ("words", "words and pairs", "neighbour"):
            raise ValueError(
                f"kind must be 'words', 'words and pairs' or 'neighbour'; got {kind!r}"
            )
        n_words = 2 if kind == "words and pairs" else 1
        self.count = TfidfVectorizer(
            ngram_range=(1, n_words), tokenizer=str.split, token_pattern=None, lowercase=False
        )
        self.known = self.count.fit_transform(
            _joined(training)
        )  # (n, n_features), rows of length 1
        self.labels = np.array([text.label for text in training])
        self.model, self.strength = None, 0.0
        if kind != "neighbour":
            wanted = np.array([text.label for text in validation])
            best = -1.0
            for strength in self.STRENGTHS:
                model = LogisticRegression(C=strength, max_iter=1000)
                model.fit(self.known, self.labels)
                right = (model.predict(self.count.transform(_joined(validation))) == wanted).mean()
                if right > best:
                    best, self.model, self.strength = right, model, strength

    def probabilities(self, texts: Sequence[Text]) -> Probabilities:
        """Of each class, (n, n_classes); of the neighbour, the largest cosine in each class."""
        counts = self.count.transform(_joined(texts))
        if self.model is not None:
            return self.model.predict_proba(counts)
        cosines = (counts @ self.known.T).toarray()  # (n, n_training)
        classes = np.unique(self.labels)
        return np.stack([cosines[:, self.labels == one].max(1) for one in classes], axis=1)


def _words(tokens: Tokens) -> Bool[Tensor, "batch n"]:
    """Where there is a word and no padding."""
    return tokens != PAD


def _joined(texts: Sequence[Text]) -> list[str]:
    return [" ".join(text.words) for text in texts]
