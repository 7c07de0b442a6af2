"""What the chapter on people's learning shows: three worlds of learners, and ten ways to review.

In each world new learners are traced by all systems. In a course with cards, new learners review by
all policies. Thresholds and gaps are chosen on learners who are in no other part.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np

from attn_tutorial.applications.measuring import Clock, n_parameters
from attn_tutorial.applications.results import Results, Role, System, versions
from attn_tutorial.learning import schedules, tracing
from attn_tutorial.learning.baselines import (
    Pairs,
    Regression,
    fit_two_states,
    item_shares,
    scores,
)
from attn_tutorial.learning.schedules import CARDS, COURSE, Outcome, Policy
from attn_tutorial.learning.simulator import Log, World, draw_difficulties, simulate

SEEDS = [0, 1, 2]
N_TRAINING, N_VALIDATION, N_TEST = 600, 200, 400  # learners
N_CARD_TRAINING, N_CARD_VALIDATION, N_CARD_TEST = 300, 100, 300
THRESHOLDS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
GAPS = ((1, 3, 7, 14, 30), (1, 2, 4, 8, 16), (2, 4, 8, 16), (3, 6, 12, 24))


@dataclass(frozen=True)
class Case:
    """A world, and whether the models are told which item is about which skill."""

    world: World
    told: bool


CASES = {
    "nothing is forgotten": Case(World(half_life=np.inf), told=True),
    "forgetting": Case(World(), told=True),
    "forgetting, skills hidden": Case(World(), told=False),
}
MAIN = "forgetting, skills hidden"


def logs(world: World, seed: int) -> tuple[Log, Log, Log]:
    """Training, validation and test: the same items, and other learners in each."""
    n = N_TRAINING + N_VALIDATION + N_TEST
    log = simulate(world, n, draw_difficulties(world, seed), seed=seed)
    ends = np.cumsum([0, N_TRAINING, N_VALIDATION, N_TEST])
    return tuple(log.of(slice(*part)) for part in itertools.pairwise(ends))


def measure_seed(case: Case, seed: int) -> dict[str, tuple[System, np.ndarray]]:
    """All systems in one world with one seed: a score each, and what each said of the test part."""
    world = case.world
    n_items, n_skills = world.n_items, world.n_skills if case.told else 0
    training, validation, test = logs(world, seed)
    found: dict[str, tuple[System, np.ndarray]] = {}

    def add(name: str, role: Role, said: np.ndarray, **more: Any) -> None:
        scored = {metric: [score] for metric, score in scores(said, test.right).items()}
        found[name] = System(role, scored, **more), said

    add("the simulator's own", "rival", test.truth)
    add("share of the item", "baseline", item_shares(training, test, n_items))
    labels = training.skills if case.told else training.items
    model, _ = fit_two_states(training, labels, n_skills or n_items)
    labels = test.skills if case.told else test.items
    add("two states", "baseline", model.forward(labels, test.right))
    for name, timed in {"regression on counts": False, "regression, time windows": True}.items():
        regression = Regression(n_items, n_skills, timed).fit(training, validation)
        add(name, "baseline", regression.probabilities(test))
    if not case.told:
        pairs = Pairs(n_items).fit(training, validation)
        add("regression on pairs", "baseline", pairs.probabilities(test))
    for kind in get_args(tracing.Kind):
        clock = Clock()
        with clock.running():
            fitted = tracing.fit(
                training, validation, n_items=n_items, n_skills=n_skills, kind=kind, seed=seed
            ).model
        role = "ablation" if kind == "equal weights" else "attention"
        said = tracing.probabilities(fitted, test)
        size = {"n_parameters": n_parameters(fitted), "seconds": clock.seconds}
        add(f"attention, {kind}", role, said, **size)
    return found


def measure_case(case: Case, seeds: list[int] = SEEDS) -> dict[str, System]:
    """All systems in one world: each seed has its own items, learners and parameters."""
    measured = [
        {name: one for name, (one, _) in measure_seed(case, seed).items()} for seed in seeds
    ]
    joined = {}
    for name, first in measured[0].items():
        ones = [found[name] for found in measured]
        joined[name] = replace(
            first,
            scores={metric: [one.scores[metric][0] for one in ones] for metric in first.scores},
            seconds=first.seconds and float(np.mean([one.seconds for one in ones])),
        )
    return joined


# --- schedules -----------------------------------------------------------------------------------


def near(policy: Policy, threshold: float) -> Policy:
    """From "the least probable first" to "the nearest to a threshold first"."""
    wanted = np.log(threshold / (1 - threshold))

    def nearer(past: schedules.Past, day: float, generator: np.random.Generator) -> np.ndarray:
        return -np.abs(-policy(past, day, generator) - wanted)

    return nearer


def truth(past: schedules.Past, day: float, generator: np.random.Generator) -> np.ndarray:
    """The simulator's log-odds, least probable first."""
    chance = past.learners.probability(day)
    return -np.log(chance / (1 - chance))


