"""The parts of the data: sentences by their combinations of words, numbers, vocabularies.

Training, validation and test part share no combination of an adjective or a verb with a noun and
none of a time with a place where it matters: each test sentence has one or more that training
never shows.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import numpy as np
import torch
from jaxtyping import Int
from num2words import num2words
from torch import Tensor

from attn_tutorial.applications.translation.grammar import (
    ADJECTIVES,
    FUTURE,
    NOUNS,
    PAST,
    PLACES,
    VERBS,
    Combination,
    Pair,
    Sentence,
    draw_sentence,
    render,
)

PAD, BEGIN, END = 0, 1, 2
LONGEST = 16  # words of the longest English sentence in training
LONGEST_OF_ALL = 26
SIZES = {"training": 6000, "validation": 300, "test": 600, "longer": 300}
SHARES = {"training": 0.7, "validation": 0.1, "test": 0.2}  # of the combinations of two words

COMBINATIONS = {
    "adjective and noun": list(itertools.product(ADJECTIVES, NOUNS)),
    "verb and noun": list(itertools.product(VERBS, NOUNS)),
    "time and place": list(itertools.product({**PAST, **FUTURE}, PLACES)),
}


def combinations_by_part(seed: int = 0) -> dict[str, set[Combination]]:
    """Which combinations of two words each part owns: the same for every run with one seed."""
    rng = np.random.default_rng((seed, 0))
    owned: dict[str, set[Combination]] = {part: set() for part in SHARES}
    for combinations in COMBINATIONS.values():
        shuffled = [combinations[i] for i in rng.permutation(len(combinations))]
        ends = np.round(np.cumsum([0, *SHARES.values()]) * len(shuffled)).astype(int)
        for part, (begin, end) in zip(SHARES, itertools.pairwise(ends), strict=True):
            owned[part].update(shuffled[begin:end])
    return owned


def load_parts(
    seed: int = 0, sizes: dict[str, int] | None = None
) -> dict[str, list[tuple[Sentence, Pair]]]:
    """Sentences by part. No training sentence has a combination that the test part owns.

    Training sentences have none but training's combinations. Each sentence of the validation part
    has one or more that validation owns, and the others are training's; so for the test part, and
    for "longer", whose English sentences have more words than any in training.

    Parameters
    ----------
    seed : int
    sizes : dict of int, optional
        How many sentences each part gets, by default `SIZES`.

    Returns
    -------
    dict of lists of (Sentence, Pair)
        No sentence is there twice.
    """
    sizes = SIZES if sizes is None else sizes
    owned = combinations_by_part(seed)
    rng = np.random.default_rng((seed, 1))
    parts: dict[str, list] = {part: [] for part in sizes}
    seen = set()
    while any(len(parts[part]) < size for part, size in sizes.items()):
        sentence = draw_sentence(rng)
        owners = {
            next(part for part in owned if combination in owned[part])
            for combination in sentence.combinations()
        } - {"training"}
        if len(owners) > 1 or sentence in seen:
            continue
        pair = render(sentence)
        part = owners.pop() if owners else "training"
        if len(pair.source) > LONGEST:
            part = "longer" if part == "test" and len(pair.source) <= LONGEST_OF_ALL else None
        if part in parts and len(parts[part]) < sizes[part]:
            seen.add(sentence)
            parts[part].append((sentence, pair))
    return parts


# --- numbers ---------------------------------------------------------------------------------


def number_pair(number: int) -> Pair:
    """A number in English words and in German pieces, by num2words: "vier hundert drei …".

    Parameters
    ----------
    number : int
        From 1 to 999,999.

    Raises
    ------
    ValueError
        Where the number is out of range.
    """
    if not 1 <= number < 1_000_000:
        raise ValueError(f"number must be from 1 to 999,999; got {number}")
    english = num2words(number).replace(",", "").replace("-", " ").split()
    source = tuple(word for word in english if word != "and")
    return Pair(source, _pieces(num2words(number, lang="de")))


def _pieces(german: str) -> tuple[str, ...]:
    """Cut a German number into the words that it is made of, the longest that fits first."""
    pieces = []
    while german:
        piece = next(piece for piece in PIECES if german.startswith(piece))
        pieces.append(piece)
        german = german[len(piece) :]
    return tuple(pieces)


SIMPLE = [*range(1, 20), *range(20, 100, 10)]
PIECES = sorted(
    {num2words(number, lang="de") for number in SIMPLE} | {"ein", "und", "hundert", "tausend"},
    key=len,
    reverse=True,
)


def load_numbers(seed: int = 0) -> dict[str, list[Pair]]:
    """Numbers by part: those below a thousand and whole thousands, and larger ones for a test.

    Returns
    -------
    dict of lists of Pair
        "training", "validation" and "test": 1400, 100 and 498 different numbers, at random out of
        1 to 999 and 1,000 to 999,000 in steps of a thousand; "larger": 300 numbers that have
        thousands and something behind them. Each word of them occurs in training.
    """
    rng = np.random.default_rng((seed, 2))
    numbers = rng.permutation([*range(1, 1000), *range(1000, 1_000_000, 1000)])
    larger = 1000 * rng.integers(1, 1000, size=300) + rng.integers(1, 1000, size=300)
    cut = {"training": numbers[:1400], "validation": numbers[1400:1500], "test": numbers[1500:]}
    return {
        part: [number_pair(int(number)) for number in members]
        for part, members in {**cut, "larger": np.unique(larger)}.items()
    }


# --- words to numbers ------------------------------------------------------------------------


class Vocabulary:
    """The words of some texts, numbered behind padding, "begin" and "end"."""

    def __init__(self, texts: Iterable[tuple[str, ...]]) -> None:
        words = sorted({word for text in texts for word in text})
        self.words = ["", "<begin>", "<end>", *words]
        self.number = {word: i for i, word in enumerate(self.words)}

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, texts: list[tuple[str, ...]], *, framed: bool = False) -> Int[Tensor, "b n"]:
        """Number the words of texts; framed by "begin" and "end", padded behind.

        Raises
        ------
        ValueError
            Where a word is unknown.
        """
        unknown = {word for text in texts for word in text} - self.number.keys()
        if unknown:
            raise ValueError(f"texts must hold known words only; got {sorted(unknown)}")
        rows = [[self.number[word] for word in text] for text in texts]
        if framed:
            rows = [[BEGIN, *row, END] for row in rows]
        longest = max(map(len, rows))
        return torch.tensor([row + [PAD] * (longest - len(row)) for row in rows])  # (batch, n)

    def decode(self, tokens: Int[Tensor, "batch n"]) -> list[tuple[str, ...]]:
        """The words up to "end" of each row."""
        texts = []
        for row in tokens.tolist():
            kept = itertools.takewhile(lambda token: token != END, row)
            texts.append(tuple(self.words[token] for token in kept if token != PAD))
        return texts
