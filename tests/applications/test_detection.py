"""Boxes against pixels and brute force, the detectors' masks and targets, and broken versions."""

import functools
import itertools

import numpy as np
import pytest
import torch

from attn_tutorial.applications import digits, scenes
from attn_tutorial.applications.detection import boxes as boxes_module
from attn_tutorial.applications.detection import experiment as detection
from attn_tutorial.applications.detection import models as detectors_module
from attn_tutorial.applications.detection import sliding
from attn_tutorial.applications.detection.boxes import Detections
from attn_tutorial.applications.detection.models import NOTHING, SIZE, GridDetector, QueryDetector
from attn_tutorial.attribution import uniform_weights
from package.zoo import Zoo, ZooTests, rewritten

SIDE = 8  # of the grids on which boxes are counted pixel by pixel


@pytest.fixture(scope="module")
def small_parts():
    pictures = digits.load_parts()
    return {
        name: scenes.compose(pictures[name], n, seed=seed, most=3, clutter=3)
        for seed, (name, n) in enumerate({"training": 200, "validation": 30, "test": 60}.items())
    }


# --- the parts --------------------------------------------------------------------------------


def test_parts_hold_digits_of_their_own_block(monkeypatch):
    monkeypatch.setattr(detection, "N_SCENES", {"training": 50, "validation": 50, "test": 50})
    pictures = digits.load_parts()
    everything = torch.cat([part.images for part in pictures.values()])
    assert len(everything) == len(np.unique(everything.flatten(1).numpy(), axis=0))
    for name, part in detection.load_parts().items():
        there = part.sources >= 0
        assert part.sources.max() < len(pictures[name].images)
        labels = pictures[name].labels[part.sources[there]]
        assert torch.equal(labels, part.labels[there])


# --- boxes: each check is a function of the module, so that broken ones can be shown to fail -----

BOX_CHECKS = []


def box_check(function):
    BOX_CHECKS.append(function)
    return function


def random_boxes(rng, n):
    low = rng.integers(0, SIDE - 1, size=(n, 2))
    high = low + 1 + (rng.random((n, 2)) * (SIDE - low)).astype(int)
    return np.concatenate([low, np.minimum(high, SIDE)], axis=1)


def pixels_of(box):
    left, top, right, bottom = box
    table = np.zeros((SIDE, SIDE), dtype=bool)
    table[top:bottom, left:right] = True
    return table


@box_check
def overlaps_are_those_of_the_pixels(api):
    rng = np.random.default_rng(0)
    one, other = random_boxes(rng, 80), random_boxes(rng, 80)
    iou, generalised = api.overlaps(torch.tensor(one).float(), torch.tensor(other).float())
    for i in range(80):
        a, b = pixels_of(one[i]), pixels_of(other[i])
        both = [*np.minimum(one[i], other[i])[:2], *np.maximum(one[i], other[i])[2:]]
        union, around = (a | b).sum(), pixels_of(both).sum()
        assert iou[i].item() == pytest.approx((a & b).sum() / union, abs=1e-6)
        wanted = (a & b).sum() / union - (around - union) / around
        assert generalised[i].item() == pytest.approx(wanted, abs=1e-6)


@box_check
def boxes_far_apart_still_pull(api):
    """The gradient of the plain overlap is zero there, that of the generalised one is not."""
    one = torch.tensor([0.0, 0.0, 1.0, 1.0], requires_grad=True)
    iou, generalised = api.overlaps(one, torch.tensor([5.0, 5.0, 6.0, 6.0]))
    generalised.backward()
    assert iou == 0
    assert one.grad[2] > 0  # a right edge farther to the right is better
    assert one.grad[3] > 0


@box_check
def matching_is_the_best_of_all(api):
    rng = np.random.default_rng(1)
    cost = torch.from_numpy(rng.normal(size=(20, 5, 3)))
    for table, who in zip(cost.numpy(), api.matching(cost).tolist(), strict=True):
        everyone = itertools.permutations(range(5), 3)
        best = min(everyone, key=lambda way: sum(table[q, k] for k, q in enumerate(way)))
        assert tuple(who) == best


