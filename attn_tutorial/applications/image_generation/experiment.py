"""Image generation: draw new digits; a Transformer over pixels, and blocks of attention elsewhere.

The main measure is exact: how many bits each pixel of an unseen picture costs a model. What has no
such number, the pictures drawn by a VAE and a GAN, is judged by `judging`. All settings were chosen
on the validation part.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from attn_tutorial.applications.image_generation.attending import (
    by_offset,
    fixed_weights,
    mean_weights,
    near_share,
)
from attn_tutorial.applications.image_generation.baselines import (
    Logistic,
    Mixture,
    around_examples,
    by_digit,
    independent,
)
from attn_tutorial.applications.image_generation.corners import measure_corners
from attn_tutorial.applications.image_generation.data import Pictures, ink_of, load_parts
from attn_tutorial.applications.image_generation.pixels import (
    PixelCNN,
    PixelTransformer,
    bits,
    draw,
    pixel_loss,
)
from attn_tutorial.applications.image_generation.with_blocks import (
    N_DRAWN,
    N_FIRST,
    judge,
    measure_blocks,
    samples,
)
from attn_tutorial.applications.measuring import over_seeds
from attn_tutorial.applications.results import Results, Role, System, versions
from attn_tutorial.attribution import uniform_weights
from attn_tutorial.training import History, train

SEEDS = [0, 1, 2]
STEPS = 800
MAIN, RIVAL = "Transformer", "PixelCNN"


class Kind(NamedTuple):
    """How a network that draws pixel by pixel is made and trained.

    Attributes
    ----------
    make : function without arguments
    role : "attention", "rival" or "ablation"
    equal_weights : bool
        Whether attention gives all pixels before the same weight, in training and afterwards.
    """

    make: Callable[[], nn.Module]
    role: Role
    equal_weights: bool = False


KINDS = {
    MAIN: Kind(PixelTransformer, "attention"),
    RIVAL: Kind(PixelCNN, "rival"),
    "equal weights, trained so": Kind(PixelTransformer, "ablation", equal_weights=True),
    "places without rows and columns": Kind(
        lambda: PixelTransformer(by_row_and_column=False), "ablation"
    ),
}

# The settings to choose from, for each baseline.
MIXTURES = {
    "independent pixels": (independent, [0.1, 0.3, 1.0, 3.0]),
    "a digit, then pixels": (by_digit, [0.1, 0.3, 1.0, 3.0]),
    "copies with errors": (around_examples, [0.3, 0.4, 0.5, 0.6, 0.7]),
}
REACHES, PENALTIES = [2, 3, 8], [3.0, 10.0, 30.0]

# --- networks --------------------------------------------------------------------------------


def weights_of(kind: Kind, model: nn.Module) -> contextlib.AbstractContextManager:
    """The context in which a network of this kind is trained and used: equal weights, or none."""
    return uniform_weights(model) if kind.equal_weights else contextlib.nullcontext()


def fit(seed: int, name: str, *, steps: int = STEPS) -> tuple[nn.Module, History]:
    """Make one of the networks in KINDS and train it on the training digits.

    Parameters
    ----------
    seed : int
        Decides everything.
    name : string
    steps : int

    Returns
    -------
    model : module
        With the parameters of the lowest validation loss, which is computed every 100 steps.
    history : History
        The losses, in bits per pixel.

    Raises
    ------
    ValueError
        Where there is no network of that name.
    """
    if name not in KINDS:
        raise ValueError(f"name must be one of {list(KINDS)}; got {name!r}")
    kind, parts = KINDS[name], load_parts()
    torch.manual_seed(seed)
    model = kind.make()
    with weights_of(kind, model):
        history = train(
            model,
            pixel_loss,
            (parts["training"].levels,),
            steps=steps,
            batch_size=16,
            peak=1e-2,
            warm_up=50,
            validate=lambda model: bits(model, parts["validation"].levels).mean().item(),
            seed=seed,
        )
    return model, history


def evaluate(model: nn.Module, parts: dict[str, Pictures]) -> dict[str, float]:
    """The bits per pixel of the test part, and of the training part."""
    return {
        name: bits(model, parts[part].levels).mean().item()
        for name, part in {"bits per pixel": "test", "in training": "training"}.items()
    }


# --- baselines -------------------------------------------------------------------------------


def choose(
    make: Callable[[float], nn.Module], settings: list, validation: Pictures
) -> tuple[nn.Module, object]:
    """The model with the fewest bits per pixel on the validation part, and its setting."""
    models = [make(setting) for setting in settings]
    costs = [bits(model, validation.levels).mean().item() for model in models]
    best = int(np.argmin(costs))
    return models[best], settings[best]


def fit_mixture(name: str, smoothing: float, training: Pictures) -> Mixture:
    """One of the mixtures in MIXTURES, with the frequencies of the training part."""
    return MIXTURES[name][0](training.levels, training.labels, smoothing=smoothing)


def fit_logistic(setting: tuple[int, float], training: Pictures) -> Logistic:
    """Logistic regression with a reach and a penalty, fitted to the training part."""
    reach, penalty = setting
    return Logistic(reach).fit(training.levels, penalty=penalty)


def baselines(parts: dict[str, Pictures]) -> tuple[dict[str, nn.Module], dict[str, object]]:
    """All baselines and their settings, fitted to training and chosen by validation."""
    training, validation = parts["training"], parts["validation"]
    makers = {
        name: (lambda setting, name=name: fit_mixture(name, setting, training), grid)
        for name, (_, grid) in MIXTURES.items()
    }
    grid = list(itertools.product(REACHES, PENALTIES))
    makers["logistic regression"] = (lambda setting: fit_logistic(setting, training), grid)
    chosen = {name: choose(make, grid, validation) for name, (make, grid) in makers.items()}
    models, settings = zip(*chosen.values(), strict=True)
    return dict(zip(chosen, models, strict=True)), dict(zip(chosen, settings, strict=True))


# --- all of it -------------------------------------------------------------------------------


def measure() -> Results:
    """Train everything over the seeds, and collect what the chapter shows."""
    parts = load_parts()
    training, test = parts["training"], parts["test"]
    systems, networks, histories = {}, {}, {}
    for name, kind in KINDS.items():
        histories[name] = []

        def fit_and_keep(seed: int, name: str = name) -> nn.Module:
            model, history = fit(seed, name)
            histories[name].append(history)
            return model

        def score(model: nn.Module, kind: Kind = kind) -> dict[str, float]:
            with weights_of(kind, model):
                return evaluate(model, parts)

        systems[name], networks[name] = over_seeds(kind.role, SEEDS, fit_and_keep, score)
    changes = {
        "equal weights after training": uniform_weights,
        "weights of the average picture": lambda model: fixed_weights(model, training.levels),
    }
    for name, change in changes.items():
        systems[name] = _ablation(networks[MAIN], change, parts)
    models, settings = baselines(parts)
    for name, model in models.items():
        scores = {metric: [score] for metric, score in evaluate(model, parts).items()}
        systems[name] = System("baseline", scores)

    drawn = {
        "logistic regression": [_drawn(models["logistic regression"], SEEDS[0])],
        "independent pixels": [_drawn(models["independent pixels"], SEEDS[0])],
        "copies with errors": [_drawn(models["copies with errors"], SEEDS[0])],
    }
    for name in (MAIN, RIVAL):
        pairs = zip(networks[name], SEEDS, strict=True)
        drawn[name] = [_drawn(model, seed) for model, seed in pairs]
    blocks = measure_blocks(parts, SEEDS)
    return Results(
        task="Give probabilities to pictures of digits, and draw new ones",
        data="Handwritten digits of 8 by 8 pixels in 4 levels of ink, from scikit-learn",
        origin="real",
        split="Contiguous blocks of the file; no form is in both training and test part",
        metric="bits per pixel",
        higher_is_better=False,
        n_training=len(training.levels),
        n_test=len(test.levels),
        seeds=SEEDS,
        systems=systems,
        libraries=versions("torch", "scikit-learn"),
        more={
            "settings": settings,
            "curves": {
                name: [[loss for _, loss in one.validations] for one in several]
                for name, several in histories.items()
            },
            "first losses": {
                name: several[0].losses[:N_FIRST] for name, several in histories.items()
            }
            | blocks["first losses"],
            "picture by picture": {
                name: [
                    apart(one, other, test)
                    for one, other in zip(networks[MAIN], others, strict=True)
                ]
                for name, others in {
                    RIVAL: networks[RIVAL],
                    "logistic regression": [models["logistic regression"]] * len(SEEDS),
                }.items()
            },
            "looks": looks(networks[MAIN], test),
            "VAE": blocks["VAE"],
            "GAN": blocks["GAN"],
            "drawn": judge(drawn | blocks["drawn"], parts),
            "samples": samples(drawn | blocks["drawn"]),
            "corners": measure_corners(SEEDS),
        },
    )


def apart(one: nn.Module, other: nn.Module, part: Pictures) -> dict[str, float]:
    """How much fewer bits per pixel the first takes, picture by picture.

    Returns
    -------
    dict of float
        The mean, its standard error over the pictures, and the share of pictures where it is fewer.
    """
    gain = (bits(other, part.levels) - bits(one, part.levels)).mean(dim=(1, 2)).numpy()  # (n,)
    return {
        "mean": float(gain.mean()),
        "standard error": float(gain.std(ddof=1) / np.sqrt(len(gain))),
        "share": float((gain > 0).mean()),
    }


def looks(models: list[PixelTransformer], part: Pictures) -> dict[str, list]:
    """Where a pixel looks: for each seed, layer and head; the maps for the first seed only."""
    weights = [mean_weights(model, part.levels) for model in models]
    n_pixels = weights[0][0].shape[-1]
    equal = torch.ones(1, n_pixels, n_pixels).tril()
    equal = equal / equal.sum(dim=-1, keepdim=True)
    return {
        "share of the nearest 4": [
            [near_share(layer, reach=1).tolist() for layer in layers] for layers in weights
        ],
        "with equal weights": near_share(equal, reach=1).item(),
        "maps": [by_offset(layer, reach=3).tolist() for layer in weights[0]],
    }


def _ablation(
    models: list[nn.Module],
    changed: Callable[[nn.Module], contextlib.AbstractContextManager],
    parts: dict[str, Pictures],
) -> System:
    scores = []
    for model in models:
        with changed(model):
            scores.append(evaluate(model, parts))
    return System("ablation", {name: [s[name] for s in scores] for name in scores[0]})


def _drawn(model: nn.Module, seed: int) -> Tensor:
    """As many pictures as the test part has, as ink."""
    return ink_of(draw(model, N_DRAWN, seed=seed))
