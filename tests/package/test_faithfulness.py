"""Curves, divergences, norms and adversarial weights, on cases where the truth is known."""

import math

import numpy as np
import pytest
import torch

from attn_tutorial import faithfulness as faithfulness_module
from package.raises import unreached
from package.zoo import Zoo, ZooTests, rewritten

NOTHING = 0
TOKENS = np.array([5, 7, 2, 9, 4])

# What is checked. Each check is a function of the module, so that broken ones can be shown to fail.
CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def searching(function):
    """A check that takes longer, and so runs last."""
    function.generated = True
    return check(function)


def total(tokens):
    """A model for which every token counts by its number."""
    return tokens.sum(axis=1).astype(float)


def finds_nine(tokens):
    """A model that depends on one token."""
    return (tokens == 9).any(axis=1).astype(float)


def both_there(tokens):
    """A model that wants the 7 and the 2, and rather no 4."""
    there = [(tokens == number).any(axis=1) for number in (7, 2, 4)]
    return there[0] * there[1] - 0.25 * there[2]


@check
def curves_by_hand(api):
    ranking = np.array([3, 1, 0, 4, 2])  # 9, 7, 5, 4, 2
    falling = api.deletion_curve(total, TOKENS, ranking, replacement=NOTHING)
    rising = api.insertion_curve(total, TOKENS, ranking, replacement=NOTHING)
    np.testing.assert_array_equal(falling, [27, 18, 11, 6, 2, 0])
    np.testing.assert_array_equal(rising, [0, 9, 16, 21, 25, 27])


@check
def the_replacement_is_what_is_put_in(api):
    ranking = np.arange(5)
    falling = api.deletion_curve(total, TOKENS, ranking, replacement=100)
    rising = api.insertion_curve(total, TOKENS, ranking, replacement=100)
    np.testing.assert_array_equal(falling, [27, 122, 215, 313, 404, 500])
    np.testing.assert_array_equal(rising, [500, 405, 312, 214, 123, 27])
    np.testing.assert_array_equal(api.leave_one_out(total, TOKENS, replacement=100), TOKENS - 100)


@check
def inserting_is_deleting_from_the_other_end(api):
    rng = np.random.default_rng(0)

    def some_model(tokens):
        return np.sin(tokens * [1.0, 2, 3, 4, 5]).prod(axis=1)

    for _ in range(10):
        ranking = rng.permutation(5)
        np.testing.assert_allclose(
            api.insertion_curve(some_model, TOKENS, ranking, replacement=NOTHING),
            api.deletion_curve(some_model, TOKENS, ranking[::-1], replacement=NOTHING)[::-1],
        )


@check
def the_true_ranking_beats_all_others(api):
    """Only the 9 counts, so that each curve is a step whose place is known."""
    rng = np.random.default_rng(0)
    areas = []
    for place in range(5):
        ranking = np.insert(rng.permutation([0, 1, 2, 4]), place, 3)
        falling = api.deletion_curve(finds_nine, TOKENS, ranking, replacement=NOTHING)
        rising = api.insertion_curve(finds_nine, TOKENS, ranking, replacement=NOTHING)
        assert api.area_under(falling) == pytest.approx((place + 0.5) / 5)
        assert api.area_under(rising) == pytest.approx((4.5 - place) / 5)
        areas.append(api.area_under(falling))
    assert areas == sorted(areas)


@check
def leaving_one_out_by_hand(api):
    """Without the 7 or the 2 the answer falls, without the 4 it rises."""
    fallen = api.leave_one_out(both_there, TOKENS, replacement=NOTHING)
    np.testing.assert_allclose(fallen, [0, 1, 1, 0, -0.25])


@check
def leaving_one_out_misses_what_is_there_twice(api):
    fallen = api.leave_one_out(finds_nine, np.array([9, 3, 9]), replacement=NOTHING)
    np.testing.assert_array_equal(fallen, [0, 0, 0])


