"""Text classification: reviews in which order matters, and the intents of customers.

Every system is trained on both tasks, each with a model of its own. The validation parts chose the
settings and the best step; what is reported is measured on the test parts.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from functools import cache
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn

from attn_tutorial.applications.measuring import over_seeds
from attn_tutorial.applications.results import Results, System, versions
from attn_tutorial.applications.text_classification.data import (
    PARTS,
    Text,
    draw_pairs,
    draw_reviews,
)
from attn_tutorial.applications.text_classification.models import (
    PAD,
    UNKNOWN,
    AttentionReader,
    Counts,
    RecurrentReader,
    Vocabulary,
)
from attn_tutorial.applications.text_classification.requests import (
    INTENTS,
    draw_out_of_scope,
    draw_requests,
)
from attn_tutorial.attribution import recording, uniform_weights
from attn_tutorial.training import evaluating, train

Kind = Literal["encoder", "encoder without positions", "GRU"]
TaskName = Literal["reviews", "requests"]

SEEDS = (0, 1, 2)
N_PAIRS = 600

# Chosen on the validation parts.
PEAKS = {
    "reviews": {"encoder": 5e-3, "encoder without positions": 5e-3, "GRU": 1e-2},
    "requests": {"encoder": 1e-3, "encoder without positions": 1e-3, "GRU": 3e-3},
}
STEPS = {"reviews": 600, "requests": 200}
UNKNOWN_RATE = {"reviews": 0.0, "requests": 0.1}


class Task(NamedTuple):
    """The texts of one task, and what it takes to read them."""

    name: TaskName
    parts: dict[str, list[Text]]
    vocabulary: Vocabulary
    n_classes: int


@cache
def load_task(name: TaskName) -> Task:
    """Reviews or requests, in three parts.

    The parts of the reviews are: 10,000 for training, half of one clause and half of two; pairs for
    validation and test. Beside the three, "one clause" has reviews of one clause for testing, and
    "out of scope" requests that have no intent.

    Raises
    ------
    ValueError
        Where there is no such task.
    """
    if name == "reviews":
        parts = {
            "training": [
                text for n in (1, 2) for text in draw_reviews("training", 5000, seed=0, n_clauses=n)
            ],
            "validation": draw_pairs("validation", N_PAIRS // 2, seed=0)[0],
            "test": draw_pairs("test", N_PAIRS, seed=0)[0],
            "one clause": draw_reviews("test", N_PAIRS, seed=0, n_clauses=1),
        }
        n_classes = 2
    elif name == "requests":
        parts = {part: draw_requests(part, 20, seed=0) for part in PARTS}
        parts["out of scope"] = draw_out_of_scope(20, seed=0)
        n_classes = len(INTENTS)
    else:
        raise ValueError(f"name must be one of {get_args(TaskName)}; got {name!r}")
    return Task(name, parts, Vocabulary(parts["training"]), n_classes)


def tensors(task: Task, part: str) -> tuple[Int[Tensor, "n longest"], Int[Tensor, " n"]]:
    """The tokens and labels of a part."""
    texts = task.parts[part]
    return task.vocabulary.encode(texts), torch.tensor([text.label for text in texts])


def build(kind: Kind, task: Task, seed: int) -> nn.Module:
    """A model for a task, untrained."""
    if kind not in get_args(Kind):
        raise ValueError(f"kind must be one of {get_args(Kind)}; got {kind!r}")
    torch.manual_seed(seed)
    size = (len(task.vocabulary), task.n_classes)
    if kind == "GRU":
        return RecurrentReader(*size)
    return AttentionReader(*size, positions=kind == "encoder")


def fit(
    kind: Kind,
    task: Task,
    seed: int,
    *,
    equal_weights: bool = False,
    steps: int | None = None,
) -> nn.Module:
    """Train a model; of its validations, the best decides which parameters it keeps.

    Parameters
    ----------
    kind, task, seed
        As in `build`.
    equal_weights : bool
        Whether to train with equal weights in place of attention.
    steps : int, optional
        By default those of `STEPS`.

    Returns
    -------
    module
        In evaluation mode.
    """
    model = build(kind, task, seed)
    rate = UNKNOWN_RATE[task.name]

    def loss(model: nn.Module, tokens: Tensor, labels: Tensor) -> Float[Tensor, ""]:
        unknown = (torch.rand(tokens.shape) < rate) & (tokens != PAD)
        return F.cross_entropy(model(tokens.masked_fill(unknown, UNKNOWN)), labels)

    held_out, wanted = tensors(task, "validation")
    with uniform_weights(model) if equal_weights else contextlib.nullcontext():
        train(
            model,
            loss,
            tensors(task, "training"),
            steps=steps or STEPS[task.name],
            batch_size=64,
            peak=PEAKS[task.name][kind],
            warm_up=50,
            validate=lambda model: F.cross_entropy(model(held_out), wanted).item(),
            validate_every=50,
            seed=seed,
        )
    return model.eval()


# --- scores ----------------------------------------------------------------------------------


def probabilities(model: nn.Module | Counts, task: Task, part: str) -> np.ndarray:
    """The probability of each class, float64 (n, n_classes)."""
    if isinstance(model, Counts):
        return model.probabilities(task.parts[part])
    with evaluating(model):
        return model(tensors(task, part)[0]).double().softmax(-1).numpy()


def right(model: nn.Module | Counts, task: Task, part: str) -> np.ndarray:
    """For each text, whether the most probable class is its label, bool (n,)."""
    wanted = np.array([text.label for text in task.parts[part]])
    return probabilities(model, task, part).argmax(1) == wanted


def evaluate(model: nn.Module | Counts, task: Task) -> dict[str, float]:
    """The scores on the test part.

    Returns
    -------
    dict of float
        Of reviews: the accuracy on the "pairs", the share of pairs with "both right", the accuracy
        on "one clause". Of requests: the accuracy on "intents", and "in or out", the area under the
        curve when the highest probability has to tell requests in scope from those out of scope.

    References
    ----------
    Hendrycks and Gimpel (2017), "A Baseline for Detecting Misclassified and Out-of-Distribution
    Examples in Neural Networks", ICLR, for the highest probability and the area under the curve.
    """
    found = right(model, task, "test")
    if task.name == "requests":
        inside = probabilities(model, task, "test").max(1)
        outside = probabilities(model, task, "out of scope").max(1)
        return {"intents": float(found.mean()), "in or out": in_or_out(inside, outside)}
    return {
        "pairs": float(found.mean()),
        "both right": float(found.reshape(-1, 2).all(1).mean()),
        "one clause": float(right(model, task, "one clause").mean()),
    }


def in_or_out(
    inside: Float[np.ndarray, " n_inside"], outside: Float[np.ndarray, " n_outside"]
) -> float:
    """How often one inside has more than one outside, a tie counting half (AUROC)."""
    is_inside = np.repeat([1, 0], [len(inside), len(outside)])
    return float(roc_auc_score(is_inside, np.concatenate([inside, outside])))


def pooling_weights(
    model: AttentionReader, task: Task, part: str
) -> Float[np.ndarray, "n longest"]:
    """How much the learned query attends to each word, the mean over the heads."""
    with evaluating(model), recording(model) as record:
        model(tensors(task, part)[0])
    return record.weights[-1][:, :, 0].mean(1).numpy()


def share_on_decisive(model: AttentionReader, task: Task, part: str) -> dict[str, float]:
    """Which share of the pooling's weights is on decisive words, and which share such words are."""
    weights = pooling_weights(model, task, part)
    shares, equal = [], []
    for row, text in zip(weights, task.parts[part], strict=True):
        decisive = np.array(text.decisive)
        if decisive.any():
            shares.append(row[: len(decisive)][decisive].sum())
            equal.append(decisive.mean())
    return {"weights": float(np.mean(shares)), "words": float(np.mean(equal))}


