"""Measure how faithful explanations of the project's classifiers are, and store the numbers.

  python -m tools.experiments.faithfulness                 train, measure, store (half an hour)
  python -m tools.experiments.faithfulness --runs FOLDER   the same, with the trained models kept

For descriptions of the test part, which are from libraries that no model was trained on, every
method ranks the words by how much they matter for the kind that the model names. Words are then
deleted and inserted in this order. Further measured: how far the weights of the pooling can be
moved with the output kept, and second models that are trained to say the same by other weights.

Results: chapters/visualization/results/faithfulness.json, which the chapter on explanations shows.
"""

import argparse
import contextlib
import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from attn_tutorial import spearman
from attn_tutorial.attribution import (
    gradient_times_weights,
    recording,
    relevance,
    rollout,
)
from attn_tutorial.faithfulness import (
    adversarial_weights,
    adversary_loss,
    area_under,
    deletion_curve,
    insertion_curve,
    jensen_shannon,
    leave_one_out,
    total_variation,
    value_weighted_norms,
)
from attn_tutorial.parameter_kinds.data import (
    KINDS,
    PADDING,
    UNKNOWN,
    Vocabulary,
    load_examples,
    split,
    versions,
)
from attn_tutorial.parameter_kinds.model import AttentionClassifier, kind_loss
from attn_tutorial.parameter_kinds.training import (
    Part,
    Settings,
    build_model,
    encode,
    load_model,
    probabilities,
    run,
    scores,
)
from attn_tutorial.training import evaluating, mean_loss, train

RESULTS = Path(__file__).parents[2] / "chapters/visualization/results/faithfulness.json"
CACHE = "examples.json"
SEEDS = {"learned query alone": (0, 1, 2, 3, 4), "one layer": (0, 1, 2)}
LAYERS = {"learned query alone": 0, "one layer": 1}
N_DESCRIPTIONS = 400
# What stands for a deleted word, and for how many descriptions that is measured.
REPLACEMENTS = {"unknown word": (UNKNOWN, N_DESCRIPTIONS), "masked out": (PADDING, 150)}
FEWEST_WORDS, MOST_WORDS = 5, 32  # the model reads them to their end
SHARES = np.linspace(0, 1, 11)
EPSILON = 0.01
ADVERSARY_SEEDS = (0, 1, 2)
DIVERGENCES = (0.0, 0.01, 0.02, 0.03)
REMOVED = 0.3
SHORT = {"steps": 120, "descriptions": 12}  # what the test measures again


# Rankings. Each is a function of a model, a row of words without padding, and a kind; what it
# gives has one number for each word, the more important the larger.


def of_kind(model: nn.Module, kind: int) -> Callable[[np.ndarray], np.ndarray]:
    """The probability of a kind as a function of rows of tokens."""

    def predict(tokens: np.ndarray) -> np.ndarray:  # (m, n) -> (m,)
        with torch.no_grad():
            return model(torch.from_numpy(tokens)).softmax(dim=-1)[:, kind].numpy()

    return predict


class Inside:
    """What happens inside the model for one row of tokens, with gradients of ln p(kind)."""

    def __init__(self, model: AttentionClassifier, tokens: np.ndarray, kind: int) -> None:
        caught = {}

        def catch(name):
            def hook(module, arguments, output):
                output.retain_grad()
                caught[name] = output

            return hook

        hooks = [
            model.embedding.register_forward_hook(catch("embedded")),
            model.norm.register_forward_hook(catch("pooled from")),
        ]
        record = None
        with contextlib.ExitStack() as stack:
            if len(model.layers):
                record = stack.enter_context(recording(model))
            logits, weights = model.attend(torch.from_numpy(tokens)[None])
        logits.log_softmax(dim=-1)[0, kind].backward()
        for hook in hooks:
            hook.remove()
        self.vectors = caught["embedded"].detach()[0]  # (n, d_model)
        self.gradients = caught["embedded"].grad[0]  # (n, d_model)
        self.values = caught["pooled from"].detach()[0]  # (n, d_model)
        self.weights = weights.detach()[0]  # (n,)
        # Of each layer, (n_heads, n, n).
        self.layer_weights = [] if record is None else [one.detach()[0] for one in record.weights]
        self.layer_gradients = [] if record is None else [one[0] for one in record.gradients]
        model.zero_grad()

        # How the pooling's weights enter: the logits are a sum over the words.
        into_logits = model.decide.weight.detach()  # (n_kinds, d_model)
        self.to_logits = into_logits - into_logits.mean(dim=0)  # a shift of all changes nothing
        p = logits.detach()[0].softmax(dim=-1)  # (n_kinds,)
        self.weight_gradients = self.values @ (into_logits[kind] - p @ into_logits)  # (n,)

    def pooling(self, *, positive: bool) -> np.ndarray:
        """Gradient times weight of each word in the pooling, which has one head and one query."""
        row = (self.weights[None, None], self.weight_gradients[None, None])  # (1, 1, n) each
        return gradient_times_weights(*row, positive=positive)[0]


