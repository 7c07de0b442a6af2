"""A zoo of broken attentions: each has one mistake that people make, and the checks catch all.

Each replaces one public function, and is made of the package's own parts for NumPy and torch alike,
so that the one mistake is all that is wrong with it.
"""

import math
from functools import partial

import numpy as np
import torch

import attn_tutorial
from attn_tutorial import apply_mask, dot_product, scaled_dot_product, softmax
from attn_tutorial._arrays import namespace

BROKEN = {}


def broken(replaces: str):
    """Register a broken version of a public function; its docstring says what is wrong."""

    def register(function):
        BROKEN[function.__name__] = (replaces, function)
        return function

    return register


def four_steps(score=None, mask_scores=apply_mask, normalise=softmax, reweigh=None, combine=None):
    """Attention with its steps exchangeable; without arguments it is right.

    Each argument replaces a step: `score(query, key)`, `mask_scores(scores, mask)`,
    `normalise(scores)`, `reweigh(weights, mask)`, `combine(weights, value)`.
    """

    def attention(query, key, value, *, score=scaled_dot_product, mask=None, default=score):
        xp = namespace(query=query, key=key, value=value)
        # A broken default score must not hide behind a score that the caller chose.
        chosen = default if default is not None and score is scaled_dot_product else score
        wide = xp.result_type(query.dtype, xp.float32)
        scores = chosen(xp.astype(query, wide), xp.astype(key, wide))
        if mask is not None:
            scores = mask_scores(scores, mask)
        weights = normalise(scores)
        if reweigh is not None:
            weights = reweigh(weights, mask)
        leading = np.broadcast_shapes(weights.shape[:-2], value.shape[:-2])
        weights = xp.broadcast_to(weights, (*leading, *weights.shape[-2:]))
        value = xp.astype(value, weights.dtype)
        output = weights @ value if combine is None else combine(weights, value)
        return xp.astype(output, query.dtype), xp.astype(weights, query.dtype)

    return attention


def scaled_by(width):
    """A scaled dot product with the wrong divisor: `width(query, key)`."""

    def score(query, key):
        return dot_product(query, key) / math.sqrt(width(query, key))

    return score


# --- the score -------------------------------------------------------------------------------


@broken("attention")
def no_scale(*arguments, **options):
    """softmax(QKᵀ)V."""
    return four_steps(score=dot_product)(*arguments, **options)


@broken("attention")
def scaled_by_the_dimension_itself(*arguments, **options):
    """Divided by d_k, not by its root."""
    return four_steps(score=scaled_by(lambda query, key: key.shape[-1] ** 2))(*arguments, **options)


@broken("attention")
def multiplied_by_the_root(*arguments, **options):
    """Times the root of d_k, as document 004 says in words."""
    score = scaled_by(lambda query, key: 1 / key.shape[-1])
    return four_steps(score=score)(*arguments, **options)


@broken("attention")
def scaled_by_the_number_of_keys(*arguments, **options):
    """The wrong axis of the right array."""
    return four_steps(score=scaled_by(lambda query, key: key.shape[-2]))(*arguments, **options)


@broken("attention")
def scaled_by_the_width_of_the_values(query, key, value, **options):
    """d_v in place of d_k: no difference as long as they are equal."""
    score = scaled_by(lambda query, key: value.shape[-1])
    return four_steps(score=score)(query, key, value, **options)


@broken("attention")
def reshaped_where_it_should_be_transposed(*arguments, **options):
    """The keys get the transpose's shape, and other numbers in each column."""

    def score(query, key):
        xp = namespace(query=query, key=key)
        flipped = xp.reshape(key, (*key.shape[:-2], key.shape[-1], key.shape[-2]))
        return query @ flipped / math.sqrt(key.shape[-1])

    return four_steps(score=score)(*arguments, **options)


@broken("attention")
def the_score_ignored(query, key, value, *, score=None, mask=None):
    """Always the scaled dot product, whatever score was asked for."""
    return attn_tutorial.attention(query, key, value, mask=mask)


