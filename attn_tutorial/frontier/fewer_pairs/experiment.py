"""What windows, sinks and blocks cost in quality: three tasks, three seeds each.

`python -m attn_tutorial.frontier.fewer_pairs` stores what is found for the chapter.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from attn_tutorial.frontier.fewer_pairs.patterns import (
    Mask,
    fixed_masks,
    sink_window_mask,
    strided_masks,
)
from attn_tutorial.frontier.fewer_pairs.streaming import Counted, StreamModel
from attn_tutorial.frontier.fewer_pairs.tasks import (
    N_CHAIN,
    N_RECALL,
    chain_sequences,
    recall_sequences,
    text_pieces,
)
from attn_tutorial.masks import causal_mask
from attn_tutorial.training import History, evaluating, train

SEEDS = (0, 1, 2)

# Recall: which patterns, and how many layers.
N_RECALLED = 40
WINDOW, STRIDE = 8, 6
RECALL_STEPS = 400
RECALL: dict[str, tuple[int, Callable[[int], Mask]]] = {
    "all pairs, 1 layer": (1, lambda n: causal_mask(n, n)),
    "window, 1 layer": (1, lambda n: sink_window_mask(n, window=WINDOW)),
    "window, 2 layers": (2, lambda n: sink_window_mask(n, window=WINDOW)),
    "window, 3 layers": (3, lambda n: sink_window_mask(n, window=WINDOW)),
    "strided, 2 layers": (2, lambda n: strided_masks(n, STRIDE)),
    "fixed, 2 layers": (2, lambda n: fixed_masks(n, STRIDE)),
}

# The chain: trained on short sequences with all pairs, read as a stream.
CHAIN_LENGTH, STREAM_LENGTH = 33, 129
CHAIN_STEPS = 800
CHAIN = {"attention only": 0, "with a feed-forward network": None}
STREAMED: dict[str, dict] = {
    "all pairs": {"window": STREAM_LENGTH},
    "16 last": {"window": 16},
    "15 last and 1 sink": {"window": 15, "n_sinks": 1},
    "15 last and 1 sink, positions in the text": {
        "window": 15,
        "n_sinks": 1,
        "counted": "in the text",
    },
}

# Text: the same model trained behind three masks.
PIECE = 64
TEXT_STEPS = 500
TEXT = {"all 64": PIECE, "window 16": 16, "window 4": 4}
TEXT_STREAMED: dict[str, dict] = {
    "all pairs": {"window": 2 * PIECE + 1},
    "32 last": {"window": 32},
    "31 last and 1 sink": {"window": 31, "n_sinks": 1},
    "31 last and 1 sink, positions in the text": {
        "window": 31,
        "n_sinks": 1,
        "counted": "in the text",
    },
    "28 last and 4 sinks": {"window": 28, "n_sinks": 4},
}


def fit_recall(
    seed: int, name: str, *, steps: int = RECALL_STEPS
) -> tuple[StreamModel, Mask, History]:
    """A model for the recall task, its mask and its losses."""
    n_layers, mask_of = RECALL[name]
    mask = mask_of(N_RECALLED)
    tokens, values, _ = recall_sequences(20_000, N_RECALLED, seed=1)
    torch.manual_seed(seed)
    model = StreamModel(N_RECALL, d_model=32, n_heads=2, n_layers=n_layers)

    def loss(model: StreamModel, tokens: Tensor, values: Tensor) -> Tensor:
        return F.cross_entropy(model(tokens, mask)[:, -1], values)

    history = train(model, loss, (tokens, values), steps=steps, batch_size=32, peak=4e-3,
                    warm_up=50, seed=seed)  # fmt: skip
    return model, mask, history


def recall_by_distance(model: StreamModel, mask: Mask, *, n_sequences: int = 8000) -> list[float]:
    """The share of right answers at distances 1 to n - 1, on sequences that were not trained on."""
    tokens, values, distances = recall_sequences(n_sequences, N_RECALLED, seed=2)
    with evaluating(model):
        right = torch.cat([
            model(some, mask)[:, -1].argmax(dim=-1) for some in tokens.split(1000)
        ]) == values  # fmt: skip
    return [right[distances == d].double().mean().item() for d in range(1, N_RECALLED)]


def fit_chain(
    seed: int, d_hidden: int | None, *, steps: int = CHAIN_STEPS
) -> tuple[StreamModel, History]:
    """A model of one layer and one head, trained on short chains with all pairs."""
    tokens, _ = chain_sequences(20_000, CHAIN_LENGTH, seed=1)
    torch.manual_seed(seed)
    model = StreamModel(N_CHAIN, d_model=32, n_heads=1, n_layers=1, d_hidden=d_hidden)
    history = train(model, next_token, (tokens,), steps=steps, batch_size=32, peak=4e-3,
                    warm_up=50, seed=seed)  # fmt: skip
    return model, history


def next_token(model: StreamModel, tokens: Tensor) -> Tensor:
    """The mean loss of all tokens but the first, in nats."""
    return F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())


def bits(logits: Tensor, tokens: Tensor, first: int) -> np.ndarray:
    """For each sequence the mean bits of the tokens from position `first` on."""
    wanted = tokens[:, first:]
    losses = F.cross_entropy(logits[:, first - 1 : -1].mT, wanted, reduction="none")
    return losses.mean(dim=1).double().numpy() / math.log(2)


def stream_bits(
    model: StreamModel,
    tokens: Tensor,
    first: int,
    *,
    window: int,
    n_sinks: int = 0,
    counted: Counted = "in the cache",
) -> np.ndarray:
    """The bits of a stream read with a cache of n_sinks + window tokens."""
    with evaluating(model):
        logits = model.at_once(tokens, window=window, n_sinks=n_sinks, counted=counted)
    return bits(logits, tokens, first)


def weight_on_first(model: StreamModel, tokens: Tensor) -> list[list[float]]:
    """For each layer and head the mean weight of the first token, in the later half of the text."""
    n = tokens.shape[1]
    with evaluating(model):
        _, weights = model.run(tokens, causal_mask(n, n))
    return [one[:, :, n // 2 :, 0].mean(dim=(0, 2)).tolist() for one in weights]


def measure_recall() -> dict:
    """Right answers by distance, for each pattern and seed."""
    found = {}
    for name in RECALL:
        found[name] = {"by distance": [], "first losses": None}
        for seed in SEEDS:
            model, mask, history = fit_recall(seed, name)
            found[name]["by distance"].append(rounded(recall_by_distance(model, mask)))
            if seed == 0:
                found[name]["first losses"] = rounded(history.losses[:40])
    return found


def measure_chain() -> dict:
    """Bits of the later half of streams four times as long as what was trained on."""
    tokens, chances = chain_sequences(200, STREAM_LENGTH, seed=2)
    first = STREAM_LENGTH // 2
    found = {"known": float(-np.log2(chances[:, first:]).mean()), "models": {}}
    for name, d_hidden in CHAIN.items():
        scores = {way: [] for way in STREAMED} | {"as trained": []}
        sinks, losses = [], []
        for seed in SEEDS:
            model, history = fit_chain(seed, d_hidden)
            short = tokens[:, :CHAIN_LENGTH]
            with evaluating(model):
                trained = bits(model(short), short, CHAIN_LENGTH // 2)
            scores["as trained"].append(rounded(trained.mean()))
            for way, settings in STREAMED.items():
                scores[way].append(rounded(stream_bits(model, tokens, first, **settings).mean()))
            sinks.append(rounded(weight_on_first(model, short)[0][0]))
            losses.append(rounded(history.losses[:300]))
        found["models"][name] = {"bits": scores, "weight on first": sinks, "losses": losses[0]}
    return found


def measure_text() -> dict:
    """Bits for a character behind three masks; and what a cache does to the model of all pairs."""
    return together([measure_text_once(seed) for seed in SEEDS])


def measure_text_once(seed: int) -> dict:
    """The same for one seed."""
    pieces, streams = text_pieces(PIECE), text_pieces(2 * PIECE)
    drawn = np.random.default_rng(0)
    test = pieces["test"][torch.from_numpy(drawn.permutation(len(pieces["test"]))[:1000])]
    stream = streams["test"][torch.from_numpy(drawn.permutation(len(streams["test"]))[:500])]
    found: dict = {"n_test": len(test), "n_streams": len(stream), "bits": {}}
    every: dict[str, np.ndarray] = {}
    for name, window in TEXT.items():
        mask = sink_window_mask(PIECE, window=window)
        model, history = fit_text(seed, mask, pieces["training"])
        with evaluating(model):
            every[name] = np.concatenate(
                [bits(model(some, mask), some, PIECE // 2) for some in test[:, :-1].split(250)]
            )
        found["bits"][name] = rounded(every[name].mean())
        if window == PIECE:
            found["weight on first"] = [
                rounded(layer) for layer in weight_on_first(model, test[:200, :-1])
            ]
            found["first losses"] = rounded(history.losses[:10])
            found["streamed"] = {
                way: rounded(stream_bits(model, stream, PIECE + 1, **settings).mean())
                for way, settings in TEXT_STREAMED.items()
            }
    found["against all"] = {}
    for name, one in every.items():
        more = one - every["all 64"]  # piece by piece
        error = more.std(ddof=1) / math.sqrt(len(more))
        found["against all"][name] = rounded([more.mean(), error])
    return found


def together(of_seeds: list[dict]) -> dict:
    """What was found with each seed, in lists over the seeds."""
    first = of_seeds[0]

    def over_seeds(kind: str) -> dict:
        return {name: [one[kind][name] for one in of_seeds] for name in first[kind]}

    found = {kind: over_seeds(kind) for kind in ("bits", "against all", "streamed")}
    found |= {kind: first[kind] for kind in ("n_test", "n_streams", "first losses")}
    return found | {"weight on first": [one["weight on first"] for one in of_seeds]}


def fit_text(
    seed: int, mask: Mask, training: Tensor, *, steps: int = TEXT_STEPS
) -> tuple[StreamModel, History]:
    """A model of characters with two layers, trained behind a mask."""
    torch.manual_seed(seed)
    model = StreamModel(97, d_model=48, n_heads=4, n_layers=2)

    def loss(model: StreamModel, tokens: Tensor) -> Tensor:
        logits = model(tokens[:, :-1], mask)
        return F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())

    history = train(model, loss, (training,), steps=steps, batch_size=16, peak=4e-3, warm_up=50,
                    seed=seed)  # fmt: skip
    return model, history


MEASURED = {"chain": measure_chain, "recall": measure_recall, "text": measure_text}


def rounded(numbers: float | list[float]) -> float | list[float]:
    """To five digits after the point, which is more than seeds agree on."""
    if isinstance(numbers, float):
        return round(float(numbers), 5)
    return [round(float(number), 5) for number in numbers]
