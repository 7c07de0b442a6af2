"""Speech in noise, made by programs: eSpeak NG speaks, a generator adds noise of ten kinds.

Voices, content words and (but for two, named below) kinds of noise of one part occur in no other.
What it lacks of reality: rooms with their echoes, microphones, people who raise their voice against
noise, and people.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from attn_tutorial.applications.speech import resample, say

RATE = 8000  # samples a second
LENGTH = 19_200  # samples of a clip: 2.4 seconds
SNRS = (-5.0, 0.0, 5.0, 10.0)  # decibels
LEAD = (0.2, 0.5)  # seconds of noise alone before the speech, at least and at most

# Accents of English with a variant of the voice, as eSpeak NG names them.
VOICES = {
    "training": ["en+m1", "en+f1", "en-us+m3", "en-us+f2", "en-gb-scotland+m7", "en+klatt2"],
    "validation": ["en-us+m2", "en+f3"],
    "test": ["en-gb-x-rp+m4", "en-us+f4", "en+m5", "en-gb-scotland+f5"],
}
# The content words: adjectives, nouns, verbs.
WORDS = {
    "training": (
        ["old", "small", "green", "quiet", "heavy", "bright", "round", "empty", "yellow", "gentle"],
        [
            "dog",
            "house",
            "river",
            "teacher",
            "window",
            "garden",
            "letter",
            "captain",
            "table",
            "bird",
        ],
        ["sees", "paints", "follows", "carries", "forgets", "opens", "watches", "cleans"],
    ),
    "validation": (
        ["tall", "warm", "brown", "simple"],
        ["horse", "kitchen", "painter", "bottle", "forest", "ladder"],
        ["holds", "draws", "visits", "lifts"],
    ),
    "test": (
        ["young", "broken", "purple", "narrow", "cold", "famous"],
        ["farmer", "bridge", "candle", "monkey", "doctor", "village", "pencil", "tower"],
        ["finds", "repairs", "describes", "touches", "buys", "loses"],
    ),
}
# White noise and babble are met again in the test part, the babble in new voices; the others not.
KINDS = {
    "training": ["white", "brown", "hum", "clicks", "babble"],
    "validation": ["pink", "siren"],
    "test": ["engine", "beeps", "gusts", "white", "babble"],
}
SIZES = {"training": 700, "validation": 48, "test": 160}
N_SENTENCES = 15  # each voice speaks so many different ones
BABBLERS = 5


class Mixtures(NamedTuple):
    """Clean speech, and the same in noise.

    Attributes
    ----------
    clean, noisy : float32 arrays, shape (n, LENGTH)
        Each noisy clip has a root mean square of one; the clean one is in the same unit, so that
        their difference is the noise.
    kinds, voices : str arrays, shape (n,)
    snrs : float arrays, shape (n,)
        In decibels, over the whole clip.
    """

    clean: Float[np.ndarray, "n length"]
    noisy: Float[np.ndarray, "n length"]
    kinds: np.ndarray
    voices: np.ndarray
    snrs: Float[np.ndarray, " n"]


def sentence(part: str, rng: np.random.Generator) -> str:
    """A sentence of the part's words: the old dog sees a small house."""
    adjectives, nouns, verbs = WORDS[part]
    first, second = rng.choice(adjectives, 2, replace=False)
    subject, thing = rng.choice(nouns, 2, replace=False)
    return f"the {first} {subject} {rng.choice(verbs)} a {second} {thing}"


def speak(text: str, voice: str) -> Float[np.ndarray, " n"]:
    """The text at 8 kHz, without the silence around it.

    Parameters
    ----------
    text : str
    voice : str
        An accent and a variant, "en-us+f2".

    Returns
    -------
    float32 array
        At most LENGTH samples less the longest lead.
    """
    accent, variant = voice.split("+")
    samples, rate = say(text, voice=accent, variant=variant, speed=210)
    samples = resample(samples, rate, RATE)
    loud = np.flatnonzero(np.abs(samples) > 0.02 * np.abs(samples).max())
    return samples[loud[0] : loud[-1] + 1][: LENGTH - round(LEAD[1] * RATE)]


def noise(
    kind: str, rng: np.random.Generator, voices: list[Float[np.ndarray, " _"]] | None = None
) -> Float[np.ndarray, " length"]:
    """A clip of noise with a root mean square of one.

    Parameters
    ----------
    kind : str
        One of those in KINDS.
    rng : Generator
    voices : list of float arrays, optional
        Spoken sentences; babble is made of them.

    Returns
    -------
    float64 array, shape (LENGTH,)
    """
    if kind == "babble":
        if not voices:
            raise ValueError("babble needs voices: spoken sentences")
        clip = np.zeros(LENGTH)
        for i in rng.choice(len(voices), BABBLERS, replace=False):
            spoken = np.resize(voices[i] / voices[i].std(), LENGTH)  # repeated
            clip += np.roll(spoken, rng.integers(LENGTH))
    elif kind in MAKERS:
        clip = MAKERS[kind](rng, np.arange(LENGTH) / RATE)
    else:
        raise ValueError(f"kind must be babble or one of {', '.join(MAKERS)}; got {kind!r}")
    return clip / np.sqrt(np.mean(clip**2))


def mix(
    clean: Float[np.ndarray, " n"], noise: Float[np.ndarray, " n"], snr: float
) -> Float[np.ndarray, " n"]:
    """Speech plus noise, the noise scaled so that speech has snr decibels more power."""
    if not clean.any() or not noise.any():
        raise ValueError("clean and noise must not be silent: no scale gives them a ratio")
    power = np.mean(clean**2) / np.mean(noise**2) / 10 ** (snr / 10)
    return clean + np.sqrt(power) * noise


