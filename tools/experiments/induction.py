"""Train models that only attend on text with repeats, one layer and two, and store their weights.

  python -m tools.experiments.induction                train all and store the results (minutes)

The text: random tokens, among them a block that comes again and again, with a few others between.
What a token of a repeated block will be can be known only from the block before.
Results: chapters/visualization/results/induction.npz with the parameters of all models and
induction.json with what came of the training, which the chapter on following information shows.
"""

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from attn_tutorial.language_model import CausalLanguageModel, next_token_loss
from attn_tutorial.training import train

FOLDER = Path(__file__).parents[2] / "chapters/visualization/results"
RESULTS = FOLDER / "induction.json"
PARAMETERS = FOLDER / "induction.npz"
SEEDS = (0, 1, 2)
LAYERS = (1, 2)
N_TOKENS = 32
LENGTH = 48
STEPS = 1000
BATCH = 64
SHORT = 5  # steps of the run that a test repeats
HELD_OUT = 500
HELD_OUT_SEED = 10**6  # training draws from the seeds 0, 1 and 2 only


def repeated_blocks(n: int, *, seed: int) -> tuple[Tensor, Tensor]:
    """Draw sequences in which a block of tokens comes again and again.

    All tokens are drawn independently, from all of them alike, the same one twice too. After 0 to
    16 others comes the block, of 8 to 12. Before each repeat stand 0 to 4 tokens that are drawn
    anew. So no position is the right one to copy from, and no distance.

    Parameters
    ----------
    n : int
        How many sequences.
    seed : int

    Returns
    -------
    tokens : int64 tensor, shape (n, LENGTH)
    repeated : bool tensor, shape (n, LENGTH)
        Where a token is that of a block before, and so is the token before it: where it can be
        known.
    """
    rng = np.random.default_rng(seed)
    tokens = rng.integers(N_TOKENS, size=(n, LENGTH))
    repeated = np.zeros((n, LENGTH), dtype=bool)
    for row, known in zip(tokens, repeated, strict=True):
        width = int(rng.integers(8, 13))
        first = int(rng.integers(0, 17))
        block, start = row[first : first + width].copy(), first + width
        while start < LENGTH:
            start += int(rng.integers(0, 5))
            row[start : start + width] = block[: max(LENGTH - start, 0)]
            known[start + 1 : start + width] = True
            start += width
    return torch.from_numpy(tokens), torch.from_numpy(repeated)


def make_model(n_layers: int, *, seed: int) -> CausalLanguageModel:
    """The untrained model."""
    torch.manual_seed(seed)
    return CausalLanguageModel(
        N_TOKENS, d_model=32, n_heads=2, n_layers=n_layers, d_hidden=0, dropout=0.0, max_length=64
    )


def train_model(n_layers: int, *, seed: int, steps: int) -> tuple[CausalLanguageModel, list[float]]:
    """The model after some steps, each on sequences that it has not seen, and its losses."""
    model = make_model(n_layers, seed=seed)
    tokens, _ = repeated_blocks(STEPS * BATCH, seed=seed)
    history = train(
        model,
        next_token_loss,
        [tokens],
        steps=steps,
        batch_size=BATCH,
        peak=5e-3,
        warm_up=100,
        seed=seed,
    )
    return model, history.losses


def train_whole(pair: tuple[int, int]) -> tuple[CausalLanguageModel, list[float]]:
    """The trained model with so many layers and such a seed, and its losses."""
    n_layers, seed = pair
    return train_model(n_layers, seed=seed, steps=STEPS)


def accuracy(model: CausalLanguageModel) -> float:
    """On held-out sequences, of the tokens that can be known: how many are the likeliest one."""
    tokens, repeated = repeated_blocks(HELD_OUT, seed=HELD_OUT_SEED)
    with torch.no_grad():
        logits, _ = model(tokens[:, :-1])  # (n, LENGTH - 1, N_TOKENS)
    right = logits.argmax(dim=-1) == tokens[:, 1:]
    return right[repeated[:, 1:]].double().mean().item()


def store(models: dict[str, CausalLanguageModel]) -> None:
    """Write the parameters of all models, in 16 bits."""
    arrays = {
        f"{name}/{part}": value.half().numpy()
        for name, model in models.items()
        for part, value in model.state_dict().items()
    }
    np.savez_compressed(PARAMETERS, **arrays)


def load_model(n_layers: int, *, seed: int) -> CausalLanguageModel:
    """A trained model, as it was stored."""
    model = make_model(n_layers, seed=seed)
    with np.load(PARAMETERS) as arrays:
        state = {
            part: torch.from_numpy(arrays[f"{name_of(n_layers, seed)}/{part}"]).float()
            for part in model.state_dict()
        }
    model.load_state_dict(state)
    return model.eval()


def name_of(n_layers: int, seed: int) -> str:
    """What a model is called in the results."""
    return f"{n_layers} layers, seed {seed}"


def main() -> None:
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    torch.set_num_threads(1)
    result = {
        "command": "python -m tools.experiments.induction",
        "steps": STEPS,
        "batch": BATCH,
        "models": {},
    }
    models, pairs = {}, [(n_layers, seed) for n_layers in reversed(LAYERS) for seed in SEEDS]
    with ProcessPoolExecutor(
        max_workers=2, initializer=torch.set_num_threads, initargs=(1,)
    ) as pool:
        for (n_layers, seed), (model, losses) in zip(
            pairs, pool.map(train_whole, pairs), strict=True
        ):
            name = name_of(n_layers, seed)
            models[name] = model
            result["models"][name] = {
                "first losses": [round(loss, 4) for loss in losses[:SHORT]],
                "last losses": round(sum(losses[-50:]) / 50, 4),
                "held-out accuracy": round(accuracy(model), 4),
            }
            print(name, result["models"][name], flush=True)
    store(models)
    RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf8")


if __name__ == "__main__":
    main()
