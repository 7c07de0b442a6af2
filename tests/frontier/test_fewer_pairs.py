"""Fewer pairs: the patterns of the papers, computed on their pairs, equal to masked attention."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from attn_tutorial import attention, causal_mask, window_mask
from attn_tutorial.frontier.fewer_pairs import (
    blocks,
    experiment,
    patterns,
    streaming,
    tasks,
    windows,
)
from attn_tutorial.frontier.memory import Memory
from attn_tutorial.training import evaluating
from package.conformance import TOLERANCE, assert_close, generated
from package.zoo import Zoo, ZooTests, rewritten

CHECKS = {name: [] for name in ("patterns", "windows", "blocks", "streaming", "tasks")}
SMALL = st.integers(0, 5)
SEED = st.integers(0, 2**32 - 1)


def check(module):
    """Register a check of one of the modules."""

    def register(function):
        CHECKS[module].append(function)
        return function

    return register


def some(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=dtype) for _ in range(3)]


def gradients(function, given):
    asked = [tensor.clone().requires_grad_() for tensor in given]
    output = function(*asked)
    output.backward(torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view_as(output))
    return [tensor.grad for tensor in asked]


def window_and_sinks(n, left, right, n_sinks):
    """The mask of `window_attention`, pair by pair."""
    return np.array(
        [
            [i - left <= j <= i + right or (j < n_sinks and j <= i) for j in range(n)]
            for i in range(n)
        ]
    )


# --- patterns --------------------------------------------------------------------------------


@check("patterns")
@generated(9, n=st.integers(1, 12), window=st.integers(1, 6), n_sinks=SMALL)
def sinks_and_window_are_their_definition(api, n, window, n_sinks):
    mask = api.sink_window_mask(n, window=window, n_sinks=n_sinks)
    assert (mask == window_and_sinks(n, window - 1, 0, n_sinks)).all()


@check("patterns")
@generated(9, n=st.integers(1, 14), stride=st.integers(1, 5), n_summaries=st.integers(1, 5))
def sparse_transformers_are_their_definition(api, n, stride, n_summaries):
    """The sets A⁽¹⁾ and A⁽²⁾ of Child et al. (2019), written out."""
    n_summaries = min(n_summaries, stride)
    strided = api.strided_masks(n, stride)
    fixed = api.fixed_masks(n, stride, n_summaries)
    for i, j in itertools.product(range(n), repeat=2):
        past = j <= i
        assert strided[0, i, j] == (past and j >= max(0, i - stride))
        assert strided[1, i, j] == (past and (i - j) % stride == 0)
        assert fixed[0, i, j] == (past and i // stride == j // stride)
        last = range(stride - n_summaries, stride)
        assert fixed[1, i, j] == (past and j % stride in last)


@check("patterns")
@generated(8, n=st.integers(2, 12), side=SMALL, seed=SEED)
def global_positions_see_all_and_are_seen(api, n, side, seed):
    chosen = set(np.random.default_rng(seed).integers(0, n, 2).tolist())
    mask = api.global_mask(n, side=side, positions=chosen)
    for i, j in itertools.product(range(n), repeat=2):
        assert mask[i, j] == (abs(i - j) <= side or i in chosen or j in chosen)


@check("patterns")
@generated(8, n_blocks=st.integers(1, 12), n_random=SMALL, n_global=SMALL, seed=st.integers(0, 9))
def bigbird_has_three_parts(api, n_blocks, n_random, n_global, seed):
    settings = {"n_random": n_random, "n_global": n_global, "seed": seed}
    layout = api.bigbird_layout(n_blocks, **settings)
    chosen = range(min(n_global, n_blocks))
    known = api.global_mask(n_blocks, side=1, positions=chosen)
    assert layout[known].all()
    more = (layout & ~known).sum(axis=1)
    assert (more == np.minimum(n_random, (~known).sum(axis=1))).all()
    assert (layout == api.bigbird_layout(n_blocks, **settings)).all()


@check("patterns")
def bigbird_draws_anew_for_each_seed(api):
    drawn = {api.bigbird_layout(12, n_random=2, seed=seed).tobytes() for seed in range(5)}
    assert len(drawn) == 5


@check("patterns")
@generated(8, n_q=st.integers(1, 12), n_k=st.integers(1, 12), block=st.integers(1, 5), seed=SEED)
def a_layout_covers_its_mask(api, n_q, n_k, block, seed):
    mask = np.random.default_rng(seed).random((n_q, n_k)) < 0.15
    layout = api.to_layout(mask, block)
    for row, column in np.ndindex(layout.shape):
        part = mask[row * block : (row + 1) * block, column * block : (column + 1) * block]
        assert part.size
        assert layout[row, column] == part.any()


@check("patterns")
@generated(8, n=st.integers(2, 20), window=st.integers(2, 6), n_sinks=SMALL)
def a_window_reaches_one_less_than_itself_a_layer(api, n, window, n_sinks):
    """Sinks do not change how far a window reaches: nothing flows into them."""
    mask = patterns.sink_window_mask(n, window=window)
    for key in range(n):
        wanted = math.ceil((n - 1 - key) / (window - 1))
        assert api.layers_to_reach(mask, query=n - 1, key=key) == wanted
        if key >= n_sinks:
            with_sinks = patterns.sink_window_mask(n, window=window, n_sinks=n_sinks)
            assert api.layers_to_reach(with_sinks, query=n - 1, key=key) == wanted


@check("patterns")
def two_layers_are_enough_for_sparse_transformers(api):
    n, stride = 30, 5
    for masks in (patterns.strided_masks(n, stride), patterns.fixed_masks(n, stride)):
        reached = [
            api.layers_to_reach(masks.any(axis=0), query=i, key=j)
            for i in range(n)
            for j in range(i)
        ]
        assert max(reached) == 2
    # One head in the first layer and the other in the second: the order of the layers counts.
    own, summaries = patterns.fixed_masks(n, stride)
    assert api.layers_to_reach([own, summaries], query=n - 1, key=0) == 2
    assert api.layers_to_reach([summaries, own], query=n - 1, key=0) == 3


@check("patterns")
def what_is_not_connected_is_not_reached(api):
    with pytest.raises(ValueError, match="query 3 does not hear of key 2 within most = 9 layers"):
        api.layers_to_reach(np.eye(4, dtype=bool), query=3, key=2, most=9)


# --- windows ---------------------------------------------------------------------------------


@check("windows")
@generated(
    40,
    n=st.integers(1, 17),
    left=SMALL,
    right=SMALL,
    n_sinks=SMALL,
    block=st.sampled_from([None, 1, 2, 3, 7, 20]),
    leading=st.sampled_from([(), (3,), (2, 3)]),
    dtype=st.sampled_from(list(TOLERANCE)),
    seed=SEED,
)
def a_window_is_masked_attention(api, n, left, right, n_sinks, block, leading, dtype, seed):
    generator = torch.Generator().manual_seed(seed)
    kept = torch.float64 if dtype == "float64" else torch.float32
    shapes = ((*leading, n, 4), (*leading[1:], n, 4), (*leading, n, 3))  # keys broadcast
    given = [
        torch.randn(shape, generator=generator, dtype=kept).to(getattr(torch, dtype))
        for shape in shapes
    ]
    settings = {"left": left, "right": right, "n_sinks": n_sinks, "block": block}
    output = api.window_attention(*given, **settings)
    mask = window_and_sinks(n, left, right, n_sinks)
    wanted, _ = attention(*(tensor.double() for tensor in given), mask=mask)
    assert output.dtype == given[0].dtype
    assert_close(output, wanted, dtype)


@check("windows")
@generated(
    12,
    n=st.integers(1, 9),
    left=SMALL,
    right=SMALL,
    n_sinks=SMALL,
    block=st.sampled_from([None, 1, 2, 4]),
)
def gradients_of_a_window_are_those_behind_a_mask(api, n, left, right, n_sinks, block):
    given = some(2, n, 3)
    settings = {"left": left, "right": right, "n_sinks": n_sinks, "block": block}
    mask = window_and_sinks(n, left, right, n_sinks)
    found = gradients(lambda *qkv: api.window_attention(*qkv, **settings), given)
    wanted = gradients(lambda *qkv: attention(*qkv, mask=mask)[0], given)
    for one, other in zip(found, wanted, strict=True):
        assert_close(one, other)


@check("windows")
@generated(8, n=st.integers(1, 40), left=SMALL, n_sinks=SMALL, block=st.sampled_from([None, 1, 4]))
def the_pairs_are_counted(api, n, left, n_sinks, block):
    """By PyTorch's own counter: two operations for each multiplication."""
    given = some(n, 4, dtype=torch.float32)
    settings = {"left": left, "right": 1, "n_sinks": n_sinks, "block": block}
    with FlopCounterMode(display=False) as counter:
        api.window_attention(*given, **settings)
    pairs = api.pairs_computed(n, **settings)
    assert counter.get_total_flops() == 2 * pairs * (4 + 4)
    if block == 1:
        assert pairs == n * (left + 2 + min(n_sinks, n))


