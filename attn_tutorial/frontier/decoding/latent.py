"""Latent attention: keys and values of all heads from one short vector, which alone is kept.

With c_j = D x_j for the latent vector of token j, head h has the key K_h c_j and the value V_h c_j.
Its score is q · (K_h c_j) = (K_hᵀ q) · c_j, and its output V_h Σ_j w_j c_j: so a query can be taken
to the latent vectors, and the keys and values never have to be made ("absorbed").
"""

import math

import torch
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from attn_tutorial._arrays import Array
from attn_tutorial.core import attention
from attn_tutorial.frontier.decoding.grouped import replaced
from attn_tutorial.layers import MultiHeadAttention, _check_sizes, _mask_like
from attn_tutorial.positions import rotate


class LatentCache:
    """What a latent layer keeps of the tokens so far.

    Attributes
    ----------
    kept : float tensor, shape (batch, length, d_latent + d_rotary), or None
        The latent vector of each token, and behind it its rotary key, turned by its position. None
        while the cache is empty.
    """

    def __init__(self) -> None:
        self.kept: Tensor | None = None

    @property
    def length(self) -> int:
        """How many positions are stored."""
        return 0 if self.kept is None else self.kept.shape[1]

    @property
    def offset(self) -> int:
        """The position of the next token."""
        return self.length

    def append(self, new: Float[Tensor, "batch n_new d_kept"]) -> None:
        """Add what is kept of new tokens behind what is stored.

        Raises
        ------
        ValueError
            Where the batch or the width is not that of the cache.
        """
        if self.kept is None:
            self.kept = new
            return
        batch, _, width = self.kept.shape
        if (new.shape[0], new.shape[2]) != (batch, width):
            raise ValueError(
                f"new must have shape (batch, n_new, d_kept) = ({batch}, n_new, {width}), as the "
                f"cache holds it; got {tuple(new.shape)}"
            )
        self.kept = torch.cat([self.kept, new], dim=1)


