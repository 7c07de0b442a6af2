"""Labels and marks pixel by pixel, scores by brute force, U-Nets and gates, broken versions."""

import functools

import networkx
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from attn_tutorial.applications import digits
from attn_tutorial.applications.scenes import Scenes, compose
from attn_tutorial.applications.segmentation import baselines as first_tries
from attn_tutorial.applications.segmentation import data as segmentation_data
from attn_tutorial.applications.segmentation import experiment as segmentation
from attn_tutorial.applications.segmentation import metrics as segmentation_metrics
from attn_tutorial.applications.segmentation import models as segmentation_models
from attn_tutorial.applications.segmentation.data import SIZE, Answers
from attn_tutorial.attribution import uniform_weights
from package.zoo import Zoo, ZooTests, rewritten

MODULES = {
    "data": segmentation_data,
    "metrics": segmentation_metrics,
    "baselines": first_tries,
    "models": segmentation_models,
    "fitting": segmentation,
}
N = 40  # scenes

CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


@functools.cache
def some_scenes(n=N):
    pictures = digits.load_parts()["validation"]
    return compose(pictures, n, seed=5, size=SIZE, fewest=2, most=4, clutter=3, cue=True)


def few_scenes():
    return Scenes(*(column[:6] for column in some_scenes()))


@functools.cache
def right_answers():
    return segmentation_data.truth(some_scenes())


def random_answers(seed, n=6, size=7):
    rng = np.random.default_rng(seed)
    labels = torch.from_numpy(rng.integers(0, 11, size=(n, size, size)))
    return Answers(labels, torch.from_numpy(rng.random((n, size, size)) < 0.4))


def unet(api, *arguments, **options):
    torch.manual_seed(0)
    return api.models.UNet(*arguments, **options).eval()


# --- the data --------------------------------------------------------------------------------


@check
def each_pixel_is_what_its_owner_is(api):
    scenes = some_scenes()
    found = api.data.truth(scenes)
    owners, kinds = scenes.owners.tolist(), scenes.labels.tolist()
    labels, marks = found.labels.tolist(), found.marks.tolist()
    for i, y, x in np.ndindex(3, SIZE, SIZE):
        owner = owners[i][y][x]
        assert labels[i][y][x] == (0 if owner < 0 else kinds[i][owner] + 1)
        assert marks[i][y][x] == (owner > 0 and kinds[i][owner] == kinds[i][0])
    assert found.marks.any()


@check
def only_the_corner_is_exchanged(api):
    scenes = some_scenes()
    order = torch.arange(len(scenes.images)).roll(3)
    other = api.data.with_other_cues(scenes, order)
    inside = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    inside[:8, :8] = True
    for ours, before in ((other.images, scenes.images), (other.owners, scenes.owners)):
        assert torch.equal(ours[:, ~inside], before[:, ~inside])
    assert torch.equal(other.images[:, inside], scenes.images[order][:, inside])
    assert not (other.owners[:, inside] > 0).any()
    kinds, cues = scenes.labels, scenes.labels[order, 0]
    marks = api.data.truth(other).marks
    for i in range(len(kinds)):
        for k in range(1, 4):
            mine = (scenes.owners[i] == k) & ~inside
            assert (marks[i][mine] == (kinds[i, k] == cues[i])).all()


# --- the scores --------------------------------------------------------------------------------


@check
def edges_lie_between_neighbours(api):
    regions = random_answers(0).labels.clamp(max=2)
    found = api.metrics.edges(regions)
    assert found.shape == (6, 2 * 7 * 6)
    for picture, line in zip(regions.tolist(), found.tolist(), strict=True):
        beside = [row[x] != row[x + 1] for row in picture for x in range(6)]
        below = [picture[y][x] != picture[y + 1][x] for y in range(6) for x in range(7)]
        assert line == beside + below