@check("windows")
def half_precision_does_not_overflow(api):
    """Dot products far beyond 65504."""
    query = torch.full((4, 64), 256.0, dtype=torch.float16)
    key, value = query.clone(), torch.arange(8, dtype=torch.float16).view(4, 2)
    key[:, -1] = torch.arange(4) / 32
    output = api.window_attention(query, key, value, left=3)
    wanted, _ = attention(query.double(), key.double(), value.double(), mask=causal_mask(4, 4))
    assert_close(output, wanted, "float16")


@check("windows")
def memory_grows_with_the_window_and_not_with_the_square(api):
    peaks = []
    for n in (512, 2048):
        given = some(n, 8, dtype=torch.float32)
        with Memory() as memory:
            api.window_attention(*given, left=15)
        peaks.append(memory.peak)
    assert peaks[1] < 4.5 * peaks[0]


# --- blocks ----------------------------------------------------------------------------------


@check("blocks")
@generated(
    30,
    n_q=st.integers(1, 13),
    n_k=st.integers(1, 13),
    block=st.integers(1, 5),
    leading=st.sampled_from([(), (2, 3)]),
    looks_back=st.booleans(),
    dtype=st.sampled_from(list(TOLERANCE)),
    scale=st.sampled_from([1, 40]),
    seed=SEED,
)
def blocks_are_masked_attention(api, n_q, n_k, block, leading, looks_back, dtype, scale, seed):
    rng = np.random.default_rng(seed)
    layout = rng.random((math.ceil(n_q / block), math.ceil(n_k / block))) < 0.5
    query, key, value = (
        torch.from_numpy(rng.normal(size=(*leading, n, d))).to(getattr(torch, dtype))
        for n, d in ((n_q, 4), (n_k, 4), (n_k, 2))
    )
    query = query * scale
    mask = np.kron(layout, np.ones((block, block), dtype=bool))[:n_q, :n_k]
    allowed = None
    if looks_back:
        mask = mask & causal_mask(n_q, n_k)

        def allowed(rows, columns):
            return columns <= rows

    output = api.block_attention(query, key, value, layout, block=block, allowed=allowed)
    wanted, _ = attention(query.double(), key.double(), value.double(), mask=mask)
    assert output.dtype == query.dtype
    assert_close(output, wanted, dtype)


