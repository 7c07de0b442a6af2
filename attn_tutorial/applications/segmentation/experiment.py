"""Image segmentation: which digit each pixel belongs to, and whether that equals the cue.

U-Nets with self-attention at the bottom, with attention gates and with neither, against pieces of
ink that hang together and against windows, on scenes that are composed of handwritten digits.
"""

import contextlib
import functools

import torch
from torch import Tensor, nn

from attn_tutorial.applications.measuring import Clock, over_seeds
from attn_tutorial.applications.results import Results, System, versions
from attn_tutorial.applications.scenes import Scenes
from attn_tutorial.applications.segmentation.baselines import Components, Windows, by_rule
from attn_tutorial.applications.segmentation.data import (
    CORNER,
    N_SCENES,
    SIZE,
    Answers,
    load_parts,
    truth,
    with_other_cues,
)
from attn_tutorial.applications.segmentation.metrics import digits_marked, scores
from attn_tutorial.applications.segmentation.models import CELL, N_CELLS, UNet, loss, segment
from attn_tutorial.attribution import recording, uniform_weights
from attn_tutorial.training import History, evaluating, train

SEEDS = (0, 1, 2)
STEPS, PEAK, WARM_UP, BATCH = 400, 1e-2, 50, 32
N_FIRST = 10  # losses that are stored, to compare with
N_PIXELS = 20_000  # from which the windows learn
DISTANCES = (8, 12, 16)  # pixels from the middle of the cue: near, farther, far, farthest

# What is built, and how much the marks count in the loss beside the labels.
MODELS = {
    "U-Net": ({}, 3.0),
    "U-Net, deeper": ({"bottom": "deeper"}, 1.0),
    "U-Net, then a rule": ({}, 0.0),
    "U-Net, gates": ({"gates": True}, 3.0),
    "U-Net, attention": ({"bottom": "attention"}, 1.0),
}


def fit(
    name: str, seed: int, parts: dict[str, Scenes], *, equal: bool = False, steps: int | None = None
) -> tuple[UNet, History]:
    """Train one of the `MODELS`.

    Parameters
    ----------
    name : str
    seed : int
    parts : dict of Scenes
    equal : bool
        Train with equal weights in all attention.
    steps : int, optional
        Make fewer than usual, at the rates of the whole training; nothing is validated then.

    Returns
    -------
    model, history
        The validation "loss" is one minus the IoU of the marks on the validation part.
    """
    torch.manual_seed(seed)
    options, marks_count = MODELS[name]
    model = UNet(**options)
    validation = parts["validation"]
    wanted = truth(validation)

    def falling(step: int, *, peak: float, warm_up: int) -> float:
        """A short rise, then a straight line to zero."""
        return peak * min(step / warm_up, 1) * (1 - (step - 1) / STEPS)

    def validate(model: nn.Module) -> float:
        return 1 - scores(answers(name, model, validation.images), wanted)["IoU"]

    with uniform_weights(model) if equal else contextlib.nullcontext():
        history = train(
            model,
            functools.partial(loss, marks_count=marks_count),
            (parts["training"].images, *truth(parts["training"])),
            steps=steps or STEPS,
            batch_size=BATCH,
            peak=PEAK,
            warm_up=WARM_UP,
            schedule=falling,
            validate=None if steps else validate,
            seed=seed,
        )
    return model, history


def answers(name: str, model: UNet, images: Tensor) -> Answers:
    """What a trained model of that name says: its own marks, or those by the rule.

    Parameters
    ----------
    name : str
        One of the `MODELS`.
    model : UNet
    images : float tensor, shape (n, 24, 24)

    Returns
    -------
    Answers
    """
    found = segment(model, images)
    return by_rule(found.labels) if name.endswith("rule") else found


def fit_components(scenes: Scenes) -> Components:
    """Components with the settings that were best on the validation part."""
    return Components(threshold=0.35, n_neighbours=5, smoothing=0.4).fit(scenes)


def fit_windows(scenes: Scenes) -> Windows:
    """Windows with the settings that were best on the validation part."""
    return Windows(side=5, strength=1.0).fit(scenes, n_pixels=N_PIXELS)


