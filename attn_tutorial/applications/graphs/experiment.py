"""Graphs: where a function lives, told by its words and its neighbours; and what GAT cannot see.

Three tasks. A few labelled members of six libraries, and a network of thousands whose labels are to
be guessed. A karate club with two labels. And a lookup in a small dictionary, in which the weights
of GAT cannot depend on the question.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import networkx
import numpy as np
import torch
from jaxtyping import Bool, Int
from scipy import sparse
from torch import Tensor, nn

from attn_tutorial.applications.graphs.baselines import (
    commonest,
    features_of,
    neighbours_labels,
    neighbours_words,
    own_words,
    propagate_labels,
    scores_of,
)
from attn_tutorial.applications.graphs.data import (
    LIBRARIES,
    Network,
    karate_club,
    load_network,
    split,
)
from attn_tutorial.applications.graphs.layers import (
    STEPS,
    Edges,
    Features,
    Kind,
    NodeClassifier,
    equal_weights,
    fit,
    guesses,
    with_both_directions,
)
from attn_tutorial.applications.graphs.lookup import dictionaries, fit_lookup, lookup_accuracy
from attn_tutorial.applications.measuring import over_seeds
from attn_tutorial.applications.results import Results, Role, System, versions
from attn_tutorial.training import evaluating

SEEDS = [0, 1, 2, 3, 4]
CONDITION_SEEDS = [0, 1, 2]
KARATE_SEEDS = 20
MANY, MANY_STEPS = 0.5, 120  # labels of half the nodes take more steps

NETWORKS: dict[str, tuple[Role, Kind]] = {
    "GAT": ("attention", "GAT"),
    "GATv2": ("attention", "GATv2"),
    "dot product": ("attention", "dot product"),
    "GCN": ("rival", "GCN"),
    "own words alone": ("rival", "equal"),
    "trained with equal weights": ("ablation", "equal"),
}
LOOKUPS: list[tuple[str, Kind, int]] = [
    ("GAT, one head", "GAT", 1),
    ("GAT, four heads", "GAT", 4),
    ("GATv2, one head", "GATv2", 1),
    ("dot product, one head", "dot product", 1),
    ("equal weights", "equal", 1),
]
BASELINES = {
    "commonest place": commonest,
    "logistic regression, own words": own_words,
    "logistic regression, words around": neighbours_words,
    "label propagation": neighbours_labels,
}


def false_edges(network: Network, seed: int) -> Edges:
    """As many pairs of nodes as there are edges, drawn without regard to the libraries."""
    generator = np.random.default_rng((seed, 1))
    return torch.from_numpy(generator.integers(0, len(network.names), network.edges.shape))


def distances(edges: Edges, n_nodes: int, begin: Int[Tensor, " n"]) -> Int[Tensor, " n_nodes"]:
    """How many steps it is from the nearest of some nodes; -1 where there is no way."""
    graph = networkx.Graph(edges.T.tolist())
    graph.add_nodes_from(range(n_nodes))
    lengths = networkx.multi_source_dijkstra_path_length(graph, set(begin.tolist()))
    return torch.tensor([lengths.get(node, -1) for node in range(n_nodes)])


def fit_karate(seed: int, known: Int[Tensor, " n"], *, kind: Kind) -> tuple[NodeClassifier, float]:
    """A network that knows who met whom and the side of a few, and its accuracy on the others.

    A person's only feature is who it is. There is no validation part: nothing is chosen.
    """
    labels, edges = karate_club()
    n_people = len(labels)
    features, arrows = nobody_else(n_people), with_both_directions(edges, n_people)
    model, _ = fit(
        features, arrows, labels, {"training": known}, kind=kind, seed=seed, n_features=n_people
    )
    others = torch.ones(n_people, dtype=torch.bool).index_fill(0, known, False)
    said = guesses(model, features, arrows)
    return model, float((said == labels)[others].double().mean())


def nobody_else(n_nodes: int) -> Features:
    """One word for each node, that nobody else has."""
    return Features.of_rows(sparse.identity(n_nodes, format="csr"))


def karate_draw(seed: int) -> Int[Tensor, " 2"]:
    """One member of each side, drawn."""
    generator, (labels, _) = np.random.default_rng(seed), karate_club()
    return torch.tensor(
        [int(generator.choice((labels == side).nonzero().flatten())) for side in (0, 1)]
    )


def measure_karate() -> dict[str, Any]:
    """Accuracy with the two leaders known and with two drawn, for 20 seeds; and who was wrong."""
    labels, edges = karate_club()
    both_ways = with_both_directions(edges, len(labels), loops=False)
    found: dict[str, Any] = {}
    for case in ("leaders", "drawn"):
        known = [
            torch.tensor([0, len(labels) - 1]) if case == "leaders" else karate_draw(seed)
            for seed in range(KARATE_SEEDS)
        ]
        found[case] = {
            kind: [fit_karate(seed, known[seed], kind=kind)[1] for seed in range(KARATE_SEEDS)]
            for kind in ("GAT", "GATv2", "equal", "GCN")
        }
        found[case]["label propagation"] = []
        for nodes in known:
            said = propagate_labels(both_ways, labels, nodes, keep=0.1).argmax(dim=1)
            right = (said == labels).double().sum() - len(nodes)  # the known ones are right
            found[case]["label propagation"].append(float(right) / (len(labels) - len(nodes)))
    return found


def share_on_false(
    model: NodeClassifier, features: Features, arrows: Edges, false: Bool[Tensor, " n_arrows"]
) -> float:
    """How much of the weight that goes to other nodes goes along false arrows, in both layers.

    Averaged over the heads, the layers, and the nodes to which arrows of both sorts lead.
    """
    n_nodes = len(features.begins)
    other = arrows[0] != arrows[1]  # (n_arrows,)
    with evaluating(model):
        x = model.embed(features)
        hidden = model.hidden(features, arrows)
        weights = torch.cat(
            [model.first.weights(x, arrows), model.second.weights(hidden, arrows)], dim=1
        ).mean(dim=1)  # (n_arrows,)
    sums = {
        name: torch.zeros(n_nodes).index_add(0, arrows[1, there], weights[there])
        for name, there in {"false": false & other, "true": ~false & other}.items()
    }
    both = (sums["false"] > 0) & (sums["true"] > 0)
    return float((sums["false"] / (sums["false"] + sums["true"]))[both].mean())


def measure_conditions(network: Network) -> dict[str, Any]:
    """Few and many labels, with and without as many false edges: balanced accuracies.

    Few labels without false edges are what `measure` does anyway.
    """
    n_nodes, rows = len(network.names), features_of(network)
    features = Features.of_rows(rows)
    found: dict[str, Any] = {}
    for labels, edges in (("few", "false too"), ("many", "true"), ("many", "false too")):
        scores: dict[str, list[float]] = {}
        shares: dict[str, list[float]] = {}
        for seed in CONDITION_SEEDS:
            parts = split(network, seed, share=MANY if labels == "many" else None)
            around = network
            if edges == "false too":
                joined = torch.cat([network.edges, false_edges(network, seed)], dim=1)
                around = dataclasses.replace(network, edges=joined)
            arrows = with_both_directions(around.edges, n_nodes)
            said = {"logistic regression, words around": neighbours_words(around, parts)}
            for kind in ("GAT", "GATv2", "dot product", "equal", "GCN"):
                model, _ = fit(
                    features,
                    arrows,
                    network.labels,
                    parts,
                    kind=kind,
                    seed=seed,
                    n_features=rows.shape[1],
                    steps=MANY_STEPS if labels == "many" else STEPS,
                )
                said[kind] = guesses(model, features, arrows)
                if edges == "false too" and kind != "GCN":
                    false = is_false(arrows, network.edges.shape[1], n_nodes)
                    share = share_on_false(model, features, arrows, false)
                    shares.setdefault(kind, []).append(share)
            for name, labels_said in said.items():
                score = scores_of(labels_said, network.labels, parts["test"])
                scores.setdefault(name, []).append(score["balanced accuracy"])
        found[f"{labels} labels, {edges}"] = {
            "scores": scores,
            "weight on false": shares,
            "n_training": len(parts["training"]),
            "n_test": len(parts["test"]),
        }
    return found


def is_false(arrows: Edges, n_true: int, n_nodes: int) -> Bool[Tensor, " n_arrows"]:
    """Which arrows are false, where the true edges come first, and a loop to each node last."""
    n_edges = (arrows.shape[1] - n_nodes) // 2
    one_way = torch.arange(n_edges) >= n_true
    return torch.cat([one_way, one_way, torch.zeros(n_nodes, dtype=torch.bool)])


def measure_lookup() -> dict[str, Any]:
    """Accuracy on dictionaries that were not trained on, for three seeds."""
    found: dict[str, Any] = {}
    for name, kind, n_heads in LOOKUPS:
        models = [fit_lookup(seed, kind=kind, n_heads=n_heads) for seed in CONDITION_SEEDS]
        found[name] = {
            part: [
                lookup_accuracy(model, dictionaries(seed)[part])
                for seed, model in zip(CONDITION_SEEDS, models, strict=True)
            ]
            for part in ("training", "test")
        }
    return found


def measure() -> Results:
    """Train all systems with all seeds, and all that the chapter shows besides."""
    network = load_network()
    labels, n_nodes, rows = network.labels, len(network.names), features_of(network)
    features = Features.of_rows(rows)
    joined = with_both_directions(network.edges, n_nodes)
    alone = torch.arange(n_nodes).expand(2, -1)
    parts = {seed: split(network, seed) for seed in SEEDS}
    steps = {seed: distances(network.edges, n_nodes, parts[seed]["training"]) for seed in SEEDS}
    by_distance: dict[str, list[dict[str, float]]] = {}
    seed_of: dict[nn.Module, int] = {}

    def score(name: str, seed: int, said: Tensor) -> dict[str, float]:
        test = parts[seed]["test"]
        right = (said == labels)[test].double()
        by_distance.setdefault(name, []).append(
            {
                group: float(right[there].mean())
                for group, there in groups_of(steps[seed][test]).items()
            }
        )
        return scores_of(said, labels, test)

    def measure_network(name: str) -> tuple[System, list[nn.Module]]:
        role, kind = NETWORKS[name]
        arrows = alone if name == "own words alone" else joined

        def fit_one(seed: int) -> nn.Module:
            model, _ = fit(
                features,
                arrows,
                labels,
                parts[seed],
                kind=kind,
                seed=seed,
                n_features=rows.shape[1],
            )
            seed_of[model] = seed
            return model

        def evaluate(model: nn.Module) -> dict[str, float]:
            return score(name, seed_of[model], guesses(model, features, arrows))

        return over_seeds(role, SEEDS, fit_one, evaluate)

    measured = {name: measure_network(name) for name in NETWORKS}
    systems = {name: system for name, (system, _) in measured.items()}
    name, taken = "GATv2, equal weights afterwards", []
    for seed, model in zip(SEEDS, measured["GATv2"][1], strict=True):
        with equal_weights(model):
            taken.append(score(name, seed, guesses(model, features, joined)))
    systems[name] = _system("ablation", taken)
    for name, guess in BASELINES.items():
        found = [score(name, seed, guess(network, parts[seed])) for seed in SEEDS]
        systems[name] = _system("baseline", found)
    return Results(
        task="Which part of which library a function is from",
        data=(
            f"{n_nodes} functions, classes and methods of six Python libraries: the words of their "
            f"summaries, and {network.edges.shape[1]} pairs joined by See Also"
        ),
        origin="real",
        split="Ten labelled nodes of each of 17 places; test nodes share no summary with them",
        metric="balanced accuracy",
        higher_is_better=True,
        n_training=len(parts[0]["training"]),
        n_test=len(parts[0]["test"]),
        seeds=SEEDS,
        systems=systems,
        libraries=versions(*LIBRARIES, "numpydoc"),
        more={
            "by distance": {
                name: {group: [one[group] for one in found] for group in found[0]}
                for name, found in by_distance.items()
            },
            "n by distance": {
                group: int(there.sum())
                for group, there in groups_of(steps[0][parts[0]["test"]]).items()
            },
            "conditions": measure_conditions(network),
            "karate": measure_karate(),
            "lookup": measure_lookup(),
        },
    )


def groups_of(steps: Int[Tensor, " n"]) -> dict[str, Bool[Tensor, " n"]]:
    """Which nodes are so many steps from the nearest labelled one."""
    return {"1": steps == 1, "2": steps == 2, "3 or more": steps > 2, "no way": steps == -1}


def _system(role: Role, scores: list[dict[str, float]]) -> System:
    return System(role, {metric: [one[metric] for one in scores] for metric in scores[0]})
