"""Completing a knowledge graph: who pays in which currency, who speaks which language.

Two ways to attend (over the facts of an entity, over other entities), three models that have only a
vector of each entity, and three ways to answer without training.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from attn_tutorial.applications.knowledge_graph.data import RELATIONS, Questions, load_graph
from attn_tutorial.applications.knowledge_graph.fitting import (
    BASELINES,
    ENTITIES,
    FACTS,
    Problem,
    Scores,
    answer,
    baseline,
    evaluate,
    fit,
    load_problem,
    reciprocal,
)
from attn_tutorial.applications.knowledge_graph.looking import (
    N_SHOWN,
    weight_by_relation,
    without,
)
from attn_tutorial.applications.knowledge_graph.models import Kind, build
from attn_tutorial.applications.measuring import over_seeds
from attn_tutorial.applications.results import Results, Role, System, versions
from attn_tutorial.attribution import uniform_weights

SEEDS = [0, 1, 2, 3, 4]
PARTS = ("test", "new territories")
TRAINED: dict[str, tuple[Role, Kind]] = {
    ENTITIES: ("attention", ENTITIES),
    FACTS: ("attention", FACTS),
    "facts and own vector": ("attention", "facts and own vector"),
    "equal weights, trained so": ("ablation", FACTS),
    "TransE": ("rival", "TransE"),
    "DistMult": ("rival", "DistMult"),
    "ComplEx": ("rival", "ComplEx"),
}
UNTRAINED = "entities, before training"
PAIRS = (
    (ENTITIES, "similar entities"),
    (ENTITIES, UNTRAINED),
    (FACTS, "similar entities"),
    (FACTS, "equal weights, trained so"),
    (ENTITIES, FACTS),
    (FACTS, "TransE"),
    (FACTS, "facts and own vector"),
)
MISTAKES: list[tuple[str, Kind, dict[str, bool]]] = [
    ("DistMult, test answers spared", "DistMult", {"leak": True}),
    ("ComplEx, test answers spared", "ComplEx", {"leak": True}),
    ("attention over facts, test answers spared", FACTS, {"leak": True}),
    ("attention over facts, asked fact visible", FACTS, {"visible": True}),
]


class _Measured:
    """The reciprocal ranks and scores of every system, question by question, seed after seed."""

    def __init__(self, problems: dict[int, Problem]) -> None:
        self.problems = problems
        self.ranks: dict[str, dict[str, list[np.ndarray]]] = {}

    def score(self, name: str, seed: int, answer_part: Callable[[Questions], Scores]) -> dict:
        problem = self.problems[seed]
        scores = {part: answer_part(problem.questions[part]) for part in PARTS}
        by_part = self.ranks.setdefault(name, {part: [] for part in PARTS})
        for part in PARTS:
            by_part[part].append(reciprocal(problem, part, scores[part]))
        return evaluate(problem, scores)

    def trained(self, name: str) -> tuple[System, list[nn.Module]]:
        role, kind = TRAINED[name]
        equal = role == "ablation"
        seed_of: dict[nn.Module, int] = {}

        def fit_one(seed: int) -> nn.Module:
            model = fit(kind, self.problems[seed], seed, equal_weights=equal)
            seed_of[model] = seed
            return model

        def score_one(model: nn.Module) -> dict[str, float]:
            with uniform_weights(model) if equal else contextlib.nullcontext():
                return self.score(name, seed_of[model], lambda asked: answer(model, asked))

        return over_seeds(role, SEEDS, fit_one, score_one)

    def by_relation(self, part: str) -> dict[str, dict[str, float]]:
        """For each system the mean reciprocal rank of each relation, all seeds together."""
        relations = np.concatenate(
            [problem.parts[part][:, 1] for problem in self.problems.values()]
        )
        found = {}
        for name, ranks in self.ranks.items():
            together = np.concatenate(ranks[part])
            found[name] = {
                relation: float(together[relations == i].mean())
                for i, relation in enumerate(RELATIONS)
                if (relations == i).any()
            }
        return found

    def difference(self, one: str, other: str, part: str) -> dict[str, float]:
        """By how much one system's reciprocal rank is higher: the mean over subjects of all seeds.

        Questions with one subject depend on one another; the standard error counts the sums of
        subjects.
        """
        gaps, subjects = [], []
        for i, problem in enumerate(self.problems.values()):
            gaps.append(self.ranks[one][part][i] - self.ranks[other][part][i])
            subjects.append(problem.parts[part][:, 0])
        gap, (_, subject) = (
            np.concatenate(gaps),
            np.unique(np.concatenate(subjects), return_inverse=True),
        )
        sums = np.bincount(subject, gap - gap.mean())
        return {
            "mean": float(gap.mean()),
            "standard error": float(np.sqrt((sums**2).sum()) / len(gap)),
            "lowest seed": float(min(gap.mean() for gap in gaps)),
            "highest seed": float(max(gap.mean() for gap in gaps)),
        }


def measure() -> Results:
    """Train every system with every seed, and all that the chapter shows besides."""
    graph = load_graph()
    problems = {seed: load_problem(graph, seed) for seed in SEEDS}
    measured = _Measured(problems)
    trained = {name: measured.trained(name) for name in TRAINED}
    systems = {name: system for name, (system, _) in trained.items()}
    later = "weights made equal after training"
    found: dict[str, list[dict[str, float]]] = {later: [], UNTRAINED: []}
    for (seed, problem), model in zip(problems.items(), trained[FACTS][1], strict=True):
        with uniform_weights(model):
            found[later].append(measured.score(later, seed, functools.partial(answer, model)))
        untrained = build(ENTITIES, problem.parts["training"], problem.n_entities, seed)
        score = measured.score(UNTRAINED, seed, functools.partial(answer, untrained))
        found[UNTRAINED].append(score)
    systems |= {name: _system("ablation", scores) for name, scores in found.items()}
    for name in BASELINES:
        scores = [
            measured.score(name, seed, functools.partial(baseline, name, problem))
            for seed, problem in problems.items()
        ]
        systems[name] = _system("baseline", scores)
    sizes = {
        part: [len(problem.parts[part]) for problem in problems.values()]
        for part in ("training", "validation", *PARTS)
    }
    models = {name: found for name, (_, found) in trained.items()}
    return Results(
        task="Complete a knowledge graph: the object of a fact",
        data=f"{len(graph.facts)} facts on territories and languages, from the CLDR by Babel",
        origin="real",
        split="Fact by fact, drawn by the seed; and territories of which training has no fact",
        metric="MRR",
        higher_is_better=True,
        n_training=sizes["training"][0],
        n_test=sizes["test"][0],
        seeds=SEEDS,
        systems=systems,
        libraries=versions("babel", "torch"),
        more={
            "sizes": sizes,
            "by relation": {part: measured.by_relation(part) for part in PARTS},
            "n by relation": {
                relation: sum(int((p.parts["test"][:, 1] == i).sum()) for p in problems.values())
                for i, relation in enumerate(RELATIONS)
            },
            "difference": {
                part: {
                    f"{one} - {other}": measured.difference(one, other, part)
                    for one, other in PAIRS
                }
                for part in PARTS
            },
            "mistakes": _mistakes(problems),
            "looks": _looks(problems, models),
        },
    )


def _mistakes(problems: dict[int, Problem]) -> dict[str, list[float]]:
    """The MRR of the test part that models trained with a mistake get."""
    found: dict[str, list[float]] = {}
    for name, kind, mistake in MISTAKES:
        found[name] = []
        for seed, problem in problems.items():
            model = fit(kind, problem, seed, **mistake)
            scores = answer(model, problem.questions["test"])
            found[name].append(float(reciprocal(problem, "test", scores).mean()))
    return found


def _looks(problems: dict[int, Problem], models: dict[str, list[nn.Module]]) -> dict[str, Any]:
    """What the two models look at, and what they and the baseline lose; means over the seeds."""
    weights = [
        weight_by_relation(model, problem.questions["test"])
        for problem, model in zip(problems.values(), models[FACTS], strict=True)
    ]
    importance = [model.importance.exp()[:N_SHOWN, :N_SHOWN].detach() for model in models[ENTITIES]]
    answers = {
        name: [functools.partial(answer, model) for model in models[name]]
        for name in (FACTS, ENTITIES)
    }
    answers["similar entities"] = [
        functools.partial(baseline, "similar entities", problem) for problem in problems.values()
    ]
    losses = {
        name: np.stack([_losses(*pair) for pair in zip(problems.values(), ways, strict=True)])
        for name, ways in answers.items()
    }  # (seeds, 10, 10 and the sums of questions)
    return {
        "weights": np.mean([pair[0] for pair in weights], axis=0).tolist(),
        "equal": np.mean([pair[1] for pair in weights], axis=0).tolist(),
        "importance": torch.stack(importance).mean(dim=0).tolist(),
        "loss": {
            name: (sums[..., 0].sum(0) / sums[..., 1].sum(0)).tolist()
            for name, sums in losses.items()
        },
    }


def _losses(
    problem: Problem, answer_part: Callable[[Questions], Scores]
) -> Float[np.ndarray, "10 10 2"]:
    """What hiding a relation costs each asked relation: the sum of losses, and the questions."""
    asked, relations = problem.questions["test"], problem.parts["test"][:, 1]
    before = reciprocal(problem, "test", answer_part(asked))
    found = np.zeros((N_SHOWN, N_SHOWN, 2))
    for hidden in range(N_SHOWN):
        after = reciprocal(problem, "test", answer_part(without(asked, hidden)))
        for row in range(N_SHOWN):
            there = relations == row
            found[row, hidden] = (before - after)[there].sum(), there.sum()
    return found


def _system(role: Role, scores: list[dict[str, float]]) -> System:
    return System(role, {metric: [one[metric] for one in scores] for metric in scores[0]})
