"""Train the models of the chapter on other kernels, and store how much they recall.

  python -m attn_tutorial.frontier.other_kernels

Writes chapters/frontier/results/other_kernels.json of this checkout. One thread, some minutes.
"""

import json
from pathlib import Path

import torch

from attn_tutorial.frontier.other_kernels.experiment import measure

PATH = Path(__file__).parents[3] / "chapters/frontier/results/other_kernels.json"

if __name__ == "__main__":
    torch.set_num_threads(1)
    text = json.dumps(measure(), indent=1)
    PATH.parent.mkdir(parents=True, exist_ok=True)
    PATH.write_text(text + "\n", encoding="utf8")
    print(f"{PATH.name} written")
