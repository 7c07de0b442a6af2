"""VAE and GAN with a block of self-attention or of convolution, and judges for what they draw."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from attn_tutorial.applications.image_generation.adversarial import (
    draw_images,
    fit_adversaries,
)
from attn_tutorial.applications.image_generation.blocks import Kind
from attn_tutorial.applications.image_generation.data import (
    Levels,
    Pictures,
    ink_of,
    levels_of,
    load_parts,
)
from attn_tutorial.applications.image_generation.judging import (
    Classifier,
    features,
    fit_classifier,
    frechet_distance,
    precision_and_recall,
    to_nearest,
)
from attn_tutorial.applications.image_generation.latent import (
    VariationalAutoencoder,
    draw_decoded,
    importance_bound,
    negative_elbo,
)
from attn_tutorial.applications.measuring import Clock, n_parameters
from attn_tutorial.attribution import uniform_weights
from attn_tutorial.training import History, train

BLOCKS: tuple[Kind, ...] = ("attention", "convolution")
STEPS = {"VAE": 1000, "GAN": 1000}
N_DRAWN = 547  # as many as the test part has
N_SAMPLES = 8  # that the chapter shows
N_FIRST = 20  # losses that are stored, for the chapter to train as far and compare
DIGITS = "0123456789abcdefg"  # for 17 steps of ink

Images = Float[Tensor, "n 8 8"]


def fit_vae(
    seed: int, kind: Kind, *, steps: int = STEPS["VAE"]
) -> tuple[VariationalAutoencoder, History]:
    """Train a variational autoencoder on the training digits; the seed decides everything.

    Returns
    -------
    model : VariationalAutoencoder
        With the parameters of the lowest validation bound, which is drawn every 100 steps.
    history : History
        The bounds, in bits per pixel.
    """
    parts = load_parts()
    torch.manual_seed(seed)
    model = VariationalAutoencoder(kind)
    levels = parts["validation"].levels
    history = train(
        model,
        negative_elbo,
        (parts["training"].levels,),
        steps=steps,
        batch_size=32,
        peak=1e-2,
        warm_up=50,
        validate=lambda model: importance_bound(model, levels, n_draws=1, seed=0).mean().item(),
        seed=seed,
    )
    return model, history


def bounds(model: VariationalAutoencoder, part: Pictures) -> dict[str, float]:
    """Two upper bounds of the bits per pixel of a part: by one vector a picture, and by fifty."""
    return {
        name: importance_bound(model, part.levels, n_draws=n_draws, seed=0).mean().item()
        for name, n_draws in {"bound": 1, "closer bound": 50}.items()
    }


def measure_blocks(parts: dict[str, Pictures], seeds: list[int]) -> dict[str, dict]:
    """Train both networks with both blocks over the seeds.

    Returns
    -------
    dict of dicts
        "VAE" and "GAN" have scores by block and metric, a list over the seeds; "first losses" those
        of the first seed; "drawn" the pictures of each seed.
    """
    results = {"VAE": {}, "GAN": {}, "first losses": {}, "drawn": {}}
    for kind in BLOCKS:
        clock, scores, drawn = Clock(), [], []
        for seed in seeds:
            with clock.running():
                model, history = fit_vae(seed, kind)
            scores.append(bounds(model, parts["test"]))
            if kind == "attention":
                with uniform_weights(model):
                    equal = bounds(model, parts["test"])
                scores[-1]["closer bound, equal weights"] = equal["closer bound"]
            drawn.append(ink_of(draw_decoded(model, N_DRAWN, seed=seed)))
            if seed == seeds[0]:
                results["first losses"][f"VAE, {kind}"] = history.losses[:N_FIRST]
        results["VAE"][kind] = {name: [one[name] for one in scores] for name in scores[0]}
        results["VAE"][kind]["parameters"] = n_parameters(model)
        results["VAE"][kind]["seconds"] = clock.seconds / len(seeds)
        results["drawn"][f"VAE, {kind}"] = drawn
    for kind in BLOCKS:
        clock, drawn = Clock(), []
        for seed in seeds:
            with clock.running():
                generator, losses = fit_adversaries(
                    parts["training"].images, kind, seed=seed, steps=STEPS["GAN"]
                )
            drawn.append(draw_images(generator, N_DRAWN, seed=seed))
            if seed == seeds[0]:
                results["first losses"][f"GAN, {kind}"] = losses[:N_FIRST]
        results["GAN"][kind] = {
            "parameters": n_parameters(generator),
            "seconds": clock.seconds / len(seeds),
        }
        results["drawn"][f"GAN, {kind}"] = drawn
    return results


def judge(drawn: dict[str, list[Images]], parts: dict[str, Pictures]) -> dict[str, dict]:
    """Compare drawn pictures with the test part; and real ones, which nobody can be better than.

    Parameters
    ----------
    drawn : dict of lists of float tensors, shape (n, 8, 8)
        Pictures as ink, for each system and seed.
    parts : dict of Pictures

    Returns
    -------
    dict of dicts of lists
        Five scores for each system, over its seeds.
    """
    training, test = parts["training"], parts["test"]
    classifier = fit_classifier(training)
    real = {
        "training pictures": [training.images[:N_DRAWN]],
        "training pictures, 4 levels": [ink_of(training.levels[:N_DRAWN])],
    }
    result = {}
    for name, several in (real | drawn).items():
        scores = [scores_of(classifier, images, test.images) for images in several]
        result[name] = {metric: [one[metric] for one in scores] for metric in scores[0]}
        if name in drawn:
            result[name] |= nearest([levels_of(images) for images in several], training)
    result["test pictures"] = nearest([test.levels], training)
    return result


def nearest(several: list[Levels], training: Pictures) -> dict[str, list[float]]:
    """How many pixels of 64 differ from the nearest training picture; how many are copies."""
    differences = [to_nearest(levels, training.levels).float() for levels in several]
    return {
        "pixels that differ": [one.mean().item() for one in differences],
        "copies": [(one == 0).float().mean().item() for one in differences],
    }


def scores_of(
    classifier: Classifier, drawn: Images, real: Float[Tensor, "n_real 8 8"]
) -> dict[str, float]:
    """How drawn pictures compare with unseen real ones as a crowd."""
    one, other = features(classifier, drawn), features(classifier, real)
    precision, recall = precision_and_recall(other, one)
    return {
        "Fréchet distance": frechet_distance(one, other),
        "precision": precision,
        "recall": recall,
    }


def samples(drawn: dict[str, list[Images]]) -> dict[str, list[str]]:
    """The first pictures of the first seed of each system, each as a text of 64 signs."""
    return {
        name: [as_text(image) for image in several[0][:N_SAMPLES]]
        for name, several in drawn.items()
    }


def as_text(image: Float[Tensor, "8 8"]) -> str:
    """Ink from 0 to 1 as 64 signs from 0 to g, row by row; rounds to 17 steps."""
    return "".join(DIGITS[step] for step in (16 * image).round().long().flatten().tolist())


def from_text(text: str) -> Float[Tensor, "8 8"]:
    """The picture that `as_text` has written."""
    return torch.tensor([DIGITS.index(sign) for sign in text]).view(8, 8) / 16
