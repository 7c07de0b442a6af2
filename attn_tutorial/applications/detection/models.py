"""The two detectors of the chapter on object detection, and their loss.

DETR in small: a stem of convolutions makes tokens of a scene, an encoder lets them attend to one
another, and each of nine learned object queries attends to the tokens and to the other queries and
answers with one label and one box, or with "nothing". Its rival answers at each cell of a grid.
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from attn_tutorial.applications.detection.boxes import (
    Detections,
    matching,
    overlaps,
    without_doubles,
)
from attn_tutorial.models import DecoderLayer, EncoderLayer
from attn_tutorial.training import evaluating

SIZE, CELL = 24, 4  # pixels: the side of a scene, and of the square that a token stands for
N_CELLS = SIZE // CELL  # along a side
NOTHING = 10  # the label after those of the digits
D_MODEL, N_HEADS, D_HIDDEN = 48, 4, 96
QUERIES = 3  # along a side; they start evenly spread
BOX_WEIGHT = {"grid": 0.1, "queries": 0.2}  # of the box's loss beside the label's
NOTHING_WEIGHT = {"grid": 0.2, "queries": 0.3}  # most cells and queries have to say "nothing"

Images = Float[Tensor, "batch size size"]
Labels = Int[Tensor, "batch most"]
Boxes = Float[Tensor, "batch most 4"]


def _stem() -> nn.Sequential:
    """Convolutions: (batch, 1, 24, 24) to (batch, 48, 6, 6). A token sees 25 × 25 pixels."""
    layers: list[nn.Module] = []
    for n_in, n_out, kernel, stride in (
        (1, 24, 5, 2),
        (24, D_MODEL, 3, 2),
        (D_MODEL, D_MODEL, 3, 1),
        (D_MODEL, D_MODEL, 3, 1),
    ):
        layers += _convolution(n_in, n_out, kernel, stride)
    return nn.Sequential(*layers)


def _convolution(n_in: int, n_out: int, kernel: int, stride: int) -> list[nn.Module]:
    convolution = nn.Conv2d(n_in, n_out, kernel, stride=stride, padding=kernel // 2, bias=False)
    return [convolution, nn.BatchNorm2d(n_out), nn.ReLU()]


def _edges(centre: Float[Tensor, "... 2"], extent: Float[Tensor, "... 2"]) -> Tensor:
    """Left, top, right and bottom, from the centre and from width and height."""
    return torch.cat([centre - extent / 2, centre + extent / 2], dim=-1)  # (..., 4)


class QueryDetector(nn.Module):
    """DETR in small: object queries attend to the tokens of a scene.

    Parameters
    ----------
    talking : bool
        Whether the queries attend to one another; otherwise each to itself alone.

    Notes
    -----
    Unlike in the paper, each query has an anchor, a learned point from which its boxes are
    measured, and layer normalization stands before each sublayer.

    References
    ----------
    Carion et al. (2020), "End-to-End Object Detection with Transformers", ECCV.
    """

    def __init__(self, *, talking: bool = True) -> None:
        super().__init__()
        n_queries, layer = QUERIES**2, (D_MODEL, N_HEADS, D_HIDDEN)
        self.stem = _stem()
        self.positions = nn.Parameter(0.5 * torch.randn(N_CELLS**2, D_MODEL))
        self.queries = nn.Parameter(torch.randn(n_queries, D_MODEL))
        even = (torch.arange(QUERIES) + 0.5) / QUERIES  # (QUERIES,)
        self.anchors = nn.Parameter(torch.cartesian_prod(even, even).logit())  # (n_queries, 2)
        self.encoder = EncoderLayer(*layer)
        self.memory_norm = nn.LayerNorm(D_MODEL)
        self.decoder = nn.ModuleList(DecoderLayer(*layer) for _ in range(2))
        self.norm = nn.LayerNorm(D_MODEL)
        self.label = nn.Linear(D_MODEL, NOTHING + 1)
        self.box = nn.Sequential(nn.Linear(D_MODEL, D_MODEL), nn.ReLU(), nn.Linear(D_MODEL, 4))
        nn.init.zeros_(self.box[-1].weight)
        with torch.no_grad():  # boxes begin at their anchors, about as large as a digit
            self.box[-1].bias.copy_(torch.tensor([0, 0, -1.0, -0.5]))
        self.register_buffer(
            "mask",
            torch.ones(n_queries, n_queries).bool() if talking else torch.eye(n_queries).bool(),
        )

    def forward(self, images: Images) -> list[tuple[Tensor, Tensor]]:
        """Answer after each layer of the decoder; the last answer is the model's.

        Parameters
        ----------
        images : float tensor, shape (batch, 24, 24)

        Returns
        -------
        list of (logits, boxes), of shapes (batch, n_queries, 11) and (batch, n_queries, 4)
            Boxes as shares of the scene's side.
        """
        grid = self.stem(images[:, None])  # (batch, d_model, 6, 6)
        tokens = rearrange(grid, "batch d_model y x -> batch (y x) d_model") + self.positions
        memory = self.memory_norm(self.encoder(tokens)[0])  # (batch, 36, d_model)
        queries = self.queries.expand(len(images), -1, -1)  # (batch, n_queries, d_model)
        answers = []
        for layer in self.decoder:
            queries, _ = layer(queries, memory, mask=self.mask)
            said = self.norm(queries)
            shift, extent = self.box(said).chunk(2, dim=-1)  # (batch, n_queries, 2) each
            centre = (self.anchors + shift).sigmoid()
            answers.append((self.label(said), _edges(centre, extent.sigmoid())))
        return answers


class GridDetector(nn.Module):
    """Convolutions alone: each cell of the grid answers for the digit whose centre it holds.

    References
    ----------
    Redmon et al. (2016), "You Only Look Once: Unified, Real-Time Object Detection", CVPR, for the
    cell that is responsible.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = _stem()
        self.body = nn.Sequential(
            *_convolution(D_MODEL, D_MODEL, 3, 1), *_convolution(D_MODEL, D_MODEL, 3, 1)
        )
        self.answer = nn.Conv2d(D_MODEL, NOTHING + 1 + 4, 1)
        line = torch.arange(N_CELLS) / N_CELLS
        corners = torch.cartesian_prod(line, line).flip(-1)  # (36, 2), row by row, x first
        self.register_buffer("corners", corners)

    def forward(self, images: Images) -> list[tuple[Tensor, Tensor]]:
        """As `QueryDetector.forward`, one answer, with the 36 cells in the place of the queries."""
        answer = self.answer(self.body(self.stem(images[:, None])))  # (batch, 15, 6, 6)
        answer = rearrange(answer, "batch last y x -> batch (y x) last")  # (batch, 36, 15)
        logits, shift, extent = answer.split([NOTHING + 1, 2, 2], dim=-1)
        centre = self.corners + shift.sigmoid() / N_CELLS
        return [(logits, _edges(centre, extent.sigmoid()))]


