"""Training on several machines that share the batch: the same steps as one machine takes.

Each process has the whole model and some of the examples. Before a step the gradients of all
processes are summed. Li and others ("PyTorch Distributed", 2020) describe PyTorch's own way,
`DistributedDataParallel`.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from attn_tutorial.frontier.parallel.peers import Peers
from attn_tutorial.language_model import CausalLanguageModel

Tokens = Int[Tensor, "batch n"]


def share(batch: Tokens, peers: Peers) -> Tokens:
    """This process's rows of a batch; the first ranks have one more where they do not divide."""
    return batch.tensor_split(peers.size)[peers.rank]


def sum_gradients(parameters: Iterable[nn.Parameter], peers: Peers) -> None:
    """Replace each gradient by its sum over the processes, all in one message ("bucket").

    A parameter without a gradient counts as zero.

    Raises
    ------
    ValueError
        Where the parameters differ in dtype.
    """
    parameters = list(parameters)
    dtypes = {one.dtype for one in parameters}
    if len(dtypes) > 1:
        names = ", ".join(sorted(str(dtype) for dtype in dtypes))
        raise ValueError(f"parameters must be of one dtype; got {names}")
    gradients = [torch.zeros_like(one) if one.grad is None else one.grad for one in parameters]
    flat = peers.sum(torch.cat([one.reshape(-1) for one in gradients]))
    sizes = [one.numel() for one in parameters]
    for parameter, summed in zip(parameters, flat.split(sizes), strict=True):
        parameter.grad = summed.reshape(parameter.shape).clone()


def summed_loss(
    model: nn.Module, tokens: Tokens, *, pad: int | None
) -> tuple[Float[Tensor, ""], int]:
    """The sum of the losses of all tokens but the first of each row, in nats, and their number.

    Padding does not count. The model is a `CausalLanguageModel`, or wraps one.
    """
    logits, _ = model(tokens[:, :-1])  # (batch, n - 1, n_tokens)
    targets = tokens[:, 1:]
    ignored = -100 if pad is None else pad  # -100 is no token
    loss = F.cross_entropy(
        logits.flatten(0, 1), targets.flatten(), ignore_index=ignored, reduction="sum"
    )
    return loss, int((targets != ignored).sum())


def train_together(
    model: CausalLanguageModel,
    batches: Iterable[Tokens],
    *,
    peers: Peers,
    rate: float,
    wrapped: nn.Module | None = None,
) -> list[float]:
    """Train on batches that all processes know, each on its share; the losses of the batches.

    The loss is the mean over the tokens of the *whole* batch. A process's own mean would give
    too much weight to the tokens of a process that has few.

    Parameters
    ----------
    model : CausalLanguageModel
        With the same parameters on all processes, and no dropout. It is changed in place.
    batches : int tensors, shape (batch, n)
    peers : Peers
    rate : float
        Adam's learning rate.
    wrapped : DistributedDataParallel, optional
        Around the model: it then averages the gradients itself, while they are computed.

    Returns
    -------
    list of float
        The mean loss of each batch before its step, in nats; the same on all processes.
    """
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    losses = []
    for batch in batches:
        loss, count = summed_loss(
            model if wrapped is None else wrapped, share(batch, peers), pad=model.pad
        )
        totals = peers.sum(torch.stack([loss.detach().double(), torch.tensor(count).double()]))
        total, everybodys = totals.tolist()
        optimizer.zero_grad()
        if wrapped is None:
            (loss / everybodys).backward()
            sum_gradients(model.parameters(), peers)
        else:
            (loss * peers.size / everybodys).backward()  # it divides by the number of processes
        optimizer.step()
        losses.append(total / everybodys)
    return losses