@check("blocks")
@generated(8, n=st.integers(1, 9), block=st.integers(1, 4), seed=SEED)
def gradients_of_blocks_are_those_behind_a_mask(api, n, block, seed):
    n_blocks = math.ceil(n / block)
    layout = np.random.default_rng(seed).random((n_blocks, n_blocks)) < 0.6
    mask = np.kron(layout, np.ones((block, block), dtype=bool))[:n, :n] & causal_mask(n, n)
    given = some(2, n, 3)
    found = gradients(
        lambda *qkv: api.block_attention(
            *qkv, layout, block=block, allowed=lambda rows, columns: columns <= rows
        ),
        given,
    )
    wanted = gradients(lambda *qkv: attention(*qkv, mask=mask)[0], given)
    for one, other in zip(found, wanted, strict=True):
        assert_close(one, other)


@check("blocks")
def only_the_blocks_of_the_layout_are_multiplied(api):
    given = some(24, 4, dtype=torch.float32)
    layout = np.random.default_rng(0).random((6, 6)) < 0.4
    with FlopCounterMode(display=False) as counter:
        api.block_attention(*given, layout, block=4)
    assert counter.get_total_flops() == 2 * layout.sum() * 4 * 4 * (4 + 4)


# --- the stream ------------------------------------------------------------------------------


