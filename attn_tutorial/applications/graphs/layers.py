"""Attention on a graph: the mask is the set of a node's neighbours.

A node asks, its neighbours and itself answer. Three scores: those of GAT and GATv2, and the scaled
dot product of a Transformer. Without learned weights the same layer averages the neighbours, or is
that of a graph convolutional network.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Literal, NamedTuple, get_args

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from scipy import sparse
from torch import Tensor, nn

from attn_tutorial.training import evaluating, train

Kind = Literal["GAT", "GATv2", "dot product", "equal", "GCN"]
Edges = Int[Tensor, "2 n_edges"]

N_HEADS, D_HEAD, DROPOUT = 4, 16, 0.5
STEPS, PEAK = 80, 0.01
LEAK = 0.2  # the slope of LeakyReLU below zero, that of both papers


def with_both_directions(edges: Edges, n_nodes: int, *, loops: bool = True) -> Edges:
    """From each pair of neighbours two arrows, and by default one from each node to itself.

    Parameters
    ----------
    edges : int64 tensor, shape (2, n_edges)
    n_nodes : int
    loops : bool

    Returns
    -------
    int64 tensor, shape (2, 2 · n_edges + n_nodes)
        In the first row who answers (the source), in the second who asks (the target).

    Raises
    ------
    ValueError
        Where an edge leads to no node.
    """
    if edges.numel() and not 0 <= int(edges.min()) <= int(edges.max()) < n_nodes:
        raise ValueError(
            f"edges must join nodes from 0 to {n_nodes - 1}; "
            f"got {int(edges.min())} to {int(edges.max())}"
        )
    own = torch.arange(n_nodes if loops else 0).expand(2, -1)
    return torch.cat([edges, edges.flip(0), own], dim=1)


def softmax_by_target(
    scores: Float[Tensor, "n_arrows n_heads"], targets: Int[Tensor, " n_arrows"], n_nodes: int
) -> Float[Tensor, "n_arrows n_heads"]:
    """The softmax over the arrows that lead to one node, for every node.

    Parameters
    ----------
    scores : float tensor, shape (n_arrows, n_heads)
    targets : int64 tensor, shape (n_arrows,)
    n_nodes : int

    Returns
    -------
    float tensor, shape (n_arrows, n_heads)
    """
    index = targets[:, None].expand_as(scores)  # (n_arrows, n_heads)
    zeros = scores.new_zeros(n_nodes, scores.shape[1])
    highest = zeros.scatter_reduce(0, index, scores.detach(), "amax", include_self=False)
    raised = (scores - highest[targets]).exp()
    return raised / zeros.index_add(0, targets, raised)[targets]


class GraphAttention(nn.Module):
    """Each node attends to the nodes from which an arrow leads to it.

    With W for values and keys, U for queries, and a vector a in each head, the score of node j for
    the query of node i is

        GAT            LeakyReLU(a · [W h_i, W h_j])
        GATv2          a · LeakyReLU(U h_i + W h_j)
        dot product    (U h_i) · (K h_j) / √d_head
        equal          0

    and a softmax over j makes weights. GCN has no softmax: the weight of j is 1 / √(n_i n_j), where
    n counts the arrows to a node.

    Parameters
    ----------
    d_in, n_heads, d_head : int
    kind : "GAT", "GATv2", "dot product", "equal" or "GCN"
    dropout : float
        The probability with which a weight is dropped in training.

    Raises
    ------
    ValueError
        Where there is no such kind.

    References
    ----------
    Veličković et al. (2018), "Graph Attention Networks", ICLR, equation 3.
    Brody, Alon and Yahav (2022), "How Attentive are Graph Attention Networks?", ICLR, equation 7.
    Kipf and Welling (2017), "Semi-Supervised Classification with Graph Convolutional Networks",
    ICLR, equation 2.
    """

    def __init__(
        self, d_in: int, n_heads: int, d_head: int, *, kind: Kind, dropout: float = 0.0
    ) -> None:
        super().__init__()
        if kind not in get_args(Kind):
            raise ValueError(f"kind must be one of {get_args(Kind)}; got {kind!r}")
        self.kind, self.n_heads, self.d_head, self.dropout = kind, n_heads, d_head, dropout
        self.value = nn.Linear(d_in, n_heads * d_head, bias=False)
        self.bias = nn.Parameter(torch.zeros(n_heads * d_head))
        nn.init.xavier_uniform_(self.value.weight)
        if kind in ("GATv2", "dot product"):
            self.query = nn.Linear(d_in, n_heads * d_head, bias=False)
            nn.init.xavier_uniform_(self.query.weight)
        if kind == "dot product":
            self.key = nn.Linear(d_in, n_heads * d_head, bias=False)
            nn.init.xavier_uniform_(self.key.weight)
        if kind in ("GAT", "GATv2"):
            shape = (2, n_heads, d_head) if kind == "GAT" else (n_heads, d_head)
            self.a = nn.Parameter(torch.randn(shape) / math.sqrt(d_head))

    def scores(
        self, x: Float[Tensor, "n_nodes d_in"], arrows: Edges
    ) -> Float[Tensor, "n_arrows n_heads"]:
        """How well the source of each arrow fits its target."""
        source, target = arrows
        value = self._heads(self.value(x))  # (n_nodes, n_heads, d_head)
        if self.kind == "GAT":
            of_query, of_key = ((value * a).sum(dim=-1) for a in self.a)  # (n_nodes, n_heads)
            return F.leaky_relu(of_query[target] + of_key[source], LEAK)
        if self.kind == "GATv2":
            query = self._heads(self.query(x))
            return (F.leaky_relu(query[target] + value[source], LEAK) * self.a).sum(dim=-1)
        if self.kind == "dot product":
            query, key = self._heads(self.query(x)), self._heads(self.key(x))
            return (query[target] * key[source]).sum(dim=-1) / math.sqrt(self.d_head)
        return value.new_zeros(arrows.shape[1], self.n_heads)

    def weights(
        self, x: Float[Tensor, "n_nodes d_in"], arrows: Edges
    ) -> Float[Tensor, "n_arrows n_heads"]:
        """The weight of each arrow; those to one node sum to one, except in a GCN."""
        if self.kind == "GCN":
            degree = arrows[1].bincount(minlength=len(x)).to(x.dtype)
            return degree[arrows].prod(dim=0).rsqrt()[:, None].expand(-1, self.n_heads)
        return softmax_by_target(self.scores(x, arrows), arrows[1], len(x))

    def forward(
        self, x: Float[Tensor, "n_nodes d_in"], arrows: Edges
    ) -> Float[Tensor, "n_nodes n_heads*d_head"]:
        """Average the values of the sources, with the weights; the heads side by side."""
        weights = F.dropout(self.weights(x, arrows), self.dropout, self.training)
        value = self._heads(self.value(x))[arrows[0]]  # (n_arrows, n_heads, d_head)
        output = x.new_zeros(len(x), self.n_heads, self.d_head)
        output = output.index_add(0, arrows[1], weights[..., None] * value)
        return output.flatten(1) + self.bias

    def _heads(self, x: Float[Tensor, "n_nodes width"]) -> Float[Tensor, "n_nodes n_heads d_head"]:
        return x.unflatten(1, (self.n_heads, self.d_head))


class Features(NamedTuple):
    """The words of all nodes, one node after the other (the rows of a sparse matrix).

    Attributes
    ----------
    words : int64 tensor, shape (n_words,)
    begins : int64 tensor, shape (n_nodes,)
        Where the words of a node begin.
    strengths : float tensor, shape (n_words,)
        How much a word counts.
    """

    words: Int[Tensor, " n_words"]
    begins: Int[Tensor, " n_nodes"]
    strengths: Float[Tensor, " n_words"]

    @classmethod
    def of_rows(cls, rows: sparse.csr_matrix) -> Features:
        """From a sparse matrix (n_nodes, n_different_words)."""
        return cls(
            torch.from_numpy(rows.indices.astype(np.int64)),
            torch.from_numpy(rows.indptr[:-1].astype(np.int64)),
            torch.from_numpy(rows.data.astype(np.float32)),
        )


class NodeClassifier(nn.Module):
    """A vector from each node's words, then two layers of graph attention, the last for the labels.

    Parameters
    ----------
    n_features, n_labels : int
    kind : Kind
        How the layers weight neighbours.
    n_heads, d_head : int
        Of the first layer; the second has one head, as wide as there are labels.
    dropout : float
        Of the features, of the vectors between the layers, and of the weights.
    """

    def __init__(
        self,
        n_features: int,
        n_labels: int,
        *,
        kind: Kind,
        n_heads: int = N_HEADS,
        d_head: int = D_HEAD,
        dropout: float = DROPOUT,
    ) -> None:
        super().__init__()
        width = n_heads * d_head
        self.words = nn.Parameter(torch.empty(n_features, width))
        nn.init.xavier_uniform_(self.words)
        self.first = GraphAttention(width, n_heads, d_head, kind=kind, dropout=dropout)
        self.second = GraphAttention(width, 1, n_labels, kind=kind, dropout=dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(self, features: Features, arrows: Edges) -> Float[Tensor, "n_nodes n_labels"]:
        """Logits from the words of all nodes and the arrows between them."""
        return self.second(self.dropout(self.hidden(features, arrows)), arrows)

    def embed(self, features: Features) -> Float[Tensor, "n_nodes width"]:
        """What the first layer sees: the sum of the vectors of a node's words."""
        strengths = self.dropout(features.strengths)
        x = F.embedding_bag(
            features.words,
            self.words,
            features.begins,
            mode="sum",
            per_sample_weights=strengths,
        )
        return self.dropout(F.elu(x))

    def hidden(self, features: Features, arrows: Edges) -> Float[Tensor, "n_nodes width"]:
        """What the second layer sees."""
        return F.elu(self.first(self.embed(features), arrows))