@box_check
def columns_of_nobody_change_no_match(api):
    cost = torch.from_numpy(np.random.default_rng(2).normal(size=(20, 6, 2)))
    padded = torch.cat([torch.full((20, 6, 2), 7.0), cost], dim=2)
    assert torch.equal(api.matching(padded)[:, 2:], api.matching(cost))


def three_found():
    return Detections(
        torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 5], [4, 4, 8, 8]]),
        torch.tensor([0.6, 0.9, 0.7]),
        torch.tensor([1, 1, 2]),
    )


@box_check
def doubles_go_and_others_stay(api):
    kept = api.without_doubles(three_found(), 0.5)
    assert kept.scores.tolist() == pytest.approx([0.9, 0.7])  # the surest first
    assert len(api.without_doubles(three_found(), 0.9).scores) == 3
    assert len(api.without_doubles(three_found().take(torch.zeros(3).bool()), 0.5).scores) == 0


@box_check
def doubles_are_counted(api):
    truth = torch.tensor([[[0.0, 0, 4, 5], [4, 4, 8, 8], [0, 0, 0, 0]]])
    labels = torch.tensor([[1, 2, -1]])
    assert api.doubles([three_found()], truth, labels, sure=0.5) == 1 / 2
    assert api.doubles([three_found()], truth, labels, sure=0.65) == 0


@box_check
def precision_by_hand(api):
    """Two pictures, one kind: found, missed, and a false one that is surer or less sure."""
    truth = torch.tensor([[[2.0, 3, 6, 7]], [[2, 3, 6, 7]]])
    labels = torch.zeros(2, 1, dtype=torch.long)
    right, wrong = truth[0], torch.tensor([[10.0, 10, 14, 14]])

    def found(box, score):
        return Detections(box, torch.tensor([score]), torch.tensor([0]))

    both = [found(right, 0.9), found(right, 0.8)]
    assert api.average_precision(both, truth, labels) == pytest.approx({"AP": 1, "AP50": 1})
    first = api.average_precision([both[0], found(wrong, 0.5)], truth, labels)
    assert first["AP50"] == pytest.approx(51 / 101)  # recall 0 to 0.5, of 101 points
    later = api.average_precision([found(right, 0.5), found(wrong, 0.9)], truth, labels)
    assert later["AP50"] == pytest.approx(51 / 101 / 2)  # half of what is found is right
    # 4 of 5 pixels: enough for the seven wanted overlaps from 0.50 to 0.80
    loose = [found(torch.tensor([[2.0, 3, 6, 8]]), 0.9)] * 2
    assert api.average_precision(loose, truth, labels) == pytest.approx({"AP": 0.7, "AP50": 1})
    none = [Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0).long())] * 2
    assert api.average_precision(none, truth, labels) == {"AP": 0, "AP50": 0}


BROKEN_BOXES = {
    "union counts the shared part twice": ("+ _areas(other) - shared", "+ _areas(other)"),
    "negative sides make areas": (".clamp(min=0).prod(dim=-1)", ".prod(dim=-1)"),
    "the frame is the inner one": ("around = _areas(outer)", "around = _areas(inner)"),
    "queries and objects swapped": (
        "linear_sum_assignment(table)[1]",
        "linear_sum_assignment(table)[0]",
    ),
    "only the best query of each": ("linear_sum_assignment(table)[1]", "table.argmin(axis=1)"),
    "the least sure stays": ("argsort(descending=True,", "argsort(descending=False,"),
    "all doubles stay": ("(iou > limit)", "(iou > limit + 9)"),
    "unsure ones count": ("one.boxes[one.scores >= sure]", "one.boxes[one.scores >= 0]"),
    "COCO gets the far corner": (
        '"bbox": [left, top, width, height]',
        '"bbox": [left, top, right, bottom]',
    ),
    "every detection is equally sure": ('{"score": score}', '{"score": 1.0}'),
}


