"""Speech recognition: nobody is heard twice, padding is not heard, and each broken is caught."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from attn_tutorial.applications.speech_recognition import data as spoken_words
from attn_tutorial.applications.speech_recognition import experiment as speech_recognition
from attn_tutorial.applications.speech_recognition import models as recognizers
from attn_tutorial.applications.speech_recognition import templates as word_templates
from attn_tutorial.attribution import uniform_weights
from package.zoo import Zoo, ZooTests, rewritten

MODULES = {
    "words": spoken_words,
    "models": recognizers,
    "templates": word_templates,
    "fitting": speech_recognition,
}
SMALL = {"training": 32, "validation": 8, "test": 8, "new pairs": 12, "longer": 6}
PARTS = spoken_words.load_parts(SMALL)
TEST = PARTS["test"]

CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def pairs(utterances):
    return {pair for text in utterances.texts for pair in itertools.pairwise(text.split())}


def built(make, seed=0):
    """An untrained model with large scores, so that its attention is far from equal."""
    torch.manual_seed(seed)
    model = make().eval()
    with torch.no_grad():
        if getattr(model, "attention", None) is not None:
            model.attention.query.weight *= 8
    return model


# --- data


def test_no_voice_is_in_two_parts():
    heard = {part: {v.partition("+")[2] for v in u.voices} for part, u in PARTS.items()}
    for part, names in spoken_words.VARIANTS.items():
        assert heard[part] <= set(names)
    for one, other in itertools.combinations(spoken_words.VARIANTS.values(), 2):
        assert not set(one) & set(other)
    tests = set(spoken_words.VARIANTS["test"])
    assert heard["new pairs"] | heard["longer"] <= tests


@check
def pairs_kept_for_the_test_are_not_in_training(api):
    rng = np.random.default_rng(0)
    heard, new = set(), set()
    for _ in range(300):
        heard |= set(itertools.pairwise(api.words.draw_words(rng, 3)))
        new |= set(itertools.pairwise(api.words.draw_words(rng, 3, new=True)))
    assert not heard & new
    assert len(new) == 24
    assert len(heard) > 110


def test_parts_have_the_pairs_and_lengths_that_they_say():
    kept = {p for p in itertools.product(spoken_words.WORDS, repeat=2) if _kept(*p)}
    assert pairs(PARTS["new pairs"]) <= kept
    for part in ("training", "validation", "test", "longer"):
        assert not pairs(PARTS[part]) & kept
    lengths = {part: {len(b) for b in u.bounds} for part, u in PARTS.items()}
    assert max(lengths["training"]) == 3 < min(lengths["longer"])


def _kept(first, second):
    return spoken_words.is_kept_for_the_test(first, second)


def test_the_same_in_each_call():
    again = spoken_words.load_parts({"test": 8})["test"]
    assert torch.equal(again.frames, TEST.frames)
    assert again.texts == TEST.texts


@check
def words_are_where_the_bounds_say(api):
    """Tones for words, no pause and little noise: known samples, and frames by their middles."""
    rng = np.random.default_rng(0)
    tone = np.sqrt(2) * np.sin(2 * np.pi * 500 * np.arange(1600) / 8000)
    said = {"one": tone, "two": tone[:1000]}
    speaker = SimpleNamespace(accent="en", variant="tone", say=said.get)
    samples, bounds = api.words.utter(rng, speaker, ["one", "two"])
    assert [end - begin for begin, end in bounds] == [1600, 1000]
    for begin, end in bounds:
        assert 0.9 < np.mean(samples[begin:end] ** 2) < 1.5
        assert np.mean(samples[begin - 200 : begin] ** 2) < 0.5
    heard = api.words.collect(rng, [speaker], [["one", "two"]])
    frames, (inside, _) = heard.frames[0], heard.bounds[0]
    loud = frames[:, int(frames.std(dim=0).argmax())]
    wanted = [t for t in range(len(frames)) if loud[t] > loud.mean() + 0.5]
    assert abs(wanted[0] - inside[0]) <= 2
    assert heard.voices == ["en+tone"]


@check
def frames_belong_to_words_by_their_middles(api):
    for sample in (0, 99, 100, 101, 500, 7000):
        middles = [80 * t + 100 for t in range(50)]
        wanted = next((t for t, middle in enumerate(middles) if middle >= sample), 50)
        assert api.words._frame_at(sample, 50) == wanted


@check
def noise_has_the_power_that_it_should(api):
    rng = np.random.default_rng(0)
    for n in (997, 8000):
        noise = api.words.hiss(rng, n)
        assert len(noise) == n
        assert np.mean(noise**2) == pytest.approx(1)


@check
def tokens_are_the_texts(api):
    tokens = api.words.encode(["six one", "two"])
    assert tokens.shape == (2, 9)
    assert tokens[0, 0] == tokens[1, 0] == 1
    assert (tokens == 2).sum(dim=1).tolist() == [1, 1]
    assert tokens[1, 5:].tolist() == [0] * 4
    assert [api.words.decode(row) for row in tokens] == ["six one", "two"]


# --- models


@check
def padding_is_not_heard(api):
    listener = built(api.models.Listener)
    for i in range(3):
        n = int(TEST.lengths[i])
        alone, _ = listener(TEST.frames[i : i + 1, :n], TEST.lengths[i : i + 1])
        among, mask = listener(TEST.frames, TEST.lengths)
        torch.testing.assert_close(among[i][mask[i]], alone[0])
        noisy = TEST.frames.clone()
        noisy[i, n:] = 9
        torch.testing.assert_close(listener(noisy, TEST.lengths)[0][i][mask[i]], alone[0])
        assert mask[i].sum() == -(-n // 4)


@check
def listening_in_both_directions_is_that_of_torch(api):
    listener = built(api.models.Listener)
    both = nn.LSTM(64, 32, batch_first=True, bidirectional=True)
    with torch.no_grad():
        for name, value in listener.forwards.named_parameters():
            getattr(both, name).copy_(value)
        for name, value in listener.backwards.named_parameters():
            getattr(both, f"{name}_reverse").copy_(value)
        memory, mask = listener(TEST.frames, TEST.lengths)
        steps = torch.relu(listener.convolution(TEST.frames.mT).mT)
        packed = nn.utils.rnn.pack_padded_sequence(
            steps[:, : mask.shape[1]], mask.sum(1), batch_first=True, enforce_sorted=False
        )
        wanted, _ = nn.utils.rnn.pad_packed_sequence(both(packed)[0], batch_first=True)
    torch.testing.assert_close(memory[mask], wanted[mask])


@check
def weights_are_on_sound_and_sum_to_one(api):
    model = built(api.models.Speller)
    _, weights = model(TEST.frames, TEST.lengths, TEST.tokens, need_weights=True)
    _, mask = model.listener(TEST.frames, TEST.lengths)
    assert weights.shape == (8, 1, TEST.tokens.shape[1], mask.shape[1])
    torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]))
    assert weights.transpose(1, 3)[~mask].abs().max() == 0


@check
def characters_ask_and_steps_answer(api):
    """The weights by hand: the softmax, over the steps, of queries of the speller's states."""
    model = built(api.models.Speller)
    _, weights = model(TEST.frames, TEST.lengths, TEST.tokens, need_weights=True)
    with torch.no_grad():
        memory, mask = model.listener(TEST.frames, TEST.lengths)
        states, _ = model.recurrent(model.embedding(TEST.tokens))
        scores = model.attention.query(states) @ model.attention.key(memory).mT / 8
        wanted = scores.masked_fill(~mask[:, None], -torch.inf).softmax(dim=-1)
    torch.testing.assert_close(weights[:, 0], wanted)
    plain, _ = model(TEST.frames, TEST.lengths, TEST.tokens)
    with uniform_weights(model):
        assert (model(TEST.frames, TEST.lengths, TEST.tokens)[0] - plain).abs().max() > 1e-3


