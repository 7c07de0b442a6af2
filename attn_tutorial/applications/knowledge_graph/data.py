"""A knowledge graph of territories and languages: its parts, and its facts as questions."""

from __future__ import annotations

import collections
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from attn_tutorial.applications.knowledge_graph.cldr import in_words, read_facts

Triples = Int[np.ndarray, "n 3"]

# In the order of the chapter's tables: first all that are said of territories.
RELATIONS = (
    "official language",
    "also spoken",
    "pays in",
    "paid in",
    "lies in",
    "keeps the time of",
    "week begins on",
    "weekend begins on",
    "decimal sign",
    "clock",
    "is written in",
)
MOST_FACTS = 24
VALIDATION_SEED = 1000
VALIDATION_SHARE, TEST_SHARE = 0.1, 0.15
N_NEW = 26


class Graph(NamedTuple):
    """Who is connected with whom, and how.

    Attributes
    ----------
    entities : list of str
        Sorted; each begins with its kind: "territory CH", "language de", "currency CHF".
    names : list of str
        The same in English words.
    facts : int64 array, shape (n, 3)
        Subject, relation, object: indices into `entities` and `RELATIONS`. Sorted, none twice.
    """

    entities: list[str]
    names: list[str]
    facts: Triples


class Questions(NamedTuple):
    """Facts as questions: the object is asked for, and what else is known of the subject is given.

    Attributes
    ----------
    subject, relation, answer : int64 tensors, shape (n,)
    fact_relation, fact_entity : int64 tensors, shape (n, n_facts)
        What is known of the subject. A relation r + 11 is relation r turned round: the subject is
        its object. Zero where there is nothing.
    there : bool tensor, shape (n, n_facts)
        Where there is a fact. The asked one never is among them.
    """

    subject: Int[Tensor, " n"]
    relation: Int[Tensor, " n"]
    answer: Int[Tensor, " n"]
    fact_relation: Int[Tensor, "n n_facts"]
    fact_entity: Int[Tensor, "n n_facts"]
    there: Bool[Tensor, "n n_facts"]


def load_graph() -> Graph:
    """The graph of all facts.

    Returns
    -------
    Graph
    """
    facts = read_facts()
    entities = sorted({thing for subject, _, answer in facts for thing in (subject, answer)})
    number = {entity: i for i, entity in enumerate(entities)}
    triples = sorted(
        (number[subject], RELATIONS.index(relation), number[answer])
        for subject, relation, answer in facts
    )
    return Graph(entities, [in_words(entity) for entity in entities], np.array(triples))


def split(graph: Graph, seed: int) -> dict[str, Triples]:
    """Training, validation and test facts, and all facts of territories that nobody has met.

    The validation facts are the same for every seed, so that none of them is ever in a test part.
    Then some territories are taken out with all that is said of them, and of the other facts the
    test part is drawn one by one. A fact is asked only if training has something about its subject
    and has its object as an answer to the same relation; others are in no part.

    Parameters
    ----------
    graph : Graph
    seed : int

    Returns
    -------
    dict of int64 arrays, shape (n, 3)
        "training", "validation", "test" and "new territories".
    """
    facts = graph.facts
    in_validation = _drawn(np.random.default_rng(VALIDATION_SEED), len(facts), VALIDATION_SHARE)
    generator = np.random.default_rng(seed)
    territories = [i for i, one in enumerate(graph.entities) if one.startswith("territory ")]
    new = generator.choice(territories, N_NEW, replace=False)
    is_new = np.isin(facts[:, 0], new)
    in_test = _drawn(generator, len(facts), TEST_SHARE)
    training = facts[~in_validation & ~is_new & ~in_test]
    subjects = set(training[:, [0, 2]].flatten().tolist())
    answers = {(relation, answer) for _, relation, answer in training.tolist()}

    def asked(part: Triples, known: set[int]) -> Triples:
        kept = [
            (relation, answer) in answers and subject in known
            for subject, relation, answer in part.tolist()
        ]
        return part[kept]

    return {
        "training": training,
        "validation": asked(facts[in_validation], subjects),
        "test": asked(facts[in_test & ~in_validation], subjects),
        "new territories": asked(facts[is_new & ~in_validation], set(new.tolist())),
    }


def questions(asked: Triples, known: Triples) -> Questions:
    """Turn facts into questions, each with what is known of its subject but the asked fact itself.

    Parameters
    ----------
    asked : int array, shape (n, 3)
    known : int array, shape (m, 3)
        The facts that may be seen: those of training, say. They are seen from both ends. Of more
        than 24 facts of a subject, 24 are drawn.

    Returns
    -------
    Questions

    Raises
    ------
    ValueError
        Where an array has not three columns, or there is nothing to ask.
    """
    for name, triples in {"asked": asked, "known": known}.items():
        if triples.ndim != 2 or triples.shape[1] != 3:
            raise ValueError(f"{name} must have shape (n, 3); got {triples.shape}")
    if not len(asked):
        raise ValueError("asked must hold one fact or more; got none")
    generator = np.random.default_rng(0)
    around = collections.defaultdict(list)
    for subject, relation, answer in known.tolist():
        around[subject].append((relation, answer))
        around[answer].append((relation + len(RELATIONS), subject))
    given = []
    for subject, relation, answer in asked.tolist():
        facts = [fact for fact in around[subject] if fact != (relation, answer)]
        if len(facts) > MOST_FACTS:
            facts = [facts[i] for i in sorted(generator.permutation(len(facts))[:MOST_FACTS])]
        given.append(facts)
    longest = max(1, *map(len, given))
    table = torch.zeros(len(asked), longest, 2, dtype=torch.int64)
    there = torch.zeros(len(asked), longest, dtype=torch.bool)
    for row, facts in enumerate(given):
        there[row, : len(facts)] = True
        if facts:
            table[row, : len(facts)] = torch.tensor(facts)
    subject, relation, answer = torch.from_numpy(asked).T
    return Questions(subject, relation, answer, table[..., 0], table[..., 1], there)


def load_questions(graph: Graph, parts: dict[str, Triples]) -> dict[str, Questions]:
    """The questions of each part: those of new territories see these territories' other facts.

    Parameters
    ----------
    graph : Graph
    parts : dict of int arrays, shape (n, 3)
        By `split`.

    Returns
    -------
    dict of Questions
    """
    is_new = np.isin(graph.facts[:, 0], parts["new territories"][:, 0])
    return {
        name: questions(
            part, graph.facts[is_new] if name == "new territories" else parts["training"]
        )
        for name, part in parts.items()
    }


def true_answers(facts: Triples) -> dict[tuple[int, int], list[int]]:
    """For each subject and relation that facts have, all their objects."""
    found = collections.defaultdict(list)
    for subject, relation, answer in facts.tolist():
        found[subject, relation].append(answer)
    return dict(found)


def other_answers(asked: Triples, facts: Triples, n_entities: int) -> Bool[Tensor, "n n_entities"]:
    """Where an entity answers a question too, but another fact than the one asked for.

    Parameters
    ----------
    asked : int array, shape (n, 3)
    facts : int array, shape (m, 3)
        From which the other answers come.
    n_entities : int

    Returns
    -------
    bool tensor, shape (n, n_entities)
    """
    answers = true_answers(facts)
    found = torch.zeros(len(asked), n_entities, dtype=torch.bool)
    for row, (subject, relation, answer) in enumerate(asked.tolist()):
        found[row, answers.get((subject, relation), [])] = True
        found[row, answer] = False
    return found


def _drawn(generator: np.random.Generator, n: int, share: float) -> Bool[np.ndarray, " n"]:
    return generator.permutation(n) < int(share * n)
