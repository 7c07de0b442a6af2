"""The oldest detector: a linear classifier that looks at every window of a picture, in two sizes.

It learns from windows around the training digits, from windows between them, and once more from
those between that it took for digits.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from sklearn.linear_model import LogisticRegression
from torch import Tensor

from attn_tutorial.applications.detection.boxes import Detections, overlaps, without_doubles
from attn_tutorial.applications.scenes import SIDES, Scenes

WINDOW = min(SIDES)  # pixels, the side of what the classifier sees
BACKGROUND = 10
CLOSE, FAR = 0.7, 0.3  # overlaps with a digit's box: such a window shows it, or shows none


def windows(images: Float[Tensor, "n size size"]) -> tuple[Tensor, Tensor]:
    """All windows of each scene in both sizes, shrunk to 8 × 8 pixels.

    Parameters
    ----------
    images : float tensor, shape (n, size, size)

    Returns
    -------
    pixels : float tensor, shape (n, n_windows, 64)
    places : float tensor, shape (n_windows, 4)
        The edges of each window in the scene.
    """
    size = images.shape[1]
    pixels, places = [], []
    for side in SIDES:
        small = size * WINDOW // side
        shrunk = F.interpolate(
            images[:, None], size=(small, small), mode="bilinear", antialias=side > WINDOW
        )
        pixels.append(F.unfold(shrunk, WINDOW).mT)  # (n, n_windows, 64)
        line = torch.arange(small - WINDOW + 1) * (side / WINDOW)
        corner = torch.cartesian_prod(line, line).flip(-1)  # (n_windows, 2), x first
        places.append(torch.cat([corner, corner + side], dim=-1))
    return torch.cat(pixels, dim=1), torch.cat(places)


class SlidingWindow:
    """Logistic regression on the pixels of a window.

    Parameters
    ----------
    strength : float
        The inverse of the regularisation, scikit-learn's C.
    limit : float
        Of the overlap, in non-maximum suppression.
    stretch : float
        How much wider its boxes are than a digit of that kind is on average.
    """

    def __init__(self, *, strength: float, limit: float, stretch: float = 1.0) -> None:
        self.strength, self.limit, self.stretch = strength, limit, stretch

    def fit(self, scenes: Scenes, *, seed: int = 0) -> "SlidingWindow":
        """Learn from scenes: windows with digits, some of those without, then more of the latter.

        Parameters
        ----------
        scenes : Scenes
        seed : int
            For the choice of the windows.
        """
        generator = torch.Generator().manual_seed(seed)
        pixels, places = windows(scenes.images)
        n, n_windows = pixels.shape[:2]
        # Ink is narrower than its window: stretch each box to a window around its centre.
        height = scenes.boxes[..., 3] - scenes.boxes[..., 1]  # (n, most)
        side = torch.where(height > sum(SIDES) / 2, max(SIDES), min(SIDES))[..., None]
        centre = (scenes.boxes[..., :2] + scenes.boxes[..., 2:]) / 2
        around = torch.cat([centre - side / 2, centre + side / 2], dim=-1)  # (n, most, 4)
        iou, _ = overlaps(places[None, :, None], around[:, None])  # (n, n_windows, most)
        iou = iou.where((scenes.labels >= 0)[:, None], 0)
        best, whose = iou.max(dim=-1)  # (n, n_windows)
        labels = scenes.labels.gather(1, whose)  # (n, n_windows)
        labels[best < FAR] = BACKGROUND
        shows = iou >= iou.amax(dim=1, keepdim=True).clamp(min=CLOSE)
        chosen = shows.any(dim=-1)  # the best window of each digit
        chosen |= torch.rand(n, n_windows, generator=generator) < 0.01
        chosen &= (best >= CLOSE) | (best < FAR)
        self._learn(pixels[chosen], labels[chosen])
        guesses = torch.from_numpy(self.model.predict(pixels.flatten(0, 1).numpy()))
        mistaken = (guesses.view(n, n_windows) != BACKGROUND) & (best < FAR)
        chosen |= mistaken & (torch.rand(n, n_windows, generator=generator) < 0.2)
        self._learn(pixels[chosen], labels[chosen])
        width = scenes.boxes[..., 2] - scenes.boxes[..., 0]
        self.widths = torch.stack(
            [(width / side[..., 0])[scenes.labels == kind].mean() for kind in range(10)]
        )  # (10,), as shares of the window
        return self

    def _learn(self, pixels: Tensor, labels: Tensor) -> None:
        self.model = LogisticRegression(C=self.strength, max_iter=300)
        self.model.fit(pixels.numpy(), labels.numpy())

    def detect(self, images: Float[Tensor, "n size size"]) -> list[Detections]:
        """What is found in each scene; the width of a box follows from the label."""
        pixels, places = windows(images)
        n, n_windows = pixels.shape[:2]
        likely = self.model.predict_proba(pixels.flatten(0, 1).numpy())[:, :BACKGROUND]
        scores, labels = torch.from_numpy(likely).float().view(n, n_windows, -1).max(dim=-1)
        found = []
        for one, kinds in zip(scores, labels, strict=True):
            sure = one > 0.05
            left, top, right, bottom = places[sure].unbind(dim=-1)
            half = (right - left) * self.stretch * self.widths[kinds[sure]] / 2
            middle = (left + right) / 2
            boxes = torch.stack([middle - half, top, middle + half, bottom], dim=-1)
            found.append(without_doubles(Detections(boxes, one[sure], kinds[sure]), self.limit))
        return found
