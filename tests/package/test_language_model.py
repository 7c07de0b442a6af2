"""The language model: what must hold for any, checked also against versions with one mistake."""

import math
import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from attn_tutorial import language_model
from package.raises import unreached
from package.zoo import Zoo, ZooTests, rewritten

CHECKS = []
TOKENS = torch.tensor([[3, 1, 4, 1, 5, 2], [2, 6, 5, 3, 5, 6]])


def check(function):
    CHECKS.append(function)
    return function


def make(api, **options):
    torch.manual_seed(0)
    options = {"d_model": 8, "n_heads": 2, "dropout": 0.0, "max_length": 16} | options
    model = api.CausalLanguageModel(7, **options)
    for parameter in model.parameters():  # biases too
        nn.init.normal_(parameter, std=0.6)
    return model


@check
def no_logit_depends_on_a_later_token(api):
    for options in ({}, {"d_hidden": 0}, {"positions": "learned", "n_layers": 3}):
        model = make(api, **options)
        before, _ = model(TOKENS)
        for i in range(TOKENS.shape[1]):
            changed = TOKENS.clone()
            changed[:, i] = (changed[:, i] + 1) % 7
            after, _ = model(changed)
            assert torch.allclose(after[:, :i], before[:, :i], atol=1e-5)
            for later in range(i, TOKENS.shape[1]):
                assert not torch.allclose(after[:, later], before[:, later], atol=1e-3)


@check
def the_parts_are_put_together_as_described(api):
    """Embedding, then per layer attention and feed-forward in pre-norm frames, norm, output."""
    for d_hidden in (None, 0, 5):
        model = make(api, d_hidden=d_hidden)
        x = math.sqrt(8) * model.embedding.tokens(TOKENS) + model.embedding.positions[:6]
        mask = torch.ones(6, 6).tril().bool()
        for layer in model.layers:
            attention, frame = layer.attention, layer.around_attention
            x = x + attention(frame.norm(x), mask=mask)[0]
            if d_hidden != 0:
                first, _, _, second = layer.feed_forward
                assert first.out_features == (d_hidden or 32)
                x = x + second(first(layer.around_feed_forward.norm(x)).relu())
        wanted = model.output(model.norm(x))
        assert torch.allclose(model(TOKENS)[0], wanted, atol=1e-5)
        assert wanted.shape == (2, 6, 7)


@check
def attention_only_has_no_other_layer(api):
    model = make(api, d_hidden=0)
    assert len(set(model.layers)) == 2
    kinds = {type(module).__name__ for module in model.layers.modules()}
    assert "FeedForward" not in kinds
    assert "ReLU" not in kinds


@check
def the_weights_are_returned_where_needed(api):
    model = make(api, n_layers=3)
    logits, weights = model(TOKENS, need_weights=True)
    plain, none = model(TOKENS)
    assert none is None
    assert torch.allclose(logits, plain, atol=1e-5)
    assert [tuple(layer.shape) for layer in weights] == [(2, 2, 6, 6)] * 3
    for layer in weights:
        assert torch.allclose(layer.sum(dim=-1), torch.ones(2, 2, 6), atol=1e-5)
        assert not layer.triu(diagonal=1).any()
    assert not torch.allclose(weights[0], weights[1], atol=0.01)


@check
def the_cache_changes_nothing(api):
    for pieces in ([1] * 6, [2, 3, 1], [6]):
        model = make(api, positions="learned")
        whole, weights = model(TOKENS, need_weights=True)
        caches, start = model.new_caches(), 0
        for piece in pieces:
            part = TOKENS[:, start : start + piece]
            logits, shown = model(part, caches=caches, need_weights=True)
            assert torch.allclose(logits, whole[:, start : start + piece], atol=1e-5)
            for mine, full in zip(shown, weights, strict=True):
                wanted = full[:, :, start : start + piece, : start + piece]
                assert torch.allclose(mine, wanted, atol=1e-5)
            start += piece
        assert [cache.length for cache in caches] == [6, 6]


@check
def what_stands_behind_the_end_changes_nothing(api):
    model = make(api, pad=0)
    padded = F.pad(TOKENS, (0, 3))  # (2, 9)
    assert torch.allclose(model(padded)[0][:, :6], model(TOKENS)[0], atol=1e-5)
    loss = api.next_token_loss(model, TOKENS)
    assert torch.isclose(api.next_token_loss(model, padded), loss)
    mixed = torch.cat([padded[:1], F.pad(TOKENS[1:, :3], (0, 6))])
    losses = [api.next_token_loss(model, TOKENS[:1]), api.next_token_loss(model, TOKENS[1:, :3])]
    wanted = (5 * losses[0] + 2 * losses[1]) / 7  # a mean over tokens, not over sequences
    assert torch.isclose(api.next_token_loss(model, mixed), wanted)


