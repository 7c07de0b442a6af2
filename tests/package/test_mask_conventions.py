"""The converters between the masks' conventions, against the libraries whose conventions they are.

A check takes the converters and fails on broken ones. Torch is always there; Keras and
Transformers have tests of their own, which say why when they are skipped.
"""

import math
import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from attn_tutorial import attention, causal_mask, mask_conventions, padding_mask, window_mask
from package.raises import unreached
from package.zoo import Zoo, ZooTests

CONVERTERS = (
    "to_torch_module",
    "from_torch_module",
    "to_key_padding_mask",
    "from_key_padding_mask",
    "from_hugging_face",
    "to_hugging_face",
    "to_additive",
    "from_additive",
)
LENGTHS, N_K, N_HEADS, WIDTH = [3, 5, 1], 5, 2, 8
PADDING = padding_mask(LENGTHS, N_K)  # (batch, 1, n_k)
CAUSAL = causal_mask(N_K, N_K)  # (n_q, n_k)


def converters(**replaced):
    """The package's converters, some of them replaced."""
    api = SimpleNamespace(**{name: getattr(mask_conventions, name) for name in CONVERTERS})
    vars(api).update(replaced)
    return api


def sequences(seed: int = 0) -> torch.Tensor:
    """A batch of random vectors, shape (batch, n, width)."""
    return torch.randn(len(LENGTHS), N_K, WIDTH, generator=torch.Generator().manual_seed(seed))


def bare_module(n_heads: int) -> nn.MultiheadAttention:
    """A module whose projections change nothing: what is left is attention."""
    module = nn.MultiheadAttention(WIDTH, n_heads, batch_first=True)  # biases start at zero
    with torch.no_grad():
        module.in_proj_weight.copy_(torch.eye(WIDTH).repeat(3, 1))
        module.out_proj.weight.copy_(torch.eye(WIDTH))
    return module


def by_package(x: torch.Tensor, mask: np.ndarray, n_heads: int) -> torch.Tensor:
    """Self-attention of `bare_module`, by this package; mask (batch, heads, n_q, n_k) or less."""
    heads = x.unflatten(-1, (n_heads, -1)).transpose(1, 2)  # (batch, heads, n, d_k)
    output, _ = attention(heads, heads, heads, mask=mask)
    return output.transpose(1, 2).flatten(-2)


def masks_per_head() -> np.ndarray:
    """One mask for each sequence and head, all of them different: (batch, heads, n_q, n_k)."""
    rng = np.random.default_rng(0)
    masks = rng.random((len(LENGTHS), N_HEADS, N_K, N_K)) < 0.5
    masks[..., np.arange(N_K), np.arange(N_K)] = True  # no row is empty
    flat = masks.reshape(len(LENGTHS) * N_HEADS, -1)
    assert len(np.unique(flat, axis=0)) == len(flat)
    return masks


# --- the checks ------------------------------------------------------------------------------


def attn_mask_of_the_module(api):
    x = sequences()
    for mask in (CAUSAL, window_mask(N_K, N_K, left=1, right=2)):
        for n_heads in (1, N_HEADS):
            attn_mask = torch.tensor(api.to_torch_module(mask))
            output, _ = bare_module(n_heads)(x, x, x, attn_mask=attn_mask)
            torch.testing.assert_close(output, by_package(x, mask, n_heads))


def attn_mask_for_every_sequence_and_head(api):
    x = sequences()
    for mask in (masks_per_head(), PADDING[:, None] & CAUSAL):
        attn_mask = torch.tensor(api.to_torch_module(mask, n_heads=N_HEADS))
        output, _ = bare_module(N_HEADS)(x, x, x, attn_mask=attn_mask)
        torch.testing.assert_close(output, by_package(x, mask, N_HEADS))


