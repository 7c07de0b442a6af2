"""Measure one part of the chapters on cost, and store what was found beside the chapter.

  python -m benchmarks NAME [--device cuda] [--threads 1]

NAME is a module of this package with a function `measure(device) -> dict` of JSON types. The file
is chapters/frontier/results/NAME-MACHINE.json: the machine's description, and the measurements.
"""

from __future__ import annotations

import argparse
import importlib
import json
from pathlib import Path

import torch

from benchmarks.machine import describe, label

FOLDER = Path(__file__).parents[1] / "chapters/frontier/results"
NAMES = tuple(
    sorted(
        path.stem
        for path in Path(__file__).parent.glob("*.py")
        if path.stem not in ("__init__", "__main__", "machine", "timing")
    )
)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(chosen.threads)
    machine = describe(chosen.device)
    found = importlib.import_module(f"benchmarks.{chosen.name}").measure(chosen.device)
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{chosen.name}-{label(machine)}.json"
    content = {"machine": machine, "measured": found}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf8")
    print(f"{path.name} written")


if __name__ == "__main__":
    main()
