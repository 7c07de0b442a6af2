"""Other sources: train on the docstrings of one library, and ask about those of six others."""

from __future__ import annotations

import collections

import numpy as np

from attn_tutorial.frontier.data_and_generalization.learning import (
    accuracy_on,
    counts_accuracy,
    fit_counts,
    fit_texts,
    some_examples,
)
from attn_tutorial.parameter_kinds.data import PARTS, Example, load_examples, words_of

LIBRARIES = tuple(sorted(library for part in PARTS.values() for library in part))
N_TRAINING, N_VALIDATION, N_TEST = 440, 100, 200
SYSTEMS = ("learned query", "mean", "words and pairs")
SEEDS = (0, 1, 2)
STEPS = 200


def by_library(examples: list[Example]) -> dict[str, list[Example]]:
    """The examples of each library; a text that has several libraries or kinds is left out.

    So what is held out of the own library is as new as what another library has.
    """
    homes: dict[tuple[str, ...], set[tuple[str, str]]] = collections.defaultdict(set)
    first: dict[tuple[str, ...], Example] = {}
    for example in examples:
        words = tuple(words_of(example.text))
        homes[words].add((example.library, example.kind))
        first.setdefault(words, example)
    found: dict[str, list[Example]] = {library: [] for library in LIBRARIES}
    for words, example in first.items():
        if len(homes[words]) == 1:
            found[example.library].append(example)
    return found


def matrices() -> dict[str, list]:
    """Accuracies by system, seed, library of the training and library of the test."""
    libraries = by_library(load_examples())
    found: dict[str, list] = {name: [] for name in SYSTEMS}
    for seed in SEEDS:
        drawn = {
            name: some_examples(examples, N_TRAINING + N_VALIDATION + N_TEST, seed)
            for name, examples in libraries.items()
        }
        tests = [examples[-N_TEST:] for examples in drawn.values()]
        rows: dict[str, list[list[float]]] = {name: [] for name in SYSTEMS}
        for examples in drawn.values():
            own = examples[:N_TRAINING]
            held_out = examples[N_TRAINING : N_TRAINING + N_VALIDATION]
            for name in ("learned query", "mean"):
                fitted = fit_texts(name, own, held_out, seed, steps=STEPS)
                rows[name].append([accuracy_on(*fitted, test) for test in tests])
            counts = fit_counts(own, held_out)
            rows["words and pairs"].append([counts_accuracy(counts, test) for test in tests])
        for name in SYSTEMS:
            found[name].append(rows[name])
    for name in SYSTEMS:
        print(name, np.mean(found[name], axis=0).round(2).tolist(), flush=True)
    return found
