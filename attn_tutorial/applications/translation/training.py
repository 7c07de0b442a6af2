"""Building and training the translators, and asking a trained one what it writes and reads."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from attn_tutorial.applications.translation.data import (
    BEGIN,
    END,
    PAD,
    Vocabulary,
    load_numbers,
    load_parts,
)
from attn_tutorial.applications.translation.grammar import Pair
from attn_tutorial.applications.translation.models import RecurrentTranslator, Text
from attn_tutorial.attribution import uniform_weights
from attn_tutorial.models import Transformer, greedy_decode, sequence_loss
from attn_tutorial.training import evaluating, train

BATCH_SIZE = 48
WARM_UP = 60
LONGEST_OUTPUT = 48

Translator = RecurrentTranslator | Transformer


class Task(NamedTuple):
    """Pairs by part, and the vocabularies of the training part."""

    parts: dict[str, list[Pair]]
    source: Vocabulary
    target: Vocabulary


@dataclass(frozen=True)
class Settings:
    """How a system is built and trained; chosen on the validation part."""

    role: Literal["attention", "rival", "ablation"]
    d_model: int
    peak: float
    context: Literal["attention", "equal", "last"] | None = None  # None: a Transformer
    steps: int = 300
    equal_weights: bool = False  # only of a Transformer


BAHDANAU, TRANSFORMER = "Bahdanau's model", "Transformer"
LAST, LAST_LONGER = "last state only", "last state only, three times the steps"
SYSTEMS = {
    BAHDANAU: Settings("attention", 48, 7e-3, "attention"),
    TRANSFORMER: Settings("attention", 64, 4e-3),
    LAST: Settings("rival", 64, 7e-3, "last"),
    LAST_LONGER: Settings("rival", 64, 7e-3, "last", steps=900),
    f"{BAHDANAU}, trained with equal weights": Settings("ablation", 48, 7e-3, "equal"),
    f"{TRANSFORMER}, trained with equal weights": Settings(
        "ablation", 64, 4e-3, equal_weights=True
    ),
}


def load_sentences() -> Task:
    """English to Chinese: parts "training", "validation", "test" and "longer"."""
    return _task({name: [pair for _, pair in part] for name, part in load_parts().items()})


def load_number_task() -> Task:
    """English to German numbers: parts "training", "validation", "test" and "larger"."""
    return _task(load_numbers())


def _task(parts: dict[str, list[Pair]]) -> Task:
    training = parts["training"]
    return Task(
        parts,
        Vocabulary(pair.source for pair in training),
        Vocabulary(pair.target for pair in training),
    )


def build(name: str, task: Task) -> Translator:
    """An untrained translator by its name in `SYSTEMS`.

    Raises
    ------
    ValueError
        Where there is no such system.
    """
    if name not in SYSTEMS:
        raise ValueError(f"name must be one of {list(SYSTEMS)}; got {name!r}")
    settings = SYSTEMS[name]
    sizes = (len(task.source), len(task.target))
    if settings.context:
        return RecurrentTranslator(*sizes, d_model=settings.d_model, context=settings.context)
    return Transformer(
        *sizes, d_model=settings.d_model, n_layers=1, d_hidden=2 * settings.d_model, dropout=0.0
    )


def batch_loss(
    model: Translator,
    source: Int[Tensor, "batch n_source"],
    target: Int[Tensor, "batch n_target"],
) -> Float[Tensor, ""]:
    """`sequence_loss` without the columns in which the whole batch has padding."""
    source, target = (rows[:, : int((rows != PAD).sum(dim=1).max())] for rows in (source, target))
    return sequence_loss(model, source, target)


def fit(seed: int, *, name: str, task: Task, steps: int | None = None) -> Translator:
    """Train a system on the training part.

    Parameters
    ----------
    seed : int
    name : str
        A key of `SYSTEMS`.
    task : Task
    steps : int, optional
        By default those of the settings.
    """
    settings = SYSTEMS[name]
    torch.manual_seed(seed)
    model = build(name, task)
    training = task.parts["training"]
    source = task.source.encode([pair.source for pair in training])  # (n, n_source)
    target = task.target.encode([pair.target for pair in training], framed=True)  # (n, n_target)
    with without_weights(model) if settings.equal_weights else contextlib.nullcontext():
        train(
            model,
            batch_loss,
            (source, target),
            steps=steps or settings.steps,
            batch_size=BATCH_SIZE,
            peak=settings.peak,
            warm_up=WARM_UP,
            seed=seed,
        )
    return model


@contextlib.contextmanager
def without_weights(model: Translator) -> Iterator[None]:
    """Within this context the decoder gives every word of the source the same weight.

    The encoder of a Transformer, and its decoder's attention to its own words, stay as they are.
    """
    if isinstance(model, Transformer):
        with uniform_weights(nn.ModuleList(layer.cross_attention for layer in model.decoder)):
            yield
        return
    context = model.context
    model.context = "equal"
    try:
        yield
    finally:
        model.context = context


def translate(model: Translator, sources: list[Text], task: Task) -> list[Text]:
    """Write translations greedily, one for each source."""
    tokens = greedy_decode(
        model,
        task.source.encode(sources),
        begin=BEGIN,
        end=END,
        max_length=LONGEST_OUTPUT,
        use_cache=isinstance(model, Transformer),
    )
    return task.target.decode(tokens)


def cross_weights(
    model: Translator, pairs: list[Pair], task: Task
) -> list[Float[np.ndarray, "n_target n_source"]]:
    """With which weights a model reads the source when it is made to write the true translation.

    Row i is the question asked before word i is written, and the mean over the heads of the
    decoder's last layer. The row of "end" is left out.

    Returns
    -------
    list of float arrays, shape (n_target, n_source), one for each pair
    """
    source = task.source.encode([pair.source for pair in pairs])
    target = task.target.encode([pair.target for pair in pairs], framed=True)
    with evaluating(model):
        _, weights = model.decode(target[:, :-1], *model.encode(source), need_weights=True)
    mean = weights[-1].mean(dim=1).numpy()  # (batch, n_target + 1, n_source)
    return [
        rows[: len(pair.target), : len(pair.source)] for rows, pair in zip(mean, pairs, strict=True)
    ]
