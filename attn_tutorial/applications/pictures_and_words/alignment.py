"""Pictures of digits and words of several languages in one space, by a contrastive loss.

Each training picture is paired with its word in six languages. The words of four more are never
paired with any picture. What is learned of them can only come from how they are spelt.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from num2words import num2words
from sklearn.cross_decomposition import CCA
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor, nn

from attn_tutorial.applications.digits import Digits
from attn_tutorial.layers import MultiHeadAttention
from attn_tutorial.models import Embedding, EncoderLayer
from attn_tutorial.training import evaluating, train

PAIRED = ("en", "de", "nl", "fr", "es", "it")
UNSEEN = {"pt": "a relative", "sv": "a relative", "fi": "no relative", "tr": "no relative"}
LONGEST = 9  # letters in a word
WIDTH = 32
PATCH = 2  # the side of a piece of a picture, in pixels
STEPS = 300


def spell(number: int, language: str) -> str:
    """The word for a number from 0 to 9, its accents taken away."""
    decomposed = unicodedata.normalize("NFD", num2words(number, lang=language))
    return "".join(sign for sign in decomposed if not unicodedata.combining(sign)).replace("ı", "i")


def letters(words: Sequence[str]) -> Int[Tensor, "n 9"]:
    """Words as rows of numbers, from 1 for "a" to 26 for "z", padded by 0.

    Raises
    ------
    ValueError
        Where a word has another sign or more than nine letters.
    """
    rows = []
    for word in words:
        numbers = [ord(letter) - ord("a") + 1 for letter in word]
        if len(word) > LONGEST or not all(1 <= number <= 26 for number in numbers):
            raise ValueError(f"words must have at most {LONGEST} letters from a to z; got {word!r}")
        rows.append(numbers + [0] * (LONGEST - len(word)))
    return torch.tensor(rows)


def pairs(digits: Digits) -> tuple[Float[Tensor, "n 8 8"], Int[Tensor, "n 9"]]:
    """Each picture once with its word in each paired language."""
    words = [spell(int(label), language) for language in PAIRED for label in digits.labels]
    return digits.images.repeat(len(PAIRED), 1, 1), letters(words)


class Pooled(nn.Module):
    """One learned query asks all positions: what do you hold that matters?"""

    def __init__(self) -> None:
        super().__init__()
        self.asks = nn.Parameter(torch.randn(1, 1, WIDTH))
        self.attention = MultiHeadAttention(WIDTH, 4)

    def forward(self, x: Float[Tensor, "n m 32"], mask: Tensor | None = None) -> Tensor:
        output, _ = self.attention(self.asks.expand(len(x), 1, WIDTH), x, mask=mask)
        return output[:, 0]  # (n, width)


class Towers(nn.Module):
    """Two encoders that meet in one space: unit vectors of pictures and of words.

    References
    ----------
    Radford et al. (2021), "Learning Transferable Visual Models From Natural Language Supervision",
    ICML.
    """

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Sequential(nn.Linear(PATCH**2, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH))
        self.places = nn.Parameter(0.5 * torch.randn((8 // PATCH) ** 2, WIDTH))
        self.mixing = EncoderLayer(WIDTH, 4, 2 * WIDTH)
        self.picture_pool = Pooled()
        self.letters = Embedding(27, WIDTH, max_length=LONGEST, positions="learned")
        self.reading = EncoderLayer(WIDTH, 4, 2 * WIDTH)
        self.word_pool = Pooled()
        self.log_sharpness = nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def pictures(self, images: Float[Tensor, "n 8 8"]) -> Float[Tensor, "n 32"]:
        """A unit vector for each picture."""
        pieces = rearrange(images, "n (r y) (c x) -> n (r c) (y x)", y=PATCH, x=PATCH)
        x, _ = self.mixing(self.patches(pieces) + self.places)  # (n, 16, width)
        return F.normalize(self.picture_pool(x), dim=-1)

    def words(self, tokens: Int[Tensor, "n 9"]) -> Float[Tensor, "n 32"]:
        """A unit vector for each word."""
        mask = (tokens != 0)[:, None, None, :]  # (n, 1, 1, 9)
        x, _ = self.reading(self.letters(tokens), mask=mask)
        return F.normalize(self.word_pool(x, mask), dim=-1)


def contrastive_loss(
    model: Towers, images: Float[Tensor, "n 8 8"], tokens: Int[Tensor, "n 9"]
) -> Float[Tensor, ""]:
    """InfoNCE in both directions: each picture has to find its word in the batch, and back.

    Other words for the same digit in the batch count as wrong, as they do in CLIP.

    References
    ----------
    Van den Oord, Li and Vinyals (2018), "Representation Learning with Contrastive Predictive
    Coding", arXiv:1807.03748.
    """
    scores = model.log_sharpness.exp() * model.pictures(images) @ model.words(tokens).T  # (n, n)
    own = torch.arange(len(scores))
    return (F.cross_entropy(scores, own) + F.cross_entropy(scores.T, own)) / 2


def fit(digits: Digits, seed: int, *, steps: int = STEPS) -> Towers:
    """Train both towers on the pairs of one part."""
    torch.manual_seed(seed)
    model = Towers()
    train(
        model, contrastive_loss, pairs(digits), steps=steps, batch_size=64, peak=5e-3, warm_up=50,
        seed=seed,
    )  # fmt: skip
    return model.eval()


class Space(NamedTuple):
    """Vectors of unit length: of a part's pictures, and of ten words in each language."""

    pictures: np.ndarray
    words: dict[str, np.ndarray]


