"""Positions: the formulas, what each scheme guarantees, other libraries, and a zoo of broken ones.

A check is a function of `api`, a namespace with the functions of attn_tutorial.positions. It passes
on the package and fails on at least one of the broken versions; each of these fails some check.
"""

import math
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from beartype import beartype
from jaxtyping import jaxtyped

from attn_tutorial import attention, causal_mask, positions
from package.raises import unreached
from package.zoo import Zoo, ZooTests, replaced

FUNCTIONS = ("sinusoidal_positions", "rotate", "relative_positions", "alibi_slopes", "alibi_bias")


def rotary_scores(api, query, key, offset=0, **options):
    """Dot products of rotated queries and keys; the first query stands at `offset`."""
    turned_query = api.rotate(query, offset=offset, **options)  # (..., n_q, d)
    turned_key = api.rotate(key, **options)  # (..., n_k, d)
    return turned_query @ turned_key.swapaxes(-1, -2)


def package_api() -> SimpleNamespace:
    functions = {name: getattr(positions, name) for name in FUNCTIONS}
    return SimpleNamespace(**functions, rotary_scores=rotary_scores)


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


# --- the formulas, element by element ----------------------------------------------------------


@check
def sinusoids_follow_the_formula(api):
    for n, width, base, offset in ((5, 6, 10000.0, 0), (3, 4, 100.0, 7), (4, 2, 10000.0, -3)):
        table = api.sinusoidal_positions(n, width, base=base, offset=offset)
        assert table.shape == (n, width)
        assert table.dtype == np.float64
        for row in range(n):
            for i in range(width // 2):
                angle = (row + offset) / base ** (2 * i / width)
                assert math.isclose(table[row, 2 * i], math.sin(angle), abs_tol=1e-12)
                assert math.isclose(table[row, 2 * i + 1], math.cos(angle), abs_tol=1e-12)
    assert api.sinusoidal_positions(0, 4).shape == (0, 4)


@check
def pairs_turn_by_the_formula(api):
    for layout in positions.LAYOUTS:
        for base, offset in ((10000.0, 0), (50.0, 9)):
            array = numbers(2, 3, 6)
            turned = api.rotate(array, offset=offset, base=base, layout=layout)
            for row in range(3):
                for i in range(3):
                    pair = [2 * i, 2 * i + 1] if layout == "interleaved" else [i, i + 3]
                    angle = (row + offset) * base ** (-2 * i / 6)
                    turn = [
                        [math.cos(angle), -math.sin(angle)],
                        [math.sin(angle), math.cos(angle)],
                    ]
                    assert np.allclose(
                        turned[:, row, pair], array[:, row, pair] @ np.transpose(turn)
                    )


@check
def interleaved_is_the_default(api):
    array = numbers(3, 6)
    assert np.array_equal(api.rotate(array), api.rotate(array, layout="interleaved"))


@check
def relative_positions_follow_the_formula(api):
    for n_q, n_k, offset in ((3, 5, 0), (2, 4, 2), (0, 3, 1)):
        relative = api.relative_positions(n_q, n_k, offset)
        assert relative.tolist() == [[j - i - offset for j in range(n_k)] for i in range(n_q)]
        assert relative.shape == (n_q, n_k)


@check
def slopes_follow_the_paper(api):
    assert api.alibi_slopes(8).tolist() == [1 / 2**h for h in range(1, 9)]
    assert np.allclose(api.alibi_slopes(16), [2 ** (-h / 2) for h in range(1, 17)])
    for n_heads in (1, 2, 3, 6, 12, 64):
        slopes = api.alibi_slopes(n_heads)
        start = 2 ** (-8 / n_heads)  # which is the ratio, too
        assert np.allclose(slopes, [start**h for h in range(1, n_heads + 1)])


@check
def the_penalty_is_slope_times_distance(api):
    for n_heads, n_q, n_k, offset in ((2, 4, 4, 0), (3, 2, 6, 4), (1, 1, 9, 8)):
        bias = api.alibi_bias(n_heads, n_q, n_k, offset)
        assert bias.shape == (n_heads, n_q, n_k)
        for h in range(n_heads):
            for i in range(n_q):
                for j in range(n_k):
                    wanted = -(2 ** (-8 * (h + 1) / n_heads)) * abs(i + offset - j)
                    assert math.isclose(bias[h, i, j], wanted, abs_tol=1e-12)


# --- what each scheme guarantees ---------------------------------------------------------------


@check
def a_shift_of_sinusoids_is_one_fixed_turn(api):
    width, shift = 8, 5
    table = api.sinusoidal_positions(40, width)
    move = np.zeros((width, width))
    for i in range(width // 2):
        angle = shift * 10000.0 ** (-2 * i / width)
        block = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
        move[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = block
    assert np.allclose(table[:-shift] @ move, table[shift:])


@check
def dot_products_of_sinusoids_depend_on_the_offset_alone(api):
    table = api.sinusoidal_positions(30, 16)
    products = table @ table.T
    for offset in range(30):
        diagonal = np.diagonal(products, offset)
        assert np.allclose(diagonal, diagonal[0])


@check
def rotary_scores_depend_on_the_offset_alone(api):
    query, key = numbers(1, 8), numbers(1, 8, seed=1)
    for layout in positions.LAYOUTS:
        for distance in (-4, 0, 3):
            scores = []
            for place in (4, 11, 500):
                turned_query = api.rotate(query, offset=place, layout=layout)
                turned_key = api.rotate(key, offset=place + distance, layout=layout)
                scores.append((turned_query @ turned_key.T).item())
            assert np.allclose(scores, scores[0])
    # The same in one call; and a distance does change the score.
    same = api.rotary_scores(api, np.tile(query, (6, 1)), np.tile(key, (9, 1)), offset=2)
    for i in range(5):
        assert np.allclose(same[i, :8], same[i + 1, 1:])
    assert not np.isclose(same[0, 0], same[0, 1])


@check
def turning_keeps_lengths(api):
    array = numbers(2, 5, 10)
    for layout in positions.LAYOUTS:
        turned = api.rotate(array, offset=3, layout=layout)
        assert np.allclose(np.linalg.norm(turned, axis=-1), np.linalg.norm(array, axis=-1))


@check
def position_zero_changes_nothing(api):
    array = numbers(1, 6)
    assert np.allclose(api.rotate(array), array)


@check
def a_permutation_maps_one_layout_to_the_other(api):
    array = numbers(2, 7, 8)
    to_halves = np.concatenate([np.arange(0, 8, 2), np.arange(1, 8, 2)])  # even ones first
    turned = api.rotate(array, layout="interleaved")
    assert np.allclose(api.rotate(array[..., to_halves], layout="halves"), turned[..., to_halves])
    assert not np.allclose(api.rotate(array, layout="halves"), turned, atol=0.1)
    key = numbers(2, 7, 8, seed=1)
    assert np.allclose(
        api.rotary_scores(api, array[..., to_halves], key[..., to_halves], layout="halves"),
        api.rotary_scores(api, array, key, layout="interleaved"),
    )


@check
def one_step_with_a_cache_equals_all_at_once(api):
    n, n_heads, width = 6, 2, 4
    x = numbers(n, width) + api.sinusoidal_positions(n, width)
    query, key, value = x @ numbers(3, n_heads, width, width, seed=1)
    bias = np.where(causal_mask(n, n), api.alibi_bias(n_heads, n, n), -np.inf)
    whole, _ = attention(api.rotate(query), api.rotate(key), value, mask=bias)
    cache = []
    for step in range(n):
        new = numbers(n, width)[step : step + 1]
        new = new + api.sinusoidal_positions(1, width, offset=step)
        assert np.allclose(new, x[step])
        cache.append(api.rotate(key[:, step : step + 1], offset=step))
        output, _ = attention(
            api.rotate(query[:, step : step + 1], offset=step),
            np.concatenate(cache, axis=1),
            value[:, : step + 1],
            mask=api.alibi_bias(n_heads, 1, step + 1, offset=step),
        )
        assert np.allclose(output[:, 0], whole[:, step])


@check
def positions_may_be_given(api):
    array = numbers(2, 3, 4)
    assert np.allclose(api.rotate(array, positions=np.arange(3) + 5), api.rotate(array, offset=5))
    each = np.array([[0, 1, 2], [7, 9, 8]])  # a sequence has its own
    turned = api.rotate(array, positions=each)
    for sequence in range(2):
        for row in range(3):
            alone = api.rotate(array[sequence, row][None], offset=int(each[sequence, row]))
            assert np.allclose(turned[sequence, row], alone[0])
    # Between two whole positions there is one half-way.
    half = api.rotate(array[:, :1], positions=np.array([0.5]))
    assert np.allclose(
        api.rotate(half, positions=np.array([0.5])), api.rotate(array[:, :1], offset=1)
    )


# --- arrays ------------------------------------------------------------------------------------


@check
def numpy_and_torch_agree(api):
    array = numbers(2, 5, 6)
    for layout in positions.LAYOUTS:
        by_torch = api.rotate(torch.from_numpy(array), offset=4, layout=layout)
        assert np.allclose(api.rotate(array, offset=4, layout=layout), by_torch.numpy())
    each = torch.tensor([[3, 4, 5, 6, 7], [0, 2, 4, 6, 8]])
    assert np.allclose(
        api.rotate(array, positions=each.numpy()),
        api.rotate(torch.from_numpy(array), positions=each).numpy(),
    )


@check
def dtypes_are_kept_and_large_positions_exact(api):
    array = numbers(3, 8)
    exact = api.rotate(array, offset=100_000)
    for dtype, tolerance in ((np.float16, 5e-3), (np.float32, 1e-5), (np.float64, 1e-12)):
        turned = api.rotate(array.astype(dtype), offset=100_000)
        assert turned.dtype == dtype
        assert np.allclose(turned, exact, atol=tolerance)
    for dtype in (torch.bfloat16, torch.float16, torch.float32, torch.float64):
        turned = api.rotate(torch.from_numpy(array).to(dtype), offset=100_000)
        assert turned.dtype == dtype
        assert np.allclose(turned.double().numpy(), exact, atol=4e-2)


@check
def the_argument_is_left_alone(api):
    array = numbers(3, 4)
    before = array.copy()
    api.rotate(array, offset=1)
    assert np.array_equal(array, before)


@check
def gradients_flow(api):
    array = torch.from_numpy(numbers(2, 3, 4)).requires_grad_()
    for layout in positions.LAYOUTS:
        # Every float64 entry is compared with a numerical derivative.
        assert torch.autograd.gradcheck(
            lambda x, layout=layout: api.rotate(x, offset=2, layout=layout), array
        )


# --- a zoo of broken versions ------------------------------------------------------------------

BROKEN = {}


def broken(replaces: str):
    """Register a broken version of a function; its docstring says what is wrong."""

    def register(function):
        BROKEN[function.__name__] = (replaces, function)
        return function

    return register


def sinusoids(n, d_model, *, base=10000.0, offset=0, exponent=None, order=None, start=0):
    """The table with its parts exchangeable; without the last three arguments it is right."""
    i = np.arange(d_model // 2)
    powers = 2 * i / d_model if exponent is None else exponent(i, d_model)
    angles = (np.arange(n) + offset + start)[:, None] / float(base) ** powers
    pair = order or (lambda angles: np.stack([np.sin(angles), np.cos(angles)], axis=-1))
    return pair(angles).reshape(n, d_model)


def turn(
    array,
    *,
    offset=0,
    positions=None,
    base=10000.0,
    layout="interleaved",
    exponent=None,
    place=None,
    sign=1,
    reflect=False,
    cross=True,
    pairs=None,
):
    """The rotation with its parts exchangeable; without the arguments after layout it is right."""
    is_torch = isinstance(array, torch.Tensor)
    x = array if is_torch else torch.from_numpy(array)
    width = x.shape[-1]
    if positions is None:
        positions = np.arange(x.shape[-2]) + offset
    if place is not None:
        positions = place(positions, x)
    i = np.arange(width // 2)
    powers = 2 * i / width if exponent is None else exponent(i, width)
    angles = torch.as_tensor(positions).double()[..., None] / float(base) ** torch.from_numpy(
        powers
    )
    wide = x.double()
    cosine, sine = angles.cos(), sign * angles.sin()
    interleaved = (pairs or layout) == "interleaved"
    half = width // 2
    first = wide[..., 0::2] if interleaved else wide[..., :half]
    second = wide[..., 1::2] if interleaved else wide[..., half:]
    if not cross:
        turned = first * cosine, second * cosine
    elif reflect:
        turned = first * cosine + second * sine, first * sine - second * cosine
    else:
        turned = first * cosine - second * sine, first * sine + second * cosine
    if interleaved:
        result = torch.stack(turned, dim=-1).reshape(x.shape)
    else:
        result = torch.cat(turned, dim=-1)
    result = result.to(x.dtype)
    return result if is_torch else result.numpy()


@broken("sinusoidal_positions")
def exponent_i_over_d(n, d_model, **options):
    """The exponent is i/d, not 2i/d."""
    return sinusoids(n, d_model, exponent=lambda i, d: i / d, **options)


@broken("sinusoidal_positions")
def exponent_without_division(n, d_model, **options):
    """The exponent is 2i, not 2i/d."""
    return sinusoids(n, d_model, exponent=lambda i, d: 2.0 * i, **options)


@broken("sinusoidal_positions")
def exponent_that_reaches_one(n, d_model, **options):
    """The exponent is i/(d/2 - 1), so that the slowest wave has the whole base."""
    return sinusoids(n, d_model, exponent=lambda i, d: i / max(d / 2 - 1, 1), **options)


@broken("sinusoidal_positions")
def cosine_first(n, d_model, **options):
    """Sine and cosine are exchanged."""
    return sinusoids(
        n, d_model, order=lambda a: np.stack([np.cos(a), np.sin(a)], axis=-1), **options
    )


@broken("sinusoidal_positions")
def sines_then_cosines(n, d_model, **options):
    """All sines, then all cosines."""
    return sinusoids(
        n, d_model, order=lambda a: np.concatenate([np.sin(a), np.cos(a)], axis=-1), **options
    )


@broken("sinusoidal_positions")
def sines_only(n, d_model, **options):
    """Sines in both places: no turn maps one position to the next."""
    return sinusoids(
        n, d_model, order=lambda a: np.stack([np.sin(a), np.sin(a)], axis=-1), **options
    )


@broken("sinusoidal_positions")
def positions_from_one(n, d_model, **options):
    """The first position is 1."""
    return sinusoids(n, d_model, start=1, **options)


@broken("sinusoidal_positions")
def table_without_offset(n, d_model, *, offset=0, **options):
    """The offset is ignored: every new vector stands at position 0."""
    return sinusoids(n, d_model, **options)


@broken("sinusoidal_positions")
def table_without_base(n, d_model, *, base=0.0, **options):
    """The base is ignored."""
    return sinusoids(n, d_model, **options)


@broken("rotate")
def pairs_of_the_other_layout(array, *, layout="interleaved", **options):
    """Interleaved and halves are exchanged."""
    return turn(array, pairs="halves" if layout == "interleaved" else "interleaved", **options)


@broken("rotate")
def layout_ignored(array, *, layout="", **options):
    """Always interleaved."""
    return turn(array, **options)


@broken("rotate")
def halves_by_default(array, *, layout="halves", **options):
    """The default is the other layout."""
    return turn(array, layout=layout, **options)


@broken("rotate")
def turned_backwards(array, **options):
    """The angle is negated, for queries and keys alike."""
    return turn(array, sign=-1, **options)


@broken("rotary_scores")
def keys_turned_backwards(api, query, key, offset=0, **options):
    """The angle is negated for keys only: scores depend on the sum of the positions."""
    return turn(query, offset=offset, **options) @ turn(key, sign=-1, **options).swapaxes(-1, -2)


@broken("rotary_scores")
def only_queries_turned(api, query, key, offset=0, **options):
    """The keys are not rotated."""
    return turn(query, offset=offset, **options) @ key.swapaxes(-1, -2)


@broken("rotate")
def reflected(array, **options):
    """A reflection, which keeps lengths but is no turn."""
    return turn(array, reflect=True, **options)


@broken("rotate")
def cosine_alone(array, **options):
    """The two features of a pair are not mixed."""
    return turn(array, cross=False, **options)


@broken("rotate")
def always_position_zero_first(array, *, offset=0, **options):
    """The offset is ignored: in decoding every query stands at position 0."""
    return turn(array, **options)


@broken("rotate")
def given_positions_ignored(array, *, positions=None, **options):
    """Rows count from 0 whatever positions are given."""
    return turn(array, **options)


@broken("rotate")
def positions_rounded(array, **options):
    """Positions are cut to whole numbers."""
    return turn(array, place=lambda p, x: torch.as_tensor(p).long(), **options)


@broken("rotate")
def positions_in_the_dtype_of_the_array(array, **options):
    """Positions in 16 bits: large ones are rounded, or overflow."""
    return turn(array, place=lambda p, x: torch.as_tensor(p).to(x.dtype), **options)


@broken("rotate")
def turn_from_one(array, **options):
    """The first position is 1."""
    return turn(array, place=lambda p, x: torch.as_tensor(p) + 1, **options)


@broken("rotate")
def turn_of_features_over_d(array, **options):
    """The exponent is i/d, not 2i/d."""
    return turn(array, exponent=lambda i, d: i / d, **options)


@broken("rotate")
def turn_without_base(array, *, base=0.0, **options):
    """The base is ignored."""
    return turn(array, **options)


@broken("rotate")
def one_speed_for_all(array, **options):
    """All pairs turn as fast as the first."""
    return turn(array, exponent=lambda i, d: 0.0 * i, **options)


@broken("rotate")
def turned_in_float64(array, **options):
    """The dtype is not kept."""
    if isinstance(array, torch.Tensor):
        return turn(array.double(), **options)
    return turn(array.astype(np.float64), **options)


@broken("rotate")
def turned_in_place(array, **options):
    """The argument is overwritten."""
    turned = turn(array, **options)
    if isinstance(array, np.ndarray):
        array[...] = turned
    return turned


@broken("rotate")
def turned_without_gradient(array, **options):
    """The result is cut off from the gradient."""
    turned = turn(array, **options)
    return turned.detach() if isinstance(array, torch.Tensor) else turned


@broken("rotate")
def scaled_as_well(array, **options):
    """The result is divided by the root of the width."""
    return turn(array, **options) / math.sqrt(array.shape[-1])


@broken("rotate")
def lengths_set_to_one(array, **options):
    """The rows are normalised on the way."""
    turned = turn(array, **options)
    return turned / (turned**2).sum(-1)[..., None] ** 0.5


@broken("relative_positions")
def query_minus_key(n_q, n_k, offset=0):
    """The sign is wrong."""
    return -positions.relative_positions(n_q, n_k, offset)


@broken("relative_positions")
def offset_of_the_keys(n_q, n_k, offset=0):
    """The offset moves the keys."""
    return positions.relative_positions(n_q, n_k, -offset)


@broken("alibi_slopes")
def slopes_reversed(n_heads):
    """The first head has the gentlest slope."""
    return positions.alibi_slopes(n_heads)[::-1]


@broken("alibi_slopes")
def slopes_from_one(n_heads):
    """h counts from 0, so that the first slope is 1."""
    return 2.0 ** (-8.0 * np.arange(n_heads) / n_heads)


@broken("alibi_slopes")
def slopes_halved(n_heads):
    """1/2, 1/4, … for any number of heads."""
    return 2.0 ** -np.arange(1, n_heads + 1)


@broken("alibi_slopes")
def slopes_evenly_spaced(n_heads):
    """An arithmetic sequence from the first slope to the last."""
    return np.linspace(2 ** (-8 / n_heads), 2**-8, n_heads)


def penalty(n_heads, n_q, n_k, offset=0, slope=positions.alibi_slopes, of_distance=np.abs):
    distance = of_distance(positions.relative_positions(n_q, n_k, offset))
    return -slope(n_heads)[:, None, None] * distance


@broken("alibi_bias")
def reward_for_distance(*sizes):
    """The sign is wrong: far keys win."""
    return -penalty(*sizes)


@broken("alibi_bias")
def penalty_without_offset(n_heads, n_q, n_k, offset=0):
    """The offset is ignored: in decoding the query stands at position 0."""
    return penalty(n_heads, n_q, n_k)


@broken("alibi_bias")
def penalty_for_the_future_only(*sizes):
    """The sign of the distance is kept, so that the past is rewarded."""
    return penalty(*sizes, of_distance=lambda relative: relative)


@broken("alibi_bias")
def penalty_squared(*sizes):
    """The square of the distance."""
    return penalty(*sizes, of_distance=np.square)


@broken("alibi_bias")
def penalty_with_one_slope(*sizes):
    """All heads have the first slope."""
    return penalty(*sizes, slope=lambda n: np.full(n, positions.alibi_slopes(n)[0]))


@broken("alibi_bias")
def penalty_with_slopes_reversed(*sizes):
    """The first head has the gentlest slope."""
    return penalty(*sizes, slope=slopes_reversed)


# --- the tests ---------------------------------------------------------------------------------


class TestPositions(ZooTests):
    zoo = Zoo(CHECKS, replaced(package_api, BROKEN), BROKEN)


def test_the_frame_of_the_zoo_is_right():
    """What catches the broken ones is their mistake, not the frame that they are built on."""
    api = package_api()
    api.rotate, api.sinusoidal_positions, api.alibi_bias = turn, sinusoids, penalty
    for function in CHECKS:
        function(api)


def test_shapes_are_as_the_signatures_say():
    api = package_api()
    for name in FUNCTIONS:
        setattr(api, name, jaxtyped(typechecker=beartype)(getattr(positions, name)))
    for function in CHECKS:
        function(api)


# What is called, the exception, and what its message must say (a regular expression).
ERRORS = {
    "sinusoids of odd width": (
        lambda: positions.sinusoidal_positions(3, 5),
        ValueError,
        r"^d_model must be even and at least 2, for pairs of features; got 5$",
    ),
    "sinusoids of no width": (
        lambda: positions.sinusoidal_positions(3, 0),
        ValueError,
        r"^d_model must be even and at least 2, for pairs of features; got 0$",
    ),
    "fractional width": (
        lambda: positions.sinusoidal_positions(3, 4.0),
        TypeError,
        r"^d_model must be a whole number; got 4\.0$",
    ),
    "negative number of positions": (
        lambda: positions.sinusoidal_positions(-1, 4),
        ValueError,
        r"^n must not be negative; got -1$",
    ),
    "base too small": (
        lambda: positions.sinusoidal_positions(3, 4, base=1),
        ValueError,
        r"^base must be a number above 1; got 1$",
    ),
    "list": (
        lambda: positions.rotate([[1.0, 2.0]]),
        TypeError,
        r"^array must be a NumPy array or a torch tensor; got list$",
    ),
    "integers": (
        lambda: positions.rotate(np.zeros((3, 4), dtype=int)),
        TypeError,
        r"^array must hold floating-point numbers; got dtype int64\. Convert it first",
    ),
    "one axis": (
        lambda: positions.rotate(np.zeros(4)),
        ValueError,
        r"^array must have shape \(\.\.\., n, d\); got \(4,\)$",
    ),
    "odd width": (
        lambda: positions.rotate(np.zeros((3, 5))),
        ValueError,
        r"^the last axis of array must be even and at least 2, for pairs of features; got 5$",
    ),
    "unknown layout": (
        lambda: positions.rotate(np.zeros((3, 4)), layout="neox"),
        ValueError,
        r"^layout must be one of interleaved, halves; got 'neox'$",
    ),
    "fractional offset": (
        lambda: positions.rotate(np.zeros((3, 4)), offset=0.5),
        TypeError,
        r"^offset must be a whole number; got 0\.5$",
    ),
    "offset and positions": (
        lambda: positions.rotate(np.zeros((3, 4)), offset=1, positions=np.arange(3)),
        ValueError,
        r"^give offset or positions, not both; got offset 1 and positions$",
    ),
    "boolean positions": (
        lambda: positions.rotate(np.zeros((3, 4)), positions=torch.ones(3, dtype=torch.bool)),
        TypeError,
        r"^positions must hold real numbers; got dtype bool$",
    ),
    "positions of another length": (
        lambda: positions.rotate(np.zeros((3, 4)), positions=np.arange(5)),
        ValueError,
        r"^positions must broadcast to the rows of array, \(\.\.\., n\) = \(3,\); "
        r"got shape \(5,\)$",
    ),
    "positions of more sequences": (
        lambda: positions.rotate(np.zeros((3, 4)), positions=np.zeros((2, 3))),
        ValueError,
        r"^positions must broadcast to the rows of array, \(\.\.\., n\) = \(3,\); "
        r"got shape \(2, 3\)$",
    ),
    "negative number of keys": (
        lambda: positions.relative_positions(3, -1),
        ValueError,
        r"^n_k must not be negative; got -1$",
    ),
    "no heads": (
        lambda: positions.alibi_slopes(0),
        ValueError,
        r"^n_heads must be at least 1; got 0$",
    ),
    "fractional heads": (
        lambda: positions.alibi_bias(2.0, 3, 3),
        TypeError,
        r"^n_heads must be a whole number; got 2\.0$",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_error(name):
    call, exception, message = ERRORS[name]
    with pytest.raises(exception, match=message) as caught:
        call()
    assert not re.search(r"torch\.float|<class|object at", str(caught.value))


def test_no_error_is_untested():
    calls = [call for call, _, _ in ERRORS.values()]
    assert not unreached(("positions",), calls)


# --- other libraries ---------------------------------------------------------------------------


def test_halves_are_what_llama_does():
    llama = pytest.importorskip("transformers.models.llama.modeling_llama")
    config = llama.LlamaConfig(hidden_size=32, num_attention_heads=4, max_position_embeddings=64)
    query, key = torch.from_numpy(numbers(2, 2, 4, 9, 8)).float()  # (batch, n_heads, n, d_k)
    embedding = llama.LlamaRotaryEmbedding(config)
    base = config.rope_parameters["rope_theta"]
    for offset in (0, 23):
        cosine, sine = embedding(query, torch.arange(9)[None] + offset)
        for ours, theirs in zip(
            (query, key), llama.apply_rotary_pos_emb(query, key, cosine, sine), strict=True
        ):
            turned = positions.rotate(ours, offset=offset, base=base, layout="halves")
            assert torch.allclose(turned, theirs, atol=1e-5)
            other = positions.rotate(ours, offset=offset, base=base, layout="interleaved")
            assert not torch.allclose(other, theirs, atol=0.1)


def test_interleaved_is_what_gpt_j_does():
    gptj = pytest.importorskip("transformers.models.gptj.modeling_gptj")
    array = torch.from_numpy(numbers(2, 9, 4, 8)).float()  # (batch, n, n_heads, d_k)
    sine, cosine = gptj.create_sinusoidal_positions(64, 8)[None, 5:14].chunk(2, dim=-1)
    theirs = gptj.apply_rotary_pos_emb(array, sine, cosine)
    ours = positions.rotate(array.transpose(1, 2), offset=5).transpose(1, 2)
    assert torch.allclose(ours, theirs, atol=1e-5)


def test_slopes_are_bloom_s_where_the_paper_s_rule_is():
    bloom = pytest.importorskip("transformers.models.bloom.modeling_bloom")
    for n_heads in (1, 2, 3, 4, 6, 8, 16, 32):
        bias = bloom.build_alibi_tensor(torch.ones(1, 2, dtype=torch.long), n_heads, torch.float64)
        slopes = bias[:, 0, 1].numpy()  # the second of two places
        is_power_of_two = n_heads & (n_heads - 1) == 0
        assert np.allclose(slopes, positions.alibi_slopes(n_heads)) == is_power_of_two
