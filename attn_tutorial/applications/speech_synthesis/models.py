"""From letters to spectrograms: an encoder, and a decoder that asks it where in the text it is."""

from __future__ import annotations

import contextlib
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from attn_tutorial.applications.speech_synthesis.data import N_MELS, Phrase
from attn_tutorial.attribution import uniform_weights
from attn_tutorial.masks import causal_mask
from attn_tutorial.models import DecoderLayer, Embedding, EncoderLayer
from attn_tutorial.positions import sinusoidal_positions
from attn_tutorial.training import evaluating, train

LETTERS = " efghinorstuvwxz"  # of the ten digits in words; number 0 is padding
GROUP = 4  # frames that one step of the decoder writes
MOST_STEPS = 60
STEPS = 600


class Batch(NamedTuple):
    """Phrases of several lengths as tensors.

    Attributes
    ----------
    letters : int64 tensor, shape (n, n_letters)
        Zero is padding.
    groups : float32 tensor, shape (n, n_steps, GROUP · N_MELS)
        Frames in groups; zeros behind the end.
    lengths : int64 tensor, shape (n,)
        How many groups each phrase has.
    """

    letters: Int[Tensor, "n n_letters"]
    groups: Float[Tensor, "n n_steps width"]
    lengths: Int[Tensor, " n"]


def encode(texts: list[str]) -> Int[Tensor, "n n_letters"]:
    """Letters as numbers from 1 on, filled up with zeros."""
    unknown = sorted(set("".join(texts)) - set(LETTERS))
    if unknown or not texts:
        raise ValueError(f"texts must be of the letters {LETTERS!r}; got {''.join(unknown)!r}")
    rows = [torch.tensor([LETTERS.index(letter) + 1 for letter in text]) for text in texts]
    return nn.utils.rnn.pad_sequence(rows, batch_first=True)