@check
def areas_by_hand(api):
    assert api.area_under(np.array([1.0, 1, 1, 1])) == 1
    assert api.area_under(np.linspace(1, 0, 7)) == pytest.approx(0.5)
    assert api.area_under(np.array([1.0, 0, 0])) == 0.25
    two = np.stack([np.ones(5), np.linspace(0, 1, 5)])
    np.testing.assert_allclose(api.area_under(two[:, None]), [[1], [0.5]])


@check
def total_variation_by_hand(api):
    p, q = np.array([[0.5, 0.5, 0], [1, 0, 0]]), np.array([[0.2, 0.5, 0.3], [0, 0.5, 0.5]])
    np.testing.assert_allclose(api.total_variation(p, q), [0.3, 1])
    np.testing.assert_allclose(api.total_variation(q, p), [0.3, 1])
    assert api.total_variation(torch.tensor(p), torch.tensor(q)).tolist() == [0.3, 1]
    spread = np.array([[[0.4, 0.4, 0.2, 0.0]]])  # (layer, n_q, n_k)
    np.testing.assert_allclose(api.total_variation(spread, spread[..., ::-1]), [[0.6]])
    assert not api.total_variation(spread, spread).any()


@check
def jensen_shannon_by_hand(api):
    """Nothing in common: ln 2. One element against two of the same weight: computed by hand."""
    p, q = np.array([[0.5, 0.5, 0], [1, 0, 0]]), np.array([[0, 0, 1], [0.5, 0.5, 0]])
    second = 0.5 * math.log(4 / 3) + 0.5 * (0.5 * math.log(2 / 3) + 0.5 * math.log(2))
    np.testing.assert_allclose(api.jensen_shannon(p, q), [math.log(2), second])
    np.testing.assert_allclose(api.jensen_shannon(q, p), [math.log(2), second])
    np.testing.assert_allclose(api.jensen_shannon(p, p), [0, 0])
    np.testing.assert_allclose(
        api.jensen_shannon(torch.tensor(p), torch.tensor(q)), [math.log(2), second]
    )


@check
def zeros_do_not_spoil_the_gradient(api):
    p = torch.tensor([0.7, 0.3, 0.0], requires_grad=True)
    api.jensen_shannon(p, torch.tensor([1.0, 0.0, 0.0])).backward()
    assert p.grad.isfinite().all()


@check
def norms_by_brute_force(api):
    rng = np.random.default_rng(0)
    weights = rng.dirichlet(np.ones(4), size=(2, 3))  # (n_heads, n_q, n_k)
    values, output = rng.normal(size=(2, 4, 5)), rng.normal(size=(5, 6))
    plain = api.value_weighted_norms(weights, values)
    through = api.value_weighted_norms(weights, values, output)
    assert plain.shape == through.shape == (2, 3, 4)
    for head, i, j in np.ndindex(2, 3, 4):
        vector = weights[head, i, j] * values[head, j]
        assert plain[head, i, j] == pytest.approx(np.linalg.norm(vector))
        assert through[head, i, j] == pytest.approx(np.linalg.norm(vector @ output))
    of_torch = api.value_weighted_norms(*map(torch.tensor, (weights, values, output)))
    np.testing.assert_allclose(of_torch.numpy(), through)


@check
def a_large_weight_on_nothing_adds_nothing(api):
    norms = api.value_weighted_norms(np.array([[0.9, 0.1]]), np.array([[0.0, 0], [3, 4]]))
    np.testing.assert_allclose(norms, [[0, 0.5]])


# Adversarial weights. Two words say the same here, the third something else.
ALIKE = torch.tensor([[0.9, 0.1], [0.9, 0.1], [0.2, 0.8]])
OWN = torch.tensor([[0.7, 0.1, 0.2], [0.1, 0.3, 0.6]])


@searching
def adversarial_weights_keep_the_output(api):
    for epsilon in (0.01, 0.1):
        other = api.adversarial_weights(
            lambda w: w @ ALIKE, OWN, epsilon=epsilon, starts=1, steps=20
        )
        moved = abs(other @ ALIKE - OWN @ ALIKE).sum(dim=1) / 2
        assert (moved <= epsilon + 1e-6).all()
        assert (other >= 0).all()
        torch.testing.assert_close(other.sum(dim=1), torch.ones(2))


