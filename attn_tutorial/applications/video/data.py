"""Clips of handwritten digits that move, made from scikit-learn's pictures.

A clip has 6 frames of 24 by 24 pixels, cut into 3 by 3 cells. Three digits, all different, stand in
three of the cells. One of them moves to a cell beside its own, later another one does, and the
third stands still. Which digit moves first, and which second?

Played backwards such a clip is one that could have been drawn just as well, with the two answers
exchanged. So whoever does not see the order of the frames, and gives a clip and its reversal the
same answer, is wrong about the first mover in one of the two.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor

from attn_tutorial.applications.digits import Digits
from attn_tutorial.applications.digits import load_parts as load_digit_parts

N_FRAMES, N_CELLS, GRID, CELL, N_CLASSES = 6, 9, 3, 8, 10
NOISE = 0.1
N_HELD_OUT = 1000  # clips drawn for each part; as many again are played backwards
SEEDS_HELD_OUT = {"validation": (100, 200), "test": (101, 201)}  # of the plan, of the noise


class Clips(NamedTuple):
    """Clips with their answers.

    Attributes
    ----------
    frames : float32 tensor, shape (n, 6, 24, 24)
        Ink from 0 to 1, and noise on it.
    first, second : int64 tensors, shape (n,)
        The digit that moves first, and the one that moves second, from 0 to 9.
    """

    frames: Float[Tensor, "n 6 24 24"]
    first: Int[Tensor, " n"]
    second: Int[Tensor, " n"]


class Plan(NamedTuple):
    """What happens in clips, before any picture is drawn.

    Attributes
    ----------
    pictures : int64 tensor, shape (n, 3)
        Numbers of the pictures in their part: the first mover, the second, the one that stays.
    cells : int64 tensor, shape (n, 5)
        Where the first mover is before and after its move, the second one before and after, and
        the third; from 0 to 8, row by row.
    times : int64 tensor, shape (n, 2)
        In which frame the first and the second mover is in its new cell for the first time, from 1
        to 5, the first one smaller.
    """

    pictures: Int[Tensor, "n 3"]
    cells: Int[Tensor, "n 5"]
    times: Int[Tensor, "n 2"]


def beside(one: int, other: int) -> bool:
    """Whether two cells share an edge."""
    rows, columns = (abs(f(one) - f(other)) for f in (lambda c: c // GRID, lambda c: c % GRID))
    return rows + columns == 1


MOVES = [pair for pair in itertools.permutations(range(N_CELLS), 2) if beside(*pair)]
# All ways to place two moves and a digit that stays, in five different cells.
PLACES = torch.tensor(
    [
        cells
        for one, other in itertools.permutations(MOVES, 2)
        for stays in range(N_CELLS)
        if len(set(cells := (*one, *other, stays))) == 5
    ]
)  # (n_ways, 5)
TIMES = torch.combinations(torch.arange(1, N_FRAMES))  # (10, 2)


def plan(part: Digits, n: int, generator: torch.Generator) -> Plan:
    """Draw what happens in n clips: three different digits, a way to place them, two times.

    Parameters
    ----------
    part : Digits
        With pictures of all ten digits.
    n : int
    generator : torch.Generator

    Returns
    -------
    Plan
    """
    by_class = part.labels.argsort(stable=True)  # (n_pictures,)
    counts = torch.bincount(part.labels, minlength=N_CLASSES)
    begins = counts.cumsum(0) - counts
    classes = torch.rand(n, N_CLASSES, generator=generator).argsort(dim=1)[:, :3]  # (n, 3)
    within = (torch.rand(n, 3, generator=generator) * counts[classes]).long()
    cells = PLACES[torch.randint(len(PLACES), (n,), generator=generator)]
    times = TIMES[torch.randint(len(TIMES), (n,), generator=generator)]
    return Plan(by_class[begins[classes] + within], cells, times)


def film(part: Digits, plan: Plan, generator: torch.Generator | None = None) -> Clips:
    """Draw the frames of planned clips, with noise.

    Parameters
    ----------
    part : Digits
        The pictures that the plan's numbers mean.
    plan : Plan
    generator : torch.Generator, optional
        Of the noise; by default torch's own.

    Returns
    -------
    Clips
    """
    n = len(plan.cells)
    moved = torch.arange(N_FRAMES) >= plan.times[..., None]  # (n, 2, 6)
    before, after = plan.cells[:, [0, 2], None], plan.cells[:, [1, 3], None]  # (n, 2, 1)
    stays = plan.cells[:, 4, None, None].expand(-1, 1, N_FRAMES)
    where = torch.cat([torch.where(moved, after, before), stays], dim=1)  # (n, 3, 6)
    cells = torch.zeros(n, N_FRAMES, N_CELLS, CELL, CELL)
    clip, frame = torch.arange(n)[:, None, None], torch.arange(N_FRAMES)
    cells[clip, frame, where] = part.images[plan.pictures][:, :, None]  # three cells of each frame
    frames = frames_of(cells)
    frames = frames + NOISE * torch.randn(frames.shape, generator=generator)
    first, second = part.labels[plan.pictures[:, :2]].unbind(dim=1)
    return Clips(frames, first, second)


def cells_of(frames: Float[Tensor, "n t 24 24"]) -> Float[Tensor, "n t 9 8 8"]:
    """Cut frames into cells, row by row.

    Parameters
    ----------
    frames : float tensor, shape (n, t, 24, 24)

    Returns
    -------
    float tensor, shape (n, t, 9, 8, 8)

    Raises
    ------
    ValueError
        Where the shape is another.
    """
    side = GRID * CELL
    if frames.ndim != 4 or frames.shape[2:] != (side, side):
        raise ValueError(f"frames must have shape (n, t, 24, 24); got {tuple(frames.shape)}")
    return rearrange(frames, "n t (r h) (c w) -> n t (r c) h w", h=CELL, w=CELL)


def frames_of(cells: Float[Tensor, "n t 9 8 8"]) -> Float[Tensor, "n t 24 24"]:
    """Put cells together to frames: undoes `cells_of`."""
    return rearrange(cells, "n t (r c) h w -> n t (r h) (c w)", r=GRID)


def draw(part: Digits, n: int, generator: torch.Generator) -> Clips:
    """n new clips with digits of a part."""
    return film(part, plan(part, n, generator), generator)


def backwards(clips: Clips) -> Clips:
    """The same clips played backwards: the other digit moves first."""
    return Clips(clips.frames.flip(1), clips.second, clips.first)


def load_parts() -> dict[str, Clips]:
    """The clips to choose by and to test with: each that was drawn, and each played backwards.

    Returns
    -------
    dict of Clips
        "validation" and "test", 2000 clips each, with digits of that block of the file alone. Clip
        i + 1000 is clip i played backwards.
    """
    parts = {}
    for name in SEEDS_HELD_OUT:
        clips = film_held_out(name, held_out_plan(name))
        parts[name] = Clips(*map(torch.cat, zip(clips, backwards(clips), strict=True)))
    return parts


def held_out_plan(part: str) -> Plan:
    """What happens in the 1000 clips that were drawn for "validation" or "test".

    Raises
    ------
    ValueError
        Where the part is another.
    """
    if part not in SEEDS_HELD_OUT:
        raise ValueError(f"part must be one of {list(SEEDS_HELD_OUT)}; got {part!r}")
    generator = torch.Generator().manual_seed(SEEDS_HELD_OUT[part][0])
    return plan(load_digit_parts()[part], N_HELD_OUT, generator)


def film_held_out(part: str, planned: Plan) -> Clips:
    """The clips of a plan, with digits of a part and always the same noise."""
    generator = torch.Generator().manual_seed(SEEDS_HELD_OUT[part][1])
    return film(load_digit_parts()[part], planned, generator)


def shuffled(clips: Clips, seed: int = 0) -> Clips:
    """The same clips, the frames of each in an order drawn by chance."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.rand(clips.frames.shape[:2], generator=generator).argsort(dim=1)  # (n, t)
    clip = torch.arange(len(order))[:, None]
    return clips._replace(frames=clips.frames[clip, order])
