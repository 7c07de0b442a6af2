"""What one of several processes knows of the others: it can send them tensors.

A process has a number, its rank, from 0 to size − 1, and stands in a ring: what it passes on goes
to the next rank, and the last rank's to the first. All else is made of single messages here, so
that every byte that leaves a process is counted in one place.
"""

from __future__ import annotations

import math
import queue
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

Messages = Sequence[tuple[int, Tensor]]


class Peers:
    """One process among several. What carries the messages is left to the subclasses.

    Parameters
    ----------
    rank, size : int
        Which process this is, and how many there are.

    Attributes
    ----------
    bytes_sent : int
        How much has left this process for others; what it sends to itself is not sent.
    """

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size
        self.bytes_sent = 0

    def exchange(self, outgoing: Messages, incoming: Messages) -> Callable[[], None]:
        """Begin to send and to receive.

        Parameters
        ----------
        outgoing : pairs (rank, tensor)
            Nothing may be written into these tensors before the function that is returned was
            called.
        incoming : pairs (rank, tensor)
            Where to put what arrives. Two messages of one sender arrive in the order in which
            they were sent.

        Returns
        -------
        function without arguments
            Waits until all is sent and received.
        """
        outgoing = [(to, tensor.contiguous()) for to, tensor in outgoing]
        self.bytes_sent += sum(tensor.nbytes for _, tensor in outgoing)
        return self._exchange(outgoing, incoming)

    def _exchange(self, outgoing: Messages, incoming: Messages) -> Callable[[], None]:
        raise NotImplementedError

    def pass_on(self, *tensors: Tensor) -> Callable[[], list[Tensor]]:
        """Begin to send tensors to the next rank; the function returned waits for the last's.

        All ranks pass on tensors of the same shapes and dtypes.
        """
        if self.size == 1:
            return lambda: list(tensors)
        before, after = (self.rank - 1) % self.size, (self.rank + 1) % self.size
        received = [torch.empty_like(one, memory_format=torch.contiguous_format) for one in tensors]
        wait = self.exchange([(after, one) for one in tensors], [(before, one) for one in received])

        def arrived() -> list[Tensor]:
            wait()
            return received

        return arrived

    def swap(self, parts: Sequence[Tensor]) -> list[Tensor]:
        """Part i goes to rank i; what comes from rank i stands at place i ("all-to-all")."""
        if len(parts) != self.size:
            raise ValueError(f"parts must be as many as processes, {self.size}; got {len(parts)}")
        received = [torch.empty_like(one, memory_format=torch.contiguous_format) for one in parts]
        received[self.rank] = parts[self.rank]
        others = [rank for rank in range(self.size) if rank != self.rank]
        self.exchange(
            [(rank, parts[rank]) for rank in others], [(rank, received[rank]) for rank in others]
        )()
        return received

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum of all ranks' tensors, on every rank the same to the last bit ("all-reduce").

        In a ring (Patarasuk and Yuan 2009): the tensor is cut into as many pieces as there are
        ranks. Each piece travels once round the ring to be summed, and once more to tell the sum.
        """
        if self.size == 1 or tensor.numel() == 0:
            return tensor
        length = math.ceil(tensor.numel() / self.size)
        flat = tensor.new_zeros(self.size * length)
        flat[: tensor.numel()] = tensor.reshape(-1)
        pieces = list(flat.split(length))
        for step in range(self.size - 1):  # sum
            (piece,) = self.pass_on(pieces[(self.rank - step) % self.size])()
            place = (self.rank - step - 1) % self.size
            pieces[place] = piece + pieces[place]
        for step in range(self.size - 1):  # tell
            place = (self.rank - step) % self.size
            (pieces[place],) = self.pass_on(pieces[(place + 1) % self.size])()
        return torch.cat(pieces)[: tensor.numel()].reshape(tensor.shape)


class Processes(Peers):
    """The processes of torch.distributed's default group, which must have been set up."""

    def __init__(self) -> None:
        super().__init__(dist.get_rank(), dist.get_world_size())

    def _exchange(self, outgoing: Messages, incoming: Messages) -> Callable[[], None]:
        operations = [dist.P2POp(dist.isend, tensor, to) for to, tensor in outgoing]
        operations += [dist.P2POp(dist.irecv, tensor, source) for source, tensor in incoming]
        works = dist.batch_isend_irecv(operations) if operations else []

        def wait() -> None:
            for work in works:
                work.wait()

        return wait


class Stopped(ConnectionError):
    """Another thread has failed, and will send nothing any more."""


class Threads(Peers):
    """Threads of one process that send each other copies: to try out, and for tests.

    Parameters
    ----------
    rank, size : int
    boxes : dict of queues by (sender, receiver)
    timeout : float
        Seconds for which a message is waited for.
    """

    def __init__(
        self,
        rank: int,
        size: int,
        boxes: dict[tuple[int, int], queue.SimpleQueue[Any]],
        timeout: float,
    ) -> None:
        super().__init__(rank, size)
        self.boxes, self.timeout = boxes, timeout

    def _exchange(self, outgoing: Messages, incoming: Messages) -> Callable[[], None]:
        for to, tensor in outgoing:
            self.boxes[self.rank, to].put(tensor.detach().clone())

        def wait() -> None:
            for source, tensor in incoming:
                tensor.copy_(self._receive(source).reshape(tensor.shape))

        return wait

    def _receive(self, source: int) -> Tensor:
        try:
            message = self.boxes[source, self.rank].get(timeout=self.timeout)
        except queue.Empty:
            raise TimeoutError(
                f"rank {self.rank} had no message from rank {source} for {self.timeout:g} s"
            ) from None
        if message is None:
            raise Stopped(f"rank {source} has stopped")
        return message

    def stop(self) -> None:
        """Tell the others that nothing will come any more."""
        for (sender, _), box in self.boxes.items():
            if sender == self.rank:
                box.put(None)
