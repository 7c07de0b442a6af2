"""Speech synthesis: letters to spectrograms by a decoder with attention, and by splicing."""

from __future__ import annotations

from pathlib import Path

import jiwer
import numpy as np
import torch
from jaxtyping import Float
from scipy.io import wavfile

from attn_tutorial.applications.measuring import Clock, n_parameters
from attn_tutorial.applications.results import Results, System, versions
from attn_tutorial.applications.speech_synthesis.data import (
    HOP,
    RATE,
    Phrase,
    load_parts,
    to_sound,
)
from attn_tutorial.applications.speech_synthesis.models import (
    STEPS,
    Speech,
    Synthesiser,
    collate,
    fit,
    losses,
    synthesise,
)
from attn_tutorial.applications.speech_synthesis.recogniser import (
    Frames,
    Recogniser,
    warped_distance,
)

SEEDS = (0, 1, 2)
AUDIO = Path(__file__).parents[2] / "_static/audio"
METRIC = "word error rate"
BEST = "guided attention"
FIRST = 20  # losses that are kept, to compare a short training with


# --- what nobody trains -------------------------------------------------------------------------


def average_letters(training: list[Phrase], texts: list[str]) -> list[Frames]:
    """Each letter lasts equally long and sounds like its mean in the training part."""
    sums: dict[str, Float[np.ndarray, " n_mels"]] = {}
    counts: dict[str, int] = {}
    n_frames = n_letters = 0
    for text, frames, _ in training:
        which = np.arange(len(frames)) * len(text) // len(frames)  # (n_frames,)
        for letter, frame in zip(which, frames, strict=True):
            sums[text[letter]] = sums.get(text[letter], 0) + frame
            counts[text[letter]] = counts.get(text[letter], 0) + 1
        n_frames, n_letters = n_frames + len(frames), n_letters + len(text)
    duration = n_frames / n_letters
    found = []
    for text in texts:
        which = (np.arange(round(duration * len(text))) / duration).astype(int)
        rows = [sums[text[i]] / counts[text[i]] for i in which.clip(max=len(text) - 1)]
        found.append(np.stack(rows))
    return found


def nearest_phrase(training: list[Phrase], texts: list[str]) -> list[Frames]:
    """The phrase of the training part that differs in the fewest words."""
    return [
        min(training, key=lambda phrase, text=text: jiwer.wer(text, phrase.text)).frames
        for text in texts
    ]


def spliced_words(training: list[Phrase], texts: list[str]) -> list[Frames]:
    """One recording of each word, cut out of the training part, put one behind the other.

    It knows where the words begin, which the models are not told. The last recording is taken; the
    recogniser's templates are the first ones.
    """
    recordings: dict[str, Frames] = {}
    for text, frames, bounds in training:
        for k, word in enumerate(text.split()):
            recordings[word] = frames[bounds[k] : bounds[k + 1]]
    return [np.concatenate([recordings[word] for word in text.split()]) for text in texts]


BASELINES = {
    "spliced words": spliced_words,
    "nearest training phrase": nearest_phrase,
    "average letters": average_letters,
}


# --- scores -------------------------------------------------------------------------------------


def scores(
    recogniser: Recogniser, spoken: list[Frames], phrases: list[Phrase]
) -> tuple[dict[str, float], dict[str, int]]:
    """How well phrases are spoken, and which mistakes the recogniser hears.

    Returns
    -------
    scores : dict of float
        The share of words that are wrong; the warped distance to the teacher's frames; and by how
        much the length is wrong, as a share of the teacher's.
    mistakes : dict of int
        Words left out, put in, and replaced.
    """
    said = jiwer.process_words(
        [phrase.text for phrase in phrases], [recogniser(frames) for frames in spoken]
    )
    pairs = list(zip(spoken, phrases, strict=True))
    return {
        METRIC: said.wer,
        "distance": float(np.mean([warped_distance(s, p.frames) for s, p in pairs])),
        "length error": float(np.mean([abs(len(s) / len(p.frames) - 1) for s, p in pairs])),
    }, {
        "words": said.hits + said.substitutions + said.deletions,
        "left out": said.deletions,
        "put in": said.insertions,
        "replaced": said.substitutions,
    }


def reading(weights: Float[torch.Tensor, "n_layers n_heads n_steps n_letters"], text: str) -> dict:
    """Where attention goes while a text is spoken.

    The mean over layers and heads is taken; the letter with the largest weight says which word is
    read at a step.

    Returns
    -------
    dict of int
        "skipped": words that are read at no step. "returns": how often a step reads an earlier word
        than the step before.
    """
    mean = weights.mean(dim=(0, 1))  # (n_steps, n_letters)
    if mean.shape[1] != len(text):
        raise ValueError(f"weights must have {len(text)} letters, as the text; got {mean.shape[1]}")
    word_of = np.cumsum([letter == " " for letter in text])  # (n_letters,)
    path = word_of[mean.argmax(dim=1).numpy()]  # (n_steps,)
    return {
        "skipped": len(text.split()) - len(set(path.tolist())),
        "returns": int((np.diff(path) < 0).sum()),
    }


def speak(
    model: Synthesiser, phrases: list[Phrase], *, equal_weights: bool = False
) -> tuple[list[Frames], list[Speech]]:
    """What a model makes of the phrases' texts: frames, and all that it returned."""
    said = synthesise(model, [phrase.text for phrase in phrases], equal_weights=equal_weights)
    return [speech.frames.numpy() for speech in said], said


# --- all of it ----------------------------------------------------------------------------------

