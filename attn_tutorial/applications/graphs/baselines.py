"""What somebody would try first on a network: words, neighbours' words, neighbours' labels."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy import sparse
from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from torch import Tensor

from attn_tutorial.applications.graphs.data import Network, words_of
from attn_tutorial.applications.graphs.layers import Edges, with_both_directions


def features_of(network: Network) -> sparse.csr_matrix:
    """How much each word counts in each summary (tf-idf); words that occur once are left out.

    The summaries of all nodes are known, only the labels are not: words may be counted everywhere.

    Returns
    -------
    sparse float64 matrix, shape (n_nodes, n_words)
    """
    counts = CountVectorizer(analyzer=words_of, min_df=2).fit_transform(network.summaries)
    return TfidfTransformer(sublinear_tf=True).fit_transform(counts).tocsr()


def scores_of(
    said: Int[Tensor, " n_nodes"], labels: Int[Tensor, " n_nodes"], nodes: Int[Tensor, " n"]
) -> dict[str, float]:
    """Balanced accuracy, the mean over the labels of the share that is right, and accuracy."""
    return {
        "balanced accuracy": float(balanced_accuracy_score(labels[nodes], said[nodes])),
        "accuracy": float((said[nodes] == labels[nodes]).double().mean()),
    }


def propagate_labels(
    arrows: Edges,
    labels: Int[Tensor, " n_nodes"],
    known: Int[Tensor, " n"],
    *,
    keep: float,
    rounds: int = 100,
) -> Float[Tensor, "n_nodes n_labels"]:
    """Each node takes over what its neighbours hold, and those that are known hold on to their own.

    Parameters
    ----------
    arrows : int64 tensor, shape (2, n_arrows)
        Without loops.
    labels, known : int64 tensors
        Only the labels of the nodes in `known` are looked at.
    keep : float
        How much of a node's own label comes back in every round.
    rounds : int

    Returns
    -------
    float64 tensor, shape (n_nodes, n_labels)
        How much of each label arrived; zeros where no known node can be reached.

    References
    ----------
    Zhou et al. (2004), "Learning with Local and Global Consistency", NeurIPS.
    """
    n_nodes = len(labels)
    degree = arrows[1].bincount(minlength=n_nodes)
    strength = degree[arrows].prod(dim=0).double().rsqrt()[:, None]  # (n_arrows, 1)
    begin = torch.zeros(n_nodes, int(labels.max()) + 1, dtype=torch.float64)
    begin[known, labels[known]] = 1
    held = begin
    for _ in range(rounds):
        arriving = torch.zeros_like(held).index_add(0, arrows[1], strength * held[arrows[0]])
        held = (1 - keep) * arriving + keep * begin
    return held


def averaged(rows: sparse.csr_matrix, arrows: Edges, times: int) -> sparse.csr_matrix:
    """Replace the words of each node by the mean over the nodes that reach it, several times.

    With logistic regression on top this is a simple graph convolution.

    References
    ----------
    Wu et al. (2019), "Simplifying Graph Convolutional Networks", ICML, with equal weights.
    """
    source, target = arrows.numpy()
    n_nodes = rows.shape[0]
    degree = np.bincount(target, minlength=n_nodes)
    mean = sparse.csr_matrix((1 / degree[target], (target, source)), shape=(n_nodes, n_nodes))
    for _ in range(times):
        rows = mean @ rows
    return rows


def logistic_regression(
    rows: sparse.csr_matrix,
    labels: Int[Tensor, " n_nodes"],
    parts: dict[str, Tensor],
    strengths: tuple[float, ...] = (1, 10, 100),
) -> tuple[Int[Tensor, " n_nodes"], float]:
    """Its guesses for all nodes, and its balanced accuracy on the validation part.

    The strength of regularisation is the best one on that part.
    """
    found = []
    for strength in strengths:
        model = LogisticRegression(C=strength, max_iter=500)
        model.fit(rows[parts["training"].numpy()], labels[parts["training"]].numpy())
        said = torch.from_numpy(model.predict(rows))
        score = scores_of(said, labels, parts["validation"])["balanced accuracy"]
        found.append((score, said))
    score, said = max(found, key=lambda pair: pair[0])
    return said, score


def commonest(network: Network, parts: dict[str, Tensor]) -> Int[Tensor, " n_nodes"]:
    """The place with most nodes, for every node."""
    return torch.full_like(network.labels, int(network.labels.bincount().argmax()))


def own_words(network: Network, parts: dict[str, Tensor]) -> Int[Tensor, " n_nodes"]:
    """Logistic regression on the words of each summary."""
    return logistic_regression(features_of(network), network.labels, parts)[0]


def neighbours_words(network: Network, parts: dict[str, Tensor]) -> Int[Tensor, " n_nodes"]:
    """Logistic regression on the words around each node; how far, the validation part says."""
    rows, n_nodes = features_of(network), len(network.names)
    arrows = with_both_directions(network.edges, n_nodes)
    found = [
        logistic_regression(averaged(rows, arrows, times), network.labels, parts)
        for times in (1, 2, 4, 8)
    ]
    return max(found, key=lambda pair: pair[1])[0]


def neighbours_labels(network: Network, parts: dict[str, Tensor]) -> Int[Tensor, " n_nodes"]:
    """Propagated labels; how much is kept is chosen on the validation part."""
    arrows = with_both_directions(network.edges, len(network.names), loops=False)
    found = []
    for keep in (0.01, 0.1, 0.2, 0.5):
        held = propagate_labels(arrows, network.labels, parts["training"], keep=keep)
        said = held.argmax(dim=1)
        said[held.sum(dim=1) == 0] = int(network.labels.bincount().argmax())  # nothing arrived
        score = scores_of(said, network.labels, parts["validation"])["balanced accuracy"]
        found.append((score, said))
    return max(found, key=lambda pair: pair[0])[1]