@broken("attention")
def keys_and_queries_swapped(query, key, value, **options):
    """The keys ask, the queries answer, wherever the shapes allow it."""
    if query.shape == key.shape:
        query, key = key, query
    return attn_tutorial.attention(query, key, value, **options)


@broken("attention")
def keys_and_values_swapped(query, key, value, **options):
    """Scores against the values, an average of the keys, wherever the shapes allow it."""
    if key.shape == value.shape:
        key, value = value, key
    return attn_tutorial.attention(query, key, value, **options)


# --- the softmax -----------------------------------------------------------------------------


@broken("attention")
def softmax_over_the_queries(*arguments, **options):
    """Columns sum to one."""
    return four_steps(normalise=partial(softmax, axis=-2))(*arguments, **options)


@broken("attention")
def softmax_over_the_first_axis(*arguments, **options):
    """dim=0: right for nobody, and for a batch it mixes its entries."""
    return four_steps(normalise=partial(softmax, axis=0))(*arguments, **options)


@broken("attention")
def softmax_over_everything(*arguments, **options):
    """All weights of all queries sum to one."""

    def normalise(scores):
        xp = namespace(scores=scores)
        return xp.reshape(softmax(xp.reshape(scores, (-1,))), scores.shape)

    return four_steps(normalise=normalise)(*arguments, **options)


@broken("attention")
def exponentials_not_normalised(*arguments, **options):
    """exp, without the division."""
    return four_steps(normalise=lambda scores: namespace(s=scores).exp(scores))(
        *arguments, **options
    )


@broken("attention")
def normalised_without_exponentials(*arguments, **options):
    """Scores divided by their sum: negative weights."""

    def normalise(scores):
        return scores / namespace(s=scores).sum(scores, axis=-1, keepdims=True)

    return four_steps(normalise=normalise)(*arguments, **options)


@broken("attention")
def softmax_twice(*arguments, **options):
    """The score function already normalised, and so does attention."""
    return four_steps(normalise=lambda scores: softmax(softmax(scores)))(*arguments, **options)


@broken("attention")
def the_best_key_takes_all(*arguments, **options):
    """Hard attention: right where one score stands out, without gradient."""

    def normalise(scores):
        return softmax(scores * 1e6)

    return four_steps(normalise=normalise)(*arguments, **options)


@broken("softmax")
def softmax_overflows(scores, axis=-1):
    """No maximum subtracted."""
    xp = namespace(scores=scores)
    exponentials = xp.exp(scores)
    return exponentials / xp.sum(exponentials, axis=axis, keepdims=True)


@broken("softmax")
def softmax_ignores_its_axis(scores, axis=-1):
    """Always the last."""
    return softmax(scores)


# --- the mask --------------------------------------------------------------------------------


@broken("attention")
def the_mask_inverted(*arguments, **options):
    """True hides, as in torch's module, where True should show."""

    def mask_scores(scores, mask):
        return apply_mask(scores, ~mask if namespace(m=mask).isdtype(mask.dtype, "bool") else mask)

    return four_steps(mask_scores=mask_scores)(*arguments, **options)


@broken("attention")
def the_mask_after_the_softmax(*arguments, **options):
    """What is hidden keeps its share of the sum: rows sum to less than one."""

    def reweigh(weights, mask):
        if mask is None:
            return weights
        xp = namespace(weights=weights)
        mask = xp.asarray(mask)
        factor = mask if xp.isdtype(mask.dtype, "bool") else xp.exp(mask)
        return weights * xp.astype(factor, weights.dtype)

    steps = four_steps(mask_scores=lambda scores, mask: scores, reweigh=reweigh)
    return steps(*arguments, **options)


@broken("attention")
def the_mask_multiplied(*arguments, **options):
    """Scores of hidden keys become 0, which is a score like any other."""

    def mask_scores(scores, mask):
        xp = namespace(scores=scores)
        mask = xp.asarray(mask)
        return scores * mask if xp.isdtype(mask.dtype, "bool") else scores + mask

    return four_steps(mask_scores=mask_scores)(*arguments, **options)


