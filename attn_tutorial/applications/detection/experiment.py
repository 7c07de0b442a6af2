"""Object detection: which digits are in a scene, and where.

A detector with object queries (DETR in small), one with a grid and no attention, and the oldest
way, a classifier that slides over the scene, on scenes that are composed of handwritten digits.
"""

import contextlib
from collections.abc import Callable, Iterator

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from attn_tutorial.applications import digits
from attn_tutorial.applications.detection.boxes import (
    HIT,
    Detections,
    average_precision,
    doubles,
    overlaps,
)
from attn_tutorial.applications.detection.models import (
    CELL,
    N_CELLS,
    SIZE,
    GridDetector,
    QueryDetector,
    detect,
    loss,
)
from attn_tutorial.applications.detection.sliding import SlidingWindow
from attn_tutorial.applications.measuring import Clock, over_seeds
from attn_tutorial.applications.results import Results, System, versions
from attn_tutorial.applications.scenes import Scenes, compose
from attn_tutorial.attribution import recording, uniform_weights
from attn_tutorial.training import History, train

N_SCENES = {"training": 12_000, "validation": 300, "test": 600}
SEEDS = (0, 1, 2)
STEPS = {"grid": 600, "queries": 500}
PEAK, WARM_UP, BATCH = 3e-3, 50, 64
LIMIT = 0.5  # of the overlap, in non-maximum suppression
SURE = 0.5  # the score from which on a detection counts, where one has to decide
N_FIRST = 15  # losses that are stored, to compare with
FOR_WINDOWS = 4_000  # training scenes: more change nothing for the sliding window


def load_parts() -> dict[str, Scenes]:
    """The scenes by part, each composed of digits of that part: 12,000, 300 and 600."""
    pictures = digits.load_parts()
    return {
        name: compose(pictures[name], n, seed=seed, size=SIZE, most=3, clutter=3)
        for seed, (name, n) in enumerate(N_SCENES.items())
    }


def scores(found: list[Detections], part: Scenes) -> dict[str, float]:
    """Average precision and doubles of what was found in a part."""
    return {
        **average_precision(found, part.boxes, part.labels),
        "doubles": doubles(found, part.boxes, part.labels, sure=SURE),
    }


def fit(
    make: Callable[[], nn.Module],
    seed: int,
    parts: dict[str, Scenes],
    *,
    stem: nn.Module | None = None,
    equal: bool = False,
    steps: int | None = None,
    longer: int = 1,
) -> tuple[nn.Module, History]:
    """Train a detector.

    Parameters
    ----------
    make : QueryDetector or GridDetector, or a function that makes one
    seed : int
    parts : dict of Scenes
    stem : module, optional
        Start from the parameters of this one, of a detector that has been trained.
    equal : bool
        Train with equal weights in all attention.
    steps : int, optional
        Make fewer than usual, at the rates of the whole training; nothing is validated then.
    longer : int
        Make so many times the usual number of steps.

    Returns
    -------
    model, history
        The validation "loss" is one minus the average precision on the validation part.
    """
    torch.manual_seed(seed)
    model = make()
    if stem is not None:
        model.stem.load_state_dict(stem.state_dict())
    grid = isinstance(model, GridDetector)
    usual = longer * STEPS["grid" if grid else "queries"]

    def falling(step: int, *, peak: float, warm_up: int) -> float:
        """A short rise, then a straight line to zero."""
        return peak * min(step / warm_up, 1) * (1 - (step - 1) / usual)

    def validate(model: nn.Module) -> float:
        part = parts["validation"]
        found = detect(model, part.images, limit=LIMIT if grid else None)
        return 1 - average_precision(found, part.boxes, part.labels)["AP"]

    part = parts["training"]
    with uniform_weights(model) if equal else contextlib.nullcontext():
        history = train(
            model,
            loss,
            (part.images, part.labels, part.boxes),
            steps=steps or usual,
            batch_size=BATCH,
            peak=PEAK,
            warm_up=WARM_UP,
            schedule=falling,
            validate=None if steps else validate,
            seed=seed,
        )
    return model, history