def bottom_weights(model: UNet, scenes: Scenes) -> Tensor:
    """The weights of the self-attention at the bottom: (n, n_heads, 36, 36)."""
    with recording(model.eval()) as record, torch.no_grad():
        model(scenes.images)
    return record.weights[0]


def on_the_cue(weights: Tensor, scenes: Scenes) -> dict[str, list[float]]:
    """How much of their weight the tokens put on the four cells of the cue, for each head.

    Parameters
    ----------
    weights : float tensor, shape (n, n_heads, 36, 36)
    scenes : Scenes

    Returns
    -------
    dict of lists of n_heads floats
        Of tokens whose cell holds ink of a digit to mark, of tokens with ink of other digits alone,
        and of those without ink of a digit; all outside the corner.
    """

    def cells_with(pixels: Tensor) -> Tensor:
        cells = pixels.unflatten(2, (N_CELLS, CELL)).unflatten(1, (N_CELLS, CELL))
        return cells.any(dim=4).any(dim=2).flatten(1)  # (n, 36)

    corner = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    corner[:CORNER, :CORNER] = True
    at_cue = cells_with(corner[None])[0]  # (36,)
    share = weights[..., at_cue].sum(dim=-1)  # (n, n_heads, 36)
    marked, inked = cells_with(truth(scenes).marks), cells_with(scenes.owners > 0)
    groups = {"to mark": marked, "other digits": inked & ~marked, "no digit": ~inked}
    return {
        name: share.movedim(1, -1)[cells & ~at_cue].mean(dim=0).tolist()
        for name, cells in groups.items()
    }


def by_distance(found: Answers, scenes: Scenes) -> list[float]:
    """The share of the digits that are marked or left as they should be, by the cue's distance.

    Parameters
    ----------
    found : Answers
    scenes : Scenes

    Returns
    -------
    list of 4 floats
        For digits whose middle is near the middle of the cue, farther, and so on; digits to mark
        and others count by a half each.
    """
    marked, wanted, middle = digits_marked(found, scenes)
    far = (middle - CORNER / 2).norm(dim=-1)  # (n_digits,)
    group = torch.bucketize(far, torch.tensor(DISTANCES, dtype=far.dtype))
    right = (marked == wanted).float()
    return [
        float((right[wanted & (group == k)].mean() + right[~wanted & (group == k)].mean()) / 2)
        for k in range(len(DISTANCES) + 1)
    ]


def after_exchange(found: Answers, scenes: Scenes) -> dict[str, float]:
    """How a system does on scenes whose cues were exchanged.

    Parameters
    ----------
    found : Answers
        Of the scenes after the exchange.
    scenes : Scenes
        After the exchange.

    Returns
    -------
    dict of float
        "IoU", in scenes in which something is to be marked; "false marks", the share of the digits
        that are marked in scenes in which nothing is.
    """
    true = truth(scenes)
    some = true.marks.flatten(1).any(dim=1)  # (n,)
    marked, _, _ = digits_marked(found, scenes, chosen=~some)
    part = [Answers(*(column[some] for column in one)) for one in (found, true)]
    return {"IoU": scores(*part)["IoU"], "false marks": float(marked.float().mean())}


