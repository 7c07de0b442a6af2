"""Models that answer questions about scenes: by cross-attention, by FiLM and by pooling.

All look through the same eye, a small network that was trained to recognise single digits of the
training block and then frozen.
"""

from __future__ import annotations

import functools
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn

from attn_tutorial.applications.digits import load_parts
from attn_tutorial.applications.pictures_and_words.data import (
    ANSWERS,
    N_WORDS,
    PAD,
    PIXELS,
    SIDE,
    VOCABULARY,
)
from attn_tutorial.models import DecoderLayer, Embedding
from attn_tutorial.training import train

D_MODEL = 48

Name = Literal["cross-attention", "FiLM", "pooling", "question only", "picture only"]
Images = Float[Tensor, "n 24 24"]
Words = Int[Tensor, "n n_words"]
Logits = Float[Tensor, "n n_answers"]


class Eye(nn.Module):
    """What a cell shows: the probability of each digit, and of nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.network = nn.Sequential(nn.Linear(PIXELS**2, 64), nn.ReLU(), nn.Linear(64, 11))

    def forward(self, cells: Float[Tensor, "... 64"]) -> Float[Tensor, "... 11"]:
        """Pixels to probabilities."""
        return self.network(cells).softmax(dim=-1)


@functools.cache
def trained_eye(seed: int) -> Eye:
    """An eye that was trained on the training part's single digits and empty cells, and frozen."""
    digits = load_parts()["training"]
    torch.manual_seed(seed)
    eye = Eye()
    n_empty = len(digits.labels) // 10
    images = torch.cat([digits.images, torch.zeros(n_empty, PIXELS, PIXELS)]).flatten(1)
    labels = torch.cat([digits.labels, torch.full((n_empty,), 10)])

    def loss(eye: Eye, images: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(eye.network(images), labels)

    train(eye, loss, (images, labels), steps=300, peak=1e-2, warm_up=30, seed=seed)
    return eye.requires_grad_(False)


class Cells(nn.Module):
    """A vector for each cell of a scene: what the eye sees there, and where it is."""

    def __init__(self, eye: Eye, d_model: int) -> None:
        super().__init__()
        self.eye = eye
        self.contents = nn.Linear(11, d_model, bias=False)
        nn.init.normal_(self.contents.weight)
        self.rows = nn.Parameter(0.5 * torch.randn(SIDE, 1, d_model))
        self.columns = nn.Parameter(0.5 * torch.randn(1, SIDE, d_model))

    def forward(self, images: Images) -> Float[Tensor, "n 9 d_model"]:
        """Scenes to vectors, row by row."""
        pixels = rearrange(images, "n (row y) (column x) -> n (row column) (y x)", y=8, x=8)
        places = (self.rows + self.columns).flatten(0, 1)  # (9, d_model)
        return self.contents(self.eye(pixels)) + places


class CrossAttention(nn.Module):
    """Words ask, cells answer: two layers of self-attention, cross-attention and feed-forward.

    The answer is read from the token that stands before the question.
    """

    def __init__(self, eye: Eye, d_model: int = D_MODEL) -> None:
        super().__init__()
        self.cells = nn.Sequential(Cells(eye, d_model), nn.LayerNorm(d_model))
        self.words = Embedding(
            len(VOCABULARY), d_model, max_length=N_WORDS, positions="learned"
        )  # fmt: skip
        self.layers = nn.ModuleList(DecoderLayer(d_model, 4, 2 * d_model) for _ in range(2))
        self.head = nn.Sequential(nn.LayerNorm(d_model), nn.Linear(d_model, len(ANSWERS)))

    def forward(self, images: Images, words: Words) -> Logits:
        """Scores of each answer."""
        cells = self.cells(images)  # (n, 9, d_model)
        mask = (words != PAD)[:, None, None, :]  # (n, 1, 1, n_words)
        x = self.words(words)  # (n, n_words, d_model)
        for layer in self.layers:
            x, _ = layer(x, cells, mask=mask)
        return self.head(x[:, 0])


class FiLM(nn.Module):
    """The question scales and shifts the features of the picture, channel by channel.

    A GRU reads the question. Two residual blocks: a convolution over one cell, one over three by
    three, normalisation, then the scale and shift. The largest value over the cells is kept.

    References
    ----------
    Perez et al. (2018), "FiLM: Visual Reasoning with a General Conditioning Layer", AAAI.
    """

    def __init__(self, eye: Eye, d_model: int = D_MODEL) -> None:
        super().__init__()
        self.cells = Cells(eye, d_model)
        self.words = nn.Embedding(len(VOCABULARY), d_model, padding_idx=PAD)
        self.reader = nn.GRU(d_model, d_model, batch_first=True)
        self.changes = nn.Linear(d_model, 4 * d_model)
        self.ones = nn.ModuleList(nn.Conv2d(d_model, d_model, 1) for _ in range(2))
        self.threes = nn.ModuleList(nn.Conv2d(d_model, d_model, 3, padding=1) for _ in range(2))
        self.norms = nn.ModuleList(nn.BatchNorm2d(d_model, affine=False) for _ in range(2))
        self.head = nn.Sequential(
            nn.Linear(d_model, 2 * d_model), nn.ReLU(), nn.Linear(2 * d_model, len(ANSWERS))
        )

    def forward(self, images: Images, words: Words) -> Logits:
        """Scores of each answer."""
        x = rearrange(self.cells(images), "n (row column) d -> n d row column", row=SIDE)
        states, _ = self.reader(self.words(words))  # (n, n_words, d_model)
        question = states[torch.arange(len(words)), (words != PAD).sum(dim=1) - 1]
        changes = self.changes(question)[..., None, None].chunk(4, dim=1)  # (n, d_model, 1, 1)
        for i in range(2):
            scale, shift = changes[2 * i : 2 * i + 2]
            y = self.ones[i](x).relu()
            x = y + ((1 + scale) * self.norms[i](self.threes[i](y)) + shift).relu()
        return self.head(x.amax(dim=(2, 3)))


class Pooling(nn.Module):
    """The mean over the cells beside the sum over the words, then a network of three layers.

    With `sees` "question" or "picture" the other is zero: what can be guessed without it?
    """

    def __init__(self, eye: Eye, sees: Literal["both", "question", "picture"] = "both") -> None:
        super().__init__()
        self.sees = sees
        width = 2 * D_MODEL
        self.cells = Cells(eye, width)
        self.words = nn.EmbeddingBag(len(VOCABULARY), width, mode="sum", padding_idx=PAD)
        self.head = nn.Sequential(
            nn.Linear(2 * width, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(),
            nn.Linear(128, len(ANSWERS)),
        )  # fmt: skip

    def forward(self, images: Images, words: Words) -> Logits:
        """Scores of each answer."""
        picture = self.cells(images).relu().mean(dim=1)  # (n, width)
        question = self.words(words)  # (n, width)
        if self.sees == "question":
            picture = torch.zeros_like(picture)
        if self.sees == "picture":
            question = torch.zeros_like(question)
        return self.head(torch.cat([picture, question], dim=-1))


def build(name: Name, seed: int) -> nn.Module:
    """A model that is untrained but for its eye.

    Raises
    ------
    ValueError
        Where there is no such model.
    """
    if name not in get_args(Name):
        raise ValueError(f"name must be one of {get_args(Name)}; got {name!r}")
    eye = trained_eye(seed)
    torch.manual_seed(seed)
    if name == "cross-attention":
        return CrossAttention(eye)
    if name == "FiLM":
        return FiLM(eye)
    return Pooling(eye, "both" if name == "pooling" else name.split()[0])
