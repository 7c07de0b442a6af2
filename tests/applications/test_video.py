"""Clips that move, attention over space and time: order, splits and sums, each broken caught."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from attn_tutorial.applications.digits import PARTS, Digits
from attn_tutorial.applications.digits import load_parts as load_digits
from attn_tutorial.applications.video import baselines as video_baselines
from attn_tutorial.applications.video import data as video_data
from attn_tutorial.applications.video import experiment as video
from attn_tutorial.applications.video import models as video_models
from attn_tutorial.attribution import recording, uniform_weights
from package.zoo import Zoo, ZooTests, rewritten

MODULES = {
    "data": video_data,
    "models": video_models,
    "baselines": video_baselines,
    "training": video,
}
DIGITS = load_digits()
CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def some_clips(n=6):
    return video_data.draw(DIGITS["training"], n, seeded())


def a_network(api, *arguments, **options):
    """Untrained, with large queries, so that its attention is far from equal."""
    torch.manual_seed(0)
    model = api.models.VideoTransformer(*arguments, **options).eval()
    with torch.no_grad():
        for module in model.modules():
            if hasattr(module, "query"):
                module.query.weight *= 6
    return model


def logits(model, frames):
    with torch.no_grad():
        return torch.cat(model(frames), dim=1)  # (n, 20)


# --- the clips -------------------------------------------------------------------------------


@check
def frames_by_hand(api):
    """Each frame put together pixel by pixel, without noise."""
    planned = api.data.plan(DIGITS["training"], 5, seeded(1))
    clips = api.data.film(DIGITS["training"], planned, seeded(2))
    bare = torch.zeros(5, 6, 24, 24)
    for clip, (pictures, cells, times) in enumerate(zip(*planned, strict=True)):
        for frame in range(6):
            where = [cells[0 if frame < times[0] else 1], cells[2 if frame < times[1] else 3]]
            for picture, cell in zip(pictures, [*where, cells[4]], strict=True):
                row, column = 8 * (cell // 3), 8 * (cell % 3)
                image = DIGITS["training"].images[picture]
                bare[clip, frame, row : row + 8, column : column + 8] = image
        assert clips.first[clip] == DIGITS["training"].labels[pictures[0]]
        assert clips.second[clip] == DIGITS["training"].labels[pictures[1]]
    noise = clips.frames - bare
    assert noise.abs().max() < 0.6
    assert noise.std().item() == pytest.approx(0.1, rel=0.05)
    assert noise[:, 0].flatten().dot(noise[:, 1].flatten()).abs() < 5  # 29 if the same


@check
def plans_are_as_promised(api):
    pictures, cells, times = api.data.plan(DIGITS["test"], 3000, seeded())
    labels = DIGITS["test"].labels[pictures]
    assert (labels.sort(dim=1).values.diff(dim=1) > 0).all()  # three different digits
    assert (cells.sort(dim=1).values.diff(dim=1) > 0).all()  # five different cells
    rows, columns = cells // 3, cells % 3
    for before, after in ((0, 1), (2, 3)):
        apart = (rows[:, before] - rows[:, after]).abs()
        apart = apart + (columns[:, before] - columns[:, after]).abs()
        assert (apart == 1).all()
    assert (times[:, 0] < times[:, 1]).all()
    assert times.min() == 1
    assert times.max() == 5
    counts = torch.bincount(labels[:, 0], minlength=10)
    assert ((counts - 300).abs() < 5 * 300**0.5).all()
    assert len(pictures.unique()) > 540  # of 547 in the part


@check
def clips_played_backwards_could_have_been_drawn(api):
    """The law of the clips is its own mirror image: places and times, exactly."""
    places = {tuple(cells) for cells in api.data.PLACES.tolist()}
    assert {(d, c, b, a, e) for a, b, c, d, e in places} == places
    times = {tuple(pair) for pair in api.data.TIMES.tolist()}
    assert {(6 - b, 6 - a) for a, b in times} == times
    planned = api.data.plan(DIGITS["test"], 20, seeded())
    clips = api.data.backwards(api.data.film(DIGITS["test"], planned, seeded(1)))
    pictures, cells, swapped = planned
    mirrored = api.data.Plan(pictures[:, [1, 0, 2]], cells[:, [3, 2, 1, 0, 4]], 6 - swapped.flip(1))
    wanted = api.data.film(DIGITS["test"], mirrored, seeded(2))
    assert torch.equal(clips.first, wanted.first)
    assert torch.equal(clips.second, wanted.second)
    assert (clips.frames - wanted.frames).abs().mean() < 0.15  # two draws of noise apart


@check
def shuffling_keeps_each_frame(api):
    clips = some_clips(20)
    mixed = api.data.shuffled(clips)
    key = torch.rand(576, generator=seeded())
    before, after = (one.frames.flatten(2) @ key for one in (clips, mixed))  # (20, 6)
    torch.testing.assert_close(after.sort(1).values, before.sort(1).values)
    assert (before != after).any(dim=1).sum() >= 15
    ranks = after.argsort(1).argsort(1)
    orders = {tuple(one) for one in before.argsort(1).gather(1, ranks).tolist()}
    assert len(orders) > 10
    assert torch.equal(mixed.first, clips.first)


# --- the networks ----------------------------------------------------------------------------


@check
def pairs_are_those_that_are_computed(api):
    for scheme in api.models.SCHEMES:
        model = a_network(api, scheme)
        with torch.no_grad(), recording(model) as record:
            model(some_clips(1).frames)
        computed = sum(weights[:, 0].numel() for weights in record.weights)
        assert computed == 2 * api.models.n_pairs(scheme, 6, 9)  # two layers
        for weights in record.weights:
            torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))


@check
def a_bag_of_frames_does_not_see_their_order(api):
    clips = some_clips()
    for model in (a_network(api, "space only"), a_network(api, "divided", times=False)):
        for other in (clips.frames.flip(1), video_data.shuffled(clips).frames):
            torch.testing.assert_close(
                logits(model, other), logits(model, clips.frames), atol=1e-4, rtol=1e-4
            )
    for scheme in ("divided", "joint"):
        model = a_network(api, scheme)
        moved = logits(model, clips.frames.flip(1)) - logits(model, clips.frames)
        assert moved.abs().max() > 1e-2


@check
def who_can_reach_whom(api):
    """One layer: which tokens feel a change of one cell in one frame, exactly."""
    clips = some_clips(1)
    changed = clips.frames.clone()
    changed[0, 2, 8:16, 16:24] += 1  # cell 5 of frame 2
    everywhere = torch.ones(6, 9, dtype=torch.bool)
    same_frame = torch.arange(6)[:, None].expand(6, 9) == 2
    # Divided: by time to all frames of the cell, and from there by space to all cells.
    reached = {"space only": same_frame, "divided": everywhere, "joint": everywhere}
    for scheme, wanted in reached.items():
        layer = a_network(api, scheme, n_layers=1).layers[0]
        model = a_network(api, scheme, n_layers=1)
        kept = []
        model.layers[0].register_forward_hook(lambda _, __, output, kept=kept: kept.append(output))
        logits(model, clips.frames), logits(model, changed)
        felt = (kept[1] - kept[0])[0].abs().amax(dim=-1) > 1e-6  # (6, 9)
        assert torch.equal(felt, wanted), scheme
        assert set(layer.attention) == set(api.models.WITHIN[scheme])
    model = a_network(api, "divided", n_layers=1)
    kept = []
    attention = model.layers[0].attention["time"]
    attention.register_forward_hook(lambda _, __, output: kept.append(output[0]))
    logits(model, clips.frames), logits(model, changed)
    felt = (kept[1] - kept[0]).abs().amax(dim=(1, 2)) > 1e-6  # (9,): only the cell itself
    assert felt.nonzero().flatten().tolist() == [5]


@check
def one_frame_sees_no_other(api):
    clips = some_clips()
    model = a_network(api, "space only", n_frames=1)
    changed = clips.frames.clone()
    changed[:, 1:] = 7
    assert torch.equal(logits(model, changed), logits(model, clips.frames))


@check
def clips_do_not_see_one_another(api):
    frames = some_clips().frames
    torch.manual_seed(0)
    networks = [a_network(api, scheme) for scheme in api.models.SCHEMES]
    for model in (*networks, api.models.CellGru().eval(), api.models.Convolutional().eval()):
        alone = torch.cat([logits(model, one[None]) for one in frames])
        torch.testing.assert_close(logits(model, frames), alone, atol=1e-4, rtol=1e-4)
        moved = logits(model, frames.flip(1)) - logits(model, frames)
        assert (moved.abs().max() > 1e-4) == (model is not networks[2])


@check
def attention_is_used(api):
    frames = some_clips().frames
    for scheme in api.models.SCHEMES:
        model = a_network(api, scheme)
        plain = logits(model, frames)
        for within in api.models.WITHIN[scheme]:
            taken = torch.nn.ModuleList(layer.attention[within] for layer in model.layers)
            with uniform_weights(taken):
                assert (logits(model, frames) - plain).abs().max() > 1e-2


@check
def one_layer_by_hand(api):
    """Divided attention with torch's own layers, cell by cell and frame by frame."""
    model = a_network(api, "divided", n_layers=1, n_heads=1, d_model=8)
    layer = model.layers[0]
    torch.manual_seed(1)
    x = torch.randn(2, 6, 9, 8)
    with torch.no_grad():
        wanted = x.clone()
        norm, theirs = layer.around_attention["time"].norm, layer.attention["time"].to_torch()
        for cell in range(9):
            given = norm(x[:, :, cell])
            wanted[:, :, cell] += theirs(given, given, given)[0]
        before = wanted.clone()
        norm, theirs = layer.around_attention["space"].norm, layer.attention["space"].to_torch()
        for frame in range(6):
            given = norm(before[:, frame])
            wanted[:, frame] += theirs(given, given, given)[0]
        wanted = wanted + layer.feed_forward(layer.around_feed_forward.norm(wanted))
        torch.testing.assert_close(layer(x), wanted, atol=1e-5, rtol=1e-4)