def attn_mask_read(api):
    x = sequences()
    forbidden = torch.ones(N_K, N_K, dtype=torch.bool).triu(1)  # as torch's documentation has it
    output, _ = bare_module(1)(x, x, x, attn_mask=forbidden)
    expected = by_package(x, api.from_torch_module(forbidden), 1)
    torch.testing.assert_close(output, expected)

    forbidden = torch.tensor(~masks_per_head()).flatten(0, 1)  # (batch * heads, n_q, n_k)
    output, _ = bare_module(N_HEADS)(x, x, x, attn_mask=forbidden)
    expected = by_package(x, api.from_torch_module(forbidden, n_heads=N_HEADS), N_HEADS)
    torch.testing.assert_close(output, expected)


def key_padding_mask_of_the_module(api):
    x = sequences()
    key_padding_mask = torch.tensor(api.to_key_padding_mask(PADDING))
    output, _ = bare_module(N_HEADS)(x, x, x, key_padding_mask=key_padding_mask)
    torch.testing.assert_close(output, by_package(x, PADDING[:, None], N_HEADS))


def key_padding_mask_of_the_encoder(api):
    """A padded batch gives what each sequence gives alone."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(WIDTH, N_HEADS, 16, dropout=0.0, batch_first=True)
    encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
    x = sequences()
    key_padding_mask = torch.tensor(api.to_key_padding_mask(PADDING))
    for training in (True, False):
        encoder.train(training)
        padded = encoder(x, src_key_padding_mask=key_padding_mask)
        for number, length in enumerate(LENGTHS):
            alone = encoder(x[number : number + 1, :length])[0]
            torch.testing.assert_close(padded[number, :length], alone)


def key_padding_mask_read(api):
    x = sequences()
    is_padding = torch.arange(N_K) >= torch.tensor(LENGTHS)[:, None]  # (batch, n_k)
    output, _ = bare_module(1)(x, x, x, key_padding_mask=is_padding)
    mask = api.from_key_padding_mask(is_padding)  # (batch, 1, n_k)
    expected, _ = attention(x, x, x, mask=mask)
    torch.testing.assert_close(output, expected)


def hugging_face_masks_mean_tokens(api):
    """On a table written by hand, with padding on either side."""
    attention_mask = np.array([[1, 1, 1, 0], [0, 1, 1, 1]])
    mask = api.from_hugging_face(attention_mask)
    assert mask.tolist() == [[[True, True, True, False]], [[False, True, True, True]]]
    assert mask.dtype == bool
    back = api.to_hugging_face(padding_mask([3, 4], 4))
    assert back.tolist() == [[1, 1, 1, 0], [1, 1, 1, 1]]
    assert back.dtype == np.int64
    assert api.from_hugging_face(attention_mask[0]).shape == (1, 4)


def additive_masks_in_the_functional(api):
    """A float mask and a boolean one mean the same to torch's functional."""
    x = sequences()[:, None].expand(-1, N_HEADS, -1, -1)  # (batch, heads, n, d_k)
    for boolean in (CAUSAL, PADDING[:, None], masks_per_head()):
        mask = torch.tensor(boolean)
        expected = F.scaled_dot_product_attention(x, x, x, attn_mask=mask)
        added = api.to_additive(mask, torch.float32)
        output = F.scaled_dot_product_attention(x, x, x, attn_mask=added)
        torch.testing.assert_close(output, expected)
        read = api.from_additive(added)
        output = F.scaled_dot_product_attention(x, x, x, attn_mask=read)
        torch.testing.assert_close(output, expected)


def additive_masks_hold_minus_infinity(api):
    """Exactly: a large number would overflow in float16, or leave an empty row uniform."""
    for array in (CAUSAL, torch.tensor(CAUSAL)):
        for name in ("float16", "float32", "float64"):
            dtype = getattr(np if isinstance(array, np.ndarray) else torch, name)
            added = api.to_additive(array, dtype)
            assert added.dtype == dtype
            expected = [[0.0 if j <= i else -math.inf for j in range(N_K)] for i in range(N_K)]
            assert added.tolist() == expected


