"""Train a translator of dates whose weights the chapter "Seeing weights" draws, and measure them.

  python -m tools.experiments.seeing_weights       train with every seed, store all (minutes)

The data are those of `transformer_dates`: whole years are held out. Which place of the source a
digit or a word comes from is known, so that it can be counted how often the weights point there.
Results: chapters/visualization/results/date_translator.npz, the parameters of the first seed in
float16, and seeing_weights.json beside it.
"""

import argparse
import json
import re
from pathlib import Path

import numpy as np
import torch
from torch import nn

from attn_tutorial.models import Transformer, sequence_loss
from attn_tutorial.training import evaluating, mean_loss, train
from tools.experiments import transformer_dates as dates

FOLDER = Path(__file__).parents[2] / "chapters/visualization/results"
MODEL, RESULTS = FOLDER / "date_translator.npz", FOLDER / "seeing_weights.json"
SEEDS = (0, 1, 2)
STEPS, PEAK = 1200, 4e-3
SIZES = {"d_model": 48, "n_heads": 4, "n_layers": 2}

ENGLISH = ("weekday", "month", "day", "year")  # the order of the words
HUNGARIAN = ("year", "month", "day", "weekday")


def fit(seed: int, parts: dict, vocabulary: dates.Vocabulary, steps: int = STEPS):
    """The translator, trained on the seed's split."""
    validation = vocabulary.tensors(parts["validation"])
    torch.manual_seed(seed)
    model = dates.transformer(len(vocabulary), **SIZES)
    history = train(
        model,
        sequence_loss,
        vocabulary.tensors(parts["training"]),
        steps=steps,
        batch_size=dates.BATCH,
        peak=PEAK,
        warm_up=dates.WARM_UP,
        seed=seed,
        validate=lambda model: mean_loss(model, sequence_loss, validation),
        validate_every=50,
    )
    return model.eval(), history


