"""Seconds of layers over the length, of a layer's parts, and of products from one row to many."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from attn_tutorial.frontier.costs import attention_parts, linear
from attn_tutorial.layers import MultiHeadAttention
from benchmarks.timing import side_by_side

WIDTH, HEADS = 64, 1  # of the layers over the length
LENGTHS = {
    "cpu": {1: (64, 128, 256, 512, 1024, 2048, 4096), 16: (64, 128, 256, 512, 1024, 2048)},
    "cuda": {1: (256, 512, 1024, 2048, 4096, 8192, 16384), 16: (256, 512, 1024, 2048, 4096, 8192)},
}
TRAINED = {"cpu": 2048, "cuda": 8192}  # the longest sequence of one step of training
LAYER = {  # n_heads and d_model of the layer that is taken apart, and at which lengths
    "cpu": (4, 256, (128, 512, 2048)),
    "cuda": (8, 1024, (512, 2048, 8192)),
}
SQUARE = {"cpu": 4096, "cuda": 8192}  # the matrix that meets one row, or many
ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
CACHED = {"cpu": 16_384, "cuda": 131_072}  # tokens in the cache, of 8 heads of width 64


def measure(device: str) -> dict:
    """All measurements, in JSON types; times in seconds."""
    torch.manual_seed(0)
    return {
        "limits": limits(device),
        "layers": layers(device),
        "parts": parts(device),
        "rows": rows(device),
        "decoding": decoding(device),
    }


def limits(device: str) -> dict:
    """What the machine can do: operations a second, and bytes a second."""
    size = {"cpu": 2048, "cuda": 8192}[device]
    matrix = torch.randn(size, size, device=device)
    many = torch.randn(2**25 if device == "cpu" else 2**28, device=device)
    target = torch.empty_like(many)
    seconds = side_by_side(
        {"product": lambda: matrix @ matrix, "copy": lambda: target.copy_(many)}, device=device
    )
    return {
        "peak": 2 * size**3 / seconds["product"],
        "bandwidth": 2 * many.nbytes / seconds["copy"],
    }


def layers(device: str) -> list[dict]:
    """Attention, plain and fused, a GRU and a convolution over the length."""
    attention = MultiHeadAttention(WIDTH, HEADS).to(device)
    gru = nn.GRU(WIDTH, WIDTH, batch_first=True).to(device)
    convolution = nn.Conv1d(WIDTH, WIDTH, 3, padding=1).to(device)
    ways = {
        "plain attention": lambda x: plain_layer(attention, x),
        "fused attention": lambda x: attention(x)[0],
        "GRU": lambda x: gru(x)[0],
        "convolution": lambda x: convolution(x.mT),
    }
    found = []
    for batch, lengths in LENGTHS[device].items():
        for training in (False, True):
            if training and batch > 1:
                continue
            some = [n for n in lengths if not training or n <= TRAINED[device]]
            seconds: dict[str, list[float]] = {name: [] for name in ways}
            for n in some:
                x = torch.randn(batch, n, WIDTH, device=device)
                one = side_by_side(
                    {name: runner(way, x, training) for name, way in ways.items()},
                    device=device,
                    rounds=5,
                )
                for name, value in one.items():
                    seconds[name].append(round(value, 7))
            found.append(
                {"batch": batch, "training": training, "lengths": some, "seconds": seconds}
            )
    return found


def runner(way: Callable[[Tensor], Tensor], x: Tensor, training: bool) -> Callable[[], None]:
    """One forward pass, or one forward and backward."""

    def run():
        if training:
            way(x).sum().backward()
        else:
            with torch.no_grad():
                way(x)

    return run


def plain_layer(layer: MultiHeadAttention, x: Tensor) -> Tensor:
    """The layer with its three products in three lines, as the formulas count them."""
    query, key, value = (
        part(x).unflatten(-1, (layer.n_heads, layer.d_head)).transpose(1, 2)
        for part in (layer.query, layer.key, layer.value)
    )  # (batch, n_heads, n, d_head)
    weights = (query / math.sqrt(layer.d_head) @ key.mT).softmax(dim=-1)
    return layer.out((weights @ value).transpose(1, 2).flatten(2))


def parts(device: str) -> list[dict]:
    """Each part of a Transformer's layer by itself."""
    n_heads, d_model, lengths = LAYER[device]
    d_head, d_hidden = d_model // n_heads, 4 * d_model
    norm = nn.LayerNorm(d_model).to(device)
    square = nn.Linear(d_model, d_model).to(device)
    wide, narrow = (
        nn.Linear(*shape).to(device) for shape in ((d_model, d_hidden), (d_hidden, d_model))
    )
    found = []
    for n in lengths:
        x = torch.randn(n, d_model, device=device)
        hidden = torch.randn(n, d_hidden, device=device)
        query, key, value = torch.randn(3, n_heads, n, d_head, device=device)
        scores = torch.randn(n_heads, n, n, device=device)
        weights = scores.softmax(dim=-1)
        with torch.no_grad():
            seconds = side_by_side(
                {
                    "projections": lambda x=x: [square(x) for _ in range(3)],
                    "scores": lambda q=query, k=key: q @ k.mT,
                    "softmax": lambda s=scores: s.softmax(dim=-1),
                    "weighted sum": lambda w=weights, v=value: w @ v,
                    "output": lambda x=x: square(x),
                    "fused attention": lambda q=query, k=key, v=value: (
                        F.scaled_dot_product_attention(q[None], k[None], v[None])
                    ),
                    "feed-forward in": lambda x=x: wide(x),
                    "ReLU": lambda h=hidden: h.relu(),
                    "feed-forward out": lambda h=hidden: narrow(h),
                    "norms and sums": lambda x=x: [norm(x), norm(x), x + x, x + x],
                },
                device=device,
                rounds=5,
            )
        found.append(
            {
                "n": n,
                "d_model": d_model,
                "n_heads": n_heads,
                "seconds": {name: round(one, 7) for name, one in seconds.items()},
            }
        )
    return found


