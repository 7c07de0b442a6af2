"""Scenes with a cue in the corner, and what each of their pixels is.

Two questions about each pixel. The plain one: which digit, if any? The relational one: does it
belong to a digit of the kind that the cue in the corner shows?
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from attn_tutorial.applications import digits
from attn_tutorial.applications.scenes import SIDES, Scenes, compose

SIZE = 24  # pixels, the side of a scene
CORNER = min(SIDES)  # pixels, the side of the square in which the cue stands
N_SCENES = {"training": 10_000, "validation": 300, "test": 600}
PAPER = 0  # the label of a pixel that belongs to no digit; digit k has k + 1
N_LABELS = 11


class Answers(NamedTuple):
    """What each pixel is, in truth or as a system says.

    Attributes
    ----------
    labels : int64 tensor, shape (n, size, size)
        0 for paper and clutter, k + 1 for the ink of a digit k; the cue is a digit too.
    marks : bool tensor, shape (n, size, size)
        True for the ink of a digit that equals the cue; the cue itself is not marked.
    """

    labels: Int[Tensor, "n size size"]
    marks: Bool[Tensor, "n size size"]


def load_parts() -> dict[str, Scenes]:
    """The scenes by part, each composed of digits of that part: 10,000, 300 and 600.

    Returns
    -------
    dict of Scenes
        With a cue, up to four other digits, one of the cue's kind at least where it found room, and
        three pieces of clutter.
    """
    pictures = digits.load_parts()
    return {
        name: compose(
            pictures[name], n, seed=seed, size=SIZE, fewest=4, most=5, clutter=3, cue=True
        )
        for seed, (name, n) in enumerate(N_SCENES.items())
    }


def truth(scenes: Scenes) -> Answers:
    """What each pixel of some scenes is.

    Parameters
    ----------
    scenes : Scenes
        With a cue: its digit 0 stands in the corner.

    Returns
    -------
    Answers
    """
    n, size, _ = scenes.owners.shape
    owned = scenes.owners >= 0  # (n, size, size)
    kinds = scenes.labels.gather(1, scenes.owners.clamp(min=0).view(n, -1)).view(n, size, size)
    labels = torch.where(owned, kinds + 1, PAPER)
    marks = (scenes.owners > 0) & (kinds == scenes.labels[:, :1, None])
    return Answers(labels, marks)


def with_other_cues(scenes: Scenes, order: Int[Tensor, " n"]) -> Scenes:
    """The same scenes, each with the corner of another: all else stays as it is, to the pixel.

    Parameters
    ----------
    scenes : Scenes
        With a cue.
    order : int64 tensor, shape (n,)
        Whose corner each scene gets.

    Returns
    -------
    Scenes
        What stood in the corner beside the cue, such as a stroke of a neighbour, comes along and
        belongs to nobody; boxes are those of the digits as they were drawn.

    Raises
    ------
    ValueError
        Where the order has not one entry for each scene.
    """
    if order.shape != (len(scenes.images),):
        raise ValueError(
            f"order must have shape ({len(scenes.images)},), an entry for each scene; "
            f"got {tuple(order.shape)}"
        )
    images, owners = scenes.images.clone(), scenes.owners.clone()
    corner = (slice(None), slice(CORNER), slice(CORNER))
    images[corner] = scenes.images[order][corner]
    theirs = scenes.owners[order][corner]
    owners[corner] = torch.where(theirs == 0, theirs, -1)
    columns = {}
    for name in ("labels", "boxes", "sources"):
        columns[name] = getattr(scenes, name).clone()
        columns[name][:, 0] = columns[name][order, 0]
    return Scenes(images=images, owners=owners, **columns)
