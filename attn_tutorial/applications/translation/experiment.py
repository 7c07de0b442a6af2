"""Machine translation, measured: who writes a word asks which words of the source it comes from.

Two tasks: English sentences to Chinese, by a small grammar, and English numbers to German.
"""

from __future__ import annotations

import contextlib
import statistics
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from jaxtyping import Float
from sacrebleu import corpus_bleu, corpus_chrf

from attn_tutorial.applications.measuring import over_seeds
from attn_tutorial.applications.results import Results, System, versions
from attn_tutorial.applications.translation.data import LONGEST
from attn_tutorial.applications.translation.grammar import NOUNS, Pair
from attn_tutorial.applications.translation.models import (
    Text,
    TranslationMemory,
    WordTable,
    alignment_error_rate,
    word_by_word,
)
from attn_tutorial.applications.translation.training import (
    BAHDANAU,
    LAST,
    SYSTEMS,
    TRANSFORMER,
    Task,
    Translator,
    cross_weights,
    fit,
    load_number_task,
    load_sentences,
    translate,
    without_weights,
)

SEEDS = [0, 1, 2]
BINS = [(5, 7), (8, 10), (11, 13), (14, 16), (17, 20), (21, 26)]  # words of the source
MEASURE_WORDS = {measure for measure, _ in NOUNS.values()}
BY_WORD, MEMORY = "word by word", "translation memory"
EXCHANGED = f"{MEMORY}, words exchanged"


def links_of(
    weights: list[Float[np.ndarray, "n_target n_source"]],
) -> list[set[tuple[int, int]]]:
    """Each target word linked to the source word that has the greatest weight."""
    return [set(enumerate(rows.argmax(axis=1).tolist())) for rows in weights]


def right(outputs: list[Text], pairs: list[Pair]) -> list[bool]:
    """Which outputs are the translation, word for word."""
    return [output == pair.target for output, pair in zip(outputs, pairs, strict=True)]


def text_scores(outputs: list[Text], pairs: list[Pair]) -> dict[str, float]:
    """Exact match, BLEU of characters and chrF, of Chinese written without spaces."""
    written = ["".join(words) for words in outputs]
    true = ["".join(pair.target) for pair in pairs]
    return {
        "exact match": float(np.mean(right(outputs, pairs))),
        "BLEU": corpus_bleu(written, [true], tokenize="zh").score,
        "chrF": corpus_chrf(written, [true]).score,
    }


def evaluate(model: Translator, task: Task, part: str, *, align: bool) -> dict[str, float]:
    """`text_scores` on a part, and with `align` the alignment error rate of the weights."""
    pairs = task.parts[part]
    scores = text_scores(translate(model, [pair.source for pair in pairs], task), pairs)
    if align:
        links = links_of(cross_weights(model, pairs, task))
        scores["alignment error rate"] = alignment_error_rate(pairs, links)
    return scores


def by_length(outputs: list[Text], pairs: list[Pair]) -> list[float | None]:
    """The exact match of the sentences in each of `BINS`; None where there is none."""
    correct = right(outputs, pairs)
    shares = []
    for low, high in BINS:
        chosen = [
            hit for hit, pair in zip(correct, pairs, strict=True) if low <= len(pair.source) <= high
        ]
        shares.append(float(np.mean(chosen)) if chosen else None)
    return shares


def what_measure_words_ask(
    weights: list[Float[np.ndarray, "n_target n_source"]], pairs: list[Pair]
) -> dict[str, float]:
    """Where the mean weight of the questions for measure words lies: number, noun, or elsewhere.

    A measure word goes with its noun; it is written behind the number and before the adjective.
    """
    shares = []
    for rows, pair in zip(weights, pairs, strict=True):
        for i, word in enumerate(pair.target):
            if word in MEASURE_WORDS:
                number, noun = sorted(j for k, j in pair.possible if k == i)
                shares.append((rows[i, number], rows[i, noun]))
    number, noun = np.mean(shares, axis=0).tolist()
    return {"number": number, "noun": noun, "elsewhere": 1 - number - noun}


