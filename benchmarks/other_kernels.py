"""Seconds of causal attention and of its linear rivals over length, and what each keeps."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from attn_tutorial import attention, causal_mask
from attn_tutorial.frontier.other_kernels.delta import delta_rule, recurrent_delta_rule
from attn_tutorial.frontier.other_kernels.linear import (
    elu_plus_one,
    linear_attention,
    recurrent_linear_attention,
)
from benchmarks.timing import side_by_side

WIDTH, CHUNK = 64, 64
LENGTHS = {"cpu": (256, 512, 1024, 2048, 4096), "cuda": (1024, 2048, 4096, 8192, 16384)}


def measure(device: str) -> dict:
    """The median seconds of one head's forward pass over n positions, and of one more position."""
    whole: dict[str, list[float]] = {}
    one_more: dict[str, list[float]] = {}
    kept: dict[str, list[int]] = {}
    for n in LENGTHS[device]:
        query, key, value = (torch.randn(1, n, WIDTH, device=device) for _ in range(3))
        key = F.normalize(key, dim=-1)
        strength = torch.rand(1, n, device=device)
        mask = torch.from_numpy(causal_mask(n, n)).to(device)
        features = elu_plus_one(query), elu_plus_one(key), value
        _note(
            whole,
            {
                "softmax, plain": lambda q=query, k=key, v=value, m=mask: attention(
                    q, k, v, mask=m
                ),
                "softmax, PyTorch": lambda q=query, k=key, v=value: _by_torch(q, k, v, causal=True),
                "linear, chunks": lambda f=features: linear_attention(*f, chunk=CHUNK),
                "linear, steps": lambda f=features: recurrent_linear_attention(*f),
                "delta, chunks": lambda q=query, k=key, v=value, s=strength: delta_rule(
                    q, k, v, s, chunk=CHUNK
                ),
            },
            device,
        )
        last = [x[:, -1:] for x in features]
        _, memory = linear_attention(*features)
        _, corrected = delta_rule(query, key, value, strength)
        _note(
            one_more,
            {
                "softmax, PyTorch": lambda q=query, k=key, v=value: _by_torch(q[:, -1:], k, v),
                "linear, steps": lambda x=last, m=memory: recurrent_linear_attention(*x, memory=m),
                "delta, steps": lambda q=query, k=key, v=value, s=strength, m=corrected: (
                    recurrent_delta_rule(q[:, -1:], k[:, -1:], v[:, -1:], s[:, -1:], memory=m)
                ),
            },
            device,
        )
        for name, tensors in (
            ("softmax", (key, value)),
            ("linear", (memory,)),
            ("delta", (corrected,)),
        ):
            kept.setdefault(name, []).append(sum(tensor.nbytes for tensor in tensors))
    return {
        "width": WIDTH,
        "chunk": CHUNK,
        "lengths": list(LENGTHS[device]),
        "seconds": whole,
        "seconds of one more position": one_more,
        "bytes kept": kept,
    }


def _note(seconds: dict[str, list[float]], candidates: dict, device: str) -> None:
    for name, one in side_by_side(candidates, device=device).items():
        seconds.setdefault(name, []).append(float(f"{one:.3g}"))


def _by_torch(query: Tensor, key: Tensor, value: Tensor, *, causal: bool = False) -> Tensor:
    return F.scaled_dot_product_attention(query, key, value, is_causal=causal)
