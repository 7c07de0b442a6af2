"""Scenes with several handwritten digits, for the chapters on detection and segmentation.

The digits are real, the composition is generated: where each stands, how large it is, the clutter
(pieces cut out of digits) and the noise. A scene of a part holds pictures of that part alone, its
clutter too.
"""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from attn_tutorial.applications.digits import Digits

INK = 0.3  # from here on a pixel counts as the digit's
SIDES = (8, 12)  # of the pictures in a scene, in pixels; the originals have 8
PIECE = 4  # the side of a piece of clutter, in pixels
TRIES = 20  # for a place with room; a digit that finds none is left out
NOBODY = -1

Boxes = Float[np.ndarray, "... 4"]


class Scenes(NamedTuple):
    """Pictures of scenes, and what is where.

    Attributes
    ----------
    images : float32 tensor, shape (n, size, size)
        From 0 (paper) to 1 (ink), plus noise.
    labels : int64 tensor, shape (n, most)
        From 0 to 9; -1 where a scene has fewer digits.
    boxes : float32 tensor, shape (n, most, 4)
        Left, top, right and bottom edge of each digit's ink, in pixels; zeros where there is none.
    owners : int64 tensor, shape (n, size, size)
        Which of the scene's digits the ink of a pixel belongs to; -1 for paper and clutter.
    sources : int64 tensor, shape (n, most)
        Which picture of the part each digit is; -1 where there is none.
    """

    images: Float[Tensor, "n size size"]
    labels: Int[Tensor, "n most"]
    boxes: Float[Tensor, "n most 4"]
    owners: Int[Tensor, "n size size"]
    sources: Int[Tensor, "n most"]


def compose(
    digits: Digits,
    n: int,
    *,
    seed: int,
    size: int = 24,
    fewest: int = 0,
    most: int = 4,
    clutter: int = 4,
    noise: float = 0.1,
    overlap: float = 0.1,
    cue: bool = False,
) -> Scenes:
    """Draw scenes.

    Parameters
    ----------
    digits : Digits
        One part; no other picture gets into the scenes.
    n, seed : int
        How many scenes, and what they are drawn from: the same seed draws the same scenes.
    size : int
        The side of a scene, in pixels; at least 12.
    fewest, most : int
        How many digits are asked for in a scene, each number equally often. Fewer come where there
        is no room.
    clutter : int
        How many pieces of digits are scattered over a scene.
    noise : float
        The standard deviation of what is added to each pixel.
    overlap : float
        How much of the smaller of two boxes the other may cover, from 0 to 1.
    cue : bool
        Whether digit 0 stands in the top left corner, 8 pixels wide, and digit 1 is another picture
        of the same kind.

    Returns
    -------
    Scenes

    Raises
    ------
    ValueError
        Where a number is out of range.
    """
    if n < 1 or size < max(SIDES) or not 0 <= fewest <= most or most < 1 + cue:
        raise ValueError(
            f"wanted n ≥ 1, size ≥ {max(SIDES)} and 0 ≤ fewest ≤ most, most ≥ {1 + cue}; got "
            f"n = {n}, size = {size}, fewest = {fewest}, most = {most}"
        )
    if not 0 <= overlap <= 1 or clutter < 0 or noise < 0:
        raise ValueError(
            "wanted overlap from 0 to 1, and clutter and noise not below 0; got "
            f"{overlap}, {clutter} and {noise}"
        )
    rng = np.random.default_rng(seed)
    pictures, edges = _enlarged(digits)
    kinds = digits.labels.numpy()
    wanted = rng.integers(fewest, most + 1, size=n)  # (n,)
    rows = np.arange(n)

    ink = np.zeros((n, size, size), dtype=np.float32)
    owners = np.full((n, size, size), NOBODY)
    boxes = np.zeros((n, most, 4), dtype=np.float32)
    sources = np.full((n, most), NOBODY)
    for k in range(most):
        source = rng.integers(len(kinds), size=n)  # (n,)
        which = rng.integers(len(SIDES), size=n)  # (n,), of the sides
        if cue and k == 0:
            which[:] = 0
        if cue and k == 1:
            source = _another_of_its_kind(kinds, sources[:, 0], rng)
        left, top, found = _places(
            edges[which, source], np.array(SIDES)[which], boxes[:, :k], size, overlap, rng
        )
        if cue and k == 0:
            left, top, found = np.zeros_like(left), np.zeros_like(top), np.ones_like(found)
        found &= k < wanted
        corner = np.stack([left, top, left, top], axis=-1)  # (n, 4)
        boxes[found, k] = (edges[which, source] + corner)[found]
        sources[found, k] = source[found]
        for i, side in enumerate(SIDES):
            chosen = rows[found & (which == i)]
            glyphs = pictures[i][source[chosen]]  # (n_chosen, side, side)
            at = _window(chosen, top[chosen], left[chosen], side)
            mine = (glyphs > ink[at]) & (glyphs > INK)
            owners[at] = np.where(mine, k, owners[at])
            ink[at] = np.maximum(ink[at], glyphs)
    for _ in range(clutter):
        pieces = _pieces(digits.images.numpy(), n, rng)  # (n, PIECE, PIECE)
        top, left = rng.integers(size - PIECE + 1, size=(2, n))
        at = _window(rows, top, left, PIECE)
        ink[at] = np.maximum(ink[at], pieces)
    ink += noise * rng.standard_normal(ink.shape, dtype=np.float32)
    return Scenes(
        images=torch.from_numpy(ink),
        labels=torch.from_numpy(np.where(sources == NOBODY, NOBODY, kinds[sources])),
        boxes=torch.from_numpy(boxes),
        owners=torch.from_numpy(owners),
        sources=torch.from_numpy(sources),
    )


