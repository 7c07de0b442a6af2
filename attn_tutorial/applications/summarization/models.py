"""Two ways to summarize: choose a sentence by attention, or write words and point at words."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from attn_tutorial.applications.summarization.data import BEGIN, END, PADDING, UNKNOWN
from attn_tutorial.layers import MultiHeadAttention
from attn_tutorial.training import evaluating

Words = Int[Tensor, "..."]  # numbers of words, of any shape
TINY = 1e-9  # a probability below which a logarithm is cut


class SentenceChooser(nn.Module):
    """Weights over the sentences of a text: how well each would stand for its summary.

    Every sentence attends to all sentences of its text, and a learned query then asks each of them.
    The weights of that query are the answer: nothing is summed with them.

    Parameters
    ----------
    n_features, n_positions : int
        The width of a sentence's vector, and how many sentences a text has at most.
    d_model, n_heads : int
    context : bool
        Whether the sentences attend to one another; without, each is judged alone.
    dropout : float

    References
    ----------
    Vinyals, Fortunato and Jaitly (2015), "Pointer Networks", NeurIPS, for weights as the answer.
    """

    def __init__(
        self,
        n_features: int,
        n_positions: int,
        *,
        d_model: int = 32,
        n_heads: int = 2,
        context: bool = True,
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        self.features = nn.Linear(n_features, d_model)
        self.positions = nn.Parameter(0.1 * torch.randn(n_positions, d_model))
        self.attention = MultiHeadAttention(d_model, n_heads) if context else None
        self.hidden = nn.Linear(2 * d_model, d_model)
        self.query = nn.Linear(d_model, 1, bias=False)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, sentences: Float[Tensor, "batch n n_features"], mask: Bool[Tensor, "batch n"]
    ) -> Float[Tensor, "batch n"]:
        """Logarithms of the weights; minus infinity where the mask is False."""
        if mask.shape != sentences.shape[:2] or not mask.any(dim=1).all():
            raise ValueError(
                "mask must have shape (batch, n) with one True a row or more; got shapes "
                f"{tuple(mask.shape)} and {tuple(sentences.shape)}"
            )
        own = self.features(sentences) + self.positions[: mask.shape[1]]  # (batch, n, d_model)
        own = self.dropout(own)
        if self.attention is None:
            others = own
        else:
            others, _ = self.attention(own, mask=mask[:, None, None, :])  # (batch, n, d_model)
        hidden = torch.tanh(self.hidden(torch.cat([own, others], dim=-1)))  # (batch, n, d_model)
        scores = self.query(self.dropout(hidden)).squeeze(-1)  # (batch, n)
        return scores.masked_fill(~mask, -torch.inf).log_softmax(dim=-1)


class Step(NamedTuple):
    """What the generator says at each place of a summary.

    Attributes
    ----------
    known : float tensor, shape (batch, n_target, n_known)
        The distribution over the known words, of the softmax alone.
    weights : float tensor, shape (batch, n_target, n_source)
        The weights of attention on the words of the text.
    generated : float tensor, shape (batch, n_target, 1)
        The probability with which the word is generated and not copied; 1 without a pointer.
    """

    known: Float[Tensor, "batch n_target n_known"]
    weights: Float[Tensor, "batch n_target n_source"]
    generated: Float[Tensor, "batch n_target 1"]


class Generator(nn.Module):
    """An encoder and a decoder with recurrent layers, attention between them, and a pointer.

    A word comes from one of two distributions: the softmax over the known words, or the weights of
    attention, read as a distribution over the words of the text. A number between 0 and 1, computed
    from the state of the decoder, what it attended to and the word before, mixes the two.

    This model is smaller than the paper's and differs in three points: its layers are GRUs, its
    attention is a scaled dot product, and what was attended to does not enter the next state.

    Parameters
    ----------
    n_known : int
        How many words have an embedding, with padding, unknown, begin and end among them.
    d_model : int
    attends, points : bool
        Without attention the decoder knows the text through its first state only. A pointer needs
        attention.
    dropout : float

    References
    ----------
    See, Liu and Manning (2017), "Get To The Point: Summarization with Pointer-Generator Networks",
    ACL, for the mixture and for what the switch reads.
    """

    def __init__(
        self,
        n_known: int,
        *,
        d_model: int = 64,
        attends: bool = True,
        points: bool = True,
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        if points and not attends:
            raise ValueError("points needs attends: the pointer is made of weights of attention")
        self.n_known, self.attends, self.points = n_known, attends, points
        self.embedding = nn.Embedding(n_known, d_model)
        nn.init.normal_(self.embedding.weight, std=d_model**-0.5)
        self.encoder = nn.GRU(d_model, d_model // 2, batch_first=True, bidirectional=True)
        self.first_state = nn.Linear(d_model, d_model)
        self.decoder = nn.GRU(d_model, d_model, batch_first=True)
        self.attention = MultiHeadAttention(d_model, 1) if attends else None
        self.hidden = nn.Linear((1 + attends) * d_model, d_model)
        self.switch = nn.Linear(3 * d_model, 1) if points else None
        self.bias = nn.Parameter(torch.zeros(n_known))
        self.dropout = nn.Dropout(dropout)

    def encode(
        self, source: Int[Tensor, "batch n_source"]
    ) -> tuple[Float[Tensor, "batch n_source d_model"], Float[Tensor, "1 batch d_model"]]:
        """The states of the text's words, and the first state of the decoder."""
        lengths = (source != PADDING).sum(dim=1)  # (batch,)
        if (lengths == 0).any():
            raise ValueError("source must have one word or more in each row")
        packed = nn.utils.rnn.pack_padded_sequence(
            self.dropout(self.embedding(source)), lengths, batch_first=True, enforce_sorted=False
        )
        packed, last = self.encoder(packed)
        states, _ = nn.utils.rnn.pad_packed_sequence(
            packed, batch_first=True, total_length=source.shape[1]
        )  # (batch, n_source, d_model)
        last = torch.cat([last[0], last[1]], dim=-1)  # (batch, d_model)
        return states, torch.tanh(self.first_state(last))[None]

    def decode(
        self,
        words: Int[Tensor, "batch n_target"],
        state: Float[Tensor, "1 batch d_model"],
        states: Float[Tensor, "batch n_source d_model"],
        source: Int[Tensor, "batch n_source"],
    ) -> tuple[Step, Float[Tensor, "1 batch d_model"]]:
        """What comes after each word, and the last state."""
        embedded = self.dropout(self.embedding(words))  # (batch, n_target, d_model)
        decoded, state = self.decoder(embedded, state)  # (batch, n_target, d_model)
        parts, weights = [decoded], states.new_zeros(*words.shape, states.shape[1])
        if self.attends:
            mask = (source != PADDING)[:, None, None, :]  # (batch, 1, 1, n_source)
            output, weights = self.attention(decoded, states, mask=mask, need_weights=True)
            parts.append(output)  # (batch, n_target, d_model)
            weights = weights[:, 0]  # (batch, n_target, n_source)
        hidden = torch.tanh(self.hidden(self.dropout(torch.cat(parts, dim=-1))))
        known = (hidden @ self.embedding.weight.T + self.bias).softmax(dim=-1)
        generated = torch.ones_like(decoded[..., :1])
        if self.points:
            generated = self.switch(torch.cat([*parts, embedded], dim=-1)).sigmoid()
        return Step(known, weights, generated), state

    def forward(
        self, source: Int[Tensor, "batch n_source"], before: Int[Tensor, "batch n_target"]
    ) -> Step:
        """What the model says after each of the known words `before`, which begin with `BEGIN`."""
        states, state = self.encode(source)
        return self.decode(before, state, states, source)[0]


