"""All facts of training as one table: a row for each entity, a column for each fact."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from attn_tutorial.applications.knowledge_graph.data import RELATIONS, Questions, Triples


class FactTable:
    """Which entity has which fact.

    A column is a relation and the entity at its other end: "lies in, Europe". Relations turned
    round have columns too: "is spoken, by Chad".

    Parameters
    ----------
    training : int array, shape (n, 3)
    n_entities : int

    Attributes
    ----------
    known : float tensor, shape (n_entities, n_columns)
        One where the entity has the fact, else zero.
    relation : int64 tensor, shape (n_columns,)
        Of each column; relation + 11 where it is turned round.
    rare : float tensor, shape (n_columns,)
        The logarithm of one over the share of entities that have the fact.
    """

    def __init__(self, training: Triples, n_entities: int) -> None:
        self.training = training
        turned = training[:, ::-1] + [0, len(RELATIONS), 0]
        facts = np.concatenate([training, turned])
        pairs, columns = np.unique(facts[:, 1:], axis=0, return_inverse=True)
        columns = torch.from_numpy(columns.reshape(-1))
        self.relation = torch.from_numpy(pairs[:, 0].copy())
        self.known = torch.zeros(n_entities, len(pairs))
        self.known[torch.from_numpy(facts[:, 0].copy()), columns] = 1
        self.rare = torch.log(n_entities / self.known.sum(dim=0))
        self._column = torch.full((2 * len(RELATIONS), n_entities), len(pairs))
        self._column[self.relation, torch.from_numpy(pairs[:, 1].copy())] = torch.arange(len(pairs))

    def seen(self, asked: Questions) -> Float[Tensor, "n n_columns"]:
        """One where a fact is given with the question; a fact that nobody else has, has no column.

        Parameters
        ----------
        asked : Questions

        Returns
        -------
        float tensor, shape (n, n_columns)
        """
        n_columns = len(self.relation)
        column = self._column[asked.fact_relation, asked.fact_entity]  # (n, n_facts)
        column = torch.where(asked.there, column, n_columns)
        rows = torch.zeros(len(column), n_columns + 1).scatter_(1, column, 1.0)
        return rows[:, :n_columns]

    def answers(
        self, relation: int
    ) -> tuple[Int[Tensor, " n_voters"], Float[Tensor, "n_voters n_entities"]]:
        """Who has an answer to a relation, and which; several answers share the one vote.

        Parameters
        ----------
        relation : int

        Returns
        -------
        voters : int64 tensor, shape (n_voters,)
        answers : float tensor, shape (n_voters, n_entities)
            Rows sum to one.
        """
        facts = self.training[self.training[:, 1] == int(relation)]
        voters, rows = np.unique(facts[:, 0], return_inverse=True)
        answers = torch.zeros(len(voters), len(self.known))
        answers[torch.from_numpy(rows.reshape(-1)), torch.from_numpy(facts[:, 2].copy())] = 1
        return torch.from_numpy(voters), answers / answers.sum(dim=1, keepdim=True)


def weighted_cosine(
    counts: Float[Tensor, " n_columns"], sharpness: float | Tensor = 1.0
) -> Callable[[Tensor, Tensor], Tensor]:
    """A score of queries and keys: their cosine, where each column counts so much.

    Parameters
    ----------
    counts : float tensor, shape (n_columns,)
        Not negative.
    sharpness : float
        Multiplies the cosine.

    Returns
    -------
    function from float tensors (n_q, n_columns) and (n_k, n_columns) to (n_q, n_k)
        Zero where a row has nothing that counts.
    """

    def score(query: Tensor, key: Tensor) -> Tensor:
        lengths = ((query**2 @ counts)[:, None] * (key**2 @ counts)).clamp(min=1e-6).sqrt()
        return sharpness * (query * counts) @ key.T / lengths

    return score
