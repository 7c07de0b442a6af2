"""Speech enhancement: a mask on the spectrogram, by attention over frames and by older means.

Every system here makes a number from 0 to 1 for each frame and frequency of the noisy spectrogram,
multiplies, and keeps the noisy phase. They differ in what they look at to decide.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from pystoi import stoi
from scipy.io import wavfile

from attn_tutorial.applications.measuring import Clock, n_parameters
from attn_tutorial.applications.results import Results, System, versions
from attn_tutorial.applications.speech_enhancement.data import KINDS, RATE, Mixtures, load_parts
from attn_tutorial.applications.speech_enhancement.filters import (
    Magnitudes,
    has_speech,
    improvements,
    intelligibility,
    lowest_noise,
    magnitudes,
    masked,
    noise_of_first_frames,
    ratio_mask,
    spectra,
    subtraction_mask,
    wiener_mask,
)
from attn_tutorial.applications.speech_enhancement.models import (
    MaskEstimator,
    fit,
    predict,
    weight_on,
)
from attn_tutorial.attribution import recording

SEEDS = (0, 1, 2)
UNSEEN = [kind for kind in KINDS["test"] if kind not in KINDS["training"]]
AUDIO = Path(__file__).parents[2] / "_static/audio"
SOUNDS = ("engine", "babble")
SPAN = (1600, 17_200)  # samples of a clip that its files hold: 31 kB


BEST = "convolution, then attention"
MODELS = {
    BEST: ("attention", ["convolution", "attention"], {}),
    "the same, with positions": ("attention", ["convolution", "attention"], {"positions": True}),
    "attention twice": ("attention", ["attention", "attention"], {}),
    "convolution, then equal weights": (
        "ablation",
        ["convolution", "attention"],
        {"equal_weights": True},
    ),
    "convolution, then recurrence": ("rival", ["convolution", "recurrent"], {}),
    "convolution twice": ("rival", ["convolution", "convolution"], {}),
    "each frame alone": ("rival", ["none", "none"], {}),
}
EQUAL = "convolution, then equal weights"
AFTERWARDS = "weights made equal after training"
WIENER = "Wiener filter, noise of first frames"
METRIC = "SI-SDR improvement (dB)"


def tuned_baselines(
    validation: Mixtures,
) -> dict[str, tuple[dict, Callable[[Magnitudes], Magnitudes]]]:
    """Three filters that nobody trains, with the settings best on the validation part.

    Returns
    -------
    dict of (settings, function from noisy magnitudes to a mask)
    """
    noisy, _ = magnitudes(validation)
    floors, factors = (0.03, 0.1, 0.2), (0.5, 1.0, 1.5, 2.0, 3.0, 4.0)
    to_try = {
        WIENER: (
            lambda noisy, **s: wiener_mask(noisy, noise_of_first_frames(noisy), **s),
            {"smoothing": (0.7, 0.8, 0.9, 0.98), "factor": factors, "floor": floors},
        ),
        "Wiener filter, minimum statistics": (
            lambda noisy, n_frames, **s: wiener_mask(
                noisy, lowest_noise(noisy, n_frames=n_frames), **s
            ),
            {"n_frames": (40, 80), "smoothing": (0.7, 0.8, 0.9), "factor": factors[:4]}
            | {"floor": floors[:1]},
        ),
        "spectral subtraction": (
            lambda noisy, **s: subtraction_mask(noisy, noise_of_first_frames(noisy), **s),
            {"factor": factors, "floor": floors},
        ),
    }
    chosen = {}
    for name, (method, grid) in to_try.items():
        settings = [
            dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())
        ]
        best = max(
            settings,
            key=lambda s, method=method: improvements(
                validation, masked(validation, method(noisy, **s))
            ).mean(),
        )
        chosen[name] = (best, functools.partial(method, **best))
    return chosen


def scores(part: Mixtures, mask: Magnitudes) -> tuple[dict[str, float], np.ndarray]:
    """The metrics of masked clips, and their improvements clip by clip."""
    estimate = masked(part, mask)
    unseen, gains = np.isin(part.kinds, UNSEEN), improvements(part, estimate)
    return {
        METRIC: float(gains[unseen].mean()),
        "STOI": float(intelligibility(part, estimate)[unseen].mean()),
        "known kinds (dB)": float(gains[~unseen].mean()),
    }, gains


def measure(folder: Path = AUDIO) -> Results:
    """Train and score everything; write the sounds of two test clips into a folder."""
    parts = load_parts()
    training, (noisy, clean) = magnitudes(parts["training"]), magnitudes(parts["test"])
    test = parts["test"]
    all_scores: dict[str, list[dict[str, float]]] = {}
    gains: dict[str, list[np.ndarray]] = {}
    roles, sizes, clocks, models = {}, {}, {}, {}

    def note(name: str, role: str, mask: Magnitudes) -> None:
        found, by_clip = scores(test, mask)
        roles[name] = role
        all_scores.setdefault(name, []).append(found)
        gains.setdefault(name, []).append(by_clip)

    for seed in SEEDS:
        for name, (role, contexts, options) in MODELS.items():
            with clocks.setdefault(name, Clock()).running():
                model = fit(seed, contexts, training, **options)
            sizes[name] = n_parameters(model)
            models[name, seed] = model
            note(name, role, predict(model, noisy, equal_weights=name == EQUAL))
        note(AFTERWARDS, "ablation", predict(models[BEST, seed], noisy, equal_weights=True))
    baselines = tuned_baselines(parts["validation"])
    for name, (_, method) in baselines.items():
        note(name, "baseline", method(noisy))
    note("nothing", "baseline", torch.ones_like(noisy))

    noise = spectra(torch.from_numpy(test.noisy - test.clean)).abs()
    unseen = np.isin(test.kinds, UNSEEN)
    attentive = [models[BEST, seed] for seed in SEEDS]
    order = torch.from_numpy(np.random.default_rng(0).permutation(noisy.shape[1]))
    more = {
        "bound": scores(test, ratio_mask(clean, noise))[0],
        "settings": {name: settings for name, (settings, _) in baselines.items()},
        "by kind": {name: _by(test.kinds, rows) for name, rows in gains.items()},
        "by ratio": {name: _by(test.snrs, rows) for name, rows in gains.items()},
        "paired": {
            name: [
                _paired(ours[unseen], theirs[unseen])
                for ours, theirs in zip(gains[BEST], itertools.cycle(gains[name]), strict=False)
            ]
            for name in (EQUAL, "convolution, then recurrence", WIENER)
        },
        "frames shuffled": {
            name: [
                scores(test, predict(models[name, seed], noisy, order=order))[0][METRIC]
                for seed in SEEDS
            ]
            for name in (BEST, "attention twice")
        },
        "attended": [attended(model, test) for model in attentive],
        "sounds": write_sounds(folder, test, predict(attentive[0], noisy), baselines[WIENER][1]),
    }
    return Results(
        task="Speech enhancement: a mask on the spectrogram of speech in noise",
        data="Sentences of a small grammar spoken by eSpeak NG, in noise from a generator; 8 kHz",
        origin="spoken by a program",
        split="Test: four voices, content words and three kinds of noise that training has not",
        metric=METRIC,
        higher_is_better=True,
        n_training=len(parts["training"].clean),
        n_test=int(unseen.sum()),
        seeds=list(SEEDS),
        systems={
            name: System(
                role=role,
                scores={key: [row[key] for row in all_scores[name]] for key in all_scores[name][0]},
                n_parameters=sizes.get(name),
                seconds=clocks[name].seconds / len(SEEDS) if name in clocks else None,
            )
            for name, role in roles.items()
        },
        libraries=versions("espeakng-loader", "pystoi", "torch", "scipy"),
        more=more,
    )


def attended(model: MaskEstimator, part: Mixtures) -> dict[str, list[float]]:
    """Which frames attention looks at, head by head, beside the share of such frames.

    Returns
    -------
    dict of lists
        "speech to pauses": the weight that frames with speech give to those without. "pauses to
        pauses": that of frames without. "beep to beep": in clips with beeps, from frames with a
        beep to frames with one, both in pauses and in speech.
    """
    noisy, _ = magnitudes(part)
    with torch.no_grad(), recording(model.eval()) as record:
        model(noisy)
    weights, speech = record.weights[-1], has_speech(part)
    beeps = part.kinds == "beeps"
    loud = (part.noisy - part.clean)[beeps]
    power = (spectra(torch.from_numpy(loud)).abs() ** 2).sum(dim=-1).numpy()
    on = power > 0.3 * power.max(axis=1, keepdims=True)
    equal = torch.full_like(weights[:, :1], 1 / weights.shape[-1])
    return {
        "speech to pauses": weight_on(weights, speech, ~speech),
        "pauses to pauses": weight_on(weights, ~speech, ~speech),
        "share of pauses": weight_on(equal, speech, ~speech),
        "beep to beep": weight_on(weights[beeps], on, on),
        "share of beeps": weight_on(equal[beeps], on, on),
    }


def write_sounds(
    folder: Path,
    part: Mixtures,
    mask: Magnitudes,
    wiener: Callable[[Magnitudes], Magnitudes],
) -> dict[str, dict[str, float]]:
    """Write the first clips with an engine and with babble at 0 dB: four sounds of each.

    Returns
    -------
    dict of dict of float
        STOI of what stands in each file but the clean one.
    """
    noisy, _ = magnitudes(part)
    versions_of = {
        "clean": part.clean,
        "noisy": part.noisy,
        "attention": masked(part, mask),
        "wiener": masked(part, wiener(noisy)),
    }
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, dict[str, float]] = {}
    for kind in SOUNDS:
        which = np.flatnonzero((part.kinds == kind) & (part.snrs == 0))[0]
        span = slice(*SPAN)
        loudest = max(np.abs(clips[which, span]).max() for clips in versions_of.values())
        files = {
            name: np.round(clips[which, span] / loudest * 32_000).astype(np.int16)
            for name, clips in versions_of.items()
        }
        for name, samples in files.items():
            wavfile.write(folder / f"speech_enhancement_{kind}_{name}.wav", RATE, samples)
        found[kind] = {
            name: float(stoi(files["clean"] / 32_768, samples / 32_768, RATE))
            for name, samples in files.items()
            if name != "clean"
        }
    return found


def _by(groups: np.ndarray, rows: list[np.ndarray]) -> dict[str, float]:
    """Mean gains by group, over clips and seeds."""
    return {
        str(group): float(np.mean(rows, axis=0)[groups == group].mean())
        for group in dict.fromkeys(groups.tolist())
    }


def _paired(ours: np.ndarray, theirs: np.ndarray) -> dict[str, float]:
    """How two systems compare clip by clip: mean difference, its standard error, share won."""
    difference = ours - theirs
    return {
        "mean": float(difference.mean()),
        "standard error": float(difference.std(ddof=1) / np.sqrt(len(difference))),
        "share better": float((difference > 0).mean()),
    }
