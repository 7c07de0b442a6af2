"""Attention on graphs: the layers against dense attention, the data against what is in them."""

import inspect
import itertools
import math
from types import SimpleNamespace

import networkx
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from networkx.algorithms.node_classification import local_and_global_consistency
from scipy import sparse

from attn_tutorial import attention
from attn_tutorial.applications.graphs import baselines as graphs_baselines
from attn_tutorial.applications.graphs import data as graphs_data
from attn_tutorial.applications.graphs import experiment as graphs
from attn_tutorial.applications.graphs import layers as graphs_layers
from attn_tutorial.applications.graphs import lookup as graphs_lookup
from attn_tutorial.training import evaluating
from package.mutants import mutant
from package.zoo import Zoo

MODULES = {
    "graphs": graphs,
    "graphs_baselines": graphs_baselines,
    "graphs_data": graphs_data,
    "graphs_layers": graphs_layers,
    "graphs_lookup": graphs_lookup,
}
KINDS = ("GAT", "GATv2", "dot product", "equal", "GCN")

# What is checked: functions of the modules, so that broken ones can be shown to fail.
CHECKS = {name: [] for name in MODULES}


def check(module):
    """About which module a check is: only its broken versions are put to it."""

    def add(function):
        CHECKS[module].append(function)
        return function

    return add


def small_graph(api):
    """Seven nodes, the last of which has no neighbour, and their arrows."""
    edges = torch.tensor([[0, 0, 1, 2, 3, 4], [1, 2, 2, 3, 4, 5]])
    return edges, api.graphs_layers.with_both_directions(edges, 7)


def layer_of(api, kind, **options):
    torch.manual_seed(1)
    layer = api.graphs_layers.GraphAttention(5, 3, 4, kind=kind, **options)
    torch.nn.init.normal_(layer.bias)
    return layer.double()