def rows(device: str) -> dict:
    """A product of some rows with a matrix that no cache holds."""
    d = SQUARE[device]
    matrix = torch.randn(d, d, device=device)
    given = {n: torch.randn(n, d, device=device) for n in ROWS}
    seconds = side_by_side(
        {str(n): lambda x=x: x @ matrix for n, x in given.items()}, device=device, rounds=5
    )
    return {
        "d": d,
        "rows": list(ROWS),
        "seconds": [round(seconds[str(n)], 7) for n in ROWS],
        "intensity": [linear(n, d, d, bias=False).intensity() for n in ROWS],
    }


def decoding(device: str) -> dict:
    """One new token's attention to a full cache: keys of eight heads, or of one for all eight."""
    n_k, n_heads, d_head = CACHED[device], 8, 64
    query = torch.randn(n_heads, 1, d_head, device=device)
    ways, formulas = {}, {}
    for n_kv_heads in (8, 1):
        key, value = torch.randn(2, n_kv_heads, n_k, d_head, device=device)
        grouped = query.reshape(n_kv_heads, -1, d_head)  # (n_kv_heads, group, d_head)

        def run(grouped=grouped, key=key, value=value):
            return (grouped @ key.mT / math.sqrt(d_head)).softmax(dim=-1) @ value

        ways[str(n_kv_heads)] = run
        found = attention_parts(1, n_heads * d_head, n_heads, cached=n_k - 1, n_kv_heads=n_kv_heads)
        formulas[str(n_kv_heads)] = found["scores"] + found["softmax"] + found["weighted sum"]
    with torch.no_grad():
        seconds = side_by_side(ways, device=device)
    return {
        "cached": n_k,
        "n_heads": n_heads,
        "d_head": d_head,
        "key heads": [int(name) for name in ways],
        "seconds": [round(seconds[name], 7) for name in ways],
        "intensity": [formulas[name].intensity() for name in ways],
        "operations": [formulas[name].operations for name in ways],
    }
