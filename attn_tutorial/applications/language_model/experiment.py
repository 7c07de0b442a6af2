"""Language modelling: a small GPT on docstrings, against n-grams, compressors and a GRU.

All are trained on three libraries and measured on three others, in bits per character, which do not
depend on how a text is cut into tokens. Settings were chosen on a seventh library.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float
from torch import nn

from attn_tutorial.applications.language_model.baselines import (
    COMPRESSORS,
    NGrams,
    compressed_bits,
)
from attn_tutorial.applications.language_model.data import Characters
from attn_tutorial.applications.language_model.looking import (
    WAYS,
    WORD,
    bits_of,
    head_shares,
    mean_repeated,
    new_words,
    prompts,
    repeated_by_people,
    seconds_to_write,
    written,
)
from attn_tutorial.applications.language_model.models import CONTEXT
from attn_tutorial.applications.language_model.training import (
    BATCH_SIZE,
    STEPS,
    Data,
    bits_of_documents,
    bits_per_character,
    cut,
    fit,
    load_parts,
    probabilities,
    windows,
)
from attn_tutorial.applications.measuring import Clock, over_seeds
from attn_tutorial.applications.results import Results, System, versions
from attn_tutorial.parameter_kinds.data import PARTS

SEEDS = (0, 1, 2)
METRIC = "bits per character"
GPT, EQUAL, AFTER = "small GPT", "equal weights, trained so", "weights made equal after training"
NGRAM, CHARACTER_NGRAM = "5-grams of byte pairs", "9-grams of characters"
# Chosen on the validation part: the order of n-grams of byte pairs and of characters.
ORDER, CHARACTER_ORDER = 5, 9
SHORTER = (16, 8, 4, 2)  # parts of the training that a curve is made of
FIRST_LOSSES = 30
N_PROMPTS, PROMPT = 32, 8
LENGTHS = (32, 64, 128, 256, 511)  # of texts that are written against the clock
SHARES = tuple(i / 20 for i in range(21))

Chances = Float[np.ndarray, " n"]


@dataclass
class Kept:
    """What is kept of the training of one system: first losses, and probabilities on the parts."""

    losses: list[list[float]] = field(default_factory=list)
    chances: dict[str, list[Chances]] = field(
        default_factory=lambda: {"validation": [], "test": []}
    )


def measure() -> Results:
    """Train every system with every seed; score all on the test part."""
    data = load_parts()
    test = data.parts["test"]
    systems: dict[str, System] = {}
    trained, kept = {}, {}
    for name, role, kind in (
        (GPT, "attention", "Transformer"),
        ("GRU", "rival", "GRU"),
        (EQUAL, "ablation", "Transformer"),
    ):
        kept[name] = Kept()
        systems[name], trained[name] = _trained(role, kind, data, kept[name], equal=name == EQUAL)
    after = [probabilities(model, test.tokens, equal=True) for model in trained[GPT]]
    systems[AFTER] = _system("ablation", [bits_per_character(one, test) for one in after])

    counted = ngrams(data)
    chances = {part: counted.probabilities(data.parts[part].tokens) for part in kept[GPT].chances}
    by_character = character_scores(data)
    systems[NGRAM] = _system("baseline", [bits_per_character(chances["test"], test)])
    for name, bits in (by_character | compressor_scores(data)).items():
        systems[name] = _system("baseline", [bits])
    return Results(
        task="Predict the next token of a text",
        data="Docstrings of seven Python libraries, at most 1000 characters of each",
        origin="real",
        split="By library; most lines of a text stand in no other",
        metric=METRIC,
        higher_is_better=False,
        n_training=len(data.parts["training"].documents),
        n_test=len(test.documents),
        seeds=list(SEEDS),
        systems=systems,
        libraries=versions(
            "tokenizers", "torch", *(name for part in PARTS.values() for name in part)
        ),
        more={
            "characters": {name: part.n_characters for name, part in data.parts.items()},
            "tokens": {name: len(part.tokens) for name, part in data.parts.items()},
            "first losses": kept[GPT].losses[0],
            "mixture": {name: mixture(one, chances, data) for name, one in kept.items()},
            "documents better than n-grams": [
                better_documents(one, chances["test"], data) for one in kept[GPT].chances["test"]
            ],
            "curve": curve(data),
            "one token a character": one_token_a_character(data),
            "new words": words_not_known(kept, chances["test"], data),
            "heads": [looked_at(model, data) for model in trained[GPT]],
            "writing": writing(trained[GPT], data),
            "seconds to write": {
                "tokens": list(LENGTHS),
                **seconds_to_write(LENGTHS, len(data.tokens)),
            },
        },
    )


def ngrams(data: Data, order: int = ORDER, *, share: float = 1.0) -> NGrams:
    """Kneser-Ney n-grams of a share of the training part's documents, evenly chosen."""
    part = data.parts["training"]
    steps = np.floor(np.arange(len(part.documents) + 1) * share)
    chosen = np.diff(steps) > 0  # (n_documents,)
    return NGrams(part.tokens[chosen[part.document_of]], len(data.tokens), order)


def as_characters(data: Data) -> Data:
    """The same parts, with one token for each character."""
    return cut({name: part.documents for name, part in data.parts.items()}, Characters())


def character_scores(data: Data) -> dict[str, float]:
    """Bits per character of n-grams of characters, on the test part."""
    single = as_characters(data)
    training, test = (single.parts[name] for name in ("training", "test"))
    found = {}
    for name, order, method in (
        (CHARACTER_NGRAM, CHARACTER_ORDER, "Kneser-Ney"),
        ("5-grams of characters, Witten-Bell", 5, "Witten-Bell"),
        ("frequencies of characters", 1, "Witten-Bell"),
    ):
        model = NGrams(training.tokens, len(single.tokens), order, method)
        found[name] = bits_per_character(model.probabilities(test.tokens), test)
    return found


