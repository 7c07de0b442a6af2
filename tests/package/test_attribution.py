"""Following information: checked where the truth is known, also against versions with one mistake.

Truth is known for chains (each position passes on exactly one), for sums over all paths and cuts of
small graphs by brute force, for gradients by finite differences, and for heads by the algebra of
the output projection.
"""

import copy
import itertools
import re

import networkx
import numpy as np
import pytest
import torch
from torch import nn

from attn_tutorial import attribution
from attn_tutorial.layers import MultiHeadAttention
from attn_tutorial.masks import causal_mask
from attn_tutorial.models import EncoderLayer, Transformer
from package.raises import unreached
from package.zoo import Zoo, ZooTests, rewritten

CHECKS = []
RNG = np.random.default_rng(0)
SOURCE = torch.tensor([[3, 4, 5, 6], [4, 3, 7, 0]])
TARGET = torch.tensor([[1, 6, 5], [1, 7, 0]])


def check(function):
    CHECKS.append(function)
    return function


def random_weights(*shape):
    weights = RNG.exponential(size=shape) ** 3
    return weights / weights.sum(axis=-1, keepdims=True)


def one_hot(*targets):
    """Position i attends to position targets[i] alone."""
    return np.eye(len(targets))[list(targets)]


def mixed(layer, residual):
    return (1 - residual) * layer + residual * np.eye(len(layer))


def over_all_paths(layers):
    """The sum of the products along every path, from the definition; the first layer is lowest."""
    n_layers, n = len(layers), len(layers[0])
    result = np.zeros((n, n))
    for path in itertools.product(range(n), repeat=n_layers + 1):  # from the output down
        steps = zip(path[:-1], path[1:], reversed(layers), strict=True)
        result[path[0], path[-1]] += np.prod([layer[i, j] for i, j, layer in steps])
    return result


def smallest_cut(layers, i, j):
    """The least capacity of a set of nodes' outgoing edges that parts output i from input j."""
    n_layers, n = len(layers), len(layers[0])
    inner = [(depth, k) for depth in range(n_layers + 1) for k in range(n)]
    start, end = (n_layers, i), (0, j)
    inner = [node for node in inner if node not in (start, end)]
    best = np.inf
    for size in range(len(inner) + 1):
        for side in itertools.combinations(inner, size):
            with_start = {start, *side}
            cut = sum(
                layers[depth - 1][k, lower]
                for depth, k in with_start
                if depth
                for lower in range(n)
                if (depth - 1, lower) not in with_start
            )
            best = min(best, cut)
    return best


class Classifier(nn.Module):
    """Two encoder layers, one with shared keys, and a reading of one position."""

    def __init__(self, *, dropout=0.0):
        super().__init__()
        torch.manual_seed(0)
        self.first = MultiHeadAttention(6, 2, dropout=dropout)
        self.second = MultiHeadAttention(6, 4, n_kv_heads=2, d_head=3)
        self.read = nn.Linear(6, 3)
        for parameter in self.parameters():  # biases too
            nn.init.normal_(parameter, std=0.5)
        self.mask = causal_mask(5, 5)

    def forward(self, x):
        x = x + self.first(x, mask=self.mask)[0]
        x = x + self.second(x, mask=self.mask)[0]
        return self.read(x[:, -1])  # (batch, 3)


def vectors(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1))


def translator():
    torch.manual_seed(0)
    model = Transformer(9, d_model=8, n_heads=2, n_layers=2, dropout=0.1)
    return model.eval()


# --- from the weights ------------------------------------------------------------------------


@check
def a_chain_leads_to_its_beginning(api):
    """The last layer's position 0 asks 2, and layer by layer 2 asks 1, 1 asks 3."""
    first, second, third = one_hot(2, 3, 1, 0), one_hot(3, 0, 1, 2), one_hot(2, 0, 3, 1)
    result = api.rollout(np.stack([first, second, third]), residual=0.0)
    assert np.array_equal(result, one_hot(3, 0, 1, 2))
    assert np.array_equal(api.flow(np.stack([first, second, third]), residual=0.0), result)


@check
def identity_weights_move_nothing(api):
    same = np.broadcast_to(np.eye(3), (4, 2, 3, 3))
    for residual in (0.0, 0.5, 1.0):
        assert np.allclose(api.rollout(same, residual=residual), np.eye(3))
        assert np.allclose(api.flow(same, residual=residual), np.eye(3))


