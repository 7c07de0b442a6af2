"""Linear attention, the delta rule and random features: all forms of each agree."""

import math
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from beartype import beartype
from hypothesis import strategies as st
from jaxtyping import jaxtyped

from attn_tutorial import attention, causal_mask
from attn_tutorial.frontier.other_kernels import delta, linear, random_features, recall
from package.conformance import assert_close, cases, double, generated
from package.mutants import mutant
from package.zoo import Zoo, ZooTests

MODULES = (linear, delta, random_features, recall)
CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def some(*shapes, seed=0, scale=1.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return [scale * torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes]


def gradients(function, given):
    """Those of a random mix of all outputs."""
    given = [part.clone().requires_grad_() for part in given]
    outputs = function(*given)
    total = sum((x * some(x.shape, seed=5)[0]).sum() for x in outputs)
    return torch.autograd.grad(total, given)


def all_close(found, wanted, dtype="float64"):
    for one, other in zip(found, wanted, strict=True):
        assert_close(one, other, dtype)


# --- linear attention ----------------------------------------------------------------------------


@dataclass
class Run:
    """A causal sequence: positive features, a decay that may be strong, some keys left out."""

    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    log_decay: torch.Tensor | None
    key_mask: torch.Tensor | None
    normalise: bool
    chunk: int

    @property
    def options(self):
        return {
            "log_decay": self.log_decay,
            "key_mask": self.key_mask,
            "normalise": self.normalise,
        }


@st.composite
def runs(draw):
    n, d_k, d_v = draw(st.integers(0, 9)), draw(st.integers(1, 5)), draw(st.integers(1, 4))
    seed = draw(st.integers(0, 2**31))
    lead_q, lead_k = draw(st.sampled_from([((), ()), ((2,), ()), ((3, 1), (3, 2)), ((), (2,))]))
    query, key, value, decay, drawn = some(
        (*lead_q, n, d_k), (*lead_k, n, d_k), (*lead_k, n, d_v), (*lead_k, n, d_k), (n,), seed=seed
    )
    kind = draw(st.sampled_from(["none", "scalar", "number", "features"]))
    strength = draw(st.sampled_from([0.1, 1.0, 500.0]))
    log_decay = {
        "none": None,
        "scalar": -strength * decay[..., :1].abs(),
        "number": torch.full((1, 1), -strength, dtype=torch.float64),
        "features": -strength * decay.abs(),
    }[kind]
    return Run(
        linear.elu_plus_one(query),
        linear.elu_plus_one(key),
        value,
        log_decay,
        drawn > -0.5 if draw(st.booleans()) else None,
        draw(st.booleans()),
        draw(st.integers(1, 11)),
    )


@check
@generated(12, case=cases().filter(lambda case: case.library == "torch"))
def kernel_attention_is_attention_with_the_logarithm_as_score(api, case):
    """Whatever the shapes, masks (with dead rows and NaN behind them) and dtypes."""
    mask = None if case.mask is None else torch.as_tensor(case.mask)
    query, value = api.elu_plus_one(case.query), case.value
    output, weights = api.kernel_attention(query, api.elu_plus_one(case.key), value, mask=mask)
    if mask is not None and mask.dtype != torch.bool:
        mask = mask.double()
    wanted = attention(
        double(query),
        api.elu_plus_one(case.clean_key),
        double(value),
        score=lambda query, key: (query @ key.mT).log(),
        mask=mask,
    )
    assert output.dtype == weights.dtype == case.query.dtype
    all_close((output, weights), wanted, case.dtype)


@check
@generated(20, run=runs())
def chunks_and_steps_agree(api, run):
    """Outputs, memories and gradients, with all sorts of decay, for chunks of every size."""
    given = [run.query, run.key, run.value]
    n = run.query.shape[-2]

    def steps(*given):
        return api.recurrent_linear_attention(*given, **run.options)

    def in_chunks(*given):
        return api.linear_attention(*given, chunk=run.chunk, **run.options)

    wanted = steps(*given)
    found = in_chunks(*given)
    assert found[0].shape[-2:] == (n, run.value.shape[-1])
    all_close(found, wanted)
    if n:
        all_close(gradients(in_chunks, given), gradients(steps, given))


@check
@generated(20, run=runs().filter(lambda run: run.query.shape[-2] > 0))
def steps_and_all_pairs_agree(api, run):
    """A decay that is one gate for all features is a float mask; a hidden key is a mask too."""
    given = [run.query, run.key, run.value]
    n = run.query.shape[-2]
    log_decay = run.log_decay
    if log_decay is not None and log_decay.shape[-1] > 1:
        log_decay = log_decay[..., :1]
    mask = torch.from_numpy(causal_mask(n, n))
    if run.key_mask is not None:
        mask = mask & run.key_mask
    if log_decay is not None:
        whole = log_decay.expand(*log_decay.shape[:-2], n, 1).cumsum(dim=-2)
        mask = torch.where(mask, whole - whole.mT, -math.inf)

    def steps(*given):
        options = run.options | {"log_decay": log_decay}
        return api.recurrent_linear_attention(*given, **options)[:1]

    def pairs(*given):
        return api.kernel_attention(*given, mask=mask, normalise=run.normalise)[:1]

    if log_decay is None or log_decay.min() > -50:  # else a sum loses what is far smaller
        all_close(steps(*given), pairs(*given))
        all_close(gradients(steps, given), gradients(pairs, given))


@check
def by_hand(api):
    """Two positions, one feature: 3·2 and (1·2·0.5 + 1·4)/(1·0.5 + 1)."""
    query, key = torch.tensor([[3.0], [1.0]]), torch.tensor([[1.0], [1.0]])
    value = torch.tensor([[2.0], [4.0]])
    log_decay = torch.full((2, 1), 0.5).log()
    for function in (api.recurrent_linear_attention, api.linear_attention):
        sums, memory = function(query, key, value, log_decay=log_decay, normalise=False)
        assert_close(sums, torch.tensor([[6.0], [5.0]]), "float32")
        assert_close(memory, torch.tensor([[5.0]]), "float32")
        output, memory = function(query, key, value, log_decay=log_decay)
        assert_close(output, torch.tensor([[2.0], [5 / 1.5]]), "float32")
        assert_close(memory, torch.tensor([[5.0, 1.5]]), "float32")


@check
def elu_plus_one_by_hand(api):
    x = torch.tensor([-3.0, 0.0, 2.0], dtype=torch.float64)
    assert_close(api.elu_plus_one(x), np.array([math.exp(-3), 1.0, 3.0]))


@check
def hidden_keys_might_as_well_not_be_there(api):
    query, key, value = some((6, 3), (6, 3), (6, 2))
    query, key = api.elu_plus_one(query), api.elu_plus_one(key)
    kept = torch.tensor([False, True, False, True, True, False])
    broken = key.clone()
    broken[~kept] = math.nan
    for function in (api.recurrent_linear_attention, api.linear_attention):
        output, memory = function(query, broken, value, key_mask=kept)
        assert (output[0] == 0).all()  # nothing was written yet
        less, memory_of_less = function(query[kept], key[kept], value[kept])
        all_close((output[kept], memory), (less, memory_of_less))


@check
def a_call_goes_on_where_another_ended(api):
    query, key, value, gates = some((2, 7, 3), (2, 7, 3), (2, 7, 2), (2, 7, 1))
    query, key, strength = api.elu_plus_one(query), api.elu_plus_one(key), gates[..., 0].sigmoid()
    log_decay = -gates.abs()
    for function in (api.recurrent_linear_attention, api.linear_attention):
        whole = function(query, key, value, log_decay=log_decay)
        first, memory = function(query[:, :3], key[:, :3], value[:, :3], log_decay=log_decay[:, :3])
        rest, memory = function(
            query[:, 3:], key[:, 3:], value[:, 3:], log_decay=log_decay[:, 3:], memory=memory
        )
        all_close((torch.cat([first, rest], dim=1), memory), whole)
    for function in (api.recurrent_delta_rule, api.delta_rule):
        whole = function(query, key, value, strength)
        first, memory = function(query[:, :3], key[:, :3], value[:, :3], strength[:, :3])
        rest, memory = function(
            query[:, 3:], key[:, 3:], value[:, 3:], strength[:, 3:], memory=memory
        )
        all_close((torch.cat([first, rest], dim=1), memory), whole)


@check
def small_floats_are_summed_in_larger_ones(api):
    for dtype in (torch.float16, torch.bfloat16):
        query = torch.ones(3000, 2, dtype=dtype)
        value = torch.ones(3000, 1, dtype=dtype)
        output, memory = api.linear_attention(query, query, value, normalise=False)
        assert (output.dtype, memory.dtype) == (dtype, torch.float32)
        assert memory.tolist() == [[3000.0], [3000.0]]
        strength = torch.full((3000,), 1 / 4096, dtype=dtype)
        output, memory = api.delta_rule(query[:, :1], query[:, :1], value, strength)
        assert (output.dtype, memory.dtype) == (dtype, torch.float32)
        assert abs(memory.item() - (1 - (1 - 1 / 4096) ** 3000)) < 1e-3
    query, key, value = some((4, 8), (5, 8), (5, 2), scale=100, dtype=torch.float16)
    output, weights = api.kernel_attention(query.abs() + 100, key.abs() + 100, value)
    assert output.isfinite().all()
    assert_close(weights.sum(-1), torch.ones(4), "float16")


# --- the delta rule ------------------------------------------------------------------------------


def units(x):
    return x / x.norm(dim=-1, keepdim=True)


@check
@generated(
    25,
    n=st.integers(0, 9),
    sizes=st.tuples(st.integers(1, 5), st.integers(1, 4)),
    lead=st.sampled_from([((), ()), ((2,), ()), ((3, 1), (3, 2)), ((), (2,))]),
    chunk=st.integers(1, 11),
    seed=st.integers(0, 2**31),
)
def chunks_of_corrections_are_the_definition(api, n, sizes, lead, chunk, seed):
    """Outputs, memories and gradients; the definition in the form of the paper on chunks."""
    query, key, value, gates = some(
        (*lead[0], n, sizes[0]),
        (*lead[1], n, sizes[0]),
        (*lead[0], n, sizes[1]),
        (*lead[1], n),
        seed=seed,
    )
    given = [query, units(key), value, 2 * gates.sigmoid()]

    def definition(q, k, v, beta):
        batch = torch.broadcast_shapes(q.shape[:-2], k.shape[:-2])
        memory = torch.zeros(*batch, sizes[0], sizes[1], dtype=torch.float64)
        unit, rows = torch.eye(sizes[0], dtype=torch.float64), []
        for i in range(n):
            column, strength = k[..., i, :, None], beta[..., i, None, None]
            memory = (unit - strength * column @ column.mT) @ memory
            memory = memory + strength * column @ v[..., i, None, :]
            rows.append(q[..., i, None, :] @ memory)
        output = torch.cat(rows, dim=-2) if rows else memory[..., :0, :]
        return output, memory

    def in_chunks(*given):
        return api.delta_rule(*given, chunk=chunk)

    wanted = definition(*given)
    all_close(api.recurrent_delta_rule(*given), wanted)
    all_close(in_chunks(*given), wanted)
    if n:
        wanted = gradients(definition, given)
        all_close(gradients(api.recurrent_delta_rule, given), wanted)
        all_close(gradients(in_chunks, given), wanted)


@check
def a_unit_key_replaces_what_it_held(api):
    key = torch.tensor([[0.6, 0.8], [0.8, -0.6], [0.6, 0.8]])
    value = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    for function in (api.recurrent_delta_rule, api.delta_rule):
        _, memory = function(key, key, value, torch.ones(3))
        assert_close(key @ memory, value[[2, 1, 2]], "float32")
        output, memory = function(key, key, value, torch.zeros(3))
        assert (output == 0).all()
        assert (memory == 0).all()


# --- random features -----------------------------------------------------------------------------


@check
def directions_of_a_block_are_orthogonal_and_as_long_as_normal_ones(api):
    generator = torch.Generator().manual_seed(0)
    directions = api.random_directions(4000, 8, generator=generator)
    assert directions.shape == (4000, 8)
    blocks = directions.view(500, 8, 8)
    products = blocks @ blocks.mT
    assert (products * (1 - torch.eye(8))).abs().max() < 1e-9
    squares = directions.square().sum(-1)  # chi-squared with 8 degrees of freedom
    assert abs(squares.mean() - 8) < 5 * math.sqrt(16 / 4000)
    assert abs(squares.var() - 16) < 3
    assert (directions.mean(0).abs() < 5 / math.sqrt(4000)).all()
    covariance = directions.mT @ directions / 4000
    assert (covariance - torch.eye(8)).abs().max() < 0.1
    free = api.random_directions(4000, 8, generator=generator, orthogonal=False).view(500, 8, 8)
    assert ((free @ free.mT) * (1 - torch.eye(8))).abs().mean() > 1
    assert api.random_directions(5, 8, generator=generator).shape == (5, 8)


@check
def features_estimate_the_kernel_with_the_variance_that_is_stated(api):
    """Mean within 5 standard errors, variance within 15 percent; 20,000 directions."""
    x, y = some((1, 3), (1, 3), seed=2, scale=0.3)
    truth = (x @ y.mT).exp()
    m = 20_000
    generator = torch.Generator().manual_seed(1)
    directions = api.random_directions(m, 3, generator=generator, orthogonal=False)
    for kind, features in (
        ("positive", api.positive_features),
        ("trigonometric", api.trigonometric_features),
    ):
        of_x, of_y = features(x, directions), features(y, directions)
        terms = of_x * of_y * m
        if kind == "trigonometric":
            terms = terms[:, :m] + terms[:, m:]  # a cosine and its sine belong together
        else:
            assert (of_x >= 0).all()
        stated = api.relative_variance(x, y, kind) * truth.square()
        assert ((of_x @ of_y.mT - truth).abs() < 5 * (stated / m).sqrt()).all()
        assert (abs(terms.var() / stated - 1) < 0.15).all()


@check
def random_features_come_near_softmax_attention(api):
    query, key, value = some((2, 9, 4), (2, 9, 4), (2, 9, 3), scale=0.7)
    wanted, _ = attention(query, key, value, mask=causal_mask(9, 9))
    errors = {}
    for m in (16, 2048):
        for kind in ("positive", "trigonometric"):
            generator = torch.Generator().manual_seed(3)
            directions = api.random_directions(m, 4, generator=generator)
            found = api.random_feature_attention(query, key, value, directions, kind=kind, chunk=4)
            errors[kind, m] = (found - wanted).abs().max().item()
    for kind in ("positive", "trigonometric"):
        assert errors[kind, 2048] < 0.1 < 3 * errors[kind, 16]


@check
def large_queries_and_keys_neither_overflow_nor_vanish(api):
    query, key, value = some((6, 4), (6, 4), (6, 3), scale=40, dtype=torch.float32)
    key = 24 * units(key)
    directions = api.random_directions(32, 4, generator=torch.Generator().manual_seed(0))
    output = api.random_feature_attention(query, key, value, directions)
    assert_close(output[0], value[0], "float32")  # the first attends to itself alone
    assert output.abs().max() <= value.abs().max() * 1.001  # an average


# --- recall --------------------------------------------------------------------------------------


@check
def the_answers_are_the_last_values_of_the_keys(api):
    for rewritten in (False, True):
        counts = torch.tensor([1, 4, 7, 6] * 5)
        tokens, answers = api.recall_data(20, counts, length=40, seed=0, rewritten=rewritten)
        assert tokens.shape == answers.shape == (20, 40)
        rounds = 2 if rewritten else 1
        for row, wanted, count in zip(tokens.tolist(), answers.tolist(), counts, strict=True):
            end = 2 * rounds * count
            stored = dict(zip(row[:end:2], row[1:end:2], strict=True))
            assert len(stored) == count
            assert len(set(row[: 2 * count : 2])) == count
            asked = row[end : end + count]
            assert set(asked) == set(stored)
            found = [stored[key] - api.FIRST_VALUE for key in asked]
            assert wanted == [-100] * end + found + [-100] * (40 - end - count)
            assert row[end + count :] == [0] * (40 - end - count)
    again, _ = api.recall_data(20, counts, length=40, seed=0, rewritten=True)
    other, _ = api.recall_data(20, counts, length=40, seed=1, rewritten=True)
    assert (again == tokens).all()
    assert (other != tokens).any(dim=1).all()
    order = api.recall_data(200, 9, length=27, seed=0)[0]
    assert (order[:, 18:] != order[:, 0:18:2]).any(dim=1).all()  # asked in another order


@check
def every_model_sees_the_past_alone_and_learns_with_all_its_parameters(api):
    tokens, answers = api.recall_data(3, 4, length=12, seed=0)
    changed = tokens.clone()
    changed[:, 6] = 1
    for mixer in api.MIXERS:
        torch.manual_seed(0)
        model = api.RecallModel(mixer, d_k=5, d_model=8)
        loss = api.recall_loss(model, tokens, answers)
        assert 2.5 < loss < 5  # near ln 32
        found = torch.autograd.grad(loss, list(model.parameters()))
        assert all((gradient != 0).any() for gradient in found)
        with torch.no_grad():
            one, other = model(tokens), model(changed)
        assert_close(one[:, :6], other[:, :6], "float32")
        assert ((one - other)[:, 6:].abs() > 1e-7).any(-1).all()
        assert (model.state_size is None) == (mixer == "softmax")
    sizes = [api.RecallModel(mixer, d_k=5, d_model=8).state_size for mixer in api.MIXERS[1:]]
    assert sizes == [45, 40, 40, 40, 5]


@check
def accuracy_is_the_share_of_queries(api):
    tokens, answers = api.recall_data(50, 8, length=24, seed=0)

    class Knows(api.RecallModel):
        def forward(self, tokens):
            place = torch.arange(24)
            right = torch.nn.functional.one_hot(answers.clamp(min=0), api.N_VALUES).double()
            return torch.where((place < 20)[:, None], right, 0 * right.roll(1, dims=-1))

    by_chance = (answers[:, 20:] == 0).double().mean().item()
    assert api.recall_accuracy(Knows("sum", d_k=1), tokens, answers) == pytest.approx(
        0.5 + by_chance / 2
    )


# --- broken versions are caught ------------------------------------------------------------------

BROKEN = {
    "the mask turned round": (
        linear,
        "apply_mask(torch.zeros_like(kernel), mask).exp()",
        "1 - apply_mask(torch.zeros_like(kernel), mask).exp()",
    ),
    "added and not corrected": (
        delta,
        "v[..., now, :] - k[..., now, :] @ memory",
        "v[..., now, :]",
    ),
    "read before it is written": (
        linear,
        "rows.append(q[..., now, :] @ memory)  # (..., 1, d_memory)",
        "rows.append(q[..., now, :] @ (memory - k[..., now, :].mT @ v[..., now, :]))",
    ),
    "hidden keys are written": (linear, "k = torch.where(key_mask[..., None], k, 0)", "k = k"),
    "unit directions": (random_features, "(torch.cat(blocks) * lengths)", "torch.cat(blocks)"),
    "half the square left out": (random_features, "(along - half_square).exp() /", "along.exp() /"),
    "the first values are the answers": (
        recall,
        "values_of = values  # of",
        "values_of = values if _ == 0 else values_of  # of",
    ),
    "no strength": (
        recall,
        "query, key, strength * value, chunk=32, log",
        "query, key, value, chunk=32, log",
    ),
    "accuracy over all positions": (recall, "(named == answers)[asked]", "(named == answers)"),
    "sines alone": (random_features, "[along.cos(), along.sin()]", "[along.sin(), along.sin()]"),
    "the memory does not decay": (
        linear,
        "memory * so_far[..., -1:, :].exp().mT + (k_here",
        "memory + (k_here",
    ),
    "no maximum": (
        random_features,
        "(exponent - exponent.amax(dim=(-2, -1), keepdim=True))",
        "exponent",
    ),
    "sums over the queries": (linear, "kernel.sum(dim=-1,", "kernel.sum(dim=-2,"),
    "features without the one": (linear, "return F.elu(x) + 1", "return F.elu(x) + 1.01"),
    "NaN behind the mask": (
        linear,
        "torch.where(factor > 0, kernel * factor, 0)",
        "kernel * factor",
    ),
    "a float mask multiplies": (
        linear,
        "apply_mask(torch.zeros_like(kernel), mask).exp()",
        "(apply_mask(torch.zeros_like(kernel), mask) + 1).relu()",
    ),
    "never divided": (
        linear,
        "    if normalise:\n        kernel = _div",
        "    if 0:\n        kernel = _div",
    ),
    "dead rows are not a number": (
        linear,
        "x / total.masked_fill(empty, 1))",
        "x / total) + 0 / total",
    ),
    "the new key decays too": (
        linear,
        "now, :].exp().mT + k[..., now, :].mT @ v[..., now, :]",
        "now, :].exp().mT + log_decay[..., now, :].exp().mT * (k[..., now, :].mT @ v[..., now, :])",
    ),
    "the query reads a memory that did not decay": (
        linear,
        "(q_here * so_far.exp()) @",
        "q_here @",
    ),
    "keys do not decay up to the end": (linear, "(k_here * to_end).mT", "k_here.mT"),
    "the future is seen": (
        linear,
        "dtype=torch.bool, device=query.device).tril()",
        "dtype=torch.bool)",
    ),
    "a key does not see itself": (
        linear,
        "device=query.device).tril()",
        "device=query.device).tril(-1)",
    ),
    "exponentials that overflow": (
        linear,
        "    decay = torch.where(past, between, -torch.inf).exp()\n",
        "    decay = past * (so_far[..., :, None, :].exp() * (-so_far[..., None, :, :]).exp())\n",
    ),
    "one gate for all features": (linear, "* decay * key[", "* decay[..., :1] * key["),
    "the key mask turned round": (
        linear,
        "torch.where(key_mask[..., None], k, 0)",
        "torch.where(key_mask[..., None], 0, k)",
    ),
    "the memory is forgotten": (
        linear,
        "return q, k, v, log_decay, memory.to(wide)",
        "return q, k, v, log_decay, 0 * memory",
    ),
    "the last chunk left out": (
        linear,
        "for start in range(0, n, chunk)]",
        "for start in range(0, n - n % chunk or n, chunk)]",
    ),
    "sums in half precision": (
        linear,
        "wide = torch.promote_types(query.dtype, torch.float32)\n    q, k",
        "wide = query.dtype\n    q, k",
    ),
    "the kernel in half precision": (
        linear,
        "wide = torch.promote_types(query.dtype, torch.float32)\n    kernel",
        "wide = query.dtype\n    kernel",
    ),
    "the old value counts twice": (delta, "v[..., now, :] - k", "v[..., now, :] - 2 * k"),
    "the strength is forgotten": (delta, "(beta[..., now, :] * error)", "error"),
    "no corrections within the chunk": (
        delta,
        "(k_here @ k_here.mT)).tril(-1)",
        "(k_here @ k_here.mT)).tril(-9)",
    ),
    "the strength of the other key": (
        delta,
        "before = (beta[..., here, :] * (k_here",
        "before = (beta[..., here, :].mT * (k_here",
    ),
    "the memory before the chunk is not corrected": (delta, "(v_here - k_here @ memory)", "v_here"),
    "the corrections read one late": (
        delta,
        "(q_here @ k_here.mT).tril() @",
        "(q_here @ k_here.mT).tril(-1) @",
    ),
    "values in place of corrections": (
        delta,
        "memory = memory + k_here.mT @ corrections",
        "memory = memory + k_here.mT @ v_here",
    ),
    "the memory of the delta rule is forgotten": (
        delta,
        "return q, k, v, beta, memory.to(wide)",
        "return q, k, v, beta, 0 * memory",
    ),
    "the delta rule in half precision": (
        delta,
        "wide = torch.promote_types(query.dtype, torch.float32)",
        "wide = query.dtype",
    ),
    "directions that are not orthogonal": (random_features, "if not orthogonal:", "if True:"),
    "always orthogonal": (random_features, "if not orthogonal:", "if False:"),
    "the sign of half the square": (
        random_features,
        "return half_square.exp() *",
        "return (-half_square).exp() *",
    ),
    "not divided by the number": (random_features, ".exp() / directions.shape[0] ** 0.5", ".exp()"),
    "variances exchanged": (
        random_features,
        '    if kind == "positive":\n',
        '    if kind != "positive":\n',
    ),
    "no scale": (random_features, "scale = query.shape[-1] ** -0.25", "scale = 1.0"),
    "the whole scale on each side": (random_features, "** -0.25", "** -0.5"),
    "a maximum for each key": (
        random_features,
        "exponent.amax(dim=(-2, -1), keepdim=True)",
        "exponent.amax(dim=-1, keepdim=True)",
    ),
    "asked in the order of the pairs": (
        recall,
        "asked = orders().gather(",
        "asked = order.gather(",
    ),
    "keys may repeat": (
        recall,
        "generator=generator).argsort(dim=1)  # all different",
        "generator=generator).mul(9).long()",
    ),
    "the seed is not used": (recall, ".manual_seed(seed)", ".manual_seed(0)"),
    "the next token in place of the one before": (
        recall,
        "F.pad(x, (0, 0, 1, 0))[:, :-1]",
        "F.pad(x, (0, 0, 0, 1))[:, 1:]",
    ),
    "softmax attention sees the future": (
        recall,
        "distance < 0, -torch.inf",
        "distance < -9, -torch.inf",
    ),
    "a state without its sum": (
        recall,
        '(self.d_model + (self.mixer == "elu + 1"))',
        "self.d_model",
    ),
}


def build(name):
    """All that is public in the modules, one of them with a mistake."""
    found = {}
    for module in MODULES:
        broken = name is not None and BROKEN[name][0] is module
        found |= own(module, mutant(*BROKEN[name]) if broken else module)
    return SimpleNamespace(**found)


def own(module, chosen):
    """The public names that a module defines itself, from it or from a broken copy."""
    return {
        key: getattr(chosen, key)
        for key, thing in vars(module).items()
        if key[0] != "_" and getattr(thing, "__module__", module.__name__) == module.__name__
    }


class TestOtherKernels(ZooTests):
    zoo = Zoo(CHECKS, build, BROKEN)


def test_the_shapes_in_the_signatures_hold():
    """Some checks once more, every public function wrapped by jaxtyping and beartype."""
    public = {
        name: jaxtyped(typechecker=beartype)(thing) if callable(thing) else thing
        for name, thing in vars(build(None)).items()
    }
    for check in CHECKS:
        if not hasattr(check, "generated"):
            check(SimpleNamespace(**public))


ONE = torch.ones(3, 2)
LINEAR = (linear.recurrent_linear_attention, linear.linear_attention)
DIRECTIONS = torch.ones(4, 2)
MISTAKES = {
    "integers": (
        TypeError,
        lambda: linear.linear_attention(ONE.long(), ONE, ONE),
        "query must hold",
    ),
    "dtypes": (TypeError, lambda: linear.kernel_attention(ONE, ONE.double(), ONE), "one dtype"),
    "an array": (TypeError, lambda: linear.elu_plus_one(np.eye(2, dtype=int)), "x must hold"),
    "one axis": (
        ValueError,
        lambda: linear.kernel_attention(ONE, ONE[0], ONE),
        r"key must have shape \(..., n, d\); got \(2,\)",
    ),
    "widths": (
        ValueError,
        lambda: linear.kernel_attention(ONE, ONE[:, :1], ONE),
        r"agree in d_k; got shapes \(3, 2\) and \(3, 1\)",
    ),
    "numbers": (
        ValueError,
        lambda: linear.kernel_attention(ONE, ONE, ONE[:2]),
        r"agree in n_k; got shapes \(3, 2\) and \(2, 2\)",
    ),
    "not causal": (
        ValueError,
        lambda: delta.delta_rule(ONE[:2], ONE, ONE, ONE[:, 0]),
        r"one row for each position; got shapes \(2, 2\) and \(3, 2\)",
    ),
    "mask": (
        ValueError,
        lambda: linear.kernel_attention(ONE, ONE, ONE, mask=torch.ones(2, 3).bool()),
        r"mask must broadcast to \(..., n_q, n_k\) = \(3, 3\); got shape \(2, 3\)",
    ),
    "a mask of integers": (
        TypeError,
        lambda: linear.kernel_attention(ONE, ONE, ONE, mask=torch.ones(3, 3).long()),
        "mask must be boolean",
    ),
    "chunk": (
        ValueError,
        lambda: linear.linear_attention(ONE, ONE, ONE, chunk=0),
        "chunk must be at least 1; got 0",
    ),
    "key mask": (
        TypeError,
        lambda: linear.linear_attention(ONE, ONE, ONE, key_mask=ONE[:, 0]),
        "key_mask must be boolean",
    ),
    "key mask's shape": (
        ValueError,
        lambda: linear.linear_attention(ONE, ONE, ONE, key_mask=torch.ones(2).bool()),
        r"key_mask must broadcast to \(..., n\) = \(..., 3\); got \(2,\)",
    ),
    "decay's shape": (
        ValueError,
        lambda: linear.linear_attention(ONE, ONE, ONE, log_decay=-ONE[:, 0]),
        r"log_decay must broadcast to \(..., n, d_k\) = \(..., 3, 2\); got \(3,\)",
    ),
    "decay": (
        ValueError,
        lambda: linear.linear_attention(ONE, ONE, ONE, log_decay=0.1 * ONE),
        "log_decay must be at most 0",
    ),
    "memory": (
        ValueError,
        lambda: linear.linear_attention(ONE, ONE, ONE, memory=torch.zeros(2, 2)),
        r"memory must have shape \(..., d_k, d_memory\) = \(2, 3\); got \(2, 2\)",
    ),
    "memory of the delta rule": (
        ValueError,
        lambda: delta.recurrent_delta_rule(ONE, ONE, ONE, ONE[:, 0], memory=torch.zeros(3, 2)),
        r"= \(2, 2\); got \(3, 2\)",
    ),
    "strength": (
        ValueError,
        lambda: delta.delta_rule(ONE, ONE, ONE, ONE),
        r"strength must have shape \(..., n\) = \(..., 3\); got \(3, 2\)",
    ),
    "strength of integers": (
        TypeError,
        lambda: delta.delta_rule(ONE, ONE, ONE, ONE[:, 0].long()),
        "strength must hold",
    ),
    "no direction": (
        ValueError,
        lambda: random_features.random_directions(0, 2, generator=torch.Generator()),
        "n_directions and d must be at least 1; got 0 and 2",
    ),
    "directions": (
        ValueError,
        lambda: random_features.positive_features(ONE, torch.ones(4, 3)),
        r"directions must have shape \(m, d\) = \(m, 2\)",
    ),
    "directions of integers": (
        TypeError,
        lambda: random_features.trigonometric_features(ONE, DIRECTIONS.long()),
        "directions must hold",
    ),
    "kind": (
        ValueError,
        lambda: random_features.relative_variance(ONE, ONE, "cosine"),
        "kind must be 'positive' or 'trigonometric'; got 'cosine'",
    ),
    "kind of attention": (
        ValueError,
        lambda: random_features.random_feature_attention(ONE, ONE, ONE, DIRECTIONS, kind="cosine"),
        "kind must be 'positive' or 'trigonometric'; got 'cosine'",
    ),
    "pairs": (
        ValueError,
        lambda: recall.recall_data(2, 5, length=14, seed=0),
        r"n_pairs must lie between 1 and 4; got \[5\]",
    ),
    "mixer": (
        ValueError,
        lambda: recall.RecallModel("LSTM", d_k=2),
        "mixer must be one of .*; got 'LSTM'",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_errors_name_what_is_wrong(name):
    error, call, message = MISTAKES[name]
    with pytest.raises(error, match=message):
        call()
