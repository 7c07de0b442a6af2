"""Associative recall: a sequence of pairs of a key and a value, then keys alone. What were theirs?

The task of Arora et al. (2024), "Zoology: Measuring and Improving Recall in Efficient Language
Models", ICLR, made plainer: there keys and queries mix, here all queries come behind all pairs.
Whoever keeps every pair finds the answer; a memory of fixed size has to share its room among them.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from attn_tutorial.frontier.other_kernels.delta import delta_rule
from attn_tutorial.frontier.other_kernels.linear import elu_plus_one, linear_attention
from attn_tutorial.training import evaluating

N_KEYS, N_VALUES = 64, 32
BLANK = 0
FIRST_VALUE = 1 + N_KEYS
N_TOKENS = FIRST_VALUE + N_VALUES
UNSCORED = -100  # what cross_entropy leaves out

Mixer = Literal["softmax", "elu + 1", "sum", "gated sum", "delta", "GRU"]
MIXERS: tuple[str, ...] = get_args(Mixer)


def recall_data(
    n_examples: int,
    n_pairs: Int[Tensor, " n_examples"] | int,
    *,
    length: int,
    seed: int,
    rewritten: bool = False,
) -> tuple[Int[Tensor, "n_examples n"], Int[Tensor, "n_examples n"]]:
    """Sequences of pairs and queries, and the answers.

    The keys of a sequence differ from one another; values may repeat. Each key is asked for once,
    in an order of its own. Blanks fill the sequence up to its length. A sequence that is rewritten
    gives each key a second pair, behind all first ones: then the second value is the answer.

    Parameters
    ----------
    n_examples : int
    n_pairs : int, or int tensor of shape (n_examples,)
        How many keys each sequence has, from 1 to length / 3 (if rewritten, length / 5) and to the
        number of keys that there are.
    length : int
        How many tokens a sequence has.
    seed : int
    rewritten : bool

    Returns
    -------
    tokens : int64 tensor, shape (n_examples, length)
    answers : int64 tensor, shape (n_examples, length)
        At each query the number of its value, from 0; elsewhere UNSCORED.

    Raises
    ------
    ValueError
        Where a number of pairs does not fit.
    """
    n_pairs = torch.as_tensor(n_pairs).expand(n_examples)
    rounds = 2 if rewritten else 1
    most = min(length // (2 * rounds + 1), N_KEYS)
    if ((n_pairs < 1) | (n_pairs > most)).any():
        raise ValueError(f"n_pairs must lie between 1 and {most}; got {n_pairs.unique().tolist()}")
    n_pairs = n_pairs[:, None]  # (n_examples, 1)
    generator = torch.Generator().manual_seed(seed)

    def orders() -> Tensor:
        """For each sequence and round an order of its own, those that are not there at the end."""
        drawn = torch.rand(n_examples, N_KEYS, generator=generator)
        return drawn.masked_fill(torch.arange(N_KEYS) >= n_pairs, 2).argsort(dim=1)

    # The order of random numbers is a random order.
    keys = torch.rand(n_examples, N_KEYS, generator=generator).argsort(dim=1)  # all different
    values = torch.randint(N_VALUES, (n_examples, N_KEYS), generator=generator)
    place = torch.arange(length).expand(n_examples, length)
    tokens = torch.full((n_examples, length), BLANK)
    for _ in range(rounds):
        order = orders()
        values_of = values  # of the last round
        pair = order.gather(1, (place // 2).clamp(0, N_KEYS - 1))
        here = (place >= 0) & (place < 2 * n_pairs)
        key = 1 + keys.gather(1, pair)
        value = FIRST_VALUE + values.gather(1, pair)
        tokens = torch.where(here, torch.where(place % 2 == 0, key, value), tokens)
        place = place - 2 * n_pairs  # counted from the end of this round
        values = torch.randint(N_VALUES, (n_examples, N_KEYS), generator=generator)
    asked = orders().gather(1, place.clamp(0, N_KEYS - 1))
    here = (place >= 0) & (place < n_pairs)
    tokens = torch.where(here, 1 + keys.gather(1, asked), tokens)
    return tokens, torch.where(here, values_of.gather(1, asked), UNSCORED)


class RecallModel(nn.Module):
    """Names the value of each queried key; one layer, whose mixer alone sees the past.

    Before the mixer each position gets to see its own token and the one before it, so that a value
    knows its key; otherwise a second layer would have to do that.

    Parameters
    ----------
    mixer : "softmax", "elu + 1", "sum", "gated sum", "delta" or "GRU"
        Softmax attention, whose scores fall with the distance by a learned slope, at first 0;
        linear attention with the features elu + 1, divided by the sum of its weights; linear
        attention with unit keys and a learned strength of writing, not divided; the same, and at
        each position a learned gate for all that was written before; unit keys and strength with
        the delta rule; a recurrent network.
    d_k : int
        The width of queries and keys; of a GRU, the width of its state.
    d_model : int
        The width of the vectors, and of the values.

    Raises
    ------
    ValueError
        Where there is no such mixer.
    """

    def __init__(self, mixer: Mixer, *, d_k: int, d_model: int = 64) -> None:
        super().__init__()
        if mixer not in MIXERS:
            raise ValueError(f"mixer must be one of {MIXERS}; got {mixer!r}")
        self.mixer, self.d_k, self.d_model = mixer, d_k, d_model
        self.embedding = nn.Embedding(N_TOKENS, d_model)
        self.previous = nn.Linear(d_model, d_model, bias=False)
        self.norm = nn.LayerNorm(d_model)
        if mixer == "GRU":
            self.gru = nn.GRU(d_model, d_k, batch_first=True)
        else:
            self.query, self.key = (nn.Linear(d_model, d_k) for _ in range(2))
            self.value = nn.Linear(d_model, d_model)
            if mixer == "softmax":
                self.slope = nn.Parameter(torch.zeros(()))
            elif mixer != "elu + 1":
                self.strength = nn.Linear(d_model, 1)
            if mixer == "gated sum":
                self.gate = nn.Linear(d_model, 1)
                nn.init.constant_(self.gate.bias, 4)  # at first nearly everything is kept
        self.norm_mixed = nn.LayerNorm(d_k if mixer == "GRU" else d_model)
        self.out = nn.Linear(d_k if mixer == "GRU" else d_model, d_model)
        self.norm_out = nn.LayerNorm(d_model)
        self.answer = nn.Linear(d_model, N_VALUES)

    @property
    def state_size(self) -> int | None:
        """How many numbers it carries from one position to the next; None where they grow."""
        if self.mixer == "softmax":
            return None
        if self.mixer == "GRU":
            return self.d_k
        return self.d_k * (self.d_model + (self.mixer == "elu + 1"))

    def forward(self, tokens: Int[Tensor, "batch n"]) -> Float[Tensor, "batch n n_values"]:
        """The score of each value at each position."""
        x = self.embedding(tokens)  # (batch, n, d_model)
        before = F.pad(x, (0, 0, 1, 0))[:, :-1]  # the vector before; zeros at the start
        x = x + self.previous(before)
        x = x + self.out(self.norm_mixed(self._mixed(self.norm(x))))
        return self.answer(self.norm_out(x))  # (batch, n, n_values)

    def _mixed(self, x: Float[Tensor, "batch n d_model"]) -> Float[Tensor, "batch n d_mixed"]:
        if self.mixer == "GRU":
            return self.gru(x)[0]
        query, key, value = self.query(x), self.key(x), self.value(x)
        if self.mixer == "softmax":
            place = torch.arange(x.shape[1], device=x.device)
            distance = place[:, None] - place  # (n, n)
            bias = torch.where(distance < 0, -torch.inf, -self.slope * distance)
            return F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
        if self.mixer == "elu + 1":
            return linear_attention(elu_plus_one(query), elu_plus_one(key), value, chunk=32)[0]
        query, key = F.normalize(query, dim=-1), F.normalize(key, dim=-1)
        strength = self.strength(x).sigmoid()  # (batch, n, 1)
        if self.mixer == "delta":
            return delta_rule(query, key, value, strength[..., 0], chunk=32)[0]
        log_decay = F.logsigmoid(self.gate(x)) if self.mixer == "gated sum" else None
        return linear_attention(
            query, key, strength * value, chunk=32, log_decay=log_decay, normalise=False
        )[0]


def recall_loss(
    model: RecallModel, tokens: Int[Tensor, "batch n"], answers: Int[Tensor, "batch n"]
) -> Float[Tensor, ""]:
    """The mean cross-entropy at the queries."""
    return F.cross_entropy(model(tokens).flatten(0, 1), answers.flatten(), ignore_index=UNSCORED)


def recall_accuracy(
    model: RecallModel, tokens: Int[Tensor, "batch n"], answers: Int[Tensor, "batch n"]
) -> float:
    """The share of queries whose value is named."""
    asked = answers != UNSCORED
    with evaluating(model):
        named = model(tokens).argmax(dim=-1)
    return (named == answers)[asked].double().mean().item()
