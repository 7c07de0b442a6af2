"""Each formula equals what is counted while a layer runs; and broken formulas do not."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import sdpa_backward_flop_count, sdpa_flop_count

from attn_tutorial.frontier import costs
from attn_tutorial.frontier.costs import counters, formulas
from attn_tutorial.layers import MultiHeadAttention
from attn_tutorial.models import EncoderLayer, FeedForward
from benchmarks.costs import plain_layer
from package.conformance import generated
from package.zoo import Zoo, ZooTests, merged

CHECKS = []
FUSED_OPERATION = "_scaled_dot_product_flash_attention_for_cpu"
SMALL = st.integers(1, 5)
SIZES = {"batch": st.integers(1, 3), "n": st.integers(1, 7), "d_head": SMALL, "groups": SMALL}


def check(function):
    CHECKS.append(function)
    return function


def tensor(*shape):
    return torch.randn(shape, requires_grad=True)


def heads(layer, x, past=0):
    """Queries, keys and values, the queries that share their keys as further rows.

    Keys and values of `past` earlier tokens stand before those of x.
    """
    batch, n, _ = x.shape
    group = layer.n_heads // layer.n_kv_heads
    query = layer.query(x).reshape(batch, n, layer.n_kv_heads, group, layer.d_head)
    query = query.permute(0, 2, 3, 1, 4).flatten(2, 3)  # (batch, n_kv_heads, group · n, d_head)
    keys = (batch, layer.n_kv_heads, past, layer.d_head)
    key, value = (
        torch.cat(
            [torch.randn(keys), part(x).unflatten(-1, (layer.n_kv_heads, -1)).transpose(1, 2)], 2
        )
        for part in (layer.key, layer.value)
    )
    return [part.contiguous() for part in (query, key, value)]


def plain(query, key, value):
    """Attention in three operations; a scale would cost nothing that is counted."""
    rows = query.flatten(0, 1)
    weights = torch.softmax(torch.bmm(rows, key.flatten(0, 1).mT), dim=-1)
    return torch.bmm(weights, value.flatten(0, 1)).view_as(query)


def whole(layer, x, attend, past=0):
    output = attend(*heads(layer, x, past))  # (batch, n_kv_heads, group · n, d_head)
    return layer.out(output.transpose(1, 2).reshape(x.shape).contiguous())


def backward_of(api, run):
    """Operations of the backward pass alone."""
    both = api.count_operations(lambda: run().sum().backward())
    return both - api.count_operations(run)


def numbers(counter, *names):
    """Numbers of four bytes moved by these operations."""
    return sum(counter[name] for name in names) // 4


def agrees(api, found, module, run):
    """Everything but what is moved."""
    assert found.parameters == api.count_parameters(module)
    assert found.operations == api.count_operations(run)
    assert found.backward == backward_of(api, run)
    assert found.saved * 4 == api.count_saved(run)
    with sdpa_kernel(SDPBackend.MATH):
        assert found.chain == api.longest_chain(run())


@check
@generated(6, kv=st.integers(1, 3), bias=st.booleans(), **SIZES)
def plain_attention_is_what_is_counted(api, batch, n, d_head, groups, kv, bias):
    n_heads = groups * kv
    d_model = n_heads * d_head
    layer = MultiHeadAttention(d_model, n_heads, n_kv_heads=kv, bias=bias)
    x = tensor(batch, n, d_model)
    parts = api.attention_parts(n, d_model, n_heads, batch=batch, n_kv_heads=kv, bias=bias)
    found = api.total(parts)
    assert found.parameters == sum(parameter.numel() for parameter in layer.parameters())

    def run():
        return whole(layer, x, plain)

    assert found.operations == api.count_operations(run)
    assert found.backward == backward_of(api, run)
    assert found.chain == api.longest_chain(run())
    # Copies of queries, keys and values, made by this test, are no part of the formula.
    moved = api.count_moved(run)
    linear = numbers(moved, "addmm") if bias else numbers(moved, "mm")
    assert parts["projections"].moved + parts["output"].moved == linear
    assert parts["scores"].moved + parts["weighted sum"].moved == numbers(moved, "bmm")
    assert parts["softmax"].moved == numbers(moved, "_softmax")

    # The package's own layer does the same products.
    def shown():
        return layer(x, need_weights=True)[0]

    assert found.operations == api.count_operations(shown)


@check
@generated(5, **SIZES)
def plain_attention_keeps_what_is_counted(api, batch, n, d_head, groups):
    d_model = groups * d_head
    x = tensor(batch, n, d_model)
    parts = api.attention_parts(n, d_model, groups, batch=batch)
    given = heads(MultiHeadAttention(d_model, groups), x)
    inner = sum((parts[name] for name in ("scores", "softmax", "weighted sum")), api.Cost())
    assert inner.saved * 4 == api.count_saved(lambda: plain(*given))
    layer = nn.Linear(d_model, d_model)
    assert parts["projections"].saved * 4 == api.count_saved(lambda: [layer(x) for _ in range(3)])
    assert parts["output"].saved * 4 == api.count_saved(lambda: layer(x))


@check
@generated(5, bias=st.booleans(), **SIZES)
def fused_attention_is_what_is_counted(api, batch, n, d_head, groups, bias):
    d_model = groups * d_head
    layer = MultiHeadAttention(d_model, groups, bias=bias)
    x = tensor(batch, n, d_model)
    parts = api.attention_parts(n, d_model, groups, batch=batch, fused=True, bias=bias)

    def run():
        return layer(x)[0]

    found = api.total(parts)
    assert found.operations == api.count_operations(run)
    assert found.saved * 4 == api.count_saved(run)
    moved = api.count_moved(run)
    assert parts["fused attention"].moved == numbers(moved, FUSED_OPERATION)
    shape = (batch, groups, n, d_head)
    assert parts["fused attention"].operations == sdpa_flop_count(shape, shape, shape)
    assert parts["fused attention"].backward == sdpa_backward_flop_count(*4 * [shape])
    assert found.chain == 4


@check
@generated(5, kv=st.integers(1, 3), past=st.integers(0, 9), **SIZES)
def decoding_is_what_is_counted(api, batch, n, d_head, groups, kv, past):
    """New tokens meet the keys of all, and only the new ones are projected."""
    n_heads = groups * kv
    d_model = n_heads * d_head
    layer = MultiHeadAttention(d_model, n_heads, n_kv_heads=kv)
    x = tensor(batch, n, d_model)
    sizes = {"batch": batch, "cached": past, "n_kv_heads": kv}
    parts = api.attention_parts(n, d_model, n_heads, **sizes)

    def run():
        return whole(layer, x, plain, past)

    assert api.total(parts).operations == api.count_operations(run)
    moved = api.count_moved(run)
    assert parts["scores"].moved + parts["weighted sum"].moved == numbers(moved, "bmm")
    fused = api.attention_parts(n, d_model, n_heads, fused=True, **sizes)
    moved = api.count_moved(lambda: whole(layer, x, F.scaled_dot_product_attention, past))
    assert fused["fused attention"].moved == numbers(moved, FUSED_OPERATION)


@check
@generated(4, d_hidden=st.integers(1, 9), **SIZES)
def a_whole_layer_is_what_is_counted(api, batch, n, d_head, groups, d_hidden):
    d_model = groups * d_head
    x = tensor(batch, n, d_model)
    layer = EncoderLayer(d_model, groups, d_hidden)

    def run():
        return layer(x)[0]

    sizes = (n, d_model, groups, d_hidden)
    parts = api.encoder_layer_parts(*sizes, batch=batch, fused=True)
    found = api.total(parts)
    assert found.parameters == api.count_parameters(layer)
    assert found.operations == api.count_operations(run)
    assert found.saved * 4 == api.count_saved(run)
    with sdpa_kernel(SDPBackend.MATH):
        assert found.chain == api.longest_chain(run())
    assert api.total(api.encoder_layer_parts(*sizes, batch=batch)).backward == backward_of(api, run)
    moved = api.count_moved(run)
    norms = parts["first norm"].moved + parts["second norm"].moved
    assert norms == numbers(moved, "native_layer_norm")
    assert parts["first sum"].moved + parts["second sum"].moved == numbers(moved, "add")
    assert parts["ReLU"].moved == numbers(moved, "relu")
    linear = ("projections", "output", "feed-forward in", "feed-forward out")
    assert sum(parts[name].moved for name in linear) == numbers(moved, "addmm")
    # With a cache and fewer keys the layer's attention is that of `attention_parts`.
    options = {"batch": batch, "cached": 5, "n_kv_heads": 1}
    of_layer = api.encoder_layer_parts(*sizes, **options)
    for name, part in api.attention_parts(n, d_model, groups, **options).items():
        assert of_layer[name] == part


@check
@generated(4, rows=SMALL, d_model=SMALL, d_hidden=SMALL)
def feed_forward_is_what_is_counted(api, rows, d_model, d_hidden):
    layer, x = FeedForward(d_model, d_hidden), tensor(rows, d_model)
    found = api.total(api.feed_forward_parts(rows, d_model, d_hidden))
    agrees(api, found, layer, lambda: layer(x))
    assert found.moved * 4 == sum(api.count_moved(lambda: layer(x)).values())


@check
@generated(4, rows=SMALL, d_in=SMALL, d_out=SMALL, bias=st.booleans())
def a_linear_layer_is_what_is_counted(api, rows, d_in, d_out, bias):
    layer, x = nn.Linear(d_in, d_out, bias=bias), tensor(rows, d_in)
    found = api.linear(rows, d_in, d_out, bias=bias)
    agrees(api, found, layer, lambda: layer(x))
    assert found.moved * 4 == sum(api.count_moved(lambda: layer(x)).values())


@check
@generated(4, batch=st.integers(1, 3), n=st.integers(1, 6), d_in=SMALL, d_hidden=st.integers(2, 5))
def recurrence_is_what_is_counted(api, batch, n, d_in, d_hidden):
    # In double precision: torch's fused LSTM for single precision shows nothing to the counters.
    x = torch.randn(batch, n, d_in, dtype=torch.float64, requires_grad=True)
    for kind in ("RNN", "GRU", "LSTM"):
        layer = getattr(nn, kind)(d_in, d_hidden, batch_first=True, dtype=torch.float64)

        def run(layer=layer):
            return layer(x)[0]

        found = api.recurrent_layer(kind, n, d_in, d_hidden, batch=batch)
        assert found.parameters == api.count_parameters(layer)
        assert found.operations == api.count_operations(run)
        assert found.backward == backward_of(api, run)
        assert found.saved * 8 == api.count_saved(run)
        assert found.chain == api.longest_chain(run())
        moved = api.count_moved(run)
        # With a batch of sequences torch adds the input's bias in an operation of its own.
        bias = len(layer.bias_ih_l0) if batch > 1 and n > 1 else 0
        assert found.moved == (moved["addmm"] + moved["mm"]) // 8 + bias


@check
@generated(
    6, batch=st.integers(1, 3), n=SMALL, d_in=SMALL, d_out=SMALL, window=st.sampled_from([1, 3, 5])
)
def convolution_is_what_is_counted(api, batch, n, d_in, d_out, window):
    layer = nn.Conv1d(d_in, d_out, window, padding=window // 2)
    x = tensor(batch, d_in, n)
    found = api.convolution(n, d_in, d_out, window, batch=batch)
    agrees(api, found, layer, lambda: layer(x))
    assert found.moved * 4 == sum(api.count_moved(lambda: layer(x)).values())


@check
def counters_count_what_can_be_counted_by_hand(api):
    x, matrix = tensor(2, 3), nn.Parameter(torch.randn(3, 4))
    assert api.count_operations(lambda: x @ matrix) == 2 * 2 * 3 * 4
    assert api.count_operations(lambda: (x @ matrix).sum().backward()) == 3 * 2 * 2 * 3 * 4
    assert api.count_saved(lambda: x @ matrix) == 4 * 6
    assert api.count_saved(lambda: x @ matrix.mT.mT[:, :2]) == 4 * 6  # of a parameter, only views
    assert api.count_saved(lambda: x.exp() + x.exp()) == 2 * 4 * 6
    assert api.count_saved(lambda: [x @ matrix, x[:1] @ matrix]) == 4 * 6  # one storage
    moved = api.count_moved(lambda: (x.mT.mT @ matrix).relu())
    assert moved == {"mm": 4 * (6 + 12 + 8), "relu": 4 * (8 + 8)}
    half = torch.zeros(2, 3, dtype=torch.float16)
    assert api.count_moved(lambda: half.relu()) == {"relu": 2 * (6 + 6)}
    query = torch.zeros(1, 1, 5, 3)
    attend = F.scaled_dot_product_attention
    assert api.count_operations(lambda: attend(query, query, query)) == 2 * 2 * 5 * 5 * 3
    assert api.count_parameters(nn.ModuleList([nn.Linear(2, 3)] * 2)) == 9


@check
def the_longest_chain_and_not_the_number_of_products(api):
    x, a, b = tensor(3, 3), tensor(3, 3), tensor(3, 3)
    assert api.longest_chain(x.exp()) == 0
    assert api.longest_chain((x @ a) + (x @ b)) == 1
    assert api.longest_chain((x @ a @ b) + (x @ b)) == 2
    deep = x
    for _ in range(1100):  # deeper than Python's own stack
        deep = deep @ a
    assert api.longest_chain(deep) == 1100


@check
def parts_add_up(api):
    one, other = api.Cost(1, 2, 3, 4, 5, 6), api.Cost(10, 20, 30, 40, 50, 60)
    assert one + other == api.Cost(11, 22, 33, 44, 55, 66)
    assert api.total({"a": one, "b": other}) == api.total([one, other]) == one + other
    assert api.total([]) == api.Cost(0, 0, 0, 0, 0, 0)
    assert api.Cost(operations=24, moved=3).intensity() == 2
    assert api.Cost(operations=24, moved=3).intensity(2) == 4


@check
def the_roof_has_a_slope_and_a_ceiling(api):
    roof = {"peak": 100.0, "bandwidth": 20.0}
    assert [api.attainable(x, **roof) for x in (0.5, 5, 5.1, 1000)] == [10, 100, 100, 100]
    assert math.isclose(api.attainable(4.9, **roof), 98)


BROKEN = {
    "multiplications without additions": (formulas, "operations = 2 * rows", "operations = rows"),
    "a bias always": (formulas, "d_in * d_out + bias * d_out", "d_in * d_out + d_out"),
    "backward as dear as forward": (
        formulas,
        "backward=2 * operations,  # the gradients",
        "backward=operations,  # the gradients",
    ),
    "the output not written": (
        formulas,
        "rows * (d_in + d_out),\n        saved=rows",
        "rows * d_in, saved=rows",
    ),
    "the output kept": (formulas, "saved=rows * d_in", "saved=rows * d_out"),
    "the cache forgotten": (formulas, "n_k = cached + n", "n_k = n"),
    "heads multiply the products": (
        formulas,
        "product = 2 * batch * n * n_k * d_model",
        "product = 2 * batch * n * n_k * d_model * n_heads",
    ),
    "one table for all heads": (
        formulas,
        "table = batch * n_heads * n * n_k",
        "table = batch * n * n_k",
    ),
    "the batch shares its keys": (formulas, "keys = batch * n_k", "keys = n_k"),
    "keys of all heads": (formulas, "d_kv = n_kv_heads * (d_model // n_heads)", "d_kv = d_model"),
    "the input kept three times": (formulas, "saved=queries,  # one", "saved=3 * queries,  # one"),
    "projections wait for one another": (formulas, "chain=1,  # and none", "chain=3,  # and none"),
    "fused backward without the scores anew": (
        formulas,
        "5 * product,  # four",
        "4 * product,  # four",
    ),
    "fused with a table": (
        formulas,
        "2 * keys + logarithms,\n            saved",
        "2 * keys + table,\n            saved",
    ),
    "softmax in place": (formulas, "moved=2 * table", "moved=table"),
    "weights not kept": (formulas, ", saved=table)", ")"),
    "values not kept": (formulas, "saved=keys,  # the", "saved=0,  # the"),
    "keys not kept": (formulas, "saved=queries + keys,", "saved=queries,"),
    "norms keep no spread": (formulas, "saved=numbers + 2 * rows", "saved=numbers"),
    "a sum of one": (formulas, "moved=3 * numbers", "moved=2 * numbers"),
    "a gate too few": (formulas, '"GRU": (3, 7)', '"GRU": (2, 7)'),
    "a first state that is not kept": (
        formulas,
        "kept_numbers += batch * d_hidden",
        "kept_numbers += 0",
    ),
    "a gradient for the first state": (formulas, "- step.operations,  # the", "- 0,  # the"),
    "the matrix read once": (
        formulas,
        "of_input.moved + n * step.moved",
        "of_input.moved + step.moved",
    ),
    "recurrence without waiting": (formulas, "chain=n,", "chain=1,"),
    "a window of one": (
        formulas,
        "operations = 2 * batch * n * window",
        "operations = 2 * batch * n",
    ),
    "fused attention is not counted": (counters, ", sdpa_kernel(SDPBackend.MATH):", ":"),
    "parameters counted as kept": (counters, "if not isinstance(whole, nn.Parameter):", "if True:"),
    "every view kept": (counters, "kept[tensor.untyped_storage()._cdata]", "kept[id(tensor)]"),
    "views move": (counters, "if not function.is_view:", "if True:"),
    "what is written is not moved": (
        counters,
        "tree_leaves((args, kwargs, result))",
        "tree_leaves((args, kwargs))",
    ),
    "numbers in place of bytes": (counters, "sum(tensor.nbytes for", "sum(tensor.numel() for"),
    "all products in a row": (
        counters,
        "max((longest[other] for other in before), default=0)",
        "sum(longest[other] for other in before)",
    ),
    "convolutions do not count": (counters, ', "ConvolutionBackward0"}', "}"),
    "the roof is the higher one": (formulas, "return min(peak", "return max(peak"),
    "bytes forgotten": (formulas, "(self.moved * bytes_per_number)", "self.moved"),
}


def test_the_layer_that_is_timed_is_the_package_s_layer():
    layer, x = MultiHeadAttention(12, 3), tensor(2, 5, 12)
    torch.testing.assert_close(plain_layer(layer, x), layer(x)[0])


class TestCosts(ZooTests):
    zoo = Zoo(CHECKS, merged((formulas, counters), BROKEN), BROKEN)


ERRORS = {
    "a size of zero": (ValueError, "rows must be at least 1; got 0", lambda: costs.linear(0, 1, 1)),
    "a size that is not whole": (
        TypeError,
        "d_in must be a whole number; got 1.5",
        lambda: costs.linear(1, 1.5, 1),
    ),
    "a size that is a truth": (TypeError, "d_out", lambda: costs.linear(1, 1, True)),
    "a negative cache": (
        ValueError,
        "cached must be at least 0; got -1",
        lambda: costs.attention_parts(1, 4, 2, cached=-1),
    ),
    "heads that do not fit": (
        ValueError,
        "n_heads must divide d_model = 5; got 2",
        lambda: costs.attention_parts(1, 5, 2),
    ),
    "groups that do not fit": (
        ValueError,
        "n_kv_heads must divide n_heads = 4; got 3",
        lambda: costs.attention_parts(1, 8, 4, n_kv_heads=3),
    ),
    "an unknown cell": (
        ValueError,
        "kind must be one of RNN, GRU, LSTM; got 'gru'",
        lambda: costs.recurrent_layer("gru", 1, 1, 1),
    ),
    "an even window": (
        ValueError,
        "window must be odd, to have a middle; got 2",
        lambda: costs.convolution(3, 1, 1, 2),
    ),
    "no bandwidth": (
        ValueError,
        "bandwidth must be positive; got 0",
        lambda: costs.attainable(1, peak=1, bandwidth=0),
    ),
    "nothing recorded": (
        ValueError,
        "output must come from a computation that autograd recorded",
        lambda: costs.longest_chain(torch.zeros(2)),
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name):
    kind, message, call = ERRORS[name]
    with pytest.raises(kind, match=message):
        call()
