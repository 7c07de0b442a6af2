"""Video: which digit moves first, and which second? Attention over space and over time.

All networks see the same 16 000 planned clips of training digits, once, in the same order for the
same seed, with noise drawn anew. How fast each learns was chosen on validation clips.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor, nn

from attn_tutorial.applications.digits import load_parts as load_digit_parts
from attn_tutorial.applications.measuring import over_seeds
from attn_tutorial.applications.results import Results, Role, System, versions
from attn_tutorial.applications.video.baselines import (
    ChangeProgram,
    LinearReader,
    differences,
    mean_frame,
)
from attn_tutorial.applications.video.data import (
    N_CELLS,
    N_HELD_OUT,
    Clips,
    Plan,
    draw,
    film,
    film_held_out,
    held_out_plan,
    load_parts,
    plan,
    shuffled,
)
from attn_tutorial.applications.video.models import (
    CellGru,
    Convolutional,
    VideoTransformer,
)
from attn_tutorial.attribution import recording, uniform_weights
from attn_tutorial.training import History, evaluating, train

SEEDS = [0, 1, 2]
STEPS, BATCH, WARM_UP = 500, 32, 50
LAST_SHARE = 0.05  # of the highest learning rate, in the last step
N_LINEAR = 4000  # clips that the linear baselines are fitted to
N_FIRST_LOSSES = 20
# The clips whose attention is shown: when the two moves come, and columns of a plan's cells.
SHOWN_TIMES = (2, 4)
SHOWN_CELLS = {"left first": 0, "reached first": 1, "left second": 2, "stays": 4}


class Kind(NamedTuple):
    """How a network is made and trained.

    Attributes
    ----------
    make : function without arguments
    role : "attention", "rival", "baseline" or "ablation"
    peak : float
        The highest learning rate, chosen on validation clips; an ablation has that of the divided
        model.
    equal_weights : bool
        Whether attention gives all keys the same weight, in training and afterwards.
    """

    make: Callable[[], nn.Module]
    role: Role
    peak: float = 1e-2
    equal_weights: bool = False


KINDS = {
    "divided": Kind(lambda: VideoTransformer("divided"), "attention"),
    "joint": Kind(lambda: VideoTransformer("joint"), "attention", 2e-2),
    "3-D convolution": Kind(Convolutional, "rival", 2e-2),
    "GRU in each cell": Kind(CellGru, "rival", 2e-2),
    "space only": Kind(lambda: VideoTransformer("space only"), "ablation"),
    "divided, without times": Kind(lambda: VideoTransformer("divided", times=False), "ablation"),
    "equal weights, trained so": Kind(
        lambda: VideoTransformer("divided"), "ablation", equal_weights=True
    ),
    "one frame": Kind(lambda: VideoTransformer("space only", n_frames=1), "baseline"),
}
# Penalties and widths to choose from, on validation clips.
BASELINES: dict[str, list[Callable[[], LinearReader | ChangeProgram]]] = {
    "logistic regression, mean frame": [
        lambda c=c: LinearReader(mean_frame, c) for c in (0.001, 0.01, 0.1)
    ],
    "logistic regression, differences": [
        lambda c=c: LinearReader(differences, c) for c in (0.001, 0.01, 0.1)
    ],
    "changes, then an SVM": [
        lambda c=c, g=g: ChangeProgram(c, g) for g in (0.03, 0.1, 0.3) for c in (1.0, 10.0)
    ],
}


# --- training --------------------------------------------------------------------------------


def weights_of(name: str, model: nn.Module) -> contextlib.AbstractContextManager:
    """The context in which a network of this name is trained and used: equal weights, or none."""
    return uniform_weights(model) if KINDS[name].equal_weights else contextlib.nullcontext()


def fit(seed: int, name: str, *, steps: int = STEPS) -> nn.Module:
    """Make one of the networks in KINDS and train it.

    Parameters
    ----------
    seed : int
        Decides everything: the clips, the first parameters, the noise.
    name : string
    steps : int
        With more, the learning rate falls more slowly, and there are more clips.

    Returns
    -------
    module

    Raises
    ------
    ValueError
        Where there is no network of that name.
    """
    return begin(seed, name, steps, of=steps)[0]


def begin(seed: int, name: str, steps: int, *, of: int = STEPS) -> tuple[nn.Module, History]:
    """The first steps of a training with more; returns the losses of those steps too."""
    if name not in KINDS:
        raise ValueError(f"name must be one of {list(KINDS)}; got {name!r}")
    kind, digits = KINDS[name], load_digit_parts()["training"]

    def loss(model: nn.Module, *planned: Tensor) -> Tensor:
        clips = film(digits, Plan(*planned))
        first, second = model(clips.frames)  # (batch, 10), twice
        return F.cross_entropy(first, clips.first) + F.cross_entropy(second, clips.second)

    def rate(step: int, *, peak: float, warm_up: int) -> float:
        """A straight line up to the peak, and another one down to a twentieth of it."""
        past = (step - warm_up) / (of - warm_up)
        return peak * min(step / warm_up, 1 - (1 - LAST_SHARE) * past)

    torch.manual_seed(seed)
    model = kind.make()
    with weights_of(name, model):
        history = train(
            model,
            loss,
            plan(digits, of * BATCH, torch.Generator().manual_seed(seed)),
            steps=steps,
            batch_size=BATCH,
            peak=kind.peak,
            warm_up=WARM_UP,
            schedule=rate,
            seed=seed,
        )
    return model, history


# --- scores ----------------------------------------------------------------------------------


def guesses(model: nn.Module | LinearReader | ChangeProgram, clips: Clips) -> Tensor:
    """The first and the second mover that a network or baseline names, int64, shape (n, 2).

    A network names the pair of two different digits with the highest sum of logits.
    """
    if not isinstance(model, nn.Module):
        return torch.from_numpy(model.predict(clips.frames))
    with evaluating(model):
        first, second = model(clips.frames)  # (n, 10), twice
    pairs = first[:, :, None].log_softmax(1) + second[:, None, :].log_softmax(2)  # (n, 10, 10)
    same = torch.eye(pairs.shape[1], dtype=torch.bool)
    best = pairs.masked_fill(same, -torch.inf).flatten(1).argmax(dim=1)  # (n,)
    return torch.stack([best // pairs.shape[1], best % pairs.shape[1]], dim=1)


def scores_of(named: Int[Tensor, "n 2"], clips: Clips) -> dict[str, float]:
    """How often the first mover is right, both in their order, and both in any order."""
    right = torch.stack([clips.first, clips.second], dim=1)  # (n, 2)
    one, other = (named == right).all(dim=1), (named == right.flip(1)).all(dim=1)  # (n,)
    return {
        "first mover": (named[:, 0] == clips.first).float().mean().item(),
        "both, in order": one.float().mean().item(),
        "both, in any order": (one | other).float().mean().item(),
    }


def evaluate(model: nn.Module | LinearReader | ChangeProgram, clips: Clips) -> dict[str, float]:
    """The three scores of a network or a baseline."""
    return scores_of(guesses(model, clips), clips)


def chosen(name: str, validation: Clips) -> LinearReader | ChangeProgram:
    """The baseline of that name with the setting that names most first movers in validation."""
    digits = load_digit_parts()["training"]
    clips = draw(digits, N_LINEAR, torch.Generator().manual_seed(0))
    fitted = [
        one.fit(digits if isinstance(one, ChangeProgram) else clips)
        for one in (make() for make in BASELINES[name])
    ]
    return max(fitted, key=lambda one: evaluate(one, validation)["first mover"])


# --- what attention over time looks at -------------------------------------------------------


def attention_over_time(model: VideoTransformer, frames: Tensor) -> list[Tensor]:
    """The weights of each layer's attention over time, by cell.

    Parameters
    ----------
    model : VideoTransformer
        In the scheme "divided".
    frames : float tensor, shape (n, 6, 24, 24)

    Returns
    -------
    list of float tensors, each (n, 9, n_heads, 6, 6)
        The last two axes are the frame that asks and the frame that answers.
    """
    with evaluating(model), recording(model) as record:
        model(frames)
    return [
        weights.unflatten(0, (-1, N_CELLS))  # from (n · 9, n_heads, 6, 6)
        for name, weights in zip(record.names, record.weights, strict=True)
        if name.endswith("attention.time")
    ]


def mean_over_cells(weights: list[Tensor], cells: Int[Tensor, " n"]) -> Tensor:
    """The mean weights of one cell of each clip, float, shape (n_layers, n_heads, 6, 6)."""
    clip = torch.arange(len(cells))
    return torch.stack([layer[clip, cells].mean(dim=0) for layer in weights])


# --- all of it -------------------------------------------------------------------------------


def measure() -> Results:
    """Train all networks and baselines, and collect what the chapter shows."""
    parts = load_parts()
    test = parts["test"]
    systems, networks = {}, {}
    for name, kind in KINDS.items():

        def score(model: nn.Module, name: str = name) -> dict[str, float]:
            with weights_of(name, model):
                return evaluate(model, test)

        systems[name], networks[name] = over_seeds(
            kind.role, SEEDS, lambda seed, name=name: fit(seed, name), score
        )
    for within in ("time", "space"):
        systems[f"equal over {within} after training"] = _ablation(
            networks["divided"], within, test
        )
    settings = {}
    for name in BASELINES:
        best = chosen(name, parts["validation"])
        scores = {metric: [score] for metric, score in evaluate(best, test).items()}
        systems[name], settings[name] = System("baseline", scores), best.setting

    gaps = held_out_plan("test").times.diff(dim=1)[:, 0].repeat(2)  # (2000,)
    right = {
        name: [guesses(model, test)[:, 0] == test.first for model in networks[name]]
        for name in ("divided", "GRU in each cell", "3-D convolution")
    }
    return Results(
        task="Tell which of three digits moves first",
        data="Clips of 6 frames composed of scikit-learn's handwritten digits, with noise",
        origin="generated from real",
        split="Clips of a part hold digits of that block of the file alone",
        metric="first mover",
        higher_is_better=True,
        n_training=STEPS * BATCH,
        n_test=len(test.frames),
        seeds=SEEDS,
        systems=systems,
        libraries=versions("torch", "scikit-learn"),
        more={
            "settings": settings,
            "first losses": {
                name: begin(0, name, N_FIRST_LOSSES)[1].losses for name in ("divided", "joint")
            },
            "shuffled frames": {
                name: [evaluate(model, shuffled(test)) for model in networks[name]]
                for name in (*right, "divided, without times")
            },
            "by gap": {
                name: {
                    str(gap): [one[gaps == gap].float().mean().item() for one in of_seeds]
                    for gap in gaps.unique().tolist()
                }
                for name, of_seeds in right.items()
            },
            "in pairs": {
                name: [
                    [int((ours & ~theirs).sum()), int((theirs & ~ours).sum())]
                    for ours, theirs in zip(right["divided"], of_seeds, strict=True)
                ]
                for name, of_seeds in right.items()
                if name != "divided"
            },
            "joint, four times as long": evaluate(fit(0, "joint", steps=4 * STEPS), test),
            "attention over time": _mean_attention(networks["divided"][0]),
        },
    )


def _ablation(models: list[nn.Module], within: str, test: Clips) -> System:
    """Models whose attention over time, or over space, is made equal after training."""
    scores = []
    for model in models:
        taken = nn.ModuleList(layer.attention[within] for layer in model.layers)
        with uniform_weights(taken):
            scores.append(evaluate(model, test))
    return System("ablation", {name: [s[name] for s in scores] for name in scores[0]})


def _mean_attention(model: VideoTransformer) -> dict[str, list]:
    """The mean weights over time in three cells, of clips whose moves come in frames 2 and 4."""
    planned = held_out_plan("test")
    planned = planned._replace(times=torch.tensor([SHOWN_TIMES]).expand(N_HELD_OUT, 2))
    weights = attention_over_time(model, film_held_out("test", planned).frames)
    return {
        cell: mean_over_cells(weights, planned.cells[:, column]).tolist()
        for cell, column in SHOWN_CELLS.items()
    }
