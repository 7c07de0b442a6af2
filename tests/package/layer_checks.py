"""What any correct multi-head attention does: checks that fail on a broken layer.

A check is a function of `api`, a namespace with `MultiHeadAttention` and `KeyValueCache`. The tests
run every check on the package, and on a zoo of broken layers that the checks have to catch.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from hypothesis import strategies as st
from torch import nn

from attn_tutorial import causal_mask, layers, padding_mask
from package.conformance import assert_close, generated

CHECKS = []


def check(function):
    """Register a check."""
    CHECKS.append(function)
    return function


def package_api() -> SimpleNamespace:
    """The public classes as a namespace of which each can be replaced."""
    return SimpleNamespace(
        MultiHeadAttention=layers.MultiHeadAttention, KeyValueCache=layers.KeyValueCache
    )


# --- layers and inputs -------------------------------------------------------------------------


def numbers(*shape: int, seed: int = 0, dtype=torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def fill(module: nn.Module, seed: int = 0) -> nn.Module:
    """The module in float64, with normal parameters: biases too, so that they show."""
    module = module.double()
    with torch.no_grad():
        for number, parameter in enumerate(module.parameters()):
            width = parameter.shape[-1] if parameter.ndim > 1 else 1
            drawn = numbers(*parameter.shape, seed=seed + number)
            parameter.copy_(drawn / math.sqrt(width))
    return module


def layer_of(api, *sizes: int, seed: int = 0, **options) -> nn.Module:
    """A layer with normal parameters, in evaluation mode."""
    return fill(api.MultiHeadAttention(*sizes, **options), seed).eval()


def by_heads(layer, x, context=None, mask=None) -> tuple[np.ndarray, np.ndarray]:
    """Output and weights by the paper's formula, one entry of the batch and one head at a time."""

    def linear(module, rows):
        rows = rows @ module.weight.detach().numpy().T
        return rows if module.bias is None else rows + module.bias.detach().numpy()

    x = x.detach().numpy()
    source = x if context is None else context.detach().numpy()
    batch, n_q, n_k = x.shape[0], x.shape[1], source.shape[1]
    allowed = np.ones((n_q, n_k), dtype=bool) if mask is None else np.asarray(mask)
    allowed = np.broadcast_to(allowed, (batch, layer.n_heads, n_q, n_k))
    outputs, all_weights = [], np.zeros((batch, layer.n_heads, n_q, n_k))
    for entry in range(batch):
        query, key = linear(layer.query, x[entry]), linear(layer.key, source[entry])
        value = linear(layer.value, source[entry])
        heads = []
        for head in range(layer.n_heads):
            shared = head * layer.n_kv_heads // layer.n_heads
            own = slice(head * layer.d_head, (head + 1) * layer.d_head)
            group = slice(shared * layer.d_head, (shared + 1) * layer.d_head)
            scores = query[:, own] @ key[:, group].T / math.sqrt(layer.d_head)
            exponentials = np.exp(scores) * allowed[entry, head]
            weights = exponentials / exponentials.sum(-1, keepdims=True)
            all_weights[entry, head] = weights
            heads.append(weights @ value[:, group])
        outputs.append(linear(layer.out, np.concatenate(heads, axis=-1)))
    return np.stack(outputs), all_weights


@dataclass
class Case:
    """Sizes, inputs and a mask that leaves every query a key."""

    n_heads: int
    d_head: int
    d_context: int | None
    bias: bool
    x: torch.Tensor
    context: torch.Tensor | None
    mask: Any

    def __repr__(self):
        shapes = [tuple(array.shape) for array in (self.x, self.context) if array is not None]
        mask = "none" if self.mask is None else f"{self.mask.dtype} {tuple(self.mask.shape)}"
        return f"Case({self.n_heads} heads of {self.d_head}, inputs {shapes}, mask {mask})"


