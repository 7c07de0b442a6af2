"""One small causal model with six ways to know positions, trained on short questions only."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn import functional as F

from attn_tutorial import attention
from attn_tutorial.frontier.data_and_generalization.tasks import (
    N_TOKENS,
    Tokens,
    answer_loss,
    draw,
    exactly_right,
)
from attn_tutorial.masks import causal_mask
from attn_tutorial.models import FeedForward
from attn_tutorial.positions import alibi_bias, relative_positions, rotate, sinusoidal_positions
from attn_tutorial.training import warmed_up_rate

SCHEMES = ("none", "sinusoidal", "learned", "relative", "rotary", "ALiBi")
D_MODEL, N_HEADS, N_LAYERS = 32, 4, 2
FARTHEST = 12  # "relative" takes all distances from here on for one
LONGEST = 128  # rows in the table of "learned"

TRAINED = (1, 6)  # the lengths of the questions in training
LENGTHS = (3, 6, 7, 8, 10, 12, 18)  # in the test
N_TEST = 200
STEPS, BATCH, PEAK, WARM_UP = 500, 32, 4e-3, 50
SEEDS = (0, 1, 2)
FIRST_STEPS = 40  # what the chapter repeats

Vectors = Float[Tensor, "batch n d_model"]


class PositionedLayer(nn.Module):
    """Causal self-attention and a feed-forward network in pre-norm residual frames.

    Parameters
    ----------
    scheme : string
        One of `SCHEMES`. "relative" has a learned number for each head and distance, added to the
        scores; "rotary" turns queries and keys; "ALiBi" subtracts a price for distance. The others
        do nothing here.

    References
    ----------
    Raffel et al. (2020), "Exploring the Limits of Transfer Learning with a Unified Text-to-Text
    Transformer", JMLR, section 2.1, for the form of "relative". Su et al. (2021) and Press et al.
    (2022) for the others: see `attn_tutorial.positions`.
    """

    def __init__(self, scheme: str) -> None:
        super().__init__()
        self.scheme = scheme
        self.before_attention, self.before_feed_forward = (nn.LayerNorm(D_MODEL) for _ in range(2))
        self.project = nn.Linear(D_MODEL, 3 * D_MODEL, bias=False)
        self.combine = nn.Linear(D_MODEL, D_MODEL, bias=False)
        self.feed_forward = FeedForward(D_MODEL, 2 * D_MODEL)
        if scheme == "relative":
            self.by_distance = nn.Parameter(torch.zeros(N_HEADS, FARTHEST + 1))

    def mask(self, n: int) -> Tensor:
        """What `attention` takes as its mask: boolean (n, n), or numbers (n_heads, n, n)."""
        causal = torch.from_numpy(causal_mask(n, n))
        if self.scheme == "relative":
            distance = torch.from_numpy(np.clip(-relative_positions(n, n), 0, FARTHEST))
            bias = self.by_distance[:, distance]  # (n_heads, n, n)
        elif self.scheme == "ALiBi":
            bias = torch.from_numpy(alibi_bias(N_HEADS, n, n)).float()
        else:
            return causal
        return torch.where(causal, bias, -math.inf)

    def queries_keys_values(self, x: Vectors) -> tuple[Tensor, Tensor, Tensor]:
        """Each of shape (batch, n_heads, n, d_head), turned where the scheme turns."""
        batch, n, _ = x.shape
        projected = self.project(self.before_attention(x)).view(batch, n, 3, N_HEADS, -1)
        query, key, value = projected.permute(2, 0, 3, 1, 4)
        if self.scheme == "rotary":
            query, key = rotate(query), rotate(key)
        return query, key, value

    def forward(self, x: Vectors) -> Vectors:
        """Vectors (batch, n, d_model) to vectors of that shape."""
        query, key, value = self.queries_keys_values(x)
        heads, _ = attention(query, key, value, mask=self.mask(x.shape[1]))
        x = x + self.combine(heads.transpose(1, 2).flatten(2))
        return x + self.feed_forward(self.before_feed_forward(x))


class PositionedModel(nn.Module):
    """Predicts each token from those before it.

    Parameters
    ----------
    scheme : string
        "none": only the causal mask tells the order. "sinusoidal" and "learned" add a vector to
        each token's. The others act inside the layers.

    Raises
    ------
    ValueError
        Where there is no such scheme.
    """

    def __init__(self, scheme: str) -> None:
        super().__init__()
        if scheme not in SCHEMES:
            raise ValueError(f"scheme must be one of {', '.join(SCHEMES)}; got {scheme!r}")
        self.scheme = scheme
        self.embedding = nn.Embedding(N_TOKENS, D_MODEL)
        if scheme == "sinusoidal":
            waves = torch.from_numpy(sinusoidal_positions(LONGEST, D_MODEL)).float()
            self.register_buffer("table", waves)  # (LONGEST, d_model)
        elif scheme == "learned":  # rows that training does not reach stay as they are drawn
            self.table = nn.Parameter(0.02 * torch.randn(LONGEST, D_MODEL))
        self.layers = nn.Sequential(*(PositionedLayer(scheme) for _ in range(N_LAYERS)))
        self.norm = nn.LayerNorm(D_MODEL)
        self.output = nn.Linear(D_MODEL, N_TOKENS)

    def forward(self, tokens: Tokens) -> Float[Tensor, "batch n n_tokens"]:
        """Scores of each token to be next; position i depends on tokens 0 to i."""
        n = tokens.shape[1]
        if n > LONGEST:
            raise ValueError(f"tokens must be at most {LONGEST} in a row; got {n}")
        x = self.embedding(tokens)  # (batch, n, d_model)
        if self.scheme in ("sinusoidal", "learned"):
            x = x + self.table[:n]
        return self.output(self.norm(self.layers(x)))


def fit(
    task: str,
    scheme: str,
    seeds: Sequence[int] = SEEDS,
    *,
    trained: tuple[int, int] = TRAINED,
    steps: int = STEPS,
    stop: int | None = None,
) -> tuple[list[PositionedModel], Float[np.ndarray, "n_seeds steps"]]:
    """A model for each seed, trained on short questions.

    The models are trained side by side, each as it would be alone: so small, they cost hardly more
    together than one.

    Parameters
    ----------
    task, scheme : strings
    seeds : ints
        Of the parameters and of the examples.
    trained : (int, int)
        The least and the greatest length in training.
    steps : int
        Decides what is drawn.
    stop : int, optional
        After how many of the steps to stop; by default after all.

    Returns
    -------
    models : list of PositionedModel
    losses : float array, shape (n_seeds, number of steps made)
        Of each step's batch, before the step.
    """
    models, examples = [], []
    for seed in seeds:
        torch.manual_seed(seed)
        models.append(PositionedModel(scheme))
        examples.append(draw(task, BATCH * steps, lengths=trained, seed=seed))
    # One width for all seeds: padding is not read.
    width = max(tokens.shape[1] for tokens in examples)
    padded = torch.stack([F.pad(tokens, (0, width - tokens.shape[1])) for tokens in examples])
    batches = padded.view(len(seeds), steps, BATCH, width)
    parameters, buffers = stack_module_state(models)  # each with a first axis, the seeds

    def loss(own: dict, table: dict, tokens: Tokens) -> Tensor:
        def model(rows: Tokens) -> Tensor:
            return functional_call(models[0], (own, table), (rows,))

        return answer_loss(model, tokens)

    optimizer = torch.optim.AdamW(parameters.values(), weight_decay=0.0)
    losses = []
    for step in range(steps if stop is None else stop):
        each = vmap(loss)(parameters, buffers, batches[:, step])  # (n_seeds,)
        optimizer.zero_grad()
        each.sum().backward()
        for group in optimizer.param_groups:
            group["lr"] = warmed_up_rate(step + 1, peak=PEAK, warm_up=WARM_UP)
        optimizer.step()
        losses.append(each.detach().numpy())
    with torch.no_grad():
        for i, model in enumerate(models):
            for name, parameter in model.named_parameters():
                parameter.copy_(parameters[name][i])
    return models, np.stack(losses, axis=1)


def first_loss(task: str, scheme: str) -> float:
    """The mean loss in the last twenty of the first `FIRST_STEPS` steps of seed 0."""
    _, losses = fit(task, scheme, (0,), stop=FIRST_STEPS)
    return float(losses[0, -20:].mean())


def by_length(model: nn.Module, task: str) -> list[float]:
    """The share of exactly right answers at each of `LENGTHS`, to the same new questions always."""
    return [
        exactly_right(model, draw(task, N_TEST, lengths=(n, n), seed=77)).double().mean().item()
        for n in LENGTHS
    ]
