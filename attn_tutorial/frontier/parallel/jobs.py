"""What each process does in the chapter and in its tests: functions that processes can import."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from attn_tutorial.core import attention
from attn_tutorial.frontier.memory import Memory
from attn_tutorial.frontier.parallel.peers import Peers
from attn_tutorial.frontier.parallel.training import train_together
from attn_tutorial.frontier.parallel.ways import (
    Allowed,
    Block,
    all_to_all_attention,
    cut,
    ring_attention,
)
from attn_tutorial.language_model import CausalLanguageModel
from attn_tutorial.masks import causal_mask


class Found(NamedTuple):
    """What one process has after attention, forward and backward.

    Attributes
    ----------
    output : float tensor, shape (…, part, d_v)
    gradients : three float tensors
        Of this process's query, key and value.
    bytes_forward, bytes_backward : int
        How much it sent.
    peak : int or None
        The most bytes of tensors that lived at the same time, its parts of the input included.
    """

    output: Tensor
    gradients: tuple[Tensor, Tensor, Tensor]
    bytes_forward: int
    bytes_backward: int
    peak: int | None


def attend(
    peers: Peers,
    way: str,
    whole: tuple[Tensor, Tensor, Tensor],
    downstream: Tensor,
    mask: Block | None = None,
    striped: bool = False,
    chunk: int = 128,
    counts_memory: bool = False,
) -> Found:
    """Attention of this process's part of query, key and value, and its gradients.

    Parameters
    ----------
    way : str
        "ring" or "all-to-all".
    whole : three float tensors, shape (…, n, d)
        Query, key and value of the whole sequence.
    downstream : float tensor, shape (…, n, d_v)
        The gradient of a loss with respect to the whole output.
    mask, striped, chunk
        As in `ring_attention`.
    counts_memory : bool
        Whether `peak` is wanted.
    """
    memory = Memory() if counts_memory else None
    with memory or nullcontext():
        own = [cut(one, peers.rank, peers.size, striped=striped) for one in whole]
        own = [one.contiguous().requires_grad_() for one in own]
        if way == "ring":
            output = ring_attention(*own, peers=peers, mask=mask, striped=striped, chunk=chunk)
        else:
            output = all_to_all_attention(*own, peers=peers, mask=mask, chunk=chunk)
        forward = peers.bytes_sent
        d_output = cut(downstream, peers.rank, peers.size, striped=striped)
        gradients = torch.autograd.grad(output, own, d_output)
    backward = peers.bytes_sent - forward
    return Found(output.detach(), gradients, forward, backward, memory and memory.peak)


def plain_peak(whole: tuple[Tensor, Tensor, Tensor]) -> int:
    """The most bytes of tensors that live at the same time in plain attention, on one process."""
    with Memory() as memory:
        own = [one.clone().requires_grad_() for one in whole]
        torch.autograd.grad(attention(*own)[0].sum(), own)
    return memory.peak


class Length(NamedTuple):
    """How many positions a process got through, and what lived at most then, in bytes."""

    n: int
    peak: int


def longest(peers: Peers, limit: int, *, d: int, unit: int, chunk: int) -> Length:
    """The longest sequence that ring attention gets through with so many bytes a process.

    Forward and backward, one head, no mask, in float32; lengths double from `unit`.

    Parameters
    ----------
    limit : int
        Bytes of tensors that may live at the same time in each process.
    d : int
        The width of queries, keys and values.
    """
    found = Length(0, 0)
    part = unit // peers.size
    while True:
        with Memory() as memory:
            own = [torch.randn(part, d, requires_grad=True) for _ in range(3)]
            output = ring_attention(*own, peers=peers, chunk=chunk)
            torch.autograd.grad(output.sum(), own)
        too_many = peers.sum(torch.tensor([memory.peak > limit]).long())
        if too_many:  # in any process: what one decides alone, the others would wait for
            return found
        found = Length(part * peers.size, memory.peak)
        part *= 2


def train(
    peers: Peers,
    batches: list[Tensor],
    settings: dict[str, Any],
    *,
    seed: int = 0,
    library: bool = False,
    rate: float = 3e-3,
) -> tuple[list[float], Tensor, int]:
    """Train a small language model in float64 together.

    Parameters
    ----------
    batches : int tensors, shape (batch, n)
    settings : dict
        Of `CausalLanguageModel`.
    library : bool
        Whether DistributedDataParallel sums the gradients.

    Returns
    -------
    losses : list of float
    parameters : float tensor
        All parameters afterwards, one behind the other.
    bytes_sent : int
        By `Peers`; what the library sends itself is not counted.
    """
    torch.manual_seed(seed)
    model = CausalLanguageModel(**settings, dropout=0.0).double()
    wrapped = DistributedDataParallel(model) if library else None
    losses = train_together(model, batches, peers=peers, rate=rate, wrapped=wrapped)
    parameters = torch.cat([one.detach().reshape(-1) for one in model.parameters()])
    return losses, parameters, peers.bytes_sent


def compare(peers: Peers, n: int = 64, d: int = 16) -> str:
    """Causal attention of n positions a process, by the ring and by `attention`; what came out."""
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    torch.manual_seed(0)
    n_whole = n * peers.size
    whole = [torch.randn(n_whole, d, dtype=torch.float64).to(device) for _ in range(3)]
    own = [cut(one, peers.rank, peers.size) for one in whole]
    output = ring_attention(*own, peers=peers, mask=Allowed(causal=True))
    wanted, _ = attention(*whole, mask=causal_mask(n_whole, n_whole))
    wrong = (output - cut(wanted, peers.rank, peers.size)).abs().max()
    return (
        f"rank {peers.rank} of {peers.size}: {'equal' if wrong < 1e-12 else 'NOT EQUAL'} to one "
        f"process, {peers.bytes_sent:,} bytes sent"
    )


# --- times -----------------------------------------------------------------------------------


def side_by_side(
    peers: Peers, ways: dict[str, Callable[[], object]], alone: set[str], rounds: int
) -> dict[str, list[float]]:
    """Seconds of each way in each round, on rank 0; in `alone`, the other ranks wait meanwhile."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, run in ways.items():
            dist.barrier()
            start = time.perf_counter()
            if peers.rank == 0 or name not in alone:
                run()
            if name not in alone:
                dist.barrier()  # as slow as the slowest
            if number:  # the first round does not count
                seconds[name].append(time.perf_counter() - start)
    return seconds


