"""The Transformer: what must hold for any model, checked also against models with one mistake.

The checks compare with something independent: torch's own layers, sequences one at a time, a search
through all targets, a formula written out.
"""

import itertools
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from attn_tutorial import models
from attn_tutorial.positions import sinusoidal_positions
from package.zoo import Zoo, ZooTests, rewritten

PAD, BEGIN, END = 0, 1, 2
KINDS = {
    "shared": {},
    "separate": {"n_target": 9},
    "learned positions": {"positions": "learned"},
    "post-norm": {"norm_first": False},
}
CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def make(api=models, n_source=9, **options):
    """A small model in float64 whose predictions are far from uniform."""
    torch.manual_seed(0)
    options = {"d_model": 16, "n_heads": 2, "dropout": 0.3, "max_length": 24} | options
    model = api.Transformer(n_source, **options).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.15 * torch.randn_like(parameter))
    return model.eval()


def sequences(lengths, n_tokens=9, seed=0):
    """Sequences of tokens of these lengths, padded behind."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(3, n_tokens, (len(lengths), max(lengths)), generator=generator)
    return tokens.masked_fill(torch.arange(max(lengths)) >= torch.tensor(lengths)[:, None], PAD)


def sources():
    return sequences([6, 3, 1, 5])


def targets():
    """Targets of several lengths, with begin and end."""
    rows = []
    for row in sequences([4, 6, 5, 2], seed=1).tolist():
        tokens = [token for token in row if token != PAD]
        rows.append([BEGIN, *tokens, END] + [PAD] * (len(row) - len(tokens)))
    return torch.tensor(rows)


def by_steps(model, source, target, chunks, use_cache):
    """The logits of a target that is fed in chunks."""
    memory, memory_mask = model.encode(source)
    caches = model.new_caches() if use_cache else None
    logits = []
    for start, stop in itertools.pairwise(itertools.accumulate(chunks, initial=0)):
        fed = target[:, start if use_cache else 0 : stop]
        new, _ = model.decode(fed, memory, memory_mask, caches=caches)
        logits.append(new[:, -(stop - start) :])
    return torch.cat(logits, dim=1)


def log_probability(model, source, tokens):
    """Of one target after "begin", by teacher forcing; source (1, n)."""
    fed = torch.tensor([[BEGIN, *tokens[:-1]]])
    log_probabilities = model(source, fed).log_softmax(-1)[0]
    return sum(log_probabilities[i, token].item() for i, token in enumerate(tokens))


def without_padding(tokens):
    return [token for token in tokens.tolist() if token != PAD]


# --- checks ----------------------------------------------------------------------------------


@check
def nothing_leaks_from_the_future(api):
    source, target = sources(), targets()
    for training, options in itertools.product((False, True), KINDS.values()):
        model = make(api, **options).train(training)
        outputs = []
        for place in (None, 3):
            changed = target.clone()
            if place is not None:
                changed[:, place:] = 3 + (changed[:, place:] + 1) % 6
            torch.manual_seed(0)  # the same dropout for both
            outputs.append(model(source, changed).detach())
        before, after = outputs
        torch.testing.assert_close(before[:, :3], after[:, :3], rtol=0, atol=1e-12)
        assert (before[:, 3] != after[:, 3]).any(dim=-1).all()  # its own token does count


@check
def every_earlier_token_counts(api):
    source, target = sources(), targets()
    model = make(api, dropout=0.0)
    last = target.shape[1] - 1
    before = model(source, target)
    for place in range(last + 1):
        changed = target.clone()
        changed[:, place] = torch.where(changed[:, place] == 7, 8, 7)
        assert (model(source, changed)[:, last] - before[:, last]).abs().amax() > 1e-6


@check
def padding_does_not_matter(api):
    source, target = sources(), targets()
    for options in KINDS.values():
        model = make(api, **options)
        with torch.no_grad():
            together = model(source, target)
            for i in range(len(source)):
                one, other = source[i][source[i] != PAD], target[i][target[i] != PAD]
                alone = model(one[None], other[None])[0]
                torch.testing.assert_close(together[i, : len(other)], alone)
            more = nn.functional.pad(source, (0, 3), value=PAD)
            torch.testing.assert_close(model(more, target), together)


@check
def attention_passes_over_padding(api):
    model, source, target = make(api), sources(), targets()
    with torch.no_grad():
        _, weights = model.decode(target, *model.encode(source), need_weights=True)
    assert len(weights) == 2
    for layer in weights:
        assert layer.shape == (4, 2, target.shape[1], source.shape[1])
        torch.testing.assert_close(layer.sum(-1), torch.ones_like(layer[..., 0]))
        hidden = (source == PAD)[:, None, None].expand_as(layer)
        assert (layer[hidden] == 0).all()
        assert (layer[~hidden] > 0).all()


@check
def order_matters(api):
    source, target = sources()[:1], targets()[:1]
    for options in KINDS.values():
        model = make(api, **options)
        # Without positions the encoder could not see this, nor the decoder the second.
        assert (model(source.flip(1), target) - model(source, target)).abs().max() > 1e-3
        swapped = target[:, [0, 2, 1, *range(3, target.shape[1])]]
        last = (model(source, swapped) - model(source, target))[:, -1]
        assert last.abs().max() > 1e-3


@check
def an_embedding_is_a_token_and_a_position(api):
    embedding = make(api, dropout=0.0).source_embedding
    tokens = torch.tensor([[3, 5, 3]])
    table = torch.from_numpy(sinusoidal_positions(10, 16).astype("float32")).double()
    for offset in (0, 4):
        wanted = 4 * embedding.tokens.weight[tokens[0]] + table[offset : offset + 3]
        torch.testing.assert_close(embedding(tokens, offset=offset)[0], wanted)


@check
def layers_equal_those_of_torch(api):
    """torch's own encoder and decoder, with the same parameters, give the same vectors."""
    for norm_first in (True, False):
        model = make(api, norm_first=norm_first)
        options = {"dim_feedforward": 64, "batch_first": True, "norm_first": norm_first}
        source, target = sources(), targets()
        n = target.shape[1]
        hidden = source == PAD
        with torch.no_grad():
            x, y = model.source_embedding(source), model.target_embedding(target)
            for layer in model.encoder:
                x = encoder_of_torch(layer, options)(x, src_key_padding_mask=hidden)
            x = model.encoder_norm(x)
            future = torch.ones(n, n, dtype=torch.bool).triu(1)
            for layer in model.decoder:
                y = decoder_of_torch(layer, options)(
                    y, x, tgt_mask=future, memory_key_padding_mask=hidden
                )
            logits = model.output(model.decoder_norm(y))
            torch.testing.assert_close(model(source, target), logits)
        assert isinstance(model.decoder_norm, nn.LayerNorm) == norm_first
        assert isinstance(model.encoder_norm, nn.LayerNorm) == norm_first