class TestBoxes(ZooTests):
    zoo = Zoo(BOX_CHECKS, rewritten(boxes_module, BROKEN_BOXES), BROKEN_BOXES)


# --- the detectors ------------------------------------------------------------------------------

CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


@functools.cache
def some_scenes():
    return scenes.compose(digits.load_parts()["training"], 12, seed=5, fewest=1, most=3)


def told(api, model, part):
    """The gradient of the loss by the last answer: what the queries are told."""
    kept = []

    class Answers(torch.nn.Module):
        def forward(self, images):
            with torch.no_grad():
                answers = model(images)
            kept[:] = [tuple(t.requires_grad_() for t in answer) for answer in answers]
            return kept

    wrapped = Answers()
    if isinstance(model, GridDetector):
        wrapped.__class__ = type("GridAnswers", (Answers, api.GridDetector), {})
    api.loss(wrapped, part.images, part.labels, part.boxes).backward()
    return kept[-1][0].grad, kept[-1][1].grad


@check
def one_query_answers_for_each_digit(api):
    """Boxes pull as many queries as there are digits, and no other."""
    part = some_scenes()
    torch.manual_seed(0)
    _, by_boxes = told(api, QueryDetector().eval(), part)
    pulled = (by_boxes != 0).any(dim=-1).sum(dim=1)
    assert torch.equal(pulled, (part.labels >= 0).sum(dim=1))


@check
def it_is_the_query_that_answers_best(api):
    """Queries whose boxes and labels are right already are those that are matched."""
    part = some_scenes()
    most = part.labels.shape[1]
    logits = torch.zeros(12, 9, NOTHING + 1)
    guessed = torch.tensor([0.0, 0.0, 0.01, 0.01]).repeat(12, 9, 1)
    place = torch.tensor([4, 7, 2])
    for k in range(most):
        there = part.labels[:, k] >= 0
        guessed[there, place[k]] = part.boxes[there, k] / SIZE
        logits[there, place[k], part.labels[there, k]] = 5.0
    who = api.queries_of(logits, guessed, part.labels, part.boxes / SIZE)
    there = part.labels >= 0
    assert torch.equal(who[there], place.expand(12, -1)[there])


@check
def who_is_not_there_takes_nobody(api):
    """The box of nobody is all zeros. The query next to it must stay free for a real digit."""
    guessed = torch.full((1, 9, 4), 0.9)
    guessed[0, 5], guessed[0, 6] = torch.tensor([[0, 0, 0.1, 0.1], [0, 0, 0.14, 0.14]])
    boxes = torch.tensor([[[0, 0, 0.118, 0.118], [0, 0, 0, 0]]])
    who = api.queries_of(torch.zeros(1, 9, NOTHING + 1), guessed, torch.tensor([[3, -1]]), boxes)
    assert who[0, 0] == 5


@check
def the_label_decides_between_equal_boxes(api):
    logits = torch.zeros(1, 9, NOTHING + 1)
    logits[0, 6, 3] = 4.0
    box = torch.tensor([0.2, 0.2, 0.5, 0.6])
    who = api.queries_of(logits, box.repeat(1, 9, 1), torch.tensor([[3]]), box[None, None])
    assert who.item() == 6


@check
def cells_hold_the_centres(api):
    boxes = torch.tensor([[0.0, 0, 4, 4], [20, 0, 24, 4], [0, 16, 8, 24], [9, 10, 14, 13]])
    assert api.cells_of(boxes).tolist() == [0, 5, 31, 14]
    # an untrained grid answers with a box around its own cell
    _, found = api.GridDetector().eval()(torch.zeros(1, SIZE, SIZE))[0]
    assert api.cells_of(found[0] * SIZE).tolist() == list(range(36))


@check
def queries_apart_see_no_other(api):
    """Change one query: where they do not talk, only its own answer changes."""
    images = some_scenes().images
    for talking in (False, True):
        torch.manual_seed(0)
        model = api.QueryDetector(talking=talking).eval()
        with torch.no_grad():
            before = model(images)[-1][0]
            model.queries[4] += torch.linspace(-1, 1, 48)  # a constant would be normalised away
            after = model(images)[-1][0]
        changed = ((before - after).abs() > 1e-6).any(dim=-1).any(dim=0)  # (n_queries,)
        assert changed[4]
        assert changed.all() if talking else changed.sum() == 1


