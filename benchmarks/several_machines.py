"""Attention on two processes: seconds beside one process, and messages beside products.

Memory, which is counted and not timed, stands here too, since it needs several processes.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys

import torch

from attn_tutorial.frontier.parallel import in_processes, jobs

SIZE = 2
HEADS, WIDTH, CHUNK = 2, 64, 256
LENGTHS = (64, 256, 1024, 2048)
MESSAGES = (4, 4_096, 65_536, 1_048_576, 8_388_608)  # bytes
LIMIT, UNIT = 2**21, 128  # bytes, positions


def measure(device: str) -> dict:
    """Seconds are medians on rank 0, and as slow as the slowest process."""
    backend = "gloo" if device == "cpu" else "nccl"
    if device == "cuda" and torch.cuda.device_count() < SIZE:
        raise ValueError(f"on GPUs this needs {SIZE} of them; got {torch.cuda.device_count()}")

    def medians(job, *arguments, **settings) -> dict[str, float]:
        found = in_processes(job, SIZE, *arguments, backend=backend, timeout=120.0, **settings)
        return {name: round(statistics.median(some), 6) for name, some in found[0].items()}

    shape = {"n_heads": HEADS, "d": WIDTH, "chunk": CHUNK}
    seconds: dict[str, dict[str, list[float]]] = {"full": {}, "causal": {}}
    for mask, of_ways in seconds.items():
        for n in LENGTHS:
            found = medians(jobs.time_ways, n, rounds=5, causal=mask == "causal", **shape)
            for name, one in found.items():
                of_ways.setdefault(name, []).append(one)
    return {
        "processes": SIZE,
        "heads": HEADS,
        "width": WIDTH,
        "chunk": CHUNK,
        "lengths": list(LENGTHS),
        "seconds": seconds,
        "messages": medians(jobs.time_messages, list(MESSAGES), 7),
        "products": medians(jobs.time_products, CHUNK, WIDTH, 30)["products"],
        "memory": _memory() if device == "cpu" else None,
        "torchrun": _torchrun(),
    }


def _memory() -> dict:
    """Peaks of one process of several, for one sequence, and the longest that a limit permits."""
    n, sizes = 2048, (1, 2, 4)
    torch.manual_seed(0)
    whole = tuple(torch.randn(n, WIDTH) for _ in range(3))
    peaks = {"plain": jobs.plain_peak(whole)}
    for size in sizes:
        found = in_processes(
            jobs.attend, size, "ring", whole, whole[2], chunk=64, counts_memory=True
        )
        peaks[str(size)] = max(one.peak for one in found)
    longest = {
        str(size): min(in_processes(jobs.longest, size, LIMIT, d=WIDTH, unit=UNIT, chunk=64)).n
        for size in sizes
    }
    return {"length": n, "peaks": peaks, "limit": LIMIT, "longest": longest}


def _torchrun() -> list[str]:
    """What PyTorch's own program for starting processes says of the comparison with one process."""
    program = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(SIZE)]
    ran = subprocess.run(
        [*program, "-m", "attn_tutorial.frontier.parallel"],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    return sorted(line for line in ran.stdout.splitlines() if line.startswith("rank"))