def encoder_of_torch(layer, options):
    theirs = nn.TransformerEncoderLayer(16, 2, **options)
    theirs.self_attn = layer.attention.to_torch()
    copy_the_rest(layer, theirs, [layer.around_attention, layer.around_feed_forward])
    # torch's fast path fills padding's places with zeros; training mode is not that path.
    theirs.double().train()
    for module in theirs.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(module, nn.MultiheadAttention):
            module.dropout = 0.0
    return theirs


def decoder_of_torch(layer, options):
    theirs = nn.TransformerDecoderLayer(16, 2, **options)
    theirs.self_attn = layer.attention.to_torch()
    theirs.multihead_attn = layer.cross_attention.to_torch()
    frames = [layer.around_attention, layer.around_cross_attention, layer.around_feed_forward]
    copy_the_rest(layer, theirs, frames)
    return theirs.double().eval()


def copy_the_rest(layer, theirs, frames):
    theirs.linear1, theirs.linear2 = layer.feed_forward[0], layer.feed_forward[-1]
    for i, frame in enumerate(frames, 1):
        setattr(theirs, f"norm{i}", frame.norm)


@check
def dropout_is_for_training_only(api):
    source, target = sources(), targets()
    model = make(api)
    torch.testing.assert_close(model(source, target), model(source, target), rtol=0, atol=0)
    model.train()
    assert (model(source, target) != model(source, target)).any()
    greedy = api.greedy_decode(model, source, begin=BEGIN, end=END, max_length=8)
    again = api.greedy_decode(model.eval(), source, begin=BEGIN, end=END, max_length=8)
    assert torch.equal(greedy, again)
    model.train().encoder.eval()  # a part of the model is frozen
    api.beam_search(model, source, begin=BEGIN, end=END, width=2, max_length=3)
    assert model.training
    assert model.decoder.training
    assert not model.encoder.training


