"""How much memory a computation asks for: counted tensor by tensor, the same on every machine."""

from __future__ import annotations

import weakref

import torch
from torch.utils._pytree import tree_leaves
from torch.utils._python_dispatch import TorchDispatchMode


class Memory(TorchDispatchMode):
    """Counts the bytes of tensors that are made within it, and may set them a limit.

    What counts are the storages that live at the same time, views once. What a kernel needs for
    itself, and what was there before, does not count.

    Parameters
    ----------
    limit : int, optional
        Bytes. Whatever would live beyond it raises MemoryError.

    Attributes
    ----------
    living, peak : int
        Bytes that live now, and at most so far.

    Raises
    ------
    ValueError
        Where the limit is not positive.
    """

    def __init__(self, limit: int | None = None) -> None:
        super().__init__()
        if limit is not None and limit <= 0:
            raise ValueError(f"limit must be positive; got {limit}")
        self.limit = limit
        self.living = self.peak = 0
        self._known: dict[int, int] = {}

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        before = {_place(leaf) for leaf in tree_leaves((args, kwargs)) if _is_tensor(leaf)}
        result = function(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if _is_tensor(leaf) and _place(leaf) not in before:
                self._count(leaf.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        place = storage._cdata
        if place in self._known or storage.nbytes() == 0:
            return
        self._known[place] = storage.nbytes()
        self.living += storage.nbytes()
        weakref.finalize(storage, self._forget, place)
        self.peak = max(self.peak, self.living)
        if self.limit is not None and self.living > self.limit:
            raise MemoryError(
                f"{self.living:,} bytes would live at the same time; the limit is {self.limit:,}"
            )

    def _forget(self, place: int) -> None:
        self.living -= self._known.pop(place, 0)


def _is_tensor(leaf: object) -> bool:
    return isinstance(leaf, torch.Tensor) and leaf.layout == torch.strided


def _place(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata
