"""Questions in words about scenes of handwritten digits: a generator, for `pictures_and_words`.

A scene has three rows and three columns of cells, eight pixels wide. Three or four of the cells
hold a real digit, each of another value; the others are empty. The digits are real; scenes and
questions are generated. Parts differ in their digits (by block, see `digits`) and in which cells
are filled. Some pairs of a kind of question and the value it names are kept for the test.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from random import Random
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from num2words import num2words
from torch import Tensor

from attn_tutorial.applications.digits import Digits

SIDE = 3  # cells in a row, and rows
N_CELLS = SIDE**2
PIXELS = 8  # the side of a cell
NOWHERE = -1

NUMBERS = tuple(num2words(number) for number in range(10))
ROWS = ("top", "middle", "bottom")
COLUMNS = ("left", "middle", "right")
STEPS = {"left of": (0, -1), "right of": (0, 1), "above": (-1, 0), "below": (1, 0)}

Kind = Literal["exists", "row", "column", "cell", "count", "neighbour"]
PHRASES: dict[Kind, tuple[str, ...]] = {
    "exists": ("is there a {}", "do you see a {}", "can you find a {}"),
    "row": ("in which row is the {}", "which row holds the {}", "how high is the {}"),
    "column": ("in which column is the {}", "which column holds the {}", "how far right is the {}"),
    "cell": ("which digit is {}", "what is {}", "which one stands {}"),
    "count": ("how many digits are {}", "how many {} digits are there", "count the {} digits"),
    "neighbour": ("which digit is {}", "what is {}", "which one stands {}"),
}
KINDS = tuple(PHRASES)
SHARES = (1, 1, 1, 1, 1, 3)  # how often each kind is asked: neighbours are the hardest

ANSWERS = (*NUMBERS, "yes", "no", "top", "middle", "bottom", "left", "right")
PAD, ASK = 0, 1

# Which values are named in the test only, by what is asked.
RELATIONS = ("exists", "row", "column", *STEPS)
NEW = {relation: {2 * i % 10, (2 * i + 1) % 10} for i, relation in enumerate(RELATIONS)}

Layout = tuple[int, ...]


class Question(NamedTuple):
    """A question about one scene, and what the generator knows about it.

    Attributes
    ----------
    text, answer : str
    named, answered : int
        The cell of the digit that the question names, and of the digit that is the answer; -1 where
        there is none.
    """

    text: str
    answer: str
    named: int
    answered: int


class Questions(NamedTuple):
    """Scenes, a question about each, and its answer.

    Attributes
    ----------
    images : float32 tensor, shape (n, 24, 24), from 0 (paper) to 1 (ink)
    words : int64 tensor, shape (n, n_words)
        The token that asks, the words of the question, then padding.
    answers : int64 tensor, shape (n,), numbers in `ANSWERS`
    kinds : int64 tensor, shape (n,), numbers in `KINDS`
    grids : int64 tensor, shape (n, 9)
        The value in each cell, row by row; -1 where it is empty.
    sources : int64 tensor, shape (n, 9)
        Which picture of the part each cell shows; -1 where it is empty.
    named, answered : int64 tensors, shape (n,)
        As in `Question`.
    """

    images: Float[Tensor, "n 24 24"]
    words: Int[Tensor, "n n_words"]
    answers: Int[Tensor, " n"]
    kinds: Int[Tensor, " n"]
    grids: Int[Tensor, "n 9"]
    sources: Int[Tensor, "n 9"]
    named: Int[Tensor, " n"]
    answered: Int[Tensor, " n"]


def layouts() -> dict[str, list[Layout]]:
    """Which cells are filled, by part: 150, 30 and 30 of the 210 ways to fill three or four."""
    ways = [cells for n in (3, 4) for cells in combinations(range(N_CELLS), n)]
    Random(0).shuffle(ways)
    return {"training": ways[:150], "validation": ways[150:180], "test": ways[180:]}


def ask(kind: Kind, grid: Sequence[int], rng: Random, *, new: bool = False) -> Question | None:
    """Draw a question of one kind about a scene.

    Parameters
    ----------
    kind : str, one of `KINDS`
    grid : sequence of 9 ints
        The value in each cell, row by row, -1 where it is empty; no value twice.
    rng : random.Random
    new : bool
        Whether to name a value that training never names in such a question; otherwise one that it
        may name.

    Returns
    -------
    Question, or None where the scene allows no such question

    Raises
    ------
    ValueError
        Where there is no such kind.
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {KINDS}; got {kind!r}")
    cells = {value: cell for cell, value in enumerate(grid) if value != NOWHERE}

    def allowed(relation: str, value: int) -> bool:
        return (value in NEW[relation]) == new

    found = []  # what fills the phrase, the answer, the cell named, the cell that answers
    if kind == "exists":
        here = rng.random() < 0.5
        for value in range(10):
            if (value in cells) == here and allowed(kind, value):
                cell = cells.get(value, NOWHERE)
                found.append((NUMBERS[value], "yes" if here else "no", cell, NOWHERE))
    elif kind in ("row", "column"):
        for value, cell in cells.items():
            place = ROWS[cell // SIDE] if kind == "row" else COLUMNS[cell % SIDE]
            if allowed(kind, value):
                found.append((NUMBERS[value], place, cell, NOWHERE))
    elif kind == "cell" and not new:
        for value, cell in cells.items():
            place = f"at the {ROWS[cell // SIDE]} {COLUMNS[cell % SIDE]}"
            found.append((place, NUMBERS[value], NOWHERE, cell))
    elif kind == "count" and not new:
        for remainder, parity in enumerate(("even", "odd")):
            count = sum(value % 2 == remainder for value in cells)
            found.append((parity, NUMBERS[count], NOWHERE, NOWHERE))
    elif kind == "neighbour":
        for relation, (down, right) in STEPS.items():
            for value, cell in cells.items():
                row, column = cell // SIDE + down, cell % SIDE + right
                if not (0 <= row < SIDE and 0 <= column < SIDE and allowed(relation, value)):
                    continue
                other = row * SIDE + column
                if grid[other] != NOWHERE:
                    words = f"{relation} the {NUMBERS[value]}"
                    found.append((words, NUMBERS[grid[other]], cell, other))
    if not found:
        return None
    words, answer, named, answered = rng.choice(found)
    return Question(rng.choice(PHRASES[kind]).format(words), answer, named, answered)


def draw(
    digits: Digits, ways: Sequence[Layout], n: int, *, seed: int, new: bool = False
) -> Questions:
    """Draw scenes and one question about each.

    Parameters
    ----------
    digits : Digits
        One part; no other picture gets into the scenes.
    ways : sequence of layouts
        Which cells are filled; one of them is drawn for each scene.
    n, seed : int
        How many, and what they are drawn from.
    new : bool
        As in `ask`; then no question asks for a cell or a count, which name no value.

    Returns
    -------
    Questions

    Raises
    ------
    ValueError
        Where n is below 1 or there is no layout.
    """
    if n < 1 or not ways:
        raise ValueError(f"wanted n ≥ 1 and a layout or more; got n = {n}, {len(ways)} layouts")
    rng = Random(seed)
    pictures = [np.flatnonzero(digits.labels.numpy() == value).tolist() for value in range(10)]
    grids, sources, kinds, questions = [], [], [], []
    while len(questions) < n:
        (kind,) = rng.choices(range(len(KINDS)), SHARES)
        layout = rng.choice(ways)
        grid, source = [NOWHERE] * N_CELLS, [NOWHERE] * N_CELLS
        for cell, value in zip(layout, rng.sample(range(10), len(layout)), strict=True):
            grid[cell], source[cell] = value, rng.choice(pictures[value])
        question = ask(KINDS[kind], grid, rng, new=new)
        if question is not None:
            grids.append(grid)
            sources.append(source)
            kinds.append(kind)
            questions.append(question)
    grids, sources = torch.tensor(grids), torch.tensor(sources)  # (n, 9)
    return Questions(
        images=_pictures(digits, sources),
        words=encode([question.text for question in questions]),
        answers=torch.tensor([ANSWERS.index(question.answer) for question in questions]),
        kinds=torch.tensor(kinds),
        grids=grids,
        sources=sources,
        named=torch.tensor([question.named for question in questions]),
        answered=torch.tensor([question.answered for question in questions]),
    )


def _pictures(digits: Digits, sources: Int[Tensor, "n 9"]) -> Float[Tensor, "n 24 24"]:
    cells = digits.images[sources.clamp(min=0)] * (sources != NOWHERE)[..., None, None]
    grid = cells.unflatten(1, (SIDE, SIDE))  # (n, row, column, 8, 8)
    return grid.transpose(2, 3).reshape(len(sources), SIDE * PIXELS, SIDE * PIXELS)


def _vocabulary() -> tuple[str, ...]:
    words = {word for ways in PHRASES.values() for way in ways for word in way.split()} - {"{}"}
    words |= {*NUMBERS, *ROWS, *COLUMNS, "at", "the", "of", "even", "odd", "above", "below"}
    return ("<pad>", "<ask>", *sorted(words))


VOCABULARY = _vocabulary()
N_WORDS = 9  # <ask> and the longest question


def encode(texts: Sequence[str]) -> Int[Tensor, "n 9"]:
    """Questions as rows of numbers: the token that asks, the words, padding.

    Raises
    ------
    ValueError
        Where a word is unknown or a question has more than eight words.
    """
    rows = []
    for text in texts:
        unknown = [word for word in text.split() if word not in VOCABULARY]
        if unknown or len(text.split()) >= N_WORDS:
            raise ValueError(
                f"wanted at most {N_WORDS - 1} known words; got {text!r}, unknown: {unknown}"
            )
        row = [ASK, *(VOCABULARY.index(word) for word in text.split())]
        rows.append(row + [PAD] * (N_WORDS - len(row)))
    return torch.tensor(rows)