@st.composite
def cases(draw):
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    batch, n_heads, d_head = (draw(st.integers(1, 3)) for _ in range(3))
    n_q, n_k = draw(st.integers(1, 5)), draw(st.integers(1, 6))
    d_model = n_heads * d_head
    d_context = draw(st.sampled_from([None, d_model + 1]))
    crossed = d_context is not None or draw(st.booleans())
    n_k = n_k if crossed else n_q
    kind = draw(st.sampled_from(["none", "causal", "padding", "any", "any of each head", "float"]))
    mask = None
    if kind == "causal":
        mask = causal_mask(n_q, n_k)
    elif kind == "padding":
        mask = padding_mask(rng.integers(1, n_k + 1, size=(batch, 1)), n_k)
    elif kind != "none":
        mask = rng.random((batch, n_heads if kind == "any of each head" else 1, n_q, n_k)) < 0.6
        mask[..., 0] = True
    if kind == "float":
        mask = np.where(mask, rng.normal(size=mask.shape), -np.inf)
    if mask is not None and draw(st.booleans()):
        mask = torch.from_numpy(mask.copy())
    return Case(
        n_heads=n_heads,
        d_head=d_head,
        d_context=d_context,
        bias=draw(st.booleans()),
        x=numbers(batch, n_q, d_model, seed=seed),
        context=numbers(batch, n_k, d_context or d_model, seed=seed + 1) if crossed else None,
        mask=mask,
    )


def torch_mask(mask: Any, batch: int, n_heads: int, n_q: int, n_k: int) -> torch.Tensor | None:
    """The mask as nn.MultiheadAttention wants it: True hides, batch and heads in one axis."""
    if mask is None:
        return None
    mask = torch.as_tensor(mask).expand(batch, n_heads, n_q, n_k).reshape(-1, n_q, n_k)
    return ~mask if mask.dtype == torch.bool else mask


# --- what it computes --------------------------------------------------------------------------


@check
@generated(60, case=cases())
def agrees_with_torch(api, case):
    """Outputs, the weights of each head and all gradients are those of nn.MultiheadAttention."""
    d_model = case.n_heads * case.d_head
    module = nn.MultiheadAttention(
        d_model,
        case.n_heads,
        bias=case.bias,
        kdim=case.d_context,
        vdim=case.d_context,
        batch_first=True,
    )
    module = fill(module, seed=1)
    layer = api.MultiHeadAttention(
        d_model, case.n_heads, d_context=case.d_context, bias=case.bias
    ).double()
    assert layer.load_from_torch(module) is layer

    def inputs():
        context = None if case.context is None else case.context.clone().requires_grad_()
        return case.x.clone().requires_grad_(), context

    x, context = inputs()
    source = x if context is None else context
    mask = torch_mask(case.mask, x.shape[0], case.n_heads, x.shape[1], source.shape[1])
    wanted, wanted_weights = module(x, source, source, attn_mask=mask, average_attn_weights=False)
    leaves = [tensor for tensor in (x, context) if tensor is not None]
    of_inputs = torch.autograd.grad(wanted.square().sum(), leaves, retain_graph=True)
    wanted.square().sum().backward()
    for need_weights in (True, False):
        layer.zero_grad()
        x, context = inputs()
        output, weights = layer(x, context, mask=case.mask, need_weights=need_weights)
        assert_close(output, wanted)
        if need_weights:
            assert_close(weights, wanted_weights)
        output.square().sum().backward()
        leaves = [tensor for tensor in (x, context) if tensor is not None]
        for leaf, gradient in zip(leaves, of_inputs, strict=True):
            assert_close(leaf.grad, gradient)
        assert_close(layer.out.weight.grad, module.out_proj.weight.grad)
        if module.in_proj_weight is not None:
            grads = [getattr(layer, name).weight.grad for name in ("query", "key", "value")]
            assert_close(torch.cat(grads), module.in_proj_weight.grad)
        else:
            assert_close(layer.query.weight.grad, module.q_proj_weight.grad)
            assert_close(layer.key.weight.grad, module.k_proj_weight.grad)
            assert_close(layer.value.weight.grad, module.v_proj_weight.grad)
        if case.bias:
            grads = [getattr(layer, name).bias.grad for name in ("query", "key", "value")]
            assert_close(torch.cat(grads), module.in_proj_bias.grad)
            assert_close(layer.out.bias.grad, module.out_proj.bias.grad)