MODELS = {
    BEST: ("attention", {}),
    "attention without a guide": ("attention", {"guidance": 0.0}),
    "equal weights": ("ablation", {"guidance": 0.0, "equal_weights": True}),
}
AFTERWARDS = "weights made equal after training"


def measure(folder: Path = AUDIO) -> Results:
    """Train and score everything; write the sounds of three test phrases into a folder."""
    parts = load_parts()
    training, test = parts["training"], parts["test"]
    batch, recogniser = collate(training), Recogniser(training)
    rows: dict[str, list[dict[str, float]]] = {}
    clocks: dict[str, Clock] = {}
    mistakes: dict[str, list[dict[str, int]]] = {}
    guides: dict[str, list[float]] = {}
    models = {}

    def note(name: str, spoken: list[Frames], spoken_long: list[Frames]) -> None:
        found, wrong = scores(recogniser, spoken, test)
        of_long, _ = scores(recogniser, spoken_long, parts["long"])
        found["longer phrases"] = of_long[METRIC]
        rows.setdefault(name, []).append(found)
        mistakes.setdefault(name, []).append(wrong)

    for seed in SEEDS:
        for name, (_, options) in MODELS.items():
            with clocks.setdefault(name, Clock()).running():
                model = fit(seed, batch, **options)
            models[name, seed] = model
            equal = options.get("equal_weights", False)
            spoken = [speak(model, parts[p], equal_weights=equal)[0] for p in ("test", "long")]
            note(name, *spoken)
            with torch.no_grad():
                guides.setdefault(name, []).append(float(losses(model, collate(test))[2]))
        best = models[BEST, seed]
        note(AFTERWARDS, *(speak(best, parts[p], equal_weights=True)[0] for p in ("test", "long")))
    for name, method in BASELINES.items():
        note(name, *(method(training, [p.text for p in parts[q]]) for q in ("test", "long")))

    paths = {name: [] for name in MODELS if name != "equal weights"}
    for name, seed in models:
        if name in paths:
            said = {part: speak(models[name, seed], parts[part])[1] for part in ("test", "long")}
            paths[name].append({part: _total(said[part], parts[part]) for part in said})
    roles = {name: role for name, (role, _) in MODELS.items()}
    roles |= {AFTERWARDS: "ablation"} | dict.fromkeys(BASELINES, "baseline")
    return Results(
        task="Speech synthesis: digits in letters to a spectrogram, and on to sound",
        data="Phrases of two to four digits, read by one voice of eSpeak NG; 8 kHz",
        origin="spoken by a program",
        split="By phrase: no sequence of digits of the test part was heard in training",
        metric=METRIC,
        higher_is_better=False,
        n_training=len(training),
        n_test=len(test),
        seeds=list(SEEDS),
        systems={
            name: System(
                role=role,
                scores={key: [row[key] for row in rows[name]] for key in rows[name][0]},
                n_parameters=n_parameters(models[name, 0]) if name in MODELS else None,
                seconds=clocks[name].seconds / len(SEEDS) if name in MODELS else None,
            )
            for name, role in roles.items()
        },
        libraries=versions("espeakng-loader", "torch", "jiwer", "scipy"),
        more={
            "teacher": scores(recogniser, [p.frames for p in test], test)[0],
            "mistakes": mistakes,
            "guide": guides,
            "paths": paths,
            "steps": STEPS,
            "first losses": first_losses(batch),
            "sounds": write_sounds(folder, models[BEST, 0], recogniser, test),
        },
    )


def first_losses(batch, n_steps: int = FIRST) -> list[float]:
    """The loss on the whole training part after each of a few steps of a guided model."""
    found = []
    for steps in (1, n_steps):
        model = fit(0, batch, steps=steps)
        torch.manual_seed(0)
        with torch.no_grad():
            found.append(float(sum(losses(model, batch))))
    return found


def write_sounds(
    folder: Path, model: Synthesiser, recogniser: Recogniser, phrases: list[Phrase]
) -> list[dict]:
    """Write the first test phrase of two, three and four words: the teacher's and the model's.

    Both go through `to_sound`, so that what it costs is heard in both.

    Returns
    -------
    list of dict
        The text, what is recognised of the model's sound, and attention's weights, the mean over
        layers and heads: (n_steps, n_letters).
    """
    folder.mkdir(parents=True, exist_ok=True)
    chosen = [next(p for p in phrases if len(p.text.split()) == n) for n in (2, 3, 4)]
    spoken, said = speak(model, chosen)
    found = []
    for number, (phrase, frames, speech) in enumerate(zip(chosen, spoken, said, strict=True), 1):
        for name, shown in (("teacher", phrase.frames), ("model", frames)):
            samples = to_sound(shown)
            samples = np.round(samples / np.abs(samples).max() * 30_000).astype(np.int16)
            wavfile.write(folder / f"speech_synthesis_{number}_{name}.wav", RATE, samples)
        weights = speech.weights.mean(dim=(0, 1))  # (n_steps, n_letters)
        found.append(
            {
                "text": phrase.text,
                "recognised": recogniser(frames),
                "seconds": len(frames) * HOP / RATE,
                "weights": [[round(w, 3) for w in row] for row in weights.tolist()],
            }
        )
    return found


def _total(said: list[Speech], phrases: list[Phrase]) -> dict[str, int]:
    """Skipped words, returns, and phrases without an end, over all phrases."""
    read = [reading(s.weights, p.text) for s, p in zip(said, phrases, strict=True)]
    return {
        "skipped": sum(one["skipped"] for one in read),
        "returns": sum(one["returns"] for one in read),
        "without end": sum(not speech.stopped for speech in said),
    }