@check
def later_characters_change_nothing_before(api):
    for make in (api.models.Speller, api.models.BlindSpeller):
        model = built(make)
        plain, _ = model(TEST.frames, TEST.lengths, TEST.tokens)
        changed = TEST.tokens.clone()
        changed[:, 3:] = 7
        other, _ = model(TEST.frames, TEST.lengths, changed)
        torch.testing.assert_close(other[:, :3], plain[:, :3])
        assert (other[:, 3:] - plain[:, 3:]).abs().max() > 1e-3


@check
def spelling_is_the_likeliest_character_each_time(api):
    """Against reading all that was written anew for each character."""
    for make in (api.models.Speller, api.models.BlindSpeller):
        model = built(make, seed=3)
        heard = model.spell(TEST.frames[:3], TEST.lengths[:3], max_length=8)
        for i in range(3):
            written = torch.tensor([[1]])
            while written.shape[1] <= 8 and written[0, -1] != 2:
                logits, _ = model(TEST.frames[i : i + 1], TEST.lengths[i : i + 1], written)
                written = torch.cat([written, logits[:, -1].argmax(-1)[:, None]], dim=1)
            assert heard[i] == spoken_words.decode(written[0, 1:])


@check
def one_vector_is_the_ends_of_both_directions(api):
    model = built(api.models.BlindSpeller)
    memory, mask = model.listener(TEST.frames, TEST.lengths)
    before = model._heard(memory, mask)
    middle = memory.clone()
    middle[:, 1:5] = 0
    torch.testing.assert_close(model._heard(middle, mask), before)
    for place, half in (("first", slice(32, 64)), ("last", slice(0, 32))):
        other = memory.clone()
        for i, n in enumerate(mask.sum(1).tolist()):
            other[i, 0 if place == "first" else n - 1, half] += 1
        assert (model._heard(other, mask) - before).abs().amax(dim=1).min() > 1e-3


