"""A generative adversarial network: one draws pictures, another tells them from real ones."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from attn_tutorial.applications.image_generation.blocks import Kind, block
from attn_tutorial.applications.image_generation.data import SIDE
from attn_tutorial.training import batch_indices, evaluating

HALF = SIDE // 2
N_NOISE = 16
Images = Float[Tensor, "n 8 8"]


class Generator(nn.Module):
    """Noise to pictures.

    Parameters
    ----------
    kind : "attention" or "convolution"
        The block in the middle, where a picture has 4 by 4 places.
    n_channels : int
        Channels at the 4 by 4 places; half as many at 8 by 8.
    """

    def __init__(self, kind: Kind, *, n_channels: int = 32) -> None:
        super().__init__()
        self.network = nn.Sequential(
            nn.Linear(N_NOISE, n_channels * HALF**2),
            nn.ReLU(),
            nn.Unflatten(1, (n_channels, HALF, HALF)),
            block(kind, n_channels),
            nn.ConvTranspose2d(n_channels, n_channels // 2, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(n_channels // 2, 1, 3, padding=1),
            nn.Sigmoid(),
            nn.Flatten(1, 2),
        )

    def forward(self, noise: Float[Tensor, "n n_noise"]) -> Images:
        """Noise (n, 16) to pictures (n, 8, 8), from 0 to 1."""
        return self.network(noise)


class Discriminator(nn.Module):
    """Pictures to scores: above zero for those that it takes for real.

    All its matrices are divided by their largest singular value.

    References
    ----------
    Miyato et al. (2018), "Spectral Normalization for Generative Adversarial Networks", ICLR.
    """

    def __init__(self, kind: Kind, *, n_channels: int = 32) -> None:
        super().__init__()
        self.network = nn.Sequential(
            nn.Conv2d(1, n_channels // 2, 3, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(n_channels // 2, n_channels, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            block(kind, n_channels),
            nn.Flatten(),
            nn.Linear(n_channels * HALF**2, 1),
        )
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                spectral_norm(module)

    def forward(self, images: Images) -> Float[Tensor, " n"]:
        """Pictures (n, 8, 8) to scores (n,)."""
        return self.network(images[:, None])[:, 0]


def fit_adversaries(
    images: Images,
    kind: Kind,
    *,
    seed: int,
    steps: int,
    batch_size: int = 32,
    rate: float = 2e-3,
) -> tuple[nn.Module, list[float]]:
    """Train a generator and a discriminator against one another, with the hinge loss.

    Parameters
    ----------
    images : float tensor, shape (n, 8, 8), from 0 to 1
    kind : "attention" or "convolution"
        The block in both networks.
    seed : int
        Decides everything.
    steps, batch_size : int
        In each step first the discriminator moves, then the generator.
    rate : float
        The learning rate of both.

    Returns
    -------
    generator : module
        With a moving average of its parameters over about the last hundred steps.
    losses : list of float
        The discriminator's, in each step: 2 where it cannot tell the pictures apart.

    References
    ----------
    Goodfellow et al. (2014), "Generative Adversarial Nets", NeurIPS, for the game. Zhang et al.
    (2019), "Self-Attention Generative Adversarial Networks", ICML, for the loss and the optimiser.
    """
    torch.manual_seed(seed)
    generator, judge = Generator(kind), Discriminator(kind)
    averaged = AveragedModel(generator, multi_avg_fn=get_ema_multi_avg_fn(0.99))
    of_generator, of_judge = (
        torch.optim.Adam(model.parameters(), lr=rate, betas=(0.0, 0.9))
        for model in (generator, judge)
    )
    losses = []
    for step in range(1, steps + 1):
        indices = batch_indices(step, n=len(images), batch_size=batch_size, seed=seed)
        real = images[indices]
        fake = generator(torch.randn(len(real), N_NOISE))
        loss = F.relu(1 - judge(real)).mean() + F.relu(1 + judge(fake.detach())).mean()
        of_judge.zero_grad()
        loss.backward()
        of_judge.step()
        losses.append(loss.item())

        wish = -judge(fake).mean()
        of_generator.zero_grad()
        wish.backward()
        of_generator.step()
        averaged.update_parameters(generator)
    return averaged.module, losses


def draw_images(generator: nn.Module, n: int, *, seed: int) -> Images:
    """Draw pictures (n, 8, 8) from a trained generator."""
    noise = torch.randn(n, N_NOISE, generator=torch.Generator().manual_seed(seed))
    with evaluating(generator):
        return generator(noise)
