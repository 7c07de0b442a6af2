"""Smaller caches give the outputs that they should, and drafting does not change a distribution."""

import copy
import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import strategies as st
from scipy import stats
from torch import nn

from attn_tutorial import attention, causal_mask
from attn_tutorial.applications.image_generation.data import load_parts
from attn_tutorial.applications.measuring import n_parameters
from attn_tutorial.frontier.decoding import experiment, grouped, latent, sizes, speculative, stores
from attn_tutorial.language_model import CausalLanguageModel
from attn_tutorial.layers import KeyValueCache, MultiHeadAttention
from attn_tutorial.positions import rotate
from package import raises
from package.conformance import generated
from package.zoo import Zoo, ZooTests, rewritten

CHECKS = {"heads": [], "latent": [], "stores": [], "drafts": []}
MODULES = {
    "sizes": sizes,
    "grouped": grouped,
    "latent": latent,
    "stores": stores,
    "speculative": speculative,
}


def check(zoo):
    """Register a check in the zoo of some broken versions: each check runs on those alone."""

    def decorate(function):
        CHECKS[zoo].append(function)
        return function

    return decorate


def some(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def chances(*shape, seed=0, sharpness=2.0):
    return (sharpness * some(*shape, seed=seed)).softmax(dim=-1)


# --- sizes -----------------------------------------------------------------------------------


@check("heads")
@generated(6, n_kv=st.sampled_from([1, 2, 4]), d_head=st.integers(1, 5), n=st.integers(1, 6))
def the_formula_counts_what_the_tensors_hold(api, n_kv, d_head, n):
    layer = MultiHeadAttention(6, 4, n_kv_heads=n_kv, d_head=d_head)
    cache = KeyValueCache()
    for token in some(2, n, 6, dtype=torch.float32).split(1, dim=1):
        layer(token, cache=cache)
    wanted = 2 * n * 4 * api.sizes.numbers_in_heads(n_kv, d_head)
    assert api.sizes.stored_bytes([cache.keys, cache.values]) == wanted


@check("latent")
@generated(6, d_latent=st.integers(1, 6), d_rotary=st.sampled_from([0, 2, 4]), n=st.integers(1, 5))
def a_latent_layer_keeps_only_what_it_says(api, d_latent, d_rotary, n):
    layer = api.latent.LatentAttention(6, 2, d_latent, d_rotary=d_rotary)
    for steps in (1, n):  # all at once too: no view may keep more than it shows
        cache = api.latent.LatentCache()
        for tokens in some(2, n, 6, dtype=torch.float32).split(steps, dim=1):
            layer(tokens, cache=cache)
        wanted = 2 * n * 4 * api.sizes.numbers_in_latent(d_latent, d_rotary)
        assert api.sizes.stored_bytes([cache.kept]) == wanted
        assert cache.length == cache.offset == n


@check("heads")
def a_storage_counts_once(api):
    table = torch.zeros(10, 4)
    assert api.sizes.stored_bytes([table, table[:2], table.T]) == 160
    assert api.sizes.stored_bytes([table[:2]]) == 160
    assert api.sizes.stored_bytes([table, torch.zeros(3, dtype=torch.int8)]) == 163


# --- groups ----------------------------------------------------------------------------------


@check("heads")
@generated(12, groups=st.integers(1, 3), kv=st.integers(1, 3), n=st.integers(1, 6))
def one_step_is_attention_with_repeated_keys(api, groups, kv, n):
    query, keys, values = some(2, groups * kv, 5), some(2, kv, n, 5), some(2, kv, n, 3, seed=1)
    found = api.grouped.one_step(query, keys, values)
    for head in range(groups * kv):
        own = head // groups
        wanted, _ = attention(query[:, head, None], keys[:, own], values[:, own])
        torch.testing.assert_close(found[:, head], wanted[:, 0])


@check("heads")
def the_mean_of_a_group_gives_the_mean_of_its_keys_and_values(api):
    torch.manual_seed(0)
    layer = MultiHeadAttention(6, 4, d_head=3).double()
    nn.init.normal_(layer.key.bias)
    x = some(2, 5, 6)
    for n_kv in (1, 2, 4):
        fewer = api.grouped.with_fewer_heads(layer, n_kv)
        first = api.grouped.with_fewer_heads(layer, n_kv, "first")
        for name in ("key", "value"):
            heads = getattr(layer, name)(x).unflatten(-1, (n_kv, 4 // n_kv, 3))
            for one, wanted in ((fewer, heads.mean(dim=3)), (first, heads[..., 0, :])):
                assert one.n_kv_heads == n_kv
                torch.testing.assert_close(getattr(one, name)(x), wanted.flatten(2))


@check("heads")
def what_was_alike_stays_exact(api):
    torch.manual_seed(0)
    layer = MultiHeadAttention(8, 4).double().eval()
    with torch.no_grad():
        for linear in (layer.key, layer.value):
            nn.init.normal_(linear.bias)
            for part in (linear.weight, linear.bias):
                heads = part.unflatten(0, (2, 2, 2))  # two groups of two heads of width 2
                heads[:, 1] = heads[:, 0]
    x = some(2, 5, 8)
    before = copy.deepcopy(layer.state_dict())
    for way in ("mean", "first"):
        fewer = api.grouped.with_fewer_heads(layer, 2, way)
        torch.testing.assert_close(fewer(x)[0], layer(x)[0])
        assert not fewer.training
    fresh = api.grouped.with_fewer_heads(layer, 2, "random")
    assert not torch.allclose(fresh(x)[0], layer(x)[0], atol=1e-3)
    torch.testing.assert_close(fresh.query(x), layer.query(x))
    assert all(torch.equal(before[name], value) for name, value in layer.state_dict().items())


@check("heads")
def a_whole_model_is_converted_and_stays_as_it_was(api):
    model = CausalLanguageModel(7, d_model=8, n_heads=4, n_layers=2)
    fewer = api.grouped.convert(model, 2)
    assert [layer.attention.n_kv_heads for layer in fewer.layers] == [2, 2]
    assert [layer.attention.n_kv_heads for layer in model.layers] == [4, 4]
    heads = model.layers[1].attention.key.weight.unflatten(0, (4, 2))  # four of width 2
    found = fewer.layers[1].attention.key.weight[:2]
    torch.testing.assert_close(found, (heads[0] + heads[1]) / 2)
    tokens = torch.tensor([[1, 2, 3, 4]])
    same = api.latent.convert_to_latent(model.eval(), 8)
    torch.testing.assert_close(same(tokens)[0], model(tokens)[0])


# --- latent attention ------------------------------------------------------------------------


def layers_of(api, draw_from):
    """A latent layer in float64, with biases that are not zero."""
    heads, d_latent, d_rotary, d_head = draw_from
    torch.manual_seed(0)
    layer = api.latent.LatentAttention(6, heads, d_latent, d_rotary=d_rotary, d_head=d_head)
    for linear in (layer.query, layer.out):
        nn.init.normal_(linear.bias)
    return layer.double()


def by_definition(layer, x, mask):
    """The equations, head by head, with torch's own attention."""
    latents = x @ layer.down.weight.T
    width = layer.d_head + layer.d_rotary
    outputs = []
    for h in range(layer.n_heads):
        own = slice(h * layer.d_head, (h + 1) * layer.d_head)
        query = layer.query(x)[..., h * width : (h + 1) * width]
        content, turning = query[..., : layer.d_head], query[..., layer.d_head :]
        key = latents @ layer.key_up.weight[own].T
        if layer.d_rotary:
            content = torch.cat([content, rotate(turning)], dim=-1)
            key = torch.cat([key, rotate(x @ layer.rotary_key.weight.T)], dim=-1)
        value = latents @ layer.value_up.weight[own].T
        allowed = None if mask is None else mask[:, h]
        outputs.append(F.scaled_dot_product_attention(content, key, value, attn_mask=allowed))
    return layer.out(torch.cat(outputs, dim=-1))


SETTINGS = st.tuples(
    st.integers(1, 3), st.integers(1, 7), st.sampled_from([0, 2, 4]), st.integers(1, 4)
)
MASKS = st.sampled_from(["none", "causal", "some", "dead rows"])


def mask_of(kind, heads, n):
    if kind == "none":
        return None
    if kind == "causal":
        return torch.from_numpy(causal_mask(n, n)).expand(2, heads, n, n)
    mask = torch.rand(2, heads, n, n, generator=torch.Generator().manual_seed(n)) < 0.6
    mask[..., 0] = True
    if kind == "dead rows":
        mask[:, :, n // 2] = False
    return mask


@check("latent")
@generated(12, setting=SETTINGS, kind=MASKS, n=st.integers(1, 6))
def both_ways_are_the_definition(api, setting, kind, n):
    layer, x = layers_of(api, setting), some(2, n, 6, seed=n)
    mask = mask_of(kind, setting[0], n)
    parameters = list(layer.parameters())
    found = {}
    for absorbed in (False, True):
        layer.absorbed = absorbed
        output, weights = layer(x, mask=mask, need_weights=True)
        torch.testing.assert_close(output, by_definition(layer, x, mask))
        gradients = torch.autograd.grad((output * some(*output.shape)).sum(), parameters)
        found[absorbed] = (weights, *gradients)
    for one, other in zip(found[False], found[True], strict=True):
        torch.testing.assert_close(one, other)
    wanted = torch.ones_like(weights[..., 0])
    if kind == "dead rows":
        wanted[:, :, n // 2] = 0
    torch.testing.assert_close(weights.sum(dim=-1), wanted)


@pytest.mark.parametrize("absorbed", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", ["none", "causal", "some", "dead rows"])
def test_small_floats_stay_near_the_large_ones(dtype, absorbed, kind):
    """A few products one after another round: the error is some units of the dtype."""
    layer, x = layers_of(SimpleNamespace(latent=latent), (3, 7, 4, 4)), some(2, 6, 6)
    mask = mask_of(kind, 3, 6)
    wanted = by_definition(layer, x, mask)
    layer.absorbed = absorbed
    found, _ = copy.deepcopy(layer).to(dtype)(x.to(dtype), mask=mask)
    assert found.dtype == dtype
    error = (found.double() - wanted).abs().max() / wanted.abs().max()
    assert error < 10 * torch.finfo(dtype).eps
    assert error > 0


@check("latent")
@generated(8, setting=SETTINGS, n=st.integers(2, 6), step=st.integers(1, 3))
def a_latent_cache_changes_nothing(api, setting, n, step):
    layer, x = layers_of(api, setting), some(2, n, 6, seed=n)
    whole, _ = layer(x, mask=causal_mask(n, n))
    cache, parts = api.latent.LatentCache(), []
    for number, tokens in enumerate(x.split(step, dim=1)):
        layer.absorbed = number % 2 == 1  # the cache is the same for both
        mask = causal_mask(tokens.shape[1], cache.length + tokens.shape[1], cache.offset)
        parts.append(layer(tokens, mask=mask, cache=cache)[0])
    torch.testing.assert_close(torch.cat(parts, dim=1), whole)


@check("latent")
@generated(8, heads=st.integers(1, 3), d_head=st.integers(1, 4), d_latent=st.integers(1, 6))
def a_multi_head_layer_is_a_latent_one(api, heads, d_head, d_latent):
    torch.manual_seed(0)
    layer = MultiHeadAttention(6, heads, d_head=d_head).double().eval()
    for linear in (layer.key, layer.value, layer.out):
        nn.init.normal_(linear.bias)
    x, mask = some(2, 5, 6), causal_mask(5, 5)
    same = api.latent.latent_from_heads(layer, 6)
    torch.testing.assert_close(same(x, mask=mask)[0], layer(x, mask=mask)[0])
    assert not same.training
    cut = api.latent.latent_from_heads(layer, d_latent)
    both = torch.cat([layer.key.weight, layer.value.weight])
    product = torch.cat([cut.key_up.weight, cut.value_up.weight]) @ cut.down.weight
    lost = torch.linalg.svdvals(both)[d_latent:].square().sum()
    torch.testing.assert_close((both - product).square().sum(), lost)


# --- eight bits ------------------------------------------------------------------------------


@check("stores")
@generated(12, n_bits=st.integers(2, 8), axis=st.sampled_from([-1, -2]), seed=st.integers(0, 99))
def no_number_is_off_by_more_than_half_a_step(api, n_bits, axis, seed):
    array = 10 * some(2, 3, 6, 5, seed=seed)
    array[0, 0] = 0
    codes = api.stores.quantise(array, axis, n_bits=n_bits)
    assert codes.codes.dtype == torch.int8
    assert codes.scale.shape[axis] == 1
    largest = 2 ** (n_bits - 1) - 1
    assert codes.codes.abs().max() == largest
    wanted = array.abs().amax(dim=axis, keepdim=True) / largest
    torch.testing.assert_close(codes.scale, wanted)
    restored = api.stores.restore(codes)
    assert ((restored - array).abs() <= codes.scale / 2 + 1e-12).all()
    assert (restored[0, 0] == 0).all()


@check("stores")
@generated(8, n=st.integers(1, 12), group=st.integers(1, 5), step=st.integers(1, 4))
def codes_do_not_depend_on_how_tokens_come(api, n, group, step):
    keys, values = some(2, 3, n, 4), some(2, 3, n, 4, seed=1)
    for along in ("token", "channel"):
        cache = api.stores.QuantisedCache(along, group=group)
        assert (cache.keys, cache.values, cache.length) == (None, None, 0)
        for some_keys, some_values in zip(
            keys.split(step, dim=2), values.split(step, dim=2), strict=True
        ):
            cache.append(some_keys, some_values)
        assert cache.length == n
        full = n // group * group
        wanted = keys.clone()
        parts = keys.split(1, dim=2) if along == "token" else keys[:, :, :full].split(group, dim=2)
        axis = -1 if along == "token" else -2
        if full or along == "token":
            rounded = [stores.restore(stores.quantise(part, axis)) for part in parts]
            rounded = torch.cat(rounded, dim=2)
            wanted[:, :, : rounded.shape[2]] = rounded
        torch.testing.assert_close(cache.keys, wanted)
        torch.testing.assert_close(cache.values, stores.restore(stores.quantise(values, -1)))
        cache.reorder([1, 1, 0])
        torch.testing.assert_close(cache.keys, wanted[[1, 1, 0]])


@check("stores")
def eight_bits_take_a_quarter_and_the_scales(api):
    keys, values = some(1, 2, 64, 16, dtype=torch.float32), some(1, 2, 64, 16, dtype=torch.float32)
    for along, n_scales in (("token", 64), ("channel", 2 * 16)):
        cache = api.stores.QuantisedCache(along)
        cache.append(keys, values)
        n_bytes = sizes.stored_bytes(cache.tensors())
        assert n_bytes == 2 * (2 * 64 * 16) + 4 * 2 * (n_scales + 64)
    cache.append(keys[:, :, :5], values[:, :, :5])  # five keys wait for a full group
    assert sizes.stored_bytes(cache.tensors()) == n_bytes + 2 * 5 * (16 * 4 + 16 + 4)


@check("stores")
def a_layer_with_a_rounded_cache_is_close(api):
    torch.manual_seed(0)
    layer = MultiHeadAttention(8, 2).double()
    x = some(2, 40, 8)
    exact, _ = layer(x, mask=causal_mask(40, 40))
    for along in ("token", "channel"):
        errors = []
        for n_bits in (4, 8):
            cache = api.stores.QuantisedCache(along, n_bits=n_bits, group=8)
            output, _ = layer(x, mask=causal_mask(40, 40), cache=cache)
            errors.append((output - exact).abs().max())
        assert 0 < errors[1] < errors[0] / 4
        assert errors[1] < 0.02


# --- blocks ----------------------------------------------------------------------------------


@check("stores")
@generated(12, seed=st.integers(0, 10**6), size=st.integers(1, 4))
def blocks_hold_what_a_plain_cache_holds(api, seed, size):
    """Whatever is appended and reordered; and the users of each block are counted right."""
    rng = np.random.default_rng(seed)
    pool = api.stores.BlockPool(200, size, 2, 3, dtype=torch.float64)
    caches = [(api.stores.PagedCache(pool), KeyValueCache()) for _ in range(2)]
    for paged, plain in caches:
        assert (paged.keys, paged.values, paged.length) == (None, None, 0)
        batch = rng.integers(1, 4)
        for _ in range(rng.integers(1, 6)):
            if plain.length and rng.random() < 0.5:
                indices = rng.integers(batch, size=rng.integers(1, 4)).tolist()
                paged.reorder(indices)
                plain.reorder(indices)
                batch = len(indices)
            n_new, number = rng.integers(1, 5), int(rng.integers(2**31))
            keys, values = some(2, batch, 2, n_new, 3, seed=number)
            paged.append(keys, values)
            plain.append(keys, values)
    for paged, plain in caches:  # afterwards: neither wrote into the other's blocks
        assert paged.length == paged.offset == plain.length
        assert torch.equal(paged.keys, plain.keys)
        assert torch.equal(paged.values, plain.values)
        assert all(len(table) == -(-plain.length // size) for table in paged.tables)
    held = [block for paged, _ in caches for table in paged.tables for block in table]
    assert pool.n_users == [held.count(block) for block in range(200)]
    for paged, _ in caches:
        paged.free()
    assert pool.n_used == 0
    assert caches[0][0].length == 0


@check("stores")
def branches_share_what_they_have_in_common(api):
    pool = api.stores.BlockPool(20, 4, 1, 2)
    cache = api.stores.PagedCache(pool)
    cache.append(*some(2, 1, 1, 10, 2, dtype=torch.float32))
    assert pool.n_used == 3
    cache.reorder([0, 0, 0, 0])
    assert pool.n_used == 3
    cache.append(*some(2, 4, 1, 1, 2, dtype=torch.float32))
    assert pool.n_used == 6  # two full blocks for all, one for each


@check("stores")
def a_model_writes_the_same_from_blocks(api):
    torch.manual_seed(0)
    layer = MultiHeadAttention(8, 4, n_kv_heads=2)
    pool = api.stores.BlockPool(8, 3, 2, 2)
    x, outputs = some(2, 7, 8, dtype=torch.float32), []
    for cache in (api.stores.PagedCache(pool), KeyValueCache()):
        steps = [layer(token, cache=cache)[0] for token in x.split(1, dim=1)]
        outputs.append(torch.cat(steps, dim=1))
    assert torch.equal(*outputs)


# --- drafts ----------------------------------------------------------------------------------


@check("drafts")
@generated(16, n=st.integers(1, 6), seed=st.integers(0, 99), sharpness=st.sampled_from([0.5, 9]))
def kept_and_drawn_anew_make_the_target(api, n, seed, sharpness):
    """Exactly: draft · acceptance + refusals · leftover = target."""
    target, draft = chances(2, 3, n, seed=seed, sharpness=sharpness)
    if n > 2:  # a token that the draft never gives
        draft[0] = F.one_hot(torch.tensor(1), n)
        target[1] = draft[1]
    accept = api.speculative.acceptance(target, draft)
    assert ((accept >= 0) & (accept <= 1)).all()
    kept = draft * accept
    refused = 1 - kept.sum(dim=-1, keepdim=True)
    rest = api.speculative.leftover(target, draft)
    torch.testing.assert_close(rest.sum(dim=-1), torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(kept + refused * rest, target)
    torch.testing.assert_close(api.speculative.agreement(target, draft), kept.sum(dim=-1))


@check("drafts")
def a_round_has_the_distribution_of_the_target(api):
    """All 27 texts of three tokens: where a round gives fewer, the target goes on alone."""
    n_runs, generator = 30_000, torch.Generator().manual_seed(0)
    tables = {
        name: [chances(3**i, 3, seed=10 * i + j, sharpness=1.0) for i in range(3)]
        for j, name in enumerate(("target", "draft"))
    }

    def row(tokens):
        return sum((tokens[:, i] * 3 ** (tokens.shape[1] - 1 - i) for i in range(tokens.shape[1])),
                   torch.zeros(len(tokens), dtype=torch.long))  # fmt: skip

    drafted = torch.zeros(n_runs, 0, dtype=torch.long)
    draft = []
    for i in range(2):
        draft.append(tables["draft"][i][row(drafted)])
        new = torch.multinomial(draft[-1], 1, generator=generator)
        drafted = torch.cat([drafted, new], dim=1)
    target = [tables["target"][i][row(drafted[:, :i])] for i in range(3)]
    found = api.speculative.judge(
        drafted, torch.stack(draft, dim=1), torch.stack(target, dim=1), generator=generator
    )
    assert found.tokens.shape == (n_runs, 3)
    assert ((found.tokens >= 0).sum(dim=1) == found.n_kept + 1).all()
    tokens = found.tokens.clone()
    for i in (1, 2):
        missing = tokens[:, i] < 0
        own = tables["target"][i][row(tokens[missing, :i])]
        tokens[missing, i] = torch.multinomial(own, 1, generator=generator)[:, 0]
    counts = torch.bincount(row(tokens), minlength=27).numpy()
    p = tables["target"]
    wanted = [
        (p[0][0, a] * p[1][a, b] * p[2][3 * a + b, c]).item()
        for a, b, c in itertools.product(range(3), repeat=3)
    ]
    assert stats.chisquare(counts, n_runs * np.array(wanted)).pvalue > 1e-3
    rate = speculative.agreement(p[0][0], tables["draft"][0][0]).item()
    share = (found.n_kept > 0).double().mean().item()
    assert abs(share - rate) < 4 * (rate * (1 - rate) / n_runs) ** 0.5


@check("drafts")
def the_expected_number_of_tokens_is_a_geometric_sum(api):
    for rate, n_draft in itertools.product((0.0, 0.3, 0.9), (0, 1, 4)):
        wanted = (1 - rate ** (n_draft + 1)) / (1 - rate)
        assert np.isclose(api.speculative.expected_tokens(rate, n_draft), wanted)
    assert api.speculative.expected_tokens(1.0, 4) == 5


def counting(shift):
    """A model that is sure: the next token is the last plus the number of tokens plus a shift."""

    def model(tokens):
        following = (tokens + torch.arange(1, len(tokens) + 1) + shift) % 7
        return F.one_hot(following, 7).double()

    return model


@check("drafts")
@generated(8, n_prompt=st.integers(1, 3), n_new=st.integers(0, 9), n_draft=st.integers(0, 5))
def drafting_writes_what_the_target_writes(api, n_prompt, n_new, n_draft):
    prompt = torch.arange(n_prompt)
    wanted = prompt
    for _ in range(n_new):
        wanted = torch.cat([wanted, counting(0)(wanted)[-1:].argmax(dim=-1)])
    generator = torch.Generator().manual_seed(0)
    for shift in (0, 1):  # a draft that is always right, and one that never is
        found = api.speculative.write(
            counting(0), counting(shift), prompt, n_new=n_new, n_draft=n_draft, generator=generator
        )
        assert torch.equal(found.tokens, wanted)
        looks = n_new if shift else -(-n_new // (n_draft + 1))
        assert found.n_looks == looks
    right = api.speculative.write(counting(0), counting(0), prompt, n_new=n_new, n_draft=n_draft)
    assert right.n_drafted == n_new - right.n_looks


# --- broken versions -------------------------------------------------------------------------


BROKEN = {
    "heads": {
        "keys counted and values not": (
            "sizes",
            "return 2 * n_kv_heads",
            "return n_kv_heads",
        ),
        "views counted twice": (
            "sizes",
            "storages[storage.data_ptr()]",
            "storages[id(tensor)]",
        ),
        "heads strided and not neighbours": (
            "grouped",
            '"(few group d_head) ... -> few group d_head ..."',
            '"(group few d_head) ... -> few group d_head ..."',
        ),
        "the sum of a group": (
            "grouped",
            "heads.mean(dim=1)",
            "heads.sum(dim=1)",
        ),
        "the last of a group": (
            "grouped",
            "heads[:, 0]",
            "heads[:, -1]",
        ),
        "the biases forgotten": (
            "grouped",
            "in few.named_parameters():",
            'in [("weight", few.weight)]:',
        ),
        "the output matrix forgotten": (
            "grouped",
            'for name in ("query", "out")',
            'for name in ("query",)',
        ),
        "the model itself converted": (
            "grouped",
            "model = copy.deepcopy(model)\n",
            "\n",
        ),
        "queries grouped by stride": (
            "grouped",
            "query.unflatten(1, (n_kv_heads, -1))",
            "query.unflatten(1, (-1, n_kv_heads)).transpose(1, 2)",
        ),
    },
    "latent": {
        "the rotary key not counted": (
            "sizes",
            "return d_latent + d_rotary",
            "return d_latent",
        ),
        "the cache is read one step late": (
            "latent",
            "kept = cache.kept  #",
            "kept = torch.cat([cache.kept[:, :1], cache.kept[:, :-1]], dim=1)  #",
        ),
        "scale of the latent width": (
            "latent",
            "query = query * math.sqrt(query.shape[-1] / width)",
            "query = query * 1",
        ),
        "scale without the rotary part": (
            "latent",
            "width = self.d_head + self.d_rotary",
            "width = self.d_head",
        ),
        "the query not turned": (
            "latent",
            "turning = rotate(turning, offset=offset)",
            "pass",
        ),
        "turned from zero at each step": (
            "latent",
            "rotate(self.rotary_key(x), offset=offset)",
            "rotate(self.rotary_key(x))",
        ),
        "the token itself is kept too": (
            "latent",
            "kept = self.down(x)  #",
            "kept = torch.cat([self.down(x), x], dim=-1)[..., : self.d_latent]  #",
        ),
        "heads mixed in the mask": (
            "latent",
            "mask.expand(-1, heads, n_q, -1).flatten(1, 2)",
            "mask.expand(-1, heads, n_q, -1).transpose(1, 2).flatten(1, 2)",
        ),
        "keys in place of values": (
            "latent",
            "averages @ value_up.mT",
            "averages @ key_up.mT",
        ),
        "heads and features exchanged": (
            "latent",
            'split = "(heads d) latent -> heads d latent"',
            'split = "(d heads) latent -> heads d latent"',
        ),
        "the smallest singular values": (
            "latent",
            "right[:d_latent]",
            "right[-d_latent:]",
        ),
        "strengths left out": (
            "latent",
            "left[:, :d_latent] * strengths[:d_latent]",
            "left[:, :d_latent]",
        ),
        "the values' bias forgotten": (
            "latent",
            "latent.out.bias += layer.out.weight @ layer.value.bias",
            "pass",
        ),
    },
    "stores": {
        "a scale for the other axis": (
            "stores",
            "abs().amax(dim=axis",
            "abs().amax(dim=-3 - axis",
        ),
        "cut off and not rounded": (
            "stores",
            "1)).round().clamp",
            "1)).trunc().clamp",
        ),
        "256 steps": (
            "stores",
            "largest = 2 ** (n_bits - 1) - 1",
            "largest = 2 ** (n_bits - 1)",
        ),
        "groups begin where the call begins": (
            "stores",
            "            keys = torch.cat([self._recent, keys], dim=-2)\n",
            "            pass\n",
        ),
        "keys by token in any case": (
            "stores",
            'if self.keys_along == "token":',
            "if True:",
        ),
        "the recent keys forgotten": (
            "stores",
            "            parts.append(self._recent)\n",
            "            pass\n",
        ),
        "the rest keeps its whole group": (
            "stores",
            "keys[..., full:, :].clone()",
            "keys[..., full:, :]",
        ),
        "recent keys not reordered": (
            "stores",
            "            self._recent = self._recent[indices]\n",
            "            pass\n",
        ),
        "written into a shared block": (
            "stores",
            "table[block] = self.pool.own(table[block])",
            "pass",
        ),
        "copied without what it held": (
            "stores",
            "self.keys[copy], self.values[copy] = self.keys[block], self.values[block]",
            "pass",
        ),
        "a copy that still counts": (
            "stores",
            "self.n_users[block] -= 1",
            "pass",
        ),
        "one slot late": (
            "stores",
            "self.pool.values[table[block], :, slot]",
            "self.pool.values[table[block], :, slot - 1]",
        ),
        "heads and slots exchanged": (
            "stores",
            ".flatten(2, 3)[:, :, :",
            ".transpose(2, 3).flatten(2, 3)[:, :, :",
        ),
        "the empty slots too": (
            "stores",
            "[:, :, : self.length]",
            "",
        ),
        "nobody counts": (
            "stores",
            "self.pool.n_users[block] += change",
            "pass",
        ),
    },
    "drafts": {
        "accepted where the draft has more": (
            "speculative",
            "(target / draft.clamp",
            "(draft / target.clamp",
        ),
        "drawn anew from the target": (
            "speculative",
            "excess = (target - draft)",
            "excess = (target - 0 * draft)",
        ),
        "drawn anew from the draft's excess": (
            "speculative",
            "(target - draft).clamp",
            "(draft - target).clamp",
        ),
        "drafts behind a refusal": (
            "speculative",
            "n_kept = kept.sum(dim=-1)",
            "n_kept = (dice < chances).sum(dim=-1)",
        ),
        "always accepted": (
            "speculative",
            "(dice < chances).long()",
            "(dice < 1).long()",
        ),
        "no token behind the last draft": (
            "speculative",
            "nexts = torch.cat([leftover(target[:, :-1], draft), target[:, -1:]], dim=1)",
            "nexts = torch.cat([leftover(target[:, :-1], draft), target[:, :1]], dim=1)",
        ),
        "the sum of the larger": (
            "speculative",
            "torch.minimum(target, draft)",
            "torch.maximum(target, draft)",
        ),
        "the refusal gives no token": (
            "speculative",
            "range(n_draft + 1)))",
            "range(1, n_draft + 1)))",
        ),
        "judged one place early": (
            "speculative",
            "target(longer)[-n_now - 1 :]",
            "target(longer)[-n_now - 2 : -1]",
        ),
        "one token too many": (
            "speculative",
            "end - len(tokens) - 1)",
            "end - len(tokens))",
        ),
    },
}


def zoo(name):
    return Zoo(CHECKS[name], rewritten(MODULES, BROKEN[name]), BROKEN[name])


class TestHeads(ZooTests):
    zoo = zoo("heads")


class TestLatent(ZooTests):
    zoo = zoo("latent")


class TestStores(ZooTests):
    zoo = zoo("stores")


class TestDrafts(ZooTests):
    zoo = zoo("drafts")


# --- the experiment --------------------------------------------------------------------------


def test_all_kinds_have_as_many_parameters_and_keep_what_they_say():
    kept = {kind: experiment.numbers_kept(experiment.make(kind)) for kind in experiment.KINDS}
    assert list(kept.values()) == [64, 32, 16, 16, 16, 16]
    counts = [n_parameters(experiment.make(kind)) for kind in experiment.KINDS]
    assert max(counts) - min(counts) < 0.005 * max(counts)


def test_pixels_one_by_one_cost_what_they_cost_together():
    levels = load_parts()["test"].levels[:3]
    for kind, new_cache in (("grouped", KeyValueCache), ("latent", latent.LatentCache)):
        torch.manual_seed(0)
        model = experiment.make(kind)
        found = experiment.bits_step_by_step(model, levels, new_cache)
        assert np.isclose(found, experiment.mean_bits(model, levels), rtol=1e-4)


def test_a_model_as_a_function_gives_its_own_probabilities():
    torch.manual_seed(0)
    model, levels = experiment.make_draft().eval(), load_parts()["test"].levels[:1]
    begun = torch.cat([torch.tensor([experiment.N_LEVELS]), levels.flatten()[:10]])
    found = experiment.as_function(model)(begun)
    torch.testing.assert_close(found, model(levels)[0].exp().flatten(0, 1)[:11])


# --- errors ----------------------------------------------------------------------------------


HEADS = MultiHeadAttention(4, 2)
LATENT = latent.LatentAttention(4, 2, 3)
ONE = torch.ones(1, 2, 3, 4)


def full_pool():
    pool = stores.BlockPool(1, 2, 2, 4)
    stores.PagedCache(pool).append(ONE, ONE)


def another_batch():
    cache = latent.LatentCache()
    LATENT(torch.ones(2, 1, 4), cache=cache)
    LATENT(torch.ones(3, 1, 4), cache=cache)


def model(tokens):
    return torch.ones(len(tokens), 3) / 3


ERRORS = {
    "no heads": (
        ValueError,
        lambda: sizes.numbers_in_heads(0, 4),
        "n_kv_heads must be at least 1; got 0",
    ),
    "half a number": (
        TypeError,
        lambda: sizes.numbers_in_latent(2.5),
        "d_latent must be a whole number; got 2.5",
    ),
    "a negative part": (
        ValueError,
        lambda: sizes.numbers_in_latent(2, -2),
        "d_rotary must be at least 1; got -2",
    ),
    "another layer": (
        TypeError,
        lambda: grouped.with_fewer_heads(nn.Linear(2, 2), 1),
        "layer must be a MultiHeadAttention; got Linear",
    ),
    "three of two": (
        ValueError,
        lambda: grouped.with_fewer_heads(HEADS, 3),
        "n_kv_heads must divide the 2 heads of keys and values that there are; got 3",
    ),
    "another way": (
        ValueError,
        lambda: grouped.with_fewer_heads(HEADS, 1, "last"),
        "way must be one of mean, first, random; got 'last'",
    ),
    "heads that do not divide": (
        ValueError,
        lambda: grouped.one_step(torch.ones(1, 4, 2), torch.ones(1, 3, 5, 2), ONE),
        "keys must have a number of heads that divides the 4 of query; got 3",
    ),
    "width": (
        ValueError,
        lambda: latent.LatentAttention(5, 2, 3),
        "n_heads must divide d_model = 5, unless d_head is given; got 2",
    ),
    "odd": (
        ValueError,
        lambda: latent.LatentAttention(4, 2, 3, d_rotary=3),
        "d_rotary must be even, for pairs of features; got 3",
    ),
    "a cache of another kind": (
        TypeError,
        lambda: LATENT(torch.ones(1, 2, 4), cache=KeyValueCache()),
        "cache must be a LatentCache; got KeyValueCache",
    ),
    "x": (
        ValueError,
        lambda: LATENT(torch.ones(1, 2, 5)),
        r"x must have shape \(batch, n_q, 4\); got \(1, 2, 5\)",
    ),
    "another batch": (
        ValueError,
        another_batch,
        r"= \(2, n_new, 3\), as the cache holds it; got \(3, 1, 3\)",
    ),
    "no layer": (
        TypeError,
        lambda: latent.latent_from_heads(LATENT, 2),
        "layer must be a MultiHeadAttention; got LatentAttention",
    ),
    "grouped already": (
        ValueError,
        lambda: latent.latent_from_heads(MultiHeadAttention(4, 2, n_kv_heads=1), 2),
        "got n_kv_heads = 1, n_heads = 2",
    ),
    "more than all": (
        ValueError,
        lambda: latent.latent_from_heads(HEADS, 5),
        "d_latent must be at most d_model = 4; got 5",
    ),
    "whole numbers": (
        TypeError,
        lambda: stores.quantise(torch.ones(2, dtype=torch.int64), -1),
        "array must be floating-point; got torch.int64",
    ),
    "one bit": (
        ValueError,
        lambda: stores.quantise(torch.ones(2), -1, n_bits=1),
        "n_bits must be from 2 to 8; got 1",
    ),
    "nine bits": (
        ValueError,
        lambda: stores.QuantisedCache(n_bits=9),
        "n_bits must be from 2 to 8; got 9",
    ),
    "along": (
        ValueError,
        lambda: stores.QuantisedCache("head"),
        "keys_along must be 'token' or 'channel'; got 'head'",
    ),
    "keys and values": (
        ValueError,
        lambda: stores.QuantisedCache().append(ONE, ONE[:, :1]),
        r"got \(1, 2, 3, 4\) and \(1, 1, 3, 4\)",
    ),
    "all blocks": (MemoryError, full_pool, "all 1 blocks are in use"),
    "another pool": (
        ValueError,
        lambda: stores.PagedCache(stores.BlockPool(1, 2, 1, 4)).append(ONE, ONE),
        r"= \(1, 1, 3, 4\); got \(1, 2, 3, 4\) and \(1, 2, 3, 4\)",
    ),
    "rate": (
        ValueError,
        lambda: speculative.expected_tokens(1.5, 2),
        "rate must be a probability; got 1.5",
    ),
    "one place too few": (
        ValueError,
        lambda: speculative.judge(
            torch.zeros(1, 2).long(), torch.ones(1, 2, 3), torch.ones(1, 2, 3)
        ),
        r"and target one place more; got \(1, 2, 3\) and \(1, 2, 3\)",
    ),
    "no prompt": (
        ValueError,
        lambda: speculative.write(model, model, torch.zeros(0).long(), n_new=1, n_draft=1),
        r"prompt must have shape \(n,\), n >= 1; got \(0,\)",
    ),
    "less than nothing": (
        ValueError,
        lambda: speculative.write(model, model, torch.zeros(1).long(), n_new=1, n_draft=-1),
        "n_new and n_draft must not be negative; got 1 and -1",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors_name_what_is_wrong(name):
    error, call, message = ERRORS[name]
    with pytest.raises(error, match=message):
        call()


def test_every_error_is_tested():
    calls = [call for _, call, _ in ERRORS.values()]
    names = ("grouped", "latent", "stores", "speculative")
    modules = [f"frontier/decoding/{name}" for name in names]
    assert raises.unreached(modules, calls) == set()