# --- baselines and scores --------------------------------------------------------------------


@check
def the_program_finds_moves_and_pictures(api):
    """On clips without noise it has to be right, always."""
    quiet = DIGITS["training"]
    planned = video_data.plan(quiet, 50, seeded(3))
    clips = video_data.film(quiet, planned, seeded(4))
    times, cells = api.baselines.cells_left(clips.frames)
    assert torch.equal(times, planned.times)
    assert torch.equal(cells, planned.cells[:, [0, 2]])
    found = api.baselines.pictures_left(clips.frames)
    wanted = quiet.images[planned.pictures[:, :2]]  # (50, 2, 8, 8)
    rest = (found - wanted).flatten(2).std(dim=2) * planned.times.sqrt()  # noise, averaged
    torch.testing.assert_close(rest, torch.full((50, 2), 0.1), atol=0.04, rtol=0)


@check
def features_are_what_they_are_called(api):
    frames = some_clips().frames
    np.testing.assert_allclose(
        api.baselines.mean_frame(frames), frames.numpy().mean(1).reshape(6, -1), atol=1e-6
    )
    found = api.baselines.differences(frames).reshape(6, 5, 24, 24)
    np.testing.assert_allclose(found[:, 2], (frames[:, 3] - frames[:, 2]).numpy())


