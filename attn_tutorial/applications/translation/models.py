"""Bahdanau's translator, with attention or without, and what counting words can do.

`RecurrentTranslator` has the same methods as the package's `Transformer`, so that one loss and one
way of decoding serve both.
"""

from __future__ import annotations

import collections
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from attn_tutorial.applications.translation.data import PAD, Vocabulary
from attn_tutorial.applications.translation.grammar import Pair

Context = Literal["attention", "equal", "last"]
Text = tuple[str, ...]


class AdditiveAttention(nn.Module):
    """A score from a small network for each pair of query and key; the keys are projected once.

    References
    ----------
    Bahdanau, Cho and Bengio (2015), "Neural Machine Translation by Jointly Learning to Align and
    Translate", ICLR, appendix A.1.2.
    """

    def __init__(self, d_query: int, d_key: int, d_hidden: int) -> None:
        super().__init__()
        self.of_query = nn.Linear(d_query, d_hidden, bias=False)
        self.of_key = nn.Linear(d_key, d_hidden, bias=False)
        self.v = nn.Linear(d_hidden, 1, bias=False)

    def forward(
        self,
        query: Float[Tensor, "batch d_query"],
        projected: Float[Tensor, "batch n_source d_hidden"],
        memory: Float[Tensor, "batch n_source d_key"],
        mask: Bool[Tensor, "batch n_source"],
    ) -> tuple[Float[Tensor, "batch d_key"], Float[Tensor, "batch n_source"]]:
        """One query's output and weights; `projected` is `of_key(memory)`."""
        hidden = torch.tanh(self.of_query(query)[:, None] + projected)  # (batch, n_source, d)
        scores = self.v(hidden)[..., 0].masked_fill(~mask, -torch.inf)  # (batch, n_source)
        weights = scores.softmax(dim=-1)
        return (weights[:, None] @ memory)[:, 0], weights  # (batch, d_key)


class RecurrentTranslator(nn.Module):
    """A GRU that reads in both directions, and a GRU that writes.

    Before each word the decoder gets a context: with "attention" the output of additive attention,
    its own last state being the query and the encoder's states keys and values; with "equal" their
    mean; with "last" the two states in which the encoder ended, the same for every word. What
    follows the decoder is one linear layer, where the paper has a maxout layer.

    Parameters
    ----------
    n_source, n_target : int
        How many different tokens source and target have.
    d_model : int
        The width of embeddings and states.
    context : "attention", "equal" or "last"

    Raises
    ------
    ValueError
        Where the context is none of these.

    References
    ----------
    Bahdanau, Cho and Bengio (2015), "Neural Machine Translation by Jointly Learning to Align and
    Translate", ICLR. Cho et al. (2014), "Learning Phrase Representations using RNN Encoder-Decoder
    for Statistical Machine Translation", EMNLP, for a context that is the same for every word.
    """

    pad = PAD
    max_length = 512

    def __init__(
        self,
        n_source: int,
        n_target: int,
        *,
        d_model: int = 64,
        context: Context = "attention",
    ) -> None:
        super().__init__()
        if context not in ("attention", "equal", "last"):
            raise ValueError(f"context must be 'attention', 'equal' or 'last'; got {context!r}")
        self.context, self.d_model = context, d_model
        self.source_embedding = nn.Embedding(n_source, d_model)
        self.target_embedding = nn.Embedding(n_target, d_model)
        self.encoder = nn.GRU(d_model, d_model, batch_first=True, bidirectional=True)
        if context == "attention":
            self.attention = AdditiveAttention(d_model, 2 * d_model, d_model)
        self.begin = nn.Linear(d_model, d_model)
        self.decoder = nn.GRUCell(3 * d_model, d_model)
        self.output = nn.Linear(4 * d_model, n_target)

    def forward(
        self, source: Int[Tensor, "batch n_source"], target: Int[Tensor, "batch n_target"]
    ) -> Float[Tensor, "batch n_target n_tokens"]:
        """Predict, at every position of the target, the token that follows (teacher forcing)."""
        return self.decode(target, *self.encode(source))[0]

    def encode(
        self, source: Int[Tensor, "batch n_source"]
    ) -> tuple[Float[Tensor, "batch n_source d_memory"], Bool[Tensor, "batch 1 1 n_source"]]:
        """A vector of 2 · d_model numbers for each token: one half read from the left, one from
        the right."""
        mask = source != self.pad  # (batch, n_source)
        embedded = self.source_embedding(source)
        packed = pack_padded_sequence(  # the reading from the right begins at the last word
            embedded, mask.sum(dim=1), batch_first=True, enforce_sorted=False
        )
        states, _ = self.encoder(packed)
        memory, _ = pad_packed_sequence(states, batch_first=True, total_length=source.shape[1])
        return memory, mask[:, None, None]

    def decode(
        self,
        target: Int[Tensor, "batch n_target"],
        memory: Float[Tensor, "batch n_source d_memory"],
        memory_mask: Bool[Tensor, "batch 1 1 n_source"],
        *,
        caches: None = None,
        need_weights: bool = False,
    ) -> tuple[
        Float[Tensor, "batch n_target n_tokens"], list[Float[Tensor, "batch 1 n_target n_source"]]
    ]:
        """Predict the token after each of the target's, and say with which weights.

        Without attention the weights are those of the mean. There is nothing to keep in caches:
        `greedy_decode` takes this model with `use_cache=False`.
        """
        mask = memory_mask[:, 0, 0]  # (batch, n_source)
        equal = mask / mask.sum(dim=1, keepdim=True)  # (batch, n_source)
        ends = mask.sum(dim=1) - 1  # (batch,)
        left = memory[torch.arange(len(memory)), ends, : self.d_model]  # (batch, d_model)
        right = memory[:, 0, self.d_model :]  # (batch, d_model)
        fixed = torch.cat([left, right], dim=1)  # (batch, 2 · d_model)
        if self.context == "equal":
            fixed = (equal[:, None] @ memory)[:, 0]
        if self.context == "attention":
            projected = self.attention.of_key(memory)  # (batch, n_source, d_model)
        state = torch.tanh(self.begin(right))  # (batch, d_model)
        embedded = self.target_embedding(target)  # (batch, n_target, d_model)
        seen, all_weights = [], []
        for word in embedded.unbind(dim=1):
            context, weights = fixed, equal
            if self.context == "attention":
                context, weights = self.attention(state, projected, memory, mask)
            state = self.decoder(torch.cat([word, context], dim=1), state)
            seen.append(torch.cat([state, word, context], dim=1))  # (batch, 4 · d_model)
            all_weights.append(weights)
        logits = self.output(torch.stack(seen, dim=1))  # (batch, n_target, n_tokens)
        return logits, [torch.stack(all_weights, dim=1)[:, None]]

    def new_caches(self) -> None:
        """There are none."""