@searching
def adversarial_weights_go_as_far_as_they_can(api):
    """All that the first two words have goes to the one that had less; the third keeps its own."""
    farthest = torch.tensor([[0.0, 0.8, 0.2], [0.4, 0.0, 0.6]])
    wanted = faithfulness_module.jensen_shannon(farthest, OWN)
    other = api.adversarial_weights(lambda w: w @ ALIKE, OWN, epsilon=0.001, starts=3, steps=150)
    found = faithfulness_module.jensen_shannon(other, OWN)
    assert (found > 0.95 * wanted).all()
    assert (found < 1.05 * wanted).all()


@searching
def adversarial_weights_stay_where_the_output_is_the_weights(api):
    other = api.adversarial_weights(lambda w: w, OWN, epsilon=0.01, starts=1, steps=20)
    assert (faithfulness_module.total_variation(other, OWN) < 0.0101).all()


@searching
def adversarial_weights_go_anywhere_where_the_output_is_constant(api):
    other = api.adversarial_weights(lambda w: 0 * w + 1 / 3, OWN, steps=60)
    found = faithfulness_module.jensen_shannon(other, OWN)
    # the farthest is all weight on the word that had least
    farthest = torch.nn.functional.one_hot(OWN.argmin(dim=1), 3).float()
    assert (found > 0.97 * faithfulness_module.jensen_shannon(farthest, OWN)).all()


@searching
def masked_words_get_no_weight(api):
    own = torch.tensor([[0.7, 0.3, 0.0, 0.0], [0.2, 0.2, 0.6, 0.0]])
    mask = torch.tensor([[True, True, False, False], [True, True, True, False]])
    other = api.adversarial_weights(lambda w: 0 * w + 0.25, own, mask=mask, steps=30)
    assert (other[~mask] == 0).all()
    assert (faithfulness_module.total_variation(other, own) > 0.5).all()


@searching
def where_there_is_no_choice_the_weights_are_the_own(api):
    own = torch.tensor([[1.0], [1.0]])
    assert torch.equal(api.adversarial_weights(lambda w: w, own, starts=1, steps=2), own)


@searching
def the_best_start_counts_for_each_row_and_the_seed_decides(api):
    def search(**options):
        return api.adversarial_weights(lambda w: w @ ALIKE, OWN, steps=10, **options)

    distances = torch.stack(
        [faithfulness_module.jensen_shannon(search(starts=n), OWN) for n in (1, 4)]
    )
    assert (distances.diff(dim=0) >= 0).all()
    assert (distances[1] > distances[0]).any()
    assert torch.equal(search(starts=1), search(starts=1))
    assert not torch.equal(search(starts=1), search(starts=1, seed=1))


@searching
def adversarial_weights_leave_the_parameters_alone(api):
    table = ALIKE.clone().requires_grad_()
    api.adversarial_weights(lambda w: w @ table, OWN, steps=3)
    assert table.grad is None


@check
def the_loss_of_an_adversary_by_hand(api):
    said, base = torch.tensor([[0.6, 0.4], [0.5, 0.5]]), torch.tensor([[0.5, 0.5], [0.5, 0.5]])
    own, other = torch.tensor([[0.5, 0.5], [1.0, 0.0]]), torch.tensor([[0.25, 0.75], [0.5, 0.5]])
    entropies = [0.5 * math.log(2) + 0.5 * math.log(2 / 3), math.log(2)]
    for divergence in (0.0, 0.3):
        loss = api.adversary_loss(said, own, base, other, divergence=divergence)
        wanted = (0.1 + 0) / 2 - divergence * sum(entropies) / 2
        assert loss.item() == pytest.approx(wanted, abs=1e-6)