def attended(model: QueryDetector, part: Scenes) -> tuple[Tensor, Tensor, Tensor]:
    """Where the queries that found a digit attend, in the last layer of the decoder.

    Parameters
    ----------
    model : QueryDetector
    part : Scenes

    Returns
    -------
    weights : float tensor, shape (n, n_queries, 36)
        The mean over the heads.
    inside : float tensor, shape (n_hits,)
        For each query that is sure and whose box meets a digit by a half or more: the share of its
        weights that lies on that digit's box, where a cell counts by how much of it is covered.
    chance : float tensor, shape (n_hits,)
        The share that equal weights would put there, which is the box's share of the scene.
    """
    with recording(model.eval()) as record, torch.no_grad():
        model(part.images)
    last = record.names.index(f"decoder.{len(model.decoder) - 1}.cross_attention")
    weights = record.weights[last].mean(dim=1)  # (n, n_queries, 36)
    line = CELL * torch.arange(N_CELLS)
    corner = torch.cartesian_prod(line, line).flip(-1)  # (36, 2), x first
    cells = torch.cat([corner, corner + CELL], dim=-1).float()  # (36, 4)
    inside, chance = [], []
    for i, found in enumerate(detect(model, part.images, limit=None)):
        boxes = part.boxes[i][part.labels[i] >= 0]  # (n_objects, 4)
        if not len(boxes):
            continue
        best, whose = overlaps(found.boxes[:, None], boxes[None])[0].max(dim=1)  # (n_queries,)
        hit = (best >= HIT) & (found.scores >= SURE)
        true = boxes[whose[hit]][:, None]  # (n_hits, 1, 4)
        low, high = torch.maximum(true, cells)[..., :2], torch.minimum(true, cells)[..., 2:]
        covered = (high - low).clamp(min=0).prod(dim=-1) / CELL**2  # (n_hits, 36)
        inside.append((weights[i][hit] * covered).sum(dim=-1))
        chance.append(covered.mean(dim=-1))
    return weights, torch.cat(inside), torch.cat(chance)


def recalled(found: list[Detections], part: Scenes) -> Tensor:
    """Which digits of a part were found: a sure detection, the right label, half the box.

    Parameters
    ----------
    found : list of n Detections
    part : Scenes

    Returns
    -------
    bool tensor, shape (n_objects,), scene by scene
    """
    result = []
    for one, boxes, labels in zip(found, part.boxes, part.labels, strict=True):
        there = labels >= 0
        one = one.take(one.scores >= SURE)
        iou, _ = overlaps(boxes[there][:, None], one.boxes[None])  # (n_objects, n_detections)
        result.append(((iou >= HIT) & (one.labels == labels[there][:, None])).any(dim=1))
    return torch.cat(result)


def _without_talking(model: QueryDetector) -> contextlib.AbstractContextManager[None]:
    """Within this context each query of a trained model attends to itself alone."""
    return _masked(model, torch.eye(len(model.mask), dtype=torch.bool))


@contextlib.contextmanager
def _masked(model: QueryDetector, mask: Bool[Tensor, "n n"]) -> Iterator[None]:
    kept, model.mask = model.mask, mask
    try:
        yield
    finally:
        model.mask = kept


def fit_window(parts: dict[str, Scenes]) -> SlidingWindow:
    """The sliding window, with the settings that were best on the validation part."""
    scenes = Scenes(*(column[:FOR_WINDOWS] for column in parts["training"]))
    return SlidingWindow(strength=0.01, limit=LIMIT, stretch=1.1).fit(scenes)