@check
def follows_the_paper(api):
    """Each head by itself, with its own columns; heads of any width; grouped keys and values."""
    x, context = numbers(2, 3, 8), numbers(2, 5, 7, seed=1)
    for options in (
        {"n_kv_heads": 4},
        {"n_kv_heads": 2},
        {"n_kv_heads": 1, "bias": False},
        {"n_kv_heads": 2, "d_head": 5},
        {"d_context": 7, "d_head": 3},
    ):
        layer = layer_of(api, 8, 4, **options)
        source = context if "d_context" in options else None
        mask = None if source is not None else causal_mask(3, 3)
        wanted, wanted_weights = by_heads(layer, x, source, mask)
        output, weights = layer(x, source, mask=mask, need_weights=True)
        assert_close(output, wanted)
        assert_close(weights, wanted_weights)
        assert_close(layer(x, source, mask=mask)[0], wanted)


@check
def grouped_equals_repeated(api):
    """Sharing keys and values is the same as giving each head of a group a copy."""
    grouped = layer_of(api, 12, 6, n_kv_heads=2)
    repeated = layer_of(api, 12, 6)
    with torch.no_grad():
        for name in ("key", "value"):
            for part in ("weight", "bias"):
                rows = getattr(getattr(grouped, name), part)
                heads = rows.unflatten(0, (2, 2))  # (n_kv_heads, d_head, ...)
                copies = heads.repeat_interleave(3, dim=0).flatten(0, 1)
                getattr(getattr(repeated, name), part).copy_(copies)
        for name in ("query", "out"):
            getattr(repeated, name).load_state_dict(getattr(grouped, name).state_dict())
    x = numbers(2, 4, 12, seed=3)
    wanted, wanted_weights = by_heads(repeated, x)
    for layer in (grouped, repeated):
        output, weights = layer(x, need_weights=True)
        assert_close(output, wanted)
        assert_close(weights, wanted_weights)
        assert_close(layer(x)[0], wanted)


@check
@generated(40, case=cases(), grouped=st.booleans(), dead=st.booleans())
def engines_agree(api, case, grouped, dead):
    """With and without the weights: one output, one gradient."""
    d_model = case.n_heads * case.d_head
    layer = layer_of(
        api,
        d_model,
        case.n_heads,
        n_kv_heads=1 if grouped else None,
        d_context=case.d_context,
        bias=case.bias,
    )
    mask = case.mask
    if mask is not None and dead:
        mask = torch.as_tensor(mask).clone()
        mask[..., 0, :] = False if mask.dtype == torch.bool else -math.inf
    gradients = []
    outputs = []
    for need_weights in (True, False):
        x = case.x.clone().requires_grad_()
        output, weights = layer(x, case.context, mask=mask, need_weights=need_weights)
        assert (weights is not None) == need_weights
        gradients.append(torch.autograd.grad(output.square().sum(), (x, *layer.parameters())))
        outputs.append(output)
    assert_close(*outputs)
    for one, other in zip(*gradients, strict=True):
        assert_close(one, other)


@check
def weights_are_of_each_head(api):
    """Not their mean: one row of weights for each head and query, and heads differ."""
    layer = layer_of(api, 8, 4)
    output, weights = layer(numbers(2, 5, 8), need_weights=True)
    assert weights.shape == (2, 4, 5, 5)
    assert_close(weights.sum(-1), torch.ones(2, 4, 5))
    assert (weights[:, 0] - weights[:, 1]).abs().max() > 0.01
    assert layer(numbers(2, 5, 8))[1] is None
    assert output.shape == (2, 5, 8)