def rankings(
    model: AttentionClassifier,
    tokens: np.ndarray,
    kind: int,
    *,
    replacement: int,
    rng: np.random.Generator,
) -> dict[str, np.ndarray]:
    """What each method says of the words."""
    inside = Inside(model, tokens, kind)
    with torch.no_grad():
        nothing = model.embedding(torch.full((1, len(tokens)), UNKNOWN))[0]  # (n, d_model)
        norms = value_weighted_norms(inside.weights[None], inside.values, inside.to_logits.T)[0]
    found = {
        "random": rng.random(len(tokens)),
        "weights": inside.weights,
        "weights and value norms": norms,
        "gradient norm": inside.gradients.norm(dim=-1),
        "gradient times input": (inside.gradients * inside.vectors).sum(dim=-1),
        "gradient times difference": (inside.gradients * (inside.vectors - nothing)).sum(dim=-1),
        "gradient times weights": inside.pooling(positive=False),
    }
    if inside.layer_weights:
        found["rollout"] = inside.weights.double().numpy() @ rollout(inside.layer_weights)
        found["relevance"] = inside.pooling(positive=True) @ relevance(
            inside.layer_weights, inside.layer_gradients
        )
    found = {name: np.asarray(importance) for name, importance in found.items()}
    found["leave one out"] = leave_one_out(of_kind(model, kind), tokens, replacement=replacement)
    return found


# The measurements


def chosen_descriptions(tokens: Tensor, count: int) -> list[np.ndarray]:
    """Some descriptions of the test part, the same for every model, without their padding."""
    lengths = (tokens != PADDING).sum(dim=1).numpy()
    fitting = np.flatnonzero((lengths >= FEWEST_WORDS) & (lengths <= MOST_WORDS))
    rows = np.random.default_rng(0).choice(fitting, size=N_DESCRIPTIONS, replace=False)
    return [tokens[row, : lengths[row]].numpy() for row in rows[:count]]


def faithfulness(
    model: AttentionClassifier, descriptions: list[np.ndarray], *, replacement: int, seed: int
) -> dict[str, dict]:
    """The mean curves of each method, their areas, and how it ranks beside leaving one out.

    The rank correlation is that of magnitudes, since weights have no sign.
    """
    rng = np.random.default_rng(seed)
    curves, alike = {}, {}
    for tokens in descriptions:
        with torch.no_grad():
            kind = int(model(torch.from_numpy(tokens)[None]).argmax())
        found = rankings(model, tokens, kind, replacement=replacement, rng=rng)
        predict = of_kind(model, kind)
        own = np.linspace(0, 1, len(tokens) + 1)
        for name, importance in found.items():
            ranking = np.argsort(-importance, kind="stable")
            pair = [
                curve(predict, tokens, ranking, replacement=replacement)
                for curve in (deletion_curve, insertion_curve)
            ]
            areas = [area_under(curve) for curve in pair]
            common = [np.interp(SHARES, own, curve) for curve in pair]
            curves.setdefault(name, []).append((*areas, *common))
            rows = np.abs([importance, found["leave one out"]]).astype(float)  # (2, n)
            if (np.ptp(rows, axis=1) > 0).all():
                alike.setdefault(name, []).append(spearman(rows[:1], rows[1:]).item())
    result = {}
    for name, of_method in curves.items():
        deletion, insertion, falling, rising = zip(*of_method, strict=True)
        result[name] = {
            "deletion": rounded(np.mean(deletion)),
            "insertion": rounded(np.mean(insertion)),
            "falling": rounded(np.mean(falling, axis=0)),
            "rising": rounded(np.mean(rising, axis=0)),
            "rank correlation": rounded(np.mean(alike[name])),
        }
    return result


