"""What a smaller cache costs: pictures of digits pixel by pixel, with attention of several kinds.

  python -m attn_tutorial.frontier.decoding.experiment

trains everything and writes chapters/frontier/results/decoding.json: ten minutes on one core. All
models get places, data and steps alike, and equally many parameters: what a kind saves in its
projections widens its feed-forward networks. Rates were chosen on the validation part.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from attn_tutorial.applications.image_generation.data import N_LEVELS, load_parts
from attn_tutorial.applications.image_generation.pixels import (
    PixelTransformer,
    bits,
    pixel_loss,
)
from attn_tutorial.applications.measuring import n_parameters
from attn_tutorial.frontier.decoding import speculative
from attn_tutorial.frontier.decoding.grouped import convert
from attn_tutorial.frontier.decoding.latent import LatentAttention, convert_to_latent
from attn_tutorial.frontier.decoding.sizes import numbers_in_heads, numbers_in_latent
from attn_tutorial.frontier.decoding.stores import QuantisedCache
from attn_tutorial.layers import KeyValueCache, MultiHeadAttention
from attn_tutorial.models import FeedForward
from attn_tutorial.training import History, evaluating, train

FILE = Path(__file__).parents[3] / "chapters/frontier/results/decoding.json"
D_MODEL, N_HEADS, D_HIDDEN = 32, 4, 64
STEPS, SEEDS = 800, (0, 1, 2, 3, 4)
STEPS_TO_CHOOSE, SEED_TO_CHOOSE = 300, 10
RATES = (5e-3, 1e-2, 2e-2)
KINDS: dict[str, Callable[[], nn.Module]] = {
    "multi-head": lambda: MultiHeadAttention(D_MODEL, N_HEADS),
    "grouped": lambda: MultiHeadAttention(D_MODEL, N_HEADS, n_kv_heads=2),
    "multi-query": lambda: MultiHeadAttention(D_MODEL, N_HEADS, n_kv_heads=1),
    "latent": lambda: LatentAttention(D_MODEL, N_HEADS, 16),
    "narrow heads": lambda: MultiHeadAttention(D_MODEL, N_HEADS, d_head=2),
    "one head": lambda: MultiHeadAttention(D_MODEL, 1, d_head=8),
}

# After a conversion: a twentieth of the steps, with a rate chosen on the model of another seed.
STEPS_AFTER, SEEDS_AFTER, SEED_TO_CHOOSE_AFTER = STEPS // 20, (0, 1, 2), 3
RATES_AFTER = (3e-4, 1e-3, 3e-3, 1e-2, 3e-2)
CONVERSIONS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "unchanged": lambda model: convert(model, 4, "first"),
    "2 heads, mean": lambda model: convert(model, 2, "mean"),
    "1 head, mean": lambda model: convert(model, 1, "mean"),
    "1 head, first": lambda model: convert(model, 1, "first"),
    "1 head, random": lambda model: convert(model, 1, "random"),
    "latent, singular values": lambda model: convert_to_latent(model, 16),
}
N_BITS, GROUP, N_ROUNDED = (8, 4, 3, 2), 8, 250
N_DRAFTS, N_WRITTEN = (1, 2, 4, 8), 20


def make(kind: str) -> PixelTransformer:
    """A model of some kind with as many parameters as the multi-head one, as nearly as can be."""
    model = PixelTransformer(d_model=D_MODEL, n_heads=N_HEADS)
    for layer in model.model.layers:
        plain = n_parameters(layer.attention)
        layer.attention = KINDS[kind]()
        spare = plain - n_parameters(layer.attention)
        width = D_HIDDEN + round(spare / (2 * D_MODEL + 1))  # a hidden unit: 2 rows and a bias
        layer.feed_forward = FeedForward(D_MODEL, width, dropout=0.0)
    return model


def numbers_kept(model: PixelTransformer) -> int:
    """How many numbers each layer keeps of a token."""
    layer = model.model.layers[0].attention
    if isinstance(layer, LatentAttention):
        return numbers_in_latent(layer.d_latent, layer.d_rotary)
    return numbers_in_heads(layer.n_kv_heads, layer.d_head)


def fit(kind: str, seed: int, *, peak: float, steps: int = STEPS) -> tuple[nn.Module, History]:
    """Train a model of some kind on the training digits; it keeps the best of all validations."""
    torch.manual_seed(seed)
    model = make(kind)
    return model, fit_model(model, seed, peak=peak, steps=steps)


def fit_model(
    model: nn.Module, seed: int, *, peak: float, steps: int = STEPS, warm_up: int = 50
) -> History:
    """Train any model of pictures on the training digits."""
    parts = load_parts()
    return train(
        model,
        pixel_loss,
        (parts["training"].levels,),
        steps=steps,
        batch_size=16,
        peak=peak,
        warm_up=warm_up,
        validate=lambda model: mean_bits(model, parts["validation"].levels),
        validate_every=min(steps, 100),
        seed=seed,
    )


def choose_rate(kind: str) -> dict[str, float]:
    """The validation bits of each learning rate, after short runs with a seed of their own."""
    found = {}
    for peak in RATES:
        _, history = fit(kind, SEED_TO_CHOOSE, peak=peak, steps=STEPS_TO_CHOOSE)
        found[str(peak)] = min(loss for _, loss in history.validations)
    return found


def mean_bits(model: nn.Module, levels: Tensor) -> float:
    """The bits per pixel."""
    return bits(model, levels).mean().item()


def measure_kind(kind: str) -> tuple[dict, list[nn.Module]]:
    """Choose the rate of a kind, train it with all seeds, and score it."""
    rates, parts = choose_rate(kind), load_parts()
    peak = float(min(rates, key=rates.get))
    models, histories = zip(*(fit(kind, seed, peak=peak) for seed in SEEDS), strict=True)
    scores = {part: [mean_bits(model, parts[part].levels) for model in models] for part in parts}
    return {
        "numbers": numbers_kept(models[0]),
        "parameters": n_parameters(models[0]),
        "validation bits by rate": rates,
        "peak": peak,
        "first losses": histories[0].losses[:10],
        **scores,
    }, list(models)


def measure_conversions(models: dict[int, nn.Module]) -> dict:
    """Convert trained multi-head models (by seed): bits of the test part before and after."""
    parts, results = load_parts(), {}
    for name, change in CONVERSIONS.items():
        found = {}
        for rate in RATES_AFTER:
            torch.manual_seed(SEED_TO_CHOOSE_AFTER)
            model = change(models[SEED_TO_CHOOSE_AFTER])
            fit_model(model, SEED_TO_CHOOSE_AFTER, peak=rate, steps=STEPS_AFTER, warm_up=5)
            found[str(rate)] = mean_bits(model, parts["validation"].levels)
        peak = float(min(found, key=found.get))
        at_once, after = [], []
        for seed in SEEDS_AFTER:
            torch.manual_seed(seed)
            model = change(models[seed])
            at_once.append(mean_bits(model, parts["test"].levels))
            fit_model(model, seed, peak=peak, steps=STEPS_AFTER, warm_up=5)
            after.append(mean_bits(model, parts["test"].levels))
        results[name] = {"peak": peak, "at once": at_once, "after": after}
    return results


def bits_step_by_step(
    model: PixelTransformer, levels: Tensor, new_cache: Callable[[], KeyValueCache]
) -> float:
    """The bits per pixel where each pixel is read alone and the rest comes from a cache.

    So no scale of a group of keys can know of a pixel that is still to come.
    """
    pixels = levels.flatten(1)  # (batch, n)
    tokens = torch.cat([torch.full_like(pixels[:, :1], N_LEVELS), pixels[:, :-1]], dim=1)
    caches, total = [new_cache() for _ in model.model.layers], 0.0
    with evaluating(model):
        for place in range(pixels.shape[1]):
            logits, _ = model.model(tokens[:, place : place + 1], caches=caches)
            chances = logits[:, 0, :N_LEVELS].log_softmax(dim=-1)  # (batch, 4)
            total -= chances.gather(1, pixels[:, place : place + 1]).mean().item() / math.log(2)
    return total / pixels.shape[1]


def measure_rounding(models: dict[int, nn.Module]) -> dict:
    """Bits of multi-head models whose caches are rounded, without any training."""
    levels = load_parts()["test"].levels[:N_ROUNDED]
    chosen = [models[seed] for seed in SEEDS_AFTER]
    results = {"exact": [bits_step_by_step(model, levels, KeyValueCache) for model in chosen]}
    for along in ("token", "channel"):
        for n_bits in N_BITS:
            results[f"{along}, {n_bits}"] = [
                bits_step_by_step(
                    model,
                    levels,
                    lambda along=along, n_bits=n_bits: QuantisedCache(
                        along, n_bits=n_bits, group=GROUP
                    ),
                )
                for model in chosen
            ]
    return results


def as_function(model: PixelTransformer) -> speculative.Model:
    """A model of pictures as `speculative.write` takes it; the first token says "begin"."""

    def chances(tokens: Tensor) -> Tensor:
        with evaluating(model):
            logits, _ = model.model(tokens[None])
        return logits[0, :, :N_LEVELS].softmax(dim=-1)

    return chances


def make_draft() -> PixelTransformer:
    """A small model: one layer, half as wide."""
    return PixelTransformer(d_model=16, n_heads=2, n_layers=1)


def measure_drafts(models: dict[int, nn.Module]) -> dict:
    """How many pixels each look of a multi-head model gives, with a small model to draft."""
    results = {"parameters": n_parameters(make_draft()), "test": [], "agreement": []}
    results["pixels for each look"] = {str(n_draft): [] for n_draft in N_DRAFTS}
    test = load_parts()["test"].levels
    for seed in SEEDS_AFTER:
        torch.manual_seed(seed)
        small, large = make_draft(), models[seed]
        fit_model(small, seed, peak=1e-2)
        results["test"].append(mean_bits(small, test))
        with evaluating(small), evaluating(large):
            together = speculative.agreement(large(test).exp(), small(test).exp()).mean()
        results["agreement"].append(together.item())
        for n_draft in N_DRAFTS:
            generator, looks = torch.Generator().manual_seed(seed), 0
            for _ in range(N_WRITTEN):
                written = speculative.write(
                    as_function(large),
                    as_function(small),
                    torch.tensor([N_LEVELS]),
                    n_new=64,
                    n_draft=n_draft,
                    generator=generator,
                )
                looks += written.n_looks
            results["pixels for each look"][str(n_draft)].append(64 * N_WRITTEN / looks)
    return results


def measure() -> dict:
    """All that the chapter reads."""
    kinds, models = {}, {}
    for kind in KINDS:
        kinds[kind], trained = measure_kind(kind)
        if kind == "multi-head":
            models = dict(zip(SEEDS, trained, strict=True))
    return {
        "kinds": kinds,
        "conversions": measure_conversions(models),
        "rounding": measure_rounding(models),
        "drafts": measure_drafts(models),
    }


def save(results: dict) -> None:
    """Write the results beside the chapter, with six digits."""
    shorter = json.loads(json.dumps(results), parse_float=lambda text: float(f"{float(text):.6g}"))
    FILE.parent.mkdir(parents=True, exist_ok=True)
    FILE.write_text(json.dumps(shorter, indent=1) + "\n", encoding="utf8")


if __name__ == "__main__":
    torch.set_num_threads(1)
    save(measure())
    print(f"{FILE.name} written")
