"""Speech recognition: words spelled by a model that attends to the sound, and by those that do not.

Listen, attend and spell, at a size for one processor, against CTC, a network that has to remember
everything in one vector, and words recognised piece by piece.
"""

import contextlib
import difflib
from collections.abc import Iterable
from functools import partial
from typing import Any

import jiwer
import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from attn_tutorial.applications.measuring import Clock, over_seeds
from attn_tutorial.applications.results import Results, System, versions
from attn_tutorial.applications.speech_recognition.data import WORDS, Utterances, load_parts
from attn_tutorial.applications.speech_recognition.models import (
    CTC,
    STRIDE,
    BlindSpeller,
    Speller,
    ctc_loss,
    spelling_loss,
)
from attn_tutorial.applications.speech_recognition.templates import (
    GAPS,
    LEVELS,
    Piece,
    cut_all,
    fit_regression,
    labelled,
    names_by,
    pieces_of,
    recognize,
    warped_distances,
)
from attn_tutorial.attribution import uniform_weights
from attn_tutorial.training import History, evaluating, train

SEEDS = (0, 1, 2)
STEPS, FEW_STEPS = 900, 400
# Of each kind of model: how it is made, its loss, and what was chosen on the validation part.
KINDS = {
    "attention": (Speller, spelling_loss, {"dropout": 0.2, "peak": 6e-3}),
    "one vector": (BlindSpeller, spelling_loss, {"dropout": 0.1, "peak": 3e-3}),
    "CTC": (CTC, ctc_loss, {"dropout": 0.1, "peak": 1e-2}),
}
STRENGTHS = (0.01, 0.1, 1.0)
WAYS_TO_CUT = tuple({"level": level, "gap": gap} for level in LEVELS for gap in GAPS)
TESTS = {"test": "", "new pairs": ", new pairs", "longer": ", longer"}


