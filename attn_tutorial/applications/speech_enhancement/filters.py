"""Masks on the spectrogram of noisy speech that nobody trains, and how a masked clip is scored.

A mask is a number from 0 to 1 for each frame and frequency. It multiplies the noisy spectrogram,
which keeps its phase.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Complex, Float
from pystoi import stoi
from torch import Tensor

from attn_tutorial.applications.speech_enhancement.data import RATE, Mixtures

N_FFT, HOP = 256, 128  # samples: 32 ms, 16 ms
N_BINS = N_FFT // 2 + 1
FIRST_FRAMES = 10  # in all clips the first 0.2 s are noise alone

Spectra = Complex[Tensor, "n n_frames n_bins"]
Magnitudes = Float[Tensor, "n n_frames n_bins"]
Noise = Float[Tensor, "n #n_frames n_bins"]


def spectra(signals: Float[Tensor, "n length"]) -> Spectra:
    """Short-time Fourier transforms, with the root of a Hann window: (n, n_frames, N_BINS)."""
    window = torch.hann_window(N_FFT).sqrt()
    return torch.stft(signals, N_FFT, HOP, window=window, return_complex=True).mT


def signals(spectra: Spectra, length: int) -> Float[Tensor, "n length"]:
    """The inverse of `spectra`; for what is no transform of a signal, the nearest signal."""
    window = torch.hann_window(N_FFT).sqrt()
    return torch.istft(spectra.mT, N_FFT, HOP, window=window, length=length)


def magnitudes(part: Mixtures) -> tuple[Magnitudes, Magnitudes]:
    """Those of the noisy and of the clean clips, each (n, n_frames, N_BINS)."""
    noisy, clean = (spectra(torch.from_numpy(clips)).abs() for clips in (part.noisy, part.clean))
    return noisy, clean


def masked(part: Mixtures, mask: Magnitudes) -> Float[np.ndarray, "n length"]:
    """The noisy clips with a mask on their spectra."""
    noisy = torch.from_numpy(part.noisy)
    return signals(mask * spectra(noisy), noisy.shape[1]).numpy()


# --- masks ------------------------------------------------------------------------------------


def noise_of_first_frames(noisy: Magnitudes) -> Float[Tensor, "n 1 n_bins"]:
    """The noise's power, taken to be for ever that of the first frames: (n, 1, n_bins)."""
    return (noisy[:, :FIRST_FRAMES] ** 2).mean(dim=1, keepdim=True)


def lowest_noise(noisy: Magnitudes, *, n_frames: int = 40, bias: float = 2.0) -> Magnitudes:
    """The noise's power by minimum statistics: bias times the lowest of the smoothed power of late.

    Speech pauses within a second in every band, and what remains then is noise. This is the idea of
    Martin (2001) with a constant for smoothing and bias, which there are computed.

    Returns
    -------
    float tensor, shape (n, n_frames, n_bins)
    """
    smooth = [noisy[:, 0] ** 2]
    for frame in (noisy[:, 1:] ** 2).unbind(dim=1):
        smooth.append(0.8 * smooth[-1] + 0.2 * frame)
    smooth = torch.stack(smooth, dim=1)  # (n, n_frames, n_bins)
    padded = torch.cat([smooth[:, :1].expand(-1, n_frames - 1, -1), smooth], dim=1)
    return bias * padded.unfold(1, n_frames, 1).amin(dim=-1)


def subtraction_mask(
    noisy: Magnitudes, noise: Noise, *, factor: float = 2.0, floor: float = 0.1
) -> Magnitudes:
    """Spectral subtraction: the noise's magnitude, times factor, is taken from each magnitude.

    References
    ----------
    Boll (1979), "Suppression of Acoustic Noise in Speech Using Spectral Subtraction", IEEE
    Transactions on Acoustics, Speech, and Signal Processing.
    """
    return (1 - factor * noise.sqrt() / noisy.clamp_min(1e-9)).clamp(floor, 1)