def load_parts(sizes: dict[str, int] = SIZES) -> dict[str, Mixtures]:
    """Training, validation and test part, the same in each call.

    Kinds of noise and ratios are crossed and occur equally often. No clean sentence is mixed with
    babble of which it is a part.

    Parameters
    ----------
    sizes : dict of int
        How many clips each part shall have.

    Returns
    -------
    dict of Mixtures
    """
    return {
        part: _mixtures(part, n, np.random.default_rng(seed))
        for seed, (part, n) in enumerate(sizes.items())
    }


def _mixtures(part: str, n: int, rng: np.random.Generator) -> Mixtures:
    names = np.repeat(VOICES[part], N_SENTENCES)
    spoken = [speak(sentence(part, rng), voice) for voice in names]
    conditions = [(kind, snr) for kind in KINDS[part] for snr in SNRS]
    clean, noisy, chosen = np.zeros((n, LENGTH)), np.zeros((n, LENGTH)), []
    for i in range(n):
        kind, snr = conditions[i % len(conditions)]
        which = rng.integers(len(spoken))
        begin = rng.integers(round(LEAD[0] * RATE), round(LEAD[1] * RATE))
        clean[i, begin : begin + len(spoken[which])] = spoken[which]
        others = spoken[:which] + spoken[which + 1 :]
        noisy[i] = mix(clean[i], noise(kind, rng, others), snr)
        level = np.sqrt(np.mean(noisy[i] ** 2))
        clean[i], noisy[i] = clean[i] / level, noisy[i] / level
        chosen.append((kind, names[which], snr))
    kinds, voices, snrs = (np.array(column) for column in zip(*chosen, strict=True))
    return Mixtures(clean.astype(np.float32), noisy.astype(np.float32), kinds, voices, snrs)


# --- kinds of noise: functions of a generator and of time in seconds, shape (LENGTH,) ----------


def _coloured(rng: np.random.Generator, slope: float) -> np.ndarray:
    """Noise whose power falls with the frequency to the power of slope, from 30 Hz on."""
    spectrum = np.fft.rfft(rng.standard_normal(LENGTH))
    frequency = np.fft.rfftfreq(LENGTH, 1 / RATE)
    return np.fft.irfft(spectrum * np.maximum(frequency, 30) ** (-slope / 2), LENGTH)


def _slow(rng: np.random.Generator, rate: float) -> np.ndarray:
    """A smooth random curve with a standard deviation of one, that changes rate times a second."""
    n_knots = int(np.ceil(LENGTH / RATE * rate)) + 2
    knots = np.linspace(0, LENGTH - 1, n_knots)
    curve = np.interp(np.arange(LENGTH), knots, rng.standard_normal(n_knots))
    return curve / curve.std()


def _hum(rng: np.random.Generator, t: np.ndarray) -> np.ndarray:
    number = np.arange(1, 21)[:, None]  # harmonics of the mains, (20, 1)
    strength = rng.uniform(0, 1, (20, 1)) / number**0.7
    phase = rng.uniform(0, 2 * np.pi, (20, 1))
    return (strength * np.sin(2 * np.pi * rng.choice([50, 60]) * number * t + phase)).sum(0)


def _clicks(rng: np.random.Generator, t: np.ndarray) -> np.ndarray:
    pulses = rng.standard_normal(LENGTH) * (rng.uniform(size=LENGTH) < 12 / RATE)
    pulses[rng.integers(LENGTH)] = 1  # never none
    ringing = np.exp(-t[:400] / 0.006) * np.sin(2 * np.pi * rng.uniform(500, 3000) * t[:400] + 0.5)
    return np.convolve(pulses, ringing)[:LENGTH] + 0.003 * rng.standard_normal(LENGTH)


def _siren(rng: np.random.Generator, t: np.ndarray) -> np.ndarray:
    pitch = 900 + 400 * np.sin(2 * np.pi * rng.uniform(0.3, 1) * t + rng.uniform(0, 6))
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    return np.sin(phase) + 0.3 * np.sin(2 * phase) + 0.05 * rng.standard_normal(LENGTH)


def _engine(rng: np.random.Generator, t: np.ndarray) -> np.ndarray:
    pitch = rng.uniform(50, 110) * 1.1 ** _slow(rng, 2)
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    strength = rng.uniform(0.2, 1, 15) / np.arange(1, 16) ** 0.5
    tones = sum(s * np.sin(k * phase + k * k) for k, s in enumerate(strength, 1))
    return tones + 0.5 * (1 + np.sin(phase)) * _coloured(rng, 1) * 20


def _beeps(rng: np.random.Generator, t: np.ndarray) -> np.ndarray:
    period, share = rng.uniform(0.25, 0.6), rng.uniform(0.3, 0.6)
    on = (t + rng.uniform(0, 1)) % period < share * period
    tone = np.sin(2 * np.pi * rng.uniform(600, 2500) * t)
    return on * tone + 0.05 * rng.standard_normal(LENGTH)


def _gusts(rng: np.random.Generator, t: np.ndarray) -> np.ndarray:
    return np.exp(_slow(rng, 4)) * _coloured(rng, rng.uniform(0.5, 1.5))


MAKERS = {
    "white": lambda rng, t: _coloured(rng, 0),
    "pink": lambda rng, t: _coloured(rng, 1),
    "brown": lambda rng, t: _coloured(rng, 2),
    "hum": _hum,
    "clicks": _clicks,
    "siren": _siren,
    "engine": _engine,
    "beeps": _beeps,
    "gusts": _gusts,
}
