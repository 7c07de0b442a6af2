"""From many heads of keys and values to few: the conversion before uptraining, and one step."""

import copy
from collections.abc import Callable
from typing import Literal

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from attn_tutorial.core import attention
from attn_tutorial.layers import MultiHeadAttention, _check_sizes

WAYS = ("mean", "first", "random")


def with_fewer_heads(
    layer: MultiHeadAttention, n_kv_heads: int, way: Literal["mean", "first", "random"] = "mean"
) -> MultiHeadAttention:
    """Turn the heads of keys and values of each group into one.

    Queries and output stay as they are, so that the new layer is close to the old one as far as
    the heads of a group were alike. It is meant to be trained on ("uptraining").

    Parameters
    ----------
    layer : MultiHeadAttention
        It stays as it is.
    n_kv_heads : int
        How many heads of keys and values remain; it divides those that there are.
    way : "mean", "first" or "random"
        What a group gets: the mean of its heads, the first of them, or new random matrices.

    Returns
    -------
    MultiHeadAttention

    Raises
    ------
    TypeError
        Where layer is something else, or n_kv_heads is not a whole number.
    ValueError
        Where n_kv_heads does not divide the number of heads, or there is no such way.

    References
    ----------
    Ainslie et al. (2023), "GQA: Training Generalized Multi-Query Transformer Models from
    Multi-Head Checkpoints", EMNLP, section 2.1.
    """
    if not isinstance(layer, MultiHeadAttention):
        raise TypeError(f"layer must be a MultiHeadAttention; got {type(layer).__name__}")
    _check_sizes(n_kv_heads=n_kv_heads)
    if layer.n_kv_heads % n_kv_heads:
        raise ValueError(
            f"n_kv_heads must divide the {layer.n_kv_heads} heads of keys and values that there "
            f"are; got {n_kv_heads}"
        )
    if way not in WAYS:
        raise ValueError(f"way must be one of {', '.join(WAYS)}; got {way!r}")
    fewer = MultiHeadAttention(
        layer.d_model,
        layer.n_heads,
        n_kv_heads=n_kv_heads,
        d_context=layer.d_context,
        d_head=layer.d_head,
        dropout=layer.dropout,
        bias=layer.out.bias is not None,
    ).to(layer.out.weight)
    with torch.no_grad():
        for name in ("query", "out"):
            getattr(fewer, name).load_state_dict(getattr(layer, name).state_dict())
        if way != "random":
            for name in ("key", "value"):
                _pool(getattr(layer, name), getattr(fewer, name), layer.d_head, way)
    return fewer.train(layer.training)


def _pool(many: nn.Linear, few: nn.Linear, d_head: int, way: str) -> None:
    """Fill the heads of `few` from the groups of neighbouring heads of `many`."""
    n_few = few.out_features // d_head
    pattern = "(few group d_head) ... -> few group d_head ..."
    for name, target in few.named_parameters():
        heads = rearrange(getattr(many, name), pattern, few=n_few, d_head=d_head)
        pooled = heads.mean(dim=1) if way == "mean" else heads[:, 0]  # (few, d_head, ...)
        target.copy_(pooled.flatten(0, 1))


def replaced(model: nn.Module, change: Callable[[MultiHeadAttention], nn.Module]) -> nn.Module:
    """A copy of a model in which each MultiHeadAttention is changed by a function."""
    model = copy.deepcopy(model)
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, MultiHeadAttention):
                setattr(parent, name, change(child))
    return model


def convert(model: nn.Module, n_kv_heads: int, way: str = "mean") -> nn.Module:
    """A copy of a model in which each MultiHeadAttention has fewer heads of keys and values."""
    return replaced(model, lambda layer: with_fewer_heads(layer, n_kv_heads, way))


def one_step(
    query: Float[Tensor, "batch n_heads d_head"],
    keys: Float[Tensor, "batch n_kv_heads n d_head"],
    values: Float[Tensor, "batch n_kv_heads n d_head"],
) -> Float[Tensor, "batch n_heads d_head"]:
    """Attention of one new token: the queries of a group are the rows of one matrix.

    So the keys and values that a group shares are read once, and not once for each head.

    Parameters
    ----------
    query : float tensor, shape (batch, n_heads, d_head)
    keys, values : float tensors, shape (batch, n_kv_heads, n, d_head)
        What the cache holds, the new token included.

    Returns
    -------
    float tensor, shape (batch, n_heads, d_head)

    Raises
    ------
    ValueError
        Where the heads of keys and values do not divide those of the queries.
    """
    n_heads, n_kv_heads = query.shape[1], keys.shape[1]
    if n_heads % n_kv_heads:
        raise ValueError(
            f"keys must have a number of heads that divides the {n_heads} of query; "
            f"got {n_kv_heads}"
        )
    rows = query.unflatten(1, (n_kv_heads, -1))  # (batch, n_kv_heads, group, d_head)
    return attention(rows, keys, values)[0].flatten(1, 2)
