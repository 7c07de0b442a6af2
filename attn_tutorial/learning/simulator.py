"""Learners made up by equations: skills, questions, and a memory that fades and is strengthened.

A learner's knowledge of a skill is its memory right after the last practice, between 0 and 1, and a
half-life in days. Whoever reads these equations knows all that the learners of this module are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int

MINUTE = 1 / (24 * 60)  # in days


@dataclass(frozen=True)
class World:
    """What holds for all learners of a world.

    Attributes
    ----------
    n_skills, n_items : int
        Item i is a question about skill `i % n_skills`.
    gain : float
        Which part of what is missing one practice adds to the memory.
    growth_right, growth_wrong : float
        How much the half-life grows by a practice after a right and after a wrong answer, for a
        skill that was forgotten completely. One that is present does not grow.
    half_life : float
        The median, over learners, of the first half-life in days. Infinite: nothing is forgotten.
    spread : float
        The standard deviation, over learners, of its logarithm.
    slope : float
        What memory adds to the log-odds of a right answer.
    start : float
        The mean log-odds with no memory.
    spread_ability, spread_difficulty : float
        Standard deviations over learners and over items, in log-odds.
    """

    n_skills: int = 8
    n_items: int = 40
    gain: float = 0.4
    growth_right: float = 1.5
    growth_wrong: float = 0.5
    half_life: float = 2.0
    spread: float = 0.5
    slope: float = 4.0
    start: float = -1.5
    spread_ability: float = 0.7
    spread_difficulty: float = 0.7


@dataclass
class Learners:
    """Some learners of one world, and what they know now.

    Attributes
    ----------
    world : World
    ability : float array, shape (n_learners,)
    difficulty : float array, shape (n_items,)
    memory : float array, shape (n_learners, n_skills)
        Right after the last practice; 0 before the first.
    half_life : float array, shape (n_learners, n_skills)
        In days.
    practised : float array, shape (n_learners, n_skills)
        The day of the last practice.
    """

    world: World
    ability: Float[np.ndarray, " n_learners"]
    difficulty: Float[np.ndarray, " n_items"]
    memory: Float[np.ndarray, "n_learners n_skills"]
    half_life: Float[np.ndarray, "n_learners n_skills"]
    practised: Float[np.ndarray, "n_learners n_skills"]

    def copy(self) -> Learners:
        """These learners with a memory of their own."""
        return replace(
            self,
            memory=self.memory.copy(),
            half_life=self.half_life.copy(),
            practised=self.practised.copy(),
        )

    def remembered(self, day: Float[np.ndarray, " n_learners"] | float) -> np.ndarray:
        """The share of the last memory that is still there, for each skill.

        Parameters
        ----------
        day : float or float array, shape (n_learners,)
            Not before the last practice.

        Returns
        -------
        float array, shape (n_learners, n_skills)
        """
        elapsed = np.asarray(day)[..., None] - self.practised
        return 2.0 ** (-elapsed / self.half_life)

    def probability(self, day: Float[np.ndarray, " n_learners"] | float) -> np.ndarray:
        """How probable a right answer is to each item: shape (n_learners, n_items)."""
        world = self.world
        present = self.memory * self.remembered(day)  # (n_learners, n_skills)
        skill = np.arange(world.n_items) % world.n_skills
        log_odds = (
            world.start + self.ability[:, None] - self.difficulty + world.slope * present[:, skill]
        )
        return 1 / (1 + np.exp(-log_odds))

    def practise(
        self,
        skill: Int[np.ndarray, " n_learners"],
        day: Float[np.ndarray, " n_learners"] | float,
        right: Bool[np.ndarray, " n_learners"],
    ) -> None:
        """Each learner has answered a question about one skill, and is shown the answer.

        Parameters
        ----------
        skill : int array, shape (n_learners,)
        day : float or float array, shape (n_learners,)
        right : bool array, shape (n_learners,)
        """
        world, place = self.world, (np.arange(len(self.ability)), skill)
        kept = 2.0 ** (-(day - self.practised[place]) / self.half_life[place])
        first = self.memory[place] == 0
        present = self.memory[place] * kept
        growth = np.where(right, world.growth_right, world.growth_wrong)
        self.memory[place] = present + world.gain * (1 - present)
        self.half_life[place] *= np.where(first, 1.0, 1 + growth * (1 - kept))
        self.practised[place] = day


def draw_difficulties(world: World, seed: int) -> Float[np.ndarray, " n_items"]:
    """How hard the items of a world are, in log-odds."""
    generator = np.random.default_rng((seed, 1))
    return generator.normal(0, world.spread_difficulty, world.n_items)


def draw_learners(
    world: World,
    n_learners: int,
    difficulty: Float[np.ndarray, " n_items"],
    generator: np.random.Generator,
) -> Learners:
    """New learners who know nothing yet."""
    first = world.half_life * np.exp(generator.normal(0, world.spread, n_learners))
    shape = n_learners, world.n_skills
    return Learners(
        world=world,
        ability=generator.normal(0, world.spread_ability, n_learners),
        difficulty=difficulty,
        memory=np.zeros(shape),
        half_life=np.repeat(first[:, None], world.n_skills, axis=1),
        practised=np.zeros(shape),
    )


@dataclass(frozen=True)
class Log:
    """What learners answered, in order: all that a model is told, and the truth beside it.

    Attributes
    ----------
    items : int array, shape (n_learners, length)
    skills : int array, shape (n_learners, length)
    days : float array, shape (n_learners, length)
        When, in days; never falls.
    right : bool array, shape (n_learners, length)
    truth : float array, shape (n_learners, length)
        The probability of a right answer in the simulator: for judging only, never for training.
    """

    items: Int[np.ndarray, "n_learners length"]
    skills: Int[np.ndarray, "n_learners length"]
    days: Float[np.ndarray, "n_learners length"]
    right: Bool[np.ndarray, "n_learners length"]
    truth: Float[np.ndarray, "n_learners length"]

    def of(self, learners: slice | np.ndarray) -> Log:
        """The log of some of the learners."""
        return Log(**{name: array[learners] for name, array in vars(self).items()})


def simulate(
    world: World,
    n_learners: int,
    difficulty: Float[np.ndarray, " n_items"],
    *,
    seed: int,
    length: int = 48,
    in_a_session: int = 8,
    skills_in_a_session: int = 2,
    median_gap: float = 2.0,
) -> Log:
    """Learners work in sessions of some minutes, on a few skills each, days apart.

    Parameters
    ----------
    world : World
    n_learners : int
    difficulty : float array, shape (n_items,)
    seed : int
    length : int
        How many questions each learner answers.
    in_a_session, skills_in_a_session : int
        Questions in a session, and skills, drawn anew for each, that they are about.
    median_gap : float
        Days between sessions; the logarithm has a standard deviation of 1.

    Returns
    -------
    Log
    """
    generator = np.random.default_rng((seed, 2))
    learners = draw_learners(world, n_learners, difficulty, generator)
    n_sessions = -(-length // in_a_session)
    gaps = median_gap * np.exp(generator.normal(0, 1, (n_learners, n_sessions)))
    begins = np.cumsum(gaps, axis=1)
    chosen = generator.random((n_learners, n_sessions, world.n_skills)).argsort(axis=-1)
    chosen = chosen[..., :skills_in_a_session]  # (n_learners, n_sessions, skills_in_a_session)
    rows, per_skill = np.arange(n_learners), world.n_items // world.n_skills
    found: dict[str, list[np.ndarray]] = {name: [] for name in Log.__dataclass_fields__}
    for step in range(length):
        session, minute = divmod(step, in_a_session)
        which = generator.integers(skills_in_a_session, size=n_learners)
        skill = chosen[rows, session, which]
        item = skill + world.n_skills * generator.integers(per_skill, size=n_learners)
        day = begins[:, session] + minute * MINUTE
        truth = learners.probability(day)[rows, item]
        right = generator.random(n_learners) < truth
        learners.practise(skill, day, right)
        for name, array in zip(found, (item, skill, day, right, truth), strict=True):
            found[name].append(array)
    return Log(**{name: np.stack(arrays, axis=1) for name, arrays in found.items()})
