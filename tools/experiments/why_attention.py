"""Spell texts backwards with and without attention, and store how often it works.

  python -m tools.experiments.why_attention          train all and store the results (minutes)

The texts, the two models and the training are those of the chapter "Why attention": this program
runs the chapter's own cells and calls what they define, with longer texts and more seeds than the
chapter has time for. Results: chapters/background/results/why_attention.json, for each model and
seed the share of letters and of whole texts that are right at each length of held-out text. A
shortened run is stored beside them, which the tests repeat.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import nbformat
import torch

ROOT = Path(__file__).parents[2]
CHAPTER = ROOT / "chapters/background/why_attention.ipynb"
RESULTS = ROOT / "chapters/background/results/why_attention.json"
CELLS = ("imports", "texts", "encoder-decoder", "training")

SEEDS = (0, 1, 2)
LENGTHS = (4, 8, 12, 16, 20, 24, 32, 40)
LONGEST = 24  # letters in training
FULL = {"steps": 1200, "longest": LONGEST, "learning_rate": 0.003}
SHORTENED = {"steps": 150, "longest": 8, "learning_rate": 0.005}
# The model without attention is wider, so that it has no fewer parameters.
WIDTHS = {"attention": 64, "summary": 76}


def chapter_cells(path: Path = CHAPTER) -> dict[str, Any]:
    """What the chapter's cells define."""
    cells = {cell.id: cell.source for cell in nbformat.read(path, as_version=4).cells}
    missing = [name for name in CELLS if name not in cells]
    if missing:
        raise ValueError(f"{path.name} has no cell {', '.join(missing)}; wanted {CELLS}")
    names: dict[str, Any] = {}
    for name in CELLS:
        exec(compile(cells[name], f"{path.name}#{name}", "exec"), names)
    return names


def shortened(chapter: dict[str, Any]) -> dict[str, list[float]]:
    """Both models after a short training: the share of letters right at 4 and at 8 letters."""
    torch.set_num_threads(1)
    found = {}
    for name, width in WIDTHS.items():
        model = chapter["train"](name == "attention", seed=0, d_state=width, **SHORTENED)
        found[name] = [round(chapter["right"](model, length)[0], 3) for length in (4, 8)]
    return found


def full(chapter: dict[str, Any]) -> dict[str, Any]:
    """All models: for each, by seed, the shares right at each length."""
    torch.set_num_threads(1)
    results: dict[str, Any] = {"letters": {}, "texts": {}, "parameters": {}}
    for name, width in WIDTHS.items():
        for seed in SEEDS:
            model = chapter["train"](name == "attention", seed=seed, d_state=width, **FULL)
            shares = [chapter["right"](model, length) for length in LENGTHS]
            for kind, column in zip(("letters", "texts"), zip(*shares, strict=True), strict=True):
                by_seed = results[kind].setdefault(name, [])
                by_seed.append([round(share, 3) for share in column])
            print(name, seed, results["letters"][name][-1])
        results["parameters"][name] = sum(p.numel() for p in model.parameters())
    guesses = [chapter["right_by_guessing"](length)[0] for length in LENGTHS]
    results["letters"]["guessing"] = [[round(share, 3) for share in guesses]]
    return results


def main() -> None:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    chapter = chapter_cells()
    results = {
        "seeds": SEEDS,
        "lengths": LENGTHS,
        "widths": WIDTHS,
        "training": FULL,
        **full(chapter),
        "shortened": shortened(chapter),
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf8")


if __name__ == "__main__":
    main()
