"""What a head does, in numbers: on hand-made heads whose numbers are known, and by broken code."""

import math

import numpy as np
import pytest
import torch

from attn_tutorial import causal_mask, heads, padding_mask, softmax
from package.raises import unreached
from package.zoo import Zoo, ZooTests, rewritten

CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def uniform(n_q, n_k):
    return np.full((n_q, n_k), 1 / n_k)


def looks_back(n, steps):
    """Each query looks as many steps back, the first ones at the first key."""
    weights = np.zeros((n, n))
    weights[np.arange(n), np.maximum(np.arange(n) - steps, 0)] = 1
    return weights


def random_weights(*shape, seed=0):
    return softmax(2 * np.random.default_rng(seed).normal(size=shape))


def causal_uniform(n):
    return np.tril(np.ones((n, n))) / np.arange(1, n + 1)[:, None]


# --- checks ----------------------------------------------------------------------------------


@check
def equal_weights_have_the_logarithm_of_their_number(api):
    np.testing.assert_allclose(api.entropy(uniform(3, 7)), np.full(3, math.log(7)))
    np.testing.assert_allclose(api.entropy(causal_uniform(5)), np.log(np.arange(1, 6)), atol=1e-12)
    np.testing.assert_allclose(api.entropy(uniform(3, 7), normalised=True), np.ones(3))


@check
def a_single_key_has_no_entropy(api):
    for steps in (0, 2):
        assert np.array_equal(api.entropy(looks_back(6, steps)), np.zeros(6))


@check
def entropy_is_its_formula(api):
    weights = random_weights(2, 3, 4, 5)
    result = api.entropy(weights)
    assert result.shape == (2, 3, 4)
    for place in np.ndindex(2, 3, 4):
        by_hand = -sum(w * math.log(w) for w in weights[place])
        assert math.isclose(result[place], by_hand)


@check
def normalised_entropy_counts_the_keys_that_are_allowed(api):
    mask = causal_mask(5, 5)
    result = api.entropy(causal_uniform(5), mask, normalised=True)
    assert np.isnan(result[0])  # one key: no choice
    np.testing.assert_allclose(result[1:], np.ones(4))
    # Masks broadcast: one mask for a batch of heads, one length for each sequence.
    lengths = padding_mask([[2], [4]], 4)  # (2, 1, 1, 4)
    weights = np.broadcast_to(lengths / lengths.sum(-1, keepdims=True), (2, 3, 5, 4))
    np.testing.assert_allclose(api.entropy(weights, lengths, normalised=True), np.ones((2, 3, 5)))


@check
def a_row_with_nothing_to_attend_to_counts_nowhere(api):
    weights = uniform(3, 4)
    weights[1] = 0
    for result in (api.entropy(weights), api.mean_distance(weights)):
        assert np.isnan(result).tolist() == [False, True, False]


@check
def distance_is_how_far_a_head_looks(api):
    assert np.array_equal(api.mean_distance(looks_back(6, 2)), [0, 1, 2, 2, 2, 2])
    assert np.array_equal(api.mean_distance(looks_back(6, 0)), np.zeros(6))
    forwards = looks_back(6, 2)[::-1, ::-1]
    assert np.array_equal(api.mean_distance(forwards), [2, 2, 2, 2, 1, 0])
    # The first of four equal weights is 0 steps away, the last 3.
    np.testing.assert_allclose(api.mean_distance(uniform(4, 4)), [1.5, 1, 1, 1.5])
    assert api.mean_distance(random_weights(2, 3, 4, 4)).shape == (2, 3, 4)


@check
def distance_knows_where_the_queries_stand(api):
    whole = looks_back(6, 2)
    np.testing.assert_array_equal(
        api.mean_distance(whole[4:], offset=4), api.mean_distance(whole)[4:]
    )


@check
def the_profile_of_a_shifted_head_is_a_single_one(api):
    offsets, profile = api.offset_profile(looks_back(6, 2)[2:], offset=2)
    assert offsets.tolist() == list(range(-5, 4))
    assert profile.tolist() == [1.0 if offset == -2 else 0.0 for offset in offsets]


@check
def the_profile_is_a_mean_over_the_queries_that_have_such_a_key(api):
    weights = random_weights(2, 4, 6)
    offsets, profile = api.offset_profile(weights)
    assert profile.shape == (2, 9)
    for place, offset in enumerate(offsets):
        there = [weights[:, i, i + offset] for i in range(4) if 0 <= i + offset < 6]
        np.testing.assert_allclose(profile[:, place], np.mean(there, axis=0))


