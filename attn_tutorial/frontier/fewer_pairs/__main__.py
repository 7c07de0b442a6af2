"""Train what the chapter on fewer pairs compares, and store it beside the chapter.

  python -m attn_tutorial.frontier.fewer_pairs [chain] [recall] [text]

Writes these parts, or all, of chapters/frontier/results/fewer_pairs.json of this checkout. One
thread; some minutes.
"""

import argparse
import json
import time
from pathlib import Path

import torch

from attn_tutorial.frontier.fewer_pairs.experiment import MEASURED

PATH = Path(__file__).parents[3] / "chapters/frontier/results/fewer_pairs.json"


def main() -> None:
    """Measure the parts that are named, and store each as soon as it is there."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(MEASURED))
    parts = parser.parse_args().parts or list(MEASURED)
    torch.set_num_threads(1)
    for part in parts:
        start = time.process_time()
        found = MEASURED[part]() | {"processor seconds": round(time.process_time() - start)}
        stored = json.loads(PATH.read_text(encoding="utf8")) if PATH.exists() else {}
        PATH.parent.mkdir(parents=True, exist_ok=True)
        PATH.write_text(json.dumps(stored | {part: found}, indent=1) + "\n", encoding="utf8")
        print(f"{part} stored", flush=True)


if __name__ == "__main__":
    main()
