"""Translate dates from English to Hungarian by a small Transformer, by variants, and by baselines.

  python -m tools.experiments.transformer_dates          train all and store the results (minutes)
  python -m tools.experiments.transformer_dates VARIANT  train one with one seed, store nothing

The pairs come from Babel's copy of the Unicode CLDR. Whole years are held out for validation and
test. Results: chapters/code/results/transformer_dates.json. The chapter "A Transformer" shows them,
and trains the first variant with the first seed again.
"""

import argparse
import datetime
import json
from pathlib import Path

import numpy as np
import torch
from babel.dates import format_date
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.neighbors import NearestNeighbors
from torch import nn

from attn_tutorial.models import Transformer, greedy_decode, sequence_loss
from attn_tutorial.training import mean_loss, train, warmed_up_rate

RESULTS = Path(__file__).parents[2] / "chapters/code/results/transformer_dates.json"
SEEDS = (0, 1, 2)
YEARS = (1900, 2100)  # the second is the first that is left out
HELD_OUT_YEARS = {"validation": 10, "test": 20}
EXAMPLES = {"training": 25_600, "validation": 200, "test": 500}
LATER_YEARS = (2100, 2200)

PAD, BEGIN, END = 0, 1, 2
STEPS, BATCH, PEAK, WARM_UP = 800, 32, 5e-3, 100
D_MODEL, N_LAYERS, MAX_LENGTH, WRITTEN = 64, 1, 64, 36
SHORT = 30  # steps of the run that a test repeats


def days_of(years) -> list[datetime.date]:
    """Every day of the given years."""
    days = []
    for year in sorted(years):
        first = datetime.date(year, 1, 1)
        n = (datetime.date(year + 1, 1, 1) - first).days
        days += [first + datetime.timedelta(days=i) for i in range(n)]
    return days


def in_words(day: datetime.date) -> tuple[str, str]:
    """A day in English and in Hungarian."""
    return format_date(day, "full", "en"), format_date(day, "full", "hu")


def draw(days: list[datetime.date], n: int, rng: np.random.Generator) -> list[tuple[str, str]]:
    """Pairs for n of the days, without replacement."""
    return [in_words(days[i]) for i in rng.choice(len(days), size=n, replace=False)]


def split(seed: int) -> dict[str, list[tuple[str, str]]]:
    """Pairs for training, validation and test, from years that differ."""
    rng = np.random.default_rng(seed)
    years = rng.permutation(np.arange(*YEARS)).tolist()
    parts = {}
    for name, n in HELD_OUT_YEARS.items():
        parts[name], years = years[:n], years[n:]
    parts["training"] = years
    return {name: draw(days_of(parts[name]), n, rng) for name, n in EXAMPLES.items()}


def characters(pairs: list[tuple[str, str]]) -> list[str]:
    """The characters of both languages, sorted."""
    return sorted(set("".join(english + hungarian for english, hungarian in pairs)))


class Vocabulary:
    """Numbers for characters, after those for padding, begin and end."""

    def __init__(self, pairs: list[tuple[str, str]]):
        self.characters = characters(pairs)
        self.number = {character: i for i, character in enumerate(self.characters, END + 1)}

    def __len__(self) -> int:
        return END + 1 + len(self.characters)

    def encode(self, texts: list[str], *, framed: bool) -> torch.Tensor:
        """A row of numbers for each text, padded; with begin and end if framed."""
        rows = [[self.number[character] for character in text] for text in texts]
        rows = [[BEGIN, *row, END] if framed else row for row in rows]
        longest = max(map(len, rows))
        return torch.tensor([row + [PAD] * (longest - len(row)) for row in rows])

    def tensors(self, pairs: list[tuple[str, str]]) -> tuple[torch.Tensor, torch.Tensor]:
        english, hungarian = zip(*pairs, strict=True)
        return self.encode(english, framed=False), self.encode(hungarian, framed=True)

    def decode(self, rows: torch.Tensor) -> list[str]:
        """The texts, each up to its end."""
        texts = []
        for row in rows.tolist():
            row = row[: row.index(END)] if END in row else row
            texts.append("".join(self.characters[i - END - 1] for i in row if i > END))
        return texts


