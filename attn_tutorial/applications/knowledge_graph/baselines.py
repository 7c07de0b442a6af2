"""What needs no training: the most frequent answer, and the answers of similar entities."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float

from attn_tutorial.applications.knowledge_graph.data import RELATIONS, Questions, Triples
from attn_tutorial.applications.knowledge_graph.table import FactTable, weighted_cosine

Scores = Float[np.ndarray, "n n_entities"]

POWER = 3  # of the likeness; chosen on the validation part


def most_frequent(asked: Questions, training: Triples, n_entities: int) -> Scores:
    """How often each entity is the answer to the asked relation in training."""
    counts = np.zeros((len(RELATIONS), n_entities))
    np.add.at(counts, (training[:, 1], training[:, 2]), 1)
    return counts[asked.relation.numpy()]


def similar_entities(
    asked: Questions,
    training: Triples,
    n_entities: int,
    *,
    only: str | None = None,
) -> Scores:
    """The votes of those who share facts with the subject.

    Two entities are alike by the cosine of their facts, where a fact that few share counts more;
    each votes for its own answers to the asked relation with its likeness, cubed. What gets
    no vote is ordered by its frequency.

    Parameters
    ----------
    asked : Questions
        Only the facts given in them are seen of the subject.
    training : int array, shape (n, 3)
    n_entities : int
    only : str, optional
        A relation: no other fact is looked at.

    Returns
    -------
    float array, shape (n, n_entities)

    Raises
    ------
    ValueError
        Where the relation is unknown.
    """
    if only is not None and only not in RELATIONS:
        raise ValueError(f"only must be one of {RELATIONS}; got {only!r}")
    table = FactTable(training, n_entities)
    counts = table.rare  # (n_columns,)
    if only is not None:
        counts = counts * (table.relation % len(RELATIONS) == RELATIONS.index(only))
    likeness = weighted_cosine(counts)(table.seen(asked), table.known) ** POWER
    likeness[torch.arange(len(likeness)), asked.subject] = 0  # nobody votes on itself
    votes = 1e-4 * most_frequent(asked, training, n_entities)
    for relation in asked.relation.unique():
        voters, answers = table.answers(relation)
        rows = asked.relation == relation
        votes[rows.numpy()] += (likeness[rows][:, voters] @ answers).numpy()
    return votes
