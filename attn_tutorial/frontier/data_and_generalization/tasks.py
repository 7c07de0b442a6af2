"""Tasks with exact answers, for sequences of any length: copy, sort, count and parity.

An example is one row of tokens: "begin", the question, "=", the answer, "end", then padding. The
answer follows from the question by a rule that does not know how long it is. So a model that was
trained on short questions can be asked long ones, and every answer is right or wrong.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from attn_tutorial.training import evaluating

PAD, BEGIN, EQUALS, END, ZERO = 0, 1, 2, 3, 4
TASKS = ("copy", "sort", "count", "parity")
N_SYMBOLS = {"copy": 8, "sort": 8, "count": 2, "parity": 2}
N_TOKENS = ZERO + max(N_SYMBOLS.values())

Tokens = Int[Tensor, "batch width"]


def answer(task: str, question: Int[np.ndarray, " n"]) -> Int[np.ndarray, " m"]:
    """What is right.

    Parameters
    ----------
    task : string
        "copy": the question; "sort": its symbols in rising order; "count": as many ones as it has;
        "parity": a single symbol, 1 where the number of ones is odd.
    question : int array, shape (n,)
        Symbols from 0 on.

    Returns
    -------
    int array, shape (m,)

    Raises
    ------
    ValueError
        Where there is no such task.
    """
    _check_task(task)
    if task == "copy":
        return question.copy()
    if task == "sort":
        return np.sort(question)
    if task == "count":
        return np.ones(question.sum(), dtype=question.dtype)
    return question.sum(keepdims=True) % 2


def write(task: str, questions: list[Int[np.ndarray, " n"]]) -> Tokens:
    """Questions with their answers as rows of tokens.

    Parameters
    ----------
    task : string
    questions : list of int arrays
        Of any lengths.

    Returns
    -------
    int64 tensor, shape (batch, width)
        Shorter rows are padded behind "end".
    """
    rows = [
        [BEGIN, *(question + ZERO), EQUALS, *(answer(task, question) + ZERO), END]
        for question in questions
    ]
    tokens = torch.full((len(rows), max(map(len, rows))), PAD)
    for row, filled in zip(rows, tokens, strict=True):
        filled[: len(row)] = torch.tensor(row)
    return tokens


def draw(task: str, n: int, *, lengths: tuple[int, int], seed: int) -> Tokens:
    """Examples with questions drawn at random.

    Parameters
    ----------
    task : string
    n : int
        How many examples.
    lengths : (int, int)
        The least and the greatest length of a question; all between are equally likely.
    seed : int

    Returns
    -------
    int64 tensor, shape (n, width)

    Raises
    ------
    ValueError
        Where there is no such task, or the lengths are none.
    """
    _check_task(task)
    least, greatest = lengths
    if not 1 <= least <= greatest or n < 1:
        raise ValueError(
            f"n and lengths must be 1 or more, the least length first; got {n} and {lengths}"
        )
    rng = np.random.default_rng((seed, least, greatest))
    sizes = rng.integers(least, greatest + 1, size=n)
    return write(task, [rng.integers(N_SYMBOLS[task], size=size) for size in sizes])


def belongs_to_answer(tokens: Tokens) -> Bool[Tensor, "batch width"]:
    """Which tokens are to be predicted: those of the answer, and the "end" behind it."""
    behind = (tokens == EQUALS).cumsum(dim=1) > 0  # (batch, width), from "=" on
    return behind & (tokens != EQUALS) & (tokens != PAD)


def answer_loss(model: nn.Module, tokens: Tokens) -> Float[Tensor, ""]:
    """The mean cross-entropy of the tokens of the answers, in nats."""
    logits = model(tokens[:, :-1])  # (batch, width - 1, n_tokens)
    wanted = tokens[:, 1:].masked_fill(~belongs_to_answer(tokens)[:, 1:], PAD)
    return F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), ignore_index=PAD)


def exactly_right(model: nn.Module, tokens: Tokens) -> Bool[Tensor, " batch"]:
    """Which answers a model writes without any mistake, when it writes greedily.

    One pass is enough. The model reads the right answer, and each token has to be the likeliest
    behind the right ones before it: if that holds everywhere, greedy writing gives just this
    answer, and if not, it leaves it at the first place where it does not hold.

    Returns
    -------
    bool tensor, shape (batch,)
    """
    with evaluating(model):
        guesses = model(tokens[:, :-1]).argmax(dim=-1)  # (batch, width - 1)
    right = (guesses == tokens[:, 1:]) | ~belongs_to_answer(tokens)[:, 1:]
    return right.all(dim=1)


def _check_task(task: str) -> None:
    if task not in TASKS:
        raise ValueError(f"task must be one of {', '.join(TASKS)}; got {task!r}")