@check
def spelling_loss_by_hand(api):
    model = built(api.models.Speller)
    logits, _ = model(TEST.frames, TEST.lengths, TEST.tokens)
    log = logits.log_softmax(-1)
    terms = [
        0.95 * log[i, t, TEST.tokens[i, t + 1]] + 0.05 * log[i, t].mean()
        for i in range(8)
        for t in range(TEST.tokens.shape[1] - 1)
        if TEST.tokens[i, t + 1] != 0
    ]
    wanted = -torch.stack(terms).mean()
    found = api.models.spelling_loss(model, TEST.frames, TEST.lengths, TEST.tokens)
    torch.testing.assert_close(found, wanted)


class Fixed(nn.Module):
    """Log-probabilities of four steps that are what they are."""

    def forward(self, frames, lengths):
        torch.manual_seed(0)
        n = len(spoken_words.CHARACTERS)
        logits = torch.randn(1, 5, n).log_softmax(-1)
        return logits, torch.tensor([[True] * 4 + [False]])


@check
def ctc_sums_all_paths(api):
    """All paths of four steps that collapse to the text, one by one; padding is no step."""
    tokens = torch.tensor([[1, 6, 6, 2, 0]])
    probabilities = Fixed()(None, None)[0][0, :4].exp()
    total = 0.0
    for path in itertools.product([0, 6, 7], repeat=4):
        letters = [number for number, _ in itertools.groupby(path) if number]
        if letters == [6, 6]:
            total += float(np.prod([probabilities[t, c].item() for t, c in enumerate(path)]))
    found = api.models.ctc_loss(Fixed(), None, None, tokens)
    assert found.item() == pytest.approx(-np.log(total) / 2, rel=1e-4)


@check
def ctc_leaves_out_repetitions_then_blanks(api):
    model = api.models.CTC()
    number = spoken_words.CHARACTERS.index
    path = [0, number("t"), number("t"), 0, number("w"), number("o"), 0, number("o"), number("x")]
    said = nn.functional.one_hot(torch.tensor([path]), len(spoken_words.CHARACTERS)).float()
    model.forward = lambda frames, lengths: (said, torch.tensor([[True] * 8 + [False]]))
    assert model.spell(None, None) == ["twoo"]


# --- words by pieces


@check
def pieces_by_hand(api):
    loud = np.array([0, 0, 9, 9, 9, 9, 0, 9, 9, 9, 0, 0, 0, 0, 9, 0, 0, 0, 9, 9, 9, 9.0])
    frames = np.repeat(loud[:, None], 3, axis=1)
    how = {"level": 0.5, "shortest": 3}
    assert api.templates.cut(frames, gap=1, **how) == [(2, 6), (7, 10), (18, 22)]
    assert api.templates.cut(frames, gap=2, **how) == [(2, 10), (18, 22)]
    assert api.templates.cut(frames, gap=9, **how) == [(2, 22)]


@check
def points_are_interpolated(api):
    piece = np.random.default_rng(0).standard_normal((13, 2))
    wanted = [np.interp(np.linspace(0, 12, 8), np.arange(13), column) for column in piece.T]
    np.testing.assert_allclose(api.templates.at_points(piece), np.stack(wanted, 1).ravel())


def warped(one, other):
    """The recursion of the definition, without a table."""
    here = float(np.linalg.norm(one[-1] - other[-1]))
    if len(one) == len(other) == 1:
        return here
    before = [
        warped(one[:n], other[:m])
        for n, m in ((len(one) - 1, len(other)), (len(one), len(other) - 1))
        if n and m
    ]
    if len(one) > 1 and len(other) > 1:
        before.append(warped(one[:-1], other[:-1]))
    return here + min(before)


