"""Masks as other libraries want them: what True, 1, 0 and minus infinity mean differs.

In this package True means that a query may attend to a key. That is also what
`torch.nn.functional.scaled_dot_product_attention` and Keras's `attention_mask` mean, so these need
no converter. `torch.nn.MultiheadAttention` means the opposite, and so do its relatives
(`TransformerEncoder`, `key_padding_mask`). Hugging Face's `attention_mask` marks tokens with 1 and
padding with 0. An additive mask holds what is added to the scores.

Each converter takes a NumPy array or a torch tensor and returns the same kind. Each is strict about
dtype and shape, since a mask of the wrong convention is often a valid mask of the right one.
"""

import math
from typing import Any

from jaxtyping import Bool, Float, Int

from attn_tutorial._arrays import Array, dtype_name, namespace


def to_torch_module(
    mask: Bool[Array, "*leading n_q n_k"], n_heads: int = 1
) -> Bool[Array, "*leading_of_torch n_q n_k"]:
    """Make the `attn_mask` of `torch.nn.MultiheadAttention`, where True means: not this one.

    Parameters
    ----------
    mask : bool array, shape (n_q, n_k) or (batch, 1 or n_heads, n_q, n_k)
        True where the query may attend to the key.
    n_heads : int
        How many heads the module has. It matters only for a mask with a batch axis.

    Returns
    -------
    bool array, shape (n_q, n_k) or (batch * n_heads, n_q, n_k)
        True where the query may not attend. The heads of one sequence follow one another.

    Raises
    ------
    TypeError
        Where the mask is not boolean.
    ValueError
        Where the mask has another shape.

    References
    ----------
    PyTorch 2.13, documentation of `torch.nn.MultiheadAttention.forward`.
    """
    xp = _check_boolean("mask", mask)
    shape = tuple(mask.shape)
    if len(shape) == 4 and shape[1] in (1, n_heads):
        batch, _, n_q, n_k = shape
        mask = xp.broadcast_to(mask, (batch, n_heads, n_q, n_k))
        mask = xp.reshape(mask, (batch * n_heads, n_q, n_k))
    elif len(shape) != 2:
        raise ValueError(
            "mask must have shape (n_q, n_k) or (batch, 1 or n_heads, n_q, n_k) with n_heads = "
            f"{n_heads}; got {shape}"
        )
    return ~mask