def measure() -> Results:
    """Train all detectors with all seeds, and the sliding window once."""
    parts = load_parts()
    test = parts["test"]
    clock = Clock()
    with clock.running():
        window = fit_window(parts)
    oldest = window.detect(test.images)
    systems = {
        "sliding window": System(
            role="baseline",
            scores={name: [score] for name, score in scores(oldest, test).items()},
            seconds=clock.seconds,
        )
    }
    curves: dict[str, list] = {}
    first: dict[str, list] = {}
    trained: dict[str, list] = {}

    def run(name, role, make, *, started=True, equal=False, limit=None):
        """Train with each seed, and evaluate in the way in which it was trained."""

        def fit_one(seed):
            stem = trained["grid"][SEEDS.index(seed)].stem if started else None
            model, history = fit(make, seed, parts, stem=stem, equal=equal)
            curves.setdefault(name, []).append([[n, 1 - x] for n, x in history.validations])
            first.setdefault(name, history.losses[:N_FIRST])
            return model

        def evaluate(model):
            with uniform_weights(model) if equal else contextlib.nullcontext():
                return scores(detect(model, test.images, limit=limit), test)

        systems[name], trained[name] = over_seeds(role, SEEDS, fit_one, evaluate)

    def rescored(role, name, way, limit=None):
        """The trained models once more, evaluated within a context or with another limit."""
        collected = []
        for model in trained[name]:
            with way(model):
                collected.append(scores(detect(model, test.images, limit=limit), test))
        return System(role, {key: [one[key] for one in collected] for key in collected[0]})

    def as_it_is(model):
        return contextlib.nullcontext()

    run("grid", "rival", GridDetector, started=False, limit=LIMIT)
    run("queries", "attention", QueryDetector)
    run("queries, own stem", "attention", QueryDetector, started=False)
    run("queries, apart", "ablation", lambda: QueryDetector(talking=False))
    run("queries, equal weights", "ablation", QueryDetector, equal=True)
    systems["grid, all cells"] = rescored("rival", "grid", as_it_is)
    systems["queries, suppressed"] = rescored("ablation", "queries", as_it_is, LIMIT)
    systems["queries, parted later"] = rescored("ablation", "queries", _without_talking)
    systems["queries, equal later"] = rescored("ablation", "queries", uniform_weights)
    systems["queries, apart, suppressed"] = rescored("ablation", "queries, apart", as_it_is, LIMIT)
    longer = {}
    for name, make, stem, limit in (
        ("grid", GridDetector, None, LIMIT),
        ("queries", QueryDetector, trained["grid"][0].stem, None),
    ):
        model, history = fit(make, SEEDS[0], parts, longer=3, stem=stem)
        longer[name] = scores(detect(model, test.images, limit=limit), test)
        curves[f"{name}, three times"] = [[[n, 1 - x] for n, x in history.validations]]

    inside, chance, pairs = [], [], []
    for one, other in zip(trained["queries"], trained["grid"], strict=True):
        _, share, equal_share = attended(one, test)
        inside.append(share.mean().item())
        chance.append(equal_share.mean().item())
        ours = recalled(detect(one, test.images, limit=None), test)
        theirs = recalled(detect(other, test.images, limit=LIMIT), test)
        pairs.append([int((ours & ~theirs).sum()), int((theirs & ~ours).sum())])
    return Results(
        task="Digits in a scene: which, and where",
        data="Scenes composed of scikit-learn's handwritten digits, with clutter and noise",
        origin="generated from real",
        split="Scenes of a part hold digits of that block of the file alone",
        metric="AP50",
        higher_is_better=True,
        n_training=N_SCENES["training"],
        n_test=N_SCENES["test"],
        seeds=list(SEEDS),
        systems=systems,
        libraries=versions("scikit-learn", "torch", "numpy", "pycocotools"),
        more={
            "curves": curves,
            "first losses": first,
            "three times the steps": longer,
            "inside the box": inside,
            "by chance": chance,
            "only queries, only grid": pairs,
            "objects in the test part": int((test.labels >= 0).sum()),
            "examples": _examples(trained["queries"][0], test),
        },
    )


def _examples(model: QueryDetector, test: Scenes) -> list[dict]:
    """The first scenes of three digits and three sure answers that meet one: boxes and weights."""
    weights, _, _ = attended(model, test)
    found = detect(model, test.images, limit=None)
    examples = []
    for scene in ((test.labels >= 0).sum(dim=1) == 3).nonzero()[:, 0].tolist():
        one, boxes = found[scene], test.boxes[scene]
        sure = (one.scores >= SURE).nonzero()[:, 0]
        best = overlaps(one.boxes[sure][:, None], boxes[None])[0].amax(dim=1)
        if len(sure) == 3 and (best >= HIT).all():
            examples.append(
                {
                    "scene": scene,
                    "boxes": one.boxes[sure].tolist(),
                    "labels": one.labels[sure].tolist(),
                    "weights": weights[scene, sure].tolist(),
                }
            )
        if len(examples) == 2:
            break
    return examples