def vectors():
    return torch.randn(7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def dense_score(layer, head):
    """The score of a head as a function of all queries and keys, which are the nodes' vectors."""

    def project(name, x):
        matrix = getattr(layer, name).weight.view(layer.n_heads, layer.d_head, -1)[head]
        return x @ matrix.T

    def score(query, key):
        if layer.kind == "GAT":
            both = torch.cat(
                [
                    project("value", query)[:, None].expand(-1, len(key), -1),
                    project("value", key)[None].expand(len(query), -1, -1),
                ],
                dim=-1,
            )
            return F.leaky_relu(both @ layer.a[:, head].flatten(), 0.2)
        if layer.kind == "GATv2":
            both = project("query", query)[:, None] + project("value", key)[None]
            return F.leaky_relu(both, 0.2) @ layer.a[head]
        if layer.kind == "dot product":
            return project("query", query) @ project("key", key).T / math.sqrt(layer.d_head)
        return torch.zeros(len(query), len(key), dtype=query.dtype)

    return score


@check("graphs_layers")
def layers_are_dense_attention_with_neighbours_as_the_mask(api):
    (edges, arrows), x = small_graph(api), vectors()
    mask = torch.eye(7, dtype=torch.bool)
    mask[edges[0], edges[1]] = mask[edges[1], edges[0]] = True
    for kind in KINDS[:4]:
        layer = layer_of(api, kind)
        values = layer.value(x).view(7, 3, 4)
        output, sparse_weights = layer(x, arrows), layer.weights(x, arrows)
        for head in range(3):
            wanted, weights = attention(
                x, x, values[:, head], score=dense_score(layer, head), mask=mask
            )
            wanted = wanted + layer.bias.view(3, 4)[head]
            torch.testing.assert_close(output.view(7, 3, 4)[:, head], wanted)
            torch.testing.assert_close(sparse_weights[:, head], weights[arrows[1], arrows[0]])


@check("graphs_layers")
def on_a_directed_graph_the_target_asks(api):
    """Node 0 hears nodes 1 and 2, nobody hears node 0."""
    arrows, x = torch.tensor([[1, 2, 1, 2], [0, 0, 1, 2]]), vectors()[:3]
    for kind in KINDS[:4]:
        layer = layer_of(api, kind)
        values, weights = layer.value(x).view(3, 3, 4), layer.weights(x, arrows)
        torch.testing.assert_close(weights[0] + weights[1], torch.ones(3, dtype=torch.float64))
        first = (weights[0, :, None] * values[1] + weights[1, :, None] * values[2]).flatten()
        torch.testing.assert_close(
            layer(x, arrows),
            torch.stack([first, values[1].flatten(), values[2].flatten()]) + layer.bias,
        )


@check("graphs_layers")
def a_convolution_is_the_normalised_adjacency(api):
    (edges, arrows), x = small_graph(api), vectors()
    adjacency = torch.eye(7, dtype=torch.float64)
    adjacency[edges[0], edges[1]] = adjacency[edges[1], edges[0]] = 1
    half = adjacency.sum(dim=1).rsqrt().diag()
    layer = layer_of(api, "GCN")
    wanted = half @ adjacency @ half @ layer.value(x) + layer.bias
    torch.testing.assert_close(layer(x, arrows), wanted)


@check("graphs_layers")
def who_is_no_neighbour_does_not_count(api):
    (edges, arrows), x = small_graph(api), vectors()
    graph = networkx.Graph(edges.T.tolist())
    graph.add_nodes_from(range(7))
    for kind in KINDS:
        layer = layer_of(api, kind)
        before = layer(x, arrows)
        for node in range(7):
            changed = x.clone()
            changed[node] += 1
            moved = (layer(changed, arrows) - before).abs().amax(dim=1) > 1e-9
            assert set(moved.nonzero().flatten().tolist()) == {node, *graph[node]}


@check("graphs_layers")
def large_scores_do_not_overflow(api):
    scores = torch.tensor([[1000.0], [999.0], [-1000.0]])
    weights = api.graphs_layers.softmax_by_target(scores, torch.tensor([1, 1, 0]), 3)
    wanted = torch.tensor([[1 / (1 + math.exp(-1))], [1 / (1 + math.e)], [1.0]])
    torch.testing.assert_close(weights, wanted)


@check("graphs_layers")
def only_the_score_of_gat_ranks_the_keys_alike_for_all(api):
    """Seven keys, and an arrow from each to each of five questions."""
    x = torch.randn(12, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    arrows = torch.cartesian_prod(torch.arange(7, 12), torch.arange(7)).flip(1).T
    for kind, alike in (("GAT", True), ("GATv2", False), ("dot product", False)):
        scores = layer_of(api, kind).scores(x, arrows).view(5, 7, 3)  # (question, key, head)
        ranking = scores.argsort(dim=1)
        assert bool((ranking == ranking[:1]).all()) == alike


@check("graphs_layers")
def equal_weights_are_those_of_the_ablation_and_end_with_it(api):
    (_, arrows), x = small_graph(api), vectors()
    layer = layer_of(api, "GATv2")
    before = layer(x, arrows)
    degree = arrows[1].bincount()
    with api.graphs_layers.equal_weights(layer):
        weights = layer.weights(x, arrows)
        torch.testing.assert_close(weights, (1 / degree[arrows[1]].double())[:, None].expand(-1, 3))
    assert torch.equal(layer(x, arrows), before)


def small_network(api):
    """Twelve nodes in two places, a summary each."""
    summaries = [f"word{'abcdefghijkl'[node]} common" for node in range(12)]
    return graphs_data.Network(
        names=[f"node{node}" for node in range(12)],
        summaries=summaries,
        labels=torch.tensor([0, 1] * 6),
        edges=torch.tensor([[0, 1, 2, 3, 4, 5, 6, 0], [2, 3, 4, 5, 6, 7, 8, 1]]),
    )


def small_task(api):
    network = small_network(api)
    features = api.graphs_layers.Features.of_rows(sparse.identity(12, format="csr"))
    arrows = api.graphs_layers.with_both_directions(network.edges, 12)
    parts = {"training": torch.tensor([0, 1, 2, 3]), "validation": torch.tensor([4, 5])}
    return network, features, arrows, parts


@check("graphs_layers")
def labels_of_the_test_part_are_not_looked_at(api):
    network, features, arrows, parts = small_task(api)
    turned = network.labels.clone()
    turned[6:] = 1 - turned[6:]
    found = [
        api.graphs_layers.fit(
            features, arrows, labels, parts, kind="GAT", seed=0, n_features=12, steps=11
        )
        for labels in (network.labels, turned)
    ]
    assert found[0][1] == found[1][1]
    said = [graphs_layers.guesses(model, features, arrows) for model, _ in found]
    assert torch.equal(*said)


@check("graphs_layers")
def the_vectors_of_a_node_are_those_of_its_words(api):
    rows = sparse.random(6, 9, density=0.4, random_state=0, format="csr")
    features = api.graphs_layers.Features.of_rows(rows)
    torch.manual_seed(0)
    model = api.graphs_layers.NodeClassifier(9, 2, kind="GAT")
    with evaluating(model):
        wanted = F.elu(torch.from_numpy(rows.toarray()).float() @ model.words)
        torch.testing.assert_close(model.embed(features), wanted)


@check("graphs_baselines")
def propagated_labels_are_those_of_networkx_and_the_closed_form(api):
    labels, edges = api.graphs_data.karate_club()
    arrows = api.graphs_layers.with_both_directions(edges, 34, loops=False)
    known = torch.tensor([0, 33])
    held = api.graphs_baselines.propagate_labels(arrows, labels, known, keep=0.01, rounds=2000)
    adjacency = torch.zeros(34, 34, dtype=torch.float64)
    adjacency[arrows[0], arrows[1]] = 1
    half = adjacency.sum(dim=1).rsqrt().diag()
    begin = torch.zeros(34, 2, dtype=torch.float64)
    begin[known, labels[known]] = 1
    smooth = torch.eye(34, dtype=torch.float64) - 0.99 * half @ adjacency @ half
    torch.testing.assert_close(held, 0.01 * torch.linalg.solve(smooth, begin))
    club = networkx.Graph(edges.T.tolist())
    for node in known.tolist():
        club.nodes[node]["label"] = int(labels[node])
    theirs = dict(zip(club, local_and_global_consistency(club, 0.99, 2000), strict=True))
    assert held.argmax(dim=1).tolist() == [theirs[node] for node in range(34)]


@check("graphs_baselines")
def averaged_words_by_brute_force(api):
    _, arrows = small_graph(api)
    rows = sparse.random(7, 5, density=0.5, random_state=0, format="csr")
    wanted = rows.toarray()
    for _ in range(3):
        wanted = np.array(
            [wanted[arrows[0][arrows[1] == node].numpy()].mean(axis=0) for node in range(7)]
        )
    np.testing.assert_allclose(api.graphs_baselines.averaged(rows, arrows, 3).toarray(), wanted)


@check("graphs_data")
def parts_share_no_text_and_have_what_is_wanted(api):
    """A network in which each text stands three times, in nodes of one place."""
    labels = torch.arange(17).repeat_interleave(120)
    letters = "abcdefghijklmnopqrstuvwxyz"
    summaries = [
        f"{letters[n // 3 % 26] * 2} {letters[n // 78 % 26] * (3 + n // 2028)}" for n in range(2040)
    ]
    network = graphs_data.Network([], summaries, labels, torch.zeros(2, 0, dtype=torch.long))
    for share in (None, 0.2):
        parts = api.graphs_data.split(network, 0, share=share)
        texts = {
            part: {tuple(graphs_data.words_of(summaries[node])) for node in nodes}
            for part, nodes in parts.items()
        }
        assert not texts["training"] & texts["validation"]
        assert not texts["test"] & (texts["training"] | texts["validation"])
        counts = labels[parts["training"]].bincount(minlength=17)
        assert len(texts["training"]) == len(parts["training"])
        assert (counts == (10 if share is None else 24)).all()
        assert len(parts["test"]) >= 204
    again, other = (api.graphs_data.split(network, seed)["training"] for seed in (0, 1))
    assert torch.equal(again, api.graphs_data.split(network, 0)["training"])
    assert not torch.equal(again, other)


@check("graphs_data")
def a_summary_does_not_name_its_place(api):
    said = "Returns the NumPy mean, as scipy.stats does (see np.mean and sklearn)."
    assert api.graphs_data.words_of(said) == [
        "returns",
        "the",
        "mean",
        "as",
        "does",
        "see",
        "mean",
        "and",
    ]


@check("graphs_data")
def names_are_resolved_as_a_reader_would(api):
    def member(paths, see_also=()):
        return graphs_data.Member(paths, "some words", list(see_also))

    members = [
        member(["numpy.mean"], ["average", "ma.mean", "nothing", "numpy.mean"]),
        member(["numpy.average"]),
        member(["numpy.ma.mean"], ["mean", "numpy.mean", "scipy.stats.norm.fit"]),
        member(["scipy.stats.norm", "scipy.stats.distributions.norm"]),
        member(["pandas.Series.mean"], ["twice"]),
        member(["pandas.twice"]),
        member(["pandas.twice"]),
        member(["elsewhere.f"], ["`np.mean`"]),
    ]
    assert api.graphs_data.resolve(members) == {(0, 1), (0, 2), (0, 7)}
    network = api.graphs_data.network_of(members)
    assert network.names == ["numpy.mean", "numpy.average", "numpy.ma.mean"]
    places = [api.graphs_data.PLACES[label] for label in network.labels]
    assert places == ["numpy", "numpy", "numpy.ma"]
    assert network.edges.tolist() == [[0, 0], [1, 2]]


@check("graphs_data")
def docstrings_are_found_with_all_their_paths(api):
    found = api.graphs_data.docstrings("networkx.classes")
    paths = found[inspect.cleandoc(networkx.Graph.add_node.__doc__)]
    assert "networkx.classes.Graph.add_node" in paths
    assert "networkx.classes.graph.Graph.add_node" in paths
    assert not any("._" in path or ".tests." in path for some in found.values() for path in some)


@check("graphs")
def steps_by_brute_force(api):
    edges, _ = small_graph(api)
    away = torch.full((7, 7), 99)
    away[edges[0], edges[1]] = away[edges[1], edges[0]] = 1
    away[range(7), range(7)] = 0
    for between in range(7):
        away = torch.minimum(away, away[:, [between]] + away[[between]])
    wanted = away[[1, 5]].amin(dim=0)
    wanted[wanted >= 99] = -1
    found = api.graphs.distances(edges, 7, torch.tensor([1, 5]))
    assert torch.equal(found, wanted)
    groups = api.graphs.groups_of(found)
    assert torch.stack(list(groups.values())).sum(dim=0).tolist() == [1, 0, 1, 1, 1, 0, 1]


@check("graphs")
def equal_weights_spend_on_false_arrows_what_there_is_of_them(api):
    network, features, _, _ = small_task(api)
    false = torch.tensor([[0, 2], [9, 11]])
    arrows = graphs_layers.with_both_directions(torch.cat([network.edges, false], dim=1), 12)
    which = api.graphs.is_false(arrows, network.edges.shape[1], 12)
    assert {tuple(pair) for pair in arrows[:, which].T.tolist()} == {
        (0, 9),
        (9, 0),
        (2, 11),
        (11, 2),
    }
    torch.manual_seed(0)
    model = graphs_layers.NodeClassifier(12, 2, kind="equal")
    share = api.graphs.share_on_false(model, features, arrows, which)
    assert share == pytest.approx((1 / 3 + 1 / 3) / 2)  # nodes 0 and 2 have two true neighbours


@check("graphs_baselines")
def scores_by_hand(api):
    said, labels = torch.tensor([0, 0, 0, 1, 1]), torch.tensor([0, 0, 0, 0, 1])
    scores = api.graphs_baselines.scores_of(said, labels, torch.arange(5))
    assert scores == pytest.approx({"balanced accuracy": 0.875, "accuracy": 0.8})
    scores = api.graphs_baselines.scores_of(said, labels, torch.tensor([3, 4]))
    assert scores == pytest.approx({"balanced accuracy": 0.5, "accuracy": 0.5})


@check("graphs_lookup")
def a_dictionary_holds_each_value_once_and_test_ones_are_new(api):
    parts = api.graphs_lookup.dictionaries(3)
    rows = {part: set(map(tuple, values.tolist())) for part, values in parts.items()}
    assert {part: len(some) for part, some in rows.items()} == {"training": 500, "test": 200}
    assert not rows["training"] & rows["test"]
    assert all(sorted(row) == list(range(6)) for some in rows.values() for row in some)
    arrows = api.graphs_lookup.lookup_arrows(2)
    wanted = {
        (6 * graph + key, 12 + 6 * graph + question)
        for graph in range(2)
        for key in range(6)
        for question in range(6)
    }
    assert set(map(tuple, arrows.T.tolist())) == wanted


RIGHT_KEYS = torch.tensor([1, 2, 3, 4, 5, 0])  # of six questions


@check("graphs_lookup")
def a_dictionary_can_be_looked_up_by_weights_on_the_right_key(api):
    """Scores that are high where question and key agree; the reading is then left alone."""
    values = graphs_lookup.dictionaries(0)["test"][:3]
    model = api.graphs_lookup.Lookup(kind="dot product")
    with torch.no_grad():
        model.key.weight.copy_(20 * torch.eye(6, 32))
        model.question.weight.copy_(20 * torch.eye(6, 32).roll(-1, dims=0))
        for linear in (model.attention.query, model.attention.key):
            linear.weight.copy_(torch.eye(32))
        model.held.weight.zero_()
    assert torch.equal(model.scores(values).argmax(dim=-1), RIGHT_KEYS.expand(3, 1, 6))


@check("graphs_data")
def the_club_is_the_one_of_networkx(api):
    labels, edges = api.graphs_data.karate_club()
    assert (len(labels), edges.shape, int(labels.sum())) == (34, (2, 78), 17)
    assert (labels[0], labels[33]) == (0, 1)
    for seed in range(5):
        assert labels[api.graphs.karate_draw(seed)].tolist() == [0, 1]


@pytest.mark.parametrize(
    "one_check", list(itertools.chain(*CHECKS.values())), ids=lambda function: function.__name__
)
def test_the_modules_pass(one_check):
    one_check(SimpleNamespace(**MODULES))


L, D, B, G, K = ("graphs_layers", "graphs_data", "graphs_baselines", "graphs", "graphs_lookup")
BROKEN = {
    "softmax over those whom a node answers": (
        L,
        "self.scores(x, arrows), arrows[1], len(x)",
        "self.scores(x, arrows), arrows[0], len(x)",
    ),
    "roles of query and key swapped": (
        L,
        "of_query[target] + of_key[source]",
        "of_query[source] + of_key[target]",
    ),
    "answers to the source": (
        L,
        "output.index_add(0, arrows[1], weights",
        "output.index_add(0, arrows[0], weights",
    ),
    "uniform weights": (
        L,
        "raised = (scores - highest[targets]).exp()",
        "raised = torch.ones_like(scores)",
    ),
    "GATv2 with the order of GAT": (
        L,
        "(F.leaky_relu(query[target] + value[source], LEAK) * self.a).sum(dim=-1)",
        "F.leaky_relu(((query[target] + value[source]) * self.a).sum(dim=-1), LEAK)",
    ),
    "highest score forgotten": (L, "(scores - highest[targets]).exp()", "scores.exp()"),
    "one direction": (L, "[edges, edges.flip(0), own]", "[edges, edges, own]"),
    "no loops": (L, "n_nodes if loops else 0", "0 if loops else n_nodes"),
    "convolution without the root": (
        L,
        ".prod(dim=0).rsqrt()[:, None].expand",
        ".prod(dim=0).reciprocal()[:, None].expand",
    ),
    "not given back": (
        L,
        "            layer.kind = kind\n",
        "            layer.kind = layer.kind\n",
    ),
    "strengths forgotten": (
        L,
        "rows.data.astype(np.float32)",
        "np.ones_like(rows.data, np.float32)",
    ),
    "all labels are trained on": (
        L,
        '    nodes = parts["training"]\n    history',
        "    nodes = torch.arange(len(labels))\n    history",
    ),
    "label leak": (B, "begin[known, labels[known]] = 1", "begin[range(len(labels)), labels] = 1"),
    "walk in place of consistency": (
        B,
        "degree[arrows].prod(dim=0).double().rsqrt()",
        "degree[arrows[1]].double().reciprocal()",
    ),
    "averaged over those who hear": (B, "(target, source))", "(source, target))"),
    "scored everywhere": (
        B,
        "balanced_accuracy_score(labels[nodes], said[nodes])",
        "balanced_accuracy_score(labels, said)",
    ),
    "texts in two parts": (D, "if texts[node] not in taken]", "if node not in parts['training']]"),
    "the same text twice": (D, "                taken.add(texts[node])\n", ""),
    "always the same draw": (
        D,
        "np.random.default_rng(seed).permutation",
        "np.random.default_rng(0).permutation",
    ),
    "the place is named": (D, " if word not in GIVEN_AWAY]", "]"),
    "the shortest place": (D, "return max(fitting", "return min(fitting"),
    "own front forgotten": (D, "tried = [bare, *(", "tried = [bare] or [*("),
    "first of several": (D, "if len(meant) == 1 and", "if meant and"),
    "classes not entered": (D, "if inspect.isclass(member):", "if False:"),
    "sides turned": (D, "MR_HI if club.nodes", "OFFICER if club.nodes"),
    "unreachable is near": (G, "lengths.get(node, -1)", "lengths.get(node, 1)"),
    "loops count as false": (
        G,
        "torch.zeros(n_nodes, dtype=torch.bool)]",
        "torch.ones(n_nodes, dtype=torch.bool)]",
    ),
    "test dictionaries seen": (K, "orders[N_TRAINING:][:N_TEST]", "orders[:N_TEST]"),
    "questions of another graph": (K, "numbers.mT.expand", "numbers.flip(0).mT.expand"),
    "keys for questions": (
        K,
        "scores.view(len(values), N_KEYS, N_KEYS, -1).movedim(-1, 1)",
        "scores.view(len(values), N_KEYS, N_KEYS, -1).movedim(-1, 1).mT",
    ),
}


def broken(name):
    module, right, wrong = BROKEN[name]
    return SimpleNamespace(**{**MODULES, module: mutant(MODULES[module], right, wrong)})


ZOOS = {
    module: Zoo(CHECKS[module], broken, [name for name in BROKEN if BROKEN[name][0] == module])
    for module in MODULES
}


@pytest.mark.parametrize("name", BROKEN)
def test_the_checks_catch(name):
    assert ZOOS[BROKEN[name][0]].catches(name)


@pytest.mark.parametrize("module", MODULES)
def test_no_check_is_idle(module):
    assert ZOOS[module].idle() == []


FEW_NODES = small_network(None)
MISTAKES = {
    "edge to no node": (
        lambda: graphs_layers.with_both_directions(torch.tensor([[0], [7]]), 7),
        "edges must join nodes from 0 to 6; got 0 to 7",
    ),
    "no such kind": (
        lambda: graphs_layers.GraphAttention(4, 1, 4, kind="cosine"),
        "kind must be one of .*got 'cosine'",
    ),
    "share of all": (
        lambda: graphs_data.split(FEW_NODES, 0, share=0.9),
        "share must be above 0 and below 0.9; got 0.9",
    ),
    "too few texts": (
        lambda: graphs_data.split(FEW_NODES, 0),
        "training needs 10 different texts of each place; too few:",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_errors_say_what_is_wrong(name):
    call, message = MISTAKES[name]
    with pytest.raises(ValueError, match=message):
        call()