@check
def scores_are_those_of_sets(api):
    found, true = random_answers(1), random_answers(2)
    scores = api.metrics.scores(found, true)

    def places(pixels):
        return {tuple(place) for place in pixels.nonzero().tolist()}

    def overlap(one, other):
        return len(places(one) & places(other)) / len(places(one) | places(other))

    assert scores["IoU"] == pytest.approx(overlap(found.marks, true.marks))
    each = [overlap(found.labels == k, true.labels == k) for k in range(11)]
    assert scores["mean IoU"] == pytest.approx(np.mean(each))
    assert scores["ink"] == pytest.approx(overlap(found.labels > 0, true.labels > 0))
    one, other = (places(api.metrics.edges(a.labels > 0)) for a in (found, true))
    assert scores["edges"] == pytest.approx(2 * len(one & other) / (len(one) + len(other)))
    assert set(api.metrics.scores(true, true).values()) == {1.0}


@check
def more_than_half_of_the_ink_counts(api):
    scenes, found = some_scenes(), Answers(right_answers().labels, torch.rand(N, 24, 24) < 0.5)
    marked, wanted, middle = api.metrics.digits_marked(found, scenes)
    seen = []
    for i in range(N):
        for k in range(1, 4):
            mine = scenes.owners[i] == k
            if mine.any():
                left, top, right, bottom = scenes.boxes[i, k].tolist()
                half = found.marks[i][mine].float().mean() > 0.5
                equal = scenes.labels[i, k] == scenes.labels[i, 0]
                seen.append([bool(half), bool(equal), (left + right) / 2, (top + bottom) / 2])
    assert [row[:2] for row in seen] == torch.stack([marked, wanted], dim=1).tolist()
    assert [row[2:] for row in seen] == middle.tolist()
    chosen = torch.arange(N) == 7
    fewer, _, _ = api.metrics.digits_marked(found, scenes, chosen=chosen)
    assert 1 <= len(fewer) <= 3


# --- the baselines -----------------------------------------------------------------------------


@check
def the_rule_asks_the_corner(api):
    labels = torch.zeros(3, 12, 12, dtype=torch.long)
    labels[:2, 2:4, 2:4] = 5
    labels[:2, 2, 4] = 7  # a lesser piece of the corner
    labels[0, 9, 9:11] = 5
    labels[1, 9, 9:11] = 7
    labels[2, 9, 9:11] = 5  # and nothing in the corner
    marks = api.baselines.by_rule(labels).marks
    assert marks[0].nonzero().tolist() == [[9, 9], [9, 10]]
    assert not marks[1:].any()
    assert api.metrics.scores(api.baselines.by_rule(right_answers().labels), right_answers())[
        "IoU"
    ] == pytest.approx(1, abs=0.03)


@check
def pieces_hang_together(api):
    image = np.random.default_rng(3).random((12, 12))
    numbers, places = api.baselines.pieces(image, 0.7)
    ink = np.argwhere(image > 0.7)
    graph = networkx.Graph()
    graph.add_nodes_from(map(tuple, ink))
    graph.add_edges_from((tuple(a), tuple(b)) for a in ink for b in ink if np.abs(a - b).max() == 1)
    wanted = {frozenset(part) for part in networkx.connected_components(graph)}
    found = {frozenset(map(tuple, np.argwhere(numbers == i + 1))) for i in range(len(places))}
    assert found == wanted
    assert len(wanted) > 3
    for i, place in enumerate(places, start=1):
        assert (numbers[place] == i).sum() == (numbers == i).sum()


@check
def a_crop_holds_its_piece_alone(api):
    image = np.random.default_rng(4).random((8, 4))
    mask = np.arange(4) < np.arange(8)[:, None]
    found = api.baselines.crop(image, mask)
    square = found[:64].reshape(8, 8)
    np.testing.assert_allclose(square[:, 2:6], np.where(mask, image, 0), atol=1e-6)
    assert square[:, [0, 1, 6, 7]].max() == 0
    assert found[64:].tolist() == [1.0, 0.5]
    assert api.baselines.crop(np.ones((3, 3)), np.ones((3, 3), dtype=bool))[:64].min() > 0.99


