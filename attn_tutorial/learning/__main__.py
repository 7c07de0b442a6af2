"""Measure what the chapter on people's learning shows; one thread, about six minutes.

python -m attn_tutorial.learning
"""

from pathlib import Path

import torch

from attn_tutorial.applications.results import save
from attn_tutorial.learning.experiment import measure

if __name__ == "__main__":
    torch.set_num_threads(1)
    folder = Path(__file__).parents[2] / "chapters/background/results"
    folder.mkdir(parents=True, exist_ok=True)
    save(measure(), folder / "people.json")
