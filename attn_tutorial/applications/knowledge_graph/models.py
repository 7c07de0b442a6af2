"""Attention over the facts of an entity, attention over other entities, and three without any."""

from __future__ import annotations

import math
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attn_tutorial import attention
from attn_tutorial.applications.knowledge_graph.data import RELATIONS, Questions, Triples
from attn_tutorial.applications.knowledge_graph.table import FactTable, weighted_cosine
from attn_tutorial.layers import MultiHeadAttention

Kind = Literal[
    "attention over facts",
    "facts and own vector",
    "attention over entities",
    "TransE",
    "DistMult",
    "ComplEx",
]
Scores = Float[Tensor, "n n_entities"]

KINDS = get_args(Kind)
SHARPNESS = 20.0  # of attention over entities before training; chosen on the validation part


class FactAttention(nn.Module):
    """The asked relation attends to the facts that are known of the entity.

    The query comes from the relation that is asked (and from the entity's own vector, where it has
    one). Key and value of a fact come from its relation and its other end. What is gathered becomes
    a vector, and each entity is scored by its dot product with it.

    Parameters
    ----------
    training : int array, shape (n, 3)
        Only for the frequencies with which the scores begin.
    n_entities : int
    d_model, n_heads : int
    dropout : float
    own : bool
        Whether the subject has a vector of its own, beside its facts.

    References
    ----------
    Bansal et al. (2019), "A2N: Attending to Neighbors for Knowledge Graph Inference", ACL. Theirs
    has one head, bilinear scores, and a relation that multiplies the gathered vector.
    """

    def __init__(
        self,
        training: Triples,
        n_entities: int,
        *,
        d_model: int = 48,
        n_heads: int = 4,
        dropout: float = 0.3,
        own: bool = False,
    ) -> None:
        super().__init__()
        n_relations = len(RELATIONS)
        self.own = own
        self.entity = _vectors(n_entities, d_model)
        self.relation = _vectors(2 * n_relations, d_model)  # and turned round
        self.asked = _vectors(n_relations, d_model)
        self.attention = MultiHeadAttention(d_model, n_heads, d_context=2 * d_model)
        self.hidden = nn.Linear((3 if own else 2) * d_model, d_model)
        self.norm = nn.LayerNorm(d_model)
        self.dropout = nn.Dropout(dropout)
        self.usual = nn.Parameter(log_frequency(training, n_entities))

    def forward(self, asked: Questions) -> Scores:
        """The score of each entity as the answer."""
        question = self.asked(asked.relation)  # (n, d_model)
        own = [self.entity(asked.subject)] if self.own else []
        facts = torch.cat(
            [self.relation(asked.fact_relation), self.entity(asked.fact_entity)], dim=-1
        )  # (n, n_facts, 2 d_model)
        query = sum(own, question)[:, None]  # (n, 1, d_model)
        heard, _ = self.attention(query, self.dropout(facts), mask=asked.there[:, None, None])
        together = torch.cat([question, heard[:, 0], *own], dim=-1)
        x = self.norm(torch.tanh(self.hidden(self.dropout(together))))  # (n, d_model)
        return self.dropout(x) @ self.entity.weight.T + self.usual[asked.relation]


class EntityAttention(nn.Module):
    """The entity of a question attends to all that have an answer, and takes over their answers.

    Query and keys are facts, a column each. The score is the cosine of the two, where a column
    counts more the fewer have the fact, times a number that is learned for each pair of asked
    relation and relation of the fact. The values are the answers. With equal weights this is the
    most frequent answer.

    Parameters
    ----------
    training : int array, shape (n, 3)
    n_entities : int

    Attributes
    ----------
    importance : float tensor, shape (11, 22)
        The logarithm of the learned number; zero before training.
    """

    def __init__(self, training: Triples, n_entities: int) -> None:
        super().__init__()
        n_relations = len(RELATIONS)
        self.table = FactTable(training, n_entities)
        self.answers = [self.table.answers(relation) for relation in range(n_relations)]
        self.importance = nn.Parameter(torch.zeros(n_relations, 2 * n_relations))
        self.sharpness = nn.Parameter(torch.full((n_relations,), math.log(SHARPNESS)))
        self.mixed = nn.Parameter(torch.full((n_relations,), -3.0))

    def attend(
        self, asked: Questions, relation: int
    ) -> tuple[Float[Tensor, "n n_entities"], Float[Tensor, "n n_voters"]]:
        """The answers to questions that all ask for one relation, and the weights of the voters.

        Parameters
        ----------
        asked : Questions
        relation : int

        Returns
        -------
        output : float tensor, shape (n, n_entities)
        weights : float tensor, shape (n, n_voters)
            The voters as in `answers[relation]`. The subject itself has no vote.
        """
        voters, answers = self.answers[relation]
        counts = self.table.rare * self.importance[relation].exp()[self.table.relation]
        score = weighted_cosine(counts, self.sharpness[relation].exp())
        others = voters != asked.subject[:, None]  # (n, n_voters)
        return attention(
            self.table.seen(asked), self.table.known[voters], answers, score=score, mask=others
        )

    def forward(self, asked: Questions) -> Scores:
        """The logarithm of the share of the votes, a little of the usual answers mixed in."""
        shares = torch.zeros(len(asked.subject), len(self.table.known))
        for relation in asked.relation.unique().tolist():
            rows = asked.relation == relation
            output, _ = self.attend(Questions(*(part[rows] for part in asked)), relation)
            usual = self.answers[relation][1].mean(dim=0)  # (n_entities,)
            shares[rows] = torch.lerp(output, usual, self.mixed[relation].sigmoid())
        return (shares + 1e-9).log()


