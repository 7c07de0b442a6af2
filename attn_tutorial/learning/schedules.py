"""Who reviews which card on which day, and what is remembered on the day of the test.

A card is a skill with one item. Learners see two new cards on each of the first days and have time
for a few reviews on each later day. A policy says which cards; the simulator says what comes of it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from attn_tutorial.learning.baselines import Regression
from attn_tutorial.learning.simulator import (
    MINUTE,
    Learners,
    Log,
    World,
    draw_learners,
)
from attn_tutorial.learning.tracing import Batch, Tracer
from attn_tutorial.training import evaluating

N_CARDS = 16
CARDS = World(n_skills=N_CARDS, n_items=N_CARDS)
SMALL = replace(CARDS, start=-2.0)


@dataclass(frozen=True)
class Course:
    """The days of a course: new cards first, then reviews, then a test.

    Attributes
    ----------
    new_a_day, reviews_a_day : int
    last_day : int
        The last day with reviews; the first day is 0.
    test_day : int
    """

    new_a_day: int = 2
    reviews_a_day: int = 3
    last_day: int = 20
    test_day: int = 34


COURSE = Course()


@dataclass
class Past:
    """What a policy may look at: all answers so far, and which cards are out.

    Attributes
    ----------
    cards : list of int array, shape (n_learners,)
        One for each answer that every learner gave, in order.
    days : list of float
    right : list of bool array, shape (n_learners,)
    last_seen : float array, shape (n_learners, n_cards)
        Minus infinity for a card that was never shown.
    box : int array, shape (n_learners, n_cards)
        Right answers in a row.
    n_seen : int array, shape (n_learners, n_cards)
    learners : Learners
        The truth: only for policies that say so.
    """

    learners: Learners
    last_seen: Float[np.ndarray, "n_learners n_cards"]
    box: Int[np.ndarray, "n_learners n_cards"]
    n_seen: Int[np.ndarray, "n_learners n_cards"]
    cards: list[Int[np.ndarray, " n_learners"]] = field(default_factory=list)
    days: list[float] = field(default_factory=list)
    right: list[Bool[np.ndarray, " n_learners"]] = field(default_factory=list)

    def log(self) -> Log:
        """The answers as a log, in which nobody knows the truth."""
        cards, right = np.stack(self.cards, axis=1), np.stack(self.right, axis=1)
        days = np.broadcast_to(np.array(self.days), cards.shape).copy()
        return Log(cards, cards, days, right, np.full(cards.shape, np.nan))


# How urgent each card is for each learner: a policy. The most urgent ones are reviewed.
Policy = Callable[[Past, float, np.random.Generator], Float[np.ndarray, "n_learners n_cards"]]


def at_random(past: Past, day: float, generator: np.random.Generator) -> np.ndarray:
    """Any card."""
    return generator.random(past.last_seen.shape)


def longest_ago(past: Past, day: float, generator: np.random.Generator) -> np.ndarray:
    """What was not seen for the longest time."""
    return day - past.last_seen


def overdue(
    gaps: tuple[float, ...], step: Callable[[Past], np.ndarray]
) -> Callable[[Past, float, np.random.Generator], np.ndarray]:
    """What is overdue for the longest time, with gaps by a count of the card."""

    def policy(past: Past, day: float, generator: np.random.Generator) -> np.ndarray:
        gap = np.array(gaps)[np.minimum(step(past), len(gaps) - 1)]
        return day - past.last_seen - gap

    return policy


fixed = overdue((1, 3, 7, 14, 30), lambda past: past.n_seen - 1)
leitner = overdue((1, 2, 4, 8, 16), lambda past: past.box)


def most_forgotten(past: Past, day: float, generator: np.random.Generator) -> np.ndarray:
    """The least probable right answer, by the simulator's own truth."""
    return -past.learners.probability(day)


def gains_most(test_day: float) -> Policy:
    """What one review now adds to the probability on the day of the test, by the truth."""

    def policy(past: Past, day: float, generator: np.random.Generator) -> np.ndarray:
        learners = past.learners
        now, without = learners.probability(day), learners.probability(test_day)
        n = len(learners.ability)
        gain = np.empty_like(now)
        for card in range(now.shape[1]):
            skill, after = np.full(n, card), {}
            for right in (True, False):
                later = learners.copy()
                later.practise(skill, day, np.full(n, right))
                after[right] = later.probability(test_day)[:, card]
            chance = now[:, card]
            gain[:, card] = chance * after[True] + (1 - chance) * after[False] - without[:, card]
        return gain

    return policy


def by_attention(model: Tracer) -> Policy:
    """The least probable right answer, by a model that has seen the learner's answers."""

    def policy(past: Past, day: float, generator: np.random.Generator) -> np.ndarray:
        asked, answered = questions_now(past, day), past.log()
        mask = torch.ones(asked.items.shape[1], 1 + answered.items.shape[1], dtype=torch.bool)
        with evaluating(model):
            log_odds, _ = model.look(Batch.of(asked), Batch.of(answered), mask)
        return -log_odds.double().numpy()

    return policy


def by_regression(model: Regression) -> Policy:
    """The same by logistic regression."""

    def policy(past: Past, day: float, generator: np.random.Generator) -> np.ndarray:
        asked, answered = questions_now(past, day), past.log()
        everything = np.ones((asked.items.shape[1], answered.items.shape[1]), dtype=bool)
        rows = model.features(asked, answered, everything)
        return -model.model.decision_function(rows).reshape(asked.items.shape)

    return policy


def questions_now(past: Past, day: float) -> Log:
    """All cards, asked now."""
    shape = past.last_seen.shape
    cards = np.broadcast_to(np.arange(shape[1]), shape).copy()
    unknown = np.zeros(shape, dtype=bool)
    return Log(cards, cards, np.full(shape, float(day)), unknown, np.full(shape, np.nan))


