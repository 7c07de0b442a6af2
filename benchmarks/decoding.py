"""Seconds of one decoding step of an attention layer, by the length of what its cache holds."""

from __future__ import annotations

import torch
from torch import Tensor

from attn_tutorial.frontier.decoding.grouped import one_step
from attn_tutorial.frontier.decoding.latent import LatentAttention, LatentCache
from attn_tutorial.frontier.decoding.sizes import numbers_in_heads, numbers_in_latent
from attn_tutorial.frontier.decoding.stores import quantise, restore
from attn_tutorial.layers import MultiHeadAttention
from benchmarks.timing import side_by_side

D_MODEL, N_HEADS, D_HEAD, D_LATENT, D_ROTARY = 512, 8, 64, 256, 32  # widths as 4 and 1/2 heads
BATCH = {"cpu": 4, "cuda": 64}
LENGTHS = {"cpu": (256, 1024, 4096), "cuda": (1024, 4096, 16384)}
N_KV_HEADS = {"multi-head": 8, "grouped": 2, "multi-query": 1}


class Full:
    """A cache that has room for one more token and gives all of it, so that nothing is copied."""

    def __init__(self, *stored: Tensor) -> None:
        self.stored = stored

    def write(self, *new: Tensor) -> tuple[Tensor, ...]:
        for tensor, last in zip(self.stored, new, strict=True):
            tensor[..., -1:, :] = last
        return self.stored


class FullLatent(LatentCache):
    """The same for a latent layer."""

    def __init__(self, kept: Tensor) -> None:
        self.kept = kept

    @property
    def length(self) -> int:
        return self.kept.shape[1] - 1

    def append(self, new: Tensor) -> None:
        self.kept[:, -1:] = new


def in_heads(layer: MultiHeadAttention, x: Tensor, cache: Full) -> Tensor:
    """One token through a layer with heads of keys and values."""
    split = (-1, layer.d_head)
    query, key, value = (
        linear(x[:, 0]).unflatten(-1, split) for linear in (layer.query, layer.key, layer.value)
    )
    keys, values = cache.write(key[:, :, None], value[:, :, None])
    return layer.out(one_step(query, keys, values).flatten(1))


def ways(length: int, device: str) -> tuple[dict, dict]:
    """Functions that make one step with a full cache, and how many numbers each kind keeps."""
    batch = BATCH[device]
    x = torch.randn(batch, 1, D_MODEL, device=device)
    steps, numbers = {}, {}
    for name, heads in N_KV_HEADS.items():
        layer = MultiHeadAttention(D_MODEL, N_HEADS, n_kv_heads=heads).to(device)
        stored = torch.randn(2, batch, heads, length, D_HEAD, device=device)
        cache = Full(*stored)
        steps[name] = lambda layer=layer, cache=cache: in_heads(layer, x, cache)
        numbers[name] = numbers_in_heads(heads, D_HEAD)
    codes = [quantise(torch.randn(batch, 8, length, D_HEAD, device=device), -1) for _ in range(2)]
    layer = MultiHeadAttention(D_MODEL, N_HEADS).to(device)
    steps["multi-head, 8 bits"] = lambda layer=layer: in_heads(layer, x, Full(*map(restore, codes)))
    numbers["multi-head, 8 bits"] = numbers["multi-head"]
    kept = torch.randn(batch, length, D_LATENT + D_ROTARY, device=device)
    for absorbed in (True, False):
        name = "latent, absorbed" if absorbed else "latent, keys made"
        layer = LatentAttention(
            D_MODEL, N_HEADS, D_LATENT, d_rotary=D_ROTARY, absorbed=absorbed
        ).to(device)
        cache = FullLatent(kept)
        steps[name] = lambda layer=layer, cache=cache: layer(x, cache=cache)
        numbers[name] = numbers_in_latent(D_LATENT, D_ROTARY)
    return steps, numbers


def measure(device: str) -> dict:
    """The median seconds of one step of each kind at each length."""
    seconds: dict[str, list[float]] = {}
    numbers: dict[str, int] = {}
    with torch.no_grad():
        for length in LENGTHS[device]:
            steps, numbers = ways(length, device)
            for name, one in side_by_side(steps, device=device).items():
                seconds.setdefault(name, []).append(round(one, 7))
    return {
        "batch": BATCH[device],
        "d_model": D_MODEL,
        "n_heads": N_HEADS,
        "lengths": list(LENGTHS[device]),
        "numbers of a token": numbers,
        "seconds": seconds,
    }
