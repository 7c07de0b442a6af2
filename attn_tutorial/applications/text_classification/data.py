"""Two generators of sentences: reviews in which order matters, and what customers ask for.

Both are generators, and no substitute for what people write. A review's label follows from its
parts: which clause decides, how often it is negated, and whether its adjective praises or blames.
A request's label is the intent of the template that it was made from. What a part of the data
tests with was in no sentence of another: templates, combinations of a negation and an adjective,
and the things that customers ordered.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

PARTS = ("training", "validation", "test")

# --- reviews ---------------------------------------------------------------------------------

ADJECTIVES = {
    "good": 1,
    "great": 1,
    "lovely": 1,
    "friendly": 1,
    "clean": 1,
    "tasty": 1,
    "pleasant": 1,
    "helpful": 1,
    "charming": 1,
    "reliable": 1,
    "bad": -1,
    "awful": -1,
    "rude": -1,
    "dirty": -1,
    "bland": -1,
    "noisy": -1,
    "boring": -1,
    "slow": -1,
    "useless": -1,
    "shabby": -1,
}
NOUNS = ("food", "service", "room", "staff", "garden", "music", "bar", "breakfast", "view", "pool")
PLAIN = ("", "very", "really")
NEGATIONS = ("not", "hardly", "never", "anything but", "far from")
WRAPPERS = {"": 1, "i must say that": 1, "i do not think that": -1, "nobody can say that": -1}
FORMS = ("was", "seemed", "expected")
CONNECTIVES = ("but", "although first", "although last")
NEGATED = 1 / 3  # how many clauses have a negation, and how many a wrapper that turns them
KINDS_OF_PAIRS = ("adjectives exchanged", "negation moved", "connective moved")


class Clause(NamedTuple):
    """One judgement: what is said of what, and what stands around it."""

    form: str
    wrapper: str
    noun: str
    operator: str
    adjective: str

    @property
    def value(self) -> int:
        """1 for praise, -1 for blame: each negation turns it round."""
        negated = -1 if self.operator in NEGATIONS else 1
        return WRAPPERS[self.wrapper] * negated * ADJECTIVES[self.adjective]

    @property
    def shape(self) -> tuple[str, str]:
        return self.form, self.wrapper

    def words(self) -> list[tuple[str, bool]]:
        """The words, and whether the clause's value depends on each."""
        turns = WRAPPERS[self.wrapper] < 0
        words = [(word, turns) for word in self.wrapper.split()]
        negates = self.operator in NEGATIONS
        operator = [(word, negates) for word in self.operator.split()]
        adjective = [(self.adjective, True)]
        if self.form == "expected":
            words += [(word, False) for word in f"i expected the {self.noun} to be".split()]
            return words + adjective + [(word, False) for word in ("and", "it", "was")] + operator
        words += [(word, False) for word in f"the {self.noun} {self.form}".split()]
        return words + operator + adjective


class Text(NamedTuple):
    """A sentence, its label, and where it comes from.

    Attributes
    ----------
    words : tuple of str
    label : int
        The class; -1 for a request that is out of scope.
    decisive : tuple of bool
        For each word, whether the label follows from it.
    source : str
        The template.
    """

    words: tuple[str, ...]
    label: int
    decisive: tuple[bool, ...]
    source: str


class Review(NamedTuple):
    """One clause, or two with a connective; `clauses` is in the order in which they are read."""

    clauses: tuple[Clause, ...]
    connective: str = ""

    @property
    def decides(self) -> int:
        """Which clause decides: the one after "but", and the one that "although" is not before."""
        return 0 if len(self.clauses) == 1 or self.connective == "although last" else 1

    def text(self) -> Text:
        """The sentence, with label 1 for praise and 0 for blame."""
        pieces = []
        for number, clause in enumerate(self.clauses):
            if number == 1:
                pieces.append((",", False))
            words = {
                ("but", 1): "but",
                ("although first", 0): "although",
                ("although last", 1): "although",
            }
            if (self.connective, number) in words:
                pieces.append((words[self.connective, number], False))
            deciding = number == self.decides
            pieces += [(word, decisive and deciding) for word, decisive in clause.words()]
        words, decisive = zip(*pieces, strict=True)
        label = int(self.clauses[self.decides].value > 0)
        source = " / ".join(f"{form}:{wrapper}" for form, wrapper in self.shapes)
        return Text(words, label, decisive, source)

    @property
    def shapes(self) -> tuple[tuple[str, str], ...]:
        return tuple(clause.shape for clause in self.clauses)


SHAPES = tuple(
    (form, wrapper) for form in FORMS for wrapper in WRAPPERS if form != "expected" or not wrapper
)


def shape_parts() -> dict[tuple, str]:
    """To which part each template of two clauses belongs, whatever its connective."""
    both = [(one, other) for one in SHAPES for other in SHAPES]
    return _dealt(both, shares=(0.6, 0.15), seed=1)


def combination_parts() -> dict[tuple[str, str, str], str]:
    """To which part each (form of the clause, negation, adjective) belongs.

    "was" and "seemed" count as one form. Half of the adjectives of each negation, praise and blame
    alike, are for training.
    """
    found = {}
    for number, (form, negation) in enumerate([*(("is", n) for n in NEGATIONS), ("to be", "not")]):
        for sign in (1, -1):
            words = [(form, negation, word) for word, value in ADJECTIVES.items() if value == sign]
            found |= _dealt(words, shares=(0.5, 0.2), seed=(2, number, sign + 1))
    return found


