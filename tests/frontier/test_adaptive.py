"""Other ways from scores to weights: their definitions, masks, gradients, and layers with them."""

import json
import math

import entmax as entmax_package
import numpy as np
import pytest
import torch
from hypothesis import strategies as st

from attn_tutorial import attention, causal_mask, cosine, pearson, softmax, window_mask
from attn_tutorial.frontier.adaptive import experiment, layers, normalisers, words
from attn_tutorial.layers import KeyValueCache, MultiHeadAttention
from attn_tutorial.scores import scaled_dot_product
from package.conformance import assert_close, cases, double, generated
from package.zoo import Zoo, ZooTests, rewritten

CHECKS = []
IN_TORCH = cases().filter(lambda case: case.library == "torch")
SHAPES = st.sampled_from([(1,), (7,), (3, 5), (2, 3, 12), (40,)])
SIZES = st.sampled_from([0.1, 1.0, 10.0])
ALPHAS = st.sampled_from([1.05, 1.3, 1.5, 1.8, 2.0, 2.5])


def check(function):
    CHECKS.append(function)
    return function


def some(*shapes, seed=0, scale=1.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return [scale * torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes]


def ways(api):
    """All normalisers that are exact or nearly so, by name, and the α of each."""
    return {
        "sparsemax": (api.n.sparsemax, 2.0),
        "entmax15": (api.n.entmax15, 1.5),
        "entmax": (lambda scores: api.n.entmax(scores, 1.3, iterations=50), 1.3),
    }


# --- entmax ------------------------------------------------------------------------------------


@check
@generated(10, shape=SHAPES, size=SIZES, alpha=ALPHAS, seed=st.integers(0, 99))
def weights_meet_the_conditions_that_define_them(api, shape, size, alpha, seed):
    """Those above zero share one threshold, and the others lie below it."""
    (scores,) = some(shape, seed=seed, scale=size)
    exact = {1.5: api.n.entmax15, 2.0: api.n.sparsemax}
    bisected = api.n.entmax(scores, alpha, iterations=60)
    for weights in (bisected, exact.get(alpha, lambda _: bisected)(scores)):
        assert weights.shape == scores.shape
        assert (weights >= 0).all()
        assert_close(weights.sum(-1), torch.ones(shape[:-1]))
        threshold = (alpha - 1) * scores - weights ** (alpha - 1)
        highest = threshold.amax(-1, keepdim=True)
        lowest = threshold.masked_fill(weights == 0, math.inf).amin(-1, keepdim=True)
        assert_close(highest, lowest, "float32")


@check
def the_smallest_example_by_hand(api):
    scores = torch.tensor([1.0, 0.5, -1.0], dtype=torch.float64)
    assert_close(api.n.sparsemax(scores), torch.tensor([0.75, 0.25, 0.0]))
    # Two weights sum to one and their roots differ by half the difference of the scores, 0.2:
    # 0.8² + 0.6² = 1.
    by_hand = torch.tensor([0.64, 0.36], dtype=torch.float64)
    assert_close(api.n.entmax15(torch.tensor([0.4, 0.0], dtype=torch.float64)), by_hand)
    assert_close(api.n.entmax15(torch.tensor([2.0, 0.0]).double()), torch.tensor([1.0, 0.0]))


@check
def towards_one_it_is_the_softmax(api):
    (scores,) = some((4, 6))
    assert_close(api.n.entmax(scores, 1.0001, iterations=60), softmax(scores), "float32")


@check
def each_row_may_have_its_own_alpha(api):
    (scores,) = some((2, 3, 8), scale=2)
    alpha = torch.tensor([[1.2], [1.5], [2.0]], dtype=torch.float64)
    weights = api.n.entmax(scores, alpha, iterations=50)
    assert_close(weights[:, 0], api.n.entmax(scores[:, 0], 1.2, iterations=50))
    assert_close(weights[:, 1], api.n.entmax15(scores[:, 1]))
    assert_close(weights[:, 2], api.n.sparsemax(scores[:, 2]))


@check
def gradients_are_right(api):
    (scores,) = (part.requires_grad_() for part in some((2, 3), seed=1))
    alpha = torch.tensor([[1.2], [1.8]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(api.n.sparsemax, scores)
    assert torch.autograd.gradcheck(api.n.entmax15, scores)
    assert torch.autograd.gradcheck(
        lambda *given: api.n.entmax(*given, iterations=45), (scores, alpha)
    )
    sink = torch.tensor([[0.3], [-1.0]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(api.n.softmax_with_sink, (scores, sink))
    factors = torch.tensor([0.2, 1.0, 0.7], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(api.n.softmax_with_factors, (scores, factors))


@check
def masked_keys_might_as_well_not_be_there(api):
    (scores,) = some((5, 8), scale=2)
    kept = torch.tensor([True, False, True, True, False, False, True, True])
    masked = scores.masked_fill(~kept, -math.inf)
    dead = torch.full((5, 1), False)
    dead[2] = True
    masked = masked.masked_fill(dead, -math.inf).requires_grad_()
    for normalise, _ in ways(api).values():
        weights = normalise(masked)
        assert (weights[:, ~kept] == 0).all()
        assert (weights[2] == 0).all()
        alive = ~dead[:, 0]
        assert_close(weights[alive][:, kept], normalise(scores[alive][:, kept]))
        (gradient,) = torch.autograd.grad(weights.square().sum(), masked)
        assert torch.isfinite(gradient).all()
        assert (gradient[2] == 0).all()


@check
def large_scores_and_small_floats(api):
    scores = torch.tensor([30000.0, 29999.5, 29990.0, -30000.0])
    for normalise, _ in ways(api).values():
        assert_close(normalise(scores), normalise(scores.double() - 30000), "float32")
    (many,) = some((4, 2000), seed=2, dtype=torch.float32)
    for scale in (0.01, 1.0):
        for normalise, _ in ways(api).values():
            weights = normalise(scale * many)
            assert_close(weights, normalise(scale * many.double()), "float32")
            half = normalise((scale * many).half())
            assert half.dtype == torch.float16
            exact = normalise((scale * many).half().double()).amax(-1)
            assert (half.double().amax(-1) / exact - 1).abs().max() < 1e-2
    few = many[:, :10].half()
    exact = api.n.entmax(few.double(), 1.02)  # a power of 50 multiplies what rounding has lost
    assert (api.n.entmax(few, 1.02).double() / exact - 1).abs().max() < 5e-3


@check
def few_iterations_give_few_digits(api):
    (scores,) = some((20, 6), scale=2)
    exact = api.n.sparsemax(scores)
    for iterations in (3, 8, 20):
        found = api.n.entmax(scores, 2.0, iterations=iterations)
        assert_close(found.sum(-1), torch.ones(20))
        # Each of 6 weights is off by half a step at most, and so is what they are divided by.
        assert (found - exact).abs().max() <= 6 * 2.0**-iterations
    assert (api.n.entmax(scores, 2.0) - exact).abs().max() < 1e-7


# --- attention, sinks and spans ----------------------------------------------------------------


@check
@generated(15, case=IN_TORCH)
def with_the_softmax_it_is_attention(api, case):
    mask = None if case.mask is None else torch.as_tensor(case.mask)
    output, weights = api.n.attend(case.query, case.key, case.value, normalise=softmax, mask=mask)
    wanted = attention(case.query, case.key, case.value, mask=mask)
    assert_close(output, wanted[0], case.dtype)
    assert_close(weights, wanted[1], case.dtype)


@check
@generated(8, case=IN_TORCH)
def attention_with_zeros_obeys_its_mask(api, case):
    mask = None if case.mask is None else torch.as_tensor(case.mask)
    query, value = double(case.query), double(case.value)
    if mask is not None and mask.dtype != torch.bool:
        mask = mask.double()
    for normalise, _ in ways(api).values():
        output, weights = api.n.attend(query, case.clean_key, value, normalise=normalise, mask=mask)
        assert torch.isfinite(output).all()
        if mask is not None:
            allowed = mask if mask.dtype == torch.bool else mask > -math.inf
            allowed = allowed.expand(weights.shape)
            assert (weights[~allowed] == 0).all()
            assert_close(weights.sum(-1), allowed.any(-1).double())


@check
@generated(6, case=IN_TORCH, sink=st.sampled_from([-2.0, 0.0, 3.0]))
def a_sink_is_a_key_whose_value_is_zero(api, case, sink):
    query, key, value = double(case.query), case.clean_key, double(case.value)
    scores = scaled_dot_product(query, key)
    _, weights = api.n.attend(
        query, key, value, normalise=lambda s: api.n.softmax_with_sink(s, sink)
    )
    more = torch.cat([scores, torch.full_like(scores[..., :1], sink)], dim=-1)
    assert_close(weights, softmax(more)[..., :-1].expand(weights.shape))


@check
def off_by_one_is_what_torch_calls_add_zero_attn(api):
    torch.manual_seed(0)
    theirs = torch.nn.MultiheadAttention(8, 2, add_zero_attn=True, batch_first=True).double()
    ours = api.l.AdaptiveAttention(8, 2, normalise=api.n.softmax_with_sink).double()
    plain = torch.nn.MultiheadAttention(8, 2, batch_first=True).double()
    plain.load_state_dict(theirs.state_dict())
    ours.load_from_torch(plain)
    (x,) = some((3, 5, 8))
    assert_close(ours(x)[0], theirs(x, x, x)[0])
    assert not torch.allclose(plain(x, x, x)[0], theirs(x, x, x)[0], atol=1e-3)


@check
def sinks_at_the_ends(api):
    (scores,) = some((4, 6))
    assert_close(api.n.softmax_with_sink(scores, -math.inf), softmax(scores))
    assert (api.n.softmax_with_sink(scores, 1e4) == 0).all()
    assert_close(api.n.softmax_with_sink(scores + 1e4), softmax(scores))
    assert (api.n.softmax_with_sink(torch.full((2, 3), -math.inf)) == 0).all()
    both = api.n.softmax_with_sink(torch.full((2, 3), -math.inf), -math.inf)
    assert (both == 0).all()
    sink = torch.tensor(1e4, requires_grad=True)
    (gradient,) = torch.autograd.grad(api.n.softmax_with_sink(scores, sink)[0, 0], sink)
    assert torch.isfinite(gradient)


@check
def factors_by_definition(api):
    distance = torch.arange(8.0)
    wanted = [1, 1, 1, 1, 0.5, 0, 0, 0]
    assert api.n.span_factors(distance, 3.0, 2.0).tolist() == wanted
    (scores,) = some((4, 8))
    factors = torch.tensor(wanted).double()
    products = factors * scores.exp()
    wanted = products / products.sum(-1, keepdim=True)
    assert_close(api.n.softmax_with_factors(scores, factors), wanted)
    tall = scores.clone()
    tall[:, 6] = 1e5  # out of reach: nobody may notice how high it scores
    tall.requires_grad_()
    found = api.n.softmax_with_factors(tall, factors)
    assert_close(found, wanted)
    assert torch.isfinite(torch.autograd.grad(found.square().sum(), tall)[0]).all()
    assert (api.n.softmax_with_factors(scores, torch.zeros(8)) == 0).all()


@check
def a_steep_span_is_a_window(api):
    """With a ramp near zero: the keys up to so many positions back, for the last queries too."""
    span = api.l.LearnedSpan(1, 8, ramp=1e-3, initial=3.5 / 8)
    for n_q, n_k in ((8, 8), (3, 8), (1, 6)):
        offset = n_k - n_q
        (scores,) = some((2, 1, n_q, n_k))
        causal = torch.tensor(causal_mask(n_q, n_k, offset))
        near = torch.tensor(window_mask(n_q, n_k, left=3, right=0, offset=offset))
        found = span(scores.masked_fill(~causal, -math.inf))
        assert_close(found, softmax(scores.masked_fill(~near, -math.inf)))
    assert span.reach.tolist() == [4]


# --- layers ------------------------------------------------------------------------------------


@check
def the_default_layer_is_the_usual_one(api):
    torch.manual_seed(0)
    usual = MultiHeadAttention(8, 2)
    layer = api.l.AdaptiveAttention(8, 2)
    layer.load_state_dict(usual.state_dict())
    (x,) = some((3, 5, 8), dtype=torch.float32)
    for mask in (None, causal_mask(5, 5)):
        output, weights = layer(x, mask=mask, need_weights=True)
        wanted = usual(x, mask=mask, need_weights=True)
        assert_close(output, wanted[0], "float32")
        assert_close(weights, wanted[1], "float32")
        assert layer(x, mask=mask)[1] is None
        assert_close(layer(x, mask=mask)[0], wanted[0], "float32")


@check
def step_by_step_equals_all_at_once(api):
    (x,) = some((2, 6, 8), dtype=torch.float32)
    for normalise in (
        api.l.LearnedSpan(2, 6, ramp=1.5),
        api.l.LearnedEntmax(2),
        api.l.LearnedSink(2),
    ):
        layer = api.l.AdaptiveAttention(8, 2, normalise=normalise)
        whole, _ = layer(x, mask=causal_mask(6, 6))
        cache = KeyValueCache()
        steps = [layer(x[:, i : i + 1], cache=cache)[0] for i in range(6)]
        assert_close(torch.cat(steps, dim=1), whole, "float32")


@check
def each_head_has_its_own_numbers(api):
    query, key, scores = some((2, 3, 4, 5), (2, 3, 6, 5), (2, 3, 4, 6))
    numbers = torch.tensor([0.5, 1.0, 4.0]).double()
    score = api.l.Scaled(3, cosine, initial=2.0).double()
    assert_close(score.factor, torch.full((3,), 2.0), "float32")
    score.logarithm.data = numbers.log()
    assert_close(score(query, key), numbers[:, None, None] * cosine(query, key))
    entmax = api.l.LearnedEntmax(3, initial=1.4, iterations=40).double()
    assert_close(entmax.alpha, torch.full((3,), 1.4), "float32")
    entmax.raw.data = torch.tensor([-2.0, 0.0, 30.0]).double()
    assert_close(entmax(scores)[:, 2], normalisers.sparsemax(scores[:, 2]), "float32")
    assert_close(
        entmax(scores)[:, 0],
        normalisers.entmax(scores[:, 0], entmax.alpha[0].item(), iterations=40),
    )
    sink = api.l.LearnedSink(3).double()
    assert_close(sink(scores), normalisers.softmax_with_sink(scores))
    sink.sink.data = numbers
    assert_close(sink(scores)[:, 2], normalisers.softmax_with_sink(scores[:, 2], 4.0))


@check
def layer_norm_is_a_correlation(api):
    """Before its gains have learned: Pearson's, times the root of the width."""
    query, key = some((2, 3, 4, 16), (2, 3, 6, 16), dtype=torch.float32)
    scores = api.l.LayerNormScore(16)(query, key)
    assert_close(scores, 4 * pearson(query, key), "float32")


@check
def spans_cost_their_mean(api):
    model = torch.nn.Sequential(
        api.l.LearnedSpan(2, 10, ramp=2.0, initial=0.3),
        api.l.LearnedSpan(2, 20, ramp=2.0, initial=0.5),
    )
    model[0].raw.data[0] = 50.0  # a span of 10
    loss = api.l.span_loss(model, 0.1)
    assert_close(loss, torch.tensor(0.1 * ((10 + 3) / 2 + 10)), "float32")
    loss.backward()
    assert (model[1].raw.grad > 0).all()
    assert model[0].reach.tolist() == [10, 5]
    assert model[1].reach.tolist() == [12, 12]


# --- broken versions ---------------------------------------------------------------------------

BROKEN = {
    "the mask forgotten": ("n", "if mask is not None:", "if False:"),
    "the mask turned round": ("n", "apply_mask(scores, mask)", "apply_mask(scores, ~mask)"),
    "the score forgotten": (
        "n",
        "scores = score(query.to(wide), key.to(wide))",
        "scores = query.to(wide) @ key.to(wide).mT",
    ),
    "a softmax over the queries": (
        "n",
        "weights = normalise(scores)",
        "weights = normalise(scores.mT).mT",
    ),
    "the largest score not subtracted": ("n", "(scores - peak)).clamp", "(scores)).clamp"),
    "NaN where everything is masked": (
        "n",
        "peak = _finite(scores.amax(dim=-1, keepdim=True))\n",
        "peak = scores.amax(dim=-1, keepdim=True)\n",
    ),
    "masked keys get a share": ("n", ".masked_fill(scores == -math.inf, 0)", ""),
    "the power forgotten": ("n", "(margin ** (1 / (alpha - 1)))", "(margin ** 1)"),
    "the scores not multiplied": ("n", "((alpha - 1) * (scores", "((scores"),
    "sorted upwards": (
        "n",
        "ordered = shifted.sort(dim=-1, descending=True).values  # (…, n_k)\n"
        "    counts = torch.arange(1, shifted.shape[-1] + 1, device=shifted.device, "
        "dtype=shifted.dtype)\n    sums",
        "ordered = shifted.sort(dim=-1).values\n"
        "    counts = torch.arange(1, shifted.shape[-1] + 1, device=shifted.device, "
        "dtype=shifted.dtype)\n    sums",
    ),
    "a support of one more": (
        "n",
        "> sums).sum(dim=-1, keepdim=True)",
        "> sums - 0.2).sum(dim=-1, keepdim=True)",
    ),
    "the threshold one place late": (
        "n",
        "sums.gather(-1, size - 1)",
        "sums.gather(-1, (size - 2).clamp(min=0))",
    ),
    "the spread as a mean": ("n", "- counts * mean**2", "- mean**2"),
    "the other root": ("n", "candidates = mean - ", "candidates = mean + "),
    "a bisection that keeps the wrong half": ("n", "total >= 1", "total < 1"),
    "a step that is not halved": (
        "n",
        "        width = width / 2\n",
        "        width = width / 1.5\n",
    ),
    "a Jacobian of the softmax": ("n", "weights ** (2 - alpha), 0)", "weights, 0)"),
    "the mean not taken away": ("n", "slopes * (d_weights - mean)", "slopes * d_weights"),
    "a gradient beyond the support": (
        "n",
        "torch.where(support, weights ** (2 - alpha), 0)",
        "weights ** (2 - alpha)",
    ),
    "half a gradient of alpha": (
        "n",
        "change = change + (surprise",
        "change = change + 0 * (surprise",
    ),
    "entropy with the wrong sign": ("n", "surprise = -torch.xlogy", "surprise = torch.xlogy"),
    "the sink counted twice": ("n", "+ torch.exp(sink - peak)", "+ 2 * torch.exp(sink - peak)"),
    "one in place of exp(sink)": ("n", "+ torch.exp(sink - peak)", "+ 1"),
    "the sink not in the maximum": (
        "n",
        "torch.maximum(wide.amax(dim=-1, keepdim=True), sink)",
        "wide.amax(dim=-1, keepdim=True)",
    ),
    "the ramp inside the span": ("n", "(ramp + span - distance)", "(span - distance)"),
    "factors beyond one": ("n", "/ ramp).clamp(0, 1)", "/ ramp).clamp(0)"),
    "the maximum of keys out of reach": (
        "n",
        "kept = wide.masked_fill(factors == 0, -math.inf)",
        "kept = wide",
    ),
    "factors after the softmax": (
        "n",
        "exponentials = factors * torch.exp(kept - peak)\n"
        "    total = exponentials.sum(dim=-1, keepdim=True)",
        "exponentials = factors * torch.exp(kept - peak)\n"
        "    total = torch.exp(kept - peak).sum(dim=-1, keepdim=True)",
    ),
    "computed in 16 bits": (
        "n",
        "return torch.promote_types(scores.dtype, torch.float32)",
        "return scores.dtype",
    ),
    "the result in 32 bits": (
        "n",
        "return _Entmax.apply(wide, alpha, threshold).to(scores.dtype)",
        "return _Entmax.apply(wide, alpha, threshold)",
    ),
    "the normaliser not used": ("l", "normalise=self.normalise, mask", "normalise=softmax, mask"),
    "the heads' score not used": (
        "l",
        "score=self.score, normalise",
        "score=lambda q, k: q @ k.mT, normalise",
    ),
    "a factor for each query": ("l", "self.factor[:, None, None] *", "self.factor.mean() *"),
    "an alpha beyond two": ("l", "lowest, highest = 1.01, 2.0", "lowest, highest = 1.01, 3.0"),
    "one alpha for all": ("l", "self.alpha[:, None, None]", "self.alpha.mean()"),
    "one sink for all": ("l", "self.sink[:, None, None]", "self.sink.mean()"),
    "the span counted from the first query": (
        "l",
        "torch.arange(n_k - n_q, n_k,",
        "torch.arange(0, n_q,",
    ),
    "distance the other way": (
        "l",
        "distance = (position - torch.arange(n_k, device=scores.device))",
        "distance = (torch.arange(n_k, device=scores.device) - position)",
    ),
    "a reach one short": ("l", "(self.span + self.ramp).ceil()", "(self.span + self.ramp).floor()"),
    "spans summed over the heads": ("l", "part.span.mean() for part", "part.span.sum() for part"),
    "no norm of the keys": (
        "l",
        "self.query_norm(query), self.key_norm(key)",
        "self.query_norm(query), key",
    ),
}


class TestAdaptive(ZooTests):
    zoo = Zoo(CHECKS, rewritten({"n": normalisers, "l": layers}, BROKEN), BROKEN)


@pytest.mark.parametrize("scale", [0.3, 2.0, 20.0])
def test_the_authors_package_agrees(scale):
    (scores,) = some((6, 4, 9), seed=3, scale=scale)
    alpha = torch.linspace(1.1, 2.2, 24, dtype=torch.float64).reshape(6, 4, 1)
    (downstream,) = some((6, 4, 9), seed=4)
    pairs = [
        (normalisers.sparsemax, entmax_package.sparsemax, [scores]),
        (normalisers.entmax15, entmax_package.entmax15, [scores]),
        (
            lambda *given: normalisers.entmax(*given, iterations=50),
            entmax_package.entmax_bisect,
            [scores, alpha],
        ),
    ]
    for ours, theirs, given in pairs:
        found, gradients = [], []
        for function in (ours, theirs):
            own = [part.clone().requires_grad_() for part in given]
            weights = function(*own)
            found.append(weights.detach())
            gradients.append(torch.autograd.grad((weights * downstream).sum(), own))
        assert_close(*found)
        for one, other in zip(*gradients, strict=True):
            assert_close(one, other, "float32")


# --- the experiment ----------------------------------------------------------------------------


def test_the_questions_have_their_answers():
    drawn = experiment.draw_items(9, 50, torch.Generator().manual_seed(0))
    names, classes = drawn.items.split([experiment.D_NAME, experiment.N_CLASSES], dim=-1)
    assert torch.allclose(names.norm(dim=-1), torch.ones(50, 9))
    likeness = (names @ drawn.questions[:, 0, :-1, None])[..., 0]  # (batch, n)
    asked = likeness.argmax(dim=1)
    rows = torch.arange(50)
    assert (classes.argmax(-1)[rows, asked] == drawn.answers[:, 0]).all()
    counts = classes.sum(dim=1)
    assert (counts[rows, drawn.answers[:, 1]] == counts.amax(dim=1)).all()
    assert drawn.questions[:, :, -1].tolist() == [[0.0, 1.0]] * 50


@pytest.mark.parametrize("system", experiment.SYSTEMS)
def test_every_system_learns_to_look_up(system):
    model, losses = experiment.fit_reader(system, 0, peak=1e-2, stop_after=2)
    assert np.isfinite(losses).all()
    one, most = experiment.accuracies(model, 8, seed=0, examples=20)
    assert 0 <= min(one, most) <= max(one, most) <= 1
    zeros = torch.tensor(experiment.zeros_by_question(model, n=8))
    assert zeros.shape == (experiment.LOOKUP_HEADS, 2)


def test_models_of_text_begin_alike_and_are_causal():
    tokens = torch.arange(1, 21)[None] % experiment.N_LETTERS
    usual = experiment.language_model("softmax", 0)
    for system in ("learned α", "learned span", "off by one", "layer norm"):
        model = experiment.language_model(system, 0)
        for name, parameter in usual.named_parameters():
            assert torch.equal(parameter, dict(model.named_parameters())[name])
        changed = tokens.clone()
        changed[0, 12:] = 3
        with torch.no_grad():
            before, after = model(tokens)[0], model(changed)[0]
        assert torch.allclose(before[0, :12], after[0, :12], atol=1e-5)
        assert not torch.allclose(before[0, 12:], after[0, 12:], atol=1e-3)


def test_the_words_are_those_that_a_fresh_process_reads(monkeypatch):
    """Not those of this one, in which other libraries may have changed them."""
    monkeypatch.setattr(words, "PARTS", {"training": "networkx"})  # it is read the fastest
    found = words.read_libraries()["training"]
    assert set(found) <= set("abcdefghijklmnopqrstuvwxyz ")
    assert found.count("graph") > 1000
    monkeypatch.setattr(words, "printed_by", lambda name: json.dumps({"asked": name}))
    assert words.load_words() == {"asked": words.__name__}


def test_the_text_is_made_of_words():
    pieces = experiment.text("validation")
    assert pieces.shape[1] == experiment.LENGTH + 1
    assert (pieces.min(), pieces.max()) == (0, experiment.N_LETTERS - 1)
    spaces = (pieces == 0).float()
    assert (spaces[:, 1:] * spaces[:, :-1]).sum() == 0  # no two in a row
    assert experiment.text("validation") is pieces


def test_a_model_of_text_is_looked_at():
    largest = []
    model, losses = experiment.fit_text(
        "learned span", 0, peak=1e-2, stop_after=3, strength=0.1, largest=largest
    )
    assert len(losses) == len(largest) == 3
    assert losses[0] > math.log(experiment.N_LETTERS)  # with what the spans cost
    found = experiment.look(model, n=4)
    assert len(found.zeros) == experiment.N_LAYERS * experiment.N_HEADS
    assert 0 < max(found.zeros) < 1
    assert found.total == pytest.approx(1, abs=1e-5)
    assert set(experiment.learned(model)) == {"span", "reach"}


# --- errors ------------------------------------------------------------------------------------

ONE = torch.ones(2, 3)
MISTAKES = {
    "integers": (
        TypeError,
        lambda: normalisers.sparsemax(ONE.long()),
        "scores must be a floating-point tensor; got torch.int64",
    ),
    "a NumPy array": (
        TypeError,
        lambda: normalisers.entmax15(np.ones(3)),
        "scores must be a floating-point tensor; got ndarray",
    ),
    "no key": (
        ValueError,
        lambda: normalisers.sparsemax(ONE[:, :0]),
        r"one key or more; got \(2, 0\)",
    ),
    "alpha": (
        ValueError,
        lambda: normalisers.entmax(ONE, 1.0),
        r"alpha must be above 1 \(the softmax is at 1\); got 1.0",
    ),
    "alpha's shape": (
        ValueError,
        lambda: normalisers.entmax(ONE, torch.tensor([1.5, 1.5])),
        r"alpha must broadcast to \(2, 1\) beside the scores; got \(2,\)",
    ),
    "iterations": (
        ValueError,
        lambda: normalisers.entmax(ONE, 1.5, iterations=0),
        "iterations must be at least 1; got 0",
    ),
    "sink's shape": (
        ValueError,
        lambda: normalisers.softmax_with_sink(ONE, torch.ones(3)),
        r"sink must broadcast to \(2, 1\) beside the scores; got \(3,\)",
    ),
    "factors' shape": (
        ValueError,
        lambda: normalisers.softmax_with_factors(ONE, torch.ones(2)),
        r"factors must broadcast to \(2, 3\) beside the scores; got \(2,\)",
    ),
    "ramp": (
        ValueError,
        lambda: normalisers.span_factors(ONE, 1.0, 0.0),
        "ramp must be above 0; got 0.0",
    ),
    "no normaliser": (
        TypeError,
        lambda: normalisers.attend(ONE, ONE, ONE, normalise="softmax"),
        "normalise must be a function of scores; got str",
    ),
    "no score": (
        TypeError,
        lambda: layers.AdaptiveAttention(4, 2, score="dot"),
        "score must be a function; got str",
    ),
    "a negative factor": (
        ValueError,
        lambda: layers.Scaled(2, cosine, initial=0.0),
        "initial must be above 0; got 0.0",
    ),
    "alpha's beginning": (
        ValueError,
        lambda: layers.LearnedEntmax(2, initial=2.0),
        "initial must lie between 1.01 and 2.0; got 2.0",
    ),
    "the span's beginning": (
        ValueError,
        lambda: layers.LearnedSpan(2, 8, ramp=1.0, initial=1.0),
        "initial must lie between 0 and 1; got 1.0",
    ),
    "no span": (
        ValueError,
        lambda: layers.span_loss(torch.nn.Linear(2, 2), 0.1),
        "model must have a layer with a LearnedSpan; it has none",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_errors_name_what_is_wrong(name):
    error, call, message = MISTAKES[name]
    with pytest.raises(error, match=message):
        call()