class LatentAttention(nn.Module):
    """Self-attention that keeps d_latent + d_rotary numbers of each token, for all heads together.

    Parameters
    ----------
    d_model, n_heads : int
    d_latent : int
        The width of the vector from which the keys and values of all heads are made.
    d_rotary : int
        The width of a part of queries and keys that is turned by the position (even); its key is
        made from the token itself and shared by all heads. With 0 there is no such part.
    d_head : int, optional
        The width of each head, without the rotary part. By default d_model / n_heads.
    bias : bool
        Whether queries and output have a bias. Keys and values have none: in a softmax a bias of
        the keys changes nothing, and one of the values is as good in the output.
    absorbed : bool
        How the forward pass computes: in the space of the latent vectors, or with the keys and
        values made. The results are equal; which is cheaper depends on how many queries there are.
        The attribute may be changed at any time.

    Raises
    ------
    TypeError
        Where a size is not a whole number.
    ValueError
        Where a size is not positive, d_rotary is odd, or n_heads does not divide d_model.

    References
    ----------
    DeepSeek-AI (2024), "DeepSeek-V2: A Strong, Economical, and Efficient Mixture-of-Experts
    Language Model", arXiv:2405.04434, section 2.1. Two things of theirs are left out, which do not
    change what is kept: queries go through a short vector of their own there, and both short
    vectors are normalised.
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        d_latent: int,
        *,
        d_rotary: int = 0,
        d_head: int | None = None,
        bias: bool = True,
        absorbed: bool = False,
    ) -> None:
        super().__init__()
        _check_sizes(d_model=d_model, n_heads=n_heads, d_latent=d_latent)
        if d_head is None:
            if d_model % n_heads:
                raise ValueError(
                    f"n_heads must divide d_model = {d_model}, unless d_head is given; "
                    f"got {n_heads}"
                )
            d_head = d_model // n_heads
        _check_sizes(d_head=d_head)
        if d_rotary != 0:
            _check_sizes(d_rotary=d_rotary)
        if d_rotary % 2:
            raise ValueError(f"d_rotary must be even, for pairs of features; got {d_rotary}")
        self.d_model, self.n_heads, self.d_head = d_model, n_heads, d_head
        self.d_latent, self.d_rotary, self.absorbed = d_latent, d_rotary, absorbed
        self.query = nn.Linear(d_model, n_heads * (d_head + d_rotary), bias=bias)
        self.down = nn.Linear(d_model, d_latent, bias=False)
        self.rotary_key = nn.Linear(d_model, d_rotary, bias=False) if d_rotary else None
        self.key_up = nn.Linear(d_latent, n_heads * d_head, bias=False)
        self.value_up = nn.Linear(d_latent, n_heads * d_head, bias=False)
        self.out = nn.Linear(n_heads * d_head, d_model, bias=bias)
        for linear in self.children():
            nn.init.xavier_uniform_(linear.weight)
            if linear.bias is not None:
                nn.init.zeros_(linear.bias)

    def forward(
        self,
        x: Float[Tensor, "batch n_q d_model"],
        *,
        mask: Bool[Array, "..."] | Float[Array, "..."] | None = None,
        cache: LatentCache | None = None,
        need_weights: bool = False,
    ) -> tuple[Float[Tensor, "batch n_q d_model"], Float[Tensor, "batch n_heads n_q n_k"] | None]:
        """Attend from each row of x to the rows of x, and to those in the cache.

        Parameters and results are those of `MultiHeadAttention`, without a context.

        Raises
        ------
        TypeError
            Where the cache is of another kind.
        ValueError
            Where shapes do not fit.
        """
        if cache is not None and not isinstance(cache, LatentCache):
            raise TypeError(f"cache must be a LatentCache; got {type(cache).__name__}")
        if x.ndim != 3 or x.shape[-1] != self.d_model:
            raise ValueError(
                f"x must have shape (batch, n_q, {self.d_model}); got {tuple(x.shape)}"
            )
        offset = 0 if cache is None else cache.length
        query = rearrange(self.query(x), "batch n (heads d) -> batch heads n d", heads=self.n_heads)
        if mask is not None:  # checked before the cache changes
            mask = _mask_like(mask, query, offset + x.shape[1])
        content, turning = query.split([self.d_head, self.d_rotary], dim=-1)
        kept = self.down(x)  # (batch, n_q, d_latent)
        if self.rotary_key is not None:
            turning = rotate(turning, offset=offset)
            kept = torch.cat([kept, rotate(self.rotary_key(x), offset=offset)], dim=-1)
        if cache is not None:
            cache.append(kept)
            kept = cache.kept  # (batch, n_k, d_latent + d_rotary)
        attend = self._absorbed if self.absorbed else self._with_keys
        heads, weights = attend(content, turning, kept, mask)
        together = rearrange(heads, "batch heads n d -> batch n (heads d)")
        return self.out(together), weights if need_weights else None

    def _with_keys(self, content, turning, kept, mask):
        """Make the keys and values of all heads, and attend as usual."""
        latents, rotary = kept.split([self.d_latent, self.d_rotary], dim=-1)
        split = "batch n (heads d) -> batch heads n d"
        key = rearrange(self.key_up(latents), split, heads=self.n_heads)
        value = rearrange(self.value_up(latents), split, heads=self.n_heads)
        shared = rotary[:, None].expand(-1, self.n_heads, -1, -1)  # one rotary key for all heads
        key = torch.cat([key, shared], dim=-1)  # (batch, heads, n_k, d_head + d_rotary)
        return attention(torch.cat([content, turning], dim=-1), key, value, mask=mask)

    def _absorbed(self, content, turning, kept, mask):
        """Take the queries to the latent vectors; attend there; take the averages to the heads.

        All heads have the same keys and values then, as in multi-query attention: their queries
        become rows of one matrix, so that the cache is read once.
        """
        split = "(heads d) latent -> heads d latent"
        key_up = rearrange(self.key_up.weight, split, heads=self.n_heads)
        value_up = rearrange(self.value_up.weight, split, heads=self.n_heads)
        heads, n_q = content.shape[1:3]
        query = torch.cat([content @ key_up, turning], dim=-1)  # (batch, heads, n_q, latent + …)
        # `attention` divides by the root of the width that it sees; wanted is that of the heads.
        width = self.d_head + self.d_rotary
        query = query * math.sqrt(query.shape[-1] / width)
        if mask is not None:
            mask = mask.expand(-1, heads, n_q, -1).flatten(1, 2)
        averages, weights = attention(
            query.flatten(1, 2), kept, kept[..., : self.d_latent], mask=mask
        )
        averages = averages.unflatten(1, (heads, n_q))  # (batch, heads, n_q, d_latent)
        return averages @ value_up.mT, weights.unflatten(1, (heads, n_q))


def latent_from_heads(layer: MultiHeadAttention, d_latent: int) -> LatentAttention:
    """The latent layer whose keys and values come nearest to those of a multi-head layer.

    The matrices of keys and values, one below the other, are cut off after their d_latent largest
    singular values, which no other product of that width approaches better (Eckart and Young). With
    d_latent = d_model nothing is lost.

    Parameters
    ----------
    layer : MultiHeadAttention
        For self-attention, with one head of keys and values for each head.
    d_latent : int
        At most d_model.

    Returns
    -------
    LatentAttention

    Raises
    ------
    TypeError
        Where layer is something else.
    ValueError
        Where the layer is grouped or for another context, or d_latent is too large.

    Notes
    -----
    The bias of the keys is left out: it adds the same number to all scores of a query. That of the
    values goes into the bias of the output, which is right wherever a query has something to attend
    to.
    """
    if not isinstance(layer, MultiHeadAttention):
        raise TypeError(f"layer must be a MultiHeadAttention; got {type(layer).__name__}")
    if layer.n_kv_heads != layer.n_heads or layer.d_context != layer.d_model:
        raise ValueError(
            "layer must have n_kv_heads = n_heads and d_context = d_model; got n_kv_heads = "
            f"{layer.n_kv_heads}, n_heads = {layer.n_heads}, d_context = {layer.d_context}"
        )
    _check_sizes(d_latent=d_latent)
    if d_latent > layer.d_model:
        raise ValueError(f"d_latent must be at most d_model = {layer.d_model}; got {d_latent}")
    with torch.no_grad():
        both = torch.cat([layer.key.weight, layer.value.weight])  # (2 · heads · d_head, d_model)
        left, strengths, right = torch.linalg.svd(both, full_matrices=False)
        up = left[:, :d_latent] * strengths[:d_latent]
        latent = LatentAttention(
            layer.d_model,
            layer.n_heads,
            up.shape[1],
            d_head=layer.d_head,
            bias=layer.out.bias is not None,
        ).to(layer.out.weight)
        latent.down.weight.copy_(right[:d_latent])
        for linear, matrix in zip((latent.key_up, latent.value_up), up.chunk(2), strict=True):
            linear.weight.copy_(matrix)
        latent.query.load_state_dict(layer.query.state_dict())
        latent.out.load_state_dict(layer.out.state_dict())
        if layer.out.bias is not None:
            latent.out.bias += layer.out.weight @ layer.value.bias
    return latent.train(layer.training)


def convert_to_latent(model: nn.Module, d_latent: int) -> nn.Module:
    """A copy of a model in which each MultiHeadAttention is a latent layer of that width."""
    return replaced(model, lambda layer: latent_from_heads(layer, d_latent))
