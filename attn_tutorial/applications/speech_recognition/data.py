"""Short utterances of digits and two more words, spoken by eSpeak NG in many voices, in noise.

Words are spoken one by one and joined here, so that it is known in which frames each one is. Nobody
is heard in two parts: their voices are different variants of eSpeak NG. What this lacks of reality:
people, sounds that run into one another across words, rooms, and noise other than a hiss.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from scipy.fft import irfft, next_fast_len, rfft, rfftfreq
from torch import Tensor

from attn_tutorial.applications.speech import log_mel, resample, say

RATE, N_MELS = 8000, 32
WINDOW, HOP = 0.025, 0.010  # seconds
WORDS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    *("plus", "minus"),
)
# The characters by their numbers. 0 is padding (and the blank of CTC), 1 begins, 2 ends.
PAD, BEGIN, END = 0, 1, 2
CHARACTERS = ["", "<", ">", *sorted(set(" ".join(WORDS)))]

# The same accents in all parts, but no variant of a voice is in two.
ACCENTS = ("en", "en-us", "en-gb-scotland")
VARIANTS = {
    "training": (
        *("m1", "m2", "m3", "m4", "m5", "f1", "f2", "f3", "klatt2", "klatt4"),
        *("Andy", "Annie", "Alicia", "Gene", "Mike", "edward", "linda", "steph"),
    ),
    "validation": ("m6", "f4", "klatt3", "john", "belinda"),
    "test": ("m7", "m8", "f5", "klatt5", "Lee", "Michael", "shelby", "Denis", "anika", "paul"),
}
SPEEDS, PITCHES = (140, 220), (30, 70)
PAUSES = (0.0, 0.2)  # seconds between two words; none sometimes
EDGES = (0.05, 0.3)  # seconds before the first and after the last
SNRS = (5.0, 25.0)  # decibels
SIZES = {"training": 1200, "validation": 150, "test": 300, "new pairs": 150, "longer": 150}
# How many words an utterance has.
N_WORDS = {"training": (1, 2, 3), "validation": (1, 2, 3), "test": (1, 2, 3)}
N_WORDS |= {"new pairs": (2, 3), "longer": (4, 5)}


class Utterances(NamedTuple):
    """What was spoken, and what is heard of it.

    Attributes
    ----------
    frames : float32 tensor, shape (n, n_frames, N_MELS)
        Logarithms of the power in bands, less their mean in the utterance; zero behind the end.
    lengths : int64 tensor, shape (n,)
        How many frames each utterance has.
    tokens : int64 tensor, shape (n, n_tokens)
        BEGIN, the characters' numbers, END, padding.
    texts : list of str
    bounds : list of lists of (int, int)
        For each word the first frame that is in it, and the first behind it.
    voices : list of str
        Accent and variant, "en-us+f1".
    """

    frames: Float[Tensor, "n n_frames n_mels"]
    lengths: Int[Tensor, " n"]
    tokens: Int[Tensor, "n n_tokens"]
    texts: list[str]
    bounds: list[list[tuple[int, int]]]
    voices: list[str]

    def take(self, chosen: list[int]) -> Utterances:
        """Those of the numbers that are given."""
        return Utterances(
            *(tensor[chosen] for tensor in self[:3]),
            *([column[i] for i in chosen] for column in self[3:]),
        )


class Speaker(NamedTuple):
    """A voice, and the settings of eSpeak NG that it speaks with.

    Attributes
    ----------
    accent, variant : str
    speed, pitch : int
    """

    accent: str
    variant: str
    speed: int
    pitch: int

    def say(self, word: str) -> Float[np.ndarray, " n"]:
        """A word at 8 kHz with a power of one, without the silence before and behind it."""
        return _say_word(word, self)


def is_kept_for_the_test(first: str, second: str) -> bool:
    """Whether the one word after the other is never heard in training: a sixth of the pairs."""
    return (WORDS.index(second) - WORDS.index(first)) % 6 == 4


def speakers(part: str) -> list[Speaker]:
    """Everybody who speaks in a part; in training each variant twice, in two ways."""
    if part not in VARIANTS:
        raise ValueError(f"part must be one of {', '.join(VARIANTS)}; got {part!r}")
    rng = np.random.default_rng([ord(letter) for letter in part])
    found = []
    for number, variant in enumerate(VARIANTS[part] * (2 if part == "training" else 1)):
        accent = ACCENTS[number % len(ACCENTS)]
        speed, pitch = int(rng.integers(*SPEEDS)), int(rng.integers(*PITCHES))
        found.append(Speaker(accent, variant, speed, pitch))
    return found


def draw_words(rng: np.random.Generator, n: int, *, new: bool = False) -> list[str]:
    """Words in a row: pairs that training may hear, or only those that it may not."""
    words = [str(rng.choice(WORDS))]
    while len(words) < n:
        word = str(rng.choice(WORDS))
        if is_kept_for_the_test(words[-1], word) == new:
            words.append(word)
    return words


def utter(
    rng: np.random.Generator, speaker: Speaker, words: list[str]
) -> tuple[Float[np.ndarray, " n"], list[tuple[int, int]]]:
    """Join a speaker's words with pauses between them, and add noise.

    Returns
    -------
    samples : float64 array, shape (n,)
    bounds : list of (int, int)
        For each word its first sample, and the first behind it.
    """
    begin = round(rng.uniform(*EDGES) * RATE)
    pieces, bounds = [np.zeros(begin)], []
    for word in words:
        samples = speaker.say(word)
        pause = np.zeros(round(rng.uniform(*PAUSES) * RATE))
        bounds.append((begin, begin + len(samples)))
        pieces += [samples, pause]
        begin += len(samples) + len(pause)
    pieces.append(np.zeros(round(rng.uniform(*EDGES) * RATE)))
    clean = np.concatenate(pieces)
    return clean + 10 ** (-rng.uniform(*SNRS) / 20) * hiss(rng, len(clean)), bounds


def hiss(rng: np.random.Generator, n: int) -> Float[np.ndarray, " n"]:
    """Noise with a power of one, between white and pink."""
    longer = next_fast_len(n, real=True)
    spectrum = rfft(rng.standard_normal(longer))
    frequency = np.maximum(rfftfreq(longer, 1 / RATE), 50)
    noise = irfft(spectrum * frequency ** -rng.uniform(0, 0.5), longer)[:n]
    return noise / np.sqrt(np.mean(noise**2))


def to_frames(samples: Float[np.ndarray, " n"]) -> Float[np.ndarray, "n_frames n_mels"]:
    """What a model hears: logarithms of power in bands, less their mean in the utterance."""
    frames = log_mel(samples, RATE, n_mels=N_MELS, window=WINDOW, hop=HOP)
    return frames - frames.mean(axis=0)


def encode(texts: list[str]) -> Int[Tensor, "n n_tokens"]:
    """Texts as the numbers of their characters, between BEGIN and END, padded behind."""
    unknown = set("".join(texts)) - set(CHARACTERS[3:])
    if unknown:
        raise ValueError(f"texts must have the characters of WORDS; got {sorted(unknown)}")
    rows = [
        torch.tensor([BEGIN, *(CHARACTERS.index(letter) for letter in text), END]) for text in texts
    ]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=PAD)


def decode(tokens: Int[Tensor, " n_tokens"]) -> str:
    """The text of a row of numbers, up to END."""
    letters = []
    for number in tokens.tolist():
        if number == END:
            break
        letters.append(CHARACTERS[number] if number > END else "")
    return "".join(letters)


def collect(
    rng: np.random.Generator, people: list[Speaker], sentences: list[list[str]]
) -> Utterances:
    """Utterances of word sequences, each by one of the people."""
    frames, bounds, voices = [], [], []
    for words in sentences:
        speaker = people[rng.integers(len(people))]
        samples, ends = utter(rng, speaker, words)
        frames.append(torch.from_numpy(to_frames(samples)))
        # a frame is in a word where its middle is
        bounds.append([tuple(_frame_at(sample, len(frames[-1])) for sample in end) for end in ends])
        voices.append(f"{speaker.accent}+{speaker.variant}")
    texts = [" ".join(words) for words in sentences]
    return Utterances(
        torch.nn.utils.rnn.pad_sequence(frames, batch_first=True),
        torch.tensor([len(each) for each in frames]),
        encode(texts),
        texts,
        bounds,
        voices,
    )


def load_parts(sizes: dict[str, int] = SIZES) -> dict[str, Utterances]:
    """Training and validation part and three tests, the same in each call.

    "test": new voices. "new pairs": new voices, and each word follows another as it never did in
    training. "longer": new voices, more words than any utterance in training has.

    Parameters
    ----------
    sizes : dict of int
        How many utterances each part shall have.

    Returns
    -------
    dict of Utterances
    """
    if not set(sizes) <= set(SIZES):
        raise ValueError(f"sizes must be of {', '.join(SIZES)}; got {', '.join(sizes)}")
    people, parts = {}, {}
    for part, n in sizes.items():
        rng = np.random.default_rng([ord(letter) for letter in part])
        source = part if part in VARIANTS else "test"
        if source not in people:
            people[source] = speakers(source)
        sentences = [
            draw_words(rng, int(rng.choice(N_WORDS[part])), new=part == "new pairs")
            for _ in range(n)
        ]
        parts[part] = collect(rng, people[source], sentences)
    return parts


def _frame_at(sample: int, n_frames: int) -> int:
    """The first frame whose middle lies at this sample or behind it."""
    middle = round(WINDOW * RATE) / 2
    return min(max(int(np.ceil((sample - middle) / round(HOP * RATE))), 0), n_frames)


@cache
def _say_word(word: str, speaker: Speaker) -> Float[np.ndarray, " n"]:
    samples, rate = say(
        word,
        voice=speaker.accent,
        variant=speaker.variant,
        speed=speaker.speed,
        pitch=speaker.pitch,
    )
    samples = resample(samples, rate, RATE)
    loud = np.flatnonzero(np.abs(samples) > 0.02 * np.abs(samples).max())
    samples = samples[loud[0] : loud[-1] + 1]
    return samples / np.sqrt(np.mean(samples**2))