@check
def every_query_sees_the_scene(api):
    """A change in one corner reaches every query."""
    images = some_scenes().images
    changed = images.clone()
    changed[:, :6, :6] += 1
    torch.manual_seed(0)
    model = api.QueryDetector(talking=False).eval()
    with torch.no_grad():
        apart = (model(images)[-1][0] - model(changed)[-1][0]).abs().amax(dim=(0, 2))
    assert (apart > 1e-6).all()


@check
def scenes_of_a_batch_do_not_mix(api):
    images = some_scenes().images
    torch.manual_seed(0)
    for model in (api.QueryDetector().eval(), api.GridDetector().eval()):
        with torch.no_grad():
            together = model(images)[-1]
            alone = model(images[3:4])[-1]
        for one, other in zip(together, alone, strict=True):
            torch.testing.assert_close(one[3:4], other, atol=1e-5, rtol=1e-4)


@check
def positions_tell_where(api):
    """Each position has a vector that the answers depend on."""
    torch.manual_seed(0)
    model = api.QueryDetector().eval()
    boxes = model(some_scenes().images)[-1]
    boxes[0].sum().backward()
    assert model.positions.grad.abs().amax(dim=1).min() > 1e-6


@check
def empty_scenes_have_a_loss(api):
    images, labels = torch.zeros(2, SIZE, SIZE), torch.full((2, 3), -1)
    torch.manual_seed(0)
    for model in (api.QueryDetector(), api.GridDetector()):
        assert torch.isfinite(api.loss(model, images, labels, torch.zeros(2, 3, 4)))


@check
def nothing_is_no_detection(api):
    """A query that says "nothing" loudly has a low score, whatever its best label."""

    class Silent(torch.nn.Module):
        def forward(self, images):
            logits = torch.zeros(len(images), 9, NOTHING + 1)
            logits[..., NOTHING] = 10.0
            logits[:, 2, 7] = 20.0
            return [(logits, torch.rand(len(images), 9, 4))]

    (found,) = api.detect(Silent(), torch.zeros(1, SIZE, SIZE), limit=None)
    assert found.scores.argmax() == 2
    assert found.labels[2] == 7
    assert (found.scores > 0.5).sum() == 1


BROKEN = {
    "the mask is turned round": (
        "else torch.eye(n_queries).bool()",
        "else ~torch.eye(n_queries).bool()",
    ),
    "the mask is not used": ("memory, mask=self.mask)", "memory)"),
    "queries look at queries only": ("layer(queries, memory, mask", "layer(queries, queries, mask"),
    "the costs have the wrong sign": ("return matching(cost", "return matching(-cost"),
    "the label has no say": ("boxes[:, None]) - likely", "boxes[:, None])"),
    "objects that are not there have costs": ("cost.where((labels >= 0)[:, None], 0)", "cost"),
    "rows and columns of the grid swapped": ("y * N_CELLS + x", "x * N_CELLS + y"),
    "no positions": ("+ self.positions", "+ 0 * self.positions"),
    "one query gets all boxes": (
        "apart = box_loss(guessed[scene, who[there]]",
        "apart = box_loss(guessed[scene, 0 * who[there]]",
    ),
    "the mean over no digits": ("if there.any():", "if True:"),
    "nothing counts as a label": ("[..., :NOTHING].max", "[..., 1:].max"),
    "scenes of a batch mix": (
        "self.stem(images[:, None])  #",
        "self.stem(images[:, None]).roll(1, 0)  #",
    ),
}


class TestDetectors(ZooTests):
    zoo = Zoo(CHECKS, rewritten(detectors_module, BROKEN), BROKEN)


# --- what is measured -----------------------------------------------------------------------------


