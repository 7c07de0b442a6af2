"""Summaries of texts, chosen or written, by models that never read a text of the same library.

A chooser takes one sentence of the text, by the weights of a learned query over sentences. A
generator writes words, and points at words of the text where a pointer says so. Both are measured
by ROUGE against the summary that the author of the text wrote.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from attn_tutorial.applications.measuring import over_seeds
from attn_tutorial.applications.results import Results, System, versions
from attn_tutorial.applications.summarization.baselines import (
    centroid,
    longest,
    manners,
    rouge,
    text_rank,
    text_scores,
)
from attn_tutorial.applications.summarization.data import Document, Words, words_of
from attn_tutorial.applications.summarization.models import Generator
from attn_tutorial.applications.summarization.training import (
    Data,
    Part,
    choice_scores,
    chosen,
    cut_scores,
    fit_chooser,
    fit_generator,
    load_parts,
    shuffled,
    summaries,
)
from attn_tutorial.parameter_kinds.data import PARTS

SEEDS = (0, 1, 2)
FIRST_LOSSES = 8
SIMPLE = {"longest sentence": longest, "tf-idf centroid": centroid, "TextRank": text_rank}
PARTS_OF_CHOOSER = ("training", "validation", "test")
QUANTILES = (0.02, 0.25, 0.5, 0.75, 0.98)
LIBRARIES = (*(name for part in PARTS.values() for name in part), "rouge-score", "torch")


def measure() -> Results:
    """Train and test all systems."""
    data = load_parts()
    test = data.parts["test"]
    systems: dict[str, System] = _simple(data)
    more: dict = {"oracle": choice_scores(test, test.rouge[..., 2].argmax(dim=1))}
    _choosers(data.parts, systems, more)
    _generators(data, systems, more)
    more["words"] = {
        "known": data.words.n_known,
        "unknown in summaries": _unknown(test.documents, data.words),
    }
    return Results(
        task="Summarize a text in one line",
        data="Docstrings of seven Python libraries: the description, and the summary above it",
        origin="real",
        split="By library; no text and no summary stands in two parts",
        metric="ROUGE-L",
        higher_is_better=True,
        n_training=len(data.parts["training"].documents),
        n_test=len(test.documents),
        seeds=list(SEEDS),
        systems=systems,
        libraries=versions(*LIBRARIES),
        more=more,
    )


def _simple(data: Data) -> dict[str, System]:
    test = data.parts["test"]
    first = [0] * len(test.documents)
    choices = {"first sentence": first}
    for name, choose in SIMPLE.items():
        choices[name] = [choose(d.sentences, data.tfidf) for d in test.documents]
    scores = {name: choice_scores(test, choice) for name, choice in choices.items()}
    scores["first 14 words"] = cut_scores(test, first)
    return {name: System("baseline", _lists(one)) for name, one in scores.items()}


def _choosers(parts: dict[str, Part], systems: dict[str, System], more: dict) -> None:
    test = parts["test"]
    settings: dict = {
        "chooser": ("attention", {}),
        "chooser, each sentence alone": ("rival", {"context": False}),
        "chooser, equal weights": ("ablation", {"equal": True}),
    }
    lead = test.rouge[:, 0, 2]
    for name, (role, changed) in settings.items():
        equal = changed.get("equal", False)
        systems[name], models = over_seeds(
            role,
            SEEDS,
            lambda seed, changed=changed: fit_chooser(seed, parts, **changed),
            lambda model, equal=equal: choice_scores(test, chosen(model, test, equal=equal)),
        )
        if name == "chooser":
            choices = [chosen(model, test) for model in models]
            gains = [test.rouge[torch.arange(len(choice)), choice, 2] - lead for choice in choices]
            more["against the first sentence"] = {
                "other sentence": [int((choice != 0).sum()) for choice in choices],
                "better": [int((gain > 0).sum()) for gain in gains],
                "worse": [int((gain < 0).sum()) for gain in gains],
            }
            cut = [cut_scores(test, choice)["ROUGE-L"] for choice in choices]
            more["chooser, first 14 words"] = cut
    mixed = {name: shuffled(parts[name], seed=i) for i, name in enumerate(PARTS_OF_CHOOSER)}
    n_sentences = test.mask.sum(dim=1, keepdim=True)  # (n, 1)
    by_chance = float((test.rouge[..., 2] / n_sentences).sum(dim=1).mean())
    more["shuffled"] = {"any sentence": [by_chance]}
    for name, (_, changed) in settings.items():
        models = [fit_chooser(seed, mixed, **changed) for seed in SEEDS]
        equal = changed.get("equal", False)
        more["shuffled"][name] = [
            choice_scores(mixed["test"], chosen(model, mixed["test"], equal=equal))["ROUGE-L"]
            for model in models
        ]


def _generators(data: Data, systems: dict[str, System], more: dict) -> None:
    test = data.parts["test"]
    settings: dict = {
        "pointer-generator": ("attention", {}),
        "generator without a pointer": ("ablation", {"points": False}),
        "pointer-generator, equal weights": ("ablation", {"equal": True}),
        "generator without attention": ("rival", {"attends": False, "points": False}),
    }
    more["manners"], more["first losses"] = {}, {}
    for name, (role, changed) in settings.items():
        equal, losses, written = changed.get("equal", False), [], []

        def fit(seed: int, changed=changed, losses=losses) -> Generator:
            model, history = fit_generator(seed, data, **changed)
            losses.append(history.losses[:FIRST_LOSSES])
            return model

        def evaluate(model: Generator, equal=equal, written=written) -> dict[str, float]:
            written.append(summaries(model, test, data.words, equal=equal)[0])
            return text_scores(test.documents, written[-1])

        systems[name], models = over_seeds(role, SEEDS, fit, evaluate)
        more["first losses"][name] = losses[0]
        each = [manners(test.documents, texts, data.words) for texts in written]
        more["manners"][name] = {key: [one[key] for one in each] for key in each[0]}
        if name == "pointer-generator":
            taken_away = summaries(models[0], test, data.words, equal=True)[0]
            more["weights taken away"] = text_scores(test.documents, taken_away)["ROUGE-L"]
            _, _, generated = summaries(models[0], test, data.words)
            more["switch"] = float(generated.mean())
            more["examples"] = examples(models[0], test, data.words)


def examples(model: Generator, part: Part, words: Words) -> list[dict]:
    """What stands at five quantiles of ROUGE-L, among texts of 40 words at most, with weights.

    Returns
    -------
    list of dict
        Of "quantile", "library", "text", "summary", "written", "rouge", "weights" (n_target,
        n_source) and "generated" (n_target,).
    """
    texts, weights, generated = summaries(model, part, words)
    short = [i for i, d in enumerate(part.documents) if len(words_of(d.text)) <= 40]
    scores = {i: rouge(part.documents[i].summary, texts[i])[2] for i in short}
    order = sorted(short, key=lambda i: scores[i])
    found = []
    for quantile in QUANTILES:
        i = order[round(quantile * (len(order) - 1))]
        document, n = part.documents[i], len(texts[i].split())
        source = words_of(document.text)
        found.append(
            {
                "quantile": quantile,
                "library": document.library,
                "text": document.text,
                "summary": document.summary,
                "written": texts[i],
                "rouge": scores[i],
                "weights": np.round(weights[i, :n, : len(source)].numpy(), 3).tolist(),
                "generated": np.round(generated[i, :n].numpy(), 3).tolist(),
            }
        )
    return found


def _unknown(documents: Sequence[Document], words: Words) -> float:
    """The share of the summaries' words that a model does not know."""
    all_words = [word for document in documents for word in words_of(document.summary)]
    return float(np.mean([words.number[word] >= words.n_known for word in all_words]))


def _lists(scores: dict[str, float]) -> dict[str, list[float]]:
    return {name: [score] for name, score in scores.items()}