def weight_on_signs(
    model: AttentionClassifier, descriptions: list[np.ndarray], vocabulary: Vocabulary
) -> dict:
    """Whether weight is parked on punctuation: its share of the weight, and of the words."""
    signs = [number for word, number in vocabulary.number.items() if not word[0].isalnum()]
    share, of_pooling, of_heads = [], [], []
    for tokens in descriptions:
        sign = np.isin(tokens, signs)  # (n,)
        inside = Inside(model, tokens, kind=0)
        share.append(sign.mean())
        of_pooling.append(inside.weights.numpy() @ sign)
        of_heads += [(weights.numpy() @ sign).mean(axis=-1) for weights in inside.layer_weights]
    return {
        "share of the words": rounded(np.mean(share)),
        "pooling": rounded(np.mean(of_pooling)),
        "heads": rounded(np.mean(of_heads, axis=0)) if of_heads else [],
    }


def padded(rows: list[np.ndarray]) -> Tensor:
    """Rows of several lengths in one tensor, with padding behind them."""
    tokens = torch.full((len(rows), max(map(len, rows))), PADDING)
    for into, row in zip(tokens, rows, strict=True):
        into[: len(row)] = torch.from_numpy(row)
    return tokens


def free_weights(model: AttentionClassifier, descriptions: list[np.ndarray]) -> dict:
    """How far the pooling's weights move when the probabilities may move by EPSILON."""
    tokens = padded(descriptions)
    caught = {}
    hook = model.norm.register_forward_hook(
        lambda module, arguments, output: caught.update(values=output)
    )
    with torch.no_grad():
        logits, weights = model.attend(tokens)  # (batch, n_kinds), (batch, n)
        hook.remove()
        words = model.decide(caught["values"])  # (batch, n, n_kinds)

    def output_of(weights: Tensor) -> Tensor:
        return (weights[:, None] @ words)[:, 0].softmax(dim=-1)

    other = adversarial_weights(output_of, weights, epsilon=EPSILON, mask=tokens != PADDING)
    moved = total_variation(other, weights).numpy()  # (batch,)
    same = output_of(other).argmax(dim=-1) == logits.argmax(dim=-1)
    return {
        "output moved at most": rounded(
            total_variation(output_of(other), output_of(weights)).max().item()
        ),
        "total variation": rounded(np.quantile(moved, [0.25, 0.5, 0.75])),
        "Jensen-Shannon": rounded(np.median(jensen_shannon(other, weights))),
        "kind kept": rounded(same.double().mean().item()),
        "first word another": rounded(
            (other.argmax(dim=-1) != weights.argmax(dim=-1)).double().mean().item()
        ),
    }


# Second models that shall say the same by other weights