@check
def windows_surround_their_pixel(api):
    images = torch.rand(2, 6, 6, generator=torch.Generator().manual_seed(0))
    around = api.baselines.windows(images, 3).unflatten(1, (6, 6)).unflatten(3, (3, 3))
    assert torch.equal(around[:, :, :, 1, 1], images)
    assert torch.equal(around[1, 2, 4], images[1, 1:4, 3:6])
    assert around[0, 0, 0, 0].abs().sum() == 0


# --- the models --------------------------------------------------------------------------------


@check
def scenes_of_a_batch_do_not_mix(api):
    images = some_scenes().images[:2]
    for model in (unet(api, "deeper"), unet(api, "attention", gates=True)):
        with torch.no_grad():
            together, alone = model(images), model(images[1:])
        assert together.shape == (2, 12, SIZE, SIZE)
        torch.testing.assert_close(together[1:], alone, atol=1e-5, rtol=1e-4)


@check
def every_cell_hears_of_every_cell_through_attention_alone(api):
    torch.manual_seed(0)
    attention = api.models.SelfAttention(48).eval()
    with torch.no_grad():
        attention.layer.attention.query.weight *= 4
        grid = torch.randn(1, 48, 6, 6)
        changed = grid.clone()
        changed[0, :24, 0, 0] += 3  # a constant would be normalised away
        moved = (attention(grid) - attention(changed)).abs().amax(dim=1)[0]  # (6, 6)
        assert (moved > 1e-6).all()
        with uniform_weights(attention):  # then each cell hears the same
            said = attention(grid) - attention(changed)
        attention.layer.attention.out.weight.zero_()
        moved = (attention(grid) - attention(changed)).abs().amax(dim=1)[0]
        assert moved.nonzero().tolist() == [[0, 0]]
    assert (said.abs().amax(dim=1) > 1e-7).all()


@check
def cells_keep_their_places(api):
    torch.manual_seed(0)
    attention = api.models.SelfAttention(48).eval()
    with torch.no_grad():
        attention.layer.attention.out.weight.zero_()
        attention.layer.feed_forward[-1].weight.zero_()
        attention.layer.feed_forward[-1].bias.zero_()
        grid = torch.randn(2, 48, 6, 6)
        found = attention(grid)
    for y, x in np.ndindex(6, 6):
        torch.testing.assert_close(
            found[:, :, y, x], grid[:, :, y, x] + attention.positions[6 * y + x]
        )


@check
def a_gate_by_hand(api):
    torch.manual_seed(0)
    gate = api.models.AttentionGate(5)
    skip, below = torch.randn(2, 2, 5, 4, 4)
    with torch.no_grad():
        found, factors = gate(skip, below), gate.factors(skip, below)
        for y, x in np.ndindex(4, 4):
            a = skip[:, :, y, x] @ gate.skip.weight[:, :, 0, 0].T
            b = below[:, :, y, x] @ gate.below.weight[:, :, 0, 0].T + gate.below.bias
            score = (a + b).clamp(min=0) @ gate.score.weight[0, :, 0, 0] + gate.score.bias
            factor = 1 / (1 + torch.exp(-score))
            torch.testing.assert_close(factors[:, 0, y, x], factor)
            torch.testing.assert_close(found[:, :, y, x], factor[:, None] * skip[:, :, y, x])


@check
def open_gates_are_no_gates_and_closed_ones_let_nothing_through(api):
    images = some_scenes().images[:2]
    gated, plain = unet(api, gates=True), unet(api)
    plain.load_state_dict(gated.state_dict(), strict=False)
    with torch.no_grad():
        for gate in gated.gates:
            gate.score.weight.zero_()
            gate.score.bias.fill_(50)
        torch.testing.assert_close(gated(images), plain(images))
        for gate in gated.gates:
            gate.score.bias.fill_(-200)
        for convolutions, n in ((plain.up_second, 24), (plain.up_first, 12)):
            convolutions[0].weight[:, n:] = 0  # what reads the skip connection
        torch.testing.assert_close(gated(images), plain(images), atol=1e-5, rtol=1e-4)


