"""Three sources of sequences: a value to be remembered, a chain that copies, and docstrings."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from attn_tutorial.applications.language_model.data import END, Characters, load_documents, split

Tokens = Int[Tensor, "n_sequences n"]

N_VALUES = 8  # what is to be remembered, tokens 0 to 7
QUESTION = N_VALUES  # the last token of each sequence
N_NOISE = 16  # tokens that say nothing
N_RECALL = N_VALUES + 1 + N_NOISE

N_TRIGGERS = 3  # tokens 1 to 3: behind one of them the token before it comes again
N_CHAIN = 25  # token 0 begins each sequence
CONCENTRATION = 0.3  # of the chain's rows: a few followers are likely
SHARE_OF_TRIGGERS = 0.15


def recall_sequences(
    n_sequences: int, n: int, seed: int
) -> tuple[Tokens, Int[Tensor, " n_sequences"], Int[Tensor, " n_sequences"]]:
    """Noise that holds one value somewhere, and a question for it at the end.

    Parameters
    ----------
    n_sequences, n, seed : int
        How many sequences, how long, and what draws them.

    Returns
    -------
    tokens : int64 tensor, shape (n_sequences, n)
    values : int64 tensor, shape (n_sequences,)
        The answers.
    distances : int64 tensor, shape (n_sequences,)
        How many positions the value stands before the question, from 1 to n - 1.
    """
    generator = np.random.default_rng(seed)
    tokens = generator.integers(QUESTION + 1, N_RECALL, (n_sequences, n))
    values = generator.integers(0, N_VALUES, n_sequences)
    distances = generator.integers(1, n, n_sequences)
    tokens[:, -1] = QUESTION
    tokens[np.arange(n_sequences), n - 1 - distances] = values
    return torch.from_numpy(tokens), torch.from_numpy(values), torch.from_numpy(distances)


def chain_sequences(
    n_sequences: int, n: int, seed: int
) -> tuple[Tokens, Float[np.ndarray, "n_sequences n"]]:
    """A Markov chain in which some tokens, the triggers, make the token before them come again.

    The first token is 0, the begin. Which token likely follows which is the same for all seeds.

    Parameters
    ----------
    n_sequences, n, seed : int
        How many sequences, how long with the begin, and what draws them.

    Returns
    -------
    tokens : int64 tensor, shape (n_sequences, n)
    chances : float64 NumPy array, shape (n_sequences, n)
        The probability that each token had, given those before it: no model can know more. It is
        one for the first two, which nothing is asked about.

    References
    ----------
    Guo et al. (2024), "Active-Dormant Attention Heads", arXiv:2410.13835, for the kind of task
    (Bigram-Backcopy).
    """
    followers = _chain()
    bounds = followers.cumsum(axis=1)
    generator = np.random.default_rng(seed)
    tokens = np.zeros((n_sequences, n), dtype=np.int64)
    chances = np.ones((n_sequences, n))
    tokens[:, 1] = generator.integers(N_TRIGGERS + 1, N_CHAIN, n_sequences)
    for i in range(2, n):
        before = tokens[:, i - 1]
        drawn = (generator.random((n_sequences, 1)) > bounds[before]).sum(axis=1)
        drawn = drawn.clip(max=N_CHAIN - 1)
        copies = before <= N_TRIGGERS
        tokens[:, i] = np.where(copies, tokens[:, i - 2], drawn)
        chances[:, i] = np.where(copies, 1.0, followers[before, drawn])
    return torch.from_numpy(tokens), chances


def text_pieces(n: int) -> dict[str, Tokens]:
    """Docstrings in pieces of n characters, each behind a token that begins it.

    Returns
    -------
    dict of int64 tensors, shape (n_pieces, n + 1)
        By "training", "validation" and "test": libraries that differ, as in the chapter on
        language modelling.
    """
    characters, pieces = Characters(), {}
    for part, documents in split(load_documents()).items():
        stream = np.concatenate([[*characters.encode(one.text), END] for one in documents])
        whole = stream[: len(stream) // n * n].reshape(-1, n)
        pieces[part] = torch.from_numpy(np.insert(whole, 0, END, axis=1))
    return pieces


def _chain() -> Float[np.ndarray, "n_tokens n_tokens"]:
    """The probability of each token (column) behind each token (row); the begin comes never."""
    generator = np.random.default_rng(0)
    followers = np.zeros((N_CHAIN, N_CHAIN))
    followers[:, 1:] = generator.dirichlet(np.full(N_CHAIN - 1, CONCENTRATION), size=N_CHAIN)
    followers *= 1 - SHARE_OF_TRIGGERS
    followers[:, 1 : N_TRIGGERS + 1] += SHARE_OF_TRIGGERS / N_TRIGGERS
    return followers