def collate(phrases: list[Phrase]) -> Batch:
    """Phrases as tensors; the last group is filled up with silence."""
    lengths = torch.tensor([-(-len(phrase.frames) // GROUP) for phrase in phrases])
    groups = torch.zeros(len(phrases), int(lengths.max()), GROUP * N_MELS)
    for row, phrase in zip(groups, phrases, strict=True):
        row.view(-1)[: phrase.frames.size] = torch.from_numpy(phrase.frames).flatten()
    return Batch(encode([phrase.text for phrase in phrases]), groups, lengths)


class Synthesiser(nn.Module):
    """A small Transformer that reads letters and writes frames, a group at a time.

    Parameters
    ----------
    d_model, n_heads : int
    dropout : float
        In the two layers through which the decoder sees what it wrote. It stays on when the model
        speaks, in training and after.

    References
    ----------
    Li et al. (2019), "Neural Speech Synthesis with Transformer Network", AAAI. Wang et al. (2017),
    "Tacotron: Towards End-to-End Speech Synthesis", Interspeech, for groups of frames and for the
    layers with dropout.
    """

    def __init__(self, *, d_model: int = 64, n_heads: int = 2, dropout: float = 0.5) -> None:
        super().__init__()
        self.letters = Embedding(len(LETTERS) + 1, d_model)
        self.encoder = nn.ModuleList([EncoderLayer(d_model, n_heads, 2 * d_model)])
        self.before = nn.ModuleList(
            [nn.Linear(GROUP * N_MELS, d_model), nn.Linear(d_model, d_model)]
        )
        self.dropout = dropout
        table = torch.from_numpy(sinusoidal_positions(512, d_model)).float()
        self.register_buffer("positions", table, persistent=False)
        self.rate = nn.Parameter(torch.ones(1))  # how much positions count beside the frames
        self.decoder = nn.ModuleList(DecoderLayer(d_model, n_heads, 2 * d_model) for _ in range(2))
        self.norms = nn.ModuleList([nn.LayerNorm(d_model), nn.LayerNorm(d_model)])
        self.frames = nn.Linear(d_model, GROUP * N_MELS)
        self.stop = nn.Linear(d_model, 1)

    def forward(
        self, letters: Int[Tensor, "n n_letters"], groups: Float[Tensor, "n n_steps width"]
    ) -> tuple[
        Float[Tensor, "n n_steps width"],
        Float[Tensor, "n n_steps"],
        list[Float[Tensor, "n n_heads n_steps n_letters"]],
    ]:
        """Predict each group from those before it (teacher forcing).

        Parameters
        ----------
        letters : int64 tensor, shape (n, n_letters)
        groups : float tensor, shape (n, n_steps, GROUP · N_MELS)

        Returns
        -------
        groups : float tensor, shape (n, n_steps, GROUP · N_MELS)
        stops : float tensor, shape (n, n_steps)
            The score (logit) of the group to be the last.
        weights : list of float tensors, shape (n, n_heads, n_steps, n_letters)
            Those of the cross-attention, layer by layer.
        """
        mask = (letters != 0)[:, None, None, :]  # (n, 1, 1, n_letters)
        memory = self.letters(letters)  # (n, n_letters, d_model)
        for layer in self.encoder:
            memory, _ = layer(memory, mask=mask)
        memory = self.norms[0](memory)
        x = F.pad(groups, (0, 0, 1, 0))[:, :-1] / 5  # (n, n_steps, width), one step late
        for linear in self.before:
            x = F.dropout(F.relu(linear(x)), self.dropout)  # always on
        n_steps = x.shape[1]
        x = x + self.rate * self.positions[:n_steps]  # (n, n_steps, d_model)
        causal, all_weights = torch.from_numpy(causal_mask(n_steps, n_steps)), []
        for layer in self.decoder:
            x, weights = layer(x, memory, mask=causal, memory_mask=mask, need_weights=True)
            all_weights.append(weights)
        x = self.norms[1](x)
        return 5 * self.frames(x), self.stop(x)[..., 0], all_weights


def guide(
    weights: Float[Tensor, "n n_heads n_steps n_letters"],
    lengths: Int[Tensor, " n"],
    n_letters: Int[Tensor, " n"],
    *,
    width: float = 0.2,
) -> Float[Tensor, ""]:
    """How far attention is from the diagonal: the mean weight on what is off it.

    A weight at step t of T and letter k of K counts 1 − exp(−(k / K − t / T)² / 2 width²).

    References
    ----------
    Tachibana, Uenoyama and Aihara (2018), "Efficiently Trainable Text-to-Speech System Based on
    Deep Convolutional Networks with Guided Attention", ICASSP.
    """
    step = torch.arange(weights.shape[2])[None, :, None] / lengths[:, None, None]
    letter = torch.arange(weights.shape[3])[None, None, :] / n_letters[:, None, None]
    off = 1 - torch.exp(-((letter - step) ** 2) / (2 * width**2))  # (n, n_steps, n_letters)
    real = (step < 1).float()  # (n, n_steps, 1)
    return (weights * (off * real)[:, None]).sum() / (real.sum() * weights.shape[1])


def losses(model: Synthesiser, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """The mean distance of the frames, the loss of the stops, and the guide, each a scalar."""
    longest = int(batch.lengths.max())
    groups = batch.groups[:, :longest]  # (n, n_steps, width)
    found, stops, weights = model(batch.letters, groups)
    steps = torch.arange(longest)[None]
    real = (steps < batch.lengths[:, None]).float()  # (n, n_steps)
    of_frames = ((found - groups).abs().mean(dim=-1) * real).sum() / real.sum()
    is_last = (steps == batch.lengths[:, None] - 1).float()
    of_stops = F.binary_cross_entropy_with_logits(stops, is_last, weight=real)
    n_letters = (batch.letters != 0).sum(dim=1)
    guided = sum(guide(w, batch.lengths, n_letters) for w in weights) / len(weights)
    return of_frames, of_stops, guided


def fit(
    seed: int,
    training: Batch,
    *,
    guidance: float = 1.0,
    equal_weights: bool = False,
    steps: int = STEPS,
    peak: float = 2e-3,
) -> Synthesiser:
    """Seed, build and train a model.

    Parameters
    ----------
    seed : int
    training : Batch
    guidance : float
        How much the guide counts; 0 leaves attention to find its way.
    equal_weights : bool
        Whether the cross-attention has equal weights in training.
    steps : int
    peak : float

    Returns
    -------
    Synthesiser
    """
    torch.manual_seed(seed)
    model = Synthesiser()

    def loss(model: Synthesiser, *batch: Tensor) -> Tensor:
        of_frames, of_stops, guided = losses(model, Batch(*batch))
        return of_frames + of_stops + guidance * guided

    with equal(model) if equal_weights else contextlib.nullcontext():
        train(model, loss, training, steps=steps, batch_size=32, peak=peak, warm_up=50, seed=seed)
    return model


def equal(model: Synthesiser) -> contextlib.AbstractContextManager:
    """A context in which the decoder gives all letters the same weight."""
    return uniform_weights(nn.ModuleList(layer.cross_attention for layer in model.decoder))


class Speech(NamedTuple):
    """What a model said.

    Attributes
    ----------
    frames : float tensor, shape (n_frames, N_MELS)
    weights : float tensor, shape (n_layers, n_heads, n_steps, n_letters)
    stopped : bool
        Whether it found the end by itself.
    """

    frames: Float[Tensor, "n_frames n_mels"]
    weights: Float[Tensor, "n_layers n_heads n_steps n_letters"]
    stopped: bool


def synthesise(
    model: Synthesiser, texts: list[str], *, equal_weights: bool = False, seed: int = 0
) -> list[Speech]:
    """Speak texts that the model reads for the first time, each group after the other.

    Parameters
    ----------
    model : Synthesiser
    texts : list of str
    equal_weights : bool
    seed : int
        Of the dropout that stays on.

    Returns
    -------
    list of Speech
    """
    letters = encode(texts)
    groups = torch.zeros(len(texts), 1, GROUP * N_MELS)  # the last is a place to write to
    ends = torch.full((len(texts),), MOST_STEPS)
    context = equal(model) if equal_weights else contextlib.nullcontext()
    with torch.random.fork_rng(devices=[]), evaluating(model), context:
        torch.manual_seed(seed)
        for step in range(MOST_STEPS):
            found, stops, weights = model(letters, groups)
            groups[:, -1] = found[:, -1].clamp_min(0)
            ends = torch.where((stops[:, -1] > 0) & (ends == MOST_STEPS), step + 1, ends)
            if (ends <= step + 1).all():
                break
            groups = F.pad(groups, (0, 0, 0, 1))
    return [
        Speech(
            groups[i, :end].reshape(-1, N_MELS),
            torch.stack([w[i, :, :end, : len(text)] for w in weights]),
            end < MOST_STEPS,
        )
        for i, (text, end) in enumerate(zip(texts, ends.tolist(), strict=True))
    ]
