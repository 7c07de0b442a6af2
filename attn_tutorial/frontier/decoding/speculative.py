"""Speculative decoding: a small model drafts, the large one judges several drafts at once.

What comes out has exactly the distribution of the large model. A model here is a function of the
tokens so far that gives, at each position, the probabilities of the token that follows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

Chances = Float[Tensor, "*batch n_tokens"]
Model = Callable[[Int[Tensor, " n"]], Float[Tensor, "n n_tokens"]]


def acceptance(target: Chances, draft: Chances) -> Chances:
    """With what probability each token is kept, if the draft model has drawn it.

    One where the target gives it at least as much probability as the draft, otherwise their ratio.

    Parameters
    ----------
    target, draft : float tensors, shape (..., n_tokens)
        Probabilities of the large and of the small model.

    References
    ----------
    Leviathan, Kalman and Matias (2023), "Fast Inference from Transformers via Speculative
    Decoding", ICML. Chen et al. (2023), "Accelerating Large Language Model Decoding with
    Speculative Sampling", arXiv:2302.01318.
    """
    return (target / draft.clamp(min=torch.finfo(draft.dtype).tiny)).clamp(max=1)


def leftover(target: Chances, draft: Chances) -> Chances:
    """From what a token is drawn in place of one that was refused: where the target has more.

    Where the two are equal nothing is ever refused, and the target itself is given.
    """
    excess = (target - draft).clamp(min=0)
    total = excess.sum(dim=-1, keepdim=True)
    return torch.where(total > 0, excess / total.clamp(min=torch.finfo(total.dtype).tiny), target)


def agreement(target: Chances, draft: Chances) -> Float[Tensor, "*batch"]:
    """The probability that a drafted token is kept: what the two distributions have in common."""
    return torch.minimum(target, draft).sum(dim=-1)


def expected_tokens(rate: float, n_draft: int) -> float:
    """How many tokens a round gives on average, if each draft is kept with the same probability.

    Parameters
    ----------
    rate : float, from 0 to 1
    n_draft : int

    References
    ----------
    Leviathan, Kalman and Matias (2023), "Fast Inference from Transformers via Speculative
    Decoding", ICML.
    """
    if not 0 <= rate <= 1:
        raise ValueError(f"rate must be a probability; got {rate}")
    return float(sum(rate**i for i in range(n_draft + 1)))


class Round(NamedTuple):
    """What one look of the large model gave.

    Attributes
    ----------
    tokens : int64 tensor, shape (batch, n_draft + 1)
        The drafts that were kept, one token more, and then −1.
    n_kept : int64 tensor, shape (batch,)
        How many drafts were kept.
    """

    tokens: Int[Tensor, "batch n"]
    n_kept: Int[Tensor, " batch"]


def judge(
    drafted: Int[Tensor, "batch n_draft"],
    draft: Float[Tensor, "batch n_draft n_tokens"],
    target: Float[Tensor, "batch n_draft_and_one n_tokens"],
    *,
    generator: torch.Generator | None = None,
) -> Round:
    """Keep drafts up to the first that is refused, and draw one more token.

    Parameters
    ----------
    drafted : int64 tensor, shape (batch, n_draft)
        Each token was drawn from `draft` at its place.
    draft : float tensor, shape (batch, n_draft, n_tokens)
    target : float tensor, shape (batch, n_draft + 1, n_tokens)
        The large model's probabilities at the same places, and behind the last draft.
    generator : torch.Generator, optional

    Raises
    ------
    ValueError
        Where shapes do not fit.
    """
    batch, n_draft = drafted.shape
    wanted = (batch, n_draft + 1, draft.shape[-1])
    if tuple(draft.shape[:2]) != (batch, n_draft) or tuple(target.shape) != wanted:
        raise ValueError(
            f"draft must have shape (batch, n_draft, n_tokens) = ({batch}, {n_draft}, n_tokens) "
            f"and target one place more; got {tuple(draft.shape)} and {tuple(target.shape)}"
        )
    chances = acceptance(target[:, :-1], draft).gather(-1, drafted[..., None])[..., 0]
    dice = torch.rand(chances.shape, generator=generator, device=chances.device).to(chances)
    kept = (dice < chances).long().cumprod(dim=-1)  # (batch, n_draft): 1 up to the first refusal
    n_kept = kept.sum(dim=-1)  # (batch,)
    # From what the next token is drawn, for every place where the first refusal may be.
    nexts = torch.cat([leftover(target[:, :-1], draft), target[:, -1:]], dim=1)
    here = nexts[torch.arange(batch, device=nexts.device), n_kept]  # (batch, n_tokens)
    following = torch.multinomial(here, 1, generator=generator)  # (batch, 1)
    tokens = torch.cat([drafted.masked_fill(kept == 0, -1), torch.full_like(following, -1)], dim=1)
    return Round(tokens.scatter(1, n_kept[:, None], following), n_kept)


class Written(NamedTuple):
    """A text and what it took to write it.

    Attributes
    ----------
    tokens : int64 tensor, shape (n,)
    n_looks : int
        How often the large model was asked.
    n_drafted : int
        How often the small model was asked.
    """

    tokens: Int[Tensor, " n"]
    n_looks: int
    n_drafted: int


def write(
    target: Model,
    draft: Model,
    prompt: Int[Tensor, " n"],
    *,
    n_new: int,
    n_draft: int,
    generator: torch.Generator | None = None,
) -> Written:
    """Go on with a prompt; the result has the distribution of drawing from the target alone.

    Parameters
    ----------
    target, draft : functions of tokens (n,) that give probabilities (n, n_tokens)
        Row i belongs to the token behind token i.
    prompt : int64 tensor, shape (n,), n >= 1
    n_new : int
        How many tokens to write.
    n_draft : int
        How many tokens are drafted in each round, fewer where not so many are wanted any more.
        With 0 the target writes alone.
    generator : torch.Generator, optional

    Raises
    ------
    ValueError
        Where the prompt is empty, or a number is negative.
    """
    if prompt.ndim != 1 or not len(prompt):
        raise ValueError(f"prompt must have shape (n,), n >= 1; got {tuple(prompt.shape)}")
    if n_new < 0 or n_draft < 0:
        raise ValueError(f"n_new and n_draft must not be negative; got {n_new} and {n_draft}")
    tokens, n_looks, n_drafted = prompt, 0, 0
    end = len(prompt) + n_new
    while len(tokens) < end:
        longer, chances = tokens, []
        n_now = min(n_draft, end - len(tokens) - 1)  # the look itself gives one more
        for _ in range(n_now):
            chances.append(draft(longer)[-1])  # (n_tokens,)
            longer = torch.cat([longer, torch.multinomial(chances[-1], 1, generator=generator)])
        judged = target(longer)[-n_now - 1 :]  # (n_now + 1, n_tokens)
        drafts = torch.stack(chances) if chances else judged[:0]
        found = judge(longer[None, len(tokens) :], drafts[None], judged[None], generator=generator)
        tokens = torch.cat([tokens, found.tokens[0, : found.n_kept[0] + 1]])
        n_looks, n_drafted = n_looks + 1, n_drafted + n_now
    return Written(tokens, n_looks, n_drafted)