def small_model(api, **settings):
    torch.manual_seed(0)
    sizes = {"d_model": 8, "n_heads": 2, "n_layers": 2} | settings
    return api.StreamModel(7, **sizes).double().eval()


@check("streaming")
def a_stream_is_the_text_behind_a_mask(api):
    model = small_model(api)
    tokens = torch.randint(7, (2, 13), generator=torch.Generator().manual_seed(0))
    for window, n_sinks in ((1, 0), (4, 0), (1, 1), (3, 2), (5, 3), (20, 2)):
        for counted in ("in the cache", "in the text"):
            settings = {"window": window, "n_sinks": n_sinks, "counted": counted}
            with torch.no_grad():
                streamed, caches = model.stream(tokens, **settings)
                assert_close(streamed, model.at_once(tokens, **settings))
            assert [cache.n_seen for cache in caches] == [13, 13]


@check("streaming")
@generated(9, n_seen=st.integers(1, 25), window=st.integers(1, 6), n_sinks=SMALL)
def a_cache_holds_the_first_and_the_last(api, n_seen, window, n_sinks):
    cache = api.SinkCache(window, n_sinks)
    sizes = set()
    for number in range(n_seen):
        entry = torch.full((1, 2, 1, 3), float(number))
        cache.append(entry, 10 * entry)
        sizes.add(cache.n_bytes)
    held = [j for j in range(n_seen) if j < n_sinks or j >= n_seen - window]
    in_text = cache.positions("in the text")
    assert sorted(in_text) == held
    assert cache.keys[0, 0, :, 0].tolist() == in_text.tolist()
    assert cache.values[0, 1, :, 2].tolist() == (10 * in_text).tolist()
    ranks = {position: rank for rank, position in enumerate(held)}
    assert cache.positions("in the cache").tolist() == [ranks[j] for j in in_text]
    assert cache.length == len(held) == len(cache.values[0, 0])
    assert sizes == {2 * 2 * 3 * (window + n_sinks) * 4}


@check("streaming")
def a_wide_window_is_all_pairs(api):
    model = small_model(api)
    tokens = torch.arange(14).view(2, 7) % 7
    with torch.no_grad():
        assert_close(model.at_once(tokens, window=7, n_sinks=3), model(tokens))
        mask = causal_mask(7, 7)
        assert_close(model(tokens), model(tokens, mask))
        logits, weights = model.run(tokens, mask)
    assert_close(logits, model(tokens))
    assert [one.shape for one in weights] == 2 * [(2, 2, 7, 7)]
    for one in weights:
        assert_close(one.sum(dim=-1), torch.ones(2, 2, 7))
        assert (one[:, :, ~mask] == 0).all()


@check("streaming")
def each_head_may_have_a_mask_of_its_own(api):
    model = small_model(api)
    masks = patterns.strided_masks(7, 3)
    with torch.no_grad():
        _, weights = model.run(torch.arange(7)[None], masks)
    assert (weights[0][0, ~masks] == 0).all()
    assert (weights[0][0, masks] > 0).all()


@check("streaming")
def a_head_with_nothing_to_attend_to_gives_zeros(api):
    model = small_model(api)
    masks = patterns.fixed_masks(7, 3)  # the second head's first rows are empty
    logits, weights = model.run(torch.arange(7)[None], masks)
    assert (weights[0][0, 1, :2] == 0).all()
    assert logits.isfinite().all()
    logits.sum().backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@check("streaming")