def measure() -> Results:
    """Train all systems on both tasks with all seeds."""
    task = load_sentences()
    pairs = task.parts["test"] + task.parts["longer"]
    sources = [pair.source for pair in pairs]
    systems, lengths, asks, models = {}, {}, {}, {}
    for name, settings in SYSTEMS.items():
        scores_of = partial(
            _scores, task=task, align=settings.role == "attention", equal=settings.equal_weights
        )
        systems[name], models[name] = over_seeds(
            settings.role, SEEDS, partial(fit, name=name, task=task), scores_of
        )
        curves = []
        for model in models[name]:
            with without_weights(model) if settings.equal_weights else contextlib.nullcontext():
                curves.append(by_length(translate(model, sources, task), pairs))
        lengths[name] = [statistics.fmean(values) for values in zip(*curves, strict=True)]
    for name in (BAHDANAU, TRANSFORMER):
        systems[f"{name}, weights equal after training"] = _taken_away(models[name], task)
        asks[name] = _mean_of(
            what_measure_words_ask(
                cross_weights(model, task.parts["test"], task), task.parts["test"]
            )
            for model in models[name]
        )
    counted, curves = _baselines(task, pairs)
    return Results(
        task="Translate English sentences into Chinese",
        data="Sentence pairs with true alignments, from a small grammar",
        origin="generated",
        split="Each test sentence holds a pair of words that no training sentence holds",
        metric="exact match",
        higher_is_better=True,
        n_training=len(task.parts["training"]),
        n_test=len(task.parts["test"]),
        seeds=SEEDS,
        systems=systems | counted,
        libraries=versions("num2words", "numpy", "sacrebleu", "torch"),
        more={
            "bins": [list(edges) for edges in BINS],
            "longest in training": LONGEST,
            "n in bins": [
                sum(low <= len(pair.source) <= high for pair in pairs) for low, high in BINS
            ],
            "by length": lengths | curves,
            "measure words ask": asks,
            "only one right": _disagreements(models, task),
            "numbers": measure_numbers(),
        },
    )


def _scores(model: Translator, *, task: Task, align: bool, equal: bool) -> dict[str, float]:
    with without_weights(model) if equal else contextlib.nullcontext():
        return evaluate(model, task, "test", align=align)


def _taken_away(models: list[Translator], task: Task) -> System:
    """Trained with attention, tested with equal weights."""
    scores = [_scores(model, task=task, align=False, equal=True) for model in models]
    return System("ablation", {key: [score[key] for score in scores] for key in scores[0]})


def _mean_of(dictionaries: Iterator[dict[str, float]]) -> dict[str, float]:
    found = list(dictionaries)
    return {key: statistics.fmean(one[key] for one in found) for key in found[0]}


def counting(task: Task) -> tuple[WordTable, dict[str, Callable[[list[Text]], list[Text]]]]:
    """IBM Model 1 of the training part, and the baselines that are made from it."""
    training = task.parts["training"]
    table = WordTable(training)
    dictionary = table.dictionary(training)
    memory = TranslationMemory(training, table)

    def look_up(sources: list[Text], *, exchange: bool) -> list[Text]:
        return [memory.translate(source, exchange=exchange) for source in sources]

    return table, {
        BY_WORD: partial(word_by_word, dictionary=dictionary),
        MEMORY: partial(look_up, exchange=False),
        EXCHANGED: partial(look_up, exchange=True),
    }


def _baselines(task: Task, pairs: list[Pair]) -> tuple[dict[str, System], dict[str, list[float]]]:
    table, translators = counting(task)
    test = task.parts["test"]
    systems, curves = {}, {}
    for name, write in translators.items():
        scores = text_scores(write([pair.source for pair in test]), test)
        if name == BY_WORD:
            scores["alignment error rate"] = alignment_error_rate(test, table.align(test))
        systems[name] = System("baseline", {key: [score] for key, score in scores.items()})
        curves[name] = by_length(write([pair.source for pair in pairs]), pairs)
    return systems, curves


def _disagreements(models: dict[str, list[Translator]], task: Task) -> list[list[int]]:
    """For each seed, how many test sentences only Bahdanau's model, only the Transformer gets."""
    test = task.parts["test"]
    sources = [pair.source for pair in test]
    counts = []
    for one, other in zip(models[BAHDANAU], models[TRANSFORMER], strict=True):
        first, second = (np.array(right(translate(m, sources, task), test)) for m in (one, other))
        counts.append([int((first & ~second).sum()), int((second & ~first).sum())])
    return counts


def measure_numbers() -> dict[str, dict[str, list[float]]]:
    """Exact match on numbers, of the test part and of the larger ones, by system and seed."""
    task = load_number_task()
    table = WordTable(task.parts["training"])
    dictionary = table.dictionary(task.parts["training"])
    writers = {BY_WORD: [partial(word_by_word, dictionary=dictionary)]}
    for name in (BAHDANAU, TRANSFORMER, LAST):
        models = [fit(seed, name=name, task=task) for seed in SEEDS]
        writers[name] = [partial(translate, model, task=task) for model in models]
    return {
        name: {
            part: [
                float(np.mean(right(write([p.source for p in task.parts[part]]), task.parts[part])))
                for write in write_all
            ]
            for part in ("test", "larger")
        }
        for name, write_all in writers.items()
    }
