"""Scenes: the digits stand where the boxes say, and broken versions are caught."""

import functools

import numpy as np
import pytest
import torch

from attn_tutorial.applications import digits
from attn_tutorial.applications import scenes as scenes_module
from package.zoo import Zoo, ZooTests, rewritten

CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


@functools.cache
def part():
    return digits.load_parts()["test"]


def clean(api, n=60, **options):
    """Scenes without noise and clutter, in which nothing hides anything."""
    return api.compose(part(), n, seed=3, noise=0.0, clutter=0, overlap=0.0, **options)


@check
def boxes_are_those_of_the_ink(api):
    drawn = clean(api)
    for owners, labels, boxes in zip(drawn.owners, drawn.labels, drawn.boxes, strict=True):
        for k in range(4):
            rows, columns = np.nonzero(owners.numpy() == k)
            assert bool(len(rows)) == (labels[k] >= 0)
            if len(rows):
                edges = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
                assert edges == boxes[k].tolist()


@check
def labels_and_pixels_are_those_of_the_source(api):
    """A digit in its own size, alone in its box, can be found in its picture."""
    drawn, pictures = clean(api), part()
    n_seen = 0
    for i, k in (drawn.labels >= 0).nonzero().tolist():
        source = drawn.sources[i, k]
        assert drawn.labels[i, k] == pictures.labels[source]
        left, top, right, bottom = drawn.boxes[i, k].int().tolist()
        if bottom - top > 8:
            continue  # enlarged
        inside, mine = drawn.images[i, top:bottom, left:right], drawn.owners[i] == k
        cut = pictures.images[source].unfold(0, bottom - top, 1).unfold(1, right - left, 1)
        ink = torch.where(mine[top:bottom, left:right], inside, 0)
        close = ((cut * (cut > scenes_module.INK) - ink).abs().amax(dim=(2, 3)) < 1e-6).any()
        n_seen += 1
        assert close
    assert n_seen > 20


@check
def no_box_covers_more_than_allowed(api):
    for overlap in (0.0, 0.3):
        drawn = api.compose(part(), 80, seed=1, overlap=overlap)
        worst = 0.0
        for boxes, labels in zip(drawn.boxes, drawn.labels, strict=True):
            boxes = boxes[labels >= 0].int().tolist()
            tables = [np.zeros((24, 24), dtype=bool) for _ in boxes]
            for table, (left, top, right, bottom) in zip(tables, boxes, strict=True):
                table[top:bottom, left:right] = True
            for a in range(len(tables)):
                for b in range(a):
                    smaller = min(tables[a].sum(), tables[b].sum())
                    worst = max(worst, (tables[a] & tables[b]).sum() / smaller)
        assert worst <= overlap
    assert worst > 0.1  # so that the limit is what limits


@check
def there_is_no_more_than_was_asked_for(api):
    drawn = api.compose(part(), 200, seed=2, fewest=1, most=3)
    found = (drawn.labels >= 0).sum(dim=1)
    assert found.min() == 1
    assert found.max() == 3
    assert found.float().mean() < 2.2
    assert (drawn.owners < 3).all()
    assert (drawn.boxes[drawn.labels < 0] == 0).all()


@check
def the_cue_is_another_picture_of_the_kind(api):
    drawn = api.compose(part(), 100, seed=4, fewest=2, most=4, cue=True)
    both = (drawn.labels[:, :2] >= 0).all(dim=1)
    assert both.float().mean() > 0.9
    assert (drawn.labels[both, 0] == drawn.labels[both, 1]).all()
    assert (drawn.sources[both, 0] != drawn.sources[both, 1]).all()
    assert (drawn.boxes[both, 0] <= 8).all()


@check
def clutter_belongs_to_nobody(api):
    without = api.compose(part(), 40, seed=6, clutter=0, noise=0.0)
    assert ((without.images > 0.35) == (without.owners >= 0)).float().mean() > 0.98
    with_clutter = api.compose(part(), 40, seed=6, clutter=6, noise=0.0)
    assert torch.equal(with_clutter.owners, without.owners)
    assert (with_clutter.images >= without.images).all()
    assert ((with_clutter.images > 0.5) & (with_clutter.owners < 0)).sum() > 500


@check
def the_seed_decides(api):
    one, same = api.compose(part(), 9, seed=7), api.compose(part(), 9, seed=7)
    assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))
    assert not torch.equal(one.images, api.compose(part(), 9, seed=8).images)


BROKEN = {
    "left and top swapped": (
        "corner = np.stack([left, top, left, top]",
        "corner = np.stack([top, left, top, left]",
    ),
    "boxes end a pixel early": (
        "length - line[:, ::-1].argmax(axis=1)",
        "length - 1 - line[:, ::-1].argmax(axis=1)",
    ),
    "room is not looked for": ("<= overlap).all(axis=1) & ~found", "<= 9).all(axis=1) & ~found"),
    "every scene is full": ("found &= k < wanted", "found &= True"),
    "clutter has an owner": (
        "for _ in range(clutter):",
        "owners[:clutter] = 0\n    for _ in range(clutter):",
    ),
    "the cue is the same picture": (
        "rng.integers(1, len(members)",
        "0 * rng.integers(1, len(members)",
    ),
    "labels of other pictures": ("kinds[sources])", "kinds[sources - 1])"),
    "pictures stand on their heads": (
        "glyphs = pictures[i][source[chosen]]",
        "glyphs = pictures[i][source[chosen]][:, ::-1]",
    ),
    "the seed is forgotten": ("np.random.default_rng(seed)", "np.random.default_rng()"),
}


class TestScenes(ZooTests):
    zoo = Zoo(CHECKS, rewritten(scenes_module, BROKEN), BROKEN)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 10}, "size ≥ 12"),
        ({"fewest": 5}, "fewest ≤ most"),
        ({"most": 1, "cue": True}, "most ≥ 2"),
        ({"overlap": 1.5}, "overlap from 0 to 1"),
        ({"noise": -0.1}, "not below 0"),
    ],
)
def test_wrong_numbers_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        scenes_module.compose(part(), 3, seed=0, **options)


def test_pictures_without_ink_are_refused():
    with pytest.raises(ValueError, match="one has none"):
        scenes_module.ink_boxes(np.zeros((1, 8, 8)))
