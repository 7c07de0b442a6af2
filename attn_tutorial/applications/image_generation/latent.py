"""A variational autoencoder: a picture is written all at once, from a vector that nobody sees.

Its probability of a picture is an integral over that vector. It can only be bounded; the bounds are
given in bits per pixel, so that they stand beside the exact ones of `pixels`.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from attn_tutorial.applications.image_generation.blocks import Kind, block
from attn_tutorial.applications.image_generation.data import N_LEVELS, SIDE, Levels
from attn_tutorial.applications.image_generation.pixels import check_levels, one_hot
from attn_tutorial.training import evaluating

HALF = SIDE // 2
Vectors = Float[Tensor, "n n_latent"]


class VariationalAutoencoder(nn.Module):
    """An encoder to a normal distribution, and a decoder to the levels of each pixel.

    Parameters
    ----------
    kind : "attention" or "convolution"
        The block in the middle of both networks, where a picture has 4 by 4 places.
    n_channels, n_latent : int
        Channels at the 4 by 4 places (half as many at 8 by 8), and the width of the vector.

    References
    ----------
    Kingma and Welling (2014), "Auto-Encoding Variational Bayes", ICLR.
    """

    def __init__(self, kind: Kind, *, n_channels: int = 32, n_latent: int = 16) -> None:
        super().__init__()
        self.n_latent = n_latent
        narrow = n_channels // 2
        self.encoder = nn.Sequential(
            nn.Conv2d(N_LEVELS, narrow, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(narrow, n_channels, 4, stride=2, padding=1),  # (n, n_channels, 4, 4)
            nn.ReLU(),
            block(kind, n_channels),
            nn.Flatten(),
            nn.Linear(n_channels * HALF**2, 2 * n_latent),
        )
        self.decoder = nn.Sequential(
            nn.Linear(n_latent, n_channels * HALF**2),
            nn.ReLU(),
            nn.Unflatten(1, (n_channels, HALF, HALF)),
            block(kind, n_channels),
            nn.ConvTranspose2d(n_channels, narrow, 4, stride=2, padding=1),  # (n, narrow, 8, 8)
            nn.ReLU(),
            nn.Conv2d(narrow, N_LEVELS, 3, padding=1),
        )

    def encode(self, levels: Levels) -> tuple[Vectors, Vectors]:
        """The mean and the logarithm of the variance of each picture's vector, (n, n_latent)."""
        check_levels(levels)
        mean, log_variance = self.encoder(one_hot(levels)).chunk(2, dim=1)
        return mean, log_variance

    def decode(self, vectors: Vectors) -> Float[Tensor, "n 8 8 4"]:
        """The log-probabilities of each pixel's levels, given the vectors (n, n_latent)."""
        return self.decoder(vectors).movedim(1, -1).log_softmax(dim=-1)


def negative_elbo(model: VariationalAutoencoder, levels: Levels) -> Float[Tensor, ""]:
    """An upper bound of the bits per pixel, the mean over pictures, with one vector drawn for each.

    What a picture costs given its vector, plus how far the vector's distribution is from the
    standard normal one (the Kullback-Leibler divergence).
    """
    mean, log_variance = model.encode(levels)  # (n, n_latent)
    vectors = mean + torch.exp(log_variance / 2) * torch.randn_like(mean)
    cost = -model.decode(vectors).gather(-1, levels[..., None]).flatten(1).sum(dim=1)  # (n,)
    divergence = (mean**2 + log_variance.exp() - 1 - log_variance).sum(dim=1) / 2  # (n,)
    return (cost + divergence).mean() / (math.log(2) * SIDE**2)


def importance_bound(
    model: VariationalAutoencoder, levels: Levels, *, n_draws: int, seed: int
) -> Float[Tensor, " n"]:
    """A closer upper bound of each picture's bits per pixel, from several vectors.

    With one draw it is the bound above in expectation; with more it comes closer to the truth.

    References
    ----------
    Burda, Grosse and Salakhutdinov (2016), "Importance Weighted Autoencoders", ICLR.
    """
    if n_draws < 1:
        raise ValueError(f"n_draws must be at least 1; got {n_draws}")
    generator = torch.Generator().manual_seed(seed)
    with evaluating(model):
        mean, log_variance = model.encode(levels)  # (n, n_latent)
        ratios = []
        for _ in range(n_draws):
            noise = torch.randn(mean.shape, generator=generator)
            vectors = mean + torch.exp(log_variance / 2) * noise
            given = model.decode(vectors).gather(-1, levels[..., None]).flatten(1).sum(dim=1)
            # The normal densities of the vector, prior over posterior; the constants cancel.
            ratio = (noise**2 + log_variance - vectors**2).sum(dim=1) / 2
            ratios.append(given + ratio)  # (n,)
        total = torch.logsumexp(torch.stack(ratios), dim=0) - math.log(n_draws)
    return -total / (math.log(2) * SIDE**2)


def draw_decoded(model: VariationalAutoencoder, n: int, *, seed: int) -> Levels:
    """Draw vectors from the standard normal distribution, then each pixel on its own."""
    generator = torch.Generator().manual_seed(seed)
    with evaluating(model):
        chances = model.decode(torch.randn(n, model.n_latent, generator=generator)).exp()
        pixels = torch.multinomial(chances.flatten(0, 2), 1, generator=generator)
    return pixels.view(n, SIDE, SIDE)