def compressor_scores(data: Data) -> dict[str, float]:
    """Bits per character that a compressor needs for the test part behind the training part."""
    training, test = (
        "".join(document.text + "\0" for document in data.parts[name].documents)
        for name in ("training", "test")
    )
    return {name: compressed_bits(name, training, test) / len(test) for name in COMPRESSORS}


def mixture(kept: Kept, counted: dict[str, Chances], data: Data) -> dict[str, list[float]]:
    """Both probabilities of each token mixed, with the share that is best on the validation part.

    Returns
    -------
    dict of list
        "share" of the small GPT, and "bits per character" on the test part, for each seed.
    """
    found: dict[str, list[float]] = {"share": [], METRIC: []}
    for held_out, wanted in zip(kept.chances["validation"], kept.chances["test"], strict=True):
        share = min(
            SHARES,
            key=lambda share: bits_per_character(
                share * held_out + (1 - share) * counted["validation"], data.parts["validation"]
            ),
        )
        mixed = share * wanted + (1 - share) * counted["test"]
        found["share"].append(share)
        found[METRIC].append(bits_per_character(mixed, data.parts["test"]))
    return found


def better_documents(one: Chances, other: Chances, data: Data) -> int:
    """In how many documents of the test part the first needs fewer bits than the second."""
    part = data.parts["test"]
    return int((bits_of_documents(one, part) < bits_of_documents(other, part)).sum())


def curve(data: Data) -> dict[str, list[float]]:
    """Bits per character on the test part by how many characters were read; small GPT, seed 0."""
    test, n = data.parts["test"], data.parts["training"].n_characters
    each = n / len(data.parts["training"].tokens)  # characters of a token
    found: dict[str, list[float]] = {
        "read": [],
        GPT: [],
        NGRAM: [],
        "seconds": [],
        "validation": [],
    }
    for part in SHORTER:
        clock, steps = Clock(), STEPS // part
        with clock.running():
            model, _ = fit("Transformer", SEEDS[0], data, steps=steps)
        read = steps * BATCH_SIZE * CONTEXT * each
        counted = ngrams(data, share=min(read / n, 1.0))
        found["read"].append(read)
        found["seconds"].append(clock.seconds)
        for name, key in (("test", GPT), ("validation", "validation")):
            held_out = data.parts[name]
            chances = probabilities(model, held_out.tokens)
            found[key].append(bits_per_character(chances, held_out))
        found[NGRAM].append(bits_per_character(counted.probabilities(test.tokens), test))
    return found


def one_token_a_character(data: Data) -> float:
    """Bits per character of a small GPT that reads characters, with as many steps, seed 0."""
    single = as_characters(data)
    model, _ = fit("Transformer", SEEDS[0], single)
    return bits_per_character(
        probabilities(model, single.parts["test"].tokens), single.parts["test"]
    )


def words_not_known(
    kept: dict[str, Kept], counted: Chances, data: Data
) -> dict[str, dict[str, list[float]]]:
    """Bits per character of the test part's new words, at first and when they are repeated."""
    test = data.parts["test"]
    known = {
        word
        for document in data.parts["training"].documents
        for word in WORD.findall(document.text)
    }
    chances = {name: one.chances["test"] for name, one in kept.items()} | {NGRAM: [counted]}
    return {
        when: {
            name: [bits_of(one, chosen, test, data.tokens) for one in seeds]
            for name, seeds in chances.items()
        }
        | {"tokens": [int(chosen.sum())]}
        for when, chosen in new_words(test, data.tokens, known).items()
    }


def looked_at(model: nn.Module, data: Data) -> dict[str, list[list[float]]]:
    """The shares of the heads' weights on the first 64 windows of the test part."""
    tokens = windows(data.parts["test"].tokens)[:64, :-1]
    return head_shares(model, tokens, data.tokens.pieces(range(len(data.tokens))))


def writing(models: list[nn.Module], data: Data) -> dict:
    """How much the models repeat themselves, and what the first of them writes."""
    test = data.parts["test"]
    prompt = prompts(test, N_PROMPTS, PROMPT)
    n_new = CONTEXT - PROMPT
    found = {
        way: [written(model, prompt, way, n_new=n_new, seed=0) for model in models] for way in WAYS
    }
    one = prompt[:1].tolist()[0]
    return {
        "repeated": {way: [mean_repeated(t) for t in texts] for way, texts in found.items()},
        "repeated by people": repeated_by_people(test, n_new),
        "prompt": "".join(data.tokens.pieces(one)),
        "texts": {
            way: "".join(data.tokens.pieces(texts[0][0].tolist())) for way, texts in found.items()
        },
    }


def _trained(
    role: str, kind: str, data: Data, kept: Kept, *, equal: bool
) -> tuple[System, list[nn.Module]]:
    def train_one(seed: int) -> nn.Module:
        model, history = fit(kind, seed, data, equal=equal)
        kept.losses.append(history.losses[:FIRST_LOSSES])
        return model

    def evaluate(model: nn.Module) -> dict[str, float]:
        for name, found in kept.chances.items():
            found.append(probabilities(model, data.parts[name].tokens, equal=equal))
        return {METRIC: bits_per_character(kept.chances["test"][-1], data.parts["test"])}

    return over_seeds(role, SEEDS, train_one, evaluate)


def _system(role: str, bits: list[float]) -> System:
    return System(role, {METRIC: bits})