@check
def the_context_is_what_is_attended_to(api):
    """In cross-attention keys and values come from the context, queries from x."""
    layer = layer_of(api, 8, 2)
    x, context = numbers(2, 3, 8), numbers(2, 3, 8, seed=1)
    for need_weights in (False, True):
        output, _ = layer(x, context, need_weights=need_weights)
        alone, _ = layer(x[:, :1], context, need_weights=need_weights)
        assert_close(alone, output[:, :1])  # the other queries are no keys
        moved, _ = layer(x, context + 1, need_weights=need_weights)
        assert (moved - output).abs().max() > 0.01
        same, _ = layer(x, x, need_weights=need_weights)
        assert_close(same, layer(x)[0])


# --- masks -------------------------------------------------------------------------------------


@check
def a_mask_is_a_removal(api):
    """What is masked out might as well not be there, in either mode, for every kind of mask."""
    layer = layer_of(api, 8, 2)
    x, context = numbers(2, 3, 8), numbers(2, 6, 8, seed=1)
    kept = np.array([True, False, True, True, False, True])
    wanted, _ = by_heads(layer, x, context[:, kept])
    floating = np.where(kept, 0.0, -np.inf)
    for training in (False, True):
        layer.train(training)
        for mask in (kept[None, :], floating[None, :], torch.tensor(kept), floating):
            for need_weights in (False, True):
                output, _ = layer(x, context, mask=mask, need_weights=need_weights)
                assert_close(output, wanted)


@check
def masks_broadcast_by_their_axes(api):
    """(n_q, n_k) is for all; (batch, 1, n_q, n_k) and (1, n_heads, n_q, n_k) are what they say."""
    layer = layer_of(api, 8, 2)
    x = numbers(2, 3, 8)
    rng = np.random.default_rng(0)
    for shape in ((3, 3), (2, 1, 3, 3), (1, 2, 3, 3), (2, 2, 3, 3), (2, 1, 1, 3), (1, 3)):
        mask = rng.random(shape) < 0.5
        mask[..., 0] = True
        wanted, wanted_weights = by_heads(layer, x, mask=mask)
        for this in (mask, torch.from_numpy(mask)):
            output, weights = layer(x, mask=this, need_weights=True)
            assert_close(output, wanted)
            assert_close(weights, wanted_weights)
            assert_close(layer(x, mask=this)[0], wanted)


@check
def float_masks_are_added(api):
    """A number added to all scores of a query changes nothing; to one of them, its weight."""
    layer = layer_of(api, 8, 2)
    x = numbers(2, 3, 8)
    wanted, weights = layer(x, need_weights=True)
    for need_weights in (False, True):
        shifted, _ = layer(x, mask=np.full((3, 3), 5.0), need_weights=need_weights)
        assert_close(shifted, wanted)
    factor = torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64)
    _, masked = layer(x, mask=factor.log()[None, :], need_weights=True)
    assert_close(masked, weights * factor / (weights * factor).sum(-1, keepdim=True))
    single = layer.float()(x.float(), mask=np.zeros((3, 3)))[0]  # a mask of another precision
    assert_close(single, wanted, "float32")


@check
def nothing_leaks_from_the_future(api):
    """Under the causal mask no later token matters, neither in training nor in evaluation."""
    layer = layer_of(api, 8, 2)
    x = numbers(2, 5, 8)
    mask = causal_mask(5, 5)
    for training in (False, True):
        layer.train(training)
        for need_weights in (False, True):
            for position in range(5):
                leaf = x.clone().requires_grad_()
                output, _ = layer(leaf, mask=mask, need_weights=need_weights)
                (gradient,) = torch.autograd.grad(output[:, position].square().sum(), leaf)
                assert (gradient[:, position + 1 :] == 0).all()
                assert (gradient[:, : position + 1].abs().amax(-1) > 0).all()


