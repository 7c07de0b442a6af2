"""Train the project's model and those to compare it with, over several seeds, and store the scores.

  python -m tools.experiments.parameter_kinds          train all and store the results (minutes)

Every run is `attn_tutorial.parameter_kinds.training.run`, the function behind the project's command
line. Results: chapters/code/results/parameter_kinds.json, which the chapter on the project shows.
"""

import argparse
import json
import tempfile
from collections import Counter
from pathlib import Path

import torch
from torch import nn

from attn_tutorial.parameter_kinds.baselines import fit_baselines, score_baselines
from attn_tutorial.parameter_kinds.data import (
    KINDS,
    PADDING,
    PARTS,
    Vocabulary,
    labels,
    load_examples,
    split,
    versions,
    words_of,
)
from attn_tutorial.parameter_kinds.model import kind_loss
from attn_tutorial.parameter_kinds.training import (
    Part,
    Settings,
    build_model,
    encode,
    load_model,
    probabilities,
    run,
    scores,
)
from attn_tutorial.training import train

RESULTS = Path(__file__).parents[2] / "chapters/code/results/parameter_kinds.json"
SEEDS = (0, 1, 2, 3, 4)
VARIANTS = {
    "encoder and learned query": {},
    "learned query alone": {"n_layers": 0},
    "mean of the words' vectors": {"model": "mean", "peak": 1e-2},
}
RIVAL = "logistic regression, words and pairs"
SHORT = 20  # steps of the run that a test repeats
CACHE = "examples.json"


def shuffled(tokens: torch.Tensor, *, seed: int) -> torch.Tensor:
    """The same words of each description in another order; padding stays at the end."""
    generator = torch.Generator().manual_seed(seed)
    keys = torch.rand(tokens.shape, generator=generator)  # (n, length)
    keys[tokens == PADDING] = 2.0
    return tokens.gather(1, keys.argsort(dim=1))


def short_losses(folder: Path) -> list[float]:
    """The losses of the first steps of the first variant with the first seed."""
    settings = Settings()
    parts = split(load_examples(folder / CACHE))
    vocabulary = Vocabulary([example.text for example in parts["training"]])
    part = encode(parts, vocabulary, length=settings.length)["training"]
    model = build_model(settings, len(vocabulary))
    history = train(
        model,
        kind_loss,
        part.tensors,
        steps=SHORT,
        batch_size=settings.batch_size,
        peak=settings.peak,
        warm_up=settings.warm_up,
        seed=settings.seed,
    )
    return [round(loss, 4) for loss in history.losses]


def more_scores(model: nn.Module, part: Part, libraries: list[str], rival: torch.Tensor) -> dict:
    """Of the test part: each library's accuracy, that of shuffled words, and a paired comparison.

    `rival` says where the strongest baseline is right, bool (n,). What counts in the comparison are
    the descriptions that one of the two gets right and the other wrong.
    """
    right = probabilities(model, part.tokens).argmax(dim=-1) == part.kinds  # (n,)
    mixed = probabilities(model, shuffled(part.tokens, seed=0)).argmax(dim=-1)
    return {
        "by library": {
            name: right[torch.tensor([library == name for library in libraries])]
            .double()
            .mean()
            .item()
            for name in PARTS["test"]
        },
        "words shuffled": scores(mixed, part.kinds)["accuracy"],
        "only this is right": int((right & ~rival).sum()),
        "only the rival is right": int((rival & ~right).sum()),
    }


def describe(parts: dict) -> dict:
    """How many examples of which kind each part has, and how long they are."""
    return {
        name: {
            "examples": len(examples),
            "kinds": {kind: Counter(e.kind for e in examples)[kind] for kind in KINDS},
            "longer than the model reads": sum(
                len(words_of(e.text)) > Settings().length for e in examples
            ),
        }
        for name, examples in parts.items()
    }


def main() -> None:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder_name:
        folder = Path(folder_name)
        examples = load_examples(folder / CACHE)
        parts = split(examples)
        libraries = [example.library for example in parts["test"]]
        baselines = fit_baselines(parts)
        predicted = baselines[RIVAL].predict([example.text for example in parts["test"]])
        rival = torch.from_numpy(predicted) == labels(parts["test"])
        result = {
            "command": "python -m tools.experiments.parameter_kinds",
            "seeds": SEEDS,
            "versions": versions(),
            "data": describe(parts),
            "short run": short_losses(folder),
            "baselines": score_baselines(baselines, parts),
            "rival": RIVAL,
            "models": {},
        }
        for name, changes in VARIANTS.items():
            result["models"][name] = []
            for seed in SEEDS:
                settings = Settings(seed=seed, **changes)
                place = folder / f"{name} {seed}"
                place.mkdir()
                (place / CACHE).write_bytes((folder / CACHE).read_bytes())
                _, score = run(place, settings)
                model, vocabulary, _ = load_model(place)
                part = encode(parts, vocabulary, length=settings.length)["test"]
                score |= more_scores(model, part, libraries, rival)
                result["models"][name].append(score)
                print(name, seed, score, flush=True)
    RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf8")


if __name__ == "__main__":
    main()
