"""Speech by eSpeak NG: the same in any order and process; spectrograms against closed forms."""

import hashlib
import re
import subprocess
import sys

import numpy as np
import pytest
from scipy.signal import ShortTimeFFT
from scipy.signal.windows import hann

from attn_tutorial.applications import speech as speech_module
from package.zoo import Zoo, ZooTests, rewritten

RATE = 8000
CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def tone(frequency, seconds=0.2, rate=RATE):
    return np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)


@check
def a_call_leaves_nothing_behind(api):
    """Variants that tremble and breathe: what they said before must not matter."""
    for variant in ("m1", "whisper"):
        first, rate = api.say("seven", variant=variant)
        api.say("three one", variant="m2", speed=130, pitch=80)
        again, _ = api.say("seven", variant=variant)
        assert rate == 22050
        np.testing.assert_array_equal(first, again)


@check
def samples_are_speech_between_one_and_minus_one(api):
    samples, rate = api.say("seven")
    assert samples.dtype == np.float32
    assert 0.2 < np.abs(samples).max() <= 1
    assert 0.3 < len(samples) / rate < 0.8


@check
def every_argument_matters(api):
    plain, _ = api.say("seven")
    slow, _ = api.say("seven", speed=100)
    assert len(slow) > 1.3 * len(plain)
    others = [{"voice": "en-us"}, {"variant": "f3"}, {"pitch": 80}]
    for arguments in others:
        other, _ = api.say("seven", **arguments)
        assert len(other) != len(plain) or not np.allclose(other, plain)
    # A higher voice crosses zero more often, where it has no noise.
    crossings = [np.diff(np.sign(api.say("oh", pitch=p)[0])).astype(bool).mean() for p in (0, 99)]
    assert crossings[1] > crossings[0]


@check
def sounds_come_in_order_and_in_time(api):
    found = api.sounds("seven two")
    samples, rate = api.say("seven two")
    names, begins = zip(*found, strict=True)
    spoken = [name.strip("'") for name in names if name.strip("_:")]
    assert spoken == ["s", "E", "v", "@", "n", "t", "u:"]
    assert list(begins) == sorted(begins)
    assert 0 <= begins[0] < 0.05
    assert begins[-1] <= len(samples) / rate
    # s and t hiss: most of their power is high, and of a vowel's little
    middles = {
        name.strip("'"): (begin + end) / 2
        for name, begin, end in zip(names, begins, begins[1:], strict=False)
    }
    power = api.spectrogram(samples, rate)
    high = power[:, 75:].sum(1) / (power.sum(1) + 1e-8)  # from 3 kHz on
    assert high[round(middles["s"] / 0.01)] > 0.5 > 0.1 > high[round(middles["E"] / 0.01)]


@check
def variants_are_those_of_the_data(api):
    assert {"m1", "m8", "f1", "f5", "whisper", "croak", "klatt2"} <= set(api.variants())
    assert api.variants() == sorted(api.variants())


@check
def resampling_keeps_what_fits_and_loses_the_rest(api):
    for rate, new_rate in ((22050, 8000), (8000, 16000)):
        low = api.resample(tone(440, rate=rate), rate, new_rate)
        wanted = tone(440, rate=new_rate)
        assert low.dtype == np.float32
        assert len(low) == len(wanted)
        np.testing.assert_allclose(low[400:-400], wanted[400:-400], atol=0.01)
    high = api.resample(tone(6000, rate=22050), 22050, 8000)
    assert np.abs(high[100:-100]).max() < 0.01  # not folded down to 2 kHz


