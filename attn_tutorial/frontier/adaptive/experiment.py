"""What adaptive attention is worth: a language model of letters, and looking up among many.

`python -m attn_tutorial.frontier.adaptive` measures all of it and writes
chapters/frontier/results/adaptive.json.
"""

from __future__ import annotations

import functools
import json
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from attn_tutorial.frontier.adaptive.layers import (
    AdaptiveAttention,
    LayerNormScore,
    LearnedEntmax,
    LearnedSink,
    LearnedSpan,
    Scaled,
    span_loss,
)
from attn_tutorial.frontier.adaptive.normalisers import entmax15, softmax_with_sink, sparsemax
from attn_tutorial.frontier.adaptive.words import load_words
from attn_tutorial.language_model import CausalLanguageModel, next_token_loss
from attn_tutorial.scores import cosine, pearson, scaled_dot_product, soft_capped
from attn_tutorial.training import evaluating, train

SEEDS = (0, 1, 2)
N_LETTERS = 27  # a to z are 1 to 26, and 0 is a space
LENGTH, D_MODEL, N_HEADS, N_LAYERS = 32, 32, 4, 2
STEPS, BATCH_SIZE, WARM_UP = 450, 16, 30
PEAKS = (1e-2, 3e-2)  # of which the better one on the validation part is taken
N_EVALUATED = 512  # windows of validation and test part
GROWTH_PEAKS, GROWTH_STEPS = (1e-2, 1e-1, 3e-1), 150
STRENGTHS = (0.0, 3e-3, 3e-2)
RAMP = 4.0
CAP = 10.0
N_STORED = 10  # losses of the first steps, which the chapter repeats

# What stands in the place of score and softmax, for heads of a number and a width.
SYSTEMS: dict[str, Callable[[int, int], dict]] = {
    "softmax": lambda n_heads, d_head: {},
    "equal weights": lambda n_heads, d_head: {"score": no_score},
    "learned temperature": lambda n_heads, d_head: {"score": Scaled(n_heads, scaled_dot_product)},
    "1.5-entmax": lambda n_heads, d_head: {"normalise": entmax15},
    "sparsemax": lambda n_heads, d_head: {"normalise": sparsemax},
    "learned α": lambda n_heads, d_head: {"normalise": LearnedEntmax(n_heads)},
    "off by one": lambda n_heads, d_head: {"normalise": softmax_with_sink},
    "learned sink": lambda n_heads, d_head: {"normalise": LearnedSink(n_heads)},
    "cosine": lambda n_heads, d_head: {"score": Scaled(n_heads, cosine, initial=d_head**0.5)},
    "Pearson": lambda n_heads, d_head: {"score": Scaled(n_heads, pearson, initial=d_head**0.5)},
    "layer norm": lambda n_heads, d_head: {"score": LayerNormScore(d_head)},
    "soft cap": lambda n_heads, d_head: {"score": soft_capped(CAP)},
}
GROWING = ("softmax", "soft cap", "layer norm")
IN_TEXT = ("softmax", "equal weights", "sparsemax", "learned α", "off by one", "learned sink")
IN_LOOKUP = tuple(name for name in SYSTEMS if name not in ("soft cap", "layer norm"))


def no_score(query: Tensor, key: Tensor) -> Tensor:
    """Zero for every pair: equal weights, the control of all that has scores."""
    return 0 * scaled_dot_product(query, key)


# --- a language model of letters ---------------------------------------------------------------


@functools.cache
def text(part: str) -> Int[Tensor, "n length_and_one"]:
    """Windows of the words of a library's docstrings, in an order drawn once.

    Only letters are kept, in lower case, and one space between words.
    """
    letters = bytearray(load_words()[part], "ascii")
    numbers = torch.frombuffer(letters, dtype=torch.uint8).long()
    pieces = (numbers - ord("a") + 1).clamp(min=0).unfold(0, LENGTH + 1, LENGTH)
    return pieces[torch.randperm(len(pieces), generator=torch.Generator().manual_seed(0))]


def language_model(system: str, seed: int) -> CausalLanguageModel:
    """A model with untrained parameters; all systems begin with the same ones, where they share."""
    torch.manual_seed(seed)
    model = CausalLanguageModel(
        N_LETTERS,
        d_model=D_MODEL,
        n_heads=N_HEADS,
        n_layers=N_LAYERS,
        d_hidden=2 * D_MODEL,
        dropout=0.0,
        max_length=LENGTH,
    )
    for layer in model.layers:
        exchanged = _exchanged(system)
        new = AdaptiveAttention(D_MODEL, N_HEADS, **exchanged)
        new.load_state_dict(layer.attention.state_dict(), strict=False)
        layer.attention = new
    return model