@check
def one_vocabulary_has_one_matrix(api):
    shared, separate = make(api), make(api, n_target=7)
    matrices = [
        [part.weight for part in (m.source_embedding.tokens, m.target_embedding.tokens, m.output)]
        for m in (shared, separate)
    ]
    assert [len({id(matrix) for matrix in three}) for three in matrices] == [1, 3]
    assert [matrix.shape[0] for matrix in matrices[1]] == [9, 7, 7]


@check
def loss_is_that_of_the_next_token(api):
    model, source, target = make(api), sources(), targets()
    total, count = 0.0, 0
    with torch.no_grad():
        for one, tokens in zip(source, target, strict=True):
            real = without_padding(tokens)
            total -= log_probability(model, one[None], real[1:])
            count += len(real) - 1
        loss = api.sequence_loss(model, source, target)
    assert math.isclose(loss.item(), total / count, rel_tol=1e-9)


@check
def label_smoothing_is_the_formula(api):
    model, source, target = make(api), sources(), targets()
    smoothing, n_tokens = 0.1, 9
    with torch.no_grad():
        log_probabilities = model(source, target[:, :-1]).log_softmax(-1)
        loss = api.sequence_loss(model, source, target, label_smoothing=smoothing)
    total, count = 0.0, 0
    for i, j in itertools.product(range(len(target)), range(target.shape[1] - 1)):
        if target[i, j + 1] == PAD:
            continue
        wanted = torch.full((n_tokens,), smoothing / n_tokens, dtype=torch.float64)
        wanted[target[i, j + 1]] += 1 - smoothing
        total -= (wanted * log_probabilities[i, j]).sum().item()
        count += 1
    assert math.isclose(loss.item(), total / count, rel_tol=1e-9)


@check
def teacher_forcing_equals_decoding_in_steps(api):
    source, target = sources(), targets()
    n = target.shape[1]
    for options in KINDS.values():
        model = make(api, **options)
        with torch.no_grad():
            whole = model(source, target)
            for chunks in ([1] * n, [3, 1, n - 4], [n]):
                for use_cache in (True, False):
                    steps = by_steps(model, source, target, chunks, use_cache)
                    torch.testing.assert_close(steps, whole)


@check
def greedy_takes_the_likeliest(api):
    source = sources()
    ended = 0
    for options in KINDS.values():
        model = make(api, **options)
        for use_cache in (True, False):
            written = api.greedy_decode(
                model, source, begin=BEGIN, end=END, max_length=7, use_cache=use_cache
            )
            for one, tokens in zip(source, written, strict=True):
                wanted = greedy_by_hand(model, one[one != PAD][None], 7)
                assert tokens.tolist() == wanted + [PAD] * (len(tokens) - len(wanted))
                ended += wanted[-1] == END and len(wanted) < len(tokens)
    assert ended  # some stopped before others


def greedy_by_hand(model, source, max_length):
    tokens = [BEGIN]
    with torch.no_grad():
        while len(tokens) <= max_length and tokens[-1] != END:
            scores = model(source, torch.tensor([tokens]))[0, -1]
            scores[[PAD, BEGIN]] = -math.inf
            tokens.append(scores.argmax().item())
    return tokens[1:]


@check
def greedy_is_a_beam_of_width_one(api):
    source = sources()
    for options, penalty in itertools.product(KINDS.values(), (0.0, 0.6)):
        model = make(api, **options)
        decoding = {"begin": BEGIN, "end": END, "max_length": 7}
        greedy = api.greedy_decode(model, source, **decoding)
        beam, _ = api.beam_search(model, source, width=1, length_penalty=penalty, **decoding)
        assert torch.equal(greedy, beam[:, 0])