@check
def warping_is_the_cheapest_of_all_paths(api):
    rng = np.random.default_rng(0)
    piece = rng.standard_normal((4, 3))
    templates = [rng.standard_normal((n, 3)) for n in (1, 3, 5)]
    found = api.templates.warped_distances(piece, templates)
    wanted = [warped(piece, t) / (4 + len(t)) for t in templates]
    np.testing.assert_allclose(found, wanted)
    slow = np.repeat(piece, [1, 3, 2, 1], axis=0)
    assert api.templates.warped_distances(piece, [slow])[0] < 1e-6


@check
def names_go_back_to_their_utterances(api):
    rows = [[np.zeros((2, 1))], [], [np.ones((2, 1)), np.full((2, 1), 2.0)]]
    names = api.templates.recognize(rows, lambda given: [f"{p.mean():.0f}" for p in given])
    assert names == ["0", "", "1 2"]


@check
def labelled_pieces_are_of_utterances_cut_right(api):
    pieces, words, voices = api.templates.labelled(TEST, TEST.bounds)
    assert words == " ".join(TEST.texts).split()
    begin, end = TEST.bounds[0][0]
    there = TEST.frames[0, begin:end].numpy()
    np.testing.assert_allclose(pieces[0], there - there.mean(axis=0), atol=1e-5)
    assert len(voices) == len(words)
    several = next(i for i, bounds in enumerate(TEST.bounds) if len(bounds) > 1)
    missed, left = list(TEST.bounds), list(TEST.texts)
    missed[several] = missed[several][1:]
    del left[several]
    assert api.templates.labelled(TEST, missed)[1] == " ".join(left).split()


# --- measures


@check
def errors_by_hand(api):
    two = TEST._replace(texts=["one two", "six"])
    # a word replaced and one inserted, of three; characters: one replaced, "x one" for "x"
    words, characters = api.fitting.errors(["one twx", "six one"], two)
    assert words == pytest.approx(2 / 3)
    assert characters == pytest.approx((1 + 4) / 10)
    assert api.fitting.errors(["", ""], two)[0] == 1


@check
def words_are_corrected_to_known_ones(api):
    assert api.fitting.to_known_words("sevn thre  minusx") == "seven three minus"
    assert api.fitting.to_known_words("") == ""


@check
def alignment_by_hand(api):
    one = TEST._replace(
        texts=["two six"],
        bounds=[[(0, 8), (12, 24)]],
        lengths=torch.tensor([28]),
    )
    weights = torch.zeros(1, 8, 7)
    for letter, step in enumerate([0, 1, 1, 6, 2, 3, 5, 6]):  # t w o _ s i x end
        weights[0, letter, step] = 1
    found = api.fitting.alignment(weights, one)
    # of steps at frames 0, 4, ..., 24: "two" has two, "six" has three; the letter s misses its word
    assert found["in the word"] == pytest.approx(5 / 6)
    assert found["by chance"] == pytest.approx((2 / 7 + 3 / 7) / 2)
    assert found["later"] == pytest.approx(3 / 4)


@check
def shuffled_frames_are_the_same_frames(api):
    shuffled = api.fitting.shuffle_frames(TEST)
    for before, after, n in zip(TEST.frames, shuffled.frames, TEST.lengths.tolist(), strict=True):
        assert not torch.equal(before, after)
        assert torch.equal(before[:n].sort(dim=0).values, after[:n].sort(dim=0).values)
        assert (after[n:] == 0).all()
        rows = {tuple(row) for row in before[:n].tolist()}
        assert all(tuple(row) in rows for row in after[:n].tolist())


