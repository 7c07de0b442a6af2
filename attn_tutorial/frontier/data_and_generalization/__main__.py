"""Train everything that the chapter shows, or some parts of it, and store what was measured.

  python -m attn_tutorial.frontier.data_and_generalization [PART ...]

Parts: pictures, texts, widths, remedies, heads, noise, lengths, begin, transfer. Without one, all
of them, which takes some fifteen minutes. Other parts of the file stay as they are.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch

from attn_tutorial.applications.results import versions
from attn_tutorial.frontier.data_and_generalization import (
    learning,
    lengths,
    noise,
    overfitting,
    transfer,
)
from attn_tutorial.frontier.data_and_generalization.tasks import TASKS

RESULTS = Path(__file__).parents[3] / "chapters/frontier/results/data_and_generalization.json"


def measure_lengths() -> dict[str, dict[str, list[list[float]]]]:
    """The shares of right answers by task, scheme, seed and length."""
    found: dict[str, dict[str, list[list[float]]]] = {}
    for task in TASKS:
        found[task] = {
            scheme: [lengths.by_length(model, task) for model in lengths.fit(task, scheme)[0]]
            for scheme in lengths.SCHEMES
        }
        print(task, found[task], flush=True)
    return found


def measure_begin() -> dict[str, dict[str, float]]:
    """The loss after the first steps, by task and scheme."""
    return {
        task: {scheme: lengths.first_loss(task, scheme) for scheme in lengths.SCHEMES}
        for task in TASKS
    }


PARTS: dict[str, Callable[[], object]] = {
    "pictures": learning.picture_curves,
    "texts": learning.text_curves,
    "widths": overfitting.over_widths,
    "remedies": overfitting.with_remedies,
    "heads": lambda: [overfitting.double_descent(seed) for seed in overfitting.SEEDS],
    "noise": noise.over_noise,
    "lengths": measure_lengths,
    "begin": measure_begin,
    "transfer": transfer.matrices,
}


def rounded(content: object) -> object:
    """Floats with four digits behind the point, in lists and dictionaries of any depth."""
    if isinstance(content, float):
        return round(content, 4)
    if isinstance(content, dict):
        return {key: rounded(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [rounded(value) for value in content]
    return content


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m attn_tutorial.frontier.data_and_generalization",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    chosen = parser.parse_args(arguments).parts or list(PARTS)
    unknown = [name for name in chosen if name not in PARTS]
    if unknown:
        parser.error(f"there is no part {', '.join(unknown)}; there are {', '.join(PARTS)}")
    torch.set_num_threads(1)
    results = json.loads(RESULTS.read_text(encoding="utf8")) if RESULTS.exists() else {}
    results.setdefault("seconds", {})
    for name in chosen:
        begin = time.process_time()
        results[name] = rounded(PARTS[name]())
        results["seconds"][name] = round(time.process_time() - begin)
        results["versions"] = versions("torch", "scikit-learn", "numpy")
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        RESULTS.write_text(json.dumps(results, ensure_ascii=False) + "\n", encoding="utf8")
        print(name, results["seconds"][name], "s", flush=True)


if __name__ == "__main__":
    main()
