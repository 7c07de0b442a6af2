"""A recogniser of spoken digits: one template a word, strung together by dynamic programming.

It judges whether synthesised speech says what it should. It knows each digit from the training part
of the teacher's voice and knows no text, so that it does not hear what it expects.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float

from attn_tutorial.applications.speech_synthesis.data import DIGITS, Phrase

Frames = Float[np.ndarray, "n_frames n_mels"]


def distances(one: Frames, other: Float[np.ndarray, "m n_mels"]) -> Float[np.ndarray, "n m"]:
    """The root mean square difference of each frame of one to each of the other."""
    squares = (one**2).sum(1)[:, None] + (other**2).sum(1) - 2 * one @ other.T
    return np.sqrt(np.maximum(squares, 0) / one.shape[1])


def warped_distance(one: Frames, other: Float[np.ndarray, "m n_mels"]) -> float:
    """The mean distance along the best path of dynamic time warping, from corner to corner.

    A path steps forward in one, in the other, or in both. What it costs is divided by the sum of
    both lengths; a step in both counts twice, so that no way is cheaper by its shape.

    References
    ----------
    Sakoe and Chiba (1978), "Dynamic Programming Algorithm Optimization for Spoken Word
    Recognition", IEEE Transactions on Acoustics, Speech, and Signal Processing: their symmetric
    form.
    """
    local = distances(one, other)  # (n, m)
    n, m = local.shape
    cost = np.full((n + 1, m + 1), np.inf)
    cost[0, 0] = 0
    for i in range(n):
        for j in range(m):
            cost[i + 1, j + 1] = min(
                cost[i, j + 1] + local[i, j],
                cost[i + 1, j] + local[i, j],
                cost[i, j] + 2 * local[i, j],
            )
    return float(cost[n, m] / (n + m))


class Recogniser:
    """Templates of the digits, and a search for the sequence of them that fits best.

    Parameters
    ----------
    phrases : phrases
        With bounds; some of each word are taken as its templates.
    n_templates : int
        How many for each word.
    """

    def __init__(self, phrases: Iterable[Phrase], *, n_templates: int = 3) -> None:
        found: dict[str, list[Frames]] = {word: [] for word in DIGITS}
        for phrase in phrases:
            for k, word in enumerate(phrase.text.split()):
                if len(found[word]) < n_templates:
                    found[word].append(phrase.frames[phrase.bounds[k] : phrase.bounds[k + 1]])
        missing = [word for word, templates in found.items() if not templates]
        if missing:
            raise ValueError(f"phrases must hold each digit; none has {', '.join(missing)}")
        self.words = [word for word, templates in found.items() for _ in templates]
        templates = [template for some in found.values() for template in some]
        self.templates = np.concatenate(templates)  # (n_states, n_mels)
        ends = np.cumsum([len(template) for template in templates])
        self.last = ends - 1  # the last state of each template
        self.first = ends - [len(template) for template in templates]

    def __call__(self, frames: Frames) -> str:
        """The words of the cheapest path through templates, each from its begin to its end.

        In each frame a path stays in its state of a template, goes one or two states on, or enters
        any template if it was in the last state of one.
        """
        local = distances(frames, self.templates)  # (n_frames, n_states)
        n_frames, n_states = local.shape
        first = np.zeros(n_states, dtype=bool)
        first[self.first] = True
        second = np.roll(first, 1) & ~first
        cost = np.where(first, local[0], np.inf)
        back = np.zeros((n_frames, n_states), dtype=int)  # from which state
        for t in range(1, n_frames):
            stay, one, two = cost, np.roll(cost, 1), np.roll(cost, 2)
            one = np.where(first, np.inf, one)
            two = np.where(first | second, np.inf, two)
            best_end = self.last[cost[self.last].argmin()]
            enter = np.where(first, cost[best_end], np.inf)
            options = np.stack([stay, one, two, enter])
            choice = options.argmin(axis=0)
            states = np.arange(n_states)
            sources = np.stack([states, states - 1, states - 2, np.full(n_states, best_end)])
            back[t] = sources[choice, states] - n_states * (choice == 3)  # marked as entering
            cost = options.min(axis=0) + local[t]
        state = self.last[cost[self.last].argmin()]
        words = [self._word(state)]
        for t in range(n_frames - 1, 0, -1):
            entered, state = back[t, state] < 0, back[t, state] % n_states
            if entered:
                words.append(self._word(state))
        return " ".join(reversed(words))

    def _word(self, state: int) -> str:
        return self.words[int(np.searchsorted(self.last, state))]