@check
def dead_rows_are_zero(api):
    """Nothing to attend to: weights and heads zero, the output the bias of `out`, no NaN."""
    layer = layer_of(api, 8, 2)
    x = numbers(2, 3, 8).requires_grad_()
    mask = np.ones((2, 1, 3, 3), dtype=bool)
    mask[0, :, 1] = False
    for this in (mask, np.where(mask, 0.0, -np.inf)):
        for need_weights in (False, True):
            output, weights = layer(x, mask=this, need_weights=need_weights)
            assert_close(output[0, 1], layer.out.bias)
            if need_weights:
                assert (weights[0, :, 1] == 0).all()
            for gradient in torch.autograd.grad(output.square().sum(), (x, *layer.parameters())):
                assert torch.isfinite(gradient).all()


# --- the cache ---------------------------------------------------------------------------------


def decode(api, layer, x, sizes, need_weights=False):
    """The output in steps of these sizes, under the causal mask; the cache, and the weights."""
    cache = api.KeyValueCache()
    outputs, all_weights = [], []
    for start, stop in pairwise(np.cumsum([0, *sizes])):
        n_q = int(stop - start)
        mask = causal_mask(n_q, cache.length + n_q, offset=cache.offset)
        output, weights = layer(x[:, start:stop], mask=mask, cache=cache, need_weights=need_weights)
        outputs.append(output)
        all_weights.append(weights)
    return torch.cat(outputs, dim=1), cache, all_weights


@check
def step_by_step_equals_all_at_once(api):
    """One token at a time, or several: the outputs, weights and gradients of the whole sequence."""
    for options in ({}, {"n_kv_heads": 2}):
        layer = layer_of(api, 12, 6, **options)
        x = numbers(2, 7, 12).requires_grad_()
        wanted, wanted_weights = layer(x, mask=causal_mask(7, 7), need_weights=True)
        gradient = torch.autograd.grad(wanted.square().sum(), x)[0]
        for sizes in ([1] * 7, [3, 1, 2, 1], [7]):
            output, cache, _ = decode(api, layer, x, sizes)
            assert_close(output, wanted)
            assert_close(torch.autograd.grad(output.square().sum(), x)[0], gradient)
            assert cache.length == cache.offset == 7
            assert cache.keys.shape == cache.values.shape == (2, layer.n_kv_heads, 7, 2)
            output, _, weights = decode(api, layer, x, sizes, need_weights=True)
            assert_close(output, wanted)
            assert_close(weights[-1], wanted_weights[:, :, -sizes[-1] :])
        cache = api.KeyValueCache()
        for position in range(7):  # a single query is the last: it needs no mask
            output, _ = layer(x[:, position : position + 1], cache=cache)
            assert_close(output[:, 0], wanted[:, position])


@check
def the_context_is_projected_once(api):
    """A cache in cross-attention: as without it, and the keys are computed in the first step."""
    layer = layer_of(api, 8, 2, d_context=6)
    x, context = numbers(2, 4, 8), numbers(2, 5, 6, seed=1)
    mask = padding_mask([[5], [3]], 5)
    wanted, _ = by_heads(layer, x, context, mask)
    calls = []
    handles = [
        linear.register_forward_hook(lambda *_: calls.append(1))
        for linear in (layer.key, layer.value)
    ]
    cache = api.KeyValueCache()
    for position in range(4):
        output, _ = layer(x[:, position : position + 1], context, mask=mask, cache=cache)
        assert_close(output[:, 0], wanted[:, position])
    assert cache.length == 5
    assert len(calls) == 2  # one for the keys, one for the values
    for handle in handles:
        handle.remove()


@check
def beams_take_their_past_along(api):
    """After `reorder` each entry continues the sequence that it was given."""
    layer = layer_of(api, 8, 4, n_kv_heads=2)
    x = numbers(3, 4, 8)
    indices = [2, 0, 0, 1]  # one beam twice: the batch may change its size
    cache = api.KeyValueCache()
    layer(x, mask=causal_mask(4, 4), cache=cache)
    cache.reorder(indices)
    new = numbers(4, 1, 8, seed=1)
    output, _ = layer(new, cache=cache)
    wanted, _ = layer(torch.cat([x[indices], new], dim=1), mask=causal_mask(5, 5))
    assert_close(output[:, 0], wanted[:, -1])
    cache.reorder(torch.tensor([1]))
    assert cache.keys.shape == cache.values.shape == (1, 2, 5, 2)