def embed(model: Towers, digits: Digits) -> Space:
    """All that is compared, by the trained towers."""
    with evaluating(model):
        return Space(
            model.pictures(digits.images).numpy(),
            {
                language: model.words(letters([spell(i, language) for i in range(10)])).numpy()
                for language in (*PAIRED, *UNSEEN)
            },
        )


def embed_linearly(training: Digits, digits: Digits) -> Space:
    """The same by canonical correlations of pixels with counts of letters and pairs of letters."""
    counting = CountVectorizer(analyzer="char_wb", ngram_range=(1, 2))
    words = [spell(int(label), language) for language in PAIRED for label in training.labels]
    counts = counting.fit_transform(words).toarray().astype(float)
    pixels = training.images.flatten(1).double().numpy()
    model = CCA(n_components=9, max_iter=1000).fit(np.tile(pixels, (len(PAIRED), 1)), counts)

    def unit(x: np.ndarray) -> np.ndarray:
        return x / np.linalg.norm(x, axis=1, keepdims=True)

    found = {}
    for language in (*PAIRED, *UNSEEN):
        ten = counting.transform([spell(i, language) for i in range(10)]).toarray().astype(float)
        found[language] = unit(model.transform(np.zeros((10, 64)), ten)[1])
    return Space(unit(model.transform(digits.images.flatten(1).double().numpy())), found)


def named_right(space: Space, digits: Digits) -> dict[str, float]:
    """For each language the share of pictures whose closest word of the ten is theirs."""
    labels = digits.labels.numpy()
    return {
        language: float(((space.pictures @ ten.T).argmax(1) == labels).mean())
        for language, ten in space.words.items()
    }


def recall(space: Space, digits: Digits, k: int) -> dict[str, float]:
    """How often one of the k closest means the digit: of 60 words for a picture, and back.

    Raises
    ------
    ValueError
        Where k is below 1.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1; got {k}")
    labels = digits.labels.numpy()
    words = np.concatenate([space.words[language] for language in PAIRED])  # (60, width)
    meant = np.tile(np.arange(10), len(PAIRED))
    scores = space.pictures @ words.T  # (n, 60)
    to_word = meant[np.argsort(-scores, axis=1)[:, :k]] == labels[:, None]
    to_picture = labels[np.argsort(-scores.T, axis=1)[:, :k]] == meant[:, None]
    return {"word": float(to_word.any(1).mean()), "picture": float(to_picture.any(1).mean())}


def by_spelling(training: Digits, digits: Digits) -> dict[str, float]:
    """The baseline: nearest neighbours recognise the digit; its word is the one most alike.

    Of the ten words of a language the one with the smallest edit distance to any of the six
    words known for the digit is taken; among equals the first.
    """
    nearest = KNeighborsClassifier(1).fit(training.images.flatten(1), training.labels)
    seen = nearest.predict(digits.images.flatten(1).numpy())
    found = {}
    for language in (*PAIRED, *UNSEEN):
        ten = [spell(i, language) for i in range(10)]
        chosen = [
            min(
                range(10),
                key=lambda i: min(edits(ten[i], spell(value, known)) for known in PAIRED),
            )
            for value in range(10)
        ]
        found[language] = float((np.array(chosen)[seen] == digits.labels.numpy()).mean())
    return found


def edits(one: str, other: str) -> int:
    """How many letters to insert, delete or replace to make one word the other."""
    row = list(range(len(other) + 1))
    for i, letter in enumerate(one, start=1):
        before, row = row, [i]
        for j, sign in enumerate(other, start=1):
            row.append(min(before[j] + 1, row[-1] + 1, before[j - 1] + (letter != sign)))
    return row[-1]


def gap(space: Space) -> float:
    """The distance between the mean picture and the mean word: the modality gap.

    References
    ----------
    Liang et al. (2022), "Mind the Gap: Understanding the Modality Gap in Multi-modal Contrastive
    Representation Learning", NeurIPS.
    """
    words = np.concatenate([space.words[language] for language in PAIRED])
    return float(np.linalg.norm(space.pictures.mean(0) - words.mean(0)))
