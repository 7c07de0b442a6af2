"""Knowledge tracing with attention: who will answer the next question right?

The query is the question that is asked now. The keys and values are the questions answered before,
with the answers. What is asked now must not be among them: its answer is what we want to know.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from attn_tutorial import attention
from attn_tutorial.learning.simulator import Log
from attn_tutorial.training import evaluating

Kind = Literal["with time", "without time", "equal weights"]
RATE, DECAY, BATCH = 1e-2, 1e-3, 50
STEPS, EVERY = 240, 20


def earlier(n: int) -> Bool[Tensor, "n n_and_one"]:
    """Which keys a question may attend to: the start, and the answers *before* its own.

    Returns
    -------
    bool tensor, shape (n, n + 1)
        Key 0 is the start, to which every question may attend; key j + 1 is answer j.
    """
    before = torch.ones(n, n, dtype=torch.bool).tril(diagonal=-1)
    return torch.cat([torch.ones(n, 1, dtype=torch.bool), before], dim=1)


@dataclass(frozen=True)
class Batch:
    """A log as tensors.

    Attributes
    ----------
    items, skills, answers : int tensor, shape (n_learners, length)
    days : float tensor, shape (n_learners, length)
    """

    items: Tensor
    skills: Tensor
    answers: Tensor
    days: Tensor

    @classmethod
    def of(cls, log: Log) -> Batch:
        """The parts of a log that a model is told."""
        return cls(
            items=torch.from_numpy(log.items),
            skills=torch.from_numpy(log.skills),
            answers=torch.from_numpy(log.right.astype(np.int64)),
            days=torch.from_numpy(log.days),
        )

    def rows(self, which: Tensor) -> Batch:
        """Some of its learners."""
        return Batch(*(getattr(self, name)[which] for name in self.__dataclass_fields__))


class Tracer(nn.Module):
    """One attention layer from the question asked now to the answers before.

    The question and every answer are vectors; the weights follow from the scaled dot product. With
    time, each head lowers the score of an answer by a rate of its own times the logarithm of the
    days since, and reports that logarithm, averaged with its weights. A learned start key is what a
    head may attend to when no answer matters, and all that the first question has.

    Parameters
    ----------
    n_items, n_skills : int
        `n_skills` of 0 hides the skills: the model knows the items' numbers alone.
    kind : "with time", "without time" or "equal weights"
        With equal weights all earlier answers and the start count alike, and time is unknown.
    d_model, n_heads : int
    dropout : float
        On the vector that the prediction is made from.
    """

    def __init__(
        self,
        n_items: int,
        n_skills: int,
        *,
        kind: Kind,
        d_model: int = 32,
        n_heads: int = 4,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        if kind not in get_args(Kind):
            raise ValueError(f"kind must be one of {get_args(Kind)}; got {kind!r}")
        self.kind, self.n_heads, self.skilled = kind, n_heads, n_skills > 0
        self.item = nn.Embedding(n_items, d_model)
        self.skill = nn.Embedding(max(n_skills, 1), d_model)
        self.answer = nn.Embedding(2, d_model)
        self.answered_item = nn.Embedding(n_items, d_model)
        self.answered_skill = nn.Embedding(max(n_skills, 1), d_model)
        self.start = nn.Parameter(torch.zeros(d_model))
        self.query = nn.Linear(d_model, d_model)
        self.key = nn.Linear(d_model, d_model)
        self.value = nn.Linear(2 * d_model, d_model)
        self.rate = nn.Parameter(torch.linspace(-2.0, 1.0, n_heads))  # through a softplus
        n_times = n_heads if kind == "with time" else 0
        self.predict = nn.Sequential(
            nn.Linear(2 * d_model + n_times, d_model),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(d_model, 1),
        )
        self.ease = nn.Embedding(n_items, 1)
        for table in (self.item, self.skill, self.answer, self.answered_item, self.answered_skill):
            nn.init.normal_(table.weight, std=0.3)
        nn.init.zeros_(self.ease.weight)

    def questions(self, items: Tensor, skills: Tensor) -> Tensor:
        """What is known of a question before it is answered: shape (..., d_model)."""
        asked = self.item(items)
        return asked + self.skill(skills) if self.skilled else asked

    def look(
        self, asked: Batch, answered: Batch, mask: Bool[Tensor, "... n_q n_k"]
    ) -> tuple[Float[Tensor, "batch n_q"], Float[Tensor, "batch heads n_q n_k"]]:
        """Log-odds of a right answer to each question, and the weights behind them.

        Parameters
        ----------
        asked : Batch
            The questions; their answers are not looked at.
        answered : Batch
            The answers that keys and values are made of.
        mask : bool tensor, shape (n_q, n_k), where n_k = 1 + the number of answers

        Returns
        -------
        log_odds : float tensor, shape (batch, n_q)
        weights : float tensor, shape (batch, n_heads, n_q, n_k)
            Key 0 is the start.
        """
        question = self.questions(asked.items, asked.skills)  # (batch, n_q, d_model)
        source = self.answered_item(answered.items)
        if self.skilled:
            source = source + self.answered_skill(answered.skills)
        said = self.answer(answered.answers)
        begin = self.start.expand(len(source), 1, -1)
        keys = torch.cat([begin, source], dim=1)  # (batch, n_k, d_model)
        values = torch.cat([torch.cat([begin, 0 * begin], -1), torch.cat([source, said], -1)], 1)
        query, key, value = (
            self._heads(x) for x in (self.query(question), self.key(keys), self.value(values))
        )
        since = self._since(asked.days, answered.days)[:, None]  # (batch, 1, n_q, n_k)
        scores_added = torch.zeros(()).expand(mask.shape)
        if self.kind == "with time":
            scores_added = -F.softplus(self.rate)[:, None, None] * since
        if self.kind == "equal weights":
            query = 0 * query
        hidden = torch.where(mask, scores_added, -torch.inf)
        attended, weights = attention(query, key, value, mask=hidden)
        found = [question, attended.transpose(1, 2).flatten(2)]
        if self.kind == "with time":
            found.append((weights * since).sum(dim=-1).transpose(1, 2))  # (batch, n_q, heads)
        log_odds = self.predict(torch.cat(found, dim=-1)) + self.ease(asked.items)
        return log_odds[..., 0], weights

    def forward(self, batch: Batch) -> Float[Tensor, "batch length"]:
        """Log-odds for each question of a log, from the answers before it."""
        mask = earlier(batch.items.shape[1])
        return self.look(batch, batch, mask)[0]

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)

    @staticmethod
    def _since(asked: Tensor, answered: Tensor) -> Tensor:
        """The logarithm of 1 + hours since each answer; 0 for the start and for the future."""
        days = (asked[:, :, None] - answered[:, None, :]).clamp_min(0)  # (batch, n_q, n_answers)
        return F.pad(torch.log1p(24 * days).float(), (1, 0))


@dataclass
class Fitted:
    """A trained model, and how the training went.

    Attributes
    ----------
    model : Tracer
    losses : list of float
        Of each step, before it.
    best_step : int
        After how many steps the loss on the validation part was lowest: that model is kept.
    """

    model: Tracer
    losses: list[float]
    best_step: int


def fit(
    training: Log,
    validation: Log,
    *,
    n_items: int,
    n_skills: int,
    kind: Kind,
    seed: int,
    steps: int = STEPS,
) -> Fitted:
    """Train a model, and keep it as it was when the validation part liked it best."""
    torch.manual_seed(seed)
    model = Tracer(n_items, n_skills, kind=kind)
    batches, judged = Batch.of(training), Batch.of(validation)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    generator = torch.Generator().manual_seed(seed)
    losses: list[float] = []
    best, best_step, kept = float("inf"), 0, copy.deepcopy(model.state_dict())
    for step in range(1, steps + 1):
        drawn = torch.randint(len(batches.items), (BATCH,), generator=generator)
        batch = batches.rows(drawn)
        loss = F.binary_cross_entropy_with_logits(model(batch), batch.answers.float())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        if step % EVERY == 0:
            with evaluating(model):
                found = F.binary_cross_entropy_with_logits(
                    model(judged), judged.answers.float()
                ).item()
            if found < best:
                best, best_step, kept = found, step, copy.deepcopy(model.state_dict())
    model.load_state_dict(kept)
    return Fitted(model.eval(), losses, best_step)


def probabilities(model: Tracer, log: Log) -> Float[np.ndarray, "n_learners length"]:
    """How probable a right answer is to each question of a log, from the answers before it."""
    with evaluating(model):
        return torch.sigmoid(model(Batch.of(log))).double().numpy()