@check
def a_wide_beam_is_an_exhaustive_search(api):
    longest, letters = 4, (END, 3, 4)  # vocabulary: padding, begin, end and two letters
    source = sequences([3, 1, 2], n_tokens=5)
    model = make(api, n_source=5)
    every = [targets_of(model, one[one != PAD][None], letters, longest) for one in source]
    for penalty in (0.0, 0.6, 2.0):
        tokens, scores = api.beam_search(
            model,
            source,
            begin=BEGIN,
            end=END,
            width=len(letters) ** longest,
            max_length=longest,
            length_penalty=penalty,
        )
        for i, log_probabilities in enumerate(every):
            wanted = ranked(log_probabilities, penalty)
            alive = scores[i] > -math.inf
            found = [tuple(without_padding(row)) for row in tokens[i][alive]]
            assert found == [target for target, _ in wanted]
            assert scores[i][alive].tolist() == pytest.approx([score for _, score in wanted])
            assert (tokens[i][~alive] == PAD).all()


def targets_of(model, source, letters, longest):
    """The log-probabilities of all targets that end, or that reach the longest length."""
    whole = itertools.product(letters, repeat=longest)
    cut = {tokens[: tokens.index(END) + 1] if END in tokens else tokens for tokens in whole}
    with torch.no_grad():
        return {target: log_probability(model, source, target) for target in sorted(cut)}


def ranked(log_probabilities, penalty):
    """Targets with their scores, best first."""
    scores = {
        target: total / ((5 + len(target)) / 6) ** penalty
        for target, total in log_probabilities.items()
    }
    return sorted(scores.items(), key=lambda pair: -pair[1])


@check
def beams_have_the_scores_of_their_targets(api):
    source = sources()
    for options in KINDS.values():
        model = make(api, **options)
        for use_cache, penalty in ((True, 1.0), (False, 0.0)):
            tokens, scores = api.beam_search(
                model,
                source,
                begin=BEGIN,
                end=END,
                width=4,
                max_length=7,
                length_penalty=penalty,
                use_cache=use_cache,
            )
            assert (scores.diff(dim=1) <= 0).all()  # best first
            for i, j in itertools.product(range(len(source)), range(4)):
                target = without_padding(tokens[i, j])
                assert END not in target[:-1]
                with torch.no_grad():
                    total = log_probability(model, source[i][source[i] != PAD][None], target)
                wanted = total / ((5 + len(target)) / 6) ** penalty
                assert math.isclose(scores[i, j].item(), wanted, rel_tol=1e-9)
            assert all(len({*map(tuple, rows.tolist())}) == 4 for rows in tokens)


@check
def a_beam_needs_no_cache_and_no_company(api):
    source = sources()
    model = make(api)
    decoding = {"begin": BEGIN, "end": END, "width": 3, "max_length": 8, "length_penalty": 0.6}
    tokens, scores = api.beam_search(model, source, **decoding)
    slowly, same_scores = api.beam_search(model, source, use_cache=False, **decoding)
    assert torch.equal(tokens, slowly)
    torch.testing.assert_close(scores, same_scores)
    for i, one in enumerate(source):
        alone, _ = api.beam_search(model, one[one != PAD][None], **decoding)
        mine = [without_padding(row) for row in tokens[i]]
        assert mine == [without_padding(row) for row in alone[0]]


SHAPES_CHECKED = """
from jaxtyping import install_import_hook
with install_import_hook("attn_tutorial.models", "beartype.beartype"):
    from attn_tutorial import models
from package.test_models import CHECKS
for check in CHECKS:
    check(models)
try:
    models.Embedding(5, 4)(models.torch.tensor([1, 2]))
except Exception as error:
    assert "TypeCheckError" in type(error).__name__
else:
    raise AssertionError("shapes were not checked")
"""