def rotary_layer_is_attention_of_turned_vectors(api):
    torch.manual_seed(0)
    layer = api.RotaryAttention(8, 2).double()
    x = torch.randn(2, 5, 8, dtype=torch.float64)
    mask = torch.from_numpy(causal_mask(5, 5))
    turned = lambda part: streaming.rotate(part)  # noqa: E731
    query, key, value = layer.inward(x).view(2, 5, 3, 2, 4).permute(2, 0, 3, 1, 4)
    heads, weights = attention(turned(query), turned(key), value, mask=mask)
    output, found = layer(x, mask)
    assert_close(found, weights)
    assert_close(output, layer.outward(heads.transpose(1, 2).reshape(2, 5, 8)))


@check("streaming")
def a_model_without_networks_only_attends(api):
    bare = small_model(api, d_hidden=0, n_layers=1)
    full = small_model(api, n_layers=1)
    assert bare.layers[0].network is None
    assert full.layers[0].network is not None
    tokens = torch.arange(6)[None]
    with torch.no_grad():
        x = bare.embedding(tokens)
        layer = bare.layers[0]
        found, _ = layer.attention(
            layer.around_attention.norm(x), torch.from_numpy(causal_mask(6, 6))
        )
        assert_close(bare(tokens), bare.output(bare.norm(x + found)))


# --- the tasks -------------------------------------------------------------------------------


@check("tasks")
def recall_asks_for_the_one_value(api):
    tokens, values, distances = api.recall_sequences(300, 12, seed=3)
    assert tokens.shape == (300, 12)
    is_value = tokens < api.N_VALUES
    assert (is_value.sum(dim=1) == 1).all()
    assert (tokens[is_value] == values).all()
    assert (11 - is_value.int().argmax(dim=1) == distances).all()
    assert (tokens[:, -1] == api.QUESTION).all()
    assert (tokens[:, :-1] != api.QUESTION).all()
    assert set(distances.tolist()) == set(range(1, 12))
    assert set(values.tolist()) == set(range(api.N_VALUES))
    again, _, _ = api.recall_sequences(300, 12, seed=3)
    assert (tokens == again).all()


@check("tasks")
def the_chain_copies_behind_triggers(api):
    tokens, chances = api.chain_sequences(1000, 20, seed=4)
    assert (tokens[:, 0] == 0).all()
    assert (tokens[:, 1:] > 0).all()
    assert (tokens < api.N_CHAIN).all()
    after_trigger = tokens[:, 1:-1] <= api.N_TRIGGERS
    copied = tokens[:, 2:] == tokens[:, :-2]
    assert copied[after_trigger].all()
    assert (chances[:, 2:][after_trigger] == 1).all()
    # What the chances promise: pairs are as frequent as they say.
    now, then, promised = (
        part[~after_trigger].numpy()
        for part in (tokens[:, 1:-1], tokens[:, 2:], torch.from_numpy(chances)[:, 2:])
    )
    for token in range(api.N_TRIGGERS + 1, api.N_CHAIN):
        for follower in range(1, api.N_CHAIN):
            both = (now == token) & (then == follower)
            if both.any():
                (chance,) = set(promised[both])
                n = (now == token).sum()
                assert abs(both.sum() / n - chance) < 6 * math.sqrt(chance / n) + 2 / n


