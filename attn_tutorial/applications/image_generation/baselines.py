"""What somebody would try first: mixtures of independent pixels, and logistic regression.

All are called as the networks in `pixels` are, and give exact probabilities.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from attn_tutorial.applications.image_generation.data import N_LEVELS, SIDE, Levels
from attn_tutorial.applications.image_generation.pixels import Chances, check_levels

Tables = Float[Tensor, "k height width n_levels"]


class Mixture(nn.Module):
    """One of k tables is drawn, then each pixel on its own from it.

    Parameters
    ----------
    tables : float tensor, shape (k, height, width, 4)
        Probabilities of the levels of each pixel.
    shares : float tensor, shape (k,)
        With which probability each table is drawn.
    """

    def __init__(self, tables: Tables, shares: Float[Tensor, " k"]) -> None:
        super().__init__()
        self.register_buffer("tables", tables.log())
        self.register_buffer("shares", shares.log())

    def forward(self, levels: Levels) -> Chances:
        """Pictures (n, height, width) to log-probabilities (n, height, width, 4).

        The pixels before tell which tables are likely (Bayes' rule), and these say the next pixel.
        """
        check_levels(levels)
        k, (_, height, width) = len(self.tables), levels.shape
        belief = self.shares.expand(len(levels), k)  # (n, k), logarithms
        chances = []
        for place in range(height * width):
            row, column = divmod(place, width)
            table = self.tables[:, row, column]  # (k, 4)
            sums = torch.logsumexp(belief[:, :, None] + table, dim=1)  # (n, 4)
            chances.append(sums.log_softmax(dim=-1))
            belief = belief + table[:, levels[:, row, column]].T  # (n, k)
        return torch.stack(chances, dim=1).unflatten(1, (height, width))


def counted(levels: Levels, smoothing: float) -> Float[Tensor, "height width 4"]:
    """How often each pixel has each level, with some more of each level counted as if seen."""
    counts = F.one_hot(levels, N_LEVELS).sum(dim=0) + smoothing  # (height, width, 4)
    return counts / counts.sum(dim=-1, keepdim=True)


def independent(levels: Levels, labels: Int[Tensor, " n"], *, smoothing: float) -> Mixture:
    """Each pixel on its own, with the frequencies of its place."""
    return Mixture(counted(levels, smoothing)[None], torch.ones(1))


def by_digit(levels: Levels, labels: Int[Tensor, " n"], *, smoothing: float) -> Mixture:
    """A digit is drawn, then each pixel with the frequencies that it has in that digit."""
    digits = labels.unique()
    tables = torch.stack([counted(levels[labels == digit], smoothing) for digit in digits])
    shares = torch.stack([(labels == digit).float().mean() for digit in digits])
    return Mixture(tables, shares)


def around_examples(levels: Levels, labels: Int[Tensor, " n"], *, smoothing: float) -> Mixture:
    """A training picture is drawn; each of its pixels is copied, or drawn anew from its place.

    A pixel is drawn anew with the probability `smoothing`.
    """
    copied = F.one_hot(levels, N_LEVELS).float()  # (n, height, width, 4)
    tables = (1 - smoothing) * copied + smoothing * counted(levels, 1.0)
    return Mixture(tables, torch.full((len(levels),), 1 / len(levels)))


class Logistic(nn.Module):
    """Multinomial logistic regression of each pixel on those before it, within some reach.

    Parameters
    ----------
    reach : int
        How many rows up and columns to either side a pixel sees, at most.

    References
    ----------
    With two levels and full reach it is known as a fully visible sigmoid belief network. Larochelle
    and Murray (2011), "The Neural Autoregressive Distribution Estimator", AISTATS, put a neural
    network in its place.
    """

    def __init__(self, reach: int = SIDE, *, side: int = SIDE) -> None:
        super().__init__()
        n = side**2 * N_LEVELS
        self.weight = nn.Parameter(torch.zeros(n, n))
        self.bias = nn.Parameter(torch.zeros(n))
        visible = before(side, reach)  # (n_pixels, n_pixels)
        for axis in (0, 1):
            visible = visible.repeat_interleave(N_LEVELS, dim=axis)
        self.register_buffer("visible", visible)  # (n_pixels · 4, n_pixels · 4)

    def forward(self, levels: Levels) -> Chances:
        """Pictures (n, height, width) to log-probabilities (n, height, width, 4)."""
        check_levels(levels)
        n, height, width = levels.shape
        known = F.one_hot(levels, N_LEVELS).float().flatten(1)  # (n, n_pixels · 4)
        n_known = known.shape[1]
        weight = (self.weight * self.visible)[:n_known, :n_known]
        logits = F.linear(known, weight, self.bias[:n_known])
        return logits.view(n, height, width, N_LEVELS).log_softmax(dim=-1)

    def fit(self, levels: Levels, *, penalty: float, steps: int = 100) -> Logistic:
        """Find the parameters with the lowest sum of losses in nats and of penalised weights.

        Parameters
        ----------
        levels : int64 tensor, shape (n, height, width)
        penalty : float
            Half of it, times the sum of the squared weights, is added to the loss.
        steps : int
            Of the optimiser (L-BFGS), at most.

        Returns
        -------
        Logistic
            This model.
        """
        optimizer = torch.optim.LBFGS(
            self.parameters(), max_iter=steps, line_search_fn="strong_wolfe", tolerance_grad=1e-4
        )

        def loss() -> Tensor:
            optimizer.zero_grad()
            chances = self(levels).gather(-1, levels[..., None])
            total = -chances.sum() + penalty / 2 * (self.weight**2).sum()
            total = total / len(levels)
            total.backward()
            return total

        optimizer.step(loss)
        return self


def before(side: int, reach: int) -> Bool[Tensor, "n_pixels n_pixels"]:
    """For each pixel, row by row, which others come before it and lie within reach."""
    place = torch.arange(side**2)
    row, column = place // side, place % side
    near = ((row[:, None] - row).abs() <= reach) & ((column[:, None] - column).abs() <= reach)
    return near & (place < place[:, None])
