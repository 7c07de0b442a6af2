"""Seconds and bytes of attention, forward and backward: plain, in chunks, and by PyTorch."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from attn_tutorial import attention
from attn_tutorial.frontier.chunked import chunked_attention
from attn_tutorial.frontier.memory import Memory
from benchmarks.timing import side_by_side

WIDTH = 64
LENGTHS = {"cpu": (256, 512, 1024, 2048, 4096), "cuda": (1024, 2048, 4096, 8192, 16384)}
CHUNK = {"cpu": 256, "cuda": 2048}
# How the time depends on the size of a chunk, at one length.
ONE_LENGTH = {"cpu": 1024, "cuda": 8192}
CHUNKS = {"cpu": (32, 64, 128, 256, 512, 1024), "cuda": (128, 256, 512, 1024, 2048, 4096, 8192)}
ENGINES = ("MATH", "FLASH_ATTENTION", "EFFICIENT_ATTENTION", "CUDNN_ATTENTION")
ROUNDS = 5

Way = Callable[[Tensor, Tensor, Tensor], Tensor]


def plain(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    return attention(query, key, value)[0]


def measure(device: str) -> dict:
    """Each way at each length, for one head: the median seconds, and the peak of memory.

    Memory is that of the tensors which live at the same time, the arguments left out; on "cuda"
    what the allocator gave, which holds the kernels' own needs too.
    """
    ways: dict[str, Way] = {
        "plain": plain,
        "chunks": partial(chunked_attention, chunk=CHUNK[device]),
        "chunks, causal": partial(chunked_attention, chunk=CHUNK[device], causal=True),
        "PyTorch": F.scaled_dot_product_attention,
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    peaks: dict[str, list[int]] = {name: [] for name in ways}
    for n in LENGTHS[device]:
        given = _given(n, device)
        for name, found in _seconds(ways, given, device).items():
            seconds[name].append(found)
        for name, way in ways.items():
            peaks[name].append(_peak(partial(_run, way, given), device))

    n = ONE_LENGTH[device]
    given = _given(n, device)
    sizes = {
        "plain": plain,
        **{str(size): partial(chunked_attention, chunk=size) for size in CHUNKS[device]},
    }
    by_size = _seconds(sizes, given, device)
    engines = {name: partial(_by_engine, name) for name in ENGINES}
    there = {name: way for name, way in engines.items() if _works(way, given)}
    return {
        "width": WIDTH,
        "dtype": "float32",
        "chunk": CHUNK[device],
        "lengths": list(LENGTHS[device]),
        "seconds": seconds,
        "bytes": peaks,
        "one length": n,
        "seconds by chunk": by_size,
        "engines there": list(there),
        "seconds by engine": _seconds(there, given, device),
    }


def _given(n: int, device: str) -> list[Tensor]:
    torch.manual_seed(n)
    return [torch.randn(1, 1, n, WIDTH, device=device, requires_grad=True) for _ in range(3)]


def _run(way: Way, given: list[Tensor]) -> tuple[Tensor, ...]:
    return torch.autograd.grad(way(*given).sum(), given)


def _seconds(ways: dict[str, Way], given: list[Tensor], device: str) -> dict[str, float]:
    runs = {name: partial(_run, way, given) for name, way in ways.items()}
    found = side_by_side(runs, device=device, rounds=ROUNDS)
    return {name: _rounded(one) for name, one in found.items()}


def _rounded(seconds: float, digits: int = 3) -> float:
    return round(seconds, digits - 1 - math.floor(math.log10(seconds)))


def _peak(run: Callable[[], object], device: str) -> int:
    if device == "cuda":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        run()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before
    with Memory() as memory:
        run()
    return memory.peak


def _by_engine(name: str, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    with sdpa_kernel(SDPBackend.__members__[name]):
        return F.scaled_dot_product_attention(query, key, value)


def _works(way: Way, given: list[Tensor]) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch says why an engine refuses
        try:
            way(*given)
        except RuntimeError:
            return False
    return True