# --- dropout -----------------------------------------------------------------------------------


def sum_of_weights(api, dropout: float, n_keys: int, n_queries: int, need_weights: bool):
    """For each query the sum of its weights as they are used: all values are one.

    One head of width one, whose value and output projections pass a one on.
    """
    torch.manual_seed(0)
    layer = layer_of(api, 1, 1, dropout=dropout).train()
    with torch.no_grad():
        layer.value.weight.zero_()
        layer.value.bias.fill_(1.0)
        layer.out.weight.fill_(1.0)
        layer.out.bias.zero_()
    output, weights = layer(
        numbers(1, n_queries, 1), numbers(1, n_keys, 1, seed=1), need_weights=need_weights
    )
    return output[0, :, 0].detach(), weights


@check
def dropout_falls_on_the_weights(api):
    """In training each weight is kept with probability 1 - p, and then divided by it.

    Were it dropped before normalising, the weights would still sum to one.
    """
    for need_weights in (False, True):
        for probability in (0.2, 0.5):
            # One key: its weight is one, and comes out as 0 or 1 / (1 - p).
            sums, _ = sum_of_weights(api, probability, 1, 4000, need_weights)
            kept = sums > 0
            assert_close(sums[kept], torch.full((int(kept.sum()),), 1 / (1 - probability)))
            assert (sums[~kept] == 0).all()
            deviation = math.sqrt(probability * (1 - probability) / 4000)
            assert abs(kept.double().mean() - (1 - probability)) < 5 * deviation
            # Four keys: dropped one by one, so that their sum is 1 on average, and spread.
            sums, weights = sum_of_weights(api, probability, 4, 4000, need_weights)
            assert len(sums.round(decimals=9).unique()) > 100
            assert abs(sums.mean() - 1) < 0.1
            if need_weights:
                assert_close(weights.sum(-1), torch.ones(1, 1, 4000))  # those before dropout


@check
def dropout_is_for_training_only(api):
    """In evaluation the layer is deterministic, and that of no dropout; in training it is not."""
    layer, without = layer_of(api, 8, 2, dropout=0.5), layer_of(api, 8, 2)
    x = numbers(2, 5, 8)
    for need_weights in (False, True):
        torch.manual_seed(0)
        output, weights = layer.eval()(x, need_weights=need_weights)
        again, _ = layer(x, need_weights=need_weights)
        assert torch.equal(output, again)
        assert_close(output, by_heads(without, x)[0])
        one, shown = layer.train()(x, need_weights=need_weights)
        other, _ = layer(x, need_weights=need_weights)
        assert (one - other).abs().max() > 0.01
        if need_weights:
            assert_close(shown, weights)
        assert torch.equal(without.train()(x)[0], without(x)[0])


# --- numbers, gradients, parameters ------------------------------------------------------------


@check
def sixteen_bits_suffice(api):
    """float16 and bfloat16 run, with masks, on large scores too, and autocast is allowed."""
    layer = layer_of(api, 64, 1)
    with torch.no_grad():
        layer.query.weight.copy_(torch.eye(64))
        layer.key.weight.copy_(torch.eye(64))
    x = numbers(2, 6, 64)
    x[..., 0] = 300.0  # products beyond 65504, the same for all keys
    wanted, _ = layer(x, mask=causal_mask(6, 6))
    for dtype, tolerance in ((torch.float16, 0.02), (torch.bfloat16, 0.1)):
        narrow = layer.to(dtype)
        for need_weights in (False, True):
            output, weights = narrow(x.to(dtype), mask=causal_mask(6, 6), need_weights=need_weights)
            assert output.dtype == dtype
            assert torch.isfinite(output).all()
            assert (output.double() - wanted).abs().mean() < tolerance * wanted.abs().mean()
            if need_weights:
                assert weights.dtype == dtype
        layer = layer.double()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output, _ = layer.float()(x.float(), mask=np.zeros((6, 6)))
    assert output.dtype == torch.bfloat16