BROKEN = {
    "pairs of training in the test": ("words", "== new:", "!= new or True:"),
    "bounds begin after the word": ("words", "bounds.append((begin, begin", "bounds.append((0, 0"),
    "pause forgotten": ("words", "begin += len(samples) + len(pause)", "begin += len(samples)"),
    "frames by their begin": ("words", "middle = round(WINDOW * RATE) / 2", "middle = 0"),
    "noise of any power": ("words", "return noise / np.sqrt(np.mean(noise**2))", "return noise"),
    "no end": ("words", "for letter in text), END]", "for letter in text), PAD]"),
    "padding is heard": (
        "models",
        "masked_fill(~_before(lengths, longest)[..., None], 0)",
        "clone()",
    ),
    "backwards from the padding": (
        "models",
        "lengths[:, None] - 1 - place",
        "len(x[0]) - 1 - place",
    ),
    "not turned back": ("models", "_turned(backwards, lengths)]", "backwards]"),
    "mask turned round": ("models", "mask=mask[:, None, None]", "mask=~mask[:, None, None]"),
    "no mask": ("models", "mask=mask[:, None, None]", "mask=None"),
    "equal weights": (
        "models",
        "self.attention(states, memory",
        "self.attention(0 * states, memory",
    ),
    "characters ask the wrong way round": (
        "models",
        "self.attention(states, memory",
        "self.attention(states.flip(1), memory",
    ),
    "the speller sees what comes": (
        "models",
        "self.recurrent(embedded, hidden)",
        "(embedded.flip(1).cumsum(1).flip(1), hidden)",
    ),
    "state forgotten while spelling": (
        "models",
        "logits, _, hidden = self.write",
        "logits, _, _ = self.write",
    ),
    "the first step for the last": (
        "models",
        "forwards[torch.arange(len(last)), last]",
        "forwards[:, 0]",
    ),
    "label leak": ("models", "lengths, tokens[:, :-1])", "lengths, tokens[:, 1:])"),
    "padding is learned": ("models", "ignore_index=PAD", "ignore_index=-100"),
    "end is no blank": (
        "models",
        "texts = tokens[:, 1:].masked_fill(tokens[:, 1:] == END, PAD)",
        "texts = tokens[:, 1:]",
    ),
    "padding is a step of CTC": (
        "models",
        "mask.sum(dim=1),\n        (texts",
        "torch.full_like(mask.sum(dim=1), mask.shape[1]),\n        (texts",
    ),
    "repetitions stay": ("models", "torch.unique_consecutive(row[inside])", "row[inside]"),
    "quiet for loud": ("templates", "power > quiet", "power < quiet"),
    "all gaps closed": ("templates", "< gap:", "< 99 * gap:"),
    "nearest frame": ("templates", "share = (points - below)[:, None]", "share = 0"),
    "no diagonal": (
        "templates",
        "np.minimum(before[:, 1:], before[:, :-1])",
        "before[:, 1:]",
    ),
    "a template begins anywhere": ("templates", "best[:, 0] = 0", "best[:, :] = 0"),
    "not by the length": ("templates", " / (len(piece) + lengths)", ""),
    "wrongly cut ones too": ("templates", "if len(row) == len(text.split()):", "if row:"),
    "names in another order": (
        "templates",
        "[piece for row in pieces for piece in row]",
        "[piece for row in pieces for piece in row][::-1]",
    ),
    "errors the other way round": (
        "fitting",
        "jiwer.wer(utterances.texts, heard)",
        "jiwer.wer(heard, utterances.texts)",
    ),
    "the least like": ("fitting", "difflib.get_close_matches(word, WORDS, 1, 0)[0]", "WORDS[0]"),
    "space forgotten": ("fitting", "first += len(word) + 1", "first += len(word)"),
    "steps for frames": ("fitting", "times = STRIDE * torch", "times = torch"),
    "padding shuffled in": ("fitting", "torch.randperm(length,", "torch.randperm(len(row),"),
    "bands shuffled": (
        "fitting",
        "row[:length] = row[torch.randperm(length, generator=generator)]",
        "row[:length] = row[:length][:, torch.randperm(32, generator=generator)]",
    ),
}


class TestSpeechRecognition(ZooTests):
    zoo = Zoo(CHECKS, rewritten(MODULES, BROKEN), BROKEN)


MISTAKES = {
    "no such part": (lambda: spoken_words.speakers("tests"), "part must be one of training, val"),
    "no such size": (lambda: spoken_words.load_parts({"tests": 3}), "sizes must be of training"),
    "other letters": (lambda: spoken_words.encode(["one", "Q"]), r"characters of WORDS; got \['Q'"),
    "too few bands": (
        lambda: recognizers.Listener()(torch.zeros(2, 9, 31), torch.tensor([9, 9])),
        r"frames must have shape \(batch, n_frames, 32\).*got \(2, 9, 31\) and \(2,\)",
    ),
    "longer than there are frames": (
        lambda: recognizers.Listener()(torch.zeros(2, 9, 32), torch.tensor([9, 10])),
        r"lengths must be from 1 to 9; got \[9, 10\]",
    ),
    "no such kind": (
        lambda: speech_recognition.fit("attending", PARTS, 0),
        "kind must be one of attention, one vector, CTC; got 'attending'",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_named(name):
    call, message = MISTAKES[name]
    with pytest.raises(ValueError, match=message):
        call()


def test_each_kind_learns_a_little():
    """Some steps on a few utterances: the loss falls, and the same seed gives the same."""
    for kind, equal in (("attention", False), ("attention", True), ("CTC", False)):
        _, history = speech_recognition.fit(kind, PARTS, 0, steps=6, equal_weights=equal)
        assert history.losses[-1] < history.losses[0]
    _, again = speech_recognition.fit("CTC", PARTS, 0, steps=6)
    assert again.losses == history.losses
