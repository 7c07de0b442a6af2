"""The layer passes every check; the checks catch every broken layer; every error is tested."""

import inspect
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from beartype import beartype
from jaxtyping import TypeCheckError, jaxtyped
from torch import nn

from attn_tutorial.layers import KeyValueCache, MultiHeadAttention
from package.broken_layers import BROKEN, Dropping, Frame
from package.layer_checks import CHECKS, package_api
from package.raises import unreached
from package.zoo import Zoo, ZooTests, replaced


class TestLayers(ZooTests):
    zoo = Zoo(CHECKS, replaced(package_api, BROKEN), BROKEN)


def test_there_are_enough():
    assert len(BROKEN) >= 40


@pytest.mark.parametrize("frame", [Frame, Dropping])
def test_the_frames_are_right(frame):
    """What catches the broken ones is their mistake, not the frame that they are built on."""
    api = package_api()
    api.MultiHeadAttention = frame
    for check in CHECKS:
        check(api)


# --- errors ------------------------------------------------------------------------------------

LAYER, CROSS = MultiHeadAttention(4, 2), MultiHeadAttention(4, 2, d_context=3)
X = torch.zeros(2, 3, 4)


def filled(*shape: int) -> KeyValueCache:
    cache = KeyValueCache()
    cache.append(torch.zeros(shape), torch.zeros(shape))
    return cache