def additive_masks_read(api):
    """Minus infinity and the least finite number both mean: not this one."""
    for dtype in (torch.float16, torch.bfloat16, torch.float32):
        least = torch.finfo(dtype).min
        read = api.from_additive(torch.tensor([0.0, -math.inf, least], dtype=dtype))
        assert read.tolist() == [True, False, False]
    with pytest.raises(ValueError, match="got -1e\\+04"):
        api.from_additive(np.array([0.0, -1e4]))


CHECKS = [
    attn_mask_of_the_module,
    attn_mask_for_every_sequence_and_head,
    attn_mask_read,
    key_padding_mask_of_the_module,
    key_padding_mask_of_the_encoder,
    key_padding_mask_read,
    hugging_face_masks_mean_tokens,
    additive_masks_in_the_functional,
    additive_masks_hold_minus_infinity,
    additive_masks_read,
]


@pytest.mark.parametrize("library", [np.asarray, torch.tensor])
def test_there_and_back(library):
    causal, padding, heads = library(CAUSAL), library(PADDING), library(masks_per_head())
    for mask, there, back in (
        (causal, mask_conventions.to_torch_module, mask_conventions.from_torch_module),
        (
            heads,
            lambda mask: mask_conventions.to_torch_module(mask, n_heads=N_HEADS),
            lambda mask: mask_conventions.from_torch_module(mask, n_heads=N_HEADS),
        ),
        (padding, mask_conventions.to_key_padding_mask, mask_conventions.from_key_padding_mask),
        (padding, mask_conventions.to_hugging_face, mask_conventions.from_hugging_face),
        (
            heads,
            lambda mask: mask_conventions.to_additive(mask, library([0.0]).dtype),
            mask_conventions.from_additive,
        ),
    ):
        returned = back(there(mask))
        assert type(returned) is type(mask)
        assert returned.dtype == mask.dtype
        assert returned.tolist() == mask.tolist()


# --- a zoo of broken converters --------------------------------------------------------------


def inverted(name):
    """The converter with its result's meaning turned round."""
    right = getattr(mask_conventions, name)

    def wrong(mask, *arguments, **options):
        if name in ("from_hugging_face", "from_additive"):
            return ~right(mask)
        if name == "to_hugging_face":
            return 1 - right(mask)
        return right(~mask, *arguments, **options)

    return wrong


def heads_in_the_wrong_order(mask, n_heads=1):
    """(n_heads * batch, …), where torch wants the heads of one sequence together."""
    if mask.ndim == 2:
        return ~mask
    batch, _, n_q, n_k = mask.shape
    mask = np.broadcast_to(mask, (batch, n_heads, n_q, n_k))
    return ~np.swapaxes(mask, 0, 1).reshape(n_heads * batch, n_q, n_k)


def heads_read_in_the_wrong_order(attn_mask, n_heads=1):
    """The same when reading."""
    if attn_mask.ndim == 2:
        return ~attn_mask
    return ~attn_mask.unflatten(0, (n_heads, -1)).transpose(0, 1)


def queries_and_keys_swapped(mask, n_heads=1):
    """Transposed: the past is hidden, not the future."""
    return mask_conventions.to_torch_module(mask.swapaxes(-1, -2), n_heads)


def padding_from_the_left(mask):
    """The keys in reverse order."""
    return np.flip(mask_conventions.to_key_padding_mask(mask), -1)


def tokens_and_padding_alike(attention_mask):
    """A test for presence where one for 1 is meant."""
    return (attention_mask >= 0)[..., None, :]


def a_large_number(mask, dtype):
    """-1e4 where minus infinity is meant."""
    right = mask_conventions.to_additive(mask, dtype)
    return right.clip(min=-1e4) if isinstance(right, torch.Tensor) else right.clip(-1e4)


def ones_and_zeros(mask, dtype):
    """The boolean mask as numbers: 1 is added where one may attend, 0 where one may not."""
    return mask.to(dtype) if isinstance(mask, torch.Tensor) else mask.astype(dtype)


