"""Generated pictures whose two far corners match: who knows the second corner from the first?"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn

from attn_tutorial.applications.image_generation.baselines import Logistic
from attn_tutorial.applications.image_generation.data import CORNER, SIDE, draw_corners
from attn_tutorial.applications.image_generation.pixels import (
    PixelCNN,
    PixelTransformer,
    bits,
    pixel_loss,
)
from attn_tutorial.applications.measuring import n_parameters
from attn_tutorial.attribution import uniform_weights
from attn_tutorial.training import train

STEPS = 500
N_TRAINING, N_TEST = 8000, 1000  # 500 batches of 16: no picture comes twice


class Kind(NamedTuple):
    """How a network is made and trained, and whether its attention has equal weights."""

    make: Callable[[], nn.Module]
    rate: float
    equal_weights: bool = False


def _convolutions(size: int, n_layers: int) -> Callable[[], PixelCNN]:
    return lambda: PixelCNN(n_channels=24, n_layers=n_layers, size=size, dropout=0.0)


KINDS = {
    "attention, 1 layer": Kind(lambda: PixelTransformer(n_layers=1), 1e-2),
    "equal weights, 1 layer": Kind(lambda: PixelTransformer(n_layers=1), 1e-2, equal_weights=True),
    "4 convolutions, 3 wide": Kind(_convolutions(3, 3), 5e-3),
    "8 convolutions, 3 wide": Kind(_convolutions(3, 7), 5e-3),
    "1 convolution, 13 wide": Kind(_convolutions(13, 0), 5e-3),
    "logistic regression": Kind(Logistic, 1e-2),
}


def fit_corners(seed: int, name: str, *, steps: int = STEPS) -> nn.Module:
    """Train one of the networks in KINDS on pictures drawn for this seed.

    Raises
    ------
    ValueError
        Where there is no network of that name.
    """
    if name not in KINDS:
        raise ValueError(f"name must be one of {list(KINDS)}; got {name!r}")
    kind = KINDS[name]
    torch.manual_seed(seed)
    model = kind.make()
    with equal_if(kind, model):
        train(
            model,
            pixel_loss,
            (draw_corners(N_TRAINING, seed=1000 + seed),),
            steps=steps,
            batch_size=16,
            peak=kind.rate,
            warm_up=50,
            seed=seed,
        )
    return model


def equal_if(kind: Kind, model: nn.Module) -> contextlib.AbstractContextManager:
    """The context in which a network of this kind is trained and used."""
    return uniform_weights(model) if kind.equal_weights else contextlib.nullcontext()


def measure_corners(seeds: list[int]) -> dict[str, dict]:
    """For each network and seed, what all pixels and the first one of the second corner cost.

    Returns
    -------
    dict of dicts
        With the number of parameters, and two lists in bits per pixel.
    """
    test = draw_corners(N_TEST, seed=0)
    result = {}
    for name, kind in KINDS.items():
        costs = []
        for seed in seeds:
            model = fit_corners(seed, name)
            with equal_if(kind, model):
                costs.append(bits(model, test).mean(dim=0))  # (8, 8)
        result[name] = {
            "parameters": n_parameters(model),
            "all pixels": [cost.mean().item() for cost in costs],
            "second corner": [cost[SIDE - CORNER, SIDE - CORNER].item() for cost in costs],
        }
    return result
