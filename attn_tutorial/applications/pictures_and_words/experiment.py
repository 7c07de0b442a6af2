"""Pictures and words: questions about scenes by cross-attention, against FiLM and pooling.

The questions come from `scene_questions`, the models from `question_models`. The second part, one
space for pictures and words, is `word_alignment`.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import get_args

import torch
import torch.nn.functional as F
from jaxtyping import Bool
from torch import Tensor, nn

from attn_tutorial.applications.digits import load_parts as load_digits
from attn_tutorial.applications.measuring import over_seeds
from attn_tutorial.applications.pictures_and_words import alignment as word_alignment
from attn_tutorial.applications.pictures_and_words.data import KINDS, PAD, Questions, draw, layouts
from attn_tutorial.applications.pictures_and_words.models import (
    CrossAttention,
    Images,
    Name,
    Words,
    build,
)
from attn_tutorial.applications.results import Results, System, versions
from attn_tutorial.attribution import recording, uniform_weights
from attn_tutorial.training import evaluating, train

SEEDS = (0, 1, 2)
SIZES = {"training": 12000, "validation": 1000, "test": 2000, "new combinations": 2000}
# Chosen on the validation part.
STEPS = {
    "cross-attention": 700,
    "FiLM": 900,
    "pooling": 1200,
    "question only": 400,
    "picture only": 400,
}
PEAKS = {name: 4e-3 if name == "FiLM" else 3e-3 for name in STEPS}


def load_parts() -> dict[str, Questions]:
    """Scenes and questions by part; "new combinations" has the test's digits and layouts.

    Returns
    -------
    dict of Questions
        Of 12000, 1000, 2000 and 2000.
    """
    digits, ways = load_digits(), layouts()
    parts = {}
    for seed, (name, n) in enumerate(SIZES.items()):
        source = name if name in digits else "test"
        parts[name] = draw(digits[source], ways[source], n, seed=seed, new=source != name)
    return parts


# --- training and evaluation -----------------------------------------------------------------


def fit(
    name: Name,
    part: Questions,
    seed: int,
    *,
    equal_weights: bool = False,
    steps: int | None = None,
) -> nn.Module:
    """Train a model on a part.

    Parameters
    ----------
    name, seed
        As in `build`.
    part : Questions
    equal_weights : bool
        Whether to train with equal weights in the cross-attention.
    steps : int, optional
        By default as many as the measurement takes.

    Returns
    -------
    module
        In evaluation mode.
    """
    model = build(name, seed)

    def loss(model: nn.Module, images: Images, words: Words, answers: Tensor) -> Tensor:
        return F.cross_entropy(model(images, words), answers)

    with equal_cross_weights(model) if equal_weights else contextlib.nullcontext():
        train(
            model,
            loss,
            (part.images, part.words, part.answers),
            steps=steps or STEPS[name],
            peak=PEAKS[name],
            warm_up=50,
            seed=seed,
        )
    return model.eval()


def equal_cross_weights(model: CrossAttention) -> contextlib.AbstractContextManager:
    """Within this context every word attends to all cells equally; words still to each other."""
    return uniform_weights(nn.ModuleList(layer.cross_attention for layer in model.layers))


def right(model: nn.Module, part: Questions) -> Bool[Tensor, " n"]:
    """Which questions of a part a model answers rightly."""
    with evaluating(model):
        return model(part.images, part.words).argmax(dim=-1) == part.answers


def evaluate(model: nn.Module, parts: dict[str, Questions]) -> dict[str, float]:
    """The accuracy on the test part, on new combinations, and by kind on the test part."""
    return _scores(
        {name: right(model, parts[name]) for name in ("test", "new combinations")}, parts
    )


def most_frequent(parts: dict[str, Questions]) -> dict[str, float]:
    """The scores of the answer that is most frequent in training for each kind of question."""
    known = parts["training"]
    usual = torch.tensor(
        [
            Counter(known.answers[known.kinds == kind].tolist()).most_common(1)[0][0]
            for kind in range(len(KINDS))
        ]
    )
    return _scores(
        {n: usual[parts[n].kinds] == parts[n].answers for n in ("test", "new combinations")}, parts
    )


def _scores(found: dict[str, Bool[Tensor, " n"]], parts: dict[str, Questions]) -> dict[str, float]:
    by_kind = {
        name: found["test"][parts["test"].kinds == kind].float().mean().item()
        for kind, name in enumerate(KINDS)
    }
    return {
        "accuracy": found["test"].float().mean().item(),
        "new combinations": found["new combinations"].float().mean().item(),
        **by_kind,
    }


def attended(model: CrossAttention, part: Questions) -> dict[str, list[float]]:
    """How much the layers attend to the digit that a neighbour question names, and to its answer.

    Returns
    -------
    dict of list of float
        For the queries "number word" and "<ask>", and the keys "named" and "answer", the weight by
        layer: the mean over the heads and the questions. Equal weights would give 1/9.
    """
    chosen = part.kinds == KINDS.index("neighbour")
    with evaluating(model), recording(model) as record:
        model(part.images[chosen], part.words[chosen])
    cross = [w for n, w in zip(record.names, record.weights, strict=True) if "cross" in n]
    words, rows = part.words[chosen], torch.arange(int(chosen.sum()))
    queries = {"number word": (words != PAD).sum(dim=1) - 1, "<ask>": torch.zeros_like(rows)}
    keys = {"named": part.named[chosen], "answer": part.answered[chosen]}
    return {
        f"{asks} to {key}": [w.mean(dim=1)[rows, query, cell].mean().item() for w in cross]
        for asks, query in queries.items()
        for key, cell in keys.items()
    }


# --- the whole measurement -------------------------------------------------------------------


def measure() -> Results:
    """Train all models with every seed, and align pictures with words; score on the test parts."""
    parts = load_parts()
    systems, models = {}, {}
    for name in get_args(Name):
        role = {"cross-attention": "attention", "FiLM": "rival", "pooling": "rival"}
        systems[name], models[name] = over_seeds(
            role.get(name, "baseline"),
            SEEDS,
            lambda seed, name=name: fit(name, parts["training"], seed),
            lambda model: evaluate(model, parts),
        )
    usual = {metric: [score] for metric, score in most_frequent(parts).items()}
    systems["most frequent answer"] = System("baseline", usual)
    systems["equal weights, trained so"], _ = over_seeds(
        "ablation",
        SEEDS,
        lambda seed: fit("cross-attention", parts["training"], seed, equal_weights=True),
        lambda model: _evaluate_equal(model, parts),
    )
    taken = [_evaluate_equal(model, parts) for model in models["cross-attention"]]
    systems["weights made equal after training"] = System(
        "ablation", {metric: [scores[metric] for scores in taken] for metric in taken[0]}
    )
    found = [attended(model, parts["test"]) for model in models["cross-attention"]]
    return Results(
        task="Answer questions in words about scenes of handwritten digits",
        data="Scikit-learn's handwritten digits, put into scenes; generated questions",
        origin="generated from real",
        split="Other forms of digits, other layouts; also values never named in such questions",
        metric="accuracy",
        higher_is_better=True,
        n_training=SIZES["training"],
        n_test=SIZES["test"],
        seeds=list(SEEDS),
        systems=systems,
        libraries=versions("scikit-learn", "torch", "num2words"),
        more={
            "attended": {key: [one[key] for one in found] for key in found[0]},
            "only one right": _only_one_right(models, parts["test"]),
            "alignment": _alignment(),
        },
    )


def _evaluate_equal(model: CrossAttention, parts: dict[str, Questions]) -> dict[str, float]:
    with equal_cross_weights(model):
        return evaluate(model, parts)


def _only_one_right(models: dict[str, list[nn.Module]], part: Questions) -> dict[str, list[int]]:
    """By seed, how many questions FiLM alone and cross-attention alone answer rightly."""
    both = zip(models["FiLM"], models["cross-attention"], strict=True)
    pairs = [(right(film, part), right(words, part)) for film, words in both]
    return {
        "FiLM": [int((film & ~words).sum()) for film, words in pairs],
        "cross-attention": [int((words & ~film).sum()) for film, words in pairs],
    }


def _alignment() -> dict[str, dict]:
    """What the two towers, the linear map and the baseline score on the test digits."""
    digits = load_digits()
    training, test = digits["training"], digits["test"]
    towers = [word_alignment.fit(training, seed) for seed in SEEDS]
    spaces = [word_alignment.embed(model, test) for model in towers]
    linear = word_alignment.embed_linearly(training, test)
    return {
        "named right": {
            "towers": [word_alignment.named_right(space, test) for space in spaces],
            "canonical correlations": word_alignment.named_right(linear, test),
            "recogniser and spelling": word_alignment.by_spelling(training, test),
        },
        "recall": {
            f"@{k}": {
                "towers": [word_alignment.recall(space, test, k) for space in spaces],
                "canonical correlations": word_alignment.recall(linear, test, k),
            }
            for k in (1, 5)
        },
        "gap": {
            "before": [
                word_alignment.gap(word_alignment.embed(_untrained(seed), test)) for seed in SEEDS
            ],
            "after": [word_alignment.gap(space) for space in spaces],
        },
        "sharpness": [model.log_sharpness.exp().item() for model in towers],
    }


def _untrained(seed: int) -> word_alignment.Towers:
    torch.manual_seed(seed)
    return word_alignment.Towers()