def _enlarged(digits: Digits) -> tuple[list[np.ndarray], Boxes]:
    """The pictures in each size, and the box of the ink of each: (n_sizes, n_pictures, 4)."""
    pictures, edges = [], []
    for side in SIDES:
        larger = F.interpolate(digits.images[:, None], size=(side, side), mode="bilinear")[:, 0]
        pictures.append(larger.numpy())  # (n_pictures, side, side)
        edges.append(ink_boxes(larger.numpy()))
    return pictures, np.stack(edges)


def ink_boxes(pictures: Float[np.ndarray, "n height width"]) -> Boxes:
    """The smallest box around the ink of each picture.

    Parameters
    ----------
    pictures : float array, shape (n, height, width)
        Each with a pixel of ink above 0.3.

    Returns
    -------
    float32 array, shape (n, 4)
        Left, top, right and bottom edge, in pixels.

    Raises
    ------
    ValueError
        Where a picture has no ink.
    """
    inked = pictures > INK
    if not inked.any(axis=(1, 2)).all():
        raise ValueError("pictures must have ink each; one has none")
    found = []
    for axis, length in ((1, pictures.shape[2]), (2, pictures.shape[1])):  # columns, then rows
        line = inked.any(axis=axis)  # (n, length)
        found.append((line.argmax(axis=1), length - line[:, ::-1].argmax(axis=1)))
    (left, right), (top, bottom) = found
    return np.stack([left, top, right, bottom], axis=-1).astype(np.float32)


def _places(edges, sides, others, size, overlap, rng):
    """For each scene a corner where a digit has room: left, top, and whether one was found."""
    n = len(edges)
    left, top = np.zeros(n, dtype=int), np.zeros(n, dtype=int)
    found = np.zeros(n, dtype=bool)
    for _ in range(TRIES):
        x, y = (rng.random((2, n)) * (size - sides + 1)).astype(int)  # (n,)
        moved = edges + np.stack([x, y, x, y], axis=-1)  # (n, 4)
        fits = (_covered(moved[:, None], others) <= overlap).all(axis=1) & ~found  # (n,)
        left[fits], top[fits] = x[fits], y[fits]
        found |= fits
    return left, top, found


def _covered(one: Boxes, other: Boxes) -> Float[np.ndarray, "..."]:
    """Which share of the smaller box the other covers; none of a box that is not there."""
    width = np.minimum(one[..., 2], other[..., 2]) - np.maximum(one[..., 0], other[..., 0])
    height = np.minimum(one[..., 3], other[..., 3]) - np.maximum(one[..., 1], other[..., 1])
    areas = [(box[..., 2] - box[..., 0]) * (box[..., 3] - box[..., 1]) for box in (one, other)]
    smaller = np.minimum(*areas)
    return np.maximum(width, 0) * np.maximum(height, 0) / np.maximum(smaller, 1)


def _another_of_its_kind(kinds, sources, rng):
    """For each picture a different one with the same label; any, where there is no picture."""
    result = rng.integers(len(kinds), size=len(sources))
    for kind in range(10):
        members = np.flatnonzero(kinds == kind)
        place = {int(member): i for i, member in enumerate(members)}
        chosen = np.flatnonzero((sources != NOBODY) & (kinds[sources] == kind))
        own = np.array([place[int(source)] for source in sources[chosen]], dtype=int)
        step = rng.integers(1, len(members), size=len(chosen))
        result[chosen] = members[(own + step) % len(members)]
    return result


def _window(rows, top, left, side):
    """The index of a square in each scene: arrays that broadcast to (n, side, side)."""
    steps = np.arange(side)
    return rows[:, None, None], (top[:, None] + steps)[:, :, None], (left[:, None] + steps)[:, None]


def _pieces(images, n, rng):
    """Squares cut out of pictures at random: (n, PIECE, PIECE)."""
    source = rng.integers(len(images), size=n)
    top, left = rng.integers(images.shape[1] - PIECE + 1, size=(2, n))
    return images[_window(source, top, left, PIECE)]
