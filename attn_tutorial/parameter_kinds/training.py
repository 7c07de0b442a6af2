"""A run: one model, trained with one seed in one folder, scored once at its end."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from attn_tutorial.parameter_kinds.data import (
    KINDS,
    Example,
    Vocabulary,
    labels,
    load_examples,
    split,
)
from attn_tutorial.parameter_kinds.model import AttentionClassifier, MeanClassifier, kind_loss
from attn_tutorial.training import History, evaluating, mean_loss, train

MODELS = ("attention", "mean")


@dataclass(frozen=True)
class Settings:
    """All that a run depends on, besides the data.

    Attributes
    ----------
    model : "attention" or "mean"
    n_layers : int
        Layers of the encoder; none leaves the pooling alone.
    length : int
        Words of a description that the model reads.
    d_model : int
    steps, batch_size, warm_up : int
        At most so many steps, of so many examples; the rate is highest at step `warm_up`.
    peak : float
        The highest learning rate.
    validate_every, patience : int
        Stop after so many validations, each after so many steps, that were no better.
    checkpoint_every : int
        After how many steps the run is saved.
    seed : int
        Of the parameters at the start, of what dropout hides, and of the order of the examples.
    """

    model: str = "attention"
    n_layers: int = 1
    length: int = 48
    d_model: int = 64
    steps: int = 2000
    batch_size: int = 64
    warm_up: int = 100
    peak: float = 2e-3
    validate_every: int = 100
    patience: int = 5
    checkpoint_every: int = 50
    seed: int = 0

    def __post_init__(self) -> None:
        if self.model not in MODELS:
            raise ValueError(f"model must be one of {', '.join(MODELS)}; got {self.model!r}")
        for name in ("length", "d_model", "patience"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1; got {getattr(self, name)}")
        if self.n_layers < 0:
            raise ValueError(f"n_layers must be at least 0; got {self.n_layers}")


@dataclass(frozen=True)
class Part:
    """The examples of one part as tensors.

    Attributes
    ----------
    tokens : int64 tensor, shape (n, length)
    kinds : int64 tensor, shape (n,)
    """

    tokens: Int[Tensor, "n length"]
    kinds: Int[Tensor, " n"]

    @property
    def tensors(self) -> list[Tensor]:
        return [self.tokens, self.kinds]


def build_model(settings: Settings, n_tokens: int) -> nn.Module:
    """The model of a run, with the parameters that its seed gives."""
    torch.manual_seed(settings.seed)
    if settings.model == "mean":
        return MeanClassifier(n_tokens, d_model=settings.d_model)
    return AttentionClassifier(
        n_tokens,
        length=settings.length,
        d_model=settings.d_model,
        n_layers=settings.n_layers,
    )


def encode(
    parts: dict[str, list[Example]], vocabulary: Vocabulary, *, length: int
) -> dict[str, Part]:
    """The parts as tensors."""
    return {
        name: Part(
            vocabulary.encode([example.text for example in examples], length=length),
            labels(examples),
        )
        for name, examples in parts.items()
    }


def probabilities(
    model: nn.Module, tokens: Int[Tensor, "n length"], *, batch_size: int = 256
) -> Float[Tensor, "n n_kinds"]:
    """What the model says of each description, in evaluation mode."""
    with evaluating(model):
        return torch.cat([model(batch).softmax(dim=-1) for batch in tokens.split(batch_size)])


def scores(predicted: Int[Tensor, " n"], kinds: Int[Tensor, " n"]) -> dict[str, float]:
    """The share of examples that are right, and the mean of the kinds' F1.

    Parameters
    ----------
    predicted, kinds : int64 tensors, shape (n,)

    Returns
    -------
    dict of float
        `accuracy`, and `macro F1`: rare kinds count as much as frequent ones.
    """
    from sklearn.metrics import f1_score

    return {
        "accuracy": (predicted == kinds).double().mean().item(),
        "macro F1": float(
            f1_score(kinds, predicted, labels=range(len(KINDS)), average="macro", zero_division=0)
        ),
    }


def run(
    folder: str | os.PathLike,
    settings: Settings,
    *,
    progress: bool = False,
    should_stop: Callable[[], bool] | None = None,
) -> tuple[History, dict | None]:
    """Train in a folder, or go on there with a run that was interrupted; then score the model.

    Parameters
    ----------
    folder : path
        Made if it is not there. It gets `examples.json` (what was read from the libraries),
        `settings.json`, `checkpoint.pt`, and, once the run is over, `model.pt` and `scores.json`.
    settings : Settings
    progress : bool
        Show a progress bar.
    should_stop : function () -> bool, optional
        Asked before each step.

    Returns
    -------
    history : History
    scores : dict or None
        Of the validation part and of the test part; None where the run was stopped.

    Raises
    ------
    ValueError
        Where the folder holds a run with other settings, or examples from other libraries.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    keep_settings(folder / "settings.json", settings)
    examples = split(load_examples(folder / "examples.json"))
    vocabulary = Vocabulary([example.text for example in examples["training"]])
    parts = encode(examples, vocabulary, length=settings.length)

    model = build_model(settings, len(vocabulary))
    stopped = False

    def stops() -> bool:
        nonlocal stopped
        stopped = should_stop is not None and should_stop()
        return stopped

    history = train(
        model,
        kind_loss,
        parts["training"].tensors,
        steps=settings.steps,
        batch_size=settings.batch_size,
        peak=settings.peak,
        warm_up=settings.warm_up,
        validate=lambda model: mean_loss(model, kind_loss, parts["validation"].tensors),
        validate_every=settings.validate_every,
        patience=settings.patience,
        checkpoint=folder / "checkpoint.pt",
        checkpoint_every=settings.checkpoint_every,
        seed=settings.seed,
        progress=progress,
        should_stop=stops,
    )
    if stopped:
        return history, None

    result = {
        name: scores(probabilities(model, parts[name].tokens).argmax(dim=-1), parts[name].kinds)
        for name in ("validation", "test")
    }
    result["parameters"] = sum(parameter.numel() for parameter in model.parameters())
    result["steps"], result["best step"] = len(history.losses), history.best_step
    write_json(folder / "scores.json", result)
    torch.save(
        {"settings": asdict(settings), "words": vocabulary.words, "model": model.state_dict()},
        folder / "model.pt",
    )
    return history, result


