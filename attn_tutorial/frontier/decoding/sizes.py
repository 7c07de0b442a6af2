"""How much a cache keeps: by formula, and by the tensors that are there."""

from collections.abc import Iterable

from torch import Tensor

from attn_tutorial.layers import _check_sizes


def numbers_in_heads(n_kv_heads: int, d_head: int) -> int:
    """How many numbers a layer keeps of each token, as keys and values in heads.

    Parameters
    ----------
    n_kv_heads : int
        Heads of keys and values: as many as heads of queries in multi-head attention, one in
        multi-query attention, and something between in grouped-query attention.
    d_head : int
        The width of each.

    Raises
    ------
    TypeError
        Where a size is not a whole number.
    ValueError
        Where a size is not positive.

    References
    ----------
    Shazeer (2019), "Fast Transformer Decoding: One Write-Head is All You Need", arXiv:1911.02150.
    Ainslie et al. (2023), "GQA: Training Generalized Multi-Query Transformer Models from
    Multi-Head Checkpoints", EMNLP.
    """
    _check_sizes(n_kv_heads=n_kv_heads, d_head=d_head)
    return 2 * n_kv_heads * d_head


def numbers_in_latent(d_latent: int, d_rotary: int = 0) -> int:
    """How many numbers a layer keeps of each token, as a latent vector and a rotary key.

    Raises
    ------
    TypeError
        Where a size is not a whole number.
    ValueError
        Where d_latent is not positive, or d_rotary is negative.

    References
    ----------
    DeepSeek-AI (2024), "DeepSeek-V2: A Strong, Economical, and Efficient Mixture-of-Experts
    Language Model", arXiv:2405.04434, section 2.1.
    """
    _check_sizes(d_latent=d_latent)
    if d_rotary != 0:
        _check_sizes(d_rotary=d_rotary)
    return d_latent + d_rotary


def stored_bytes(tensors: Iterable[Tensor]) -> int:
    """How many bytes the storages of some tensors have; one that several share counts once.

    A view counts with all of the storage behind it: that is what cannot be freed.
    """
    storages = {}
    for tensor in tensors:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())
