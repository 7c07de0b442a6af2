"""Train small language models that differ in their positions only; test them on longer texts.

  python -m tools.experiments.positions          train all of them and store the results (minutes)

The text is NumPy's own docstrings. Every model reads 64 characters at a time in training. In the
test it predicts the same characters from the 64, 128, 256 and 512 that lead up to them, so that
only the length of what it reads differs. Results: chapters/math/results/positions.json, the mean
loss in nats for each scheme and seed at each length. The chapter "Order and positions" shows them.
"""

import argparse
import inspect
import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from attn_tutorial import attention, causal_mask
from attn_tutorial.positions import alibi_bias, relative_positions, rotate, sinusoidal_positions

RESULTS = Path(__file__).parents[2] / "chapters/math/results/positions.json"
TRAINED_LENGTH = 64
LENGTHS = (64, 128, 256, 512)
TARGETS = 32  # how many characters of each test text are predicted, its last ones
TEST_TEXTS = 128
SEEDS = (0, 1, 2)
STEPS, BATCH, LEARNING_RATE = 1200, 16, 3e-3
FIRST_STEPS = 120  # what a test repeats
D_MODEL, N_HEADS, N_LAYERS = 32, 4, 2
FARTHEST = 32  # the relative scheme takes all distances from here on for one

SCHEMES = ("none", "sinusoidal", "learned", "relative", "rotary", "ALiBi")
BASELINES = ("bag of characters", "last character only")


def docstrings() -> list[str]:
    """The docstrings of NumPy's public functions and classes, no paragraph twice."""
    modules = [np, np.linalg, np.fft, np.random, np.ma, np.char, np.testing]
    known: set[str] = set()
    texts = []
    for module in modules:
        for name in sorted(vars(module)):
            thing = getattr(module, name)
            if name.startswith("_") or not belongs_to_numpy(thing):
                continue
            paragraphs = (inspect.getdoc(thing) or "").split("\n\n")
            fresh = list(dict.fromkeys(part for part in paragraphs if part not in known))
            known.update(fresh)
            if fresh:
                texts.append("\n\n".join(fresh))
    return texts


def belongs_to_numpy(thing: object) -> bool:
    """Whether it is a function or class of NumPy, the same on every machine."""
    if isinstance(thing, type) and issubclass(thing, np.generic):
        return False  # the docstrings of number types name the platform
    module = getattr(thing, "__module__", None) or ""
    return callable(thing) and (isinstance(thing, np.ufunc) or module.startswith("numpy"))