def test_the_shapes_are_those_of_the_signatures():
    folders = os.pathsep.join(str(folder) for folder in Path(__file__).parents[1:3])
    environment = os.environ | {"PYTHONPATH": folders}
    done = subprocess.run(
        [sys.executable, "-c", SHAPES_CHECKED],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


# --- broken models ---------------------------------------------------------------------------

BROKEN = {
    "position always zero when decoding": (
        "self.positions[offset : offset + n]",
        "self.positions[:n]",
    ),
    "position off by one with a cache": (
        "x = self.target_embedding(target, offset=offset)",
        "x = self.target_embedding(target, offset=offset + (caches is not None))",
    ),
    "causal mask without offset": (
        "causal_mask(n, offset + n, offset)",
        "causal_mask(n, offset + n, 0)",
    ),
    "causal mask off by one, into the future": (
        "causal_mask(n, offset + n, offset)",
        "causal_mask(n, offset + n, offset + 1)",
    ),
    "causal mask hides a token from itself": (
        "causal_mask(n, offset + n, offset)",
        "causal_mask(n, offset + n, max(offset, 1) - 1)",
    ),
    "no causal mask in evaluation": (
        "            x, weights = layer(\n",
        "            mask = mask if self.training else None\n            x, weights = layer(\n",
    ),
    "no causal mask in training": (
        "            x, weights = layer(\n",
        "            mask = None if self.training else mask\n            x, weights = layer(\n",
    ),
    "padding mask on the wrong side": (
        "mask = (source != self.pad)[:, None, None, :]",
        "mask = (source != self.pad).flip(1)[:, None, None, :]",
    ),
    "padding mask upside down": ("source != self.pad)[", "source == self.pad)["),
    "padding mask over the queries": (
        "            x, _ = layer(x, mask=mask)",
        "            x, _ = layer(x, mask=mask.transpose(-1, -2))",
    ),
    "no padding mask in the encoder": (
        "            x, _ = layer(x, mask=mask)",
        "            x, _ = layer(x)",
    ),
    "no padding mask in cross-attention": (
        "                memory_mask=memory_mask,\n",
        "",
    ),
    "memory of the first layer's cache for all": (
        "cache=caches[i] if caches else None",
        "cache=caches[0] if caches else None",
    ),
    "token vectors not scaled": ("self.scale * self.tokens(tokens)", "self.tokens(tokens)"),
    "no positions": (
        "vectors + self.positions[offset : offset + n]",
        "vectors + 0 * self.positions[offset : offset + n]",
    ),
    "sum normalised in pre-norm": (
        "total if self.norm_first else self.norm(total)",
        "self.norm(total)",
    ),
    "nothing normalised before the sublayer": (
        "self.norm(x) if self.norm_first else x",
        "x",
    ),
    "nothing added": ("total = x + self.dropout(output)", "total = self.dropout(output)"),
    "no ReLU": ("            nn.ReLU(),\n", "            nn.Identity(),\n"),
    "cross-attention to the target": (
        "            memory,\n            mask=memory_mask,",
        "            memory[:, :1].expand_as(memory),\n            mask=memory_mask,",
    ),
    "no last normalization": ("self.output(self.decoder_norm(x))", "self.output(x)"),
    "memory not normalised": ("return self.encoder_norm(x), mask", "return x, mask"),
    "matrices not shared": (
        "            self.output.weight = self.source_embedding.tokens.weight\n",
        "",
    ),
    "teacher forcing without shift": (
        "        target[:, 1:].flatten(),",
        "        target[:, :-1].flatten(),",
    ),
    "decoder sees the token to predict": (
        "logits = model(source, target[:, :-1])",
        "logits = model(source, target[:, 1:])",
    ),
    "padding counts in the loss": ("        ignore_index=model.pad,\n", ""),
    "no label smoothing": ("label_smoothing=label_smoothing,\n    )", ")"),
    "label smoothing on padding": (
        "    return F.cross_entropy(\n",
        "    if label_smoothing:\n"
        "        everywhere = logits.log_softmax(-1).mean()\n"
        "        true = sequence_loss(model, source, target)\n"
        "        return (1 - label_smoothing) * true - label_smoothing * everywhere\n"
        "    return F.cross_entropy(\n",
    ),
    "greedy writes on behind the end": (
        "scores.argmax(dim=-1).masked_fill(finished, model.pad)",
        "scores.argmax(dim=-1)",
    ),
    "greedy in training mode": (
        "    with evaluating(model):\n        memory, memory_mask = model.encode(source)\n"
        "        caches",
        "    with torch.no_grad():\n        memory, memory_mask = model.encode(source)\n"
        "        caches",
    ),
    "padding may be written": (
        "    log_probabilities[:, [model.pad, begin]] = -math.inf\n",
        "",
    ),
    "last step one too early": (
        "        while tokens.shape[1] <= max_length and not finished.all():\n"
        "            following",
        "        while tokens.shape[1] < max_length and not finished.all():\n            following",
    ),
    "caches not reordered": ("            _reorder(caches, rows)\n", ""),
    "caches reordered across the batch": (
        "            _reorder(caches, rows)\n",
        "            _reorder(caches, parents.flatten())\n",
    ),
    "beam tokens not reordered": ("torch.cat([tokens[rows],", "torch.cat([tokens,"),
    "beam lengths not reordered": (
        "lengths = (lengths + ~finished).gather(1, parents)",
        "lengths = lengths + ~finished",
    ),
    "beam scores not reordered": (
        "totals = candidates.flatten(1).gather(1, best)",
        "totals = candidates.amax(dim=-1)",
    ),
    "beam ends not reordered": (
        "finished.gather(1, parents) | (choice == end)",
        "finished | (choice == end)",
    ),
    "beam begins with equal copies": ("totals[:, 0] = 0.0", "totals[:] = 0.0"),
    "memory repeated in the wrong order": (
        "memory = memory.repeat_interleave(width, dim=0)",
        "memory = memory.repeat(width, 1, 1)",
    ),
    "memory's mask repeated in the wrong order": (
        "memory_mask = memory_mask.repeat_interleave(width, dim=0)",
        "memory_mask = memory_mask.repeat(width, 1, 1, 1)",
    ),
    "the ended pay for padding": (
        "candidates = totals[:, :, None] + _only_padding(following, finished, model.pad)",
        "candidates = totals[:, :, None] + following",
    ),
    "the ended grow longer": (
        "ranks = _normalised(candidates, lengths + ~finished, length_penalty)",
        "ranks = _normalised(candidates, lengths + 1, length_penalty)",
    ),
    "beam ranked without the penalty": (
        "ranks = _normalised(candidates, lengths + ~finished, length_penalty)",
        "ranks = candidates",
    ),
    "length multiplied": (
        "return totals / ((5 + lengths[:, :, None]) / 6) ** penalty",
        "return totals * ((5 + lengths[:, :, None]) / 6) ** penalty",
    ),
    "first token forgotten": (
        "tokens = tokens.view(batch, width, -1)[:, :, 1:]",
        "tokens = tokens.view(batch, width, -1)[:, :, 2:]",
    ),
}


class TestModels(ZooTests):
    zoo = Zoo(CHECKS, rewritten(models, BROKEN), BROKEN)


# --- errors in words -------------------------------------------------------------------------

ERRORS = {
    "positions must be 'sinusoidal' or 'learned'": lambda: make(positions="rotary"),
    "pad must be a token of source and target, from 0 to 6; got 8": lambda: make(n_target=7, pad=8),
    "max_length is 24 positions; got 25 tokens from position 0 on": lambda: make().encode(
        torch.full((1, 25), 3)
    ),
    "tokens must be numbers from 0 to 8; got 3 to 9": lambda: make().encode(torch.tensor([[3, 9]])),
    "source must have shape (batch, n); got (3,)": lambda: make().encode(torch.tensor([3, 4, 5])),
    "target must have shape (batch, n); got (2,)": lambda: make()(sources(), torch.tensor([1, 3])),
    "must agree in batch; got shapes (4, 6) and (3, 8)": lambda: make()(sources(), targets()[:3]),
    "max_length must lie between 1 and the model's, 24; got 25": lambda: models.greedy_decode(
        make(), sources(), begin=BEGIN, end=END, max_length=25
    ),
    "begin, end and the model's pad must be three different tokens; got 1, 1 and 0": (
        lambda: models.greedy_decode(make(), sources(), begin=1, end=1, max_length=5)
    ),
    "width must be at least 1; got 0": lambda: models.beam_search(
        make(), sources(), begin=BEGIN, end=END, width=0, max_length=5
    ),
}


@pytest.mark.parametrize("message", ERRORS)
def test_errors_in_words(message):
    with pytest.raises(ValueError, match=re.escape(message)):
        ERRORS[message]()


def test_fractions_are_no_tokens():
    with pytest.raises(TypeError, match="source must hold whole numbers"):
        make().encode(torch.ones(2, 3))


def test_a_broken_off_decoding_restores_the_mode():
    model = make().train()
    with pytest.raises(ValueError, match="tokens must be numbers"):
        models.greedy_decode(model, torch.tensor([[99]]), begin=BEGIN, end=END, max_length=3)
    assert model.training
