"""A problem to be trained and tested on; training, answering and scoring one system."""

from __future__ import annotations

import contextlib
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from attn_tutorial.applications.knowledge_graph.baselines import most_frequent, similar_entities
from attn_tutorial.applications.knowledge_graph.data import (
    Graph,
    Questions,
    Triples,
    load_questions,
    other_answers,
    split,
)
from attn_tutorial.applications.knowledge_graph.models import Kind, build
from attn_tutorial.applications.knowledge_graph.ranking import chances, hits, reciprocal_ranks
from attn_tutorial.attribution import uniform_weights
from attn_tutorial.training import evaluating, train

Scores = Float[np.ndarray, "n n_entities"]

FACTS, ENTITIES = "attention over facts", "attention over entities"
# Chosen on the validation part.
SETTINGS: dict[str, dict[str, float]] = {
    FACTS: {"steps": 250, "peak": 1e-2, "weight_decay": 0.05},
    "facts and own vector": {"steps": 150, "peak": 1e-2, "weight_decay": 0.05},
    ENTITIES: {"steps": 100, "peak": 1e-2, "weight_decay": 0.05},
    "TransE": {"steps": 300, "peak": 1e-2, "weight_decay": 1.0},
    "DistMult": {"steps": 300, "peak": 1e-2, "weight_decay": 1.0},
    "ComplEx": {"steps": 300, "peak": 1e-2, "weight_decay": 1.0},
}
BASELINES: dict[str, dict[str, str] | None] = {
    "similar entities": {},
    "same official language": {"only": "official language"},
    "same area": {"only": "lies in"},
    "most frequent answer": None,
}


class Problem(NamedTuple):
    """One way to part the graph, ready to be trained and tested on.

    Attributes
    ----------
    n_entities : int
    facts : int64 array, shape (n, 3)
        All that is true, of all parts.
    parts : dict of int64 arrays
        As `split` returns them.
    questions : dict of Questions
        The same facts as questions.
    """

    n_entities: int
    facts: Triples
    parts: dict[str, Triples]
    questions: dict[str, Questions]


def load_problem(graph: Graph, seed: int) -> Problem:
    """Part the graph by a seed."""
    parts = split(graph, seed)
    return Problem(len(graph.entities), graph.facts, parts, load_questions(graph, parts))


def fit(
    kind: Kind,
    problem: Problem,
    seed: int,
    *,
    equal_weights: bool = False,
    leak: bool = False,
    visible: bool = False,
    **settings: float,
) -> nn.Module:
    """Train a model on the questions of the training part.

    The loss is the cross-entropy of the true answer among all entities, other answers of training
    left out: they are not wrong.

    Parameters
    ----------
    kind : one of `models.KINDS`
    problem : Problem
    seed : int
        For torch and for the order of the questions.
    equal_weights : bool
        Train with equal weights; then evaluate inside `uniform_weights(model)` too.
    leak : bool
        A mistake, to see what it does: the answers of the test part are left out of the wrong ones.
    visible : bool
        A mistake, to see what it does: the asked fact is among those given, in training.
    settings
        In place of some of `SETTINGS`, for example fewer steps.

    Returns
    -------
    module
        In evaluation mode use `answer`.
    """
    training = problem.parts["training"]
    settings = SETTINGS[kind] | settings
    model = build(kind, training, problem.n_entities, seed)
    true = problem.facts if leak else training
    others = other_answers(training, true, problem.n_entities)
    asked = problem.questions["training"]
    if visible:
        asked = with_answer(asked)

    def loss(model: nn.Module, rows: Tensor) -> Tensor:
        batch = Questions(*(part[rows] for part in asked))
        return F.cross_entropy(model(batch).masked_fill(others[rows], -1e9), batch.answer)

    with uniform_weights(model) if equal_weights else contextlib.nullcontext():
        train(
            model,
            loss,
            [torch.arange(len(training))],
            batch_size=128,
            warm_up=30,
            seed=seed,
            **settings,
        )
    return model


def answer(model: nn.Module, asked: Questions) -> Scores:
    """The scores of all entities, in evaluation mode."""
    with evaluating(model):
        return model(asked).numpy()


def reciprocal(problem: Problem, part: str, scores: Scores) -> Float[np.ndarray, " n"]:
    """The expected reciprocal rank of each question of a part, filtered, ties at random."""
    return reciprocal_ranks(*_chances(problem, part, scores))


def evaluate(problem: Problem, scores: dict[str, Scores]) -> dict[str, float]:
    """Mean reciprocal rank and hits on the test part, and the former on new territories.

    Parameters
    ----------
    problem : Problem
    scores : dict of float arrays, shape (n, n_entities)
        For the parts "test" and "new territories".

    Returns
    -------
    dict of float
    """
    ranks = _chances(problem, "test", scores["test"])
    return {
        "MRR": float(reciprocal_ranks(*ranks).mean()),
        "hits at 1": float(hits(*ranks, 1).mean()),
        "hits at 10": float(hits(*ranks, 10).mean()),
        "new territories": float(
            reciprocal(problem, "new territories", scores["new territories"]).mean()
        ),
    }


def baseline(name: str, problem: Problem, asked: Questions) -> Scores:
    """The scores of one of `BASELINES`."""
    options, training = BASELINES[name], problem.parts["training"]
    if options is None:
        return most_frequent(asked, training, problem.n_entities)
    return similar_entities(asked, training, problem.n_entities, **options)


def with_answer(asked: Questions) -> Questions:
    """The questions with their own answer among the facts: what the mask is there to prevent."""
    true = Questions(*(part[:, None] for part in asked[:3]), *asked[3:])
    return asked._replace(
        fact_relation=torch.cat([true.relation, asked.fact_relation], dim=1),
        fact_entity=torch.cat([true.answer, asked.fact_entity], dim=1),
        there=torch.cat([torch.ones_like(true.answer, dtype=torch.bool), asked.there], dim=1),
    )


def _chances(problem: Problem, part: str, scores: Scores) -> tuple[np.ndarray, np.ndarray]:
    others = other_answers(problem.parts[part], problem.facts, problem.n_entities)
    return chances(scores, problem.parts[part][:, 2], others.numpy())