@check
def rollout_is_the_sum_over_all_paths(api):
    for residual in (None, 0.0, 0.2, 1.0):
        layers = random_weights(3, 4, 4)
        options = {} if residual is None else {"residual": residual}
        share = 0.5 if residual is None else residual
        wanted = over_all_paths([mixed(layer, share) for layer in layers])
        result = api.rollout(layers, **options)
        assert np.allclose(result, wanted)
        assert np.allclose(result.sum(axis=-1), 1)


@check
def heads_are_joined_first(api):
    weights = random_weights(2, 3, 4, 4)  # (n_layers, n_heads, n, n)
    for name, function in (("mean", np.mean), ("max", np.max), ("min", np.min)):
        joined = [function(layer, axis=0) for layer in weights]
        joined = [layer / layer.sum(axis=1, keepdims=True) for layer in joined]
        wanted = over_all_paths([mixed(layer, 0.3) for layer in joined])
        assert np.allclose(api.rollout(weights, residual=0.3, heads=name), wanted)
        flow = api.flow(np.stack(joined), residual=0.3)
        assert np.allclose(api.flow(weights, residual=0.3, heads=name), flow)
    assert np.allclose(api.rollout(weights), api.rollout(weights, heads="mean"))


@check
def a_batch_goes_through_at_once(api):
    weights = random_weights(2, 5, 3, 4, 4)  # (n_layers, batch, n_heads, n, n)
    result = api.rollout(weights)
    assert result.shape == (5, 4, 4)
    for i in range(5):
        assert np.allclose(result[i], api.rollout(weights[:, i]))


@check
def tensors_and_lists_will_do(api):
    weights = random_weights(2, 3, 4, 4).astype(np.float32)
    tensors = [torch.from_numpy(layer).requires_grad_() for layer in weights]
    result = api.rollout(tensors)
    assert isinstance(result, np.ndarray)
    assert result.dtype == np.float64
    assert np.allclose(result, api.rollout(weights))
    halves = [layer.detach().bfloat16() for layer in tensors]
    assert np.allclose(api.rollout(halves), result, atol=0.02)
    assert np.array_equal(weights, np.stack([layer.detach() for layer in tensors]))


@check
def flow_is_the_smallest_cut(api):
    for residual in (0.5, 0.1):
        layers = random_weights(2, 3, 3)
        layers[0, 2] = [0, 1, 0]  # an edge that is not there
        result = api.flow(layers, residual=residual)
        edges = [mixed(layer, residual) for layer in layers]
        for i, j in itertools.product(range(3), repeat=2):
            assert np.isclose(result[i, j], smallest_cut(edges, i, j))
    assert np.allclose(api.flow(layers), api.flow(layers, residual=0.5))


@check
def flow_is_at_least_rollout(api):
    """What passes along all paths in proportion fits through the pipes together."""
    layers = random_weights(3, 4, 4)
    assert (api.flow(layers) >= api.rollout(layers) - 1e-9).all()


@check
def products_with_gradients_by_hand(api):
    weights = np.array([[[0.5, 0.5], [1.0, 0.0]], [[0.2, 0.8], [0.4, 0.6]]])
    gradients = np.array([[[2.0, -4.0], [1.0, 5.0]], [[-5.0, 1.0], [5.0, 0.0]]])
    positive = api.gradient_times_weights(weights, gradients)
    assert np.allclose(positive, [[0.5, 0.4], [1.5, 0.0]])
    signed = api.gradient_times_weights(weights, gradients, positive=False)
    assert np.allclose(signed, [[0.0, -0.6], [1.5, 0.0]])
    both = np.stack([weights, gradients]), np.stack([gradients, weights])
    assert np.allclose(api.gradient_times_weights(*both), [positive, positive])


@check
def relevance_is_the_sum_over_all_ways_to_move_or_stay(api):
    weights = random_weights(3, 2, 4, 4)
    gradients = RNG.normal(size=weights.shape)
    moved = np.maximum(weights * gradients, 0).mean(axis=1)  # (n_layers, n, n)
    wanted = over_all_paths([layer + np.eye(4) for layer in moved])
    assert np.allclose(api.relevance(list(weights), list(gradients)), wanted)
    zeros = np.zeros_like(weights)
    assert np.allclose(api.relevance(weights, zeros), np.eye(4))
    batch = api.relevance([weights, weights], [gradients, gradients])  # batch of three
    assert np.allclose(batch[1], np.linalg.matrix_power(np.eye(4) + moved[1], 2))


# --- out of a run ----------------------------------------------------------------------------


