"""Train the systems of an application over several seeds, and store what they score.

  python -m attn_tutorial.applications NAME [NAME ...]

Writes chapters/applications/results/NAME.json of this checkout. One thread; some minutes each.
"""

import argparse
import importlib
from pathlib import Path

import torch

from attn_tutorial.applications import APPLICATIONS
from attn_tutorial.applications.results import save

FOLDER = Path(__file__).parents[2] / "chapters/applications/results"


def main(words: list[str] | None = None) -> None:
    """Measure the applications that are named, one after the other."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=f"Names: {', '.join(APPLICATIONS)}.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="+", choices=APPLICATIONS, metavar="NAME")
    names = parser.parse_args(words).names
    torch.set_num_threads(1)
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in names:
        experiment = importlib.import_module(f"attn_tutorial.applications.{name}.experiment")
        save(experiment.measure(), FOLDER / f"{name}.json")
        print(f"{name}: stored", flush=True)


if __name__ == "__main__":
    main()
