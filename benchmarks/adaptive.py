"""Seconds from scores to weights and back: the softmax, by sorting, and by bisection."""

from __future__ import annotations

import torch

from attn_tutorial.frontier.adaptive.normalisers import entmax, entmax15, sparsemax
from benchmarks.timing import side_by_side

ROWS = {"cpu": 64, "cuda": 8192}
LENGTHS = {"cpu": (64, 256, 1024, 4096), "cuda": (64, 256, 1024, 4096)}
ITERATIONS = 20
WAYS = {
    "softmax": lambda scores: scores.softmax(dim=-1),
    "sparsemax, sorting": sparsemax,
    "1.5-entmax, sorting": entmax15,
    "1.5-entmax, bisection": lambda scores: entmax(scores, 1.5, iterations=ITERATIONS),
}


def measure(device: str) -> dict:
    """The median seconds of each way at each length, forward and backward, float32."""
    rows, lengths = ROWS[device], LENGTHS[device]
    seconds: dict[str, list[float]] = {name: [] for name in WAYS}
    for n in lengths:
        scores = torch.randn(rows, n, device=device, requires_grad=True)
        downstream = torch.randn(rows, n, device=device)

        def run(way, scores=scores, downstream=downstream):
            torch.autograd.grad((way(scores) * downstream).sum(), scores)

        found = side_by_side(
            {name: lambda way=way, run=run: run(way) for name, way in WAYS.items()}, device=device
        )
        for name, one in found.items():
            seconds[name].append(round(one, 6))
    return {
        "rows": rows,
        "iterations": ITERATIONS,
        "lengths": list(lengths),
        "seconds": seconds,
    }