def card_logs(seed: int) -> tuple[Log, Log]:
    """Answers of an earlier class that reviewed at random: what the models learn from."""
    difficulty = draw_difficulties(CARDS, seed)
    n = N_CARD_TRAINING + N_CARD_VALIDATION
    log = schedules.follow(schedules.at_random, n, difficulty, seed=1000 + seed).log
    return log.of(slice(N_CARD_TRAINING)), log.of(slice(N_CARD_TRAINING, None))


def best_of(candidates: dict[Any, Policy], seed: int) -> tuple[Any, Policy]:
    """The policy with the best retention among learners who are in no other part."""
    difficulty = draw_difficulties(CARDS, seed)

    def retention(policy: Policy) -> float:
        outcome = schedules.follow(policy, N_CARD_VALIDATION, difficulty, seed=2000 + seed)
        return float(outcome.retention.mean())

    name = max(candidates, key=lambda one: retention(candidates[one]))
    return name, candidates[name]


def policies(seed: int) -> tuple[dict[str, Policy], dict[str, Any]]:
    """All policies for a seed, and what was chosen for them."""
    training, validation = card_logs(seed)
    n_cards = CARDS.n_items
    model = tracing.fit(
        training, validation, n_items=n_cards, n_skills=0, kind="with time", seed=seed
    ).model
    regression = Regression(n_cards, 0, timed=True).fit(training, validation)
    by_attention = schedules.by_attention(model)
    found: dict[str, Policy] = {
        "random": schedules.at_random,
        "longest ago": schedules.longest_ago,
        "weakest first, attention": by_attention,
        "weakest first, truth": truth,
        "largest gain, truth": schedules.gains_most(COURSE.test_day),
    }
    chosen: dict[str, Any] = {}
    counted = {
        "fixed gaps": lambda past: past.n_seen - 1,
        "Leitner boxes": lambda past: past.box,
    }
    for name, step in counted.items():
        tried = {gaps: schedules.overdue(gaps, step) for gaps in GAPS}
        chosen[name], found[name] = best_of(tried, seed)
    judged = {
        "attention": by_attention,
        "regression": schedules.by_regression(regression),
        "truth": truth,
    }
    for name, policy in judged.items():
        tried = {threshold: near(policy, threshold) for threshold in THRESHOLDS}
        key = f"near the threshold, {name}"
        chosen[key], found[key] = best_of(tried, seed)
    return found, chosen


def measure_schedules(seeds: list[int] = SEEDS) -> dict[str, Any]:
    """Retention of each policy, and its gain over the longest ago, learner by learner."""
    found: dict[str, dict[str, list[float]]] = {}
    picked: dict[str, list[Any]] = {}
    for seed in seeds:
        difficulty = draw_difficulties(CARDS, seed)
        ways, chosen = policies(seed)
        outcomes: dict[str, Outcome] = {
            name: schedules.follow(policy, N_CARD_TEST, difficulty, seed=seed)
            for name, policy in ways.items()
        }
        for name, outcome in outcomes.items():
            gain = outcome.retention - outcomes["longest ago"].retention
            for key, value in {
                "retention": outcome.retention.mean(),
                "meanwhile": outcome.meanwhile.mean(),
                "gain": gain.mean(),
                "standard error": gain.std(ddof=1) / np.sqrt(len(gain)),
                "better for": (gain > 0).mean(),
            }.items():
                found.setdefault(name, {}).setdefault(key, []).append(float(value))
        for name, choice in chosen.items():
            picked.setdefault(name, []).append(choice)
    return {"policies": found, "chosen": picked}


def measure() -> Results:
    """All that the chapter shows."""
    cases = {name: measure_case(case) for name, case in CASES.items()}
    return Results(
        task="Whether a learner answers the next question right",
        data=(
            "Answers of learners made up by a simulator with forgetting; which item is about "
            "which skill is hidden from all systems"
        ),
        origin="generated",
        split="Learners of the test part are in no other part; the items are the same",
        metric="AUC",
        higher_is_better=True,
        n_training=N_TRAINING * 48,
        n_test=N_TEST * 48,
        seeds=SEEDS,
        systems=cases[MAIN],
        libraries=versions("numpy", "scikit-learn", "torch"),
        more={
            "cases": {
                name: {system: one.scores for system, one in systems.items()}
                for name, systems in cases.items()
                if name != MAIN
            },
            "schedules": measure_schedules(),
        },
    )
