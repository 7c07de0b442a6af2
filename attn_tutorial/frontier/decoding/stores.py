"""Two other ways to hold keys and values: in 8 bits, and in blocks that sequences share.

Both take the place of `KeyValueCache` in any layer or model that takes one.
"""

from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from attn_tutorial.layers import KeyValueCache, _check_sizes


class Codes(NamedTuple):
    """Numbers as multiples of a scale.

    Attributes
    ----------
    codes : int8 tensor
    scale : float tensor, of length 1 in the axis along which numbers share it
    """

    codes: Int[Tensor, "..."]
    scale: Float[Tensor, "..."]


def quantise(array: Float[Tensor, "..."], axis: int, *, n_bits: int = 8) -> Codes:
    """Round to the nearest multiple of a scale; numbers along the axis share one.

    The scale is the largest absolute number divided by 2 ** (n_bits - 1) - 1, so that no number is
    off by more than half of the scale.

    Parameters
    ----------
    array : float tensor
    axis : int
    n_bits : int, from 2 to 8
        Codes of fewer bits are stored in a byte each all the same.

    Raises
    ------
    TypeError
        Where array is not floating-point.
    ValueError
        Where n_bits is out of range.

    References
    ----------
    Jacob et al. (2018), "Quantization and Training of Neural Networks for Efficient
    Integer-Arithmetic-Only Inference", CVPR, for codes with a scale.
    """
    if not array.is_floating_point():
        raise TypeError(f"array must be floating-point; got {array.dtype}")
    if not 2 <= n_bits <= 8:
        raise ValueError(f"n_bits must be from 2 to 8; got {n_bits}")
    largest = 2 ** (n_bits - 1) - 1
    scale = array.abs().amax(dim=axis, keepdim=True) / largest
    codes = (array / scale.masked_fill(scale == 0, 1)).round().clamp(-largest, largest)
    return Codes(codes.to(torch.int8), scale)


def restore(codes: Codes) -> Float[Tensor, "..."]:
    """The numbers for which the codes stand, in the dtype of the scale."""
    return codes.codes * codes.scale


class QuantisedCache(KeyValueCache):
    """Keys and values in 8 bits or fewer, with scales.

    Values always share a scale token by token (and head by head). Keys do so too, or channel by
    channel within groups of tokens; tokens that do not yet fill a group are kept as they are.

    Parameters
    ----------
    keys_along : "token" or "channel"
    n_bits : int
        As in `quantise`.
    group : int
        How many tokens share the scales of their channels.

    Attributes
    ----------
    keys, values : float tensors, shape (batch, n_kv_heads, length, d_head), or None
        Restored from the codes each time they are asked for.

    Raises
    ------
    TypeError
        Where a size is not a whole number.
    ValueError
        Where keys_along is neither, n_bits is out of range, or group is not positive.

    References
    ----------
    Liu et al. (2024), "KIVI: A Tuning-Free Asymmetric 2bit Quantization for KV Cache", ICML: keys
    by channel, values by token. Their scales have a zero point, these have none.
    """

    def __init__(
        self,
        keys_along: Literal["token", "channel"] = "token",
        *,
        n_bits: int = 8,
        group: int = 32,
    ) -> None:
        if keys_along not in ("token", "channel"):
            raise ValueError(f"keys_along must be 'token' or 'channel'; got {keys_along!r}")
        if not 2 <= n_bits <= 8:
            raise ValueError(f"n_bits must be from 2 to 8; got {n_bits}")
        _check_sizes(group=group)
        self.keys_along, self.n_bits, self.group = keys_along, n_bits, group
        self._keys: list[Codes] = []
        self._values: list[Codes] = []
        self._recent: Tensor | None = None  # keys that do not fill a group yet

    @property
    def length(self) -> int:
        return sum(codes.codes.shape[-2] for codes in self._values)

    @property
    def keys(self) -> Tensor | None:
        parts = [restore(codes) for codes in self._keys]
        if self._recent is not None:
            parts.append(self._recent)
        return torch.cat(parts, dim=-2) if parts else None

    @property
    def values(self) -> Tensor | None:
        return (
            torch.cat([restore(codes) for codes in self._values], dim=-2) if self._values else None
        )

    def tensors(self) -> list[Tensor]:
        """All that is stored."""
        recent = [] if self._recent is None else [self._recent]
        return [tensor for codes in (*self._keys, *self._values) for tensor in codes] + recent

    def append(
        self,
        keys: Float[Tensor, "batch n_kv_heads n_new d_head"],
        values: Float[Tensor, "batch n_kv_heads n_new d_head"],
    ) -> None:
        """Add keys and values behind those that are stored; parameters as in `KeyValueCache`.

        Raises
        ------
        ValueError
            Where the shapes differ from one another.
        """
        if keys.ndim != 4 or keys.shape != values.shape:
            raise ValueError(
                "keys and values must have one shape (batch, n_kv_heads, n_new, d_head); got "
                f"{tuple(keys.shape)} and {tuple(values.shape)}"
            )
        self._values.append(quantise(values, -1, n_bits=self.n_bits))
        if self.keys_along == "token":
            self._keys.append(quantise(keys, -1, n_bits=self.n_bits))
            return
        if self._recent is not None:
            keys = torch.cat([self._recent, keys], dim=-2)
        full = keys.shape[-2] // self.group * self.group
        for tokens in keys[..., :full, :].split(self.group, dim=-2) if full else ():
            self._keys.append(quantise(tokens, -2, n_bits=self.n_bits))
        self._recent = keys[..., full:, :].clone()  # not a view: the rest is to be freed

    def reorder(self, indices: Int[Tensor, " new_batch"] | list[int]) -> None:
        """Let entry i of the batch continue what entry indices[i] has begun."""
        for stored in (self._keys, self._values):
            stored[:] = [Codes(*(tensor[indices] for tensor in codes)) for codes in stored]
        if self._recent is not None:
            self._recent = self._recent[indices]