class Recurrent(nn.Module):
    """Two recurrent networks: all that the second learns of the source is one vector.

    It has the methods that decoding needs of a Transformer.
    """

    def __init__(self, n_tokens: int, width: int = 96):
        super().__init__()
        self.pad, self.max_length = PAD, MAX_LENGTH
        self.source_embedding = nn.Embedding(n_tokens, width)
        self.target_embedding = nn.Embedding(n_tokens, width)
        self.encoder = nn.GRU(width, width, batch_first=True)
        self.decoder = nn.GRU(width, width, batch_first=True)
        self.output = nn.Linear(width, n_tokens)

    def forward(self, source, target):
        return self.decode(target, *self.encode(source))[0]

    def encode(self, source):
        lengths = (source != PAD).sum(dim=1)  # (batch,)
        states, _ = self.encoder(self.source_embedding(source))  # (batch, n_source, width)
        last = states[torch.arange(len(source)), lengths - 1]  # (batch, width)
        return last, None

    def decode(self, target, memory, memory_mask, *, caches=None):
        states, _ = self.decoder(self.target_embedding(target), memory[None].contiguous())
        return self.output(states), None  # (batch, n_target, n_tokens)


def transformer(n_tokens: int, **options) -> Transformer:
    settings = {"d_model": D_MODEL, "n_layers": N_LAYERS, "dropout": 0.0}
    return Transformer(n_tokens, max_length=MAX_LENGTH, pad=PAD, **(settings | options))


def without_positions(n_tokens: int) -> Transformer:
    """The encoder takes the source for a bag of characters; the decoder counts as before."""
    model = transformer(n_tokens)
    model.source_embedding.positions = torch.zeros_like(model.source_embedding.positions)
    return model


def at_once(step: int, *, peak: float, warm_up: int) -> float:
    """The schedule without its rise: at the peak until the others are there, too."""
    return warmed_up_rate(max(step, warm_up), peak=peak, warm_up=warm_up)


# For each variant: the model, and what differs in training.
VARIANTS = {
    "Transformer": (transformer, {}),
    "source without positions": (without_positions, {}),
    "two recurrent networks, no attention": (Recurrent, {}),
    "the same, four times as long": (Recurrent, {"steps": 4 * STEPS}),
    "label smoothing": (transformer, {"label_smoothing": 0.1}),
    "no warm-up": (transformer, {"schedule": at_once}),
    "post-norm": (lambda n: transformer(n, norm_first=False), {}),
    "post-norm, no warm-up": (
        lambda n: transformer(n, norm_first=False),
        {"schedule": at_once},
    ),
}


def scores(written: list[str], wanted: list[str]) -> dict[str, float]:
    """The share of texts that are right, and of places that have the right character."""
    places = right = 0
    for mine, true in zip(written, wanted, strict=True):
        places += max(len(mine), len(true))
        right += sum(a == b for a, b in zip(mine, true, strict=False))
    exact = np.mean([a == b for a, b in zip(written, wanted, strict=True)])
    return {"exact": float(exact), "characters": right / places}


def fit(variant: str, seed: int, parts: dict, vocabulary: Vocabulary, steps: int = STEPS):
    """One variant, trained on the seed's split."""
    make, options = VARIANTS[variant]
    options = {"warm_up": WARM_UP, "peak": PEAK, "steps": steps} | options
    smoothing = options.pop("label_smoothing", 0.0)

    def loss(model, source, target):
        return sequence_loss(model, source, target, label_smoothing=smoothing)

    validation = vocabulary.tensors(parts["validation"])
    torch.manual_seed(seed)
    model = make(len(vocabulary))
    history = train(
        model,
        loss,
        vocabulary.tensors(parts["training"]),
        batch_size=BATCH,
        seed=seed,
        validate=lambda model: mean_loss(model, sequence_loss, validation),
        validate_every=50,
        **options,
    )
    return model, history