@check
def the_loss_is_that_of_the_following_tokens(api):
    for pad in (None, 0):
        model = make(api, pad=pad)
        tokens = TOKENS if pad == 0 else TOKENS % 3  # without padding 0 is a token
        logits, _ = model(tokens)
        total = 0.0
        for row in range(2):
            for i in range(5):
                total -= logits[row, i].log_softmax(-1)[tokens[row, i + 1]].item()
        assert math.isclose(api.next_token_loss(model, tokens).item(), total / 10, rel_tol=1e-5)


@check
def greedy_writing_is_the_likeliest_token_each_time(api):
    model = make(api, n_layers=1).train()
    prompts = torch.randint(7, (40, 6), generator=torch.Generator().manual_seed(0))
    for use_cache in (True, False):
        tokens = api.generate(model, prompts, n_new=5, use_cache=use_cache)
        assert tokens.shape == (40, 11)
        assert torch.equal(tokens[:, :6], prompts)
        logits, _ = model(tokens)
        assert torch.equal(tokens[:, 6:], logits[:, 5:-1].argmax(dim=-1))
    assert model.training
    assert torch.equal(api.generate(model, prompts, n_new=0), prompts)


@check
def the_mode_of_writing_is_evaluation(api):
    model = make(api, dropout=0.5)
    assert torch.equal(api.generate(model, TOKENS, n_new=6), api.generate(model, TOKENS, n_new=6))
    assert torch.equal(
        api.generate(model, TOKENS, n_new=6), api.generate(model.eval(), TOKENS, n_new=6)
    )


@check
def padding_is_written_behind_the_end_only(api):
    model = make(api, pad=0)
    nn.init.zeros_(model.output.weight)
    with torch.no_grad():  # whatever it reads, it likes padding best, then 4, then the rest
        model.output.bias.copy_(torch.tensor([9.0, 1, 1, 1, 5, 1, 1]))
    assert api.generate(model, TOKENS, n_new=3)[:, 6:].tolist() == [[4, 4, 4]] * 2
    assert api.generate(model, TOKENS, n_new=3, end=4)[:, 6:].tolist() == [[4]] * 2
    generator = torch.Generator().manual_seed(0)
    wide = api.generate(
        model, TOKENS[:1].repeat(200, 1), n_new=6, end=4, temperature=3.0, generator=generator
    )
    for row in wide[:, 6:].tolist():
        length = row.index(4) + 1 if 4 in row else len(row)
        assert 0 not in row[:length]
        assert not any(row[length:])
    assert {row.index(4) for row in wide[:, 6:].tolist() if 4 in row} >= {0, 1, 2, 3}


@check
def drawn_tokens_follow_the_softmax(api):
    model = make(api)
    prompt = TOKENS[:1].repeat(4000, 1)
    for temperature in (0.5, 2.0):
        generator = torch.Generator().manual_seed(1)
        drawn = api.generate(model, prompt, n_new=1, temperature=temperature, generator=generator)[
            :, -1
        ]
        chances = (model(prompt[:1])[0][0, -1] / temperature).softmax(dim=-1)
        shares = torch.bincount(drawn, minlength=7) / 4000
        assert torch.allclose(shares, chances, atol=0.03)
        generator.manual_seed(1)
        again = api.generate(model, prompt, n_new=1, temperature=temperature, generator=generator)[
            :, -1
        ]
        assert torch.equal(again, drawn)


# --- broken versions -------------------------------------------------------------------------