@check
def the_loss_by_hand(api):
    answers = torch.randn(2, 12, 3, 3, generator=torch.Generator().manual_seed(0))
    labels, marks = (column[:2, :3, :3] for column in random_answers(5))
    total = {0.0: 0.0, 3.0: 0.0}
    for i, y, x in np.ndindex(2, 3, 3):
        scores = answers[i, :, y, x]
        of_label = scores[:11].exp().sum().log() - scores[labels[i, y, x]]
        sign = 1 if marks[i, y, x] else -1
        for count in total:
            total[count] += (of_label + count * F.softplus(-sign * scores[11])) / 18
    for count, wanted in total.items():
        found = api.models.loss(lambda _: answers, None, labels, marks, marks_count=count)
        torch.testing.assert_close(found, wanted)


@check
def the_likeliest_is_said(api):
    class Fixed(torch.nn.Module):
        def forward(self, images):
            return self.answers

    model = Fixed()
    model.answers = torch.zeros(1, 12, 2, 2)
    model.answers[0, 4, 0, 0] = model.answers[0, 10, 1, 1] = 2.0
    model.answers[0, 11] = torch.tensor([[-1.0, 1.0], [3.0, -0.2]])
    found = api.models.segment(model, None)
    assert found.labels[0].tolist() == [[4, 0], [0, 10]]
    assert found.marks[0].tolist() == [[False, True], [True, False]]


# --- what is measured --------------------------------------------------------------------------


@check
def weights_on_the_cue_are_those_of_its_four_cells(api):
    scenes = some_scenes()
    equal = api.fitting.on_the_cue(torch.full((N, 2, 36, 36), 1 / 36), scenes)
    assert list(equal) == ["to mark", "other digits", "no digit"]
    for shares in equal.values():
        assert shares == pytest.approx([4 / 36] * 2)
    weights = torch.zeros(N, 2, 36, 36)
    weights[:, 0, :, 7] = 1  # row 1, column 1: the cue's last cell
    weights[:, 1, :, 12] = 1  # below it
    cells = right_answers().marks.unflatten(2, (6, 4)).unflatten(1, (6, 4))
    others = ~cells.any(dim=4).any(dim=2).flatten(1)  # (N, 36)
    weights[:, 0][others] = torch.eye(36)[20]  # in the first head, only ink to mark asks the cue
    found = api.fitting.on_the_cue(weights, scenes)
    assert found["to mark"] == [1, 0]
    assert found["other digits"] == found["no digit"] == [0, 0]


@check
def distances_are_those_from_the_cue(api):
    scenes, true = some_scenes(), right_answers()
    assert api.fitting.by_distance(true, scenes) == [1, 1, 1, 1]
    nothing = Answers(true.labels, torch.zeros_like(true.marks))
    assert api.fitting.by_distance(nothing, scenes) == [0.5] * 4
    far = true.marks.clone()
    for i in range(N):
        for k in range(1, 4):
            left, top, right, bottom = scenes.boxes[i, k].tolist()
            if np.hypot((left + right) / 2 - 4, (top + bottom) / 2 - 4) > 16:
                far[i][scenes.owners[i] == k] = False
    assert api.fitting.by_distance(Answers(true.labels, far), scenes) == [1, 1, 1, 0.5]


@check
def false_marks_are_those_where_nothing_is_to_be_marked(api):
    scenes = api.data.with_other_cues(some_scenes(), torch.arange(N).roll(1))
    true = segmentation_data.truth(scenes)
    none = ~true.marks.flatten(1).any(dim=1)
    assert 3 < none.sum() < N - 3
    assert api.fitting.after_exchange(true, scenes) == {"IoU": 1, "false marks": 0}
    spoiled = Answers(true.labels, true.marks | none[:, None, None])
    assert api.fitting.after_exchange(spoiled, scenes) == {"IoU": 1, "false marks": 1}


@check
def the_weights_are_those_of_the_bottom(api):
    model = unet(api, "attention")
    weights = api.fitting.bottom_weights(model, few_scenes())
    assert weights.shape == (6, 4, 36, 36)
    torch.testing.assert_close(weights.sum(dim=-1), torch.ones(6, 4, 36))
    with uniform_weights(model):
        equal = api.fitting.bottom_weights(model, few_scenes())
    torch.testing.assert_close(equal, torch.full_like(equal, 1 / 36))
    assert (weights - equal).abs().max() > 1e-3