@check
def scores_by_hand(api):
    clips = video_data.Clips(torch.zeros(4, 6, 24, 24), torch.arange(4), torch.arange(4) + 4)
    named = torch.tensor([[0, 4], [5, 1], [2, 9], [8, 7]])
    assert api.training.scores_of(named, clips) == {
        "first mover": 0.5,
        "both, in order": 0.25,
        "both, in any order": 0.5,
    }


@check
def the_best_pair_is_named(api):
    """Against the search through all pairs of two different digits."""

    class Fixed(torch.nn.Module):
        def forward(self, frames):
            return torch.randn(2, 30, 10, generator=seeded()).unbind(0)

    clips = some_clips(30)
    named = api.training.guesses(Fixed(), clips).tolist()
    first, second = Fixed()(None)
    first, second = F.log_softmax(first, 1), F.log_softmax(second, 1)
    pairs = [(a, b) for a in range(10) for b in range(10) if a != b]
    for clip in range(30):
        best = max(pairs, key=lambda pair: first[clip, pair[0]] + second[clip, pair[1]])
        assert tuple(named[clip]) == best


@check
def weights_over_time_are_sorted_by_cell(api):
    model = a_network(api, "divided")
    clips = some_clips(3)
    weights = api.training.attention_over_time(model, clips.frames)
    assert [tuple(layer.shape) for layer in weights] == 2 * [(3, 9, 4, 6, 6)]
    changed = clips.frames.clone()
    changed[1, :3, 8:16, 0:8] += 1  # cell 3 of clip 1
    moved = (api.training.attention_over_time(model, changed)[0] - weights[0]).abs()
    assert moved.amax(dim=(2, 3, 4)).nonzero().tolist() == [[1, 3]]
    mean = api.training.mean_over_cells(weights, torch.tensor([3, 0, 8]))
    by_hand = (weights[1][0, 3] + weights[1][1, 0] + weights[1][2, 8]) / 3
    torch.testing.assert_close(mean[1], by_hand)