class VectorModel(nn.Module):
    """One vector for each entity and relation; a question is answered from these alone.

    Parameters
    ----------
    kind : "TransE", "DistMult" or "ComplEx"
        The distance from subject plus relation to object; the sum of the products of the three,
        number by number; the same with complex numbers, its real part, the object conjugate.
    training : int array, shape (n, 3)
        Only for the frequencies with which the scores begin.
    n_entities : int
    d_model : int
        How many real numbers a vector has.
    dropout : float

    References
    ----------
    Bordes et al. (2013), "Translating Embeddings for Modeling Multi-relational Data", NeurIPS.
    Yang et al. (2015), "Embedding Entities and Relations for Learning and Inference in Knowledge
    Bases", ICLR.
    Trouillon et al. (2016), "Complex Embeddings for Simple Link Prediction", ICML.
    """

    def __init__(
        self,
        kind: Literal["TransE", "DistMult", "ComplEx"],
        training: Triples,
        n_entities: int,
        *,
        d_model: int = 48,
        dropout: float = 0.3,
    ) -> None:
        super().__init__()
        self.kind = kind
        self.entity = _vectors(n_entities, d_model)
        self.relation = nn.Embedding(len(RELATIONS), d_model)  # of length d_model ** 0.5
        self.scale = nn.Parameter(torch.tensor(3.0))
        self.dropout = nn.Dropout(dropout)
        self.usual = nn.Parameter(log_frequency(training, n_entities))

    def forward(self, asked: Questions) -> Scores:
        """The score of each entity as the answer."""
        subject = self.dropout(self.entity(asked.subject))  # (n, d_model)
        relation = self.relation(asked.relation)
        scores = self.scale * self._fit(subject, relation, self.entity.weight)
        return scores + self.usual[asked.relation]

    def _fit(self, subject: Tensor, relation: Tensor, answer: Tensor) -> Scores:
        if self.kind == "TransE":
            return -torch.cdist(subject + relation, answer)
        if self.kind == "DistMult":
            return subject * relation @ answer.T
        a, b = subject.chunk(2, dim=-1)  # real and imaginary part
        c, d = relation.chunk(2, dim=-1)
        return torch.cat([a * c - b * d, a * d + b * c], dim=-1) @ answer.T


def build(kind: Kind, training: Triples, n_entities: int, seed: int, **sizes: float) -> nn.Module:
    """An untrained model, a function of its arguments.

    Parameters
    ----------
    kind : one of `KINDS`
    training : int array, shape (n, 3)
    n_entities, seed : int
    sizes
        As in the class of that kind; attention over entities has none.

    Returns
    -------
    module, from Questions to float tensor (n, n_entities)

    Raises
    ------
    ValueError
        Where the kind is unknown.
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {KINDS}; got {kind!r}")
    torch.manual_seed(seed)
    if kind == "attention over entities":
        return EntityAttention(training, n_entities)
    if kind in ("attention over facts", "facts and own vector"):
        own = kind == "facts and own vector"
        return FactAttention(training, n_entities, own=own, **sizes)
    return VectorModel(kind, training, n_entities, **sizes)


def log_frequency(training: Triples, n_entities: int) -> Float[Tensor, "n_relations n_entities"]:
    """The logarithm of how often an entity is the answer to a relation, a tenth added."""
    counts = torch.full((len(RELATIONS), n_entities), 0.1)
    relation, answer = torch.from_numpy(training[:, 1:].copy()).T
    return counts.index_put((relation, answer), torch.tensor(1.0), accumulate=True).log()


def _vectors(n: int, d_model: int) -> nn.Embedding:
    """Random vectors of length about one."""
    table = nn.Embedding(n, d_model)
    nn.init.normal_(table.weight, std=d_model**-0.5)
    return table