@check
def gates_are_read_where_they_are(api):
    model = unet(api, gates=True)
    with torch.no_grad():
        model.gates[1].score.weight.zero_()
        model.gates[1].score.bias.fill_(1.0)
    found = api.fitting.gate_factors(model, few_scenes())
    assert found == pytest.approx(dict.fromkeys(["digits", "clutter", "paper"], 0.731), abs=1e-3)


BROKEN = {
    "the cue is marked": ("data", "(scenes.owners > 0)", "(scenes.owners >= 0)"),
    "a zero is paper": ("data", "kinds + 1, PAPER", "kinds, PAPER"),
    "the old cue stays": ("data", "[order, 0]", "[:, 0]"),
    "rows of the corner alone": (
        "data",
        "(slice(None), slice(CORNER), slice(CORNER))",
        "(slice(None), slice(CORNER))",
    ),
    "neighbours beside alone": ("metrics", "below.flatten(1)]", "beside.flatten(1)]"),
    "all pixels in one": ("metrics", 'average="macro"', 'average="micro"'),
    "one pixel is enough": ("metrics", "(2 * n_marked > n_pixels)", "(n_marked > 0)"),
    "the cue among the digits": ("metrics", "torch.arange(1, ", "torch.arange(0, -1 + "),
    "paper is the cue": ("baselines", "counts[:, PAPER] = 0", "pass"),
    "the corner is marked": ("baselines", "marks[:, :CORNER, :CORNER] = False", "pass"),
    "corners hold nothing together": ("baselines", "structure=np.ones((3, 3))", "structure=None"),
    "a crop with its neighbours": ("baselines", "np.where(mask, image, 0)", "image"),
    "windows upside down": ("baselines", "padding=side // 2).mT", "padding=side // 2).mT.flip(1)"),
    "no positions": ("models", "+ self.positions", "+ 0 * self.positions"),
    "rows and columns swapped": (
        "models",
        '"batch (y x) channels -> batch channels y x", y',
        '"batch (x y) channels -> batch channels y x", y',
    ),
    "attention over the batch": (
        "models",
        "tokens, _ = self.layer(tokens)",
        "tokens = self.layer(tokens.transpose(0, 1))[0].transpose(0, 1)",
    ),
    "attention that is left out": (
        "models",
        "tokens, _ = self.layer(tokens)",
        "tokens = tokens + self.layer.feed_forward(tokens)",
    ),
    "factors that sum to one": (
        "models",
        "torch.sigmoid(self.score(together))",
        "self.score(together).flatten(2).softmax(-1).view_as(skip[:, :1])",
    ),
    "nobody asks the gate": ("models", "self.skip(skip) + self.below(below)", "self.skip(skip)"),
    "a gate that lets all through": (
        "models",
        "second = self.gates[0](second, below)",
        "self.gates[0](second, below)",
    ),
    "the marks do not count": ("models", "marks_count * of_marks", "of_marks"),
    "marks read as a label": ("models", "answers[:, :N_LABELS], labels", "answers, labels"),
    "everything is marked": ("models", "answers[:, N_LABELS] > 0", "answers[:, N_LABELS] > -9"),
    "asked and asking swapped": (
        "fitting",
        "weights[..., at_cue].sum(dim=-1)",
        "weights[..., at_cue, :].sum(dim=-2)",
    ),
    "the cue elsewhere": ("fitting", "corner[:CORNER, :CORNER] = True", "corner[CORNER:16] = True"),
    "distances from the middle": ("fitting", "middle - CORNER / 2", "middle - SIZE / 2"),
    "false marks where some are right": ("fitting", "chosen=~some", "chosen=some"),
    "the weights of another run": ("fitting", "record.weights[0]", "record.weights[0].mT"),
    "the gate below": (
        "fitting",
        "model.gates[1].factors(*kept",
        "model.gates[1].skip(kept['inputs'][0]) + 0 * model.gates[1].factors(*kept",
    ),
}