BROKEN = {
    "patterns": {
        "what is not reached has no number": (
            'raise ValueError(f"query {query} does not',
            'print(f"query {query} does not',
        ),
        "the window counts one too many": ("left=window - 1", "left=window"),
        "sinks see the future": ("return mask & causal_mask(n, n)", "return mask"),
        "one sink too many": ("mask[:, :n_sinks] = True", "mask[:, : n_sinks + 1] = True"),
        "strided without its last position": ("(back <= stride)", "(back < stride)"),
        "strided from the first position": ("back % stride == 0", "back % stride == 1"),
        "the first positions as summaries": (
            "key % stride >= stride - n_summaries",
            "key % stride < n_summaries",
        ),
        "pieces by remainder": (
            "query // stride == key // stride",
            "query % stride == key % stride",
        ),
        "global positions see all, unseen": (
            "mask[chosen] = mask[:, chosen] = True",
            "mask[chosen] = True",
        ),
        "random blocks that are seen already": ("np.flatnonzero(~row)", "np.arange(len(row))"),
        "the same blocks for all seeds": ("default_rng(seed)", "default_rng(0)"),
        "blocks whose pairs are all allowed": (".any(axis=(1, 3))", ".all(axis=(1, 3))"),
        "layers without the residual sum": ("heard = heard | (mask @", "heard = (mask @"),
        "the mask against its direction": ("(mask @ heard", "(mask.T @ heard"),
        "the first layer again and again": ("[n_layers % len(in_turn)]", "[0]"),
    },
    "windows": {
        "no scale": ("(scores / math.sqrt(query.shape[-1]))", "scores"),
        "softmax over the queries": (".softmax(dim=-1)", ".softmax(dim=-2)"),
        "the mask turned round": ("masked_fill(~allowed", "masked_fill(allowed"),
        "off by one to the left": ("columns >= rows - left", "columns > rows - left"),
        "off by one to the right": ("columns <= rows + right", "columns < rows + right"),
        "padding before the text counts": (" & (columns >= 0)", ""),
        "padding behind the text counts": (" & (columns < n)", ""),
        "keys one place too far": ("rows[:, :1] - left +", "rows[:, :1] - left + 1 +"),
        "near sinks counted twice": ("sinks >= rows - left", "sinks >= rows + n"),
        "a sink is forgotten": ("sinks >= rows - left", "sinks >= rows - left - 1"),
        "sinks without their values": (
            "output = output + weights[..., :n_sinks]",
            "output = output + 0 * weights[..., :n_sinks]",
        ),
        "sums in half precision": (
            "torch.promote_types(tensor.dtype, torch.float32)",
            "tensor.dtype",
        ),
        "all pairs behind a mask": (
            "block = left + right + 1 if block is None else at_least(1, block=block)",
            "block = query.shape[-2]",
        ),
    },
    "blocks": {
        "no scale": ("(scores / math.sqrt(query.shape[-1]))", "scores"),
        "padding counts": ("(k_positions < n_k).expand", "(k_positions < n_k + block).expand"),
        "the function is not asked": ("pairs = pairs & allowed(q_positions, k_positions)", "pass"),
        "positions within the block": ("rows[:, None] * block +", "0 * rows[:, None] +"),
        "each with a softmax of its own": (
            "[..., rows, :]\n\n\ndef _row_sums",
            "[..., rows, :] * 0 + own.masked_fill(own == -math.inf, 0)\n\n\ndef _row_sums",
        ),
        "maximum not subtracted": ("torch.exp(scores - maximum[..., None])", "torch.exp(scores)"),
        "empty rows are not a number": ("totals.masked_fill(totals == 0, 1)", "totals"),
        "every block is computed": ("np.nonzero(layout)", "np.nonzero(layout | True)"),
    },
    "streaming": {
        "empty rows are not a number": (
            "softmax(scores.masked_fill(~mask, -torch.inf))",
            "scores.masked_fill(~mask, -torch.inf).softmax(dim=-1)",
        ),
        "the cache is read before it is written": (
            "        cache.append(key, value)\n        places",
            "        cache.append(0 * key, 0 * value)\n        places",
        ),
        "the ring overwrites the sinks": (
            "self.n_sinks + (slot - self.n_sinks) % self.window",
            "slot % (self.n_sinks + self.window)",
        ),
        "the ring is one too short": (
            "(slot - self.n_sinks) % self.window",
            "(slot - self.n_sinks) % max(self.window - 1, 1)",
        ),
        "positions of the ring by slot": (
            "np.argsort(np.argsort(in_text))",
            "np.arange(len(in_text))",
        ),
        "positions in the text one late": ("newest - age)", "newest - age - 1)"),
        "turned keys are stored": (
            "keys = rotate(cache.keys, positions=places)",
            "keys = cache.keys",
        ),
        "the query stands elsewhere": (
            "positions=places.max(keepdims=True)",
            "positions=places.min(keepdims=True)",
        ),
        "sinks at their old distance": (
            "np.minimum(np.arange(x.shape[1]), n_sinks + window - 1)",
            "np.arange(x.shape[1])",
        ),
        "model: no scale": ("scores = scores / query.shape[-1] ** 0.5", "pass"),
        "model: keys not turned": (
            "scores = rotate(query) @ rotate(key).mT",
            "scores = rotate(query) @ key.mT",
        ),
        "model: the mask turned round": ("masked_fill(~mask", "masked_fill(mask"),
        "model: networks without width": ("if d_hidden else None", "if True else None"),
        "model: no residual sum": (
            "x = self.around_attention.leave(x, found)",
            "x = self.around_attention.leave(0 * x, found)",
        ),
    },
    "tasks": {
        "recall: a value one place off": ("n - 1 - distances", "n - 2 - distances"),
        "recall: questions among the noise": ("integers(QUESTION + 1,", "integers(QUESTION,"),
        "chain: the trigger itself comes again": ("tokens[:, i - 2], drawn", "before, drawn"),
        "chain: chances of another token": ("followers[before, drawn]", "followers[drawn, before]"),
        "chain: copies by chance": (
            "np.where(copies, 1.0, followers",
            "np.where(copies, 0.5, followers",
        ),
    },
}