BROKEN = {
    "not drawn back": ("found = _drawn_back(output_of, own, wanted, found, epsilon)", "pass"),
    "drawn back altogether": ("return own + inside * (found - own)", "return own + 0 * inside"),
    "descent for ascent": ("penalty * excess - jensen", "penalty * excess + jensen"),
    "no penalty": ("penalty * excess - ", "- "),
    "penalty for any movement": (
        "(total_variation(output_of(candidate), wanted) - epsilon).clamp(min=0)",
        "total_variation(output_of(candidate), wanted) + 5 * total_variation(candidate, own)",
    ),
    "mask forgotten at the end": (
        "return scores.detach().masked_fill(~mask, -torch.inf).softmax",
        "return scores.detach().softmax",
    ),
    "mask turned round": (
        "return scores.detach().masked_fill(~mask, -torch.inf)",
        "return scores.detach().masked_fill(mask, -torch.inf)",
    ),
    "the last start counts": (
        "best = torch.where(farther[:, None], found, best)",
        "best = found",
    ),
    "the best row decides for all": (
        "farther = jensen_shannon(found, own) > jensen_shannon(best, own)",
        "farther = (jensen_shannon(found, own) < jensen_shannon(best, own)).flip(0)",
    ),
    "every start the same": ("seed(seed)\n    best", "seed(7)\n    best"),
    "some weight for nobody": (
        "best = own\n",
        "best = own / (1 + own[:, :1])\n",
    ),
    "gradients into the model": (
        "(scores.grad,) = torch.autograd.grad(loss, [scores])",
        "loss.backward()",
    ),
    "order of deletion off by one": (
        "deleted = place < np.arange(len(tokens) + 1)[:, None]",
        "deleted = place <= np.arange(len(tokens) + 1)[:, None]",
    ),
    "least important deleted first": (
        "deleted = place < np.arange(len(tokens) + 1)[:, None]",
        "deleted = place >= np.arange(len(tokens) + 1)[::-1, None]",
    ),
    "insertion from the wrong end": (
        "inserted = place < np.arange(len(tokens) + 1)[:, None]",
        "inserted = place >= np.arange(len(tokens) + 1)[::-1, None]",
    ),
    "insertion that deletes": (
        "np.where(inserted, tokens, replacement)",
        "np.where(inserted, replacement, tokens)",
    ),
    "ranking taken for the places": ("return np.argsort(ranking)", "return ranking"),
    "tokens only set to zero": (
        "np.where(deleted, replacement, tokens)",
        "np.where(deleted, 0, tokens)",
    ),
    "left out the neighbour": (
        "np.eye(n + 1, n, -1, dtype=bool)",
        "np.eye(n + 1, n, 0, dtype=bool)",
    ),
    "left all others out": (
        "np.where(left_out, replacement, tokens)",
        "np.where(left_out | ~left_out.any(1)[:, None], tokens, replacement)",
    ),
    "rise for fall": ("answers[0] - answers[1:]", "answers[1:] - answers[0]"),
    "fall without its sign": ("answers[0] - answers[1:]", "abs(answers[0] - answers[1:])"),
    "area as the mean of the points": (
        "((curve[..., 1:] + curve[..., :-1]) / 2).mean(axis=-1)",
        "curve.mean(axis=-1)",
    ),
    "area over the number of words": (
        "((curve[..., 1:] + curve[..., :-1]) / 2).mean(axis=-1)",
        "((curve[..., 1:] + curve[..., :-1]) / 2).sum(axis=-1)",
    ),
    "area over all curves": ("/ 2).mean(axis=-1)", "/ 2).mean()"),
    "half forgotten": ("axis=-1) / 2\n\n\ndef jensen", "axis=-1)\n\n\ndef jensen"),
    "differences with their signs": ("xp.abs(p - q)", "(p - q)"),
    "relative entropy for Jensen-Shannon": (
        "_relative_entropy(xp, p, (p + q) / 2) + _relative_entropy(xp, q, (p + q) / 2)",
        "_relative_entropy(xp, p, q) + _relative_entropy(xp, p, q)",
    ),
    "in bits": ("p * (xp.log(", "p / 0.6931472 * (xp.log("),
    "zeros not guarded": ("there = p > 0", "there = p >= 0"),
    "norms without the weights": (
        "xp.abs(weights) * norms[..., None, :]",
        "0 * weights + norms[..., None, :]",
    ),
    "squared norms": (
        "norms = xp.sqrt(xp.sum(values * values, axis=-1))",
        "norms = xp.sum(values * values, axis=-1)",
    ),
    "output matrix forgotten": ("values = values @ output", "pass"),
    "output matrix turned": ("values = values @ output", "values = values @ output.T"),
    "norms of the queries": ("norms[..., None, :]", "norms[..., :3, None]"),
    "entropy the other way round": (
        "_relative_entropy(xp, weights, base_weights)",
        "_relative_entropy(xp, base_weights, weights)",
    ),
    "different outputs wanted": ("(moved - divergence", "(-moved - divergence"),
    "same weights wanted": ("(moved - divergence *", "(moved + divergence *"),
}