class TestSegmentation(ZooTests):
    zoo = Zoo(CHECKS, rewritten(MODULES, BROKEN), BROKEN)


# --- parts and training ------------------------------------------------------------------------


def test_parts_hold_digits_of_their_own_block(monkeypatch):
    numbers = {"training": 50, "validation": 50, "test": 50}
    monkeypatch.setattr(segmentation_data, "N_SCENES", numbers)
    pictures = digits.load_parts()
    for name, part in segmentation_data.load_parts().items():
        there = part.sources >= 0
        assert part.sources.max() < len(pictures[name].images)
        labels = pictures[name].labels[part.sources[there]]
        assert torch.equal(labels, part.labels[there])
        assert (part.sources[:, 0] >= 0).all()
        assert segmentation_data.truth(part).marks.flatten(1).any(dim=1).float().mean() > 0.9


@pytest.fixture(scope="module")
def small_parts():
    return dict.fromkeys(("training", "validation"), some_scenes())


def test_training_follows_from_the_seed(small_parts, monkeypatch):
    monkeypatch.setattr(segmentation, "BATCH", 4)
    runs = [segmentation.fit("U-Net, attention", 0, small_parts, steps=n) for n in (1, 2)]
    assert runs[0][1].losses == runs[1][1].losses[:1]
    _, other = segmentation.fit("U-Net, attention", 1, small_parts, steps=1)
    assert other.losses != runs[0][1].losses
    equal, _ = segmentation.fit("U-Net, attention", 0, small_parts, steps=2, equal=True)
    untouched = "bottom.layer.attention.key.bias"  # what decides the weights has learned nothing
    name = "bottom.layer.attention.query.bias"
    assert equal.state_dict()[name].abs().max() == 0
    assert equal.state_dict()[untouched].abs().max() == 0
    assert runs[1][0].state_dict()[name].abs().max() > 0


def test_only_a_rule_looks_into_the_corner(small_parts):
    torch.manual_seed(0)
    model = segmentation_models.UNet()
    images = small_parts["training"].images
    own = segmentation.answers("U-Net", model, images)
    ruled = segmentation.answers("U-Net, then a rule", model, images)
    assert torch.equal(own.labels, ruled.labels)
    assert torch.equal(ruled.marks, first_tries.by_rule(own.labels).marks)
    assert not torch.equal(own.marks, ruled.marks)


def test_first_tries_find_something():
    pictures = digits.load_parts()["training"]
    scenes = compose(pictures, 150, seed=0, size=SIZE, fewest=4, most=5, clutter=3, cue=True)
    for model in (
        first_tries.Components(threshold=0.35, n_neighbours=5, smoothing=0.4).fit(scenes),
        first_tries.Windows(side=5, strength=1.0).fit(scenes, n_pixels=3000),
    ):
        scores = segmentation_metrics.scores(model.segment(some_scenes().images), right_answers())
        assert scores["mean IoU"] > 0.11
        mixed = Answers(right_answers().labels.roll(1, 0), right_answers().marks.roll(1, 0))
        wrong = segmentation_metrics.scores(model.segment(some_scenes().images), mixed)
        assert wrong["ink"] < scores["ink"] - 0.1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: segmentation_models.UNet("pyramid"), r"bottom must be one of .* got 'pyramid'"),
        (lambda: first_tries.windows(torch.zeros(1, 8, 8), 4), r"side must be odd.* got 4"),
        (
            lambda: segmentation_data.with_other_cues(some_scenes(), torch.arange(3)),
            r"order must have shape \(40,\).* got \(3,\)",
        ),
        (
            lambda: segmentation_metrics.scores(random_answers(0, size=6), random_answers(0)),
            r"labels of shape \(6, 7, 7\); got \(6, 6, 6\)",
        ),
    ],
)
def test_wrong_calls_say_what_is_wrong(call, message):
    with pytest.raises(ValueError, match=message):
        call()