def fit(
    kind: str,
    parts: dict[str, Utterances],
    seed: int,
    *,
    steps: int = STEPS,
    equal_weights: bool = False,
) -> tuple[nn.Module, History]:
    """Train a model; with many steps, the parameters with the fewest wrong words are kept.

    Parameters
    ----------
    kind : "attention", "one vector" or "CTC"
    parts : dict of Utterances
        "training", and for more than FEW_STEPS steps "validation".
    seed, steps : int
    equal_weights : bool
        Whether attention gives each step of the listener the same weight throughout.

    Returns
    -------
    model : module
    history : History
        Its validations are word error rates.
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}; got {kind!r}")
    make, loss, settings = KINDS[kind]
    torch.manual_seed(seed)
    model = make(dropout=settings["dropout"])
    training = parts["training"]
    with uniform_weights(model) if equal_weights else contextlib.nullcontext():
        history = train(
            model,
            loss,
            (training.frames, training.lengths, training.tokens),
            steps=steps,
            batch_size=32,
            peak=settings["peak"],
            warm_up=50,
            validate=(lambda _: errors(spell(model, parts["validation"]), parts["validation"])[0])
            if steps > FEW_STEPS
            else None,
            validate_every=150,
            seed=seed,
        )
    return model, history


def spell(model: nn.Module, utterances: Utterances) -> list[str]:
    """What a model hears, with nothing but the sound."""
    return model.spell(utterances.frames, utterances.lengths)


def errors(heard: list[str], utterances: Utterances) -> tuple[float, float]:
    """The word error rate and the character error rate of what was heard.

    Both count substitutions, deletions and insertions, over the number of true words or characters;
    who inserts much can exceed one.
    """
    return jiwer.wer(utterances.texts, heard), jiwer.cer(utterances.texts, heard)


def scores(model: nn.Module, parts: dict[str, Utterances]) -> dict[str, float]:
    """The error rates on the three tests, and on the first with its frames in a random order."""
    found = {}
    for part, suffix in TESTS.items():
        heard = spell(model, parts[part])
        words, characters = errors(heard, parts[part])
        found[f"word error rate{suffix}"] = words
        if part == "test":
            found["character error rate"] = characters
            corrected = [to_known_words(text) for text in heard]
            found["word error rate, corrected"] = errors(corrected, parts[part])[0]
    shuffled = shuffle_frames(parts["test"])
    return found | {"word error rate, frames shuffled": errors(spell(model, shuffled), shuffled)[0]}


def to_known_words(text: str) -> str:
    """Each word that was spelled replaced by the one of WORDS that is most like it."""
    return " ".join(difflib.get_close_matches(word, WORDS, 1, 0)[0] for word in text.split())


def shuffle_frames(utterances: Utterances, seed: int = 0) -> Utterances:
    """The same sounds of a hundredth of a second, in a random order within each utterance."""
    generator = torch.Generator().manual_seed(seed)
    frames = utterances.frames.clone()
    for row, length in zip(frames, utterances.lengths.tolist(), strict=True):
        row[:length] = row[torch.randperm(length, generator=generator)]
    return utterances._replace(frames=frames)


def weights_of(model: Speller, utterances: Utterances) -> Float[torch.Tensor, "n n_tokens n_steps"]:
    """The weights with which each character is asked for, the true ones before it given.

    Returns
    -------
    float tensor, shape (n, n_tokens, n_steps)
        Row i of an utterance belongs to character i of its text; after the last one to END.
    """
    with evaluating(model):
        _, weights = model(
            utterances.frames, utterances.lengths, utterances.tokens[:, :-1], need_weights=True
        )
    return weights.mean(dim=1)


def alignment(
    weights: Float[torch.Tensor, "n n_tokens n_steps"], utterances: Utterances
) -> dict[str, float]:
    """How the weights of letters lie to the words that were spoken.

    Returns
    -------
    dict of float
        "in the word": the share of a letter's weight on steps of the word that it is in. "by
        chance": what equal weights would have there. "later": how often a letter's mean time is
        later than that of the letter before it in the word. All are means over the letters.
    """
    inside, chance, later = [], [], []
    for row, text, bounds, length in zip(
        weights, utterances.texts, utterances.bounds, utterances.lengths.tolist(), strict=True
    ):
        times = STRIDE * torch.arange(row.shape[1])  # the frame in the middle of each step
        means = row @ times.float()  # (n_tokens,)
        first = 0
        for word, (begin, end) in zip(text.split(), bounds, strict=True):
            there = (times >= begin) & (times < end)  # (n_steps,)
            letters = slice(first, first + len(word))
            inside += row[letters, there].sum(dim=1).tolist()
            chance += [there.sum().item() / -(-length // STRIDE)] * len(word)
            later += (means[letters].diff() > 0).tolist()
            first += len(word) + 1  # a space follows
    return {"in the word": np.mean(inside), "by chance": np.mean(chance), "later": np.mean(later)}


def baselines(parts: dict[str, Utterances]) -> tuple[dict[str, System], dict[str, Any]]:
    """Words recognised piece by piece; how to cut, and how strongly to regularise, is chosen on
    the validation part.

    Returns
    -------
    systems : dict of System
    more : dict
        The settings chosen, how often the number of words was right, and the error rate of logistic
        regression where it is told the true bounds of the words.
    """
    training, validation, test = (parts[part] for part in ("training", "validation", "test"))

    def rate(how: dict[str, float], strength: float) -> float:
        model = fit_regression(*labelled(training, cut_all(training, **how))[:2], strength)
        pieces = pieces_of(validation, cut_all(validation, **how))
        return errors(recognize(pieces, partial(names_by, model)), validation)[0]

    how = min(WAYS_TO_CUT, key=partial(rate, strength=STRENGTHS[1]))
    strength = min(STRENGTHS, key=partial(rate, how))
    clock = Clock()
    with clock.running():
        known, words, voices = labelled(training, cut_all(training, **how))
        model = fit_regression(known, words, strength)
    templates = _templates(known, words, voices)
    found: dict[str, dict[str, list[float]]] = {"regression": {}, "warping": {}}
    for part, suffix in TESTS.items():
        pieces = pieces_of(parts[part], cut_all(parts[part], **how))
        for name, names in {
            "regression": partial(names_by, model),
            "warping": lambda given: [_nearest(piece, *templates) for piece in given],
        }.items():
            word_rate, character_rate = errors(recognize(pieces, names), parts[part])
            found[name][f"word error rate{suffix}"] = [word_rate]
            if not suffix:
                found[name]["character error rate"] = [character_rate]
    cuts = cut_all(test, **how)
    right = np.mean([len(c) == len(b) for c, b in zip(cuts, test.bounds, strict=True)])
    told = fit_regression(*labelled(training, training.bounds)[:2], strength)
    told_rate = errors(recognize(pieces_of(test, test.bounds), partial(names_by, told)), test)[0]
    return {
        "cut at pauses, logistic regression": System(
            "baseline", found["regression"], seconds=clock.seconds
        ),
        "cut at pauses, time warping": System("baseline", found["warping"]),
    }, {"cut": how, "C": strength, "cut right": right, "told": told_rate}


def measure() -> Results:
    """Train all systems with all seeds, and score them on voices that none of them has heard."""
    parts = load_parts()
    systems, more = baselines(parts)
    histories: dict[str, list[History]] = {}
    models: dict[str, list[nn.Module]] = {}

    def add(name: str, role: str, kind: str, **options: Any) -> None:
        histories[name] = []

        def remember(seed: int) -> nn.Module:
            model, history = fit(kind, parts, seed, **options)
            histories[name].append(history)
            return model

        def score(model: nn.Module) -> dict[str, float]:
            equal = options.get("equal_weights", False)
            with uniform_weights(model) if equal else contextlib.nullcontext():
                return scores(model, parts)

        systems[name], models[name] = over_seeds(role, SEEDS, remember, score)

    add("attention", "attention", "attention")
    add(f"attention, {FEW_STEPS} steps", "attention", "attention", steps=FEW_STEPS)
    add("CTC", "rival", "CTC")
    add("one vector", "rival", "one vector")
    add("equal weights from the start", "ablation", "attention", equal_weights=True)
    taken = [_without_weights(model, parts) for model in models["attention"]]
    systems["equal weights after training"] = System(
        "ablation", {metric: [each[metric] for each in taken] for metric in taken[0]}
    )
    test = parts["test"]
    heard = {
        name: [spell(model, test) for model in models[name]]
        for name in ("attention", "CTC", "one vector")
    }
    return Results(
        task="Speech recognition: one to three spoken words, spelled",
        data="Digits and two more words in 33 voices of eSpeak NG, with noise",
        origin="spoken by a program",
        split="Voices of the test are in no other part",
        metric="word error rate",
        higher_is_better=False,
        n_training=len(parts["training"].texts),
        n_test=len(test.texts),
        seeds=list(SEEDS),
        systems=systems,
        libraries=versions("torch", "espeakng-loader", "scikit-learn", "jiwer"),
        more=more
        | {
            "test words": sum(len(text.split()) for text in test.texts),
            "validation": {
                name: [history.validations for history in each] for name, each in histories.items()
            },
            "first losses": histories[f"attention, {FEW_STEPS} steps"][0].losses[:5],
            "alignment": [alignment(weights_of(m, test), test) for m in models["attention"]],
            "by voice": {name: _by(test.voices, rows, test) for name, rows in heard.items()},
            "by words": {
                name: _by([len(text.split()) for text in test.texts], rows, test)
                for name, rows in heard.items()
            },
            "only attention right": _only_first(heard["attention"], heard["CTC"], test),
            "only CTC right": _only_first(heard["CTC"], heard["attention"], test),
        },
    )


def _without_weights(model: nn.Module, parts: dict[str, Utterances]) -> dict[str, float]:
    with uniform_weights(model):
        return scores(model, parts)


def _templates(
    pieces: list[Piece], words: list[str], voices: list[str]
) -> tuple[list[Piece], list[str]]:
    """One piece of each word by each voice, at every second frame."""
    chosen: dict[tuple[str, str], Piece] = {}
    for piece, word, voice in zip(pieces, words, voices, strict=True):
        chosen.setdefault((word, voice), piece[::2])
    return list(chosen.values()), [word for word, _ in chosen]


def _nearest(piece: Piece, templates: list[Piece], words: list[str]) -> str:
    return words[int(warped_distances(piece[::2], templates).argmin())]


def _by(groups: Iterable[Any], heard: list[list[str]], utterances: Utterances) -> dict[str, float]:
    """The word error rate in each group of utterances, the mean over the models."""
    groups = [str(group) for group in groups]
    found = {}
    for group in sorted(set(groups)):
        chosen = [i for i, each in enumerate(groups) if each == group]
        texts = [utterances.texts[i] for i in chosen]
        found[group] = np.mean([jiwer.wer(texts, [row[i] for i in chosen]) for row in heard])
    return found


def _only_first(first: list[list[str]], second: list[list[str]], test: Utterances) -> list[int]:
    """For each seed, how many utterances the first has wholly right and the second has not."""
    return [
        sum(a == t != b for a, b, t in zip(one, other, test.texts, strict=True))
        for one, other in zip(first, second, strict=True)
    ]