@check
def spectrogram_is_that_of_scipy(api):
    samples = np.random.default_rng(0).standard_normal(1000)
    window = ShortTimeFFT(hann(200, sym=False), hop=80, fs=RATE)
    first = window.lower_border_end[1]  # before it scipy pads
    wanted = np.abs(window.stft(samples)[:, first - window.p_min :]) ** 2  # (n_bins, more)
    found = api.spectrogram(samples, RATE)
    assert found.shape == (11, 101)
    begin = -(-100 // 80) * 80 - 100  # scipy's slices stand around multiples of the hop
    shifted = api.spectrogram(samples[begin:], RATE)  # (n_frames, n_bins)
    n = len(shifted)
    np.testing.assert_allclose(shifted, wanted.T[:n], rtol=1e-4, atol=1e-4)


@check
def frames_stand_where_they_should(api):
    """A click in one sample is seen by the frames that cover it, and by no other."""
    samples = np.zeros(1000)
    samples[500] = 1
    seen = np.flatnonzero(api.spectrogram(samples, RATE).max(axis=1) > 1e-6)
    assert seen.tolist() == [t for t in range(11) if 80 * t < 500 < 80 * t + 200]
    assert len(api.spectrogram(samples[:200], RATE)) == 1


@check
def mel_by_hand(api):
    assert api.mel(0) == 0
    assert api.mel(700) == pytest.approx(2595 * np.log10(2))
    assert api.mel(1000) == pytest.approx(1000, abs=0.1)  # how the scale is made


@check
def filters_add_up_to_one_between_the_tips(api):
    filters = api.mel_filters(12, 2001, RATE)
    frequencies = np.linspace(0, RATE / 2, 2001)
    step = api.mel(RATE / 2) / 13
    inside = (api.mel(frequencies) >= step) & (api.mel(frequencies) <= 12 * step)
    np.testing.assert_allclose(filters.sum(axis=0)[inside], 1)
    tips = api.mel(frequencies[filters.argmax(axis=1)])
    np.testing.assert_allclose(tips, step * np.arange(1, 13), atol=2)
    assert (filters.max(axis=1) > 0.98).all()
    assert (np.diff(frequencies[filters.argmax(axis=1)], 2) > 0).all()  # wider above


@check
def a_tone_is_in_its_band(api):
    """And the number there is known: the window's sum, halved and squared, times the filter."""
    for bin_number in (10, 30, 60):
        frequency = bin_number * RATE / 200
        bands = api.log_mel(tone(frequency), RATE)  # (n_frames, 32)
        step = api.mel(RATE / 2) / 33
        assert abs(bands.mean(axis=0).argmax() + 1 - api.mel(frequency) / step) <= 0.5
        # a Hann window of n samples adds up to n / 2; its neighbours in the spectrum get a half
        power = np.zeros(101)
        power[bin_number - 1 : bin_number + 2] = [25**2, 50**2, 25**2]
        wanted = np.log(power @ api.mel_filters(32, 101, RATE).T + 1e-8)
        there = wanted > 0
        np.testing.assert_allclose(bands[:, there].mean(axis=0), wanted[there], atol=0.01)
    assert bands.dtype == np.float32


@check
def silence_has_a_logarithm(api):
    np.testing.assert_allclose(api.log_mel(np.zeros(400), RATE), np.log(1e-8))


def test_another_process_says_the_same():
    """After other words, and its random numbers elsewhere."""
    program = (
        "import hashlib, sys; from attn_tutorial.applications.speech import say;"
        "say('six', variant='f2');"
        "print(hashlib.md5(say('seven', variant='m1')[0].tobytes()).hexdigest())"
    )
    there = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    here = hashlib.md5(speech_module.say("seven", variant="m1")[0].tobytes()).hexdigest()
    assert there.stdout.strip() == here, there.stderr


BROKEN = {
    "library kept": (
        'getattr(_ctypes, "dlclose", getattr(_ctypes, "FreeLibrary", None))(library._handle)',
        "pass",
    ),
    "variant forgotten": ('f"{voice}+{variant}"', "voice"),
    "voice forgotten": ("name = voice if", 'name = "en" if'),
    "pitch for speed": ("_SPEED, _PITCH = 1, 3", "_SPEED, _PITCH = 3, 1"),
    "integers for samples": ("(samples / 32768).astype", "samples.astype"),
    "begins in samples": ("[(name, sample / rate) for", "[(name, sample) for"),
    "no phonemes": ("_NO_EVENT, _PHONEME = 0, 7", "_NO_EVENT, _PHONEME = 0, 1"),
    "variants of nothing": ('(data / "voices" / "!v").iterdir()', '(data / "voices").iterdir()'),
    "up for down": (
        "resample_poly(samples, new_rate, rate)",
        "resample_poly(samples, rate, new_rate)",
    ),
    "samples dropped": ("resample_poly(samples, new_rate, rate)", "samples[:: rate // new_rate]"),
    "amplitude for power": (") ** 2).astype", ")).astype"),
    "no window": ("rfft(frames * hann)", "rfft(frames)"),
    "symmetric window": ("np.arange(length) / length)", "np.arange(length) / (length - 1))"),
    "frames at every sample": ("length)[::step]", "length)"),
    "another scale": ("2595 * np.log10(1 +", "1127 * np.log10(1 +"),
    "filters in hertz": (
        "bins = mel(np.linspace(0, rate / 2, n_bins))",
        "bins = mel(rate / 2) * np.linspace(0, 1, n_bins)",
    ),
    "filters too high": ("np.arange(1, n_mels + 1)", "np.arange(n_mels)"),
    "filters twice as wide": ("tips[:, None]) / distance,", "tips[:, None]) / distance / 2,"),
    "no floor": ("filters.T + FLOOR", "filters.T"),
    "logarithm to base ten": ("np.log(power", "np.log10(power"),
}


class TestSpeech(ZooTests):
    zoo = Zoo(CHECKS, rewritten(speech_module, BROKEN), BROKEN)


MISTAKES = {
    "nothing": (lambda api: api.say(""), "text must be something to say; got ''"),
    "no sound": (lambda api: api.say("..."), "text must be something to say"),
    "no such voice": (lambda api: api.say("a", voice="xx"), "voice must be a language .*'xx'"),
    "no such variant": (lambda api: api.say("a", variant="m99"), "variant must be one .*'m99'"),
    "too fast": (lambda api: api.say("a", speed=1000), "speed must be from 80 to 450.*1000"),
    "too high": (lambda api: api.sounds("a", pitch=101), "pitch from 0 to 100; got 175 and 101"),
    "no rate": (lambda api: api.resample(np.zeros(3), 0, 1), "must be at least 1; got 0 and 1"),
    "too short": (
        lambda api: api.spectrogram(np.zeros(199), RATE),
        r"samples must have shape \(n,\), with the 200 of a window or more; got \(199,\)",
    ),
    "two channels": (lambda api: api.log_mel(np.zeros((2, 999)), RATE), r"shape \(n,\).*\(2, 999"),
    "no hop": (lambda api: api.spectrogram(np.zeros(999), RATE, hop=0), "hop must .* 200 and 0"),
    "too many bands": (
        lambda api: api.log_mel(np.zeros(999), RATE, n_mels=90),
        "n_mels must be 1 or more, and few enough that a bin lies in each band; got 90",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_named(name):
    call, message = MISTAKES[name]
    with pytest.raises(ValueError, match=message):
        call(speech_module)


def test_a_library_that_does_not_load_says_what_to_install(monkeypatch, tmp_path):
    (tmp_path / "libespeak-ng.so").write_text("no library")
    _, data = speech_module._places()
    monkeypatch.setattr(
        speech_module, "_places", lambda: (tmp_path / "libespeak-ng.so", data), raising=True
    )
    with pytest.raises(ImportError, match=re.escape("pip install --force-reinstall espeakng")):
        speech_module.say("a")


def test_a_missing_wheel_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    with pytest.raises(ImportError, match="eSpeak NG is missing: pip install espeakng-loader"):
        speech_module.say("a")


def test_missing_data_say_what_to_install(monkeypatch, tmp_path):
    library, _ = speech_module._places()
    monkeypatch.setattr(speech_module, "_places", lambda: (library, tmp_path))
    with pytest.raises(ImportError, match="has no voices; pip install"):
        speech_module.say("a")