# What is called, the exception, and what its message must say (a regular expression).
ERRORS = {
    # sizes
    "size a float": (
        lambda: MultiHeadAttention(4.0, 2),
        TypeError,
        r"^d_model must be a whole number; got 4\.0$",
    ),
    "size zero": (
        lambda: MultiHeadAttention(4, 2, n_kv_heads=0),
        ValueError,
        r"^n_kv_heads must be at least 1; got 0$",
    ),
    "head of no width": (
        lambda: MultiHeadAttention(4, 2, d_head=-1),
        ValueError,
        r"^d_head must be at least 1; got -1$",
    ),
    "groups that do not divide": (
        lambda: MultiHeadAttention(12, 6, n_kv_heads=4),
        ValueError,
        r"^n_kv_heads must divide n_heads = 6; got 4$",
    ),
    "heads that do not divide": (
        lambda: MultiHeadAttention(10, 4),
        ValueError,
        r"^n_heads must divide d_model = 10, unless d_head is given; got 4$",
    ),
    "dropout of all": (
        lambda: MultiHeadAttention(4, 2, dropout=1.0),
        ValueError,
        r"^dropout must be a probability from 0 to below 1; got 1\.0$",
    ),
    # inputs
    "x of NumPy": (
        lambda: LAYER(np.zeros((2, 3, 4))),
        TypeError,
        r"^x must be a torch tensor; got ndarray$",
    ),
    "x of another dtype": (
        lambda: LAYER(X.double()),
        TypeError,
        r"^x must have the dtype of the parameters, float32; got float64$",
    ),
    "x without batch": (
        lambda: LAYER(X[0]),
        ValueError,
        r"^x must have shape \(batch, n_q, d_model\) with a last axis of 4; got \(3, 4\)$",
    ),
    "x of another width": (
        lambda: LAYER(X[..., :3]),
        ValueError,
        r"^x must have shape \(batch, n_q, d_model\) with a last axis of 4; got \(2, 3, 3\)$",
    ),
    "context of another width": (
        lambda: CROSS(X, X),
        ValueError,
        r"^context must have shape \(batch, n_k, d_context\) with a last axis of 3; "
        r"got \(2, 3, 4\)$",
    ),
    "context missing": (
        lambda: CROSS(X),
        ValueError,
        r"^context must be given, of shape \(batch, n_k, 3\): this layer has keys and values for "
        r"d_context = 3, and x has d_model = 4$",
    ),
    "context of another batch": (
        lambda: LAYER(X, X[:1]),
        ValueError,
        r"^x \(batch, n_q, d_model\) and context \(batch, n_k, d_context\) must agree in batch; "
        r"got shapes \(2, 3, 4\) and \(1, 3, 4\)$",
    ),
    # masks
    "mask a list": (
        lambda: LAYER(X, mask=[[True]]),
        TypeError,
        r"^mask must be a NumPy array or a torch tensor; got list$",
    ),
    "mask of integers": (
        lambda: LAYER(X, mask=np.ones((3, 3), dtype=int)),
        TypeError,
        r"^mask must be boolean \(True = may attend\) or floating-point \(added to the scores\); "
        r"got dtype int64$",
    ),
    "mask of three axes": (
        lambda: LAYER(X, mask=np.ones((2, 3, 3), dtype=bool)),
        ValueError,
        r"^mask must not have three axes, since the first could mean the batch or the heads; "
        r"got shape \(2, 3, 3\)\. Give mask\[:, None\] for \(batch, n_q, n_k\), or mask\[None\] "
        r"for \(n_heads, n_q, n_k\), so that it broadcasts to \(batch, n_heads, n_q, n_k\) = "
        r"\(2, 2, 3, 3\)$",
    ),
    "mask of another shape": (
        lambda: LAYER(X, mask=torch.ones(3, 5, dtype=torch.bool)),
        ValueError,
        r"^mask must broadcast to \(batch, n_heads, n_q, n_k\) = \(2, 2, 3, 3\); got shape "
        r"\(3, 5\)$",
    ),
    "mask of a larger batch": (
        lambda: LAYER(X[:1], mask=np.ones((2, 1, 3, 3), dtype=bool)),
        ValueError,
        r"^mask must broadcast to \(batch, n_heads, n_q, n_k\) = \(1, 2, 3, 3\); got shape "
        r"\(2, 1, 3, 3\)$",
    ),
    "mask of five axes": (
        lambda: LAYER(X, mask=np.ones((1, 1, 1, 3, 3), dtype=bool)),
        ValueError,
        r"got shape \(1, 1, 1, 3, 3\)$",
    ),
    # the cache
    "cache of another kind": (
        lambda: LAYER(X, cache={}),
        TypeError,
        r"^cache must be a KeyValueCache; got dict$",
    ),
    "keys and values of two shapes": (
        lambda: KeyValueCache().append(torch.zeros(2, 2, 3, 4), torch.zeros(2, 2, 3, 5)),
        ValueError,
        r"^keys and values must have one shape \(batch, n_kv_heads, n_new, d_head\); got "
        r"\(2, 2, 3, 4\) and \(2, 2, 3, 5\)$",
    ),
    "cache of another batch": (
        lambda: LAYER(X, cache=filled(1, 2, 5, 2)),
        ValueError,
        r"^keys must have shape \(batch, n_kv_heads, n_new, d_head\) = \(1, 2, n_new, 2\), as the "
        r"cache holds them; got \(2, 2, 3, 2\)$",
    ),
    "cache of another context": (
        lambda: LAYER(X, X, cache=filled(2, 2, 5, 2)),
        ValueError,
        r"^context must have shape \(batch, n_k, d_context\) = \(2, 5, 4\), as the cache holds it; "
        r"got \(2, 3, 4\)$",
    ),
    "empty cache reordered": (
        lambda: KeyValueCache().reorder([0]),
        ValueError,
        r"^the cache is empty: there is nothing to reorder yet$",
    ),
    "indices of floats": (
        lambda: filled(2, 2, 3, 4).reorder([0.0]),
        TypeError,
        r"^indices must hold whole numbers; got dtype float32$",
    ),
    "indices of truth values": (
        lambda: filled(2, 2, 3, 4).reorder(torch.tensor([True, False])),
        TypeError,
        r"^indices must hold whole numbers; got dtype bool$",
    ),
    "indices of two axes": (
        lambda: filled(2, 2, 3, 4).reorder(torch.zeros(1, 2, dtype=torch.long)),
        ValueError,
        r"^indices must have shape \(new_batch,\); got \(1, 2\)$",
    ),
    "index out of the batch": (
        lambda: filled(2, 2, 3, 4).reorder([0, 2, -1]),
        ValueError,
        r"^indices must lie between 0 and batch - 1 = 1; got \[0, 2, -1\]$",
    ),
    # to torch and from it
    "from another module": (
        lambda: LAYER.load_from_torch(nn.Linear(4, 4)),
        TypeError,
        r"^module must be a torch\.nn\.MultiheadAttention; got Linear$",
    ),
    "from a module with more": (
        lambda: LAYER.load_from_torch(nn.MultiheadAttention(4, 2, add_bias_kv=True)),
        ValueError,
        r"^module must have neither add_bias_kv nor add_zero_attn",
    ),
    "from a module with an added zero": (
        lambda: LAYER.load_from_torch(nn.MultiheadAttention(4, 2, add_zero_attn=True)),
        ValueError,
        r"^module must have neither add_bias_kv nor add_zero_attn",
    ),
    "from a module of another size": (
        lambda: LAYER.load_from_torch(nn.MultiheadAttention(4, 1, vdim=3, bias=False)),
        ValueError,
        r"^module must have embed_dim=4, num_heads=2, kdim=4, vdim=4, bias=True; "
        r"got embed_dim=4, num_heads=1, kdim=4, vdim=3, bias=False$",
    ),
    "grouped to torch": (
        lambda: MultiHeadAttention(4, 2, n_kv_heads=1).to_torch(),
        ValueError,
        r"^torch\.nn\.MultiheadAttention needs n_kv_heads = n_heads and n_heads · d_head = "
        r"d_model; this layer has n_heads = 2, n_kv_heads = 1, d_head = 2 and d_model = 4$",
    ),
    "wide heads from torch": (
        lambda: MultiHeadAttention(4, 2, d_head=3).load_from_torch(nn.MultiheadAttention(4, 2)),
        ValueError,
        r"^torch\.nn\.MultiheadAttention needs .* d_head = 3 and d_model = 4$",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_error(name):
    call, exception, message = ERRORS[name]
    with pytest.raises(exception, match=message) as raised:
        call()
    assert not re.search(r"torch\.float|<class|object at", str(raised.value))


def test_no_error_is_untested():
    assert not unreached(("layers",), [call for call, _, _ in ERRORS.values()])


def test_an_error_leaves_the_cache_as_it_was():
    cache = filled(2, 2, 5, 2)
    for options in ({"mask": np.ones((3, 3), dtype=bool)}, {"context": X}):
        with pytest.raises(ValueError, match=r"mask|context"):
            LAYER(X, cache=cache, **options)
        assert cache.length == 5


# --- what the signatures say -------------------------------------------------------------------


def test_every_check_passes_with_shapes_checked_at_run_time():
    """The same checks, with the methods wrapped by jaxtyping and beartype."""
    checked = jaxtyped(typechecker=beartype)

    class CheckedCache(KeyValueCache):
        append, reorder = checked(KeyValueCache.append), checked(KeyValueCache.reorder)

    class CheckedLayer(MultiHeadAttention):
        forward = checked(MultiHeadAttention.forward)

    api = package_api()
    api.MultiHeadAttention, api.KeyValueCache = CheckedLayer, CheckedCache
    for check in CHECKS:
        check(api)
    with pytest.raises(TypeCheckError):
        CheckedLayer(4, 2)(X, X[:1])


def test_importing_the_package_does_not_import_the_layers():
    program = "import sys, attn_tutorial; sys.exit('attn_tutorial.layers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_public_methods_say_what_they_take_and_raise():
    for owner in (MultiHeadAttention, KeyValueCache):
        assert "Attributes\n" in owner.__doc__
        for name, method in vars(owner).items():
            if inspect.isfunction(method) and not name.startswith("_"):
                assert method.__doc__, name
                takes_more = len(inspect.signature(method).parameters) > 1
                assert ("Parameters\n" in method.__doc__) == takes_more, name
    assert "References\n" in MultiHeadAttention.__doc__