def combinations(review: Review) -> set[tuple[str, str, str]]:
    """The (form, negation, adjective) in a review."""
    return {
        ("to be" if clause.form == "expected" else "is", clause.operator, clause.adjective)
        for clause in review.clauses
        if clause.operator in NEGATIONS
    }


def draw_review(part: str, n_clauses: int, rng: np.random.Generator) -> Review:
    """A review that belongs to a part.

    Parameters
    ----------
    part : "training", "validation" or "test"
    n_clauses : int
        1 or 2. The templates of two clauses are held out, those of one are not; the combinations
        of a negation and an adjective always are.
    rng : Generator
    """
    if part not in PARTS:
        raise ValueError(f"part must be one of {PARTS}; got {part!r}")
    if n_clauses not in (1, 2):
        raise ValueError(f"n_clauses must be 1 or 2; got {n_clauses}")
    while True:
        nouns = rng.permutation(len(NOUNS))
        clauses = tuple(_draw_clause(NOUNS[nouns[number]], rng) for number in range(n_clauses))
        connective = CONNECTIVES[rng.integers(len(CONNECTIVES))] if n_clauses == 2 else ""
        review = Review(clauses, connective)
        if belongs(review, part):
            return review


def belongs(review: Review, part: str) -> bool:
    """Whether a review's template and all its combinations are of the part."""
    if len(review.clauses) == 2 and _SHAPE_PARTS[review.shapes] != part:
        return False
    return all(_COMBINATION_PARTS[one] == part for one in combinations(review))


def partner(review: Review, kind: str) -> Review | None:
    """The review with the same words in another order and the opposite label, if there is one.

    Parameters
    ----------
    review : Review
        Of two clauses.
    kind : "adjectives exchanged", "negation moved" or "connective moved"
    """
    if kind not in KINDS_OF_PAIRS:
        raise ValueError(f"kind must be one of {KINDS_OF_PAIRS}; got {kind!r}")
    one, other = review.clauses
    connective = review.connective
    if kind == "adjectives exchanged":
        one, other = (
            one._replace(adjective=other.adjective),
            other._replace(adjective=one.adjective),
        )
    elif kind == "negation moved":
        one, other = (
            one._replace(operator=other.operator),
            other._replace(operator=one.operator),
        )
    else:
        moved = {"although first": "although last", "although last": "although first"}
        connective = moved.get(connective, connective)
    made = Review((one, other), connective)
    if any(c.form == "expected" and c.operator not in ("", "not") for c in made.clauses):
        return None
    return made if made.text().label != review.text().label else None


def draw_pairs(part: str, n_pairs: int, seed: int) -> tuple[list[Text], list[str]]:
    """Pairs of reviews with the same words and opposite labels, all of one part.

    Returns
    -------
    texts : list of 2 · n_pairs Text
        The two of a pair stand one after the other.
    kinds : list of n_pairs str
    """
    rng = np.random.default_rng((seed, PARTS.index(part)))
    texts, kinds, seen = [], [], set()
    for _ in range(100 + 50 * n_pairs):
        if len(kinds) == n_pairs:
            return texts, kinds
        kind = KINDS_OF_PAIRS[len(kinds) % len(KINDS_OF_PAIRS)]
        review = draw_review(part, 2, rng)
        other = partner(review, kind)
        if other is None or not belongs(other, part) or {review, other} & seen:
            continue
        seen |= {review, other}
        texts += [review.text(), other.text()]
        kinds.append(kind)
    raise ValueError(f"n_pairs must be fewer: found {len(kinds)} of {n_pairs}")


def draw_reviews(part: str, n: int, seed: int, n_clauses: int) -> list[Text]:
    """Reviews of one part, each drawn alone."""
    rng = np.random.default_rng((seed, n_clauses, PARTS.index(part)))
    return [draw_review(part, n_clauses, rng).text() for _ in range(n)]


def _draw_clause(noun: str, rng: np.random.Generator) -> Clause:
    """A clause: a third of the adjectives and a third of the clauses are negated."""

    def one_of(things: tuple) -> str:
        return things[rng.integers(len(things))]

    form = one_of(FORMS)
    wrapper, operator = "", ""
    if form != "expected":
        wrapper = one_of(_TURNING if rng.random() < NEGATED else _STRAIGHT)
    if rng.random() < NEGATED:
        operator = "not" if form == "expected" else one_of(NEGATIONS)
    elif form != "expected":
        operator = one_of(PLAIN)
    return Clause(form, wrapper, noun, operator, one_of(_WORDS))


def _dealt(things: list, *, shares: tuple[float, float], seed: int | tuple) -> dict:
    """Deal things to the three parts at random."""
    order = np.random.default_rng(seed).permutation(len(things))
    ends = np.round(np.cumsum(shares) * len(things)).astype(int)
    return {things[i]: PARTS[int(np.searchsorted(ends, at, "right"))] for at, i in enumerate(order)}


_TURNING = tuple(wrapper for wrapper, value in WRAPPERS.items() if value < 0)
_STRAIGHT = tuple(wrapper for wrapper, value in WRAPPERS.items() if value > 0)
_WORDS = tuple(ADJECTIVES)
_SHAPE_PARTS = shape_parts()
_COMBINATION_PARTS = combination_parts()