@dataclass(frozen=True)
class Outcome:
    """What came of a policy.

    Attributes
    ----------
    retention : float array, shape (n_learners,)
        The mean probability of a right answer over the cards, on the day of the test.
    meanwhile : float array, shape (n_learners,)
        The same on the evening of each day with reviews, averaged.
    log : Log
        All answers, with no truth.
    """

    retention: Float[np.ndarray, " n_learners"]
    meanwhile: Float[np.ndarray, " n_learners"]
    log: Log


def follow(
    policy: Policy,
    n_learners: int,
    difficulty: Float[np.ndarray, " n_cards"],
    *,
    seed: int,
    world: World = CARDS,
    course: Course = COURSE,
) -> Outcome:
    """Let new learners follow a policy through a course.

    The learners of a seed are the same for all policies; their luck is not.
    """
    people, luck = (np.random.default_rng((seed, number)) for number in (3, 4))
    learners = draw_learners(world, n_learners, difficulty, people)
    n_cards, rows = world.n_items, np.arange(n_learners)
    past = Past(
        learners=learners,
        last_seen=np.full((n_learners, n_cards), -np.inf),
        box=np.zeros((n_learners, n_cards), dtype=np.int64),
        n_seen=np.zeros((n_learners, n_cards), dtype=np.int64),
    )

    def answer(card: np.ndarray, time: float) -> None:
        right = luck.random(n_learners) < learners.probability(time)[rows, card]
        learners.practise(card, time, right)
        past.box[rows, card] = np.where(right, past.box[rows, card] + 1, 0)
        past.n_seen[rows, card] += 1
        past.last_seen[rows, card] = time
        past.cards.append(card)
        past.days.append(time)
        past.right.append(right)

    meanwhile = []
    for day in range(course.last_day + 1):
        minute = 0
        if day:
            urgent = policy(past, float(day), luck)
            urgent = np.where(past.n_seen > 0, urgent, -np.inf)
            chosen = np.argsort(-urgent, axis=1, kind="stable")
            for place in range(min(course.reviews_a_day, course.new_a_day * day)):
                answer(chosen[:, place], day + minute * MINUTE)
                minute += 1
        for card in range(course.new_a_day * day, min(course.new_a_day * (day + 1), n_cards)):
            answer(np.full(n_learners, card), day + minute * MINUTE)
            minute += 1
        meanwhile.append(learners.probability(day + 0.5).mean(axis=1))
    retention = learners.probability(float(course.test_day)).mean(axis=1)
    return Outcome(retention, np.mean(meanwhile, axis=0), past.log())


# --- a case that is small enough to be solved -----------------------------------------------------


@dataclass(frozen=True)
class Small:
    """One learner, who has seen each of a few cards on day 0 and reviews one on each later day.

    Attributes
    ----------
    n_cards, n_days, test_day : int
    world : World
    """

    n_cards: int = 2
    n_days: int = 6
    test_day: int = 14
    world: World = SMALL

    def begin(self) -> tuple[tuple[float, float, float], ...]:
        """Memory, half-life and last day of each card."""
        return ((self.world.gain, self.world.half_life, 0.0),) * self.n_cards

    def chance(self, card: tuple[float, float, float], day: float) -> float:
        """The probability of a right answer."""
        memory, half_life, last = card
        log_odds = self.world.start + self.world.slope * memory * 2 ** ((last - day) / half_life)
        return 1 / (1 + math.exp(-log_odds))

    def after(
        self, card: tuple[float, float, float], day: float, right: bool
    ) -> tuple[float, float, float]:
        """The card after a review."""
        memory, half_life, last = card
        kept = 2 ** ((last - day) / half_life)
        growth = self.world.growth_right if right else self.world.growth_wrong
        present = memory * kept
        return (
            present + self.world.gain * (1 - present),
            half_life * (1 + growth * (1 - kept)),
            day,
        )

    def value(self, rule: Callable | None = None) -> float:
        """The expected probability of a right answer, averaged over the cards, on the test day.

        Parameters
        ----------
        rule : function of (cards, day), optional
            The number of the card to review, or a list of numbers, one of which is drawn. Without
            a rule, the best card is found by trying all: dynamic programming.
        """

        @functools.cache
        def ahead(cards: tuple, day: int) -> float:
            if day > self.n_days:
                return float(np.mean([self.chance(card, self.test_day) for card in cards]))

            def of(number: int) -> float:
                chance, total = self.chance(cards[number], day), 0.0
                for right, part in ((True, chance), (False, 1 - chance)):
                    changed = list(cards)
                    changed[number] = self.after(cards[number], day, right)
                    total += part * ahead(tuple(changed), day + 1)
                return total

            if rule is None:
                return max(map(of, range(self.n_cards)))
            chosen = rule(cards, day)
            if isinstance(chosen, int):
                return of(chosen)
            return float(np.mean([of(number) for number in chosen]))

        return ahead(self.begin(), 1)

    def most_forgotten(self, cards: tuple, day: int) -> int:
        """The rule with the least probable right answer."""
        return int(np.argmin([self.chance(card, day) for card in cards]))

    def gains_most(self, cards: tuple, day: int) -> int:
        """The rule with the largest gain on the test day, if this were the last review."""

        def gain(card: tuple[float, float, float]) -> float:
            chance = self.chance(card, day)
            return (
                chance * self.chance(self.after(card, day, True), self.test_day)
                + (1 - chance) * self.chance(self.after(card, day, False), self.test_day)
                - self.chance(card, self.test_day)
            )

        return int(np.argmax([gain(card) for card in cards]))