@check
def recording_leaves_the_result(api):
    model, x = Classifier().eval(), vectors(2, 5, 6)
    before = model(x)
    with api.recording(model) as record:
        inside = model(x)
    assert torch.allclose(inside, before, atol=1e-5)
    assert torch.equal(model(x), before)  # nothing is left behind
    assert record.names == ["first", "second"]
    assert [tuple(weights.shape) for weights in record.weights] == [(2, 2, 5, 5), (2, 4, 5, 5)]
    with pytest.raises(ZeroDivisionError), api.recording(model):
        raise ZeroDivisionError
    model(x)
    assert len(record.weights) == 2
    assert not {"_attend", "_attend_and_show"} & {*vars(model.first), *vars(model.second)}


@check
def recorded_weights_are_the_layers_own(api):
    model, x = Classifier().eval(), vectors(2, 5, 6)
    with api.recording(model) as record:
        model(x)
    output, first = model.first(x, mask=model.mask, need_weights=True)
    _, second = model.second(x + output, mask=model.mask, need_weights=True)
    assert torch.allclose(record.weights[0], first, atol=1e-6)
    assert torch.allclose(record.weights[1], second, atol=1e-5)
    with api.recording(model) as shown:
        _, weights = model.first(x, mask=model.mask, need_weights=True)
    assert torch.equal(shown.weights[0], weights)


@check
def gradients_are_finite_differences(api):
    """Change one weight of one call by a little, and see how the number changes."""
    model, x = Classifier().double().eval(), vectors(2, 5, 6).double()
    with api.recording(model) as record:
        output = model(x)
    output[1, 2].backward()
    gradients = record.gradients
    assert gradients[0].shape == record.weights[0].shape
    assert not gradients[0][0].any()  # the other example of the batch
    for call, place in ((0, (1, 1, 3, 2)), (0, (1, 0, 4, 0)), (1, (1, 3, 4, 2)), (1, (1, 2, 4, 1))):
        numbers = []
        for change in (1e-6, -1e-6):
            with torch.no_grad():
                numbers.append(number_with(model, x, call, place, change))
        wanted = (numbers[0] - numbers[1]) / 2e-6
        assert np.isclose(gradients[call][place].item(), wanted, rtol=1e-4, atol=1e-8)
        assert abs(wanted) > 1e-4