BROKEN = {
    "the digits jump back": ("data", "torch.arange(N_FRAMES) >= plan.times",
                             "torch.arange(N_FRAMES) == plan.times"),
    "cells column by column": ("data", "n t (r c) h w -> n t (r h) (c w)",
                               "n t (c r) h w -> n t (r h) (c w)"),
    "the same noise in all frames": ("data", "torch.randn(frames.shape, generator=generator)",
                                     "torch.randn(n, 1, 24, 24, generator=generator)"),
    "the label leaks": ("data", "part.labels[plan.pictures[:, :2]]",
                        "part.labels[plan.pictures[:, 1:]]"),
    "two digits may be alike": ("data", ".argsort(dim=1)[:, :3]  #",
                                ".mul(10).long()[:, :3]  #"),
    "moves are jumps": ("data", "return rows + columns == 1", "return rows + columns >= 1"),
    "the first move is early": ("data", "torch.combinations(torch.arange(1, N_FRAMES))",
                                "torch.combinations(torch.arange(1, N_FRAMES))[:7]"),
    "backwards with the old answers": ("data", "clips.frames.flip(1), clips.second, clips.first",
                                       "clips.frames.flip(1), clips.first, clips.second"),
    "one order for all": ("data", "generator=generator).argsort(dim=1)  # (n, t)",
                          "generator=generator).argsort(dim=1)[:1].expand(len(clips.first), -1)"),
    "pairs of divided multiplied": ("models", "n_frames + n_places,", "n_frames * n_places,"),
    "times in a bag of frames": ("models", "nn.Parameter(vectors) if has_times else None",
                                 "nn.Parameter(vectors)"),
    "no times at all": ("models", "x = x + self.times", "x = x + 0 * self.times"),
    "time across the cells": ("models", '"time": "batch t s d -> (batch s) t d"',
                              '"time": "batch t s d -> batch (t s) d"'),
    "space before time": ("models", '("time", "space")', '("space", "time")'),
    "nothing attends": ("models", "x = frame.leave(x, output)", "x = frame.leave(x, 0 * output)"),
    "clips are mixed": ("models", '"space": "batch t s d -> (batch t) s d"',
                        '"space": "batch t s d -> t (batch s) d"'),
    "later frames seen": ("models", "frames[:, : self.n_frames]",
                          "frames[:, -self.n_frames :]"),
    "recurrence over the cells": ("models", '"batch t s d -> (batch s) t d"))  # (1, batch · 9',
                                  '"batch t s d -> (batch s) t d").flip(0))  # (1, batch · 9'),
    "the cell that is reached": ("baselines", "lost = -ink.diff(dim=1)", "lost = ink.diff(dim=1)"),
    "a picture with what comes after": ("baselines", "< times[..., None]  # (n, 2, t)",
                                        "<= times[..., None]  # (n, 2, t)"),
    "the mean over space": ("baselines", "frames.mean(dim=1).flatten(1)",
                            "frames.mean(dim=(2, 3)).flatten(1)"),
    "differences of pixels": ("baselines", "frames.diff(dim=1).flatten(1)",
                              "frames.diff(dim=2).flatten(1)"),
    "any order counts as order": ("training", "one.float().mean()", "(one | other).float().mean()"),
    "the same digit twice": ("training", "pairs.masked_fill(same, -torch.inf)", "pairs"),
    "weights of space": ("training", 'name.endswith("attention.time")',
                         'name.endswith("attention.space")'),
    "frames for cells": ("training", "weights.unflatten(0, (-1, N_CELLS))",
                         "weights.unflatten(0, (N_CELLS, -1)).transpose(0, 1)"),
}  # fmt: skip


