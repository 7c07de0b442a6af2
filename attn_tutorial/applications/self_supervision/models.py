"""Pictures with holes: networks that fill in hidden patches, and simple ways to do the same.

Of the 16 patches of a digit some are visible. A masked autoencoder encodes only those, and its
decoder predicts the pixels of the others. Nobody has to say which digit it is.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from attn_tutorial.applications.image_classification.models import (
    N_PATCHES,
    PATCH,
    SPREAD,
    Images,
    PatchEncoder,
    images_of,
    patches_of,
)
from attn_tutorial.models import EncoderLayer

Visible = Int[Tensor, "batch n_visible"]
Patches = Float[Tensor, "batch 16 4"]


def draw_visible(
    n: int, n_visible: int, generator: torch.Generator | None = None
) -> Int[Tensor, "n n_visible"]:
    """For each of n pictures, which patches are visible: different ones, drawn by chance.

    Raises
    ------
    ValueError
        Where n_visible is not from 1 to 15: something has to be seen, and something hidden.
    """
    if not 1 <= n_visible < N_PATCHES:
        raise ValueError(f"n_visible must be from 1 to {N_PATCHES - 1}; got {n_visible}")
    return torch.rand(n, N_PATCHES, generator=generator).argsort(dim=1)[:, :n_visible]


def is_hidden(visible: Visible) -> Float[Tensor, "batch 16"]:
    """One for each hidden patch and zero for each visible one, float, shape (batch, 16)."""
    return torch.ones(len(visible), N_PATCHES).scatter(1, visible, 0.0)


class MaskedAutoencoder(nn.Module):
    """A patch encoder that sees the visible patches, and a small decoder that fills in the others.

    The decoder gets the encoder's vectors, and for each hidden patch a learned vector that says
    "hidden", each with its place. One layer of self-attention follows: hidden patches ask, and
    visible and hidden ones answer.

    Parameters
    ----------
    d_model, n_heads : int
    dropout : float
        Of the encoder.

    References
    ----------
    He et al. (2022), "Masked Autoencoders Are Scalable Vision Learners", CVPR, section 3.
    """

    def __init__(self, *, d_model: int = 32, n_heads: int = 4, dropout: float = 0.0) -> None:
        super().__init__()
        self.encoder = PatchEncoder(d_model=d_model, n_heads=n_heads, dropout=dropout)
        self.hidden = nn.Parameter(SPREAD * torch.randn(d_model))
        self.positions = nn.Parameter(torch.randn(N_PATCHES, d_model))
        self.decoder = EncoderLayer(d_model, n_heads, 2 * d_model)
        self.norm = nn.LayerNorm(d_model)
        self.pixels = nn.Linear(d_model, PATCH**2)
        with torch.no_grad():  # or it predicts the mean picture for a long time
            self.encoder.embedding.weight *= 2
            self.encoder.positions *= 1.5

    def forward(self, images: Images, visible: Visible) -> Patches:
        """Predict all patches from the visible ones.

        Parameters
        ----------
        images : float tensor, shape (batch, 8, 8)
            Hidden patches have no effect.
        visible : int64 tensor, shape (batch, n_visible)

        Returns
        -------
        float tensor, shape (batch, 16, 4)
        """
        encoded = self.encoder(patches_of(images), visible)  # (batch, 1 + n_visible, d_model)
        width = encoded.shape[-1]
        x = self.hidden.expand(len(images), N_PATCHES, width)
        x = x.scatter(1, visible[..., None].expand(-1, -1, width), encoded[:, 1:])
        x = torch.cat([encoded[:, :1], x + self.positions], dim=1)  # (batch, 17, d_model)
        x, _ = self.decoder(x)
        return self.pixels(self.norm(x[:, 1:]))

    def features(self, images: Images) -> Float[Tensor, "batch 16*d_model"]:
        """What the encoder makes of whole pictures: the vectors of the 16 patches in a row."""
        return self.encoder(patches_of(images))[:, 1:].flatten(1)


class MaskedPerceptron(nn.Module):
    """The same without attention: all pixels in a row, hidden ones zero, through two layers.

    Parameters
    ----------
    d_hidden : int
        The width of both layers.
    """

    def __init__(self, *, d_hidden: int = 96) -> None:
        super().__init__()
        n_pixels = N_PATCHES * PATCH**2
        self.encoder = nn.Sequential(
            nn.Linear(n_pixels + N_PATCHES, d_hidden), nn.ReLU(), nn.Linear(d_hidden, d_hidden)
        )
        self.pixels = nn.Linear(d_hidden, n_pixels)

    def forward(self, images: Images, visible: Visible) -> Patches:
        """Predict all patches (batch, 16, 4) from the visible ones."""
        hidden = is_hidden(visible)  # (batch, 16)
        x = self._encode(patches_of(images) * (1 - hidden)[..., None], hidden)
        return self.pixels(F.relu(x)).unflatten(1, (N_PATCHES, PATCH**2))

    def features(self, images: Images) -> Float[Tensor, "batch d_hidden"]:
        """What the second layer makes of whole pictures."""
        return F.relu(self._encode(patches_of(images), images.new_zeros(len(images), N_PATCHES)))

    def _encode(self, patches: Patches, hidden: Float[Tensor, "batch 16"]) -> Tensor:
        return self.encoder(torch.cat([patches.flatten(1), hidden], dim=1))


def hidden_error(predicted: Patches, images: Images, visible: Visible) -> Tensor:
    """The mean squared error of the hidden patches' pixels, a scalar; visible ones do not count."""
    hidden = is_hidden(visible)  # (batch, 16)
    errors = (predicted - patches_of(images)).square().mean(dim=2)  # (batch, 16)
    return (errors * hidden).sum() / hidden.sum()


