"""What somebody would try first: pieces of ink that hang together, windows, and a rule."""

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from scipy import ndimage
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor

from attn_tutorial.applications.scenes import Scenes
from attn_tutorial.applications.segmentation.data import (
    CORNER,
    N_LABELS,
    PAPER,
    Answers,
    truth,
)

CROP = 8  # pixels, the side to which a piece is scaled

Images = Float[Tensor, "n size size"]


def by_rule(labels: Int[Tensor, "n size size"]) -> Answers:
    """Mark by a rule what has the label that most of the ink in the corner has.

    Parameters
    ----------
    labels : int64 tensor, shape (n, size, size)
        As a system says.

    Returns
    -------
    Answers
        With these labels. In the corner nothing is marked, and nowhere where it has no ink.
    """
    corner = labels[:, :CORNER, :CORNER].flatten(1)  # (n, 64)
    counts = F.one_hot(corner, N_LABELS).sum(dim=1)  # (n, 11)
    counts[:, PAPER] = 0
    most, kind = counts.max(dim=1)  # (n,)
    marks = (labels == kind[:, None, None]) & (most > 0)[:, None, None]
    marks[:, :CORNER, :CORNER] = False
    return Answers(labels, marks)


def pieces(
    image: Float[np.ndarray, "size size"], threshold: float
) -> tuple[Int[np.ndarray, "size size"], list[tuple[slice, slice]]]:
    """The pixels above a threshold that hang together, over corners too.

    Parameters
    ----------
    image : float array, shape (size, size)
    threshold : float

    Returns
    -------
    numbers : int array, shape (size, size)
        Which piece a pixel belongs to, from 1; 0 for none.
    places : list of pairs of slices
        The rows and the columns of each piece, the first one's first.
    """
    numbers, _ = ndimage.label(image > threshold, structure=np.ones((3, 3)))
    return numbers, ndimage.find_objects(numbers)


def crop(
    image: Float[np.ndarray, "height width"], mask: Bool[np.ndarray, "height width"]
) -> Float[np.ndarray, " 66"]:
    """A piece alone in the middle of a square of 8 × 8 pixels, then its height and its width.

    Parameters
    ----------
    image : float array, shape (height, width)
        As tight as the piece.
    mask : bool array, shape (height, width)
        True where the piece is.

    Returns
    -------
    float array, shape (66,)
        Height and width as multiples of eight pixels.
    """
    height, width = image.shape
    side = max(height, width)
    top, left = (side - height) // 2, (side - width) // 2
    square = np.zeros((side, side), dtype=np.float32)
    square[top : top + height, left : left + width] = np.where(mask, image, 0)
    scaled = F.interpolate(
        torch.from_numpy(square)[None, None], size=(CROP, CROP), mode="bilinear", antialias=True
    )
    return np.append(scaled.flatten().numpy(), [height / CROP, width / CROP])


class Components:
    """Threshold, connected components, and the nearest neighbours of each component.

    A component of the training scenes has the label that most of its pixels have, so that a piece
    of clutter has neighbours, too. The marks come by the rule.

    Parameters
    ----------
    threshold : float
        Above which a pixel is ink.
    n_neighbours : int
        The nearer ones count more.
    smoothing : float
        The standard deviation of the Gaussian that smooths the scene first, in pixels.
    """

    def __init__(self, *, threshold: float, n_neighbours: int, smoothing: float) -> None:
        self.threshold, self.smoothing = threshold, smoothing
        self.model = KNeighborsClassifier(n_neighbours, weights="distance")

    def fit(self, scenes: Scenes) -> "Components":
        """Remember the components of scenes, and what each is."""
        crops, kinds = [], []
        for image, labels in zip(scenes.images.numpy(), truth(scenes).labels.numpy(), strict=True):
            numbers, here = self._described(image)
            crops += here
            for i in range(1, len(here) + 1):
                kinds.append(np.bincount(labels[numbers == i]).argmax())
        self.model.fit(np.array(crops), np.array(kinds))
        return self

    def segment(self, images: Images) -> Answers:
        """Each component gets one label; what lies below the threshold is paper."""
        described = [self._described(image) for image in images.numpy()]
        kinds = iter(self.model.predict(np.array([one for _, here in described for one in here])))
        labels = [
            np.array([PAPER, *(next(kinds) for _ in here)])[numbers] for numbers, here in described
        ]
        return by_rule(torch.from_numpy(np.stack(labels)))

    def _described(self, image: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
        smooth = ndimage.gaussian_filter(image, self.smoothing)
        numbers, places = pieces(smooth, self.threshold)
        return numbers, [
            crop(image[place], numbers[place] == i) for i, place in enumerate(places, start=1)
        ]


class Windows:
    """Logistic regression on the square of pixels around each pixel; the marks come by the rule.

    Parameters
    ----------
    side : int
        Of the square, in pixels; odd.
    strength : float
        The inverse of the regularisation, scikit-learn's C.
    """

    def __init__(self, *, side: int, strength: float) -> None:
        self.side, self.strength = side, strength

    def fit(self, scenes: Scenes, *, n_pixels: int, seed: int = 0) -> "Windows":
        """Learn from pixels of scenes that are drawn at random."""
        around = windows(scenes.images, self.side).flatten(0, 1)  # (n · size², side²)
        labels = truth(scenes).labels.flatten()
        generator = torch.Generator().manual_seed(seed)
        chosen = torch.randperm(len(labels), generator=generator)[:n_pixels]
        self.model = LogisticRegression(C=self.strength, max_iter=200)
        self.model.fit(around[chosen].numpy(), labels[chosen].numpy())
        return self

    def segment(self, images: Images) -> Answers:
        """The likeliest label of each pixel."""
        around = windows(images, self.side).flatten(0, 1).numpy()
        return by_rule(torch.from_numpy(self.model.predict(around)).view(images.shape))


def windows(images: Images, side: int) -> Float[Tensor, "n n_pixels n_around"]:
    """The square around each pixel, row by row; beyond the scene there are zeros.

    Parameters
    ----------
    images : float tensor, shape (n, size, size)
    side : int
        Odd.

    Returns
    -------
    float tensor, shape (n, size², side²)

    Raises
    ------
    ValueError
        Where the side is even.
    """
    if side % 2 == 0:
        raise ValueError(f"side must be odd, so that a pixel stands in the middle; got {side}")
    return F.unfold(images[:, None], side, padding=side // 2).mT