@broken("attention")
def a_large_number_for_minus_infinity(*arguments, **options):
    """Minus a billion: a row with nothing to attend to attends to all of it."""

    def mask_scores(scores, mask):
        xp = namespace(scores=scores)
        mask = xp.asarray(mask)
        if xp.isdtype(mask.dtype, "bool"):
            return xp.where(mask, scores, -1e9)
        return scores + xp.where(mask == -math.inf, -1e9, mask)

    return four_steps(mask_scores=mask_scores)(*arguments, **options)


@broken("attention")
def dead_rows_are_nan(*arguments, **options):
    """0/0 where the mask leaves nothing."""

    def normalise(scores):
        xp = namespace(scores=scores)
        exponentials = xp.exp(scores - xp.max(scores, axis=-1, keepdims=True))
        return exponentials / xp.sum(exponentials, axis=-1, keepdims=True)

    return four_steps(normalise=normalise)(*arguments, **options)


@broken("attention")
def the_mask_only_added(*arguments, **options):
    """NaN plus minus infinity is NaN: what a hidden key holds gets through."""

    def mask_scores(scores, mask):
        xp = namespace(scores=scores)
        mask = xp.asarray(mask)
        if xp.isdtype(mask.dtype, "bool"):
            mask = xp.where(mask, xp.zeros_like(scores), -math.inf)
        return scores + mask

    return four_steps(mask_scores=mask_scores)(*arguments, **options)


@broken("attention")
def float_masks_taken_for_boolean(*arguments, **options):
    """Zero hides and everything else shows."""

    def mask_scores(scores, mask):
        return apply_mask(scores, mask != 0)

    return four_steps(mask_scores=mask_scores)(*arguments, **options)


@broken("attention")
def the_mask_forgotten(query, key, value, *, score=scaled_dot_product, mask=None):
    """Accepted, and not used."""
    return attn_tutorial.attention(query, key, value, score=score)


@broken("causal_mask")
def causal_without_the_present(n_q, n_k, offset=0):
    """Off by one: a position does not see itself."""
    return attn_tutorial.causal_mask(n_q, n_k, offset - 1)


@broken("causal_mask")
def causal_with_the_next(n_q, n_k, offset=0):
    """Off by one: a position sees what it is to predict."""
    return attn_tutorial.causal_mask(n_q, n_k, offset + 1)


@broken("causal_mask")
def causal_without_offset(n_q, n_k, offset=0):
    """Each step of decoding believes that it is the first."""
    return attn_tutorial.causal_mask(n_q, n_k)


@broken("causal_mask")
def causal_upside_down(n_q, n_k, offset=0):
    """triu for tril: only the future."""
    return np.triu(np.ones((n_q, n_k), dtype=bool), k=offset)


@broken("window_mask")
def window_the_other_way_round(n_q, n_k, left, right, offset=0):
    """Left and right exchanged."""
    return attn_tutorial.window_mask(n_q, n_k, right, left, offset)


@broken("window_mask")
def window_without_its_edge(n_q, n_k, left, right, offset=0):
    """Python's habit: the last one excluded."""
    right = right - 1 if right else right
    return attn_tutorial.window_mask(n_q, n_k, left, right, offset)


@broken("padding_mask")
def padding_shown_and_words_hidden(lengths, n_k):
    """True on the padding, as in torch's key_padding_mask."""
    return ~attn_tutorial.padding_mask(lengths, n_k)


@broken("padding_mask")
def padding_on_the_queries(lengths, n_k):
    """Whole rows hidden, in place of columns."""
    return np.swapaxes(attn_tutorial.padding_mask(lengths, n_k), -1, -2)


# --- the weighted sum ------------------------------------------------------------------------