def train_and_test_texts() -> tuple[list[str], list[str]]:
    """A tenth of the docstrings are for the test."""
    texts = docstrings()
    order = np.random.default_rng(0).permutation(len(texts))
    held_out = set(order[: len(texts) // 10].tolist())
    train = [text for number, text in enumerate(texts) if number not in held_out]
    test = [text for number, text in enumerate(texts) if number in held_out]
    return train, test


def encode(texts: list[str]) -> torch.Tensor:
    """All texts in one row of numbers: printable ASCII, 0 for anything else and for line ends."""
    codes = np.frombuffer("\n".join(texts).encode("ascii", "replace"), dtype=np.uint8).astype(int)
    return torch.from_numpy(np.where(codes < 32, 0, codes - 31))


N_SYMBOLS = 127 - 31


class Block(nn.Module):
    """Causal self-attention and a feed-forward network, each added to what came in."""

    def __init__(self, scheme: str):
        super().__init__()
        self.scheme = scheme
        self.norms = nn.ModuleList(nn.LayerNorm(D_MODEL) for _ in range(2))
        self.project = nn.Linear(D_MODEL, 3 * D_MODEL, bias=False)
        self.combine = nn.Linear(D_MODEL, D_MODEL, bias=False)
        self.feed = nn.Sequential(
            nn.Linear(D_MODEL, 4 * D_MODEL), nn.GELU(), nn.Linear(4 * D_MODEL, D_MODEL)
        )
        if scheme == "relative":  # a number for each head and distance, 0 to FARTHEST
            self.by_distance = nn.Parameter(torch.zeros(N_HEADS, FARTHEST + 1))

    def mask(self, n: int) -> torch.Tensor:
        """What to add to the scores: (n, n) or (n_heads, n, n)."""
        causal = torch.from_numpy(causal_mask(n, n))
        if self.scheme == "relative":
            distance = np.clip(-relative_positions(n, n), 0, FARTHEST)
            bias = self.by_distance[:, torch.from_numpy(distance)]
        elif self.scheme == "ALiBi":
            bias = torch.from_numpy(alibi_bias(N_HEADS, n, n)).float()
        else:
            return causal
        return torch.where(causal, bias, -torch.inf)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        batch, n, _ = x.shape
        projected = self.project(self.norms[0](x)).view(batch, n, 3, N_HEADS, -1)
        query, key, value = projected.permute(2, 0, 3, 1, 4)  # (batch, n_heads, n, d_k) each
        if self.scheme == "rotary":
            query, key = rotate(query), rotate(key)
        heads, _ = attention(query, key, value, mask=self.mask(n))  # (batch, n_heads, n, d_k)
        x = x + self.combine(heads.transpose(1, 2).reshape(batch, n, D_MODEL))
        return x + self.feed(self.norms[1](x))


class LanguageModel(nn.Module):
    """Scores for the next character at each place: (batch, n) -> (batch, n, N_SYMBOLS)."""

    def __init__(self, scheme: str):
        super().__init__()
        self.scheme = scheme
        self.embedding = nn.Embedding(N_SYMBOLS, D_MODEL)
        self.blocks = nn.Sequential(*(Block(scheme) for _ in range(N_LAYERS)))
        self.head = nn.Sequential(nn.LayerNorm(D_MODEL), nn.Linear(D_MODEL, N_SYMBOLS))
        if scheme == "learned":  # a row for each position; the later ones are never trained
            self.table = nn.Parameter(0.02 * torch.randn(max(LENGTHS), D_MODEL))

    def forward(self, symbols: torch.Tensor) -> torch.Tensor:
        n = symbols.shape[1]
        x = self.embedding(symbols)  # (batch, n, d_model)
        if self.scheme == "sinusoidal":
            x = x + torch.from_numpy(sinusoidal_positions(n, D_MODEL)).float()
        elif self.scheme == "learned":
            x = x + self.table[:n]
        return self.head(self.blocks(x))


class Bag(nn.Module):
    """Knows how often each character has occurred so far, and nothing of their order."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(N_SYMBOLS, D_MODEL)
        self.head = nn.Sequential(
            nn.Linear(D_MODEL, 8 * D_MODEL), nn.GELU(), nn.Linear(8 * D_MODEL, N_SYMBOLS)
        )

    def forward(self, symbols: torch.Tensor) -> torch.Tensor:
        counts = torch.arange(1, symbols.shape[1] + 1)[:, None]
        return self.head(self.embedding(symbols).cumsum(dim=1) / counts)


class Last(nn.Module):
    """Knows the last character only: the frequencies of pairs, with nothing to train."""

    def __init__(self, text: torch.Tensor):
        super().__init__()
        counts = torch.bincount(N_SYMBOLS * text[:-1] + text[1:], minlength=N_SYMBOLS**2)
        self.scores = torch.log(counts.view(N_SYMBOLS, N_SYMBOLS) + 0.1)

    def forward(self, symbols: torch.Tensor) -> torch.Tensor:
        return self.scores[symbols]


def loss_of(model: nn.Module, windows: torch.Tensor, targets: int) -> torch.Tensor:
    """The mean loss on the last targets of each window (batch, n + 1)."""
    scores = model(windows[:, :-1])[:, -targets:]
    return F.cross_entropy(scores.flatten(0, 1), windows[:, -targets:].flatten())


def windows_at(text: torch.Tensor, starts: torch.Tensor, n: int) -> torch.Tensor:
    """Windows of n characters and the one after them, (len(starts), n + 1)."""
    return text[starts[:, None] + torch.arange(n + 1)]


def train(
    scheme: str, seed: int, text: torch.Tensor, steps: int = STEPS
) -> tuple[nn.Module, list[float]]:
    """One model, trained on windows of TRAINED_LENGTH characters, and the loss of each step."""
    if scheme == "last character only":
        return Last(text), []
    losses = []
    torch.manual_seed(seed)
    model = Bag() if scheme == "bag of characters" else LanguageModel(scheme)
    optimiser = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, LEARNING_RATE, total_steps=STEPS)
    for _ in range(steps):
        starts = torch.randint(len(text) - TRAINED_LENGTH, (BATCH,))
        loss = loss_of(model, windows_at(text, starts, TRAINED_LENGTH), TRAINED_LENGTH)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        losses.append(loss.item())
    return model, losses


@torch.no_grad()
def test(model: nn.Module, text: torch.Tensor) -> list[float]:
    """The loss on the same characters, from contexts of each length."""
    ends = torch.from_numpy(
        np.random.default_rng(1).integers(max(LENGTHS), len(text), size=TEST_TEXTS)
    )
    losses = []
    for n in LENGTHS:
        parts = windows_at(text, ends - n, n).split(32)
        losses.append(float(np.mean([loss_of(model, part, TARGETS).item() for part in parts])))
    return losses


def run(scheme: str, seed: int) -> list[float]:
    """Train and test one model; its loss at each of LENGTHS."""
    train_texts, test_texts = train_and_test_texts()
    model, _ = train(scheme, seed, encode(train_texts))
    return test(model, encode(test_texts))


def first_loss(scheme: str) -> float:
    """The mean loss in the last twenty of the first steps of seed 0."""
    train_texts, _ = train_and_test_texts()
    _, losses = train(scheme, 0, encode(train_texts), steps=FIRST_STEPS)
    return float(np.mean(losses[-20:]))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args()
    torch.set_num_threads(1)
    texts = docstrings()
    losses = {}
    for scheme in (*SCHEMES, *BASELINES):
        losses[scheme] = [[round(loss, 4) for loss in run(scheme, seed)] for seed in SEEDS]
        print(f"{scheme:<22}", np.mean(losses[scheme], axis=0).round(3), flush=True)
    results = {
        "docstrings": len(texts),
        "characters": sum(map(len, texts)),
        "trained length": TRAINED_LENGTH,
        "lengths": LENGTHS,
        "seeds": SEEDS,
        "losses": losses,
        "first losses": {scheme: round(first_loss(scheme), 4) for scheme in SCHEMES},
    }
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