def number_with(model, x, call, place, change):
    """The number, computed by hand from the layers' parameters, with one weight changed."""
    for i, layer in enumerate((model.first, model.second)):
        _, weights = layer(x, mask=model.mask, need_weights=True)
        if i == call:
            weights[place] += change
        value = layer.value(x).unflatten(-1, (layer.n_kv_heads, layer.d_head))
        value = value.repeat_interleave(layer.n_heads // layer.n_kv_heads, dim=2)
        heads = torch.einsum("bhqk,bkhd->bqhd", weights, value)
        x = x + layer.out(heads.flatten(2))
    return model.read(x[:, -1])[1, 2].item()


@check
def frozen_models_have_gradients_too(api):
    model, x = Classifier().eval(), vectors(1, 5, 6)
    with api.recording(model) as record:
        model(x)[0, 0].backward()
    model.requires_grad_(False)
    with api.recording(model) as frozen:
        model(x)[0, 0].backward()
    for mine, theirs in zip(frozen.gradients, record.gradients, strict=True):
        assert torch.allclose(mine, theirs)


@check
def a_layer_without_influence_has_zeros(api):
    model, x = Classifier().eval(), vectors(1, 5, 6)
    with api.recording(model) as record:
        model(x)
        output, _ = model.first(x)
        output[0, 0, 0].backward()
    assert record.names == ["first", "second", "first"]
    assert [bool(gradient.any()) for gradient in record.gradients] == [False, False, True]


@check
def all_attention_of_a_transformer_is_recorded(api):
    model = translator()
    before = model(SOURCE, TARGET)
    with api.recording(model) as record:
        logits = model(SOURCE, TARGET)
    assert torch.allclose(logits, before, atol=1e-5)
    assert record.names == [
        "encoder.0.attention",
        "encoder.1.attention",
        "decoder.0.attention",
        "decoder.0.cross_attention",
        "decoder.1.attention",
        "decoder.1.cross_attention",
    ]
    shapes = [tuple(weights.shape[2:]) for weights in record.weights]
    assert shapes == [(4, 4), (4, 4), (3, 3), (3, 4), (3, 3), (3, 4)]
    logits[0, 1, 2].backward()
    assert all(gradient.any() for gradient in record.gradients[:5])


@check
def nothing_is_kept_without_gradients(api):
    model, x = Classifier().eval(), vectors(1, 5, 6)
    with torch.no_grad(), api.recording(model) as record:
        model(x)
    assert not record.weights[0].requires_grad
    with pytest.raises(ValueError, match="the recording has no gradients"):
        record.gradients  # noqa: B018


@check
def collected_is_what_came_out(api):
    model, x = Classifier().eval(), vectors(2, 5, 6)
    with api.collecting(model, ["first", "second.key", "read"]) as outputs:
        result = model(x)
    assert outputs.keys() == {"first", "second.key", "read"}
    first, _ = model.first(x, mask=model.mask)
    assert torch.equal(outputs["first"], first)
    assert torch.equal(outputs["second.key"], model.second.key(x + first))
    assert torch.equal(outputs["read"], result)
    assert not outputs["read"].requires_grad
    model(2 * x)
    assert torch.equal(outputs["first"], first)


# --- into a run ------------------------------------------------------------------------------


@check
def ablating_takes_a_heads_contribution_away(api):
    layer, x = MultiHeadAttention(6, 3), vectors(2, 4, 6)
    nn.init.normal_(layer.out.bias)
    whole, weights = layer(x, need_weights=True)
    value = layer.value(x).unflatten(-1, (3, 2))  # (batch, n, n_heads, d_head)
    heads = torch.einsum("bhqk,bkhd->bqhd", weights, value)  # (batch, n, n_heads, d_head)
    into = layer.out.weight.T.unflatten(0, (3, 2))  # (n_heads, d_head, d_model)
    for chosen in ([0], [2], [0, 2], [], [1, 1]):
        with api.ablating(layer, [("", head) for head in chosen]):
            rest, _ = layer(x)
        with api.ablating(layer, [("", head) for head in chosen], by="mean"):
            mean, _ = layer(x)
        gone, replaced = whole.clone(), whole.clone()
        for head in set(chosen):
            gone -= heads[:, :, head] @ into[head]
            replaced -= (heads[:, :, head] - heads[:, :, head].mean(dim=(0, 1))) @ into[head]
        assert torch.allclose(rest, gone, atol=1e-5)
        assert torch.allclose(mean, replaced, atol=1e-5)
    with api.ablating(layer, [("", head) for head in range(3)]):
        assert torch.allclose(layer(x)[0], layer.out.bias.expand(2, 4, 6))
    assert torch.equal(layer(x)[0], layer(x)[0])
    assert torch.allclose(layer(x)[0], whole, atol=1e-5)


@check
def ablating_finds_the_layer_by_name(api):
    model, x = Classifier().eval(), vectors(2, 5, 6)
    with api.ablating(model, [("second", head) for head in range(4)]):
        only_first = model(x)
    after_first = x + model.first(x, mask=model.mask)[0] + model.second.out.bias
    assert torch.allclose(only_first, model.read(after_first[:, -1]), atol=1e-5)
    whole = model(x)
    with pytest.raises(ZeroDivisionError), api.ablating(model, [("first", 0)]):
        raise ZeroDivisionError
    assert torch.equal(model(x), whole)


@check
def uniform_weights_are_equal_over_what_the_mask_leaves(api):
    model, x = Classifier().eval(), vectors(2, 5, 6)
    whole, trained = model(x), copy.deepcopy(model.state_dict())
    with api.uniform_weights(model), attribution.recording(model) as record:
        model(x)
    mask = torch.tensor(model.mask, dtype=torch.float32)  # (n_q, n_k)
    for weights in record.weights:
        equal = (mask / mask.sum(dim=-1, keepdim=True)).expand_as(weights)
        assert torch.allclose(weights, equal)
    with pytest.raises(ZeroDivisionError), api.uniform_weights(model):
        raise ZeroDivisionError
    assert torch.equal(model(x), whole)
    assert all(torch.equal(trained[name], now) for name, now in model.state_dict().items())


@check
def uniform_weights_can_be_trained_in(api):
    layer, x, context = MultiHeadAttention(6, 3), vectors(2, 4, 6), vectors(2, 3, 6)
    with api.uniform_weights(layer):
        output, _ = layer(x, context)
        output.square().sum().backward()
    mean = layer.out(layer.value(context).mean(dim=1, keepdim=True))  # (batch, 1, d_model)
    assert torch.allclose(output, mean.expand_as(output), atol=1e-6)
    assert layer.value.weight.grad.abs().sum() > 0
    assert layer.key.weight.grad is None or not layer.key.weight.grad.any()


@check
def patching_everything_is_the_other_run(api):
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Linear(6, 6) for _ in range(3)))
    x, y = vectors(2, 5, 6), vectors(4, 5, 6)[2:]
    with api.collecting(model, ["1"]) as outputs:
        other = model(y)
    own = model(x)
    with api.patching(model, outputs):
        assert torch.equal(model(x), other)
    with api.patching(model, outputs, positions=[]):
        assert torch.equal(model(x), own)
    with api.patching(model, outputs, positions=[0, 3]):
        some = model(x)
    for position in range(5):
        wanted = other if position in (0, 3) else own
        assert torch.allclose(some[:, position], wanted[:, position])
    assert torch.equal(model(x), own)