@check
def the_previous_token_score_is_one_for_such_a_head_only(api):
    assert api.previous_token_score(looks_back(6, 1)) == 1
    assert api.previous_token_score(looks_back(6, 2)) == 1 / 5  # the second query's first key
    np.testing.assert_allclose(api.previous_token_score(uniform(5, 5)), 1 / 5)
    n = 5
    by_hand = np.mean([1 / (i + 1) for i in range(1, n)])
    np.testing.assert_allclose(api.previous_token_score(causal_uniform(n)), by_hand)
    assert api.previous_token_score(random_weights(2, 3, 4, 4)).shape == (2, 3)


@check
def the_next_token_is_not_the_previous_one(api):
    ahead = np.eye(5)[[1, 2, 3, 4, 4]]
    assert api.previous_token_score(ahead) == 0


@check
def words_get_the_sum_of_their_pieces_and_the_mean_of_their_rows(api):
    weights = np.array([[0.1, 0.2, 0.7], [0.3, 0.3, 0.4], [0.0, 1.0, 0.0]])
    together = api.between_groups(weights, [0, 0, 1], [1, 0, 1])
    np.testing.assert_allclose(together, [[0.25, 0.75], [1.0, 0.0]])
    many = random_weights(2, 3, 4, 6)
    result = api.between_groups(many, [1, 0, 1, 2], [2, 2, 0, 1, 1, 1])
    assert result.shape == (2, 3, 3, 3)
    np.testing.assert_allclose(result.sum(axis=-1), np.ones((2, 3, 3)))
    np.testing.assert_allclose(result[1, 2, 1, 1], many[1, 2, [0, 2], 3:].sum(-1).mean())
    alone = api.between_groups(many, range(4), range(6))
    np.testing.assert_allclose(alone, many)


@check
def weights_are_told_from_scores(api):
    for weights in (
        random_weights(3, 4),
        random_weights(2, 3, 4).astype(np.float16),
        np.zeros((2, 3)),
        np.eye(2, dtype=np.float32),
    ):
        api.check_weights(weights)
    rng = np.random.default_rng(0)
    half = np.array([[0.5, 0.5], [0.5, 0.2]])
    for scores in (
        rng.normal(size=(3, 4)),
        np.array([[1.5, -0.5]]),
        half,
        -np.eye(2),
        half * np.nan,
    ):
        with pytest.raises(ValueError, match=r"must be from 0 to 1|must sum to one"):
            api.check_weights(scores)
    with pytest.raises(ValueError, match="must sum to one"):
        api.check_weights(random_weights(3, 4).T.copy())


@check
def a_mask_that_is_turned_round_is_refused(api):
    mask = causal_mask(4, 4)
    for good in (mask, mask[None], np.ones((4, 4), dtype=bool), np.array([True])):
        api.check_weights(causal_uniform(4)[None], good)
    with pytest.raises(ValueError, match=r"False where a weight is 1, at \(0, 0\)"):
        api.check_weights(causal_uniform(4), ~mask)


# --- the package passes, and broken versions do not --------------------------------------------