class WordTable:
    """IBM Model 1: how often each source word is translated by each target word, by EM.

    Each target word comes from one source word, or from none, each equally likely beforehand. The
    expectation step shares each target word among the source words of its sentence, in proportion
    to the table; the maximisation step counts the shares.

    Parameters
    ----------
    pairs : list of Pair
    rounds : int
        How many steps of EM.

    Attributes
    ----------
    probability : float array, shape (n_target, n_source)
        Of each target word, given a source word; column `PAD` is the empty word. Columns sum to
        one, those of "begin" and "end" to zero.
    log_likelihoods : list of float
        Of the training pairs, before each round, without the terms that do not change.

    References
    ----------
    Brown et al. (1993), "The Mathematics of Statistical Machine Translation: Parameter
    Estimation", Computational Linguistics 19 (2).
    """

    def __init__(self, pairs: list[Pair], *, rounds: int = 10) -> None:
        if rounds < 1:
            raise ValueError(f"rounds must be at least 1; got {rounds}")
        self.source = Vocabulary(pair.source for pair in pairs)
        self.target = Vocabulary(pair.target for pair in pairs)
        of_target, of_source = self._positions(pairs)  # (n, n_target, 1), (n, 1, 1 + n_source)
        together = (of_target != PAD) & (of_source >= 0)  # (n, n_target, 1 + n_source)
        shape = (len(self.target), len(self.source))
        cells = np.ravel_multi_index(np.broadcast_arrays(of_target, of_source % shape[1]), shape)
        table = np.full(shape, 1 / shape[0])  # all words are as likely
        self.log_likelihoods = []
        for _ in range(rounds):
            likely = np.where(together, table.ravel()[cells], 0.0)  # (n, n_target, 1 + n_source)
            total = likely.sum(axis=2, keepdims=True)  # (n, n_target, 1)
            there = of_target != PAD
            self.log_likelihoods.append(float(np.log(total[there]).sum()))
            shares = likely / np.where(there, total, 1.0)
            counts = np.bincount(cells.ravel(), shares.ravel(), np.prod(shape)).reshape(shape)
            sums = counts.sum(axis=0)
            table = counts / np.where(sums > 0, sums, 1.0)
        self.probability = table

    def _positions(self, pairs: list[Pair]) -> tuple[np.ndarray, np.ndarray]:
        """Numbers of the words, axes added; -1 is the source's padding, `PAD` its empty word."""
        target = self.target.encode([pair.target for pair in pairs]).numpy()
        source = self.source.encode([pair.source for pair in pairs]).numpy()
        source = np.where(source == PAD, -1, source)
        source = np.pad(source, ((0, 0), (1, 0)), constant_values=PAD)  # the empty word first
        return target[:, :, None], source[:, None, :]

    def align(self, pairs: list[Pair]) -> list[set[tuple[int, int]]]:
        """For each pair the links (target, source) that are most likely; a word may have none."""
        of_target, of_source = self._positions(pairs)
        likely = np.where(of_source >= 0, self.probability[of_target, of_source], -1.0)
        best = likely.argmax(axis=2) - 1  # (n, n_target), -1 for the empty word
        return [
            {(i, int(j)) for i, j in enumerate(row[: len(pair.target)]) if j >= 0}
            for row, pair in zip(best, pairs, strict=True)
        ]

    def dictionary(self, pairs: list[Pair]) -> dict[str, Text]:
        """For each source word the words that are linked to it most often, in their order.

        That can be several ("books": 本 书), or none ("the").
        """
        found = collections.defaultdict(collections.Counter)
        for pair, links in zip(pairs, self.align(pairs), strict=True):
            for j, word in enumerate(pair.source):
                linked = sorted(i for i, k in links if k == j)
                found[word][tuple(pair.target[i] for i in linked)] += 1
        return {word: counter.most_common(1)[0][0] for word, counter in found.items()}