@check
def patching_attention_and_what_is_inside_it(api):
    model, x, y = Classifier().eval(), vectors(2, 5, 6), vectors(4, 5, 6)[2:]
    with api.collecting(model, ["first", "second.value"]) as outputs:
        model(y)
    kept = {name: output.clone() for name, output in outputs.items()}
    with api.patching(model, {"first": outputs["first"]}):
        patched = model(x)
    second_input = x + model.first(y, mask=model.mask)[0]
    by_hand = second_input + model.second(second_input, mask=model.mask)[0]
    assert torch.allclose(patched, model.read(by_hand[:, -1]), atol=1e-5)
    with api.patching(model, {"second.value": outputs["second.value"]}), api.recording(model) as r:
        model(x)
    with api.recording(model) as own:
        model(x)
    assert torch.equal(r.weights[1], own.weights[1])  # other values, the same weights
    with pytest.raises(ZeroDivisionError), api.patching(model, outputs):
        raise ZeroDivisionError
    assert torch.allclose(model(x), own_result(model, x))
    assert all(torch.equal(outputs[name], kept[name]) for name in kept)


def own_result(model, x):
    x = x + model.first(x, mask=model.mask)[0]
    x = x + model.second(x, mask=model.mask)[0]
    return model.read(x[:, -1])


@check
def an_encoder_layer_with_weights_is_patched_too(api):
    """It returns a pair, of which the weights stay."""
    torch.manual_seed(0)
    layer, x, y = EncoderLayer(6, 2, 8).eval(), vectors(2, 5, 6), vectors(4, 5, 6)[2:]
    with api.collecting(layer, ["attention"]) as outputs:
        layer(y)
    _, own = layer(x, need_weights=True)
    with api.patching(layer, outputs):
        patched, weights = layer(x, need_weights=True)
    assert torch.equal(weights, own)
    middle = x + outputs["attention"]
    wanted = middle + layer.feed_forward(layer.around_feed_forward.norm(middle))
    assert torch.allclose(patched, wanted, atol=1e-5)


def test_the_cut_by_brute_force_is_right():
    """On a graph whose answer is known: two pipes of 0.3 and 0.4 that meet in one of 0.5."""
    layers = np.array([[[0.5, 0.5], [0.0, 1.0]], [[0.3, 0.7], [0.0, 1.0]]])
    assert smallest_cut(layers, 0, 0) == pytest.approx(0.3)
    assert smallest_cut(layers, 0, 1) == pytest.approx(1.0)
    assert networkx.__version__  # the engine behind flow


# --- broken versions -------------------------------------------------------------------------