def time_ways(
    peers: Peers, n: int, *, n_heads: int, d: int, chunk: int, rounds: int, causal: bool
) -> dict[str, list[float]]:
    """Seconds of attention, forward and backward, by one process and by all of them."""
    torch.manual_seed(0)
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    whole = [torch.randn(1, n_heads, n, d, device=device) for _ in range(3)]
    parts = [cut(one, peers.rank, peers.size).clone() for one in whole]
    mask = Allowed(causal=True) if causal else None
    single = Peers(0, 1)

    def run(function: Callable[..., Tensor], given: list[Tensor], **settings: Any) -> None:
        given = [one.requires_grad_() for one in given]
        output = function(*given, mask=mask, chunk=chunk, **settings)
        torch.autograd.grad(output.sum(), given)

    ways = {
        "one process": lambda: run(ring_attention, whole, peers=single),
        "ring": lambda: run(ring_attention, parts, peers=peers),
        "all-to-all": lambda: run(all_to_all_attention, parts, peers=peers),
    }
    if causal:
        ways["ring, striped"] = lambda: run(ring_attention, parts, peers=peers, striped=True)
    return side_by_side(peers, ways, {"one process"}, rounds)


def time_messages(peers: Peers, sizes: list[int], rounds: int) -> dict[str, list[float]]:
    """Seconds in which every process passes on a message of so many bytes to the next."""
    device = "cuda" if dist.get_backend() == "nccl" else "cpu"
    ways = {}
    for size in sizes:
        message = torch.zeros(size // 4, device=device)
        ways[str(size)] = lambda message=message: peers.pass_on(message)()
    return side_by_side(peers, ways, set(), rounds)


def time_products(peers: Peers, chunk: int, d: int, rounds: int) -> dict[str, list[float]]:
    """Seconds of the two products of one piece of the ring: scores, and output."""
    one = torch.randn(chunk, d)
    return side_by_side(peers, {"products": lambda: (one @ one.T) @ one}, set(), rounds)


# --- failures --------------------------------------------------------------------------------


def fail(peers: Peers, how: str, rank: int) -> None:
    """One process raises an error ("error"), dies ("death") or never answers ("silence")."""
    if peers.rank == rank:
        if how == "error":
            raise ArithmeticError("this rank was told to fail")
        if how == "death":
            os._exit(3)
        time.sleep(600)
    peers.sum(torch.ones(3))
