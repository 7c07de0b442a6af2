"""Train the systems of an application over several seeds, and store what they score.

  python -m attn_tutorial.applications NAME [NAME ...]

Writes chapters/applications/results/NAME.json of this checkout. One thread; minutes at most.
"""

import argparse
import importlib
import pkgutil
from pathlib import Path

import torch

from attn_tutorial import applications
from attn_tutorial.applications.results import save

FOLDER = Path(__file__).parents[2] / "chapters/applications/results"
SHARED = {"__main__", "digits", "measuring", "results", "speech"}  # what the applications share


def names() -> list[str]:
    """The applications that there are."""
    found = {module.name for module in pkgutil.iter_modules(applications.__path__)}
    return sorted(found - SHARED)


def main(words: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "names", nargs="+", choices=names(), metavar="NAME", help=", ".join(names())
    )
    torch.set_num_threads(1)
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in parser.parse_args(words).names:
        module = importlib.import_module(f"attn_tutorial.applications.{name}")
        save(module.measure(), FOLDER / f"{name}.json")
        print(f"{name}: stored", flush=True)


if __name__ == "__main__":
    main()
