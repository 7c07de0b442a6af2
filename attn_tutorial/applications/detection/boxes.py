"""Boxes: how far two agree, who is matched with whom, which are doubles, and average precision.

A box is four numbers, its left, top, right and bottom edge, in any one unit.
"""

import contextlib
import io
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from scipy.optimize import linear_sum_assignment
from torch import Tensor

HIT = 0.5  # from this intersection over union on, a detection is taken to mean a digit


class Detections(NamedTuple):
    """What a detector finds in one picture.

    Attributes
    ----------
    boxes : float tensor, shape (n, 4), in pixels
    scores : float tensor, shape (n,)
        How sure it is of each.
    labels : int64 tensor, shape (n,)
    """

    boxes: Float[Tensor, "n 4"]
    scores: Float[Tensor, " n"]
    labels: Int[Tensor, " n"]

    def take(self, chosen: Tensor) -> "Detections":
        """Those of an index or a boolean mask."""
        return Detections(*(column[chosen] for column in self))


def _areas(boxes: Float[Tensor, "... 4"]) -> Float[Tensor, "..."]:
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(dim=-1)


def overlaps(
    one: Float[Tensor, "... 4"], other: Float[Tensor, "... 4"]
) -> tuple[Float[Tensor, "..."], Float[Tensor, "..."]]:
    """Intersection over union of boxes, and its generalisation to boxes that do not meet.

    The generalised one subtracts the share of the smallest box around both that neither covers.

    Parameters
    ----------
    one, other : float tensors, shapes (..., 4) that broadcast

    Returns
    -------
    iou : float tensor, shape (...), from 0 to 1
    generalised : float tensor, shape (...), from −1 to 1

    Raises
    ------
    ValueError
        Where a last axis is not 4.

    References
    ----------
    Rezatofighi et al. (2019), "Generalized Intersection over Union: A Metric and a Loss for
    Bounding Box Regression", CVPR, algorithm 1.
    """
    if one.shape[-1:] != (4,) or other.shape[-1:] != (4,):
        raise ValueError(
            f"boxes must have shape (..., 4); got {tuple(one.shape)} and {tuple(other.shape)}"
        )
    one, other = torch.broadcast_tensors(one, other)
    inner = torch.cat(
        [torch.maximum(one[..., :2], other[..., :2]), torch.minimum(one[..., 2:], other[..., 2:])],
        dim=-1,
    )  # (..., 4)
    outer = torch.cat(
        [torch.minimum(one[..., :2], other[..., :2]), torch.maximum(one[..., 2:], other[..., 2:])],
        dim=-1,
    )
    shared = _areas(inner)  # (...)
    union = (_areas(one) + _areas(other) - shared).clamp(min=1e-9)
    around = _areas(outer).clamp(min=1e-9)
    return shared / union, shared / union - (around - union) / around


def matching(cost: Float[Tensor, "batch n_queries most"]) -> Int[Tensor, "batch most"]:
    """For each object the query that is to answer for it, so that the sum of the costs is least.

    A column that belongs to no object must hold one and the same number: then it takes part, takes
    a query that is left over, and changes nothing for the others.

    Parameters
    ----------
    cost : float tensor, shape (batch, n_queries, most), n_queries ≥ most

    Returns
    -------
    int64 tensor, shape (batch, most)
        No query twice in a row.

    Raises
    ------
    ValueError
        Where there are fewer queries than objects.

    References
    ----------
    Carion et al. (2020), "End-to-End Object Detection with Transformers", ECCV, section 3.1; the
    assignment is scipy's.
    """
    if cost.shape[1] < cost.shape[2]:
        raise ValueError(
            f"cost must have as many queries as objects, or more; got shape {tuple(cost.shape)}"
        )
    tables = cost.detach().transpose(1, 2).numpy()  # (batch, most, n_queries)
    return torch.from_numpy(np.stack([linear_sum_assignment(table)[1] for table in tables]))


def without_doubles(found: Detections, limit: float) -> Detections:
    """Non-maximum suppression: of detections that overlap by more than the limit, the surest stays.

    Parameters
    ----------
    found : Detections
    limit : float
        An intersection over union. The label does not matter.

    Returns
    -------
    Detections
        The surest first.
    """
    order = found.scores.argsort(descending=True, stable=True)
    found = found.take(order)
    iou, _ = overlaps(found.boxes[:, None], found.boxes[None])  # (n, n)
    close = (iou > limit).numpy()
    stays: list[int] = []
    for i in range(len(close)):
        if not close[i, stays].any():
            stays.append(i)
    return found.take(torch.tensor(stays, dtype=torch.long))


def average_precision(
    found: Sequence[Detections],
    boxes: Float[Tensor, "n most 4"],
    labels: Int[Tensor, "n most"],
) -> dict[str, float]:
    """Average precision as the COCO challenge counts it, by its own program.

    Parameters
    ----------
    found : sequence of n Detections
    boxes, labels : the truth; where a label is −1 there is no object

    Returns
    -------
    dict of float
        "AP", the mean over ten wanted overlaps from 0.50 to 0.95, and "AP50", for the first alone.

    Raises
    ------
    ValueError
        Where there are not as many sets of detections as pictures.

    References
    ----------
    Lin et al. (2014), "Microsoft COCO: Common Objects in Context", ECCV.
    """
    if len(found) != len(labels):
        raise ValueError(f"found must have {len(labels)} entries; got {len(found)}")
    truth, answers = [], []
    for picture in range(len(labels)):
        for box, label in zip(boxes[picture].tolist(), labels[picture].tolist(), strict=True):
            if label >= 0:
                truth.append(_coco(picture, box, label) | {"id": len(truth) + 1, "iscrowd": 0})
        for box, score, label in zip(*(column.tolist() for column in found[picture]), strict=True):
            answers.append(_coco(picture, box, label) | {"score": score})
    if not answers:
        return {"AP": 0.0, "AP50": 0.0}
    with contextlib.redirect_stdout(io.StringIO()):  # it prints a report
        coco = COCO()
        coco.dataset = {
            "images": [{"id": picture} for picture in range(len(labels))],
            "categories": [{"id": kind} for kind in sorted(set(labels.flatten().tolist()) - {-1})],
            "annotations": truth,
        }
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(answers), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return {"AP": float(evaluation.stats[0]), "AP50": float(evaluation.stats[1])}


def _coco(picture: int, box: list[float], label: int) -> dict:
    """A box in the form of COCO: left, top, width, height."""
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    return {
        "image_id": picture,
        "category_id": label,
        "bbox": [left, top, width, height],
        "area": width * height,
    }


def doubles(
    found: Sequence[Detections],
    boxes: Float[Tensor, "n most 4"],
    labels: Int[Tensor, "n most"],
    *,
    sure: float,
) -> float:
    """How many detections too many an object gets, on average over the objects that get one.

    Parameters
    ----------
    found : sequence of n Detections
    boxes, labels : the truth; where a label is −1 there is no object
    sure : float
        Detections with lower scores do not count.

    Returns
    -------
    float
        0 where each object that is found is found once. A detection counts for the object that it
        overlaps most, if that is by a half or more; which label it gives does not matter.
    """
    n_hits = n_found = 0
    for one, here, kinds in zip(found, boxes, labels, strict=True):
        here = here[kinds >= 0]  # (n_objects, 4)
        if not len(here):
            continue
        iou, _ = overlaps(one.boxes[one.scores >= sure][:, None], here[None])
        best, whose = iou.max(dim=1)  # (n_detections,)
        hits = whose[best >= HIT]
        n_hits += len(hits)
        n_found += len(hits.unique())
    return (n_hits - n_found) / max(n_found, 1)
