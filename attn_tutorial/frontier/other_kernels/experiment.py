"""Which memories recall what they were told: trained, with three seeds, on sequences never seen."""

from __future__ import annotations

import time
from collections.abc import Iterable

import torch
from jaxtyping import Int
from torch import Tensor

from attn_tutorial.frontier.other_kernels.recall import (
    RecallModel,
    recall_accuracy,
    recall_data,
    recall_loss,
)
from attn_tutorial.training import train

SEEDS = (0, 1, 2)
STEPS, BATCH, LENGTH = 300, 32, 96
PAIRS = {False: (4, 8, 16, 32), True: (4, 8, 16)}  # keys in a sequence; True: rewritten
MORE_PAIRS = 64  # never seen in training: every key there is
RATES = (0.003, 0.01, 0.03)
WIDTHS = {
    **{mixer: (8, 16, 32) for mixer in ("softmax", "elu + 1", "sum", "delta")},
    "GRU": (64,),
}
TASKS = {"recall": tuple(WIDTHS), "rewriting": ("softmax", "sum", "gated sum", "delta")}
CHOSEN_AT = {"GRU": 64}  # the width at which the rate is chosen; for the others 16
N_TEST, N_VALIDATION = 300, 100

Data = tuple[Int[Tensor, "n_examples n"], Int[Tensor, "n_examples n"]]


def training_data(*, rewritten: bool) -> Data:
    """As many sequences as all steps take, each seen once, with a drawn number of pairs."""
    n_examples = STEPS * BATCH
    generator = torch.Generator().manual_seed(0)
    choice = torch.tensor(PAIRS[rewritten])
    n_pairs = choice[torch.randint(len(choice), (n_examples,), generator=generator)]
    return recall_data(n_examples, n_pairs, length=LENGTH, seed=1, rewritten=rewritten)


def held_out(n_pairs: int, *, rewritten: bool, validation: bool = False) -> Data:
    """Sequences drawn anew, all with one number of pairs."""
    return recall_data(
        N_VALIDATION if validation else N_TEST,
        n_pairs,
        length=max(LENGTH, 3 * n_pairs),
        seed=2 if validation else 3,
        rewritten=rewritten,
    )


def fit(
    mixer: str, d_k: int, data: Data, *, rate: float, seed: int, steps: int = STEPS
) -> tuple[RecallModel, list[float]]:
    """A trained model, and the loss of each step."""
    torch.manual_seed(seed)
    model = RecallModel(mixer, d_k=d_k)
    history = train(
        model, recall_loss, data, steps=steps, batch_size=BATCH, peak=rate, warm_up=50, seed=seed
    )
    return model, history.losses


def choose_rate(mixer: str, data: Data, *, rewritten: bool) -> dict:
    """The learning rate that is best on the validation part, with a seed that is used nowhere else.

    Returns
    -------
    dict
        The rate, and the mean accuracy on the validation part for each rate.
    """
    found = {}
    for rate in RATES:
        model, _ = fit(mixer, CHOSEN_AT.get(mixer, 16), data, rate=rate, seed=100)
        found[rate] = sum(
            recall_accuracy(model, *held_out(n, rewritten=rewritten, validation=True))
            for n in PAIRS[rewritten]
        ) / len(PAIRS[rewritten])
    return {"rate": max(found, key=found.get), "validation": list(found.values())}


def measure() -> dict:
    """All runs; JSON types only. About seven minutes of processor time."""
    begin = time.process_time()
    found = {task: measure_task(task, mixers) for task, mixers in TASKS.items()}
    return {
        "seeds": list(SEEDS),
        "steps": STEPS,
        "batch": BATCH,
        "n_test": N_TEST,
        "rates": list(RATES),
        **found,
        "seconds": round(time.process_time() - begin),
    }


def measure_task(task: str, mixers: Iterable[str]) -> dict:
    """The accuracy of some mixers in "recall" or "rewriting", at each width and number of keys."""
    rewritten = task == "rewriting"
    data = training_data(rewritten=rewritten)
    pairs = [*PAIRS[rewritten], *([] if rewritten else [MORE_PAIRS])]
    tests = {n: held_out(n, rewritten=rewritten) for n in pairs}
    systems = []
    for mixer in mixers:
        chosen = choose_rate(mixer, data, rewritten=rewritten)
        for d_k in (16,) if rewritten else WIDTHS[mixer]:
            systems.append(_system(mixer, d_k, data, tests, chosen))
            print(task, mixer, d_k, systems[-1]["accuracy"][0], flush=True)
    return {"pairs": pairs, "systems": systems}


def _system(mixer: str, d_k: int, data: Data, tests: dict[int, Data], chosen: dict) -> dict:
    accuracy, first_losses = [], None
    for seed in SEEDS:
        model, losses = fit(mixer, d_k, data, rate=chosen["rate"], seed=seed)
        first_losses = first_losses or [round(loss, 4) for loss in losses[:10]]
        accuracy.append([round(recall_accuracy(model, *test), 4) for test in tests.values()])
    return {
        "mixer": mixer,
        "d_k": d_k,
        "state": model.state_size,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        **chosen,
        "first_losses": first_losses,
        "accuracy": accuracy,  # (seeds, pairs)
    }
