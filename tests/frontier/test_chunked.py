"""Chunked attention equals plain attention, forward and backward, in memory that grows linearly."""

import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from torch.autograd.graph import saved_tensors_hooks

from attn_tutorial import attention, causal_mask
from attn_tutorial.frontier import chunked
from attn_tutorial.frontier.memory import Memory
from package.conformance import assert_close, cases, double, generated
from package.zoo import Zoo, ZooTests, rewritten

CHECKS = []
CHUNKS = st.one_of(st.integers(2, 8), st.tuples(st.integers(1, 7), st.integers(2, 8)))


def check(function):
    CHECKS.append(function)
    return function


def some(*shapes, seed=0, scale=1.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return [(scale * torch.randn(shape, generator=generator)).to(dtype) for shape in shapes]


def earlier(rows, columns):
    return columns <= rows


def gradients(function, given):
    given = [part.clone().requires_grad_() for part in given]
    output = function(*given)
    (downstream,) = some(output.shape, seed=5, dtype=output.dtype)
    return torch.autograd.grad((output * downstream).sum(), given)


# --- checks ----------------------------------------------------------------------------------


@check
def states_of_parts_merge_to_the_whole(api):
    """In whatever order, in both libraries; and they give softmax and weighted sum."""
    scores, value = some((2, 3, 9), (2, 9, 4))
    scores = 30 * scores
    scores[0, 1, 2:8] = scores[1, 0] = -math.inf
    softmax = scores.softmax(-1).nan_to_num()
    for make in (torch.asarray, np.asarray):
        given, values = make(scores), make(value)
        parts = [
            api.state_of(given[..., columns], values[:, columns])
            for columns in (slice(0, 2), slice(2, 5), slice(5, 9))
        ]
        for first, second, third in itertools.permutations(parts):
            for merged in (
                api.merge(api.merge(first, second), third),
                api.merge(first, api.merge(second, third)),
            ):
                output, logarithm = api.finish(merged)
                assert type(output) is type(given)
                assert_close(output, softmax @ value)
                finite = double(logarithm) > -math.inf
                assert finite.tolist() == (scores > -math.inf).any(-1).tolist()
                assert_close(double(logarithm)[finite], scores.logsumexp(-1)[finite])
                assert (double(merged.maximum) == scores.amax(-1)).all()


@check
@generated(35, case=cases(), chunk=CHUNKS)
def agrees_with_plain_attention(api, case, chunk):
    output = api.chunked_attention(case.query, case.key, case.value, mask=case.mask, chunk=chunk)
    mask = case.mask
    if mask is not None:
        mask = torch.as_tensor(mask)
        mask = mask if mask.dtype == torch.bool else mask.double()
    wanted, _ = attention(double(case.query), case.clean_key, double(case.value), mask=mask)
    assert output.dtype == case.query.dtype
    assert type(output) is type(case.query)
    assert_close(output, wanted, case.dtype)


@check
@generated(20, case=cases(), chunk=CHUNKS)
def gradients_are_those_of_plain_attention(api, case, chunk):
    given = [double(case.query), case.clean_key, double(case.value)]
    mask = None if case.mask is None else torch.as_tensor(case.mask)
    found = gradients(lambda *qkv: api.chunked_attention(*qkv, mask=mask, chunk=chunk), given)
    wanted = gradients(lambda *qkv: attention(*qkv, mask=mask)[0], given)
    for one, other in zip(found, wanted, strict=True):
        assert_close(one, other)


@check
@generated(
    30,
    n_q=st.integers(1, 9),
    n_k=st.integers(1, 9),
    offset=st.integers(-4, 9),
    chunk=CHUNKS,
    masked=st.booleans(),
)
def causal_is_the_causal_mask(api, n_q, n_k, offset, chunk, masked):
    """Chunks that are left out would have had no say; another mask holds beside it."""
    given = some((2, n_q, 3), (2, n_k, 3), (2, n_k, 2))
    mask = torch.tensor(causal_mask(n_q, n_k, offset))
    other = None
    if masked:
        (drawn,) = some((2, n_q, n_k), seed=1)
        other = drawn > 0
        mask = mask & other
    options = {"mask": other, "causal": True, "offset": offset, "chunk": chunk}
    assert_close(api.chunked_attention(*given, **options), attention(*given, mask=mask)[0])
    found = gradients(lambda *qkv: api.chunked_attention(*qkv, **options), given)
    wanted = gradients(lambda *qkv: attention(*qkv, mask=mask)[0], given)
    for one, other in zip(found, wanted, strict=True):
        assert_close(one, other)


@check
def the_future_is_not_computed(api):
    """Of 8 by 8 chunks 36 hold a pair that is allowed, forward and backward."""
    given = [part.requires_grad_() for part in some(*3 * [(64, 4)])]
    asked = []

    def all_of_them(rows, columns):
        asked.append((rows[0, 0].item() // 8, columns[0, 0].item() // 8))
        return torch.tensor([[True]])

    output = api.chunked_attention(*given, mask=all_of_them, causal=True, chunk=8)
    wanted = [(row, column) for row in range(8) for column in range(row + 1)]
    assert asked == wanted
    output.sum().backward()
    assert asked == 2 * wanted


@check
def derivatives_are_those_of_differences(api):
    given = [part.requires_grad_() for part in some((2, 3, 2), (1, 4, 2), (4, 3))]
    mask = torch.tensor(causal_mask(3, 4)).roll(1, 0)
    assert torch.autograd.gradcheck(
        lambda *qkv: api.chunked_attention(*qkv, mask=mask, chunk=(2, 3)), given
    )


@check
def small_floats_are_summed_in_larger_ones(api):
    for dtype in (torch.float16, torch.bfloat16):
        query, key, value = some((4, 8), (600, 8), (600, 2), dtype=dtype)
        value = value.abs() + 100
        wanted, _ = attention(query.double(), key.double(), value.double())
        output = api.chunked_attention(query, key, value, chunk=7)
        assert ((output.double() - wanted) / wanted).abs().max() <= torch.finfo(dtype).eps
        given = (query, key, value - 100)
        found = gradients(lambda *qkv: api.chunked_attention(*qkv, chunk=7), given)
        wanted = gradients(lambda *qkv: attention(*qkv)[0], [part.double() for part in given])
        for one, other in zip(found, wanted, strict=True):
            assert one.dtype == dtype
            assert (one.double() - other).norm() <= 8 * torch.finfo(dtype).eps * other.norm()


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
    given = some((2, 3, 7, 4), (2, 1, 9, 4), (2, 3, 9, 5))
    bias = torch.arange(9.0) - torch.arange(7.0)[:, None]
    for function, whole in (
        (earlier, torch.tensor(causal_mask(7, 9))),
        (lambda rows, columns: (columns - rows).float(), bias),
    ):
        for chunk in (3, (2, 5)):
            found = gradients(
                lambda *qkv, mask=function, chunk=chunk: api.chunked_attention(
                    *qkv, mask=mask, chunk=chunk
                ),
                given,
            )
            wanted = gradients(lambda *qkv, mask=whole: attention(*qkv, mask=mask)[0], given)
            for one, other in zip(found, wanted, strict=True):
                assert_close(one, other)
        arrays = [part.numpy() for part in given]
        if function is earlier:
            found = api.chunked_attention(*arrays, mask=function, chunk=3)
            assert_close(found, attention(*given, mask=whole)[0])


@check
def a_mask_in_another_precision_changes_none(api):
    """In float64 beside float32: forward and backward in the precision of the query."""
    given = some(*3 * [(5, 4)], dtype=torch.float32)
    (mask,) = some((5, 5), seed=2)
    found = gradients(lambda *qkv: api.chunked_attention(*qkv, mask=mask, chunk=2), given)
    wanted = gradients(lambda *qkv: attention(*qkv, mask=mask.float())[0], given)
    for one, other in zip(found, wanted, strict=True):
        assert one.dtype == torch.float32
        assert_close(one, other, "float32")


@check
def without_keys_or_queries_there_is_nothing(api):
    query, key, value = some((3, 4), (5, 4), (5, 2))
    assert api.chunked_attention(query, key[:0], value[:0]).tolist() == [[0, 0]] * 3
    assert api.chunked_attention(query[:0], key, value).shape == (0, 2)
    assert api.chunked_attention(query, key, value, causal=True, offset=-9).tolist() == [[0, 0]] * 3


@check
def memory_grows_with_the_length_and_not_with_its_square(api):
    peaks = []
    for n in (256, 512, 768):
        given = [part.requires_grad_() for part in some(*3 * [(n, 8)])]
        with Memory() as memory:
            api.chunked_attention(*given, mask=earlier, chunk=128).sum().backward()
        peaks.append(memory.peak)
    assert peaks[2] - peaks[1] == peaks[1] - peaks[0]
    assert peaks[2] < 768 * 768 * 8 / 3  # a third of one table of weights


@check
def one_number_a_query_is_kept(api):
    """Beside queries, keys, values and output, which are there anyway."""
    query, key, value = (part.requires_grad_() for part in some((2, 6, 4), (2, 9, 4), (2, 9, 3)))
    kept = []
    with saved_tensors_hooks(lambda part: kept.append(part.numel()) or part, lambda part: part):
        output = api.chunked_attention(query, key, value, chunk=2)
    assert sorted(kept) == sorted(
        [query.numel(), key.numel(), value.numel(), output.numel(), 2 * 6]
    )


@check
def the_second_derivative_is_refused(api):
    """It would be wrong: the scores that are made again do not remember where they come from."""
    query, key, value = (part.requires_grad_() for part in some(*3 * [(3, 4)]))
    output = api.chunked_attention(query, key, value)
    (first,) = torch.autograd.grad(output.square().sum(), query, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        first.sum().backward()


@check
def a_mask_that_was_changed_is_noticed(api):
    query, key, value = (part.requires_grad_() for part in some(*3 * [(3, 4)]))
    mask = torch.ones(3, 3, dtype=torch.bool)
    output = api.chunked_attention(query, key, value, mask=mask)
    mask[0, 0] = False
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.sum().backward()


# --- the module passes, and broken versions do not ---------------------------------------------

BROKEN = {
    "no scale": ("xp.astype(query[..., rows, :], wide) / math.sqrt(query.shape[-1])",
                 "xp.astype(query[..., rows, :], wide)"),
    "a query sees the next key": ("offset=rows.start + reach - columns.start",
                                  "offset=rows.start + reach - columns.start + 1"),
    "the future computed": ("min(n_k, rows.stop + reach)", "n_k"),
    "all scores at once": ("for start in range(0, n, chunk)]", "for start in range(0, n, n or 1)]"),
    "a table kept": ("held)\n", "held, query @ key.mT)\n"),
    "the second derivative passes": ("    @once_differentiable\n", ""),
    "the mask kept as it is": ("mask if isinstance(mask, Tensor) else None",
                               "mask.clone() if isinstance(mask, Tensor) else None"),
    "sums in the precision of the mask": ("return xp.astype(scores, wide)", "return scores"),
    "gradients summed in half precision": ("wide = logarithms.dtype", "wide = query.dtype"),
    "empty rows are not a number": ("xp.where(state.total == 0, 1.0, state.total)", "state.total"),
    "the old sum not made smaller": ("one.total * kept + other", "one.total + other"),
    "the old output not made smaller": ("one.weighted * kept[..., None] +", "one.weighted +"),
    "the new sum not made smaller": ("other.total * added", "other.total"),
    "the new output not made smaller": ("other.weighted * added[..., None]", "other.weighted"),
    "the smaller maximum": ("xp.maximum(one.maximum", "xp.minimum(one.maximum"),
    "the newer maximum": ("xp.maximum(one.maximum, other.maximum)", "other.maximum + 0"),
    "maximum not subtracted": (
        "xp.exp(scores - _finite(xp, maximum)[..., None])",
        "xp.exp(scores)",
    ),
    "nothing taken from itself": ("return xp.where(x == -math.inf, 0.0, x)", "return x"),
    "softmax over the queries": (
        "xp.sum(exponentials, axis=-1)",
        "xp.sum(exponentials, axis=-2, keepdims=True)[..., 0, :1] + 0 * maximum",
    ),
    "output not divided": ("state.weighted / total[..., None]", "state.weighted"),
    "the logarithm without its maximum": ("state.maximum + xp.log(total)", "xp.log(total)"),
    "no scale backward": ("scale = 1 / math.sqrt(query.shape[-1])", "scale = 1.0"),
    "the scale of the values": ("scale = 1 / math.sqrt(query.shape[-1])",
                                "scale = 1 / math.sqrt(value.shape[-1])"),
    "the mask turned round": (
        "slice(None)]\n        scores = apply_mask(scores, part)",
        "slice(None)]\n        "
        "scores = apply_mask(scores, ~part if 'bool' in str(part.dtype) else part)",
    ),
    "the mask of the first rows": ("rows if n_q > 1 else slice(None)",
                                   "slice(0, rows.stop - rows.start) if n_q > 1 else slice(None)"),
    "the mask of the first keys": ("columns if n_k > 1 else slice(None)",
                                   "slice(0, columns.stop - columns.start)"),
    "positions counted in the chunk": ("return xp.arange(part.start, part.stop,",
                                       "return xp.arange(0, part.stop - part.start,"),
    "the last chunk left out": ("range(0, n, chunk)]", "range(0, n - n % chunk or n, chunk)]"),
    "queries by the size for keys": ("_slices(query.shape[-2], chunks[0]):\n            d_rows",
                                     "_slices(query.shape[-2] // 2 * 2, chunks[0]):\n"
                                     "            d_rows"),
    "the diagonal is counted in the chunk": ("offset=rows.start + reach - columns.start",
                                             "offset=reach"),
    "the diagonal taken for the past": ("columns.stop > rows.start + reach + 1",
                                        "columns.stop > rows.start + reach + 2"),
    "keys end one too early": ("min(n_k, rows.stop + reach)", "min(n_k, rows.stop + reach - 1)"),
    "the offset forgotten": ("operator.index(offset) if causal", "0 if causal"),
    "the mean not taken away": ("(d_weights - mean)", "d_weights"),
    "the mean of another gradient": ("(d_rows * output[..., rows, :].to(wide)).sum",
                                     "(d_rows * d_rows).sum"),
    "weights without their sum": ("_finite(torch, logarithms[..., rows])",
                                  "0 * _finite(torch, logarithms[..., rows])"),
    "the last gradient alone": ("d_value[..., columns, :] +=", "d_value[..., columns, :] ="),
    "sums in half precision": ("    wide = wide_dtype(xp, query)\n    asked",
                               "    wide = query.dtype\n    asked"),
}  # fmt: skip


class TestChunked(ZooTests):
    zoo = Zoo(CHECKS, rewritten(chunked, BROKEN), BROKEN)


def test_plain_attention_does_not_fit_where_chunks_do():
    n, limit = 1024, 4 * 2**20
    given = some(*3 * [(n, 8)])
    with Memory(limit), pytest.raises(MemoryError, match="the limit is 4,194,304"):
        attention(*given)
    with Memory(limit):
        gradients(lambda *qkv: chunked.chunked_attention(*qkv, chunk=64), given)


ONE = torch.ones(2, 3)
STATE = (torch.ones(2, 3), torch.ones(3, 4))


def attend(query=ONE, key=ONE, value=ONE, **options):
    return chunked.chunked_attention(query, key, value, **options)


MISTAKES = {
    "dtypes": (TypeError, lambda: attend(key=ONE.double()), "must have one dtype"),
    "integers": (TypeError, lambda: attend(*3 * [ONE.long()]), "got dtype int64"),
    "libraries": (TypeError, lambda: attend(key=ONE.numpy()), "must come from one array library"),
    "a query of one axis": (
        ValueError,
        lambda: attend(query=ONE[0]),
        r"query must have shape \(\.\.\., n_q, d_k\); got \(3,\)",
    ),
    "a key of one axis": (ValueError, lambda: attend(key=ONE[0]), "key must have shape"),
    "a value of one axis": (ValueError, lambda: attend(value=ONE[0]), "value must have shape"),
    "widths": (
        ValueError,
        lambda: attend(key=ONE[:, :2]),
        r"must agree in d_k, at least 1; got shapes \(2, 3\) and \(2, 2\)",
    ),
    "no width": (ValueError, lambda: attend(ONE[:, :0], ONE[:, :0]), "in d_k, at least 1"),
    "too few values": (
        ValueError,
        lambda: attend(value=ONE[:1]),
        r"must agree in n_k; got shapes \(2, 3\) and \(1, 3\)",
    ),
    "batches": (
        ValueError,
        lambda: attend(ONE.expand(2, 2, 3), ONE.expand(3, 2, 3)),
        "the leading axes of query, key and value must broadcast",
    ),
    "no chunk": (ValueError, lambda: attend(chunk=(2, 0)), r"at least 1; got \(2, 0\)"),
    "half a chunk": (TypeError, lambda: attend(chunk=1.5), "an integer or a pair.*got 1.5"),
    "three chunks": (TypeError, lambda: attend(chunk=(1, 2, 3)), r"got \(1, 2, 3\)"),
    "half a position": (TypeError, lambda: attend(causal=True, offset=0.5), "integer"),
    "a mask's gradient": (
        ValueError,
        lambda: attend(mask=torch.zeros(2, 2, requires_grad=True)),
        "mask gets no gradient here",
    ),
    "a mask's shape": (
        ValueError,
        lambda: attend(mask=torch.ones(2, 3).bool()),
        r"mask must broadcast to \(\.\.\., n_q, n_k\) = \(2, 2\); got shape \(2, 3\)",
    ),
    "a mask's batch": (
        ValueError,
        lambda: attend(ONE.expand(3, 2, 3), mask=torch.ones(2, 2, 2).bool()),
        r"= \(3, 2, 2\); got shape \(2, 2, 2\)",
    ),
    "a mask of integers": (
        TypeError,
        lambda: attend(mask=torch.ones(2, 2).long()),
        "mask must be boolean .* got dtype int64",
    ),
    "a function of another shape": (
        ValueError,
        lambda: attend(mask=lambda rows, columns: torch.ones(4, 2, 2).bool()),
        r"mask must return what broadcasts to \(2, 2\); got shape \(4, 2, 2\)",
    ),
    "a state without keys": (
        ValueError,
        lambda: chunked.state_of(STATE[0][:, :0], STATE[1][:0]),
        "must agree in n_k, at least 1",
    ),
    "a state of other keys": (
        ValueError,
        lambda: chunked.state_of(STATE[0][:, :2], STATE[1]),
        r"got shapes \(2, 2\) and \(3, 4\)",
    ),
    "a state of two dtypes": (
        TypeError,
        lambda: chunked.state_of(STATE[0], STATE[1].double()),
        "scores and value must have one dtype",
    ),
    "states of two libraries": (
        TypeError,
        lambda: chunked.merge(
            chunked.state_of(*STATE), chunked.state_of(*(part.numpy() for part in STATE))
        ),
        "one and other must come from one array library",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_errors_name_what_is_wrong(name):
    error, call, message = MISTAKES[name]
    with pytest.raises(error, match=message):
        call()