def zoo(module):
    """The checks of a module, and its broken versions."""
    broken = BROKEN[module.__name__.rpartition(".")[2]]
    return Zoo(CHECKS[module.__name__.rpartition(".")[2]], rewritten(module, broken), broken)


class TestPatterns(ZooTests):
    zoo = zoo(patterns)


class TestWindows(ZooTests):
    zoo = zoo(windows)


class TestBlocks(ZooTests):
    zoo = zoo(blocks)


class TestStreaming(ZooTests):
    zoo = zoo(streaming)


class TestTasks(ZooTests):
    zoo = zoo(tasks)


# --- the experiment --------------------------------------------------------------------------


def test_training_lowers_the_losses_and_depends_on_the_seed_alone():
    for fit in (
        lambda seed: experiment.fit_recall(seed, "window, 1 layer", steps=3),
        lambda seed: experiment.fit_chain(seed, 0, steps=3),
        lambda seed: experiment.fit_text(
            seed, causal_mask(8, 8), torch.arange(90).view(10, 9), steps=3
        ),
    ):
        first, again, other = (fit(seed)[-1].losses for seed in (0, 0, 1))
        assert first == again != other


def test_what_a_window_cannot_see_it_does_not_know():
    """Beyond its reach the question's answer does not depend on the value."""
    model, mask, _ = experiment.fit_recall(0, "window, 2 layers", steps=3)
    tokens, _, distances = tasks.recall_sequences(200, experiment.N_RECALLED, seed=5)
    changed = torch.where(tokens < tasks.N_VALUES, (tokens + 1) % tasks.N_VALUES, tokens)
    with evaluating(model):
        same = (model(tokens, mask) == model(changed, mask))[:, -1].all(dim=-1)
    reach = 2 * (experiment.WINDOW - 1)
    assert same[distances > reach].all()
    assert not same[distances <= reach].any()
    shares = experiment.recall_by_distance(model, mask, n_sequences=400)
    assert len(shares) == experiment.N_RECALLED - 1


def test_bits_are_those_of_the_later_tokens():
    tokens = torch.tensor([[0, 1, 2, 3], [0, 3, 2, 1]])
    logits = torch.zeros(2, 4, 4)
    logits[1, 2, 1] = 50.0  # the third position of the second row knows what follows
    assert_close(experiment.bits(logits, tokens, 2), np.array([2.0, 1.0]), "float32")


