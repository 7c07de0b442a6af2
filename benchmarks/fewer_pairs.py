"""Seconds and bytes of attention over fewer pairs: a window, blocks, and FlexAttention."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable

import torch
import torch._inductor.config
import torch.nn.functional as F
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention
from torch.utils.flop_counter import FlopCounterMode

from attn_tutorial import attention
from attn_tutorial.frontier.fewer_pairs.blocks import block_attention
from attn_tutorial.frontier.fewer_pairs.patterns import bigbird_layout
from attn_tutorial.frontier.fewer_pairs.windows import pairs_computed, window_attention
from attn_tutorial.frontier.memory import Memory
from attn_tutorial.masks import window_mask
from benchmarks.timing import side_by_side

N_HEADS, WIDTH, WINDOW, BLOCK = 2, 64, 128, 64
LENGTHS = {"cpu": (512, 1024, 2048, 4096), "cuda": (2048, 4096, 8192, 16384)}
BLOCKS = {"cpu": (1, 8, 32, 128, 512), "cuda": (1, 8, 32, 128, 512)}


def measure(device: str) -> dict:
    """By length: seconds, bytes and multiplications. By block: seconds and bytes."""
    found: dict = {
        "heads": N_HEADS,
        "width": WIDTH,
        "window": WINDOW,
        "lengths": list(LENGTHS[device]),
    }
    for kind in ("seconds", "bytes", "multiplications"):
        found[kind] = {}
    for n in LENGTHS[device]:
        given = _given(n, device)
        ways = _ways(n, device)
        seconds = side_by_side(_runs(ways, given), device=device, rounds=5)
        for name, way in ways.items():
            found["seconds"].setdefault(name, []).append(round(seconds[name], 6))
            found["bytes"].setdefault(name, []).append(_bytes(way, given))
            counter = FlopCounterMode(display=False)
            with counter:
                way(*given)
            found["multiplications"].setdefault(name, []).append(counter.get_total_flops() // 2)
    found["blocks"] = _by_block(device)
    found["flex"] = _flex(device)
    return found


def _given(n: int, device: str) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(1, N_HEADS, n, WIDTH, generator=generator).to(device) for _ in range(3)]


def _ways(n: int, device: str) -> dict[str, Callable]:
    mask = torch.from_numpy(window_mask(n, n, left=WINDOW - 1, right=0)).to(device)
    layout = bigbird_layout(n // BLOCK, n_random=2)
    return {
        "plain": lambda q, k, v: attention(q, k, v)[0],
        "PyTorch": F.scaled_dot_product_attention,
        "PyTorch with a mask": lambda q, k, v: F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask
        ),
        "window on its pairs": lambda q, k, v: window_attention(q, k, v, left=WINDOW - 1),
        "BigBird's blocks": lambda q, k, v: block_attention(q, k, v, layout, block=BLOCK),
    }


def _runs(ways: dict[str, Callable], given: list[torch.Tensor]) -> dict[str, Callable]:
    return {name: lambda way=way: way(*given) for name, way in ways.items()}


def _bytes(way: Callable, given: list[torch.Tensor]) -> int:
    with Memory() as memory:
        way(*given)
    return memory.peak


def _by_block(device: str) -> dict:
    """The same window at one length, with more or fewer queries in a block."""
    n = 2048
    given = _given(n, device)
    ways = {
        str(block): lambda q, k, v, block=block: window_attention(
            q, k, v, left=WINDOW - 1, block=block
        )
        for block in BLOCKS[device]
    }
    seconds = side_by_side(_runs(ways, given), device=device, rounds=5)
    return {
        "n": n,
        "block": list(BLOCKS[device]),
        "seconds": [round(seconds[name], 6) for name in ways],
        "bytes": [_bytes(way, given) for way in ways.values()],
        "pairs": [pairs_computed(n, left=WINDOW - 1, block=block) for block in BLOCKS[device]],
    }


def _flex(device: str) -> dict:
    """FlexAttention with the same window: as it stands, and compiled where that is possible."""
    n = 2048
    given = _given(n, device)

    def window(batch, head, query, key):
        return (key <= query) & (query - key < WINDOW)

    blocks: BlockMask = create_block_mask(window, None, None, n, n, device=device)
    wanted = window_attention(*given, left=WINDOW - 1)
    ways = {"window on its pairs": lambda q, k, v: window_attention(q, k, v, left=WINDOW - 1)}
    found = {"n": n, "gradient": None, "compiled": None, "largest difference": {}}
    candidates = {"as it stands": flex_attention, "compiled": torch.compile(flex_attention)}
    # What an earlier run compiled is not taken from the disk: the first call shall show its price.
    fresh = torch._inductor.config.patch(force_disable_caches=True)
    with warnings.catch_warnings(), fresh:
        warnings.simplefilter("ignore")
        for name, function in candidates.items():
            start = time.perf_counter()
            try:
                difference = (function(*given, block_mask=blocks) - wanted).abs().max().item()
            except Exception as error:
                found[name] = f"{type(error).__name__}"
                continue
            found["largest difference"][name] = difference
            found[f"first call, {name}"] = round(time.perf_counter() - start, 3)
            ways[name] = lambda q, k, v, function=function: function(q, k, v, block_mask=blocks)
        try:
            asked = [tensor.clone().requires_grad_() for tensor in given]
            flex_attention(*asked, block_mask=blocks).sum().backward()
            found["gradient"] = "computed"
        except NotImplementedError as error:
            found["gradient"] = f"{type(error).__name__}: {error}"
        found["seconds"] = {
            name: round(seconds, 6)
            for name, seconds in side_by_side(_runs(ways, given), device=device, rounds=5).items()
        }
    found["compiled"] = "compiled" in ways
    return found
