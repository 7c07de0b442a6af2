"""What somebody would try before a network: counting n-grams, and compressing the text.

An n-gram model of order k predicts a token from the k - 1 before it. Most long contexts of a new
text were never counted, so each order is mixed with the next shorter one, down to equal chances.
The two ways to mix differ in how much they leave to the shorter one.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from attn_tutorial.applications.language_model.data import END, Stream

Method = Literal["Kneser-Ney", "Witten-Bell"]
METHODS: tuple[Method, ...] = ("Kneser-Ney", "Witten-Bell")
COMPRESSORS = {
    "gzip": lambda text: zlib.compress(text, 9),
    "bzip2": lambda text: bz2.compress(text, 9),
    "xz": lambda text: lzma.compress(text, preset=9),
}

Grams = Int[np.ndarray, "n order"]


class Level(NamedTuple):
    """The counts of one order, sorted, so that they are found by bisection.

    Attributes
    ----------
    grams : int64 array, shape (n_grams,)
        Each as one number, its digits the tokens.
    taken : float64 array, shape (n_grams,)
        What its count gives it directly.
    contexts : int64 array, shape (n_contexts,)
    totals : float64 array, shape (n_contexts,)
        What shares of the counts divide by.
    left : float64 array, shape (n_contexts,)
        What goes to the shorter context. The taken of a context and this add up to its total.
    """

    grams: np.ndarray
    taken: np.ndarray
    contexts: np.ndarray
    totals: np.ndarray
    left: np.ndarray


class NGrams:
    """Predicts a token from those before it by what followed them in the training text.

    Parameters
    ----------
    tokens : int64 array, shape (n,)
        The training text.
    n_tokens : int
        How many different tokens there are.
    order : int
        How many tokens an n-gram has, the predicted one included.
    method : "Kneser-Ney" or "Witten-Bell"
        Interpolated with three discounts for each order, or with the share that new tokens had.

    Raises
    ------
    ValueError
        Where the order is too small, or so large that an n-gram is no int64, a token is out of
        range, or the method unknown.

    References
    ----------
    Chen and Goodman (1999), "An Empirical Study of Smoothing Techniques for Language Modeling",
    Computer Speech and Language 13(4), for both methods.
    """

    def __init__(
        self, tokens: Stream, n_tokens: int, order: int, method: Method = "Kneser-Ney"
    ) -> None:
        if order < 1 or n_tokens**order > np.iinfo(np.int64).max:
            raise ValueError(
                f"order must be at least 1, and {n_tokens} ** order fit in 63 bits; got {order}"
            )
        if method not in METHODS:
            raise ValueError(f"method must be one of {METHODS}; got {method!r}")
        if not len(tokens) or not 0 <= tokens.min() <= tokens.max() < n_tokens:
            raise ValueError(f"tokens must be one or more numbers from 0 to {n_tokens - 1}")
        self.n_tokens, self.order, self.method = n_tokens, order, method
        grams, counts = np.unique(self._packed(self._all_grams(tokens)), return_counts=True)
        self.levels = []
        for length in range(order, 0, -1):
            self.levels.append(self._level(grams, counts))
            if length > 1:
                # Kneser-Ney counts a shorter n-gram once for each token that it was seen behind.
                weights = np.ones_like(counts) if method == "Kneser-Ney" else counts
                grams, counts = _summed(grams % n_tokens ** (length - 1), weights)
        self.levels.reverse()  # the shortest first

    def probabilities(self, tokens: Stream) -> Float[np.ndarray, " n"]:
        """The probability of each token of a text, given those before it.

        Parameters
        ----------
        tokens : int64 array, shape (n,)
            In front of them `END` is assumed.

        Returns
        -------
        float64 array, shape (n,)
        """
        return self._probabilities(self._all_grams(np.asarray(tokens)))

    def distribution(self, context: Stream) -> Float[np.ndarray, " n_tokens"]:
        """The probabilities of all tokens behind a context, which sum to one.

        Parameters
        ----------
        context : int64 array, shape (n,)
            Of any length; in front of it `END` is assumed.
        """
        last = self._all_grams(np.append(context, END))[-1]  # (order,)
        grams = np.tile(last, (self.n_tokens, 1))  # (n_tokens, order)
        grams[:, -1] = np.arange(self.n_tokens)
        return self._probabilities(grams)

    def _probabilities(self, grams: Grams) -> Float[np.ndarray, " n"]:
        mixed = np.full(len(grams), 1 / self.n_tokens)  # (n,)
        for length, level in enumerate(self.levels, 1):
            packed = self._packed(grams[:, -length:])  # (n,)
            taken = _looked_up(level.grams, level.taken, packed, 0.0)
            context = packed // self.n_tokens
            total = _looked_up(level.contexts, level.totals, context, 1.0)
            left = _looked_up(level.contexts, level.left, context, 1.0)  # all, where it is new
            mixed = (taken + left * mixed) / total
        return mixed

    def _all_grams(self, tokens: Stream) -> Grams:
        """For each token those before it and itself, shape (n, order)."""
        padded = np.concatenate([np.full(self.order - 1, END), tokens]).astype(np.int64)
        return np.lib.stride_tricks.sliding_window_view(padded, self.order)

    def _packed(self, grams: Grams) -> Int[np.ndarray, " n"]:
        """Each n-gram as one number."""
        packed = np.zeros(len(grams), dtype=np.int64)
        for column in grams.T:
            packed = packed * self.n_tokens + column
        return packed

    def _level(self, grams: np.ndarray, counts: np.ndarray) -> Level:
        contexts, first = np.unique(grams // self.n_tokens, return_index=True)
        totals = np.add.reduceat(counts, first).astype(float)
        if self.method == "Kneser-Ney":
            cut = discounts(counts)[np.minimum(counts, 3) - 1]  # (n_grams,)
            return Level(grams, counts - cut, contexts, totals, np.add.reduceat(cut, first))
        kinds = np.add.reduceat(np.ones_like(counts), first).astype(float)
        return Level(grams, counts.astype(float), contexts, totals + kinds, kinds)


def discounts(counts: Int[np.ndarray, " n"]) -> Float[np.ndarray, " n_discounts"]:
    """How much Kneser-Ney takes away from a count of one, of two, and of three or more.

    Where the counts of counts do not say, a half of a count of one, and as much of the others.

    References
    ----------
    Chen and Goodman (1999), section 3, the discounts of their modified version.
    """
    n = np.array([(counts == count).sum() for count in range(1, 5)], dtype=float)  # (4,)
    if not n.all():
        return np.full(3, 0.5)
    share = n[0] / (n[0] + 2 * n[1])
    wanted = np.arange(1, 4)
    return np.clip(wanted - (wanted + 1) * share * n[1:] / n[:-1], 0.0, wanted)


def compressed_bits(compressor: str, training: str, test: str) -> int:
    """By how many bits a compressed text grows when another one is put behind it.

    Parameters
    ----------
    compressor : str
        One of the names of `COMPRESSORS`.
    training, test : str
        The compressor sees the first before the second, as the models did.
    """
    if compressor not in COMPRESSORS:
        raise ValueError(f"compressor must be one of {list(COMPRESSORS)}; got {compressor!r}")
    compress = COMPRESSORS[compressor]
    together, alone = (len(compress(text.encode())) for text in (training + test, training))
    return 8 * (together - alone)


def _summed(keys: np.ndarray, counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The different keys, sorted, with the sum of the counts of each."""
    order = np.argsort(keys, kind="stable")
    keys, counts = keys[order], counts[order]
    different, first = np.unique(keys, return_index=True)
    return different, np.add.reduceat(counts, first)


def _looked_up(
    keys: np.ndarray, values: np.ndarray, wanted: np.ndarray, missing: float
) -> np.ndarray:
    """The value of each key wanted, where it is among the sorted keys."""
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return np.where(keys[at] == wanted, values[at], missing)
