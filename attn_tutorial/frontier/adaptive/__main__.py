"""Measure what the chapter on adaptive attention shows; one thread, about ten minutes.

python -m attn_tutorial.frontier.adaptive [PART ...]
"""

import sys
from pathlib import Path

import torch

from attn_tutorial.frontier.adaptive.experiment import measure

if __name__ == "__main__":
    torch.set_num_threads(1)
    folder = Path(__file__).parents[3] / "chapters/frontier/results"
    folder.mkdir(parents=True, exist_ok=True)
    measure(folder / "adaptive.json", sys.argv[1:] or ("lookup", "text", "spans", "growth"))