BROKEN = {
    "entropy in bits": (
        "np.log(np.where(wide > 0, wide, 1))",
        "np.log2(np.where(wide > 0, wide, 1))",
    ),
    "entropy without its sign": ("-(wide * logarithms)", "(wide * logarithms)"),
    "entropy of the columns": ("logarithms).sum(axis=-1)", "logarithms).sum(axis=-2)"),
    "entropy of a head and not of a query": (
        "(wide * logarithms).sum(axis=-1)",
        "(wide * logarithms).sum(axis=(-1, -2))[..., None] + 0 * wide[..., 0]",
    ),
    "the logarithm of zero": ("np.where(wide > 0, wide, 1)", "wide"),
    "mean in place of sum": ("logarithms).sum(axis=-1)", "logarithms).mean(axis=-1)"),
    "normalised by all keys": ("True if mask is None else mask, weights", "True, weights"),
    "normalised by the number of keys": ("np.log(np.maximum(allowed, 2))", "allowed"),
    "one allowed key counts as one": (
        "np.where(allowed > 1, nats / np.log(np.maximum(allowed, 2)), np.nan)",
        "nats / np.log(np.maximum(allowed, 2))",
    ),
    "an empty row counts as zero": ("results, np.nan)", "results, 0.0)"),
    "distances with a sign": ("np.abs(_offsets(weights, offset))", "_offsets(weights, offset)"),
    "distances of the square": (
        "np.abs(_offsets(weights, offset))",
        "_offsets(weights, offset) ** 2",
    ),
    "the offset turned round": ("[:, None] + offset)", "[:, None] - offset)"),
    "keys and queries exchanged": (
        "np.arange(n_k) - (np.arange(n_q)[:, None] + offset)",
        "np.arange(n_q)[:, None] + offset - np.arange(n_k)",
    ),
    "a profile of sums": ("distance].mean(axis=-1)", "distance].sum(axis=-1)"),
    "a profile without its last offset": ("relative.max() + 1)", "relative.max())"),
    "the next token": ("offset=-1, axis1=-2", "offset=1, axis1=-2"),
    "the token itself": ("offset=-1, axis1=-2", "offset=0, axis1=-2"),
    "the largest previous weight": ("axis2=-1).mean(axis=-1)", "axis2=-1).max(axis=-1)"),
    "the first layer's axes": ("axis1=-2, axis2=-1", "axis1=0, axis2=1"),
    "the mean of the pieces as keys": (
        "mean.T @ weights @ of_keys",
        "mean.T @ weights @ (of_keys / of_keys.sum(axis=0))",
    ),
    "the sum of the rows": ("mean.T @ weights", "of_queries.T @ weights"),
    "groups exchanged": (
        "mean.T @ weights @ of_keys",
        "np.swapaxes(mean.T @ weights @ of_keys, -1, -2)",
    ),
    "columns that sum to one": (
        "weights.sum(axis=-1, dtype=np.float64)",
        "weights.sum(axis=-2, dtype=np.float64)",
    ),
    "no row need sum to one": ("> TOLERANCE) & (weights != 0).any(axis=-1)", "> 1e9)"),
    "negative weights pass": ("(weights >= -TOLERANCE).all()", "True"),
    "a row of zeros is refused": ("& (weights != 0).any(axis=-1)", "& True"),
    "the mask is not looked at": ("~allowed & (weights > TOLERANCE)", "allowed & ~allowed"),
    "the mask turned round": ("~allowed & (weights", "allowed & (weights"),
    "too strict for float16": ("TOLERANCE = 5e-3", "TOLERANCE = 1e-6"),
}


class TestHeads(ZooTests):
    zoo = Zoo(CHECKS, rewritten(heads, BROKEN), BROKEN)


ERRORS = {
    "not floating": (TypeError, lambda: heads.entropy(np.eye(2, dtype=int))),
    "torch": (TypeError, lambda: heads.entropy(torch.eye(2))),
    "one axis": (ValueError, lambda: heads.entropy(np.ones(1))),
    "no key": (ValueError, lambda: heads.entropy(np.ones((2, 0)))),
    "negative": (ValueError, lambda: heads.entropy(np.array([[1.5, -0.5]]))),
    "sums": (ValueError, lambda: heads.entropy(np.ones((2, 2)))),
    "mask of numbers": (TypeError, lambda: heads.entropy(np.eye(2), np.eye(2))),
    "mask of another shape": (ValueError, lambda: heads.entropy(np.eye(2), causal_mask(3, 3))),
    "mask turned round": (ValueError, lambda: heads.entropy(np.eye(2), ~causal_mask(2, 2))),
    "not square": (ValueError, lambda: heads.previous_token_score(uniform(2, 3))),
    "a single token": (ValueError, lambda: heads.previous_token_score(np.ones((1, 1)))),
    "too few groups": (ValueError, lambda: heads.between_groups(np.eye(2), [0], [0, 1])),
    "a group left out": (ValueError, lambda: heads.between_groups(np.eye(2), [0, 2], [0, 1])),
    "groups of floats": (TypeError, lambda: heads.between_groups(np.eye(2), [0.0, 1.0], [0, 1])),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name):
    kind, call = ERRORS[name]
    with pytest.raises(kind):
        call()


def test_messages_name_the_argument_and_the_shape():
    with pytest.raises(ValueError, match=r"row \(1,\) of shape \(2, 2\)"):
        heads.entropy(np.array([[0.5, 0.5], [1.0, 1.0]]))
    with pytest.raises(ValueError, match=r"query_groups must have shape \(2,\)"):
        heads.between_groups(np.eye(2), [0], [0, 1])
    with pytest.raises(TypeError, match="weights must be a NumPy array; got one of torch"):
        heads.entropy(torch.eye(2))


def test_every_error_of_the_module_is_tested():
    assert unreached(["heads"], [call for _, call in ERRORS.values()]) == set()