def mixture(
    step: Step, source_words: Int[Tensor, "batch n_source"], n_words: int
) -> Float[Tensor, "batch n_target n_words"]:
    """The distribution over all words: the known ones, and behind them those of the texts.

    A word that stands in the text several times gets the weights of all its places.

    Parameters
    ----------
    step : Step
    source_words : int tensor, shape (batch, n_source)
        The numbers of the text's words, those of unknown words included.
    n_words : int
        How many numbers there are.
    """
    batch, n_target, n_known = step.known.shape
    total = step.known.new_zeros(batch, n_target, n_words)
    total[..., :n_known] = step.generated * step.known
    places = source_words[:, None, :].expand(-1, n_target, -1)  # (batch, n_target, n_source)
    return total.scatter_add(2, places, (1 - step.generated) * step.weights)


def summary_loss(
    model: Generator,
    source: Int[Tensor, "batch n_source"],
    source_words: Int[Tensor, "batch n_source"],
    target: Int[Tensor, "batch n_target"],
) -> Float[Tensor, ""]:
    """The mean of minus the logarithm of the probability of each word, in nats.

    The target begins with `BEGIN`. Without a pointer, a word that is not known counts as
    `UNKNOWN`, which the model may say.
    """
    before, after = target[:, :-1], target[:, 1:]  # (batch, n_target - 1)
    step = model(source, known_only(before, model.n_known))
    said = known_only(after, model.n_known)
    probability = step.generated[..., 0] * step.known.gather(2, said[..., None])[..., 0]
    if model.points:
        same = after[:, :, None] == source_words[:, None, :]  # (batch, n_target - 1, n_source)
        copied = (step.weights * same).sum(dim=-1)
        # Where a word can be copied, UNKNOWN is no right answer.
        probability = probability * ((after < model.n_known) | ~same.any(dim=-1))
        probability = probability + (1 - step.generated[..., 0]) * copied
    there = after != PADDING
    return -(probability.clamp_min(TINY).log()[there]).mean()


def known_only(words: Words, n_known: int) -> Words:
    """Words whose numbers are not known become `UNKNOWN`."""
    return words.masked_fill(words >= n_known, UNKNOWN)


def write(
    model: Generator,
    source: Int[Tensor, "batch n_source"],
    source_words: Int[Tensor, "batch n_source"],
    *,
    n_words: int,
    max_length: int,
) -> tuple[Int[Tensor, "batch n"], Float[Tensor, "batch n n_source"], Float[Tensor, "batch n"]]:
    """Write summaries, with the likeliest word at every step. `UNKNOWN` is never written.

    Returns
    -------
    words : int tensor, shape (batch, n), n <= max_length
        Padding from the end on.
    weights : float tensor, shape (batch, n, n_source)
    generated : float tensor, shape (batch, n)
        Of `Step`, for each word.
    """
    with evaluating(model):
        states, state = model.encode(source)
        word = source.new_full((len(source), 1), BEGIN)
        words, weights, generated = [], [], []
        finished = torch.zeros_like(word, dtype=torch.bool)  # (batch, 1)
        for _ in range(max_length):
            step, state = model.decode(known_only(word, model.n_known), state, states, source)
            total = mixture(step, source_words, n_words)  # (batch, 1, n_words)
            total[..., [PADDING, UNKNOWN, BEGIN]] = 0.0
            word = total.argmax(dim=-1)  # (batch, 1)
            finished |= word == END
            words.append(word.masked_fill(finished, PADDING))
            weights.append(step.weights)
            generated.append(step.generated[..., 0])
            if finished.all():
                break
    return torch.cat(words, dim=1), torch.cat(weights, dim=1), torch.cat(generated, dim=1)
