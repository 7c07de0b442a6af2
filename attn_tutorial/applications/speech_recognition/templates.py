"""What one would try first on spoken words: cut at the pauses, then name each piece."""

import itertools
from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from attn_tutorial.applications.speech_recognition.data import Utterances

Piece = Float[np.ndarray, "n_frames n_mels"]

LEVELS = (0.3, 0.4, 0.5, 0.6)
GAPS = (2, 5, 8, 12)
N_POINTS = 8  # at which a piece is looked at, from its begin to its end


def cut(frames: Piece, *, level: float, gap: int, shortest: int = 8) -> list[tuple[int, int]]:
    """Where it is loud: the pieces between the pauses.

    Parameters
    ----------
    frames : float array, shape (n_frames, n_mels)
        Logarithms of power.
    level : float
        How far between the quietest tenth of the frames and the loudest tenth loud begins.
    gap : int
        Pieces with fewer quiet frames between them are one.
    shortest : int
        Shorter pieces are left out.

    Returns
    -------
    list of (int, int)
        The first frame of each piece, and the first behind it.
    """
    power = frames.mean(axis=1)  # (n_frames,)
    quiet, loud = np.quantile(power, [0.1, 0.9])
    edges = np.diff((power > quiet + level * (loud - quiet)).astype(int), prepend=0, append=0)
    pieces: list[tuple[int, int]] = []
    for begin, end in zip(np.flatnonzero(edges == 1), np.flatnonzero(edges == -1), strict=True):
        if pieces and begin - pieces[-1][1] < gap:
            pieces[-1] = (pieces[-1][0], int(end))
        else:
            pieces.append((int(begin), int(end)))
    return [(begin, end) for begin, end in pieces if end - begin >= shortest]


def pieces_of(utterances: Utterances, where: list[list[tuple[int, int]]]) -> list[list[Piece]]:
    """The frames of each piece, the mean of the piece taken off."""
    return [
        [frames[b:e] - frames[b:e].mean(axis=0) for b, e in places]
        for frames, places in zip(_heard(utterances), where, strict=True)
    ]


def cut_all(utterances: Utterances, **how: float) -> list[list[tuple[int, int]]]:
    """`cut` for each utterance."""
    return [cut(frames, **how) for frames in _heard(utterances)]


def labelled(
    utterances: Utterances, where: list[list[tuple[int, int]]]
) -> tuple[list[Piece], list[str], list[str]]:
    """Pieces with their words and voices, of utterances that were cut into as many as words."""
    pieces, words, voices = [], [], []
    for row, text, voice in zip(
        pieces_of(utterances, where), utterances.texts, utterances.voices, strict=True
    ):
        if len(row) == len(text.split()):
            pieces += row
            words += text.split()
            voices += [voice] * len(row)
    return pieces, words, voices


def at_points(piece: Piece) -> Float[np.ndarray, " n_features"]:
    """A piece at a fixed number of points in time, whatever its length, between its frames."""
    points = np.linspace(0, len(piece) - 1, N_POINTS)
    below = np.minimum(points.astype(int), len(piece) - 2)
    share = (points - below)[:, None]
    return ((1 - share) * piece[below] + share * piece[below + 1]).ravel()


def names_by(model: Pipeline, pieces: list[Piece]) -> list[str]:
    """The word that a fitted model names for each piece."""
    return model.predict(np.stack([at_points(piece) for piece in pieces])).tolist()


def fit_regression(pieces: list[Piece], words: list[str], strength: float) -> Pipeline:
    """Logistic regression on pieces at their points, with the inverse strength C."""
    model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=300))
    return model.fit(np.stack([at_points(piece) for piece in pieces]), words)


def warped_distances(piece: Piece, templates: list[Piece]) -> Float[np.ndarray, " n_templates"]:
    """How far a piece is from each template when time may be stretched (dynamic time warping).

    The sum of the distances of frames along the path on which it is lowest; a path goes on in one
    of the two or in both. Divided by the number of frames of both.

    Parameters
    ----------
    piece : float array, shape (n_frames, n_mels)
    templates : list of float arrays, shape (any, n_mels)

    Returns
    -------
    float array, shape (n_templates,)

    References
    ----------
    Sakoe and Chiba (1978), "Dynamic Programming Algorithm Optimization for Spoken Word
    Recognition", IEEE Transactions on Acoustics, Speech, and Signal Processing 26(1). Theirs
    weighs the steps and bounds the path; ours does neither.
    """
    lengths = np.array([len(template) for template in templates])
    longest = lengths.max()
    every = np.stack([np.pad(t, ((0, longest - len(t)), (0, 0))) for t in templates])
    # (n_templates, n_frames, longest)
    local = np.sqrt(
        np.maximum(
            (piece**2).sum(1)[:, None] + (every**2).sum(2)[:, None] - 2 * piece @ every.mT, 0
        )
    )
    best = np.full((len(templates), longest + 1), np.inf)
    best[:, 0] = 0
    for row in range(len(piece)):
        before, best = best, np.full_like(best, np.inf)
        arrived = np.minimum(before[:, 1:], before[:, :-1])  # (n_templates, longest)
        for column in range(longest):
            cheapest = np.minimum(arrived[:, column], best[:, column])
            best[:, column + 1] = local[:, row, column] + cheapest
    return best[np.arange(len(templates)), lengths] / (len(piece) + lengths)


def recognize(pieces: list[list[Piece]], name: Callable[[list[Piece]], list[str]]) -> list[str]:
    """The words of each utterance, all pieces named in one go."""
    names = iter(name([piece for row in pieces for piece in row]))
    return [" ".join(itertools.islice(names, len(row))) for row in pieces]


def _heard(utterances: Utterances) -> list[Piece]:
    """The frames of each utterance, without its padding."""
    return [
        frames[:length]
        for frames, length in zip(
            utterances.frames.numpy(), utterances.lengths.tolist(), strict=True
        )
    ]
