"""How much memory a computation asks for: counted tensor by tensor, the same on every machine."""

from __future__ import annotations

import weakref
from collections.abc import Iterator

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class Memory(TorchDispatchMode):
    """Counts the bytes of tensors that are made within it, and may set them a limit.

    What counts are the storages that live at the same time, views once. What a kernel needs for
    itself, and what was there before, does not count. Tensors on the device "meta" count as if they
    held numbers, so that a computation can be measured without being done.

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
        before = {_place(tensor) for tensor in _tensors((args, kwargs))}
        result = function(*args, **(kwargs or {}))
        for tensor in _tensors(result):
            if _place(tensor) not in before:
                self._count(tensor.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        place = storage._cdata
        if place in self._known:
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


def _tensors(nested: object) -> Iterator[torch.Tensor]:
    """The tensors in arguments or results; sparse ones have no storage of their own."""
    if isinstance(nested, torch.Tensor):
        if nested.layout == torch.strided:
            yield nested
    elif isinstance(nested, list | tuple | dict):
        for part in nested.values() if isinstance(nested, dict) else nested:
            yield from _tensors(part)


def _place(tensor: torch.Tensor) -> int:
    return tensor.untyped_storage()._cdata
