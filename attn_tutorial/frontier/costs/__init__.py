"""What layers cost: parameters, operations, numbers moved and kept, by formula and counted.

The tests hold formulas and counters equal.
"""

from attn_tutorial.frontier.costs.counters import (
    count_moved,
    count_operations,
    count_parameters,
    count_saved,
    longest_chain,
)
from attn_tutorial.frontier.costs.formulas import (
    Cost,
    attainable,
    attention_parts,
    convolution,
    encoder_layer_parts,
    feed_forward_parts,
    linear,
    recurrent_layer,
    total,
)

__all__ = [
    "Cost",
    "attainable",
    "attention_parts",
    "convolution",
    "count_moved",
    "count_operations",
    "count_parameters",
    "count_saved",
    "encoder_layer_parts",
    "feed_forward_parts",
    "linear",
    "longest_chain",
    "recurrent_layer",
    "total",
]