BROKEN = {
    "layers in reverse order": (
        "layer @ result  # (..., n, n)\n    return",
        "result @ layer\n    return",
    ),
    "rollout transposed": (
        "        result = layer @ result  # (..., n, n)\n    return result",
        "        result = layer @ result\n    return np.swapaxes(result, -1, -2)",
    ),
    "a layer left out": ("    for layer in layers[1:]:\n", "    for layer in layers[2:]:\n"),
    "no residual connection": (
        "return (1 - residual) * weights + residual * np.eye(weights.shape[-1])",
        "return weights",
    ),
    "residual added, not mixed": (
        "return (1 - residual) * weights + residual * np.eye(weights.shape[-1])",
        "return weights + residual * np.eye(weights.shape[-1])",
    ),
    "shares swapped": (
        "(1 - residual) * weights + residual * np",
        "residual * weights + (1 - residual) * np",
    ),
    "residual of ones": ("residual * np.eye(weights.shape[-1])", "residual / weights.shape[-1]"),
    "always the mean": ("FUSIONS[heads](weights, axis=-3)", "np.mean(weights, axis=-3)"),
    "max for mean": ('FUSIONS = {"mean": np.mean', 'FUSIONS = {"mean": np.max'),
    "mean over layers": ("FUSIONS[heads](weights, axis=-3)", "FUSIONS[heads](weights, axis=0)"),
    "max not normalised": ("    weights = weights / sums.reshape(*weights.shape[:-1], 1)\n", ""),
    "columns normalised": (
        "weights = weights / sums.reshape(*weights.shape[:-1], 1)",
        "weights = weights / weights.sum(axis=-2, keepdims=True)",
    ),
    "default residual none": (
        "    weights: FloatArray | Sequence[FloatArray],\n"
        "    *,\n"
        "    residual: float = 0.5,\n"
        '    heads: Literal["mean", "max", "min"] = "mean",\n'
        ') -> Float[np.ndarray, "... n n"]:',
        "    weights: FloatArray | Sequence[FloatArray],\n"
        "    *,\n"
        "    residual: float = 0.0,\n"
        '    heads: Literal["mean", "max", "min"] = "mean",\n'
        ') -> Float[np.ndarray, "... n n"]:',
    ),
    "16-bit tensors forgotten": (
        "array = (array.double() if array.is_floating_point() else array).numpy()",
        "array = array.numpy()",
    ),
    "flow upside down": (
        "graph.add_edge((depth, i), (depth - 1, j)",
        "graph.add_edge((depth - 1, i), (depth, j)",
    ),
    "flow transposed": (
        "graph.add_edge((depth, i), (depth - 1, j)",
        "graph.add_edge((depth, j), (depth - 1, i)",
    ),
    "flow with other capacities": ("capacity=float(layer[i, j])", "capacity=float(layer[j, i])"),
    "flow's layers in reverse": (
        "enumerate(layers, start=1)",
        "enumerate(layers[::-1], start=1)",
    ),
    "flow without width": ("capacity=float(layer[i, j])", "capacity=1.0"),
    "flow into the wrong input": ("(n_layers, i), (0, j))", "(n_layers, j), (0, i))"),
    "flow through the last layer only": (
        "(n_layers, i), (0, j))",
        "(n_layers, i), (n_layers - 1, j))",
    ),
    "positive part after the mean": (
        "        product = np.maximum(product, 0)\n    return product.mean(axis=-3)",
        "        return np.maximum(product.mean(axis=-3), 0)\n    return product.mean(axis=-3)",
    ),
    "absolute value": ("np.maximum(product, 0)", "np.abs(product)"),
    "never negative": ("    if positive:\n", "    if True:\n"),
    "sum over heads": ("product.mean(axis=-3)", "product.sum(axis=-3)"),
    "mean over queries": ("product.mean(axis=-3)", "product.mean(axis=-2)"),
    "gradients alone": ("product = weights * gradients", "product = gradients"),
    "relevance in reverse order": (
        "result = result + layer @ result",
        "result = result + result @ layer",
    ),
    "relevance without staying": ("result = result + layer @ result", "result = layer @ result"),
    "relevance from nothing": ("np.broadcast_to(np.eye(n_q), shapes[0])", "np.zeros(shapes[0])"),
    "relevance as a sum of layers": ("result = result + layer @ result", "result = result + layer"),
    "recording detached": (
        "record.weights.append(weights)",
        "record.weights.append(weights.detach())",
    ),
    "heads not from the weights kept": (
        "return weights @ value.repeat_interleave(group, dim=1), weights",
        "return MultiHeadAttention._attend_and_show(module, query, key, value, mask)[0], weights",
    ),
    "gradient not kept": (
        "weights.retain_grad() if weights.requires_grad else weights.requires_grad_()",
        "weights.requires_grad_()",
    ),
    "frozen models forgotten": (
        "weights.retain_grad() if weights.requires_grad else weights.requires_grad_()",
        "weights.requires_grad and weights.retain_grad()",
    ),
    "weights of a mask turned round": (
        "module, query, key, value, mask)",
        "module, query, key, value, None if mask is None else ~mask)",
    ),
    "mask forgotten": ("module, query, key, value, mask)", "module, query, key, value, None)"),
    "shared values in another order": (
        "value.repeat_interleave(group, dim=1)",
        "value.repeat(1, group, 1, 1)",
    ),
    "recorder left behind": ('            vars(module).pop("_attend", None)\n', ""),
    "the recorder of need_weights forgotten": (
        "module._attend = module._attend_and_show = _recorder",
        "module._attend = _recorder",
    ),
    "no name": ("        record.names.append(name)\n", ""),
    "None for zeros": (
        "torch.zeros_like(weights) if weights.grad is None else weights.grad",
        "weights.grad",
    ),
    "no error without gradients": (
        "if all(weights.grad is None for weights in self.weights):",
        "if not self.weights:",
    ),
    "collected with its graph": ("_first(output).detach().clone()", "_first(output).clone()"),
    "collected goes on": (
        "hooks.enter_context(_hooked(module.register_forward_hook(keep(name))))",
        "module.register_forward_hook(keep(name))",
    ),
    "collected input": ("outputs[name] = _first(output)", "outputs[name] = arguments[0]"),
    "every name the same": (
        "return {name: modules[name] for name in names}",
        "return {name: modules[names[0]] for name in names}",
    ),
    "another head": (
        "output = together[:, :, head]",
        "head = head - 1\n                output = together[:, :, head]",
    ),
    "mean over the batch only": ("output.mean(dim=(0, 1))", "output.mean(dim=0)"),
    "mean over the head": ("output.mean(dim=(0, 1))", "output.mean()"),
    "zero for mean": ('0 if by == "zero" else', "0 if True else"),
    "only the last head": (
        "chosen.setdefault(name, set()).add(head)",
        "chosen[name] = {head}",
    ),
    "features interleaved": (
        "together.unflatten(-1, (module.n_heads, module.d_head)).clone()",
        "together.unflatten(-1, (module.d_head, module.n_heads)).mT.clone()",
    ),
    "heads stay off": (
        "hooks.enter_context(_hooked(modules[name].out.register_forward_pre_hook(hook)))",
        "modules[name].out.register_forward_pre_hook(hook)",
    ),
    "the output projection's result instead": (
        "modules[name].out.register_forward_pre_hook(hook)",
        "modules[name].value.register_forward_pre_hook(hook)",
    ),
    "weights as they were": (
        "lambda _, __, query: torch.zeros_like(query)",
        "lambda _, __, query: query",
    ),
    "equal values in place of equal weights": (
        "module.query.register_forward_hook(lambda",
        "module.value.register_forward_hook(lambda",
    ),
    "weights stay equal": ("hooks.enter_context(_hooked(hook))", "pass"),
    "equal weights in the first layer only": (
        "hooks.enter_context(_hooked(hook))",
        "hooks.enter_context(_hooked(hook))\n            break",
    ),
    "patched everywhere": ("patched[:, list(where)] = other[:, list(where)]", "patched[:] = other"),
    "patched along the batch": (
        "patched[:, list(where)] = other[:, list(where)]",
        "patched[list(where)[:2]] = other[list(where)[:2]]",
    ),
    "patched one later": (
        "other[:, list(where)]\n",
        "other.roll(-1, dims=1)[:, list(where)]\n",
    ),
    "no positions means all": (
        "if positions is None else positions\n",
        "if not positions else positions\n",
    ),
    "the rest of a tuple lost": ("(patched, *output[1:])", "(patched, None)"),
    "patched in place": ("            patched = own.clone()\n", "            patched = other\n"),
    "patch stays": (
        "hooks.enter_context(_hooked(module.register_forward_hook(hook)))",
        "module.register_forward_hook(hook)",
    ),
    "hooks stay after an error": (
        "    try:\n        yield\n    finally:\n        handle.remove()",
        "    yield\n    handle.remove()",
    ),
}


