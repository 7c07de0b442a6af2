"""Models that look at a digit: a small Vision Transformer, and CNNs with and without gates.

A picture has 8 by 8 pixels. The Vision Transformer cuts it into 16 patches of 2 by 2 pixels, row by
row, and attends from patch to patch. A gate, in contrast, is a factor from 0 to 1 for each channel
or each place of a CNN: also computed from the picture, but not a weight that is shared out.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from attn_tutorial.models import EncoderLayer
from attn_tutorial.training import evaluating

SIDE, PATCH, N_CLASSES = 8, 2, 10
N_PATCHES = (SIDE // PATCH) ** 2
SPREAD = 0.3  # of the first positions: about the size of an embedded patch
Images = Float[Tensor, "batch 8 8"]
Features = Float[Tensor, "batch channels height width"]


def patches_of(images: Images) -> Float[Tensor, "batch 16 4"]:
    """Cut pictures into patches, row by row, each a list of its pixels.

    Parameters
    ----------
    images : float tensor, shape (batch, 8, 8)

    Returns
    -------
    float tensor, shape (batch, 16, 4)

    Raises
    ------
    ValueError
        Where the shape is another.
    """
    if images.ndim != 3 or images.shape[1:] != (SIDE, SIDE):
        raise ValueError(f"images must have shape (batch, 8, 8); got {tuple(images.shape)}")
    return rearrange(images, "batch (h p) (w q) -> batch (h w) (p q)", p=PATCH, q=PATCH)


def images_of(patches: Float[Tensor, "batch 16 4"]) -> Images:
    """Put patches (batch, 16, 4) together to pictures (batch, 8, 8): undoes `patches_of`."""
    n_side = SIDE // PATCH
    return rearrange(
        patches, "batch (h w) (p q) -> batch (h p) (w q)", h=n_side, w=n_side, p=PATCH, q=PATCH
    )


class PatchEncoder(nn.Module):
    """The Vision Transformer without its last layer: vectors for the class token and the patches.

    Parameters
    ----------
    d_model, n_heads, n_layers : int
    dropout : float
    positions : bool
        Whether each patch's place has a learned vector. Without, the picture is a bag of patches.

    References
    ----------
    Dosovitskiy et al. (2021), "An Image Is Worth 16x16 Words: Transformers for Image Recognition
    at Scale", ICLR, section 3.1.
    """

    def __init__(
        self,
        *,
        d_model: int = 32,
        n_heads: int = 4,
        n_layers: int = 2,
        dropout: float = 0.1,
        positions: bool = True,
    ) -> None:
        super().__init__()
        self.embedding = nn.Linear(PATCH**2, d_model)
        self.class_token = nn.Parameter(SPREAD * torch.randn(d_model))
        places = SPREAD * torch.randn(N_PATCHES, d_model)
        self.positions = nn.Parameter(places) if positions else None
        self.layers = nn.ModuleList(
            EncoderLayer(d_model, n_heads, 2 * d_model, dropout=dropout) for _ in range(n_layers)
        )
        self.norm = nn.LayerNorm(d_model)

    def forward(
        self,
        patches: Float[Tensor, "batch 16 4"],
        visible: Int[Tensor, "batch n_visible"] | None = None,
    ) -> Float[Tensor, "batch n_tokens d_model"]:
        """Encode all patches, or those that are visible; the others do not take part at all.

        Parameters
        ----------
        patches : float tensor, shape (batch, 16, 4)
        visible : int64 tensor, shape (batch, n_visible), optional
            The numbers of each picture's visible patches, from 0 to 15.

        Returns
        -------
        float tensor, shape (batch, 1 + n_visible, d_model)
            The class token first, then the patches in the order in which they are named.
        """
        x = self.embedding(patches)  # (batch, 16, d_model)
        if self.positions is not None:
            x = x + self.positions
        if visible is not None:
            x = x.gather(1, visible[..., None].expand(-1, -1, x.shape[-1]))
        x = torch.cat([self.class_token.expand(len(x), 1, -1), x], dim=1)  # (batch, 1 + n, d_model)
        for layer in self.layers:
            x, _ = layer(x)
        return self.norm(x)


class VisionTransformer(nn.Module):
    """A patch encoder, and a linear layer that reads the digit off the class token.

    Parameters
    ----------
    options
        Those of `PatchEncoder`.
    """

    def __init__(self, **options) -> None:
        super().__init__()
        self.encoder = PatchEncoder(**options)
        self.head = nn.Linear(self.encoder.norm.normalized_shape[0], N_CLASSES)

    def forward(
        self, images: Images, visible: Int[Tensor, "batch n_visible"] | None = None
    ) -> Float[Tensor, "batch 10"]:
        """Pictures (batch, 8, 8), or only their visible patches, to logits (batch, 10)."""
        return self.head(self.encoder(patches_of(images), visible)[:, 0])


class ChannelGate(nn.Module):
    """Multiply each channel by a factor from 0 to 1, computed from all of them.

    Squeeze-and-excitation describes a channel by its mean over all places. CBAM adds what the same
    two layers make of its maximum.

    Parameters
    ----------
    n_channels, reduction : int
        Between the two layers there are n_channels / reduction numbers.
    maximum : bool
        Whether the maximum counts too.

    References
    ----------
    Hu, Shen and Sun (2018), "Squeeze-and-Excitation Networks", CVPR.
    Woo et al. (2018), "CBAM: Convolutional Block Attention Module", ECCV, section 3.
    """

    def __init__(self, n_channels: int, *, reduction: int = 4, maximum: bool = False) -> None:
        super().__init__()
        self.squeeze = nn.Linear(n_channels, n_channels // reduction)
        self.excite = nn.Linear(n_channels // reduction, n_channels)
        self.maximum = maximum

    def forward(self, x: Features) -> Features:
        """Features (batch, channels, height, width), each channel scaled."""
        return x * self.factors(x)[..., None, None]

    def factors(self, x: Features) -> Float[Tensor, "batch channels"]:
        """A factor for each channel; they do not sum to one."""
        scores = self.excite(F.relu(self.squeeze(x.mean(dim=(2, 3)))))  # (batch, channels)
        if self.maximum:
            scores = scores + self.excite(F.relu(self.squeeze(x.amax(dim=(2, 3)))))
        return torch.sigmoid(scores)


class SpatialGate(nn.Module):
    """Multiply each place by a factor from 0 to 1, computed from its neighbourhood.

    A place is described by the mean and the maximum of its channels. The paper's convolution is 7
    wide; here, where a feature map is 8 wide, it is 3.

    References
    ----------
    Woo et al. (2018), "CBAM: Convolutional Block Attention Module", ECCV, section 3.
    """

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(2, 1, 3, padding=1)

    def forward(self, x: Features) -> Features:
        """Features (batch, channels, height, width), each place scaled."""
        return x * self.factors(x)

    def factors(self, x: Features) -> Float[Tensor, "batch 1 height width"]:
        """A factor for each place; they do not sum to one."""
        described = torch.stack([x.mean(dim=1), x.amax(dim=1)], dim=1)  # (batch, 2, height, width)
        return torch.sigmoid(self.convolution(described))


class Convolutional(nn.Sequential):
    """Two convolutions, the maximum of each 2 by 2 places, a third convolution, a linear layer.

    Parameters
    ----------
    gate : "none", "channel" or "channel and spatial"
        What stands behind each of the three convolutions: nothing, squeeze-and-excitation, CBAM.
    n_channels : int
        Of the first convolution; the others have twice as many.
    dropout : float
        Before the linear layer.

    Raises
    ------
    ValueError
        Where there is no such gate.
    """

    def __init__(
        self,
        gate: Literal["none", "channel", "channel and spatial"] = "none",
        *,
        n_channels: int = 16,
        dropout: float = 0.1,
    ) -> None:
        if gate not in ("none", "channel", "channel and spatial"):
            raise ValueError(
                f"gate must be 'none', 'channel' or 'channel and spatial'; got {gate!r}"
            )
        blocks: list[nn.Module] = [nn.Unflatten(1, (1, SIDE))]  # (batch, 1, 8, 8)
        widths = [1, n_channels, 2 * n_channels, 2 * n_channels]
        for number, (n_in, n_out) in enumerate(itertools.pairwise(widths)):
            blocks += [nn.Conv2d(n_in, n_out, 3, padding=1), nn.ReLU()]
            if gate != "none":
                blocks.append(ChannelGate(n_out, maximum=gate != "channel"))
            if gate == "channel and spatial":
                blocks.append(SpatialGate())
            if number == 1:
                blocks.append(nn.MaxPool2d(2))  # (batch, 2 · n_channels, 4, 4)
        n_features = 2 * n_channels * (SIDE // 2) ** 2
        super().__init__(
            *blocks, nn.Flatten(), nn.Dropout(dropout), nn.Linear(n_features, N_CLASSES)
        )


@contextlib.contextmanager
def constant_gates(model: nn.Module, images: Images) -> Iterator[None]:
    """Within this context each gate multiplies by the mean of its factors over some pictures.

    It takes from the gates that they look at the picture, and leaves what they do on average.

    Parameters
    ----------
    model : module
        With one `ChannelGate` or `SpatialGate` or more.
    images : float tensor, shape (batch, 8, 8)

    Raises
    ------
    ValueError
        Where the model has no gate.
    """
    gates = [module for module in model.modules() if isinstance(module, ChannelGate | SpatialGate)]
    if not gates:
        raise ValueError("model must have a gate; it has none")
    means = {}

    def keep(gate: nn.Module, arguments: tuple) -> None:
        means[gate] = gate.factors(*arguments).mean(dim=0, keepdim=True)

    hooks = [gate.register_forward_pre_hook(keep) for gate in gates]
    with evaluating(model):
        model(images)
    for hook in hooks:
        hook.remove()
    try:
        for gate in gates:
            gate.factors = lambda _, mean=means[gate]: mean
        yield
    finally:
        for gate in gates:
            del gate.factors