@contextlib.contextmanager
def equal_weights(model: nn.Module) -> Iterator[None]:
    """Within this context each node gives all nodes that it may attend to the same weight."""
    layers = [module for module in model.modules() if isinstance(module, GraphAttention)]
    kinds = [layer.kind for layer in layers]
    try:
        for layer in layers:
            layer.kind = "equal"
        yield
    finally:
        for layer, kind in zip(layers, kinds, strict=True):
            layer.kind = kind


def fit(
    features: Features,
    arrows: Edges,
    labels: Int[Tensor, " n_nodes"],
    parts: dict[str, Tensor],
    *,
    kind: Kind,
    seed: int,
    n_features: int,
    steps: int = STEPS,
) -> tuple[NodeClassifier, list[float]]:
    """Train a network on the labels of the training part.

    Where there is a validation part, the parameters that are best on it are kept.

    Parameters
    ----------
    features : Features
    arrows : int64 tensor, shape (2, n_arrows)
        Without those from other nodes the network knows its own words alone.
    labels : int64 tensor, shape (n_nodes,)
        Those of other nodes than "training" and "validation" are not looked at.
    parts : dict of int64 tensors
    kind : Kind
    seed : int
    n_features : int
    steps : int

    Returns
    -------
    model : NodeClassifier
    losses : list of float
    """
    torch.manual_seed(seed)
    model = NodeClassifier(n_features, int(labels.max()) + 1, kind=kind)

    def loss(model: nn.Module, nodes: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(model(features, arrows)[nodes], labels)

    def validate(model: nn.Module) -> float:
        nodes = parts["validation"]
        return loss(model, nodes, labels[nodes]).item()

    nodes = parts["training"]
    history = train(
        model,
        loss,
        [nodes, labels[nodes]],
        steps=steps,
        batch_size=len(nodes),
        peak=PEAK,
        warm_up=20,
        validate=validate if "validation" in parts else None,
        validate_every=10,
        seed=seed,
    )
    return model, history.losses


def guesses(model: NodeClassifier, features: Features, arrows: Edges) -> Int[Tensor, " n_nodes"]:
    """The most probable label of every node."""
    with evaluating(model):
        return model(features, arrows).argmax(dim=1)