def word_by_word(sources: list[Text], dictionary: dict[str, Text]) -> list[Text]:
    """Translate each word by itself, in the order of the source."""
    return [tuple(word for one in source for word in dictionary[one]) for source in sources]


class TranslationMemory:
    """Take the most similar training sentence, and exchange the words that differ.

    The most similar has the same number of words, and the fewest differ (the first of several).
    With `exchange`, the target words that are linked to a word that differs become that word's
    translation by the dictionary.

    Parameters
    ----------
    pairs : list of Pair
    table : WordTable

    References
    ----------
    Nagao (1984), "A Framework of a Mechanical Translation between Japanese and English by Analogy
    Principle".
    """

    def __init__(self, pairs: list[Pair], table: WordTable) -> None:
        self.pairs, self.source = pairs, table.source
        self.links = table.align(pairs)
        self.dictionary = table.dictionary(pairs)
        self.rows = table.source.encode([pair.source for pair in pairs]).numpy()  # (n, longest)
        self.lengths = (self.rows != PAD).sum(axis=1)

    def translate(self, source: Text, *, exchange: bool) -> Text:
        """The translation; of a longer sentence than any in training, that of a shorter one."""
        row = self.source.encode([source]).numpy()[0]
        width = min(len(row), self.rows.shape[1])
        differ = (self.rows[:, :width] != row[:width]).sum(axis=1)
        best = int((differ + 100 * abs(self.lengths - len(source))).argmin())
        pair, links = self.pairs[best], self.links[best]
        words = {i: [word] for i, word in enumerate(pair.target)}
        for j, (old, new) in enumerate(zip(pair.source, source, strict=False)):
            linked = sorted(i for i, k in links if k == j)
            if exchange and old != new and linked:
                put_in = self.dictionary[new]
                if len(put_in) != len(linked):  # all of it where the first was
                    words |= {i: [] for i in linked} | {linked[0]: list(put_in)}
                else:
                    words |= {i: [word] for i, word in zip(linked, put_in, strict=True)}
        return tuple(word for i in sorted(words) for word in words[i])


def alignment_error_rate(pairs: list[Pair], found: list[set[tuple[int, int]]]) -> float:
    """One minus the share of links that agree: 0 is perfect, 1 is all wrong.

    With A the links found, S the sure and P the possible ones, 1 - (|A∩S| + |A∩P|) / (|A| + |S|),
    counted over all pairs together.

    Parameters
    ----------
    pairs : list of Pair, with the true links
    found : list of sets of (int, int)
        For each pair links (target, source).

    Raises
    ------
    ValueError
        Where there is not one set for each pair, or no link at all.

    References
    ----------
    Och and Ney (2003), "A Systematic Comparison of Various Statistical Alignment Models",
    Computational Linguistics 29 (1).
    """
    if len(pairs) != len(found):
        raise ValueError(
            f"found must have one set for each of {len(pairs)} pairs; got {len(found)}"
        )
    both = list(zip(pairs, found, strict=True))
    agree = sum(len(links & pair.sure) + len(links & pair.possible) for pair, links in both)
    total = sum(len(links) + len(pair.sure) for pair, links in both)
    if not total:
        raise ValueError("there is no link, neither found nor true")
    return 1 - agree / total
