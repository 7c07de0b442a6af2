"""What a computation costs, counted while it runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode


def count_parameters(module: nn.Module) -> int:
    """How many numbers the module learns, shared ones once."""
    return sum(parameter.numel() for parameter in module.parameters())


def count_operations(run: Callable[[], object]) -> int:
    """Multiplications and additions in the matrix products of a computation, by torch's counter.

    The counter knows no operations of the fused attention for processors (it counts none), so
    `scaled_dot_product_attention` is made to use its plain way.
    """
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        run()
    return counter.get_total_flops()


def count_saved(run: Callable[[], object]) -> int:
    """The bytes that a computation keeps for its backward pass, parameters not counted.

    What counts are the storages of the tensors that autograd saves, each once.
    """
    kept: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        whole = tensor if tensor._base is None else tensor._base
        if not isinstance(whole, nn.Parameter):
            kept[tensor.untyped_storage()._cdata] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = run()  # held until the end, so that no storage's place is used again
    size = sum(tensor.untyped_storage().nbytes() for tensor in kept.values())
    del result
    return size


def count_moved(run: Callable[[], object]) -> Counter[str]:
    """The bytes that each kind of operation of a computation reads and writes.

    Views move nothing. A tensor that two operations read counts twice: caches are not modelled.

    Returns
    -------
    Counter
        Bytes by the operation's name: "addmm", "bmm", "_softmax" and others.
    """
    with _Moved() as moved:
        run()
    return moved.bytes


class _Moved(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.bytes: Counter[str] = Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if not function.is_view:
            tensors = [x for x in tree_leaves((args, kwargs, result)) if isinstance(x, Tensor)]
            name = function.name().removeprefix("aten::").partition(".")[0]
            self.bytes[name] += sum(tensor.nbytes for tensor in tensors)
        return result


PRODUCTS = {"MmBackward0", "AddmmBackward0", "BmmBackward0", "ConvolutionBackward0"}


def longest_chain(output: Tensor) -> int:
    """How many matrix products, at most, had to wait for one another on the way to an output.

    Parameters
    ----------
    output : float tensor
        Of a computation that autograd has recorded, of matrix products and convolutions that are
        not fused with anything else.

    Raises
    ------
    ValueError
        Where autograd recorded nothing.
    """
    if output.grad_fn is None:
        raise ValueError("output must come from a computation that autograd recorded")
    longest: dict[object, int] = {}
    waiting = [output.grad_fn]
    while waiting:
        node = waiting[-1]
        before = [other for other, _ in node.next_functions if other is not None]
        missing = [other for other in before if other not in longest]
        if missing:
            waiting += missing
            continue
        waiting.pop()
        deepest = max((longest[other] for other in before), default=0)
        longest[node] = deepest + (node.name() in PRODUCTS)
    return longest[output.grad_fn]
