"""Writing with a language model: what is drawn from its scores, and how much it repeats itself."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from attn_tutorial.language_model import CausalLanguageModel, Tokens
from attn_tutorial.training import evaluating

Scores = Float[Tensor, "batch n_tokens"]


def truncated(scores: Scores, *, n_best: int | None = None, nucleus: float | None = None) -> Scores:
    """The scores of the likeliest tokens; minus infinity for all others.

    Parameters
    ----------
    scores : float tensor, shape (batch, n_tokens)
    n_best : int, optional
        Keep so many tokens ("top-k").
    nucleus : float, optional
        Keep the fewest tokens whose probabilities sum to this much or more ("top-p").

    Returns
    -------
    float tensor, shape (batch, n_tokens)

    Raises
    ------
    ValueError
        Where n_best is less than one, or nucleus no share above zero.

    References
    ----------
    Fan, Lewis and Dauphin (2018), "Hierarchical Neural Story Generation", ACL, for the first.
    Holtzman et al. (2020), "The Curious Case of Neural Text Degeneration", ICLR, for the second.
    """
    ordered, order = scores.sort(dim=-1, descending=True, stable=True)
    keep = torch.ones_like(ordered, dtype=torch.bool)
    if n_best is not None:
        if n_best < 1:
            raise ValueError(f"n_best must be at least 1; got {n_best}")
        keep[:, n_best:] = False
    if nucleus is not None:
        if not 0 < nucleus <= 1:
            raise ValueError(f"nucleus must be a share above 0, at most 1; got {nucleus}")
        chances = ordered.softmax(dim=-1)
        keep &= chances.cumsum(dim=-1) - chances < nucleus  # what stands before is not enough yet
    return torch.full_like(scores, -torch.inf).scatter(
        1, order, ordered.masked_fill(~keep, -torch.inf)
    )


def sample(
    model: CausalLanguageModel,
    prompt: Tokens,
    *,
    n_new: int,
    temperature: float = 1.0,
    n_best: int | None = None,
    nucleus: float | None = None,
    generator: torch.Generator | None = None,
) -> Tokens:
    """Go on with a prompt by drawing from the truncated scores, in evaluation mode.

    Parameters
    ----------
    model : CausalLanguageModel
    prompt : int tensor, shape (batch, n), n >= 1
    n_new : int
        How many tokens to write.
    temperature : float
        What the scores are divided by, before they are truncated.
    n_best, nucleus
        As in `truncated`.
    generator : torch.Generator, optional

    Returns
    -------
    int tensor, shape (batch, n + n_new)

    Raises
    ------
    ValueError
        Where the temperature is not positive.
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be positive; got {temperature}")
    with evaluating(model):
        caches, tokens, new = model.new_caches(), prompt, prompt
        for _ in range(n_new):
            logits, _ = model(new, caches=caches)
            scores = truncated(logits[:, -1] / temperature, n_best=n_best, nucleus=nucleus)
            new = torch.multinomial(scores.softmax(dim=-1), 1, generator=generator)  # (batch, 1)
            tokens = torch.cat([tokens, new], dim=1)
    return tokens


def repeated(tokens: Sequence[int], length: int = 4) -> float:
    """The share of the n-grams of a sequence that stood in it before.

    Parameters
    ----------
    tokens : sequence of int
    length : int
        How many tokens an n-gram has.

    Raises
    ------
    ValueError
        Where the sequence is shorter than an n-gram.
    """
    grams = [tuple(tokens[i : i + length]) for i in range(len(tokens) - length + 1)]
    if not grams:
        raise ValueError(f"tokens must be {length} or more; got {len(tokens)}")
    return 1 - len(set(grams)) / len(grams)
