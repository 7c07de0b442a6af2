"""What any correct attention does: checks that take an implementation and fail on a broken one.

A check is a function of `api`, a namespace with the package's public names. The tests run every
check on the package, and on a zoo of broken implementations that the checks have to catch.
"""

import functools
import math
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics.pairwise import cosine_similarity

# Relative and absolute error that rounding to each dtype explains; values are of size one to ten.
TOLERANCE = {"float64": 1e-9, "float32": 2e-4, "float16": 2e-2, "bfloat16": 1e-1}

CHECKS = []


def check(function):
    """Register a check."""
    CHECKS.append(function)
    return function


def generated(examples: int, **strategies):
    """Run the body of a check on generated cases: the same ones each time, smallest first."""

    def decorate(function):
        @functools.wraps(function)
        def run(api):
            @settings(
                max_examples=examples,
                derandomize=True,
                database=None,
                deadline=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            @given(**strategies)
            def on_case(**arguments):
                function(api, **arguments)

            on_case()

        run.generated = True
        return run

    return decorate


# --- generated cases -------------------------------------------------------------------------


@dataclass
class Case:
    """Arguments of attention, and the same in float64 torch with a clean copy of each key."""

    query: Any
    key: Any
    value: Any
    mask: Any
    clean_key: torch.Tensor  # the keys as they were before anything was hidden behind the mask
    library: str
    dtype: str

    def __repr__(self):
        mask = "none" if self.mask is None else f"{self.mask.dtype} {tuple(self.mask.shape)}"
        shapes = [tuple(array.shape) for array in (self.query, self.key, self.value)]
        return f"Case({self.library}, {self.dtype}, shapes {shapes}, mask {mask})"


def make(array: np.ndarray, library: str, dtype: str) -> Any:
    """A NumPy array as an array of the library and dtype."""
    if library == "numpy":
        return array.astype(dtype)
    return torch.tensor(array).to(getattr(torch, dtype))


def double(array: Any) -> torch.Tensor:
    """Anything as a float64 torch tensor."""
    if isinstance(array, np.ndarray):
        array = array.copy()  # torch warns of those that it may not write to
    return torch.as_tensor(array).detach().to(torch.float64)


@st.composite
def cases(draw, masked: bool | None = None):
    """Shapes with d_k ≠ d_v and n_q ≠ n_k, broadcast leading axes, masks of every kind."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n_q, n_k = draw(st.integers(1, 6)), draw(st.integers(1, 7))
    d_k, d_v = draw(st.integers(1, 9)), draw(st.integers(1, 5))
    leading = draw(st.sampled_from([(), (3,), (2, 3)]))
    library, dtype = draw(
        st.sampled_from(
            [(name, dtype) for name in ("numpy", "torch") for dtype in list(TOLERANCE)[:3]]
            + [("torch", "bfloat16")]
        )
    )

    def some_leading():
        """The leading axes, or fewer, or ones among them: all of them broadcast."""
        kept = leading[draw(st.integers(0, len(leading))) :]
        return tuple(draw(st.sampled_from([1, size])) for size in kept)

    size = draw(st.sampled_from([0.3, 1.0, 3.0]))
    query = rng.normal(scale=size, size=(*some_leading(), n_q, d_k))
    key = rng.normal(scale=size, size=(*some_leading(), n_k, d_k))
    value = rng.normal(size=(*some_leading(), n_k, d_v))
    scores_leading = np.broadcast_shapes(query.shape[:-2], key.shape[:-2])

    kinds = ["bool", "dead rows", "causal", "padding", "float"]
    kind = draw(st.sampled_from(kinds if masked else ["none", *kinds]))
    mask = None
    if kind in ("bool", "float"):
        mask = rng.random((*scores_leading, n_q, n_k)) < 0.7
        mask[..., 0] = True  # nobody is left without a key
    elif kind == "dead rows":
        mask = rng.random((n_q, n_k)) < 0.5
        mask[rng.integers(n_q)] = False
    elif kind == "causal":
        mask = np.tril(np.ones((n_q, n_k), dtype=bool))
    elif kind == "padding":
        mask = (np.arange(n_k) < rng.integers(0, n_k + 1))[None, :]

    clean_key = double(make(key, library, dtype))
    if mask is not None:
        hidden = ~mask.any(axis=tuple(range(mask.ndim - 1)))  # (n_k,) keys that nobody may see
        key = key.copy()
        key[..., hidden, :] = draw(st.sampled_from([np.nan, np.inf, -np.inf, 0.0]))
    if kind == "float":
        mask = np.where(mask, rng.normal(size=mask.shape), -np.inf)
        mask = make(mask, library, dtype)
    elif mask is not None and library == "torch" and draw(st.booleans()):
        mask = torch.tensor(mask)  # else a NumPy mask over tensors
    arrays = (make(array, library, dtype) for array in (query, key, value))
    return Case(*arrays, mask, clean_key, library, dtype)


def by_torch(case: Case) -> tuple[torch.Tensor, torch.Tensor]:
    """Output and weights by torch's own function, in float64.

    The weights come from values that are the unit matrix.
    """
    query, key, value = double(case.query), case.clean_key, double(case.value)
    n_q, n_k = query.shape[-2], key.shape[-2]
    leading = np.broadcast_shapes(query.shape[:-2], key.shape[:-2], value.shape[:-2])
    query, key, value = (array.expand(*leading, *array.shape[-2:]) for array in (query, key, value))
    mask = case.mask
    if mask is not None:
        mask = torch.as_tensor(mask)
        mask = mask if mask.dtype == torch.bool else mask.double()
        mask = mask.expand(*leading, n_q, n_k)
    output = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    unit = torch.eye(n_k, dtype=torch.float64).expand(*leading, n_k, n_k)
    weights = F.scaled_dot_product_attention(query, key, unit, attn_mask=mask)
    return output, weights


def assert_close(actual: Any, wanted: Any, dtype: str = "float64") -> None:
    """Equal up to the rounding of dtype; NaN equals nothing."""
    actual, wanted = double(actual), double(wanted)
    assert actual.shape == wanted.shape, f"shape {tuple(actual.shape)}, not {tuple(wanted.shape)}"
    tolerance = TOLERANCE[dtype]
    worst = (actual - wanted).abs().max().item() if actual.numel() else 0.0
    assert torch.allclose(actual, wanted, rtol=tolerance, atol=tolerance), f"off by {worst:.3g}"


def random_arrays(*shapes, seed=0, scale=1.0):
    """Normal arrays of these shapes."""
    rng = np.random.default_rng(seed)
    return [rng.normal(scale=scale, size=shape) for shape in shapes]


# --- attention -------------------------------------------------------------------------------


@check
@generated(300, case=cases())
def agrees_with_torch(api, case):
    """Output and weights are those of torch, whatever the shapes, masks and dtypes."""
    output, weights = api.attention(case.query, case.key, case.value, mask=case.mask)
    wanted_output, wanted_weights = by_torch(case)
    assert output.dtype == weights.dtype == case.query.dtype
    assert type(output) is type(weights) is type(case.query)
    assert_close(output, wanted_output, case.dtype)
    assert_close(weights, wanted_weights, case.dtype)


@check
@generated(100, case=cases())
def rows_sum_to_one(api, case):
    """Weights are nonnegative; each row sums to one, or to zero where nothing may be seen."""
    _, weights = api.attention(case.query, case.key, case.value, mask=case.mask)
    weights = double(weights)
    assert (weights >= 0).all()
    alive = torch.ones(weights.shape[:-1], dtype=torch.bool)
    if case.mask is not None:
        mask = torch.as_tensor(case.mask)
        allowed = mask if mask.dtype == torch.bool else mask > -math.inf
        alive = allowed.expand(*weights.shape[:-2], *allowed.shape[-2:]).any(-1).expand(alive.shape)
    assert_close(weights.sum(-1), alive.double(), case.dtype)


@check
@generated(60, case=cases(masked=True))
def excluded_keys_get_nothing(api, case):
    """Weight zero, exactly, wherever the mask says no."""
    _, weights = api.attention(case.query, case.key, case.value, mask=case.mask)
    mask = torch.as_tensor(case.mask)
    allowed = mask if mask.dtype == torch.bool else mask > -math.inf
    assert (double(weights)[~allowed.expand(weights.shape)] == 0).all()


@check
def hand_example(api):
    """Two keys whose scores differ by ln 3: weights 3/4 and 1/4."""
    query = np.array([[math.log(3.0) * 2, 0.0, 0.0, 0.0]])
    key = np.array([[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]])
    value = np.array([[4.0, 0.0, 8.0], [0.0, 4.0, 8.0]])
    output, weights = api.attention(query, key, value)
    assert_close(weights, np.array([[0.75, 0.25]]))
    assert_close(output, np.array([[3.0, 1.0, 8.0]]))


@check
def order_of_keys_does_not_matter(api):
    """Keys and values permuted together: the same output, permuted weights."""
    query, key, value = random_arrays((2, 4, 5), (2, 6, 5), (2, 6, 3))
    order = np.array([3, 1, 5, 0, 2, 4])
    output, weights = api.attention(query, key, value)
    moved_output, moved_weights = api.attention(query, key[:, order], value[:, order])
    assert_close(moved_output, output)
    assert_close(moved_weights, weights[:, :, order])


@check
def queries_do_not_meet(api):
    """Each query's row is what it would be alone, and each batch entry too."""
    query, key, value = random_arrays((2, 4, 5), (2, 6, 5), (2, 6, 3), seed=1)
    output, weights = api.attention(query, key, value)
    for entry in range(2):
        for i in range(4):
            alone = api.attention(query[entry, i : i + 1], key[entry], value[entry])
            assert_close(alone[0][0], output[entry, i])
            assert_close(alone[1][0], weights[entry, i])


@check
def shift_of_scores_does_not_matter(api):
    """The same number added to all scores of a query changes no weight."""
    query, key, value = random_arrays((4, 5), (6, 5), (6, 3), seed=2)
    shift = np.array([[1000.0], [-1000.0], [3.0], [0.0]])
    output, weights = api.attention(query, key, value)
    shifted = api.attention(query, key, value, mask=np.broadcast_to(shift, (4, 6)))
    assert_close(shifted[0], output)
    assert_close(shifted[1], weights)


@check
def float_mask_is_added(api):
    """A mask of log(m) multiplies the odds by m."""
    query, key, value = random_arrays((4, 5), (3, 5), (3, 2), seed=3)
    factor = np.array([1.0, 2.0, 5.0])
    _, weights = api.attention(query, key, value)
    _, masked = api.attention(query, key, value, mask=np.log(factor)[None, :])
    assert_close(masked, weights * factor / (weights * factor).sum(-1, keepdims=True))


@check
def a_mask_is_a_removal(api):
    """Masked keys might as well not be there."""
    query, key, value = random_arrays((4, 5), (6, 5), (6, 3), seed=4)
    kept = np.array([True, False, True, True, False, True])
    output, weights = api.attention(query, key, value, mask=kept[None, :])
    without = api.attention(query, key[kept], value[kept])
    assert_close(output, without[0])
    assert_close(weights[:, kept], without[1])


@check
def outputs_lie_among_the_values(api):
    """An average is between the least and the greatest value."""
    query, key, value = random_arrays((8, 4), (5, 4), (5, 3), seed=5, scale=3.0)
    output, _ = api.attention(query, key, value)
    assert (output <= value.max(0) + 1e-9).all()
    assert (output >= value.min(0) - 1e-9).all()


@check
def equal_scores_give_the_mean(api):
    """A query that fits all keys alike sees the mean."""
    key, value = random_arrays((5, 4), (5, 3), seed=6)
    output, weights = api.attention(np.zeros((2, 4)), key, value)
    assert_close(weights, np.full((2, 5), 0.2))
    assert_close(output, np.broadcast_to(value.mean(0), (2, 3)))


@check
def float16_does_not_overflow(api):
    """Dot products far beyond 65504, in float16: finite, and the weights of float64."""
    query = np.full((2, 64), 256.0)
    query[:, -1] = [8.0, -8.0]
    key = np.full((4, 64), 256.0)
    key[:, -1] = [0.0, 1.0, 2.0, 3.0]  # the scores differ by one from key to key
    (value,) = random_arrays((4, 2), seed=7)
    query, key, value = (array.astype(np.float16) for array in (query, key, value))
    assert (query.astype(float) @ key.astype(float).T).min() > 65504
    wanted = by_torch(Case(query, key, value, None, double(key), "numpy", "float16"))
    for convert in (lambda array: array, torch.tensor):
        output, weights = api.attention(convert(query), convert(key), convert(value))
        assert_close(weights, wanted[1], "float16")
        assert_close(output, wanted[0], "float16")


@check
def float16_sums_in_float32(api):
    """Thousands of small weights: summed in float16 they would lose a good part."""
    value = np.ones((4096, 1), dtype=np.float16)
    query, key = np.zeros((1, 2), dtype=np.float16), np.zeros((4096, 2), dtype=np.float16)
    for convert in (lambda array: array, torch.tensor):
        output, _ = api.attention(convert(query), convert(key), convert(value))
        assert_close(output, np.ones((1, 1)), "float16")


@check
def dead_rows_are_zero(api):
    """Nothing to attend to: zero weights, zero output, finite gradients."""
    query, key, value = (
        torch.tensor(array, requires_grad=True)
        for array in random_arrays((3, 4), (5, 4), (5, 2), seed=8)
    )
    mask = np.ones((3, 5), dtype=bool)
    mask[1] = False
    for this in (mask, np.where(mask, 0.0, -np.inf)):
        output, weights = api.attention(query, key, value, mask=this)
        assert (output[1] == 0).all()
        assert (weights[1] == 0).all()
        for gradient in torch.autograd.grad(output.square().sum(), (query, key, value)):
            assert torch.isfinite(gradient).all()
    output, weights = api.attention(query, key[:0], value[:0])  # no keys at all
    assert output.shape == (3, 2)
    assert weights.shape == (3, 0)
    assert (output == 0).all()


@check
def gradients_are_right(api):
    """Numerical derivatives agree with autograd's, through every score that has any."""
    query, key, value, matrix, W_q, W_k, v = (
        torch.tensor(array, requires_grad=True)
        for array in random_arrays((2, 3, 4), (5, 4), (5, 2), (4, 4), (4, 3), (4, 3), (3,), seed=9)
    )
    mask = api.causal_mask(3, 5, offset=1)
    for score in (
        api.dot_product,
        api.scaled_dot_product,
        api.cosine,
        api.pearson,
        api.soft_capped(2.0),
    ):

        def attend(query, key, value, score=score):
            return api.attention(query, key, value, score=score, mask=mask)

        assert torch.autograd.gradcheck(attend, (query, key, value))
    assert torch.autograd.gradcheck(
        lambda matrix: api.attention(query, key, value, score=api.bilinear(matrix))[0], (matrix,)
    )
    assert torch.autograd.gradcheck(
        lambda *parameters: api.attention(query, key, value, score=api.additive(*parameters))[0],
        (W_q, W_k, v),
    )


@check
def the_score_is_used(api):
    """Attention by another score: that score, its softmax, the weighted sum."""
    query, key, value = random_arrays((3, 4), (5, 4), (5, 2), seed=10)

    def distance_score(query, key):
        return -(((query[:, None] - key[None]) ** 2).sum(-1))

    output, weights = api.attention(query, key, value, score=distance_score)
    wanted = np.exp(distance_score(query, key))
    wanted /= wanted.sum(-1, keepdims=True)
    assert_close(weights, wanted)
    assert_close(output, wanted @ value)


@check
def leading_axes_broadcast(api):
    """Grouped queries: one key and value for several heads, as if they were repeated."""
    query, key, value = random_arrays((2, 6, 3, 4), (2, 1, 5, 4), (2, 1, 5, 2), seed=11)
    grouped = api.attention(query, key, value)
    repeated = api.attention(query, np.repeat(key, 6, axis=1), np.repeat(value, 6, axis=1))
    assert_close(grouped[0], repeated[0])
    assert_close(grouped[1], repeated[1])
    only_values = api.attention(query[0, 0], key[0, 0], np.repeat(value[:, 0], 2, axis=0))
    assert only_values[0].shape == (4, 3, 2)
    assert only_values[1].shape == (4, 3, 5)


# --- masks -----------------------------------------------------------------------------------


@check
@generated(
    100,
    n_q=st.integers(0, 6),
    n_k=st.integers(0, 6),
    left=st.integers(0, 4) | st.none(),
    right=st.integers(0, 4) | st.none(),
    offset=st.integers(-3, 4),
)
def masks_say_what_they_say(api, n_q, n_k, left, right, offset):
    """Element by element, by the definition."""
    window = api.window_mask(n_q, n_k, left, right, offset=offset)
    causal = api.causal_mask(n_q, n_k, offset=offset)
    assert window.shape == causal.shape == (n_q, n_k)
    assert window.dtype == causal.dtype == bool
    for i in range(n_q):
        for j in range(n_k):
            past = math.inf if left is None else left
            future = math.inf if right is None else right
            assert window[i, j] == (i + offset - past <= j <= i + offset + future)
            assert causal[i, j] == (j <= i + offset)


@check
def padding_mask_keeps_the_front(api):
    """Sequence b may be seen up to its length, by every query."""
    lengths = [[3, 0], [5, 1]]
    for given_lengths in (lengths, np.array(lengths), torch.tensor(lengths)):
        mask = api.padding_mask(given_lengths, 5)
        assert mask.shape == (2, 2, 1, 5)
        for index in np.ndindex(2, 2):
            length = lengths[index[0]][index[1]]
            assert mask[index][0].tolist() == [True] * length + [False] * (5 - length)


@check
def masks_combine(api):
    """Causal and padding together, over a batch."""
    query, key, value = random_arrays((2, 4, 3), (2, 4, 3), (2, 4, 3), seed=12)
    mask = api.causal_mask(4, 4) & api.padding_mask([4, 2], 4)
    output, _ = api.attention(query, key, value, mask=mask)
    for entry, length in enumerate((4, 2)):
        for i in range(4):
            seen = slice(0, min(i + 1, length))
            alone = api.attention(query[entry, i : i + 1], key[entry, seen], value[entry, seen])
            assert_close(output[entry, i], alone[0][0])


@check
def no_leak_from_the_future(api):
    """The future changes nothing, by value or by gradient; the present does."""
    query, key, value = (
        torch.tensor(array, requires_grad=True)
        for array in random_arrays((5, 4), (5, 4), (5, 2), seed=13)
    )
    output, _ = api.attention(query, key, value, mask=api.causal_mask(5, 5))
    for i in range(5):
        of_key, of_value = torch.autograd.grad(output[i].sum(), (key, value), retain_graph=True)
        assert (of_key[i + 1 :] == 0).all()
        assert (of_value[i + 1 :] == 0).all()
        assert (of_value[: i + 1] != 0).all()
    changed_key, changed_value = key.detach().clone(), value.detach().clone()
    changed_key[3:], changed_value[3:] = 7.0, -7.0
    changed, _ = api.attention(query, changed_key, changed_value, mask=api.causal_mask(5, 5))
    assert torch.equal(changed[:3], output[:3])
    assert not torch.allclose(changed[3:], output[3:])


@check
def step_by_step_equals_all_at_once(api):
    """Decoding one query at a time, at its offset, gives the rows of the whole."""
    query, key, value = random_arrays((5, 4), (5, 4), (5, 2), seed=14)
    whole, _ = api.attention(query, key, value, mask=api.causal_mask(5, 5))
    for i in range(5):
        mask = api.causal_mask(1, 5, offset=i)
        step, _ = api.attention(query[i : i + 1], key, value, mask=mask)
        assert_close(step[0], whole[i])


# --- softmax and scores ----------------------------------------------------------------------


@check
def softmax_by_definition(api):
    """exp over the sum of exp, along the axis that was named."""
    (scores,) = random_arrays((2, 3, 4), seed=15)
    for axis in (-3, -2, -1, 0, 1, 2):
        wanted = np.exp(scores) / np.exp(scores).sum(axis=axis, keepdims=True)
        assert_close(api.softmax(scores, axis=axis), wanted)
    assert_close(api.softmax(scores), api.softmax(scores, axis=-1))


@check
def softmax_of_huge_scores(api):
    """Scores whose exponentials overflow: the largest takes all."""
    with np.errstate(over="raise"):
        assert_close(api.softmax(np.array([1e5, 1e5, -1e5])), np.array([0.5, 0.5, 0.0]))
    halves = np.array([60000.0, 0.0], dtype=np.float16)
    assert api.softmax(halves).tolist() == [1.0, 0.0]
    assert (api.softmax(np.full(3, -np.inf)) == 0).all()


@check
def scores_by_definition(api):
    """Each score against the definition, or the library that is known for it, pair by pair."""
    (query,) = random_arrays((6, 7), seed=16)
    (key,) = random_arrays((5, 7), seed=17)
    assert_close(api.dot_product(query, key), np.einsum("id,jd->ij", query, key))
    dots = query @ key.T
    assert_close(api.scaled_dot_product(query, key), dots / math.sqrt(7))
    assert_close(api.scaled_dot_product(query, key, scale=0.3), dots * 0.3)
    assert_close(api.cosine(query, key), cosine_similarity(query, key))
    assert_close(api.pearson(query, key), np.corrcoef(query, key)[:6, 6:])
    coarse_query, coarse_key = query.round(), key.round()  # with ties
    wanted = stats.spearmanr(coarse_query, coarse_key, axis=1).statistic[:6, 6:]
    assert_close(api.spearman(coarse_query, coarse_key), wanted)
    assert_close(api.soft_capped(1.5)(query, key), 1.5 * np.tanh(dots / math.sqrt(7) / 1.5))
    assert np.abs(api.soft_capped(1.5)(query * 100, key)).max() <= 1.5


@check
def scores_with_parameters(api):
    """Bilinear and additive, with d_q ≠ d_k, each pair by the formula."""
    query, key, W = random_arrays((4, 3), (5, 6), (3, 6), seed=18)
    W_q, W_k, v = random_arrays((3, 7), (6, 7), (7,), seed=19)
    bilinear, additive = api.bilinear(W)(query, key), api.additive(W_q, W_k, v)(query, key)
    for i in range(4):
        for j in range(5):
            assert math.isclose(bilinear[i, j], query[i] @ W @ key[j])
            assert math.isclose(additive[i, j], v @ np.tanh(query[i] @ W_q + key[j] @ W_k))
    value = np.eye(5)
    for score in (api.bilinear(W), api.additive(W_q, W_k, v)):
        assert_close(api.attention(query, key, value, score=score)[0].sum(-1), np.ones(4))
    square = W[:, :3]  # not symmetric: the wrong side shows
    assert_close(api.bilinear(square)(query, query), query @ square @ query.T)


@check
def what_correlations_cannot_see(api):
    """Cosine ignores scale; Pearson scale and shift; Spearman all that keeps the order."""
    query, key = random_arrays((3, 6), (4, 6), seed=20)
    scale = np.array([[0.5], [2.0], [1e-30], [1e30]])
    shift = np.array([[5.0], [-1.0], [0.0], [10.0]])
    assert_close(api.cosine(query, key * scale), api.cosine(query, key))
    assert_close(api.pearson(query, key * 3 + shift), api.pearson(query, key))
    assert_close(api.spearman(query, np.exp(key)), api.spearman(query, key))
    assert not np.allclose(api.cosine(query, key + shift), api.cosine(query, key))
    assert not np.allclose(api.pearson(query, np.exp(key)), api.pearson(query, key))


@check
def undefined_correlations_are_zero(api):
    """A zero vector under cosine, a constant row under the others: 0, and gradients stay finite."""
    constant = [0.1, 0.1, 0.1]  # its mean in floating point is not 0.1
    assert np.mean(constant) != 0.1
    rows = np.array([constant, [0.0, 0.0, 0.0], [1.0, 2.0, 4.0]])
    assert (api.cosine(rows, rows)[1] == 0).all()
    assert_close(api.cosine(rows, rows)[2, 2], 1.0)
    for score in (api.pearson, api.spearman):
        scores = score(rows, rows)
        assert (scores[:2] == 0).all()
        assert (scores[:, :2] == 0).all()
        assert_close(scores[2, 2], 1.0)
    for score in (api.cosine, api.pearson):
        tensor = torch.tensor(rows, requires_grad=True)
        score(tensor, tensor).sum().backward()
        assert torch.isfinite(tensor.grad).all()


@check
def ranks_share_ties(api):
    """Equal entries share their mean rank; NaN has none."""
    assert api.ranks(np.array([10.0, 30.0, 20.0, 30.0])).tolist() == [1.0, 3.5, 2.0, 3.5]
    assert np.isnan(api.ranks(np.array([[1.0, np.nan], [2.0, 1.0]]))[0]).all()
    (array,) = random_arrays((3, 8), seed=21)
    assert_close(api.ranks(array.round()), stats.rankdata(array.round(), axis=-1))


def package_api() -> SimpleNamespace:
    """The package's public names as a namespace of which single names can be replaced."""
    import attn_tutorial

    return SimpleNamespace(**{name: getattr(attn_tutorial, name) for name in attn_tutorial.__all__})