class BlockPool:
    """Memory for keys and values in blocks of a few tokens, handed out one by one.

    Parameters
    ----------
    n_blocks : int
    block_size : int
        How many tokens a block holds.
    n_kv_heads, d_head : int
    dtype, device : as in torch, optional

    Attributes
    ----------
    keys, values : float tensors, shape (n_blocks, n_kv_heads, block_size, d_head)
    n_users : list of int
        How many tables hold each block; 0 means that it is free.

    References
    ----------
    Kwon et al. (2023), "Efficient Memory Management for Large Language Model Serving with
    PagedAttention", SOSP, section 4.
    """

    def __init__(
        self,
        n_blocks: int,
        block_size: int,
        n_kv_heads: int,
        d_head: int,
        *,
        dtype: torch.dtype | None = None,
        device: torch.device | str | None = None,
    ) -> None:
        _check_sizes(n_blocks=n_blocks, block_size=block_size, n_kv_heads=n_kv_heads, d_head=d_head)
        shape = (n_blocks, n_kv_heads, block_size, d_head)
        self.keys = torch.zeros(shape, dtype=dtype, device=device)
        self.values = torch.zeros(shape, dtype=dtype, device=device)
        self.block_size = block_size
        self.n_users = [0] * n_blocks

    @property
    def n_used(self) -> int:
        """How many blocks are not free."""
        return sum(users > 0 for users in self.n_users)

    def take(self) -> int:
        """The number of a block that was free.

        Raises
        ------
        MemoryError
            Where there is none.
        """
        if self.n_used == len(self.n_users):
            raise MemoryError(f"all {len(self.n_users)} blocks are in use")
        block = self.n_users.index(0)
        self.n_users[block] = 1
        return block

    def own(self, block: int) -> int:
        """The block if nobody else holds it, else a copy of it (copy on write)."""
        if self.n_users[block] == 1:
            return block
        copy = self.take()
        self.keys[copy], self.values[copy] = self.keys[block], self.values[block]
        self.n_users[block] -= 1
        return copy


class PagedCache(KeyValueCache):
    """Keys and values in blocks of a pool; each sequence has a table of its blocks, in order.

    Sequences that began alike share blocks: `reorder` copies tables only, and a shared block is
    copied when somebody writes into it.

    Parameters
    ----------
    pool : BlockPool
        Several caches may use it.

    Attributes
    ----------
    tables : list of list of int
        The blocks of each sequence of the batch.
    keys, values : float tensors, shape (batch, n_kv_heads, length, d_head), or None
        Gathered from the blocks each time they are asked for.

    References
    ----------
    Kwon et al. (2023), "Efficient Memory Management for Large Language Model Serving with
    PagedAttention", SOSP, section 4.
    """

    def __init__(self, pool: BlockPool) -> None:
        self.pool = pool
        self.tables: list[list[int]] = []
        self._length = 0

    @property
    def length(self) -> int:
        return self._length

    @property
    def keys(self) -> Tensor | None:
        return self._gathered(self.pool.keys)

    @property
    def values(self) -> Tensor | None:
        return self._gathered(self.pool.values)

    def append(
        self,
        keys: Float[Tensor, "batch n_kv_heads n_new d_head"],
        values: Float[Tensor, "batch n_kv_heads n_new d_head"],
    ) -> None:
        """Add keys and values behind those that are stored; parameters as in `KeyValueCache`.

        Raises
        ------
        MemoryError
            Where the pool has not enough free blocks.
        ValueError
            Where the shapes do not fit the pool or the sequences that are stored.
        """
        batch = len(self.tables) if self.length else keys.shape[0]
        heads, d_head = self.pool.keys.shape[1], self.pool.keys.shape[3]
        wanted = (batch, heads, keys.shape[-2], d_head)
        if tuple(keys.shape) != wanted or keys.shape != values.shape:
            raise ValueError(
                f"keys and values must have shape (batch, n_kv_heads, n_new, d_head) = {wanted}; "
                f"got {tuple(keys.shape)} and {tuple(values.shape)}"
            )
        if not self.length:
            self.tables = [[] for _ in range(batch)]
        size = self.pool.block_size
        for position in range(keys.shape[-2]):
            block, slot = divmod(self.length, size)
            for entry, table in enumerate(self.tables):
                if block == len(table):
                    table.append(self.pool.take())
                table[block] = self.pool.own(table[block])
                self.pool.keys[table[block], :, slot] = keys[entry, :, position]
                self.pool.values[table[block], :, slot] = values[entry, :, position]
            self._length += 1

    def reorder(self, indices: Int[Tensor, " new_batch"] | list[int]) -> None:
        """Let entry i of the batch continue what entry indices[i] has begun, and copy no number."""
        tables = [list(self.tables[index]) for index in torch.as_tensor(indices).tolist()]
        self._count(tables, 1)  # first, so that no block is free in between
        self._count(self.tables, -1)
        self.tables = tables

    def free(self) -> None:
        """Forget all, and give back the blocks that nobody else holds."""
        self._count(self.tables, -1)
        self.tables, self._length = [], 0

    def _count(self, tables: list[list[int]], change: int) -> None:
        for table in tables:
            for block in table:
                self.pool.n_users[block] += change

    def _gathered(self, stored: Tensor) -> Tensor | None:
        if not self.length:
            return None
        tables = torch.tensor(self.tables, device=stored.device)  # (batch, n_blocks)
        blocks = stored[tables].transpose(1, 2)  # (batch, n_kv_heads, n_blocks, block_size, d_head)
        return blocks.flatten(2, 3)[:, :, : self.length]
