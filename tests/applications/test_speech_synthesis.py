"""Sound and frames, the judge, and what the decoder may see, against brute force and by hand."""

import functools
import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.io import wavfile

from attn_tutorial.applications.results import load
from attn_tutorial.applications.speech_synthesis import data as spoken_numbers
from attn_tutorial.applications.speech_synthesis import experiment as speech_synthesis
from attn_tutorial.applications.speech_synthesis import models as speech_models
from attn_tutorial.applications.speech_synthesis import recogniser as word_recogniser
from package.zoo import Zoo, ZooTests, merged

ROOT = Path(__file__).parents[2]
MODULES = (spoken_numbers, word_recogniser, speech_models)
N_MELS = spoken_numbers.N_MELS

CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def some_batch(api, *, n_steps=6):
    generator = torch.Generator().manual_seed(0)
    groups = torch.rand((2, n_steps, api.GROUP * N_MELS), generator=generator) * 5
    return api.Batch(api.encode(["one two", "six"]), groups, torch.tensor([n_steps, 3]))


@functools.cache
def teacher():
    """Phrases with each digit twice."""
    texts = ["zero one two three", "four five six seven", "eight nine zero five", "one eight two"]
    return [spoken_numbers.speak(text) for text in texts]


# --- sound --------------------------------------------------------------------------------------


@check
def transform_by_hand_and_back(api):
    samples = np.random.default_rng(0).standard_normal(2000)
    found = api.transform(samples)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    np.testing.assert_allclose(found[3], np.fft.rfft(samples[300:700] * window))
    np.testing.assert_allclose(api.overlap_add(found)[100:-100], samples[100:-100], atol=1e-9)


@check
def overlap_add_is_the_least_squares_solution(api):
    """No signal near it has a transform nearer to spectra that belong to no signal."""
    rng = np.random.default_rng(0)
    wanted = rng.standard_normal((3, 201)) + 1j * rng.standard_normal((3, 201))
    wanted[:, [0, -1]] = wanted[:, [0, -1]].real
    weight = np.array([1, *[2] * 199, 1])  # bins that stand for two of the whole spectrum

    def distance(samples):
        return (weight * np.abs(api.transform(samples) - wanted) ** 2).sum()

    best = api.overlap_add(wanted)
    for _ in range(5):
        assert distance(best) < distance(best + 1e-3 * rng.standard_normal(len(best)))


@check
def rounds_never_make_it_worse(api):
    wanted = np.abs(api.transform(np.random.default_rng(0).standard_normal(3000)))
    samples, distances = api.griffin_lim(wanted, n_rounds=20)
    assert all(after <= before + 1e-9 for before, after in itertools.pairwise(distances))
    assert distances[-1] < distances[0] / 2
    found = np.abs(api.transform(samples))
    assert np.linalg.norm(found - wanted) / np.linalg.norm(wanted) == pytest.approx(distances[-1])


@check
def sound_of_frames_has_these_frames(api):
    frames = teacher()[0].frames
    again = api.to_frames(api.to_sound(frames))
    assert again.shape == frames.shape
    assert np.corrcoef(again.ravel(), frames.ravel())[0, 1] > 0.97
    assert abs((again - frames).mean()) < 0.3


# --- the judge ----------------------------------------------------------------------------------


@check
def warping_by_all_paths(api):
    rng = np.random.default_rng(0)
    for n, m in ((1, 1), (2, 3), (4, 3)):
        one, other = rng.standard_normal((n, 5)), rng.standard_normal((m, 5))
        local = np.sqrt(((one[:, None] - other) ** 2).mean(axis=2))

        def cheapest(i, j, local=local):
            if (i, j) == (0, 0):
                return 2 * local[0, 0]
            ways = [cheapest(i - 1, j, local) + local[i, j]] if i else []
            ways += [cheapest(i, j - 1, local) + local[i, j]] if j else []
            ways += [cheapest(i - 1, j - 1, local) + 2 * local[i, j]] if i and j else []
            return min(ways)

        expected = cheapest(n - 1, m - 1) / (n + m)
        assert api.warped_distance(one, other) == pytest.approx(expected)


@check
def the_judge_hears_what_is_said(api):
    judge = api.Recogniser(teacher(), n_templates=1)
    for phrase in teacher():
        assert judge(phrase.frames) == phrase.text
    slow = np.repeat(teacher()[3].frames, 2, axis=0)
    assert judge(slow) == teacher()[3].text
    fast = np.delete(teacher()[3].frames, slice(2, None, 4), axis=0)
    assert judge(fast) == teacher()[3].text


