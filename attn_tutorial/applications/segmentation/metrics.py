"""How well pixels are labelled: by area, by edges, and where and why it goes wrong."""

import torch
from jaxtyping import Bool, Float, Int
from sklearn.metrics import jaccard_score
from torch import Tensor

from attn_tutorial.applications.scenes import Scenes
from attn_tutorial.applications.segmentation.data import PAPER, Answers


def edges(regions: Int[Tensor, "n height width"] | Bool[Tensor, "n height width"]) -> Tensor:
    """The cracks between neighbouring pixels of different regions.

    Parameters
    ----------
    regions : int or bool tensor, shape (n, height, width)

    Returns
    -------
    bool tensor, shape (n, height · (width − 1) + (height − 1) · width)
        First the pairs of a pixel and its right neighbour, then those with the one below.
    """
    beside = regions[:, :, 1:] != regions[:, :, :-1]  # (n, height, width - 1)
    below = regions[:, 1:] != regions[:, :-1]  # (n, height - 1, width)
    return torch.cat([beside.flatten(1), below.flatten(1)], dim=1)


def edge_score(found: Tensor, true: Tensor) -> float:
    """The F score of the edges: twice those in both, by those in the one plus those in the other.

    Parameters
    ----------
    found, true : int or bool tensors, shape (n, height, width)

    Returns
    -------
    float
        From 0 to 1; an edge that is one pixel off is wrong. 1 where neither has an edge.

    References
    ----------
    Csurka, Larlus and Perronnin (2013), "What Is a Good Evaluation Measure for Semantic
    Segmentation?", BMVC, who allow a distance in place of an exact agreement.
    """
    ours, theirs = edges(found), edges(true)
    n_all = ours.sum() + theirs.sum()
    return float(2 * (ours & theirs).sum() / n_all) if n_all else 1.0


def scores(found: Answers, true: Answers) -> dict[str, float]:
    """All scores of an answer, over all pixels of a part together.

    Parameters
    ----------
    found, true : Answers

    Returns
    -------
    dict of float
        "IoU", of the marked pixels; "mean IoU", over the eleven labels; "ink", of digits against
        all else; "edges", the F score of the edges between digits and all else.

    Raises
    ------
    ValueError
        Where the two do not have one shape.
    """
    for name, one, other in zip(Answers._fields, found, true, strict=True):
        if one.shape != other.shape:
            raise ValueError(
                f"found must have {name} of shape {tuple(other.shape)}; got {tuple(one.shape)}"
            )
    ours, theirs = found.labels.flatten(), true.labels.flatten()
    return {
        "IoU": float(jaccard_score(true.marks.flatten(), found.marks.flatten(), zero_division=0.0)),
        "mean IoU": float(jaccard_score(theirs, ours, average="macro", zero_division=0.0)),
        "ink": float(jaccard_score(theirs != PAPER, ours != PAPER, zero_division=0.0)),
        "edges": edge_score(found.labels != PAPER, true.labels != PAPER),
    }


def digits_marked(
    found: Answers, scenes: Scenes, *, chosen: Bool[Tensor, " n"] | None = None
) -> tuple[Bool[Tensor, " n_digits"], Bool[Tensor, " n_digits"], Float[Tensor, "n_digits 2"]]:
    """For each digit but the cue: whether more than half of its ink is marked, and should be.

    Parameters
    ----------
    found : Answers
        What a system says of the scenes.
    scenes : Scenes
        With a cue.
    chosen : bool tensor, shape (n,), optional
        Which scenes count; by default all.

    Returns
    -------
    marked, wanted : bool tensors, shape (n_digits,)
        Scene by scene. A digit of which no ink is left to be seen does not count.
    middle : float tensor, shape (n_digits, 2)
        The middle of its box, x first, in pixels.
    """
    numbers = torch.arange(1, scenes.labels.shape[1])
    ink = scenes.owners[:, None] == numbers[:, None, None]  # (n, most - 1, size, size)
    n_pixels = ink.flatten(2).sum(dim=2)  # (n, most - 1)
    n_marked = (ink & found.marks[:, None]).flatten(2).sum(dim=2)
    there = n_pixels > 0
    if chosen is not None:
        there &= chosen[:, None]
    boxes = scenes.boxes[:, 1:]
    middle = (boxes[..., :2] + boxes[..., 2:]) / 2  # (n, most - 1, 2)
    wanted = scenes.labels[:, 1:] == scenes.labels[:, :1]
    return (2 * n_marked > n_pixels)[there], wanted[there], middle[there]
