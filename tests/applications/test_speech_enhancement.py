"""Noise, masks and scores against brute force and closed forms; what each model can see."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from pystoi import stoi
from scipy.io import wavfile

from attn_tutorial.applications.results import load
from attn_tutorial.applications.speech_enhancement import data as noisy_speech
from attn_tutorial.applications.speech_enhancement import experiment as speech_enhancement
from attn_tutorial.applications.speech_enhancement import filters as speech_masks
from attn_tutorial.applications.speech_enhancement import models as mask_estimators
from package.zoo import Zoo, ZooTests, merged

ROOT = Path(__file__).parents[2]
MODULES = (noisy_speech, speech_masks, mask_estimators)
N_FRAMES, N_BINS = 12, speech_masks.N_BINS

CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def searching(function):
    """A check that takes longer, and so runs last."""
    function.generated = True
    return check(function)


def some_magnitudes(n=2, n_frames=N_FRAMES, n_bins=N_BINS, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand((n, n_frames, n_bins), generator=generator) * 3 + 0.1


def some_clips(api):
    """Two clips of tones in noise, as a part."""
    t = np.arange(noisy_speech.LENGTH) / noisy_speech.RATE
    rng = np.random.default_rng(0)
    clean = np.stack([np.sin(2 * np.pi * f * t) * (t > 0.5) for f in (300, 500)])
    noisy = clean + 0.3 * rng.standard_normal(clean.shape)
    names = np.array(["white", "white"])
    return api.Mixtures(
        clean.astype(np.float32), noisy.astype(np.float32), names, names, np.zeros(2)
    )


# --- noise and mixtures -------------------------------------------------------------------------


@check
def noise_has_the_ratio_asked_for(api):
    rng = np.random.default_rng(0)
    clean = np.sin(np.arange(500))
    for snr in (-5, 0, 10):
        noise = 7 * rng.standard_normal(500)
        added = api.mix(clean, noise, snr) - clean
        assert 10 * np.log10((clean**2).sum() / (added**2).sum()) == pytest.approx(snr)
        assert np.corrcoef(added, noise)[0, 1] == pytest.approx(1)


@check
def colours_fall_as_they_should(api):
    """The slope of the power over the frequency, both logarithmic: 0, -1, -2."""
    for kind, slope in (("white", 0), ("pink", -1), ("brown", -2)):
        power = np.mean(
            [
                np.abs(np.fft.rfft(api.noise(kind, np.random.default_rng(seed)))) ** 2
                for seed in range(8)
            ],
            axis=0,
        )
        hertz = np.fft.rfftfreq(noisy_speech.LENGTH, 1 / noisy_speech.RATE)
        band = (hertz > 100) & (hertz < 3000)
        found = np.polyfit(np.log(hertz[band]), np.log(power[band]), 1)[0]
        assert found == pytest.approx(slope, abs=0.1)


@check
def every_noise_is_as_loud_and_never_the_same(api):
    spoken = [np.sin(np.arange(3000) * f) for f in (0.1, 0.2, 0.3, 0.5, 0.7, 0.9)]
    for kind in [*api.MAKERS, "babble"]:
        one, two = (api.noise(kind, np.random.default_rng(seed), spoken) for seed in (0, 1))
        assert np.sqrt(np.mean(one**2)) == pytest.approx(1)
        assert abs(np.corrcoef(one, two)[0, 1]) < 0.9


# --- masks and scores ---------------------------------------------------------------------------


@check
def spectra_by_hand_and_back(api):
    signal = torch.randn((1, 1024), generator=torch.Generator().manual_seed(0))
    found = api.spectra(signal)
    window = np.sqrt(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(256) / 256))
    by_hand = np.fft.rfft(signal[0, 256:512].numpy() * window)  # the frame around sample 384
    np.testing.assert_allclose(found[0, 3].numpy(), by_hand, atol=1e-4)
    torch.testing.assert_close(api.signals(found, 1024), signal, atol=1e-5, rtol=0)


@check
def ratio_of_signal_to_distortion_in_closed_form(api):
    """A tenth of something orthogonal is 20 dB, at any scale; else the angle decides."""
    t = 2 * np.pi * np.arange(1000) / 1000
    clean, other = np.sin(3 * t)[None], np.cos(7 * t)[None]
    for scale in (0.01, 1, -5):
        np.testing.assert_allclose(api.si_sdr(scale * (clean + 0.1 * other), clean), 20)
        np.testing.assert_allclose(api.si_sdr(clean + 0.1 * other, scale * clean), 20)
    rng = np.random.default_rng(0)
    clean, estimate = rng.standard_normal((2, 3, 50))
    pairs = zip(clean, estimate, strict=True)
    cosine = [np.dot(c, e) / np.linalg.norm(c) / np.linalg.norm(e) for c, e in pairs]
    expected = [10 * np.log10(c**2 / (1 - c**2)) for c in cosine]
    np.testing.assert_allclose(api.si_sdr(estimate, clean), expected)


@check
def a_mask_of_ones_changes_nothing(api):
    part = some_clips(api)
    ones = torch.ones_like(api.magnitudes(part)[0])
    np.testing.assert_allclose(api.improvements(part, api.masked(part, ones)), 0, atol=1e-3)


@check
def wiener_filter_by_loop(api):
    noisy, noise = some_magnitudes(n_bins=3).double(), torch.full((2, 1, 3), 0.8).double()
    found = api.wiener_mask(noisy, noise, smoothing=0.9, factor=1.5, floor=0.05)
    for i, k in itertools.product(range(2), range(3)):
        cleaned = None
        for t in range(N_FRAMES):
            ratio = float(noisy[i, t, k] ** 2) / 1.2
            before = max(ratio - 1, 0) if cleaned is None else cleaned
            prior = 0.9 * before + 0.1 * max(ratio - 1, 0)
            gain = prior / (1 + prior)
            cleaned = gain * gain * ratio
            assert found[i, t, k].item() == pytest.approx(max(gain, 0.05))


@check
def minimum_statistics_by_loop(api):
    noisy = some_magnitudes(n_bins=2).double()
    found = api.lowest_noise(noisy, n_frames=4, bias=1.5)
    for i, k in itertools.product(range(2), range(2)):
        smooth = [float(noisy[i, 0, k] ** 2)]
        for t in range(1, N_FRAMES):
            smooth.append(0.8 * smooth[-1] + 0.2 * float(noisy[i, t, k] ** 2))
        for t in range(N_FRAMES):
            assert found[i, t, k].item() == pytest.approx(1.5 * min(smooth[max(t - 3, 0) : t + 1]))


@check
def small_masks_by_hand(api):
    noisy, noise = torch.tensor([[[2.0, 1.0]]]), torch.tensor([[[0.25, 0.25]]])
    found = api.subtraction_mask(noisy, noise, factor=1.5, floor=0.3)
    torch.testing.assert_close(found, torch.tensor([[[0.625, 0.3]]]))
    found = api.ratio_mask(torch.tensor([[[3.0]]]), torch.tensor([[[4.0]]]))
    torch.testing.assert_close(found, torch.tensor([[[0.6]]]))
    first = torch.cat([torch.full((1, 10, 1), 2.0), torch.full((1, 5, 1), 9.0)], dim=1)
    torch.testing.assert_close(api.noise_of_first_frames(first), torch.tensor([[[4.0]]]))


@check
def frames_with_speech(api):
    found = api.has_speech(some_clips(api))
    first = round(0.5 * noisy_speech.RATE / speech_masks.HOP)
    assert not found[:, : first - 1].any()
    assert found[:, first + 1 :].all()


# --- what a frame can see -----------------------------------------------------------------------


def seen_by(api, contexts, frame, **options):
    """Of which frames the mask of one depends."""
    torch.manual_seed(0)
    model = api.MaskEstimator(contexts, d_model=8, n_heads=2, **options).eval()
    noisy = some_magnitudes(1).requires_grad_()
    (gradient,) = torch.autograd.grad(model(noisy)[0, frame].sum(), noisy)
    return torch.nonzero(gradient[0].abs().amax(dim=1)).flatten().tolist()


@check
def each_context_sees_what_it_should(api):
    everything = list(range(N_FRAMES))
    assert seen_by(api, ["none", "none"], 5) == [5]
    assert seen_by(api, ["convolution"], 5) == [3, 4, 5, 6, 7]
    assert seen_by(api, ["convolution", "convolution"], 5) == list(range(1, 10))
    for contexts in (["recurrent"], ["attention"], ["convolution", "attention"]):
        assert seen_by(api, contexts, 5) == everything


@check
def attention_alone_does_not_see_the_order(api):
    noisy, order = some_magnitudes(), torch.randperm(N_FRAMES)
    for contexts, positions, same in (
        (["attention", "attention"], False, True),
        (["attention", "attention"], True, False),
        (["convolution", "attention"], False, False),
    ):
        torch.manual_seed(0)
        model = api.MaskEstimator(contexts, d_model=8, n_heads=2, positions=positions)
        plain, shuffled = api.predict(model, noisy), api.predict(model, noisy, order=order)
        assert torch.allclose(plain, shuffled, atol=1e-5) is same


@searching
def equal_weights_train_no_query(api):
    """Without a gradient the matrix of the queries only decays: its direction stays."""
    data = some_magnitudes(16), some_magnitudes(16, seed=1)
    for equal in (True, False):
        torch.manual_seed(3)
        begin = api.MaskEstimator(["attention"]).layers[0].attention.query.weight
        end = api.fit(3, ["attention"], data, equal_weights=equal, steps=4)
        end = end.layers[0].attention.query.weight
        assert torch.allclose(begin / begin.norm(), end / end.norm(), atol=1e-6) is equal


@check
def the_model_is_not_shown_what_it_shall_find(api):
    noisy, clean, asked = some_magnitudes(), some_magnitudes(seed=1), []

    def half(magnitudes):
        asked.append(magnitudes)
        return torch.full_like(magnitudes, 0.5)

    loss = api.mask_loss(half, noisy, clean)
    assert [torch.equal(magnitudes, noisy) for magnitudes in asked] == [True]
    torch.testing.assert_close(loss, ((0.5 * noisy - clean) ** 2).mean())


@check
def weight_on_frames_by_loop(api):
    rng = np.random.default_rng(0)
    weights = torch.softmax(torch.from_numpy(rng.standard_normal((2, 3, 4, 4))), dim=-1)
    queries, keys = rng.random((2, 2, 4)) < 0.5
    for head, found in enumerate(api.weight_on(weights, queries, keys)):
        rows = [weights[i, head, q] for i, q in np.argwhere(queries)]
        which = [keys[i] for i, _ in np.argwhere(queries)]
        total = sum(
            float(row[torch.from_numpy(k)].sum()) for row, k in zip(rows, which, strict=True)
        )
        assert found == pytest.approx(total / len(rows))


@searching
def training_makes_the_loss_smaller(api):
    part = some_clips(api)
    data = tuple(clips.repeat(8, 1, 1)[:, :40] for clips in api.magnitudes(part))
    model = api.fit(0, ["attention"], data, steps=25)
    untrained = api.MaskEstimator(["attention"])
    with torch.no_grad():
        assert api.mask_loss(model, *data) < 0.6 * api.mask_loss(untrained, *data)


# --- right and broken ---------------------------------------------------------------------------


TRAIN = "        train("
BROKEN = {
    # the two that need training come first, so that their checks are known to be of use
    "weights not made equal": (
        mask_estimators,
        "with uniform_weights(model) if equal_weights else contextlib.nullcontext():\n" + TRAIN,
        "with contextlib.nullcontext():\n" + TRAIN,
    ),
    "no training": (mask_estimators, "steps=steps,", "steps=1,"),
    "ratio of amplitudes": (noisy_speech, "10 ** (snr / 10)", "10 ** (snr / 20)"),
    "noise louder than asked": (noisy_speech, "np.mean(noise**2) /", "np.mean(noise**2) *"),
    "colours by amplitude": (noisy_speech, "(-slope / 2)", "(-slope)"),
    "noise not to scale": (noisy_speech, "return clip / np.sqrt(np.mean(clip**2))", "return clip"),
    "window twice as narrow": (
        speech_masks,
        "return torch.stft(signals, N_FFT, HOP,",
        "window = window**3\n    return torch.stft(signals, N_FFT, HOP,",
    ),
    "scale on the estimate": (
        speech_masks,
        "/ (clean**2).sum(axis=-1)  # (n,)",
        "/ (estimate**2).sum(axis=-1)",
    ),
    "no scale": (speech_masks, "target = scale[:, None] * clean", "target = clean"),
    "improvement of nothing": (
        speech_masks,
        "- si_sdr(part.noisy, part.clean)",
        "+ si_sdr(part.noisy, part.clean)",
    ),
    "smoothing turned round": (
        speech_masks,
        "smoothing * cleaned + (1 - smoothing) *",
        "(1 - smoothing) * cleaned + smoothing *",
    ),
    "gain not squared": (speech_masks, "cleaned = gain**2 * frame", "cleaned = gain * frame"),
    "largest of late": (speech_masks, ".amin(dim=-1)", ".amax(dim=-1)"),
    "power subtracted": (speech_masks, "factor * noise.sqrt()", "factor * noise"),
    "pauses for speech": (speech_masks, "return power > 1e-3", "return power < 1e-3"),
    "softmax over frames forgotten": (
        mask_estimators,
        "EncoderLayer(d_model, n_heads, 2 * d_model)",
        "Block(d_model, 2 * d_model, FeedForward(d_model, d_model))",
    ),
    "convolution too wide": (mask_estimators, "5, padding=2", "7, padding=3"),
    "positions always": (mask_estimators, "if self.positions:", "if True:"),
    "order not undone": (mask_estimators, "[:, order.argsort()]", ""),
    "answer leaked": (
        mask_estimators,
        "model(noisy) * noisy - clean",
        "model(clean) * noisy - clean",
    ),
    "queries and keys swapped": (mask_estimators, '"nhqk,nk->nhq"', '"nhkq,nk->nhq"'),
}


class TestSpeechEnhancement(ZooTests):
    zoo = Zoo(CHECKS, merged(MODULES, BROKEN), BROKEN)


# --- data, errors and files ---------------------------------------------------------------------


def test_parts_share_no_voice_no_word_and_no_sentence():
    for one, two in itertools.combinations(noisy_speech.VOICES, 2):
        assert not set(noisy_speech.VOICES[one]) & set(noisy_speech.VOICES[two])
        words = [{w for kind in noisy_speech.WORDS[p] for w in kind} for p in (one, two)]
        assert not words[0] & words[1]
    shared = set(noisy_speech.KINDS["training"]) & set(noisy_speech.KINDS["test"])
    assert shared == {"white", "babble"}
    assert not set(noisy_speech.KINDS["validation"]) & set(noisy_speech.KINDS["test"])
    assert not set(speech_enhancement.UNSEEN) & set(noisy_speech.KINDS["training"])


def test_a_small_part_is_what_it_says():
    parts = noisy_speech.load_parts({"validation": 8})
    again = noisy_speech.load_parts({"validation": 8})
    part = parts["validation"]
    assert all(np.array_equal(a, b) for a, b in zip(part, again["validation"], strict=True))
    assert set(part.kinds) == set(noisy_speech.KINDS["validation"])
    np.testing.assert_allclose((part.noisy**2).mean(axis=1), 1, rtol=1e-4)
    noise = part.noisy.astype(float) - part.clean
    found = 10 * np.log10((part.clean**2).sum(axis=1) / (noise**2).sum(axis=1))
    np.testing.assert_allclose(found, part.snrs, atol=0.01)
    lead = round(noisy_speech.LEAD[0] * noisy_speech.RATE)
    assert not part.clean[:, :lead].any()
    assert lead >= speech_masks.FIRST_FRAMES * speech_masks.HOP


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: noisy_speech.noise("rain", np.random.default_rng(0)), "kind must be babble or"),
        (lambda: noisy_speech.noise("babble", np.random.default_rng(0)), "babble needs voices"),
        (lambda: noisy_speech.mix(np.zeros(3), np.ones(3), 0), "must not be silent"),
        (lambda: speech_masks.si_sdr(np.ones((1, 3)), np.ones((1, 4))), "one shape"),
        (
            lambda: speech_masks.wiener_mask(*[some_magnitudes()] * 2, smoothing=2),
            "smoothing must be a share from 0 to 1; got 2",
        ),
        (lambda: mask_estimators.MaskEstimator(["magic"]), "contexts must be some of"),
        (lambda: mask_estimators.MaskEstimator([]), "contexts must be some of"),
        (
            lambda: mask_estimators.MaskEstimator(["none"])(some_magnitudes(n_bins=5)),
            r"must have shape \(n, n_frames, 129\); got \(2, 12, 5\)",
        ),
    ],
)
def test_bad_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_sounds_on_the_page_are_those_that_were_scored():
    stored = load(ROOT / "chapters/applications/results/speech_enhancement.json").more["sounds"]
    assert set(stored) == set(speech_enhancement.SOUNDS)
    for kind, scores in stored.items():
        sounds = {}
        for name in ("clean", *scores):
            path = ROOT / f"_static/audio/speech_enhancement_{kind}_{name}.wav"
            assert path.stat().st_size < 32_000
            rate, samples = wavfile.read(path)
            assert (rate, samples.dtype) == (noisy_speech.RATE, np.int16)
            sounds[name] = samples / 32_768
        for name, score in scores.items():
            assert stoi(sounds["clean"], sounds[name], rate) == pytest.approx(score, abs=1e-4)
