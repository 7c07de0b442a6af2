"""A dictionary as a graph, in which every question needs another neighbour.

Each of n keys holds a value, each of n questions asks for one of the keys, and an arrow leads from
every key to every question. Which value belongs to which key changes from graph to graph.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from attn_tutorial.applications.graphs.layers import Edges, GraphAttention, Kind
from attn_tutorial.training import evaluating, train

N_KEYS, WIDTH = 6, 32
STEPS, PEAK = 400, 0.01
N_TRAINING, N_TEST = 500, 200


def dictionaries(seed: int) -> dict[str, Int[Tensor, "n n_keys"]]:
    """Different dictionaries for training and test: which value each key holds.

    Returns
    -------
    dict of int64 tensors
        "training" (500, 6) and "test" (200, 6), each row an order of the numbers 0 to 5; no order
        is in both.
    """
    every = torch.cartesian_prod(*[torch.arange(N_KEYS)] * N_KEYS)  # (6 ** 6, 6)
    orders = every[(every.sort(dim=1).values == torch.arange(N_KEYS)).all(dim=1)]  # (720, 6)
    orders = orders[torch.randperm(len(orders), generator=torch.Generator().manual_seed(seed))]
    return {"training": orders[:N_TRAINING], "test": orders[N_TRAINING:][:N_TEST]}


def lookup_arrows(n_graphs: int) -> Edges:
    """From each key to each question of its graph; first come all keys, then all questions.

    Returns
    -------
    int64 tensor, shape (2, n_graphs · 36)
    """
    numbers = torch.arange(n_graphs * N_KEYS).view(n_graphs, 1, N_KEYS)  # (n_graphs, 1, n_keys)
    source = numbers.expand(-1, N_KEYS, -1)
    target = numbers.mT.expand(-1, -1, N_KEYS) + n_graphs * N_KEYS
    return torch.stack([source.flatten(), target.flatten()])


class Lookup(nn.Module):
    """One layer of graph attention between keys and questions, then a small network for the value.

    Parameters
    ----------
    kind : Kind
    n_heads : int

    References
    ----------
    Brody, Alon and Yahav (2022), "How Attentive are Graph Attention Networks?", ICLR, section 4.1.
    """

    def __init__(self, *, kind: Kind, n_heads: int = 1) -> None:
        super().__init__()
        self.key = nn.Embedding(N_KEYS, WIDTH)
        self.held = nn.Embedding(N_KEYS, WIDTH)
        self.question = nn.Embedding(N_KEYS, WIDTH)
        self.attention = GraphAttention(WIDTH, n_heads, WIDTH // n_heads, kind=kind)
        self.read = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, N_KEYS))

    def embed(self, values: Int[Tensor, "n n_keys"]) -> Float[Tensor, "n_nodes width"]:
        """The vectors of all keys with what they hold, then those of all questions."""
        keys = self.key.weight + self.held(values)  # (n, n_keys, width)
        questions = self.question.weight.expand_as(keys)
        return torch.cat([keys, questions]).flatten(0, 1)

    def forward(self, values: Int[Tensor, "n n_keys"]) -> Float[Tensor, "n n_keys n_values"]:
        """Logits of the value for each question, from dictionaries (n, n_keys)."""
        output = self.attention(self.embed(values), lookup_arrows(len(values)))
        return self.read(output[values.numel() :]).unflatten(0, values.shape)

    def scores(self, values: Int[Tensor, "n n_keys"]) -> Float[Tensor, "n n_heads question key"]:
        """The score of each key for each question."""
        scores = self.attention.scores(self.embed(values), lookup_arrows(len(values)))
        return scores.view(len(values), N_KEYS, N_KEYS, -1).movedim(-1, 1)


def fit_lookup(seed: int, *, kind: Kind, n_heads: int = 1, steps: int = STEPS) -> Lookup:
    """Train on the dictionaries of the training part."""
    torch.manual_seed(seed)
    model = Lookup(kind=kind, n_heads=n_heads)
    train(
        model,
        lambda model, values: F.cross_entropy(model(values).flatten(0, 1), values.flatten()),
        [dictionaries(seed)["training"]],
        steps=steps,
        batch_size=64,
        peak=PEAK,
        warm_up=20,
        seed=seed,
    )
    return model


def lookup_accuracy(model: Lookup, values: Int[Tensor, "n n_keys"]) -> float:
    """The share of questions that are answered by the value of their key."""
    with evaluating(model):
        return float((model(values).argmax(dim=-1) == values).double().mean())