def test_streams_and_first_weights_are_what_the_model_gives():
    model = small_model(streaming).float()
    tokens = torch.arange(12).view(2, 6) % 7
    found = experiment.stream_bits(model, tokens, 3, window=2, n_sinks=1)
    with evaluating(model):
        logits, _ = model.stream(tokens, window=2, n_sinks=1)
        _, weights = model.run(tokens, causal_mask(6, 6))
    assert_close(found, experiment.bits(logits, tokens, 3), "float32")
    wanted = weights[1][:, 0, 3:, 0].mean()
    assert_close(np.array(experiment.weight_on_first(model, tokens)[1][0]), wanted, "float32")


ONE = torch.ones(4, 2)
CACHE = streaming.SinkCache(3)
LAYOUT = np.ones((2, 2), dtype=bool)
MISTAKES = {
    "no window": (
        ValueError,
        lambda: patterns.sink_window_mask(4, window=0),
        "window must be at least 1; got 0",
    ),
    "half a sink": (
        TypeError,
        lambda: patterns.sink_window_mask(4, window=2, n_sinks=0.5),
        "n_sinks must be a whole number; got 0.5",
    ),
    "too many summaries": (
        ValueError,
        lambda: patterns.fixed_masks(9, 3, 4),
        "n_summaries must be at most the stride 3; got 4",
    ),
    "a global position outside": (
        ValueError,
        lambda: patterns.global_mask(4, side=1, positions=[4]),
        r"positions must be from 0 to 3; got \[4\]",
    ),
    "negative left": (
        ValueError,
        lambda: windows.window_attention(ONE, ONE, ONE, left=-1),
        "left must be at least 0; got -1",
    ),
    "no block": (
        ValueError,
        lambda: windows.window_attention(ONE, ONE, ONE, left=1, block=0),
        "block must be at least 1; got 0",
    ),
    "more keys than queries": (
        ValueError,
        lambda: windows.window_attention(ONE[:3], ONE, ONE, left=1),
        "query and key must be as many, one of each at a position; got 3 and 4",
    ),
    "dtypes": (
        TypeError,
        lambda: windows.window_attention(ONE, ONE.double(), ONE, left=1),
        "of one dtype; key is torch.float64 and query is torch.float32",
    ),
    "one axis": (
        ValueError,
        lambda: windows.window_attention(ONE, ONE[0], ONE, left=1),
        r"key must have shape \(…, n, d\); got \(2,\)",
    ),
    "sizes": (
        ValueError,
        lambda: blocks.block_attention(ONE, ONE[:, :1], ONE, LAYOUT, block=2),
        r"vectors of one size, at least 1; got shapes \(4, 2\) and \(4, 1\)",
    ),
    "values": (
        ValueError,
        lambda: blocks.block_attention(ONE, ONE, ONE[:3], LAYOUT, block=2),
        r"key and value must be as many; got shapes \(4, 2\) and \(3, 2\)",
    ),
    "a layout of numbers": (
        TypeError,
        lambda: blocks.block_attention(ONE, ONE, ONE, np.ones((2, 2)), block=2),
        "layout must be a boolean NumPy array; got float64",
    ),
    "a layout of another size": (
        ValueError,
        lambda: blocks.block_attention(ONE, ONE, ONE, LAYOUT, block=1),
        r"a column for each of keys, \(4, 4\); got shape \(2, 2\)",
    ),
    "two tokens at once": (
        ValueError,
        lambda: CACHE.append(torch.ones(1, 1, 2, 2), torch.ones(1, 1, 2, 2)),
        r"one shape \(batch, n_heads, 1, d_head\); got \(1, 1, 2, 2\)",
    ),
    "odd heads": (
        ValueError,
        lambda: streaming.StreamModel(5, d_model=6, n_heads=2),
        "d_model must be n_heads times an even number; got 6 and 2",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_errors_name_what_is_wrong(name):
    error, call, message = MISTAKES[name]
    with pytest.raises(error, match=message):
        call()


def test_an_empty_cache_takes_no_memory():
    assert streaming.SinkCache(3).n_bytes == 0


def test_a_mask_of_all_neighbours_is_the_packages_window():
    mask = patterns.sink_window_mask(9, window=4)
    assert (mask == window_mask(9, 9, left=3, right=0)).all()