def on_base(model: nn.Module, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """The probabilities and the weights of a model, in evaluation mode."""
    with evaluating(model):
        said = [model.attend(batch) for batch in tokens.split(256)]
    return (
        torch.cat([one.logits.softmax(dim=-1) for one in said]),
        torch.cat([one.weights for one in said]),
    )


def compared(model: nn.Module, base: nn.Module, part) -> dict:
    """How a second model differs from the first one on the test part, and how good it is."""
    own_output, own_weights = on_base(model, part.tokens)
    output, weights = on_base(base, part.tokens)
    return {
        "accuracy": rounded(scores(own_output.argmax(dim=-1), part.kinds)["accuracy"]),
        "outputs": rounded(total_variation(own_output, output).mean().item()),
        "weights": rounded(jensen_shannon(own_weights, weights).mean().item()),
    }


def train_adversary(base: nn.Module, parts: dict, settings: Settings, divergence: float):
    """A model of the same form, trained from new parameters against the first one."""

    def loss(model, tokens, output, weights):
        logits, own = model.attend(tokens)
        return adversary_loss(logits.softmax(dim=-1), own, output, weights, divergence=divergence)

    data = {
        name: [parts[name].tokens, *on_base(base, parts[name].tokens)]
        for name in ("training", "validation")
    }
    adversary = build_model(settings, base.embedding.tokens.num_embeddings)
    fit(adversary, loss, data, settings)
    return adversary


class GuidedClassifier(nn.Module):
    """Words' vectors, averaged with weights that are given: the model cannot choose its own.

    References
    ----------
    Wiegreffe and Pinter (2019), "Attention Is Not Not Explanation", EMNLP, section 3.
    """

    def __init__(self, n_tokens: int, d_model: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(n_tokens, d_model)
        self.hidden = nn.Sequential(nn.Linear(d_model, d_model), nn.Tanh(), nn.Dropout(0.3))
        self.decide = nn.Linear(d_model, len(KINDS))
        nn.init.normal_(self.embedding.weight, std=d_model**-0.5)

    def forward(self, tokens: Tensor, weights: Tensor) -> Tensor:
        vectors = self.hidden(self.embedding(tokens))  # (batch, n, d_model)
        return self.decide((weights[:, None] @ vectors)[:, 0])  # (batch, n_kinds)


def guided_accuracy(guides: dict[str, Tensor], parts: dict, settings: Settings) -> float:
    """The test accuracy of a classifier that is guided by given weights in every part."""

    def loss(model, tokens, weights, kinds):
        return nn.functional.cross_entropy(model(tokens, weights), kinds)

    data = {name: [parts[name].tokens, guides[name], parts[name].kinds] for name in guides}
    torch.manual_seed(settings.seed)
    model = GuidedClassifier(int(parts["training"].tokens.max()) + 1, settings.d_model)
    fit(model, loss, data, settings)
    with evaluating(model):
        guessed = model(*data["test"][:2]).argmax(dim=-1)
    return rounded(scores(guessed, parts["test"].kinds)["accuracy"])


def uniform(tokens: Tensor) -> Tensor:
    words = (tokens != PADDING).float()  # (n, length)
    return words / words.sum(dim=-1, keepdim=True)


def second_models(folder: Path, parts: dict) -> dict:
    """Adversaries of the pooling alone, and other seeds as what they have to be compared with."""
    name = "learned query alone"
    bases = {seed: load_model(folder / f"{name} {seed}")[0] for seed in SEEDS[name]}
    result = {"another seed": [], "adversary": {str(d): [] for d in DIVERGENCES}, "guided": {}}
    for seed in ADVERSARY_SEEDS:
        base = bases[seed]
        other = bases[(seed + 1) % len(bases)]
        result["another seed"].append(compared(other, base, parts["test"]))
        guides = {
            "uniform": {key: uniform(part.tokens) for key, part in parts.items()},
            "first model": {key: on_base(base, part.tokens)[1] for key, part in parts.items()},
            "another seed": {key: on_base(other, part.tokens)[1] for key, part in parts.items()},
        }
        settings = Settings(n_layers=0, seed=seed + 100)
        for divergence in DIVERGENCES:
            adversary = train_adversary(base, parts, settings, divergence)
            score = compared(adversary, base, parts["test"])
            result["adversary"][str(divergence)].append(score)
            print("adversary", seed, divergence, score, flush=True)
            guides[f"adversary {divergence}"] = {
                key: on_base(adversary, part.tokens)[1] for key, part in parts.items()
            }
        for guide, of_parts in guides.items():
            accuracy = guided_accuracy(of_parts, parts, settings)
            result["guided"].setdefault(guide, []).append(accuracy)
            print("guided", seed, guide, accuracy, flush=True)
    return result


# Removed and trained anew (ROAR)


def of_all_words(model: AttentionClassifier, tokens: Tensor, method: str, seed: int) -> Tensor:
    """What a method says of each word of each description, (n, length); padding is below all."""
    if method == "random":
        importance = torch.rand(tokens.shape, generator=torch.Generator().manual_seed(seed))
    elif method == "weights":
        importance = on_base(model, tokens)[1]
    else:
        raise ValueError(f"method must be 'random' or 'weights'; got {method!r}")
    return importance.masked_fill(tokens == PADDING, -torch.inf)


def without_first(tokens: Tensor, importance: Tensor, share: float) -> Tensor:
    """The tokens with a share of each row's words, the most important, made unknown."""
    lengths = (tokens != PADDING).sum(dim=1, keepdim=True)  # (n, 1)
    place = importance.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
    return torch.where(place < (share * lengths).round(), UNKNOWN, tokens)


def retrained(folder: Path, parts: dict) -> dict[str, list[float]]:
    """The accuracy of new models without the words that the first model ranks first.

    References
    ----------
    Hooker et al. (2019), "A Benchmark for Interpretability Methods in Deep Neural Networks",
    NeurIPS.
    """
    result = {"before": [], "old model, weights": [], "old model, random": []}
    result |= {"weights": [], "random": []}
    for seed in ADVERSARY_SEEDS:
        base = load_model(folder / f"learned query alone {seed}")[0]
        settings = Settings(n_layers=0, seed=seed + 200)
        result["before"].append(accuracy_of(base, parts["test"]))
        for method in ("weights", "random"):
            less = {
                name: Part(
                    without_first(
                        part.tokens, of_all_words(base, part.tokens, method, seed), REMOVED
                    ),
                    part.kinds,
                )
                for name, part in parts.items()
            }
            model = build_model(settings, base.embedding.tokens.num_embeddings)
            fit(model, kind_loss, {name: part.tensors for name, part in less.items()}, settings)
            result[f"old model, {method}"].append(accuracy_of(base, less["test"]))
            result[method].append(accuracy_of(model, less["test"]))
            print("retrained", seed, method, result[method][-1], flush=True)
    return result


def accuracy_of(model: nn.Module, part: Part) -> float:
    return rounded(scores(probabilities(model, part.tokens).argmax(-1), part.kinds)["accuracy"])


def fit(model: nn.Module, loss: Callable, data: dict, settings: Settings) -> None:
    """Train as the project does, on other data or for another loss."""
    train(
        model,
        loss,
        data["training"],
        steps=settings.steps,
        batch_size=settings.batch_size,
        peak=settings.peak,
        warm_up=settings.warm_up,
        validate=lambda model: mean_loss(model, loss, data["validation"]),
        validate_every=settings.validate_every,
        patience=settings.patience,
        seed=settings.seed,
    )


def rounded(values):
    return np.round(np.asarray(values, dtype=float), 5).tolist()


def trained(folder: Path, name: str, seed: int, **settings) -> nn.Module:
    place = folder / f"{name} {seed}"
    place.mkdir(exist_ok=True)
    if not (place / CACHE).exists():
        (place / CACHE).write_bytes((folder / CACHE).read_bytes())
    run(place, Settings(n_layers=LAYERS[name], seed=seed, **settings))
    return load_model(place)[0]


def short_run(folder: Path, encoded: dict, vocabulary: Vocabulary) -> dict:
    """The measurements of a model that has hardly begun to learn, on few descriptions."""
    place = folder / "short"
    place.mkdir(exist_ok=True)
    (place / CACHE).write_bytes((folder / CACHE).read_bytes())
    model = trained(place, "learned query alone", 0, steps=SHORT["steps"])
    descriptions = chosen_descriptions(encoded["test"].tokens, SHORT["descriptions"])
    return {
        "faithfulness": faithfulness(model, descriptions, replacement=UNKNOWN, seed=0),
        "signs": weight_on_signs(model, descriptions, vocabulary),
        "free weights": free_weights(model, descriptions),
    }


def measure(folder: Path) -> dict:
    parts = split(load_examples(folder / CACHE))
    vocabulary = Vocabulary([example.text for example in parts["training"]])
    encoded = encode(parts, vocabulary, length=Settings().length)
    descriptions = chosen_descriptions(encoded["test"].tokens, N_DESCRIPTIONS)
    result = {
        "command": "python -m tools.experiments.faithfulness",
        "versions": versions(),
        "settings": asdict(Settings()),
        "seeds": SEEDS,
        "descriptions": len(descriptions),
        "shares": rounded(SHARES),
        "epsilon": EPSILON,
        "models": {},
    }
    for name, seeds in SEEDS.items():
        result["models"][name] = []
        for seed in seeds:
            model = trained(folder, name, seed)
            one = {
                "free weights": free_weights(model, descriptions),
                "signs": weight_on_signs(model, descriptions, vocabulary),
            }
            for words, (replacement, count) in REPLACEMENTS.items():
                one[words] = faithfulness(
                    model, descriptions[:count], replacement=replacement, seed=seed
                )
            result["models"][name].append(one)
            print(name, seed, one["free weights"], flush=True)
            for method, numbers in one["unknown word"].items():
                print(f"  {method:28}", *list(numbers.values())[:2], flush=True)
    result["short run"] = short_run(folder, encoded, vocabulary)
    result["second models"] = second_models(folder, encoded)
    result["retrained"] = retrained(folder, encoded)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=Path, help="where to keep the trained models")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.runs or Path(temporary)
        folder.mkdir(exist_ok=True)
        load_examples(folder / CACHE)
        result = measure(folder)
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(result, indent=1) + "\n", encoding="utf8")


if __name__ == "__main__":
    main()
