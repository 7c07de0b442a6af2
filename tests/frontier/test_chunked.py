"""Chunked attention equals plain attention, forward and backward, in memory that grows linearly."""

import itertools
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import strategies as st

from attn_tutorial import attention
from attn_tutorial.frontier import chunked
from attn_tutorial.frontier.memory import Memory
from package.conformance import assert_close, cases, double, generated
from package.zoo import Zoo, ZooTests, rewritten

CHECKS = []
IN_TORCH = cases().filter(lambda case: case.library == "torch")


def check(function):
    CHECKS.append(function)
    return function


def some(*shapes, seed=0, scale=1.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return [scale * torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes]


def causal(rows, columns):
    return columns <= rows


@check
def states_of_parts_merge_to_the_whole(api):
    """In whatever order; and both give softmax and weighted sum."""
    scores, value = some((2, 3, 9), (2, 9, 4), scale=30)
    scores[0, 1, 2:8] = scores[1, 0] = -math.inf
    parts = [
        api.state_of(scores[..., columns], value[:, columns])
        for columns in (slice(0, 2), slice(2, 5), slice(5, 9))
    ]
    for first, second, third in itertools.permutations(parts):
        for merged in (
            api.merge(api.merge(first, second), third),
            api.merge(first, api.merge(second, third)),
        ):
            output, logarithm = api.finish(merged)
            torch.testing.assert_close(output, scores.softmax(-1).nan_to_num() @ value)
            torch.testing.assert_close(logarithm, scores.logsumexp(-1))
            assert (merged.maximum == scores.amax(-1)).all()


@check
@generated(200, case=IN_TORCH, chunk=st.integers(1, 8))
def agrees_with_plain_attention(api, case, chunk):
    mask = None if case.mask is None else torch.as_tensor(case.mask)
    output = api.chunked_attention(case.query, case.key, case.value, mask=mask, chunk=chunk)
    if mask is not None and mask.dtype != torch.bool:
        mask = mask.double()
    query, value = double(case.query), double(case.value)
    wanted, _ = attention(query, case.clean_key, value, mask=mask)
    assert output.dtype == case.query.dtype
    assert_close(output, wanted, case.dtype)


@check
@generated(80, case=IN_TORCH, chunk=st.integers(1, 8))
def gradients_are_those_of_plain_attention(api, case, chunk):
    mask = None if case.mask is None else torch.as_tensor(case.mask)
    if mask is not None and mask.dtype != torch.bool:
        mask = mask.double()
    given = [double(case.query), case.clean_key, double(case.value)]
    found = gradients(lambda *qkv: api.chunked_attention(*qkv, mask=mask, chunk=chunk), given)
    wanted = gradients(lambda *qkv: attention(*qkv, mask=mask)[0], given)
    for one, other in zip(found, wanted, strict=True):
        assert_close(one, other)


def gradients(function, given):
    given = [part.clone().requires_grad_() for part in given]
    output = function(*given)
    (downstream,) = some(output.shape, seed=5)
    return torch.autograd.grad((output * downstream).sum(), given)


@check
def small_floats_are_summed_in_larger_ones(api):
    for dtype in (torch.float16, torch.bfloat16):
        query, key, value = some((300, 8), (3000, 8), (3000, 2), dtype=dtype)
        value = value.abs() + 100
        wanted, _ = attention(query.double(), key.double(), value.double())
        output = api.chunked_attention(query, key, value, chunk=7)
        assert ((output.double() - wanted) / wanted).abs().max() <= torch.finfo(dtype).eps


@check
def large_scores_do_not_overflow(api):
    query, key, value = some((5, 4), (9, 4), (9, 3), scale=300)
    wanted = F.scaled_dot_product_attention(query, key, value)
    for order in (range(9), reversed(range(9))):
        order = list(order)
        found = api.chunked_attention(query, key[order], value[order], chunk=2)
        torch.testing.assert_close(found, wanted)


@check
def a_mask_may_be_a_function(api):
    query, key, value = some((2, 3, 7, 4), (2, 1, 9, 4), (2, 3, 9, 5))
    mask = torch.ones(7, 9, dtype=torch.bool).tril()
    bias = torch.arange(9.0, dtype=torch.float64) - torch.arange(7.0, dtype=torch.float64)[:, None]
    for function, whole in (
        (causal, mask),
        (lambda rows, columns: (columns - rows).double(), bias),
    ):
        found = gradients(
            lambda *qkv, mask=function: api.chunked_attention(*qkv, mask=mask, chunk=3),
            (query, key, value),
        )
        wanted = gradients(
            lambda *qkv, mask=whole: attention(*qkv, mask=mask)[0], (query, key, value)
        )
        for one, other in zip(found, wanted, strict=True):
            torch.testing.assert_close(one, other)


@check
def memory_grows_with_the_length_and_not_with_its_square(api):
    peaks = []
    for n in (512, 1024):
        query, key, value = (part.requires_grad_() for part in some(*3 * [(n, 8)]))
        with Memory() as memory:
            api.chunked_attention(query, key, value, mask=causal, chunk=32).sum().backward()
        peaks.append(memory.peak)
    assert 1.7 < peaks[1] / peaks[0] < 2.1
    assert peaks[1] < 1024 * 1024 * 8 / 10  # a tenth of one table of weights


BROKEN = {
    "the old sum not made smaller": ("one.total * kept + other", "one.total + other"),
    "the old output not made smaller": (
        "one.weighted * kept[..., None] +",
        "one.weighted +",
    ),
    "the new sum not made smaller": ("other.total * added", "other.total"),
    "the smaller maximum": ("torch.maximum(one.maximum", "torch.minimum(one.maximum"),
    "maximum not subtracted": (
        "torch.exp(scores - _finite(maximum)[..., None])",
        "torch.exp(scores)",
    ),
    "softmax over the queries": ("exponentials.sum(dim=-1)", "exponentials.sum(dim=-2)"),
    "output not divided": ("state.weighted / state.total.masked_fill(empty, 1)[..., None]",
                           "state.weighted"),
    "empty rows are not a number": ("state.total.masked_fill(empty, 1)", "state.total"),
    "no scale": ("    scores = scores / math.sqrt(query.shape[-1])\n", ""),
    "no scale backward": ("scale = 1 / math.sqrt(query.shape[-1])", "scale = 1.0"),
    "the mask turned round": ("masked_fill(~part", "masked_fill(part"),
    "the mask of the first rows": ("rows if n_q > 1 else slice(None)",
                                   "slice(0, rows.stop - rows.start)"),
    "positions counted in the chunk": ("mask(positions[rows, None], positions[None, columns])",
                                       "mask(positions[rows, None], "
                                       "positions[None, : columns.stop - columns.start])"),
    "the last chunk left out": ("range(0, n, chunk)]", "range(0, n - n % chunk or n, chunk)]"),
    "the mean not taken away": ("(d_weights - mean)", "d_weights"),
    "keys and queries exchanged": ("d_scores.mT @ query[..., rows, :]",
                                   "d_scores.mT @ query[..., rows, :].flip(-1)"),
    "the last chunk's gradient alone": ("d_value[..., columns, :] += weights",
                                        "d_value[..., columns, :] = weights"),
    "sums in half precision": ("return torch.promote_types(dtype, torch.float32)",
                               "return dtype"),
    "all scores at once": ("for start in range(0, n, chunk)]", "for start in range(0, n, n)]"),
}  # fmt: skip


class TestChunked(ZooTests):
    zoo = Zoo(CHECKS, rewritten(chunked, BROKEN), BROKEN)


def test_plain_attention_does_not_fit_where_chunks_do():
    n, limit = 2048, 8 * 2**20
    given = some(*3 * [(n, 8)])
    with Memory(limit), pytest.raises(MemoryError, match="the limit is 8,388,608"):
        attention(*given)
    with Memory(limit):
        gradients(lambda *qkv: chunked.chunked_attention(*qkv, chunk=64), given)


def test_memory_counts_what_lives():
    with Memory() as memory:
        first = torch.zeros(1000)
        second = first * 2
        assert memory.living == memory.peak == 8000
        view = second.view(10, 100)
        del second
        assert memory.living == 8000
        del view
        assert (memory.living, memory.peak) == (4000, 8000)
        first += 1
        assert memory.living == 4000
    with pytest.raises(ValueError, match="^limit must be positive; got 0$"):
        Memory(0)


ONE = torch.ones(2, 3)
MISTAKES = {
    "dtypes": (
        TypeError,
        lambda: chunked.chunked_attention(ONE, ONE.double(), ONE),
        r"one dtype; key is torch.float64 and query is torch.float32",
    ),
    "integers": (
        TypeError,
        lambda: chunked.chunked_attention(*3 * [ONE.long()]),
        r"must be floating and of one dtype; query is torch.int64",
    ),
    "one axis": (
        ValueError,
        lambda: chunked.chunked_attention(ONE, ONE[0], ONE),
        r"key must have shape \(…, n, d\); got \(3,\)",
    ),
    "sizes": (
        ValueError,
        lambda: chunked.chunked_attention(ONE, ONE[:, :2], ONE),
        r"vectors of one size, at least 1; got \(2, 3\) and \(2, 2\)",
    ),
    "no value": (
        ValueError,
        lambda: chunked.chunked_attention(ONE, ONE, ONE[:1]),
        r"key and value must be as many; got \(2, 3\) and \(1, 3\)",
    ),
    "chunk": (
        ValueError,
        lambda: chunked.chunked_attention(ONE, ONE, ONE, chunk=0),
        "chunk must be at least 1; got 0",
    ),
    "a mask's gradient": (
        ValueError,
        lambda: chunked.chunked_attention(
            ONE, ONE, ONE, mask=torch.zeros(2, 2, requires_grad=True)
        ),
        "mask gets no gradient here",
    ),
    "a mask's shape": (
        ValueError,
        lambda: chunked.chunked_attention(ONE, ONE, ONE, mask=torch.ones(2, 3).bool()),
        r"mask must broadcast to \(…, 2, 2\); got \(2, 3\)",
    ),
    "a mask of integers": (
        TypeError,
        lambda: chunked.chunked_attention(ONE, ONE, ONE, mask=torch.ones(2, 2).long()),
        "mask must be boolean or floating; got torch.int64",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_errors_name_what_is_wrong(name):
    error, call, message = MISTAKES[name]
    with pytest.raises(error, match=message):
        call()