def load_model(folder: str | os.PathLike) -> tuple[nn.Module, Vocabulary, Settings]:
    """The model of a run that is over, in evaluation mode, with its vocabulary.

    Raises
    ------
    FileNotFoundError
        Where the folder holds no run that is over.
    """
    path = Path(folder) / "model.pt"
    if not path.exists():
        raise FileNotFoundError(
            f"{Path(folder).name} holds no trained model (model.pt); train one there first"
        )
    saved = torch.load(path, weights_only=True)
    settings = Settings(**saved["settings"])
    vocabulary = Vocabulary.of_words(saved["words"])
    model = build_model(settings, len(vocabulary))
    model.load_state_dict(saved["model"])
    return model.eval(), vocabulary, settings


def keep_settings(path: Path, settings: Settings) -> None:
    """Write the settings of a new run; those of an old one must be the same."""
    if not path.exists():
        write_json(path, asdict(settings))
        return
    kept = json.loads(path.read_text(encoding="utf8"))
    others = [name for name, value in asdict(settings).items() if kept.get(name) != value]
    if others:
        before = ", ".join(f"{name} = {kept.get(name)}" for name in others)
        now = ", ".join(f"{name} = {getattr(settings, name)}" for name in others)
        raise ValueError(
            f"the folder {path.parent.name} holds a run with {before}; now asked for {now}. "
            "Take another folder, or remove this one to start anew"
        )


def write_json(path: Path, content: dict) -> None:
    """Written beside it, then renamed: a file that is there is whole."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf8")
    os.replace(partial, path)
