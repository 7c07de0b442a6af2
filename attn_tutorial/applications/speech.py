"""Speech by eSpeak NG, and how it looks to a model: spectrograms with a scale of pitch as heard.

eSpeak NG computes speech from formants, by rules, in many languages and variants of a voice. The
wheel `espeakng-loader` brings its library and its data. It is a program, not a person: the same
words in the same voice come out the same in every call.
"""

import _ctypes
import contextlib
import ctypes
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float
from scipy.signal import resample_poly

WHEEL = "espeakng-loader"
SPEEDS = (80, 450)  # words a minute
FLOOR = 1e-8  # power that is added before the logarithm; a full tone has some hundreds

# Of espeak-ng/speak_lib.h.
_RETRIEVE_NOW = 2  # AUDIO_OUTPUT_SYNCHRONOUS: samples go to a callback, no device plays them
_SPEED, _PITCH = 1, 3
_UTF8 = 1
_PHONEME_EVENTS, _DO_NOT_EXIT = 1, 0x8000
_NO_EVENT, _PHONEME = 0, 7


class _Event(ctypes.Structure):
    _fields_ = (
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("name", ctypes.c_char * 8),
    )


_Callback = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event)
)


def variants() -> list[str]:
    """The variants of a voice that eSpeak NG's data bring: f1, m1, whisper, and many more."""
    _, data = _places()
    return sorted(path.name for path in (data / "voices" / "!v").iterdir())


def say(
    text: str, *, voice: str = "en", variant: str | None = None, speed: int = 175, pitch: int = 50
) -> tuple[Float[np.ndarray, " n"], int]:
    """Speak a text.

    Nothing is left over from one call to the next: the samples depend on the arguments alone, in
    this process and in any other. (The library itself remembers where the voice trembled last, so
    it is loaded anew for each call, which takes some milliseconds.)

    Parameters
    ----------
    text : str
    voice : str
        A language or an accent, as eSpeak NG names them: "en", "en-us", "en-gb-scotland".
    variant : str, optional
        One of `variants()`.
    speed : int
        Words a minute, from 80 to 450.
    pitch : int
        From 0 to 100, relative to the pitch of the variant.

    Returns
    -------
    samples : float32 array, shape (n,)
        Between -1 and 1.
    rate : int
        Samples a second.

    Raises
    ------
    ValueError
        Where there is nothing to say, no such voice or variant, or a number is out of range.
    ImportError
        Where the library is not there or does not load.
    """
    samples, rate, _ = _speak(text, voice, variant, speed, pitch)
    return samples, rate


def sounds(
    text: str, *, voice: str = "en", variant: str | None = None, speed: int = 175, pitch: int = 50
) -> list[tuple[str, float]]:
    """Which phonemes `say` speaks, and when each begins.

    Parameters
    ----------
    text, voice, variant, speed, pitch
        As in `say`.

    Returns
    -------
    list of (str, float)
        The phoneme by eSpeak NG's own name (`s`, `E`, `v`), and its begin in seconds. A pause has
        an empty name or `_`.
    """
    _, rate, events = _speak(text, voice, variant, speed, pitch)
    return [(name, sample / rate) for name, sample in events]


def resample(samples: Float[np.ndarray, " n"], rate: int, new_rate: int) -> Float[np.ndarray, " m"]:
    """The same sound with so many samples a second, what is too high for them filtered out.

    Parameters
    ----------
    samples : float array, shape (n,)
    rate, new_rate : int
        Samples a second, before and after.

    Returns
    -------
    float32 array, shape (ceil(n · new_rate / rate),)
    """
    if rate < 1 or new_rate < 1:
        raise ValueError(f"rate and new_rate must be at least 1; got {rate} and {new_rate}")
    return resample_poly(samples, new_rate, rate).astype(np.float32)


def spectrogram(
    samples: Float[np.ndarray, " n"], rate: int, *, window: float = 0.025, hop: float = 0.010
) -> Float[np.ndarray, "n_frames n_bins"]:
    """The power at each frequency in frames of a few milliseconds, under a Hann window.

    Frame t covers the samples from t · hop on, so many as a window has; there are only whole
    frames, none of them padded.

    Parameters
    ----------
    samples : float array, shape (n,)
    rate : int
        Samples a second.
    window, hop : float
        The length of a frame, and the distance from one to the next, in seconds.

    Returns
    -------
    float32 array, shape (n_frames, n_bins)
        Bin b stands for the frequency b · rate / (samples of a window).
    """
    length, step = round(window * rate), round(hop * rate)
    if length < 2 or step < 1:
        raise ValueError(
            f"window and hop must have two samples and one or more; got {length} and {step}"
        )
    if np.ndim(samples) != 1 or len(samples) < length:
        raise ValueError(
            f"samples must have shape (n,), with the {length} of a window or more; "
            f"got {np.shape(samples)}"
        )
    frames = np.lib.stride_tricks.sliding_window_view(samples, length)[::step]
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)  # (length,)
    return (np.abs(np.fft.rfft(frames * hann)) ** 2).astype(np.float32)  # (n_frames, n_bins)


def mel(frequency: Float[np.ndarray, "..."] | float) -> Float[np.ndarray, "..."] | float:
    """Frequencies in hertz on the mel scale, where steps that sound equal are equal.

    References
    ----------
    O'Shaughnessy (1987), "Speech Communication: Human and Machine", Addison-Wesley: the formula
    2595 log10(1 + f / 700) is usually given with this source.
    """
    return 2595 * np.log10(1 + np.asarray(frequency) / 700)