class TestFaithfulness(ZooTests):
    zoo = Zoo(CHECKS, rewritten(faithfulness_module, BROKEN), BROKEN)


# Errors

ROWS = torch.tensor([[0.5, 0.5]])
MISTAKES = {
    "tokens of two axes": (
        lambda api: api.deletion_curve(total, TOKENS[None], np.arange(5), replacement=0),
        r"tokens must have shape \(n,\).*got \(1, 5\)",
    ),
    "no tokens": (
        lambda api: api.leave_one_out(total, TOKENS[:0], replacement=0),
        r"tokens must have shape \(n,\) with n at least 1; got \(0,\)",
    ),
    "a position twice": (
        lambda api: api.insertion_curve(total, TOKENS, np.array([0, 1, 2, 3, 3]), replacement=0),
        r"ranking must hold each position from 0 to 4 once; got \[0, 1, 2, 3, 3\]",
    ),
    "importance instead of a ranking": (
        lambda api: api.deletion_curve(total, TOKENS, np.linspace(0, 1, 5), replacement=0),
        "ranking must hold each position from 0 to 4 once",
    ),
    "all kinds answered": (
        lambda api: api.leave_one_out(lambda t: np.ones((len(t), 7)), TOKENS, replacement=0),
        r"predict must return shape \(m,\) = \(6,\).*got \(6, 7\)",
    ),
    "one point": (
        lambda api: api.area_under(np.ones((3, 1))),
        r"curve must have shape \(..., n_points >= 2\); got \(3, 1\)",
    ),
    "rows of two lengths": (
        lambda api: api.jensen_shannon(np.ones(2), np.ones(3)),
        r"p and q must have one shape \(..., n\); got shapes \(2,\) and \(3,\)",
    ),
    "keys and values": (
        lambda api: api.value_weighted_norms(np.ones((1, 2)), np.ones((3, 4))),
        r"must agree in n_k; got shapes \(1, 2\) and \(3, 4\)",
    ),
    "the output matrix": (
        lambda api: api.value_weighted_norms(np.ones((1, 3)), np.ones((3, 4)), np.ones((5, 4))),
        r"output must have shape \(d_v, d_out\) with d_v = 4; got \(5, 4\)",
    ),
    "weights that are none": (
        lambda api: api.adversarial_weights(lambda w: w, 2 * ROWS),
        "weights must have shape .* rows that sum to one",
    ),
    "a mask of another shape": (
        lambda api: api.adversarial_weights(lambda w: w, ROWS, mask=torch.ones(2, 2).bool()),
        r"mask must have the shape of weights, \(1, 2\); got \(2, 2\)",
    ),
    "a mask over a weight": (
        lambda api: api.adversarial_weights(lambda w: w, ROWS, mask=torch.tensor([[True, False]])),
        "mask must be True wherever weights are positive",
    ),
    "no epsilon": (
        lambda api: api.adversarial_weights(lambda w: w, ROWS, epsilon=0.0),
        "epsilon must be positive; got 0.0",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_named(name):
    call, message = MISTAKES[name]
    with pytest.raises(ValueError, match=message):
        call(faithfulness_module)


def test_divergences_want_floating_point_numbers():
    with pytest.raises(TypeError, match="p must hold floating-point numbers"):
        faithfulness_module.total_variation(np.array([1, 0]), np.array([0, 1]))


def test_every_error_is_tested():
    calls = [lambda call=call: call(faithfulness_module) for call, _ in MISTAKES.values()]
    assert unreached(["faithfulness"], calls) == set()
