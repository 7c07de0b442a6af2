"""Multi-head attention as a torch module, and the cache of keys and values for decoding."""

import numpy as np
import torch
import torch.nn.functional as F
from array_api_compat import is_numpy_array
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from attn_tutorial._arrays import Array, dtype_name
from attn_tutorial.core import attention


class KeyValueCache:
    """The keys and values that one attention layer has computed so far.

    In self-attention each call adds those of its tokens. In cross-attention the first call stores
    those of the context, and later calls read them. Each layer needs a cache of its own.

    Attributes
    ----------
    keys, values : float tensors, shape (batch, n_kv_heads, length, d_head), or None
        None while the cache is empty.
    """

    def __init__(self) -> None:
        self.keys: Tensor | None = None
        self.values: Tensor | None = None

    @property
    def length(self) -> int:
        """How many positions are stored."""
        return 0 if self.keys is None else self.keys.shape[-2]

    @property
    def offset(self) -> int:
        """The position of the next token: what `causal_mask` takes as its offset."""
        return self.length

    def append(
        self,
        keys: Float[Tensor, "batch n_kv_heads n_new d_head"],
        values: Float[Tensor, "batch n_kv_heads n_new d_head"],
    ) -> None:
        """Add keys and values behind those that are stored.

        Parameters
        ----------
        keys, values : float tensors, shape (batch, n_kv_heads, n_new, d_head)

        Raises
        ------
        ValueError
            Where the shapes differ from one another, or from those stored in another axis than
            the positions.
        """
        if keys.ndim != 4 or keys.shape != values.shape:
            raise ValueError(
                "keys and values must have one shape (batch, n_kv_heads, n_new, d_head); got "
                f"{tuple(keys.shape)} and {tuple(values.shape)}"
            )
        if self.keys is None:
            self.keys, self.values = keys, values
            return
        batch, n_kv_heads, _, d_head = self.keys.shape
        if (keys.shape[0], keys.shape[1], keys.shape[3]) != (batch, n_kv_heads, d_head):
            raise ValueError(
                f"keys must have shape (batch, n_kv_heads, n_new, d_head) = ({batch}, "
                f"{n_kv_heads}, n_new, {d_head}), as the cache holds them; "
                f"got {tuple(keys.shape)}"
            )
        self.keys = torch.cat([self.keys, keys], dim=-2)  # (batch, n_kv_heads, length, d_head)
        self.values = torch.cat([self.values, values], dim=-2)

    def reorder(self, indices: Int[Tensor, " new_batch"] | list[int]) -> None:
        """Let entry i of the batch continue what entry indices[i] has begun, as in beam search.

        Parameters
        ----------
        indices : list of int or int tensor, shape (new_batch,)
            Entries of the batch; one may appear several times, or not at all.

        Raises
        ------
        TypeError
            Where the indices are not whole numbers.
        ValueError
            Where the cache is empty, the indices have not one axis, or one is out of the batch.
        """
        if self.keys is None:
            raise ValueError("the cache is empty: there is nothing to reorder yet")
        indices = torch.as_tensor(indices, device=self.keys.device)
        if indices.dtype == torch.bool or indices.is_floating_point():
            raise TypeError(f"indices must hold whole numbers; got dtype {dtype_name(indices)}")
        batch = self.keys.shape[0]
        if indices.ndim != 1:
            raise ValueError(f"indices must have shape (new_batch,); got {tuple(indices.shape)}")
        if ((indices < 0) | (indices >= batch)).any():
            raise ValueError(
                f"indices must lie between 0 and batch - 1 = {batch - 1}; got {indices.tolist()}"
            )
        self.keys, self.values = self.keys[indices], self.values[indices]