def translate(model, vocabulary: Vocabulary, english: list[str]) -> list[str]:
    source = vocabulary.encode(english, framed=False)
    use_cache = isinstance(model, Transformer)
    written = greedy_decode(
        model, source, begin=BEGIN, end=END, max_length=WRITTEN, use_cache=use_cache
    )
    return vocabulary.decode(written)


def run(variant: str, seed: int) -> dict[str, float]:
    """Train one variant; its scores on held-out years, and on years beyond all of them."""
    parts = split(seed)
    vocabulary = Vocabulary(parts["training"])
    model, history = fit(variant, seed, parts, vocabulary)
    english, hungarian = zip(*parts["test"], strict=True)
    later = draw(days_of(range(*LATER_YEARS)), len(english), np.random.default_rng(seed))
    later_english, later_hungarian = zip(*later, strict=True)
    return {
        **scores(translate(model, vocabulary, english), hungarian),
        "exact, later years": scores(translate(model, vocabulary, later_english), later_hungarian)[
            "exact"
        ],
        "validation loss": history.validations[history.best_step // 50 - 1][1],
        "loss near step 50": float(np.mean(history.losses[40:60])),
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
    }


def run_nearest(seed: int) -> dict[str, float]:
    """The translation of the training date that shares the most groups of characters."""
    parts = split(seed)
    english, hungarian = zip(*parts["training"], strict=True)
    asked, wanted = zip(*parts["test"], strict=True)
    groups = CountVectorizer(analyzer="char", ngram_range=(1, 4), lowercase=False)
    search = NearestNeighbors(n_neighbors=1, metric="cosine").fit(groups.fit_transform(english))
    found = search.kneighbors(groups.transform(asked), return_distance=False)[:, 0]
    return scores([hungarian[i] for i in found], wanted)


def run_majority(seed: int) -> dict[str, float]:
    """At each place the character that is commonest there in training."""
    parts = split(seed)
    hungarian = [text for _, text in parts["training"]]
    longest = max(map(len, hungarian))
    columns = zip(*(text.ljust(longest, "\0") for text in hungarian), strict=True)
    commonest = "".join(max(set(column), key=column.count) for column in map("".join, columns))
    answer = commonest.rstrip("\0").replace("\0", "")
    return scores([answer] * len(parts["test"]), [text for _, text in parts["test"]])


def run_short() -> list[float]:
    """The first losses of the first variant with the first seed, for a test to repeat."""
    parts = split(SEEDS[0])
    vocabulary = Vocabulary(parts["training"])
    _, history = fit("Transformer", SEEDS[0], parts, vocabulary, steps=SHORT)
    return history.losses


BASELINES = {"nearest training date": run_nearest, "commonest characters": run_majority}


def rounded(numbers: dict[str, float]) -> dict[str, float]:
    return {name: round(number, 4) for name, number in numbers.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("variant", nargs="?", choices=VARIANTS)
    parser.add_argument("--seed", type=int, default=SEEDS[0])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.variant:
        print(rounded(run(arguments.variant, arguments.seed)))
        return
    results = {
        "command": "python -m tools.experiments.transformer_dates",
        "seeds": SEEDS,
        "steps": STEPS,
        "examples": EXAMPLES,
        "short run": [round(loss, 4) for loss in run_short()],
        "scores": {},
    }
    runs = BASELINES | {name: lambda seed, name=name: run(name, seed) for name in VARIANTS}
    for name, one_run in runs.items():
        results["scores"][name] = [rounded(one_run(seed)) for seed in SEEDS]
        print(name, results["scores"][name], flush=True)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