# --- the whole measurement -------------------------------------------------------------------


def measure() -> Results:
    """Train every system on both tasks with every seed; score all on the test parts."""
    tasks = [load_task(name) for name in get_args(TaskName)]
    systems, models = {}, {}
    for kind in get_args(Kind):
        systems[kind], models[kind] = _trained(kind, tasks)
    systems["equal weights, trained so"], _ = _trained("encoder", tasks, equal_weights=True)
    replaced = []
    for trained in models["encoder"]:
        with uniform_weights(trained):
            replaced.append(_evaluate_all(trained, tasks))
    systems["weights made equal after training"] = System(
        "ablation", {key: [scores[key] for scores in replaced] for key in replaced[0]}
    )
    counts = {
        kind: {
            task.name: Counts(kind, task.parts["training"], task.parts["validation"])
            for task in tasks
        }
        for kind in ("words and pairs", "words", "neighbour")
    }
    names = {
        "words and pairs": "logistic regression, words and pairs",
        "words": "logistic regression, words",
        "neighbour": "nearest neighbour",
    }
    for kind, by_task in counts.items():
        scores = _evaluate_all(by_task, tasks)
        systems[names[kind]] = System("baseline", {key: [one] for key, one in scores.items()})
    reviews, requests = tasks
    kinds = draw_pairs("test", N_PAIRS, seed=0)[1]
    compared = {**models, names["words and pairs"]: [counts["words and pairs"]]}
    return Results(
        task="Tell praise from blame, and a customer's intent",
        data="Sentences from two generators: reviews in pairs, and requests to a shop",
        origin="generated",
        split="Templates, combinations with a negation, and slot fillers are held out",
        metric="pairs",
        higher_is_better=True,
        n_training=sum(len(task.parts["training"]) for task in tasks),
        n_test=sum(len(task.parts["test"]) for task in tasks),
        seeds=list(SEEDS),
        systems=systems,
        libraries=versions("scikit-learn", "torch"),
        more={
            "by kind of pair": {
                name: _by_kind([one["reviews"] for one in ones], reviews, kinds)
                for name, ones in compared.items()
            },
            "intents by template": {
                name: np.mean(
                    [
                        right(one["requests"], requests, "test").reshape(-1, 20).mean(1)
                        for one in ones
                    ],
                    axis=0,
                ).tolist()
                for name, ones in compared.items()
            },
            "on decisive words": {
                task.name: [
                    share_on_decisive(one[task.name], task, "test") for one in models["encoder"]
                ]
                for task in tasks
            },
            "highest probabilities": {
                part: np.histogram(
                    probabilities(models["encoder"][0]["requests"], requests, part).max(1),
                    bins=20,
                    range=(0, 1),
                )[0].tolist()
                for part in ("test", "out of scope")
            },
            "strengths": {
                names[kind]: {key: one.strength for key, one in by_task.items()}
                for kind, by_task in counts.items()
                if kind != "neighbour"
            },
        },
    )