def mel_filters(n_mels: int, n_bins: int, rate: int) -> Float[np.ndarray, "n_mels n_bins"]:
    """Triangles over the bins of a spectrogram, their tips at equal distances in mel.

    A triangle rises from the tip before it and falls to the tip after it, so that between the first
    tip and the last they add up to one at every bin.

    Parameters
    ----------
    n_mels, n_bins : int
    rate : int
        Samples a second; the bins go from 0 to half of it.

    Returns
    -------
    float array, shape (n_mels, n_bins)
    """
    bins = mel(np.linspace(0, rate / 2, n_bins))  # (n_bins,)
    distance = mel(rate / 2) / (n_mels + 1)
    tips = distance * np.arange(1, n_mels + 1)  # (n_mels,)
    return np.clip(1 - np.abs(bins - tips[:, None]) / distance, 0, None)


def log_mel(
    samples: Float[np.ndarray, " n"],
    rate: int,
    *,
    n_mels: int = 32,
    window: float = 0.025,
    hop: float = 0.010,
) -> Float[np.ndarray, "n_frames n_mels"]:
    """The logarithm of the power in bands that are as wide as they sound.

    Parameters
    ----------
    samples, rate, window, hop
        As in `spectrogram`.
    n_mels : int
        How many bands.

    Returns
    -------
    float32 array, shape (n_frames, n_mels)
        Natural logarithms.
    """
    power = spectrogram(samples, rate, window=window, hop=hop)  # (n_frames, n_bins)
    filters = mel_filters(n_mels, power.shape[1], rate)
    if n_mels < 1 or not filters.any(axis=1).all():
        raise ValueError(
            f"n_mels must be 1 or more, and few enough that a bin lies in each band; got {n_mels}"
        )
    return np.log(power @ filters.T + FLOOR).astype(np.float32)


# --- the library -------------------------------------------------------------------------------


def _places() -> tuple[Path, Path]:
    """Where the library and its data are."""
    try:
        import espeakng_loader
    except ImportError as error:
        raise ImportError(f"eSpeak NG is missing: pip install {WHEEL}") from error
    return Path(espeakng_loader.get_library_path()), Path(espeakng_loader.get_data_path())


@contextlib.contextmanager
def _library() -> Iterator[tuple[ctypes.CDLL, int]]:
    """eSpeak NG as it is when it was just loaded, and its samples a second."""
    path, data = _places()
    if not (data / "phontab").exists():
        raise ImportError(f"{data.name} has no voices; pip install --force-reinstall {WHEEL}")
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise ImportError(
            f"{path.name} does not load ({error}); pip install --force-reinstall {WHEEL}, which "
            "has wheels for Linux, macOS and Windows"
        ) from error
    try:
        options = _PHONEME_EVENTS | _DO_NOT_EXIT
        rate = library.espeak_Initialize(_RETRIEVE_NOW, 0, str(data).encode(), options)
        yield library, rate
        library.espeak_Terminate()
    finally:
        # The last one to close it: what the library remembers is gone.
        getattr(_ctypes, "dlclose", getattr(_ctypes, "FreeLibrary", None))(library._handle)


def _speak(
    text: str, voice: str, variant: str | None, speed: int, pitch: int
) -> tuple[np.ndarray, int, list[tuple[str, int]]]:
    """The samples, how many a second, and each phoneme with the sample at which it begins."""
    if variant is not None and variant not in variants():
        raise ValueError(f"variant must be one of variants(); got {variant!r}")
    if not SPEEDS[0] <= speed <= SPEEDS[1] or not 0 <= pitch <= 100:
        raise ValueError(
            f"speed must be from {SPEEDS[0]} to {SPEEDS[1]}, pitch from 0 to 100; "
            f"got {speed} and {pitch}"
        )
    pieces, phonemes = [], []

    @_Callback
    def keep(samples, n, events):
        for i in range(10_000):
            if not events or events[i].type == _NO_EVENT:
                break
            if events[i].type == _PHONEME:
                phonemes.append((events[i].name.decode("utf8", "replace"), events[i].sample))
        if samples and n > 0:
            pieces.append(np.ctypeslib.as_array(samples, (n,)).copy())
        return 0

    with _library() as (library, rate):
        library.espeak_SetSynthCallback(keep)
        library.espeak_ng_SetRandSeed(ctypes.c_long(1))
        name = voice if variant is None else f"{voice}+{variant}"
        if not voice or library.espeak_SetVoiceByName(name.encode()):
            raise ValueError(f"voice must be a language of eSpeak NG, as 'en'; got {voice!r}")
        library.espeak_SetParameter(_SPEED, speed, 0)
        library.espeak_SetParameter(_PITCH, pitch, 0)
        encoded = text.encode()
        library.espeak_Synth(encoded, ctypes.c_size_t(len(encoded) + 1), 0, 1, 0, _UTF8, None, None)
        library.espeak_Synchronize()
    samples = np.concatenate(pieces) if pieces else np.zeros(0)
    if not samples.any():
        raise ValueError(f"text must be something to say; got {text!r}")
    return (samples / 32768).astype(np.float32), rate, phonemes