class MultiHeadAttention(nn.Module):
    """Attention in several heads, between linear projections.

    Each head has its own queries. Its keys and values are its own too, or shared by a group of
    neighbouring heads: head h uses keys and values h // (n_heads // n_kv_heads). With n_kv_heads=1
    all heads share them (multi-query attention); between 1 and n_heads this is grouped-query
    attention.

    Parameters
    ----------
    d_model : int
        The width of what comes in and goes out.
    n_heads : int
        How many heads.
    n_kv_heads : int, optional
        How many heads of keys and values; it divides n_heads. By default n_heads.
    d_context : int, optional
        The width of the context in cross-attention. By default d_model.
    d_head : int, optional
        The width of each head. By default d_model / n_heads, which must be whole then.
    dropout : float
        The probability with which a weight is dropped in training, after normalising.
    bias : bool
        Whether the four projections add a bias.

    Attributes
    ----------
    query, key, value, out : torch.nn.Linear
        The projections: d_model to n_heads · d_head; d_context to n_kv_heads · d_head, twice; and
        n_heads · d_head to d_model.

    Raises
    ------
    TypeError
        Where a size is not a whole number.
    ValueError
        Where a size is not positive, or does not divide what it has to divide, or dropout is no
        probability below one.

    References
    ----------
    Vaswani et al. (2017), "Attention Is All You Need", NeurIPS, section 3.2.2.
    Shazeer (2019), "Fast Transformer Decoding: One Write-Head is All You Need",
    arXiv:1911.02150, section 3.
    Ainslie et al. (2023), "GQA: Training Generalized Multi-Query Transformer Models from
    Multi-Head Checkpoints", EMNLP, section 2.2.
    """

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        *,
        n_kv_heads: int | None = None,
        d_context: int | None = None,
        d_head: int | None = None,
        dropout: float = 0.0,
        bias: bool = True,
    ) -> None:
        super().__init__()
        n_kv_heads = n_heads if n_kv_heads is None else n_kv_heads
        d_context = d_model if d_context is None else d_context
        _check_sizes(d_model=d_model, n_heads=n_heads, n_kv_heads=n_kv_heads, d_context=d_context)
        if n_heads % n_kv_heads:
            raise ValueError(f"n_kv_heads must divide n_heads = {n_heads}; got {n_kv_heads}")
        if d_head is None:
            if d_model % n_heads:
                raise ValueError(
                    f"n_heads must divide d_model = {d_model}, unless d_head is given; "
                    f"got {n_heads}"
                )
            d_head = d_model // n_heads
        _check_sizes(d_head=d_head)
        if not 0 <= dropout < 1:
            raise ValueError(f"dropout must be a probability from 0 to below 1; got {dropout!r}")
        self.d_model, self.d_context, self.d_head = d_model, d_context, d_head
        self.n_heads, self.n_kv_heads = n_heads, n_kv_heads
        self.dropout = dropout
        self.query = nn.Linear(d_model, n_heads * d_head, bias=bias)
        self.key = nn.Linear(d_context, n_kv_heads * d_head, bias=bias)
        self.value = nn.Linear(d_context, n_kv_heads * d_head, bias=bias)
        self.out = nn.Linear(n_heads * d_head, d_model, bias=bias)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the matrices by Glorot and Bengio (2010), and set the biases to zero."""
        for linear in (self.query, self.key, self.value, self.out):
            nn.init.xavier_uniform_(linear.weight)
            if linear.bias is not None:
                nn.init.zeros_(linear.bias)

    def forward(
        self,
        x: Float[Tensor, "batch n_q d_model"],
        context: Float[Tensor, "batch n_context d_context"] | None = None,
        *,
        mask: Bool[Array, "..."] | Float[Array, "..."] | None = None,
        cache: KeyValueCache | None = None,
        need_weights: bool = False,
    ) -> tuple[Float[Tensor, "batch n_q d_model"], Float[Tensor, "batch n_heads n_q n_k"] | None]:
        """Attend from each row of x to the rows of x, or of a context.

        Parameters
        ----------
        x : float tensor, shape (batch, n_q, d_model), of the parameters' dtype
            Where the queries come from; in self-attention the keys and values too.
        context : float tensor, shape (batch, n_k, d_context), optional
            Where the keys and values come from in cross-attention.
        mask : bool or float array, broadcastable to (batch, n_heads, n_q, n_k), optional
            Boolean: True where the query may attend to the key. Float: added to the scores. NumPy
            or torch. A mask of three axes is refused, since the first could mean the batch or the
            heads: give `mask[:, None]` or `mask[None]`. With a cache n_k counts the stored
            positions too, so that the causal mask is
            `causal_mask(n_q, cache.length + n_q, offset=cache.offset)`.
        cache : KeyValueCache, optional
            Changed in place. In self-attention the new keys and values are appended, and the
            queries attend to all. In cross-attention an empty cache is filled from the context;
            a filled one is used in place of the context, which only has to fit it in shape.
        need_weights : bool
            Whether to return the weights. It decides which engine computes them:
            `torch.nn.functional.scaled_dot_product_attention` where they are not needed,
            `attn_tutorial.attention` where they are.

        Returns
        -------
        output : float tensor, shape (batch, n_q, d_model)
            Where the mask leaves a query nothing to attend to, all heads give zero, and the output
            is the bias of `out`.
        weights : float tensor, shape (batch, n_heads, n_q, n_k), or None
            Those before dropout: each row sums to one, or to zero where there is nothing.

        Raises
        ------
        TypeError
            Where an argument is of the wrong kind or dtype.
        ValueError
            Where shapes do not fit; the message names the argument, its shape and the shape wanted.
        """
        self._check_inputs(x, context, cache)
        query = rearrange(
            self.query(x), "batch n_q (heads d_head) -> batch heads n_q d_head", heads=self.n_heads
        )
        if mask is not None:  # checked before the cache changes
            n_stored = 0 if cache is None else cache.length
            n_k = x.shape[1] + n_stored if context is None else context.shape[1]
            mask = _mask_like(mask, query, n_k)
        key, value = self._keys_and_values(x, context, cache)  # (batch, n_kv_heads, n_k, d_head)
        attend = self._attend_and_show if need_weights else self._attend
        heads, weights = attend(query, key, value, mask)  # (batch, n_heads, n_q, d_head)
        together = rearrange(heads, "batch heads n_q d_head -> batch n_q (heads d_head)")
        return self.out(together), weights  # (batch, n_q, d_model)

    def load_from_torch(self, module: nn.MultiheadAttention) -> "MultiHeadAttention":
        """Copy the parameters of torch's own layer into this one.

        Parameters
        ----------
        module : torch.nn.MultiheadAttention
            With embed_dim = d_model, num_heads = n_heads = n_kv_heads, kdim = vdim = d_context and
            the same choice of bias. Its `batch_first` does not matter to the parameters; this
            layer puts the batch first in any case. Its dropout is not taken over.

        Returns
        -------
        MultiHeadAttention
            This layer.

        Raises
        ------
        TypeError
            Where the module is something else.
        ValueError
            Where it has other sizes, or what this layer has not: bias_k and bias_v, or the added
            zero.
        """
        if not isinstance(module, nn.MultiheadAttention):
            raise TypeError(
                f"module must be a torch.nn.MultiheadAttention; got {type(module).__name__}"
            )
        if module.bias_k is not None or module.add_zero_attn:
            raise ValueError(
                "module must have neither add_bias_kv nor add_zero_attn; this layer has no "
                "parameters for them"
            )
        self._check_ungrouped()
        wanted = {
            "embed_dim": self.d_model,
            "num_heads": self.n_heads,
            "kdim": self.d_context,
            "vdim": self.d_context,
            "bias": self.out.bias is not None,
        }
        found = {name: getattr(module, name) for name in ("embed_dim", "num_heads", "kdim", "vdim")}
        found["bias"] = module.in_proj_bias is not None
        if found != wanted:
            raise ValueError(f"module must have {_in_words(wanted)}; got {_in_words(found)}")
        with torch.no_grad():
            for linear, (weight, bias) in zip(
                (self.query, self.key, self.value), _projections(module), strict=True
            ):
                linear.weight.copy_(weight)
                if bias is not None:
                    linear.bias.copy_(bias)
            self.out.load_state_dict(module.out_proj.state_dict())
        return self

    def to_torch(self) -> nn.MultiheadAttention:
        """Make torch's own layer with a copy of these parameters.

        Returns
        -------
        torch.nn.MultiheadAttention
            With `batch_first=True`, and of this layer's dropout, dtype, device and mode. Its
            boolean masks mean the opposite: True hides.

        Raises
        ------
        ValueError
            Where torch's layer cannot hold the parameters: grouped keys and values, or heads whose
            widths do not add up to d_model.
        """
        self._check_ungrouped()
        module = nn.MultiheadAttention(
            self.d_model,
            self.n_heads,
            dropout=self.dropout,
            bias=self.out.bias is not None,
            kdim=self.d_context,
            vdim=self.d_context,
            batch_first=True,
            device=self.out.weight.device,
            dtype=self.out.weight.dtype,
        )
        with torch.no_grad():
            for linear, (weight, bias) in zip(
                (self.query, self.key, self.value), _projections(module), strict=True
            ):
                weight.copy_(linear.weight)
                if bias is not None:
                    bias.copy_(linear.bias)
            module.out_proj.load_state_dict(self.out.state_dict())
        return module.train(self.training)

    def _keys_and_values(
        self, x: Tensor, context: Tensor | None, cache: KeyValueCache | None
    ) -> tuple[Tensor, Tensor]:
        """The keys and values to attend to, those of the cache included."""
        if context is not None and cache is not None and cache.length:
            return cache.keys, cache.values
        source = x if context is None else context
        key, value = (
            rearrange(
                projection(source),
                "batch n (heads d_head) -> batch heads n d_head",
                heads=self.n_kv_heads,
            )
            for projection in (self.key, self.value)
        )
        if cache is None:
            return key, value
        cache.append(key, value)
        return cache.keys, cache.values

    def _attend(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, None]:
        """By torch's engine, which keeps no weights."""
        heads = F.scaled_dot_product_attention(
            query,
            key,
            value,
            attn_mask=mask,
            dropout_p=self.dropout if self.training else 0.0,
            enable_gqa=self.n_kv_heads < self.n_heads,
        )
        return heads, None

    def _attend_and_show(
        self, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """By this package's own function, with the weights before dropout."""
        # One key for each group of queries: an axis of length one broadcasts.
        split = "batch (kv_heads group) n_q last -> batch kv_heads group n_q last"
        join = "batch kv_heads group n_q last -> batch (kv_heads group) n_q last"
        query = rearrange(query, split, kv_heads=self.n_kv_heads)
        key, value = key[:, :, None], value[:, :, None]  # (batch, n_kv_heads, 1, n_k, d_head)
        if mask is not None:
            mask = mask.expand(-1, self.n_heads, -1, -1)
            mask = rearrange(mask, split, kv_heads=self.n_kv_heads)
        heads, weights = attention(query, key, value, mask=mask)
        if self.training and self.dropout:
            heads = F.dropout(weights, self.dropout) @ value
        return rearrange(heads, join), rearrange(weights, join)

    def _check_inputs(self, x: Tensor, context: Tensor | None, cache: KeyValueCache | None) -> None:
        if cache is not None and not isinstance(cache, KeyValueCache):
            raise TypeError(f"cache must be a KeyValueCache; got {type(cache).__name__}")
        self._check_input("x", x, "(batch, n_q, d_model)", self.d_model)
        if context is None:
            if self.d_context != self.d_model:
                raise ValueError(
                    f"context must be given, of shape (batch, n_k, {self.d_context}): this layer "
                    f"has keys and values for d_context = {self.d_context}, and x has "
                    f"d_model = {self.d_model}"
                )
            return
        self._check_input("context", context, "(batch, n_k, d_context)", self.d_context)
        if context.shape[0] != x.shape[0]:
            raise ValueError(
                "x (batch, n_q, d_model) and context (batch, n_k, d_context) must agree in batch; "
                f"got shapes {tuple(x.shape)} and {tuple(context.shape)}"
            )
        if cache is not None and cache.length:
            stored = (cache.keys.shape[0], cache.length)
            if tuple(context.shape[:2]) != stored:
                raise ValueError(
                    f"context must have shape (batch, n_k, d_context) = ({stored[0]}, {stored[1]}, "
                    f"{self.d_context}), as the cache holds it; got {tuple(context.shape)}"
                )

    def _check_input(self, name: str, tensor: Tensor, wanted: str, width: int) -> None:
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{name} must be a torch tensor; got {type(tensor).__name__}")
        dtype = self.query.weight.dtype
        # Under autocast torch itself brings the two to one dtype.
        autocast = tensor.is_floating_point() and torch.is_autocast_enabled(tensor.device.type)
        if tensor.dtype != dtype and not autocast:
            raise TypeError(
                f"{name} must have the dtype of the parameters, {dtype_name(self.query.weight)}; "
                f"got {dtype_name(tensor)}"
            )
        if tensor.ndim != 3 or tensor.shape[-1] != width:
            raise ValueError(
                f"{name} must have shape {wanted} with a last axis of {width}; "
                f"got {tuple(tensor.shape)}"
            )

    def _check_ungrouped(self) -> None:
        if self.n_kv_heads != self.n_heads or self.n_heads * self.d_head != self.d_model:
            raise ValueError(
                "torch.nn.MultiheadAttention needs n_kv_heads = n_heads and n_heads · d_head = "
                f"d_model; this layer has n_heads = {self.n_heads}, n_kv_heads = "
                f"{self.n_kv_heads}, d_head = {self.d_head} and d_model = {self.d_model}"
            )


def _check_sizes(**sizes: int) -> None:
    for name, size in sizes.items():
        if not isinstance(size, int | np.integer) or isinstance(size, bool):
            raise TypeError(f"{name} must be a whole number; got {size!r}")
        if size < 1:
            raise ValueError(f"{name} must be at least 1; got {size}")


def _mask_like(mask: Array, query: Tensor, n_k: int) -> Tensor:
    """The mask as a tensor of four axes, boolean or of the query's dtype, on its device."""
    if is_numpy_array(mask):
        mask = torch.from_numpy(mask.copy())
    if not isinstance(mask, Tensor):
        raise TypeError(f"mask must be a NumPy array or a torch tensor; got {type(mask).__name__}")
    if mask.dtype != torch.bool and not mask.is_floating_point():
        raise TypeError(
            "mask must be boolean (True = may attend) or floating-point (added to the scores); "
            f"got dtype {dtype_name(mask)}"
        )
    wanted = (*query.shape[:-1], n_k)
    shape = tuple(mask.shape)
    if mask.ndim == 3:
        raise ValueError(
            "mask must not have three axes, since the first could mean the batch or the heads; "
            f"got shape {shape}. Give mask[:, None] for (batch, n_q, n_k), or mask[None] for "
            f"(n_heads, n_q, n_k), so that it broadcasts to (batch, n_heads, n_q, n_k) = {wanted}"
        )
    if mask.ndim > 4 or any(
        size not in (1, whole) for size, whole in zip(shape[::-1], wanted[::-1], strict=False)
    ):
        raise ValueError(
            f"mask must broadcast to (batch, n_heads, n_q, n_k) = {wanted}; got shape {shape}"
        )
    mask = mask.reshape((1,) * (4 - mask.ndim) + shape)
    return mask.to(query.device, mask.dtype if mask.dtype == torch.bool else query.dtype)


def _projections(module: nn.MultiheadAttention) -> list[tuple[Tensor, Tensor | None]]:
    """Weight and bias of query, key and value, as views of the parameters of torch's layer."""
    if module.in_proj_weight is None:
        weights = (module.q_proj_weight, module.k_proj_weight, module.v_proj_weight)
    else:
        weights = module.in_proj_weight.chunk(3)  # three of (d_model, d_model)
    biases = (None,) * 3 if module.in_proj_bias is None else module.in_proj_bias.chunk(3)
    return list(zip(weights, biases, strict=True))


def _in_words(settings: dict[str, int | bool]) -> str:
    return ", ".join(f"{name}={setting}" for name, setting in settings.items())