def cells_of(boxes: Boxes) -> Int[Tensor, "batch most"]:
    """The number of the cell, row by row, that holds the centre of each box (in pixels)."""
    x, y = ((boxes[..., :2] + boxes[..., 2:]) / (2 * CELL)).long().unbind(dim=-1)
    return y * N_CELLS + x


def queries_of(logits: Tensor, guessed: Tensor, labels: Labels, boxes: Boxes) -> Tensor:
    """The query that is to answer for each object, by the least sum of costs.

    Parameters
    ----------
    logits, guessed : float tensors, shapes (batch, n_queries, 11) and (batch, n_queries, 4)
    labels : int64 tensor, shape (batch, most); -1 where there is no object
    boxes : float tensor, shape (batch, most, 4), in the unit of guessed

    Returns
    -------
    int64 tensor, shape (batch, most)
    """
    wanted = labels.clamp(min=0)[:, None].expand(-1, logits.shape[1], -1)
    likely = logits.softmax(dim=-1).gather(2, wanted)  # (batch, n_queries, most)
    cost = box_loss(guessed[:, :, None], boxes[:, None]) - likely
    return matching(cost.where((labels >= 0)[:, None], 0))


def box_loss(one: Float[Tensor, "... 4"], other: Float[Tensor, "... 4"]) -> Float[Tensor, "..."]:
    """How far boxes are apart: by their edges, and by the generalised overlap; weights 5 and 2."""
    return 5 * (one - other).abs().sum(dim=-1) + 2 * (1 - overlaps(one, other)[1])


def loss(model: nn.Module, images: Images, labels: Labels, boxes: Boxes) -> Float[Tensor, ""]:
    """The loss of either detector: who answers for a digit is told its label and its box.

    Parameters
    ----------
    model : QueryDetector or GridDetector
    images : float tensor, shape (batch, 24, 24)
    labels : int64 tensor, shape (batch, most)
        All others are to say "nothing".
    boxes : float tensor, shape (batch, most, 4), in pixels

    Returns
    -------
    scalar tensor
        The sum over the answers.
    """
    kind = "grid" if isinstance(model, GridDetector) else "queries"
    there = labels >= 0  # (batch, most)
    scene = torch.arange(len(images))[:, None].expand_as(labels)[there]  # (n_objects,)
    weight = torch.ones(NOTHING + 1)
    weight[NOTHING] = NOTHING_WEIGHT[kind]
    total = torch.zeros(())
    for logits, guessed in model(images):
        if kind == "grid":
            who = cells_of(boxes)
        else:
            who = queries_of(logits, guessed, labels, boxes / SIZE)
        target = torch.full(logits.shape[:2], NOTHING)  # (batch, n_queries)
        target[scene, who[there]] = labels[there]
        total = total + F.cross_entropy(logits.mT, target, weight=weight)
        if there.any():
            apart = box_loss(guessed[scene, who[there]], boxes[there] / SIZE)  # (n_objects,)
            total = total + BOX_WEIGHT[kind] * apart.mean()
    return total


def detect(model: nn.Module, images: Images, *, limit: float | None) -> list[Detections]:
    """What a trained detector finds in each scene: the likeliest label of each query or cell.

    Parameters
    ----------
    model : QueryDetector or GridDetector
    images : float tensor, shape (n, 24, 24)
    limit : float or None
        For non-maximum suppression; None leaves all.

    Returns
    -------
    list of n Detections
    """
    with evaluating(model):
        logits, boxes = model(images)[-1]
    scores, labels = logits.softmax(dim=-1)[..., :NOTHING].max(dim=-1)  # (n, n_queries)
    found = [Detections(*one) for one in zip(boxes * SIZE, scores, labels, strict=True)]
    return found if limit is None else [without_doubles(one, limit) for one in found]