@check
def gradients_are_right(api):
    """Numerical derivatives agree, of the inputs, the parameters and a learned float mask."""
    layer = layer_of(api, 4, 2, n_kv_heads=1, d_context=3)
    x, context = numbers(1, 2, 4).requires_grad_(), numbers(1, 3, 3, seed=1).requires_grad_()
    bias = numbers(1, 2, 2, 3, seed=2).requires_grad_()
    names = list(dict(layer.named_parameters()))
    for need_weights in (False, True):

        def run(x, context, bias, *parameters, need_weights=need_weights):
            output, weights = torch.func.functional_call(
                layer,
                dict(zip(names, parameters, strict=True)),
                (x, context),
                {"mask": bias, "need_weights": need_weights},
            )
            return (output, weights) if need_weights else output

        assert torch.autograd.gradcheck(run, (x, context, bias, *layer.parameters()))


@check
def parameters_are_saved_and_loaded(api):
    """The state holds the four projections by name, and nothing else."""
    layer = layer_of(api, 12, 6, n_kv_heads=2, d_context=5, d_head=3)
    state = layer.state_dict()
    assert {name: tuple(tensor.shape) for name, tensor in state.items()} == {
        "query.weight": (18, 12),
        "query.bias": (18,),
        "key.weight": (6, 5),
        "key.bias": (6,),
        "value.weight": (6, 5),
        "value.bias": (6,),
        "out.weight": (12, 18),
        "out.bias": (12,),
    }
    other = layer_of(api, 12, 6, n_kv_heads=2, d_context=5, d_head=3, seed=50)
    x, context = numbers(2, 3, 12), numbers(2, 4, 5, seed=1)
    assert (other(x, context)[0] - layer(x, context)[0]).abs().max() > 0.01
    other.load_state_dict(state)
    assert torch.equal(other(x, context)[0], layer(x, context)[0])
    bare = api.MultiHeadAttention(4, 2, bias=False).state_dict()
    assert set(bare) == {f"{name}.weight" for name in ("query", "key", "value", "out")}


@check
def parameters_begin_small_and_random(api):
    """Matrices uniform by Glorot and Bengio, biases zero; another seed, other matrices."""
    torch.manual_seed(0)
    layer = api.MultiHeadAttention(64, 4, n_kv_heads=2)
    for linear in (layer.query, layer.key, layer.value, layer.out):
        bound = math.sqrt(6 / sum(linear.weight.shape))
        assert linear.weight.abs().max() <= bound
        assert linear.weight.abs().max() > 0.98 * bound
        assert abs(linear.weight.std() * math.sqrt(3) / bound - 1) < 0.05
        assert (linear.bias == 0).all()
    assert (api.MultiHeadAttention(64, 4).query.weight != layer.query.weight).any()


@check
def goes_to_torch_and_back(api):
    """As nn.MultiheadAttention the layer computes the same, and comes back unchanged."""
    x = numbers(2, 3, 6)
    for options in ({}, {"bias": False}, {"d_context": 5}):
        layer = layer_of(api, 6, 3, dropout=0.3, **options)
        context = numbers(2, 4, options.get("d_context", 6), seed=1)
        module = layer.to_torch()
        assert module.batch_first
        assert module.dropout == 0.3
        assert not module.training
        assert layer.train().to_torch().training
        assert_close(module(x, context, context)[0], by_heads(layer.eval(), x, context)[0])
        with torch.no_grad():
            module.out_proj.weight.add_(1)  # a copy: the layer does not change
        assert_close(layer(x, context)[0], by_heads(layer, x, context)[0])
        module = layer.to_torch()
        other = api.MultiHeadAttention(6, 3, **options).double().load_from_torch(module)
        for name, tensor in layer.state_dict().items():
            assert torch.equal(other.state_dict()[name], tensor)