def _trained(
    kind: Kind, tasks: Sequence[Task], *, equal_weights: bool = False
) -> tuple[System, list[nn.ModuleDict]]:
    def fit_all(seed: int) -> nn.ModuleDict:
        return nn.ModuleDict(
            {task.name: fit(kind, task, seed, equal_weights=equal_weights) for task in tasks}
        )

    def score(trained: nn.ModuleDict) -> dict[str, float]:
        with uniform_weights(trained) if equal_weights else contextlib.nullcontext():
            return _evaluate_all(trained, tasks)

    role = "ablation" if equal_weights else "rival" if kind == "GRU" else "attention"
    return over_seeds(role, SEEDS, fit_all, score)


def _evaluate_all(by_task: nn.ModuleDict | dict, tasks: Sequence[Task]) -> dict[str, float]:
    return {
        key: score for task in tasks for key, score in evaluate(by_task[task.name], task).items()
    }


def _by_kind(models: list, task: Task, kinds: list[str]) -> dict[str, float]:
    """The accuracy on each kind of pair, the mean over the models."""
    per_text = np.mean([right(model, task, "test") for model in models], axis=0)  # (2 · n_pairs,)
    per_pair = per_text.reshape(-1, 2).mean(1)
    return {
        kind: float(per_pair[[one == kind for one in kinds]].mean())
        for kind in dict.fromkeys(kinds)
    }