def test_equal_weights_put_the_box_share_inside(small_parts):
    """With equal weights the share inside the box is the one by chance, exactly."""
    part = small_parts["test"]
    torch.manual_seed(0)
    model = QueryDetector().eval()
    with torch.no_grad():  # sure of all: then every box that meets a digit counts
        model.label.bias[0] = 50.0
    with uniform_weights(model):
        weights, inside, chance = detection.attended(model, part)
    torch.testing.assert_close(weights, torch.full((60, 9, 36), 1 / 36))
    assert len(inside) > 0
    torch.testing.assert_close(inside, chance)
    _, inside, _ = detection.attended(model, part)
    assert (inside - chance).abs().max() > 1e-3


def test_recall_wants_label_box_and_certainty(small_parts):
    part = small_parts["test"]
    there = part.labels >= 0
    truth = [
        Detections(boxes[there_], torch.ones(int(there_.sum())), labels[there_])
        for boxes, labels, there_ in zip(part.boxes, part.labels, there, strict=True)
    ]
    assert detection.recalled(truth, part).all()
    assert len(detection.recalled(truth, part)) == there.sum()
    for spoil in (
        lambda one: one._replace(labels=(one.labels + 1) % 10),
        lambda one: one._replace(boxes=one.boxes + 20),
        lambda one: one._replace(scores=one.scores - 0.6),
    ):
        assert not detection.recalled([spoil(one) for one in truth], part).any()
    assert detection.scores(truth, part) == pytest.approx({"AP": 1, "AP50": 1, "doubles": 0})


def test_training_starts_from_a_stem_and_follows_from_the_seed(small_parts, monkeypatch):
    monkeypatch.setattr(detection, "BATCH", 8)
    grid, _ = detection.fit(GridDetector, 0, small_parts, steps=2)
    runs = [detection.fit(QueryDetector, 0, small_parts, stem=grid.stem, steps=2) for _ in "ab"]
    assert runs[0][1] == runs[1][1]
    other, history = detection.fit(QueryDetector, 0, small_parts, steps=2)
    assert history.losses[0] != runs[0][1].losses[0]
    equal, _ = detection.fit(QueryDetector, 0, small_parts, steps=2, equal=True)
    torch.manual_seed(0)
    before = QueryDetector()  # what decides the weights has learned nothing
    untouched = "decoder.0.cross_attention.query.bias"
    assert torch.equal(equal.state_dict()[untouched], before.state_dict()[untouched])
    assert not torch.equal(other.state_dict()[untouched], before.state_dict()[untouched])


def test_windows_are_cut_where_they_say():
    images = torch.rand(2, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    pixels, places = sliding.windows(images)
    assert pixels.shape == (2, 17**2 + 9**2, 64)
    for i in (0, 5, 100, 288):
        left, top, right, bottom = places[i].int().tolist()
        assert (right - left, bottom - top) == (8, 8)
        assert torch.equal(pixels[1, i].view(8, 8), images[1, top:bottom, left:right])
    larger = (places[:, 2] - places[:, 0]) == 12
    assert larger.sum() == 9**2
    assert places.min() == 0
    assert places[larger].max() == SIZE


def test_the_sliding_window_finds_digits(small_parts):
    window = sliding.SlidingWindow(strength=0.01, limit=0.5).fit(small_parts["training"])
    found = window.detect(small_parts["test"].images)
    score = detection.scores(found, small_parts["test"])
    assert score["AP50"] > 0.15
    mixed = small_parts["test"]._replace(labels=(small_parts["test"].labels + 3) % 10)
    assert detection.scores(found, mixed)["AP50"] < score["AP50"] / 3


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: boxes_module.overlaps(torch.zeros(3), torch.zeros(4)), r"boxes must have shape"),
        (lambda: boxes_module.matching(torch.zeros(1, 2, 3)), r"as many queries as objects"),
        (
            lambda: boxes_module.average_precision([], torch.zeros(1, 1, 4), torch.zeros(1, 1)),
            r"found must have 1 entries; got 0",
        ),
    ],
)
def test_wrong_calls_say_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call()