BROKEN = {
    "no mask": ("causal_mask(n, offset + n, offset)", "causal_mask(n, offset + n, offset) | True"),
    "mask turned round": (
        "causal_mask(n, offset + n, offset)",
        "causal_mask(n, offset + n, offset)[::-1, ::-1].copy()",
    ),
    "mask off by one": (
        "causal_mask(n, offset + n, offset)",
        "causal_mask(n, offset + n, offset + 1)",
    ),
    "mask without the cache's offset": (
        "causal_mask(n, offset + n, offset)",
        "causal_mask(n, offset + n)",
    ),
    "positions start anew": ("offset=caches[0].offset if caches else 0", "offset=0"),
    "one cache for all layers": (
        "return [KeyValueCache() for _ in self.layers]",
        "return [KeyValueCache()] * len(self.layers)",
    ),
    "the first layer's cache": ("cache = caches[i] if caches", "cache = caches[0] if caches"),
    "no residual connection": (
        "x = self.around_attention.leave(x, output)",
        "x = output",
    ),
    "attention sees what is not normalised": (
        "self.around_attention.enter(x), mask=mask",
        "x, mask=mask",
    ),
    "post-norm": (
        "self.around_attention = Residual(d_model, dropout=dropout, norm_first=True)",
        "self.around_attention = Residual(d_model, dropout=dropout, norm_first=False)",
    ),
    "no last norm": ("self.output(self.norm(x))", "self.output(x)"),
    "always a feed-forward network": ("        if d_hidden:\n", "        if True:\n"),
    "feed-forward left out": ("        if self.feed_forward is not None:\n", "        if False:\n"),
    "narrow feed-forward": ("4 * d_model if d_hidden is None", "d_model if d_hidden is None"),
    "zero taken for none": ("4 * d_model if d_hidden is None", "4 * d_model if not d_hidden"),
    "one layer for all": (
        "CausalLayer(d_model, n_heads, d_hidden, dropout=dropout) for _ in range(n_layers)",
        "layer for layer in [CausalLayer(d_model, n_heads, d_hidden)] * n_layers",
    ),
    "weights of the last layer only": (
        "            all_weights.append(weights)",
        "            all_weights = [weights]",
    ),
    "always weights": ("all_weights if need_weights else None", "all_weights"),
    "the loss of the same token": ("tokens[:, 1:].flatten()", "tokens[:, :-1].flatten()"),
    "padding counts": ("-100 if model.pad is None else model.pad", "-100"),
    "token 0 never counts": ("-100 if model.pad is None else model.pad", "0"),
    "last token of a sequence first": ("scores = logits[:, -1]", "scores = logits[:, 0]"),
    "the cache is fed everything": ("new if use_cache else tokens", "tokens"),
    "fed the new token only": ("new if use_cache else tokens", "new"),
    "writing in training mode": ("    with evaluating(model):\n", "    with torch.no_grad():\n"),
    "padding may be written": (
        "            if model.pad is not None:\n",
        "            if False:\n",
    ),
    "temperature multiplies": ("scores / temperature", "scores * temperature"),
    "temperature ignored": ("(scores / temperature)", "scores"),
    "never drawn": ("            if temperature:\n", "            if False:\n"),
    "generator ignored": (", generator=generator)  # (batch, 1)", ")"),
    "it writes on behind the end": (
        "                new = new.masked_fill(finished[:, None], model.pad)\n",
        "",
    ),
    "never finished": ("finished |= new[:, 0] == end", "new[:, 0] == end"),
    "finished together": ("            if finished.all():", "            if finished.any():"),
    "the prompt is lost": ("tokens = torch.cat([tokens, new], dim=1)", "tokens = new"),
    "one token less": ("for _ in range(n_new):", "for _ in range(n_new - 1):"),
}


class TestLanguageModel(ZooTests):
    zoo = Zoo(CHECKS, rewritten(language_model, BROKEN), BROKEN)


# --- errors in words -------------------------------------------------------------------------

MODEL = make(language_model)
PADDED = make(language_model, pad=0)

ERRORS = {
    "padding that is no token": (
        lambda: make(language_model, pad=7),
        ValueError,
        r"^pad must be a token, from 0 to 6; got 7$",
    ),
    "one axis": (
        lambda: MODEL(TOKENS[0]),
        ValueError,
        r"^tokens must have shape \(batch, n\); got \(6,\)$",
    ),
    "floats": (
        lambda: MODEL(TOKENS.float()),
        TypeError,
        r"^tokens must hold whole numbers, int32 or int64; got torch\.float32$",
    ),
    "too few caches": (
        lambda: MODEL(TOKENS, caches=MODEL.new_caches()[1:]),
        ValueError,
        r"^caches must be one for each of the 2 layers; got 1$",
    ),
    "an empty prompt": (
        lambda: language_model.generate(MODEL, TOKENS[:, :0], n_new=1),
        ValueError,
        r"^prompt must have shape \(batch, n\) with one token or more and no padding; "
        r"got \(2, 0\)$",
    ),
    "padding in the prompt": (
        lambda: language_model.generate(PADDED, TOKENS - 1, n_new=1),
        ValueError,
        r"^prompt must have shape .* no padding",
    ),
    "too much to write": (
        lambda: language_model.generate(MODEL, TOKENS, n_new=11),
        ValueError,
        r"^n_new must lie between 0 and 10, what max_length = 16 leaves; got 11$",
    ),
    "negative temperature": (
        lambda: language_model.generate(MODEL, TOKENS, n_new=1, temperature=-1.0),
        ValueError,
        r"^temperature must not be negative; got -1\.0$",
    ),
    "an end without padding": (
        lambda: language_model.generate(MODEL, TOKENS, n_new=1, end=3),
        ValueError,
        r"^end needs padding to stand behind it, .* got end = 3 and pad = None$",
    ),
}


@pytest.mark.parametrize("name", ERRORS)
def test_error(name):
    call, exception, message = ERRORS[name]
    with pytest.raises(exception, match=message) as raised:
        call()
    assert not re.search(r"<class|object at", str(raised.value))


def test_no_error_is_untested():
    assert not unreached(("language_model",), [call for call, _, _ in ERRORS.values()])