def measure() -> Results:
    """Train all U-Nets with all seeds, and the baselines once."""
    parts = load_parts()
    test, true = parts["test"], truth(parts["test"])
    exchanged = with_other_cues(test, torch.arange(len(test.images)).roll(1))
    systems: dict[str, System] = {}
    trained: dict[str, list] = {}
    curves: dict[str, list] = {}
    first: dict[str, list] = {}
    distances: dict[str, list] = {}
    exchange: dict[str, list] = {}

    for name, make in (("components", fit_components), ("5 by 5 windows", fit_windows)):
        clock = Clock()
        with clock.running():
            model = make(parts["training"])
        found = model.segment(test.images)
        systems[name] = System(
            role="baseline",
            scores={key: [score] for key, score in scores(found, true).items()},
            seconds=clock.seconds,
        )
        distances[name] = [by_distance(found, test)]

    def run(name, role, of, *, equal=False):
        """Train with each seed, and evaluate in the way in which it was trained."""

        def fit_one(seed):
            model, history = fit(of, seed, parts, equal=equal)
            curves.setdefault(name, []).append([[n, 1 - x] for n, x in history.validations])
            first.setdefault(name, history.losses[:N_FIRST])
            return model

        def evaluate(model):
            with uniform_weights(model) if equal else contextlib.nullcontext():
                found = answers(of, model, test.images)
                swapped = answers(of, model, exchanged.images)
            distances.setdefault(name, []).append(by_distance(found, test))
            exchange.setdefault(name, []).append(after_exchange(swapped, exchanged))
            return scores(found, true)

        systems[name], trained[name] = over_seeds(role, SEEDS, fit_one, evaluate)

    run("U-Net", "rival", "U-Net")
    run("U-Net, deeper", "rival", "U-Net, deeper")
    run("U-Net, then a rule", "rival", "U-Net, then a rule")
    run("U-Net, gates", "attention", "U-Net, gates")
    run("U-Net, attention", "attention", "U-Net, attention")
    run("equal weights, trained so", "ablation", "U-Net, attention", equal=True)
    collected = []
    for model in trained["U-Net, attention"]:
        with uniform_weights(model):
            collected.append(scores(segment(model, test.images), true))
    systems["equal weights after training"] = System(
        "ablation", {key: [one[key] for one in collected] for key in collected[0]}
    )

    pairs = []
    for one, other in zip(trained["U-Net, attention"], trained["U-Net, deeper"], strict=True):
        right = [
            torch.eq(*digits_marked(segment(model, test.images), test)[:2])
            for model in (one, other)
        ]
        pairs.append([int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())])
    return Results(
        task="Mark, pixel by pixel, the digits of a scene that equal a cue",
        data="Scenes composed of scikit-learn's handwritten digits, with clutter and noise",
        origin="generated from real",
        split="Scenes of a part hold digits of that block of the file alone",
        metric="IoU",
        higher_is_better=True,
        n_training=N_SCENES["training"],
        n_test=N_SCENES["test"],
        seeds=list(SEEDS),
        systems=systems,
        libraries=versions("scikit-learn", "torch", "numpy", "scipy"),
        more={
            "curves": curves,
            "first losses": first,
            "by distance": distances,
            "exchanged cues": exchange,
            "only attention, only deeper": pairs,
            "on the cue": [
                on_the_cue(bottom_weights(model, test), test)
                for model in trained["U-Net, attention"]
            ],
            "gates": [gate_factors(model, test) for model in trained["U-Net, gates"]],
            "examples": _examples(trained["U-Net, attention"][0], test),
        },
    )


def gate_factors(model: UNet, scenes: Scenes) -> dict[str, float]:
    """The mean factor of the gate at full size: on ink of digits, on other ink, and on paper."""
    kept = {}
    hook = model.gates[1].register_forward_pre_hook(lambda _, inputs: kept.update(inputs=inputs))
    with evaluating(model):
        model(scenes.images)
        factors = model.gates[1].factors(*kept["inputs"])[:, 0]  # (n, 24, 24)
    hook.remove()
    digit, dark = scenes.owners >= 0, scenes.images > 0.5
    places = {"digits": digit, "clutter": dark & ~digit, "paper": ~dark & ~digit}
    return {name: factors[pixels].mean().item() for name, pixels in places.items()}


def _examples(model: UNet, test: Scenes) -> list[dict]:
    """Two scenes with a digit to mark and two others: what is marked, and where two tokens look."""
    weights = bottom_weights(model, test).mean(dim=1)  # (n, 36, 36)
    there = test.labels[:, 1:] >= 0
    same = test.labels[:, 1:] == test.labels[:, :1]
    chosen = (there.all(dim=1) & (same.sum(dim=1) == 1)).nonzero()[:2, 0].tolist()
    marks = segment(model, test.images[chosen]).marks
    examples = []
    for place, scene in enumerate(chosen):
        middle = (test.boxes[scene, :, :2] + test.boxes[scene, :, 2:]) / 2  # (most, 2), x first
        token = ((middle[:, 1] // CELL) * N_CELLS + middle[:, 0] // CELL).long()  # (most,)
        examples.append(
            {
                "scene": scene,
                "tokens": token[1:3].tolist(),
                "weights": weights[scene, token[1:3]].tolist(),
                "marks": marks[place].flatten().nonzero()[:, 0].tolist(),
            }
        )
    return examples