@broken("attention")
def weights_transposed(*arguments, **options):
    """WᵀV wherever the shapes allow it."""

    def combine(weights, value):
        square = weights.shape[-1] == weights.shape[-2]
        return (namespace(w=weights).matrix_transpose(weights) if square else weights) @ value

    return four_steps(combine=combine)(*arguments, **options)


@broken("attention")
def the_mean_of_the_values(*arguments, **options):
    """Weights computed, and not used."""

    def combine(weights, value):
        xp = namespace(w=weights)
        return xp.ones_like(weights) / weights.shape[-1] @ value

    return four_steps(combine=combine)(*arguments, **options)


@broken("attention")
def elementwise_where_a_matrix_product_belongs(*arguments, **options):
    """Document 000's `reduce_sum(weights * V)`, wherever the shapes allow it."""

    def combine(weights, value):
        if weights.shape == value.shape:
            return weights * value
        return weights @ value

    return four_steps(combine=combine)(*arguments, **options)


@broken("attention")
def dropout_before_normalising(query, key, value, *, score=scaled_dot_product, mask=None):
    """A tenth of the scores set to zero before the softmax, the rest scaled up."""

    def dropping_score(query, key):
        scores = score(query, key)
        kept = np.random.default_rng(0).random(tuple(scores.shape)) >= 0.1
        xp = namespace(scores=scores)
        return scores * xp.astype(xp.asarray(kept), scores.dtype) / 0.9

    return attn_tutorial.attention(query, key, value, score=dropping_score, mask=mask)


@broken("attention")
def weights_after_dropout(*arguments, **options):
    """The weights that come back are not the weights of the average: rows don't sum to one."""
    output, weights = attn_tutorial.attention(*arguments, **options)
    kept = np.random.default_rng(0).random(tuple(weights.shape)) >= 0.1
    xp = namespace(weights=weights)
    return output, weights * xp.astype(xp.asarray(kept), weights.dtype) / 0.9


@broken("attention")
def batch_entries_meet(query, key, value, **options):
    """The keys of all entries averaged."""
    if key.ndim > 2:
        xp = namespace(key=key)
        key = xp.mean(key, axis=0, keepdims=True) + xp.zeros_like(key)
    return attn_tutorial.attention(query, key, value, **options)


@broken("attention")
def weights_of_fewer_axes(query, key, value, **options):
    """A value for each entry of a batch, and weights as if there were one entry."""
    output, weights = attn_tutorial.attention(query, key, value, **options)
    while weights.ndim > max(query.ndim, key.ndim):
        weights = weights[0]
    return output, weights


# --- dtypes and gradients --------------------------------------------------------------------


@broken("attention")
def computed_in_float16(query, key, value, **options):
    """Dot products beyond 65504 become infinite."""

    def score(wide_query, wide_key):
        xp = namespace(query=query)
        narrow_query, narrow_key = (
            xp.astype(array, query.dtype) for array in (wide_query, wide_key)
        )
        dots = narrow_query @ xp.matrix_transpose(narrow_key)
        return xp.astype(dots / math.sqrt(query.shape[-1]), wide_query.dtype)

    return four_steps(score=score)(query, key, value, **options)


@broken("attention")
def summed_in_float16(query, key, value, **options):
    """Thousands of small weights, rounded at every step of the sum."""
    output, weights = attn_tutorial.attention(query, key, value, **options)
    xp = namespace(weights=weights)
    if weights.dtype == xp.float16 and isinstance(weights, np.ndarray):
        total = np.zeros(output.shape, dtype=np.float16)
        for j in range(weights.shape[-1]):
            total = total + weights[..., :, j : j + 1] * value[..., j : j + 1, :]
        output = total
    return output, weights


@broken("attention")
def always_float32(query, key, value, **options):
    """The result has lost the dtype of what went in."""
    output, weights = attn_tutorial.attention(query, key, value, **options)
    xp = namespace(weights=weights)
    return xp.astype(output, xp.float32), xp.astype(weights, xp.float32)


