"""Seconds of attention, forward and backward: plain, in chunks, and by PyTorch's own function."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from attn_tutorial import attention
from attn_tutorial.frontier.chunked import chunked_attention
from benchmarks.timing import side_by_side

WIDTH = 64
LENGTHS = {"cpu": (256, 512, 1024, 2048, 4096), "cuda": (1024, 2048, 4096, 8192, 16384)}
CHUNK = {"cpu": 256, "cuda": 2048}


def measure(device: str) -> dict:
    """The median seconds of each way at each length, for one head."""
    ways = {
        "plain": lambda q, k, v: attention(q, k, v)[0],
        "chunks": lambda q, k, v: chunked_attention(q, k, v, chunk=CHUNK[device]),
        "PyTorch": F.scaled_dot_product_attention,
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for n in LENGTHS[device]:
        given = [torch.randn(1, 1, n, WIDTH, device=device, requires_grad=True) for _ in range(3)]

        def run(way, given=given):
            torch.autograd.grad(way(*given).sum(), given)

        found = side_by_side(
            {name: lambda way=way, run=run: run(way) for name, way in ways.items()}, device=device
        )
        for name, one in found.items():
            seconds[name].append(round(one, 6))
    return {
        "width": WIDTH,
        "chunk": CHUNK[device],
        "lengths": list(LENGTHS[device]),
        "seconds": seconds,
    }