def wiener_mask(
    noisy: Magnitudes,
    noise: Noise,
    *,
    smoothing: float = 0.98,
    factor: float = 1.0,
    floor: float = 0.1,
) -> Magnitudes:
    """Wiener's gain, from an a priori ratio of speech to noise that the last frame decides.

    Parameters
    ----------
    noisy : float tensor, shape (n, n_frames, n_bins)
    noise : float tensor, broadcastable to that shape
        The noise's power.
    smoothing : float
        How much the last frame's cleaned power counts, from 0 to 1.
    factor : float
        By which the noise's power is taken to be larger.
    floor : float
        The smallest gain.

    Returns
    -------
    float tensor, shape (n, n_frames, n_bins)

    References
    ----------
    Ephraim and Malah (1984), "Speech Enhancement Using a Minimum Mean-Square Error Short-Time
    Spectral Amplitude Estimator", IEEE Transactions on Acoustics, Speech, and Signal Processing,
    for the ratio ("decision-directed"); their gain is another.
    """
    if not 0 <= smoothing <= 1:
        raise ValueError(f"smoothing must be a share from 0 to 1; got {smoothing!r}")
    power = noisy**2 / (factor * noise).clamp_min(1e-9)  # a posteriori, (n, n_frames, n_bins)
    masks, cleaned = [], (power[:, 0] - 1).clamp_min(0)
    for frame in power.unbind(dim=1):
        ratio = smoothing * cleaned + (1 - smoothing) * (frame - 1).clamp_min(0)
        gain = ratio / (1 + ratio)
        cleaned = gain**2 * frame
        masks.append(gain.clamp_min(floor))
    return torch.stack(masks, dim=1)


def ratio_mask(clean: Magnitudes, noise: Magnitudes) -> Magnitudes:
    """The ideal ratio mask: what a mask could do that knew speech and noise apart."""
    return clean / (clean**2 + noise**2).sqrt().clamp_min(1e-9)


# --- scores -----------------------------------------------------------------------------------


def si_sdr(
    estimate: Float[np.ndarray, "n length"], clean: Float[np.ndarray, "n length"]
) -> Float[np.ndarray, " n"]:
    """The scale-invariant ratio of signal to distortion, in decibels.

    Parameters
    ----------
    estimate, clean : float arrays, shape (n, length)

    Returns
    -------
    float64 array, shape (n,)

    References
    ----------
    Le Roux, Wisdom, Erdogan and Hershey (2019), "SDR - Half-baked or Well Done?", ICASSP.
    """
    if estimate.shape != clean.shape:
        raise ValueError(
            f"estimate and clean must have one shape; got {estimate.shape} and {clean.shape}"
        )
    estimate, clean = estimate.astype(np.float64), clean.astype(np.float64)
    scale = (estimate * clean).sum(axis=-1) / (clean**2).sum(axis=-1)  # (n,)
    target = scale[:, None] * clean
    distortion = ((estimate - target) ** 2).sum(axis=-1)
    return 10 * np.log10((target**2).sum(axis=-1) / distortion)


def improvements(part: Mixtures, estimate: Float[np.ndarray, "n length"]) -> np.ndarray:
    """By how many decibels of SI-SDR each clip is better than the noisy one: (n,)."""
    return si_sdr(estimate, part.clean) - si_sdr(part.noisy, part.clean)


def intelligibility(part: Mixtures, estimate: Float[np.ndarray, "n length"]) -> np.ndarray:
    """STOI of each clip, (n,); pystoi resamples to the 10 kHz that the measure is defined at."""
    pairs = zip(part.clean, estimate, strict=True)
    return np.array([stoi(clean, clip, RATE) for clean, clip in pairs])


def has_speech(part: Mixtures) -> Bool[np.ndarray, "n n_frames"]:
    """Which frames hold speech: those with a thousandth of the loudest one's power or more.

    Returns
    -------
    bool array, shape (n, n_frames)
    """
    power = (spectra(torch.from_numpy(part.clean)).abs() ** 2).sum(dim=-1).numpy()  # (n, n_frames)
    return power > 1e-3 * power.max(axis=1, keepdims=True)