def mean_picture(training: Images, images: Images, visible: Visible) -> Patches:
    """Fill in the mean of the training pictures at each place, whatever is visible."""
    return patches_of(training).mean(dim=0).expand(len(images), -1, -1)


def mean_of_neighbours(training: Images, images: Images, visible: Visible) -> Patches:
    """Fill in the mean of the visible pixels, each the less the farther it is from the hole.

    A visible pixel's weight falls to a half with each pixel of distance.
    """
    seen = images_of((1 - is_hidden(visible))[..., None].expand(-1, -1, PATCH**2))  # (batch, 8, 8)
    place = torch.cartesian_prod(torch.arange(8.0), torch.arange(8.0))  # (64, 2)
    weights = 0.5 ** torch.cdist(place, place) * seen.flatten(1)[:, None]  # (batch, 64, 64)
    filled = (weights @ images.flatten(1)[..., None]).squeeze(-1) / weights.sum(dim=-1)
    return patches_of(filled.unflatten(1, (8, 8)))


def gaussian_fill(
    training: Images, images: Images, visible: Visible, *, noise: float = 0.02
) -> Patches:
    """Fill in what is most likely if pixels had a normal distribution: the best linear guess.

    All principal components of the training pictures take part, each with its variance, and each
    pixel has noise of its own.

    Parameters
    ----------
    training : float tensor, shape (n, 8, 8)
        For the mean and the covariance.
    images, visible
        As for a network.
    noise : float
        The variance of the noise.

    Returns
    -------
    float tensor, shape (batch, 16, 4)
    """
    known = patches_of(training).flatten(1).double()  # (n, 64)
    mean, covariance = known.mean(dim=0), known.T.cov() + noise * torch.eye(known.shape[1])
    offsets = torch.arange(PATCH**2)
    pixels = (visible[..., None] * PATCH**2 + offsets).flatten(1)  # (batch, 4 · n_visible)
    seen = patches_of(images).flatten(1).double().gather(1, pixels) - mean[pixels]
    among = covariance[pixels[:, :, None], pixels[:, None, :]]  # (batch, 4 n_visible, 4 n_visible)
    with_all = covariance[:, pixels].transpose(0, 1)  # (batch, 64, 4 · n_visible)
    guess = mean + (with_all @ torch.linalg.solve(among, seen)[..., None]).squeeze(-1)
    return guess.float().unflatten(1, (N_PATCHES, PATCH**2))
