"""Digits read aloud by eSpeak NG: their spectrograms, and the way back from those to sound.

A phrase is two to four digits in words, "seven two nine". One voice speaks all of them, so that
there is one right way to say a phrase.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from attn_tutorial.applications.speech import (
    log_mel,
    mel_filters,
    resample,
    say,
    sounds,
)

RATE, N_MELS = 8000, 32
WINDOW, HOP = 400, 100  # samples: 50 ms and 12.5 ms
QUIET = -4.0  # logarithms of power below this are silence
DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
SIZES = {"training": 300, "validation": 40, "test": 60}
N_LONG = 30  # phrases of five or six digits, longer than any in training


class Phrase(NamedTuple):
    """A phrase, how it looks, and when its words begin.

    Attributes
    ----------
    text : str
    frames : float32 array, shape (n_frames, N_MELS)
        Logarithms of the power in bands, QUIET at least, less QUIET: silence is zero.
    bounds : list of int
        At which frame each word begins, and where the last one ends.
    """

    text: str
    frames: Float[np.ndarray, "n_frames n_mels"]
    bounds: list[int]


def texts() -> dict[str, list[str]]:
    """The phrases of each part, and "long" ones; no sequence of digits is in two parts."""
    rng = np.random.default_rng(0)
    seen: set[str] = set()

    def draw(n: int, lengths: list[int]) -> list[str]:
        found = []
        while len(found) < n:
            text = " ".join(rng.choice(DIGITS, rng.choice(lengths)))
            if text not in seen:
                seen.add(text)
                found.append(text)
        return found

    parts = {part: draw(n, [2, 3, 4]) for part, n in SIZES.items()}
    return parts | {"long": draw(N_LONG, [5, 6])}


def speak(text: str) -> Phrase:
    """A phrase of digits, spoken without pauses around it.

    Parameters
    ----------
    text : str
        Words of DIGITS.
    """
    words = text.split()
    if not words or set(words) - set(DIGITS):
        raise ValueError(f"text must be words of {', '.join(DIGITS)}; got {text!r}")
    samples, rate = say(text, speed=190)
    frames = to_frames(resample(samples, rate, RATE))
    loud = np.flatnonzero(frames.mean(axis=1) > 0.5)
    begin, end = loud[0], loud[-1] + 1
    bounds = [begin, *_word_begins(text, words), end]
    return Phrase(text, frames[begin:end], [int(bound - begin) for bound in bounds])


def load_parts() -> dict[str, list[Phrase]]:
    """Training, validation and test part, and the long phrases; the same in each call."""
    return {part: [speak(text) for text in members] for part, members in texts().items()}


def to_frames(samples: Float[np.ndarray, " n"]) -> Float[np.ndarray, "n_frames n_mels"]:
    """What the systems see of a sound at RATE: silence is zero, a loud band about 10."""
    frames = log_mel(samples, RATE, n_mels=N_MELS, window=WINDOW / RATE, hop=HOP / RATE)
    return np.maximum(frames, QUIET) - QUIET


def _word_begins(text: str, words: list[str]) -> list[int]:
    """The frame at which each word but the first begins, from eSpeak NG's own phonemes."""
    linking = ("", "_", "_:", ";", "r-")  # pauses, and what joins two vowels
    spoken = [time for name, time in sounds(text, speed=190) if name not in linking]
    numbers = np.cumsum([N_PHONEMES[word] for word in words])
    if numbers[-1] != len(spoken):
        raise ValueError(f"{text!r} has {len(spoken)} phonemes; wanted {numbers[-1]}")
    # a frame is named after its begin, and half a window reaches beyond
    return [round((spoken[n] - WINDOW / RATE / 2) * RATE / HOP) for n in numbers[:-1]]


N_PHONEMES = dict(zip(DIGITS, (4, 3, 2, 3, 2, 3, 4, 5, 2, 3), strict=True))


# --- from frames to sound -----------------------------------------------------------------------


def transform(samples: Float[np.ndarray, " n"]) -> np.ndarray:
    """The short-time Fourier transform, one row a frame of WINDOW samples: complex."""
    frames = np.lib.stride_tricks.sliding_window_view(samples, WINDOW)[::HOP]
    return np.fft.rfft(frames * HANN)


def overlap_add(spectra: np.ndarray) -> Float[np.ndarray, " n"]:
    """The signal whose transform is nearest to these spectra, in the sense of least squares.

    References
    ----------
    Griffin and Lim (1984), "Signal Estimation from Modified Short-Time Fourier Transform", IEEE
    Transactions on Acoustics, Speech, and Signal Processing.
    """
    length = (len(spectra) - 1) * HOP + WINDOW
    total, weight = np.zeros(length), np.zeros(length)
    for t, frame in enumerate(np.fft.irfft(spectra, WINDOW)):
        span = slice(t * HOP, t * HOP + WINDOW)
        total[span] += HANN * frame
        weight[span] += HANN**2
    return total / np.maximum(weight, 1e-3)


def griffin_lim(
    magnitudes: Float[np.ndarray, "n_frames n_bins"], *, n_rounds: int = 60, seed: int = 0
) -> tuple[Float[np.ndarray, " n"], list[float]]:
    """A signal with nearly these magnitudes: take its phases, keep the magnitudes, and again.

    Parameters
    ----------
    magnitudes : float array, shape (n_frames, WINDOW / 2 + 1)
    n_rounds : int
    seed : int
        Of the phases to begin with.

    Returns
    -------
    samples : float array, shape ((n_frames - 1) · HOP + WINDOW,)
    distances : list of float
        After each round, the distance between the magnitudes of the signal and those wanted, as a
        share of the latter's length. It never grows.
    """
    phases = np.exp(2j * np.pi * np.random.default_rng(seed).random(magnitudes.shape))
    distances = []
    for _ in range(n_rounds):
        samples = overlap_add(magnitudes * phases)
        spectra = transform(samples)  # (n_frames, n_bins)
        difference = np.linalg.norm(np.abs(spectra) - magnitudes)
        distances.append(float(difference / np.linalg.norm(magnitudes)))
        phases = spectra / np.maximum(np.abs(spectra), 1e-9)
    return samples, distances


def to_sound(frames: Float[np.ndarray, "n_frames n_mels"]) -> Float[np.ndarray, " n"]:
    """A sound at RATE for frames in bands: the power of a band is spread over its bins."""
    filters = mel_filters(N_MELS, WINDOW // 2 + 1, RATE)  # (n_mels, n_bins)
    power = np.exp(frames + QUIET) * (frames > 0)  # (n_frames, n_mels)
    spread = power / filters.sum(axis=1) @ filters  # (n_frames, n_bins)
    return griffin_lim(np.sqrt(spread))[0]


HANN = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(WINDOW) / WINDOW)
