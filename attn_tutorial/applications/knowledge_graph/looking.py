"""What attention over facts attends to, and what the answers lose when facts are hidden."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from attn_tutorial.applications.knowledge_graph.data import RELATIONS, Questions
from attn_tutorial.attribution import recording
from attn_tutorial.training import evaluating

N_SHOWN = 10  # of the eleven relations, those whose subjects are territories


def without(asked: Questions, relation: int) -> Questions:
    """The questions with all facts of one relation hidden, seen from either end."""
    return asked._replace(there=asked.there & (asked.fact_relation % len(RELATIONS) != relation))


def weight_by_relation(
    model: nn.Module, asked: Questions
) -> tuple[Float[np.ndarray, "10 10"], Float[np.ndarray, "10 10"]]:
    """From an asked relation to the relations of facts: the mean weight, and what equal ones give.

    Parameters
    ----------
    model : FactAttention
    asked : Questions

    Returns
    -------
    weights, equal : float arrays, shape (10, 10)
        Rows sum to one. Only the relations of territories.
    """
    with evaluating(model), recording(model) as record:
        model(asked)
    given = record.weights[0].mean(dim=1)[:, 0]  # (n, n_facts)
    equal = asked.there / asked.there.sum(dim=1, keepdim=True).clamp(min=1)
    found = []
    for weights in (given, equal):
        sums = torch.zeros(len(weights), 2 * len(RELATIONS))
        sums.scatter_add_(1, asked.fact_relation, weights * asked.there)
        rows = [sums[asked.relation == row, :N_SHOWN].mean(dim=0) for row in range(N_SHOWN)]
        found.append(torch.stack(rows).numpy())
    return found[0], found[1]
