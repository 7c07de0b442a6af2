"""Attention and training on several processes are what they are on one; and all processes end.

Generated cases run in threads, which send each other copies of tensors as processes do; a few run
in real processes that talk by torch.distributed.
"""

import math
import multiprocessing
import re
import time
from types import SimpleNamespace
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import strategies as st
from torch import nn

from attn_tutorial import attention, causal_mask
from attn_tutorial.frontier import parallel
from attn_tutorial.frontier.parallel import (
    Allowed,
    Peers,
    __main__,
    cut,
    in_processes,
    in_threads,
    jobs,
    joined,
    peers,
    starting,
    training,
    ways,
)
from attn_tutorial.language_model import CausalLanguageModel, next_token_loss
from attn_tutorial.layers import MultiHeadAttention
from package.conformance import assert_close, generated
from package.zoo import Zoo, ZooTests, rewritten

CHECKS = []
DTYPES = ("float64", "float32", "float16", "bfloat16")


def check(function):
    CHECKS.append(function)
    return function


def some(*shapes, seed=0, scale=1.0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    made = [
        scale * torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes
    ]
    return [one.to(dtype) for one in made]


def together(api, size, job, *arguments, timeout=2.0):
    """The job in threads that are those of the implementation under test."""
    with patch.object(starting, "Threads", api.peers.Threads):
        return in_threads(job, size, *arguments, timeout=timeout)


# --- generated cases -------------------------------------------------------------------------


@st.composite
def cases(draw):
    """Sequences that are cut among one to four processes, with masks of every kind."""
    size, part = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    n, batch = size * part, 2
    n_kv_heads = draw(st.sampled_from([1, 2]))  # to be shared, or one for each head
    d_k, d_v = draw(st.integers(1, 6)), draw(st.integers(1, 4))
    lengths = None
    if draw(st.booleans()):  # the first may have nothing to attend to at all
        lengths = torch.tensor([draw(st.integers(0, n)), draw(st.integers(0, n))])
    causal = draw(st.booleans())
    query, key, value, downstream = some(
        (batch, 2, n, d_k),
        (batch, n_kv_heads, n, d_k),
        (batch, n_kv_heads, n, d_v),
        (batch, 2, n, d_v),
        seed=draw(st.integers(0, 10**6)),
        scale=draw(st.sampled_from([0.5, 3.0])),
        dtype=getattr(torch, draw(st.sampled_from(DTYPES))),
    )
    mask = Allowed(causal, lengths) if causal or lengths is not None else None
    return SimpleNamespace(
        size=size,
        whole=(query, key, value),
        downstream=downstream,
        mask=mask,
        hidden=None if lengths is None else torch.arange(n) >= lengths[:, None],  # (batch, n)
        striped=draw(st.booleans()),
        chunk=draw(st.integers(1, 6)),
        dtype=str(query.dtype).removeprefix("torch."),
    )


def dense(mask, n):
    return None if mask is None else mask(torch.arange(n)[:, None], torch.arange(n)[None])


def ring(api, case, whole):
    def job(me):
        own = [cut(one, me.rank, me.size, striped=case.striped) for one in whole]
        settings = {"mask": case.mask, "striped": case.striped, "chunk": case.chunk}
        return api.ways.ring_attention(*own, peers=me, **settings)

    return joined(together(api, case.size, job), striped=case.striped)


def gradients(function, whole, downstream):
    whole = [one.clone().requires_grad_() for one in whole]
    return torch.autograd.grad(function(*whole), whole, downstream)


@check
@generated(30, case=cases())
def the_ring_agrees_with_plain_attention(api, case):
    query, key, value = case.whole
    wanted, _ = attention(
        *(one.double() for one in case.whole), mask=dense(case.mask, query.shape[-2])
    )
    if case.hidden is not None:  # what a key holds that nobody may see does not matter
        key = key.masked_fill(case.hidden[:, None, :, None], math.nan)
    output = ring(api, case, (query, key, value))
    assert output.dtype == query.dtype
    assert_close(output, wanted, case.dtype)


@check
@generated(16, case=cases())
def gradients_travel_home(api, case):
    n = case.downstream.shape[-2]
    whole, downstream = [one.double() for one in case.whole], case.downstream.double()

    def job(me):
        own = [cut(one, me.rank, me.size, striped=case.striped) for one in whole]
        settings = {"mask": case.mask, "striped": case.striped, "chunk": case.chunk}
        return gradients(
            lambda *qkv: api.ways.ring_attention(*qkv, peers=me, **settings),
            own,
            cut(downstream, me.rank, me.size, striped=case.striped),
        )

    found = zip(*together(api, case.size, job), strict=True)
    mask = dense(case.mask, n)
    wanted = gradients(lambda *qkv: attention(*qkv, mask=mask)[0], whole, downstream)
    for parts, one in zip(found, wanted, strict=True):
        assert_close(joined(parts, striped=case.striped), one)


@check
@generated(14, case=cases(), spread=st.integers(1, 2))
def all_to_all_agrees_with_plain_attention(api, case, spread):
    """Output and gradients; every number of heads is a multiple of the number of processes."""
    query, key, value = (one.double().repeat_interleave(case.size, dim=1) for one in case.whole)
    value = value + torch.arange(value.shape[1])[:, None, None]  # no two heads are alike
    query, downstream = (
        one.repeat_interleave(spread, dim=1)
        for one in (query, case.downstream.double().repeat_interleave(case.size, dim=1))
    )
    whole, shared = (query, key, value), query.shape[1] // key.shape[1]

    def plain(query, key, value):
        key, value = (one.repeat_interleave(shared, dim=1) for one in (key, value))
        return attention(query, key, value, mask=dense(case.mask, query.shape[-2]))[0]

    def job(me):
        own = [cut(one, me.rank, me.size).requires_grad_() for one in whole]
        output = api.ways.all_to_all_attention(*own, peers=me, mask=case.mask, chunk=case.chunk)
        return output, torch.autograd.grad(output, own, cut(downstream, me.rank, me.size))

    found = together(api, case.size, job)
    assert_close(joined([output for output, _ in found]), plain(*whole))
    wanted = gradients(plain, whole, downstream)
    for number, one in enumerate(wanted):
        assert_close(joined([own[number] for _, own in found]), one)


@check
@generated(10, size=st.integers(1, 4), shape=st.sampled_from([(1,), (5,), (2, 3), (4, 4), (0,)]))
def sums_are_the_same_on_every_rank(api, size, shape):
    tensors = some(*size * [shape], dtype=torch.float32)
    found = together(api, size, lambda me: me.sum(tensors[me.rank]))
    for one in found:
        assert torch.equal(one, found[0])
        torch.testing.assert_close(one, torch.stack(tensors).sum(0))


# --- messages --------------------------------------------------------------------------------


@check
def what_is_passed_on_comes_from_the_rank_before(api):
    def job(me):
        wait = me.pass_on(torch.full((2,), float(me.rank)), torch.full((3,), 10.0 + me.rank).long())
        return [one.tolist() for one in wait()]

    for size in (1, 2, 3):
        for rank, (first, second) in enumerate(together(api, size, job)):
            before = (rank - 1) % size
            assert first == [before] * 2
            assert second == [10 + before] * 3


@check
def a_swap_is_a_transpose(api):
    def job(me):
        parts = me.swap([torch.tensor([[10 * me.rank + to]]).expand(1, 2) for to in range(me.size)])
        return [part[0, 0].item() for part in parts]

    assert together(api, 1, job) == [[0]]
    assert together(api, 3, job) == [[0, 10, 20], [1, 11, 21], [2, 12, 22]]


@check
def bytes_are_those_of_the_formulas(api):
    n, heads, d_k, d_v = 12, 4, 3, 5

    def job(me, way):
        query, key, value = some(
            (heads, n // me.size, d_k), (heads, n // me.size, d_k), (heads, n // me.size, d_v)
        )
        given = [one.requires_grad_() for one in (query, key, value)]
        attend = api.ways.ring_attention if way == "ring" else api.ways.all_to_all_attention
        output = attend(*given, peers=me)
        forward = me.bytes_sent
        torch.autograd.grad(output.sum(), given)
        return forward, me.bytes_sent - forward

    for size in (1, 2, 4):
        row = heads * (n // size) * 8  # bytes of one feature of a part
        hops = size - 1
        forward = hops * row * (d_k + d_v)
        home = size * row * (d_k + d_v) if size > 1 else 0
        assert together(api, size, job, "ring") == size * [(forward, forward + home)]
        swapped = hops * row * (2 * d_k + 2 * d_v) // size
        assert together(api, size, job, "all-to-all") == size * [(swapped, swapped)]

    def sums(me):
        me.sum(torch.zeros(7, dtype=torch.float32))
        return me.bytes_sent

    for size in (1, 2, 3, 4):
        expected = 2 * (size - 1) * math.ceil(7 / size) * 4
        assert together(api, size, sums) == size * [expected]


@check
def messages_travel_while_a_process_computes(api):
    def job(me):
        happened = []

        class Listening(api.peers.Threads):
            def _exchange(self, outgoing, incoming):
                happened.append("sent")
                wait = super()._exchange(outgoing, incoming)

                def waited():
                    happened.append("waited")
                    wait()

                return waited

        def mask(rows, columns):
            happened.append("computed")
            return columns <= rows + 100

        one = some((2, 3))[0]
        api.ways.ring_attention(
            one, one, one, peers=Listening(me.rank, me.size, me.boxes, me.timeout), mask=mask
        )
        return happened

    step = ["sent", "computed", "waited"]
    assert together(api, 3, job) == 3 * [[*step, *step, "computed"]]


# --- parts -----------------------------------------------------------------------------------


@check
def parts_join_to_the_whole(api):
    whole = torch.arange(24).reshape(2, 12, 1)
    for striped in (False, True):
        for size in (1, 2, 3, 4):
            parts = [api.ways.cut(whole, rank, size, striped=striped) for rank in range(size)]
            assert torch.equal(api.ways.joined(parts, striped=striped), whole)
            for rank, part in enumerate(parts):
                found = api.ways.positions(12 // size, rank, size, striped=striped)
                assert torch.equal(found, part[0, :, 0])
    assert api.ways.positions(3, 1, 2).tolist() == [3, 4, 5]
    assert api.ways.positions(3, 1, 2, striped=True).tolist() == [1, 3, 5]


@check
def stripes_balance_a_causal_mask(api):
    n, size = 24, 4
    part, allowed = n // size, n * (n + 1) // 2
    causal = Allowed(causal=True)
    in_order = api.ways.scores_computed(n, size, mask=causal, chunk=1)
    striped = api.ways.scores_computed(n, size, mask=causal, striped=True, chunk=1)
    assert in_order.sum() == striped.sum() == allowed
    triangle = part * (part + 1) // 2
    for step in range(size):
        for rank in range(size):
            square = part**2 if rank >= step else 0
            assert in_order[step, rank] == (triangle if step == 0 else square)
            below = triangle if rank >= step else triangle - part
            assert striped[step, rank] == below
    assert (api.ways.scores_computed(n, size, chunk=4) == part**2).all()
    assert (api.ways.scores_computed(n, size, mask=causal, striped=True) == part**2).all()


@check
def large_scores_do_not_overflow(api):
    whole = some((8, 4), (8, 4), (8, 3), scale=300)
    wanted, _ = attention(*whole)
    case = SimpleNamespace(size=4, mask=None, striped=False, chunk=1)
    assert_close(ring(api, case, whole), wanted)


@check
def small_floats_are_summed_in_larger_ones(api):
    query, key, value = some((64, 8), (64, 8), (64, 2), scale=3, dtype=torch.bfloat16)
    value = value.abs()
    wanted, _ = attention(query.double(), key.double(), value.double())
    output = ring(
        api, SimpleNamespace(size=2, mask=None, striped=False, chunk=16), (query, key, value)
    )
    assert ((output - wanted) / wanted).abs().max() <= torch.finfo(torch.bfloat16).eps


# --- heads -----------------------------------------------------------------------------------


@check
def heads_on_several_processes_are_the_whole_module(api):
    torch.manual_seed(0)
    mask = causal_mask(5, 5)
    x, downstream = some((2, 5, 8), (2, 5, 8))
    for size, n_kv_heads, bias in ((1, 4, True), (2, 4, True), (2, 2, False), (4, 4, True)):
        whole = MultiHeadAttention(8, 4, n_kv_heads=n_kv_heads, bias=bias).double()
        for parameter in whole.parameters():
            nn.init.normal_(parameter)
        given = x.clone().requires_grad_()
        wanted, _ = whole(given, mask=mask)
        wanted_x, *wanted_all = torch.autograd.grad(
            wanted, [given, *whole.parameters()], downstream
        )
        names = dict(zip((name for name, _ in whole.named_parameters()), wanted_all, strict=True))

        def job(me, whole=whole):
            part = api.ways.TensorParallelAttention(whole, me)
            given = x.clone().requires_grad_()
            output = part(given, mask=mask)
            output.backward(downstream)
            return output, given.grad, part, me.bytes_sent

        found = together(api, size, job)
        for output, d_x, part, sent in found:
            assert_close(output, wanted)
            assert_close(d_x, wanted_x)
            if bias:
                assert_close(part.bias.grad, names["out.bias"])
            assert sent == 2 * 2 * (size - 1) * math.ceil(x.numel() / size) * 8
        for name in ("query", "key", "value"):
            grads = [getattr(part, name).weight.grad for _, _, part, _ in found]
            assert_close(torch.cat(grads), names[f"{name}.weight"])
        assert_close(torch.cat([part.out.grad for _, _, part, _ in found], 1), names["out.weight"])


# --- training --------------------------------------------------------------------------------

SETTINGS = {"n_tokens": 9, "d_model": 8, "n_heads": 2, "n_layers": 1, "d_hidden": 8, "pad": 0}


def padded_batches():
    """Batches of five rows that differ much in length: the first ranks have few tokens."""
    rng = np.random.default_rng(0)
    batches = rng.integers(1, 9, size=(4, 5, 8))
    for row, length in enumerate((2, 3, 8, 8, 8)):
        batches[:, row, length:] = 0
    return list(torch.tensor(batches))


def trained_alone(batches, rate):
    """By one process that knows nothing of others."""
    torch.manual_seed(0)
    model = CausalLanguageModel(**SETTINGS, dropout=0.0).double()
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    losses = []
    for batch in batches:
        loss = next_token_loss(model, batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, torch.cat([one.detach().reshape(-1) for one in model.parameters()])


@check
def several_processes_take_the_steps_of_one(api):
    batches, rate = padded_batches(), 1e-2
    wanted, wanted_parameters = trained_alone(batches, rate)
    for size in (1, 2, 3):
        torch.manual_seed(0)
        models = [CausalLanguageModel(**SETTINGS, dropout=0.0).double() for _ in range(size)]
        for model in models:
            model.load_state_dict(models[0].state_dict())

        def job(me, models=models):
            return api.training.train_together(models[me.rank], batches, peers=me, rate=rate)

        for losses, model in zip(together(api, size, job), models, strict=True):
            assert_close(torch.tensor(losses), torch.tensor(wanted))
            parameters = torch.cat([one.detach().reshape(-1) for one in model.parameters()])
            assert_close(parameters, wanted_parameters)


@check
def gradients_are_summed_and_missing_ones_are_zero(api):
    def job(me):
        first, second, third = (nn.Parameter(torch.zeros(2, 3)) for _ in range(3))
        first.grad = torch.full((2, 3), 1.0 + me.rank)
        if me.rank == 1:
            second.grad = torch.ones(2, 3)
        api.training.sum_gradients([first, second, third], me)
        return [one.grad.unique().tolist() for one in (first, second, third)]

    assert together(api, 2, job) == 2 * [[[3.0], [1.0], [0.0]]]


@check
def every_row_of_a_batch_has_one_owner(api):
    batch = torch.arange(10).reshape(5, 2)
    for size in (1, 2, 3, 5):
        parts = [api.training.share(batch, Peers(rank, size)) for rank in range(size)]
        assert torch.equal(torch.cat(parts), batch)


BROKEN = {
    "no scale": ("ways", "key.to(sums).mT / math.sqrt(query.shape[-1])", "key.to(sums).mT"),
    "no scale backward": ("ways", "scale = 1 / math.sqrt(query.shape[-1])", "scale = 1.0"),
    "the mask turned round": ("ways", "masked_fill(~allowed", "masked_fill(allowed"),
    "only the own keys": (
        "ways",
        "key, value = arrived()\n        found",
        "arrived()\n        found",
    ),
    "the keys are thought to come from the other side": (
        "ways",
        "(rank - step) % size)",
        "(rank + step) % size)",
    ),
    "the last step is left out": (
        "ways",
        "for step in range(peers.size):\n            # What",
        "for step in range(max(1, peers.size - 1)):\n            # What",
    ),
    "states are not merged": ("ways", "= merge(states[number], piece)", "= piece"),
    "sent only when all is computed": (
        "ways",
        "key, value = arrived()\n        found",
        "key, value = peers.pass_on(key, value)()\n        found",
    ),
    "positions counted in the part": (
        "ways",
        "torch.arange(n) + rank * n",
        "torch.arange(n)",
    ),
    "stripes one off": (
        "ways",
        "torch.arange(n) * size + rank",
        "torch.arange(n) * size + rank - 1",
    ),
    "stripes joined as parts": (
        "ways",
        "torch.stack(list(parts), dim=-2)",
        "torch.stack(list(parts), dim=-3)",
    ),
    "pieces left out where one pair is forbidden": ("ways", "if allowed.any()", "if allowed.all()"),
    "forbidden pieces computed": ("ways", "if allowed.any()", "if True"),
    "gradients stay behind": (
        "ways",
        "d_key, d_value = peers.pass_on(d_key, d_value)()",
        "pass",
    ),
    "gradients one step short": (
        "ways",
        "d_key, d_value = peers.pass_on(d_key, d_value)()",
        "if step < peers.size - 1:\n"
        "                d_key, d_value = peers.pass_on(d_key, d_value)()",
    ),
    "the mean not taken away": ("ways", "(d_weights - mean[..., rows, :])", "d_weights"),
    "weights not normalised backward": (
        "ways",
        "torch.exp(scores - _finite(logarithms[..., rows])[..., None])",
        "torch.exp(scores)",
    ),
    "the output unmasked backward": (
        "ways",
        "scores = _scores(some, its, allowed)",
        "scores = _scores(some, its, None)",
    ),
    "sums in half precision": (
        "ways",
        "sums = torch.promote_types(query.dtype, torch.float32)\n    scores",
        "sums = query.dtype\n    scores",
    ),
    "shared keys' gradients not summed": (
        "ways",
        "more.sum_to_size(place.shape)",
        "more[tuple(slice(n) for n in place.shape)]",
    ),
    "heads not brought back": ("ways", "_Swap.apply(output, -2, -3, peers)", "output"),
    "a swap backward as forward": (
        "ways",
        "_swapped(d_output, context.join, context.split, context.peers)",
        "_swapped(d_output, context.split, context.join, context.peers)",
    ),
    "keys shared in turn": (
        "ways",
        "(one.repeat_interleave(shared, dim=-3)",
        "(torch.cat(shared * [one], dim=-3)",
    ),
    "outputs of the heads not summed": ("ways", "return peers.sum(output)", "return output * 1"),
    "the input's gradient not summed": ("ways", "context.peers.sum(d_x), None", "d_x, None"),
    "the bias added by each": (
        "ways",
        "output = _Leave.apply(heads @ self.out.T, self.peers)\n"
        "        return output if self.bias is None else output + self.bias",
        "output = heads @ self.out.T\n"
        "        output = output if self.bias is None else output + self.bias\n"
        "        return _Leave.apply(output, self.peers)",
    ),
    "rows of the output's matrix": (
        "ways",
        "weight.chunk(peers.size, dim=1)",
        "weight.T.chunk(peers.size, dim=1)",
    ),
    "the ring the other way": (
        "peers",
        "before, after = (self.rank - 1) % self.size, (self.rank + 1) % self.size",
        "before, after = (self.rank + 1) % self.size, (self.rank - 1) % self.size",
    ),
    "what one keeps is counted": (
        "peers",
        "for rank in range(self.size) if rank != self.rank]",
        "for rank in range(self.size)]",
    ),
    "half of the bytes": ("peers", "sum(tensor.nbytes for", "sum(tensor.nbytes // 2 for"),
    "sent as they are, not copied": (
        "peers",
        "put(tensor.detach().clone())",
        "put(tensor.detach()[..., :1])",
    ),
    "pieces not summed": (
        "peers",
        "pieces[place] = piece + pieces[place]",
        "pieces[place] = piece",
    ),
    "sums not told": (
        "peers",
        "for step in range(self.size - 1):  # tell",
        "for step in range(0):  # tell",
    ),
    "the rest of a sum cut off": (
        "peers",
        "length = math.ceil(tensor.numel() / self.size)",
        "length = tensor.numel() // self.size",
    ),
    "the mean of the means": (
        "training",
        "(loss / everybodys).backward()",
        "(loss / count / peers.size).backward()",
    ),
    "gradients not summed": (
        "training",
        "sum_gradients(model.parameters(), peers)\n        else",
        "pass\n        else",
    ),
    "gradients of the last step kept": ("training", "optimizer.zero_grad()\n", "pass\n"),
    "padding counts": ("training", "(targets != ignored).sum()", "targets.numel()"),
    "rows that do not divide are left out": (
        "training",
        "batch.tensor_split(peers.size)[peers.rank]",
        "batch[: len(batch) // peers.size * peers.size].tensor_split(peers.size)[peers.rank]",
    ),
    "missing gradients are left out": (
        "training",
        "torch.zeros_like(one) if one.grad is None",
        "torch.ones_like(one) if one.grad is None",
    ),
}


# What fails many checks, or an expensive one, comes first: each check then runs less often.
FIRST = (
    "the ring the other way",
    "the mean of the means",
    "no scale backward",
    "heads not brought back",
    "outputs of the heads not summed",
    "no scale",
    "forbidden pieces computed",
    "positions counted in the part",
    "sums in half precision",
)
BROKEN = {name: BROKEN[name] for name in FIRST} | BROKEN


class TestParallel(ZooTests):
    zoo = Zoo(
        CHECKS, rewritten({"ways": ways, "peers": peers, "training": training}, BROKEN), BROKEN
    )


# --- real processes --------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 4])
def test_processes_agree_with_plain_attention(size):
    whole, downstream = some(*3 * [(2, 4, 24, 5)]), some((2, 4, 24, 5), seed=1)[0]
    mask = Allowed(causal=True, lengths=torch.tensor([24, 7]))
    wanted, _ = attention(*whole, mask=dense(mask, 24))
    wanted_gradients = gradients(
        lambda *qkv: attention(*qkv, mask=dense(mask, 24))[0], whole, downstream
    )
    for way, striped in (("ring", False), ("ring", True), ("all-to-all", False)):
        if way == "all-to-all" and size == 3:
            continue
        found = in_processes(
            jobs.attend, size, way, whole, downstream, mask, striped=striped, chunk=4
        )
        assert_close(joined([one.output for one in found], striped=striped), wanted)
        for number, one in enumerate(wanted_gradients):
            own = [part.gradients[number] for part in found]
            assert_close(joined(own, striped=striped), one)
        in_one = in_threads(
            jobs.attend, size, way, whole, downstream, mask, striped=striped, chunk=4
        )
        assert [one.bytes_forward for one in found] == [one.bytes_forward for one in in_one]
        assert [one.bytes_backward for one in found] == [one.bytes_backward for one in in_one]


def test_processes_train_as_one_by_hand_and_by_the_library():
    batches = padded_batches()
    wanted, wanted_parameters = trained_alone(batches, 1e-2)
    for size, library in ((1, False), (2, False), (2, True), (3, True)):
        found = in_processes(jobs.train, size, batches, SETTINGS, rate=1e-2, library=library)
        for losses, parameters, _ in found:
            assert_close(torch.tensor(losses), torch.tensor(wanted))
            assert_close(parameters, wanted_parameters)
            assert torch.equal(parameters, found[0][1])


def test_memory_of_a_process_falls_and_longer_sequences_fit():
    lengths = [
        min(in_processes(jobs.longest, size, 80 * 2**10, d=8, unit=64, chunk=32)).n
        for size in (1, 2)
    ]
    assert lengths == [128, 256]
    whole = some(*3 * [(128, 8)])
    peaks = [
        max(
            one.peak
            for one in in_processes(
                jobs.attend, size, "ring", whole, whole[0], chunk=16, counts_memory=True
            )
        )
        for size in (1, 4)
    ]
    assert peaks[0] > 2 * peaks[1]


def test_times_are_measured_on_rank_0():
    found = in_processes(jobs.time_ways, 2, 8, n_heads=2, d=4, chunk=4, rounds=2, causal=True)[0]
    assert set(found) == {"one process", "ring", "all-to-all", "ring, striped"}
    messages = in_processes(jobs.time_messages, 2, [4, 400], 3)[0]
    products = in_processes(jobs.time_products, 2, 8, 4, 1)[0]
    for seconds in (*found.values(), *messages.values(), *products.values()):
        assert min(seconds) > 0
    assert len(messages["400"]) == 3


FAILURES = {
    "error": (RuntimeError, r"^rank 1 of 3 failed: ArithmeticError: this rank was told to fail\n"),
    "death": (RuntimeError, r"^rank 1 of 3 died without a word \(exit code 3\)$"),
    "silence": (TimeoutError, r"^after 2 s nothing came from rank 0, 1, 2 of 3; all were stopped$"),
}


@pytest.mark.parametrize("how", FAILURES)
def test_no_process_outlives_a_failure(how):
    error, message = FAILURES[how]
    start = time.monotonic()
    with pytest.raises(error, match=message):
        in_processes(jobs.fail, 3, how, 1, timeout=2 if how == "silence" else 60)
    assert time.monotonic() - start < 40
    assert multiprocessing.active_children() == []


def test_no_thread_waits_for_one_that_failed():
    with pytest.raises(RuntimeError, match=r"^rank 1 of 3 failed: ArithmeticError") as caught:
        in_threads(jobs.fail, 3, "error", 1, timeout=60)
    assert isinstance(caught.value.__cause__, ArithmeticError)

    def waits(me):
        if me.rank == 0:
            me.pass_on(torch.ones(1))()

    with pytest.raises(
        RuntimeError, match=r"TimeoutError: rank 0 had no message from rank 1 for 0.1 s"
    ):
        in_threads(waits, 2, timeout=0.1)


def test_the_program_compares_with_one_process(capsys):
    __main__.main(["--processes", "2"])
    printed = capsys.readouterr().out
    assert printed.splitlines() == [
        f"rank {rank} of 2: equal to one process, 16,384 bytes sent" for rank in range(2)
    ]


# --- errors ----------------------------------------------------------------------------------

ALONE = Peers(0, 1)
ONE = torch.ones(2, 4, 3)


def of_a_notebook(me):
    """As if it had been written in a notebook."""


of_a_notebook.__module__ = "__main__"

MISTAKES = {
    "dtypes": (
        TypeError,
        lambda: parallel.ring_attention(ONE, ONE.double(), ONE, peers=ALONE),
        "of one dtype; key is torch.float64 and query is torch.float32",
    ),
    "parts": (
        ValueError,
        lambda: parallel.ring_attention(ONE, ONE[:, :2], ONE, peers=ALONE),
        r"key must have shape \(…, part, d\) with the part of query, \(2, 4, 3\); got \(2, 2, 3\)",
    ),
    "leading axes": (
        ValueError,
        lambda: parallel.ring_attention(ONE[:1], ONE[:1], ONE, peers=ALONE),
        r"leading axes of value must broadcast to those of query, \(1, 4, 3\); got \(2, 4, 3\)",
    ),
    "sizes": (
        ValueError,
        lambda: parallel.ring_attention(ONE, ONE[..., :2], ONE, peers=ALONE),
        r"vectors of one size, at least 1; got \(2, 4, 3\) and \(2, 4, 2\)",
    ),
    "a mask that is a tensor": (
        TypeError,
        lambda: parallel.ring_attention(ONE, ONE, ONE, peers=ALONE, mask=ONE > 0),
        "mask must be a function of positions; got Tensor",
    ),
    "chunk": (
        ValueError,
        lambda: parallel.ring_attention(ONE, ONE, ONE, peers=ALONE, chunk=0),
        "chunk must be at least 1; got 0",
    ),
    "heads": (
        ValueError,
        lambda: parallel.all_to_all_attention(ONE, ONE[:1], ONE, peers=Peers(0, 2)),
        r"key must have shape \(…, n_heads, part, d\) with heads that 2 processes can share; "
        r"got \(1, 4, 3\)",
    ),
    "shared heads": (
        ValueError,
        lambda: parallel.all_to_all_attention(ONE[:1], ONE, ONE, peers=ALONE),
        "divide those of query; got 1, 2 and 2",
    ),
    "heads of a module": (
        ValueError,
        lambda: parallel.TensorParallelAttention(
            MultiHeadAttention(4, 4, n_kv_heads=1), Peers(0, 2)
        ),
        "n_kv_heads must be a multiple of the 2 processes; got 1",
    ),
    "no equal parts": (
        ValueError,
        lambda: parallel.cut(ONE, 0, 3),
        "a sequence of 4 positions has no 3 equal parts; pad it first",
    ),
    "parts of a swap": (
        ValueError,
        lambda: ALONE.swap([ONE, ONE]),
        "parts must be as many as processes, 1; got 2",
    ),
    "dtypes of parameters": (
        ValueError,
        lambda: parallel.sum_gradients([nn.Parameter(ONE), nn.Parameter(ONE.double())], ALONE),
        "parameters must be of one dtype; got torch.float32, torch.float64",
    ),
    "no thread": (ValueError, lambda: in_threads(jobs.fail, 0), "size must be at least 1; got 0"),
    "no process": (
        ValueError,
        lambda: in_processes(jobs.fail, -1),
        "size must be at least 1; got -1",
    ),
    "a job of a notebook": (
        ValueError,
        lambda: in_processes(of_a_notebook, 1),
        "other processes can import; got of_a_notebook of __main__",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_errors_name_what_is_wrong(name):
    error, call, message = MISTAKES[name]
    with pytest.raises(error, match=message):
        call()


def test_bytes_of_a_peer_without_messages_are_zero():
    assert ALONE.pass_on(ONE)()[0] is ONE
    assert ALONE.sum(ONE) is ONE
    assert ALONE.bytes_sent == 0
    with pytest.raises(NotImplementedError):
        Peers(0, 2).pass_on(ONE)
    assert re.fullmatch(r"forkserver|spawn", starting._context().get_start_method())
