"""How the language models are trained, and how many bits they need for a text."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from attn_tutorial.applications.language_model.data import (
    END,
    BytePairs,
    Characters,
    Document,
    Stream,
    load_documents,
    n_characters,
    split,
    stream,
)
from attn_tutorial.applications.language_model.models import CONTEXT, Kind, build
from attn_tutorial.attribution import uniform_weights
from attn_tutorial.language_model import next_token_loss
from attn_tutorial.training import History, evaluating, train

N_TOKENS = 2048
STEPS, BATCH_SIZE, WARM_UP = 800, 8, 100
PEAKS = {"Transformer": 1.2e-2, "GRU": 1.6e-2}  # chosen on the validation part
KEPT = {"test": 6, "validation": 12}  # one document of so many is kept


@dataclass(frozen=True)
class Part:
    """Documents and their tokens, one document behind the other."""

    documents: list[Document]
    tokens: Stream

    @property
    def n_characters(self) -> int:
        """How many characters it has; the end of a document counts as one."""
        return n_characters(self.documents)

    @property
    def document_of(self) -> Int[np.ndarray, " n"]:
        """The number of the document that each token is from; its `END` belongs to it."""
        ends = self.tokens == END
        return ends.cumsum() - ends


@dataclass(frozen=True)
class Data:
    """The parts, and how their texts were cut into tokens."""

    parts: dict[str, Part]
    tokens: Characters | BytePairs


def load_parts(documents: Sequence[Document] | None = None) -> Data:
    """The data, cut into byte pairs; of validation and test part a smaller share.

    Parameters
    ----------
    documents : sequence of Document, optional
        By default read from the libraries, which takes seconds.
    """
    found = split(load_documents() if documents is None else documents)
    kept = {name: part[:: KEPT.get(name, 1)] for name, part in found.items()}
    texts = [document.text for document in kept["training"]]
    return cut(kept, BytePairs(texts, N_TOKENS))


def cut(parts: dict[str, list[Document]], tokens: Characters | BytePairs) -> Data:
    """The data, cut into tokens in another way."""
    return Data({name: Part(part, stream(part, tokens)) for name, part in parts.items()}, tokens)


def windows(tokens: Stream, length: int = CONTEXT) -> Int[Tensor, "n length_and_one"]:
    """Pieces of a text to train on: each begins with the token that the one before ended with.

    Returns
    -------
    int64 tensor, shape (n, length + 1)
        What is left at the end of the text is left out.
    """
    every = np.lib.stride_tricks.sliding_window_view(tokens, length + 1)[::length]
    return torch.from_numpy(every.copy())


def linear_decay(steps: int) -> Callable[..., float]:
    """A learning rate that rises in a straight line to its peak, and falls in one to zero."""

    def rate(step: int, *, peak: float, warm_up: int) -> float:
        return peak * min(step / warm_up, (steps + 1 - step) / (steps + 1 - warm_up))

    rate.__name__ = f"linear_decay_{steps}"
    return rate


def fit(
    kind: Kind,
    seed: int,
    data: Data,
    *,
    equal: bool = False,
    steps: int = STEPS,
    stop_after: int | None = None,
) -> tuple[nn.Module, History]:
    """Train a model on the training part.

    Parameters
    ----------
    kind : "Transformer" or "GRU"
    seed : int
    data : Data
    equal : bool
        Whether to train with equal weights in place of attention.
    steps : int
        Towards which the learning rate falls.
    stop_after : int, optional
        Take only the first of these steps.

    Returns
    -------
    model : module
    history : History
    """
    model = build(kind, len(data.tokens), seed)
    with weights_of(model, equal):
        history = train(
            model,
            next_token_loss,
            (windows(data.parts["training"].tokens),),
            steps=steps if stop_after is None else stop_after,
            batch_size=BATCH_SIZE,
            peak=PEAKS[kind],
            warm_up=min(WARM_UP, steps // 2),
            schedule=linear_decay(steps),
            seed=seed,
        )
    return model, history


def weights_of(model: nn.Module, equal: bool) -> contextlib.AbstractContextManager:
    """A context with equal weights, or one that changes nothing."""
    return uniform_weights(model) if equal else contextlib.nullcontext()


def probabilities(
    model: nn.Module, tokens: Stream, *, equal: bool = False, length: int = CONTEXT
) -> Float[np.ndarray, " n"]:
    """The probability that a model gives to each token of a text.

    The text is read in windows that overlap by half, and the second half of each counts, so that a
    token is predicted from at least half a window, where there is as much before it.

    Parameters
    ----------
    model : module
    tokens : int64 array, shape (n,)
        In front of them one `END` is assumed.
    equal : bool
        Whether attention is replaced by equal weights.
    length : int
        Of a window; even.

    Returns
    -------
    float64 array, shape (n,)
    """
    half, n = length // 2, len(tokens)
    n_windows = max(-(-n // half) - 1, 1)
    padded = np.full((n_windows + 1) * half + 1, END)
    padded[1 : n + 1] = tokens
    every = torch.from_numpy(
        np.lib.stride_tricks.sliding_window_view(padded, length + 1)[::half].copy()
    )  # (n_windows, length + 1)
    found = []
    with evaluating(model), weights_of(model, equal):
        for batch in every.split(64):
            logits, _ = model(batch[:, :-1])  # (batch, length, n_tokens)
            losses = F.cross_entropy(logits.mT, batch[:, 1:], reduction="none")
            found.append(losses)  # (batch, length)
    losses = torch.cat(found).double().numpy()
    return np.exp(-np.concatenate([losses[0, :half], losses[:, half:].ravel()])[:n])


def bits_per_character(chances: Float[np.ndarray, " n"], part: Part) -> float:
    """How many bits a text needs where each token costs minus the logarithm of its probability.

    Parameters
    ----------
    chances : float64 array, shape (n,)
        The probability of each token of the part.
    part : Part
    """
    if chances.shape != part.tokens.shape:
        raise ValueError(
            f"chances must be one for each of {len(part.tokens)} tokens; got {chances.shape}"
        )
    return float(-np.log2(chances).sum() / part.n_characters)


def bits_of_documents(
    chances: Float[np.ndarray, " n"], part: Part
) -> Float[np.ndarray, " n_documents"]:
    """The bits of each document."""
    return np.bincount(part.document_of, weights=-np.log2(chances))