@broken("attention")
def weights_without_gradient(query, key, value, **options):
    """Through NumPy and back: the values learn, queries and keys never."""
    if isinstance(query, torch.Tensor):
        query, key = query.detach(), key.detach()
    return attn_tutorial.attention(query, key, value, **options)


# --- the scores ------------------------------------------------------------------------------


@broken("scaled_dot_product")
def scale_ignored(query, key, *, scale=None):
    """Another scale was asked for, and not used."""
    return scaled_dot_product(query, key)


@broken("cosine")
def cosine_of_the_query_only(query, key):
    """The keys keep their length."""
    xp = namespace(query=query)
    return query / xp.linalg.vector_norm(query, axis=-1, keepdims=True) @ xp.matrix_transpose(key)


@broken("cosine")
def cosine_whose_squares_overflow(query, key):
    """Right, until a square leaves the range of floating point."""
    xp = namespace(query=query)

    def unit(array):
        norm = xp.sqrt(xp.sum(array * array, axis=-1, keepdims=True))
        return array / xp.where(norm < 1e-12, xp.ones_like(norm), norm)

    return unit(query) @ xp.matrix_transpose(unit(key))


@broken("pearson")
def pearson_without_centring(query, key):
    """That is the cosine."""
    return attn_tutorial.cosine(query, key)


@broken("pearson")
def pearson_centred_over_the_rows(query, key):
    """Each feature loses its mean over the examples, not each example over its features."""
    xp = namespace(query=query)
    return attn_tutorial.cosine(
        query - xp.mean(query, axis=-2, keepdims=True), key - xp.mean(key, axis=-2, keepdims=True)
    )


@broken("pearson")
def pearson_of_constant_rows_is_noise(query, key):
    """The mean of 0.1, 0.1 and 0.1 is not 0.1: what is left is rounding, made large."""
    xp = namespace(query=query)
    return attn_tutorial.cosine(
        query - xp.mean(query, axis=-1, keepdims=True), key - xp.mean(key, axis=-1, keepdims=True)
    )


@broken("spearman")
def spearman_of_positions(query, key):
    """argsort once: the order, not the ranks."""
    xp = namespace(query=query)
    order = [xp.astype(xp.argsort(array, axis=-1), array.dtype) for array in (query, key)]
    return attn_tutorial.pearson(*order)


@broken("spearman")
def spearman_without_ties(query, key):
    """argsort twice: equal entries get different ranks."""
    xp = namespace(query=query)
    order = [
        xp.astype(xp.argsort(xp.argsort(array, axis=-1), axis=-1), array.dtype)
        for array in (query, key)
    ]
    return attn_tutorial.pearson(*order)


@broken("bilinear")
def bilinear_from_the_wrong_side(W):
    """query @ Wᵀ @ key: no difference for a symmetric matrix."""
    if W.shape[0] == W.shape[1]:
        W = W.T
    return attn_tutorial.bilinear(W)


@broken("additive")
def additive_without_tanh(W_q, W_k, v):
    """Linear: the query shifts all scores alike, and the softmax takes that off."""

    def score(query, key):
        return ((query @ W_q)[..., :, None, :] + (key @ W_k)[..., None, :, :]) @ v

    return score


@broken("soft_capped")
def capped_hard(cap, *, score=scaled_dot_product):
    """Clipped: no gradient beyond the cap."""

    def clipped(query, key):
        return namespace(query=query).clip(score(query, key), -cap, cap)

    return clipped


@broken("soft_capped")
def capped_without_dividing(cap, *, score=scaled_dot_product):
    """cap · tanh(score): bounded, and steep."""

    def steep(query, key):
        return cap * namespace(query=query).tanh(score(query, key))

    return steep


@broken("ranks")
def ranks_that_share_the_lowest(array):
    """Equal entries share their lowest rank, not their mean."""
    xp = namespace(array=array)
    smaller = array[..., None, :] < array[..., :, None]
    return xp.sum(xp.astype(smaller, array.dtype), axis=-1) + 1