def round_to_half(model: nn.Module) -> None:
    """Let the parameters be those that are stored."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(parameter.half().float())


def cross_attention(model: Transformer, vocabulary: dates.Vocabulary, pairs: list) -> np.ndarray:
    """The weights (batch, n_layers, n_heads, n_target, n_source), fed with the true targets."""
    source, target = vocabulary.tensors(pairs)
    with evaluating(model):
        _, weights = model.decode(target[:, :-1], *model.encode(source), need_weights=True)
    return torch.stack(weights, dim=1).numpy()


def words(text: str, order: tuple[str, ...]) -> np.ndarray:
    """For each character the number of its word in ENGLISH, or 4 where it is in none."""
    numbers = np.full(len(text), len(ENGLISH))
    for name, match in zip(order, re.finditer(r"\w+", text), strict=True):
        numbers[match.start() : match.end()] = ENGLISH.index(name)
    return numbers


def hits(weights: np.ndarray, pairs: list) -> dict[str, list]:
    """How often the weights (batch, ..., n_target, n_source) point to where the text comes from.

    Digits: the share of digits written whose largest weight lies on the very digit of the source.
    Each word: the share of its characters for which the right word of the source has more weight
    than each other word, and than all characters between the words.
    """
    right: dict[str, list] = {name: [] for name in ("digits", *ENGLISH)}
    for grid, (english, hungarian) in zip(weights, pairs, strict=True):
        grid = grid[..., : len(hungarian), : len(english)]
        of_source, of_target = words(english, ENGLISH), words(hungarian, HUNGARIAN)
        shares = grid @ np.eye(5)[of_source]  # (..., n_target, 5)
        for number, name in enumerate(ENGLISH):
            written = shares[..., of_target == number, :]  # (..., n_written, 5)
            right[name].append(written.argmax(axis=-1) == number)
            if name in ("day", "year"):
                origin = np.flatnonzero(of_source == number)  # (n_written,)
                largest = grid[..., of_target == number, :].argmax(axis=-1)
                right["digits"].append(largest == origin)
    return {
        name: np.concatenate(found, axis=-1).mean(axis=-1).tolist() for name, found in right.items()
    }


def run(seed: int) -> tuple[dict, Transformer, dates.Vocabulary, dict]:
    """Train with one seed; measure on the dates of held-out years."""
    parts = dates.split(seed)
    vocabulary = dates.Vocabulary(parts["training"])
    model, _ = fit(seed, parts, vocabulary)
    round_to_half(model)
    return measure(seed, model, vocabulary, parts), model, vocabulary, parts


def measure(seed: int, model: Transformer, vocabulary: dates.Vocabulary, parts: dict) -> dict:
    """How well the model translates, and where its weights point, with what to compare them to."""
    test = parts["test"]
    english, hungarian = zip(*test, strict=True)
    torch.manual_seed(seed)
    untrained = dates.transformer(len(vocabulary), **SIZES).eval()
    # Chosen on other dates than those that count.
    by_validation = hits(
        cross_attention(model, vocabulary, parts["validation"]), parts["validation"]
    )
    layer, head = np.unravel_index(np.argmax(by_validation["digits"]), (2, 4))
    weights = cross_attention(model, vocabulary, test)  # (batch, n_layers, n_heads, n_t, n_s)
    others = np.roll(np.arange(len(test)), 1)  # each date gets the weights of another one
    chosen = weights[:, layer, head]
    return {
        "exact": dates.scores(dates.translate(model, vocabulary, english), hungarian)["exact"],
        "head": [int(layer), int(head)],
        "each head": hits(weights, test),
        "head chosen on validation": hits(chosen, test),
        "mean of the heads": hits(weights.mean(axis=(1, 2)), test),
        "weights of another date": hits(chosen[others], test),
        "the head, untrained": hits(
            cross_attention(untrained, vocabulary, test)[:, layer, head], test
        ),
    }


def run_short() -> list[float]:
    """The first losses with the first seed, for a test to repeat."""
    parts = dates.split(SEEDS[0])
    _, history = fit(SEEDS[0], parts, dates.Vocabulary(parts["training"]), steps=dates.SHORT)
    return history.losses


def store(model: Transformer, vocabulary: dates.Vocabulary, parts: dict) -> None:
    """The parameters, each once, with the characters and the years that training did not see."""
    years = {
        name: sorted({int(english[-4:]) for english, _ in parts[name]})
        for name in ("test", "training")
    }
    np.savez_compressed(
        MODEL,
        characters=np.array(vocabulary.characters),
        test_years=np.array(years["test"]),
        training_years=np.array(years["training"]),
        **{
            name: parameter.detach().numpy().astype(np.float16)
            for name, parameter in model.named_parameters()
        },
    )


def load() -> tuple[Transformer, dates.Vocabulary, dict]:
    """The stored translator, and the first seed's data."""
    parts = dates.split(SEEDS[0])
    vocabulary = dates.Vocabulary(parts["training"])
    model = dates.transformer(len(vocabulary), **SIZES).eval()
    with np.load(MODEL) as stored, torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(torch.from_numpy(stored[name].astype(np.float32)))
    return model, vocabulary, parts


def rounded(numbers):
    """Every number in nested lists and mappings, to four places."""
    if isinstance(numbers, dict):
        return {name: rounded(value) for name, value in numbers.items()}
    if isinstance(numbers, list):
        return [rounded(value) for value in numbers]
    return round(numbers, 4)


def main() -> None:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    torch.set_num_threads(1)
    FOLDER.mkdir(parents=True, exist_ok=True)
    results = {
        "command": "python -m tools.experiments.seeing_weights",
        "seeds": SEEDS,
        "steps": STEPS,
        "short run": rounded(run_short()),
        "runs": [],
    }
    for seed in SEEDS:
        numbers, model, vocabulary, parts = run(seed)
        results["runs"].append(rounded(numbers))
        print(seed, rounded(numbers), flush=True)
        if seed == SEEDS[0]:
            store(model, vocabulary, parts)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