def _exchanged(system: str) -> dict:
    if system == "learned span":
        return {"normalise": LearnedSpan(N_HEADS, LENGTH, ramp=RAMP)}
    return SYSTEMS[system](N_HEADS, D_MODEL // N_HEADS)


def linear(steps: int) -> Callable[..., float]:
    """A learning rate that rises to its peak in a straight line, and falls to zero in one."""

    def rate(step: int, *, peak: float, warm_up: int) -> float:
        return peak * min(step / warm_up, (steps + 1 - step) / (steps + 1 - warm_up))

    rate.__name__ = f"linear_{steps}"
    return rate


def fit_text(
    system: str,
    seed: int,
    *,
    peak: float,
    steps: int = STEPS,
    stop_after: int | None = None,
    strength: float = 0.0,
    largest: list[float] | None = None,
) -> tuple[CausalLanguageModel, list[float]]:
    """A trained model and the loss of each step.

    Parameters
    ----------
    system : str
        One of `SYSTEMS`, or "learned span".
    seed : int
    peak : float
        The highest learning rate.
    steps : int
        Towards which the learning rate falls.
    stop_after : int, optional
        Take only the first of these steps.
    strength : float
        What a position of a span costs; it is part of the losses.
    largest : list of float, optional
        Gets the largest absolute score of each step.
    """
    model = language_model(system, seed)
    hooks = _watch(model, largest) if largest is not None else []

    def loss(model: nn.Module, tokens: Tensor) -> Tensor:
        value = next_token_loss(model, tokens)
        return value + span_loss(model, strength) if strength else value

    history = train(
        model,
        loss,
        (text("training"),),
        steps=steps if stop_after is None else stop_after,
        batch_size=BATCH_SIZE,
        peak=peak,
        warm_up=WARM_UP,
        schedule=linear(steps),
        seed=seed,
    )
    for hook in hooks:
        hook.remove()
    if largest is not None:  # one for each layer so far
        largest[:] = [max(largest[i : i + N_LAYERS]) for i in range(0, len(largest), N_LAYERS)]
    return model, history.losses


def _watch(model: CausalLanguageModel, largest: list[float]) -> list:
    def note(_: nn.Module, __: tuple, scores: Tensor) -> None:
        largest.append(scores.detach().abs().max().item())

    return [layer.attention.score.register_forward_hook(note) for layer in model.layers]


def bits(model: nn.Module, part: str) -> float:
    """Bits a character, on windows of a part."""
    with evaluating(model):
        return next_token_loss(model, text(part)[:N_EVALUATED]).item() / math.log(2)


@dataclass(frozen=True)
class Look:
    """What the heads of a model do on a part of the validation text, averaged over its layers.

    Attributes
    ----------
    zeros : list of float
        The share of weights that are exactly zero, of those that the causal mask allows, by head.
    first : float
        The mean weight of the first key, for queries of the second half.
    total : float
        The mean sum of a row of weights.
    largest : float
        The largest absolute score.
    """

    zeros: list[float]
    first: float
    total: float
    largest: float


def look(model: CausalLanguageModel, n: int = 64) -> Look:
    """What the heads do on n windows."""
    largest: list[float] = []
    hooks = _watch(model, largest)
    with evaluating(model):
        _, weights = model(text("validation")[:n, :-1], need_weights=True)
    for hook in hooks:
        hook.remove()
    together = torch.stack(weights)  # (n_layers, batch, n_heads, n_q, n_k)
    allowed = torch.ones(LENGTH, LENGTH).tril().bool()
    zeros = (together[..., allowed] == 0).float().mean(dim=(1, 3))  # (n_layers, n_heads)
    return Look(
        zeros.flatten().tolist(),
        together[..., LENGTH // 2 :, 0].mean().item(),
        together.sum(dim=-1).mean().item(),
        max(largest),
    )


# --- one among many, and all of them -----------------------------------------------------------

N_CLASSES, D_NAME, D_LOOKUP, LOOKUP_HEADS = 8, 16, 32, 2
SHORTEST, LONGEST = 4, 16  # items in training
TEST_LENGTHS = (16, 64, 256, 1024)
LOOKUP_STEPS, LOOKUP_BATCH, LOOKUP_PEAKS = 400, 64, (3e-3, 1e-2)
N_TEST = 500


@dataclass(frozen=True)
class Items:
    """Named items of some classes, and two questions about them.

    Attributes
    ----------
    items : float tensor, shape (batch, n, d_name + n_classes)
        A name, which is a vector of length one, and the class as a one among zeros.
    questions : float tensor, shape (batch, 2, d_name + 1)
        The name of one of the items and 0; and no name and 1: "which class is the commonest?"
    answers : int tensor, shape (batch, 2)
        The class of the item so named, and the commonest class.
    """

    items: Float[Tensor, "batch n d_item"]
    questions: Float[Tensor, "batch 2 d_question"]
    answers: Int[Tensor, "batch 2"]


def draw_items(n: int, batch: int, generator: torch.Generator) -> Items:
    """Items whose classes have unequal chances, other ones in each example."""
    names = F.normalize(torch.randn(batch, n, D_NAME, generator=generator), dim=-1)
    chances = torch.rand(batch, N_CLASSES, generator=generator) ** 3
    classes = torch.multinomial(chances, n, replacement=True, generator=generator)  # (batch, n)
    one_hot = F.one_hot(classes, N_CLASSES).float()  # (batch, n, n_classes)
    asked = torch.randint(n, (batch,), generator=generator)
    questions = torch.zeros(batch, 2, D_NAME + 1)
    questions[:, 0, :-1] = names[torch.arange(batch), asked]
    questions[:, 1, -1] = 1
    answers = torch.stack(
        [classes[torch.arange(batch), asked], one_hot.sum(dim=1).argmax(dim=-1)], dim=1
    )
    return Items(torch.cat([names, one_hot], dim=-1), questions, answers)


class Reader(nn.Module):
    """One layer of attention from questions to items, and a small network for the answers."""

    def __init__(self, system: str) -> None:
        super().__init__()
        self.item = nn.Linear(D_NAME + N_CLASSES, D_LOOKUP)
        self.question = nn.Linear(D_NAME + 1, D_LOOKUP)
        exchanged = SYSTEMS[system](LOOKUP_HEADS, D_LOOKUP // LOOKUP_HEADS)
        self.attention = AdaptiveAttention(D_LOOKUP, LOOKUP_HEADS, **exchanged)
        self.answer = nn.Sequential(
            nn.LayerNorm(D_LOOKUP),
            nn.Linear(D_LOOKUP, 2 * D_LOOKUP),
            nn.ReLU(),
            nn.Linear(2 * D_LOOKUP, N_CLASSES),
        )

    def forward(
        self, questions: Tensor, items: Tensor, *, need_weights: bool = False
    ) -> tuple[Float[Tensor, "batch 2 n_classes"], Float[Tensor, "batch n_heads 2 n"] | None]:
        """The scores of the classes for each question, and the weights if needed."""
        x = self.question(questions)
        output, weights = self.attention(x, self.item(items), need_weights=need_weights)
        return self.answer(x + output), weights


def fit_reader(
    system: str, seed: int, *, peak: float, stop_after: int = LOOKUP_STEPS
) -> tuple[Reader, list[float]]:
    """A reader trained on new items at every step, and the loss of each step."""
    torch.manual_seed(seed)
    model = Reader(system)
    generator = torch.Generator().manual_seed(1000 + seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=peak)
    losses = []
    for step in range(1, stop_after + 1):
        n = int(torch.randint(SHORTEST, LONGEST + 1, (1,), generator=generator))
        drawn = draw_items(n, LOOKUP_BATCH, generator)
        found, _ = model(drawn.questions, drawn.items)
        loss = F.cross_entropy(found.flatten(0, 1), drawn.answers.flatten())
        optimizer.zero_grad()
        loss.backward()
        rate = linear(LOOKUP_STEPS)(step, peak=peak, warm_up=WARM_UP)
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
        losses.append(loss.item())
    return model, losses


def accuracies(model: Reader, n: int, seed: int, examples: int = N_TEST) -> tuple[float, float]:
    """The share of right answers to both questions, among n items.

    Where classes tie for the commonest, each of them is right.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = draw_items(n, examples, generator)
    with evaluating(model):
        batches = zip(drawn.questions.split(100), drawn.items.split(100), strict=True)
        found = torch.cat([model(*batch)[0] for batch in batches]).argmax(dim=-1)  # (examples, 2)
    counts = drawn.items[..., D_NAME:].sum(dim=1)  # (examples, n_classes)
    one = found[:, 0] == drawn.answers[:, 0]
    most = counts.gather(1, found[:, 1:])[:, 0] == counts.amax(dim=1)
    return one.float().mean().item(), most.float().mean().item()


# --- everything that the chapter shows ---------------------------------------------------------


def learned(model: nn.Module) -> dict[str, list[float]]:
    """What the heads have learned besides matrices, layer by layer."""
    found: dict[str, list[float]] = {}
    for part in model.modules():
        for name in ("alpha", "factor", "sink", "span", "reach"):
            if isinstance(getattr(part, name, None), Tensor):
                found.setdefault(name, []).extend(getattr(part, name).tolist())
    return found


def measure_text(system: str) -> dict:
    """One system on text: the peak chosen with seed 0, and three seeds with it."""
    start = time.process_time()
    models = {peak: fit_text(system, SEEDS[0], peak=peak) for peak in PEAKS}
    by_peak = {peak: bits(model, "validation") for peak, (model, _) in models.items()}
    peak = min(by_peak, key=by_peak.get)
    runs = [models[peak], *(fit_text(system, seed, peak=peak) for seed in SEEDS[1:])]
    return {
        "peak": peak,
        "validation by peak": list(by_peak.values()),
        "validation": [bits(model, "validation") for model, _ in runs],
        "test": [bits(model, "test") for model, _ in runs],
        "look": [asdict(look(model)) for model, _ in runs],
        "learned": [learned(model) for model, _ in runs],
        "first losses": runs[0][1][:N_STORED],
        "seconds": (time.process_time() - start) / (len(PEAKS) + len(SEEDS) - 1),
    }


def measure_spans(strength: float) -> dict:
    """The learned span, at the first of the peaks."""
    models = [fit_text("learned span", seed, peak=PEAKS[0], strength=strength)[0] for seed in SEEDS]
    return {
        "validation": [bits(model, "validation") for model in models],
        "test": [bits(model, "test") for model in models],
        "reach": [learned(model)["reach"] for model in models],
    }


def measure_growth(system: str, peak: float) -> dict:
    """Bits and largest scores with a high learning rate, in shorter runs."""
    found = {"validation": [], "largest": []}
    for seed in SEEDS:
        largest: list[float] = []
        try:
            model, _ = fit_text(system, seed, peak=peak, steps=GROWTH_STEPS, largest=largest)
            found["validation"].append(bits(model, "validation"))
        except FloatingPointError:
            found["validation"].append(None)
        found["largest"].append(largest[::10])
    return found


def measure_lookup(system: str) -> dict:
    """One system on the two questions: the peak chosen with seed 0, and three seeds with it."""
    models = {peak: fit_reader(system, SEEDS[0], peak=peak) for peak in LOOKUP_PEAKS}
    by_peak = {peak: sum(accuracies(model, LONGEST, seed=1)) for peak, (model, _) in models.items()}
    peak = max(by_peak, key=by_peak.get)
    runs = [models[peak], *(fit_reader(system, seed, peak=peak) for seed in SEEDS[1:])]
    right = [[accuracies(model, n, seed=2) for n in TEST_LENGTHS] for model, _ in runs]
    return {
        "peak": peak,
        "one": [[one for one, _ in of_model] for of_model in right],
        "commonest": [[most for _, most in of_model] for of_model in right],
        "zeros": [zeros_by_question(model) for model, _ in runs],
        "learned": [learned(model) for model, _ in runs],
        "first losses": runs[0][1][:N_STORED],
    }


def zeros_by_question(model: Reader, n: int = LONGEST) -> list[list[float]]:
    """The share of weights that are exactly zero, for each head and question."""
    drawn = draw_items(n, 200, torch.Generator().manual_seed(3))
    with evaluating(model):
        _, weights = model(drawn.questions, drawn.items, need_weights=True)
    return (weights == 0).float().mean(dim=(0, 3)).tolist()  # (n_heads, 2)


def measure(path: Path, parts: Sequence[str] = ("lookup", "text", "spans", "growth")) -> None:
    """Measure some parts, and store each result when it is there beside those that were."""

    def store(part: str, name: str, result: dict) -> None:
        found = json.loads(path.read_text(encoding="utf8")) if path.exists() else {}
        found.setdefault(part, {})[name] = result
        path.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", encoding="utf8")
        print(f"{part}: {name}", flush=True)

    if "lookup" in parts:
        for system in IN_LOOKUP:
            store("lookup", system, measure_lookup(system))
    if "text" in parts:
        for system in IN_TEXT:
            store("text", system, measure_text(system))
    if "spans" in parts:
        for strength in STRENGTHS:
            store("spans", f"{strength:g}", measure_spans(strength))
    if "growth" in parts:
        for system in GROWING:
            results = {f"{peak:g}": measure_growth(system, peak) for peak in GROWTH_PEAKS}
            store("growth", system, results)