def only_minus_infinity(mask):
    """The least finite number passes as a bias."""
    return mask != -math.inf


BROKEN = {f"{name} inverted": {name: inverted(name)} for name in CONVERTERS} | {
    "heads in the wrong order": {"to_torch_module": heads_in_the_wrong_order},
    "heads read in the wrong order": {"from_torch_module": heads_read_in_the_wrong_order},
    "queries and keys swapped": {"to_torch_module": queries_and_keys_swapped},
    "padding from the left": {"to_key_padding_mask": padding_from_the_left},
    "tokens and padding alike": {"from_hugging_face": tokens_and_padding_alike},
    "a large number": {"to_additive": a_large_number},
    "ones and zeros": {"to_additive": ones_and_zeros},
    "only minus infinity": {"from_additive": only_minus_infinity},
}


class TestMaskConventions(ZooTests):
    zoo = Zoo(CHECKS, lambda name: converters(**BROKEN.get(name, {})), BROKEN)


# --- errors ----------------------------------------------------------------------------------

# What is called, the exception, and what its message must say; as in test_errors.py.
ERRORS = {
    "mask of integers": (
        lambda: mask_conventions.to_torch_module(np.ones((3, 5), dtype=int)),
        TypeError,
        r"^mask must be boolean; got dtype int64$",
    ),
    "additive attn_mask": (
        lambda: mask_conventions.from_torch_module(torch.zeros(3, 5)),
        TypeError,
        r"^attn_mask must be boolean; got dtype float32$",
    ),
    "three axes to the module": (
        lambda: mask_conventions.to_torch_module(PADDING),
        ValueError,
        r"^mask must have shape \(n_q, n_k\) or \(batch, 1 or n_heads, n_q, n_k\) with "
        r"n_heads = 1; got \(3, 1, 5\)$",
    ),
    "other number of heads": (
        lambda: mask_conventions.to_torch_module(masks_per_head(), n_heads=4),
        ValueError,
        r"with n_heads = 4; got \(3, 2, 5, 5\)$",
    ),
    "batch times heads does not fit": (
        lambda: mask_conventions.from_torch_module(np.ones((5, 3, 3), dtype=bool), n_heads=2),
        ValueError,
        r"^attn_mask must have shape \(n_q, n_k\) or \(batch \* n_heads, n_q, n_k\) with "
        r"n_heads = 2; got \(5, 3, 3\)$",
    ),
    "causal mask as key padding": (
        lambda: mask_conventions.to_key_padding_mask(PADDING & CAUSAL),
        ValueError,
        r"^mask must have shape \(batch, 1, n_k\); got \(3, 5, 5\)$",
    ),
    "key padding with an axis too many": (
        lambda: mask_conventions.from_key_padding_mask(PADDING),
        ValueError,
        r"^key_padding_mask must have shape \(batch, n_k\); got \(3, 1, 5\)$",
    ),
    "attention_mask of floats": (
        lambda: mask_conventions.from_hugging_face(np.array([[1.0, 0.0]])),
        TypeError,
        r"^attention_mask must hold whole numbers, 1 = token and 0 = padding; got dtype float64$",
    ),
    "attention_mask without axes": (
        lambda: mask_conventions.from_hugging_face(np.array(1)),
        ValueError,
        r"^attention_mask must have shape \(\.\.\., n_k\); got \(\)$",
    ),
    "attention_mask of token numbers": (
        lambda: mask_conventions.from_hugging_face(torch.tensor([[7, 1, 0]])),
        ValueError,
        r"^attention_mask must hold only 1 \(token\) and 0 \(padding\); got \[0, 1, 7\]$",
    ),
    "causal mask for Hugging Face": (
        lambda: mask_conventions.to_hugging_face(CAUSAL),
        ValueError,
        r"^mask must have shape \(\.\.\., 1, n_k\); got \(5, 5\)$",
    ),
    "additive mask of integers": (
        lambda: mask_conventions.to_additive(CAUSAL, np.int64),
        TypeError,
        r"^dtype must be a floating-point dtype; got int64$",
    ),
    "boolean mask read as additive": (
        lambda: mask_conventions.from_additive(CAUSAL),
        TypeError,
        r"^mask must hold floating-point numbers; got dtype bool$",
    ),
    "a bias": (
        lambda: mask_conventions.from_additive(np.array([0.0, -0.5, -1.0], dtype=np.float32)),
        ValueError,
        r"^mask must hold only 0, minus infinity and -3\.403e\+38, the least number of its dtype; "
        r"got -0\.5$",
    ),
    "a list": (
        lambda: mask_conventions.to_torch_module([[True]]),
        TypeError,
        r"^mask must be a NumPy array or a torch tensor; got list$",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_error(name):
    call, exception, message = ERRORS[name]
    with pytest.raises(exception, match=message):
        call()


def test_no_error_is_untested():
    assert not unreached(("mask_conventions",), [call for call, _, _ in ERRORS.values()])


# --- Keras -----------------------------------------------------------------------------------

keras_reads_weights = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept")


@pytest.fixture(scope="module")
def keras():
    os.environ.setdefault("KERAS_BACKEND", "torch")
    return pytest.importorskip("keras")


def keras_layer(keras, x):
    """A layer of Keras whose projections change nothing, one head."""
    layer = keras.layers.MultiHeadAttention(1, WIDTH, use_bias=False)
    layer(x, x)  # makes the weights
    layer.set_weights([np.eye(WIDTH).reshape(w.shape) for w in layer.get_weights()])
    return layer


@keras_reads_weights
@pytest.mark.parametrize("dtype", [bool, int])
def test_keras_means_may_attend(keras, dtype):
    """Keras's attention_mask is this package's mask: True or 1 where a query may attend."""
    x = sequences()
    layer = keras_layer(keras, x)
    for mask in (np.broadcast_to(CAUSAL, (3, N_K, N_K)), PADDING, PADDING & CAUSAL):
        expected, expected_weights = attention(x, x, x, mask=mask)
        given = torch.tensor(mask.astype(dtype))
        output, weights = layer(x, x, attention_mask=given, return_attention_scores=True)
        torch.testing.assert_close(output, expected)
        torch.testing.assert_close(weights[:, 0], expected_weights)
        torch.testing.assert_close(layer(x, x, attention_mask=given), expected)
        inverse = layer(x, x, attention_mask=1 - given.to(torch.int64))
        assert not torch.allclose(inverse, expected, atol=0.1)  # the check could fail


@keras_reads_weights
def test_keras_has_two_answers_for_a_dead_row(keras):
    """Zeros where it returns the weights, the mean of the values where it does not."""
    x = sequences()
    layer = keras_layer(keras, x)
    mask = np.ones((len(LENGTHS), N_K, N_K), dtype=bool)
    mask[:, 1] = False
    mask = torch.tensor(mask)
    with_weights, weights = layer(x, x, attention_mask=mask, return_attention_scores=True)
    without = layer(x, x, attention_mask=mask)
    assert (weights[:, 0, 1] == 0).all()
    assert (with_weights[:, 1] == 0).all()
    torch.testing.assert_close(without[:, 1], x.mean(1))
    torch.testing.assert_close(without[:, 2], with_weights[:, 2])


# --- Hugging Face ----------------------------------------------------------------------------


def tiny_bert(implementation: str):
    """A tiny BERT with random weights; nothing is downloaded."""
    transformers = pytest.importorskip("transformers")
    config = transformers.BertConfig(
        vocab_size=11,
        hidden_size=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=N_HEADS,
        intermediate_size=16,
        max_position_embeddings=N_K,
        initializer_range=1.0,
        attn_implementation=implementation,
    )
    torch.manual_seed(0)
    return transformers.BertModel(config).eval()


TOKENS = torch.randint(1, 11, (len(LENGTHS), N_K), generator=torch.Generator().manual_seed(0))


def padded_equals_alone(bert, api) -> bool:
    """Whether each sequence of a padded batch gets what it gets alone."""
    with torch.no_grad():
        attention_mask = torch.tensor(api.to_hugging_face(PADDING))
        padded = bert(input_ids=TOKENS, attention_mask=attention_mask).last_hidden_state
        return all(
            torch.allclose(
                padded[number, :length],
                bert(input_ids=TOKENS[number : number + 1, :length]).last_hidden_state[0],
                atol=1e-4,
            )
            for number, length in enumerate(LENGTHS)
        )


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
def test_hugging_face_padded_equals_alone(implementation):
    bert = tiny_bert(implementation)
    assert padded_equals_alone(bert, converters())
    assert not padded_equals_alone(bert, converters(to_hugging_face=inverted("to_hugging_face")))


def zero_exactly_where_masked(bert, api) -> bool:
    """Whether BERT's weights are zero exactly where the mask that was read says so."""
    attention_mask = torch.tensor([[1, 1, 1, 0, 0], [0, 1, 1, 1, 1], [1, 1, 1, 1, 1]])
    mask = api.from_hugging_face(attention_mask)[:, None]  # (batch, 1, 1, n_k)
    with torch.no_grad():
        layers = bert(
            input_ids=TOKENS, attention_mask=attention_mask, output_attentions=True
        ).attentions
    return all(torch.equal(weights > 0, mask.expand_as(weights)) for weights in layers)


def test_hugging_face_weights_obey_the_mask_as_read():
    bert = tiny_bert("eager")  # the one that returns its weights
    assert zero_exactly_where_masked(bert, converters())
    assert not zero_exactly_where_masked(
        bert, converters(from_hugging_face=inverted("from_hugging_face"))
    )


def test_hugging_face_adds_the_least_number_of_the_dtype():
    """The eager implementation's mask is additive, with finfo.min, which `from_additive` reads."""
    utilities = pytest.importorskip("transformers.masking_utils")
    attention_mask = torch.tensor(mask_conventions.to_hugging_face(PADDING)).bool()
    for dtype in (torch.float32, torch.float16):
        added = utilities.eager_mask(
            batch_size=len(LENGTHS),
            q_length=N_K,
            kv_length=N_K,
            attention_mask=attention_mask,
            dtype=dtype,
        )  # (batch, 1, n_q, n_k), causal unless told otherwise
        assert added.min() == torch.finfo(dtype).min
        expected = torch.tensor(PADDING & CAUSAL)[:, None]
        assert torch.equal(mask_conventions.from_additive(added), expected)


def test_hugging_face_is_uniform_over_a_dead_row():
    """A sequence that is all padding attends to its padding, evenly."""
    bert = tiny_bert("eager")
    attention_mask = torch.zeros(1, N_K, dtype=torch.int64)
    with torch.no_grad():
        layers = bert(
            input_ids=TOKENS[:1], attention_mask=attention_mask, output_attentions=True
        ).attentions
    for weights in layers:
        torch.testing.assert_close(weights, torch.full_like(weights, 1 / N_K))


# --- torch's own answers, which the chapter's table relies on --------------------------------


@pytest.mark.parametrize(
    ("need_weights", "training", "gradients", "answer"),
    [
        (True, True, True, "NaN"),
        (True, False, False, "NaN"),
        (False, True, True, "zeros"),
        (False, False, True, "zeros"),
        (False, False, False, "NaN"),  # the fast path of inference
    ],
)
def test_torch_module_has_two_answers_for_a_dead_row(need_weights, training, gradients, answer):
    x = sequences()
    module = bare_module(N_HEADS)  # an odd number has no fast path
    dead = torch.ones(len(LENGTHS), N_K, dtype=torch.bool)
    with torch.set_grad_enabled(gradients):
        output, _ = module.train(training)(
            x, x, x, key_padding_mask=dead, need_weights=need_weights
        )
    assert output.isnan().all() if answer == "NaN" else (output == 0).all()