class TestAttribution(ZooTests):
    zoo = Zoo(CHECKS, rewritten(attribution, BROKEN), BROKEN)


# --- errors in words -------------------------------------------------------------------------

LAYERS = random_weights(2, 3, 4, 4)
GRADIENTS = np.ones((2, 3, 4, 4))


def enter(context):
    with context:
        pass


def patch_with(output, **options):
    model = nn.Sequential(nn.Linear(2, 2))
    with attribution.patching(model, {"0": output}, **options):
        model(torch.zeros(1, 3, 2))


ERRORS = {
    "whole numbers": (
        lambda: attribution.rollout(np.ones((1, 2, 2), dtype=int)),
        TypeError,
        r"^weights must be a floating-point array of NumPy or torch; got int64$",
    ),
    "whole numbers of torch": (
        lambda: attribution.rollout(torch.ones((1, 2, 2), dtype=torch.int32)),
        TypeError,
        r"^weights must be a floating-point array of NumPy or torch; got int32$",
    ),
    "a number for an array": (
        lambda: attribution.gradient_times_weights(GRADIENTS, 1.0),
        TypeError,
        r"^gradients must be a floating-point array of NumPy or torch; got float$",
    ),
    "two axes": (
        lambda: attribution.rollout(LAYERS[0, 0]),
        ValueError,
        r"^weights must have shape \(n_layers, n, n\) or \(n_layers, \.\.\., n_heads, n, n\); "
        r"got \(4, 4\)$",
    ),
    "not square": (
        lambda: attribution.rollout(random_weights(2, 3, 4)),
        ValueError,
        r"^weights must have shape .* got \(2, 3, 4\)$",
    ),
    "layers of two shapes": (
        lambda: attribution.rollout([LAYERS[0], LAYERS[0, :2]]),
        ValueError,
        r"^weights must have one shape in all layers; got \[\(3, 4, 4\), \(2, 4, 4\)\]$",
    ),
    "rows that do not sum to one": (
        lambda: attribution.flow(2 * LAYERS),
        ValueError,
        r"^weights must have rows that sum to one and no negative entry; got sums from 2 to 2",
    ),
    "columns that sum to one": (
        lambda: attribution.rollout(LAYERS.swapaxes(-1, -2)),
        ValueError,
        r"^weights must have rows that sum to one",
    ),
    "residual above one": (
        lambda: attribution.rollout(LAYERS, residual=1.5),
        ValueError,
        r"^residual must be a share from 0 to 1; got 1\.5$",
    ),
    "heads joined otherwise": (
        lambda: attribution.rollout(LAYERS, heads="sum"),
        ValueError,
        r"^heads must be one of mean, max, min; got 'sum'$",
    ),
    "heads with nothing in common": (
        lambda: attribution.rollout(np.stack([one_hot(0, 1), one_hot(1, 0)])[None], heads="min"),
        ValueError,
        r"^heads='min' leaves a row without any weight; take the mean$",
    ),
    "flow of a batch": (
        lambda: attribution.flow(random_weights(2, 5, 3, 4, 4)),
        ValueError,
        r"one sequence at a time; got \(2, 5, 3, 4, 4\)$",
    ),
    "gradients of another shape": (
        lambda: attribution.gradient_times_weights(LAYERS, GRADIENTS[0]),
        ValueError,
        r"^weights and gradients must have one shape \(\.\.\., n_heads, n_q, n_k\); "
        r"got \(2, 3, 4, 4\) and \(3, 4, 4\)$",
    ),
    "a gradient too few": (
        lambda: attribution.relevance(LAYERS, GRADIENTS[:1]),
        ValueError,
        r"^weights_per_layer and gradients_per_layer must have one entry for each layer; "
        r"got 2 and 1$",
    ),
    "relevance across attention": (
        lambda: attribution.relevance([random_weights(3, 4, 5)], [np.ones((3, 4, 5))]),
        ValueError,
        r"^all layers must have weights of one shape .*; got \[\(3, 4, 5\)\]",
    ),
    "no attention": (
        lambda: enter(attribution.recording(nn.Linear(2, 2))),
        ValueError,
        r"^model must have a MultiHeadAttention; Linear has none$",
    ),
    "dropout": (
        lambda: enter(attribution.recording(Classifier(dropout=0.1).train())),
        ValueError,
        r"^'first' drops weights at random in training: call model\.eval\(\)$",
    ),
    "gradients before backward": (
        lambda: attribution.Recording().gradients,
        ValueError,
        r"^the recording has no gradients: call backward\(\)",
    ),
    "no module of the name": (
        lambda: enter(attribution.collecting(nn.Sequential(nn.Linear(2, 2)), ["1"])),
        ValueError,
        r"^model has no module of the name '1'; it has \['', '0'\]$",
    ),
    "no layer of the name": (
        lambda: enter(attribution.ablating(Classifier(), [("third", 0)])),
        ValueError,
        r"^heads must be of the layers \['first', 'second'\]; got 'third'$",
    ),
    "no such head": (
        lambda: enter(attribution.ablating(Classifier(), [("first", 2)])),
        ValueError,
        r"^'first' has heads 0 to 1; got 2$",
    ),
    "ablated by something else": (
        lambda: enter(attribution.ablating(Classifier(), [], by="noise")),
        ValueError,
        r"^by must be 'zero' or 'mean'; got 'noise'$",
    ),
    "another run of another length": (
        lambda: patch_with(torch.zeros(1, 4, 2)),
        ValueError,
        r"^outputs\['0'\] must have the shape of this run's, \(1, 3, 2\); got \(1, 4, 2\)$",
    ),
    "position out of range": (
        lambda: patch_with(torch.zeros(1, 3, 2), positions=[0, 3]),
        ValueError,
        r"^positions must lie between 0 and 2; got \[0, 3\]$",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_error(name):
    call, exception, message = ERRORS[name]
    with pytest.raises(exception, match=message) as raised:
        call()
    assert not re.search(r"torch\.float|<class|object at", str(raised.value))


def test_no_error_is_untested():
    assert not unreached(("attribution",), [call for call, _, _ in ERRORS.values()])