def from_torch_module(
    attn_mask: Bool[Array, "*leading_of_torch n_q n_k"], n_heads: int = 1
) -> Bool[Array, "*leading n_q n_k"]:
    """Read the boolean `attn_mask` of `torch.nn.MultiheadAttention`; undo `to_torch_module`.

    Parameters
    ----------
    attn_mask : bool array, shape (n_q, n_k) or (batch * n_heads, n_q, n_k)
        True where the query may not attend to the key.
    n_heads : int
        How many heads the module has. It matters only for a mask with three axes.

    Returns
    -------
    bool array, shape (n_q, n_k) or (batch, n_heads, n_q, n_k)
        True where the query may attend.

    Raises
    ------
    TypeError
        Where the mask is not boolean; for a float one there is `from_additive`.
    ValueError
        Where the mask has another shape.

    References
    ----------
    PyTorch 2.13, documentation of `torch.nn.MultiheadAttention.forward`.
    """
    xp = _check_boolean("attn_mask", attn_mask)
    shape = tuple(attn_mask.shape)
    if len(shape) == 3 and shape[0] % n_heads == 0:
        attn_mask = xp.reshape(attn_mask, (shape[0] // n_heads, n_heads, *shape[1:]))
    elif len(shape) != 2:
        raise ValueError(
            "attn_mask must have shape (n_q, n_k) or (batch * n_heads, n_q, n_k) with n_heads = "
            f"{n_heads}; got {shape}"
        )
    return ~attn_mask


def to_key_padding_mask(mask: Bool[Array, "batch 1 n_k"]) -> Bool[Array, "batch n_k"]:
    """Make the `key_padding_mask` of torch's attention modules, where True means padding.

    Parameters
    ----------
    mask : bool array, shape (batch, 1, n_k)
        True where the key is real, as from `padding_mask`.

    Returns
    -------
    bool array, shape (batch, n_k)
        True where the key is padding. `TransformerEncoder` calls it `src_key_padding_mask`.

    Raises
    ------
    TypeError
        Where the mask is not boolean.
    ValueError
        Where the mask has another shape; one that differs between queries is no padding mask.

    References
    ----------
    PyTorch 2.13, documentation of `torch.nn.MultiheadAttention.forward`.
    """
    _check_boolean("mask", mask)
    if mask.ndim != 3 or mask.shape[1] != 1:
        raise ValueError(f"mask must have shape (batch, 1, n_k); got {tuple(mask.shape)}")
    return ~mask[:, 0, :]


def from_key_padding_mask(key_padding_mask: Bool[Array, "batch n_k"]) -> Bool[Array, "batch 1 n_k"]:
    """Read the boolean `key_padding_mask` of torch's modules; undo `to_key_padding_mask`.

    Parameters
    ----------
    key_padding_mask : bool array, shape (batch, n_k)
        True where the key is padding.

    Returns
    -------
    bool array, shape (batch, 1, n_k)
        True where the key is real.

    Raises
    ------
    TypeError
        Where the mask is not boolean.
    ValueError
        Where the mask has another shape.

    References
    ----------
    PyTorch 2.13, documentation of `torch.nn.MultiheadAttention.forward`.
    """
    _check_boolean("key_padding_mask", key_padding_mask)
    if key_padding_mask.ndim != 2:
        raise ValueError(
            f"key_padding_mask must have shape (batch, n_k); got {tuple(key_padding_mask.shape)}"
        )
    return ~key_padding_mask[:, None, :]


def from_hugging_face(attention_mask: Int[Array, "... n_k"]) -> Bool[Array, "... 1 n_k"]:
    """Read the `attention_mask` that Hugging Face's tokenizers make: 1 = token, 0 = padding.

    Parameters
    ----------
    attention_mask : int array, shape (..., n_k)
        Only 0 and 1. The padding may stand on either side.

    Returns
    -------
    bool array, shape (..., 1, n_k)
        True where the key is real, the same for every query.

    Raises
    ------
    TypeError
        Where the dtype is not an integer one: a float mask with 0 and 1 could be an additive one.
    ValueError
        Where there is no axis, or a number other than 0 and 1.

    References
    ----------
    Transformers 5, glossary, "attention mask".
    """
    xp = namespace(attention_mask=attention_mask)
    if not xp.isdtype(attention_mask.dtype, "integral"):
        raise TypeError(
            "attention_mask must hold whole numbers, 1 = token and 0 = padding; "
            f"got dtype {dtype_name(attention_mask)}"
        )
    if attention_mask.ndim == 0:
        raise ValueError("attention_mask must have shape (..., n_k); got ()")
    if xp.any((attention_mask != 0) & (attention_mask != 1)):
        raise ValueError(
            "attention_mask must hold only 1 (token) and 0 (padding); "
            f"got {xp.unique_values(attention_mask).tolist()}"
        )
    return (attention_mask == 1)[..., None, :]


def to_hugging_face(mask: Bool[Array, "... 1 n_k"]) -> Int[Array, "... n_k"]:
    """Make the `attention_mask` of Hugging Face's models; undo `from_hugging_face`.

    Parameters
    ----------
    mask : bool array, shape (..., 1, n_k)
        True where the key is real, as from `padding_mask`.

    Returns
    -------
    int64 array, shape (..., n_k)
        1 = token, 0 = padding. The models add their own causal mask.

    Raises
    ------
    TypeError
        Where the mask is not boolean.
    ValueError
        Where the mask differs between queries, or may do so: its axis of queries is not 1.

    References
    ----------
    Transformers 5, glossary, "attention mask".
    """
    xp = _check_boolean("mask", mask)
    if mask.ndim < 2 or mask.shape[-2] != 1:
        raise ValueError(f"mask must have shape (..., 1, n_k); got {tuple(mask.shape)}")
    return xp.astype(mask[..., 0, :], xp.int64)


def to_additive(mask: Bool[Array, "..."], dtype: Any) -> Float[Array, "..."]:
    """Make a mask that is added to the scores: 0 where a query may attend, else minus infinity.

    Parameters
    ----------
    mask : bool array, any shape
        True where the query may attend to the key.
    dtype : floating-point dtype of the mask's library
        That of the scores, such as `numpy.float32` or `torch.float16`.

    Returns
    -------
    float array, of the shape of mask
        Minus infinity and no large number, so that adding two of them stays a mask.

    Raises
    ------
    TypeError
        Where the mask is not boolean, or the dtype is no floating-point dtype.

    References
    ----------
    Vaswani et al. (2017), "Attention Is All You Need", NeurIPS, section 3.2.3.
    """
    xp = _check_boolean("mask", mask)
    zeros = xp.zeros_like(mask, dtype=dtype)
    if not xp.isdtype(zeros.dtype, "real floating"):
        raise TypeError(f"dtype must be a floating-point dtype; got {dtype_name(zeros)}")
    return xp.where(mask, zeros, -math.inf)


def from_additive(mask: Float[Array, "..."]) -> Bool[Array, "..."]:
    """Read a mask that is added to the scores; undo `to_additive`.

    Parameters
    ----------
    mask : float array, any shape
        0 where the query may attend to the key. Minus infinity, or the least finite number of the
        dtype, where it may not.

    Returns
    -------
    bool array, of the shape of mask
        True where the query may attend.

    Raises
    ------
    TypeError
        Where the dtype is no floating-point dtype.
    ValueError
        Where another number occurs: a bias such as a slope over the distance is no mask, and of a
        number such as -1e4 one cannot tell what it was meant to be.

    References
    ----------
    Vaswani et al. (2017), "Attention Is All You Need", NeurIPS, section 3.2.3.
    """
    xp = namespace(mask=mask)
    if not xp.isdtype(mask.dtype, "real floating"):
        raise TypeError(f"mask must hold floating-point numbers; got dtype {dtype_name(mask)}")
    least = xp.finfo(mask.dtype).min
    allowed = mask == 0
    other = mask[~(allowed | (mask == -math.inf) | (mask == least))]
    if other.shape[0]:
        raise ValueError(
            f"mask must hold only 0, minus infinity and {least:.4g}, the least number of its "
            f"dtype; got {float(other[0]):.4g}"
        )
    return allowed


def _check_boolean(name: str, mask: Array) -> Any:
    """The mask's array library, if it is boolean; 0 and 1 could mean either."""
    xp = namespace(**{name: mask})
    if not xp.isdtype(mask.dtype, "bool"):
        raise TypeError(f"{name} must be boolean; got dtype {dtype_name(mask)}")
    return xp