class TestVideo(ZooTests):
    zoo = Zoo(CHECKS, rewritten(MODULES, BROKEN), BROKEN)


# --- splits and training ---------------------------------------------------------------------


def test_the_parts_share_no_picture_and_no_clip():
    """Clips of a part show pictures of that block alone; blocks of training and test share none."""
    begins = {name: begin for name, (begin, _) in PARTS.items()}
    everything = torch.cat([part.images for part in DIGITS.values()])
    shown = {}
    for name in ("validation", "test"):
        pictures = video_data.held_out_plan(name).pictures
        assert pictures.max() < len(DIGITS[name].images)
        shown[name] = {bytes(everything[i].numpy()) for i in pictures.unique() + begins[name]}
    training = {bytes(image.numpy()) for image in DIGITS["training"].images}
    assert not training & shown["validation"]
    assert not training & shown["test"]
    assert not shown["validation"] & shown["test"]
    parts = video_data.load_parts()
    for clips in parts.values():
        assert len(clips.frames) == 2000
        assert torch.equal(clips.frames[1000:], clips.frames[:1000].flip(1))
        assert torch.equal(clips.first[1000:], clips.second[:1000])


def test_clips_hold_digits_of_the_part_that_is_given():
    part = Digits(torch.full((10, 8, 8), 0.5), torch.arange(10))
    frames = video_data.cells_of(video_data.draw(part, 40, seeded()).frames)
    means = frames.mean(dim=(3, 4))  # (40, 6, 9)
    assert ((means > 0.4).sum(dim=2) == 3).all()
    assert ((means < 0.1).sum(dim=2) == 6).all()


def test_no_network_without_order_can_name_the_first_mover_in_both_directions():
    clips = some_clips(40)
    model = a_network(TestVideo.zoo.build(None), "divided", times=False)
    ahead = video.guesses(model, clips)
    back = video.guesses(model, video_data.backwards(clips))
    right = (ahead[:, 0] == clips.first).int() + (back[:, 0] == clips.second).int()
    assert (right <= 1).all()


def test_a_seed_decides_everything():
    one, same, other = (
        video.begin(seed, "GRU in each cell", 3)[0].state_dict() for seed in (0, 0, 1)
    )
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


def test_training_with_equal_weights_leaves_the_queries_as_they_are():
    moved = {}
    for name in ("divided", "equal weights, trained so"):
        model, history = video.begin(0, name, 4)
        torch.manual_seed(0)
        fresh = video_models.VideoTransformer("divided")
        layer, before = (one.layers[0].attention["time"].query.bias for one in (model, fresh))
        moved[name] = (layer - before).abs().max().item()
        assert len(history.losses) == 4
    assert moved["divided"] > 1e-4
    assert moved["equal weights, trained so"] == 0


def test_labels_drawn_by_chance_are_not_found():
    clips = some_clips(300)
    program = video_baselines.ChangeProgram(1.0, 0.1, copies=1).fit(DIGITS["training"])
    assert video.evaluate(program, clips)["first mover"] > 0.95
    drawn = clips._replace(first=torch.randint(10, (300,), generator=seeded(5)))
    assert video.evaluate(program, drawn)["first mover"] < 0.2


def test_a_linear_reader_reads_what_is_linear():
    clips = some_clips(200)
    marked = clips.frames.clone()
    marked[torch.arange(200), 0, 0, clips.first] += 20
    marked[torch.arange(200), 0, 1, clips.second] += 20
    marked = clips._replace(frames=marked)
    reader = video_baselines.LinearReader(video_baselines.mean_frame, 1.0).fit(marked)
    assert video.evaluate(reader, marked)["both, in order"] == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: video_data.cells_of(torch.zeros(2, 6, 16, 16)),
            r"frames must have shape .*16, 16",
        ),
        (lambda: video_data.held_out_plan("training"), "part must be one of .*got 'training'"),
        (lambda: video_models.n_pairs("axial", 6, 9), "scheme must be one of .*got 'axial'"),
        (lambda: video_models.VideoTransformer("time"), "scheme must be one of .*got 'time'"),
        (lambda: video.fit(0, "I3D"), "name must be one of .*'divided'.*got 'I3D'"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
