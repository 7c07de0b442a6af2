"""Attention and training on several processes: on one machine here, on a cluster by torchrun."""

from attn_tutorial.frontier.parallel.peers import Peers
from attn_tutorial.frontier.parallel.starting import in_processes, in_threads
from attn_tutorial.frontier.parallel.training import (
    share,
    sum_gradients,
    summed_loss,
    train_together,
)
from attn_tutorial.frontier.parallel.ways import (
    Allowed,
    TensorParallelAttention,
    all_to_all_attention,
    cut,
    joined,
    positions,
    ring_attention,
    scores_computed,
)

__all__ = [
    "Allowed",
    "Peers",
    "TensorParallelAttention",
    "all_to_all_attention",
    "cut",
    "in_processes",
    "in_threads",
    "joined",
    "positions",
    "ring_attention",
    "scores_computed",
    "share",
    "sum_gradients",
    "summed_loss",
    "train_together",
]