@check
def the_judge_finds_the_cheapest_path(api):
    """Two words of two and of three states, in frames of noise, against all paths."""
    rng = np.random.default_rng(0)
    judge = api.Recogniser(teacher(), n_templates=1)
    judge.words = ["a", "b"]
    judge.templates = rng.standard_normal((5, N_MELS))
    judge.first, judge.last = np.array([0, 2]), np.array([1, 4])
    for _ in range(5):
        frames = rng.standard_normal((6, N_MELS))
        local = np.sqrt(((frames[:, None] - judge.templates) ** 2).mean(axis=2))
        best = (np.inf, "")
        for path in itertools.product(range(5), repeat=6):
            words = [path[0]]
            allowed = path[0] in (0, 2) and path[-1] in (1, 4)
            for before, after in itertools.pairwise(path):
                inside = after - before in (0, 1, 2) and (before < 2) == (after < 2)
                if not inside or (before in (1, 4) and after in (0, 2) and after != before):
                    allowed &= before in (1, 4) and after in (0, 2)
                    words.append(after)
            if allowed:
                cost = local[np.arange(6), path].sum()
                best = min(best, (cost, " ".join("ab"[word // 2] for word in words)))
        assert judge(frames) == best[1]


# --- the model ----------------------------------------------------------------------------------


def run(api, batch, letters=None, groups=None, seed=0):
    torch.manual_seed(0)
    model = api.Synthesiser(d_model=16).eval()
    torch.manual_seed(seed)
    with torch.no_grad():
        return model(
            batch.letters if letters is None else letters,
            batch.groups if groups is None else groups,
        )


@check
def no_step_sees_what_it_shall_write(api):
    batch = some_batch(api)
    changed = batch.groups.clone()
    changed[:, 3:] += 1
    before, after = run(api, batch), run(api, batch, groups=changed)
    for plain, other in ((before[0], after[0]), (before[1], after[1])):
        torch.testing.assert_close(plain[:, :4], other[:, :4])
        assert not torch.allclose(plain[:, 4:], other[:, 4:])


@check
def padding_is_not_read(api):
    batch = some_batch(api)
    longer = torch.nn.functional.pad(batch.letters, (0, 3))
    before, after = run(api, batch), run(api, batch, letters=longer)
    torch.testing.assert_close(before[0], after[0], atol=1e-5, rtol=0)
    for weights in after[2]:
        assert not weights[:, :, :, 7:].any()
        assert not weights[1, :, :, 3:].any()
        torch.testing.assert_close(weights.sum(dim=-1), torch.ones(weights.shape[:3]))


@check
def dropout_stays_on(api):
    batch = some_batch(api)
    assert not torch.allclose(run(api, batch, seed=1)[0], run(api, batch, seed=2)[0])


@check
def guide_by_loop(api):
    weights = torch.rand((2, 1, 4, 5), generator=torch.Generator().manual_seed(0)).double()
    lengths, letters = torch.tensor([4, 2]), torch.tensor([5, 3])
    total = 0.0
    for i, t, k in itertools.product(range(2), range(4), range(5)):
        if t < lengths[i]:
            off = float(k / letters[i] - t / lengths[i])
            total += float(weights[i, 0, t, k]) * (1 - np.exp(-(off**2) / (2 * 0.2**2)))
    assert api.guide(weights, lengths, letters).item() == pytest.approx(total / 6, rel=1e-5)


@check
def losses_end_where_the_phrase_ends(api):
    batch = some_batch(api)
    changed = batch.groups.clone()
    changed[1, 3:] += 2
    found = []
    for groups in (batch.groups, changed):
        torch.manual_seed(0)
        model = api.Synthesiser(d_model=16)
        torch.manual_seed(1)
        found.append(api.losses(model, batch._replace(groups=groups))[0].item())
    assert found[0] == pytest.approx(found[1])


@check
def speaking_is_the_same_alone_and_together(api):
    """Up to its end a phrase depends on no other; equal weights are equal."""
    torch.manual_seed(0)
    model = api.Synthesiser(d_model=16, dropout=0.0)
    with torch.no_grad():
        model.stop.bias += 0.2
    both = api.synthesise(model, ["six", "one two"])
    alone = api.synthesise(model, ["six"])
    assert both[0].frames.shape == alone[0].frames.shape
    torch.testing.assert_close(both[0].frames, alone[0].frames, atol=1e-4, rtol=0)
    (equal,) = api.synthesise(model, ["six"], equal_weights=True)
    torch.testing.assert_close(equal.weights, torch.full_like(equal.weights, 1 / 3))


BROKEN = {
    "window once": (spoken_numbers, "HANN * frame", "frame"),
    "no weights under the windows": (spoken_numbers, "total / np.maximum(weight, 1e-3)", "total"),
    "phases thrown away": (
        spoken_numbers,
        "phases = spectra / np",
        "phases = 1 + 0 * spectra / np",
    ),
    "power for magnitude": (spoken_numbers, "griffin_lim(np.sqrt(spread))", "griffin_lim(spread)"),
    "both steps for one": (word_recogniser, "cost[i, j] + 2 * local", "cost[i, j] + local"),
    "enters from anywhere": (
        word_recogniser,
        "best_end = self.last[cost[self.last].argmin()]",
        "best_end = cost.argmin()",
    ),
    "jumps over a border": (word_recogniser, "np.where(first | second, np.inf, two)", "two"),
    "never stays": (word_recogniser, "np.stack([stay,", "np.stack([stay + np.inf,"),
    "the answer in sight": (speech_models, "F.pad(groups, (0, 0, 1, 0))[:, :-1]", "groups"),
    "no causal mask": (speech_models, "layer(x, memory, mask=causal,", "layer(x, memory,"),
    "padding in sight": (speech_models, "memory_mask=mask,", ""),
    "dropout off": (speech_models, "self.dropout)  # always on", "0.0)"),
    "guide transposed": (speech_models, "(letter - step) ** 2", "(letter + step - 1) ** 2"),
    "guide behind the end": (speech_models, "real = (step < 1)", "real = (step < 9)"),
    "losses behind the end": (
        speech_models,
        ".mean(dim=-1) * real).sum()",
        ".mean(dim=-1)).sum()",
    ),
    "weights not made equal": (
        speech_models,
        "context = equal(model) if equal_weights else contextlib.nullcontext()",
        "context = contextlib.nullcontext()",
    ),
}


class TestSpeechSynthesis(ZooTests):
    zoo = Zoo(CHECKS, merged(MODULES, BROKEN), BROKEN)


# --- data, baselines, scores, errors, files -----------------------------------------------------


def test_no_phrase_is_in_two_parts():
    parts = spoken_numbers.texts()
    everything = [text for members in parts.values() for text in members]
    assert len(set(everything)) == len(everything)
    assert {part: len(members) for part, members in parts.items()} == {
        **spoken_numbers.SIZES,
        "long": spoken_numbers.N_LONG,
    }
    longest = max(len(text.split()) for text in parts["training"])
    assert longest < min(len(text.split()) for text in parts["long"])


def test_bounds_follow_one_another():
    for phrase in teacher():
        assert phrase.bounds[0] == 0
        assert phrase.bounds[-1] == len(phrase.frames)
        assert len(phrase.bounds) == len(phrase.text.split()) + 1
        assert min(np.diff(phrase.bounds)) > 3


def test_baselines_by_hand():
    rows = np.arange(4.0)[:, None] * np.ones((1, N_MELS))
    phrases = [
        spoken_numbers.Phrase("ab", rows, [0, 4]),
        spoken_numbers.Phrase("ba ab", np.concatenate([rows, rows[:1], rows]), [0, 5, 9]),
    ]
    (found,) = speech_synthesis.spliced_words(phrases, ["ab ba"])
    np.testing.assert_array_equal(found, np.concatenate([rows, rows, rows[:1]]))
    (found,) = speech_synthesis.average_letters(phrases[:1], ["ba"])
    np.testing.assert_array_equal(found[:, 0], [2.5, 2.5, 0.5, 0.5])
    (found,) = speech_synthesis.nearest_phrase(phrases, ["ba ba"])
    assert found is phrases[1].frames


def test_reading_by_hand():
    for path, skipped, returns in (
        ([0, 1, 2, 4, 5, 6], 0, 0),
        ([0, 1, 4, 2, 5], 0, 1),
        ([4, 5, 6], 1, 0),
    ):
        weights = torch.eye(7)[path][None, None]
        found = speech_synthesis.reading(weights, "one two")
        assert found == {"skipped": skipped, "returns": returns}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: spoken_numbers.speak("ten"), "text must be words of zero, one"),
        (lambda: spoken_numbers.speak(""), "text must be words of zero, one"),
        (lambda: speech_models.encode(["one!"]), "texts must be of the letters .*; got '!'"),
        (lambda: speech_models.encode([]), "texts must be of the letters"),
        (
            lambda: word_recogniser.Recogniser(teacher()[:1]),
            "phrases must hold each digit; none has four, five",
        ),
        (
            lambda: speech_synthesis.reading(torch.ones(1, 1, 2, 3), "one two"),
            "weights must have 7 letters, as the text; got 3",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_sounds_on_the_page_say_what_was_recorded():
    stored = load(ROOT / "chapters/applications/results/speech_synthesis.json").more["sounds"]
    judge = word_recogniser.Recogniser(teacher(), n_templates=1)
    for number, sound in enumerate(stored, 1):
        lengths = {}
        for name in ("teacher", "model"):
            path = ROOT / f"_static/audio/speech_synthesis_{number}_{name}.wav"
            assert path.stat().st_size < 32_000
            rate, samples = wavfile.read(path)
            assert (rate, samples.dtype) == (spoken_numbers.RATE, np.int16)
            lengths[name] = len(samples) / rate
        assert lengths["model"] == pytest.approx(sound["seconds"], abs=0.05)
        assert lengths["teacher"] == pytest.approx(lengths["model"], rel=0.4)
        assert judge(spoken_numbers.speak(sound["text"]).frames) == sound["text"]
